"""
Files that many processes append whole records to.

A record is in its file when the call returns, and it is there whole or not at
all: an append that the disk takes a part of is taken back, and what a killed
process leaves of one is cut off by the next that comes along. For that, each
file has a note in the home's ``state/collected``, and whoever appends holds a
lock on it. It says where the last whole record ends, and whether a record has
several lines (``m``) or each has one (``1``), which a reader has to know:

    00000000000000012345 1
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from scoretrace.blobs import FolderBlobs
from scoretrace.locks import try_lock, unlock

NOTES = "state/collected"  # below it, by name: how many bytes of a file are whole records
LOCK_SECONDS = 0.5  # how long somebody else's append is waited for
MOST_FILES = 1_000  # of one day that differ in their columns
_ENDING = ".end"
_CHUNK = _HEADER_BYTES = 1024 * 1024
_YEAR, _TWO = re.compile(r"\d{4}"), re.compile(r"\d\d")
_FIRST_WAIT, _LONGEST_WAIT = 0.000_02, 0.001
_DIGITS, _NOTE_BYTES = 20, 22  # of a note; behind the digits are a space and a letter
_A_RECORD = 4_096  # bytes that tell the first record of a file from that of another
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
        self._has_many = False
        self._least = 0  # bytes, of the header
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

    def begin(self, header: bytes, wait: float = LOCK_SECONDS) -> bool:
        """
        Have the file begin with *header*; says whether it does.

        *wait* is how many seconds others are waited for.

        Raises:
            OSError: it cannot be read or written.
        """
        with self._held(wait):
            size = os.fstat(self._fd).st_size
            found = _read(self._fd, 0, len(header))
            if len(found) < len(header) and header.startswith(found):  # nothing, or what a killed process left of it
                os.ftruncate(self._fd, 0)
                self._has_many = False
                self._put(header, 0)
            elif found != header:
                return False
            else:
                noted = _note(_read(self._note, 0, _NOTE_BYTES))
                self._has_many = size > len(header) if noted is None else noted.has_many
                if noted is None or noted.end != size:
                    self._cut(size)
            self._least = len(header)
            return True

    def append(self, data: bytes, *, many_lines: bool = False, wait: float = LOCK_SECONDS) -> None:
        """
        Append *data*, which is whole records, or nothing of it.

        *many_lines* where a record has newlines in it. *wait* is how many seconds
        others are waited for.

        Raises:
            FileNotFoundError: somebody removed the file.
            OSError: the disk does not take it, or another process keeps the file locked.
        """
        with self._held(wait):
            status = os.fstat(self._fd)
            size = status.st_size
            if status.st_nlink == 0 or size < self._least:
                raise FileNotFoundError(errno.ENOENT, "it was removed or emptied", str(self.path))
            if size != self._noted():
                if os.fstat(self._note).st_nlink == 0:  # others may hold another lock by now
                    raise FileNotFoundError(errno.ENOENT, "its note was removed", str(self.path))
                size = self._cut(size)
            self._has_many = self._has_many or many_lines
            self._put(data, size)

    def end(self) -> int:
        """How many bytes are whole records; what a killed process left of one is cut off. Raises OSError."""
        noted = self._noted()
        if noted != os.fstat(self._fd).st_size:
            with self._held(LOCK_SECONDS):
                noted = self._cut(os.fstat(self._fd).st_size)
        return noted

    @contextmanager
    def _held(self, seconds: float) -> Iterator[None]:
        """Keep all others from appending; *seconds* is how long they are waited for."""
        wait, until = _FIRST_WAIT, 0.0
        while not try_lock(self._note):
            until = until or time.monotonic() + seconds
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
            self._write_note(size + len(data))

    def _noted(self) -> int:
        found = _note(_read(self._note, 0, _NOTE_BYTES))
        return -1 if found is None else found.end

    def _write_note(self, end: int) -> None:
        _write(self._note, b"%0*d %c" % (_DIGITS, end, b"m" if self._has_many else b"1"))

    def _cut(self, size: int) -> int:
        """Set aside what follows the last whole record of the *size* bytes; returns where that ends."""
        start = self._noted()
        end = self._last_end(start if 0 <= start <= size else 0, size)
        if end < size:
            torn = _read(self._fd, end, size - end)
            name = f"state/quarantine/{self.path.name}.{os.urandom(6).hex()}.torn"
            FolderBlobs(self.home).put(name, torn)  # leaves nothing behind where the disk is full
            os.ftruncate(self._fd, end)
        self._write_note(end)
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


def read_header(file: BinaryIO) -> bytes:
    """The first record of the CSV in *file*, however long it is; nothing where it has none."""
    head = b""
    while chunk := file.read(max(len(head), _HEADER_BYTES)):
        head += chunk
        end = first_end(head)
        if end:
            return head[:end]
    return b""


class TooManyFiles(OSError):  # noqa: N818 - what is wrong
    """A day has more files than anybody means it to have."""


def open_one(
    home: Path,
    folder: str,
    stem: str,
    suffix: str,
    header: bytes,
    *,
    quoted: bool,
    likely: str = "",
    wait: float = LOCK_SECONDS,
) -> SharedFile:
    """
    The first of ``<stem><suffix>``, ``<stem>_1<suffix>``, ... in *folder* that begins with *header*, made if need be.

    *likely* is a name that is looked at before all others, *wait* as in `SharedFile.begin`.

    Raises:
        TooManyFiles: there are a thousand that begin otherwise.
        OSError: it cannot be opened.
    """
    every = (numbered(folder, stem, suffix, number) for number in range(MOST_FILES))
    for name in chain(filter(None, (likely,)), every):
        file = SharedFile(home, name, quoted=quoted)
        try:
            if file.begin(header, wait):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise TooManyFiles(errno.EMFILE, f"there are {MOST_FILES} files with other columns", f"{home}/{folder}")


def numbered(folder: str, stem: str, suffix: str, number: int) -> str:
    """
    The name of a file in a series.

    >>> numbered("inputs/2026/11/20", "data", ".csv", 1)
    'inputs/2026/11/20/data_1.csv'
    """
    return f"{folder}/{stem}{f'_{number}' if number else ''}{suffix}"


class Note(NamedTuple):
    """How many bytes of a file are whole records, and whether records have several lines."""

    end: int
    has_many: bool


def note(home: Path, name: str) -> Note | None:
    """The note of the file *name* below *home*; None where there is none that can be read."""
    with suppress(OSError):
        return _note((home / NOTES / f"{name}{_ENDING}").read_bytes())
    return None


def _note(data: bytes) -> Note | None:
    is_whole = len(data) == _NOTE_BYTES and data[:_DIGITS].isdigit() and data[-1:] in b"1m"
    return Note(int(data[:_DIGITS]), data.endswith(b"m")) if is_whole else None


def key(home: Path, name: str) -> str:
    """
    What a cursor calls the file *name* below *home*: one that was begun anew is another file.

    The first record tells them apart, which has an id of its own.
    """
    first = b""
    with suppress(OSError), FolderBlobs(home).open(name) as file:
        quoted = name.endswith(".csv")
        file.seek(len(read_header(file)) if quoted else 0)
        start = file.read(_A_RECORD)
        end = first_end(start) if quoted else start.find(b"\n") + 1
        first = start[:end] if end else start
    return f"{name}@{hashlib.blake2b(first, digest_size=8).hexdigest()}"


def whole(home: Path, name: str, *, quoted: bool) -> int:
    """How many bytes of the file *name* below *home* are whole records; none where it is gone. Raises OSError."""
    try:
        size = FolderBlobs(home).path(name).stat().st_size
    except FileNotFoundError:
        return 0
    noted = note(home, name)
    if noted is not None and noted.end == size:
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


def names(home: Path, days: Container[tuple[str, ...]] | None = None) -> list[str]:
    """
    The names of all files below *home* that were ever appended to, or those of some *days* (``("2026", "11", "20")``).

    Raises OSError.
    """
    root = home / NOTES
    found = []
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        if days is not None:
            _only(days, place, folders)
        found += [f"{place.as_posix()}/{file.removesuffix(_ENDING)}" for file in files if file.endswith(_ENDING)]
    return sorted(found)


def _only(days: Container[tuple[str, ...]], place: Path, folders: list[str]) -> None:
    """Leave out of *folders*, which are in *place*, days that are not meant."""
    year, month = place.parts[-2:] if len(place.parts) > 1 else ("", "")
    if _YEAR.fullmatch(year) and _TWO.fullmatch(month):
        folders[:] = [day for day in folders if not _TWO.fullmatch(day) or (year, month, day) in days]


if hasattr(os, "pread"):

    def _read(fd: int, start: int, count: int) -> bytes:
        return os.pread(fd, count, start)

    def _write(fd: int, data: bytes, at: int = 0) -> None:
        os.pwrite(fd, data, at)

else:  # pragma: no cover - Windows

    def _read(fd: int, start: int, count: int) -> bytes:
        os.lseek(fd, start, os.SEEK_SET)
        return os.read(fd, count)

    def _write(fd: int, data: bytes, at: int = 0) -> None:
        os.lseek(fd, at, os.SEEK_SET)
        os.write(fd, data)
