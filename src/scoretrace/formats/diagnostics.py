"""
Records of Azure Monitor: what diagnostic settings, data export rules and Event Hubs carry of Application Insights.

One JSON object a record, with the columns of a workspace table at its top
level. Diagnostic settings (``PT1H.json``) and Event Hubs write ``time`` and
``resourceId`` where a data export rule (``PT05M.json``) writes ``TimeGenerated``
and ``_ResourceId``; an Event Hub wraps many in ``{"records": [...]}``. Columns
without a value are left out. Sources: the Azure Monitor Logs table reference,
and the resource logs schema.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from scoretrace.errors import FormatError
from scoretrace.formats import parts, reading
from scoretrace.formats.reading import Reading
from scoretrace.item import KINDS, Item
from scoretrace.schema import BY_WORKSPACE, Column, Table

# What else a column is called than in its table.
ALIASES = {"timestamp": ("time",), "appName": ("resourceId",), "_ResourceId": ("_ResourceId", "resourceId")}

_records = msgspec.json.Decoder(dict[str, list[msgspec.Raw]]).decode


def decode(line: bytes) -> tuple[Item, ...]:
    """
    The items of a line: of one record, or of all that an Event Hub message wraps.

    Keys that no column has are passed over, and what a column cannot take is in
    the item's `unparsed`. `itemId` is empty where the record has none, which is
    the rule.

    Raises:
        FormatError: the line is not JSON, or no record of an Application Insights table.
    """
    row = reading.json_object(line)
    records = row.get("records")
    if isinstance(records, list) and "Type" not in row:
        return tuple(map(_item, records))
    return (_item(row),)


def unwrapped(text: bytes) -> list[bytes]:
    """
    The records that an Event Hub message wraps, each as one line without its newline.

    >>> unwrapped(b'{"records": [\\n {"Type": "AppTraces"} ]}')
    [b'{"Type":"AppTraces"}']

    Raises:
        FormatError: it is no such message.
    """
    try:
        return [msgspec.json.format(record, indent=-1) for record in _records(text)["records"]]
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError) as error:
        raise FormatError(f"no message with records: {error}") from error


def _item(row: Any) -> Item:
    if not isinstance(row, dict):
        raise FormatError("not a record: it is no JSON object")
    table = BY_WORKSPACE.get(str(row.get("Type")))
    if table is None:
        kind = f"its Type is {str(row['Type'])[:80]}" if row.get("Type") is not None else "it has no Type"
        raise FormatError(f"no record of an Application Insights table: {kind}")
    found = Reading()
    for classic, field, keys, read in _reading(table):
        for key in keys:
            if row.get(key) is not None:
                found.take(classic, field, row[key], read)
                break
    if table.kind == "metric":
        found.values.setdefault("value_sum", found.values.get("value", 0.0))
    return found.item(KINDS[table.kind])


def keys(column: Column) -> tuple[str, ...]:
    """
    The keys that a record may have *column* under.

    >>> keys(BY_WORKSPACE["AppTraces"].all_columns[0])
    ('TimeGenerated', 'time')
    """
    name = column.workspace if column.form != "metric:value" else "Sum"  # a workspace has no column of its own for it
    return tuple(filter(None, (name, *ALIASES.get(column.classic, ()))))


@cache
def _reading(table: Table) -> tuple[tuple[str, str, tuple[str, ...], Callable[[Any], Any]], ...]:
    """What to read from which keys: classic name, attribute, keys, and how."""
    return tuple(
        (column.classic, column.field, keys(column), _READ[column.form])
        for column in table.all_columns
        if column.form in _READ and keys(column) and (table.kind, column.classic) != ("counter", "name")
    )


def _ticks(value: Any) -> int:
    return round(reading.number(value) * 10_000)  # durations are milliseconds here


_READ: dict[str, Callable[[Any], Any]] = {
    "text": parts.text,
    "absent": parts.text,
    "path": parts.text,
    "time": reading.time,
    "count": reading.count,
    "severity": reading.severity,
    "bool": reading.truth,
    "pass": reading.truth,
    "code": parts.text,
    "duration": _ticks,
    "real": reading.number,
    "dimensions": reading.dimensions,
    "metrics": reading.measurements,
    "details": reading.thrown,
    "metric:name": parts.text,
    "metric:count": reading.count,
    **{f"metric:{key}": reading.number for key in ("value", "sum", "min", "max", "stdDev")},
    "counter:name": parts.text,
    "counter:value": reading.number,
}
