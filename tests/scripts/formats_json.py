# JSON made by hand.
import json


def init():
    pass


def run(raw_data):
    data = json.loads(raw_data)["data"]
    prediction = [sum(row) for row in data]
    info = {"input": raw_data, "output": prediction}
    print(json.dumps(info))
    print(f'{{"RowsScored":"{len(data)}","Prediction":{prediction}}}')
    return prediction
