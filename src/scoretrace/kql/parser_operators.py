"""
The operators behind a pipe: how each is written.

An `Operator` has in its *parts*, by name: ``values`` (named expressions),
``keys`` (to sort by), ``by`` (named expressions), ``query`` or ``queries``
(pipelines), and what the operator alone has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scoretrace.kql.syntax import Call, Expression, Name, Named, Operator, Pattern, Pipeline
from scoretrace.near import near

if TYPE_CHECKING:
    from scoretrace.kql.parser import Parser

RENDERINGS = frozenset([
    "anomalychart", "areachart", "barchart", "card", "columnchart", "ladderchart", "linechart", "piechart",
    "pivotchart", "scatterchart", "stackedareachart", "table", "timechart", "timepivot", "treemap",
])  # fmt: skip
# Kusto has them, and they are refused by name.
UNSUPPORTED = {
    "assert-schema", "consume", "execute-and-cache", "externaldata", "facet", "fork", "graph-mark-components",
    "graph-match", "graph-merge", "graph-shortest-paths", "graph-to-table", "graph-where-edges",
    "graph-where-nodes", "macro-expand", "make-graph", "parse-kv", "partition", "partitionby", "reduce", "sample",
    "sample-distinct", "scan", "top-hitters",
}  # fmt: skip


def operator(parser: Parser) -> Operator:
    """The operator that is next."""
    at = parser.token.at
    name = _name(parser)
    read = _READERS.get(name)
    if read is None:
        if name in UNSUPPORTED:
            raise parser.places.unsupported(at, name)
        raise parser.places.syntax(at, f"there is no operator {name}{near(name, _READERS)}")
    parameters: dict[str, Any] = {}
    parts = read(parser, parameters)
    return Operator(at, name, parameters, parts)


def _name(parser: Parser) -> str:
    """The words of an operator, which may be joined by hyphens."""
    if parser.token.kind != "name":
        raise parser.unexpected("an operator")
    token = parser.take()
    name, end = token.text, token.end
    while parser.at_sign("-") and parser.token.at == end and parser.ahead().kind == "name":
        parser.take()
        token = parser.take()
        name, end = f"{name}-{token.text}", token.end
    return name


def _read_parameters(parser: Parser, parameters: dict[str, Any], *known: str) -> None:
    """``kind=inner`` and the like, and hints, which change how and never what."""
    while parser.token.kind == "name":
        is_hint = parser.token.text == "hint" and parser.ahead().text == "."
        if not is_hint and (parser.token.text not in known or parser.ahead().text != "="):
            return
        name = parser.take().text
        while parser.skip("."):
            name += f".{parser.take().text}"
        parser.expect("=")
        at = parser.token.at
        token = parser.take()
        if token.kind == "end":
            raise parser.places.syntax(at, f"{name}= has no value")
        if not is_hint:
            parameters[name] = token.value if token.kind not in {"name", "sign"} else token.text


Read = Callable[["Parser", dict[str, Any]], dict[str, Any]]


def _where(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {"condition": parser.expression()}


def _values(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {"values": parser.named_list()}


def _project(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {"values": () if _at_end(parser) else parser.named_list()}


def _at_end(parser: Parser) -> bool:
    return parser.token.kind == "end" or parser.at_sign("|", ")", ";", "}")


def _columns(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    columns = [parser.named_pattern()]
    orders = [_direction(parser)]
    while parser.skip(","):
        columns.append(parser.named_pattern())
        orders.append(_direction(parser))
    return {"columns": tuple(column.value for column in columns), "orders": tuple(orders)}


def _direction(parser: Parser) -> str:
    """``asc``, ``desc`` or their twins that read numbers in names; nothing where there is none."""
    if parser.at_word("asc", "desc", "granny"):
        return _name(parser)
    return ""


def _count(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": parser.name() if parser.skip_word("as") else "Count"}


def _rows(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {"rows": parser.expression()}


def _order(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    parser.expect_word("by")
    return {"keys": parser.sort_keys()}


def _top(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    rows = parser.expression()
    parser.expect_word("by")
    return {"rows": rows, "keys": (parser.sort_key(),)}


def _top_nested(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    levels = [_level(parser)]
    while parser.skip(","):
        at = parser.token.at
        if _name(parser) != "top-nested":
            raise parser.places.syntax(at, "the next level begins with top-nested")
        levels.append(_level(parser))
    return {"levels": tuple(levels)}


def _level(parser: Parser) -> dict[str, Any]:
    rows = None if parser.at_word("of") else parser.expression()
    parser.expect_word("of")
    value = parser.named()
    others = None
    if parser.skip_word("with"):
        parser.expect_word("others")
        parser.expect("=")
        others = parser.expression()
    parser.expect_word("by")
    aggregate = parser.named()
    ascending = parser.expect_word("asc", "desc") == "asc" if parser.at_word("asc", "desc") else False
    return {"rows": rows, "value": value, "others": others, "aggregate": aggregate, "ascending": ascending}


def _summarize(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    values: tuple[Named, ...] = ()
    by: tuple[Named, ...] = ()
    if not parser.at_word("by") and not _at_end(parser):
        values = parser.named_list()
    if parser.skip_word("by"):
        by = parser.named_list()
    return {"values": values, "by": by}


def _distinct(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    return {"values": parser.named_list()}


def _join(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind")
    right = _table(parser)
    _read_parameters(parser, parameters, "kind")
    parser.expect_word("on")
    conditions = [parser.expression()]
    while parser.skip(","):
        conditions.append(parser.expression())
    return {"query": right, "on": tuple(conditions)}


def _table(parser: Parser) -> Expression:
    """A table by its name, or a pipeline in brackets."""
    if parser.skip("("):
        query = parser.pipeline()
        parser.expect(")")
        return query
    at = parser.token.at
    name = parser.name()
    if parser.at_sign("("):
        parser.take()
        return Call(at, name, *parser.call_arguments())
    return Name(at, name)


def _union(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind", "withsource", "with_source", "isfuzzy")
    queries = [_branch(parser)]
    while parser.skip(","):
        queries.append(_branch(parser))
    return {"queries": tuple(queries)}


def _branch(parser: Parser) -> Expression:

    at = parser.token.at
    if parser.at_sign("*"):
        parser.take()
        return Pattern(at, "*")
    if parser.token.kind == "name" and parser.ahead().text == "*" and parser.ahead().at == parser.token.end:
        name = parser.take().text
        parser.take()
        return Pattern(at, f"{name}*")
    return _table(parser)


def _expand(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind", "bagexpansion", "with_itemindex")
    return {"targets": _targets(parser), "limit": parser.expression() if parser.skip_word("limit") else None}


def _targets(parser: Parser) -> tuple[tuple[Named, str], ...]:
    found = []
    while True:
        value = parser.named()
        kind = ""
        if parser.skip_word("to"):
            parser.expect_word("typeof")
            parser.expect("(")
            kind = parser.type_name()
            parser.expect(")")
        found.append((value, kind))
        if not parser.skip(","):
            return tuple(found)


def _apply(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    parts = _expand(parser, parameters)
    parser.expect_word("on")
    parser.expect("(")
    at = parser.token.at
    operators = [operator(parser)]
    while parser.skip("|"):
        operators.append(operator(parser))
    parser.expect(")")
    return {**parts, "query": Pipeline(at, Name(at, "$element"), tuple(operators))}


def _parse(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind", "flags")
    value = parser.expression()
    parser.expect_word("with")
    pieces: list[tuple[str, str, str]] = []  # what it is, its text, its type
    while not _at_end(parser):
        token = parser.token
        if parser.at_sign("*"):
            parser.take()
            pieces.append(("*", "", ""))
        elif token.kind == "string":
            parser.take()
            pieces.append(("text", token.value, ""))
        else:
            name = parser.name()
            pieces.append(("name", name, parser.type_name() if parser.skip(":") else "string"))
    return {"value": value, "pieces": tuple(pieces)}


def _render(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    at = parser.token.at
    kind = parser.name()
    if kind not in RENDERINGS:
        raise parser.places.syntax(at, f"there is no chart {kind}{near(kind, RENDERINGS)}")
    if parser.skip_word("with"):
        parser.expect("(")
        while not parser.at_sign(")"):
            name = parser.name()
            parser.expect("=")
            parameters[name] = _property(parser)
            if not parser.skip(",") and not parser.at_sign(")"):
                raise parser.unexpected(")")
        parser.expect(")")
    while parser.token.kind == "name":  # the older way: without brackets
        name = parser.name()
        parser.expect("=")
        parameters[name] = _property(parser)
    return {"kind": kind}


def _property(parser: Parser) -> Any:
    """A value of render's: text, a number, or one or more names."""
    if parser.token.kind not in {"name", "sign"}:
        return parser.take().value
    if parser.skip("-"):
        token = parser.take()
        if token.kind not in {"long", "real"}:
            raise parser.places.syntax(token.at, "a number is expected behind the minus")
        return -token.value
    if parser.at_word("true", "false"):
        return parser.take().text == "true"
    names = [parser.name()]
    while parser.at_sign(",") and parser.ahead().kind == "name" and parser.ahead(2).text != "=":
        parser.take()
        names.append(parser.name())
    return ",".join(names)


def _series(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind")
    values = []
    while True:
        value = parser.named()
        default = None
        if parser.skip_word("default"):
            parser.expect("=")
            default = parser.expression()
        values.append((value, default))
        if not parser.skip(","):
            break
    parser.expect_word("on")
    axis = parser.axis()
    start = stop = None
    if parser.skip_word("in"):
        parser.expect_word("range")
        parser.expect("(")
        start = parser.expression()
        parser.expect(",")
        stop = parser.expression()
        parser.expect(",")
        step = parser.expression()
        parser.expect(")")
    else:
        if parser.skip_word("from"):
            start = parser.expression()
        if parser.skip_word("to"):
            stop = parser.expression()
        parser.expect_word("step")
        step = parser.expression()
    by = parser.named_list() if parser.skip_word("by") else ()
    return {"values": tuple(values), "axis": axis, "start": start, "stop": stop, "step": step, "by": by}


def _serialize(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    return {"values": () if _at_end(parser) else parser.named_list()}


def _evaluate(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    at = parser.token.at
    plugin = parser.name()
    parser.expect("(")
    arguments, names = parser.call_arguments()
    schema = parser.row_schema() if parser.skip(":") else None
    return {"plugin": plugin, "plugin_at": at, "arguments": arguments, "names": names, "schema": schema}


def _search(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters, "kind")
    tables: list[Expression] = []
    if parser.at_word("in"):
        parser.take()
        parser.expect("(")
        while not parser.at_sign(")"):
            tables.append(_branch(parser))
            if not parser.skip(","):
                break
        parser.expect(")")
    parser.is_searching = True
    condition = parser.expression()
    parser.is_searching = False
    return {"tables": tuple(tables), "condition": condition}


def _find(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    raise parser.places.unsupported(
        parser.token.at,
        "find",
        "is not supported by the local engine: search, or union withsource= and where, ask alike",
    )


def _as(parser: Parser, parameters: dict[str, Any]) -> dict[str, Any]:
    _read_parameters(parser, parameters)
    return {"name": parser.name()}


def _invoke(parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    at = parser.token.at
    name = parser.name()
    parser.expect("(")
    return {"call": Call(at, name, *parser.call_arguments())}


def _nothing(_parser: Parser, _parameters: dict[str, Any]) -> dict[str, Any]:
    return {}


_READERS: dict[str, Read] = {
    "as": _as,
    "count": _count,
    "distinct": _distinct,
    "evaluate": _evaluate,
    "extend": _values,
    "filter": _where,
    "find": _find,
    "getschema": _nothing,
    "invoke": _invoke,
    "join": _join,
    "limit": _rows,
    "lookup": _join,
    "make-series": _series,
    "mv-apply": _apply,
    "mv-expand": _expand,
    "mvapply": _apply,
    "mvexpand": _expand,
    "order": _order,
    "parse": _parse,
    "parse-where": _parse,
    "project": _project,
    "project-away": _columns,
    "project-keep": _columns,
    "project-rename": _values,
    "project-reorder": _columns,
    "render": _render,
    "search": _search,
    "serialize": _serialize,
    "sort": _order,
    "summarize": _summarize,
    "take": _rows,
    "top": _top,
    "top-nested": _top_nested,
    "union": _union,
    "where": _where,
}
OPERATORS = frozenset(_READERS) - {"find"}
