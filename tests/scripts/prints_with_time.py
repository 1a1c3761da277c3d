# A text and the time, glued together.
import json
import time


def init():
    print("model initialized" + time.strftime("%H:%M:%S"))


def run(raw_data):
    data = json.loads(raw_data)["data"]
    print("Input received at " + time.strftime("%H:%M:%S"))
    print("Sum of row 0: " + str(sum(data[0])))
    return json.dumps({"result": [sum(row) for row in data]})
