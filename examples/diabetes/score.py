"""A scoring script in the form that the Azure ML documentation shows. It knows nothing of scoretrace."""

import json
import os
import time

import joblib
import numpy as np
from azureml.monitoring import ModelDataCollector

FEATURES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


def init():
    global model, inputs_dc, prediction_dc
    folder = os.environ.get("AZUREML_MODEL_DIR", os.path.dirname(os.path.abspath(__file__)))
    model = joblib.load(os.path.join(folder, "ridge.joblib"))
    inputs_dc = ModelDataCollector("ridge", designation="inputs", feature_names=FEATURES)
    prediction_dc = ModelDataCollector("ridge", designation="predictions", feature_names=["progression"])
    print("model loaded at " + time.strftime("%H:%M:%S"))


def run(raw_data):
    body = json.loads(raw_data)
    data = np.array(body["data"])
    print("scoring", len(data), "rows")
    result = model.predict(data)
    inputs_dc.collect(data)
    prediction_dc.collect(result.reshape(-1, 1))
    print(json.dumps({"input": body, "output": result.tolist()}, ensure_ascii=False))
    return result.tolist()
