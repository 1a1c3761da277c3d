"""
The attributes of an item, put together as an exported row is read.

A row is worth more than one of its columns: what a column cannot take is kept
as text in `Item.unparsed`, under the column's classic name, and the row stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from scoretrace import ticks
from scoretrace.errors import FormatError
from scoretrace.formats import parts
from scoretrace.item import Item, Thrown
from scoretrace.schema import SEVERITIES

Row = dict[str, Any]
I = TypeVar("I", bound=Item)  # noqa: E741 - an item

_decode = msgspec.json.Decoder().decode
# What a conversion raises of a value that is of another type than it should be.
_WRONG = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, msgspec.MsgspecError)
_TRUTHS = {"true": True, "false": False, "pass": True, "fail": False}


def json_object(line: bytes) -> Row:
    """
    The object that *line* is.

    Raises:
        FormatError: it is none.
    """
    try:
        row = _decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"not a JSON object: {error}") from error
    if not isinstance(row, dict):
        raise FormatError(f"not a JSON object: it is of another kind, {type(row).__name__}")
    return row


class Reading:
    """Takes values column by column, and makes an item of them."""

    def __init__(self) -> None:
        self.values: Row = {}
        self.unparsed: dict[str, str] = {}

    def take(self, classic: str, field: str, value: Any, read: Callable[[Any], Any]) -> None:
        """Put *value*, as *read* makes it, into *field*, which is the column *classic*; None is no value."""
        if value is None:
            return
        try:
            self.values[field] = read(value)
        except _WRONG:
            self.unparsed[classic] = parts.text(value)

    def part(self, row: Row, key: str) -> Row:
        """The object at *key* of *row*, an empty one where there is none."""
        value = row.get(key)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.unparsed[key] = parts.text(value)
        return {}

    def item(self, cls: type[I], **more: Any) -> I:
        """The item, with *more* attributes."""
        return cls(**self.values, **more, unparsed=self.unparsed) if self.unparsed else cls(**self.values, **more)

    def copy(self) -> Reading:
        """Another one that has taken the same, for one of several items of a row."""
        other = Reading()
        other.values, other.unparsed = dict(self.values), dict(self.unparsed)
        return other


def at(row: Any, path: Iterable[str]) -> Any:
    """What is at *path* of nested objects; None where there is nothing."""
    for step in path:
        row = row.get(step) if isinstance(row, dict) else None
    return row


def time(value: str) -> int | None:
    """A time in ticks; None for 0001-01-01, with which exports say that there is none."""
    found = ticks.from_iso(value)
    return None if found == ticks.NULL_TIME else found


def severity(value: Any) -> int:
    """
    The level 0 to 4 of a name or a number.

    >>> severity("warning"), severity(3.0)
    (2, 3)
    """
    if isinstance(value, str) and not value.isdigit():
        return SEVERITIES.index(value.capitalize())
    level = int(value)
    if not 0 <= level < len(SEVERITIES) or isinstance(value, bool):
        raise ValueError(value)
    return level


def truth(value: Any) -> bool:
    """Whether a row is a success, however that is written: as a bool, True, false, Pass or Fail."""
    return value if isinstance(value, bool) else _TRUTHS[value.lower()]


def number(value: Any) -> float:
    """A number; text that is one will do, and a bool is none."""
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def count(value: Any) -> int:
    """How many items one stands for: one at the least."""
    return max(int(number(value)), 1)


def count_of_rate(rate: Any) -> int:
    """How many items one stands for where so many percent are kept; nothing is said by a rate of zero."""
    percent = number(rate)
    return max(round(100.0 / percent), 1) if percent else 1


def dimensions(value: Any) -> dict[str, str]:
    """Custom dimensions, of an object, of several that are merged, or of the text of one; values become text."""
    return {key: parts.text(element) for key, element in merged(value)}


def measurements(value: Any) -> dict[str, float]:
    """Custom measurements, of objects as of `dimensions`: numbers, or aggregates with a value."""
    return {key: number(element["value"] if isinstance(element, dict) else element) for key, element in merged(value)}


def merged(value: Any) -> list[tuple[str, Any]]:
    """
    The pairs of an object, or of a list of objects, or of JSON text that is one of them.

    >>> merged([{"a": 1}, {"b": 2, "a": 3}])
    [('a', 1), ('b', 2), ('a', 3)]
    """
    if isinstance(value, str):
        value = _decode(value)
    return [pair for element in (value if isinstance(value, list) else [value]) for pair in element.items()]


def thrown(rows: Any) -> tuple[Thrown, ...]:
    """The chain of an exception, of a list or of its JSON text."""
    return tuple(map(parts.thrown, _decode(rows) if isinstance(rows, str) else rows))
