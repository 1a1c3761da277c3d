# Collectors and the model as globals that init() makes.
import json
import logging

logger = logging.getLogger("collector")


class Collector:
    def __init__(self, name):
        self.name = name

    def collect(self, rows):
        logger.info("%s: %s", self.name, rows)


def init():
    global model, inputs_dc, prediction_dc
    model = sum
    inputs_dc = Collector("inputs")
    prediction_dc = Collector("predictions")


def run(raw_data):
    try:
        data = json.loads(raw_data)["data"]
        inputs_dc.collect(data)
        predictions = [model(row) for row in data]
        prediction_dc.collect(predictions)
        print("saving input data" + json.dumps(data))
        return predictions
    except Exception as e:
        return json.dumps({"error": str(e)})
