"""
Ask in Kusto Query Language, of what lies on this machine.

The engine is duckdb-kql over the views of `tables`. It refuses what it cannot
answer, and says where in the query that is.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import cached_property
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from scoretrace import kusto_text, model_data, model_data_files, tables
from scoretrace.errors import (
    MissingExtraError,
    QueryError,
    QuerySyntaxError,
    ScoretraceError,
    SourceError,
    UnknownNameError,
    UnsupportedQuery,
)
from scoretrace.exports import Export, read_export
from scoretrace.schema import BY_CLASSIC, MODEL_DATA, MODEL_DATA_COLUMNS

if TYPE_CHECKING:
    import duckdb

_KUSTO_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "long",
    "HUGEINT": "long",
    "UBIGINT": "long",
    "INTEGER": "int",
    "DOUBLE": "real",
    "BOOLEAN": "bool",
    "JSON": "dynamic",
    "INTERVAL": "timespan",
    "UUID": "guid",
}
# What the engine would answer, and not as Kusto does: weeks that begin elsewhere, text with letters for letters.
_WRONG = (
    (
        re.compile(r"\bbin(?:_at)?\s*\([^()]*(?:\([^()]*\)[^()]*)*,\s*(?:[2-9]|\d{2,})d\s*\)"),
        True,
        "bin by several days",
    ),
    (re.compile(r"\\u[0-9A-Fa-f]{4}"), False, "an escape with a code point"),
)
# How DuckDB's binder names a column that it does not find.
_MISSING = re.compile(
    r'(?:[Cc]olumn|Column with name) "?(\w+)"? (?:not found|does not exist|ref|in )|Alias with name "+(\w+)"+ '
)
_GIVEN = re.compile(r"\s*(?:=(?![=~])|:)")
_OF_ALL_TABLES = {"union", "search", "find"}  # which may name them by a pattern
_RESULT = "_scoretrace_result"
_TABLES = [*BY_CLASSIC, MODEL_DATA]
# fmt: off
_OPERATORS = [
    "as", "consume", "count", "distinct", "evaluate", "extend", "facet", "find", "fork", "getschema", "invoke", "join",
    "limit", "lookup", "make-series", "mv-apply", "mv-expand", "order", "parse", "parse-where", "partition", "project",
    "project-away", "project-keep", "project-rename", "project-reorder", "range", "reduce", "render", "sample", "scan",
    "search", "serialize", "sort", "summarize", "take", "top", "top-hitters", "top-nested", "union", "where",
]
# fmt: on

Timespan = timedelta | tuple[datetime, datetime] | str | None


class Result:
    """
    The rows of a query.

    *columns* are their names and *types* their Kusto types, *rows* tuples of
    Python values: a dynamic is what its JSON says, a datetime is in UTC, a
    timespan a timedelta.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        unreadable: Callable[[], dict[str, int]],
        failed: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self.failed = dict(failed or {})  # blobs that could not be read at all, and why
        self._unreadable = unreadable
        relation = connection.table(_RESULT)
        self.columns: list[str] = relation.columns
        self.types = [_kusto_type(str(kind)) for kind in relation.types]
        self.rows: list[tuple[Any, ...]] = _converted(relation.fetchall(), self.types)

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> Result:
        """The rows of a *relation* of that *connection*."""
        relation.create(_RESULT)
        return cls(connection, dict)

    @cached_property
    def unreadable(self) -> dict[str, int]:
        """How many lines of which files are no rows and were passed over; counted when it is first asked for."""
        return self._unreadable()

    def __repr__(self) -> str:
        return f"<Result of {len(self.rows)} rows: {', '.join(self.columns)}>"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def df(self) -> Any:
        """The rows as a pandas DataFrame; needs pandas."""
        pd = _installed("pandas", "Result.df()")
        return pd.DataFrame.from_records(self.rows, columns=self.columns)

    def arrow(self) -> Any:
        """The rows as a pyarrow Table, dynamic columns as JSON text; needs pyarrow."""
        _installed("pyarrow", "Result.arrow()")
        return self._connection.table(_RESULT).to_arrow_table()

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a Parquet file, dynamic columns as JSON text."""
        self._connection.table(_RESULT).to_parquet(os.fspath(path))


class Page(NamedTuple):
    """Some of the rows of a relation, as `Result` has all of them."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def pages(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, size: int = 10_000
) -> Iterator[Page]:
    """The rows of a *relation* of *connection*, *size* at a time; one page at the least."""
    types = [_kusto_type(str(kind)) for kind in relation.types]
    is_first = True
    running = connection.execute(relation.sql_query())
    while (rows := running.fetchmany(size)) or is_first:
        yield Page(relation.columns, types, _converted(rows, types))
        is_first = False


def _converted(rows: list[tuple[Any, ...]], types: list[str]) -> list[tuple[Any, ...]]:
    readers = [_READERS.get(kind) for kind in types]
    if not any(readers):
        return rows
    return [
        tuple(
            value if reader is None or value is None else reader(value)
            for reader, value in zip(readers, row, strict=True)
        )
        for row in rows
    ]


class Bundled(NamedTuple):
    """A query that comes with scoretrace: the question it answers, and what of it may be set."""

    name: str
    question: str
    parameters: dict[str, str]
    text: str


def query(
    text: str | os.PathLike[str],
    /,
    *,
    source: str | os.PathLike[str] | None = None,
    timespan: Timespan = None,
    **parameters: Any,
) -> Result:
    """
    Run a Kusto query over *source* and return its rows.

    *text* is the query itself, the name of a bundled one (see `queries`), or
    the path of a `.kql` file. *source* is a home folder, a folder of export
    files or one such file; without it, the home of the settings. *timespan*
    limits all tables as Azure does outside the query: a timedelta before now,
    the same as text ("30m", "6h", "7d", or an ISO 8601 duration such as
    "P1D"), or a pair of datetimes; a ``let since`` in the query follows it.
    *parameters* replace the values of the query's own ``let`` statements.

        scoretrace.query("requests | summarize count() by resultCode")

    Raises:
        QueryError: the query cannot be answered; with line and column where the engine knows them.
        SourceError: there is nothing at *source*.
        MissingExtraError: DuckDB is not installed, or Python is older than 3.11.
    """
    engine = _engine()
    window = _window(timespan)
    kusto = _text(text)
    _refuse(kusto)
    since = kusto_text.lets(kusto).get("since", "")
    if window[0] is not None and kusto_text.LITERAL.fullmatch(since) and "since" not in parameters:
        # What is asked for from outside must not be narrowed by the query's own default.
        start = datetime.fromisoformat(f"{window[0]}+00:00")
        parameters = {
            **parameters,
            "since": start if since.startswith("datetime") else datetime.now(timezone.utc) - start,
        }
    kusto = kusto_text.with_parameters(kusto, parameters)
    words = {word for word, _ in kusto_text.words(kusto)}
    export = _export(source, words, window)
    _check_names(kusto)
    connection = engine.connect()
    if MODEL_DATA in words:
        try:
            model_data.create_view(connection, source, window)
        except Exception as error:
            raise _explained(error, kusto) from error
    for attempt in (1, 2):
        parts, line_bytes = export.parts() if export is not None else ([], tables.LINE_BYTES)
        tables.create_views(connection, parts, window, line_bytes)
        try:
            engine.kql(connection, kusto, allow_write=False).create(_RESULT)
            break
        except Exception as error:
            if isinstance(error, RuntimeError) and "interrupted" in str(error):  # control-C, as DuckDB says it
                raise KeyboardInterrupt from error
            if attempt == 1 and export is not None and "IO Error" in str(error):
                export.close()  # a file was removed meanwhile: retention, or a compaction
                continue
            raise _explained(error, kusto) from error
    used = [table.kind for table in BY_CLASSIC.values() if table.classic in words]
    if export is None:
        return Result(connection, dict)
    return Result(connection, lambda: export.unreadable(used), export.summary.failed)


def _export(
    source: str | os.PathLike[str] | None, words: set[str], window: tuple[str | None, str | None]
) -> Export | None:
    """The exports of *source*, of which there need be none where a query with *words* asks for collected data."""
    kinds = [name for name in BY_CLASSIC if name in words or words & _OF_ALL_TABLES]
    try:
        return read_export(source, tables=kinds, since=window[0], until=window[1])
    except SourceError:
        if MODEL_DATA not in words or kinds:
            raise
        model_data_files.find(source)
        return None


def queries() -> list[Bundled]:
    """The queries that come with scoretrace, by name."""
    bundled = []
    for file in sorted(_folder().iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".kql"):
            text = file.read_text(encoding="utf-8")
            question = " ".join(
                line.removeprefix("//").strip() for line in text.split("\n\n")[0].splitlines() if line.startswith("//")
            )
            bundled.append(Bundled(file.name.removesuffix(".kql"), question, kusto_text.lets(text), text))
    return bundled


def _installed(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, package=module) from error


def _refuse(text: str) -> None:
    """What is no query at all, said better than the parser would."""
    if not any(True for _ in kusto_text.words(text)):
        raise QuerySyntaxError("the query is empty")
    if text.lstrip().startswith("."):
        raise UnsupportedQuery("control commands change a database, and there is none here", line=1, column=1)
    for pattern, in_code, what in _WRONG:
        for match in pattern.finditer(text):
            if kusto_text.is_code(text, match.start()) == in_code:
                before = text[: match.start()]
                line, column = before.count("\n") + 1, match.start() - (before.rfind("\n") + 1) + 1
                raise UnsupportedQuery(f"{what} is answered differently by the local engine", line=line, column=column)


def _check_names(text: str) -> None:
    """
    Refuse a table or column that is only in another letter case than there is one: DuckDB would not mind, Azure does.

    Names that the query itself gives (``Name = ...``, ``Name: string``) are its own.
    """
    words = list(kusto_text.words(text))
    given = {word for word, offset in words if _GIVEN.match(text, offset + len(word))}
    if any(word in {"parse", "parse-where"} for word, _ in words):  # its names stand between texts
        given |= {word for word, _ in words}
    columns = _columns(text)
    for what, known in (("table", _TABLES), ("column", columns)):
        exact = {*known, *columns, *_TABLES, *_OPERATORS}
        by_case = {name.lower(): name for name in known if name}
        for index, (word, offset) in enumerate(words):
            near = by_case.get(word.lower())
            member = text[:offset].rstrip().endswith(".")  # of a dynamic, whose keys are their own
            if near and word not in exact | given and not member and (what == "column" or index == 0):
                raise _unknown(what, word, text, [near])


def _engine() -> Any:
    try:
        import duckdb as _  # noqa: F401
        import duckdb_kql
        import duckdb_kql.engine
    except ImportError as error:
        raise MissingExtraError("scoretrace.query (on Python 3.11 or newer)", "query") from error
    return duckdb_kql


def _folder() -> Any:
    packaged = resources.files("scoretrace") / "kusto"
    # A checkout keeps the queries at its top level; a wheel carries them inside the package.
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "kusto"


def _text(text: str | os.PathLike[str]) -> str:
    if isinstance(text, os.PathLike) or (text.endswith(".kql") and "|" not in text and "\n" not in text):
        try:
            return Path(text).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownNameError(f"there is no query file {os.fspath(text)}: {error}") from error
    if re.fullmatch(r"[\w-]+", text.strip()) and text.strip() not in _TABLES:
        bundled = {entry.name: entry.text for entry in queries()}
        if text.strip() in bundled:
            return bundled[text.strip()]
        near = difflib.get_close_matches(text.strip(), [*bundled, *_TABLES], n=1)
        hint = f": did you mean {near[0]}?" if near else ": `scoretrace queries` lists the bundled ones"
        raise UnknownNameError(f"{text.strip()} is neither a table nor a bundled query{hint}")
    return text


def _window(timespan: Timespan) -> tuple[str | None, str | None]:
    if timespan is None:
        return None, None
    if isinstance(timespan, str):
        timespan = kusto_text.duration(timespan)
    if isinstance(timespan, timedelta):
        try:
            return kusto_text.iso(datetime.now(timezone.utc) - timespan), None
        except OverflowError as error:
            raise QueryError(f"a time span of {timespan.days} days reaches back before the calendar") from error
    start, end = timespan
    return kusto_text.iso(start), kusto_text.iso(end)


def _kusto_type(duckdb_type: str) -> str:
    if duckdb_type.startswith("TIMESTAMP"):
        return "datetime"
    if duckdb_type.endswith("[]") or duckdb_type.startswith(("STRUCT", "MAP")):
        return "dynamic"
    if duckdb_type.startswith("DECIMAL"):
        return "decimal"
    return _KUSTO_TYPES.get(duckdb_type, duckdb_type.lower())


def _dynamic(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=timezone.utc)


_READERS: dict[str, Callable[[Any], Any]] = {"dynamic": _dynamic, "datetime": _utc}


def _explained(error: Exception, text: str) -> ScoretraceError:
    """The error of the engine as one of ours, with the place in the query."""
    import duckdb
    from duckdb_kql import errors

    if isinstance(error, errors.KqlSyntaxError):
        first = error.diagnostics[0] if error.diagnostics else None
        if first is None:
            return QuerySyntaxError(str(error))
        operator = _misspelt(text)
        if operator is not None:
            return operator
        return QuerySyntaxError(first.message, line=first.span.line, column=first.span.column + 1)
    if isinstance(error, errors.KqlUnsupportedError):
        what = error.construct.rpartition(":")[2]
        if what.endswith("Operator"):  # the grammar's name of it: MakeSeriesOperator is make-series in a query
            what = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", what.removesuffix("Operator")).lower()
        line, column = (error.span.line, error.span.column + 1) if error.span else kusto_text.place(text, what)
        return UnsupportedQuery(f"{what} is not supported by the local engine", line=line, column=column)
    if isinstance(error, errors.KqlSchemaError):
        line, column = kusto_text.place(text, error.name)
        if error.hint and "unknown table" in error.hint:
            return _unknown("table", error.name, text, _TABLES)
        return UnknownNameError(f"{error.name}: {error.hint or 'not known'}", line=line, column=column)
    if isinstance(error, duckdb.Error):
        message = str(error)
        missing = _MISSING.search(message)
        if missing:
            return _unknown("column", missing[1] or missing[2], text, _columns(text))
        missing = re.search(r"Table with name (\w+) does not exist", message)
        if missing:
            return _unknown("table", missing[1], text, _TABLES)
        hint = "; a comparison is written ==" if re.search(r"[^=!<>~]=[^=~]", text) and "BOOL" in message else ""
        return QueryError(f"the local engine cannot answer this: {model_data.said(error)}{hint}")
    if isinstance(error, errors.KqlError):
        return QueryError(str(error))
    if isinstance(error, ScoretraceError):
        return error
    return QueryError(f"the local engine failed: {type(error).__name__}: {error}")


def _misspelt(text: str) -> QuerySyntaxError | None:
    """The first operator that there is none of, which is what a syntax error mostly comes from."""
    for match in re.finditer(r"\|\s*([A-Za-z][\w-]*)", kusto_text.blanked(text)):
        name = match[1]
        if name not in _OPERATORS:
            near = difflib.get_close_matches(name, _OPERATORS, n=1)
            before = text[: match.start(1)]
            return QuerySyntaxError(
                f"there is no operator {name}" + (f": did you mean {near[0]}?" if near else ""),
                line=before.count("\n") + 1,
                column=match.start(1) - (before.rfind("\n") + 1) + 1,
            )
    return None


def _unknown(what: str, name: str, text: str, known: list[str]) -> UnknownNameError:
    line, column = kusto_text.place(text, name)
    by_case = {other.lower(): other for other in known}
    near = [by_case[other] for other in difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)]
    if name in known:  # it is one of the table, which the query has left behind
        return UnknownNameError(f"there is no {what} {name} any more at this place", line=line, column=column)
    return UnknownNameError(
        f"there is no {what} {name}" + (f": did you mean {near[0]}?" if near else ""), line=line, column=column
    )


def _columns(text: str) -> list[str]:
    words = {word for word, _ in kusto_text.words(text)}
    collected = list(MODEL_DATA_COLUMNS) if MODEL_DATA in words else []
    return collected + [
        column.classic
        for table in BY_CLASSIC.values()
        if table.classic in words
        for column in table.all_columns
        if column.classic
    ]
