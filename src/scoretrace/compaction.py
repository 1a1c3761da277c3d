"""Making, and dropping, the Parquet files of `compacted`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from scoretrace import compacted, read, sources, sql, tables
from scoretrace.compacted import Hour
from scoretrace.errors import MissingExtraError, SourceError
from scoretrace.spool import Spool

_GRACE = timedelta(minutes=10)  # after an hour's end, for what is still being written
_PART = ".compacting"


class Compacted(NamedTuple):
    """
    What a `compact` came to.

    *hours* were made into Parquet files, of *blob_bytes* as blobs and
    *parquet_bytes* as those; *kept* had theirs already. *dropped* is how many
    files were removed, and *left* how many hours stay blobs because lines in them cannot be read.
    """

    hours: int
    blob_bytes: int
    parquet_bytes: int
    kept: int
    dropped: int
    left: int


def compact(
    source: str | os.PathLike[str] | None = None,
    *,
    drop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """
    Keep the closed hours of *source*, a home or a folder of exports, as Parquet files beside their blobs.

    Queries and tables use them without being asked, as long as the blobs of
    the hour are what they were; the newest hour of each table is always read
    from its blobs. Nothing is removed but such files that stand for nothing any more, or all of them with *drop*.
    *progress* is called with how many hours of how many are done.

    Raises:
        SourceError: there is no such folder, or no exports are in it.
        MissingExtraError: DuckDB is not installed.
        OSError: the folder cannot be written.
    """
    place = sources.local(source)
    if place.is_file():
        raise SourceError(f"{place} is a file: compact is for a home or a folder of exports")
    if drop:
        return Compacted(0, 0, 0, 0, _drop(place), 0)
    try:
        duckdb = import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("scoretrace.compact", "query") from error
    found = list(compacted.hours(read.find(source)))
    closed = [hour for hour in found if _is_closed(hour, found)]
    current = {hour.path for hour in found}
    dropped = sum(_remove(path) for folder in {hour.folder for hour in found} for path in _stale(folder, current))
    made = blob_bytes = parquet_bytes = kept = left = 0
    with duckdb.connect() as connection:
        for done, hour in enumerate(closed, start=1):
            path = hour.path
            if path.exists():
                kept += 1
            elif _make(connection, hour, path):
                made += 1
                blob_bytes += sum(blob.size for blob in hour.blobs)
                parquet_bytes += path.stat().st_size
            else:
                left += 1
            if progress is not None:
                progress(done, len(closed))
    return Compacted(made, blob_bytes, parquet_bytes, kept, dropped, left)


def _is_closed(hour: Hour, found: list[Hour]) -> bool:
    newest = max(other.hour for other in found if other.table is hour.table)
    ended = datetime.strptime(hour.hour, "%Y-%m-%d/%H").replace(tzinfo=timezone.utc) + timedelta(hours=1)
    return hour.hour != newest and ended + _GRACE < datetime.now(timezone.utc)


def _make(connection: Any, hour: Hour, path: Path) -> bool:
    """Make the Parquet file of an hour; not where lines cannot be read, which have to be said again each time."""
    spool = Spool()
    try:
        parts = spool.parts(hour.blobs)
        if spool.failed or spool.shortened or tables.unreadable(connection, parts, spool.line_bytes):
            return False
        beside = path.with_name(f"{path.stem}.{os.getpid()}{_PART}")
        try:
            rows = tables.select(hour.table, parts, line_bytes=spool.line_bytes)
            connection.execute(f"COPY ({rows}) TO {sql.quote(str(beside))} (FORMAT parquet, COMPRESSION zstd)")
            written = f"read_parquet({sql.paths([str(beside)])})"
            odd = f"SELECT 1 FROM {written} WHERE unparsed LIKE '%\"timestamp\"%' LIMIT 1"
            if connection.execute(odd).fetchone() is not None:  # a time that microseconds reach, and Parquet's do not
                return False
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return True
    finally:
        spool.close()


def _stale(folder: Path, current: set[Path]) -> list[Path]:
    """Files that stand for blobs that are not as they were, and what a kill left behind."""
    left_behind = [path for path in folder.glob(f"*{_PART}") if not _is_being_made(path)]
    return [*left_behind, *(path for path in folder.glob(compacted.PATTERN) if path not in current)]


def _is_being_made(path: Path) -> bool:
    """Whether the process that a file is named after lives."""
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(int(path.name.split(".")[-2]), 0)
    except (ProcessLookupError, ValueError, IndexError):
        return False
    except OSError:
        return True
    return True


def _drop(place: Path) -> int:
    return sum(_remove(path) for path in (*place.rglob(compacted.PATTERN), *place.rglob(f"compacted-*{_PART}")))


def _remove(path: Path) -> int:
    with suppress(OSError):
        path.unlink()
        return 1
    return 0
