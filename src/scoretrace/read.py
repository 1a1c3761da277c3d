"""
Find and decode what lies in a home folder, or in any folder laid out like an export.

Reading never stops at a line that cannot be read: the line is skipped and
counted. A last line without its newline is one that is still being written, and
not counted at all.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from scoretrace import settings
from scoretrace.errors import FormatError, SourceError
from scoretrace.formats import continuous_export
from scoretrace.item import Item
from scoretrace.schema import BY_FOLDER, BY_KIND, BY_ROOT, Table

POLL_SECONDS = 0.2
_TAIL_BYTES = 1024 * 1024  # read at a time from the end of a segment


Unreadable = Callable[[Path], None]


class Blob(NamedTuple):
    """A file of export lines: whose table it is, and its hour (``yyyy-MM-dd/HH``, empty where the path has none)."""

    path: Path
    table: Table
    hour: str


def home_of(source: str | os.PathLike[str] | None) -> Path:
    """
    The folder of *source*: a path, or the home of the settings if it is ``None``.

    Raises:
        SourceError: it does not exist, or is not a place on this machine.
    """
    if source is None:
        home = settings.home()
        if not home.exists():
            raise SourceError(
                f"there is no telemetry in {home}: run a script that calls scoretrace.configure(), or name a folder"
            )
        return home
    text = os.fspath(source)
    if "AccountKey=" in text or "SharedAccessSignature=" in text:
        raise SourceError("a connection string is no place to read from: only folders and files can be read so far")
    if "://" in text or text.startswith("azure:"):
        shown = text.partition("?")[0]  # a SAS would follow
        raise SourceError(f"{shown} is not on this machine, and only folders and files can be read so far")
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"there is no {path}")
    return path


def find(source: str | os.PathLike[str] | None = None, kinds: Iterable[str] | None = None) -> list[Blob]:
    """
    The export files of *source*: a home folder, a folder with exports anywhere below it, or one file.

    *kinds* limits them to some telemetry types (``trace``, ``request``, ...).

    Raises:
        SourceError: see `home_of`.
    """
    path = home_of(source)
    wanted = set(kinds) if kinds is not None else set(BY_KIND)
    if path.is_file():
        blobs = [Blob(path, table, "") for table in _table_of(path)]
        if not blobs:
            raise SourceError(f"{path} is no file of an export: its first line is no row of a known type")
    else:
        telemetry = path / "telemetry"
        blobs = list(_walk(telemetry if telemetry.is_dir() else path))
        if not blobs and not telemetry.exists() and not (path / "state").exists():
            raise SourceError(f"there are no export files below {path}")
    return sorted(blob for blob in blobs if blob.table.kind in wanted)


def lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file from the byte *start* on, each with the offset behind it."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield start, line


def newest(
    source: str | os.PathLike[str] | None = None,
    count: int = 20,
    kinds: Iterable[str] | None = None,
    *,
    unreadable: Unreadable | None = None,
) -> list[Item]:
    """The *count* newest items, oldest first. *unreadable* is called with the file of each line that is none."""
    return _newest([(blob, blob.path.stat().st_size) for blob in find(source, kinds)], count, unreadable)


def follow(
    source: str | os.PathLike[str] | None = None,
    count: int = 20,
    kinds: Iterable[str] | None = None,
    *,
    unreadable: Unreadable | None = None,
) -> Iterator[Item]:
    """The *count* newest items, and then others as they are written, for ever; none is left out in between."""
    kinds = None if kinds is None else tuple(kinds)
    ends = [(blob, blob.path.stat().st_size) for blob in find(source, kinds)]
    yield from _newest(ends, count, unreadable)
    offsets = {blob.path: end for blob, end in ends}
    while True:
        fresh: list[Item] = []
        for blob in find(source, kinds):
            for offset, line in lines(blob.path, offsets.get(blob.path, 0)):
                offsets[blob.path] = offset
                fresh += _items(line, blob.path, unreadable)
        yield from sorted(fresh, key=_when)
        time.sleep(POLL_SECONDS)


def _newest(ends: list[tuple[Blob, int]], count: int, unreadable: Unreadable | None) -> list[Item]:
    by_hour: dict[str, list[tuple[Path, int]]] = {}
    for blob, end in ends:
        by_hour.setdefault(blob.hour, []).append((blob.path, end))
    items: list[Item] = []
    for hour in sorted(by_hour, reverse=True):
        for path, end in by_hour[hour]:
            items += _last(path, end, count, unreadable)
        if len(items) >= count:
            break
    return sorted(items, key=_when)[-count:] if count > 0 else []


def item(item_id: str, source: str | os.PathLike[str] | None = None) -> Item | None:
    """The item with this id, or None."""
    wanted = b'"id":' + continuous_export.json_text(item_id)
    for blob in reversed(find(source)):
        if not blob.path.stat().st_size:
            continue
        with blob.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(wanted)
            while at >= 0:
                start = data.rfind(b"\n", 0, at) + 1
                end = data.find(b"\n", at)
                found = _items(data[start : end if end >= 0 else len(data)], blob.path)
                for candidate in found:
                    if candidate.item_id == item_id:
                        return candidate
                at = data.find(wanted, at + 1)
    return None


def _walk(root: Path) -> Iterator[Blob]:
    for folder, _, files in os.walk(root):
        parts = Path(folder).relative_to(root.parent).parts
        place = next((index for index in reversed(range(len(parts))) if parts[index] in BY_FOLDER), None)
        if place is not None:
            hour = "/".join(parts[place + 1 : place + 3])
            for file in files:
                if file.endswith(".blob"):
                    yield Blob(Path(folder, file), BY_FOLDER[parts[place]], hour)


def _table_of(path: Path) -> Iterator[Table]:
    """The table of a file: from its folders, or else from its first line."""
    for part in reversed(path.absolute().parts):
        if part in BY_FOLDER:
            yield BY_FOLDER[part]
            return
    for _, line in lines(path):
        head = line[:40].decode("utf-8", "replace")
        yield from (table for root, table in BY_ROOT.items() if head.startswith(f'{{"{root}"'))
        return


def _last(path: Path, end: int, count: int, unreadable: Unreadable | None) -> list[Item]:
    """The last *count* items before the byte *end* of a file."""
    with path.open("rb") as file:
        data = b""
        while end and data.count(b"\n") <= count:
            start = max(end - _TAIL_BYTES, 0)
            file.seek(start)
            data = file.read(end - start) + data
            end = start
    whole = data[: data.rfind(b"\n") + 1].splitlines()[-count:]
    return [item for line in whole for item in _items(line, path, unreadable)]


def _items(line: bytes, path: Path, unreadable: Unreadable | None = None) -> list[Item]:
    try:
        return list(continuous_export.decode(line))
    except FormatError:
        if unreadable is not None:
            unreadable(path)
        return []


def _when(item: Item) -> int:
    return item.timestamp if item.timestamp is not None else 0
