"""
What a query is made of, as it was written: the nouns between the parser and the compiler.

Each has the offset of its first character, so that whatever is wrong with it
can be said with a line and a column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """
    A value: *type* is its Kusto type.

    A datetime is the 100 ns since the year 1, a timespan those of its length, a
    dynamic what its JSON says.
    """

    at: int
    type: str
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """A column, a table, or what a ``let`` made."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Star:
    """All columns."""

    at: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name with asterisks in it."""

    at: int
    pattern: str


@dataclass(frozen=True, slots=True)
class Member:
    """``.name`` or ``["name"]`` of a dynamic, or with *index* ``[expression]``."""

    name: str = ""
    index: Expression | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """What is at *members* of a dynamic."""

    at: int
    base: Expression
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    at: int
    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign."""

    at: int
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    """Two values and the operator between them, as Kusto spells it."""

    at: int
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class InList:
    """``in``, ``!in``, ``in~``, ``!in~``, ``has_any`` and ``has_all``: of values, or of the first column of rows."""

    at: int
    operator: str
    value: Expression
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """``between (low .. high)``."""

    at: int
    value: Expression
    low: Expression
    high: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class TypeOf:
    """``typeof(long)``."""

    at: int
    type: str


@dataclass(frozen=True, slots=True)
class Named:
    """``name = value``, or a value without a name; several *names* for a function with several columns."""

    at: int
    value: Expression
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function: a scalar of *type*, or with *columns* a table."""

    name: str
    type: str
    columns: tuple[tuple[str, str], ...] = ()
    default: Literal | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """``(parameters) { statements; value }``."""

    at: int
    parameters: tuple[Parameter, ...]
    lets: tuple[Let, ...]
    body: Expression


@dataclass(frozen=True, slots=True)
class Let:
    """``let name = value``."""

    at: int
    name: str
    value: Expression | Function


@dataclass(frozen=True, slots=True)
class Datatable:
    """Rows written in the query."""

    at: int
    columns: tuple[tuple[str, str], ...]
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """``range name from start to stop step step``."""

    at: int
    name: str
    start: Expression
    stop: Expression
    step: Expression


@dataclass(frozen=True, slots=True)
class Print:
    """One row of values."""

    at: int
    values: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """
    A step of a pipeline: its *name*, its parameters (``kind=``) and what stands in it.

    What *parts* hold is for whoever parses and whoever compiles an operator of that name.
    """

    at: int
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A source of rows and the operators they go through."""

    at: int
    source: Expression | Operator
    operators: tuple[Operator, ...] = ()


@dataclass(frozen=True, slots=True)
class SortKey:
    """A value to sort by; ``nulls_first`` is None where the query does not say."""

    value: Expression
    ascending: bool
    nulls_first: bool | None


@dataclass(frozen=True, slots=True)
class Query:
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
    return set().union(*(names_in(getattr(node, name)) for name in getattr(node, "__dataclass_fields__", ())))
