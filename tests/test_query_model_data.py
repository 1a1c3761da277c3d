"""Collected data in Kusto, on the command line, and in other tools that read CSV from such folders."""

import datetime as dt
import json

import duckdb
import pandas as pd
import pytest
from click.testing import CliRunner

import scoretrace
from collected import HEADERS, put
from scoretrace import ModelDataCollector, SourceError
from scoretrace.cli import cli


def test_models_keep_their_own_columns_in_kusto(home):
    """Those of another model are not in the data of a row, nor change its types."""
    ModelDataCollector("taxi", "inputs").collect({"zone": 1})
    ModelDataCollector("house", "inputs").collect({"zone": "A0", "rooms": 3})

    rows = scoretrace.query("modelData | project model, data | order by model asc", source=home).rows
    assert rows == [("house", {"zone": "A0", "rooms": 3}), ("taxi", {"zone": 1})]


def test_a_file_that_cannot_be_read_is_named(scored):
    """By Kusto and by the command, with an exit code and no traceback."""
    put(scored, "modeldata/w/w/w/s/m/1/inputs/2026/11/01/data.csv", "name\nM\xfcller\n".encode("latin-1"))

    with pytest.raises(scoretrace.QueryError, match=r"data\.csv"):
        scoretrace.query("modelData | count", source=scored)
    shown = run("read", "--from", scored, "--designation", "inputs")
    assert shown.exit_code == 4
    assert "2026/11/01/data.csv" in shown.stderr


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

    batch = ModelDataCollector("batch", "inputs", ["n"])
    batch.collect([[number] for number in range(12)])
    shown = run("read", "--from", scored, "--model", "batch", "--format", "csv")
    assert [line.partition(",")[0] for line in shown.output.splitlines()] == ["n", *map(str, range(12))]
    ModelDataCollector("digits", "inputs", ["x"]).collect([0.038075906433423026])
    assert "0.038075906433423026," in run("read", "--from", scored, "--model", "digits", "--format", "csv").output
    out = tmp_path / "inputs.parquet"
    assert run("read", "--from", scored, "--model", "m", "--designation", "inputs", "-n", 2, "-o", out).exit_code == 0
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
