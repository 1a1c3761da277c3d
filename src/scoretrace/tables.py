"""
Exports as DuckDB relations: the ten tables of Application Insights, on this machine.

Each is made from the schema table, of whatever layouts there are: lines of a
continuous export, records of diagnostic settings, and Parquet files that
`compaction` keeps. The values are those that the classic tables show, so that a
query answers the same here as in Azure. Relations keep the 100 ns of a time;
the views for Kusto have microseconds, which its engine computes with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scoretrace import layouts, sql, tables_continuous, tables_diagnostic
from scoretrace.schema import TABLES, Table
from scoretrace.tables_values import MICROSECONDS, NANOSECONDS

if TYPE_CHECKING:
    import duckdb

_TYPES = {"string": "VARCHAR", "int": "INTEGER", "real": "DOUBLE", "dynamic": "JSON"}
# The second is for files that have a line of more; see `lines.LINE_BYTES`.
LINE_BYTES, LONG_LINE_BYTES = 16 * 1024**2, 64 * 1024**2
UNPARSED = "unparsed"
_FIRST, _LAST = "1678", "2262"  # years that nanoseconds reach

Window = tuple[str | None, str | None]


class Part(NamedTuple):
    """A file with rows: its *layout* is one of `layouts`, or "parquet"; without a *table* its rows say theirs."""

    path: str
    table: Table | None
    layout: str = layouts.CONTINUOUS


PARQUET = "parquet"


def create_views(
    connection: duckdb.DuckDBPyConnection,
    parts: Iterable[Part],
    window: Window = (None, None),
    line_bytes: int = LINE_BYTES,
    kinds: Iterable[Table] = TABLES,
) -> None:
    """
    Create a view for each table of *kinds*, over those of *parts* that may have its rows.

    *window* is the ISO 8601 time from which on, and before which, rows are in
    the views: what Azure applies outside a query as its time span. DuckDB takes
    several times *line_bytes*, the longest line, of memory for each thread.
    """
    parts = list(parts)
    for table in kinds:
        columns = ", ".join(sql.name(column.classic) for column in table.all_columns)
        rows = select(table, parts, window, line_bytes, MICROSECONDS)
        connection.execute(f"CREATE OR REPLACE VIEW {sql.name(table.classic)} AS SELECT {columns} FROM ({rows})")


def create_workspace_view(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Create the view of *table* under its workspace name, over the classic one."""
    rows = f"SELECT *, NULL::JSON AS {UNPARSED} FROM {sql.name(table.classic)}"
    columns = ", ".join(dict.fromkeys(sql.name(column.workspace) for column in table.all_columns if column.workspace))
    query = f"SELECT {columns} FROM ({as_workspace(table, rows)})"
    connection.execute(f"CREATE OR REPLACE VIEW {sql.name(table.workspace)} AS {query}")


def select(
    table: Table,
    parts: Iterable[Part],
    window: Window = (None, None),
    line_bytes: int = LINE_BYTES,
    times: str = NANOSECONDS,
) -> str:
    """SQL for the rows of *table* in *parts*: its classic columns, and ``unparsed``; *times* is the type of times."""
    groups: dict[str, list[str]] = {}
    for part in parts:
        if part.table is None or part.table.kind == table.kind:
            groups.setdefault(_family(part), []).append(part.path)
    queries = []
    for family, files in groups.items():
        if family == PARQUET:
            names = ", ".join(map(sql.name, names_of(table)))
            queries.append(f"SELECT {names} FROM read_parquet({sql.paths(files)})")
        else:
            layout = tables_continuous if family == layouts.CONTINUOUS else tables_diagnostic
            queries.append(layout.select(table, files, line_bytes, times))
    types = [*(times if column.type == "datetime" else _TYPES[column.type] for column in table.all_columns), "JSON"]
    typed = zip(names_of(table), types, strict=True)
    if not queries:
        return f"SELECT {', '.join(f'NULL::{kind} AS {sql.name(name)}' for name, kind in typed)} WHERE false"
    columns = ", ".join(f"{sql.name(name)}::{kind} AS {sql.name(name)}" for name, kind in typed)
    query = f"SELECT {columns} FROM ({' UNION ALL '.join(queries)})"
    since, until = window
    if times == NANOSECONDS:  # which no time is beyond
        since = None if since is not None and since < _FIRST else since
        until = None if until is not None and until > _LAST else until
    bounds = [f"timestamp >= {sql.quote(since)}::{times}"] if since else []
    bounds += [f"timestamp < {sql.quote(until)}::{times}"] if until else []
    return f"SELECT * FROM ({query}) WHERE {' AND '.join(bounds)}" if bounds else query


def names_of(table: Table) -> list[str]:
    """The columns of `select`."""
    return [*(column.classic for column in table.all_columns), UNPARSED]


def as_workspace(table: Table, rows: str) -> str:
    """The *rows* of `select` under the names, and with the types, of the workspace table."""
    columns = {
        column.workspace: (
            f"CASE WHEN {sql.name(column.classic)} IN ('True', '1') THEN true "
            f"WHEN {sql.name(column.classic)} IN ('False', '0') THEN false END"
            if column.form in {"bool", "pass"}
            else sql.quote(table.workspace)
            if column.form == "constant"
            else sql.name(column.classic)
        )
        for column in table.all_columns
        if column.workspace
    }
    columns[UNPARSED] = UNPARSED
    return f"SELECT {', '.join(f'{value} AS {sql.name(name)}' for name, value in columns.items())} FROM ({rows})"


def without_repeats(table: Table, rows: str) -> str:
    """The *rows* of `select`, each once; see `key_of`."""
    return f"SELECT DISTINCT ON ({key_of(table)}) * FROM ({rows})"


def key_of(table: Table) -> str:
    """
    SQL for what the same row has again when it was exported twice: its id, or all it has where it has none.

    The metrics of one line share its id.
    """
    whole = f"hash({', '.join(map(sql.name, names_of(table)))})::VARCHAR"
    return whole if table.kind == "metric" else f"coalesce(nullif(\"itemId\", ''), {whole})"


def unreadable(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], line_bytes: int = LINE_BYTES
) -> dict[str, int]:
    """Of which files how many lines are no rows, a last one that is still being written among them."""
    groups: dict[tuple[str, Table | None], list[str]] = {}
    for part in parts:
        family = _family(part)
        groups.setdefault((family, part.table), []).append(part.path)
    counts: dict[str, int] = {}
    for (family, table), files in groups.items():
        if family == PARQUET:  # files with such lines are never made into it
            continue
        if family == layouts.CONTINUOUS and table is not None:
            query = tables_continuous.unreadable(table, files, line_bytes)
        else:
            query = tables_diagnostic.unreadable(table, files, line_bytes)
        counts.update(connection.execute(query).fetchall())
    return counts


def _family(part: Part) -> str:
    return part.layout if part.layout == PARQUET else layouts.decoder(part.layout)
