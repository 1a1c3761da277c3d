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

import msgspec

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
from scoretrace.model_data_columns import COLUMNS, FILE, TYPES, lookup
from scoretrace.model_data_files import DataFile
from scoretrace.overflow import name_of

_LINE_BYTES = 64 * 1024**2
_MORE = "sample_size=-1, union_by_name=true"
_NOTHING, _TEXT = '"NULL"', '"VARCHAR"'  # in DuckDB's structure of JSON: the type of what is null in all rows
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
    at = 'make_timestamp(epoch_us(try_cast("time" AS TIMESTAMPTZ)))'
    of_file = {str(file.path): file.service for file in files}
    event = f'{", ".join(_SAID)}, {at} AS "$at", {lookup(of_file)} AS "$service"'
    parts = []
    with_data = found.filter("json_type(data) = 'ARRAY'")
    ((structure,),) = with_data.aggregate("json_group_structure(data)").fetchall()
    fields = msgspec.json.decode(structure or b"[]")
    if fields and isinstance(fields[0], dict):
        made = f"from_json(data, {sql.quote(structure.replace(_NOTHING, _TEXT))})"
        query = (
            f'SELECT unnest({made}) AS "$row", generate_subscripts({made}, 1) - 1 AS "$number", '
            f'json_array_length(data) AS "$count", {event} FROM ({with_data.sql_query()})'
        )
        parts.append(_with_columns(connection, query, _fields(fields[0], types)))
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


def _fields(fields: Mapping[str, Any], types: Mapping[str, str]) -> str:
    """The columns of the rows: values of all kinds in one are text."""
    found = []
    for name, kind in fields.items():
        value = f'"$row".{sql.name(name)}'
        if kind == "JSON":
            value += "->>'$'"
        if name in types:
            value = f"try_cast({value} AS {types[name]})"
        found.append(f"{value} AS {sql.name(name)}")
    return ", ".join(found)


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
