"""
The names of columns that a query does not name, as Kusto gives them.

They are part of an answer: a later operator reads a column by its name. The
lists are what Microsoft's own parser says of each function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scoretrace.kql.syntax import Call, Expression, Literal, Name, Path, Unary

# Their result has the name of their first argument.
_KEEPING = frozenset([
    "abs", "acos", "asin", "atan", "atan2", "bin", "bin_at", "binary_and", "binary_not", "binary_or",
    "binary_shift_left", "binary_shift_right", "binary_xor", "ceiling", "cos", "exp", "exp2", "floor",
    "format_datetime", "gamma", "log", "log10", "log2", "parse_json", "round", "sin", "split", "sqrt",
    "startofday", "tan", "tobool", "toboolean", "todatetime", "todecimal", "todouble", "todynamic", "toguid",
    "tohex", "toint", "tolong", "toreal", "tostring", "totimespan", "format_timespan", "timespan",
])  # fmt: skip
_PREFIXED = {"gettype": "type", "strlen": "strlen", "treepath": "tree"}
_SORTING = frozenset({"array_sort_asc", "array_sort_desc"})
AGGREGATE_PREFIXES = {
    "any": "any",
    "anyif": "anyif",
    "make_bag": "bag",
    "make_bag_if": "bag",
    "make_list": "list",
    "make_list_if": "list",
    "make_list_with_nulls": "list",
    "make_set": "set",
    "make_set_if": "set",
    "makelist": "list",
    "makeset": "set",
    "percentiles_array": "percentiles",
    "percentilew": "percentile",
    "percentilesw": "percentile",
    "percentiles": "percentile",
}
_PERCENTILES = {"percentile": 1, "percentiles": 1, "percentilew": 2, "percentilesw": 2, "percentileif": 1}


def implied(expression: Expression, aggregates: frozenset[str] | set[str] = frozenset()) -> str | None:
    """
    The name that an expression has by itself, None where columns are counted (`Column1`).

    *aggregates* are the functions that name as aggregates do, inside a summarize.
    """
    if isinstance(expression, Name):
        return expression.name
    if isinstance(expression, Path):
        return _path(expression, aggregates)
    if not isinstance(expression, Call):
        return None
    name = expression.name
    if name in aggregates:
        return aggregate_names(expression, aggregates)[0] or None
    if not expression.arguments:
        return None
    first = expression.arguments[0]
    if name in _KEEPING:
        return implied(first, aggregates)
    if name in _PREFIXED:
        return f"{_PREFIXED[name]}_{implied(first, aggregates) or ''}"
    if name in _SORTING:
        return f"{first.name}_sorted" if isinstance(first, Name) else "array0_sorted"
    return None


def _path(path: Path, aggregates: frozenset[str] | set[str]) -> str | None:
    base = implied(path.base, aggregates)
    parts = [base] if base else []
    for member in path.members:
        if member.index is None:
            parts.append(member.name)
            continue
        index = member.index
        if isinstance(index, Unary) and isinstance(index.operand, Literal):
            parts.append(f"_{index.operand.value}")
        elif isinstance(index, Literal):
            parts.append(str(index.value))
        else:
            return None
    return "_".join(parts)


def aggregate_names(call: Call, aggregates: frozenset[str] | set[str]) -> list[str]:
    """The names of the columns of an aggregate, of which a percentile of several has several."""
    name, arguments = call.name, call.arguments
    prefix = AGGREGATE_PREFIXES.get(name, name)
    argument = (implied(arguments[0], aggregates) or "") if arguments else ""
    if name.startswith("binary_all_"):
        return [argument]
    if name in {"take_any", "take_anyif"}:
        return [argument or "take_any_"]
    if name in _PERCENTILES:
        return [f"{prefix}_{argument}_{_percent(value)}" for value in arguments[_PERCENTILES[name] :]] or [prefix]
    if name == "any" and len(arguments) > 1:
        return [f"any_{implied(value, aggregates) or ''}" for value in arguments]
    return [f"{prefix}_{argument}"]


def _percent(value: Expression) -> str:
    if not isinstance(value, Literal):
        return ""
    number = value.value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number).replace(".", "_")


class Namer:
    """
    Names for the columns of one operator, in their order.

    A name that an earlier column has, or that one further on has by the query's
    own word, gets the first number behind it that makes it new.
    """

    def __init__(self, said: Iterable[str] = (), skip: Sequence[str] = ()) -> None:
        self._taken: set[str] = set()
        self._said = set(said)
        self._skip = set(skip)
        self._count = 0

    def take(self, name: str | None) -> str:
        """*name*, or `Column1` and so on, made new."""
        if name is None:
            self._count += 1
            while f"Column{self._count}" in self._skip:
                self._count += 1
            name = f"Column{self._count}"
        found, number = name, 0
        while found in self._taken or (number and found in self._said):
            number += 1
            found = f"{name}{number}"
        self._taken.add(found)
        return found
