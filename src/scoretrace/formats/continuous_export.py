"""
The Application Insights continuous export: one JSON object a line.

It is the format of the journal too, so that the file a log call appends to, the
store that queries read and the blob that Azure would have exported are one and
the same. Layout: export data model, documentVersion 1.61. Where the export has
no place for something an item carries (an SDK version, the source of a request,
the severity of an exception, the id of a page view) it gets a key of its own
beside the documented ones; readers of the format pass over keys they do not
know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from scoretrace import ticks
from scoretrace.errors import FormatError
from scoretrace.formats import parts, reading
from scoretrace.formats.reading import Reading
from scoretrace.item import KINDS, Counter, ExceptionItem, Item, Metric, Request, Thrown, Trace
from scoretrace.schema import BY_KIND, BY_ROOT, SEVERITIES, Table

DOCUMENT_VERSION = "1.61"

_encode = msgspec.json.Encoder().encode

Row = dict[str, Any]

_UNCOUNTED = {"metric", "counter", "browser_timing"}  # only the sampling rate says how many these stand for
_LINE_END = b'],"metrics":[]}}}\n'


def encode(item: Item) -> bytes:
    """
    The line of *item*, newline included.

    Its strings must be encodable as UTF-8 and its measurements finite, which
    the capture side sees to.
    """
    table = BY_KIND[item.kind]
    first: Row = {}
    context: Row = {
        "data": {
            "isSynthetic": bool(item.operation_synthetic_source),
            "samplingRate": 100.0 / item.item_count,
        },
        "operation": {},
    }
    internal: Row = {"id": item.item_id, "documentVersion": DOCUMENT_VERSION}
    places = {"root": first, "context": context, "internal": {"data": internal}}
    values_of, steps = _writing(table)
    for value, (root_key, path, last, write, may_be_empty) in zip(values_of(item), steps, strict=True):
        if value is None or (value == "" and not may_be_empty):
            continue
        place: Row = places[root_key]
        for step in path:
            place = place.setdefault(step, {})
        place[last] = write(value)
    root: list[Any] = [first]
    if isinstance(item, ExceptionItem):
        root = [{**first, "id": "Representative"}, *map(_write_thrown, item.details)]
    elif isinstance(item, Counter):
        first[item.counter] = {"value": item.value}
    elif isinstance(item, Metric):
        root = []
    context["custom"] = {
        "dimensions": [{key: value} for key, value in item.custom_dimensions.items()],
        "metrics": [_write_metric(item)]
        if isinstance(item, Metric)
        else [{key: _aggregate(value)} for key, value in item.custom_measurements.items()],
    }
    if table.kind not in _UNCOUNTED:
        first["count"] = item.item_count
    return _encode({table.root: root, "internal": places["internal"], "context": context}) + b"\n"


def decode(line: bytes, app_name: str = "", i_key: str = "") -> tuple[Item, ...]:
    """
    The items of a line: one, or one for each metric that a metric line carries.

    A line does not say whose it is; *app_name* and *i_key* are what its path says.

    Keys that are not in the data model are passed over, and what a column
    cannot take is in the item's `unparsed`.

    Raises:
        FormatError: the line is not JSON, or has no root array of a known type.
    """
    row = reading.json_object(line)
    table = next((BY_ROOT[key] for key in row if key in BY_ROOT), None)
    if table is None:
        raise FormatError(f"no row of a known type: its keys are {', '.join(row)[:200] or 'none'}")
    root = row[table.root]
    if not isinstance(root, list) or not all(isinstance(element, dict) for element in root):
        raise FormatError(f"no row of {table.classic}: {table.root} is no array of objects")
    first: Row = root[0] if root else {}
    found = Reading()
    found.values |= {"app_name": app_name, "i_key": i_key} if app_name else {}
    context, internal = found.part(row, "context"), found.part(row, "internal")
    places = {"root": first, "context": context, "internal": internal}
    for classic, field, path, older, read in _reading(table):
        value = reading.at(places, path)
        found.take(classic, field, reading.at(places, older) if value is None and older else value, read)
    found.take("itemCount", "item_count", reading.at(context, ("data", "samplingRate")), reading.count_of_rate)
    if table.kind not in _UNCOUNTED:
        found.take("itemCount", "item_count", first.get("count") or None, reading.count)
    custom = found.part(context, "custom")
    found.take("customDimensions", "custom_dimensions", custom.get("dimensions"), reading.dimensions)
    if table.kind == "metric":
        return tuple(_read_metrics(found, custom.get("metrics")))
    found.take("customMeasurements", "custom_measurements", custom.get("metrics"), reading.measurements)
    if table.kind == "exception":
        # Of two generations of documents the older one has all in the first element, and no chain behind it.
        is_older = len(root) == 1 and ("parsedStack" in first or "typeName" in first)
        found.take("details", "details", root if is_older else root[1:], reading.thrown)
    elif table.kind == "counter":
        name = next((key for key, value in first.items() if isinstance(value, dict)), None)
        if name is None:
            raise FormatError(f"no row of {table.classic}: no key of it has a value")
        found.values["counter"] = name
        found.take("value", "value", first[name].get("value"), reading.number)
    return (found.item(KINDS[table.kind]),)


class Pieces(NamedTuple):
    """A trace line cut open where it differs from call to call; see `cut_open`."""

    to_message: bytes
    to_id: bytes
    to_time: bytes
    to_operation: bytes
    to_end: bytes


def cut_open(item: Trace) -> Pieces:
    """
    The line of a trace like *item*, in pieces for whoever writes it many times.

    Between the pieces belong the message as JSON, the digits that follow the
    prefix in `item.item_id`, the time as ISO text without its Z, and an
    `operation`. The pieces come from `encode`, so that the format is defined
    once.
    """
    mark = "\u241f"
    probe = msgspec.structs.replace(
        item,
        message=mark,
        item_id=item.item_id + mark,
        timestamp=ticks.NULL_TIME,
        operation_id=mark,
        operation_name="",
        operation_parent_id="",
    )
    # Message, id, time and operation come before anything of the caller's own, so the first mark is the right one.
    to_message, rest = encode(probe).split(_encode(mark), 1)
    to_id, rest = rest.split(mark.encode(), 1)
    to_time, rest = rest.split(ticks.to_iso(ticks.NULL_TIME)[:-1].encode(), 1)
    to_operation, to_end = rest.split(operation(mark), 1)
    return Pieces(to_message, to_id, to_time, to_operation, to_end)


class RequestPieces(NamedTuple):
    """The line of a request cut open where it differs from call to call; see `cut_open_request`."""

    to_id: bytes
    to_name: bytes
    to_url: bytes
    to_success: bytes
    to_code: bytes
    to_durations: tuple[bytes, ...]
    to_item_id: bytes
    to_time: bytes
    to_operation: bytes
    to_dimensions: bytes
    to_end: bytes


_DURATION = 1_234_567  # of a probe; its text is nowhere else in a line


def cut_open_request(item: Request) -> RequestPieces:
    """The line of a request like *item*, in pieces for `request_line`; its `item_id` is the prefix of the ids."""
    mark = "\u241f"
    probe = msgspec.structs.replace(
        item,
        id=mark,
        name=mark,
        url=mark,
        success=True,
        result_code=mark,
        duration=_DURATION,
        item_id=item.item_id + mark,
        timestamp=ticks.NULL_TIME,
        operation_id=mark,
        custom_dimensions={mark: ""},
    )
    rest, text = encode(probe), _encode(mark)
    to_id, to_name, to_url, rest = rest.split(text, 3)
    to_success, rest = rest.split(b"true", 1)
    to_code, rest = rest.split(text, 1)
    *to_durations, rest = rest.split(_encode(float(_DURATION)))
    to_item_id, rest = rest.split(mark.encode(), 1)
    to_time, rest = rest.split(ticks.to_iso(ticks.NULL_TIME)[:-1].encode(), 1)
    to_operation, rest = rest.split(operation(mark), 1)
    to_dimensions, to_end = rest.split(_encode([{mark: ""}]), 1)
    return RequestPieces(
        to_id, to_name, to_url, to_success, to_code, tuple(to_durations), to_item_id, to_time, to_operation,
        to_dimensions, to_end,
    )  # fmt: skip


# What a call of a service seldom has. A request with any of it is not written from pieces.
_REST = (
    "item_id",
    "sdk_version",
    "application_version",
    "client_type",
    "client_model",
    "client_os",
    "client_browser",
    "client_ip",
    "client_city",
    "client_state_or_province",
    "client_country_or_region",
    "cloud_role_name",
    "cloud_role_instance",
    "operation_synthetic_source",
    "session_id",
    "user_id",
    "user_authenticated_id",
    "user_account_id",
    "source",
    "custom_measurements",
    "item_count",
)
_rest_of_request = attrgetter(*_REST)
_NO_REST = (*[""] * (len(_REST) - 2), {}, 1)
_PLAIN_TEXT = 400  # characters of an id, a name, a URL
_PLAIN_NAME, _PLAIN_VALUE, _PLAIN_VALUES = 75, 4_096, 6_144  # of dimensions, and of all of them


def request_line(pieces: RequestPieces, item: Request, number: Callable[[], int]) -> bytes | None:
    """
    The line of *item*, the same as `encode` writes; None where it is not as most are.

    It is within the limits of Application Insights then. *number* gives the
    digits that follow the prefix of the ids.
    """
    if (
        _rest_of_request(item) != _NO_REST
        or item.timestamp is None
        or item.duration is None
        or item.success is None
        or not item.result_code
        or len(item.id) + len(item.name) + len(item.url) > _PLAIN_TEXT
        or not (item.id and item.name and item.url)
    ):
        return None
    total = 0
    for name, value in item.custom_dimensions.items():
        total += len(name) + len(value)
        if len(name) > _PLAIN_NAME or len(value) > _PLAIN_VALUE or total > _PLAIN_VALUES:
            return None
    duration = _encode(float(item.duration))
    return b"".join(
        (
            pieces.to_id,
            _encode(item.id),
            pieces.to_name,
            _encode(item.name),
            pieces.to_url,
            _encode(item.url),
            pieces.to_success,
            b"true" if item.success else b"false",
            pieces.to_code,
            _encode(_code(item.result_code)),
            duration.join((*pieces.to_durations, b"")),
            pieces.to_item_id,
            b"%d" % number(),
            pieces.to_time,
            ticks.to_iso(item.timestamp)[:-1].encode(),
            pieces.to_operation,
            operation(item.operation_id, item.operation_name, item.operation_parent_id),
            pieces.to_dimensions,
            _encode([{name: value} for name, value in item.custom_dimensions.items()]),
            pieces.to_end,
        )
    )


class PrintPieces(NamedTuple):
    """A line with one custom dimension, cut open like `Pieces`, and before that dimension and its value."""

    to_id: bytes
    to_time: bytes
    to_operation: bytes
    to_dimensions: bytes
    to_value: bytes
    to_end: bytes


def cut_open_print(item: Trace, name: str) -> PrintPieces:
    """The line of a trace like *item*, whose message stays the same and whose custom dimension *name* does not."""
    mark = "\u241f"
    to_message, to_id, to_time, to_operation, rest = cut_open(
        msgspec.structs.replace(item, custom_dimensions={name: mark})
    )
    to_dimensions, to_end = rest.split(_encode({name: mark}), 1)
    to_value = _encode({name: mark}).split(_encode(mark), 1)[0]
    return PrintPieces(
        to_message + _encode(item.message) + to_id, to_time, to_operation, to_dimensions, to_value, b"}" + to_end
    )


def dimensions(pairs: Mapping[str, str]) -> bytes:
    """
    Custom dimensions as they stand in a line before another one.

    >>> dimensions({"team": "a"})
    b'{"team":"a"},'
    """
    return b"%b," % _encode([{name: value} for name, value in pairs.items()])[1:-1] if pairs else b""


def add_dimensions(to_end: bytes, dimensions: dict[str, str]) -> bytes:
    """The last piece of a line that has custom dimensions and no measurements, with more *dimensions* in it."""
    more = _encode([{name: value} for name, value in dimensions.items()])
    return b"%b,%b%b" % (to_end[: -len(_LINE_END)], more[1:-1], _LINE_END)


def json_text(text: str) -> bytes:
    """*text* as it stands in a line, quotes included."""
    return _encode(text)


def operation(operation_id: str, name: str = "", parent_id: str = "") -> bytes:
    """
    The value of ``context.operation``.

    >>> operation("4bf9", "POST /score")
    b'{"id":"4bf9","name":"POST /score"}'
    """
    pairs = {"id": operation_id, "name": name, "parentId": parent_id}
    return _encode({key: value for key, value in pairs.items() if value})


@cache
def _plan(table: Table) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """What to write where: attribute, path, form. Forms that take more than one value are not among them."""
    return tuple(
        (column.field, tuple(column.export.split(".")), column.form)
        for column in table.all_columns
        if column.export and column.form in _WRITE
    )


@cache
def _reading(table: Table) -> tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], Callable[[Any], Any]], ...]:
    """What to read from where: classic name, attribute, path, path in older documents, and how."""
    return tuple(
        (
            column.classic,
            column.field,
            tuple(column.export.split(".")),
            tuple(filter(None, column.older.split("."))),
            _READ[column.form],
        )
        for column in table.all_columns
        if column.export and column.form in _READ
    )


@cache
def _writing(table: Table) -> tuple[Callable[[Item], tuple[Any, ...]], tuple[tuple[Any, ...], ...]]:
    """What takes all attributes of the plan at once, and where each goes; empty messages are in real lines too."""
    plan = _plan(table)
    steps = tuple((path[0], path[1:-1], path[-1], _WRITE[form], field == "message") for field, path, form in plan)
    return attrgetter(*(field for field, _, _ in plan)), steps


def _code(value: str) -> Any:
    # The export writes numbers; a code that a number would change ("007", "Faulted") stays text.
    is_number = len(value) < 10 and value.isascii() and value.isdigit() and str(int(value)) == value
    return int(value) if is_number else value


def _aggregate(value: float) -> Row:
    number = float(value)
    return {
        "value": number,
        "count": 1.0,
        "min": number,
        "max": number,
        "stdDev": 0.0,
        "sampledValue": number,
        "sum": number,
    }


def _single(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


_WRITE: dict[str, Any] = {
    "text": str,
    "time": ticks.to_iso,
    "severity": lambda value: SEVERITIES[value],
    "bool": bool,
    "pass": lambda value: "Pass" if value else "Fail",
    "code": _code,
    "duration": _aggregate,
    "real": _aggregate,
}
_READ: dict[str, Any] = {
    "text": parts.text,
    "time": reading.time,
    "severity": reading.severity,
    "bool": reading.truth,
    "pass": reading.truth,
    "code": parts.text,
    "duration": lambda value: round(reading.number(_single(value))),
    "real": lambda value: reading.number(_single(value)),
}


def _write_metric(item: Metric) -> Row:
    return {
        item.name: {
            "value": item.value,
            "count": float(item.value_count),
            "min": item.value_min,
            "max": item.value_max,
            "stdDev": item.value_std_dev,
            "sampledValue": item.value,
            "sum": item.value_sum,
        }
    }


def _read_metrics(found: Reading, metrics: Any) -> Iterator[Metric]:
    try:
        pairs = reading.merged(metrics or [])
    except (AttributeError, msgspec.DecodeError) as error:
        raise FormatError("no row of customMetrics: its metrics are no objects") from error
    for name, metric in pairs:
        one = found.copy()
        values = metric if isinstance(metric, dict) else {"value": metric}
        for column in BY_KIND["metric"].columns:
            key = column.form.removeprefix("metric:")
            if key != "name":
                read = reading.count if key == "count" else reading.number
                one.take(column.classic, column.field, values.get(key), read)
        one.values.setdefault("value_sum", one.values.get("value", 0.0))
        yield one.item(Metric, name=name)


def _write_thrown(thrown: Thrown) -> Row:
    row: Row = {
        "parsedStack": list(thrown.parsed_stack),
        "outerId": str(thrown.outer_id),
        "id": str(thrown.id),
        "typeName": thrown.type_name,
        "message": thrown.message,
        "hasFullStack": thrown.has_full_stack,
        "count": 0,
    }
    if thrown.stack:
        row["stack"] = thrown.stack
    return row
