"""What a function is called with: its arguments as values, and how many of them there are."""

from __future__ import annotations

from collections.abc import Callable

from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call, Star
from scoretrace.kql.values import Value

Form = Callable[[Call, Scope], Value]
_MANY = 64  # arguments, from which on no message needs to say how many there may be


def value_at(node: Call, index: int, scope: Scope) -> Value:
    """One argument as a value."""
    return scope.value(node.arguments[index])


def count_of(node: Call, scope: Scope, least: int, most: int) -> int:
    """How many arguments there are, which have to be *least* to *most*."""
    count = len(node.arguments)
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}" if most < _MANY else f"{least} or more"
        raise scope.places.wrong(node.at, f"{node.name}() takes {wanted} arguments, not {count}")
    return count


def argument_values(node: Call, scope: Scope, least: int, most: int) -> list[Value]:
    """The arguments as values, of which there have to be *least* to *most*."""
    for argument in node.arguments:
        if isinstance(argument, Star):
            raise scope.places.wrong(argument.at, f"{node.name}() does not take an asterisk")
    count_of(node, scope, least, most)
    return [scope.value(argument) for argument in node.arguments]


def constant_text(node: Call, index: int, scope: Scope) -> str:
    """An argument that has to be a literal string."""
    found = value_at(node, index, scope)
    if found.type != "string" or not found.is_constant:
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a literal string here")
    return str(found.constant)
