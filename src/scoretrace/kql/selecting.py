"""The operators that choose rows and columns: where, project and its siblings, extend, sort, top, take, serialize."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import comparisons, expressions, naming, values
from scoretrace.kql.relations import Column, OrderKey, Relation, Scope, sql_names
from scoretrace.kql.syntax import Expression, Name, Named, Operator, Pattern, SortKey, Star
from scoretrace.kql.values import Value

_DATA_TYPES = {
    "bool": "System.SByte", "datetime": "System.DateTime", "dynamic": "System.Object", "guid": "System.Guid",
    "int": "System.Int32", "long": "System.Int64", "real": "System.Double", "string": "System.String",
    "timespan": "System.TimeSpan",
}  # fmt: skip


def where(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows for which the condition is true."""
    scope = replace(scope, relation=relation)
    test = scope.condition(operator.parts["condition"])
    return filtered(test, scope)


def filtered(test: str, scope: Scope) -> Relation:
    """The rows of *scope* for which SQL's *test* is true."""
    relation = scope.current
    return replace(relation, sql=scope.builder.stage(f"SELECT * FROM {relation.sql} WHERE {test}"), label="")


def _made(named: Sequence[Named], scope: Scope) -> list[tuple[Named, Value, bool]]:
    """The values of named expressions, and whether each is never NaN."""
    found = []
    for one in named:
        made = values.filled(scope.value(one.value))
        found.append((one, made, comparisons.is_plain(one.value, scope)))
    return found


def _said(named: Sequence[Named], scope: Scope) -> list[str]:
    """The names that a list of expressions says by itself, which may not repeat."""
    found: list[str] = []
    for one in named:
        names = one.names or ((one.value.name,) if isinstance(one.value, Name) else ())
        for name in names:
            if name in found:
                raise scope.places.wrong(one.at, f"two columns are called {name}")
            found.append(name)
    return found


def _one_name(one: Named, scope: Scope) -> str | None:
    if len(one.names) > 1:
        raise scope.places.wrong(one.at, f"{len(one.names)} names for one value")
    return one.names[0] if one.names else naming.implied(one.value)


def project(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Just these columns."""
    named: tuple[Named, ...] = operator.parts["values"]
    scope = replace(scope, relation=relation)
    made = _made(named, scope)
    namer = naming.Namer(_said(named, scope))
    names = [namer.take(_one_name(one, scope)) for one, _, _ in made]
    return selected([(name, found, fine) for name, (_, found, fine) in zip(names, made, strict=True)], scope)


def selected(columns: list[tuple[str, Value, bool]], scope: Scope) -> Relation:
    """The rows of *scope* with these columns: name, value, and whether it is never NaN."""
    relation = scope.current
    names = sql_names([name for name, _, _ in columns], relation.hidden)
    cells = [f"{found.sql} AS {sql.name(own)}" for own, (_, found, _) in zip(names, columns, strict=True)]
    cells += [sql.name(name) for name in relation.hidden]
    query = f"SELECT {', '.join(cells) or 'NULL'} FROM {relation.sql}"
    made = tuple(Column(name, own, found.type, fine) for own, (name, found, fine) in zip(names, columns, strict=True))
    return replace(relation, sql=scope.builder.stage(query), columns=made, label="")


def extend(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """More columns; one of a name that is there takes its place."""
    named: tuple[Named, ...] = operator.parts["values"]
    scope = replace(scope, relation=relation)
    _said([one for one in named if one.names], scope)
    made = _made(named, scope)
    namer = naming.Namer(skip=relation.names)
    added: dict[str, tuple[Value, bool]] = {}
    for one, found, fine in made:
        name = namer.take(_one_name(one, scope))
        added[name] = (found, fine)
    return extended(added, scope)


def extended(added: dict[str, tuple[Value, bool]], scope: Scope) -> Relation:
    """The rows of *scope* with columns replaced or added: by name the value, and whether it is never NaN."""
    relation = scope.current
    taken = [column.sql for column in relation.columns] + relation.hidden
    new = [name for name in added if relation.column(name) is None]
    own = dict(zip(new, sql_names(new, taken), strict=True))
    replaced = [
        f"{added[column.name][0].sql} AS {sql.name(column.sql)}" for column in relation.columns if column.name in added
    ]
    star = f"* REPLACE ({', '.join(replaced)})" if replaced else "*"
    cells = [star, *(f"{added[name][0].sql} AS {sql.name(own[name])}" for name in new)]
    columns = [
        Column(column.name, column.sql, added[column.name][0].type, added[column.name][1])
        if column.name in added
        else column
        for column in relation.columns
    ]
    columns += [Column(name, own[name], added[name][0].type, added[name][1]) for name in new]
    query = f"SELECT {', '.join(cells)} FROM {relation.sql}"
    return replace(relation, sql=scope.builder.stage(query), columns=tuple(columns), label="")


def _matched(node: Expression, relation: Relation, scope: Scope) -> list[Column]:
    """The columns that a name or a pattern stands for."""
    if isinstance(node, Star):
        return list(relation.columns)
    if isinstance(node, Pattern):
        return [column for column in relation.columns if fnmatch.fnmatchcase(column.name, node.pattern)]
    if isinstance(node, Name):
        column = relation.column(node.name)
        if column is None:
            raise expressions.unknown_column(node, replace(scope, relation=relation))
        return [column]
    raise scope.places.wrong(node.at, "the name of a column is expected")


def _kept(columns: Sequence[Column], relation: Relation, scope: Scope) -> Relation:
    """The same rows with some of the columns."""
    cells = ", ".join(sql.name(name) for name in [*(column.sql for column in columns), *relation.hidden])
    stage = scope.builder.stage(f"SELECT {cells or 'NULL'} FROM {relation.sql}")
    return replace(relation, sql=stage, columns=tuple(columns), label="")


def project_away(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """All columns but these."""
    gone = [column for node in operator.parts["columns"] for column in _matched(node, relation, scope)]
    return _kept([column for column in relation.columns if column not in gone], relation, scope)


def project_keep(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """These columns, in the order that they have."""
    kept = [column for node in operator.parts["columns"] for column in _matched(node, relation, scope)]
    return _kept([column for column in relation.columns if column in kept], relation, scope)


def project_reorder(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """All columns, these before the others."""
    first: list[Column] = []
    for node, order in zip(operator.parts["columns"], operator.parts["orders"], strict=True):
        found = [column for column in _matched(node, relation, scope) if column not in first]
        if order:
            key = _granny if order.startswith("granny") else lambda column: column.name
            found.sort(key=key, reverse=order.endswith("desc"))
        first += found
    return _kept([*first, *(column for column in relation.columns if column not in first)], relation, scope)


def _granny(column: Column) -> list[tuple[bool, int | str]]:
    """Numbers in names by their size."""
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", column.name)]


def project_rename(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Other names for columns, which stay where they are."""
    renamed: dict[str, str] = {}
    for one in operator.parts["values"]:
        if not one.names or not isinstance(one.value, Name):
            raise scope.places.wrong(one.at, "project-rename takes NewName = OldName")
        (column,) = _matched(one.value, relation, scope)
        renamed[column.name] = one.names[0]
    names = [renamed.get(column.name, column.name) for column in relation.columns]
    if len(set(names)) < len(names):
        raise scope.places.wrong(operator.at, "two columns would have the same name")
    columns = [replace(column, name=name) for column, name in zip(relation.columns, names, strict=True)]
    return _kept(columns, relation, scope)


def order_keys(keys: Sequence[SortKey], scope: Scope) -> tuple[OrderKey, ...]:
    """What rows are sorted by, as columns of the rows of *scope* that only SQL sees."""
    found = []
    for key in keys:
        by = scope.value(key.value)
        if by.type == "dynamic":
            raise scope.places.wrong(
                key.value.at, "rows cannot be sorted by a dynamic: say tostring(...), tolong(...) or todouble(...)"
            )
        first = key.ascending if key.nulls_first is None else key.nulls_first
        if by.type == "real" and not comparisons.is_plain(key.value, scope):
            # NaN stands between the nulls and the numbers, on whichever side those are.
            rank = scope.add(f"CASE WHEN {by.sql} IS NULL THEN 0 WHEN isnan({by.sql}) THEN 1 ELSE 2 END", "rank")
            found.append(OrderKey(rank, ascending=first, nulls_first=True))
        found.append(OrderKey(scope.add(by.sql, "key"), key.ascending, first))
    return tuple(found)


def sort(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows in an order, which whatever comes next keeps or ends."""
    scope = replace(scope, relation=relation)
    keys = order_keys(operator.parts["keys"], scope)
    return replace(scope.current, order=keys, is_serialized=True, label="")


def _number(node: Expression, operator: Operator, scope: Scope) -> int:
    found = scope.outside().value(node)
    if not found.is_constant or found.type not in {"int", "long"} or found.constant is None:
        raise scope.places.wrong(node.at, f"{operator.name} takes a literal number of rows")
    return max(int(found.constant), 0)


def take(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """So many rows: the first where they are in an order, else any."""
    return _first(_number(operator.parts["rows"], operator, scope), relation, scope)


def _first(count: int, relation: Relation, scope: Scope) -> Relation:
    if relation.partition:
        query = f"SELECT * FROM {relation.sql} QUALIFY row_number() OVER {relation.window} <= {count}"
    else:
        query = f"SELECT * FROM {relation.sql}{relation.ordering} LIMIT {count}"
    return replace(relation, sql=scope.builder.stage(query), label="")


def top(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """The first so many rows in an order."""
    count = _number(operator.parts["rows"], operator, scope)
    return _first(count, sort(operator, relation, scope), scope)


def serialize(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows in the order that they have, which from now on counts."""
    if not relation.order:
        scope = replace(scope, relation=relation)
        number = scope.add("row_number() OVER ()", "number")
        relation = replace(scope.current, order=(OrderKey(number, ascending=True, nulls_first=True),))
    relation = replace(relation, is_serialized=True, label="")
    return extend(operator, relation, scope) if operator.parts["values"] else relation


def getschema(_operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """A row for each column."""
    lines = [
        f"({sql.quote(column.name)}, {index}::BIGINT, {sql.quote(_DATA_TYPES[column.type])}, {sql.quote(column.type)})"
        for index, column in enumerate(relation.columns)
    ]
    names = {"ColumnName": "string", "ColumnOrdinal": "long", "DataType": "string", "ColumnType": "string"}
    query = f"SELECT * FROM (VALUES {', '.join(lines)}) AS t({', '.join(map(sql.name, names))})"
    columns = tuple(Column(name, name, kind) for name, kind in names.items())
    return Relation(scope.builder.stage(query), columns, is_serialized=True)
