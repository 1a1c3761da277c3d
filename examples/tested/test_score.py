"""What a scoring script logs, under test: the fixture `telemetry` comes with scoretrace."""

import importlib
import json

import pytest


@pytest.fixture
def score(telemetry):
    module = importlib.reload(importlib.import_module("score"))
    module.init()
    return module


def test_input_and_output_are_logged(score, telemetry):
    score.run('{"data": [[1, 2], [3, 4]]}')

    (printed,) = [item for item in telemetry.of("trace") if item.message == "STDOUT"]
    assert json.loads(printed.custom_dimensions["Contents"]) == {"input": [[1, 2], [3, 4]], "output": [3, 7]}


def test_a_call_is_a_request_with_its_print_in_it(score, telemetry):
    score.run('{"data": [[1, 2]]}')

    joined = "requests | join kind=inner traces on operation_Id | project name, resultCode, message"
    assert telemetry.query(joined).rows == [("run", "200", "STDOUT")]


def test_an_empty_call_is_a_warning(score, telemetry):
    telemetry.clear()
    score.run('{"data": []}')

    assert telemetry.query("traces | where severityLevel == 2 | project message").rows == [("nothing to score",)]


def test_a_large_input_is_kept_whole(score, telemetry):
    rows = [[float(number), 0.5] for number in range(10_000)]
    score.run(json.dumps({"data": rows}))

    (printed,) = [item for item in telemetry.of("trace") if "payload_uri" in item.custom_dimensions]
    assert json.loads(telemetry.payload(printed))["input"] == rows
