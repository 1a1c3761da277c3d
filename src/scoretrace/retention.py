"""
What may be removed from a home folder: what is too old or too much, and delivered.

A segment that an exporter has not finished is never removed, nor one that a
process is writing, whatever the limits say: they bound what is kept for
reading, not what is still to be sent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scoretrace.cursor import cursors
from scoretrace.locks import try_lock


class Kept(NamedTuple):
    """A file that retention looks at; *day* is its date folder, as ``yyyy-MM-dd``."""

    path: Path
    day: str
    age: float
    size: int
    free: bool


def sweep(home: Path, *, now: float, keep_seconds: float, keep_bytes: float) -> list[Path]:
    """
    Remove segments and diverted payloads of *home* that are past their keeping, oldest first; returns them.

    *now* is in seconds since 1970. A payload goes when it is older than
    *keep_seconds* and no segment of its day or an earlier one is left, so that
    no row points at nothing.
    """
    segments = _segments(home, now)
    total = sum(segment.size for segment in segments)
    removed: list[Path] = []
    left: list[Kept] = []
    for segment in sorted(segments, key=lambda kept: -kept.age):
        if segment.free and (segment.age > keep_seconds or total > keep_bytes):
            with suppress(OSError):
                segment.path.unlink()
                total -= segment.size
                removed.append(segment.path)
                _remove_empty(segment.path.parent, home / "telemetry")
                continue
        left.append(segment)
    oldest = min((segment.day for segment in left), default="9999")
    for payload in _payloads(home, now):
        if payload.day < oldest and payload.age > keep_seconds:
            with suppress(OSError):
                payload.path.unlink()
                removed.append(payload.path)
                _remove_empty(payload.path.parent, home / "modeldata")
    return removed


def _segments(home: Path, now: float) -> list[Kept]:
    offsets = [cursor.offsets for cursor in cursors(home)]
    in_use = _in_use(home)
    found = []
    for path in (home / "telemetry").glob("*/*/*/*/*.blob"):
        with suppress(OSError):
            status = path.stat()
            name = path.relative_to(home / "telemetry").as_posix()
            delivered = all(known.get(name, 0) >= status.st_size for known in offsets)
            free = delivered and name not in in_use
            found.append(Kept(path, path.parts[-3], now - status.st_mtime, status.st_size, free))
    return found


def _payloads(home: Path, now: float) -> list[Kept]:
    found = []
    for path in (home / "modeldata").glob("*/*/*/*/*/*/overflow/*/*/*/*.json"):
        with suppress(OSError):
            status = path.stat()
            day = "-".join(path.parts[-4:-1])
            found.append(Kept(path, day, now - status.st_mtime, status.st_size, free=True))
    return found


def _in_use(home: Path) -> set[str]:
    """The newest segment of each folder of each process that lives: the one it may be writing."""
    open_now: set[str] = set()
    with suppress(OSError):
        for marker in (home / "state" / "writers").iterdir():
            with suppress(OSError):
                fd = os.open(marker, os.O_RDWR)
                try:
                    if not try_lock(fd):
                        newest = {name.split("/")[1]: name for name in marker.read_text("utf-8").splitlines()}
                        open_now.update(newest.values())
                finally:
                    os.close(fd)
    return open_now


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
