"""
What a query answers: rows with named and typed columns, and their ways into other tools.

Also a part of them at a time, for answers that are larger than memory.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from scoretrace import charts, sql
from scoretrace.errors import QueryError
from scoretrace.kql.compiler import Rendering
from scoretrace.kql.values import SQL_TYPES
from scoretrace.optional import installed

if TYPE_CHECKING:
    import duckdb

TABLE = "_scoretrace_result"
_KUSTO_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "long",
    "HUGEINT": "long",
    "UBIGINT": "long",
    "INTEGER": "int",
    "DOUBLE": "real",
    "BOOLEAN": "bool",
    "JSON": "dynamic",
    "INTERVAL": "timespan",
    "UUID": "guid",
}


class Result:
    """
    The rows of a query.

    *columns* are their names and *types* their Kusto types, *rows* tuples of
    Python values: a dynamic is what its JSON says, a datetime is in UTC, a
    timespan a timedelta. *seconds* is how long the answer took, and
    *rendering* what the query says of its chart. *partial* says why rows are
    missing, where Azure could not give all of them.
    """

    def __init__(
        self,
        columns: Sequence[str],
        types: Sequence[str],
        rows: list[tuple[Any, ...]],
        *,
        connection: duckdb.DuckDBPyConnection | None = None,
        scratch: str = "",
        unreadable: Callable[[], dict[str, int]] = dict,
        failed: Mapping[str, str] | None = None,
        rendering: Rendering | None = None,
        seconds: float = 0.0,
        partial: str = "",
    ) -> None:
        self.columns = list(columns)
        self.types = list(types)
        self.rows = rows
        self.rendering = rendering
        self.seconds = seconds
        self.partial = partial
        self.failed = dict(failed or {})  # blobs that could not be read at all, and why
        self._unreadable = unreadable
        self._connection = connection
        self._scratch = scratch  # the one folder that the connection may write to

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> Result:
        """The rows of a *relation* of that *connection*."""
        relation.create(TABLE)
        made = connection.table(TABLE)
        types = [kusto_type(str(kind)) for kind in made.types]
        return cls(made.columns, types, converted(made.fetchall(), types), connection=connection)

    @cached_property
    def unreadable(self) -> dict[str, int]:
        """How many lines of which files are no rows and were passed over; counted when it is first asked for."""
        return self._unreadable()

    def __repr__(self) -> str:
        return f"<Result of {len(self.rows)} rows: {', '.join(self.columns)}>"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def first(self, count: int) -> Result:
        """The first *count* of the rows."""
        return Result(self.columns, self.types, self.rows[:count], rendering=self.rendering, seconds=self.seconds)

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def df(self) -> Any:
        """The rows as a pandas DataFrame; needs pandas."""
        pd = installed("pandas", "Result.df()")
        return pd.DataFrame.from_records(self.rows, columns=self.columns)

    def arrow(self) -> Any:
        """The rows as a pyarrow Table, dynamic columns as JSON text; needs pyarrow."""
        installed("pyarrow", "Result.arrow()")
        return self._relation().to_arrow_table()

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a Parquet file, dynamic columns as JSON text; needs DuckDB."""
        if not self._scratch:
            self._relation().to_parquet(os.fspath(path))
            return
        beside = Path(self._scratch) / f"{uuid.uuid4().hex}.parquet"
        self._relation().to_parquet(str(beside))
        shutil.move(beside, path)

    def chart(self, kind: str | None = None) -> Any:
        """
        The rows as a chart: a matplotlib Figure, which a notebook shows.

        *kind* is timechart, linechart, barchart, columnchart, piechart,
        scatterchart or areachart; without it the query's ``render`` says it,
        and without that, what the columns suggest.

        Raises:
            QueryError: the rows have no columns for such a chart.
            MissingExtraError: matplotlib is not installed.
        """
        return charts.draw(self, kind)

    def _relation(self) -> duckdb.DuckDBPyRelation:
        """The rows in DuckDB, under their names, which it may tell apart only by a number behind them."""
        if self._connection is None:
            self._connection = installed("duckdb", "Result.to_parquet()").connect()
            types = ", ".join(f"c{index} {_column_type(kind)}" for index, kind in enumerate(self.types))
            self._connection.execute(f"CREATE TABLE {TABLE} ({types})")
            if self.rows:
                marks = ", ".join("?" * len(self.types))
                stored = [
                    [_stored(value, kind) for value, kind in zip(row, self.types, strict=True)] for row in self.rows
                ]
                self._connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", stored)
        made = self._connection.table(TABLE)
        names = (f"{sql.name(own)} AS {sql.name(name)}" for own, name in zip(made.columns, self.columns, strict=True))
        return made.project(", ".join(names))


class Page(NamedTuple):
    """Some of the rows of a relation, as `Result` has all of them."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def pages(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, size: int = 10_000
) -> Iterator[Page]:
    """The rows of a *relation* of *connection*, *size* at a time; one page at the least."""
    types = [kusto_type(str(kind)) for kind in relation.types]
    is_first = True
    running = connection.execute(relation.sql_query())
    while (rows := running.fetchmany(size)) or is_first:
        yield Page(relation.columns, types, converted(rows, types))
        is_first = False


def converted(rows: list[tuple[Any, ...]], types: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of DuckDB as `Result` has them."""
    readers = [_READERS.get(kind) for kind in types]
    if not any(readers):
        return rows
    return [
        tuple(
            value if reader is None or value is None else reader(value)
            for reader, value in zip(readers, row, strict=True)
        )
        for row in rows
    ]


def kusto_type(duckdb_type: str) -> str:
    """The Kusto type that a column of DuckDB is shown as."""
    if duckdb_type.startswith("TIMESTAMP"):
        return "datetime"
    if duckdb_type.endswith("[]") or duckdb_type.startswith(("STRUCT", "MAP")):
        return "dynamic"
    if duckdb_type.startswith("DECIMAL"):
        return "decimal"
    return _KUSTO_TYPES.get(duckdb_type, duckdb_type.lower())


def _column_type(kind: str) -> str:
    return "INTERVAL" if kind == "timespan" else SQL_TYPES.get(kind, "VARCHAR")


def _stored(value: Any, kind: str) -> Any:
    if kind == "dynamic" and value is not None:
        return msgspec.json.encode(value).decode()
    if kind == "datetime" and isinstance(value, datetime):
        return value.astimezone(timezone.utc).replace(tzinfo=None)
    return value if not isinstance(value, timedelta) or kind == "timespan" else str(value)


def _dynamic(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value


def _utc(value: datetime) -> datetime:
    if not isinstance(value, datetime):  # DuckDB's calendar goes further, in text
        raise QueryError(f"the answer has a time outside of the years 1 to 9999: {value}")
    return value.replace(tzinfo=timezone.utc)


_READERS: dict[str, Callable[[Any], Any]] = {"dynamic": _dynamic, "datetime": _utc, "guid": str}
