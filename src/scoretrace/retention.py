"""
What may be removed from a home folder: what is too old or too much, and delivered.

A segment that an exporter has not finished is never removed, nor one that a
process is writing, whatever the limits say: they bound what is kept for
reading, not what is still to be sent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from scoretrace import shared_file
from scoretrace.cursor import HELD, cursors
from scoretrace.locks import try_lock

_COLLECTED = "modeldata"  # the scope of the cursor that says what of it is in storage
_DAY = 86_400


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
    payload goes only when no segment of its day, the next, or an earlier one is
    left, so that no row points at nothing.
    """
    _forget_quarantine(home, now - keep_seconds)
    segments = _segments(home, now)
    payloads = _payloads(home, now)
    total = sum(kept.size for kept in (*segments, *payloads))
    removed: list[Path] = []
    rows = {kept.day: sum(other.day == kept.day for other in segments) for kept in segments}  # segments left, by day
    for kept in sorted((*segments, *payloads), key=lambda one: (one.day, not one.is_segment, -one.age)):
        if not kept.free or not (total > keep_bytes or kept.age > keep_seconds):
            continue
        # A payload is stored before its row is written, which may be on the next day.
        if not kept.is_segment and any(rows[day] for day in rows if day <= _after(kept.day)):
            continue
        with suppress(OSError):
            kept.path.unlink()
            total -= kept.size
            removed.append(kept.path)
            for made_of_it in kept.path.parent.glob("compacted-*.parquet") if kept.is_segment else ():
                made_of_it.unlink(missing_ok=True)
            _remove_empty(kept.path.parent, home)
            if kept.is_segment:
                rows[kept.day] -= 1
    return removed


def sweep_collected(home: Path, *, now: float, keep_seconds: float) -> list[Path]:
    """
    Remove files with collected data of *home* that are past their keeping and in storage; returns them.

    What is nowhere else is never removed. What events refer to goes with the last
    of them in its folder.
    """
    known = [cursor for cursor in cursors(home) if cursor.scope == _COLLECTED]
    removed: list[Path] = []
    for name in shared_file.names(home) if known else ():
        path = home / name
        with suppress(OSError):
            status = path.stat()
            known_as = shared_file.key(home, name)
            delivered = all(cursor.at(known_as) >= status.st_size for cursor in known)
            if not delivered or status.st_mtime > now - max(keep_seconds, _DAY):  # it may still be written today
                continue
            shared_file.remove(home, name)
            removed.append(path)
            if path.suffix == ".jsonl" and not any(path.parent.glob("*.jsonl")):
                for payload in path.parent.glob("*.json"):
                    payload.unlink()
            _remove_empty(path.parent, home)
    return removed


def _forget_quarantine(home: Path, before: float) -> None:
    """What was set aside is in the journal too, as long as that is kept; notes of processes go with them."""
    for name in ("quarantine", "processes"):
        with suppress(OSError):
            for path in (home / "state" / name).iterdir():
                with suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()


def _after(day: str) -> str:
    try:
        return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except ValueError:  # a folder of somebody's own
        return day


def _segments(home: Path, now: float) -> list[Kept]:
    known = cursors(home)
    in_use = _in_use(home)
    found = []
    for path in (home / "telemetry").glob("*/*/*/*/*.blob"):
        with suppress(OSError):
            status = path.stat()
            name = path.relative_to(home / "telemetry").as_posix()
            delivered = all(cursor.at(name) >= status.st_size for cursor in known if cursor.covers(name))
            free = delivered and name not in in_use
            found.append(Kept(path, path.parts[-3], now - status.st_mtime, status.st_size, free, is_segment=True))
    return found


def _payloads(home: Path, now: float) -> list[Kept]:
    found = []
    held = any((home / HELD).glob("*/[!.]*"))  # rows that wait for their payload to be stored elsewhere
    for path in (home / "modeldata").glob("*/*/*/*/*/*/overflow/*/*/*/*.json"):
        with suppress(OSError):
            status = path.stat()
            day = "-".join(path.parts[-4:-1])
            found.append(Kept(path, day, now - status.st_mtime, status.st_size, free=not held, is_segment=False))
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
