"""Collected data read back: by us, by Kusto, and by what else reads CSV from such folders."""

import datetime as dt
import json
import random

import duckdb
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from collected import HEADERS, files
from scoretrace import BasicCorrelationContext, Collector, ModelDataCollector, SourceError, read_model_data
from scoretrace.cli import cli

OLD = "modeldata/sub/rg/ws/svc/best_model/2"


@pytest.fixture
def scored(home):
    """Three scorings: one row, several rows, and one that nothing was predicted from."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a", "b"]), ModelDataCollector("m", "predictions", ["y"])
    inputs.collect([1, 2.5])
    predictions.collect([10])
    inputs.collect([[3, 4], [5, 6]])
    predictions.collect([[30], [50]])
    inputs.collect([7, 8])
    return home


def put(home, name, content):
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def values(relation, *columns):
    return sorted(relation.project(", ".join(columns)).fetchall(), key=str)


def test_inputs_are_joined_to_predictions(scored):
    """Row by row, and those without the other are there too."""
    relation = read_model_data(scored)

    assert relation.columns == ["a", "b", "y", *HEADERS]
    assert values(relation, "a", "y") == [(1, 10), (3, 30), (5, 50), (7, None)]
    assert relation.df()["b"].tolist().count(2.5) == 1
    assert relation.pl().height == relation.arrow().read_all().num_rows == 4


def test_one_designation(scored):
    """Its own columns, and the types that the values have."""
    relation = read_model_data(scored, designation="predictions")

    assert relation.columns == ["y", *HEADERS]
    assert [str(kind) for kind in relation.types[:4]] == ["BIGINT", "VARCHAR", "TIMESTAMP", "BIGINT"]
    assert values(relation, "y") == [(10,), (30,), (50,)]
    assert duckdb.sql("SELECT sum(y) FROM relation").fetchall() == [(90,)]


def test_one_prediction_for_several_inputs(home):
    """Goes with each of them; and several for one input too."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a"]), ModelDataCollector("m", "predictions")
    inputs.collect([[1], [2]])
    predictions.collect({"y": 3})
    inputs.collect([[4]])
    predictions.collect({"y": [5, 6]})

    assert values(read_model_data(home), "a", "y") == [(1, 3), (2, 3), (4, 5), (4, 6)]


def test_columns_of_one_name(home):
    """That of the predictions says so."""
    ModelDataCollector("m", "inputs", ["x"]).collect([1])
    ModelDataCollector("m", "predictions", ["x"]).collect([2])

    assert values(read_model_data(home), "x", "prediction_x") == [(1, 2)]


def test_changed_columns_are_united(home):
    """Rows of data.csv and data_1.csv, of today and of before."""
    collector = ModelDataCollector("m", "inputs")
    collector.collect({"a": 1})
    collector.collect({"a": "text", "b": 2})
    relation = read_model_data(home, designation="inputs")

    assert relation.columns[:2] == ["a", "b"]
    assert values(relation, "a", "b") == [("1", None), ("text", 2)]


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2),
        min_size=1,
    )
)
@settings(max_examples=40, deadline=None)
def test_text_comes_back_as_it_was(tmp_path_factory, rows):
    """Commas, quotes, newlines of any kind, and empty text, which is not null."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORETRACE_HOME", str(home))
        collector = ModelDataCollector("m", "inputs", ["a", "b"])
        collector.collect([[*row] for row in rows])
        collector._bound.sink.close()
    relation = read_model_data(home, designation="inputs", types={"a": "VARCHAR", "b": "VARCHAR"})

    assert sorted(relation.project("a, b").fetchall()) == sorted(tuple(row) for row in rows)


def test_numbers_come_back_as_they_were(home):
    """Every bit of a double, what is not there as null, and text that begins late in a column."""
    numbers = [random.Random(1).uniform(-1e9, 1e9) for _ in range(100)] + [5e-324, 1e308, 0.1, -0.0]
    ModelDataCollector("m", "inputs", ["x"]).collect(np.array(numbers).reshape(-1, 1))
    ModelDataCollector("n", "inputs", ["x"]).collect([[float("nan")], [None], [1.5]])
    ModelDataCollector("late", "inputs", ["x"]).collect([[number] for number in range(30_000)] + [["text"]])

    found = [x for (x,) in read_model_data(home, model="m", designation="inputs").project("x").fetchall()]
    assert sorted(found) == sorted(numbers)
    assert values(read_model_data(home, model="n", designation="inputs"), "x") == [(1.5,), (None,), (None,)]
    assert len(read_model_data(home, model="late", designation="inputs")) == 30_001


def test_a_time_span(home):
    """By day folder and by the time of the row; a day is its beginning, in UTC."""
    for day, value in ((1, "a"), (2, "b"), (3, "c")):
        header = ",".join(["x", *HEADERS])
        line = f"{value},id{day},2026-11-0{day}T06:00:00.000000,1440,w/w/w,s,m,1,r,"
        put(home, f"modeldata/w/w/w/s/m/1/inputs/2026/11/0{day}/data.csv", f"{header}\n{line}\n".encode())

    def between(**span):
        return values(read_model_data(home, designation="inputs", **span), "x")

    assert between(since="2026-11-02") == [("b",), ("c",)]
    assert between(since=dt.date(2026, 11, 2), until="2026-11-03") == [("b",)]
    assert between(since=dt.datetime.fromisoformat("2026-11-02T07:00")) == [("c",)]
    assert between(since=dt.datetime(2026, 11, 2, 7, tzinfo=dt.timezone(dt.timedelta(hours=2)))) == [("b",), ("c",)]
    assert between(since="2027-01-01") == []
    assert read_model_data(home, since="2027-01-01").fetchall() == []


def test_what_the_old_library_wrote(home):
    """Named after the designation, months as 3 and 03, mixed line ends, no correlations, telemetry beside it."""
    columns = ",".join(["f1", "f2", *HEADERS[:8]])
    tail = "{id},2020-03-05T06:00:00.123456,1440,sub/rg/ws,svc,best_model,2,00000000-0000-0000-0000-000000000000"
    first, second = tail.format(id="one"), tail.format(id="two")
    put(home, f"{OLD}/inputs/2020/03/05/inputs.csv", f'{columns}\r\n1,"a\nb",{first}\r\n2,c,{second}\n'.encode())
    put(home, f"{OLD}/inputs/2020/3/6/data.csv", f"{columns}\n3,d,{tail.format(id='three')}\n".encode())
    put(home, f"{OLD}/inputs/2020/03/05/aml_telemetry.csv", b"workspaceId,serviceId\r\n1,2\r\n")
    put(home, f"{OLD}/predictions/2020/03/05/predictions.csv", b"prediction1\r\n0.5\r\n0.25\n")

    inputs = read_model_data(home, designation="inputs")
    assert values(inputs, "f1", "f2") == [(1, "a\nb"), (2, "c"), (3, "d")]
    assert values(inputs, '"$aml_dc_correlation_id"') == [("one",), ("three",), ("two",)]
    predictions = read_model_data(home, designation="predictions", since="2020-03-05", until="2020-03-06")
    assert values(predictions, "prediction1", '"$aml_model_name"', '"$aml_model_version"') == [
        (0.25, "best_model", "2"),
        (0.5, "best_model", "2"),
    ]


def test_ragged_rows_and_files_without_a_header(home):
    """As the old library made them of predictions: no value is lost."""
    put(home, f"{OLD}/predictions/2020/03/05/predictions.csv", b"p1\r\n1,2,3\r\n4,5,6\n")
    put(home, f"{OLD}/labels/2020/03/05/labels.csv", b"1.5,2.5\n3.5,4.5\n")

    ragged = read_model_data(home, designation="predictions").df()
    assert ragged.iloc[:, :3].to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]
    plain = read_model_data(home, designation="labels").df()
    assert plain.iloc[:, :2].to_numpy().tolist() == [[1.5, 2.5], [3.5, 4.5]]


def test_events_are_rows_too(home):
    """Of both collections, joined, those by reference as well; with the columns of ModelDataCollector."""
    inputs, outputs = Collector(name="model_inputs"), Collector(name="model_outputs")
    context = inputs.collect(pd.DataFrame({"x": [1, 2]}), BasicCorrelationContext(id="first", timestamp=1_700_000_000))
    outputs.collect(pd.DataFrame({"y": [10, 20]}), context)
    context = inputs.collect(pd.DataFrame({"x": [3], "text": ["t" * 5_000_000]}))
    outputs.collect(pd.DataFrame({"y": [30]}), context)

    relation = read_model_data(home)
    assert values(relation, "x", "y") == [(1, 10), (2, 20), (3, 30)]
    assert set(HEADERS) <= set(relation.columns)
    ids = values(read_model_data(home, designation="model_inputs"), '"$aml_dc_correlation_id"')
    assert ids[-2:] == [("first_0",), ("first_1",)]
    stamps = relation.filter("x = 1").project('"$aml_dc_scoring_timestamp"').fetchall()
    assert stamps == [(dt.datetime.fromisoformat("2023-11-14T22:13:20"),)]


@pytest.mark.parametrize("folders", ["2026/11/20/06", "2026/11/20/06/30", "2026/11/20", "2026/11", "2026"])
def test_events_as_azure_lands_them(tmp_path, folders):
    """However often it begins a folder; values of any kind in one column; without attributes of ours."""
    events = [
        {"id": "1", "time": "2026-11-20T06:00:00Z", "correlationid": "a", "data": [{"x": 1, "n": {"k": 2}}]},
        {"id": "2", "time": "2026-11-20T06:00:01Z", "correlationid": "b", "data": [{"x": "text"}, {"z": None}]},
        {"id": "3", "time": "2026-11-20T06:00:02Z", "correlationid": "c", "datainblob": "true", "data": []},
    ]
    lines = "\n".join(map(json.dumps, events)) + "\n"
    put(tmp_path, f"endpoint/blue/model_inputs/{folders}/instance.jsonl", lines.encode())

    relation = read_model_data(tmp_path, designation="inputs", model="blue")
    assert sorted(row[0] for row in relation.project('"$aml_dc_correlation_id"').fetchall()) == ["a", "b_0", "b_1"]
    assert set(relation.project('"$aml_service_name"').fetchall()) == {("endpoint",)}
    assert {str(x).strip('"') for (x,) in relation.project("x").fetchall()} == {"1", "text", "None"}


def test_both_layouts_at_once(home):
    """A home in which both collectors wrote."""
    ModelDataCollector("m", "inputs", ["x"]).collect([1])
    Collector(name="model_inputs").collect(pd.DataFrame({"x": [2]}))

    assert values(read_model_data(home, designation="inputs"), "x") == [(1,), (2,)]


def test_a_row_of_20_megabytes_comes_back(home):
    """Also where it is the newlines in it that make it long."""
    ModelDataCollector("m", "inputs", ["text"]).collect([["small"], ["x,y\n" * 5_000_000], ["small too"]])

    found = read_model_data(home, designation="inputs", types={"text": "VARCHAR"}).project("length(text)").fetchall()
    assert sorted(found) == [(5,), (9,), (20_000_000,)]


def test_one_file_and_one_folder_are_sources_too(scored):
    """As somebody downloads them."""
    inputs = next(path for path in files(scored) if "/inputs/" in path.as_posix())

    assert len(read_model_data(inputs, designation="inputs")) == 4
    assert len(read_model_data(inputs.parents[3], designation="inputs")) == 4
    assert len(read_model_data(scored / "modeldata")) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"designation": "labels"}, "nothing was collected as labels: there is inputs, predictions"),
        ({"model": "other"}, "nothing was collected of other: there is m"),
        ({"source": "nowhere"}, "there is no nowhere"),
        ({"source": "https://a.blob.core.windows.net/modeldata?sig=x"}, "is not on this machine"),
    ],
)
def test_what_is_not_there_is_said(scored, monkeypatch, arguments, said):
    """With what is there instead."""
    with pytest.raises(SourceError, match=said.replace("?", r"\?")):
        read_model_data(**{"source": scored, **arguments})


def test_a_folder_without_collected_data_is_said(tmp_path):
    """Other CSV files do not count."""
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")

    with pytest.raises(SourceError, match="no collected model data"):
        read_model_data(tmp_path)


def test_what_power_bi_and_databricks_are_told_to_type(home):
    """A prefix up to the month, and the wildcards of the documentation, each with header and one set of columns."""
    collector = ModelDataCollector("best_model", "inputs", ["a", "b"], workspace="sub/rg/ws", webservice_name="svc")
    collector.collect([[1, "x"], [2, "y,z"]])
    now = dt.datetime.now(dt.timezone.utc)
    container = home / "modeldata"
    prefix = f"sub/rg/ws/svc/best_model/default/inputs/{now.year}"

    found = sorted(container.glob(f"{prefix}/*/*/data.csv"))
    frame = pd.concat(pd.read_csv(path) for path in found)
    assert frame["b"].tolist() == ["x", "y,z"]
    wildcard = duckdb.sql(f"SELECT a, b FROM read_csv('{container}/{prefix}/*/*/data.csv')").fetchall()
    assert wildcard == [(1, "x"), (2, "y,z")]
    month = [path for path in container.rglob("*") if path.is_file()]
    below = [path for path in month if path.relative_to(container).as_posix().startswith(f"{prefix}/{now:%m}")]
    assert below == found
    assert list(frame.columns) == ["a", "b", *HEADERS]


def test_kusto_joins_collected_rows_to_requests(home):
    """The table modelData, whose operation_Id is that of traces and requests."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a"]), ModelDataCollector("m", "predictions", ["y"])
    with scoretrace.configure(home=home, service="svc", capture_print=False):
        for number in range(2):
            with scoretrace.request_context("score"):
                inputs.collect([number])
                predictions.collect([number * 10])

    result = scoretrace.query(
        """
        requests
        | join kind=inner (modelData | where designation == "predictions") on operation_Id
        | project name, model, service, y = toint(data.y)
        | order by y asc
        """,
        source=home,
    )
    assert result.rows == [("score", "m", "svc", 0), ("score", "m", "svc", 10)]


def test_kusto_over_collected_rows_alone(scored):
    """There need not be any telemetry; a time span limits them as it limits all tables."""
    counted = "modelData | summarize rows = count() by designation | order by designation asc"

    assert scoretrace.query(counted, source=scored).rows == [("inputs", 4), ("predictions", 3)]
    assert scoretrace.query("modelData | where data.a == 3 | project toint(data.b)", source=scored).rows == [(4,)]
    past = (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc))
    assert scoretrace.query(counted, source=scored, timespan=past).rows == []
    types = dict(
        zip(
            *[getattr(scoretrace.query("modelData", source=scored), name) for name in ("columns", "types")], strict=True
        )
    )
    assert types["timestamp"] == "datetime"
    assert types["data"] == "dynamic"


def test_kusto_knows_the_names_of_the_table(scored):
    """A misspelt one is named."""
    with pytest.raises(scoretrace.UnknownNameError, match="did you mean modelData"):
        scoretrace.query("modeldata", source=scored)
    with pytest.raises(scoretrace.UnknownNameError, match="did you mean designation"):
        scoretrace.query("modelData | project Designation", source=scored)
    with pytest.raises(SourceError):
        scoretrace.query("modelData", source=scored / "state")


def run(*arguments):
    return CliRunner().invoke(cli, ["model-data", *map(str, arguments)])


def test_the_command_lists_what_there_is(scored):
    """By model, version and designation."""
    shown = run("ls", "--from", scored, "--format", "json")

    assert shown.exit_code == 0
    found = json.loads(shown.output)
    assert [(row["model"], row["designation"], row["files"]) for row in found] == [
        ("m", "inputs", 1),
        ("m", "predictions", 1),
    ]
    assert found[0]["first"] == found[0]["last"] == dt.datetime.now(dt.timezone.utc).date().isoformat()


def test_the_command_reads(scored, tmp_path):
    """In the order of time, as any format."""
    shown = run("read", "--from", scored, "--format", "ndjson")
    assert [json.loads(line)["y"] for line in shown.output.splitlines()] == [10, 30, 50, None]

    out = tmp_path / "inputs.parquet"
    assert run("read", "--from", scored, "--designation", "inputs", "-n", 2, "-o", out).exit_code == 0
    assert pd.read_parquet(out)["a"].tolist() == [1, 3]
    typed = run("read", "--from", scored, "--type", "a=VARCHAR", "--format", "ndjson", "-n", 1)
    assert json.loads(typed.output)["a"] == "1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["read", "--since", "yesterday"], 2),
        (["read", "--type", "a"], 2),
        (["read", "--designation", "labels"], 4),
        (["read", "--type", "a=NOTYPE"], 4),
        (["ls", "--from", "nowhere"], 4),
    ],
)
def test_wrong_arguments_of_the_command(scored, arguments, code):
    """A line on stderr, and the exit code that says which kind it is."""
    shown = run(*arguments)

    assert shown.exit_code == code
    assert len(shown.stderr.splitlines()) <= 4
