"""The operators that put rows of several sources together: join, lookup and union."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from scoretrace import sql
from scoretrace.errors import UnknownNameError
from scoretrace.kql import values
from scoretrace.kql.relations import Column, Relation, Scope, sql_names
from scoretrace.kql.syntax import Binary, Expression, Member, Name, Operator, Path, Pattern

_KINDS = {
    "anti": "leftanti",
    "fullouter": "fullouter",
    "inner": "inner",
    "innerunique": "innerunique",
    "leftanti": "leftanti",
    "leftantisemi": "leftanti",
    "leftouter": "leftouter",
    "leftsemi": "leftsemi",
    "rightanti": "rightanti",
    "rightantisemi": "rightanti",
    "rightouter": "rightouter",
    "rightsemi": "rightsemi",
}
_SQL = {"fullouter": "FULL", "inner": "INNER", "innerunique": "INNER", "leftouter": "LEFT", "rightouter": "RIGHT"}


class _Pair(msgspec.Struct, frozen=True):
    left: Column
    right: Column


def _sides(operator: Operator, relation: Relation, scope: Scope) -> tuple[Relation, list[_Pair]]:
    right = scope.rows(operator.parts["query"])
    pairs = [_pair(node, relation, right, operator, scope) for node in operator.parts["on"]]
    return right, pairs


def _pair(node: Expression, left: Relation, right: Relation, operator: Operator, scope: Scope) -> _Pair:
    if isinstance(node, Name):
        one, other = node.name, node.name
    elif isinstance(node, Binary) and node.operator == "==":
        found = dict(filter(None, (_side(node.left), _side(node.right))))
        if set(found) != {"$left", "$right"}:
            raise scope.places.wrong(node.at, f"{operator.name} compares $left.column == $right.column")
        one, other = found["$left"], found["$right"]
    elif isinstance(node, Binary) and node.operator == "and":
        raise scope.places.wrong(node.at, f"the conditions of {operator.name} are written with a comma between them")
    else:
        raise scope.places.wrong(node.at, f"{operator.name} is on a column, or on $left.column == $right.column")
    mine, theirs = left.column(one), right.column(other)
    if mine is None:
        raise scope.places.unknown(node.at, "column", f"{one} on the left", left.names)
    if theirs is None:
        raise scope.places.unknown(node.at, "column", f"{other} on the right", right.names)
    kinds = {mine.type, theirs.type}
    if "dynamic" in kinds:
        raise scope.places.wrong(node.at, "rows cannot be joined on a dynamic: say tostring(...) of it before")
    if len(kinds) > 1 and not kinds <= {"int", "long"}:
        raise scope.places.wrong(node.at, f"a {mine.type} cannot be joined to a {theirs.type}")
    return _Pair(mine, theirs)


def _side(node: Expression) -> tuple[str, str] | None:
    if isinstance(node, Path) and isinstance(node.base, Name) and node.base.name in {"$left", "$right"}:
        member: Member = node.members[0]
        return node.base.name, member.name
    return None


def _on(pairs: Sequence[_Pair]) -> str:
    """A null matches a null, other than in SQL; where there are none, the faster way says the same."""
    return " AND ".join(
        f"l.{sql.name(pair.left.sql)} {'=' if pair.left.type == 'string' else 'IS NOT DISTINCT FROM'} "
        f"r.{sql.name(pair.right.sql)}"
        for pair in pairs
    )


def join(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows of both sides that have the same keys, or of one side that have or lack them on the other."""
    kind = _KINDS.get(str(operator.parameters.get("kind", "innerunique")))
    if kind is None:
        raise scope.places.wrong(operator.at, f"there is no join kind={operator.parameters['kind']}")
    right, pairs = _sides(operator, relation, scope)
    on = _on(pairs)
    if kind.endswith(("semi", "anti")):
        is_left = kind.startswith("left")
        kept, other = (relation, right) if is_left else (right, relation)
        one, two = ("l", "r") if is_left else ("r", "l")
        how = "SEMI" if kind.endswith("semi") else "ANTI"
        query = f"SELECT {one}.* FROM {kept.sql} AS {one} {how} JOIN {other.sql} AS {two} ON {on}"
        return Relation(scope.builder.stage(query), kept.columns)
    left = relation.sql
    if kind == "innerunique":
        keys = ", ".join(sql.name(pair.left.sql) for pair in pairs)
        left = scope.builder.stage(f"SELECT DISTINCT ON ({keys}) * FROM {left}{relation.ordering}")
    return _joined(kind, left, relation, right, list(right.columns), on, scope)


def lookup(operator: Operator, relation: Relation, scope: Scope) -> Relation:
    """Rows with columns of a table of facts about them."""
    kind = str(operator.parameters.get("kind", "leftouter"))
    if kind not in {"leftouter", "inner"}:
        raise scope.places.wrong(operator.at, f"there is no lookup kind={kind}")
    right, pairs = _sides(operator, relation, scope)
    keys = {pair.right for pair in pairs}
    shown = [column for column in right.columns if column not in keys]
    return _joined(kind, relation.sql, relation, right, shown, _on(pairs), scope)


def _joined(
    kind: str, left: str, relation: Relation, right: Relation, shown: list[Column], on: str, scope: Scope
) -> Relation:
    taken = list(relation.names)
    names = []
    for column in shown:
        names.append(_free(column.name, taken))
        taken.append(names[-1])
    own = sql_names([*(column.sql for column in relation.columns), *names])
    cells, columns = [], []
    for side, column, name, new in [
        *(("l", column, column.name, new) for column, new in zip(relation.columns, own, strict=False)),
        *(
            ("r", column, name, new)
            for column, name, new in zip(shown, names, own[len(relation.columns) :], strict=True)
        ),
    ]:
        cell = f"{side}.{sql.name(column.sql)}"
        may_miss = kind in {"fullouter", "leftouter" if side == "r" else "rightouter"}
        if may_miss and column.type == "string":
            cell = f"coalesce({cell}, '')"
        cells.append(f"{cell} AS {sql.name(new)}")
        columns.append(replace(column, name=name, sql=new))
    query = f"SELECT {', '.join(cells)} FROM {left} AS l {_SQL[kind]} JOIN {right.sql} AS r ON {on}"
    return Relation(scope.builder.stage(query), tuple(columns))


def _free(name: str, taken: list[str]) -> str:
    if name not in taken:
        return name
    number = 1
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def union(operator: Operator, relation: Relation | None, scope: Scope) -> Relation:
    """The rows of all sources, with the columns that any of them has, or with kind=inner those that all have."""
    kind = str(operator.parameters.get("kind", "outer"))
    if kind not in {"outer", "inner"}:
        raise scope.places.wrong(operator.at, f"there is no union kind={kind}")
    is_fuzzy = operator.parameters.get("isfuzzy") in {"true", True}
    sources: list[Relation] = [] if relation is None else [relation]
    for node in operator.parts["queries"]:
        if isinstance(node, Pattern):
            sources += tables(node, scope)
            continue
        try:
            sources.append(scope.rows(node))
        except UnknownNameError:
            if not is_fuzzy:
                raise
    if not sources:
        raise scope.places.wrong(operator.at, "none of the tables of this union is there")
    source = operator.parameters.get("withsource") or operator.parameters.get("with_source")
    return stacked(sources, scope, source=str(source) if source else "", is_inner=kind == "inner")


def tables(node: Pattern, scope: Scope) -> list[Relation]:
    """The tables that a pattern with asterisks means."""
    found = scope.builder.matching(node.pattern)
    if not found:
        raise scope.places.unknown(node.at, "table like", node.pattern, scope.builder.tables)
    return found


def stacked(sources: Sequence[Relation], scope: Scope, *, source: str = "", is_inner: bool = False) -> Relation:
    """All rows of *sources*; with *source* a column of that name says which each is of."""
    kinds: dict[str, list[str]] = {}
    for one in sources:
        for column in one.columns:
            if column.type not in kinds.setdefault(column.name, []):
                kinds[column.name].append(column.type)
    # A name that has several types is a column for each of them.
    wanted = [
        (name, kind, name if len(found) == 1 else f"{name}_{kind}") for name, found in kinds.items() for kind in found
    ]
    if is_inner:
        wanted = [
            (name, kind, shown)
            for name, kind, shown in wanted
            if all((mine := one.column(name)) is not None and mine.type == kind for one in sources)
        ]
    names = [*([source] if source else []), *(shown for _, _, shown in wanted)]
    own = sql_names(names)
    arms = []
    for index, one in enumerate(sources):
        cells = [f"{sql.quote(one.label or f'union_arg{index}')} AS {sql.name(own[0])}"] if source else []
        for (name, kind, _), new in zip(wanted, own[len(cells) :], strict=True):
            mine = one.column(name)
            cell = sql.name(mine.sql) if mine is not None and mine.type == kind else values.null(kind).sql
            cells.append(f"{cell} AS {sql.name(new)}")
        arms.append(f"SELECT {', '.join(cells)} FROM {one.sql}")
    columns = [Column(source, own[0], "string")] if source else []
    for (name, kind, shown), new in zip(wanted, own[len(columns) :], strict=True):
        fine = all(mine.is_plain for one in sources if (mine := one.column(name)) is not None)
        columns.append(Column(shown, new, kind, fine))
    return Relation(scope.builder.stage(" UNION ALL ".join(arms)), tuple(columns))
