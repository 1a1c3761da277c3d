"""
What there is to read: the blobs of a folder or a container, listed no further than is asked for.

Both kinds of place list one folder at a time, or all below one; what is walked
into is decided here, by what the paths say (`layouts`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from scoretrace import layouts, lines, settings
from scoretrace.errors import FormatError, SourceError
from scoretrace.formats.reading import json_object
from scoretrace.layouts import Place, Window
from scoretrace.schema import BY_ROOT, BY_WORKSPACE

# Beside the telemetry of a home or a storage account, and none.
_OTHERS = {"modeldata", "state"}
_MESSAGE = re.compile(rb'\s*\{\s*"records"\s*:\s*\[')
_PEEKED = 20  # lines
_GUESSES = 4  # folders deep, into which one looks without knowing that exports are below


class Found(NamedTuple):
    """A blob of a place: its name there, its size in bytes, and what changes when it does."""

    name: str
    size: int
    version: str
    appendable: bool = True  # whether it can only have grown, where its version changed


class Lister(Protocol):
    """A place with blobs: a folder, or a container."""

    def entries(self, prefix: str, *, deep: bool) -> tuple[list[str], list[Found]]:
        """The folders (names with *prefix*, no slash at the end) and the blobs in *prefix*; *deep* is all below it."""
        ...


class Folder:
    """A folder of this machine as a place. Names are absolute paths with forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def entries(self, prefix: str, *, deep: bool) -> tuple[list[str], list[Found]]:
        """See `Lister`. What cannot be looked into is left out, and so is what is gone meanwhile."""
        folders: list[str] = []
        found: list[Found] = []
        waiting = [prefix]
        while waiting:
            try:
                entries = os.scandir(waiting.pop())
            except OSError:
                continue
            with entries:
                for entry in entries:
                    if entry.is_dir():
                        (waiting if deep else folders).append(entry.path)
                    elif entry.name.endswith(layouts.SUFFIXES) and not entry.name.startswith("."):
                        try:
                            status = entry.stat()
                        except OSError:
                            continue
                        found.append(Found(_slashed(entry.path), status.st_size, str(status.st_mtime_ns)))
        return sorted(map(_slashed, folders)), sorted(found)


def walk(
    place: Lister, start: str, kinds: Iterable[str], window: Window, *, guess: int | None = None
) -> Iterator[tuple[Found, Place]]:
    """
    The blobs below *start* that may hold rows of *kinds* and of *window*, as far as their paths say.

    Those whose path says nothing have a `Place` without a layout. With *guess*,
    folders whose path does not lead to exports are looked into only so many
    deep, and only where there are no others beside them.
    """
    wanted = frozenset(kinds)
    waiting = [(start, guess)]
    while waiting:
        prefix, more = waiting.pop()
        said = layouts.of(prefix) if prefix else Place()
        deep = bool(said.layout) and said.table is not None and said.is_inside(window)
        folders, blobs = place.entries(prefix, deep=deep)
        for blob in blobs:
            where = layouts.of(blob.name)
            if (where.table is None or where.table.kind in wanted) and where.may_hold(window):
                yield blob, where
        names = {folder.rpartition("/")[2] for folder in folders}
        leading = {folder for folder in folders if layouts.leads(folder)}
        for folder in reversed(folders):
            below = layouts.of(folder)
            if "telemetry" in names and folder.rpartition("/")[2] in _OTHERS:
                continue
            if more is not None and prefix and folder not in leading and (leading or not more):
                continue
            if (below.table is None or below.table.kind in wanted) and below.may_hold(window):
                left = more if more is None or folder in leading else more - 1
                # Whose container it is nobody knows: it is looked into as far as its folders are exports.
                waiting.append((folder, 0 if not prefix and folder not in leading else left))


def of_container(place: Lister, start: str, kinds: Iterable[str], window: Window) -> Iterator[tuple[Found, Place]]:
    """
    What `walk` finds in a container, which is looked into no further than its folders look like exports.

    Blobs that only their rows could tell are not among them: those would have to be fetched.
    """
    return ((found, where) for found, where in walk(place, start, kinds, window, guess=_GUESSES) if where.layout)


def looks_like_exports(place: Lister, start: str) -> bool:
    """Whether there are exports in *start*, at a glance: of whatever times and tables."""
    if start and layouts.leads(start):
        return True
    folders, blobs = place.entries(start, deep=False)
    return any(map(layouts.leads, folders)) or any(layouts.of(blob.name).layout for blob in blobs)


def peeked(path: Path) -> Place:
    """What the first lines of a file say, where its path says nothing; one of them may be torn."""
    try:
        for chunk in lines.chunks(path):
            for line in chunk.data.split(b"\n")[:_PEEKED]:
                place = _said_by(line)
                if place.layout:
                    return place
            return Place(layouts.DIAGNOSTIC) if _MESSAGE.match(chunk.data) else Place()
    except OSError:
        pass
    return Place()


def _said_by(line: bytes) -> Place:
    try:
        row = json_object(line)
    except FormatError:
        return Place()
    root = next((key for key in row if key in BY_ROOT), None)
    if root is not None and isinstance(row[root], list):
        return Place(layouts.CONTINUOUS, BY_ROOT[root])
    is_record = row.get("Type") in BY_WORKSPACE or isinstance(row.get("records"), list)
    return Place(layouts.DIAGNOSTIC) if is_record else Place()


def local(source: str | os.PathLike[str] | None) -> Path:
    """
    The folder or file of *source*: a path, or the home of the settings if it is ``None``.

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
    if not text:
        raise SourceError("the source is empty: name a folder, a file, or leave it out for the home")
    if "AccountKey=" in text or "SharedAccessSignature=" in text:
        raise SourceError(
            "a connection string is no place to read from: give the URL of the container, "
            "and the connection string in AZURE_STORAGE_CONNECTION_STRING"
        )
    if is_remote(text):
        shown = text.partition("?")[0]  # a SAS would follow
        raise SourceError(f"{shown} is not on this machine: `scoretrace sync` brings it here")
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"there is no {path}")
    return path


def is_remote(source: str | os.PathLike[str] | None) -> bool:
    """Whether *source* is an address and no path."""
    text = "" if source is None else os.fspath(source)
    return "://" in text or text.startswith("azure:")


def _slashed(path: str) -> str:
    return path.replace(os.sep, "/")
