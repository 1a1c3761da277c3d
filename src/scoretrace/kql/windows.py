"""The functions of windows: what a row sees of the rows around it, where rows have an order."""

from __future__ import annotations

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import values
from scoretrace.kql.arguments import Form, count_of, value_at
from scoretrace.kql.relations import OrderKey, Scope
from scoretrace.kql.syntax import Call
from scoretrace.kql.values import Value, constant


def _window(node: Call, scope: Scope) -> None:
    relation = scope.relation
    if relation is None:
        raise scope.places.wrong(node.at, f"{node.name}() stands where there are no rows")
    if not relation.is_serialized:
        raise scope.places.wrong(node.at, f"{node.name}() needs rows in an order: sort by ... or serialize before it")
    if len(relation.order) != 1 or not relation.order[0].sql.startswith("~number"):
        # Rows that sort alike have to have one order for all windows and for the answer.
        number = scope.add(f"row_number() OVER {relation.window}", "number")
        scope.relation = replace(scope.current, order=(OrderKey(number, ascending=True, nulls_first=True),))


def _over(scope: Scope, frame: str = "") -> str:
    return f"OVER {scope.current.window[:-1]}{frame})"


def _hoisted(expression: str, kind: str, scope: Scope) -> Value:
    return Value(sql.name(scope.add(expression, "window")), kind)


def _row_number(node: Call, scope: Scope) -> Value:
    count = count_of(node, scope, 0, 2)
    start = values.long(value_at(node, 0, scope)).sql if count else "1"
    if count == 2:
        restart = scope.condition(node.arguments[1])
        _window(node, scope)
        group = scope.add(f"count(*) FILTER ({restart}) {_over(scope, ' ROWS UNBOUNDED PRECEDING')}", "group")
        inner = replace(scope.current, partition=(*scope.current.partition, group)).window
        return _hoisted(f"row_number() OVER {inner} - 1 + {start}", "long", scope)
    _window(node, scope)
    return _hoisted(f"row_number() {_over(scope)} - 1 + {start}", "long", scope)


def _neighbour(function: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        count = count_of(node, scope, 1, 3)
        found = value_at(node, 0, scope)
        offset = value_at(node, 1, scope) if count > 1 else constant("long", 1)
        if not offset.is_constant:
            raise scope.places.wrong(node.arguments[1].at, f"{node.name}() takes a literal number of rows")
        default = values.null(found.type).sql
        if count == 3:
            kind = values.common_type([found.type, value_at(node, 2, scope).type])
            if kind is None:
                raise scope.places.wrong(node.at, f"{node.name}() has a default of another type")
            found = values.CONVERSIONS[kind](found)
            default = values.CONVERSIONS[kind](value_at(node, 2, scope)).sql
        _window(node, scope)
        body = f"{function}({found.sql}, {offset.constant}, {default}) {_over(scope)}"
        return _hoisted(body, found.type, scope)

    return made


def _cumulated(node: Call, scope: Scope) -> Value:
    count = count_of(node, scope, 1, 2)
    found = value_at(node, 0, scope)
    if not found.is_number and found.type != "timespan":
        raise scope.places.wrong(node.at, f"row_cumsum() takes a number, not a {found.type}")
    kind = "long" if found.type == "int" else found.type
    frame = " ROWS UNBOUNDED PRECEDING"
    if count == 2:
        restart = scope.condition(node.arguments[1])
        _window(node, scope)
        group = scope.add(f"count(*) FILTER ({restart}) {_over(scope, frame)}", "group")
        inner = replace(scope.current, partition=(*scope.current.partition, group)).window
        return _hoisted(f"CAST(sum({found.sql}) OVER {inner[:-1]}{frame}) AS {values.SQL_TYPES[kind]})", kind, scope)
    _window(node, scope)
    return _hoisted(f"CAST(sum({found.sql}) {_over(scope, frame)} AS {values.SQL_TYPES[kind]})", kind, scope)


def _ranked(*, is_dense: bool) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        count_of(node, scope, 1, 1)
        found = value_at(node, 0, scope)
        _window(node, scope)
        changed = scope.add(f"({found.sql} IS DISTINCT FROM lag({found.sql}) {_over(scope)})", "changed")
        number = scope.add(f"row_number() {_over(scope)}", "number")
        frame = " ROWS UNBOUNDED PRECEDING"
        if is_dense:
            # The first row changes from nothing, be its own value null.
            first = f"({sql.name(changed)} OR {sql.name(number)} = 1)"
            return _hoisted(f"count(*) FILTER ({first}) {_over(scope, frame)}", "long", scope)
        since = f"max(CASE WHEN {sql.name(changed)} OR {sql.name(number)} = 1 THEN {sql.name(number)} END)"
        return _hoisted(f"{since} {_over(scope, frame)}", "long", scope)

    return made


FORMS: dict[str, Form] = {
    "next": _neighbour("lead"),
    "prev": _neighbour("lag"),
    "row_cumsum": _cumulated,
    "row_number": _row_number,
    "row_rank_dense": _ranked(is_dense=True),
    "row_rank_min": _ranked(is_dense=False),
}
