"""A record of a diagnostic setting, a data export or an Event Hub as SQL: how each classic column is made of it."""

from __future__ import annotations

from collections.abc import Callable

from scoretrace import sql
from scoretrace.formats import diagnostics
from scoretrace.schema import BY_WORKSPACE, Column, Table
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

_TYPE = "Type"


def select(table: Table, files: list[str], line_bytes: int, times: str) -> str:
    """The rows of *files* that are of *table*: its classic columns, and ``unparsed``; *times* is the type of times."""
    columns = [
        f'{time_of(_at(column), times) if column.form == "time" else _value(column, table)} AS "{column.classic}"'
        for column in table.all_columns
    ]
    source = sql.read_json(files, _shapes(table), line_bytes)
    return (
        f"SELECT {', '.join(columns)}, {_unparsed(table)} AS unparsed FROM {source} "
        f'WHERE "{_TYPE}" = {sql.quote(table.workspace)}'
    )


def unreadable(table: Table | None, files: list[str], line_bytes: int) -> str:
    """How many lines of each of *files* are no records of *table*, or of any: ``filename``, ``lines``."""
    known = ", ".join(map(sql.quote, BY_WORKSPACE if table is None else [table.workspace]))
    source = sql.read_json(files, {_TYPE: "VARCHAR"}, line_bytes)
    return (
        f"SELECT filename, count(*) AS lines FROM {source} "
        f'WHERE "{_TYPE}" IS NULL OR "{_TYPE}" NOT IN ({known}) GROUP BY ALL'
    )


def _shapes(table: Table) -> dict[str, str]:
    shapes = {_TYPE: "VARCHAR", "PerformanceBucket": "VARCHAR"}
    for column in table.all_columns:
        for key in diagnostics.keys(column):
            shapes.setdefault(key, "JSON" if column.type == "dynamic" else "VARCHAR")
    return shapes


def _at(column: Column) -> str:
    keys = [sql.name(key) for key in diagnostics.keys(column)]
    return keys[0] if len(keys) == 1 else f"coalesce({', '.join(keys)})"


def _value(column: Column, table: Table) -> str:
    if column.form == "constant":
        return sql.quote(ITEM_TYPES[table.kind])
    if column.form == "bucket":
        total = "TotalDurationMs" if table.kind == "browser_timing" else "DurationMs"
        return f'coalesce("PerformanceBucket", {bucket_of(f"try_cast({sql.name(total)} AS DOUBLE)")})'
    if not diagnostics.keys(column):
        return f"NULL::{'DOUBLE' if column.type == 'real' else 'VARCHAR'}"
    return _FORMS.get(column.form, _text)(_at(column))


def _text(at: str) -> str:
    return f"coalesce({at}, '')"


def _number(at: str) -> str:
    return f"try_cast({at} AS DOUBLE)"


def _count(at: str) -> str:
    return f"greatest(coalesce({sql.whole_number(at)}, 1), 1)"


def _dynamic(at: str) -> str:
    """JSON, which some write as text that holds it."""
    text = f"({at}->>'$')"
    return f"CASE WHEN json_type({at}) = 'VARCHAR' AND json_valid({text}) THEN {text}::JSON ELSE {at} END"


def _unparsed(table: Table) -> str:
    checks = {
        column.classic: (_at(column), _CHECKED[column.form](_at(column)))
        for column in table.all_columns
        if column.form in _CHECKED and diagnostics.keys(column)
    }
    return unparsed_of(checks)


_FORMS: dict[str, Callable[[str], str]] = {
    "count": _count,
    "severity": severity_of,
    "bool": success_of,
    "pass": passed_of,
    "duration": _number,
    "real": _number,
    "dimensions": _dynamic,
    "metrics": _dynamic,
    "details": _dynamic,
    "metric:count": _count,
    "counter:value": _number,
    **{f"metric:{key}": _number for key in ("value", "sum", "min", "max", "stdDev")},
}
_CHECKED = {
    form: _number for form in _FORMS if form.startswith(("metric:", "counter:")) and form != "metric:count"
} | CHECKED
