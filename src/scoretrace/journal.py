"""
Items on disk before the call that made them returns.

A line is appended with a single `write` to a segment: a file of this process
alone, named and placed as the continuous export names and places its blobs. So
what is written is at once the queue that exporters drain, the store that
queries read, and what can be copied to a container. A process that is killed
leaves whole lines; what a power cut or a full disk tears off is the end of the
last one, which the next start sets aside.

There is no lock on the way: a write of one line to a file opened for appending
is atomic, and a segment's file is closed when the last thread lets go of it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock

from scoretrace import forks
from scoretrace.locks import try_lock
from scoretrace.settings import BUFFER_BYTES, SEGMENT_BYTES

CHECK_SECONDS = 1.0  # between looks at whether a segment's file is still there
RETRY_SECONDS = 0.01  # until the next attempt to write to a disk that refused; twice as long each time, up to:
RETRY_SECONDS_MOST = 1.0

_log = logging.getLogger("scoretrace")
_open_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_write = os.write


class Segment:
    """An open file; it closes itself when nobody holds it any more, so no thread writes to a closed one."""

    __slots__ = ("fd", "size", "until")

    def __init__(self, fd: int, size: int, until: float) -> None:
        self.fd = fd
        self.size = size
        self.until = until  # the end of its hour, in seconds since 1970

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


_CLOSED = Segment(-1, 0, float("-inf"))


class Writer:
    """The segments of one telemetry folder, one after the other."""

    __slots__ = ("check_at", "folder", "journal", "limit", "segment")

    def __init__(self, journal: Journal, folder: str) -> None:
        self.journal = journal
        self.folder = folder
        self.limit = journal.segment_bytes
        self.segment = _CLOSED
        self.check_at = float("-inf")

    def append(self, line: bytes, now: float) -> None:
        """
        Write *line*, which ends in a newline. Never raises.

        *now*, in seconds since 1970, may be the item's own time: where it lies
        behind the segment's hour, the clock is asked whether a new one has begun.
        """
        segment = self.segment
        size = segment.size + len(line)
        due = not 0.0 < self.check_at - now <= CHECK_SECONDS  # also where the clock was set back
        if due or now >= segment.until or size > self.limit:
            self.journal.rotate(self, line)
            return
        segment.size = size
        try:
            if _write(segment.fd, line) != len(line):
                self.refused(line)
        except OSError as error:
            self.refused(line, error)

    def refused(self, line: bytes, error: OSError | None = None) -> None:
        """Keep a *line* that the disk did not take, or took a part of where there is no *error*. Never raises."""
        self.journal.refused(self, line, error)


class Journal:
    """
    The lines of one process below *home*, for the app folder ``<app>_<ikey>``.

    *buffer_bytes* is what is kept in memory while the disk refuses; beyond it
    lines are lost and counted in `lost`, by reason. *written* is called after a
    line, once a second at the most.
    """

    def __init__(
        self,
        home: Path,
        app: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
        keep_seconds: float = float("inf"),
        keep_bytes: float = float("inf"),
        clock: Callable[[], float] = time.time,
        written: Callable[[], None] | None = None,
    ) -> None:
        self.home = home
        self.app = app
        self.segment_bytes = segment_bytes
        self.buffer_bytes = buffer_bytes
        self.keep_seconds = keep_seconds
        self.keep_bytes = keep_bytes
        self.clock = clock
        self.written = written
        self.lost: Counter[str] = Counter()
        self.set_aside = 0
        self._writers: dict[str, Writer] = {}
        self._marker = -1
        self._begin()
        forks.tell(self)

    def _begin(self) -> None:
        # Reentrant: a signal handler that logs may run while the same thread is in here.
        self._lock = RLock()
        self._buffer: deque[tuple[Writer, bytes]] = deque()
        self._buffered = 0
        self._busy = False
        self._warned = False
        self._retry_at = float("-inf")
        self._retry_seconds = RETRY_SECONDS
        self._messages: deque[str] = deque()
        self._marker_path: Path | None = None
        self._torn = False  # one of our segments ends in a part of a line
        self._sweep_due = False
        self.name = os.urandom(16).hex()
        for writer in self._writers.values():
            writer.segment = _CLOSED

    def after_fork(self) -> None:
        """Write into segments of the child's own; what waits in memory is the parent's to write."""
        if self._marker >= 0:
            os.close(self._marker)
            self._marker = -1
        self.lost.clear()
        self._begin()

    def writer(self, folder: str) -> Writer:
        """The writer of a telemetry folder (``Messages``, ``Requests``, ...)."""
        return self._writers.get(folder) or self._writers.setdefault(folder, Writer(self, folder))

    @property
    def buffered(self) -> int:
        """How many lines wait in memory for a disk that refused them."""
        return len(self._buffer)

    # Away from the usual path. Everything below holds the lock; a signal handler that logs while its own thread is in
    # here finds `_busy` set, and leaves its line in memory for the one that is.

    def rotate(self, writer: Writer, line: bytes) -> None:
        """Write *line*, to a new segment where the hour is over, the old one full, or its file gone."""
        with self._lock:
            if self._busy:
                self._keep(writer, line)
                return
            self._busy = True
            try:
                self._rotate(writer, line)
            finally:
                self._busy = False
            if self._buffer and not self._warned:  # left there by a signal handler
                self._drain()
        self._speak()
        if self._sweep_due:
            self._sweep_due = False
            self.sweep(self.clock())
        if self.written is not None:
            with suppress(Exception):  # what waits for lines must not break the call that writes one
                self.written()

    def _rotate(self, writer: Writer, line: bytes) -> None:
        segment, now = writer.segment, self.clock()
        writer.check_at = now + CHECK_SECONDS
        fits = now < segment.until and segment.size + len(line) <= writer.limit and not self._is_gone(segment)
        if not fits and (time.monotonic() < self._retry_at or not self._renew(writer, now)):
            self._keep(writer, line)
            return
        self._drain()
        if self._buffer or not self._put(writer, line):
            self._keep(writer, line)

    def _is_gone(self, segment: Segment) -> bool:
        """Whether somebody removed the file: writing on would be writing into nothing."""
        try:
            gone = os.fstat(segment.fd).st_nlink == 0
        except OSError:
            gone = True
        if gone and self._marker >= 0 and segment.fd >= 0:  # and the marker with it, most likely
            os.close(self._marker)
            self._marker = -1
        return gone

    def refused(self, writer: Writer, line: bytes, error: OSError | None) -> None:
        """Keep the *line* that the disk did not take; what follows goes to a new segment, away from a torn end."""
        with self._lock:
            self._outage(writer, error)
            self._keep(writer, line)
        self._speak()

    def flush(self) -> bool:
        """Write what waits in memory; says whether nothing waits any more."""
        with self._lock:
            if not self._busy:
                self._busy = True
                try:
                    if self._buffer:  # else there is nothing that would show whether the disk takes it again
                        self._drain()
                finally:
                    self._busy = False
            waiting = bool(self._buffer)
        self._speak()
        return not waiting

    def close(self) -> None:
        """Write what waits, close the segments, and count what could not be written as lost."""
        self.flush()
        with self._lock:
            if self._buffer:
                self.lost["disk"] += len(self._buffer)
                self._messages.append(f"{len(self._buffer)} telemetry items were lost: {self.home} cannot be written")
                self._buffer.clear()
                self._buffered = 0
            for writer in self._writers.values():
                writer.segment = _CLOSED
            if self._marker >= 0:
                with suppress(OSError):
                    if self._marker_path is not None and not self._torn:  # else the next start has something to do
                        self._marker_path.unlink()
                os.close(self._marker)
                self._marker = -1
        self._speak()

    def recover(self) -> int:
        """Set aside the torn last lines of processes that died, and return how many there were."""
        torn = 0
        try:
            markers = sorted((self.home / "state" / "writers").iterdir())
        except OSError:
            return 0
        for marker in markers:
            if marker.name.startswith("."):
                continue
            with suppress(OSError):
                torn += self._recover(marker)
        self.set_aside += torn
        return torn

    def _recover(self, marker: Path) -> int:
        fd = os.open(marker, os.O_RDWR)
        try:
            if marker == self._marker_path or not try_lock(fd):
                return 0
            torn = 0
            for name in marker.read_text("utf-8", "replace").splitlines():
                with suppress(OSError):
                    torn += set_aside_torn_end(self.home / "telemetry" / name, self.home / "state" / "quarantine")
            marker.unlink()
            return torn
        finally:
            os.close(fd)

    def sweep(self, now: float) -> None:
        """Remove what is past its keeping, at most once an hour for all processes of a home."""
        if self.keep_seconds == self.keep_bytes == float("inf"):
            return
        stamp = self.home / "state" / "swept"
        from scoretrace import retention

        with suppress(Exception):  # it runs in a log call now and then, and tidying up can wait
            if stamp.exists() and stamp.stat().st_mtime > now - 3600:
                return
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
            retention.sweep(self.home, now=now, keep_seconds=self.keep_seconds, keep_bytes=self.keep_bytes)

    def _renew(self, writer: Writer, now: float) -> bool:
        try:
            hour = time.gmtime(now)
            folder = Path(self.app, writer.folder, time.strftime("%Y-%m-%d", hour), time.strftime("%H", hour))
            guid = "-".join((self.name[:8], self.name[8:12], self.name[12:16], self.name[16:20], self.name[20:]))
            path = self.home / "telemetry" / folder / f"{guid}_{time.strftime('%Y%m%d_%H%M%S', hour)}.blob"
            number = 0
            while path.exists():  # two segments in one second; what is closed stays closed
                number += 1
                path = path.with_name(f"{guid[:-4]}{number:04x}_{path.name.partition('_')[2]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._mark(path.relative_to(self.home / "telemetry"))
            fd = os.open(path, _open_flags, 0o644)
        except (OSError, ValueError) as error:
            self._outage(writer, error)
            return False
        writer.segment = Segment(fd, 0, (now // 3600 + 1) * 3600)
        self._sweep_due = True
        return True

    def _mark(self, segment: Path) -> None:
        """Note the segment in this process's marker file, which is locked as long as the process lives."""
        if self._marker < 0:
            folder = self.home / "state" / "writers"
            folder.mkdir(parents=True, exist_ok=True)
            # It gets its name when it is locked: a marker that can be locked is a dead process's.
            hidden, self._marker_path = folder / f".{self.name}", folder / self.name
            self._marker = os.open(hidden, _open_flags, 0o644)
            try_lock(self._marker)
            hidden.rename(self._marker_path)
        _write(self._marker, f"{segment.as_posix()}\n".encode())

    def _put(self, writer: Writer, line: bytes) -> bool:
        segment = writer.segment
        try:
            if _write(segment.fd, line) == len(line):
                segment.size += len(line)
                return True
            self._outage(writer, None)
        except OSError as error:
            self._outage(writer, error)
        return False

    def _drain(self) -> None:
        while self._buffer:
            writer, line = self._buffer.popleft()
            if (writer.segment is _CLOSED and not self._renew(writer, self.clock())) or not self._put(writer, line):
                self._buffer.appendleft((writer, line))
                return
            self._buffered -= len(line)
        self._retry_seconds = RETRY_SECONDS
        if self._warned:
            self._warned = False
            self._messages.append(f"{self.home} can be written again")

    def _keep(self, writer: Writer, line: bytes) -> None:
        if self._buffered + len(line) > self.buffer_bytes:
            self.lost["disk"] += 1
            return
        self._buffer.append((writer, line))
        self._buffered += len(line)

    def _outage(self, writer: Writer, error: Exception | None) -> None:
        writer.segment = _CLOSED
        self._torn = self._torn or error is None
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS_MOST)
        if not self._warned:
            self._warned = True
            reason = error or "it took a part of a line"
            kept = f"keeping up to {self.buffer_bytes // 1024} KB in memory"
            self._messages.append(f"cannot write telemetry to {self.home} ({reason}): {kept}")

    def _speak(self) -> None:
        """Say what there is to say, without the lock: a handler of the script's may itself be waiting for us."""
        while self._messages:
            with suppress(Exception):
                _log.warning(self._messages.popleft())


def set_aside_torn_end(segment: Path, quarantine: Path) -> int:
    """Move what follows the last newline of *segment* to *quarantine*; returns 1 if there was anything."""
    with segment.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end, tail = size, b""
        while end and not tail.startswith(b"\n"):
            start = max(end - 65_536, 0)
            file.seek(start)
            block = file.read(end - start)
            cut = block.rfind(b"\n")
            tail = block[max(cut, 0) :] + tail
            end = start
        torn = tail[1:] if tail.startswith(b"\n") else tail
        if not torn:
            return 0
        quarantine.mkdir(parents=True, exist_ok=True)
        (quarantine / f"{segment.name}.torn").write_bytes(torn)
        file.truncate(size - len(torn))
    return 1
