"""parse: columns of what stands between known pieces of a text."""

from __future__ import annotations

import re

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import selecting, values
from scoretrace.kql.relations import Relation, Scope
from scoretrace.kql.syntax import Operator
from scoretrace.kql.values import Value

_SHAPES = {"long": r"[-+]?\d+", "int": r"[-+]?\d+", "real": r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"}
_SHAPES |= {"bool": r"true|false|\d+"}


def parse(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """
    Columns of the pieces of a text; without a match they are empty, and parse-where leaves the row out.

    A simple pattern is all or nothing: where one piece cannot become its type,
    none of them is there. A relaxed one takes each by itself.
    """
    kind = str(operator.parameters.get("kind", "simple"))
    if kind not in {"simple", "relaxed", "regex"}:
        raise scope.places.wrong(operator.at, f"there is no parse kind={kind}")
    scope = replace(scope, relation=relation)
    body = scope.value(operator.parts["value"])
    if body.type not in {"string", "dynamic"}:
        raise scope.places.wrong(operator.at, f"parse takes a string, not a {body.type}")
    written, names = _pattern(operator, kind, scope)
    pattern = sql.quote(written)
    own = [name for name, _ in names]
    captured = scope.add(
        f"regexp_extract({values.text(body).sql}, {pattern}, {[f'c{index}' for index in range(len(own))]!r})",
        "captured",
    )
    matched = scope.add(f"regexp_matches({values.text(body).sql}, {pattern})", "matched")
    added = {}
    tests = [sql.name(matched)]
    for index, (name, wanted) in enumerate(names):
        piece = Value(f"{sql.name(captured)}['c{index}']", "string", nullable=False)
        made = values.CONVERSIONS[wanted](piece)
        if wanted != "string":
            tests.append(f"({made.sql}) IS NOT NULL")
        added[name] = made
    whole = sql.name(scope.add(f"({' AND '.join(tests)})", "whole")) if kind != "relaxed" else sql.name(matched)
    columns = {
        name: (
            values.filled(Value(f"CASE WHEN {whole} THEN {made.sql} ELSE {values.null(made.type).sql} END", made.type)),
            False,
        )
        for name, made in added.items()
    }
    result = selecting.extended(columns, scope)
    if operator.name == "parse-where":
        return selecting.filtered(whole, replace(scope, relation=result))
    return result


def _pattern(operator: Operator, kind: str, scope: Scope) -> tuple[str, list[tuple[str, str]]]:
    """The regular expression of a pattern, and the names and types of its columns."""
    pieces: tuple[tuple[str, str, str], ...] = operator.parts["pieces"]
    if not pieces:
        raise scope.places.wrong(operator.at, f"{operator.name} has no pattern")
    flags = str(operator.parameters.get("flags", ""))
    if set(flags) - set("ismU"):
        raise scope.places.wrong(operator.at, f"there are no flags {flags!r}: i, s, m and U are known")
    parts = [f"(?{''.join(sorted({*flags, 's'}))})"]
    if pieces[0][0] == "name":
        parts.append("^")
    names: list[tuple[str, str]] = []
    for index, (what, written, wanted) in enumerate(pieces):
        if what == "*":
            parts.append(".*?")
        elif what == "text":
            parts.append(re.sub(r"\((?!\?)", "(?:", written) if kind == "regex" else re.escape(written))
        else:
            if wanted in {"decimal", "dynamic"}:
                raise scope.places.unsupported(operator.at, f"{operator.name} into a {wanted}")
            names.append((written, wanted))
            parts.append(f"({_captured(pieces, index, wanted, kind, operator, scope)})")
    if kind != "regex":
        parts.append("$")
    return "".join(parts), names


def _captured(
    pieces: tuple[tuple[str, str, str], ...], index: int, wanted: str, kind: str, operator: Operator, scope: Scope
) -> str:
    if kind == "regex":
        return _SHAPES.get(wanted, ".*")
    following = pieces[index + 1][0] if index + 1 < len(pieces) else "end"
    if following != "*":
        return ".*?"
    if wanted not in _SHAPES:
        raise scope.places.unsupported(operator.at, f"a {wanted} of {operator.name} with an asterisk right behind it")
    shape = _SHAPES[wanted]
    return f"(?:{shape})?" if index + 2 == len(pieces) else shape
