"""
What a query is made of, as it was written: the nouns between the parser and the compiler.

Each has the offset of its first character, so that whatever is wrong with it
can be said with a line and a column.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Literal(msgspec.Struct, frozen=True):
    """
    A value: *type* is its Kusto type.

    A datetime is the 100 ns since the year 1, a timespan those of its length, a
    dynamic what its JSON says.
    """

    at: int
    type: str
    value: Any


class Name(msgspec.Struct, frozen=True):
    """A column, a table, or what a ``let`` made."""

    at: int
    name: str


class Star(msgspec.Struct, frozen=True):
    """All columns."""

    at: int


class Pattern(msgspec.Struct, frozen=True):
    """A name with asterisks in it."""

    at: int
    pattern: str


class Member(msgspec.Struct, frozen=True):
    """``.name`` or ``["name"]`` of a dynamic, or with *index* ``[expression]``."""

    name: str = ""
    index: Expression | None = None


class Path(msgspec.Struct, frozen=True):
    """What is at *members* of a dynamic."""

    at: int
    base: Expression
    members: tuple[Member, ...]


class Call(msgspec.Struct, frozen=True):
    """A function with its arguments, some of which may be called by name."""

    at: int
    name: str
    arguments: tuple[Expression, ...]
    names: tuple[str, ...] = ()


class Unary(msgspec.Struct, frozen=True):
    """A sign."""

    at: int
    operator: str
    operand: Expression


class Binary(msgspec.Struct, frozen=True):
    """Two values and the operator between them, as Kusto spells it."""

    at: int
    operator: str
    left: Expression
    right: Expression


class InList(msgspec.Struct, frozen=True):
    """``in``, ``!in``, ``in~``, ``!in~``, ``has_any`` and ``has_all``: of values, or of the first column of rows."""

    at: int
    operator: str
    value: Expression
    items: tuple[Expression, ...]


class Between(msgspec.Struct, frozen=True):
    """``between (low .. high)``."""

    at: int
    value: Expression
    low: Expression
    high: Expression
    negated: bool


class TypeOf(msgspec.Struct, frozen=True):
    """``typeof(long)``."""

    at: int
    type: str


class Named(msgspec.Struct, frozen=True):
    """``name = value``, or a value without a name; several *names* for a function with several columns."""

    at: int
    value: Expression
    names: tuple[str, ...] = ()


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a function: a scalar of *type*, or with *columns* a table."""

    name: str
    type: str
    columns: tuple[tuple[str, str], ...] = ()
    default: Literal | None = None


class Function(msgspec.Struct, frozen=True):
    """``(parameters) { statements; value }``."""

    at: int
    parameters: tuple[Parameter, ...]
    lets: tuple[Let, ...]
    body: Expression


class Let(msgspec.Struct, frozen=True):
    """``let name = value``."""

    at: int
    name: str
    value: Expression | Function


class Datatable(msgspec.Struct, frozen=True):
    """Rows written in the query."""

    at: int
    columns: tuple[tuple[str, str], ...]
    values: tuple[Expression, ...]


class Range(msgspec.Struct, frozen=True):
    """``range name from start to stop step step``."""

    at: int
    name: str
    start: Expression
    stop: Expression
    step: Expression


class Print(msgspec.Struct, frozen=True):
    """One row of values."""

    at: int
    values: tuple[Named, ...]


class Operator(msgspec.Struct, frozen=True):
    """
    A step of a pipeline: its *name*, its parameters (``kind=``) and what stands in it.

    What *parts* hold is for whoever parses and whoever compiles an operator of that name.
    """

    at: int
    name: str
    parameters: dict[str, Any] = {}
    parts: dict[str, Any] = {}


class Pipeline(msgspec.Struct, frozen=True):
    """A source of rows and the operators they go through."""

    at: int
    source: Expression | Operator
    operators: tuple[Operator, ...] = ()


class SortKey(msgspec.Struct, frozen=True):
    """A value to sort by; ``nulls_first`` is None where the query does not say."""

    value: Expression
    ascending: bool
    nulls_first: bool | None


class Query(msgspec.Struct, frozen=True):
    """The statements of a query, and the pipeline that is its answer."""

    text: str
    options: dict[str, Any]
    lets: tuple[Let, ...]
    body: Expression


Expression = (
    Literal
    | Name
    | Star
    | Pattern
    | Path
    | Call
    | Unary
    | Binary
    | InList
    | Between
    | TypeOf
    | Datatable
    | Range
    | Print
    | Pipeline
)


def names_in(node: Any) -> set[str]:
    """The names that an expression reads."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, dict):
        return names_in(tuple(node.values()))
    if isinstance(node, tuple):
        return set().union(*map(names_in, node))
    return set().union(*(names_in(getattr(node, name)) for name in getattr(node, "__struct_fields__", ())))
