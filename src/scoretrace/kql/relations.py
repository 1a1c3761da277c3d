"""Rows on their way through a query: what they are called in SQL, their columns, and in which order they are."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql.places import Places
from scoretrace.kql.syntax import Call, Expression, Function, Operator
from scoretrace.kql.values import Value


class Column(msgspec.Struct, frozen=True):
    """
    A column: its Kusto *name* and *type*, and its name in *sql*.

    The two names differ where another column's differs only in case, which
    DuckDB would not keep apart. *is_plain* means of a real that it is never NaN,
    and of a dynamic that it is a bag or an array without white space.
    """

    name: str
    sql: str
    type: str
    is_plain: bool = False

    @property
    def value(self) -> Value:
        """The column as an expression."""
        return Value(sql.name(self.sql), self.type, nullable=self.type != "string", is_plain=self.is_plain)


class OrderKey(msgspec.Struct, frozen=True):
    """A column, by its name in SQL, that rows are sorted by."""

    sql: str
    ascending: bool
    nulls_first: bool

    def __str__(self) -> str:
        direction = "ASC" if self.ascending else "DESC"
        return f"{sql.name(self.sql)} {direction} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


class Relation(msgspec.Struct, frozen=True):
    """
    Rows that SQL can read as *sql*.

    *order* is what they are sorted by, by columns that only SQL sees;
    *partition* are such columns too, of rows that are worked on apart from each
    other. *is_serialized* means that windows may look from row to row, and
    *label* is the table's name where they are a whole table.
    """

    sql: str
    columns: tuple[Column, ...]
    order: tuple[OrderKey, ...] = ()
    partition: tuple[str, ...] = ()
    is_serialized: bool = False
    label: str = ""

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return [column.name for column in self.columns]

    @property
    def hidden(self) -> list[str]:
        """What SQL has to carry along beside the columns."""
        return list(dict.fromkeys([*self.partition, *(key.sql for key in self.order)]))

    @property
    def ordering(self) -> str:
        """``ORDER BY`` and its keys, or nothing."""
        return f" ORDER BY {', '.join(map(str, self.order))}" if self.order else ""

    @property
    def window(self) -> str:
        """What stands behind ``OVER`` for windows over its rows."""
        parts = f"PARTITION BY {', '.join(map(sql.name, self.partition))}" if self.partition else ""
        return f"({parts}{self.ordering})"


def sql_names(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Names for SQL, no two of which differ only in case, and none that begins with a tilde as our own do."""
    used = {name.casefold() for name in taken}
    found = []
    for name in names:
        own = f"_{name}" if name.startswith("~") else name  # those are ours
        candidate, number = own, 1
        while candidate.casefold() in used or not candidate:
            number += 1
            candidate = f"{own}~{number}"
        used.add(candidate.casefold())
        found.append(candidate)
    return found


class Bound(msgspec.Struct, frozen=True):
    """What a ``let`` made of a name: a value, rows, or a function with the scope that it was written in."""

    value: Value | None = None
    relation: Relation | None = None
    function: Function | None = None
    names: Names | None = None


class Names(msgspec.Struct, frozen=True):
    """The names that are known where a piece of a query stands, beside the columns."""

    bound: dict[str, Bound] = {}

    def find(self, name: str) -> Bound | None:
        """What a name stands for."""
        return self.bound.get(name)

    def with_(self, name: str, bound: Bound) -> Names:
        """The same and one more."""
        return Names({**self.bound, name: bound})

    def __iter__(self) -> Iterator[str]:
        return iter(self.bound)


class Language(msgspec.Struct, frozen=True):
    """
    How each kind of node becomes SQL.

    Expressions hold pipelines, and pipelines hold expressions: the modules that
    compile them know each other through this, and import in one direction.
    """

    value: Callable[[Expression, Scope], Value]
    condition: Callable[[Expression, Scope], str]
    call: Callable[[Call, Scope], Value]
    rows: Callable[[Expression, Scope], Relation]
    is_tabular: Callable[[Expression, Scope], bool]
    apply: Callable[[Sequence[Operator], Relation, Scope], Relation]


class Builder:
    """Collects the steps of one query as SQL, each under a name that the next reads."""

    def __init__(
        self, places: Places, tables: dict[str, Relation], now: int, language: Language, aside: Collection[str] = ()
    ) -> None:
        self.places = places
        self.tables = tables
        self.now = now
        self.language = language
        self.aside = aside  # tables that an asterisk alone does not mean
        self.used: dict[str, None] = {}  # tables, in the order of their first use
        self.probe: Any = None  # runs SQL where the columns of an answer depend on its rows
        self._stages: list[tuple[str, str]] = []
        self._shared: set[str] = set()
        self._count = 0

    def stage(self, query: str, *, is_shared: bool = False) -> str:
        """A name for the rows of *query*; with *is_shared* several steps may read it."""
        self._count += 1
        name = f"_{self._count}"
        self._stages.append((name, query))
        if is_shared:
            self._shared.add(name)
        return name

    def fresh(self, word: str) -> str:
        """A name for a column that only SQL sees."""
        self._count += 1
        return f"~{word}{self._count}"

    def table(self, name: str) -> Relation | None:
        """A table of the database."""
        found = self.tables.get(name)
        if found is not None:
            self.used[name] = None
        return found

    def matching(self, pattern: str) -> list[Relation]:
        """The tables that a pattern with asterisks means, none where there are none."""
        found = [name for name in self.tables if fnmatch.fnmatchcase(name, pattern)]
        chosen = [name for name in found if name not in self.aside] or found
        return [table for name in chosen if (table := self.table(name)) is not None]

    def statement(self, query: str) -> str:
        """*query* with all of the steps that it may read in front of it."""
        if not self._stages:
            return query
        stages = ", ".join(
            f"{name} AS {'' if name in self._shared else 'NOT MATERIALIZED '}({text})" for name, text in self._stages
        )
        return f"WITH {stages} {query}"


class Scope(msgspec.Struct):
    """Where an expression stands: the rows it is about, the names it may use, and the query it belongs to."""

    builder: Builder
    names: Names
    relation: Relation | None = None
    aggregates: Any = None  # how an aggregate becomes a value; set inside a summarize

    @property
    def places(self) -> Places:
        """Makes errors."""
        return self.builder.places

    def value(self, node: Expression) -> Value:
        """An expression as a typed value."""
        return self.builder.language.value(node, self)

    def condition(self, node: Expression) -> str:
        """An expression as a condition, where null counts as false."""
        return self.builder.language.condition(node, self)

    def call(self, node: Call) -> Value:
        """The value of a function."""
        return self.builder.language.call(node, self)

    def rows(self, node: Expression) -> Relation:
        """The rows that an expression stands for."""
        return self.builder.language.rows(node, self)

    def is_tabular(self, node: Expression) -> bool:
        """Whether an expression stands for rows."""
        return self.builder.language.is_tabular(node, self)

    def apply(self, operators: Sequence[Operator], relation: Relation) -> Relation:
        """Rows after operators."""
        return self.builder.language.apply(operators, relation, self)

    def outside(self) -> Scope:
        """The same without rows, for what is the same for all of them."""
        return Scope(self.builder, self.names)

    @property
    def current(self) -> Relation:
        """The rows, where there have to be some."""
        if self.relation is None:
            raise ValueError("there are no rows here")
        return self.relation

    def column(self, name: str) -> Column | None:
        """A column of the rows."""
        return self.relation.column(name) if self.relation is not None else None

    def known(self) -> list[str]:
        """All names that may stand for a value here."""
        columns = self.relation.names if self.relation is not None else []
        return [*columns, *(name for name in self.names if self.names.bound[name].value is not None)]

    def add(self, expression: str, word: str) -> str:
        """A column of the rows, which only SQL sees, with the value of *expression*; returns its name in SQL."""
        name = self.builder.fresh(word)
        query = f"SELECT *, {expression} AS {sql.name(name)} FROM {self.current.sql}"
        self.relation = replace(self.current, sql=self.builder.stage(query))
        return name
