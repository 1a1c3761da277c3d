"""A DuckDB for a command, and what it raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from scoretrace.errors import MissingExtraError


@contextlib.contextmanager
def connected(what: str) -> Iterator[Any]:
    """A DuckDB of a command's own; *what* is said to need it where it is missing."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError(what, "query") from error
    with duckdb.connect() as connection:
        yield connection


def duckdb_error() -> type[Exception]:
    """What DuckDB raises."""
    import duckdb

    return duckdb.Error
