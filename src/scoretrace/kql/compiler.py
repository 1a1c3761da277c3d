"""A query as one statement of SQL, with the names and types of the columns that it answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from scoretrace import sql
from scoretrace.errors import QueryError
from scoretrace.kql import calls, expressions, invocations, pipelines
from scoretrace.kql.parser import parse
from scoretrace.kql.places import Places
from scoretrace.kql.relations import Builder, Column, Language, Names, Relation, Scope, sql_names
from scoretrace.kql.syntax import Literal, Operator, Pipeline, Query

# What changes how a query is run in Azure, and never what it answers.
_HARMLESS = {"notruncation", "truncationmaxrecords", "truncationmaxsize", "servertimeout", "best_effort"}
_LANGUAGE = Language(
    expressions.value, expressions.condition, calls.call, pipelines.rows, pipelines.is_tabular, pipelines.apply
)


class Rendering(msgspec.Struct, frozen=True):
    """What a query says of the chart that its answer is to be: its *kind* and its properties."""

    kind: str
    properties: dict[str, Any] = {}


class Compiled(msgspec.Struct, frozen=True):
    """A query in SQL; *columns* are the names and Kusto types, *tables* what it reads."""

    sql: str
    columns: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]
    rendering: Rendering | None = None


def compile_query(
    text: str | Query,
    tables: Mapping[str, Sequence[tuple[str, str]]],
    *,
    now: int,
    aside: Collection[str] = (),
    probe: Callable[[str], list[tuple[Any, ...]]] | None = None,
) -> Compiled:
    """
    *text* as SQL over *tables*: by name the columns and Kusto types of each.

    Those of *aside* are not meant by an asterisk alone.
    *now* is the time that `now()` and `ago()` go by, in 100 ns since the year 1.
    *probe* runs SQL for operators whose columns depend on rows; without it
    they are refused.

    Raises:
        QueryError: it is no Kusto, names what is not there, or cannot be answered here.
    """
    query = parse(text) if isinstance(text, str) else text
    places = Places(query.text)
    known = {name: _table(name, columns) for name, columns in tables.items()}
    builder = Builder(places, known, _now(query, now), _LANGUAGE, aside)
    builder.probe = probe or _no_rows
    try:
        scope = invocations.bind(query.lets, Scope(builder, Names()))
        relation = pipelines.rows(query.body, scope)
        return Compiled(
            builder.statement(_shown(relation)), _described(relation), tuple(builder.used), _rendering(query)
        )
    except RecursionError as error:
        raise QueryError("the query is nested too deeply") from error
    except OverflowError as error:
        raise QueryError("a time of the query is outside of the years 1 to 9999") from error


def _no_rows(_query: str) -> list[tuple[Any, ...]]:
    raise QueryError("the columns of this query depend on its rows")


def _now(query: Query, now: int) -> int:
    for name, value in query.options.items():
        if name == "query_now" and isinstance(value, Literal) and value.type == "datetime":
            return int(value.value)
        if name not in _HARMLESS:
            raise Places(query.text).unsupported(max(query.text.find(name), 0), f"set {name}")
    return now


def _table(name: str, columns: Sequence[tuple[str, str]]) -> Relation:
    own = sql_names([column for column, _ in columns])
    made = tuple(Column(column, new, kind, is_plain=True) for new, (column, kind) in zip(own, columns, strict=True))
    return Relation(sql.name(name), made, label=name)


def _described(relation: Relation) -> tuple[tuple[str, str], ...]:
    return tuple((column.name, column.type) for column in relation.columns)


def _shown(relation: Relation) -> str:
    """The rows as they are shown: in their order, and a timespan as DuckDB has it."""
    cells = []
    for index, column in enumerate(relation.columns):
        own = sql.name(column.sql)
        if column.type == "timespan":
            own = f"to_microseconds({own} // 10)"
        cells.append(f"{own} AS c{index}")
    return f"SELECT {', '.join(cells) or 'NULL AS none'} FROM {relation.sql}{relation.ordering}"


def _rendering(query: Query) -> Rendering | None:
    if not isinstance(query.body, Pipeline) or not query.body.operators:
        return None
    last: Operator = query.body.operators[-1]
    if last.name != "render":
        return None
    return Rendering(last.parts["kind"], dict(last.parameters))
