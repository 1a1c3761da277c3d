"""A scoring script in the form that the Azure ML documentation shows. It knows nothing of scoretrace."""

import json
import os
import time

import joblib
import numpy as np


def init():
    global model
    folder = os.environ.get("AZUREML_MODEL_DIR", os.path.dirname(os.path.abspath(__file__)))
    model = joblib.load(os.path.join(folder, "ridge.joblib"))
    print("model loaded at " + time.strftime("%H:%M:%S"))


def run(raw_data):
    body = json.loads(raw_data)
    data = np.array(body["data"])
    print("scoring", len(data), "rows")
    result = model.predict(data)
    print(json.dumps({"input": body, "output": result.tolist()}, ensure_ascii=False))
    return result.tolist()
