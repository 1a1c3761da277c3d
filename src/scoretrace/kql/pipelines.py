"""
Pipelines: what rows come from, and each operator handed to the module that knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import (
    expanding,
    grouping,
    invocations,
    joining,
    matching,
    plugins,
    searching,
    selecting,
    series,
    values,
)
from scoretrace.kql.relations import Bound, Column, Relation, Scope, sql_names
from scoretrace.kql.syntax import Call, Datatable, Expression, Name, Operator, Pattern, Pipeline, Print, Range
from scoretrace.kql.values import Value

Compile = Callable[[Operator, Relation, Scope], Relation]


def is_tabular(node: Expression, scope: Scope) -> bool:
    """Whether an expression stands for rows rather than for a value."""
    if isinstance(node, Pipeline):
        return True
    if isinstance(node, Datatable | Range | Print | Pattern):
        return True
    if isinstance(node, Name):
        bound = scope.names.find(node.name)
        if bound is not None:
            return bound.relation is not None
        return node.name in scope.builder.tables
    if isinstance(node, Call):
        if node.name in {"materialize", "table", "view"}:
            return True
        bound = scope.names.find(node.name)
        return bound is not None and invocations.gives_rows(bound, scope)
    return False


def rows(node: Expression, scope: Scope) -> Relation:
    """
    The rows that an expression stands for.

    Raises:
        QueryError: it stands for none, or for ones that cannot be had here.
    """
    scope = replace(scope, relation=None, aggregates=None)
    if isinstance(node, Pipeline):
        return _pipeline(node, scope)
    if isinstance(node, Name):
        return _table(node, scope)
    if isinstance(node, Call):
        return _call(node, scope)
    if isinstance(node, Datatable):
        return _datatable(node, scope)
    if isinstance(node, Range):
        return _range(node, scope)
    if isinstance(node, Print):
        return _print(node, scope)
    # A value alone is a row of itself.
    found = scope.value(node)
    return _single([("print_0", found)], scope)


def _pipeline(node: Pipeline, scope: Scope) -> Relation:
    if isinstance(node.source, Operator):
        if node.source.name == "union":
            relation = joining.union(node.source, None, scope)
        else:
            relation = searching.search(node.source, None, scope)
    else:
        relation = rows(node.source, scope)
    return apply(node.operators, relation, scope)


def apply(operators: Sequence[Operator], relation: Relation, scope: Scope) -> Relation:
    """Rows after all of these operators."""
    for index, operator in enumerate(operators):
        if operator.name == "as":
            relation = _shared(relation, scope)
            scope = replace(scope, names=scope.names.with_(operator.parts["name"], Bound(relation=relation)))
            continue
        if operator.name == "render":
            if index != len(operators) - 1:
                raise scope.places.wrong(operator.at, "render is the last operator of a query")
            continue
        if relation.partition and operator.name not in _OF_PARTITIONS:
            raise scope.places.unsupported(operator.at, f"{operator.name} inside mv-apply")
        relation = _OPERATORS[operator.name](operator, relation, scope)
    return relation


def _shared(relation: Relation, scope: Scope) -> Relation:
    stage = scope.builder.stage(f"SELECT * FROM {relation.sql}", is_shared=True)
    return replace(relation, sql=stage)


def _table(node: Name, scope: Scope) -> Relation:
    bound = scope.names.find(node.name)
    if bound is not None:
        if bound.relation is None:
            if bound.function is not None and not bound.function.parameters:
                return invocations.tabular(Call(node.at, node.name, ()), bound, scope)
            raise scope.places.wrong(node.at, f"{node.name} is a value, where rows are expected")
        return bound.relation
    found = scope.builder.table(node.name)
    if found is None:
        raise scope.places.unknown(node.at, "table", node.name, [*scope.builder.tables, *scope.names])
    return found


def _call(node: Call, scope: Scope) -> Relation:
    bound = scope.names.find(node.name)
    if bound is not None and bound.function is not None:
        return invocations.tabular(node, bound, scope)
    if node.name in {"materialize", "view"} and len(node.arguments) == 1:
        return _shared(rows(node.arguments[0], scope), scope)
    if node.name == "table" and len(node.arguments) == 1:
        name = scope.value(node.arguments[0])
        if name.type != "string" or not name.is_constant:
            raise scope.places.wrong(node.at, "table() takes the name of a table as a literal")
        return _table(Name(node.at, name.constant), scope)
    found = scope.value(node)
    return _single([("print_0", found)], scope)


def _datatable(node: Datatable, scope: Scope) -> Relation:
    kinds = [kind for _, kind in node.columns]
    lines = []
    for start in range(0, len(node.values), len(kinds)):
        cells = []
        for written, kind in zip(node.values[start : start + len(kinds)], kinds, strict=True):
            cells.append(_cell(written, kind, scope).sql)
        lines.append(f"({', '.join(cells)})")
    columns = _columns([(name, kind, False) for name, kind in node.columns])
    names = ", ".join(sql.name(column.sql) for column in columns)
    if lines:
        query = f"SELECT * FROM (VALUES {', '.join(lines)}) AS t({names})"
    else:
        nothing = ", ".join(values.null(kind).sql for kind in kinds)
        query = f"SELECT * FROM (VALUES ({nothing})) AS t({names}) WHERE FALSE"
    return _numbered(query, columns, scope)


def _cell(written: Expression, kind: str, scope: Scope) -> Value:
    if kind == "decimal":
        raise scope.places.unsupported(written.at, "a decimal")
    found = scope.value(written)
    if found.type == kind:
        return found
    if found.constant is None:
        return values.null(kind)
    if kind == "dynamic":
        return values.parsed(found) if found.type == "string" else values.dynamic(found)
    made = values.CONVERSIONS[kind](found)
    return replace(made, sql=f"CAST({made.sql} AS {values.SQL_TYPES[kind]})")


def _numbered(query: str, columns: tuple[Column, ...], scope: Scope) -> Relation:
    """Rows that are in the order in which they were written."""
    return Relation(scope.builder.stage(query), columns, is_serialized=True)


def _columns(described: list[tuple[str, str, bool]]) -> tuple[Column, ...]:
    names = sql_names([name for name, _, _ in described])
    return tuple(Column(name, own, kind, fine) for (name, kind, fine), own in zip(described, names, strict=True))


def _range(node: Range, scope: Scope) -> Relation:
    start, stop, step = (scope.value(part) for part in (node.start, node.stop, node.step))
    kinds = {start.type, stop.type, step.type}
    name = sql.name(node.name)
    if kinds <= {"int", "long"} or kinds == {"timespan"}:
        kind = "timespan" if "timespan" in kinds else "long"
        bounds = ", ".join(values.long(part).sql for part in (start, stop, step))
    elif (start.type, stop.type, step.type) == ("datetime", "datetime", "timespan"):
        kind = "datetime"
        bounds = f"{start.sql}, {stop.sql}, to_microseconds({step.sql} // 10)"
    elif kinds <= values.NUMBERS:
        one, other, size = (values.real(part).sql for part in (start, stop, step))
        last = f"CAST(floor(({other} - {one}) / {size}) AS BIGINT)"
        query = f"SELECT {one} + i * {size} AS {name} FROM (SELECT unnest(range({last} + 1)) AS i)"
        return _numbered(query, _columns([(node.name, "real", True)]), scope)
    else:
        raise scope.places.wrong(
            node.at, f"range does not go from a {start.type} to a {stop.type} in steps of a {step.type}"
        )
    if all(part.is_constant for part in (start, stop, step)):  # one after the other, however many
        query = f"SELECT generate_series AS {name} FROM generate_series({bounds})"
    else:
        query = f"SELECT unnest(generate_series({bounds})) AS {name}"
    return _numbered(query, _columns([(node.name, kind, True)]), scope)


def _print(node: Print, scope: Scope) -> Relation:
    made = []
    for index, named in enumerate(node.values):
        name = named.names[0] if named.names else f"print_{index}"
        made.append((name, scope.value(named.value)))
    return _single(made, scope)


def _single(made: list[tuple[str, Value]], scope: Scope) -> Relation:
    columns = _columns([(name, found.type, False) for name, found in made])
    cells = ", ".join(
        f"{values.filled(found).sql} AS {sql.name(column.sql)}"
        for column, (_, found) in zip(columns, made, strict=True)
    )
    return _numbered(f"SELECT {cells}", columns, scope)


def _invoke(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    call: Call = operator.parts["call"]
    bound = scope.names.find(call.name)
    if bound is None or bound.function is None:
        raise scope.places.unknown(call.at, "function", f"{call.name}()", [f"{known}()" for known in scope.names])
    return invocations.tabular(call, bound, scope, relation)


# Of the rows of one mv-apply at a time these are answered as of all rows.
_OF_PARTITIONS = frozenset(
    {
        "where", "filter", "extend", "project", "project-away", "project-keep", "project-rename", "project-reorder",
        "summarize", "count", "distinct", "order", "sort", "top", "take", "limit", "serialize", "mv-expand", "mvexpand",
        "parse", "parse-where",
    }
)  # fmt: skip
_OPERATORS: dict[str, Compile] = {
    "count": grouping.count,
    "distinct": grouping.distinct,
    "evaluate": plugins.evaluate,
    "extend": selecting.extend,
    "filter": selecting.where,
    "getschema": selecting.getschema,
    "invoke": _invoke,
    "join": joining.join,
    "limit": selecting.take,
    "lookup": joining.lookup,
    "make-series": series.make_series,
    "mv-apply": expanding.mv_apply,
    "mv-expand": expanding.mv_expand,
    "mvapply": expanding.mv_apply,
    "mvexpand": expanding.mv_expand,
    "order": selecting.sort,
    "parse": matching.parse,
    "parse-where": matching.parse,
    "project": selecting.project,
    "project-away": selecting.project_away,
    "project-keep": selecting.project_keep,
    "project-rename": selecting.project_rename,
    "project-reorder": selecting.project_reorder,
    "search": searching.search,
    "serialize": selecting.serialize,
    "sort": selecting.sort,
    "summarize": grouping.summarize,
    "take": selecting.take,
    "top": selecting.top,
    "top-nested": grouping.top_nested,
    "union": joining.union,
    "where": selecting.where,
}
