"""
Many lines of a continuous export as items at once, where they are as most are.

Reading a line by its dictionary costs ten times what its bytes cost. Here the
schema table becomes typed structs for msgspec, which knows then what to skip,
and a loop in straight lines of Python, written from the table as dataclasses
write theirs: one call with positional arguments makes the item. Whatever is
unusual makes this module raise, and the lines take the way through
`continuous_export.decode`, which gives the same items.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import msgspec

from scoretrace import ticks
from scoretrace.item import KINDS, Item
from scoretrace.schema import SEVERITIES, Column, Table

# What a line can be refused with. It says nothing of the line but that it is not as most are.
UNUSUAL = (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError)


class _Value(msgspec.Struct, frozen=True, gc=False):
    value: float


_TYPES: dict[str, Any] = {
    "text": str,
    "time": str,
    "severity": str | None,
    "bool": bool | None,
    "pass": Literal["Pass", "Fail"] | None,
    "code": int | str,
    "duration": _Value | None,
    "real": _Value | None,
}
_NOTHING: dict[str, Any] = {"text": "", "time": "", "code": ""}
_LEVELS: dict[str | None, int | None] = {None: None, **{name: level for level, name in enumerate(SEVERITIES)}}
_CODE = """
def read(rows, app_name, i_key):
    items = []
    for row in rows:
        root, = row.{root}
{locals}
        time = context_data.eventTime
        if len(time) != 28:  # seven digits and a Z
            raise ValueError(time)
        dimensions = bytes(context_custom.dimensions)
        if dimensions == b"[]":
            dimensions = {{}}
        elif b'\\\\"}},{{"' in dimensions:  # the end of a text looks like the end of an object
            raise ValueError(dimensions)
        else:  # many objects are one, which is decoded at a third of the cost
            dimensions = decode_object(dimensions[1:-1].replace(b'"}},{{"', b'","'))
        items.append(Kind({arguments}))
    return items
"""
_FORMS = {
    "text": "{at}",
    "time": "(seconds_get(time[:20]) or seconds(time)) + int(time[20:-1])",
    "severity": "levels[{at}]",
    "bool": "{at}",
    "pass": "None if {at} is None else {at} == 'Pass'",
    "code": "str({at})",
    "duration": "None if {at} is None else round({at}.value)",
    "real": "None if {at} is None else {at}.value",
}
_OTHERS = {
    "app_name": "app_name",
    "i_key": "i_key",
    "item_count": "1 if root.count == 1.0 else max(int(root.count), 1) if root.count else rated(context_data)",
    "custom_dimensions": "dimensions",
    "custom_measurements": (
        "{name: entry.value for pair in context_custom.metrics for name, entry in pair.items()} "
        "if context_custom.metrics else {}"
    ),
}

Read = Callable[[bytes, str, str], list[Item]]


@cache
def reader(table: Table) -> Read | None:
    """
    What makes items of whole lines of *table*, given the name and the key of their application.

    None for kinds whose rows are of no fixed shape. It raises one of `UNUSUAL`
    where a line is not as most are.
    """
    if table.kind in {"metric", "counter", "exception"}:
        return None
    columns = {column.field: column for column in table.all_columns if column.export and column.form in _TYPES}
    decode = msgspec.json.Decoder(_line(table, list(columns.values()))).decode_lines
    cls = KINDS[table.kind]
    arguments = [_expression(field, columns.get(field)) for field in cls.__struct_fields__]
    if table.kind == "browser_timing":  # only the sampling rate says how many it stands for
        arguments[cls.__struct_fields__.index("item_count")] = "rated(context_data)"
    places = sorted({_place(column.export.split(".")[:-1]) for column in columns.values()} | {"context_custom"})
    assignments = [
        f"{place} = {_above(place)}" for place in ("context", "internal", *places) if place not in {"root", "row"}
    ]
    code = _CODE.format(
        root=table.root,
        locals="\n".join(f"        {line}" for line in dict.fromkeys(assignments)),
        arguments=", ".join(arguments),
    )
    known: dict[str, int] = {}
    names: dict[str, Any] = {
        "Kind": cls,
        "levels": _LEVELS,
        "decode_object": msgspec.json.Decoder(dict[str, str]).decode,
        "seconds_get": known.get,
        "seconds": lambda time: _seconds(known, time),
        "rated": _rated,
    }
    exec(code, names)  # noqa: S102 - made of the schema table alone
    read: Callable[[list[Any], str, str], list[Item]] = names["read"]
    return lambda lines, app_name, i_key: read(decode(lines), app_name, i_key)


def _seconds(known: dict[str, int], time: str) -> int:
    """The ticks of the whole second of *time*, which are remembered: rows of a second are next to each other."""
    second = time[:20]  # with the point
    found = ticks.from_iso(f"{second[:19]}Z")
    if second[19:] != "." or not time.endswith("Z") or second.startswith("0001") or not time[20:27].isdigit():
        raise ValueError(time)
    if len(known) > 100_000:
        known.clear()
    known[second] = found
    return found


def _rated(data: Any) -> int:
    return max(round(100.0 / data.samplingRate), 1) if data.samplingRate else 1


def _line(table: Table, columns: list[Column]) -> Any:
    """The struct of a line: what the columns need of it, nested as it is."""
    tree: dict[str, Any] = {"root": {}, "context": {"data": {}, "custom": {}}, "internal": {}}
    for column in columns:
        for path in filter(None, (column.export, column.older)):
            *steps, last = path.split(".")
            place = tree
            for step in steps:
                place = place.setdefault(step, {})
            place[last] = (_TYPES[column.form], _NOTHING.get(column.form))
    tree["root"]["count"] = (float | None, None)
    tree["context"]["data"]["samplingRate"] = (float, 100.0)
    tree["context"]["custom"] |= {
        "dimensions": (msgspec.Raw, msgspec.Raw(b"[]")),
        "metrics": (list[dict[str, _Value]], msgspec.field(default_factory=list)),
    }
    root = _struct("Root", tree.pop("root"))
    fields = [(name, _struct(name.title(), value)) for name, value in tree.items()]
    whole: list[Any] = [(table.root, list[root]), *((name, kind, kind()) for name, kind in fields)]  # type: ignore[valid-type]
    return msgspec.defstruct("Line", whole, frozen=True, gc=False)


def _struct(name: str, tree: dict[str, Any]) -> Any:
    fields: list[Any] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            kind = _struct(key.title(), value)
            fields.append((key, kind, kind()))
        else:
            fields.append((key, *value))
    return msgspec.defstruct(name, fields, frozen=True, gc=False)


def _expression(field: str, column: Column | None) -> str:
    if field in _OTHERS:
        return _OTHERS[field]
    if column is None:
        return "{}" if field == "unparsed" else "''"
    *steps, last = column.export.split(".")
    value = f"{_place(steps)}.{last}"
    if column.older:
        *steps, last = column.older.split(".")
        value = f"({value} or {_place(steps)}.{last})"
    return _FORMS[column.form].format(at=value)


def _place(steps: list[str]) -> str:
    """The local variable for an object of a line: ``context_device``."""
    return "_".join(steps)


def _above(place: str) -> str:
    above, _, name = place.rpartition("_")
    return f"{above or 'row'}.{name}"
