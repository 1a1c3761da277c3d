"""
evaluate: operators whose columns depend on the rows.

Which columns there will be is looked up first, by a query of its own.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import aggregates, dynamics, expressions, selecting, values
from scoretrace.kql.relations import Column, Relation, Scope, sql_names
from scoretrace.kql.syntax import Call, Expression, Name, Operator
from scoretrace.kql.values import Value

UNSUPPORTED = frozenset([
    "activity_counts_metrics", "activity_engagement", "activity_metrics", "autocluster",
    "azure_digital_twins_query_request", "basket", "cosmosdb_sql_request", "dcount_intersect", "diffpatterns",
    "diffpatterns_text", "funnel_sequence", "funnel_sequence_completion", "geo_point_to_geohash", "http_request",
    "http_request_post", "infer_storage_schema", "ipv4_lookup", "mysql_request", "narrow", "new_activity_metrics",
    "postgresql_request", "preview", "python", "r", "rolling_percentile", "rows_near", "schema_merge",
    "session_count", "sequence_detect", "sliding_window_counts", "sql_request", "user_activity_metrics",
])  # fmt: skip
_MOST = 1_000  # columns of an answer
PLUGINS = frozenset({"bag_unpack", "pivot"})


def evaluate(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows after a plugin."""
    plugin, at = operator.parts["plugin"], operator.parts["plugin_at"]
    if plugin == "bag_unpack":
        return _bag_unpack(operator, relation, scope)
    if plugin == "pivot":
        return _pivot(operator, relation, scope)
    if plugin in UNSUPPORTED:
        raise scope.places.unsupported(at, f"the plugin {plugin}")
    raise scope.places.unknown(at, "plugin", plugin, PLUGINS)


def _constant(node: Expression, scope: Scope) -> Any:
    found = scope.outside().value(node)
    if not found.is_constant:
        raise scope.places.wrong(node.at, "a literal is expected")
    return found.constant


def _looked_up(query: str, scope: Scope) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = scope.builder.probe(scope.builder.statement(query))
    return found


def _bag_unpack(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """The properties of a bag as columns, by their names; the bag itself is gone."""
    arguments: tuple[Expression, ...] = operator.parts["arguments"]
    at = operator.parts["plugin_at"]
    if not 1 <= len(arguments) <= 4 or not isinstance(arguments[0], Name):
        raise scope.places.wrong(
            at, "bag_unpack takes a column, and then a prefix, columnsConflict and ignoredProperties"
        )
    bag = relation.column(arguments[0].name)
    if bag is None:
        raise expressions.unknown_column(arguments[0], replace(scope, relation=relation))
    if bag.type != "dynamic":
        raise scope.places.wrong(arguments[0].at, f"bag_unpack takes a dynamic, not a {bag.type}")
    options = _options(operator, scope)
    prefix, conflict, ignored = (options[name] for name in _OPTIONS)
    others = [column for column in relation.columns if column is not bag]
    declared = operator.parts["schema"]
    if declared is not None and ("*", "") not in declared:
        wanted = [(name, kind) for name, kind in declared if all(column.name != name for column in others)]
        others = [column for column in others if column.name in dict(declared)]
    else:
        found = _properties(bag, relation, scope, at)
        wanted = [(f"{prefix}{name}", kind) for name, kind in found if name not in ignored]
        if declared is not None:
            known = dict(declared)
            wanted = [(name, known.get(name, kind)) for name, kind in wanted]
    there = {column.name for column in others}
    for name in [name for name, _ in wanted if name in there]:
        if conflict == "error":
            raise scope.places.wrong(at, f"there is a column {name} already: columnsConflict says which is to stay")
        if conflict == "keep_source":
            wanted = [(other, kind) for other, kind in wanted if other != name]
        else:
            others = [column for column in others if column.name != name]
    columns: list[tuple[str, Value, bool]] = [(column.name, column.value, column.is_plain) for column in others]
    for name, kind in wanted:
        property_ = values.place_in(bag.value, values.json_step(name.removeprefix(prefix)))
        columns.append((name, values.filled(values.CONVERSIONS[kind](property_)), False))
    return selecting.selected(columns, replace(scope, relation=relation))


# By their names: the default, what each may be, and how that is said.
_OPTIONS: dict[str, tuple[Any, type, str]] = {
    "outputcolumnprefix": ("", str, "a string"),
    "columnsconflict": ("error", str, "a string"),
    "ignoredproperties": ((), list, "a dynamic array"),
}


def _options(operator: Operator, scope: Scope) -> dict[str, Any]:
    """What bag_unpack is told behind its column, by place or by name."""
    found = {name: default for name, (default, _, _) in _OPTIONS.items()}
    pairs = zip(operator.parts["names"][1:], operator.parts["arguments"][1:], _OPTIONS, strict=False)
    for written, argument, place in pairs:
        name = written.casefold() or place
        if name not in _OPTIONS:
            raise scope.places.unknown(argument.at, "parameter of bag_unpack", written, list(_OPTIONS))
        _, kind, said = _OPTIONS[name]
        value = _constant(argument, scope)
        if not isinstance(value, kind):
            raise scope.places.wrong(argument.at, f"bag_unpack takes {said} here")
        found[name] = value
    if found["columnsconflict"] not in {"error", "keep_source", "replace_source"}:
        raise scope.places.wrong(operator.at, "columnsConflict is 'error', 'keep_source' or 'replace_source'")
    return found


def _properties(bag: Column, relation: Relation, scope: Scope, at: int) -> list[tuple[str, str]]:
    """The names of the properties and the type that the values of each have in common."""
    own = bag.value.sql
    rows = f"SELECT unnest({dynamics.entries(own)}) AS e FROM {relation.sql} WHERE json_type({own}) = 'OBJECT'"
    query = f"SELECT e.key, list(DISTINCT json_type(e.value)) FROM ({rows}) GROUP BY 1 ORDER BY 1 LIMIT {_MOST + 1}"
    found = _looked_up(query, scope)
    if len(found) > _MOST:
        raise scope.places.wrong(at, f"the bags have more than {_MOST:,} properties")
    return [(name, _kind(set(kinds) - {"NULL"})) for name, kinds in found]


def _kind(kinds: set[str]) -> str:
    if not kinds:
        return "dynamic"
    if kinds <= {"BIGINT", "UBIGINT"}:
        return "long"
    if kinds <= {"BIGINT", "UBIGINT", "DOUBLE"}:
        return "real"
    return {"VARCHAR": "string", "BOOLEAN": "bool"}.get(next(iter(kinds)), "dynamic") if len(kinds) == 1 else "dynamic"


def _pivot(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """A column for each value of a column, with an aggregate of its rows."""
    arguments: tuple[Expression, ...] = operator.parts["arguments"]
    at = operator.parts["plugin_at"]
    if not arguments or not isinstance(arguments[0], Name):
        raise scope.places.wrong(at, "pivot takes a column, and then an aggregate and the columns to group by")
    inside = replace(scope, relation=relation)
    by = relation.column(arguments[0].name)
    if by is None:
        raise expressions.unknown_column(arguments[0], inside)
    if by.type == "dynamic":
        raise scope.places.wrong(arguments[0].at, "pivot does not go by a dynamic: say tostring(...) of it before")
    call = arguments[1] if len(arguments) > 1 else Call(at, "count", ())
    if not isinstance(call, Call) or call.name not in aggregates.NAMES or aggregates.has_several_columns(call):
        raise scope.places.wrong(call.at, "pivot takes an aggregate, such as count() or sum(...)")
    read = {node.name for node in call.arguments if isinstance(node, Name)}
    if len(arguments) > 2:
        keys = []
        for node in arguments[2:]:
            column = relation.column(node.name) if isinstance(node, Name) else None
            if column is None:
                raise scope.places.wrong(node.at, "pivot groups by columns")
            keys.append(column)
    else:
        keys = [column for column in relation.columns if column is not by and column.name not in read]
    if any(column.type == "dynamic" for column in keys):
        raise scope.places.wrong(at, "pivot does not group by a dynamic: project the columns that it is to keep")
    text = values.text(by.value).sql
    found = _looked_up(f"SELECT DISTINCT {text} FROM {relation.sql} ORDER BY 1 LIMIT {_MOST + 1}", scope)
    if len(found) > _MOST:
        raise scope.places.wrong(at, f"there are more than {_MOST:,} values to make columns of")
    names = [*(column.name for column in keys), *(str(value) for (value,) in found)]
    own = sql_names(names)
    cells = [f"{column.value.sql} AS {sql.name(new)}" for column, new in zip(keys, own, strict=False)]
    made = aggregates.aggregate(call, inside)
    for (value,), new in zip(found, own[len(keys) :], strict=True):
        only = f"{text} = {sql.quote(str(value))}"
        cells.append(f"{_only(call, only, inside)} AS {sql.name(new)}")
    groups = f" GROUP BY {', '.join(map(str, range(1, len(keys) + 1)))}" if keys else ""
    query = f"SELECT {', '.join(cells) or 'NULL'} FROM {relation.sql}{groups}"
    kinds = [*(column.type for column in keys), *(made.type for _ in found)]
    columns = tuple(Column(name, new, kind) for name, new, kind in zip(names, own, kinds, strict=True))
    return Relation(scope.builder.stage(query), columns)


def _only(call: Call, test: str, scope: Scope) -> str:
    """The aggregate of the rows for which *test* is true."""
    return values.filled(aggregates.filtered(call, test, scope)).sql
