"""
Collected model data as DuckDB relations: CSV of ModelDataCollector, CloudEvents of Azure ML's data collector.

Files with other columns are united by name. What ModelDataCollector of scoretrace
wrote is read as strictly and as quickly as DuckDB can; of what others wrote, rows
of any width and line ends of either kind are taken as they are.
"""

from __future__ import annotations

import csv
import io
import mmap
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoretrace import model_data_events, sql
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
from scoretrace.model_data_columns import COLUMNS, TYPES, lookup
from scoretrace.model_data_files import SAME, DataFile, When, find, moment
from scoretrace.schema import MODEL_DATA, MODEL_DATA_COLUMNS
from scoretrace.shared_file import first_end

if TYPE_CHECKING:
    import duckdb

_HEADER_BYTES = 1024**2
_SMALL = 64 * 1024**2  # bytes up to which all of it is looked at for the types of columns
_USUAL_LINE = 2_000_000  # bytes, DuckDB's default: a larger one costs memory and time
_ROWS, _OTHER_ROWS, _EVENTS = range(3)


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
    are dates or times in UTC (or ISO 8601 text): from, and before.

    The columns are those of the data, then the correlations of
    `ModelDataCollector` (``$aml_dc_correlation_id``, ...). Where inputs and
    predictions have one of a name, the latter is ``prediction_<name>``. DuckDB finds the types of columns by
    itself: in less than 64 MB from all rows, in more from the first 20,480 of each
    file; *types* says them, by column, where those mislead.

    Raises:
        SourceError: there is no such place, or no collected data of that kind in it.
        MissingExtraError: DuckDB is not installed.
    """
    connection = connection or _duckdb().default_connection()
    found = find(source, model=model)
    wanted = find(source, model=model, designation=designation, since=since, until=until)
    if designation is not None:
        if not _of(found, designation):
            raise SourceError(f"nothing was collected as {designation}: there is {_designations(found)}")
        rows = _relation(connection, wanted or _of(found, designation)[-1:], types or {})
        return _between(rows, since, until)
    inputs, predictions = (_of(wanted, name) for name in ("inputs", "predictions"))
    if not _of(found, "inputs") and not _of(found, "predictions"):
        raise SourceError(
            f"there are no inputs and no predictions: name a designation, there is {_designations(found)}"
        )
    if not inputs and not predictions:
        inputs, predictions = (_of(found, name)[-1:] for name in ("inputs", "predictions"))
    both: list[duckdb.DuckDBPyRelation] = [
        _between(_relation(connection, one, types or {}), since, until) for one in (inputs, predictions) if one
    ]
    return _joined(connection, *both) if len(both) == 2 else both[0]


def create_view(
    connection: duckdb.DuckDBPyConnection,
    source: str | os.PathLike[str] | None,
    window: tuple[str | None, str | None] = (None, None),
) -> None:
    """
    Create the view `schema.MODEL_DATA` over all that was collected in *source*, as `tables.create_views` does.

    The data of a row are one dynamic column, whatever columns they have.
    """
    try:
        files = find(source)
    except SourceError:
        files = []
    since, until = window
    parts = [
        _as_table(_between(_relation(connection, _of(files, name), {}), since, until), name)
        for name in dict.fromkeys(SAME.get(file.designation, file.designation) for file in files)
    ]
    empty = ", ".join(f"NULL::{kind} AS {sql.name(name)}" for name, kind in MODEL_DATA_COLUMNS.items())
    query = " UNION ALL BY NAME ".join(f"({part})" for part in parts) or f"SELECT {empty} WHERE false"
    connection.execute(f"CREATE OR REPLACE VIEW {sql.name(MODEL_DATA)} AS {query}")


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
    wanted = SAME.get(designation, designation)
    return [file for file in files if SAME.get(file.designation, file.designation) == wanted]


def _designations(files: list[DataFile]) -> str:
    return ", ".join(sorted({file.designation for file in files}))


def _relation(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """The rows of *files*, with all of `COLUMNS`."""
    by_kind: dict[int, list[DataFile]] = {_ROWS: [], _OTHER_ROWS: [], _EVENTS: []}
    for file in files:
        by_kind[_kind(file)].append(file)
    parts = [
        make(connection, by_kind[kind], types)
        for kind, make in ((_ROWS, _rows), (_OTHER_ROWS, _other_rows), (_EVENTS, model_data_events.rows))
        if by_kind[kind]
    ]
    if len(parts) > 1:
        parts = [connection.sql(" UNION ALL BY NAME ".join(f"({part.sql_query()})" for part in parts))]
    columns = parts[0].columns
    return parts[0].project(", ".join(map(sql.name, sorted(columns, key=COLUMNS.__contains__))))


def _kind(file: DataFile) -> int:
    if file.is_events:
        return _EVENTS
    with file.path.open("rb") as opened:
        head = opened.read(_HEADER_BYTES)
    ours = ",".join(COLUMNS).encode() + b"\n"
    return _ROWS if head[: first_end(head)].endswith((ours, b"," + ours)) else _OTHER_ROWS


def _rows(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """Files of our own: everything is known of them but the columns of the data."""
    said = {**dict.fromkeys(COLUMNS, "VARCHAR"), **TYPES, **types}
    options = "header=true, delim=',', quote='\"', escape='\"', allow_quoted_nulls=false"
    return connection.sql(f"SELECT * FROM {_read_csv(files, options, said)}")


def _other_rows(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """Files of the old library: any line ends, any width, headers now and then, and no correlations for predictions."""
    options = (
        "delim=',', quote='\"', escape='\"', strict_mode=false, null_padding=true, parallel=false, filename='$file'"
    )
    rows = connection.sql(f"SELECT * FROM {_read_csv(files, options, types)}")
    of_file = {str(file.path): file for file in files}
    known = {
        SERVICE_NAME: {name: file.service for name, file in of_file.items()},
        MODEL_NAME: {name: file.model for name, file in of_file.items()},
        MODEL_VERSION: {name: file.version for name, file in of_file.items()},
        TIMESTAMP: {name: file.first.isoformat() for name, file in of_file.items() if file.first},
    }
    selected = [sql.name(column) for column in rows.columns if column not in (*COLUMNS, "$file")]
    for column in COLUMNS:
        kind = TYPES.get(column, "VARCHAR")
        value = f"try_cast({sql.name(column)} AS {kind})" if column in rows.columns else f"NULL::{kind}"
        if known.get(column):
            value = f"coalesce({value}, try_cast({lookup(known[column])} AS {kind}))"
        selected.append(f"{value} AS {sql.name(column)}")
    return connection.sql(f"SELECT {', '.join(selected)} FROM ({rows.sql_query()})")


def _read_csv(files: list[DataFile], options: str, types: Mapping[str, str]) -> str:
    present = _present(files) if types else set()
    said = {name: kind for name, kind in types.items() if name in present}
    if said:
        options += f", types={{{', '.join(f'{sql.quote(name)}: {sql.quote(kind)}' for name, kind in said.items())}}}"
    if sum(file.path.stat().st_size for file in files) <= _SMALL:
        options += ", sample_size=-1"
    longest = max(map(_longest, files))
    if longest > _USUAL_LINE:
        options += f", max_line_size={longest}, buffer_size={2 * longest}"
    listed = ", ".join(sql.quote(str(file.path)) for file in files)
    return f"read_csv([{listed}], union_by_name=true, hive_partitioning=false, {options})"


def _longest(file: DataFile) -> int:
    """
    At least as many bytes as the longest row of *file*, where that has more than DuckDB takes without being told.

    Each row that we wrote says the boundary, which text between quotes seldom does; in other files a
    line's end has to do.
    """
    size, longest = file.path.stat().st_size, 0
    if size <= _USUAL_LINE:
        return 0
    step = _USUAL_LINE // 2
    with file.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        marks = [mark for mark in (b",1440,", b",60,") if data.find(mark, 0, step) >= 0] or [b"\n"]
        at = 0
        while at < size:
            found = min((end for end in (data.find(mark, at) for mark in marks) if end >= 0), default=size)
            if found - at > step:
                longest = max(longest, found - at + 2 * step)
            at = max(found + 1, at + step)
    return longest


def _present(files: list[DataFile]) -> set[str]:
    """Names of columns that are in some header, as a whole line shows them: DuckDB refuses types for others."""
    found: set[str] = set()
    for file in files:
        with file.path.open("rb") as opened:
            head = opened.read(_HEADER_BYTES)
        line = head[: first_end(head)].decode("utf-8-sig", "replace")
        found.update(*csv.reader(io.StringIO(line, newline="")))
    return found


def _between(rows: duckdb.DuckDBPyRelation, since: When, until: When) -> duckdb.DuckDBPyRelation:
    """Those from *since* on and before *until*."""
    bounds = [(sign, moment(when)) for sign, when in ((">=", since), ("<", until)) if when is not None]
    for sign, when in bounds:
        rows = rows.filter(f"{sql.name(TIMESTAMP)} {sign} TIMESTAMP '{when}'")
    return rows


def _joined(connection: duckdb.DuckDBPyConnection, inputs: Any, predictions: Any) -> duckdb.DuckDBPyRelation:
    """Each of the *inputs* with what was predicted from it, and what is without the other."""
    of_inputs = [column for column in inputs.columns if column not in COLUMNS]
    of_predictions = [column for column in predictions.columns if column not in COLUMNS]
    taken = set(of_inputs)
    selected = [f"i.{sql.name(column)}" for column in of_inputs]
    for column in of_predictions:
        alias = f"prediction_{column}" if column in taken else column
        selected.append(f"p.{sql.name(column)} AS {sql.name(alias)}")
    selected += [f"coalesce(i.{sql.name(column)}, p.{sql.name(column)}) AS {sql.name(column)}" for column in COLUMNS]
    # The id of a call, and behind it the row's number where there were several; one row goes with all of the others.
    identified = (
        f"SELECT *, regexp_replace({sql.name(CORRELATION_ID)}, '_[0-9]+$', '') AS \"$call\", "
        f"try_cast(nullif(regexp_extract({sql.name(CORRELATION_ID)}, '_([0-9]+)$', 1), '') AS BIGINT) AS \"$number\""
    )
    same = 'i."$number" IS NOT DISTINCT FROM p."$number" OR i."$number" IS NULL OR p."$number" IS NULL'
    return connection.sql(
        f"SELECT {', '.join(selected)} FROM ({identified} FROM ({inputs.sql_query()})) i "
        f'FULL JOIN ({identified} FROM ({predictions.sql_query()})) p ON i."$call" = p."$call" AND ({same})'
    )
