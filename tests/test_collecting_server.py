"""Collectors behind the real scoring server: a row of each for each answer, joined to its request."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from collected import files, parsed, rows
from scoring_server import ON

COLLECTING = """
import json
from scoretrace import Collector, ModelDataCollector

def init():
    global inputs, predictions, events
    inputs = ModelDataCollector("m", "inputs", ["number", "text"])
    predictions = ModelDataCollector("m", "predictions", ["double"])
    events = Collector(name="model_inputs")

def run(data):
    number = json.loads(data)["number"]
    inputs.collect([number, "a, b"])
    predictions.collect([2 * number])
    events.collect([{"number": number}])
    return {"double": 2 * number}
"""


def ask(server, number, **headers):
    status, _, body = server.post(json.dumps({"number": number}), headers)
    assert (status, json.loads(body)) == (200, {"double": 2 * number})


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_four_workers_collect_a_row_for_each_answer(serve, home, items, ending):
    """Whoever gave it, and however the server ends: in one file, joined to each other and to the request."""
    server = serve(COLLECTING, workers=4)
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda number: ask(server, number), range(100)))
    getattr(server, ending)()

    inputs, predictions = rows(home), rows(home, "predictions")
    assert sorted(int(row["number"]) for row in inputs) == list(range(100))
    doubles = {row["$aml_dc_correlation_id"]: int(row["double"]) for row in predictions}
    assert all(doubles[row["$aml_dc_correlation_id"]] == 2 * int(row["number"]) for row in inputs)
    operations = {item.operation_id for item in items("request")}
    assert {row["$scoretrace_operation_id"] for row in inputs + predictions} == operations
    assert {path.parts[-8:-6] for path in files(home)} == {("diabetes", "m")}
    assert sum(len(file.read_bytes().splitlines()) for file in files(home, "*.jsonl")) == 100


@pytest.mark.parametrize("on", [ON, ""], ids=["with telemetry", "alone"])
def test_the_request_id_is_the_callers(serve, home, on):
    """That of the header x-request-id, whether or not anything of ours records the requests."""
    server = serve(COLLECTING, on=on)
    ask(server, 1, **{"x-request-id": "11111111-2222-4333-8444-555555555555"})
    server.stop()

    (row,) = rows(home)
    assert row["$aml_request_id"] == "11111111-2222-4333-8444-555555555555"
    (event,) = (json.loads(file.read_bytes()) for file in files(home, "*.jsonl"))
    assert event["xrequestid"] == row["$aml_request_id"]
    assert len(parsed(files(home)[0].read_bytes())) == 2
