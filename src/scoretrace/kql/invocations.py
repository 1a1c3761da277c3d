"""Functions that a query defines by ``let``: called, each is as if it were written there."""

from __future__ import annotations

from msgspec.structs import replace

from scoretrace.kql import values
from scoretrace.kql.relations import Bound, Names, Relation, Scope
from scoretrace.kql.syntax import Call, Expression, Function, Let, Parameter
from scoretrace.kql.values import Value


def bind(lets: tuple[Let, ...], scope: Scope) -> Scope:
    """*scope* with what the statements make, each of which sees those before it."""
    for let in lets:
        if let.name in scope.names.bound and any(other.name == let.name and other is not let for other in lets):
            raise scope.places.wrong(let.at, f"{let.name} is defined twice")
        inner = scope.outside()
        if isinstance(let.value, Function):
            bound = Bound(function=let.value, names=scope.names)
        elif inner.is_tabular(let.value):
            rows = inner.rows(let.value)
            if rows.order or rows.partition or not rows.label:
                rows = replace(rows, sql=scope.builder.stage(f"SELECT * FROM {rows.sql}", is_shared=True))
            bound = Bound(relation=rows)
        else:
            bound = Bound(value=inner.value(let.value))
        scope = replace(scope, names=scope.names.with_(let.name, bound))
    return scope


def _inside(node: Call, bound: Bound, scope: Scope, first: Relation | None = None) -> tuple[Function, Scope]:
    """The function, and the scope of its body with its parameters bound."""
    function = bound.function
    assert function is not None  # noqa: S101 - the callers have looked
    parameters = list(function.parameters)
    inner = Scope(scope.builder, bound.names or Names())
    if first is not None:
        if not parameters or parameters[0].type != "table":
            raise scope.places.wrong(node.at, f"{node.name}() does not take rows")
        inner.names = inner.names.with_(parameters.pop(0).name, Bound(relation=first))
    given = _given(node, parameters, scope)
    for parameter in parameters:
        argument: Expression | None = given.get(parameter.name, parameter.default)
        if argument is None:
            raise scope.places.wrong(node.at, f"{node.name}() needs a value for {parameter.name}")
        if parameter.type == "table":
            rows = scope.rows(argument)
            _check_columns(node, parameter, rows, scope)
            inner.names = inner.names.with_(parameter.name, Bound(relation=rows))
        else:
            made = _as(scope.value(argument), parameter.type, argument, scope)
            inner.names = inner.names.with_(parameter.name, Bound(value=made))
    return function, bind(function.lets, inner)


def _given(node: Call, parameters: list[Parameter], scope: Scope) -> dict[str, Expression]:
    """The arguments by the names of their parameters: those without a name first, in order."""
    known = [parameter.name for parameter in parameters]
    if len(node.arguments) > len(parameters):
        raise scope.places.wrong(node.at, f"{node.name}() takes {len(parameters)} arguments, not {len(node.arguments)}")
    given: dict[str, Expression] = {}
    names = node.names or ("",) * len(node.arguments)
    for index, (name, argument) in enumerate(zip(names, node.arguments, strict=True)):
        if not name and any(names[:index]):
            raise scope.places.wrong(argument.at, "behind an argument with a name each has to have one")
        wanted = name or known[index]
        if wanted not in known:
            raise scope.places.unknown(argument.at, "parameter", wanted, known)
        if wanted in given:
            raise scope.places.wrong(argument.at, f"{node.name}() has two values for {wanted}")
        given[wanted] = argument
    return given


def _check_columns(node: Call, parameter: Parameter, rows: Relation, scope: Scope) -> None:
    for name, _ in parameter.columns:
        if name != "*" and rows.column(name) is None:
            raise scope.places.wrong(node.at, f"{node.name}() needs rows with a column {name}")


def _as(made: Value, kind: str, argument: Expression, scope: Scope) -> Value:
    if kind in {made.type, "dynamic"}:
        return made
    if made.type in {"int", "long"} and kind in values.NUMBERS:
        return values.CONVERSIONS[kind](made) if not made.is_constant else values.constant(kind, made.constant)
    raise scope.places.wrong(argument.at, f"a {kind} is expected, not a {made.type}")


def scalar(node: Call, bound: Bound, scope: Scope) -> Value:
    """The value of a function of the query's own."""
    function, inner = _inside(node, bound, scope)
    if inner.is_tabular(function.body):
        raise scope.places.wrong(node.at, f"{node.name}() gives rows, where a value is expected")
    return inner.value(function.body)


def tabular(node: Call, bound: Bound, scope: Scope, first: Relation | None = None) -> Relation:
    """The rows of a function of the query's own; *first* is what invoke hands it."""
    function, inner = _inside(node, bound, scope, first)
    return inner.rows(function.body)


def gives_rows(bound: Bound, scope: Scope) -> bool:
    """Whether a function of the query's own gives rows."""
    function = bound.function
    if function is None:
        return False
    names = bound.names or Names()
    for parameter in function.parameters:
        one = Bound(relation=Relation("", ())) if parameter.type == "table" else Bound(value=values.null("long"))
        names = names.with_(parameter.name, one)
    for let in function.lets:
        inner = Scope(scope.builder, names)
        is_rows = not isinstance(let.value, Function) and inner.is_tabular(let.value)
        names = names.with_(let.name, Bound(relation=Relation("", ())) if is_rows else Bound(value=values.null("long")))
    return Scope(scope.builder, names).is_tabular(function.body)
