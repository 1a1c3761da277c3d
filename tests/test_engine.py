"""Kusto queries over what is on this machine."""

import json
import logging
import time
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scoretrace
from scoretrace import QueryError, QuerySyntaxError, SourceError, UnknownNameError, UnsupportedQuery, ticks
from scoretrace.formats import continuous_export
from scoretrace.kql.parameters import with_parameters
from scoretrace.schema import BY_KIND, SEVERITIES, TABLES
from strategies import items

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(name="put")
def _put(home):
    """Write items where the export would have them."""

    def put(*found):
        for number, item in enumerate(found):
            hour = time.strftime("%Y-%m-%d/%H", time.gmtime())
            folder = home / "telemetry" / f"svc_{KEY}" / BY_KIND[item.kind].folder / hour
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{number}.blob").open("ab") as file:
                file.write(continuous_export.encode(item))

    return put


def expected(item):
    """The values that the classic table shows for *item*, by column."""
    row = {}
    for column in BY_KIND[item.kind].all_columns:
        value = getattr(item, column.field, "")
        if column.form in {"bool", "pass"}:
            value = "" if value is None else str(value) if column.form == "bool" else str(int(value))
        elif column.form == "duration":
            value = None if value is None else value / 10_000
        elif column.form == "time":
            value = None if value is None else value // 10
        elif column.form in {"dimensions", "metrics"}:
            value = value or None
        if column.form not in {"path", "constant", "bucket", "details", "absent"}:
            row[column.classic] = value
    if item.kind == "counter":
        row["name"] = item.counter
    if item.kind == "metric":
        row["customMeasurements"] = {item.name: item.value}
    return row


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(item=items())
def test_a_row_shows_what_the_item_holds(tmp_path_factory, item):
    """For all ten types, each column of the view is the value of the item."""
    home = tmp_path_factory.mktemp("row")
    table = BY_KIND[item.kind]
    folder = home / table.folder
    folder.mkdir()
    (folder / "a.blob").write_bytes(continuous_export.encode(item))

    result = scoretrace.query(table.classic, source=home)

    (row,) = result.dicts()
    if row["timestamp"] is not None:
        since = row["timestamp"] - datetime(1970, 1, 1, tzinfo=timezone.utc)
        row["timestamp"] = since // timedelta(microseconds=1)
    found = {name: row[name] for name in expected(item)}
    assert _rounded(found) == _rounded(expected(item))


def _rounded(row):
    # DuckDB reads a float to the nearest double as Python does, and a count as a double.
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in row.items()
    }


def test_every_table_answers_and_has_its_columns(put):
    """Also those that nothing was written to."""
    put(scoretrace.item.Trace(message="m"))
    for table in TABLES:
        result = scoretrace.query(table.classic)
        assert result.columns == [column.classic for column in table.all_columns]
        assert result.types == [column.type for column in table.all_columns]
        assert len(result) == (table.kind == "trace")


def test_the_path_gives_application_and_key(put):
    """AppName and iKey are folders, not fields."""
    put(scoretrace.item.Trace(message="m"))

    assert scoretrace.query("traces | project appName, iKey, itemType").rows == [("svc", KEY, "trace")]


def test_printed_json_is_queryable(telemetry, home):
    """The query of the documentation, and the one that takes the text apart."""
    print('{"input": [1, 2], "output": [3.5]}')
    print("no input here?")

    assert len(scoretrace.query('traces | where customDimensions contains "input" | limit 10', source=home)) == 2
    rows = scoretrace.query(
        "traces | extend printed = parse_json(tostring(customDimensions.Contents)) | where isnotnull(printed.input)"
        " | project printed.input, tostring(printed.output)",
        source=home,
    ).rows
    assert rows == [([1, 2], "[3.5]")]


def test_values_come_back_as_python_values(telemetry, home):
    """Dynamic as what its JSON says, datetimes in UTC, timespans as timedelta."""
    with scoretrace.request_context("score", custom_dimensions={"a": {"b": [1]}}):
        pass

    result = scoretrace.query(
        "requests | project timestamp, customDimensions, success, itemCount, span = 90m,"
        " j = parse_json(tostring(customDimensions.a))",
        source=home,
    )

    ((moment, dimensions, success, count, span, parsed),) = result.rows
    assert moment.tzinfo is timezone.utc
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=5)
    assert (dimensions, success, count) == ({"a": '{"b":[1]}'}, "True", 1)
    assert (span, parsed) == (timedelta(minutes=90), {"b": [1]})
    assert result.types == ["datetime", "dynamic", "string", "int", "timespan", "dynamic"]


def test_exceptions_show_their_chain(telemetry, home):
    """details[0] is the outermost, with type, message and stack."""
    try:
        raise ValueError("bad") from KeyError("cause")
    except ValueError:
        logging.getLogger("score").exception("m")

    ((kind, message, frames, severity),) = scoretrace.query(
        "exceptions | project tostring(details[0].type), tostring(details[1].message), details[0].parsedStack,"
        " severityLevel",
        source=home,
    ).rows
    assert (kind, message, severity) == ("ValueError", "'cause'", SEVERITIES.index("Error"))
    assert frames[0]["fileName"] == __file__


def test_tables_join_on_the_operation(telemetry, home):
    """What a request logged is found through it."""
    with scoretrace.request_context("score"):
        print("inside")
    print("outside")

    rows = scoretrace.query(
        "requests | join kind=inner traces on operation_Id | project name, customDimensions1.Contents", source=home
    ).rows
    assert rows == [("score", "inside")]


def test_rows_as_dicts_frames_arrow_and_parquet(telemetry, home, tmp_path):
    """The forms that notebooks want."""
    import pyarrow.parquet as pq

    print("m")
    result = scoretrace.query("traces | project message, itemCount, customDimensions", source=home)
    result.to_parquet(tmp_path / "rows.parquet")

    row = {"message": "STDOUT", "itemCount": 1, "customDimensions": {"Contents": "m"}}
    assert result.dicts() == [row]
    assert result.df().to_dict("records") == [row]
    assert result.arrow().column_names == list(row)
    assert pq.read_table(tmp_path / "rows.parquet").column("message").to_pylist() == ["STDOUT"]


def test_a_timespan_limits_every_table(put):
    """As Azure applies it, outside the query."""
    now = ticks.now()
    put(scoretrace.item.Trace(message="new", timestamp=now - ticks.SECOND * 60))
    put(scoretrace.item.Trace(message="old", timestamp=now - ticks.SECOND * 3 * 86_400))
    moment = datetime.now(timezone.utc)

    def messages(timespan):
        return {row[0] for row in scoretrace.query("traces | project message", timespan=timespan).rows}

    assert messages(None) == {"new", "old"}
    assert messages(timedelta(days=1)) == messages("P1D") == messages("PT2H") == messages("6h") == {"new"}
    assert messages((moment - timedelta(days=4), moment - timedelta(days=2))) == {"old"}
    with pytest.raises(QueryError, match="time span"):
        messages("yesterday")


def test_a_timespan_reaches_the_since_of_a_query(put):
    """A bundled query's own default does not narrow what was asked for."""
    put(scoretrace.item.Request(name="old", timestamp=ticks.now() - ticks.SECOND * 3 * 86_400, success=False))

    assert len(scoretrace.query("failures")) == 0
    assert len(scoretrace.query("failures", timespan="7d")) == 1
    assert len(scoretrace.query("failures", timespan="7d", since="1d")) == 0


def test_a_failure_is_one_row_with_its_last_exception(telemetry, home):
    """However many exceptions were logged on the way."""
    with pytest.raises(ValueError, match="the end"), scoretrace.request_context("score"):
        for number in range(3):
            logging.getLogger("score").error("caught", exc_info=KeyError(number))
        raise ValueError("the end")

    assert [row["outerMessage"] for row in scoretrace.query("failures", source=home).dicts()] == ["the end"]


def test_queries_read_the_home_that_is_configured(tmp_path, monkeypatch):
    """Also after the script has changed its folder."""
    with scoretrace.configure(home=tmp_path / "elsewhere"):
        print("m")
        monkeypatch.chdir(tmp_path)
        assert scoretrace.query("traces | count").rows == [(1,)]


@pytest.mark.parametrize(
    ("text", "kind", "line", "column"),
    [
        ("traces\n| where mesage == 'x'", UnknownNameError, 2, 9),
        ("traces\n// mesage\n| extend a = 'mesage' | where mesage == 'x'", UnknownNameError, 3, 31),
        ("traces | project mesage", UnknownNameError, 1, 18),
        ("traces | project-away mesage", UnknownNameError, 1, 23),
        ("traces | summarize count() by mesage", UnknownNameError, 1, 31),
        ("traces | summarize sum(mesage)", UnknownNameError, 1, 24),
        ("traces | extend x = mesage", UnknownNameError, 1, 21),
        ("traces | distinct mesage", UnknownNameError, 1, 19),
        ("traces | order by mesage", UnknownNameError, 1, 19),
        ("requests | join traces on operationId", UnknownNameError, 1, 27),
        ("traces | project message | where severityLevel == 1", UnknownNameError, 1, 34),
        ("traces | where Message == 'x'", UnknownNameError, 1, 16),
        ("Traces | count", UnknownNameError, 1, 1),
        ("trases | take 1", UnknownNameError, 1, 1),
        ("traces | wherex", QuerySyntaxError, 1, 10),
        ("traces | where (", QuerySyntaxError, 1, 17),
        ("traces\n| fork (count) (take 1)", UnsupportedQuery, 2, 3),
        ("requests | summarize hll(id)", UnsupportedQuery, 1, 22),
        ("traces\n| extend a = hash(message)", UnsupportedQuery, 2, 14),
        ("traces | evaluate autocluster()", UnsupportedQuery, 1, 19),
        ("cluster('a').database('b').traces | count", UnsupportedQuery, 1, 1),
        ("externaldata(a: string) ['https://x'] | count", UnsupportedQuery, 1, 1),
    ],
)
def test_an_error_says_where(put, text, kind, line, column):
    """An unknown column, table or operator, by line and column."""
    put(scoretrace.item.Trace(message="m"))
    with pytest.raises(kind) as caught:
        scoretrace.query(text)

    assert (caught.value.line, caught.value.column) == (line, column)
    assert f"line {line}, column {column}: " in str(caught.value)


def test_an_unknown_column_comes_with_a_suggestion(put):
    """Most of them are slips of the finger."""
    put(scoretrace.item.Trace(message="m"))
    with pytest.raises(UnknownNameError, match="no column mesage: did you mean message"):
        scoretrace.query("traces | where mesage == 'x'")


def test_a_name_of_the_querys_own_may_differ_in_case(put):
    """Kusto knows Message from message, and so does whoever names a column."""
    put(scoretrace.item.Trace(message="m"))

    assert scoretrace.query("traces | project Message = message | where Message == 'm'").rows == [("m",)]
    assert scoretrace.query("traces | summarize Type = count() by Name = message").dicts() == [{"Name": "m", "Type": 1}]


def test_keys_of_a_dynamic_are_their_own(put):
    """A key may look like a column in another letter case."""
    put(scoretrace.item.Trace(message='{"Name": 1}', custom_dimensions={"Message": "hi"}))

    assert len(scoretrace.query('traces | where customDimensions.Message == "hi"')) == 1
    assert scoretrace.query("traces | project n = toint(parse_json(message).Name)").rows == [(1,)]
    assert len(scoretrace.query('traces | parse message with * ":" Name "}"')) == 1


def test_a_since_that_is_a_time_follows_a_timespan(put):
    """As a time, or is left alone where it is more than a literal."""
    put(scoretrace.item.Trace(message="m", timestamp=ticks.now()))
    query = "let since = {};\ntraces | where timestamp > since | count"

    assert scoretrace.query(query.format("datetime(2999-01-01)"), timespan="1h").rows == [(1,)]
    assert scoretrace.query(query.format("ago(1d)"), timespan="1h").rows == [(1,)]
    with pytest.raises(QueryError):
        scoretrace.query("traces", timespan="999999999d")
    with pytest.raises(QueryError):
        scoretrace.query("traces", timespan="1000000d")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_a_parameter_arrives_as_it_was_given(tmp_path_factory, value):
    """Text of any language."""
    home = tmp_path_factory.mktemp("parameter")
    (home / "state").mkdir()

    assert scoretrace.query('let name = "x";\nprint name', source=home, name=value).rows == [(value,)]


def test_a_row_of_any_length_is_read(put, home):
    """One that could not be diverted is kept whole, however large."""
    put(scoretrace.item.Trace(message="x" * 40_000_000))

    assert scoretrace.query("traces | project n = strlen(message)").rows == [(40_000_000,)]


@pytest.mark.parametrize("command", [".drop table traces", ".set-or-replace t <| traces"])
def test_a_query_cannot_write(put, command):
    """Control commands are refused."""
    put(scoretrace.item.Trace(message="m"))
    with pytest.raises(UnsupportedQuery):
        scoretrace.query(command)


def test_lines_that_cannot_be_read_are_counted_and_hide_no_other(put, home):
    """Every row that can be read is; a last line without its newline is not there yet."""
    put(scoretrace.item.Trace(message="one"))
    (file,) = home.glob("telemetry/*/*/*/*/*.blob")
    with file.open("ab") as blob:
        blob.write(b'{"message":[{"raw":"torn\n')
        blob.write(b"\xff\xfe not text\n")
        blob.write(continuous_export.encode(scoretrace.item.Trace(message="two")))
        blob.write(b'{"message":[{"raw":"unfinished')

    result = scoretrace.query("traces | project message", source=home)

    assert result.rows == [("one",), ("two",)]
    assert result.unreadable == {str(file): 2}


def test_a_source_is_a_home_a_folder_or_a_file(put, home):
    """The same argument everywhere."""
    put(scoretrace.item.Trace(message="m"))
    (file,) = home.glob("telemetry/*/*/*/*/*.blob")
    loose = home / "loose.blob"
    loose.write_bytes(file.read_bytes())

    for source in (home, str(home), home / "telemetry", file.parents[3], file, loose):
        assert scoretrace.query("traces | project message", source=source).rows == [("m",)]


@pytest.mark.parametrize("source", ["/nowhere/at/all", "http://127.0.0.1:9/account/export", "azure:/subscriptions/x"])
def test_a_source_that_cannot_be_read_is_named(source):
    """Early, and by name."""
    with pytest.raises(SourceError, match=source):
        scoretrace.query("traces", source=source)


@pytest.mark.parametrize("bundled", scoretrace.queries(), ids=lambda bundled: bundled.name)
def test_every_bundled_query_runs_and_opens_with_its_question(telemetry, home, bundled):
    """One question a file, answered by the local engine."""
    with scoretrace.request_context("score"):
        print('{"input": [1], "output": [2]}' + " " * 9_000)

    assert bundled.question.endswith("?")
    assert scoretrace.query(bundled.name, source=home).columns


def test_bundled_queries_find_what_they_ask_for(telemetry, home):
    """The questions, over one request that failed and printed too much."""
    with pytest.raises(ValueError, match="bad"), scoretrace.request_context("score") as context:
        print('{"input": ' + str(list(range(5_000))) + ', "output": [2]}')
        raise ValueError("bad")

    def rows(name, **parameters):
        return scoretrace.query(name, source=home, **parameters).dicts()

    assert rows("failures")[0]["outerMessage"] == "bad"
    assert rows("requests-by-result")[0]["code"] == "500"
    assert rows("diverted-payloads")[0]["field"] == "customDimensions.Contents"
    assert rows("inputs-and-outputs")[0]["output"] == "[2]"
    assert rows("request-rate")[0]["failed"] == 1
    assert [row["itemType"] for row in rows("one-operation", operation=context.operation_id)].count("trace") == 1
    assert rows("failures", since="0s") == []


def test_a_parameter_replaces_a_let_and_nothing_else(put):
    """Values are literals: a parameter never becomes a piece of the query."""
    text = 'let since = 1d;\nlet name = "a";\nrequests | where name == name'

    assert (
        with_parameters('let a = 1; let b = "x;y";\nprint a', {"a": 2, "b": "z"}) == 'let a = 2; let b = "z";\nprint a'
    )
    assert with_parameters(text, {"since": timedelta(minutes=5)}).startswith("let since = timespan(00:05:00);")
    assert '"x\\"; requests"' in with_parameters(text, {"name": 'x"; requests'})
    with pytest.raises(QueryError, match="no value for the parameter since"):
        with_parameters(text, {"since": "1d; traces"})
    with pytest.raises(UnknownNameError, match="no parameter until"):
        with_parameters(text, {"until": "1d"})


def test_a_query_file_is_read(put, tmp_path):
    """By its path, as text with or without a BOM."""
    put(scoretrace.item.Trace(message="m"))
    file = tmp_path / "mine.kql"
    file.write_text("\ufefftraces | count", encoding="utf-8")

    assert scoretrace.query(file).rows == scoretrace.query(str(file)).rows == [(1,)]
    with pytest.raises(UnknownNameError, match=r"nope\.kql"):
        scoretrace.query("nope.kql")
    with pytest.raises(UnknownNameError, match="did you mean failures"):
        scoretrace.query("failurs")


def test_sampled_items_count_for_more(put):
    """ItemCount is what one row stands for."""
    put(msgspec.structs.replace(scoretrace.item.Trace(message="m"), item_count=4))

    assert scoretrace.query("traces | summarize sum(itemCount)").rows == [(4,)]


@given(value=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_string_parameter_is_one_string(value):
    """Whatever it holds, it stays inside its quotes."""
    text = with_parameters('let name = "a;b";\nprint name', {"name": value})

    head, between, tail = text.rpartition(";\nprint name")
    assert (between, tail) == (";\nprint name", "")
    assert head.startswith('let name = "')
    assert json.loads(head.removeprefix("let name = ")) == value
