"""
A copy of the exports of a container in a folder, which each `sync` brings up to date.

What changed is known by etag, and how far a blob was copied by a log in the
folder: of a blob that is appended to only the rest is fetched, and a transfer
that was killed goes on where it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from scoretrace import exports
from scoretrace.blobs import FolderBlobs
from scoretrace.downloads import AT_ONCE
from scoretrace.errors import SourceError
from scoretrace.locks import try_lock
from scoretrace.moments import When
from scoretrace.sources import Found, is_remote

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = ".scoretrace-sync.ndjson"
_WAITING = 4 * AT_ONCE

Progress = Callable[[int, int], None]


class Synced(NamedTuple):
    """What a `sync` came to: how many *blobs* there are, how many *fetched*, of how many *bytes*, and what *failed*."""

    blobs: int
    fetched: int
    bytes: int
    failed: dict[str, str]


class _Known(msgspec.Struct, frozen=True):
    """A blob as it was copied."""

    name: str
    version: str
    size: int


_decode = msgspec.json.Decoder(_Known).decode


def sync(
    source: str,
    folder: str | os.PathLike[str],
    *,
    tables: str | Iterable[str] | None = None,
    since: When = None,
    until: When = None,
    credential: Any = None,
    progress: Progress | None = None,
) -> Synced:
    """
    Copy the exports of the container *source* into *folder*, as ``<folder>/<container>/<blob>``; later what changed.

    *tables*, *since*, *until*, *credential* and *progress* are those of
    `read_export`, which reads the folder. What is gone from the container stays
    in the folder. Each blob is whole there, or, where it is appended to, as far as it was copied.

    Raises:
        SourceError: *source* is no container, cannot be listed or read, or another sync is at work in *folder*.
        ValueError: there is no such table, or *since* or *until* is no time.
        OSError: the disk is full.
    """
    if not is_remote(source):
        raise SourceError(f"{source} is a folder already: sync is for containers")
    root = Path(folder)
    export = exports.read_export(source, tables=tables, since=since, until=until, credential=credential)
    container, found = export.listed()
    root.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    blobs = fetched = size = 0
    with _locked(root), _Log(root / _LOG) as log, ThreadPoolExecutor(AT_ONCE, "scoretrace-sync") as pool:
        waiting: deque[tuple[Found, Future[_Known]]] = deque()
        left = iter(found)
        try:
            while True:
                while len(waiting) < _WAITING and (entry := next(left, None)) is not None:
                    blobs += 1
                    blob = entry[0]
                    known = log.known.get(blob.name)
                    if not _is_same(root, blob, known):
                        waiting.append((blob, pool.submit(_copy, container, root, blob, known)))
                if not waiting:
                    break
                blob, future = waiting.popleft()
                try:
                    copied = future.result()
                except (OSError, ValueError) as error:
                    if getattr(error, "errno", None) == errno.ENOSPC:
                        raise
                    failed[blob.name] = str(error)
                    continue
                was = log.known.get(blob.name)
                size += copied.size - (was.size if was is not None and copied.size >= was.size else 0)
                fetched += 1
                log.add(copied)
                if progress is not None:
                    progress(fetched, size)
        finally:
            container.stopped.set()
            pool.shutdown(cancel_futures=True)
            container.stopped.clear()
    return Synced(blobs, fetched, size, failed)


def _is_same(root: Path, found: Found, known: _Known | None) -> bool:
    if known is None or known.version != found.version:
        return False
    try:
        return (root / found.name).stat().st_size == known.size
    except OSError:
        return False


def _copy(container: Any, root: Path, found: Found, known: _Known | None) -> _Known:
    path = FolderBlobs(root).path(found.name)
    if known is not None and found.appendable and found.size >= known.size and _cut(path, known.size):
        got = container.fetch(found, path)
        return _Known(found.name, got.version, got.size)
    part = path.with_name(f".{path.name}.{hashlib.sha256(found.version.encode()).hexdigest()[:12]}.part")
    got = container.fetch(found, part)
    part.replace(path)
    for older in path.parent.glob(f".{_escaped(path.name)}.*.part"):  # of another version, which was never finished
        with suppress(OSError):
            older.unlink()
    return _Known(found.name, got.version, got.size)


def _cut(path: Path, size: int) -> bool:
    """Whether the file *path* has the first *size* bytes of its blob, and no others then."""
    try:
        if path.stat().st_size < size:
            return False
        os.truncate(path, size)  # what came behind it was never said to be whole
    except OSError:
        return False
    return True


def _escaped(name: str) -> str:
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    descriptor = os.open(root / ".scoretrace-sync.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(descriptor):
            raise SourceError(f"another sync is at work in {root}")
        yield
    finally:
        os.close(descriptor)


class _Log:
    """What was copied, a line a blob: the last one of a name counts. It is written anew at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, _Known] = {}
        with suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                with suppress(msgspec.MsgspecError):  # torn by a kill
                    found = _decode(line)
                    self.known[found.name] = found

    def __enter__(self) -> Self:
        self._write()
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, known: _Known) -> None:
        """Write down that a blob was copied."""
        self.known[known.name] = known
        self._file.write(msgspec.json.encode(known) + b"\n")

    def _write(self) -> None:
        beside = self.path.with_name(f"{self.path.name}.new")
        beside.write_bytes(b"".join(msgspec.json.encode(known) + b"\n" for known in self.known.values()))
        beside.replace(self.path)
