"""Which segments of a home have something that was not read yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scoretrace.cursor import HELD

_CHUNK = 256 * 1024


class Segment(NamedTuple):
    """A segment as it was found: its name for the cursor, where it is, and how large."""

    name: str
    path: Path
    size: int


def find(home: Path, covers: Callable[[str], bool], *, recent: bool) -> list[Segment]:
    """
    The segments of *home* in the telemetry folders that *covers* names, the oldest first. Raises OSError.

    With *recent*, only those of the two newest hours of each folder: what a
    look once a second needs, at the price of a few folders however much is kept.
    """
    root = home / "telemetry"
    found = []
    for app in _newest(root, None):
        if not covers(app.name):
            continue
        for folder in _newest(Path(app), None):
            for day in _newest(Path(folder), 2 if recent else None):
                for hour in _newest(Path(day), 2 if recent else None):
                    where = f"{app.name}/{folder.name}/{day.name}/{hour.name}"
                    for entry in _files(hour):
                        with suppress(FileNotFoundError):  # retention may just have removed it
                            segment = Segment(f"{where}/{entry.name}", Path(entry), entry.stat().st_size)
                            found.append((entry.name.partition("_")[2], segment))  # when it was begun
    return [segment for _, segment in sorted(found)]


def held(home: Path, name: str) -> list[Segment]:
    """The files of rows that the exporter *name* put off; see `cursor.HELD`."""
    found = []
    with suppress(FileNotFoundError):
        for path in (home / HELD / name).iterdir():
            if not path.name.startswith("."):  # being written
                with suppress(FileNotFoundError):  # just delivered
                    found.append(Segment(f"{HELD}/{name}/{path.name}", path, path.stat().st_size))
    return sorted(found)  # named after the time when they were written


def lines(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """
    The whole lines of a file from the byte *start* on, without their newline, each with the offset behind it.

    Few at a time are in memory. A last line that is still being written is left
    for the next time, and a file that is gone has no lines.
    """
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        rest = b""
        while chunk := file.read(_CHUNK):
            data = rest + chunk
            end = data.rfind(b"\n") + 1
            for line in data[:end].split(b"\n")[:-1]:
                start += len(line) + 1
                yield start, line
            rest = data[end:]


def _newest(folder: Path, count: int | None) -> list[os.DirEntry[str]]:
    """The folders in *folder* in the order of their names; the last *count* of them."""
    # Only what is not there is nothing: what cannot be looked at now must not count as gone.
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.is_dir()), key=lambda entry: entry.name)
        return found if count is None else found[-count:]
    return []


def _files(folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name.endswith(".blob")]
    return []
