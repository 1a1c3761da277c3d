"""Data that carries its correlations itself, as `ModelDataCollector.add_correlations` returns it: put in, taken out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from scoretrace.collect import tabular
from scoretrace.collect.tabular import Table
from scoretrace.errors import CollectionError

CORRELATION_ID = "$aml_dc_correlation_id"
TIMESTAMP = "$aml_dc_scoring_timestamp"
BOUNDARY = "$aml_dc_boundary"
WORKSPACE = "$aml_workspace"
SERVICE_NAME = "$aml_service_name"
MODEL_NAME = "$aml_model_name"
MODEL_VERSION = "$aml_model_version"
REQUEST_ID = "$aml_request_id"
HEADERS = (CORRELATION_ID, TIMESTAMP, BOUNDARY, WORKSPACE, SERVICE_NAME, MODEL_NAME, MODEL_VERSION, REQUEST_ID)
# Ours, behind the documented ones: what joins a row to traces and requests, whose operation_Id it is.
OPERATION_ID = "$scoretrace_operation_id"

_BOUNDARIES = (60, 1440)
_ID = re.compile(r".*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:_\d+)?", re.DOTALL)


class Correlated(NamedTuple):
    """A table without its correlations, and those of each row in the order of `HEADERS`, None where one is missing."""

    table: Table
    correlations: list[list[Any]]


def add(data: Any, correlations: Mapping[str, Any], *, per_prediction: bool) -> Any:
    """
    *data* with the values of *correlations* behind each row, in the kind that it has; see `add_correlations`.

    Raises:
        CollectionError: it has no rows.
    """
    values = [correlations.get(name) for name in HEADERS]
    if hasattr(data, "toPandas"):
        data = data.toPandas()
    if hasattr(data, "with_columns"):  # polars, whose frames know their length by another name
        frame = data.collect() if hasattr(data, "collect") else data
        if not len(frame):
            return data
        columns = zip(*_numbered(values, len(frame)), strict=True)
        made = [type(frame)({name: list(column)}) for name, column in zip(HEADERS, columns, strict=True)]
        return frame.hstack([one.to_series() for one in made])
    if hasattr(data, "assign") and hasattr(data, "iloc"):  # pandas
        if not len(data):
            return data
        columns = zip(*_numbered(values, len(data)), strict=True)
        return data.assign(**{name: list(column) for name, column in zip(HEADERS, columns, strict=True)})
    table = tabular.table(data, per_prediction=per_prediction)
    if not table.rows:
        raise CollectionError("type", "there are no rows to add correlations to")
    rows = [[*row, *own] for row, own in zip(table.rows, _numbered(values, len(table.rows)), strict=True)]
    if table.names is not None:
        return [dict(zip((*table.names, *HEADERS), row, strict=True)) for row in rows]
    if isinstance(data, (list, tuple)):
        return rows[0] if len(rows) == 1 and not tabular.is_row(data[0]) else rows
    import numpy  # noqa: ICN001 - the array that came is from there

    return numpy.array(rows, dtype=object)


def is_row(data: Any) -> bool:
    """Whether *data* of one dimension has correlations behind it, and so is a row."""
    if isinstance(data, (str, bytes, Mapping)) or getattr(data, "ndim", 1) != 1:
        return False
    try:
        values = getattr(data, "iloc", data)  # by place, whatever the labels are
        value = values[-len(HEADERS)] if len(data) > len(HEADERS) else None
    except (TypeError, LookupError):
        return False
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def take(table: Table) -> Correlated | None:
    """The correlations that *table* carries, and the rest of it; None where it carries none."""
    if table.names is not None:
        return _take_named(table, table.names) if CORRELATION_ID in table.names else None
    first = table.rows[0]
    count = len(HEADERS)
    if table.is_numeric or len(first) <= count:
        return None
    own = dict(zip(HEADERS, first[-count:], strict=True))
    if not isinstance(own[CORRELATION_ID], str) or not _ID.fullmatch(own[CORRELATION_ID]):
        return None
    if own[BOUNDARY] not in _BOUNDARIES:
        return None
    return Correlated(Table(None, [row[:-count] for row in table.rows]), [row[-count:] for row in table.rows])


def _take_named(table: Table, names: list[str]) -> Correlated:
    where = {name: at for at, name in enumerate(names)}
    features = [at for at, name in enumerate(names) if name not in HEADERS and name != OPERATION_ID]
    own = [where.get(name) for name in HEADERS]
    return Correlated(
        Table([names[at] for at in features], [[row[at] for at in features] for row in table.rows]),
        [[None if at is None else row[at] for at in own] for row in table.rows],
    )


def _numbered(values: list[Any], count: int) -> list[list[Any]]:
    """*values* for each of *count* rows; the correlation id, which is the first, with their numbers."""
    if count == 1:
        return [values]
    return [[f"{values[0]}_{number}", *values[1:]] for number in range(count)]
