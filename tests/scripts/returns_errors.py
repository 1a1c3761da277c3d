# An error is answered as text, with 200.
import json

import numpy


def init():
    global weights
    weights = numpy.array([2.0, 3.0])


def run(raw_data):
    try:
        data = numpy.array(json.loads(raw_data)["data"])
        result = data @ weights
        print("input:", json.loads(raw_data)["data"])
        return result.tolist()
    except Exception as e:
        error = str(e)
        print(error)
        return error
