"""
Ask in Kusto Query Language, of what lies on this machine or in Azure.

A query is compiled to SQL (`kql.compiler`) and run by DuckDB over the views of
`tables`. What cannot be answered truly is refused, with its place.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scoretrace import azure_logs, bundled, model_data, model_data_csv, model_data_files, tables
from scoretrace.bounds import MEMORY
from scoretrace.bundled import Bundled, queries
from scoretrace.errors import MissingExtraError, QueryError, QueryTimeoutError, ScoretraceError, UnknownNameError
from scoretrace.exports import Export, read_export
from scoretrace.kql import literals
from scoretrace.kql.compiler import Compiled, compile_query
from scoretrace.kql.parameters import parameters, with_parameters
from scoretrace.moments import duration
from scoretrace.result import TABLE, Result, converted
from scoretrace.schema import BY_CLASSIC, BY_WORKSPACE, MODEL_DATA, MODEL_DATA_COLUMNS

if TYPE_CHECKING:
    import duckdb

__all__ = ["Bundled", "portal_link", "queries", "query"]

Timespan = timedelta | tuple[datetime, datetime] | str | None
T = TypeVar("T")
Window = tuple[datetime | None, datetime | None]

_LOOK_SECONDS, _INTERRUPT_SECONDS = 0.05, 30.0
_ROWS_AT_ONCE = 20_000  # are fetched before a query is asked whether it is still wanted
_TYPES = {"TIMESTAMP": "datetime", "VARCHAR": "string", "JSON": "dynamic"}
_CLASSIC = {name: [(column.classic, column.type) for column in table.all_columns] for name, table in BY_CLASSIC.items()}
_WORKSPACE = {
    name: list(
        {
            column.workspace: "bool" if column.form in {"bool", "pass"} else column.type
            for column in table.all_columns
            if column.workspace
        }.items()
    )
    for name, table in BY_WORKSPACE.items()
}
CATALOG: dict[str, list[tuple[str, str]]] = {
    **_CLASSIC,
    MODEL_DATA: [(name, _TYPES[kind]) for name, kind in MODEL_DATA_COLUMNS.items()],
    **_WORKSPACE,
}
_ASIDE = frozenset({MODEL_DATA, *_WORKSPACE})  # an asterisk means the classic tables


def query(
    text: str | os.PathLike[str],
    /,
    *,
    source: str | os.PathLike[str] | None = None,
    timespan: Timespan = None,
    timeout: float | None = None,
    memory: str = MEMORY,
    **parameters: Any,
) -> Result:
    """
    Run a Kusto query over *source* and return its rows.

    *text* is the query itself, the name of a bundled one (see `queries`), or
    the path of a `.kql` file. *source* is a home folder, a folder of export
    files, one such file, a container's URL, or ``azure:`` and the resource id
    of an Application Insights resource or the id of a workspace; without it,
    the home of the settings. *timespan* limits all tables as Azure does outside
    the query: a timedelta before now, the same as text ("30m", "6h", "7d", or
    an ISO 8601 duration such as "P1D"), or a pair of datetimes; a ``let since``
    in the query follows it. *parameters* replace the values of the query's own
    ``let`` statements. After *timeout* seconds the query is given up; DuckDB
    takes *memory* at the most ("2GB"), and files beyond it.

        scoretrace.query("requests | summarize count() by resultCode")

    Raises:
        QueryError: the query cannot be answered; with line and column where they are known.
        SourceError: there is nothing at *source*.
        MissingExtraError: DuckDB, or for Azure azure-monitor-query, is not installed.
    """
    kusto = _text(text)
    window = window_of(timespan)
    kusto = with_parameters(kusto, _with_since(kusto, window, parameters))
    if azure_logs.is_azure(source):
        return azure_logs.query(str(source), kusto, window, timeout=timeout)
    return answer(kusto, source, window, timeout, memory)


def answer(
    kusto: str,
    source: str | os.PathLike[str] | None,
    window: Window = (None, None),
    timeout: float | None = None,
    memory: str = MEMORY,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> Result:
    """
    The rows of a query over what is on this machine; see `query`.

    *window* is its time span as two times. It is given up when *is_unwanted* says so.
    """
    began = time.monotonic()
    now = literals.ticks_of(datetime.now(timezone.utc))
    database = _Database(source, window, memory, None if timeout is None else began + timeout, is_unwanted)
    try:
        compiled = compile_query(kusto, CATALOG, now=now, aside=_ASIDE, probe=database.probe)
        rows = database.run(compiled, kusto)
    except BaseException:
        database.close()
        raise
    return Result(
        [name for name, _ in compiled.columns],
        [kind for _, kind in compiled.columns],
        rows,
        connection=database.connection,
        scratch=database.scratch,
        unreadable=lambda: database.unreadable(compiled.tables),
        failed=database.failed,
        rendering=compiled.rendering,
        seconds=time.monotonic() - began,
    )


def portal_link(text: str | os.PathLike[str], /, *, source: str | os.PathLike[str] | None, **parameters: Any) -> str:
    """
    The address of a query in the Azure portal, for *source* as `query` takes it, ``azure:`` and a resource id.

    Raises:
        SourceError: *source* is no resource in Azure.
        UnknownNameError: there is no such query, or it has no such parameter.
    """
    return azure_logs.portal_link(str(source), with_parameters(_text(text), parameters))


def _text(text: str | os.PathLike[str]) -> str:
    if not isinstance(text, str | os.PathLike):
        raise QueryError(f"a query is text or a path, not {type(text).__name__}")
    if isinstance(text, os.PathLike) or (text.endswith(".kql") and "|" not in text and "\n" not in text):
        try:
            return Path(text).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownNameError(f"there is no query file {os.fspath(text)}: {error}") from error
    name = text.strip()
    if re.fullmatch(r"[\w-]+", name) and name not in CATALOG:
        return bundled.named(name, CATALOG)
    return text


def _with_since(kusto: str, window: Window, given: dict[str, Any]) -> dict[str, Any]:
    """What is asked for from outside must not be narrowed by the query's own default."""
    since = parameters(kusto).get("since")
    if window[0] is None or since is None or "since" in given or since.type not in {"timespan", "datetime"}:
        return given
    now = datetime.now(timezone.utc)
    return {**given, "since": window[0] if since.type == "datetime" else now - window[0]}


def window_of(timespan: Timespan) -> Window:
    """
    A time span as two times; the second is None where it lasts until now.

    Raises:
        QueryError: it is none, or reaches beyond the calendar.
    """
    if timespan is None:
        return None, None
    if isinstance(timespan, str):
        timespan = duration(timespan)
    is_pair = isinstance(timespan, Sequence) and [isinstance(one, datetime) for one in timespan] == [True, True]
    if not is_pair and not isinstance(timespan, timedelta):
        raise QueryError(f"timespan is a length such as 6h, a timedelta, or two datetimes, not {timespan!r:.80}")
    if isinstance(timespan, timedelta):
        try:
            return datetime.now(timezone.utc) - timespan, None
        except OverflowError as error:
            raise QueryError(f"a time span of {timespan.days} days reaches back before the calendar") from error
    start, end = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc) for moment in timespan)
    return start, end


class _Database:
    """
    What a query reads, as views of a DuckDB of its own.

    The views that it asks for are made when it does. From then on DuckDB opens
    no other file, takes no setting, and writes nothing but the answer.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | None,
        window: Window,
        memory: str,
        deadline: float | None,
        is_unwanted: Callable[[], bool],
    ) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtraError("scoretrace.query", "query") from error
        self._source = source
        self._window = (_iso(window[0]), _iso(window[1]))
        self._deadline = deadline
        self.scratch = tempfile.mkdtemp(prefix="scoretrace-")
        self._removed = weakref.finalize(self, shutil.rmtree, self.scratch, ignore_errors=True)
        self._memory = memory
        self._export: Export | None = None
        self._tables: tuple[str, ...] | None = None
        self._duckdb = duckdb
        self._is_unwanted = is_unwanted
        self._is_given_up = False
        self.connection = self._connected()

    def _connected(self) -> duckdb.DuckDBPyConnection:
        try:
            made = self._duckdb.connect(config={"temp_directory": self.scratch, "memory_limit": self._memory})
        except self._duckdb.Error as error:
            raise QueryError(f"memory={self._memory!r}: {model_data.said(error)}") from error
        made.execute("SET TimeZone = 'UTC'")
        return made

    @property
    def failed(self) -> dict[str, str]:
        """Blobs that could not be read at all, and why."""
        return dict(self._export.summary.failed) if self._export is not None else {}

    def close(self) -> None:
        """Let go of what is open; a query that could not be interrupted keeps its connection until it ends."""
        with contextlib.suppress(self._duckdb.Error):
            self.connection.close()
        self._removed()

    def probe(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows that the columns of a query depend on."""
        self._read([name for name in CATALOG if re.search(rf'"{re.escape(name)}"', statement)])
        found: list[tuple[Any, ...]] = self._waited(lambda: self.connection.execute(statement).fetchall())
        return found

    def run(self, compiled: Compiled, kusto: str) -> list[tuple[Any, ...]]:
        """The rows of a query; once more where a file was removed meanwhile: by retention, or by a compaction."""
        kinds = [kind for _, kind in compiled.columns]
        for attempt in (1, 2):
            self._read(compiled.tables)
            try:
                return self._waited(lambda: self._rows(compiled.sql, kinds))
            except self._duckdb.Error as error:
                if attempt == 1 and self._export is not None and "IO Error" in str(error):
                    self._export.close()
                    self._tables = None
                    self.connection.close()
                    self.connection = self._connected()
                    continue
                raise self._explained(error) from error
        raise QueryError(f"the files of {self._source} change faster than they can be read: {kusto[:80]}")

    def _rows(self, statement: str, kinds: Sequence[str]) -> list[tuple[Any, ...]]:
        self.connection.execute("BEGIN TRANSACTION READ ONLY")
        self.connection.execute(f"CREATE TEMP TABLE {TABLE} AS {statement}")
        self.connection.execute("COMMIT")
        self.connection.execute(f"FROM {TABLE}")
        rows: list[tuple[Any, ...]] = []
        while not self._is_given_up and (more := self.connection.fetchmany(_ROWS_AT_ONCE)):
            rows += converted(more, kinds)
        return rows

    def _read(self, names: Sequence[str]) -> None:
        """Make the views of *names*, and close the door behind them."""
        wanted = tuple(dict.fromkeys([*(self._tables or ()), *names]))
        if wanted == self._tables:
            return
        if self._tables is not None:  # a query that looks twice: what was closed stays closed
            self.connection.close()
            self.connection = self._connected()
        self._tables = wanted
        files: list[str] = []
        folders = [self.scratch]
        try:
            if MODEL_DATA in wanted:
                files += model_data.create_view(self.connection, self._source, self._window)
                folders.append(model_data_csv.copies())
            files += self._views(wanted)
        except self._duckdb.Error as error:
            raise self._explained(error) from error
        self.connection.execute("SET allowed_paths = $files", {"files": files})
        self.connection.execute("SET allowed_directories = $folders", {"folders": folders})
        self.connection.execute("SET allow_community_extensions = false")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def _views(self, names: Sequence[str]) -> list[str]:
        """Make the views of telemetry among *names*; returns the files that they read."""
        kinds = [table for table in BY_CLASSIC.values() if table.classic in names or table.workspace in names]
        if not kinds:
            if MODEL_DATA in names:
                model_data_files.find(self._source)
            return []
        since, until = self._window
        self._export = read_export(self._source, tables=[table.classic for table in kinds], since=since, until=until)
        parts, line_bytes = self._export.parts()
        tables.create_views(self.connection, parts, (since, until), line_bytes, kinds)
        for table in kinds:
            if table.workspace in names:
                tables.create_workspace_view(self.connection, table)
        return [part.path for part in parts]

    def unreadable(self, names: Sequence[str]) -> dict[str, int]:
        """How many lines of which files with rows of *names* are none."""
        if self._export is None:
            return {}
        return self._export.unreadable(
            table.kind for table in BY_CLASSIC.values() if table.classic in names or table.workspace in names
        )

    def _waited(self, work: Callable[[], T]) -> T:
        """
        The result of *work*, which control-C and the deadline end.

        DuckDB keeps the thread that it runs on from hearing of a signal.
        """
        outcome: list[T] = []
        failure: list[BaseException] = []
        done = threading.Event()  # and not Thread.join, which believes a thread ended that control-C came upon

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                failure.append(error)
            finally:
                done.set()

        threading.Thread(target=run, name="scoretrace-query", daemon=True).start()
        try:
            while not done.wait(self._patience()):
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._interrupt(done)
                    raise QueryTimeoutError("the query was given up after its timeout")
                if self._is_unwanted():
                    self._interrupt(done)
                    raise QueryError("the query was given up: nobody waits for it any more")
        except KeyboardInterrupt:
            self._interrupt(done)
            raise
        if failure:
            raise failure[0]
        return outcome[0]

    def _patience(self) -> float:
        """How long to wait before looking again, in seconds."""
        left = _LOOK_SECONDS if self._deadline is None else self._deadline - time.monotonic()
        return max(min(_LOOK_SECONDS, left), 0)

    def _interrupt(self, done: threading.Event) -> None:
        self._is_given_up = True
        end = time.monotonic() + _INTERRUPT_SECONDS
        while not done.is_set() and time.monotonic() < end:
            self.connection.interrupt()  # again: one that comes between two statements is lost
            done.wait(_LOOK_SECONDS)

    def _explained(self, error: Exception) -> ScoretraceError:
        """An error of DuckDB as one of ours."""
        message = model_data.said(error)
        if isinstance(error, self._duckdb.OutOfMemoryException):
            return QueryError(f"the query needs more than {self._memory} of memory: memory= allows more ({message})")
        if "expression depth" in message:
            return QueryError("columns are built on each other too often: summarize or materialize between")
        said = message.partition("Error: ")[2] or message
        return QueryError(f"the query cannot be answered: {said}")


def _iso(moment: datetime | None) -> str | None:
    """A time in UTC, as DuckDB takes it."""
    return None if moment is None else moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
