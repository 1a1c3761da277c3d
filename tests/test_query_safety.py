"""A query reads what it is pointed at and nothing else, ends when it is told to, and stays within its memory."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import scoretrace
from scoretrace import QueryError, engine, item
from scoretrace.formats import continuous_export

KEY = "0" * 32
ENDLESS = (
    "range a from 1 to 100000 step 1 | extend k = 1"
    " | join kind=inner (range b from 1 to 1000000 step 1 | extend k = 1) on k | summarize count() by a % 7, b % 11"
)


@pytest.fixture(name="filled")
def _filled(home):
    folder = home / "telemetry" / f"svc_{KEY}" / "Messages" / time.strftime("%Y-%m-%d/%H", time.gmtime())
    folder.mkdir(parents=True)
    lines = [continuous_export.encode(item.Trace(message=f"m{number}")) for number in range(50)]
    (folder / "a.blob").write_bytes(b"".join(lines))
    return home


def test_no_other_file_can_be_read_and_nothing_written(filled, tmp_path):
    """Whatever SQL came of a query: DuckDB is closed to all else, and takes no settings."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    result = scoretrace.query("traces | count", source=filled)
    connection = result._connection

    for statement in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "SET enable_external_access = true",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
    ):
        with pytest.raises(Exception, match=r"(?i)disabled|locked|permission|configuration"):
            connection.execute(statement)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "value",
    ["'; DROP VIEW traces; --", '" OR 1=1 --', "\\", "%_", "$1", "a\nb", "{0}", "'||(SELECT 1)||'", "\x00"],
)
def test_text_of_a_query_or_a_parameter_is_never_sql(filled, value):
    """In a comparison, a pattern, a key of a dynamic, and the name of a column."""
    quoted = json.dumps(value)
    assert scoretrace.query(f"traces | where message == {quoted} | count", source=filled).rows == [(0,)]
    assert scoretrace.query(f"traces | where message contains {quoted} | count", source=filled).rows == [(0,)]
    assert scoretrace.query(f"traces | where message has {quoted} | count", source=filled).rows[0][0] in {0, 50}
    assert scoretrace.query(f"print isnull(dynamic({{}})[{quoted}])").rows == [(True,)]
    assert scoretrace.query("let p = ''; print p", p=value).rows == [(value,)]
    assert scoretrace.query("traces | count", source=filled).rows == [(50,)]


def test_a_query_is_given_up_after_its_timeout():
    """And says so; the next one runs."""
    began = time.monotonic()
    with pytest.raises(QueryError, match="timeout"):
        scoretrace.query(ENDLESS, timeout=0.5)
    assert time.monotonic() - began < 60
    assert scoretrace.query("print 1", timeout=60).rows == [(1,)]


def test_a_query_that_nobody_waits_for_is_given_up(filled):
    """As when the client of the query API has left; while rows are fetched too."""
    for text in (ENDLESS, "range x from 1 to 20000000 step 1"):
        began = time.monotonic()
        with pytest.raises(QueryError, match="nobody waits"):
            engine.answer(text, filled, is_unwanted=lambda began=began: time.monotonic() > began + 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print ago(10000000d)", "outside of the years"),
        ("datatable(t: datetime)[datetime(9999-12-31)] | extend u = t + 3650d", "outside of the years"),
        ("print '\\ud800'", "half of a character"),
        ("print '\ud800'", "half of a character"),
        ('print dynamic(-"x")', "a number is expected"),
        ('requests | render timechart with (title=-"x")', "a number is expected"),
        ('print d = dynamic({"a": 1}) | project d.[0]', "name of a member"),
        ("traces | summarize (a, b, c) = percentiles(itemCount, 50, 95)", "3 names for 2 columns"),
        ("requests\n| where (duration > 5\n| count", "the ( of line 2, column 9 is open"),
        ("traces | summarize avrg(itemCount)", "avg"),
        ("print strcat(x='a', y='b')", "names of its arguments"),
    ],
)
def test_odd_text_ends_in_an_error_of_ours(filled, text, said):
    """Never in one of Python or of DuckDB, which say nothing to who wrote the query."""
    with pytest.raises(QueryError, match=re.escape(said)):
        scoretrace.query(text, source=filled)


@pytest.mark.parametrize("timespan", [5, (1, 2), ["a"], (None, None)])
def test_a_time_span_of_another_type_is_refused(filled, timespan):
    """Where it is given."""
    with pytest.raises(QueryError, match="timespan is"):
        scoretrace.query("traces", source=filled, timespan=timespan)


def test_memory_has_a_bound():
    """Beyond it the query goes on in files, or is refused by name."""
    with pytest.raises(QueryError, match="memory"):
        scoretrace.query("range x from 1 to 30000000 step 1 | summarize make_list(x, 30000000)", memory="50MB")
    with pytest.raises(QueryError, match="memory"):
        scoretrace.query("print 1", memory="plenty")


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_control_c_ends_a_query(tmp_path):
    """At once, with the exit code of an interrupt."""
    command = [sys.executable, "-m", "scoretrace", "query", ENDLESS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.strip() == b"interrupted"


def test_a_home_is_queried_while_it_is_written_to(home):
    """Each answer is of whole rows, and of no fewer than the one before."""
    done = threading.Event()

    def write():
        with scoretrace.configure(home=home, capture_print=False, exporter="none"):
            number = 0
            while not done.is_set() and number < 20_000:
                scoretrace.log({"number": number})
                number += 1

    (home / "telemetry").mkdir(parents=True)
    with scoretrace.configure(home=home, capture_print=False, exporter="none"):
        scoretrace.log({"number": -1})
    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for _ in range(5):
            result = scoretrace.query("traces | summarize count(), countif(isempty(message))", source=home)
            counts.append(result.rows[0][0])
            assert result.rows[0][1] == 0
    finally:
        done.set()
        writer.join()
    assert counts == sorted(counts)
    assert counts[0] >= 1


def test_tables_without_rows_answer_without_rows(filled):
    """With their columns; a column that no row has is empty."""
    assert scoretrace.query("requests | summarize count() by name", source=filled).rows == []
    assert scoretrace.query("requests | count", source=filled).rows == [(0,)]
    assert scoretrace.query("traces | where isnotempty(customDimensions.nowhere) | count", source=filled).rows == [(0,)]
    assert scoretrace.query("traces | summarize max(severityLevel), dcount(session_Id)", source=filled).rows == [
        (None, 1)
    ]


def test_what_is_spilled_and_held_is_gone_with_the_result(filled, tmp_path, monkeypatch):
    """No file stays behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = scoretrace.query("traces | project message", source=filled)
    result.to_parquet(tmp_path / "rows.parquet")
    del result

    assert [path.name for path in tmp_path.glob("scoretrace-*")] == []
    assert (tmp_path / "rows.parquet").stat().st_size > 0


def test_a_server_ends_though_a_query_runs(filled):
    """And the client is told."""
    command = [sys.executable, "-m", "scoretrace", "serve", "--port", "0", "--home", filled]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            port = re.search(r"127\.0\.0\.1:(\d+)", server.stdout.readline())[1]
            body = json.dumps({"query": ENDLESS}).encode()
            headers = {"Content-Type": "application/json"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/apps/mine/query", body, headers)
            ender = threading.Timer(2, server.send_signal, [signal.SIGINT])
            ender.start()
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked, timeout=60)
            with refused.value as answer:
                assert "nobody waits" in answer.read().decode()
            _, said = server.communicate(timeout=60)
        finally:
            server.kill()

    assert server.returncode == 130
    assert "Traceback" not in said
