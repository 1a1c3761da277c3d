"""The operators that make rows of the elements of a dynamic: mv-expand and mv-apply."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import dynamics, naming, selecting, values
from scoretrace.kql.relations import Column, OrderKey, Relation, Scope, sql_names
from scoretrace.kql.syntax import Name, Named, Operator, Path, names_in
from scoretrace.kql.values import Value


class _Target(msgspec.Struct, frozen=True):
    """A column of elements: its *name*, the dynamic that they are in, and the type that they become."""

    name: str
    source: Value
    type: str


def mv_expand(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """A row for each element; several dynamics side by side, the shorter ones filled up with null."""
    return _expanded(operator, relation, scope)


def _targets(operator: Operator, scope: Scope) -> list[_Target]:
    found = []
    for one, kind in operator.parts["targets"]:
        source = scope.value(one.value)
        if source.type != "dynamic":
            raise scope.places.wrong(one.at, f"{operator.name} takes a dynamic, not a {source.type}")
        found.append(_Target(_name(one, scope), source, kind or "dynamic"))
    return found


def _name(one: Named, scope: Scope) -> str:
    """The name of the column: what is expanded without one takes the place of the column that it is made of."""
    if one.names:
        return one.names[0]
    name = naming.implied(one.value)
    if name is None or isinstance(one.value, Path):
        read = names_in(one.value)
        if isinstance(one.value, Path) and name is not None:
            return name
        if len(read) == 1:
            return read.pop()
        raise scope.places.unsupported(one.at, "an expression of mv-expand without a name", "needs one: name = ...")
    return name


def _elements(found: Value, *, bags_as_arrays: bool) -> str:
    """The elements as a list: those of an array, the properties of a bag, and one for anything else."""
    key, value = f"{dynamics.ELEMENT}.key", f"{dynamics.ELEMENT}.value"
    made = f"to_json([to_json({key}), {value}])" if bags_as_arrays else f"json_object({key}, {value})"
    properties = dynamics.each(dynamics.entries(found.sql), made)
    return (
        f"CASE {values.json_type(found)} WHEN 'ARRAY' THEN {dynamics.elements(found.sql)} "
        f"WHEN 'OBJECT' THEN CAST({properties} AS JSON[]) ELSE [{found.sql}] END"
    )


def _element(written: str, kind: str) -> str:
    """An element as ``to typeof(...)`` has it: a number is read of a number alone, a time of text alone."""
    held = Value(written, "dynamic")
    if kind == "dynamic":
        return written
    if kind == "string":
        return values.text(held).sql
    numbers = "'BIGINT', 'UBIGINT', 'DOUBLE'"
    number = f"try_cast(json_extract_string({written}, '$') AS DOUBLE)"
    body = {
        "long": (numbers, f"CAST(trunc({number}) AS BIGINT)"),
        "int": (numbers, f"try_cast(trunc({number}) AS INTEGER)"),
        "real": (numbers, number),
        "datetime": ("'VARCHAR'", values.moment(held).sql),
        "guid": ("'VARCHAR'", values.guid(held).sql),
    }
    if kind == "bool":
        whole = f"CASE WHEN json_type({written}) IN ('BIGINT', 'UBIGINT') THEN {number} <> 0 END"
        return f"CASE WHEN json_type({written}) = 'BOOLEAN' THEN {written}::BOOLEAN ELSE {whole} END"
    taken, made = body[kind]
    return f"CASE WHEN json_type({written}) IN ({taken}) THEN {made} END"


def _expanded(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    scope = replace(scope, relation=relation)
    targets = _targets(operator, scope)
    for target, (one, _) in zip(targets, operator.parts["targets"], strict=True):
        if target.type in {"timespan", "decimal"}:
            raise scope.places.unsupported(one.at, f"{operator.name} to typeof({target.type})")
    as_arrays = "array" in {operator.parameters.get("kind"), operator.parameters.get("bagexpansion")}
    lists = [scope.add(_elements(target.source, bags_as_arrays=as_arrays), "list") for target in targets]
    relation = scope.current
    limit = operator.parts["limit"]
    if limit is not None:
        most = scope.outside().value(limit).constant
        listed = [f"list_slice({sql.name(name)}, 1, {most})" for name in lists]
    else:
        listed = [sql.name(name) for name in lists]
    elements = [scope.builder.fresh("element") for _ in targets]
    place = scope.builder.fresh("place")
    longest = f"greatest({', '.join(f'len({one})' for one in listed)})"
    cells = [f"unnest({one}) AS {sql.name(element)}" for one, element in zip(listed, elements, strict=True)]
    cells.append(f"unnest(range({longest})) AS {sql.name(place)}")
    stage = scope.builder.stage(f"SELECT *, {', '.join(cells)} FROM {relation.sql}")
    order = relation.order
    if order:  # elements of a row stay in their order
        order = (*order, OrderKey(place, ascending=True, nulls_first=True))
    scope.relation = replace(relation, sql=stage, order=order)
    added = {
        target.name: (
            values.filled(
                Value(_element(sql.name(element), target.type), target.type, nullable=target.type != "string")
            ),
            False,
        )
        for target, element in zip(targets, elements, strict=True)
    }
    index = operator.parameters.get("with_itemindex")
    if index:
        taken = [*relation.names, *added]
        name, number = str(index), 0
        while name in taken:
            number += 1
            name = f"{index}{number}"
        added[name] = (Value(sql.name(place), "long"), True)
    return selecting.extended(added, scope)


def mv_apply(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """For each row, what a query makes of the elements of a dynamic in it."""
    scope = replace(scope, relation=relation)
    row = scope.add("row_number() OVER ()", "row")
    original = scope.current
    outer = scope.builder.stage(f"SELECT * FROM {original.sql}", is_shared=True)
    gone = {one.value.name for one, _ in operator.parts["targets"] if not one.names and isinstance(one.value, Name)}
    left = tuple(column for column in original.columns if column.name not in gone)
    original = replace(original, sql=outer)
    elements = _expanded(operator, replace(original, order=(), partition=(row,), is_serialized=False), scope)
    made = scope.outside().apply(operator.parts["query"].operators, elements)
    return _beside(made, replace(original, columns=left), row, scope)


def _beside(made: Relation, original: Relation, row: str, scope: Scope) -> Relation:
    """The columns of the rows, and beside or in place of them those that the query has made."""
    new = [column for column in made.columns if original.column(column.name) is None]
    names = [*original.names, *(column.name for column in new)]
    own = sql_names(names, [*original.hidden, row])
    cells, columns = [], []
    for name, sql_name in zip(names, own, strict=True):
        column = made.column(name)
        if column is not None:
            cell = f"m.{sql.name(column.sql)}"
        else:
            column = original.column(name)
            assert column is not None  # noqa: S101 - it is of one of the two
            cell = f"o.{sql.name(column.sql)}"
        cells.append(f"{cell} AS {sql.name(sql_name)}")
        columns.append(Column(name, sql_name, column.type))
    cells += [f"o.{sql.name(name)}" for name in original.hidden if name != row]
    on = f"o.{sql.name(row)} = m.{sql.name(row)}"
    query = f"SELECT {', '.join(cells)} FROM {original.sql} AS o JOIN {made.sql} AS m ON {on}"
    return replace(original, sql=scope.builder.stage(query), columns=tuple(columns), label="")
