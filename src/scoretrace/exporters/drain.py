"""
The delivery loop: what all ways of draining a journal have in common.

One process of a home drains it for a destination at a time, under a lock that
ends with it; when it dies another goes on from the cursor, also with what dead
processes left. What cannot be delivered now waits where it is, on disk.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Condition

from scoretrace import forks
from scoretrace.backoff import Backoff
from scoretrace.connections import said
from scoretrace.cursor import Cursor
from scoretrace.exporters import segments
from scoretrace.exporters.segments import Segment
from scoretrace.locks import try_lock

FULL_SECONDS = 30.0  # between looks at all segments; in between, only the newest hours are looked at
STANDBY_SECONDS = 1.0  # between attempts to take over from another process
_SLICE_SECONDS = 0.000_25  # at most, between two moments at which another thread may have the interpreter
_REST_SECONDS = 0.01  # at most, in between
_PASS_SECONDS = 2.0  # from one look at what waits to the next, while the process does something else

_log = logging.getLogger("scoretrace")


class Blocked(Exception):  # noqa: N818 - raised to stop a pass, never seen outside
    """
    Nothing more can be delivered now; *retry_after* is in seconds, where the other side named it.

    *quiet* where the other side takes what others send: that is no outage.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, quiet: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.quiet = quiet


class Drain(ABC):
    """
    Drains the journal of *home* to one destination: subclasses say how in `_pass`.

    *name* is the cursor's and the lock's, *label* what messages call it: a name
    may hold a key. *scope* is the instrumentation key (without dashes) of the
    telemetry folders that are meant, all if it is empty. With *gentle* the drain
    leaves the interpreter to other threads every quarter of a millisecond, for
    as long as it had it, and looks for more every two seconds: a batch costs some
    milliseconds, however little is in it.
    """

    subject = "telemetry"  # what messages call what is drained

    def __init__(self, home: Path, name: str, *, label: str = "", scope: str = "", gentle: bool = False) -> None:
        self.home = home
        self.name = name
        self.label = label or name
        self.scope = scope
        self.gentle = gentle
        self.counts: Counter[str] = Counter()
        self._lock_fd = -1
        self._lock_file = (0, 0)
        self._begin()

    def _begin(self) -> None:
        self.cursor = Cursor(self.home, self.name, self.scope)
        self.progress = Condition()
        self.deadline = float("inf")  # of the time.monotonic() clock: a drain in progress stops there
        self._full_at = float("-inf")
        self._backoff = Backoff()
        self._said = False
        self.rests = False  # until it is time to look for more
        self._slice_start, self._slice_cpu = time.perf_counter(), time.thread_time()
        self._read: dict[str, int] = {}
        # Where whole lines end in segments that end in a part of one, and their size then: nobody waits for that part.
        self._torn: dict[str, tuple[int, int]] = {}
        self._skipped: set[str] = set()  # segments that could not be read, until the next look everywhere

    def after_fork(self) -> None:
        """Leave the lock to the parent, and begin anew."""
        self.release()
        self.counts.clear()
        self._begin()

    # Who drains.

    @property
    def leads(self) -> bool:
        """Whether this is the process that drains."""
        return self._lock_fd >= 0

    def lead(self) -> bool:
        """Be the process that drains, if no other is. Raises OSError where the home cannot be written."""
        if self.leads:
            with suppress(OSError):
                status = os.fstat(self._lock_fd)
                if (status.st_dev, status.st_ino) == self._lock_file:
                    if status.st_nlink:
                        return True
                    self.release()  # somebody removed the home, and another process may lock the file anew
            self._lock_fd = -1  # somebody closed it, and perhaps opened another file
        with forks.still():  # a child forked between the lock and its descriptor's place would hold it unawares
            return self._take()

    def _take(self) -> bool:
        folder = self.home / "state" / "exporters"
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / f"{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        if not try_lock(fd):
            os.close(fd)
            return False
        self.cursor = Cursor(self.home, self.name, self.scope)
        try:
            self.cursor.save()  # from here on retention keeps what is not delivered
        except OSError:
            os.close(fd)
            raise
        status = os.fstat(fd)
        self._lock_fd, self._lock_file = fd, (status.st_dev, status.st_ino)
        self._read.clear()
        self._full_at = float("-inf")
        self._lead()
        return True

    def _lead(self) -> None:  # noqa: B027 - most have nothing to do
        """What a subclass does when it begins to lead."""

    def release(self) -> None:
        """Let another process drain."""
        if self._lock_fd >= 0:
            with suppress(OSError):
                os.close(self._lock_fd)
            self._lock_fd = -1

    # Draining.

    def drain(self) -> float | None:
        """
        Deliver all that waits, until `deadline`; never raises.

        Returns ``None`` when nothing waits any more, and else in how many
        seconds it is worth trying again.
        """
        while True:
            if self.pause:
                return self.pause
            begun = time.monotonic()
            self.rests = False
            try:
                if not self._pass():
                    return None
                left = begun + _PASS_SECONDS - time.monotonic()
                if self.gentle and self.deadline == float("inf") and left > 0:
                    self.rests = True
                    return left
                if time.monotonic() >= self.deadline:
                    return 0.0
            except Blocked as blocked:
                self._failed(str(blocked), blocked.retry_after, quiet=blocked.quiet)
                return self.pause
            except Exception as error:  # noqa: BLE001 - a full disk; and whatever it is, the thread must go on
                self._failed(said(error))
                return self.pause

    @abstractmethod
    def _pass(self) -> bool:
        """
        Deliver what waits now; says whether there was anything.

        Raises Blocked.
        """

    def _failed(self, reason: str, retry_after: float | None = None, *, quiet: bool = False) -> None:
        self.counts["failures"] += 1
        self._backoff.failed(retry_after)
        if not quiet and not self._said:
            self._said = True
            self.say(f"{self.subject} waits on disk in {self.home}, {self.label} cannot deliver it: {reason}")
        self._progressed()

    def _recovered(self) -> None:
        """Something was accepted."""
        self._backoff.succeeded()
        if self._said:
            self._said = False
            self.say(f"{self.label} delivers again")
        self._progressed()

    def _progressed(self) -> None:
        with self.progress:
            self.progress.notify_all()

    def hurry(self) -> None:
        """Do not wait for the next attempt, unless the other side asked for it."""
        self._backoff.hurry()

    @property
    def pause(self) -> float:
        """How many seconds the next attempt is away."""
        return self._backoff.pause

    @property
    def failures(self) -> int:
        """How many attempts failed since the last that did not."""
        return self._backoff.failures

    def say(self, message: str) -> None:
        """Say aloud what became of telemetry; never raises."""
        with suppress(Exception):
            _log.warning("%s", message)

    def say_what_waits(self) -> None:
        """Say that the process ends before all is delivered, if that was not said."""
        if self.leads and not self._said:
            self.say(
                f"{self.subject} waits on disk in {self.home}: "
                f"{self.label} was not done in time, the next start goes on"
            )

    # What is there to drain.

    def waiting(self) -> list[Segment]:
        """The segments that have something that is not settled, whoever drains; rows that were put off not counted."""
        return self._waiting(self._newest_cursor())

    def _waiting(self, cursor: Cursor) -> list[Segment]:
        return [segment for segment in self._find(recent=False) if not self._is_whole(segment, cursor.at(segment.name))]

    def _newest_cursor(self) -> Cursor:
        """How far the delivery is, whoever drains."""
        return self.cursor if self.leads else Cursor(self.home, self.name, self.scope)

    def is_settled(self, wanted: list[Segment]) -> bool:
        """Whether all of *wanted*, up to the sizes they had, is settled."""
        cursor = self._newest_cursor()
        return cursor.is_saved and all(
            self._is_whole(segment, cursor.at(segment.name)) or not segment.path.exists() for segment in wanted
        )

    def _is_whole(self, segment: Segment, at: int) -> bool:
        """Whether all lines of *segment* are before *at*."""
        end, size = self._torn.get(segment.name, (segment.size, segment.size))
        return at >= (end if size == segment.size else segment.size)

    def waiting_bytes(self) -> int:
        """How many bytes are not settled, with those of rows that were put off."""
        cursor = self._newest_cursor()
        found = (*self._waiting(cursor), *segments.held(self.home, self.name))
        return sum(max(segment.size - cursor.at(segment.name), 0) for segment in found)

    @property
    def holds(self) -> bool:
        """Whether rows were put off; see `cursor.HELD`."""
        return bool(segments.held(self.home, self.name))

    def _find(self, *, recent: bool) -> list[Segment]:
        return segments.find(self.home, self.cursor.covers, recent=recent)

    def _unread(self) -> list[Segment]:
        """The segments that have more than was read, oldest first."""
        now = time.monotonic()
        recent = now < self._full_at
        found = self._find(recent=recent)
        if not recent:
            self._full_at = now + FULL_SECONDS
            present = {segment.name for segment in (*found, *segments.held(self.home, self.name))}
            self.cursor.settle(present)
            self._read = {name: at for name, at in self._read.items() if name in present}
            self._torn = {name: ends for name, ends in self._torn.items() if name in present}
            self._skipped.clear()
        return [
            segment
            for segment in found
            if not self._is_whole(segment, self._read_to(segment.name)) and segment.name not in self._skipped
        ]

    def _read_to(self, name: str) -> int:
        """How much of the segment *name* was read."""
        return self._read.get(name) or self.cursor.at(name)

    def _cannot_read(self, segment: Segment, error: OSError) -> None:
        """Leave a segment alone for a while; it must not keep others from being delivered."""
        self._skipped.add(segment.name)
        self.counts["unreadable_files"] += 1
        if self.counts["unreadable_files"] == 1:
            self.say(f"{segment.path} cannot be read, and is not delivered: {error.strerror or error}")

    def look_everywhere(self) -> None:
        """Have the next look go through all segments."""
        self._full_at = float("-inf")

    def _lines(self, segment: Segment) -> Iterator[tuple[int, bytes]]:
        """What was not read yet of *segment*; it counts as read when `_read` says so."""
        read = self._read_to(segment.name)
        for end, line in segments.lines(segment.path, read):
            read = end
            yield end, line
            if self.gentle and self.deadline == float("inf"):  # at the end of a process nobody else has anything to do
                self._yield_interpreter()
        if read < segment.size:
            self._torn[segment.name] = (read, segment.size)

    def _yield_interpreter(self) -> None:
        """
        Let other threads run: each time for as long as this one ran, for twice as long where it had to wait itself.

        A thread that wants the interpreter while another holds it waits up to
        `sys.getswitchinterval`, 5 ms; and each time it lets go of it while this
        one waits, it pays for waking it.
        """
        wall = time.perf_counter() - self._slice_start
        if wall > _SLICE_SECONDS:
            worked = time.thread_time() - self._slice_cpu
            time.sleep(min(wall if worked > wall / 2 else 2 * wall, _REST_SECONDS))
            self._slice_start, self._slice_cpu = time.perf_counter(), time.thread_time()
