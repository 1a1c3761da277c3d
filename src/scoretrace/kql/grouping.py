"""The operators that make one row of many: summarize, count, distinct and top-nested."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import aggregates, naming, values
from scoretrace.kql.relations import Column, Relation, Scope, sql_names
from scoretrace.kql.syntax import Call, Name, Named, Operator, Star, names_in
from scoretrace.kql.values import Value
from scoretrace.near import near


def count(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """How many rows there are."""
    counted = Value("count(*)", "long", nullable=False)
    return _grouped([], [(operator.parts["name"], counted)], replace(scope, relation=relation))


def _grouped(keys: list[tuple[str, Value]], made: list[tuple[str, Value]], scope: Scope) -> Relation:
    """One row for each group of the rows of *scope*: the keys first, then what is made of the group."""
    relation = scope.current
    names = sql_names([name for name, _ in [*keys, *made]], relation.partition)
    cells = [
        f"{values.filled(found).sql} AS {sql.name(own)}" for own, (_, found) in zip(names, [*keys, *made], strict=True)
    ]
    groups = [*map(str, range(1, len(keys) + 1)), *map(sql.name, relation.partition)]
    cells += map(sql.name, relation.partition)
    query = f"SELECT {', '.join(cells)} FROM {relation.sql}"
    if groups:
        query += f" GROUP BY {', '.join(groups)}"
    columns = tuple(Column(name, own, found.type) for own, (name, found) in zip(names, [*keys, *made], strict=True))
    return Relation(scope.builder.stage(query), columns, partition=relation.partition)


def _key(one: Named, scope: Scope) -> Value:
    found = values.filled(scope.value(one.value))
    if found.type == "dynamic":
        raise scope.places.wrong(
            one.at, "rows cannot be grouped by a dynamic: say tostring(...), tolong(...) or todouble(...)"
        )
    return found


def distinct(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Each combination of values once."""
    scope = replace(scope, relation=relation)
    named: list[Named] = []
    for one in operator.parts["values"]:
        if isinstance(one.value, Star):
            named += [Named(one.at, Name(one.at, column.name)) for column in relation.columns]
        else:
            named.append(one)
    found = [_key(one, scope) for one in named]
    namer = naming.Namer(name for one in named for name in one.names)
    keys = [
        (namer.take(one.names[0] if one.names else naming.implied(one.value)), made)
        for one, made in zip(named, found, strict=True)
    ]
    return _grouped(keys, [], scope)


def summarize(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """A row for each group, with what the aggregates make of it."""
    by: tuple[Named, ...] = operator.parts["by"]
    given: tuple[Named, ...] = operator.parts["values"]
    if not by and not given:
        raise scope.places.wrong(operator.at, "summarize has nothing to do")
    inside = replace(scope, relation=relation)
    found = [_key(one, inside) for one in by]
    weighted = _Weighted(inside)
    outside = replace(scope, relation=None, aggregates=weighted.aggregate)
    said = [name for one in (*by, *given) for name in one.names]
    namer = naming.Namer(said, skip=relation.names)
    keys = [
        (namer.take(one.names[0] if one.names else naming.implied(one.value)), made)
        for one, made in zip(by, found, strict=True)
    ]
    key_names = [name for name, _ in keys]
    made: list[tuple[str, Value]] = []
    for one in given:
        if isinstance(one.value, Call) and one.value.name == "percentilesw":
            columns = weighted.several(one.value)
        elif aggregates.has_several_columns(one.value):
            columns = aggregates.several(cast("Call", one.value), inside, key_names)
        else:
            if isinstance(one.value, Call) and one.value.name in aggregates.REFUSED:
                raise scope.places.unsupported(one.value.at, f"{one.value.name}()")
            if not _has_aggregate(one.value) and names_in(one.value):
                hint = near(one.value.name, aggregates.NAMES) if isinstance(one.value, Call) else ""
                raise scope.places.wrong(
                    one.at, f"an aggregate, such as count() or avg(...), is expected in a summarize{hint}"
                )
            name = one.names[0] if one.names else naming.implied(one.value, aggregates.NAMES)
            made.append((namer.take(name), outside.value(one.value)))
            continue
        if len(one.names) > len(columns):
            raise scope.places.wrong(one.at, f"there are {len(one.names)} names for {len(columns)} columns")
        names = [*one.names, *(name for name, _ in columns[len(one.names) :])]
        made += [(namer.take(name), value) for name, (_, value) in zip(names, columns, strict=True)]
    if weighted.wanted:
        inside.relation = weighted.joined([value for _, value in keys])
    return _grouped(keys, made, inside)


def _has_aggregate(node: Any) -> bool:
    if isinstance(node, Call) and node.name in aggregates.NAMES:
        return True
    if isinstance(node, tuple):
        return any(map(_has_aggregate, node))
    fields = getattr(node, "__struct_fields__", ())
    return any(_has_aggregate(getattr(node, name)) for name in fields)


class _Weighted:
    """
    Percentiles of values that stand for several each.

    They need the values of a group in order, which no aggregate of SQL has with
    weights: they are found by themselves, and joined to the rows of the group.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.wanted: list[tuple[str, Value, Value, float]] = []

    def aggregate(self, node: Call) -> Value:
        """An aggregate as SQL."""
        if node.name == "percentilew":
            return self.several(node)[0][1]
        return aggregates.aggregate(node, self.scope)

    def several(self, node: Call) -> list[tuple[str, Value]]:
        """The percentiles of a value with a weight, by their names."""
        names = naming.aggregate_names(node, aggregates.NAMES)
        if len(node.arguments) < 3 or (node.name == "percentilew" and len(node.arguments) != 3):
            raise self.scope.places.wrong(node.at, f"{node.name}() takes a value, a weight and percentages")
        found, weight = (self.scope.value(part) for part in node.arguments[:2])
        for part, one in zip(node.arguments, (found, weight), strict=False):
            if not one.is_number and not (one is found and one.type in {"timespan", "datetime"}):
                raise self.scope.places.wrong(part.at, f"{node.name}() takes numbers, not a {one.type}")
        made = []
        for name, written in zip(names, node.arguments[2:], strict=True):
            share = aggregates.percent(written, node, self.scope)
            own = self.scope.builder.fresh("percentile")
            self.wanted.append((own, found, weight, share))
            made.append((name, Value(f"any_value({sql.name(own)})", found.type)))
        return made

    def joined(self, keys: list[Value]) -> Relation:
        """The rows with the percentiles of their group beside them."""
        relation = self.scope.current
        builder = self.scope.builder
        own = [builder.fresh("group") for _ in keys]
        groups = [*own, *relation.partition]
        cells = ", ".join(["*", *(f"{key.sql} AS {sql.name(name)}" for key, name in zip(keys, own, strict=True))])
        rows = builder.stage(f"SELECT {cells} FROM {relation.sql}")
        listed = ", ".join(map(sql.name, groups))
        partition = f"PARTITION BY {listed}" if groups else ""
        stage = rows
        for found, weight in dict.fromkeys((found, weight) for _, found, weight, _ in self.wanted):
            shares = [(name, share) for name, *read, share in self.wanted if read == [found, weight]]
            comma = f"{listed}, " if groups else ""
            there = f"{found.sql} IS NOT NULL AND {weight.sql} > 0"
            one, own_weight, upto = map(sql.name, ("~value", "~weight", "~upto"))
            summed = builder.stage(
                f"SELECT {comma}{found.sql} AS {one}, sum({weight.sql}) AS {own_weight} "
                f"FROM {rows} WHERE {there} GROUP BY {comma}{one}"
            )
            ranked = builder.stage(
                f"SELECT {comma}{one}, sum({own_weight}) OVER ({partition} ORDER BY {one}) AS {upto}, "
                f'sum({own_weight}) OVER ({partition}) AS "~total" FROM {summed}'
            )
            chosen = ", ".join(
                f'min({one}) FILTER (WHERE {upto} >= "~total" * {share / 100!r}) AS {sql.name(name)}'
                for name, share in shares
            )
            ended = f" GROUP BY {listed}" if groups else ""
            found_ = builder.stage(f"SELECT {comma}{chosen} FROM {ranked}{ended}")
            on = " AND ".join(f"r.{sql.name(name)} IS NOT DISTINCT FROM p.{sql.name(name)}" for name in groups)
            names = ", ".join(f"p.{sql.name(name)}" for name, _ in shares)
            stage = builder.stage(f"SELECT r.*, {names} FROM {stage} AS r LEFT JOIN {found_} AS p ON {on or 'TRUE'}")
        return replace(relation, sql=stage)


def top_nested(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """The largest groups, within each of them the largest, and so on."""
    levels: tuple[dict[str, Any], ...] = operator.parts["levels"]
    inside = replace(scope, relation=relation)
    outside = replace(scope, relation=None, aggregates=lambda node: aggregates.aggregate(node, inside))
    namer = naming.Namer()
    keys: list[tuple[str, Value]] = []
    columns: list[Column] = []
    stage = ""
    for level in levels:
        if level["others"] is not None:
            raise scope.places.unsupported(operator.at, "top-nested with others")
        key: Named = level["value"]
        found = _key(key, inside)
        name = namer.take(key.names[0] if key.names else naming.implied(key.value))
        keys.append((name, found))
        aggregate: Named = level["aggregate"]
        made = outside.value(aggregate.value)
        made_name = namer.take(aggregate.names[0] if aggregate.names else f"aggregated_{name}")
        own, made_own = sql_names([name, made_name], [column.sql for column in columns])
        rows = None if level["rows"] is None else scope.outside().value(level["rows"])
        before = [column for column in columns if column.name in {key_name for key_name, _ in keys}]
        cells = [
            *(f"{value.sql} AS {sql.name(column.sql)}" for column, (_, value) in zip(before, keys, strict=False)),
            f"{found.sql} AS {sql.name(own)}",
            f"{made.sql} AS {sql.name(made_own)}",
        ]
        groups = ", ".join(map(str, range(1, len(keys) + 1)))
        source = inside.current
        grouped = scope.builder.stage(f"SELECT {', '.join(cells)} FROM {source.sql} GROUP BY {groups}")
        if stage:
            on = " AND ".join(
                f"g.{sql.name(column.sql)} IS NOT DISTINCT FROM p.{sql.name(column.sql)}" for column in before
            )
            parents = ", ".join(f"p.{sql.name(column.sql)}" for column in columns)
            grouped = scope.builder.stage(
                f"SELECT {parents}, g.{sql.name(own)}, g.{sql.name(made_own)} "
                f"FROM {stage} AS p JOIN {grouped} AS g ON {on}"
            )
        if rows is not None:
            direction = "ASC" if level["ascending"] else "DESC"
            partition = ", ".join(sql.name(column.sql) for column in before)
            over = f"({f'PARTITION BY {partition} ' if before else ''}ORDER BY {sql.name(made_own)} {direction})"
            grouped = scope.builder.stage(
                f"SELECT * FROM {grouped} QUALIFY row_number() OVER {over} <= {rows.constant}"
            )
        stage = grouped
        columns += [Column(name, own, found.type), Column(made_name, made_own, made.type)]
    return Relation(stage, tuple(columns))
