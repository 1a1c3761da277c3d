"""
The envelope that the ingestion endpoint takes (`POST /v2.1/track`), one item each.

Layout: the Envelope, MessageData, RequestData... schemas, version 2. Properties
are strings and measurements numbers there, a duration is `d.hh:mm:ss.fffffff`,
and a tag that has no value is left out: a zero operation id would join every
uncorrelated row into one operation.

An envelope has no place for an item's own id, so it travels as the custom
dimension ``scoretrace_item_id``: a row that arrived twice can be told from two
rows. The summary columns of an exception (`type`, `outerMessage`, ...) do not
travel; the service makes them from the chain, and so does `decode`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isfinite
from operator import attrgetter
from typing import Any

import msgspec

from scoretrace import ticks
from scoretrace.errors import FormatError
from scoretrace.formats import parts
from scoretrace.item import KINDS, Counter, ExceptionItem, Item, Metric, Thrown, summarize
from scoretrace.schema import BY_BASE_TYPE, BY_KIND, Column, Table

ITEM_ID = "scoretrace_item_id"  # reserved: a custom dimension of this name is overwritten

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Row = dict[str, Any]


def encode(item: Item, i_key: str = "") -> bytes:
    """The envelope of *item* as UTF-8 JSON, for the resource that *i_key* (a GUID) names."""
    table = BY_KIND[item.kind]
    tags: Row = {}
    data: Row = {"ver": 2}
    values_of, steps = _writing(table)
    for value, (is_tag, key, write) in zip(values_of(item), steps, strict=True):
        if value is None or value == "":
            continue
        (tags if is_tag else data)[key] = write(value)
    if isinstance(item, Metric):
        data["metrics"] = [_write_metric(item)]
    elif isinstance(item, ExceptionItem):
        data["exceptions"] = [_write_thrown(thrown) for thrown in item.details]
    elif isinstance(item, Counter):
        data |= {"counterName": item.counter, "value": item.value}
    elif item.kind == "trace":
        data.setdefault("message", "")  # the schema requires it
    data["properties"] = {**item.custom_dimensions, ITEM_ID: item.item_id} if item.item_id else item.custom_dimensions
    if item.custom_measurements:
        data["measurements"] = item.custom_measurements
    envelope: Row = {"name": f"Microsoft.ApplicationInsights.{table.envelope}", "iKey": i_key}
    if item.timestamp is not None:
        envelope["time"] = ticks.to_iso(item.timestamp)
    if item.item_count != 1:
        envelope["sampleRate"] = 100.0 / item.item_count
    envelope["tags"] = tags
    envelope["data"] = {"baseType": table.base_type, "baseData": data}
    return _encode(envelope)


def decode(envelope: bytes) -> tuple[Item, ...]:
    """
    The items of an envelope: one, or one for each metric of a MetricData.

    Raises:
        FormatError: the bytes are not an envelope of a known base type.
    """
    try:
        row = _decode(envelope)
        table, data = _base(row)
        places = {"tag": row.get("tags") or {}, "data": data}
        values: Row = {}
        for field, place, key, form in _plan(table):
            value = places[place].get(key)
            if value is not None:
                values[field] = _READ[form](value)
        if row.get("time"):
            values["timestamp"] = ticks.from_iso(row["time"])
        values["item_count"] = max(1, round(100.0 / (row.get("sampleRate") or 100.0)))
        dimensions = {key: parts.text(value) for key, value in (data.get("properties") or {}).items()}
        values["item_id"] = dimensions.pop(ITEM_ID, "")
        values["custom_dimensions"] = dimensions
        values["custom_measurements"] = measurements = {}
        for key, value in (data.get("measurements") or {}).items():
            number = _number(value)
            if number is None:  # it is no measurement then, and yet somebody meant something by it
                dimensions[key] = parts.text(value)
            else:
                measurements[key] = number
        if table.kind == "metric":
            return tuple(Metric(**values, **_read_metric(metric)) for metric in data["metrics"])
        if table.kind == "exception":
            details = tuple(map(parts.thrown, data["exceptions"]))
            values = {**summarize(details), **values, "details": details}
        elif table.kind == "counter":
            values |= {"counter": parts.text(data["counterName"]), "value": _finite(data["value"])}
        return (KINDS[table.kind](**values),)
    except FormatError:
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"not a JSON object: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(f"not a telemetry envelope: {type(error).__name__} {error}") from error


def _base(row: Any) -> tuple[Table, Row]:
    """The table and the data of an envelope; says what is missing as the service does."""
    if not isinstance(row, dict):
        raise FormatError("not a telemetry envelope: it is no JSON object")
    base = row.get("data")
    if not isinstance(base, dict) or not isinstance(base.get("baseData"), dict):
        raise FormatError("Field 'data' on type 'Envelope' is required but missing or empty")
    table = BY_BASE_TYPE.get(str(base.get("baseType")))
    if table is None:
        raise FormatError(f"Field 'baseType' on type 'Data' is unknown: {base.get('baseType')!s:.80}")
    return table, base["baseData"]


@cache
def _plan(table: Table) -> tuple[tuple[str, str, str, str], ...]:
    """Attribute, place (tag or data), key and form of each column that is written as it stands."""
    return tuple(
        (column.field, *_split(column), column.form)
        for column in table.all_columns
        if column.form in _WRITE and column.envelope.startswith(("tag:", "data.")) and column.field != "item_id"
    )


@cache
def _writing(table: Table) -> tuple[Callable[[Item], tuple[Any, ...]], tuple[tuple[bool, str, Any], ...]]:
    """What takes all attributes of the plan at once, and for each where it goes."""
    plan = _plan(table)
    steps = tuple((place == "tag", key, _WRITE[form]) for _, place, key, form in plan)
    return attrgetter(*(field for field, _, _, _ in plan)), steps


def _split(column: Column) -> tuple[str, str]:
    place, key = column.envelope.split(":" if column.envelope.startswith("tag:") else ".", 1)
    return place, key


def _number(value: Any) -> float | None:
    """*value* as a finite number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def _finite(value: Any) -> float:
    number = _number(value)
    if number is None:
        raise ValueError(f"not a finite number: {value!r:.40}")
    return number


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() == "true"


_WRITE: dict[str, Any] = {
    "text": str,
    "code": str,
    "severity": int,
    "bool": bool,
    "pass": bool,
    "duration": ticks.to_timespan,
    "real": float,
}
_READ: dict[str, Any] = {
    "text": parts.text,
    "code": parts.text,
    "severity": int,
    "bool": _bool,
    "pass": _bool,
    "duration": ticks.from_timespan,
    "real": _finite,
}


def _write_metric(item: Metric) -> Row:
    row = {
        "name": item.name,
        "value": item.value,
        "count": item.value_count,
        "min": item.value_min,
        "max": item.value_max,
        "stdDev": item.value_std_dev,
    }
    return {key: value for key, value in row.items() if value is not None}


def _read_metric(row: Row) -> Row:
    value = _finite(row["value"])
    return {
        "name": str(row["name"]),
        "value": value,
        "value_sum": value,  # an aggregate's value is its sum
        "value_count": int(row.get("count") or 1),
        "value_min": _number(row.get("min")),
        "value_max": _number(row.get("max")),
        "value_std_dev": _number(row.get("stdDev")),
    }


def _write_thrown(thrown: Thrown) -> Row:
    row: Row = {
        "id": thrown.id,
        "outerId": thrown.outer_id,
        "typeName": thrown.type_name,
        "message": thrown.message,
        "hasFullStack": thrown.has_full_stack,
    }
    if thrown.stack:
        row["stack"] = thrown.stack
    if thrown.parsed_stack:
        row["parsedStack"] = thrown.parsed_stack
    return row
