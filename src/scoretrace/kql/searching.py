"""search: a word in any column of any table."""

from __future__ import annotations

from msgspec.structs import replace

from scoretrace.kql import comparisons, joining, selecting
from scoretrace.kql.relations import Relation, Scope
from scoretrace.kql.syntax import Binary, Call, Expression, Literal, Operator, Pattern, Star, names_in
from scoretrace.kql.values import constant

_SOURCE = "$table"


def search(operator: Operator, relation: Relation | None, scope: Scope) -> Relation:
    """Rows that have the words, with the table that each is of in the column ``$table``."""
    if relation is not None:
        sources = [relation]
    else:
        named: list[Expression] = list(operator.parts["tables"]) or [Pattern(operator.at, "*")]
        sources = []
        for node in named:
            sources += joining.tables(node, scope) if isinstance(node, Pattern) else [scope.rows(node)]
    is_exact = operator.parameters.get("kind") == "case_sensitive"
    found = []
    for source in sources:
        inside = replace(scope, relation=source)
        test = _condition(operator.parts["condition"], inside, is_exact=is_exact)
        if test is not None:
            found.append(replace(selecting.filtered(test, inside), label=source.label))
    if not found:  # a column that no table has
        found = [selecting.filtered("FALSE", replace(scope, relation=source)) for source in sources]
    if relation is None:
        return joining.stacked(found, scope, source=_SOURCE)
    (only,) = found
    label = constant("string", relation.label or "search_arg0")
    columns = [(column.name, column.value, column.is_plain) for column in only.columns]
    return selecting.selected([(_SOURCE, label, True), *columns], replace(scope, relation=only))


def _condition(node: Expression, scope: Scope, *, is_exact: bool) -> str | None:
    """
    A condition of search over the columns that the rows have.

    None where it needs a column that they do not have: no row of them is found.
    """
    if isinstance(node, Binary) and node.operator in {"and", "or"}:
        parts = [_condition(part, scope, is_exact=is_exact) for part in (node.left, node.right)]
        if node.operator == "and":
            return None if None in parts else f"({parts[0]} AND {parts[1]})"
        there = [part for part in parts if part is not None]
        return f"({' OR '.join(there)})" if there else None
    if isinstance(node, Literal) and node.type == "string":
        return _word(node.value, scope, is_exact=is_exact)
    if isinstance(node, Star):
        return "TRUE"
    if isinstance(node, Call) and node.name == "not" and len(node.arguments) == 1:
        inner = _condition(node.arguments[0], scope, is_exact=is_exact)
        return "TRUE" if inner is None else f"(NOT {inner})"
    if any(scope.column(name) is None for name in _columns(node, scope)):
        return None
    return scope.condition(node)


def _columns(node: Expression, scope: Scope) -> set[str]:
    return {name for name in names_in(node) if scope.names.find(name) is None}


def _word(written: str, scope: Scope, *, is_exact: bool) -> str:
    """A word, with asterisks for what may stand before or behind it, in any column of text."""
    word = written.strip("*")
    lead, trail = not written.startswith("*"), not written.endswith("*")
    if not word:
        return "TRUE"
    needle = constant("string", word)
    within = "contains_cs" if is_exact else "contains"
    tests = [
        comparisons.term(held, needle, is_exact=is_exact, lead=lead, trail=trail)
        if lead or trail
        else comparisons.text_operation(within, held, needle, scope, 0)
        for held in comparisons.texts(scope)
    ]
    return f"({' OR '.join(tests)})" if tests else "FALSE"
