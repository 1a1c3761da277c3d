"""
Rows as CSV: UTF-8, RFC 4180 but for its line ends, which are a single newline as pandas and Spark write them.

What is not there (None, NaN, NaT) is an empty cell, and empty text two quotes,
so that a reader can tell them apart. Text is written as it is: one that a
spreadsheet would take for a formula (``=cmd|...``) too, because a row that was
changed is not the row that was scored; import it there as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from scoretrace.capture.values import as_json, as_text, clean
from scoretrace.collect.tabular import Table, refuse_media

_SPECIAL = re.compile('[",\\r\\n]')
_INDEX = re.compile(r"_\d+$")
_SPACES = (" ", "\t")
_numbers = msgspec.json.Encoder()
_MANY = 10_000  # rows of a call whose numbers are made once


def header(names: Iterable[str]) -> bytes:
    """The line with the names of the columns."""
    return ",".join(map(_text, names)).encode() + b"\n"


def line(cells: Iterable[Any]) -> bytes:
    """
    One row, without its newline.

    >>> line([1, 2.5, None, "a, b", True])
    b'1,2.5,,"a, b",True'
    """
    return ",".join(map(_cell, cells)).encode()


def lines(table: Table) -> list[bytes]:
    """
    The rows of *table*, without their newlines.

    Raises:
        CollectionError: a cell holds bytes.
    """
    if table.is_numeric and table.rows[0]:
        try:
            return _numeric(table.rows)
        except (OverflowError, msgspec.EncodeError):  # an integer beyond 64 bits
            pass
    return [",".join(map(_cell, row)).encode() for row in table.rows]


def joined(rows: Sequence[bytes], before: bytes, after: bytes) -> bytes:
    """
    Whole lines: each of *rows* with *before*, its number, and *after*; without a number where there is one row.

    >>> joined([b"1", b"2"], b",id_", b"\\n")
    b'1,id_0\\n2,id_1\\n'
    """
    count = len(rows)
    pieces: list[bytes] = [b""] * (4 * count)
    pieces[0::4] = rows
    pieces[1::4] = [before] * count
    pieces[2::4] = _numbers_to(_MANY)[:count] if count <= _MANY else _numbers_to.__wrapped__(count)
    pieces[3::4] = [after] * count
    return b"".join(pieces)


@cache
def _numbers_to(count: int) -> tuple[bytes, ...]:
    return tuple(b"%d" % number for number in range(count))


def call_of(row_id: Any) -> Any:
    """
    The id of a call, from that of one of its rows.

    >>> call_of("id_0")
    'id'
    """
    return _INDEX.sub("", row_id) if isinstance(row_id, str) else row_id


def _numeric(rows: list[list[Any]]) -> list[bytes]:
    """
    Numbers as JSON has them, which CSV has too: the shortest text that gives a double back.

    Not finite is null there; infinities are looked at one by one.
    """
    found = _numbers.encode(rows)[2:-2]
    if b"null" in found:
        if any(type(value) is float and math.isinf(value) for row in rows for value in row):
            return [",".join(map(_cell, row)).encode() for row in rows]
        found = found.replace(b"null", b"")
    return found.split(b"],[")


def _cell(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is float:
        return "" if value != value else repr(value)  # noqa: PLR0124 - NaN
    if kind is int or kind is bool:
        return str(value)
    return "" if value is None else _other(value)


def _text(value: str) -> str:
    """*value* quoted where it has to be."""
    if not value or value[0] in _SPACES or value[-1] in _SPACES or _SPECIAL.search(value):
        value = f'"{value.replace(chr(34), chr(34) * 2)}"'
    return value if value.isascii() else clean(value)


def _other(value: Any) -> str:
    refuse_media(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of numpy's
        return _cell(value.item())
    if isinstance(value, (float, int)):
        return _cell(float(value) if isinstance(value, float) else int(value))
    if type(value).__name__ in {"NaTType", "NAType"}:  # pandas' words for what is not there
        return ""
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(timedelta(value.days, value.seconds, value.microseconds))  # pandas has its own text for it
    if isinstance(value, Decimal):
        return "" if value.is_nan() else str(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return _text(as_json(value))
    return _text(as_text(value))
