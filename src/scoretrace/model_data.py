"""
Collected model data as DuckDB relations: CSV of ModelDataCollector, CloudEvents of Azure ML's data collector.

Files with other columns are united by name. What ModelDataCollector of scoretrace
wrote is read as strictly and as quickly as DuckDB can; of what others wrote, rows
of any width and line ends of either kind are taken as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoretrace import model_data_csv, model_data_events, sql
from scoretrace.collect.correlated import (
    CORRELATION_ID,
    MODEL_NAME,
    MODEL_VERSION,
    OPERATION_ID,
    REQUEST_ID,
    SERVICE_NAME,
    TIMESTAMP,
    WORKSPACE,
)
from scoretrace.errors import MissingExtraError, SourceError
from scoretrace.model_data_columns import COLUMNS
from scoretrace.model_data_files import DataFile, find, is_meant
from scoretrace.moments import When, moment
from scoretrace.schema import MODEL_DATA, MODEL_DATA_COLUMNS

if TYPE_CHECKING:
    import duckdb

_ADDED = ("$call", "$number", "$key")
_DAY = timedelta(days=1)


def read_model_data(
    source: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    designation: str | None = None,
    since: When = None,
    until: When = None,
    types: Mapping[str, str] | None = None,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> duckdb.DuckDBPyRelation:
    """
    What was collected, as a DuckDB relation: `.df()`, `.pl()` and `.arrow()` give frames, `.filter()` asks on.

    *source* is a home, any folder below which collected data lies (a downloaded
    container ``modeldata``, the root of Azure ML's data collector), or one file;
    without it, the home of the settings. *designation* is inputs, predictions
    or another one; without it inputs are joined to what was predicted from them,
    by correlation id, and what is without the other is kept. *since* and *until*
    are dates or times in UTC (or ISO 8601 text, or how long ago: a timedelta,
    "6h", "7d"): from, and before; a joined row has the time of its inputs. As
    everywhere in DuckDB rows have no order until they are given one.

    The columns are those of the data, of whole numbers, doubles or text, then the correlations of
    `ModelDataCollector` (``$aml_dc_correlation_id``, ...). Where inputs and
    predictions have one of a name, the latter is ``prediction_<name>``. DuckDB
    finds the types by itself: in less than 64 MB from all rows, in more from the
    first 20,480 of each file; *types* says them, by column, where those mislead.

    Raises:
        SourceError: there is no such place, or no collected data of that kind in it.
        ValueError: *since* or *until* is no time.
        MissingExtraError: DuckDB is not installed.
    """
    connection = connection or _duckdb().default_connection()
    types = types or {}
    found = find(source, model=model)
    if designation is not None:
        if not _of(found, designation):
            raise SourceError(f"nothing was collected as {designation}: there is {_designations(found)}")
        wanted = find(source, model=model, designation=designation, since=since, until=until)
        rows = _relation(connection, wanted or _of(found, designation)[-1:], types)
        return _between(rows, moment(since), moment(until))
    if not _of(found, "inputs") and not _of(found, "predictions"):
        there = f": there is {_designations(found)}" if _designations(found) else ", which its path would say"
        raise SourceError(f"there are no inputs and no predictions to join: name a designation{there}")
    start, end = moment(since), moment(until)
    # The two of a pair may lie on both sides of midnight.
    wanted = find(source, model=model, since=_moved(start, -_DAY), until=_moved(end, _DAY))
    sides = [_of(wanted, name) or _of(found, name)[-1:] for name in ("inputs", "predictions")]
    both = [_relation(connection, files, types) for files in sides if files]
    return _between(_joined(connection, *both) if len(both) == 2 else both[0], start, end)


def _moved(when: datetime | None, by: timedelta) -> datetime | None:
    try:
        return when and when + by
    except OverflowError:  # at the ends of the calendar
        return when


def create_view(
    connection: duckdb.DuckDBPyConnection,
    source: str | os.PathLike[str] | None,
    window: tuple[str | None, str | None] = (None, None),
) -> list[str]:
    """
    Create the view `schema.MODEL_DATA` over all that was collected in *source*, as `tables.create_views` does.

    The data of a row are one dynamic column, whatever columns they have.
    Returns the files that it reads.
    """
    try:
        files = find(source)
    except SourceError:
        files = []
    since, until = window
    by_columns: dict[tuple[str, ...], list[DataFile]] = {}  # of one model: another's columns are none of its own
    for file in files:
        by_columns.setdefault((file.service, file.model, file.version, file.designation), []).append(file)
    parts = [
        _as_table(_between(_relation(connection, group, {}), moment(since), moment(until)), name[-1])
        for name, group in by_columns.items()
    ]
    empty = ", ".join(f"NULL::{kind} AS {sql.name(name)}" for name, kind in MODEL_DATA_COLUMNS.items())
    query = " UNION ALL BY NAME ".join(f"({part})" for part in parts) or f"SELECT {empty} WHERE false"
    connection.execute(f"CREATE OR REPLACE VIEW {sql.name(MODEL_DATA)} AS {query}")
    return [str(file.path) for file in files]


def _as_table(rows: Any, designation: str) -> str:
    data = ", ".join(f"{sql.quote(name)}: {sql.name(name)}" for name in rows.columns if name not in COLUMNS)
    values = {
        "timestamp": sql.name(TIMESTAMP),
        "designation": sql.quote(designation),
        "model": sql.name(MODEL_NAME),
        "modelVersion": sql.name(MODEL_VERSION),
        "service": sql.name(SERVICE_NAME),
        "workspace": sql.name(WORKSPACE),
        "correlationId": sql.name(CORRELATION_ID),
        "requestId": sql.name(REQUEST_ID),
        "operation_Id": sql.name(OPERATION_ID),
        "data": f"to_json({{{data}}})" if data else "'{}'::JSON",
    }
    selected = [
        f"{value if kind in {'TIMESTAMP', 'JSON'} else f'coalesce({value}, {sql.quote(str())})'} AS {sql.name(name)}"
        for (name, kind), value in zip(MODEL_DATA_COLUMNS.items(), values.values(), strict=True)
    ]
    return f"SELECT {', '.join(selected)} FROM ({rows.sql_query()})"


def _duckdb() -> Any:
    try:
        return import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("scoretrace.read_model_data", "query") from error


def _of(files: list[DataFile], designation: str) -> list[DataFile]:
    return [file for file in files if is_meant(file.designation, designation)]


def _designations(files: list[DataFile]) -> str:
    return ", ".join(sorted({file.designation for file in files}))


def _relation(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """The rows of *files*, with all of `COLUMNS`."""
    by_way: dict[Any, list[DataFile]] = {}
    for file in [file for file in files if file.path.stat().st_size] or files[:1]:
        if file.is_events:
            way = model_data_events.rows
        else:
            way = model_data_csv.rows if model_data_csv.is_ours(file) else model_data_csv.other_rows
        by_way.setdefault(way, []).append(file)
    parts = [way(connection, group, types) for way, group in by_way.items()]
    if len(parts) > 1:
        parts = [connection.sql(" UNION ALL BY NAME ".join(f"({part.sql_query()})" for part in parts))]
    columns = parts[0].columns
    return parts[0].project(", ".join(map(sql.name, sorted(columns, key=COLUMNS.__contains__))))


def _between(rows: duckdb.DuckDBPyRelation, since: datetime | None, until: datetime | None) -> duckdb.DuckDBPyRelation:
    """Those from *since* on and before *until*."""
    for sign, when in ((">=", since), ("<", until)):
        if when is not None:
            rows = rows.filter(f"{sql.name(TIMESTAMP)} {sign} TIMESTAMP '{when}'")
    return rows


def _joined(connection: duckdb.DuckDBPyConnection, inputs: Any, predictions: Any) -> duckdb.DuckDBPyRelation:
    """Each of the *inputs* with what was predicted from it, and what is without the other."""
    of_inputs = [column for column in inputs.columns if column not in COLUMNS]
    of_predictions = [column for column in predictions.columns if column not in COLUMNS]
    taken = {column.casefold() for column in (*of_inputs, *COLUMNS)}  # DuckDB knows no letter case
    selected = [f"i.{sql.name(column)}" for column in of_inputs]
    for column in of_predictions:
        alias = column if column.casefold() not in taken else f"prediction_{column}"
        while alias.casefold() in taken:
            alias += "_"
        taken.add(alias.casefold())
        selected.append(f"p.{sql.name(column)} AS {sql.name(alias)}")
    selected += [f"coalesce(i.{sql.name(column)}, p.{sql.name(column)}) AS {sql.name(column)}" for column in COLUMNS]
    call, number, key = (sql.name(_free(name, (*inputs.columns, *predictions.columns))) for name in _ADDED)
    # A row alone, without a number, goes with all rows of the other side's call.
    sides, keyed = [], []
    for side, other, rows in (("i", "p", inputs), ("p", "i", predictions)):
        numbered = f"SELECT *, {call_of()} AS {call}, {number_of()} AS {number} FROM ({rows.sql_query()})"
        alone = f"SELECT {call} FROM {other}0 WHERE {number} IS NULL AND {call} IS NOT NULL"
        value = f"CASE WHEN {number} IS NULL OR {call} IN ({alone}) THEN -1 ELSE {number} END"
        sides.append(f"{side}0 AS MATERIALIZED ({numbered})")
        keyed.append(f"{side} AS (SELECT *, {value} AS {key} FROM {side}0)")
    return connection.sql(
        f"WITH {', '.join(sides + keyed)} SELECT {', '.join(selected)} "
        f"FROM i FULL JOIN p ON i.{call} = p.{call} AND i.{key} = p.{key}"
    )


def call_of() -> str:
    """SQL for the id of the call that a row was collected by."""
    return f"regexp_replace({sql.name(CORRELATION_ID)}, '_[0-9]+$', '')"


def number_of() -> str:
    """SQL for the number of a row in its call, null where it was alone."""
    return f"try_cast(nullif(regexp_extract({sql.name(CORRELATION_ID)}, '_([0-9]+)$', 1), '') AS BIGINT)"


def said(error: Exception) -> str:
    """An error of DuckDB in one line, with the file that it is about."""
    first, *more = str(error).splitlines()
    file = next((line.partition("=")[2].strip() for line in more if line.strip().startswith("file =")), "")
    return f"{first} in {file}" if file else first


def _free(name: str, taken: Iterable[str]) -> str:
    while name.casefold() in {column.casefold() for column in taken}:
        name += "_"
    return name
