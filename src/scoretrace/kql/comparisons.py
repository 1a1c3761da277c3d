"""Comparisons as SQL, with what null, NaN and dynamics are to them: of values, of texts, and with lists."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import dynamics, functions, literals, values
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Between, Binary, Expression, InList, Literal, Name, Star, Unary
from scoretrace.kql.values import Value, constant

_ORDERED = {"bool", "datetime", "timespan", *values.NUMBERS}
_ASCII = re.compile(r"[ -~]*")


def undefined(at: int, operator: str, operands: list[Value], scope: Scope) -> Exception:
    """The error for an operator between types that have none, with the way out."""
    kinds = " and ".join(operand.type for operand in operands)
    hint = "; strcat(...) joins texts" if operator == "+" and "string" in kinds else ""
    if "dynamic" in kinds:
        hint = "; say which it is with tostring(...), tolong(...) or todouble(...)"
    elif "string" in kinds and operator != "+":
        hint = "; make them alike with tobool(...), todouble(...) or another conversion"
    return scope.places.wrong(at, f"the operator {operator} is not defined for {kinds}{hint}")


def is_plain(node: Expression, scope: Scope) -> bool:
    """Whether a real is known never to be NaN, which SQL would take for the largest of all."""
    if isinstance(node, Name):
        column = scope.column(node.name)
        return column is not None and column.is_plain
    if isinstance(node, Literal):
        return bool(node.value == node.value)  # NaN is not itself
    return isinstance(node, Unary) and is_plain(node.operand, scope)


# Comparing.


def alike(at: int, operator: str, left: Value, right: Value, scope: Scope) -> tuple[Value, Value]:
    """Two values as ones of the same type, as Kusto compares them for equality."""
    kinds = {left.type, right.type}
    if len(kinds) == 1:
        if kinds == {"dynamic"}:
            raise scope.places.wrong(at, "two dynamics cannot be compared: say what they are with tostring(...)")
        return left, right
    if kinds <= values.NUMBERS:
        return left, right
    if "dynamic" in kinds:
        other = right if left.type == "dynamic" else left
        made = _of_dynamic(left if left.type == "dynamic" else right, other.type)
        return (made, other) if left.type == "dynamic" else (other, made)
    for one, other in ((left, right), (right, left)):
        if one.type == "string" and one.is_constant and other.type in {"datetime", "timespan", "guid", "bool"}:
            known = _constant_of(one.constant, other.type)
            if known is not None:
                return (other, known) if one is right else (known, other)
        if one.type == "string" and other.is_constant and other.type == "bool":
            made = values.truth_inside(one)
            return (made, other) if one is left else (other, made)
        if one.type == "bool" and other.is_constant and other.type in {"int", "long"} and other.constant in {0, 1}:
            made = constant("bool", bool(other.constant))
            return (one, made) if other is right else (made, one)
        if one.type == "string" and other.is_constant and other.type == "long":
            made = constant("string", str(other.constant))
            return (one, made) if other is right else (made, one)
        if one.type in values.NUMBERS and other.is_constant and other.type == "string" and _is_number(other.constant):
            made = constant("long", int(other.constant))
            return (one, made) if other is right else (made, one)
    raise undefined(at, operator, [left, right], scope)


def _is_number(written: str) -> bool:
    """Whether a text is a whole number in its only form."""
    return written.lstrip("-").isdigit() and str(int(written)) == written


def _constant_of(written: str, kind: str) -> Value | None:
    if kind == "bool":
        return constant("bool", written.lower() == "true") if written.lower() in {"true", "false"} else None
    read = {"datetime": literals.datetime_ticks, "timespan": literals.timespan_ticks, "guid": literals.guid}[kind]
    found: Any = read(written)
    return None if found is None else constant(kind, found)


def _of_dynamic(held: Value, kind: str) -> Value:
    """What a dynamic is compared as with a value of *kind*."""
    if kind in values.NUMBERS:
        return values.number_inside(held, "real")
    return values.CONVERSIONS[kind](held)


def equality(operator: str, left: Value, right: Value, *, exact: bool) -> str:
    """Equality where null is not equal to anything, and two nulls are null; not *exact* where null counts as false."""
    if operator == "==":
        plain = f"({left.sql} = {right.sql})"
        if left.type == "real" and right.type == "real" and not (left.is_constant or right.is_constant):
            plain = f"({left.sql} = {right.sql} AND NOT isnan({left.sql}))"
        otherwise = "FALSE"
    else:
        plain, otherwise = f"({left.sql} <> {right.sql})", "TRUE"
        if not exact:
            both = left.nullable or right.nullable
            return f"({left.sql} IS DISTINCT FROM {right.sql})" if both else plain
    if not exact or not (left.nullable or right.nullable):
        return plain
    if left.nullable and right.nullable:
        nothing = f"{left.sql} IS NULL AND {right.sql} IS NULL"
        return f"CASE WHEN {nothing} THEN NULL ELSE coalesce({plain}, {otherwise}) END"
    return f"coalesce({plain}, {otherwise})"


def comparison(node: Binary, scope: Scope) -> str:
    """Which of two is larger; NaN is neither larger nor smaller than any."""
    left, right = scope.value(node.left), scope.value(node.right)
    if left.type == "dynamic" and right.type in values.NUMBERS:
        left = values.number_inside(left, "real")
    elif right.type == "dynamic" and left.type in values.NUMBERS:
        right = values.number_inside(right, "real")
    kinds = {left.type, right.type}
    if not (kinds <= values.NUMBERS or (len(kinds) == 1 and kinds <= _ORDERED)):
        raise undefined(node.at, node.operator, [left, right], scope)
    plain = f"{left.sql} {node.operator} {right.sql}"
    larger, at = (left, node.left) if node.operator[0] == ">" else (right, node.right)
    if larger.type == "real" and not is_plain(at, scope):
        return f"({plain} AND NOT isnan({larger.sql}))"
    return f"({plain})"


def between(node: Between, scope: Scope) -> str:
    """Whether a value is within two others, or within a time and a length of time."""
    found, low, high = (scope.value(part) for part in (node.value, node.low, node.high))
    if found.type == "dynamic":
        found = _of_dynamic(found, low.type)
    if high.type == "timespan" and low.type == "datetime":
        high = values.add(low, high)
    kinds = {found.type, low.type, high.type}
    if not (kinds <= values.NUMBERS or (len(kinds) == 1 and kinds <= _ORDERED)):
        raise undefined(node.at, "between", [found, low, high], scope)
    inside = f"{found.sql} BETWEEN {low.sql} AND {high.sql}"
    return f"(NOT ({inside}))" if node.negated else f"({inside})"


# Text.


def _as_text(node: Expression, operator: str, scope: Scope) -> Value:
    found = scope.value(node)
    if found.type not in {"string", "dynamic"}:
        raise undefined(node.at, operator, [found, constant("string", "")], scope)
    return values.text(found)


def text_comparison(node: Binary, scope: Scope) -> str:
    """An operator on text, of a value or, with an asterisk, of any column."""
    if isinstance(node.left, Star):
        return _anywhere(node, scope)
    left = _as_text(node.left, node.operator, scope)
    right = _as_text(node.right, node.operator, scope)
    return text_operation(node.operator, left, right, scope, node.at)


def texts(scope: Scope) -> list[Value]:
    """What the rows have of text, dynamics as their JSON."""
    return [values.text(column.value) for column in scope.current.columns if column.type in {"string", "dynamic"}]


def _anywhere(node: Binary, scope: Scope) -> str:
    """``* has "word"``: an operator on text, of any column of text."""
    right = values.text(scope.value(node.right))
    tests = [text_operation(node.operator, held, right, scope, node.at) for held in texts(scope)]
    return f"({' OR '.join(tests)})" if tests else "FALSE"


def text_operation(operator: str, left: Value, right: Value, scope: Scope, at: int) -> str:
    """An operator on two texts as a condition."""
    if operator == "matches regex":
        return f"regexp_matches({left.sql}, {functions.pattern(right, scope, at)})"
    if operator == "=~":
        return f"({_folded_case(left)} = {_folded_case(right)})"
    if operator == "!~":
        return f"({_folded_case(left)} <> {_folded_case(right)})"
    negated = operator.startswith("!")
    name = operator.removeprefix("!")
    is_exact = name.endswith("_cs")
    name = name.removesuffix("_cs")
    if name.startswith("has"):
        found = term(left, right, is_exact=is_exact, lead=name != "hassuffix", trail=name != "hasprefix")
    else:
        one, other = (left.sql, right.sql) if is_exact else (_folded_case(left), _folded_case(right))
        function = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}[name]
        found = f"{function}({one}, {other})"
    return f"(NOT {found})" if negated else found


def _folded_case(found: Value) -> str:
    if found.is_constant:
        return sql.quote(found.constant.lower()) if _ASCII.fullmatch(found.constant) else f"lower({found.sql})"
    return f"lower({found.sql})"


def term(haystack: Value, needle: Value, *, is_exact: bool = False, lead: bool = True, trail: bool = True) -> str:
    """
    Whether *needle* stands in *haystack* as a whole term.

    A term is a run of letters and digits; the end of *needle* is the end of a
    term only where a letter or a digit is there.
    """
    flag = "" if is_exact else "(?i)"
    start, end = r"(?:^|[^\pL\pN])", r"(?:$|[^\pL\pN])"
    if needle.is_constant and _ASCII.fullmatch(needle.constant):
        word = needle.constant
        if not word:
            return "TRUE"
        head = start if lead and word[0].isalnum() else ""
        tail = end if trail and word[-1].isalnum() else ""
        within = f"contains({haystack.sql if is_exact else f'lower({haystack.sql})'}, "
        within += f"{sql.quote(word if is_exact else word.lower())})"
        if not head and not tail:
            return within
        # Most rows do not have it at all, which is found out much faster than where it stands.
        return f"({within} AND regexp_matches({haystack.sql}, {sql.quote(flag + head + re.escape(word) + tail)}))"
    head = rf"CASE WHEN regexp_matches({needle.sql}, '^[\pL\pN]') THEN '{start}' ELSE '' END" if lead else "''"
    tail = rf"CASE WHEN regexp_matches({needle.sql}, '[\pL\pN]$') THEN '{end}' ELSE '' END" if trail else "''"
    return f"regexp_matches({haystack.sql}, '{flag}' || {head} || regexp_escape({needle.sql}) || {tail})"


# Lists.


def in_list(node: InList, scope: Scope) -> str:
    """Whether a value, or a term of it, is in a list, an array or the first column of rows."""
    operator = node.operator
    if operator in {"has_any", "has_all"}:
        return _has_list(node, scope)
    negated, folds = operator.startswith("!"), operator.endswith("~")
    found = scope.value(node.value)
    rows = _rows(node.items, scope)
    if rows is not None:
        tested = _in_rows(node, found, rows, scope, folds=folds)
    else:
        tested = _in_values(node, found, scope, folds=folds)
    if found.nullable and found.type != "string":
        tested = f"coalesce({tested}, FALSE)"
    return f"(NOT {tested})" if negated else tested


def _in_values(node: InList, found: Value, scope: Scope, *, folds: bool) -> str:
    items: list[Value] = []
    for item in node.items:
        made = scope.value(item)
        if made.type == "dynamic" and made.is_constant and isinstance(made.constant, list):
            items += [_element(element) for element in made.constant]
        else:
            items.append(made)
    lists = [item for item in items if item.type == "dynamic"]
    plain = [item for item in items if item.type != "dynamic"]
    tests = []
    if plain:
        if folds:
            found = values.text(found)
            inside = ", ".join(_folded_case(values.text(item)) for item in plain)
            tests.append(f"({_folded_case(found)} IN ({inside}))")
        else:
            pairs = [alike(node.at, node.operator, found, item, scope) for item in plain]
            for left in dict.fromkeys(left.sql for left, _ in pairs):
                inside = ", ".join(right.sql for one, right in pairs if one.sql == left)
                tests.append(f"({left} IN ({inside}))")
    for listed in lists:
        members = dynamics.texts(values.dynamic(listed).sql)
        own = values.text(found)
        if folds:
            members, own = dynamics.each(members, f"lower({dynamics.ELEMENT})"), replace(own, sql=_folded_case(own))
        tests.append(f"list_contains({members}, {own.sql})")
    return f"({' OR '.join(tests)})" if len(tests) != 1 else tests[0]


def _element(element: Any) -> Value:
    """An element of a literal dynamic as the value that it is compared as."""
    if isinstance(element, bool):
        return constant("bool", element)
    if isinstance(element, int):
        return constant("long", element)
    if isinstance(element, float):
        return constant("real", element)
    return constant("string", element if isinstance(element, str) else literals.json_text(element))


def _rows(items: tuple[Expression, ...], scope: Scope) -> Any:
    """The rows of ``in (table)``, None where values stand there."""
    if len(items) != 1:
        return None
    item = items[0]
    if isinstance(item, Name) and scope.column(item.name) is not None:
        return None
    return scope.rows(item) if scope.is_tabular(item) else None


def _in_rows(node: InList, found: Value, rows: Any, scope: Scope, *, folds: bool) -> str:
    first = rows.columns[0]
    column = first.value
    if folds:
        return f"({_folded_case(values.text(found))} IN (SELECT lower({column.sql}) FROM {rows.sql}))"
    left, right = alike(node.at, node.operator, found, column, scope)
    return f"({left.sql} IN (SELECT {right.sql} FROM {rows.sql} WHERE {right.sql} IS NOT NULL))"


def _has_list(node: InList, scope: Scope) -> str:
    haystack = _as_text(node.value, node.operator, scope)
    joined = " AND " if node.operator == "has_all" else " OR "
    rows = _rows(node.items, scope)
    if rows is not None:
        needle = replace(rows.columns[0].value, sql=dynamics.ELEMENT)
        tested = term(haystack, needle)
        gathered = f"(SELECT list({rows.columns[0].value.sql}) FROM {rows.sql})"
        matched = f"len({dynamics.kept(gathered, tested)})"
        return f"({matched} = len({gathered}))" if node.operator == "has_all" else f"(coalesce({matched}, 0) > 0)"
    needles: list[Value] = []
    for item in node.items:
        made = scope.value(item)
        if made.type == "dynamic" and isinstance(made.constant, list):
            needles += [values.text(_element(element)) for element in made.constant]
        elif made.type in {"string", "dynamic"}:
            needles.append(values.text(made))
        else:
            raise undefined(item.at, node.operator, [haystack, made], scope)
    if not needles:
        return "TRUE" if node.operator == "has_all" else "FALSE"
    return f"({joined.join(term(haystack, needle) for needle in needles)})"
