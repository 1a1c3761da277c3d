"""Collected data read back: by us, by Kusto, and by what else reads CSV from such folders."""

import datetime as dt
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from collected import HEADERS, files, put, values
from scoretrace import BasicCorrelationContext, Collector, ModelDataCollector, SourceError, read_model_data

OLD = "modeldata/sub/rg/ws/svc/best_model/2"


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


def test_rows_of_several_lines_in_a_large_file(home):
    """DuckDB in parallel loses its way between quotes; such files are read as one."""
    collector = ModelDataCollector("m", "inputs", ["n", "text"])
    for number in range(40):
        collector.collect([[number, 'a "b"\n,c' * 20]] * 10_000)
    (file,) = files(home)
    assert file.stat().st_size > 130 * 1024**2
    os.utime(file, (0, 0))  # as if nobody wrote it any more

    assert read_model_data(home, designation="inputs").aggregate("count(*), sum(n)").fetchall() == [
        (400_000, 7_800_000)
    ]
    shutil.move(home / "modeldata", home.parent / "downloaded")
    assert len(read_model_data(home.parent / "downloaded", designation="inputs")) == 400_000


@pytest.mark.parametrize("torn", [b'7,"half a te', b"7,half", b"7", b'7,"a\nb",123e4567', b'7,"a\n'])
@pytest.mark.parametrize("has_note", [True, False])
def test_a_torn_end_hides_no_other_row(home, torn, has_note):
    """Of a process that was killed, or that is writing right now; of a home, or of a copy of its files."""
    ModelDataCollector("m", "inputs", ["n", "text"]).collect([[1, "a"], [2, "b\nc"]])
    Collector(name="events").collect([[1]])
    for file in (*files(home), *files(home, "*.jsonl")):
        with file.open("ab") as opened:
            opened.write(torn)
    if not has_note:
        shutil.rmtree(home / "state")

    assert values(read_model_data(home, designation="inputs"), "n") == [(1,), (2,)]
    assert len(read_model_data(home, designation="events")) == 1
    assert scoretrace.query("modelData | summarize count()", source=home).rows == [(3,)]


def test_reading_while_somebody_writes(home):
    """Never fails, and never sees less than before."""
    code = """
        import os, sys
        from scoretrace import ModelDataCollector
        collector = ModelDataCollector("m", "inputs", ["n", "text"])
        for number in range(400):
            collector.collect([[number, 'a "b"\\n,c']] * 500)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    seen = 0
    while writer.poll() is None:
        if files(home):
            rows = read_model_data(home, designation="inputs").aggregate("count(*)").fetchall()[0][0]
            assert rows >= seen
            seen = rows
    assert writer.returncode == 0
    assert len(read_model_data(home, designation="inputs")) == 200_000


def test_events_that_are_none_are_passed_over_and_said(home, caplog):
    """Broken lines, an empty file, one without data: the others are there."""
    Collector(name="model_inputs").collect(pd.DataFrame({"x": [1]}))
    (file,) = files(home, "*.jsonl")
    file.with_name("broken.jsonl").write_bytes(
        b'{"id": "1", "data": [{"x"\nno json\n{"id": "2", "correlationid": "a"}\n'
    )
    file.with_name("empty.jsonl").write_bytes(b"")

    assert values(read_model_data(home, designation="inputs"), "x") == [(1,)]
    assert "2 lines are no events" in caplog.text
    file.unlink()
    file.with_name("broken.jsonl").unlink()
    assert read_model_data(home, designation="inputs").fetchall() == []


def test_events_of_any_shape(tmp_path, caplog):
    """Nested deeper than DuckDB likes, data that is no list of objects, odd keys, times without a zone."""
    deep = 1
    for _ in range(150):
        deep = [deep]
    events = [
        {"id": "1", "correlationid": "a", "time": "2026-11-20T06:00:00", "data": [{"x": 1, 'q"uo/te~': 2}, {"x": 2.5}]},
        {"id": "2", "correlationid": "b", "data": [5, [1], {"X": True, "": "no name", "NULL": None}]},
        {"id": "3", "correlationid": "c", "data": [{"deep": deep, "large": 2**63}]},
        {"id": "4", "correlationid": "d", "data": {"no": "list"}},
    ]
    lines = "\n".join(map(json.dumps, events)) + "\n"
    put(tmp_path, "endpoint/blue/model_inputs/2026/11/20/06/instance.jsonl", lines.encode())

    relation = read_model_data(tmp_path, designation="inputs")
    found = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    by_id = {row["$aml_dc_correlation_id"]: row for row in found}
    assert sorted(by_id) == ["a_0", "a_1", "b_2", "c"]
    assert (by_id["a_0"]["x"], by_id["a_1"]["x"], by_id["a_0"]['q"uo/te~']) == (1.0, 2.5, 2)
    assert by_id["a_0"]["$aml_dc_scoring_timestamp"] == dt.datetime.fromisoformat("2026-11-20T06:00:00")
    assert (by_id["b_2"]["X_1"], by_id["c"]["large"]) == (True, str(2**63))
    assert json.loads(by_id["c"]["deep"]) == deep
    assert duckdb.sql("SELECT 42").fetchall() == [(42,)]


def test_a_pair_on_both_sides_of_a_bound_stays_together(home):
    """A joined row has the time of its inputs."""
    for designation, column, at in (
        ("inputs", "x", "2026-11-01T23:59:59.9"),
        ("predictions", "y", "2026-11-02T00:00:00.1"),
    ):
        header = ",".join([column, *HEADERS])
        day = at[:10].replace("-", "/")
        put(
            home,
            f"modeldata/w/w/w/s/m/1/{designation}/{day}/data.csv",
            f"{header}\n1,id,{at},1440,w/w/w,s,m,1,r,\n".encode(),
        )

    assert values(read_model_data(home, until="2026-11-02"), "x", "y") == [(1, 1)]
    assert read_model_data(home, since="2026-11-02").fetchall() == []


def test_names_are_those_that_the_collector_was_given(home):
    """Not only those of the folders, which have no spaces."""
    ModelDataCollector("best model", "sal inputs").collect([1])

    assert len(read_model_data(home, model="best model", designation="sal inputs")) == 1


def test_columns_that_differ_in_nothing_but_letter_case_or_a_prefix(home):
    """Have names of their own in the joined rows."""
    inputs = ModelDataCollector("m", "inputs", ["Score", "prediction_score", "$call", "$number"])
    inputs.collect([1, 2, 3, 4])
    ModelDataCollector("m", "predictions", ["score"]).collect([5])

    relation = read_model_data(home)
    assert relation.columns[:5] == ["Score", "prediction_score", "$call", "$number", "prediction_score_"]
    assert relation.project("Score, prediction_score, prediction_score_").fetchall() == [(1, 2, 5)]


def test_values_are_not_taken_for_what_they_are_not(home):
    """Infinity for a date, "t" for truth, "1/2/2026" for the first of February."""
    ModelDataCollector("m", "inputs", ["f", "t", "d"]).collect(
        [[float("inf"), "t", "1/2/2026"], [1.5, "f", "3/4/2026"], [None, "t", "5/6/2026"]]
    )

    found = values(read_model_data(home, designation="inputs"), "f", "t", "d")
    assert found == [(1.5, "f", "3/4/2026"), (None, "t", "5/6/2026"), (float("inf"), "t", "1/2/2026")]


def test_a_large_call_is_joined_row_by_row(home):
    """Not each with each."""
    ModelDataCollector("m", "inputs", ["x"]).collect([[number] for number in range(100_000)])
    ModelDataCollector("m", "predictions", ["y"]).collect([[number] for number in range(100_000)])

    joined = read_model_data(home).aggregate("count(*), count(*) FILTER (x = y)").fetchall()
    assert joined == [(100_000, 100_000)]


def test_a_time_span_by_how_long_ago(scored):
    """As text or a timedelta, and what is no time is said."""
    assert len(read_model_data(scored, since="1h", until=dt.timedelta(hours=-1))) == 4
    assert len(read_model_data(scored, since=dt.timedelta(minutes=-1))) == 0
    assert len(read_model_data(scored, since=dt.date.min, until=dt.date.max)) == 4
    for wrong in ("yesterday", 5, "99999999d", dt.timedelta.max):
        with pytest.raises(ValueError, match=r"is no time: give 2026-11-20|is longer than the calendar"):
            read_model_data(scored, since=wrong)


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
