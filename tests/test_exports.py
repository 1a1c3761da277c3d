"""Exports of every layout, read as items."""

import gzip
import json
import os
import resource
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from exported import APP, KEY, RESOURCE, blob, line, message, pt05m, pt1h, put, record
from scoretrace import ticks
from scoretrace.errors import FormatError, SourceError
from scoretrace.formats import continuous_export, diagnostics, usual_lines
from scoretrace.schema import BY_FOLDER, BY_KIND
from strategies import items as any_item

VALUE = {"value": 20_000.0, "count": 1.0, "min": 20_000.0, "max": 20_000.0, "stdDev": 0.0, "sampledValue": 20_000.0}
LINES = {
    "Messages": ({"raw": "m", "severityLevel": "Error", "count": 1}, {"message": "m", "severity_level": 3}),
    "Requests": (
        {
            "id": "r",
            "name": "GET",
            "count": 1,
            "responseCode": 200,
            "success": True,
            "url": "/",
            "durationMetric": VALUE,
        },
        {"id": "r", "result_code": "200", "success": True, "duration": 20_000},
    ),
    "RemoteDependency": (
        {"id": "d", "name": "n", "type": "SQL", "commandName": "select", "urlData": {"host": "h"}, "success": False},
        {"type": "SQL", "data": "select", "target": "h", "success": False},
    ),
    "Rdd": (
        {"name": "n", "dependencyTypeName": "HTTP", "url": "http://h/", "baseName": "h"},
        {"type": "HTTP", "data": "http://h/", "target": "h"},
    ),
    "Event": ({"name": "e", "count": 4}, {"name": "e", "item_count": 4}),
    "PageViews": ({"name": "v", "url": "/", "durationMetric": VALUE}, {"name": "v", "duration": 20_000}),
    "Availability": (
        {"testRunId": "t", "testName": "n", "runLocation": "l", "result": "Pass", "durationMetric": VALUE},
        {"id": "t", "name": "n", "location": "l", "success": True},
    ),
    "PerformanceCounters": (
        {"% Processor Time": {"value": 7.5}, "categoryName": "Process", "instanceName": "python"},
        {"counter": "% Processor Time", "value": 7.5, "category": "Process", "instance": "python"},
    ),
    "PageViewPerformance": (
        {"name": "v", "clientProcess": {"value": 10_000.0}, "total": {"value": 30_000.0}},
        {"processing_duration": 10_000, "total_duration": 30_000},
    ),
}
RECORDS = {
    "AppTraces": ({"Message": "m", "SeverityLevel": 3}, {"message": "m", "severity_level": 3}),
    "AppRequests": (
        {"Id": "r", "Success": True, "ResultCode": "200", "DurationMs": 98.4657},
        {"id": "r", "success": True, "result_code": "200", "duration": 984_657},
    ),
    "AppDependencies": ({"DependencyType": "SQL", "DurationMs": 231}, {"type": "SQL", "duration": 2_310_000}),
    "AppEvents": ({"Name": "e", "Measurements": {"n": 1.5}}, {"name": "e", "custom_measurements": {"n": 1.5}}),
    "AppMetrics": (
        {"Name": "m", "Sum": 13, "Min": 0.5, "Max": 13, "ItemCount": 3},
        {"name": "m", "value": 13.0, "value_sum": 13.0, "value_min": 0.5, "value_count": 3},
    ),
    "AppPageViews": ({"Name": "v", "DurationMs": 2}, {"name": "v", "duration": 20_000}),
    "AppAvailabilityResults": ({"Name": "t", "Success": False, "Location": "l"}, {"success": False, "location": "l"}),
    "AppPerformanceCounters": ({"Name": "n", "Counter": "c", "Value": 8}, {"counter": "c", "value": 8.0}),
    "AppBrowserTimings": ({"Name": "v", "TotalDurationMs": 3.5}, {"name": "v", "total_duration": 35_000}),
    "AppExceptions": (
        {"ProblemId": "E at m", "Details": [{"id": "1", "outerId": "0", "type": "E", "message": "x"}]},
        {"problem_id": "E at m"},
    ),
}  # fmt: skip


def read(source, **more):
    """All items of an export, and its summary."""
    export = scoretrace.read_export(source, **more)
    return list(export), export.summary


def has(item, expected):
    """Whether an item has some attributes."""
    return {name: getattr(item, name) for name in expected} == expected


@pytest.mark.parametrize("folder", LINES)
def test_every_type_of_a_continuous_export_is_read(tmp_path, folder):
    """From its folder, with its common columns, and whose it is."""
    first, expected = LINES[folder]
    put(tmp_path, blob(folder), line(folder, first))

    (item,), _ = read(tmp_path)

    common = {"timestamp": ticks.from_iso("2026-11-01T10:00:00.1234567Z"), "operation_id": "op", "unparsed": {}}
    assert item.kind == BY_FOLDER[folder].kind
    assert has(item, expected | common | {"app_name": "team", "i_key": KEY, "cloud_role_name": "score"})
    assert item.custom_dimensions == {"model": "m"}


@pytest.mark.parametrize("table", RECORDS)
def test_every_table_of_a_diagnostic_setting_is_read(tmp_path, table):
    """The same items, of the workspace columns."""
    columns, expected = RECORDS[table]
    put(tmp_path, pt1h(table.lower()), record(table, **columns))

    (item,), _ = read(tmp_path)

    assert has(item, expected | {"resource_id": RESOURCE, "i_key": KEY, "operation_id": "op", "unparsed": {}})
    assert item.timestamp == ticks.from_iso("2026-11-01T10:00:00.1234567Z")
    assert item.custom_dimensions == {"model": "m"}


def test_both_generations_of_exceptions_have_their_chain():
    """A summary with a chain behind it, and one element with all."""
    link = {"id": "1", "outerId": "0", "typeName": "E", "message": "x", "parsedStack": [{"method": "m", "level": 0}]}
    newer = [{"id": "Representative", "exceptionType": "E", "exceptionGroup": "E at m"}, link]
    older = [{**link, "problemId": "E at m", "handledAt": "UserCode"}]

    for root in (newer, older):
        (item,) = continuous_export.decode(line("Exceptions", root))
        assert (item.problem_id, item.type) == ("E at m", "E")
        assert [(thrown.type_name, thrown.parsed_stack[0].method) for thrown in item.details] == [("E", "m")]


@given(item=any_item(kinds=("trace", "request", "dependency", "event", "page_view", "availability", "browser_timing")))
def test_usual_lines_are_read_as_any_line_is(item):
    """The fast way makes the same item, or says that it cannot."""
    text = continuous_export.encode(item)
    try:
        found = usual_lines.reader(BY_KIND[item.kind])(text, "app", "key")
    except usual_lines.UNUSUAL:
        return
    assert found == list(continuous_export.decode(text, "app", "key"))


@given(
    dimensions=st.lists(
        st.dictionaries(st.text(max_size=5), st.sampled_from(['"},{"', '\\"},{"a', "", "b"]), max_size=2)
    )
)
def test_dimensions_are_merged_whatever_they_hold(dimensions):
    """Text that looks like the end of an object is text."""
    (item,) = continuous_export.decode(message(dimensions=dimensions))
    try:
        (found,) = usual_lines.reader(BY_KIND["trace"])(message(dimensions=dimensions), "", "")
    except usual_lines.UNUSUAL:
        return
    assert found.custom_dimensions == item.custom_dimensions == {k: v for pair in dimensions for k, v in pair.items()}


def test_a_value_of_a_wrong_type_is_kept_as_text():
    """The row stays, and so does what was there."""
    text = message(first={"count": "many", "severityLevel": {"a": 1}}, data={"eventTime": "yesterday"})
    (item,) = continuous_export.decode(text)
    (other,) = diagnostics.decode(record("AppRequests", Success="maybe", DurationMs="fast", ItemCount=[]))

    assert item.unparsed == {"timestamp": "yesterday", "itemCount": "many", "severityLevel": '{"a":1}'}
    assert (item.message, item.timestamp, item.severity_level, item.item_count) == ("message 0", None, None, 1)
    assert other.unparsed == {"success": "maybe", "duration": "fast", "itemCount": "[]"}


def test_the_first_of_all_times_is_none():
    """0001-01-01 is how an export says that there is none."""
    (item,) = continuous_export.decode(message(time="0001-01-01T00:00:00Z"))

    assert (item.timestamp, item.unparsed) == (None, {})


@pytest.mark.parametrize("records", [["AppTraces", "AppRequests"], ["AppTraces"]])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_message_of_an_event_hub_is_its_records(tmp_path, records, indent):
    """In one line or in many, with tables of all kinds."""
    message_of = {"records": [json.loads(record(kind)) for kind in records]}
    put(tmp_path, "hub/message.json", json.dumps(message_of, indent=indent).encode())

    found, summary = read(tmp_path)

    assert [f"App{type(item).__name__}s" for item in found] == records
    assert summary.set_aside == 0
    assert read(tmp_path, tables="AppRequests")[1].rows == len(records) - 1


def test_a_data_export_is_read_in_all_its_parts(tmp_path):
    """PT05M.json, and what follows when that has too many appends; its time is TimeGenerated."""
    for number in ("", "_1"):
        put(
            tmp_path,
            pt05m(number=number),
            record(time=None, TimeGenerated="2026-11-01T10:07:00Z", Message=f"m{number}"),
        )

    found, _ = read(tmp_path)

    assert sorted(item.message for item in found) == ["m", "m_1"]
    assert {ticks.to_iso(item.timestamp) for item in found} == {"2026-11-01T10:07:00.0000000Z"}


@pytest.mark.parametrize("change", [
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"\n", b"\r\n"),
    gzip.compress,
    lambda text: text.rstrip(b"\n"),
    lambda text: b"\n \n" + text,
])  # fmt: skip
def test_what_is_no_part_of_a_row_does_no_harm(tmp_path, change):
    """A byte order mark, line ends of Windows, compression, no newline at the end, empty lines."""
    put(tmp_path, blob(), change(message(1) + message(2)))

    found, summary = read(tmp_path)

    assert [item.message for item in found] == ["message 1", "message 2"]
    assert (summary.set_aside, summary.unfinished, summary.rows) == (0, 0, 2)


BAD = {
    "a torn line": message(7)[:100] + b"\n",
    "a line of NULs": b"\0" * 50 + b"\n",
    "an array": b"[1, 2]\n",
    "invalid UTF-8": message(7).replace(b"message", b"\xff\xfe", 1),
    "another root": b'{"sessionmetric":[{}],"context":{}}\n',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_line_that_is_none_is_set_aside(tmp_path, bad):
    """With its blob, number and reason; every other row is read."""
    path = put(tmp_path, blob(), message(1), bad, message(2))

    found, summary = read(tmp_path, quarantine=tmp_path / "q")

    assert [item.message for item in found] == ["message 1", "message 2"]
    assert summary.set_aside == sum(summary.reasons.values()) == 1
    (file,) = summary.quarantine
    (row,) = map(json.loads, file.read_text().splitlines())
    assert (row["blob"], row["line"]) == (path.as_posix(), 2)
    assert row["reason"]
    assert row["text"] == bad.rstrip(b"\n").decode("utf-8", "backslashreplace")


def test_reading_twice_sets_aside_once(tmp_path):
    """The file of a blob is written anew."""
    put(tmp_path, blob(), message(1), b"oops\n")

    files = [read(tmp_path, quarantine=tmp_path / "q")[1].quarantine for _ in range(2)]

    assert files[0] == files[1] == tuple((tmp_path / "q").iterdir())
    assert len(files[0][0].read_text().splitlines()) == 1


def test_a_row_of_another_table_is_set_aside(tmp_path):
    """A container is one table's; a row in the wrong one is not passed over in silence."""
    put(tmp_path, pt1h(), record(), record("AppRequests"))

    found, summary = read(tmp_path, quarantine=tmp_path / "q")

    assert (len(found), summary.set_aside) == (1, 1)
    assert scoretrace.read_export(tmp_path, quarantine=tmp_path / "q").examine("traces").set_aside == 1


def test_rows_without_a_time_are_counted_where_times_are_asked_for(tmp_path):
    """Nobody can say whether they belong there."""
    put(tmp_path, blob(), message(1), message(2, time="yesterday"))

    found, summary = read(tmp_path, since="2026-01-01")

    assert (len(found), summary.undated) == (1, 1)
    examined = scoretrace.read_export(tmp_path, since="2026-01-01").examine("traces")
    assert (examined.rows, examined.undated) == (1, 1)


@pytest.mark.parametrize(
    "more", [{"until": "2026-11-02", "bookmark": "mark"}, {"since": "2026-11-02", "until": "2026-11-01"}]
)
def test_what_would_lose_rows_or_find_none_is_refused(tmp_path, more):
    """Before anything is read."""
    put(tmp_path, blob(), message(1))

    with pytest.raises(ValueError, match="until"):
        scoretrace.read_export(tmp_path, **more)


def test_a_record_of_another_service_is_set_aside(tmp_path):
    """Other categories may be in the same container."""
    put(tmp_path, pt1h(), record("AppTraces"), record("StorageBlobLogs"))

    found, summary = read(tmp_path, quarantine=tmp_path / "q")

    assert (len(found), summary.set_aside) == (1, 1)


def test_a_row_that_was_exported_twice_is_counted_and_dropped_on_request(tmp_path):
    """By its id, or by the whole record where it has none."""
    put(tmp_path, blob(), message(1), message(2), message(1))
    put(tmp_path, pt1h(), record(Message="a"), record(Message="b"), record(Message="a"))

    assert read(tmp_path)[1][2:4] == (6, 2)
    found, summary = read(tmp_path, drop_repeats=True)
    assert summary[2:4] == (4, 2)
    assert sorted(item.message for item in found) == ["a", "b", "message 1", "message 2"]


@given(numbers=st.lists(st.integers(0, 30)))
def test_repeats_are_counted_beyond_memory(numbers):
    """What is written down is compared as what is not."""
    from scoretrace import repeats

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_IN_MEMORY", 4)
        counted, dropped = repeats.Counted(), repeats.Dropped()
        for number in numbers:
            counted.add([str(number)])
            dropped.is_new(str(number))
    assert counted.repeated == dropped.repeated == len(numbers) - len(set(numbers))


def test_times_are_those_of_the_rows(tmp_path):
    """From, and before; folders are of when rows were delivered, which may be two days later."""
    put(tmp_path, blob(day="2026-11-01"), message(1, time="2026-11-01T10:00:00Z"))
    put(
        tmp_path,
        blob(day="2026-11-03", hour="09"),
        message(2, time="2026-11-01T10:30:00Z"),
        message(3, time="2026-11-03T09:00:00Z"),
    )
    put(tmp_path, blob(day="2026-11-09"), b"never opened\n")

    found, summary = read(tmp_path, since="2026-11-01T10:00", until="2026-11-01T11:00")

    assert [item.message for item in found] == ["message 1", "message 2"]
    assert (summary.blobs, summary.set_aside) == (2, 0)


def test_only_the_tables_that_were_asked_for_are_opened(tmp_path):
    """By any of their names."""
    put(tmp_path, blob(), message(1))
    put(tmp_path, blob("Requests"), b"never opened\n")

    for name in ("traces", "AppTraces", "Messages", "trace"):
        assert read(tmp_path, tables=[name])[1][:3:2] == (1, 1)
    with pytest.raises(ValueError, match="did you mean traces"):
        scoretrace.read_export(tmp_path, tables="trces")


def test_a_foreign_record_costs_only_itself(tmp_path):
    """In a message of an Event Hub, on one line without an end."""
    records = [json.loads(record()), {"Type": "Other"}, json.loads(record(Message="b"))]
    put(tmp_path, "hub/a.json", json.dumps({"records": records}).encode())

    found, summary = read(tmp_path, quarantine=tmp_path / "q")

    assert ([item.message for item in found], summary.set_aside, summary.unfinished) == (["message 0", "b"], 1, 0)


def test_a_torn_first_line_costs_only_itself(tmp_path):
    """Of messages a line each; and of a file whose path says nothing."""
    whole = json.dumps({"records": [json.loads(record())]}).encode() + b"\n"
    put(tmp_path, "hub/a.json", whole[:40] + b"\n", whole, whole)
    put(tmp_path, "odd/b.json", message(1)[:40] + b"\n", message(2))

    found, summary = read(tmp_path, quarantine=tmp_path / "q")

    assert (len(found), summary.set_aside) == (3, 2)


def test_keys_may_have_any_order(tmp_path):
    """The root last, in a file whose path says nothing."""
    row = json.loads(message(1))
    put(tmp_path, "odd/a.json", json.dumps(dict(reversed(row.items()))).encode() + b"\n")

    assert len(read(tmp_path)[0]) == 1


def test_a_folder_may_be_called_like_a_table(tmp_path):
    """It is one where an application's exports are, or days."""
    put(tmp_path, f"Metrics/{blob()}", message(1))
    put(tmp_path, f"Event/{blob(hour='11')}", message(2))

    assert len(read(tmp_path, tables="traces")[0]) == 2
    assert len(read(tmp_path / "Metrics" / APP / "Messages")[0]) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
def test_a_line_that_is_too_long_is_set_aside_in_little_memory(tmp_path):
    """200 MB without a newline; the rows around it are read."""
    path = put(tmp_path, blob(), message(1))
    with path.open("ab") as file:
        for _ in range(200):
            file.write(b"x" * 1024**2)
        file.write(b"\n" + message(2))
    code = f"""
    import scoretrace
    export = scoretrace.read_export({str(tmp_path)!r}, quarantine={str(tmp_path / "q")!r})
    found = [item.message for item in export]
    assert found == ["message 1", "message 2"], found
    assert export.summary.set_aside == 1
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 300 * 1024
    assert max(file.stat().st_size for file in (tmp_path / "q").iterdir()) < 1024**2


def test_memory_does_not_grow_with_what_is_read(tmp_path):
    """100,000 rows take as much as ten."""
    put(tmp_path, blob(), *map(message, range(100_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert sum(1 for _ in scoretrace.read_export(tmp_path)) == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_keys_that_no_column_has_are_named(tmp_path):
    """Never fatal, and not silent."""
    put(tmp_path, blob(), message(first={"mood": 1}, weather={"rain": 1}))
    put(tmp_path, pt1h(), record(NewColumn=1))

    found, summary = read(tmp_path)

    assert len(found) == 2
    assert set(summary.unknown) == {"message.mood", "context.weather.rain", "NewColumn"}


def test_documented_keys_are_known(tmp_path):
    """What a real row has, and a table has not, is nothing to speak of."""
    for folder, (first, _) in LINES.items():
        put(tmp_path, blob(folder), line(folder, first))

    assert read(tmp_path)[1].unknown == {}


def test_a_blob_that_cannot_be_read_is_named(tmp_path):
    """The others are read."""
    broken = put(tmp_path, blob(name="broken"), gzip.compress(message(1) * 1_000)[:-20])
    put(tmp_path, blob(name="good"), message(2))

    found, summary = read(tmp_path)

    assert "message 2" in {item.message for item in found}
    assert "broken gzip" in summary.failed[broken.as_posix()]


def test_a_blob_that_is_gone_meanwhile_is_named(tmp_path):
    """Retention may remove one while others are read."""
    put(tmp_path, blob(name="a"), message(1))
    gone = put(tmp_path, blob(name="b"), message(2))
    export = scoretrace.read_export(tmp_path)
    found = iter(export)

    assert next(found).message == "message 1"
    gone.unlink()
    assert list(found) == []
    assert gone.as_posix() in export.summary.failed


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _root: None, "known are a continuous export .*PT1H.json.*PT05M.json"),
        (lambda root: put(root, "notes.json", b'{"a": 1}\n'), "known are a continuous export"),
        (lambda root: put(root, "pictures/cat.blob", b"meow\n"), "known are a continuous export"),
    ],
)
def test_a_folder_without_exports_says_which_are_known(tmp_path, make, said):
    """Whatever else is in it."""
    make(tmp_path)

    with pytest.raises(SourceError, match=said):
        scoretrace.read_export(tmp_path)


def test_a_home_without_rows_is_empty_and_no_error(telemetry, home):
    """Nothing was logged yet."""
    assert list(scoretrace.read_export(home)) == []


def test_what_this_process_logged_is_an_export(telemetry, home):
    """The journal is one."""
    telemetry.send(scoretrace.item.Trace(message="mine"))

    assert "mine" in {item.message for item in scoretrace.read_export(home, since=timedelta(hours=1))}


def test_any_line_is_an_item_or_is_set_aside(tmp_path_factory):
    """Whatever bytes there are, nothing is raised, and nothing lost uncounted."""

    @given(
        lines=st.lists(
            st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" ")) | st.just(message(1).rstrip())
        )
    )
    def check(lines):
        root = tmp_path_factory.mktemp("any")
        put(root, blob(), *(text + b"\n" for text in lines))
        found, summary = read(root, quarantine=root / "q")
        whole = [text for text in lines if text.strip()]
        assert len(found) == sum(text == message(1).rstrip() for text in whole)
        assert summary.rows + summary.set_aside == len(whole)

    check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_blob_that_may_not_be_read_is_named(tmp_path):
    """With the reason."""
    path = put(tmp_path, blob(), message(1))
    path.chmod(0)

    assert "ermission" in read(tmp_path)[1].failed[path.as_posix()]


@given(junk=st.binary(max_size=200))
def test_junk_is_no_record(junk):
    """Bytes that are none raise FormatError and nothing else."""
    with pytest.raises(FormatError):
        diagnostics.decode(junk)


def test_the_app_of_a_path_is_whose_rows_they_are(tmp_path):
    """A folder may have the exports of several."""
    put(tmp_path, blob(), message(1))
    put(tmp_path, blob().replace(APP, f"other_{KEY}"), message(2))

    assert {(item.message, item.app_name) for item in read(tmp_path)[0]} == {
        ("message 1", "team"),
        ("message 2", "other"),
    }
