"""Expressions as typed SQL."""

from __future__ import annotations

from msgspec.structs import replace

from scoretrace.kql import comparisons, dynamics, values
from scoretrace.kql.parser_expressions import TEXT_OPERATORS
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import (
    Between,
    Binary,
    Call,
    Expression,
    InList,
    Literal,
    Member,
    Name,
    Path,
    Pipeline,
    Star,
    Unary,
)
from scoretrace.kql.values import Value, constant


def value(node: Expression, scope: Scope) -> Value:
    """
    An expression as a typed value in SQL.

    Raises:
        QueryError: Azure would refuse it too, or it cannot be answered here; with its place.
    """
    kind = type(node)
    if kind is Literal:
        return _literal(node, scope)  # type: ignore[arg-type]
    if kind is Name:
        return _name(node, scope)  # type: ignore[arg-type]
    if kind is Path:
        return _path(node, scope)  # type: ignore[arg-type]
    if kind is Call:
        return scope.call(node)  # type: ignore[arg-type]
    if kind is Binary:
        return _binary(node, scope)  # type: ignore[arg-type]
    if kind is Unary:
        return _unary(node, scope)  # type: ignore[arg-type]
    if kind in {InList, Between}:
        return Value(condition(node, scope), "bool", nullable=kind is Between)
    if kind is Star:
        raise scope.places.wrong(node.at, "an asterisk is no value")
    if kind is Pipeline:
        raise scope.places.wrong(node.at, "rows stand where a value is expected: toscalar(...) makes one of them")
    raise scope.places.wrong(node.at, "a value is expected")


def _literal(node: Literal, scope: Scope) -> Value:
    if node.type == "decimal":
        raise scope.places.unsupported(node.at, "a decimal")
    return constant(node.type, node.value)


def _name(node: Name, scope: Scope) -> Value:
    column = scope.column(node.name)
    if column is not None:
        return column.value
    bound = scope.names.find(node.name)
    if bound is not None and bound.value is not None:
        return bound.value
    if bound is not None or node.name in scope.builder.tables:
        raise scope.places.wrong(node.at, f"{node.name} is a table, where a value is expected")
    raise unknown_column(node, scope)


def unknown_column(node: Name, scope: Scope) -> Exception:
    """The error for a column that is not there: it may be one that the query has left behind."""
    if any(table.column(node.name) for table in map(scope.builder.tables.get, scope.builder.used) if table):
        return scope.places.unknown(node.at, "column", f"{node.name} any more at this place", [])
    return scope.places.unknown(node.at, "column", node.name, scope.known())


def _path(node: Path, scope: Scope) -> Value:
    base = value(node.base, scope)
    if base.type != "dynamic":
        raise scope.places.wrong(node.at, f"a {base.type} has no members: only a dynamic has, as of parse_json(...)")
    found = base
    for member in node.members:
        found = _member(found, member, scope)
    return found


def _member(base: Value, member: Member, scope: Scope) -> Value:
    if member.index is None:
        return values.place_in(base, values.json_step(member.name))
    index = value(member.index, scope)
    if index.is_constant and index.type in {"long", "int"}:
        step = f"[{index.constant}]" if index.constant >= 0 else f"[#{index.constant}]"
        return values.place_in(base, step)
    if index.type in {"long", "int"}:
        step = f"'$[' || CASE WHEN {index.sql} < 0 THEN '#' ELSE '' END || ({index.sql})::VARCHAR || ']'"
    elif index.type in {"string", "dynamic"}:
        step = dynamics.escaped_path(values.text(index).sql)
    else:
        raise scope.places.wrong(member.index.at, f"a member is named by a string or a number, not by a {index.type}")
    return Value(f"json_extract({base.sql}, {step})", "dynamic")


def _unary(node: Unary, scope: Scope) -> Value:
    operand = value(node.operand, scope)
    if not operand.is_number and operand.type != "timespan":
        raise comparisons.undefined(node.at, node.operator, [operand], scope)
    if node.operator == "+":
        return operand
    kind = "long" if operand.type == "int" and not isinstance(node.operand, Literal) else operand.type
    if operand.is_constant and operand.constant is not None:
        return constant(kind, -operand.constant)
    return Value(f"(-{operand.sql})", kind, operand.nullable)


def _binary(node: Binary, scope: Scope) -> Value:
    operator = node.operator
    if operator in {"and", "or"}:
        parts = [_truth(part, scope) for part in _chain(node)]
        return Value(f"({f' {operator.upper()} '.join(parts)})", "bool")
    if operator in "+-*/%":
        return _arithmetic(node, scope)
    if operator in {"==", "!="}:
        left, right = comparisons.alike(node.at, operator, value(node.left, scope), value(node.right, scope), scope)
        return Value(comparisons.equality(operator, left, right, exact=True), "bool", left.nullable and right.nullable)
    if operator in {"<", ">", "<=", ">="}:
        return Value(comparisons.comparison(node, scope), "bool")
    return Value(condition(node, scope), "bool", nullable=False)


def _chain(node: Binary) -> list[Expression]:
    """The parts of a chain of the same operator, which may be longer than Python nests calls."""
    parts: list[Expression] = []
    left: Expression = node
    while isinstance(left, Binary) and left.operator == node.operator:
        parts.append(left.right)
        left = left.left
    return [left, *reversed(parts)]


def _truth(node: Expression, scope: Scope) -> str:
    """A part of ``and`` or ``or``, null where it is null."""
    found = value(node, scope)
    if found.type == "dynamic":
        return values.boolean(found).sql
    if found.type != "bool":
        raise scope.places.wrong(node.at, f"a bool is expected, not a {found.type}")
    return found.sql


def condition(node: Expression, scope: Scope) -> str:
    """
    An expression as a condition, where null counts as false.

    That allows SQL which DuckDB can compare with the bounds of its row groups.
    """
    if isinstance(node, Binary):
        operator = node.operator
        if operator in {"and", "or"}:
            return f"({f' {operator.upper()} '.join(_part(part, scope) for part in _chain(node))})"
        if operator in {"==", "!="}:
            left, right = comparisons.alike(node.at, operator, value(node.left, scope), value(node.right, scope), scope)
            return comparisons.equality(operator, left, right, exact=False)
        if operator in {"<", ">", "<=", ">="}:
            return comparisons.comparison(node, scope)
        if operator in {"=~", "!~"} or operator in TEXT_OPERATORS or operator == "matches regex":
            return comparisons.text_comparison(node, scope)
    if isinstance(node, InList):
        return comparisons.in_list(node, scope)
    if isinstance(node, Between):
        return comparisons.between(node, scope)
    found = value(node, scope)
    if found.type != "bool":
        hint = "; tobool(...) reads it" if found.type in {"string", "dynamic"} else ""
        raise scope.places.wrong(node.at, f"the condition must be a bool, not a {found.type}{hint}")
    return found.sql


def _part(node: Expression, scope: Scope) -> str:
    """A part of ``and`` or ``or`` as a condition; a dynamic is read as a bool there."""
    if isinstance(node, Binary | InList | Between):
        return condition(node, scope)
    return _truth(node, scope)


# Arithmetic.


def _arithmetic(node: Binary, scope: Scope) -> Value:
    left, right = value(node.left, scope), value(node.right, scope)
    operator = node.operator
    if left.type == "dynamic" and right.is_number:
        left = values.number_inside(left, "real" if right.type == "real" else "long")
    elif right.type == "dynamic" and left.is_number:
        right = values.number_inside(right, "real" if left.type == "real" else "long")
    folded = _folded(operator, left, right)
    if folded is not None:
        return folded
    if left.is_number and right.is_number:
        return _number(operator, left, right)
    kinds = (left.type, right.type)
    if kinds == ("datetime", "datetime") and operator == "-":
        difference = f"((epoch_us({left.sql}) - epoch_us({right.sql})) * 10)"
        return Value(difference, "timespan", left.nullable or right.nullable)
    if kinds == ("datetime", "timespan") and operator in "+-":
        return values.add(left, right, operator)
    if kinds == ("timespan", "datetime") and operator == "+":
        return values.add(right, left)
    return _span(node, left, right, scope)


def _span(node: Binary, left: Value, right: Value, scope: Scope) -> Value:
    """Arithmetic with lengths of time."""
    operator = node.operator
    kinds = (left.type, right.type)
    if kinds == ("timespan", "timespan"):
        if operator in "+-":
            return Value(f"({left.sql} {operator} {right.sql})", "timespan")
        if operator == "/":
            return Value(f"(CAST({left.sql} AS DOUBLE) / {right.sql})", "real")
        if operator == "%":
            return replace(_number("%", replace(left, type="long"), replace(right, type="long")), type="timespan")
    if operator == "*" and "timespan" in kinds and (left.is_number or right.is_number):
        return Value(f"CAST(trunc({left.sql} * {right.sql}) AS BIGINT)", "timespan")
    if operator == "/" and left.type == "timespan" and right.is_number:
        return Value(f"CAST(trunc(({left.sql})::DOUBLE / NULLIF({right.sql}, 0)) AS BIGINT)", "timespan")
    raise comparisons.undefined(node.at, operator, [left, right], scope)


def _folded(operator: str, left: Value, right: Value) -> Value | None:
    """The result where both are known and it is exact in Python."""
    if not (left.is_constant and right.is_constant) or None in (left.constant, right.constant):
        return None
    one, other = left.constant, right.constant
    kinds = (left.type, right.type)
    if operator in "+-" and kinds in {("datetime", "timespan"), ("timespan", "timespan"), ("long", "long")}:
        return constant(left.type, one + other if operator == "+" else one - other)
    if operator == "+" and kinds == ("timespan", "datetime"):
        return constant("datetime", one + other)
    if operator == "-" and kinds == ("datetime", "datetime"):
        return constant("timespan", one - other)
    if operator == "*" and set(kinds) <= {"long", "timespan"} and kinds != ("timespan", "timespan"):
        return constant("timespan" if "timespan" in kinds else "long", one * other)
    return None


def _number(operator: str, left: Value, right: Value) -> Value:
    kind = "real" if "real" in {left.type, right.type} else "long"
    one, other = (f"CAST({part.sql} AS BIGINT)" if part.type == "int" else part.sql for part in (left, right))
    nullable = left.nullable or right.nullable
    if operator == "/":
        if kind == "real":
            return Value(f"({one} / {values.real(right).sql})", "real", nullable)
        return Value(f"({one} // NULLIF({other}, 0))", "long")
    if operator == "%":
        # Never negative, whatever the signs.
        rest = f"({one} % NULLIF({other}, 0))"
        return Value(f"(({rest} + abs({other})) % NULLIF(abs({other}), 0))", kind)
    return Value(f"({one} {operator} {other})", kind, nullable)
