"""make-series: values in equal steps of time or of a number, as arrays."""

from __future__ import annotations

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import aggregates, naming, times, values
from scoretrace.kql.relations import Column, Relation, Scope, sql_names
from scoretrace.kql.syntax import Call, Expression, Named, Operator
from scoretrace.kql.values import Value

_MOST = 1_048_576  # steps, as Kusto has it


def make_series(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """A row for each group, with an array of an aggregate and one of the axis; `to` itself is left out."""
    parts = operator.parts
    inside = replace(scope, relation=relation)
    axis: Named = parts["axis"]
    axis_name = axis.names[0] if axis.names else naming.implied(axis.value)
    if axis_name is None:
        raise scope.places.wrong(axis.at, "the axis of make-series needs a name: on name = ...")
    found = inside.value(axis.value)
    start, stop, step = _bounds(operator, found, inside)
    by: tuple[Named, ...] = parts["by"]
    namer = naming.Namer(name for one in by for name in one.names)
    keys = [(namer.take(one.names[0] if one.names else naming.implied(one.value)), _key(one, inside)) for one in by]
    outside = replace(scope, relation=None, aggregates=lambda node: aggregates.aggregate(node, inside))
    made: list[tuple[str, Value, Value]] = []
    for one, default in parts["values"]:
        name = one.names[0] if one.names else naming.implied(one.value, aggregates.NAMES)
        value = outside.value(one.value)
        made.append((namer.take(name), value, _default(default, value, scope)))
    return _filled_up(keys, made, (axis_name, found), (start, stop, step), inside, is_nonempty=_is_nonempty(operator))


def _is_nonempty(operator: Operator) -> bool:
    return operator.parameters.get("kind") == "nonempty"


def _key(one: Named, scope: Scope) -> Value:
    found = values.filled(scope.value(one.value))
    if found.type == "dynamic":
        raise scope.places.wrong(one.at, "series cannot be grouped by a dynamic: say tostring(...)")
    return found


def _default(written: Expression | None, value: Value, scope: Scope) -> Value:
    """What stands where there is nothing: 0 unless the query says otherwise."""
    if written is None:
        return values.constant("long", 0) if value.type in values.NUMBERS else values.null(value.type)
    found = scope.outside().value(written)
    if values.common_type([found.type, value.type]) is None:
        raise scope.places.wrong(written.at, f"the default is a {found.type}, and the values are {value.type}")
    return found


def _bounds(operator: Operator, axis: Value, scope: Scope) -> tuple[Value, Value, Value]:
    """Start, end and step as numbers: of 100 ns for times."""
    parts = operator.parts
    step = scope.outside().value(parts["step"])
    wanted = "timespan" if axis.type in {"datetime", "timespan"} else "number"
    if axis.type not in {"datetime", "timespan", *values.NUMBERS}:
        raise scope.places.wrong(parts["axis"].at, f"make-series goes on a datetime or a number, not on a {axis.type}")
    if (wanted == "timespan") != (step.type == "timespan") or not step.is_constant or not step.constant > 0:
        raise scope.places.wrong(parts["step"].at, f"the step is a literal {wanted}, larger than 0")
    if parts["start"] is None or parts["stop"] is None:
        if parts["by"]:
            raise scope.places.unsupported(
                operator.at,
                "make-series by groups without from and to",
                "is not answered by the local engine: give both",
            )
        return _of_data(operator, axis, step, scope)
    found = []
    for node in (parts["start"], parts["stop"]):
        bound = scope.outside().value(node)
        if bound.type != axis.type and not {bound.type, axis.type} <= values.NUMBERS:
            raise scope.places.wrong(node.at, f"the axis is a {axis.type}, and this is a {bound.type}")
        found.append(bound)
    start, stop = found
    if all(one.is_constant for one in (start, stop, step)):
        count = -((start.constant - stop.constant) // step.constant)
        if count > _MOST:
            raise scope.places.wrong(operator.at, f"make-series has {count:,} steps: {_MOST:,} is the most")
    return start, stop, step


def _of_data(operator: Operator, axis: Value, step: Value, scope: Scope) -> tuple[Value, Value, Value]:
    """From the first step that has data to the last one, of all rows."""
    relation = scope.current
    cut = times.binned(axis, step, Call(operator.at, "bin", ()), scope)
    given = {}
    for name, function in (("start", "min"), ("stop", "max")):
        node = operator.parts[name]
        if node is not None:
            given[name] = scope.outside().value(node)
            continue
        bound = f"(SELECT {function}({cut.sql}) FROM {relation.sql})"
        found = Value(bound, axis.type)
        given[name] = _later(found, step) if name == "stop" else found
    return given["start"], given["stop"], step


def _later(moment: Value, step: Value) -> Value:
    if moment.type == "datetime":
        return values.add(moment, step)
    return Value(f"({moment.sql} + {step.sql})", moment.type)


def _position(moment: Value) -> str:
    """A time or a number as a number that steps are counted in."""
    if moment.type == "datetime":
        if moment.is_constant:
            return f"{moment.constant - values.EPOCH_TICKS}::BIGINT"
        return f"(epoch_us({moment.sql}) * 10)"
    return moment.sql


def _filled_up(
    keys: list[tuple[str, Value]],
    made: list[tuple[str, Value, Value]],
    axis: tuple[str, Value],
    bounds: tuple[Value, Value, Value],
    scope: Scope,
    *,
    is_nonempty: bool,
) -> Relation:
    """The groups by step, then all steps of each group, those without rows with the default."""
    relation = scope.current
    builder = scope.builder
    start, stop, step = bounds
    where, first, last, size = _position(axis[1]), _position(start), _position(stop), step.sql
    own = [builder.fresh("key") for _ in keys]
    gathered = [builder.fresh("value") for _ in made]
    listed = ", ".join(map(sql.name, own))
    cells = [f"{key.sql} AS {sql.name(name)}" for name, (_, key) in zip(own, keys, strict=True)]
    cells.append(f"CAST(floor(({where} - {first}) / ({size})::DOUBLE) AS BIGINT) AS step")
    cells += [f"{value.sql} AS {sql.name(name)}" for name, (_, value, _) in zip(gathered, made, strict=True)]
    groups = ", ".join(map(str, range(1, len(keys) + 2)))
    grouped = builder.stage(
        f"SELECT {', '.join(cells)} FROM {relation.sql} "
        f"WHERE {where} >= {first} AND {where} < {last} GROUP BY {groups}",
        is_shared=True,
    )
    count = f"CAST(ceil((({last}) - ({first})) / ({size})::DOUBLE) AS BIGINT)"
    steps = builder.stage(f"SELECT unnest(range({count})) AS step")
    if keys:
        series = builder.stage(f"SELECT DISTINCT {listed} FROM {grouped}")
    else:
        there = "" if is_nonempty else f" WHERE EXISTS (SELECT 1 FROM {grouped})"
        series = builder.stage(f"SELECT 1 AS one{there}")
    on = " AND ".join(
        ["g.step = t.step", *(f"g.{sql.name(name)} IS NOT DISTINCT FROM s.{sql.name(name)}" for name in own)]
    )
    arrays = []
    for name, (_, value, default) in zip(gathered, made, strict=True):
        kind = values.common_type([value.type, default.type]) or value.type
        filled = values.dynamic(values.CONVERSIONS[kind](default)).sql
        element = values.dynamic(values.CONVERSIONS[kind](Value(f"g.{sql.name(name)}", value.type))).sql
        arrays.append(f"to_json(list(CASE WHEN g.step IS NULL THEN {filled} ELSE {element} END ORDER BY t.step))")
    place = f"{first} + t.step * {size}"
    if axis[1].type == "datetime":
        point = values.moment_text(f"make_timestamp(CAST(({place}) // 10 AS BIGINT))")
    elif axis[1].type == "timespan":
        point = values.span_text(f"({place})")
    else:
        point = f"({place})"
    arrays.append(f"to_json(list({point} ORDER BY t.step))")
    names = [*(name for name, _ in keys), *(name for name, _, _ in made), axis[0]]
    shown = sql_names(names)
    cells = [f"s.{sql.name(name)} AS {sql.name(new)}" for name, new in zip(own, shown, strict=False)]
    cells += [f"{array} AS {sql.name(new)}" for array, new in zip(arrays, shown[len(keys) :], strict=True)]
    ended = f" GROUP BY {', '.join(f's.{sql.name(name)}' for name in own)}" if keys else " HAVING count(*) > 0"
    query = (
        f"SELECT {', '.join(cells)} FROM {series} AS s CROSS JOIN {steps} AS t LEFT JOIN {grouped} AS g ON {on}{ended}"
    )
    kinds = [*(key.type for _, key in keys), *("dynamic" for _ in arrays)]
    columns = tuple(Column(name, new, kind) for name, new, kind in zip(names, shown, kinds, strict=True))
    return Relation(builder.stage(query), columns)
