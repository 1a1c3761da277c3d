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

from scoretrace import layouts, sources
from scoretrace.errors import FormatError, SourceError
from scoretrace.formats import continuous_export
from scoretrace.formats.decoders import DECODERS
from scoretrace.item import Item
from scoretrace.layouts import Place, Window
from scoretrace.schema import BY_KIND, Table

POLL_SECONDS = 0.2
_TAIL_BYTES = 1024 * 1024  # read at a time from the end of a segment


Unreadable = Callable[[Path], None]


class Blob(NamedTuple):
    """
    A file of an export on this machine, by the *name* that its place knows it by.

    Its *table* is None where its rows say theirs, its *hour* (``yyyy-MM-dd/HH``)
    empty where the path has none. *base* is the offset in the blob of its
    first byte, which is not 0 where only the rest of it was fetched.
    """

    name: str
    path: Path
    layout: str
    table: Table | None
    hour: str
    app_name: str
    i_key: str
    size: int
    version: str
    base: int = 0

    def decode(self, line: bytes) -> tuple[Item, ...]:
        """
        The items of a line of it.

        Raises:
            FormatError: the line is none.
        """
        return DECODERS[layouts.decoder(self.layout)](line, self.app_name, self.i_key)


def find(
    source: str | os.PathLike[str] | None = None,
    kinds: Iterable[str] | None = None,
    window: Window = (None, None),
) -> list[Blob]:
    """
    The export files of *source*: a home folder, a folder with exports anywhere below it, or one file.

    *kinds* limits them to some telemetry types (``trace``, ``request``, ...),
    *window* to those that may have rows from its first time on and before its second.

    Raises:
        SourceError: it does not exist, or there are no exports in it.
    """
    path = sources.local(source)
    wanted = set(kinds) if kinds is not None else set(BY_KIND)
    if path.is_file():
        name = path.absolute().as_posix()
        place = layouts.of(name)
        place = place if place.layout else sources.peeked(path)
        if not place.layout:
            raise SourceError(f"{path} is no file of an export: its first line is no row of a known type")
        status = path.stat()
        found = [of(sources.Found(name, status.st_size, str(status.st_mtime_ns)), place, path)]
        return [blob for blob in found if blob.table is None or blob.table.kind in wanted]
    folder = sources.Folder(path / "telemetry" if _is_home(path) else path)
    blobs = []
    for entry, place in sources.walk(folder, folder.path.as_posix(), wanted, window):
        file = Path(entry.name)
        known = place if place.layout else sources.peeked(file)
        if known.layout and (known.table is None or known.table.kind in wanted):
            blobs.append(of(entry, known, file))
    if not blobs and not (path / "telemetry").exists() and not (path / "state").exists() and not _has_any(folder):
        raise SourceError(f"there are no export files below {path}: known are {layouts.KNOWN}")
    return sorted(blobs, key=lambda blob: (blob.hour, blob.name))


def of(found: sources.Found, place: Place, path: Path) -> Blob:
    """The blob that was *found*, whose *place* is known, and which is at *path* now."""
    return Blob(
        found.name,
        path,
        place.layout,
        place.table,
        place.hour,
        place.app_name,
        place.i_key,
        found.size,
        found.version,
    )


def _is_home(path: Path) -> bool:
    """Whether exports are in its folder telemetry alone; beside it a mirror of an account has those of other kinds."""
    names = {entry.name for entry in path.iterdir() if entry.is_dir()}
    if "telemetry" in names and (path / ".scoretrace-sync.ndjson").exists():  # which `mirror` writes
        return False
    return "telemetry" in names and not any(layouts.CONTAINERS.fullmatch(name) for name in names - {"telemetry"})


def _has_any(folder: sources.Folder) -> bool:
    """Whether there are exports at all, of other tables or times."""
    walked = sources.walk(folder, folder.path.as_posix(), BY_KIND, (None, None))
    return any(place.layout or sources.peeked(Path(entry.name)).layout for entry, place in walked)


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
    app_name: str | None = None,
    keep: Callable[[Item], bool] | None = None,
    unreadable: Unreadable | None = None,
) -> list[Item]:
    """
    The *count* newest items, oldest first: of all, or of one application (the name of its folder) and those to *keep*.

    *unreadable* is called with the file of each line that is none.
    """
    blobs = [blob for blob in find(source, kinds) if app_name is None or blob.app_name == app_name]
    return _newest([(blob, blob.size) for blob in blobs], count, unreadable, keep)


def follow(
    source: str | os.PathLike[str] | None = None,
    count: int = 20,
    kinds: Iterable[str] | None = None,
    *,
    unreadable: Unreadable | None = None,
) -> Iterator[Item]:
    """The *count* newest items, and then others as they are written, for ever; none is left out in between."""
    kinds = None if kinds is None else tuple(kinds)
    ends = [(blob, blob.size) for blob in find(source, kinds)]
    yield from _newest(ends, count, unreadable)
    offsets = {blob.path: end for blob, end in ends}
    while True:
        fresh: list[Item] = []
        for blob in find(source, kinds):
            for offset, line in lines(blob.path, offsets.get(blob.path, 0)):
                offsets[blob.path] = offset
                fresh += _items(line, blob, unreadable)
        yield from sorted(fresh, key=_when)
        time.sleep(POLL_SECONDS)


def _newest(
    ends: list[tuple[Blob, int]],
    count: int,
    unreadable: Unreadable | None,
    keep: Callable[[Item], bool] | None = None,
) -> list[Item]:
    if count <= 0:
        return []
    by_hour: dict[str, list[tuple[Blob, int]]] = {}
    for blob, end in ends:
        by_hour.setdefault(blob.hour, []).append((blob, end))
    items: list[Item] = []
    for hour in sorted(by_hour, reverse=True):
        for blob, end in by_hour[hour]:
            if keep is None:
                items += _last(blob, end, count, unreadable)
            else:
                lines_of = (line for offset, line in lines(blob.path) if offset <= end)
                items += [item for line in lines_of for item in _items(line, blob, unreadable) if keep(item)]
        if len(items) >= count:
            break
    return sorted(items, key=_when)[-count:]


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
                found = _items(data[start : end if end >= 0 else len(data)], blob)
                for candidate in found:
                    if candidate.item_id == item_id:
                        return candidate
                at = data.find(wanted, at + 1)
    return None


def _last(blob: Blob, end: int, count: int, unreadable: Unreadable | None) -> list[Item]:
    """The last *count* items before the byte *end* of a file."""
    pieces: list[bytes] = []
    found = 0
    with blob.path.open("rb") as file:
        while end and found <= count:
            start = max(end - _TAIL_BYTES, 0)
            file.seek(start)
            pieces.append(file.read(end - start))
            found += pieces[-1].count(b"\n")
            end = start
    data = b"".join(reversed(pieces))
    whole = data[: data.rfind(b"\n") + 1].splitlines()[-count:]
    return [item for line in whole for item in _items(line, blob, unreadable)]


def _items(line: bytes, blob: Blob, unreadable: Unreadable | None = None) -> list[Item]:
    try:
        return list(blob.decode(line))
    except FormatError:
        if unreadable is not None:
            unreadable(blob.path)
        return []


def _when(item: Item) -> int:
    return item.timestamp if item.timestamp is not None else 0
