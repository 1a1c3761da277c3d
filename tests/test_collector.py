"""Collector: CloudEvents in JSON lines, where Azure ML's monitoring looks for them."""

import datetime as dt
import inspect
import json
import logging
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

import scoretrace
from collected import files, today
from scoretrace import BasicCorrelationContext, CollectionError, Collector, SettingsError

# One line of the documentation, how-to-collect-production-data, in the order of its attributes.
DOCUMENTED = [
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    "time",
    "data",
    "correlationid",
    "xrequestid",
    "modelversion",
    "collectdatatype",
    "agent",
    "contentrange",
]


def events(home):
    """All events below *home*, by file."""
    return [json.loads(line) for file in files(home, "*.jsonl") for line in file.read_bytes().splitlines()]


def test_the_signature_is_the_published_one():
    """A drop-in for azureml.ai.monitoring, whose context may be made without anything."""
    parameters = inspect.signature(Collector).parameters
    assert list(parameters)[:2] == ["name", "on_error"]
    assert all(one.kind is one.KEYWORD_ONLY for one in parameters.values())
    assert list(inspect.signature(BasicCorrelationContext).parameters) == ["id", "timestamp", "headers"]
    context = BasicCorrelationContext(id="x", timestamp=5, headers={"a": "b"})
    assert (context.get_id(), context.get_timestamp(), context.get_headers(), str(context)) == ("x", 5, {"a": "b"}, "x")
    assert re.fullmatch(r"[0-9a-f-]{36}", BasicCorrelationContext().get_id())


def test_an_event_is_what_the_documentation_shows(home, monkeypatch):
    """At the path that the monitoring expects: root, year, month, day, hour."""
    monkeypatch.setenv("SERVICE_NAME", "my-endpoint")
    monkeypatch.setenv("WORKSPACE_NAME", "sub/rg/ws")
    monkeypatch.setenv("HOSTNAME", "pod-1")
    collector = Collector(name="model_inputs", deployment="blue")
    context = BasicCorrelationContext(id="abc", timestamp=1_700_000_000, headers={"Path": "/score"})
    assert collector.collect(pd.DataFrame({"a": [1, 2], "b": ["x", None]}), context) is context

    (file,) = files(home, "*.jsonl")
    hour = dt.datetime.now(dt.timezone.utc).strftime("%H")
    root = home / "modeldata/modelDataCollector/my-endpoint/blue/model_inputs"
    assert file == root / today() / hour / "pod-1.jsonl"
    (event,) = events(home)
    assert list(event)[:13] == DOCUMENTED
    assert event["data"] == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    body = json.dumps(event["data"], separators=(",", ":"))
    assert event | {"id": ""} == event | {
        "specversion": "1.0",
        "id": "",
        "source": "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
        "/onlineEndpoints/my-endpoint/deployments/blue",
        "type": "azureml.inference.model_inputs",
        "datacontenttype": "application/json",
        "time": "2023-11-14T22:13:20Z",
        "correlationid": "abc",
        "xrequestid": "abc",
        "modelversion": "default",
        "collectdatatype": "pandas.core.frame.DataFrame",
        "agent": f"scoretrace/{scoretrace.__version__}",
        "contentrange": f"bytes 0-{len(body) - 1}/{len(body)}",
        "path": "/score",
    }


def test_the_documented_script_joins_inputs_and_outputs(home):
    """By the context that collect returns."""
    inputs, outputs = Collector(name="model_inputs"), Collector(name="model_outputs")
    for number in range(3):
        context = inputs.collect(pd.DataFrame({"x": [number]}))
        outputs.collect(pd.DataFrame({"y": [number * 10]}), context)

    found = events(home)
    by_id = {event["correlationid"]: event["data"] for event in found if event["type"].endswith("model_inputs")}
    assert len(by_id) == 3
    assert [(by_id[event["correlationid"]], event["data"]) for event in found if event["type"].endswith("outputs")] == [
        ([{"x": number}], [{"y": number * 10}]) for number in range(3)
    ]


def test_an_event_belongs_to_the_request_around_it(telemetry, home, items):
    """Its request id, and its operation id as an attribute of our own."""
    collector = Collector(name="model_inputs")
    with scoretrace.request_context("score"):
        collector.collect(pd.DataFrame({"x": [1]}))

    (request,) = items("request")
    (event,) = events(home)
    assert event["operationid"] == request.operation_id
    assert event["xrequestid"] == request.id


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pd.DataFrame({"t": [pd.Timestamp("2026-01-02")], "n": [pd.NA]}), [{"t": "2026-01-02T00:00:00", "n": None}]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), [{"a": 1, "a_1": 2}]),
        (pd.DataFrame({"f": [np.nan, 0.5]}), [{"f": None}, {"f": 0.5}]),
        (pd.DataFrame({"nested": [[1, {"b": 2}]]}), [{"nested": [1, {"b": 2}]}]),
        (pl.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}]),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        (np.array([[1.5, 2.5]]), [{"column0": 1.5, "column1": 2.5}]),
        ([["größe\ud800"]], [{"column0": "größe\\ud800"}]),
    ],
)
def test_rows_of_any_kind(home, data, expected):
    """Each value as JSON has it."""
    Collector(name="model_inputs").collect(data)

    assert events(home)[0]["data"] == expected


def test_more_than_4_megabytes_are_by_reference(home):
    """In a file beside the line, which has no data then: what the monitoring calls dataref."""
    frame = pd.DataFrame({"text": ["x" * 1_000_000] * 5})
    collector = Collector(name="model_inputs")
    collector.collect(frame)
    collector.collect(frame.head(1))

    large, small = events(home)
    assert "data" not in large
    assert large["datainblob"] == "true"
    assert json.loads((home / large["dataref"]).read_bytes()) == frame.to_dict("records")
    assert small["data"] == frame.head(1).to_dict("records")


def test_nothing_is_raised_unless_somebody_asks(home, caplog):
    """As run() needs it; the first refusal is said, all are counted."""
    collector = Collector(name="model_inputs")
    with caplog.at_level(logging.WARNING, "scoretrace"):
        context = collector.collect(b"raw")
        collector.collect(object())
        collector.collect([[1, b"x"]])
    assert context.get_id()
    assert collector.stats()["refused"] == {"media": 2, "type": 1}
    assert len(caplog.records) == 2

    def fail(error):
        raise error

    with pytest.raises(CollectionError):
        Collector(name="x", on_error=fail).collect(b"raw")
    with pytest.raises(SettingsError):
        Collector(name="")


def test_a_context_of_somebody_elses_breaks_nothing(home):
    """One that raises is counted, like data that cannot be taken."""

    class Broken(BasicCorrelationContext):
        def get_id(self):
            raise RuntimeError("no id")

    collector = Collector(name="model_inputs")
    collector.collect([[1]], Broken())

    assert collector.stats()["refused"] == {"error": 1}
    assert files(home, "*.jsonl") == []


def test_no_name_leaves_its_folder(home):
    """Whatever endpoint, deployment and collection are called."""
    Collector(name="../x", endpoint="..", deployment="a/../b").collect([[1]])

    (file,) = files(home, "*.jsonl")
    assert file.is_relative_to(home / "modeldata/modelDataCollector")
    assert ".." not in file.parts


def test_the_switch_is_obeyed(home, monkeypatch):
    """The same as that of ModelDataCollector."""
    monkeypatch.setenv("AML_MODEL_DC_STORAGE_ENABLED", "false")
    context = Collector(name="model_inputs").collect([[1]])

    assert context.get_id()
    assert files(home, "*.jsonl") == []
