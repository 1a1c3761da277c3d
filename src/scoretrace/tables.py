"""
DuckDB views over export files: the ten tables of Application Insights, on this machine.

Each view is made from the schema table: what DuckDB reads of a line, and how a
column is made of it. The values are those that the classic tables show, so that
a query answers the same here as in Azure: text is never null, `success` is the
text "True" or "False", durations are milliseconds, severities 0 to 4, and
`customDimensions` one object. DuckDB keeps microseconds of a time, where the
journal has 100 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from scoretrace import sql
from scoretrace.schema import SEVERITIES, TABLES, Column, Table

if TYPE_CHECKING:
    import duckdb

    from scoretrace.read import Blob

ITEM_TYPES = {
    "trace": "trace",
    "request": "request",
    "dependency": "dependency",
    "exception": "exception",
    "event": "customEvent",
    "metric": "customMetric",
    "page_view": "pageView",
    "availability": "availabilityResult",
    "counter": "performanceCounter",
    "browser_timing": "browserTiming",
}
_TYPES = {"string": "VARCHAR", "int": "INTEGER", "real": "DOUBLE", "datetime": "TIMESTAMP", "dynamic": "JSON"}
_LEAVES = {"duration": 'STRUCT("value" DOUBLE)', "real": 'STRUCT("value" DOUBLE)', "count": "DOUBLE"}
# A row that could not be diverted is kept whole, however large: the second is for homes that have such a one.
LINE_BYTES, LONG_LINE_BYTES = 16 * 1024**2, 1024**3
_BUCKETS = (
    (250, "<250ms"),
    (500, "250ms-500ms"),
    (1_000, "500ms-1sec"),
    (3_000, "1sec-3sec"),
    (7_000, "3sec-7sec"),
    (15_000, "7sec-15sec"),
    (30_000, "15sec-30sec"),
    (60_000, "30sec-1min"),
    (120_000, "1min-2min"),
    (300_000, "2min-5min"),
)
_AGGREGATE = ("value", "count", "min", "max", "stdDev", "sum")

# Types of roots whose keys or length are not fixed: a chain of exceptions, the counter whose name is a key.
_ROOTS = {"exception": "JSON", "counter": "MAP(VARCHAR, JSON)[]", "metric": "JSON"}
# A key may hold anything, a slash or a dollar too, which DuckDB's JSON operators would take for a path.
_METRICS = "MAP(VARCHAR, STRUCT(" + ", ".join(f'"{key}" DOUBLE' for key in _AGGREGATE) + "))[]"


def create_views(
    connection: duckdb.DuckDBPyConnection,
    blobs: Iterable[Blob],
    window: tuple[str | None, str | None] = (None, None),
    line_bytes: int = LINE_BYTES,
) -> None:
    """
    Create a view for each table, over those of *blobs* that are its own.

    *window* is the ISO 8601 time from which on, and before which, rows are in
    the views: what Azure applies outside a query as its time span. DuckDB takes
    several times *line_bytes*, the longest line, of memory for each thread.
    """
    files: dict[str, list[str]] = {table.kind: [] for table in TABLES}
    for blob in blobs:
        files[blob.table.kind].append(str(blob.path))
    for table in TABLES:
        connection.execute(
            f'CREATE OR REPLACE VIEW "{table.classic}" AS {_select(table, files[table.kind], window, line_bytes)}'
        )


def unreadable(
    connection: duckdb.DuckDBPyConnection, blobs: Iterable[Blob], line_bytes: int = LINE_BYTES
) -> dict[str, int]:
    """How many lines of which files are no rows of their table. A last line without its newline is none yet."""
    by_table: dict[str, list[Blob]] = {}
    for blob in blobs:
        by_table.setdefault(blob.table.kind, []).append(blob)
    counts: dict[str, int] = {}
    for table in TABLES:
        files = [str(blob.path) for blob in by_table.get(table.kind, ())]
        if files:
            lines = _source(table, files, line_bytes)
            query = f'SELECT filename, count(*) FROM {lines} WHERE "{table.root}" IS NULL GROUP BY ALL'
            counts.update(connection.execute(query).fetchall())
    for blobs_of in by_table.values():
        for blob in blobs_of:
            name = str(blob.path)
            if name in counts and _is_unfinished(blob):
                counts[name] -= 1
    return {name: count for name, count in counts.items() if count > 0}


def _is_unfinished(blob: Blob) -> bool:
    with blob.path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - 1, 0))
        return file.read(1) not in (b"\n", b"")


def _select(table: Table, files: list[str], window: tuple[str | None, str | None], line_bytes: int) -> str:
    if not files:
        empty = ", ".join(f'NULL::{_TYPES[column.type]} AS "{column.classic}"' for column in table.all_columns)
        return f"SELECT {empty} WHERE false"
    columns = ", ".join(
        f'({_value(column, table)})::{_TYPES[column.type]} AS "{column.classic}"' for column in table.all_columns
    )
    query = (
        f'SELECT {columns} FROM {_source(table, files, line_bytes)}{_unnested(table)} WHERE "{table.root}" IS NOT NULL'
    )
    since, until = window
    bounds = [f"timestamp >= {sql.quote(since)}::TIMESTAMP"] if since else []
    bounds += [f"timestamp < {sql.quote(until)}::TIMESTAMP"] if until else []
    return f"SELECT * FROM ({query}) WHERE {' AND '.join(bounds)}" if bounds else query


def _source(table: Table, files: list[str], line_bytes: int) -> str:
    shapes = ", ".join(f"{sql.quote(name)}: {sql.quote(shape)}" for name, shape in _shapes(table).items())
    return (
        f"read_json([{', '.join(map(sql.quote, files))}], format='newline_delimited', columns={{{shapes}}}, "
        f"ignore_errors=true, filename=true, hive_partitioning=false, maximum_object_size={line_bytes})"
    )


def _shapes(table: Table) -> dict[str, str]:
    """The DuckDB type of each top-level key: as much of it as the columns need."""
    tree: dict[str, Any] = {
        "context": {"data": {"samplingRate": "DOUBLE"}, "custom": {"dimensions": "JSON[]", "metrics": _METRICS}},
        "internal": {"data": {}},
        "root": {},
    }
    for column in table.all_columns:
        path = column.export.split(".")
        if path[0] in tree and column.form not in {"dimensions", "metrics"}:
            place = tree[path[0]]
            for step in path[1:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = _LEAVES.get(column.form, "VARCHAR")
    root = tree.pop("root")
    shapes = {key: _struct(value) for key, value in tree.items()}
    shapes[table.root] = _ROOTS.get(table.kind) or f"{_struct(root)}[]"
    return shapes


def _struct(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    return f"STRUCT({', '.join(f'{sql.name(key)} {_struct(value)}' for key, value in tree.items())})"


def _unnested(table: Table) -> str:
    if table.kind == "metric":  # one line may carry several metrics, each of which is a row
        entries = "flatten(list_transform(context.custom.metrics, lambda m: map_entries(m)))"
        return f", unnest({entries}) AS metrics(entry)"
    if table.kind == "counter":  # the counter's name is the key of its value
        entries = f"list_filter(map_entries(\"{table.root}\"[1]), lambda e: json_type(e.value) = 'OBJECT')"
        return f", (SELECT {entries}[1] AS entry)"
    return ""


def _value(column: Column, table: Table) -> str:
    form, _, detail = column.form.partition(":")
    if form == "metric":
        return _metric(detail)
    if form == "counter":
        return "entry.key" if detail == "name" else "entry.value->>'value'"
    return _FORMS[form](column, table)


def _at(column: Column, table: Table) -> str:
    """The expression for the place of *column* in a line."""
    first, *rest = column.export.split(".")
    if first == "root" and table.kind == "exception":
        return f'"{table.root}"->0->>{sql.quote("$." + ".".join(rest))}'
    if first == "root" and table.kind == "counter":
        return f"\"{table.root}\"[1][{sql.quote(rest[0])}]->>'$'"
    head = f'"{table.root}"[1]' if first == "root" else first
    return ".".join([head, *map(sql.name, rest)])


def _merged(path: str, element: str) -> str:
    """One object of a list of objects, each *x* of which gives its pairs as *element*; null where there is none."""
    pairs = f"array_to_string(list_transform({path}, lambda x: {element}), ',')"
    return f"CASE WHEN len({path}) > 0 THEN '{{' || {pairs} || '}}' END"


def _metric(detail: str) -> str:
    if detail == "name":
        return "entry.key"
    if detail == "count":
        return "coalesce(entry.value.count, 1)"
    return "coalesce(entry.value.sum, entry.value.value)" if detail == "sum" else f'entry.value."{detail}"'


def _details(table: Table) -> str:
    return (
        f"to_json(list_transform((\"{table.root}\"->'$[*]')[2:], "
        f"lambda x: json_merge_patch(x, json_object('type', x->'typeName'))))"
    )


def _count(column: Column, table: Table) -> str:
    rate = "round(100.0 / nullif(context.data.samplingRate, 0))"
    if table.kind == "exception":
        return f"coalesce(try_cast({_at(column, table)} AS DOUBLE), {rate}, 1)"
    if table.kind in _ROOTS:
        return f"coalesce({rate}, 1)"
    return f"coalesce({_at(column, table)}, {rate}, 1)"


def _path(column: Column, table: Table) -> str:
    group = 1 if column.classic == "appName" else 2
    folders = "|".join((table.folder, *table.folder_aliases))
    pattern = rf"([^/\\]+)_([0-9a-fA-F]{{32}})[/\\](?:{folders})[/\\]"
    return f"regexp_extract(filename, {sql.quote(pattern)}, {group})"


def _bucket(table: Table) -> str:
    source = next(column for column in table.columns if column.form == "duration" and column.field.endswith("duration"))
    if table.kind == "browser_timing":
        source = next(column for column in table.columns if column.classic == "totalDuration")
    milliseconds = f"{_at(source, table)}.value / 10000.0"
    cases = " ".join(f"WHEN {milliseconds} < {limit} THEN {sql.quote(name)}" for limit, name in _BUCKETS)
    return f"CASE WHEN {milliseconds} IS NULL THEN '' {cases} ELSE '>=5min' END"


def _cases(value: str, results: dict[str, str], otherwise: str) -> str:
    cases = " ".join(f"WHEN {sql.quote(key)} THEN {result}" for key, result in results.items())
    return f"CASE {value} {cases} ELSE {otherwise} END"


def _plain(column: Column, table: Table) -> str:
    return f"coalesce({_at(column, table)}, '')"


def _time(column: Column, table: Table) -> str:
    return f"nullif(try_cast({_at(column, table)} AS TIMESTAMP), TIMESTAMP '0001-01-01')"


def _severity(column: Column, table: Table) -> str:
    levels = {name.lower(): str(level) for level, name in enumerate(SEVERITIES)}
    return _cases(f"lower({_at(column, table)})", levels, f"try_cast({_at(column, table)} AS INTEGER)")


def _success(column: Column, table: Table) -> str:
    words = {"true": "'True'", "false": "'False'", "pass": "'True'", "fail": "'False'"}
    return _cases(f"lower({_at(column, table)})", words, "''")


def _dimensions(_column: Column, _table: Table) -> str:
    return _merged("context.custom.dimensions", "substr(x::VARCHAR, 2, length(x::VARCHAR) - 2)")


def _measurements(_column: Column, _table: Table) -> str:
    pair = "lambda e: to_json(e.key)::VARCHAR || ':' || to_json(e.value.value)::VARCHAR"
    return _merged("context.custom.metrics", f"array_to_string(list_transform(map_entries(x), {pair}), ',')")


# How a column of each form is made of its line; those of metrics and counters are made in _value.
_FORMS: dict[str, Callable[[Column, Table], str]] = {
    "text": _plain,
    "code": _plain,
    "time": _time,
    "constant": lambda _column, table: sql.quote(ITEM_TYPES[table.kind]),
    "absent": lambda _column, _table: "''",
    "path": _path,
    "count": _count,
    "severity": _severity,
    "bool": _success,
    "pass": _success,
    "duration": lambda column, table: f"{_at(column, table)}.value / 10000.0",
    "real": lambda column, table: f"{_at(column, table)}.value",
    "bucket": lambda _column, table: _bucket(table),
    "dimensions": _dimensions,
    "metrics": _measurements,
    "details": lambda _column, table: _details(table),
}
