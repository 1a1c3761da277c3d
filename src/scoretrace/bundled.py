"""
The queries that come with scoretrace, and their twins for a workspace.

A workspace has the same rows in other tables (`AppTraces`) under other names. A
twin is the same query behind one ``let`` for each table that gives the rows
their classic names, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from scoretrace.errors import UnknownNameError
from scoretrace.kql.parameters import parameters
from scoretrace.kql.parser import parse
from scoretrace.kql.syntax import Operator, Pattern, Query, Star, names_in
from scoretrace.near import near
from scoretrace.schema import BY_CLASSIC, Column, Table
from scoretrace.tables_values import ITEM_TYPES

# Operators whose answer has all columns of a table in it, whatever the query names.
_WHOLE = {"search", "find", "getschema", "evaluate"}
_NARROWING = {"count", "distinct", "make-series", "project", "summarize", "top-nested"}


class Bundled(NamedTuple):
    """A query that comes with scoretrace: the question it answers, and what of it may be set."""

    name: str
    question: str
    parameters: dict[str, str]
    text: str

    @property
    def workspace(self) -> str:
        """The same query over the tables of a Log Analytics workspace."""
        return for_workspace(self.text)


def queries() -> list[Bundled]:
    """The queries that come with scoretrace, by name."""
    return [
        Bundled(name, question_of(text), {one.name: one.value for one in parameters(text).values() if one.type}, text)
        for name, text in sorted(_texts())
    ]


def named(name: str, also: Iterable[str] = ()) -> str:
    """
    The text of the bundled query of that name.

    Raises:
        UnknownNameError: there is none; *also* are other names that may have been meant.
    """
    known = dict(_texts())
    if name in known:
        return known[name]
    hint = near(name, [*known, *also]) or ": `scoretrace queries` lists the bundled ones"
    raise UnknownNameError(f"{name} is neither a table nor a bundled query{hint}")


def question_of(text: str) -> str:
    """What a query says in the comment that it opens with."""
    head, _ = _split(text.lstrip("\ufeff"))
    return " ".join(line.removeprefix("//").strip() for line in head.splitlines()).strip()


def _texts() -> Iterator[tuple[str, str]]:
    packaged: Any = resources.files("scoretrace") / "kusto"
    # A checkout keeps the queries at its top level; a wheel carries them inside the package.
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "kusto"
    for file in folder.iterdir():
        if file.name.endswith(".kql"):
            yield file.name.removesuffix(".kql"), file.read_text(encoding="utf-8")


def for_workspace(text: str) -> str:
    """
    A query over classic tables as one over the tables of a workspace.

    >>> print(for_workspace("requests | summarize sum(itemCount)"))
    let requests = AppRequests
    | project itemCount = ItemCount;
    requests | summarize sum(itemCount)

    Raises:
        QuerySyntaxError: it is no query.
    """
    query = parse(text)
    used = names_in((*query.lets, query.body))
    read = [table for name, table in BY_CLASSIC.items() if name in used]
    is_whole = _is_whole(query)
    views = []
    for table in read:
        columns = [column for column in table.all_columns if is_whole or column.classic in used]
        cells = ", ".join(_cell(column, table) for column in columns)
        views.append(f"let {table.classic} = {table.workspace}\n| project {cells};\n")
    head, body = _split(text)
    return f"{head}{''.join(views)}{body}"


def _split(text: str) -> tuple[str, str]:
    """The comment that a query opens with, and the rest."""
    lines = text.splitlines(keepends=True)
    count = next((index for index, line in enumerate(lines) if line.strip() and not line.startswith("//")), len(lines))
    return "".join(lines[:count]), "".join(lines[count:])


def _is_whole(query: Query) -> bool:
    """Whether columns are read that the query does not name."""
    found = list(_nodes((*query.lets, query.body)))
    if any(isinstance(node, (Star, Pattern)) or (isinstance(node, Operator) and node.name in _WHOLE) for node in found):
        return True
    return not any(isinstance(node, Operator) and node.name in _NARROWING for node in found)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, dict):
        node = tuple(node.values())
    if isinstance(node, tuple):
        for one in node:
            yield from _nodes(one)
    for name in getattr(node, "__struct_fields__", ()):
        yield from _nodes(getattr(node, name))


def _cell(column: Column, table: Table) -> str:
    """A classic column made of what the workspace table has."""
    if column.form == "constant":
        return f'{column.classic} = "{ITEM_TYPES[table.kind]}"'
    if column.form == "pass":
        return f'{column.classic} = iff({column.workspace}, "1", "0")'
    if column.form == "bool":
        return f"{column.classic} = tostring({column.workspace})"
    if column.workspace == "_ItemId":  # which a workspace has, and does not list
        return f'{column.classic} = column_ifexists("_ItemId", "")'
    if column.form == "metric:value":
        return f"{column.classic} = Sum"
    if not column.workspace:
        return f"{column.classic} = {'real(null)' if column.type == 'real' else chr(34) * 2}"
    return f"{column.classic} = {column.workspace}"
