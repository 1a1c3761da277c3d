"""ModelDataCollector: what is collected, under which names, and what is not."""

import datetime as dt
import decimal
import inspect
import io
import json
import logging
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from PIL import Image

import scoretrace
from collected import HEADERS, features, files, parsed, rows, today
from scoretrace import CollectionError, ModelDataCollector, SettingsError

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NO_ID = "00000000-0000-0000-0000-000000000000"


def test_the_signature_is_the_published_one():
    """In names, order and defaults; what is ours comes after, by keyword."""
    parameters = list(inspect.signature(ModelDataCollector).parameters.values())
    published = [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    assert published == [
        ("model_name", inspect.Parameter.empty),
        ("designation", "default"),
        ("feature_names", None),
        ("workspace", "default/default/default"),
        ("webservice_name", "default"),
        ("model_version", "default"),
        ("collection_name", "default"),
    ]
    assert [
        getattr(ModelDataCollector, f"AML_{name}_HEADER")
        for name in (
            "DC_CORRELATION",
            "DC_SCORING_TIMESTAMP",
            "DC_BOUNDARY",
            "WORKSPACE",
            "SERVICE_NAME",
            "MODEL_NAME",
            "MODEL_VERSION",
            "REQUEST_ID",
        )
    ] == HEADERS[:8]


def test_a_row_is_at_the_documented_path(home):
    """Subscription, group, workspace, service, model, version, designation, day, and data.csv."""
    collector = ModelDataCollector(
        "best_model", "inputs", ["a", "b"], "Sub/Group/Space", webservice_name="svc", model_version="3"
    )
    collector.collect([1, 2])

    (file,) = files(home)
    assert file == home / "modeldata/sub/group/space/svc/best_model/3/inputs" / today() / "data.csv"
    assert file.read_bytes().startswith(",".join(["a", "b", *HEADERS]).encode() + b"\n1,2,")
    assert b"\r" not in file.read_bytes()


def test_a_row_says_whose_it_is(home, monkeypatch):
    """All eight documented columns, with what the environment knows."""
    monkeypatch.setenv("SERVICE_NAME", "from-environment")
    monkeypatch.setenv("WORKSPACE_NAME", "space")
    monkeypatch.setenv("AML_MODEL_DC_BOUNDARY", "hour")
    returned = ModelDataCollector("m", "inputs").collect([1.5], "mine")

    (row,) = rows(home)
    assert {name: str(value) for name, value in returned.items()} == {name: row[name] for name in HEADERS[:8]}
    assert re.fullmatch(f"mine-{UUID.pattern}", row["$aml_dc_correlation_id"])
    stamp = dt.datetime.fromisoformat(row["$aml_dc_scoring_timestamp"])
    assert re.fullmatch(r"[-\d]+T[:\d]+\.\d{6}", row["$aml_dc_scoring_timestamp"])
    assert abs((dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - stamp).total_seconds()) < 60
    assert [row[name] for name in HEADERS[2:]] == [
        "60",
        "default/default/space",
        "from-environment",
        "m",
        "default",
        NO_ID,
        "",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.array([[1.5, 2.25], [3.0, 4.0]]), [["1.5", "2.25"], ["3.0", "4.0"]]),
        (np.array([1, 2]), [["1", "2"]]),
        (np.array([[0.1, 1e-7]], dtype="f4"), [["0.1", "1e-7"]]),
        (np.array([[True, False]]), [["True", "False"]]),
        (np.array([["a", "b,c"]]), [["a", "b,c"]]),
        (np.array([[1, "x"]], dtype=object), [["1", "x"]]),
        (np.array(["2026-01-02", "NaT"], dtype="M8[ns]"), [["2026-01-02T00:00:00", ""]]),
        ([[1, 2.5], ["x", None]], [["1", "2.5"], ["x", ""]]),
        ((1, 2), [["1", "2"]]),
        ([np.array([1, 2]), np.array([3, 4])], [["1", "2"], ["3", "4"]]),
        ([np.float32(0.5), np.int64(7)], [["0.5", "7"]]),
        ([[1, [2, {"a": 3}]]], [["1", '[2,{"a":3}]']]),
        ([decimal.Decimal("1.10"), dt.date(2026, 1, 2)], [["1.10", "2026-01-02"]]),
        ([10**30, -1], [[str(10**30), "-1"]]),
        ([float("nan"), float("inf")], [["", "inf"]]),
        (np.array([[1e-20, 7.80198e-18, 3e38]], "f4").repeat(30, 0)[:1], [["1e-20", "7.80198e-18", "3e38"]]),
        ([np.float32(0.1), np.float16(0.1)], [["0.1", "0.1"]]),
        (pd.DataFrame({"f": np.array([0.1], "f4"), "t": ["x"]}), [["0.1", "x"]]),
        (np.array(["2026-01-02T00:00:00.000000001"], "M8[ns]"), [["2026-01-02T00:00:00.000000001"]]),
        (np.array(["2026-01-02T00:00:00.000000001", "NaT"], "M8[ns]"), [["2026-01-02T00:00:00.000000001", ""]]),
        (np.array(["30000-01-01"], "M8[D]"), [["30000-01-01"]]),
        ([np.datetime64("2026-01-02", "ns"), "x"], [["2026-01-02T00:00:00", "x"]]),
        (np.array([[6.77635e10, 1.5e8]], "f4").repeat(40, 0)[:33], [["67763500000.0", "150000000.0"]] * 33),
        (np.array([90], "m8[s]"), [["0:01:30"]]),
        (
            pd.DataFrame({"d": [pd.Timedelta(seconds=90)], "i": pd.array([2**53 + 1], "Int64")}),
            [["0:01:30", str(2**53 + 1)]],
        ),
        (pd.array([2**53 + 1, None], "Int64"), [[str(2**53 + 1), ""]]),
        (pd.DataFrame({"a": [1, 2], "b": [1.5, None]}), [["1", "1.5"], ["2", ""]]),
        (
            pd.DataFrame({"a": ["x", pd.NA], "b": [pd.Timestamp("2026-01-02"), pd.NaT]}),
            [["x", "2026-01-02T00:00:00"], ["", ""]],
        ),
        (pd.DataFrame({"a": [1], "b": [2]}).iloc[0], [["1", "2"]]),
        (pd.Series([1, 2]), [["1", "2"]]),
        (pl.DataFrame({"a": [1, None], "b": ["x", "y"]}), [["1", "x"], ["", "y"]]),
        (pl.DataFrame({"a": [1], "b": ["x"]}).lazy(), [["1", "x"]]),
        (pl.Series("s", [1, 2]), [["1", "2"]]),
        ({"a": 1, "b": "x"}, [["1", "x"]]),
        ({"a": [1, 2], "b": np.array([3, 4])}, [["1", "3"], ["2", "4"]]),
        ([{"a": 1}, {"b": 2}], [["1", ""], ["", "2"]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_of_any_tabular_kind(home, data, expected):
    """Arrays, frames, lists of rows and dictionaries, each cell as it is."""
    assert ModelDataCollector("m", "inputs").collect(data) is not None

    assert [features(row) for row in rows(home)] == expected


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(np.arange(20.0), index=range(1000, 1020)),
        pd.Series(np.arange(20.0), index=pd.date_range("2026-01-01", periods=20)),
        scipy.sparse.csr_matrix(np.arange(20.0).reshape(-1, 1)),
        np.arange(20.0),
        np.array(5.0),
    ],
    ids=lambda values: type(values).__name__,
)
def test_one_feature_of_any_container(home, values):
    """Whatever its index, and however many dimensions it has."""
    collector = ModelDataCollector("m", "labels", ["y"])
    collector.collect(values)

    assert collector.stats()["refused"] == {}
    assert len(rows(home, "labels")) == (20 if np.shape(values) else 1)


def test_names_come_from_the_frame_or_the_constructor(home):
    """A frame's own win; without any, columns are numbered."""
    ModelDataCollector("frame", "inputs", ["x", "y"]).collect(pd.DataFrame({"a": [1], 2: [3]}))
    ModelDataCollector("given", "inputs", ["x", "y"]).collect([1, 2])
    ModelDataCollector("none", "inputs").collect([1, 2])

    found = {path.parts[-7]: parsed(path.read_bytes())[0][:2] for path in files(home)}
    assert found == {"frame": ["a", "2"], "given": ["x", "y"], "none": ["column0", "column1"]}


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('say "hi", twice', '"say ""hi"", twice"'),
        ("two\nlines\r\n", '"two\nlines\r\n"'),
        ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        ("", '""'),
        (" edge ", '" edge "'),
        ("größe\u2028", "größe\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_is_kept_as_it_is(home, text, cell):
    """Quoted as RFC 4180 says, never changed; a lone surrogate is its escape."""
    ModelDataCollector("m", "inputs", ["text"]).collect([text])

    body = files(home)[0].read_bytes().partition(b"\n")[2]
    assert body.startswith(cell.encode() + b",")
    assert features(rows(home)[0]) == [text if text != "\ud800" else "\\ud800"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"raw", "media"),
        (bytearray(b"raw"), "media"),
        (io.BytesIO(b"raw"), "media"),
        (Image.new("RGB", (4, 4)), "media"),
        (np.zeros((2, 28, 28)), "media"),
        ([1, b"raw"], "media"),
        ([np.zeros((28, 28)), np.zeros((28, 28))], "media"),
        ({"image": np.zeros((28, 28), "u1")}, "media"),
        (pd.DataFrame({"image": [np.zeros((28, 28))]}), "media"),
        ([Image.new("L", (4, 4))], "media"),
        ([[1, 2], [3]], "ragged"),
        ({"a": [1, 2], "b": [3]}, "ragged"),
        (object(), "type"),
        (None, "type"),
        ([1, 2, 3], "feature_names"),
        ([[1, 2, 3]], "feature_names"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_table_is_refused_aloud_and_counted(home, caplog, data, reason):
    """A named error, once; nothing is raised, nothing written, and the next row is collected."""
    collector = ModelDataCollector("m", "inputs", ["a", "b"])
    with caplog.at_level(logging.WARNING, "scoretrace"):
        assert collector.collect(data) is None
        assert collector.collect(data) is None
    collector.collect([1, 2])

    assert [record.message for record in caplog.records if "CollectionError: inputs of m" in record.message] != []
    assert len(caplog.records) == 1
    assert collector.stats()["refused"] == {reason: 2}
    assert collector.stats()["calls"] == 3
    assert len(rows(home)) == 1


def test_on_error_is_told_and_may_raise():
    """Only who asks for it gets an exception into run()."""
    told = []
    ModelDataCollector("m", "inputs", on_error=told.append).collect(b"raw")

    def fail(error):
        raise error

    with pytest.raises(CollectionError, match="bytes is not collected"):
        ModelDataCollector("m", "inputs", on_error=fail).collect(b"raw")
    assert [error.reason for error in told] == ["media"]


@pytest.mark.parametrize(
    "data", [[], [[]], np.zeros((0, 3)), pd.DataFrame(), pl.DataFrame(), {}, pd.DataFrame({"a": []})]
)
def test_nothing_to_collect_is_nothing_wrong(home, data):
    """An empty frame is no row and no error."""
    collector = ModelDataCollector("m", "inputs")

    assert collector.collect(data) is None
    assert collector.stats()["refused"] == {}
    assert files(home) == []


def test_columns_of_one_name_are_told_apart(home):
    """Each keeps its values, under a name of its own."""
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "$aml_request_id"])
    ModelDataCollector("m", "inputs").collect(frame)

    header, row = parsed(files(home)[0].read_bytes())
    assert header[:3] == ["a", "a_1", "$aml_request_id_1"]
    assert row[:3] == ["1", "2", "3"]


def test_an_unknown_designation_is_a_folder_and_one_warning(home, caplog):
    """Kept as it is, as "sal_inputs" in the reports about the old library."""
    with caplog.at_level(logging.WARNING, "scoretrace"):
        collector = ModelDataCollector("m", "sal_inputs")
        collector.collect([1])
        collector.collect([2])

    assert len(rows(home, "sal_inputs")) == 2
    assert [record.message for record in caplog.records if "sal_inputs" in record.message] != []
    assert len(caplog.records) == 1


def test_the_name_of_the_file(home, monkeypatch):
    """Configurable, by collection for signals and general, and general where no designation is named."""
    ModelDataCollector("plain").collect([1])
    ModelDataCollector("named", "signals", collection_name="drift").collect([1])
    monkeypatch.setenv("SCORETRACE_MODEL_DATA_FILE", "{designation}.csv")
    ModelDataCollector("old", "inputs").collect([1])

    found = {path.parts[-7]: f"{path.parts[-5]}/{path.name}" for path in files(home)}
    assert found == {"plain": "general/data.csv", "named": "signals/drift.csv", "old": "inputs/inputs.csv"}


@pytest.mark.parametrize(
    "name", ["..", "../../up", "a/b", "a\\b", "nul\0byte", "x" * 300, "模" * 300, ".", "a:b*?", " spaced "]
)
def test_no_name_leaves_its_folder(home, name):
    """Whatever a model, a service or a designation is called."""
    collector = ModelDataCollector(name, name, webservice_name=name, model_version=name, collection_name=name)
    collector.collect([1])

    (file,) = files(home)
    assert file.resolve().is_relative_to((home / "modeldata").resolve())
    assert len(file.relative_to(home / "modeldata").parts) == 11
    assert collector.stats()["rows"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_name": ""},
        {"model_name": None},
        {"model_name": "m", "designation": ""},
        {"model_name": "m", "workspace": "a/b"},
        {"model_name": "m", "feature_names": "abc"},
        {"model_name": "m", "feature_names": 5},
    ],
)
def test_a_collector_that_cannot_work_says_so_when_it_is_made(arguments):
    """Early, for who writes init()."""
    with pytest.raises(SettingsError):
        ModelDataCollector(**arguments)


def test_the_servers_file_knows_version_and_workspace(home, monkeypatch, tmp_path):
    """The highest version as a number; arguments win over it."""
    config = {
        "accountContext": {"subscriptionId": "SUB", "resourceGroupName": "RG", "accountName": "WS"},
        "modelsInfo": {
            "m": {"9": {}, "10": {}},
            "placed": {"1": {"dataCollectorStoragePath": "{webservice_name}/p/q"}},
        },
    }
    (tmp_path / "model_config_map.json").write_text(json.dumps(config))
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    ModelDataCollector("m", "inputs", webservice_name="svc").collect([1])
    ModelDataCollector("m", "labels", webservice_name="svc", model_version="2", workspace="a/b/c").collect([1])
    ModelDataCollector("placed", "inputs", webservice_name="svc").collect([1])

    folders = {path.relative_to(home / "modeldata").parent.as_posix() for path in files(home)}
    assert folders == {
        f"sub/rg/ws/svc/m/10/inputs/{today()}",
        f"a/b/c/svc/m/2/labels/{today()}",
        f"svc/p/q/inputs/{today()}",
    }


@pytest.mark.parametrize("content", ["not json", "[]", '{"modelsInfo": [], "accountContext": {"subscriptionId": 1}}'])
def test_a_servers_file_of_any_kind_breaks_nothing(home, monkeypatch, tmp_path, content):
    """It is somebody else's."""
    (tmp_path / "model_config_map.json").write_text(content)
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    ModelDataCollector("m", "inputs").collect([1])

    assert "default/default/default/default/m/default" in files(home)[0].as_posix()


def test_the_switch_of_the_service_is_obeyed(home, monkeypatch):
    """Off and on again, by the file in the home; nothing is collected in between."""
    collector = ModelDataCollector("m", "inputs", webservice_name="svc")
    collector.collect([1])
    switch = home / "state" / "switches" / "svc.json"
    switch.parent.mkdir(parents=True)
    switch.write_text('{"collect_model_data": false}')
    monkeypatch.setattr("scoretrace.switches.LOOK_SECONDS", 0)
    collector._bound.sink._watches["svc"]._look_at = 0

    assert collector.collect([2]) is None
    switch.unlink()
    assert collector.collect([3]) is not None
    assert [row["column0"] for row in rows(home)] == ["1", "3"]


@pytest.mark.parametrize("name", ["AML_MODEL_DC_STORAGE_ENABLED", "OTEL_SDK_DISABLED"])
def test_the_environment_switches_it_off(home, monkeypatch, name):
    """By the name that Azure ML sets, or with all telemetry."""
    monkeypatch.setenv(name, "true" if name.startswith("OTEL") else "false")

    assert ModelDataCollector("m", "inputs").collect([1]) is None
    assert files(home) == []


def test_a_row_of_20_megabytes(home):
    """Is a row like any other."""
    collector = ModelDataCollector("m", "inputs", ["text"])
    collector.collect(["x,y" * 7_000_000])
    collector.collect(["small"])

    assert [len(features(row)[0]) for row in rows(home)] == [21_000_000, 5]


def test_a_collector_follows_the_telemetry_that_is_configured(home, tmp_path):
    """Made in init() before configure(), as in many scripts."""
    collector = ModelDataCollector("m", "inputs")
    with scoretrace.configure(home=tmp_path / "other", service="svc", capture_print=False):
        collector.collect([1])
    collector.collect([2])

    assert [features(row) for row in rows(tmp_path / "other")] == [["1"]]
    assert [features(row) for row in rows(home)] == [["2"]]
