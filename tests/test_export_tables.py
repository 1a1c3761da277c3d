"""Exports as tables: what DuckDB, pandas, polars and pyarrow get of them."""

import gzip
import json
from datetime import datetime, timezone

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from exported import RESOURCE, blob, line, message, pt05m, pt1h, put, record
from scoretrace import ticks
from scoretrace.formats import continuous_export
from scoretrace.schema import BY_KIND, TABLES
from strategies import items as any_item
from test_exports import BAD, LINES, RECORDS

NANOSECONDS = (ticks.from_iso("1700-01-01T00:00:00Z"), ticks.from_iso("2200-01-01T00:00:00Z"))


@pytest.fixture
def connection():
    with duckdb.connect() as found:
        yield found


def rows(relation, columns):
    return relation.project(columns).fetchall()


def test_all_layouts_are_one_table(tmp_path, connection):
    """With the classic names and values, whatever wrote them."""
    put(tmp_path, blob(), message(0))
    put(tmp_path, pt1h(), record())
    put(tmp_path, pt05m(), record(time=None, TimeGenerated="2026-11-01T10:00:00.1234567Z"))
    put(
        tmp_path,
        "hub/a.json",
        json.dumps({"records": [json.loads(record()), json.loads(record("AppRequests"))]}).encode(),
    )

    traces = scoretrace.read_export(tmp_path).relation("traces", connection=connection)

    columns = "epoch_ns(timestamp), message, severityLevel, operation_Id, cloud_RoleName, customDimensions, itemCount"
    expected = (1793527200123456700, "message 0", 2, "op", "score", '{"model":"m"}', 1)
    assert rows(traces, columns) == [expected] * 4
    assert set(rows(traces.filter("\"_ResourceId\" <> ''"), '"appName"')) == {(RESOURCE,)}


def test_a_workspace_table_has_its_own_names_and_types(tmp_path, connection):
    """Success is a bool there, and no column is lost but those that a workspace has none for."""
    put(tmp_path, blob("Requests"), line("Requests", LINES["Requests"][0]))
    put(tmp_path, pt1h("apprequests"), record("AppRequests", **RECORDS["AppRequests"][0]))

    requests = scoretrace.read_export(tmp_path).relation("AppRequests", connection=connection)

    found = rows(requests, "Id, Success, ResultCode, DurationMs")
    assert sorted(found) == [("r", True, "200", 2.0), ("r", True, "200", 98.4657)]
    columns = {column.workspace for column in BY_KIND["request"].all_columns if column.workspace}
    assert set(requests.columns) == columns | {"unparsed"}


@pytest.mark.parametrize("table", RECORDS)
def test_a_record_shows_what_its_item_holds(tmp_path, connection, table):
    """In a table as one by one."""
    columns, expected = RECORDS[table]
    put(tmp_path, pt1h(table.lower()), record(table, **columns))
    export = scoretrace.read_export(tmp_path, tables=table)

    (row,) = export.relation(connection=connection).to_arrow_table().to_pylist()

    (item,) = export
    names = {column.field: column for column in BY_KIND[item.kind].all_columns}
    for name in expected:
        value, column = getattr(item, name), names[name]
        if name.endswith("duration"):
            value = value / 10_000
        if name == "success":
            value = str(int(value)) if column.form == "pass" else str(value)
        if name == "custom_measurements":
            value = json.dumps(value, separators=(",", ":"))
        assert row[column.classic] == value


@settings(max_examples=50, deadline=None)
@given(item=any_item())
def test_a_line_shows_what_its_item_holds(tmp_path_factory, item):
    """Any item, to the last 100 ns."""
    root = tmp_path_factory.mktemp("any")
    table = BY_KIND[item.kind]
    put(root, blob(table.folder), continuous_export.encode(item))

    with duckdb.connect() as connection:
        relation = scoretrace.read_export(root).relation(table.classic, connection=connection)
        found = rows(relation, 'epoch_ns(timestamp), "itemId", "itemCount", "operation_Id", unparsed')

    is_kept = item.timestamp is not None and NANOSECONDS[0] < item.timestamp < NANOSECONDS[1]
    if item.timestamp is None or is_kept:
        moment = item.timestamp * 100 if is_kept else None
        assert found == [(moment, item.item_id, item.item_count, item.operation_id, None)]


def test_a_time_that_nanoseconds_do_not_reach_is_text(tmp_path, connection):
    """Nobody's telemetry, but no reason to lose a row."""
    put(tmp_path, blob(), message(0, time="3026-11-01T10:00:00Z"))

    traces = scoretrace.read_export(tmp_path).relation("traces", connection=connection)

    assert rows(traces, "timestamp, unparsed->>'timestamp'") == [(None, "3026-11-01T10:00:00Z")]


@pytest.mark.parametrize("zone", ["Z", "", "+05:30", "-0800"])
def test_a_time_with_an_offset_is_in_utc(tmp_path, connection, zone):
    """In tables, in queries, and in items."""
    put(tmp_path, blob(), message(1, time=f"2026-11-01T10:00:00.1234567{zone}"))
    export = scoretrace.read_export(tmp_path, tables="traces")

    (item,) = export
    ((nanoseconds,),) = rows(export.relation(connection=connection), "epoch_ns(timestamp)")
    ((queried,),) = scoretrace.query("traces | project timestamp", source=tmp_path).rows

    assert nanoseconds == item.timestamp * 100
    assert queried.timestamp() == pytest.approx(item.timestamp / 1e7, abs=1e-6)


def test_a_message_of_many_records_is_read_wherever_it_lies(tmp_path, connection):
    """In a blob of a diagnostic setting too, on one line without an end."""
    put(tmp_path, pt1h(), json.dumps({"records": [json.loads(record(Message=text)) for text in "abc"]}).encode())
    export = scoretrace.read_export(tmp_path)

    assert rows(export.relation("traces", connection=connection), "message") == [("a",), ("b",), ("c",)]
    assert [item.message for item in export] == ["a", "b", "c"]


def test_a_blob_that_cannot_be_read_is_named(tmp_path, connection):
    """Each time, with the same reason; the others are read."""
    broken = put(tmp_path, blob(name="broken"), gzip.compress(message(1) * 1_000)[:-20])
    put(tmp_path, blob(), message(2))
    export = scoretrace.read_export(tmp_path)

    for _ in range(2):
        assert rows(export.relation("traces", connection=connection), "message") == [("message 2",)]
    assert "broken gzip" in export.examine("traces").failed[broken.as_posix()]


def test_dimensions_that_are_no_objects_are_text(tmp_path, connection):
    """One odd row stops no table."""
    put(tmp_path, blob(), message(1, dimensions=[1, "a"]), message(2))
    traces = scoretrace.read_export(tmp_path).relation("traces", connection=connection)

    (odd, usual) = rows(traces, "customDimensions, unparsed->>'customDimensions'")

    assert odd == (None, '[1,"a"]')
    assert usual == ('{"model":"m"}', None)


@pytest.mark.parametrize("root", ["[null]", '{"raw":"m"}', '"m"'])
def test_a_root_that_is_no_row_is_none_in_tables_too(tmp_path, connection, root):
    """It is set aside once, and not a row of nothing."""
    put(tmp_path, blob(), message(1), f'{{"message":{root},"context":{{}}}}\n'.encode())
    export = scoretrace.read_export(tmp_path, quarantine=tmp_path / "q")

    assert len(rows(export.relation("traces", connection=connection), "message")) == len(list(export)) == 1
    assert export.examine("traces")[2:5] == (1, 0, 1)


def test_what_a_frame_left_out_is_in_the_summary(tmp_path):
    """Without being asked for."""
    put(tmp_path, blob(), message(1), b"oops\n")
    export = scoretrace.read_export(tmp_path, quarantine=tmp_path / "q")

    assert len(export.df("traces")) == 1
    assert (export.summary.rows, export.summary.set_aside, len(export.summary.quarantine)) == (1, 1, 1)


@pytest.mark.parametrize("folder", ["da*", "da?", "da[b]"])
def test_a_folder_of_any_name_is_just_that_folder(tmp_path, connection, folder):
    """And no pattern."""
    put(tmp_path / folder, blob(), message(1))
    put(tmp_path / "dab", blob(), message(2))

    traces = scoretrace.read_export(tmp_path / folder).relation("traces", connection=connection)

    assert rows(traces, "message") == [("message 1",)]


def test_times_beyond_nanoseconds_limit_nothing(tmp_path, connection):
    """From the first day to the last."""
    put(tmp_path, blob(), message(1))
    export = scoretrace.read_export(tmp_path, since="0001-01-01", until="9999-12-31")

    assert len(rows(export.relation("traces", connection=connection), "message")) == 1


def test_a_dimension_that_comes_late_is_there(tmp_path, connection):
    """Readers that guess a schema from the beginning lose it."""
    late = message(25_001, dimensions=[{"model": "m"}, {"late": "yes"}])
    put(tmp_path, blob(), *map(message, range(25_000)), late)

    traces = scoretrace.read_export(tmp_path).relation("traces", connection=connection)

    assert rows(traces.filter("customDimensions->>'late' = 'yes'"), '"itemId"') == [
        ("000061a9-0000-4000-8000-000000000000",)
    ]


def test_a_value_of_a_wrong_type_is_kept_as_text(tmp_path, connection):
    """In `unparsed`, by the name of its column; the row stays."""
    put(tmp_path, blob(), message(first={"count": "many", "severityLevel": {"a": 1}}, data={"eventTime": "yesterday"}))
    put(tmp_path, pt1h("apprequests"), record("AppRequests", Success="maybe", DurationMs="fast", ItemCount=[]))
    export = scoretrace.read_export(tmp_path)

    traces = rows(export.relation("traces", connection=connection), "message, timestamp, severityLevel, unparsed")
    requests = rows(export.relation("requests", connection=connection), "success, duration, itemCount, unparsed")

    assert traces[0][:3] == ("message 0", None, None)
    assert json.loads(traces[0][3]) == {"timestamp": "yesterday", "itemCount": "many", "severityLevel": '{"a":1}'}
    assert requests[0][:3] == ("", None, 1)
    assert json.loads(requests[0][3]) == {"success": "maybe", "duration": "fast", "itemCount": "[]"}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_line_that_is_none_stops_nothing(tmp_path, connection, bad):
    """The table has every other row, and a second look sets it aside."""
    put(tmp_path, blob(), message(1), bad, message(2))
    put(tmp_path, pt1h(), record(), bad, record(Message="b"))
    export = scoretrace.read_export(tmp_path, quarantine=tmp_path / "q")

    assert len(rows(export.relation("traces", connection=connection), "message")) == 4
    summary = export.examine("traces")
    assert (summary.rows, summary.set_aside, len(summary.quarantine)) == (4, 2, 2)


def test_a_last_line_that_is_not_whole_yet_is_no_loss(tmp_path, connection):
    """It is not set aside, and not a row."""
    put(tmp_path, blob(), message(1), message(2)[:-20])
    export = scoretrace.read_export(tmp_path)

    assert len(rows(export.relation("traces", connection=connection), "message")) == 1
    assert export.examine("traces")[2:6] == (1, 0, 0, 1)


@pytest.mark.parametrize("change", [
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"\n", b"\r\n"),
    gzip.compress,
    lambda text: text.rstrip(b"\n"),
    lambda text: text.replace(b"\n", b"\n" + b"x" * 90_000_000 + b"\n", 1),
])  # fmt: skip
def test_what_stops_duckdb_stops_no_table(tmp_path, connection, change):
    """A byte order mark, line ends of Windows, compression, no newline at the end, a line of 90 MB."""
    put(tmp_path, blob(), change(message(1) + message(2)))

    export = scoretrace.read_export(tmp_path)

    found = rows(export.relation("traces", connection=connection), 'message, "appName"')
    assert found == [("message 1", "team"), ("message 2", "team")]


def test_repeats_are_counted_and_dropped_on_request(tmp_path, connection):
    """By item id, or by the whole row where there is none."""
    put(tmp_path, blob(), message(1), message(2), message(1))
    put(tmp_path, pt1h(), record(Message="a"), record(Message="b"), record(Message="a"))

    export = scoretrace.read_export(tmp_path)
    dropped = scoretrace.read_export(tmp_path, drop_repeats=True)

    assert export.examine("traces")[2:4] == (6, 2)
    assert dropped.examine("traces")[2:4] == (4, 2)
    assert sorted(rows(dropped.relation("traces", connection=connection), "message")) == [
        ("a",), ("b",), ("message 1",), ("message 2",)
    ]  # fmt: skip


def test_metrics_of_one_line_are_no_repeats(tmp_path):
    """They share its id."""
    custom = {"dimensions": [], "metrics": [{"a": {"value": 1.0}}, {"b": {"value": 1.0}}]}
    put(tmp_path, blob("Metrics"), line("Metrics", [], custom=custom))

    assert scoretrace.read_export(tmp_path).examine("customMetrics")[2:4] == (2, 0)


def test_times_are_those_of_the_rows(tmp_path, connection):
    """From, and before, to the nanosecond."""
    times = [f"2026-11-01T10:00:00.{number:07d}Z" for number in range(4)]
    put(tmp_path, blob(), *(message(number, time=time) for number, time in enumerate(times)))
    moment = datetime(2026, 11, 1, 10, tzinfo=timezone.utc)

    export = scoretrace.read_export(tmp_path, since=moment, until="2026-11-01T10:00:00.000001")

    assert len(rows(export.relation("traces", connection=connection), "message")) == len(list(export)) == 4
    later = scoretrace.read_export(tmp_path, since="2026-11-01T10:00:01")
    assert len(rows(later.relation("traces", connection=connection), "message")) == len(list(later)) == 0


def test_a_bookmark_gives_a_table_of_what_is_new(tmp_path, connection):
    """As far as lines were whole then; `remember` says that they have been had."""
    path = put(tmp_path, blob(), message(1), message(2)[:50])
    mark = tmp_path / "mark.json"

    def found():
        export = scoretrace.read_export(tmp_path, bookmark=mark)
        messages = [row[0] for row in rows(export.relation("traces", connection=connection), "message")]
        return export, messages

    assert found()[1] == ["message 1"]
    export, messages = found()
    export.remember()
    path.write_bytes(message(1) + message(2) + message(3))
    assert (messages, found()[1]) == (["message 1"], ["message 2", "message 3"])
    assert [item.message for item in scoretrace.read_export(tmp_path, bookmark=mark)] == ["message 2", "message 3"]


def test_frames_of_every_library_keep_100_ns(tmp_path):
    """pandas, polars, pyarrow, and Parquet."""
    put(tmp_path, blob(), message(1))
    with scoretrace.read_export(tmp_path, tables="traces") as export:
        moments = [
            export.df()["timestamp"].astype("int64")[0],
            export.pl()["timestamp"].dt.epoch("ns")[0],
            export.arrow()["timestamp"].cast("int64")[0].as_py(),
        ]
        (path,) = export.to_parquet(tmp_path / "out")

    assert moments == [1793527200123456700] * 3
    assert path.name == "traces.parquet"
    assert duckdb.sql(f"SELECT epoch_ns(timestamp), message FROM '{path}'").fetchall() == [(moments[0], "message 1")]


def test_parquet_has_the_tables_that_have_rows(tmp_path):
    """A file each, and nothing else."""
    for folder, (first, _) in LINES.items():
        put(tmp_path, blob(folder), line(folder, first))

    found = scoretrace.read_export(tmp_path).to_parquet(tmp_path / "out")

    assert {path.stem for path in found} == {table.classic for table in TABLES} - {"exceptions", "customMetrics"}
    assert set(found) == set((tmp_path / "out").iterdir())


def test_a_table_has_to_be_named(tmp_path):
    """Unless one was asked for."""
    put(tmp_path, blob(), message(1))

    with pytest.raises(ValueError, match="name a table"):
        scoretrace.read_export(tmp_path).relation()
    with pytest.raises(ValueError, match="there is no table nope"):
        scoretrace.read_export(tmp_path).relation("nope")


def test_queries_read_every_layout(tmp_path):
    """Kusto over a diagnostic setting is Kusto over a journal."""
    put(tmp_path, pt1h(), record(), record(Message="b"))
    put(tmp_path, blob(), message(5), b"oops\n")

    result = scoretrace.query("traces | summarize n = count() by tostring(customDimensions.model)", source=tmp_path)

    assert result.rows == [("m", 3)]
    assert list(result.unreadable.values()) == [1]


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_a_table_and_the_items_have_the_same_rows(tmp_path_factory, texts):
    """In the same order."""
    root = tmp_path_factory.mktemp("any")
    put(root, pt1h(), *(record(Message=text) for text in texts))
    with duckdb.connect() as connection:
        export = scoretrace.read_export(root)
        found = [row[0] for row in rows(export.relation("traces", connection=connection), "message")]

    assert found == [item.message for item in export] == texts
