"""
Files that many processes append whole records to.

A record is in its file when the call returns, and it is there whole or not at
all: an append that the disk takes a part of is taken back, and what a killed
process leaves of one is cut off by the next that comes along. For that, each
file has a note of where its last whole record ends, in the home's
``state/collected``, and whoever appends holds a lock on that note.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scoretrace.blobs import FolderBlobs
from scoretrace.locks import try_lock, unlock

NOTES = "state/collected"  # below it, by name: how many bytes of a file are whole records
LOCK_SECONDS = 1.0  # how long somebody else's append is waited for
MOST_FILES = 1_000  # of one day that differ in their columns
_ENDING = ".end"
_CHUNK = 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.000_02, 0.001
_DIGITS = 20
_flags = os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class SharedFile:
    """
    The file *name* below *home*, open for appending.

    *quoted* says that a newline between double quotes does not end a record, as
    in CSV. Not for several threads at a time.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, home: Path, name: str, *, quoted: bool) -> None:
        self.home = home
        self.name = name
        self.path = FolderBlobs(home).path(name)
        self._quoted = quoted
        self._fd = self._note = -1
        note = home / NOTES / f"{name}{_ENDING}"
        try:
            for path in (self.path, note):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._note = os.open(note, _flags | os.O_RDWR, 0o644)
            self._fd = os.open(self.path, _flags | os.O_RDWR | os.O_APPEND, 0o644)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close it; calling it again does nothing."""
        for fd in (self._fd, self._note):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._fd = self._note = -1

    def begin(self, header: bytes) -> bool:
        """
        Have the file begin with *header*; says whether it does.

        Raises:
            OSError: it cannot be read or written.
        """
        with self._held():
            size = os.fstat(self._fd).st_size
            found = _read(self._fd, 0, len(header))
            if len(found) < len(header) and header.startswith(found):  # nothing, or what a killed process left of it
                os.ftruncate(self._fd, 0)
                self._put(header, 0)
            elif found != header:
                return False
            elif size != self._noted():
                self._cut(size)
            return True

    def append(self, data: bytes) -> None:
        """
        Append *data*, which is whole records, or nothing of it.

        Raises:
            FileNotFoundError: somebody removed the file.
            OSError: the disk does not take it, or another process keeps the file locked.
        """
        with self._held():
            status = os.fstat(self._fd)
            size = status.st_size
            if status.st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "it was removed", str(self.path))
            if size != self._noted():
                if os.fstat(self._note).st_nlink == 0:  # others may hold another lock by now
                    raise FileNotFoundError(errno.ENOENT, "its note was removed", str(self.path))
                size = self._cut(size)
            self._put(data, size)

    def end(self) -> int:
        """How many bytes are whole records; what a killed process left of one is cut off. Raises OSError."""
        noted = self._noted()
        if noted != os.fstat(self._fd).st_size:
            with self._held():
                noted = self._cut(os.fstat(self._fd).st_size)
        return noted

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep all others from appending."""
        wait, until = _FIRST_WAIT, 0.0
        while not try_lock(self._note):
            until = until or time.monotonic() + LOCK_SECONDS
            if time.monotonic() > until:  # it hangs, or was stopped
                raise BlockingIOError(errno.EAGAIN, "another process keeps it locked", str(self.path))
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
        try:
            yield
        finally:
            unlock(self._note)

    def _put(self, data: bytes, size: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:  # also an exception out of a signal handler
            os.ftruncate(self._fd, size)
            raise
        with suppress(OSError):  # without the note, the next one looks where the last record ends
            _write(self._note, b"%0*d" % (_DIGITS, size + len(data)))

    def _noted(self) -> int:
        digits = _read(self._note, 0, _DIGITS)
        return int(digits) if digits.isdigit() and len(digits) == _DIGITS else 0

    def _cut(self, size: int) -> int:
        """Set aside what follows the last whole record of the *size* bytes; returns where that ends."""
        start = self._noted()
        end = self._last_end(start if start <= size else 0, size)
        if end < size:
            quarantine = self.home / "state" / "quarantine"
            quarantine.mkdir(parents=True, exist_ok=True)
            torn = _read(self._fd, end, size - end)
            (quarantine / f"{self.path.name}.{os.urandom(6).hex()}.torn").write_bytes(torn)
            os.ftruncate(self._fd, end)
        _write(self._note, b"%0*d" % (_DIGITS, end))
        return end

    def _last_end(self, start: int, size: int) -> int:
        """Where the last whole record before *size* ends; *start* is where some record ends."""
        end, inside = start, False
        while start < size:
            chunk = _read(self._fd, start, min(_CHUNK, size - start))
            if not chunk:
                break
            found, inside = last_end(chunk, inside=inside) if self._quoted else (chunk.rfind(b"\n") + 1, False)
            end = start + found if found else end
            start += len(chunk)
        return end


def last_end(data: bytes, *, inside: bool = False) -> tuple[int, bool]:
    """
    Where the last record of CSV in *data* ends, 0 if none does; and whether *data* ends between quotes.

    *inside* says whether it begins between quotes.

    >>> last_end(b'1,"a\\nb"\\n2,"c\\n')
    (8, True)
    """
    until, quotes = len(data), data.count(b'"') + inside
    ends_inside = bool(quotes % 2)
    while True:
        at = data.rfind(b"\n", 0, until)
        if at < 0:
            return 0, ends_inside
        quotes -= data.count(b'"', at, until)
        if quotes % 2 == 0:
            return at + 1, ends_inside
        until = data.rfind(b'"', 0, at)  # the quote that opens what this newline is in
        if until < 0:
            return 0, ends_inside
        quotes -= 1


def first_end(data: bytes) -> int:
    """
    Where the first record of CSV in *data* ends, 0 if none does.

    >>> first_end(b'a,"b\\nc"\\n1,2\\n')
    8
    """
    at = data.find(b"\n")
    while at >= 0 and data.count(b'"', 0, at) % 2:
        at = data.find(b"\n", at + 1)
    return at + 1


def open_one(home: Path, folder: str, stem: str, suffix: str, header: bytes, *, quoted: bool) -> SharedFile:
    """
    The first of ``<stem><suffix>``, ``<stem>_1<suffix>``, ... in *folder* that begins with *header*, made if need be.

    Raises:
        OSError: it cannot be opened, or there are a thousand that begin otherwise.
    """
    for number in range(MOST_FILES):
        file = SharedFile(home, numbered(folder, stem, suffix, number), quoted=quoted)
        try:
            if file.begin(header):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise OSError(errno.EMFILE, f"there are {MOST_FILES} files with other columns", f"{home}/{folder}")


def numbered(folder: str, stem: str, suffix: str, number: int) -> str:
    """
    The name of a file in a series.

    >>> numbered("inputs/2026/11/20", "data", ".csv", 1)
    'inputs/2026/11/20/data_1.csv'
    """
    return f"{folder}/{stem}{f'_{number}' if number else ''}{suffix}"


def whole(home: Path, name: str, *, quoted: bool) -> int:
    """How many bytes of the file *name* below *home* are whole records; none where it is gone. Raises OSError."""
    path = FolderBlobs(home).path(name)
    try:
        noted = (home / NOTES / f"{name}{_ENDING}").read_bytes()
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if noted.isdigit() and int(noted) == size:
        return size
    file = SharedFile(home, name, quoted=quoted)  # somebody is appending, or was killed then
    try:
        return file.end()
    finally:
        file.close()


def remove(home: Path, name: str) -> None:
    """Remove the file *name* below *home*, and the note of it. Raises OSError."""
    FolderBlobs(home).path(name).unlink(missing_ok=True)
    (home / NOTES / f"{name}{_ENDING}").unlink(missing_ok=True)


def names(home: Path) -> list[str]:
    """The names of all files below *home* that were ever appended to. Raises OSError."""
    root = home / NOTES
    found = []
    for folder, _, files in os.walk(root):
        place = Path(folder).relative_to(root).as_posix()
        found += [f"{place}/{file.removesuffix(_ENDING)}" for file in files if file.endswith(_ENDING)]
    return sorted(found)


if hasattr(os, "pread"):

    def _read(fd: int, start: int, count: int) -> bytes:
        return os.pread(fd, count, start)

    def _write(fd: int, data: bytes) -> None:
        os.pwrite(fd, data, 0)

else:  # pragma: no cover - Windows

    def _read(fd: int, start: int, count: int) -> bytes:
        os.lseek(fd, start, os.SEEK_SET)
        return os.read(fd, count)

    def _write(fd: int, data: bytes) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, data)
