"""The columns that all collected rows have beside their data, and how SQL finds what only a path says."""

from __future__ import annotations

from collections.abc import Mapping

from scoretrace import sql
from scoretrace.collect.correlated import BOUNDARY, HEADERS, OPERATION_ID, TIMESTAMP

COLUMNS = (*HEADERS, OPERATION_ID)
TYPES = {TIMESTAMP: "TIMESTAMP", BOUNDARY: "BIGINT"}  # in DuckDB; the others are text
FILE = "$file"  # the column with the path of a row's file, while there is one


def lookup(values: Mapping[str, str]) -> str:
    """What *values*, by path, has for the file of a row."""
    if len(set(values.values())) == 1:
        return sql.quote(next(iter(values.values())))
    pairs = ", ".join(f"{sql.quote(path)}: {sql.quote(value)}" for path, value in values.items())
    return f"MAP {{{pairs}}}[{sql.name(FILE)}]"
