"""
CloudEvents of Azure ML's data collector as rows: one for each object in their data.

An event with more than 4 MB of data has a reference to a file instead, which is
read where it is here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoretrace import sql
from scoretrace.blobs import FolderBlobs
from scoretrace.collect.correlated import (
    CORRELATION_ID,
    MODEL_VERSION,
    OPERATION_ID,
    REQUEST_ID,
    SERVICE_NAME,
    TIMESTAMP,
)
from scoretrace.collect.tabular import unique
from scoretrace.model_data_columns import COLUMNS, FILE, TYPES, lookup
from scoretrace.model_data_files import DataFile
from scoretrace.overflow import name_of

_LINE_BYTES = 64 * 1024**2
_MORE = "sample_size=-1, union_by_name=true"
_DIGITS = 19  # of whole numbers that may not fit 64 bits
# Attributes of an event that are read, and what is known of it beside them: its time in UTC, its endpoint, the number
# of a row in its data, and how many there are.
_SAID = ("correlationid", "xrequestid", "modelversion", "operationid")
_KNOWN = ("$at", "$service", "$number", "$count")

_log = logging.getLogger("scoretrace")


def rows(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """The rows of *files*, with all of `COLUMNS`. Lines that are no events are passed over, and how many is said."""
    listed = ", ".join(sql.quote(str(file.path)) for file in files)
    attributes = {**dict.fromkeys((*_SAID, "id", "time", "dataref"), "VARCHAR"), "data": "JSON"}
    columns = ", ".join(f"{name}: {sql.quote(kind)}" for name, kind in attributes.items())
    found = connection.sql(
        f"SELECT * FROM read_json([{listed}], format='newline_delimited', columns={{{columns}}}, {_options()}, "
        "ignore_errors=true)"
    )
    _count_broken(found)
    # Without a zone it is UTC, whatever the clock on this machine says.
    zoned = """CASE WHEN regexp_matches("time", '(Z|[+-]\\d\\d:?\\d\\d)$') THEN "time" ELSE "time" || 'Z' END"""
    at = f"make_timestamp(epoch_us(try_cast({zoned} AS TIMESTAMPTZ)))"
    of_file = {str(file.path): file.service for file in files}
    event = f'{", ".join(_SAID)}, {at} AS "$at", {lookup(of_file)} AS "$service"'
    parts = []
    # Object by object: DuckDB has no structure for what is nested deeper than it likes, and ends with that.
    every = (
        'SELECT unnest(data::JSON[]) AS "$row", generate_subscripts(data::JSON[], 1) - 1 AS "$number", '
        f"""json_array_length(data) AS "$count", {event} FROM ({found.sql_query()}) WHERE json_type(data) = 'ARRAY'"""
    )
    objects = f"""SELECT * FROM ({every}) WHERE json_type("$row") = 'OBJECT'"""
    fields = _fields(connection, objects, types)
    if fields:
        parts.append(_with_columns(connection, objects, fields))
    query = _referred(
        connection.sql(f"SELECT dataref, {event} FROM ({found.sql_query()}) WHERE dataref IS NOT NULL"), files
    )
    if query:
        parts.append(_with_columns(connection, query, f"* EXCLUDE ({', '.join(map(sql.name, (*_SAID, *_KNOWN)))})"))
    if not parts:
        empty = ", ".join(f"NULL::{TYPES.get(name, 'VARCHAR')} AS {sql.name(name)}" for name in COLUMNS)
        return connection.sql(f"SELECT {empty} WHERE false")
    return connection.sql(" UNION ALL BY NAME ".join(f"({part.sql_query()})" for part in parts))


def _count_broken(found: Any) -> None:
    broken = found.filter("id IS NULL AND data IS NULL AND dataref IS NULL")
    for file, count in broken.aggregate(f"{sql.name(FILE)}, count(*)", sql.name(FILE)).fetchall():
        _log.warning("%s: %d lines are no events, passed over", file, count)


def _options() -> str:
    return f"hive_partitioning=false, filename={sql.quote(FILE)}, maximum_object_size={_LINE_BYTES}"


def _fields(connection: Any, query: str, types: Mapping[str, str]) -> str:
    """The columns of the rows in *query*: the keys that occur, values of all kinds in one as text."""
    in_order = f'SELECT "$row", row_number() OVER () AS "$place" FROM ({query})'
    keys = connection.sql(
        "SELECT e.key, list(DISTINCT e.type), max(length(e.value::VARCHAR)) "
        f'FROM ({in_order}) r, json_each(r."$row") e GROUP BY e.key ORDER BY min("$place"), min(e.id)'
    ).fetchall()
    names = unique((key for key, _, _ in keys), COLUMNS, fold=True)
    found = []
    for name, (key, kinds, longest) in zip(names, keys, strict=True):
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        kind = types.get(name) or _type_of(set(kinds) - {"NULL"}, longest)
        value = f'"$row"{"->" if kind == "JSON" else "->>"}{sql.quote(pointer)}'
        found.append(f"try_cast({value} AS {kind}) AS {sql.name(name)}")
    return ", ".join(found)


def _type_of(kinds: set[str], longest: int) -> str:
    """The type of a column with values of these JSON types, the longest of them so many characters."""
    if kinds and kinds <= {"UBIGINT", "BIGINT"}:
        return "BIGINT" if longest < _DIGITS else "VARCHAR"
    if kinds and kinds <= {"UBIGINT", "BIGINT", "DOUBLE"}:
        return "DOUBLE"
    if kinds == {"BOOLEAN"}:
        return "BOOLEAN"
    return "JSON" if kinds and kinds <= {"OBJECT", "ARRAY"} else "VARCHAR"


def _referred(events: Any, files: list[DataFile]) -> str:
    """The rows that *events* refer to, with what those say; nothing where no file of them is here."""
    home = next((parent for parent in files[0].path.parents if (parent / "modeldata").is_dir()), Path())
    folders = {file.path.parent for file in files}
    here: dict[str, tuple[Any, ...]] = {}
    missing = []
    for address, *said in events.fetchall():
        path = _path_of(address, home, folders)
        if path is None:
            missing.append(address)
        else:
            here[str(path)] = (path, *said)
    if missing:
        _log.warning("%d events refer to files that are not here: %s", len(missing), missing[0])
    if not here:
        return ""
    values = ", ".join(
        f"({', '.join('NULL' if value is None else sql.quote(str(value)) for value in event)})"
        for event in here.values()
    )
    columns = ", ".join(map(sql.name, ("$path", *events.columns[1:])))
    file, window = sql.name(FILE), f"OVER (PARTITION BY {sql.name(FILE)})"
    rows_in = f"read_json([{', '.join(map(sql.quote, here))}], format='array', {_options()}, {_MORE})"
    return (
        f'SELECT * EXCLUDE ({file}, "$path", "$at"), "$at"::TIMESTAMP AS "$at" FROM ('
        f'SELECT *, row_number() {window} - 1 AS "$number", count(*) {window} AS "$count" FROM {rows_in}) '
        f'JOIN (VALUES {values}) AS e({columns}) ON {file} = "$path"'
    )


def _path_of(address: str, home: Path, folders: set[Path]) -> Path | None:
    """The file that an event calls *address*: below *home* as it is in storage, or beside the event."""
    name = name_of(address)
    with suppress(ValueError):  # a name that would leave the folder
        path = FolderBlobs(home).path(name)
        if path.is_file():
            return path
    beside = (folder / Path(name).name for folder in folders)
    return next((path for path in beside if path.is_file()), None)


def _with_columns(connection: Any, query: str, fields: str) -> Any:
    """The *fields* of *query*, and what else is known of its rows as the columns of ModelDataCollector."""
    values = {
        CORRELATION_ID: "correlationid || CASE WHEN \"$count\" > 1 THEN '_' || \"$number\" ELSE '' END",
        TIMESTAMP: '"$at"',
        SERVICE_NAME: '"$service"',
        MODEL_VERSION: "modelversion",
        REQUEST_ID: "xrequestid",
        OPERATION_ID: "operationid",
    }
    own = ", ".join(
        f"({values.get(name, 'NULL')})::{TYPES.get(name, 'VARCHAR')} AS {sql.name(name)}" for name in COLUMNS
    )
    return connection.sql(f"SELECT {fields}, {own} FROM ({query})")
