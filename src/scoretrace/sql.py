"""Text and names as they stand in SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_GLOB = re.compile(r"[*?\[]")


def quote(text: str) -> str:
    """
    *text* as a string.

    >>> quote("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def read_json(files: Iterable[str], shapes: Mapping[str, str], line_bytes: int) -> str:
    """
    The rows of newline-delimited JSON, with the keys and types of *shapes* and ``filename``.

    A line that is no object is a row of nulls. DuckDB takes several times
    *line_bytes*, the longest line, of memory for each thread.
    """
    columns = ", ".join(f"{quote(key)}: {quote(shape)}" for key, shape in shapes.items())
    return (
        f"read_json({paths(files)}, format='newline_delimited', columns={{{columns}}}, "
        f"ignore_errors=true, filename=true, hive_partitioning=false, maximum_object_size={line_bytes})"
    )


def whole_number(value: str) -> str:
    """*value* as a whole number, null where it is none."""
    return f"try_cast(trunc(try_cast({value} AS DOUBLE)) AS INTEGER)"


def name(text: str) -> str:
    """
    *text* as the name of a column or table, whatever is in it.

    >>> name("a b")
    '"a b"'
    """
    return '"' + text.replace('"', '""') + '"'


def paths(files: Iterable[str]) -> str:
    """
    A list of just these files, whatever is in their names.

    >>> paths(["a[1]*.blob"])
    "['a[[]1][*].blob']"
    """
    return f"[{', '.join(quote(_GLOB.sub(lambda match: f'[{match[0]}]', file)) for file in files)}]"
