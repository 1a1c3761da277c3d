"""
CSV of ModelDataCollector as rows: ours as strictly and quickly as DuckDB can, that of older libraries as it is.
"""

from __future__ import annotations

import atexit
import csv
import hashlib
import io
import mmap
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from scoretrace import shared_file, sql
from scoretrace.blobs import FolderBlobs
from scoretrace.collect.correlated import MODEL_NAME, MODEL_VERSION, SERVICE_NAME, TIMESTAMP
from scoretrace.model_data_columns import COLUMNS, TYPES, lookup
from scoretrace.model_data_files import DataFile

_BOUNDARY = re.compile(rb",(?:1440|60),[^,/\n\"]+/[^,/\n\"]+/[^,\n\"]+,")  # and the workspace, of a row of our own
_LIVE_SECONDS = 10.0  # after its last change a file may still be written, and costs little to copy
_BUSY_SECONDS = 1.0  # after it one that is too large for that most likely is
_LARGE = 16 * 1024**2  # bytes
_SMALL = 64 * 1024**2  # bytes up to which all of it is looked at for the types of columns
_USUAL_LINE = 2_000_000  # bytes, DuckDB's default: a larger one costs memory and time


def is_ours(file: DataFile) -> bool:
    """Whether *file* has the header that scoretrace writes."""
    with file.path.open("rb") as opened:
        header = shared_file.read_header(opened)
    ours = ",".join(COLUMNS).encode() + b"\n"
    return header == ours or header.endswith(b"," + ours)


def rows(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """Files of our own: everything is known of them but the columns of the data."""
    said = {**dict.fromkeys(COLUMNS, "VARCHAR"), **TYPES, **types}
    options = "header=true, delim=',', quote='\"', escape='\"', allow_quoted_nulls=false"
    groups: dict[str, list[DataFile]] = {}
    for file in files:
        whole, how = _whole(file)
        groups.setdefault(how, []).append(whole)
    parts = [f"SELECT * FROM {_read_csv(group, f'{options}{how}', said, ours=True)}" for how, group in groups.items()]
    return connection.sql(" UNION ALL BY NAME ".join(f"({part})" for part in parts))


def _whole(file: DataFile) -> tuple[DataFile, str]:
    """
    A file that ends with a whole row, and what else DuckDB has to be told of it.

    One that somebody may be writing, or that has a part of a row at its end, is a
    copy of its whole rows, unless it is large: then what cannot be read at its
    end is passed over.
    """
    path = file.path
    home = next((parent for parent in path.parents if (parent / "modeldata").is_dir()), None)
    name = "" if home is None else path.relative_to(home).as_posix()
    note = None if home is None else shared_file.note(home, name)
    status = path.stat()
    end, how = status.st_size, ""
    if home is not None and note is not None and note.end != end:
        end = min(note.end, end)
        with suppress(OSError):  # a killed process left a part of a row, which is cut off then
            end = shared_file.whole(home, name, quoted=True)
    elif note is None and (end <= _SMALL or _ends_torn(path)):
        end = shared_file.last_end(path.read_bytes())[0]
    age = time.time() - status.st_mtime
    if end <= _SMALL and (end != status.st_size or age < _LIVE_SECONDS):
        file = file._replace(path=_copy(path, end))
    elif end != status.st_size or (end > _SMALL and age < _BUSY_SECONDS):
        how = ", ignore_errors=true, strict_mode=false, sample_size=-1"
    if end > _LARGE and (note.has_many if note is not None else _has_many(path)):
        how += ", parallel=false"  # in parallel DuckDB loses its way between quotes
    return file, how


def _copy(path: Path, end: int) -> Path:
    """A file with the first *end* bytes of *path*, as long as this process lives; of each there is one."""
    name = f"{hashlib.sha256(os.fspath(path).encode('utf-8', 'surrogateescape')).hexdigest()}.csv"
    with path.open("rb") as file:
        FolderBlobs(copies()).put(name, file.read(end))
    return FolderBlobs(copies()).path(name)


@cache
def copies() -> str:
    """The folder that holds copies of what is being written while it is read; it ends with the process."""
    folder, process = tempfile.mkdtemp(prefix="scoretrace-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # and not a child's
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return bool(file.read() != b"\n")


def _has_many(path: Path) -> bool:
    """Whether there are newlines between quotes."""
    inside = 0
    with path.open("rb") as file:
        while chunk := file.read(_LARGE):
            pieces = chunk.split(b'"')
            if any(b"\n" in piece for piece in pieces[1 - inside :: 2]):
                return True
            inside = (inside + len(pieces) - 1) % 2
    return False


def other_rows(connection: Any, files: list[DataFile], types: Mapping[str, str]) -> Any:
    """Files of the old library: any line ends, any width, headers now and then, and no correlations for predictions."""
    options = (
        "delim=',', quote='\"', escape='\"', strict_mode=false, null_padding=true, parallel=false, filename='$file'"
    )
    found = connection.sql(f"SELECT * FROM {_read_csv(files, options, types)}")
    of_file = {str(file.path): file for file in files}
    known = {
        SERVICE_NAME: {name: file.service for name, file in of_file.items()},
        MODEL_NAME: {name: file.model for name, file in of_file.items()},
        MODEL_VERSION: {name: file.version for name, file in of_file.items()},
        TIMESTAMP: {name: file.first.isoformat() for name, file in of_file.items() if file.first},
    }
    selected = [sql.name(column) for column in found.columns if column not in (*COLUMNS, "$file")]
    for column in COLUMNS:
        kind = TYPES.get(column, "VARCHAR")
        value = f"try_cast({sql.name(column)} AS {kind})" if column in found.columns else f"NULL::{kind}"
        if known.get(column):
            value = f"coalesce({value}, try_cast({lookup(known[column])} AS {kind}))"
        selected.append(f"{value} AS {sql.name(column)}")
    return connection.sql(f"SELECT {', '.join(selected)} FROM ({found.sql_query()})")


def _read_csv(files: list[DataFile], options: str, types: Mapping[str, str], *, ours: bool = False) -> str:
    present = _present(files) if types else set()
    said = {name: kind for name, kind in types.items() if name in present}
    if said:
        options += f", types={{{', '.join(f'{sql.quote(name)}: {sql.quote(kind)}' for name, kind in said.items())}}}"
    if sum(file.path.stat().st_size for file in files) <= _SMALL and "sample_size" not in options:
        options += ", sample_size=-1"
    longest = max(_longest(file, ours=ours) for file in files)
    if longest > _USUAL_LINE:
        options += f", max_line_size={longest}, buffer_size={2 * longest}"
    listed = ", ".join(sql.quote(str(file.path)) for file in files)
    # Not what else it would find: dates in "1/2/2026", truth in "t", and the end of time in "inf".
    return (
        f"read_csv([{listed}], union_by_name=true, hive_partitioning=false, "
        f"auto_type_candidates=['BIGINT', 'DOUBLE', 'VARCHAR'], {options})"
    )


def _longest(file: DataFile, *, ours: bool) -> int:
    """
    At least as many bytes as the longest row of *file*, where that has more than DuckDB takes without being told.

    Each row of our own says boundary and workspace, which text seldom does; of others a line's end has to do.
    """
    size, longest = file.path.stat().st_size, 0
    if size <= _USUAL_LINE:
        return 0
    step = _USUAL_LINE // 2
    with file.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        said = _BOUNDARY.search(data) if ours else None
        mark, at = said[0] if said else b"\n", 0
        while at < size:
            found = data.find(mark, at)
            found = found if found >= 0 else size
            if found - at > step:
                longest = max(longest, found - at + 2 * step)
            at = max(found + 1, at + step)
    return longest


def _present(files: list[DataFile]) -> set[str]:
    """Names of columns that are in some header, as a whole line shows them: DuckDB refuses types for others."""
    found: set[str] = set()
    for file in files:
        with file.path.open("rb") as opened:
            line = shared_file.read_header(opened).decode("utf-8-sig", "replace")
        found.update(*csv.reader(io.StringIO(line, newline="")))
    return found
