"""What the tests of collected data share: reading its files with Python's own csv module."""

import csv
import io
from datetime import datetime, timezone

HEADERS = [
    "$aml_dc_correlation_id",
    "$aml_dc_scoring_timestamp",
    "$aml_dc_boundary",
    "$aml_workspace",
    "$aml_service_name",
    "$aml_model_name",
    "$aml_model_version",
    "$aml_request_id",
    "$scoretrace_operation_id",
]


csv.field_size_limit(2**31 - 1)


def files(home, pattern="*.csv"):
    """The files with collected data below *home*, by name."""
    return sorted((home / "modeldata").rglob(pattern))


def parsed(data):
    """The rows of CSV bytes, strictly, the header first."""
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def rows(home, designation="inputs"):
    """The rows of the first file of *designation*, as dictionaries."""
    file = next(path for path in files(home) if f"/{designation}/" in path.as_posix())
    header, *found = parsed(file.read_bytes())
    return [dict(zip(header, row, strict=True)) for row in found]


def features(row):
    """The cells of a row without its correlations."""
    return [value for name, value in row.items() if name not in HEADERS]


def today():
    """The folders of this day."""
    return datetime.now(timezone.utc).strftime("%Y/%m/%d")


def put(home, name, content):
    """Write the file *name* below *home*."""
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def values(relation, *columns):
    """Some columns of a relation, in an order of their own."""
    return sorted(relation.project(", ".join(columns)).fetchall(), key=str)
