"""An item is the same in every layout."""

import json
import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoretrace import schema, ticks
from scoretrace.errors import FormatError
from scoretrace.formats import breeze, continuous_export, transcode
from scoretrace.item import KINDS, Request, Trace
from strategies import items, text

FORMATS = pytest.mark.parametrize("layout", [continuous_export, breeze], ids=["export", "envelope"])


@FORMATS
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_item(layout, data):
    """Nothing of an item of any kind is lost, to the last 100 ns."""
    item = data.draw(items())

    assert layout.decode(layout.encode(item)) == (item,)


@given(item=items())
def test_an_export_line_is_one_line(item):
    """Whatever text an item carries, its line has one newline, at the end."""
    line = continuous_export.encode(item)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@FORMATS
@given(
    junk=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | text,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["message", "metric", "request", "context", "data", "baseData", "baseType", "x"]), inner
            )
        ),
        max_leaves=8,
    ).map(msgspec.json.encode)
)
def test_junk_is_refused_by_name(layout, junk):
    """Bytes that are no row raise FormatError and nothing else."""
    try:
        layout.decode(junk)
    except FormatError:
        pass


def test_the_documented_request_line_reads_back():
    """A line in the shape of the documentation, with keys that we do not know, becomes the right request."""
    line = {
        "request": [
            {
                "id": "fCOhCd=", "name": "GET Home/Index", "count": 1, "responseCode": 200, "success": True,
                "url": "/", "urlData": {"base": "/", "host": "contoso.example", "hashTag": ""},
                "durationMetric": {"value": 1046804.0, "count": 1.0, "min": 1046804.0, "max": 1046804.0,
                                   "stdDev": 0.0, "sampledValue": 1046804.0, "sum": 1046804.0},
            }
        ],
        "internal": {"data": {"id": "7f156650", "documentVersion": "1.61"}},
        "context": {
            "device": {"type": "PC", "screenResolution": {}, "roleInstance": "web14"},
            "data": {"isSynthetic": True, "samplingRate": 100.0, "eventTime": "2016-03-21T10:05:45.7334717Z"},
            "location": {"clientip": "0.0.0.0"}, "cloud": {}, "user": {"anonAcquisitionDate": "0001-01-01T00:00:00Z"},
            "operation": {"id": "fCOhCd=", "parentId": "fCOhCd=", "name": "GET Home/Index"},
            "custom": {"dimensions": [{"a": "1"}, {"b": "2"}], "metrics": []},
        },
    }  # fmt: skip

    (item,) = continuous_export.decode(json.dumps(line).encode())

    assert item == Request(
        timestamp=ticks.from_iso("2016-03-21T10:05:45.7334717Z"), item_id="7f156650", id="fCOhCd=",
        name="GET Home/Index", url="/", success=True, result_code="200", duration=1_046_804, client_type="PC",
        client_ip="0.0.0.0",
        cloud_role_instance="web14", operation_id="fCOhCd=", operation_parent_id="fCOhCd=",
        operation_name="GET Home/Index", custom_dimensions={"a": "1", "b": "2"},
    )  # fmt: skip


def test_a_metric_line_gives_a_row_for_each_metric():
    """One export record may hold several metrics."""
    value = {"value": 2.0, "count": 4.0, "min": 0.5, "max": 1.0, "stdDev": 0.1, "sampledValue": 2.0, "sum": 2.0}
    line = {
        "metric": [],
        "internal": {"data": {"id": "m"}},
        "context": {"custom": {"metrics": [{"a": value}, {"b": value}]}},
    }

    found = continuous_export.decode(json.dumps(line).encode())

    assert [(item.name, item.value_count, item.value_sum) for item in found] == [("a", 4, 2.0), ("b", 4, 2.0)]


def test_sampling_is_carried_as_a_rate():
    """An item that stands for four has a sampling rate of 25 percent in both layouts."""
    item = Trace(message="m", item_count=4)

    assert json.loads(continuous_export.encode(item))["context"]["data"]["samplingRate"] == 25.0
    assert json.loads(breeze.encode(item))["sampleRate"] == 25.0


def test_an_envelope_without_an_operation_has_no_operation_tag():
    """A zero operation id would join every uncorrelated row into one operation."""
    assert json.loads(breeze.encode(Trace(message="m")))["tags"] == {}


@given(message=text, item=items(kinds=("trace",)))
def test_the_pieces_of_a_line_make_the_line(message, item):
    """The fast lane's line is the one that encode makes."""
    item = msgspec.structs.replace(
        item, custom_measurements={}, message=message, item_id="prefix-1", timestamp=ticks.SECOND
    )
    pieces = continuous_export.cut_open(msgspec.structs.replace(item, item_id="prefix-"))

    line = b"".join((
        pieces.to_message, continuous_export.json_text(message), pieces.to_id, b"1", pieces.to_time,
        ticks.to_iso(ticks.SECOND)[:-1].encode(), pieces.to_operation,
        continuous_export.operation(item.operation_id, item.operation_name, item.operation_parent_id), pieces.to_end,
    ))  # fmt: skip

    assert line == continuous_export.encode(item)


def test_every_kind_has_a_table_and_every_column_an_attribute():
    """The schema table and the items cannot drift apart."""
    derived = {"constant", "bucket"}
    for table in schema.TABLES:
        fields = set(KINDS[table.kind].__struct_fields__)
        columns = {column.field for column in table.all_columns if column.form not in derived}

        assert columns - {"name"} == fields - {"name", "unparsed"}


@given(moment=st.integers(ticks.NULL_TIME, ticks.from_iso("9999-12-31T23:59:59.9999999Z")))
def test_times_keep_100_ns(moment):
    """A time survives its text."""
    assert ticks.from_iso(ticks.to_iso(moment)) == moment


@given(duration=st.integers(0, 10**18))
def test_durations_keep_100_ns(duration):
    """A duration survives its text."""
    assert ticks.from_timespan(ticks.to_timespan(duration)) == duration


@pytest.mark.parametrize(
    ("given_text", "same"),
    [
        ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01 00:00:00.1", "2026-01-01T00:00:00.1000000Z"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.1234567Z"),
    ],
)
def test_times_are_read_in_every_usual_form(given_text, same):
    """Offsets, a missing zone, and any number of digits."""
    assert ticks.from_iso(given_text) == ticks.from_iso(same)


@pytest.mark.parametrize("wrong", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01"])
def test_what_is_no_time_is_refused(wrong):
    """The reader says what it could not read."""
    with pytest.raises(FormatError):
        ticks.from_iso(wrong)


def test_severities_follow_the_logging_levels():
    """The five severities of Application Insights, in the order of the levels."""
    from scoretrace.capture.handler import severity

    levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]

    assert [schema.SEVERITIES[severity(level)] for level in levels] == list(schema.SEVERITIES)
    assert (severity(0), severity(99)) == (0, 4)


USUAL = st.builds(
    Trace,
    message=text,
    severity_level=st.none() | st.integers(0, 4),
    timestamp=st.integers(0, 10**17),
    item_id=text,
    cloud_role_name=text,
    cloud_role_instance=text,
    application_version=text,
    operation_id=text,
    operation_name=text,
    operation_parent_id=text,
    custom_dimensions=st.dictionaries(text, text, max_size=4),
)


def _the_long_way(line):
    (item,) = continuous_export.decode(line)
    return json.loads(breeze.encode(msgspec.structs.replace(item, sdk_version=item.sdk_version or "py3:us"), "the key"))


@given(item=USUAL)
def test_a_usual_trace_takes_the_short_way(item):
    """From line to envelope without an item in between, and the same one."""
    line = continuous_export.encode(item)

    envelope, when = transcode.envelope(line, "the key", "py3:us")
    assert json.loads(envelope) == _the_long_way(line)
    assert when == ticks.to_iso(item.timestamp)


USUAL_REQUEST = st.builds(
    Request,
    timestamp=st.integers(ticks.from_iso("2020-01-01T00:00:00Z"), ticks.from_iso("2030-01-01T00:00:00Z")),
    item_id=text,
    id=text.filter(bool),
    name=text.filter(bool),
    url=text.filter(bool),
    success=st.booleans(),
    result_code=st.sampled_from(["200", "404", "007", "Faulted"]),
    duration=st.integers(0, 10**12),
    cloud_role_name=text,
    operation_id=text,
    operation_name=text,
    operation_parent_id=text,
    custom_dimensions=st.dictionaries(text, text, max_size=4),
)


@given(item=USUAL_REQUEST)
def test_a_usual_request_takes_the_short_way(item):
    """As most calls of a service are."""
    line = continuous_export.encode(item)

    envelope, _ = transcode.envelope(line, "the key", "py3:us")
    assert json.loads(envelope) == _the_long_way(line)


@given(item=USUAL_REQUEST, number=st.integers(10**11, 10**12 - 1))
def test_a_request_from_pieces_is_the_line_of_the_item(item, number):
    """Byte for byte what `encode` writes, where it is written from pieces at all."""
    same = {"item_id": "0de0c520-", "cloud_role_name": item.cloud_role_name, "cloud_role_instance": "i"}
    pieces = continuous_export.cut_open_request(Request(**same))
    bare = msgspec.structs.replace(item, item_id="", cloud_role_name="")
    line = continuous_export.request_line(pieces, bare, lambda: number)

    whole = msgspec.structs.replace(item, **{**same, "item_id": f"0de0c520-{number}"})
    assert line is None or line == continuous_export.encode(whole)


@given(item=items())
def test_what_takes_the_short_way_is_the_same(item):
    """Whatever the item is; all others take the long way."""
    line = continuous_export.encode(item)
    found = transcode.envelope(line, "the key", "py3:us")

    assert found is None or json.loads(found[0]) == _the_long_way(line)


@given(junk=st.binary(max_size=100))
def test_junk_takes_the_long_way(junk):
    """Where it is refused by name."""
    assert transcode.envelope(junk, "", "") is None
