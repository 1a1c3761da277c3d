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
    is_segment: bool


def sweep(home: Path, *, now: float, keep_seconds: float, keep_bytes: float) -> list[Path]:
    """
    Remove segments and diverted payloads of *home* that are past their keeping, oldest first; returns them.

    *now* is in seconds since 1970, and *keep_bytes* is for both together. A
    payload goes only when no segment of its day or an earlier one is left, so
    that no row points at nothing.
    """
    segments = sorted(_segments(home, now), key=lambda kept: (kept.day, -kept.age))
    payloads = _payloads(home, now)
    total = sum(kept.size for kept in (*segments, *payloads))
    removed: list[Path] = []
    left: set[str] = set()  # the days of which rows are left
    for day in sorted({kept.day for kept in (*segments, *payloads)}):
        for kept in (*(one for one in segments if one.day == day), *(one for one in payloads if one.day == day)):
            too_much = total > keep_bytes or kept.age > keep_seconds
            pointed_at = not kept.is_segment and any(other <= day for other in left)
            if too_much and kept.free and not pointed_at:
                with suppress(OSError):
                    kept.path.unlink()
                    total -= kept.size
                    removed.append(kept.path)
                    _remove_empty(kept.path.parent, home)
                    continue
            if kept.is_segment:
                left.add(day)
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
            found.append(Kept(path, path.parts[-3], now - status.st_mtime, status.st_size, free, is_segment=True))
    return found


def _payloads(home: Path, now: float) -> list[Kept]:
    found = []
    for path in (home / "modeldata").glob("*/*/*/*/*/*/overflow/*/*/*/*.json"):
        with suppress(OSError):
            status = path.stat()
            day = "-".join(path.parts[-4:-1])
            found.append(Kept(path, day, now - status.st_mtime, status.st_size, free=True, is_segment=False))
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
                        names = marker.read_text("utf-8", "replace").splitlines()
                        open_now.update({tuple(name.split("/")[:2]): name for name in names}.values())
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
