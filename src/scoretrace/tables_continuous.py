"""
A line of a continuous export as SQL: what DuckDB reads of it, and how each column is made of that.

What may be of another type than it should be is read as text: a column that
cannot take it is null then, and the text is in the column ``unparsed``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scoretrace import sql
from scoretrace.schema import Column, Table
from scoretrace.tables_values import (
    CHECKED,
    ITEM_TYPES,
    bucket_of,
    passed_of,
    severity_of,
    success_of,
    time_of,
    unparsed_of,
)

_UNCOUNTED = {"metric", "counter", "browser_timing"}  # only the sampling rate says how many these stand for
_AGGREGATE = ("value", "count", "min", "max", "stdDev", "sum")
_ARE_OBJECTS = "len(list_filter({0}, lambda x: x::VARCHAR NOT LIKE '{{%')) = 0"
_LEAVES = {"duration": 'STRUCT("value" VARCHAR)', "real": 'STRUCT("value" VARCHAR)'}

# Types of roots whose keys or length are not fixed: a chain of exceptions, the counter whose name is a key.
_ROOTS = {"exception": "JSON", "counter": "MAP(VARCHAR, JSON)[]", "metric": "JSON"}
# A key may hold anything, a slash or a dollar too, which DuckDB's JSON operators would take for a path.
_METRICS = "MAP(VARCHAR, STRUCT(" + ", ".join(f'"{key}" VARCHAR' for key in _AGGREGATE) + "))[]"


def select(table: Table, files: list[str], line_bytes: int, times: str) -> str:
    """The rows of *files* with the classic columns of *table*, and ``unparsed``; *times* is the type of times."""
    columns = [
        f"{time_of(_at(column, table), times) if column.form == 'time' else _value(column, table)} "
        f'AS "{column.classic}"'
        for column in table.all_columns
    ]
    source = sql.read_json(files, _shapes(table), line_bytes)
    return (
        f"SELECT {', '.join(columns)}, {_unparsed(table)} AS unparsed FROM {source}{_unnested(table)} "
        f"WHERE {_is_row(table)}"
    )


def unreadable(table: Table, files: list[str], line_bytes: int) -> str:
    """How many lines of each of *files* are no rows: ``filename``, ``lines``."""
    source = sql.read_json(files, {table.root: _shapes(table)[table.root]}, line_bytes)
    return f"SELECT filename, count(*) AS lines FROM {source} WHERE {_is_row(table)} IS NOT TRUE GROUP BY ALL"


def _is_row(table: Table) -> str:
    """What a root is that holds rows: an array of objects, or an empty one."""
    root = sql.name(table.root)
    if _ROOTS.get(table.kind) == "JSON":
        return f"json_type({root}) = 'ARRAY'"
    return f"({root} IS NOT NULL AND (len({root}) = 0 OR {root}[1] IS NOT NULL))"


def _shapes(table: Table) -> dict[str, str]:
    """The DuckDB type of each top-level key: as much of it as the columns need."""
    tree: dict[str, Any] = {
        "context": {"data": {"samplingRate": "VARCHAR"}, "custom": {"dimensions": "JSON[]", "metrics": _METRICS}},
        "internal": {"data": {}},
        "root": {},
    }
    for column in table.all_columns:
        for path in (column.export.split("."), column.older.split(".")):
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
        return "entry.key" if detail == "name" else _number("entry.value->>'value'")
    return _FORMS[form](column, table)


def _at(column: Column, table: Table) -> str:
    """The expression for the place of *column* in a line; for the other place, too, that older documents have."""
    if column.older:
        return f"coalesce({_in(column.export, table)}, {_in(column.older, table)})"
    return _in(column.export, table)


def _in(path: str, table: Table) -> str:
    first, *rest = path.split(".")
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
        return f"greatest(coalesce({sql.whole_number('entry.value.count')}, 1), 1)"
    if detail == "sum":
        return f"coalesce({_number('entry.value.sum')}, {_number('entry.value.value')})"
    return _number(f'entry.value."{detail}"')


def _details(table: Table) -> str:
    # Of two generations of documents the older one has all in the first element, and no chain behind it.
    elements = f"(\"{table.root}\"->'$[*]')"
    whole = " OR ".join(f"({elements}[1]->'{key}') IS NOT NULL" for key in ("parsedStack", "typeName"))
    chain = f"CASE WHEN len({elements}) = 1 AND ({whole}) THEN {elements} ELSE {elements}[2:] END"
    return f"to_json(list_transform({chain}, lambda x: json_merge_patch(x, json_object('type', x->'typeName'))))"


def _count(column: Column, table: Table) -> str:
    rate = f"{sql.whole_number('round(100.0 / nullif(try_cast(context.data.samplingRate AS DOUBLE), 0))')}"
    if table.kind in _UNCOUNTED:
        return f"greatest(coalesce({rate}, 1), 1)"
    return f"greatest(coalesce(nullif({sql.whole_number(_at(column, table))}, 0), {rate}, 1), 1)"


def _path(column: Column, table: Table) -> str:
    group = 1 if column.classic == "appName" else 2
    folders = "|".join((table.folder, *table.folder_aliases))
    pattern = rf"([^/\\]+)_([0-9a-fA-F]{{32}})[/\\](?:{folders})[/\\]"
    return f"regexp_extract(filename, {sql.quote(pattern)}, {group})"


def _bucket(table: Table) -> str:
    source = next(column for column in table.columns if column.form == "duration" and column.field.endswith("duration"))
    if table.kind == "browser_timing":
        source = next(column for column in table.columns if column.classic == "totalDuration")
    return bucket_of(f"{_number(f'{_at(source, table)}.value')} / 10000.0")


def _plain(column: Column, table: Table) -> str:
    return f"coalesce({_at(column, table)}, '')"


def _severity(column: Column, table: Table) -> str:
    return severity_of(_at(column, table))


def _success(column: Column, table: Table) -> str:
    return success_of(_at(column, table))


def _passed(column: Column, table: Table) -> str:
    return passed_of(_at(column, table))


def _number(value: str) -> str:
    return f"try_cast({value} AS DOUBLE)"


def _unparsed(table: Table) -> str:
    """What columns could not take, as one object by their classic names; null where there is nothing."""
    checks = {}
    for column in table.all_columns:
        form, _, detail = column.form.partition(":")
        if form == "count" and table.kind in _UNCOUNTED:
            rate = "context.data.samplingRate"
            checks[column.classic] = (rate, _number(rate))
        elif form in CHECKED and column.export:
            raw = f"{_at(column, table)}.value" if form in {"duration", "real"} else _at(column, table)
            checks[column.classic] = (raw, CHECKED[form](raw))
        elif form == "metric" and detail not in {"name", "count"}:
            raw = f'entry.value."{detail}"'
            checks[column.classic] = (raw, _number(raw))
        elif column.form == "counter:value":
            checks[column.classic] = ("entry.value->>'value'", _number("entry.value->>'value'"))
    dimensions = "context.custom.dimensions"
    text = f"CASE WHEN NOT ({_ARE_OBJECTS.format(dimensions)}) THEN to_json({dimensions})::VARCHAR END"
    checks["customDimensions"] = (text, "NULL")
    return unparsed_of(checks)


def _dimensions(_column: Column, _table: Table) -> str:
    path = "context.custom.dimensions"
    merged = _merged(path, "substr(x::VARCHAR, 2, length(x::VARCHAR) - 2)")
    # Of a list of anything but objects the text is in `unparsed`.
    return f"CASE WHEN {_ARE_OBJECTS.format(path)} THEN {merged} END"


def _measurements(_column: Column, _table: Table) -> str:
    pair = f"lambda e: to_json(e.key)::VARCHAR || ':' || coalesce(to_json({_number('e.value.value')})::VARCHAR, 'null')"
    return _merged("context.custom.metrics", f"array_to_string(list_transform(map_entries(x), {pair}), ',')")


# How a column of each form is made of its line; those of metrics and counters are made in _value.
_FORMS: dict[str, Callable[[Column, Table], str]] = {
    "text": _plain,
    "code": _plain,
    "constant": lambda _column, table: sql.quote(ITEM_TYPES[table.kind]),
    "absent": lambda _column, _table: "''",
    "path": _path,
    "count": _count,
    "severity": _severity,
    "bool": _success,
    "pass": _passed,
    "duration": lambda column, table: f"{_number(f'{_at(column, table)}.value')} / 10000.0",
    "real": lambda column, table: _number(f"{_at(column, table)}.value"),
    "bucket": lambda _column, table: _bucket(table),
    "dimensions": _dimensions,
    "metrics": _measurements,
    "details": lambda _column, table: _details(table),
}
