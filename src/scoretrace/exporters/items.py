"""
Deliver items: rows of the journal as envelopes, in batches, through any way of sending them.

A batch is settled item by item: accepted, refused (set aside in
``state/quarantine`` with what the service said), expired (the service takes
nothing older than 48 hours), or put off until its payload is stored. Only then
does the cursor move, so that whatever happens in between is sent again, with
the same item ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from scoretrace import forks, ticks
from scoretrace.backoff import Backoff
from scoretrace.blobs import FolderBlobs
from scoretrace.cursor import HELD
from scoretrace.errors import FormatError
from scoretrace.exporters import segments
from scoretrace.exporters.drain import Blocked, Drain
from scoretrace.exporters.replies import Refusal, Reply
from scoretrace.exporters.segments import Segment
from scoretrace.formats import breeze, continuous_export, track, transcode
from scoretrace.item import Item

BATCH_BYTES, BATCH_ITEMS = 1_000_000, 1_000
GIVEN_UP = ("refused", "expired", "unreadable")  # reasons to give an item up, as they are counted
TIMEOUT_SECONDS = 10.0  # to connect, and to wait for an answer
_MOST_LINES = 10_000  # read before the deadline is looked at, where none of them makes an item
_FOR_PAYLOAD, _FOR_SERVICE = "-payload", "-service"  # what rows were put off for, in the names of their files
_PATIENCE = 3  # times that an item is sent again before others go on without it

Send = Callable[[list[bytes], float], Reply]
Fit = Callable[[Item], Item]


class Payloads(Protocol):
    """Where the originals of diverted items are put before their rows go out."""

    def named_in(self, text: bytes) -> list[str]:
        """The payloads that rows point at."""

    def store(self, names: Iterable[str]) -> str:
        """Put them where the rows say they are; returns why that cannot be now, or nothing. Never raises."""

    def hurry(self) -> None:
        """Do not wait for the next attempt to store."""


class Entry(NamedTuple):
    """An item on its way: where it was read, up to which byte, its line, its envelope, and its time (ISO 8601)."""

    segment: str
    end: int
    line: bytes
    envelope: bytes
    time: str


def _oldest() -> str:
    """The time of the oldest item that the service takes."""
    return ticks.to_iso(ticks.now() - track.OLDEST)


class ItemDrain(Drain):
    """
    Drains items through what *connect* returns: it takes envelopes and the seconds it may take, and gives a `Reply`.

    *label* is what messages call it, *payloads* are stored first, and *fit* is
    the guard, for rows that were kept whole or were not made here.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        *,
        label: str,
        i_key: str,
        scope: str,
        connect: Callable[[], Send],
        fit: Fit,
        sdk_version: str,
        payloads: Payloads | None = None,
        gentle: bool = False,
    ) -> None:
        super().__init__(home, name, label=label, scope=scope, gentle=gentle)
        self.i_key = i_key
        self.connect = connect
        self.fit = fit
        self.sdk_version = sdk_version
        self.payloads = payloads

    def _begin(self) -> None:
        super()._begin()
        self._connection: Send | None = None  # a child must not speak through its parent's
        self._held_backoffs = {_FOR_PAYLOAD: Backoff(), _FOR_SERVICE: Backoff()}
        self._drop_hand()

    def _lead(self) -> None:
        self._drop_hand()

    def hurry(self) -> None:
        """Do not wait for the next attempt, neither to send nor to store."""
        super().hurry()
        for backoff in self._held_backoffs.values():
            backoff.hurry()
        if self.payloads is not None:
            self.payloads.hurry()

    def _drop_hand(self) -> None:
        """Read again what is not settled."""
        self._hand: list[Entry] = []  # read, and not settled
        self._ends: dict[str, int] = {}  # how far the cursor may go when the hand is settled
        self._attempts = 0
        self._read.clear()

    def _pass(self) -> bool:
        worked = bool(self._ends)
        if worked:
            self._put_off()
            self._settle()
        worked |= self._pass_held()
        for entries, ends in self._batches(self._new_lines()):
            self._hand, self._ends, self._attempts, worked = entries, ends, 0, True
            self._put_off()
            self._settle()
            if self._is_late():
                break
        return worked

    def _pass_held(self) -> bool:
        """Try the rows that were put off; what they run into does not stop any others."""
        worked = [self._pass_held_for(why) for why in self._held_backoffs]
        return any(worked)

    def _pass_held_for(self, why: str) -> bool:
        backoff = self._held_backoffs[why]
        if backoff.pause:
            return False
        worked, failures = False, backoff.failures
        try:
            for entries, ends in self._batches(self._held_lines(why)):
                fresh = [entry for entry in entries if entry.time >= _oldest()]
                reason = self._stored([name for entry in fresh for name in self._named_in(entry)])
                if reason:
                    self._say_storage(reason)
                    backoff.failed()
                    break
                self._hand, self._ends, worked = entries, ends, True
                self._settle()
                if self._is_late():
                    break
            if worked and backoff.failures == failures:
                backoff.succeeded()
        finally:
            self._drop_hand()  # whatever is not settled is still in its file
        for segment in self._held_files(why):
            if self._is_whole(segment, self.cursor.at(segment.name)):
                if self.cursor.at(segment.name) < segment.size:  # a power cut took its end
                    self._count("unreadable", 1, f"the last of {segment.path} was not whole")
                with suppress(OSError):
                    segment.path.unlink()
        return worked

    def _is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    # Reading.

    def _new_lines(self) -> Iterator[tuple[Segment, int, bytes]]:
        return self._lines_of(self._unread())

    def _held_lines(self, why: str) -> Iterator[tuple[Segment, int, bytes]]:
        return self._lines_of(self._held_files(why))

    def _held_files(self, why: str) -> list[Segment]:
        return [segment for segment in segments.held(self.home, self.name) if why in segment.path.name]

    def _lines_of(self, found: list[Segment]) -> Iterator[tuple[Segment, int, bytes]]:
        for segment in found:
            try:
                for end, line in self._lines(segment):
                    yield segment, end, line
            except OSError as error:  # noqa: PERF203 - one file is not all of them
                self._cannot_read(segment, error)

    def _batches(self, source: Iterator[tuple[Segment, int, bytes]]) -> Iterator[tuple[list[Entry], dict[str, int]]]:
        entries: list[Entry] = []
        ends: dict[str, int] = {}
        size, passed = 2, 0
        for segment, end, line in source:
            made = self._entries(segment, end, line)
            more = sum(len(entry.envelope) + 1 for entry in made)
            full = size + more > BATCH_BYTES or len(entries) + len(made) > BATCH_ITEMS or passed >= _MOST_LINES
            if full and ends:
                self._read.update(ends)
                yield entries, ends
                entries, ends, size, passed = [], {}, 2, 0
            entries += made
            ends[segment.name] = end
            size += more
            passed += 1
        if ends:
            self._read.update(ends)
            yield entries, ends

    def _entries(self, segment: Segment, end: int, line: bytes) -> list[Entry]:
        quick = transcode.envelope(line, self.i_key, self.sdk_version)
        if quick is not None:
            return [Entry(segment.name, end, line, *quick)]
        try:
            items = continuous_export.decode(line)
        except FormatError as error:
            self._set_aside(line, segment.name, Refusal(0, str(error)), "unreadable")
            return []
        return [
            Entry(segment.name, end, line, self._envelope(item), ticks.to_iso(item.timestamp or ticks.now()))
            for item in items
        ]

    def _envelope(self, item: Item) -> bytes:
        if not item.sdk_version:
            item = msgspec.structs.replace(item, sdk_version=self.sdk_version)
        with suppress(OSError, ValueError):  # else the service refuses it, and that is counted
            item = self.fit(item)
        return breeze.encode(item, self.i_key)

    # Payloads first.

    def _put_off(self) -> None:
        """Store the payloads of the hand, and put off the rows whose payload cannot be stored now."""
        wanted = {entry.line: names for entry in self._hand if (names := self._named_in(entry))}
        reason = self._stored([name for names in wanted.values() for name in names])
        if not reason:
            return
        self._say_storage(reason)
        self._hold({line for line, names in wanted.items() if self._stored(names)}, _FOR_PAYLOAD)

    def _hold(self, lines: set[bytes], why: str) -> None:
        """Put rows off: into a file of their own, which is drained before all others and blocks none."""
        if not lines:
            return
        folder = self.home / HELD / self.name
        held = [line for line in dict.fromkeys(entry.line for entry in self._hand) if line in lines]
        FolderBlobs(folder).put(f"{time.time_ns()}{why}.blob", b"".join(line + b"\n" for line in held))
        self.counts["put_off"] += len(held)
        self._hand = [entry for entry in self._hand if entry.line not in lines]

    def _named_in(self, entry: Entry) -> list[str]:
        return self.payloads.named_in(entry.envelope) if self.payloads is not None else []

    def _stored(self, names: list[str]) -> str:
        return self.payloads.store(names) if self.payloads is not None and names else ""

    def _say_storage(self, reason: str) -> None:
        self.counts["storage_failures"] += 1
        if self.counts["storage_failures"] == 1:
            self.say(f"rows whose payload cannot be stored wait in {self.home / HELD}: {reason}")

    # Sending.

    def _settle(self) -> None:
        """Send what is in hand until all of it is settled. Raises Blocked."""
        self._hand = self._fresh(self._hand)
        todo, progressed = [self._hand], not self._hand
        while todo:
            batch = todo.pop()
            if not batch:
                continue
            timeout = min(TIMEOUT_SECONDS, max(self.deadline - time.monotonic(), 0.05))
            reply = self._send([entry.envelope for entry in batch], timeout)
            if reply.split and len(batch) > 1:
                half = len(batch) // 2
                todo += [batch[half:], batch[:half]]
                continue
            again = batch if reply.reason else [entry for index, entry in enumerate(batch) if index in reply.again]
            for index, refusal in reply.refused.items():
                self._set_aside(batch[index].line, batch[index].segment, refusal, "refused")
            accepted = len(batch) - len(again) - len(reply.refused)
            self.counts["delivered"] += accepted
            progressed = progressed or len(again) < len(batch)
            if accepted:
                self._recovered()
            if again:
                self._hand = [*again, *(entry for rest in reversed(todo) for entry in rest)]
                self._send_again(reply, again, alone=len(again) < len(batch))
                todo = [self._hand]
        self._hand = []
        self._save(self._ends)
        self._ends = {}
        if progressed:
            self._backoff.succeeded()
        self._progressed()

    def _send(self, envelopes: list[bytes], timeout: float) -> Reply:
        if self._connection is None:
            with forks.still():
                self._connection = self.connect()
        return self._connection(envelopes, timeout)

    def _send_again(self, reply: Reply, again: list[Entry], *, alone: bool) -> None:
        """
        Stop here; or go on without those that the service stumbles over time and again.

        That is for those that are *alone* in it: where nothing is taken, that is an outage.
        """
        first: dict[str, int] = {}
        for entry in self._hand:
            start = entry.end - len(entry.line) - 1
            first[entry.segment] = min(first.get(entry.segment, start), start)
        self._save({segment: min(end, first.get(segment, end)) for segment, end in self._ends.items()})
        if reply.reason:
            raise Blocked(reply.reason, reply.retry_after)
        was_held = any(segment.startswith(HELD) for segment in self._ends)
        self._attempts += 1
        if not was_held and (self._attempts < _PATIENCE or (not alone and len(again) > 1)):
            raise Blocked(f"{len(again)} items are to be sent again", reply.retry_after, quiet=alone)
        self._hold({entry.line for entry in again}, _FOR_SERVICE)
        self._held_backoffs[_FOR_SERVICE].failed(reply.retry_after)

    def _fresh(self, batch: list[Entry]) -> list[Entry]:
        oldest = _oldest()
        fresh = [entry for entry in batch if entry.time >= oldest]
        if len(fresh) < len(batch):
            self._count("expired", len(batch) - len(fresh), "older than 48 hours, which the service refuses; kept here")
        return fresh

    def _save(self, ends: dict[str, int]) -> None:
        for segment, end in ends.items():
            if end > self.cursor.at(segment):
                self.cursor.advance(segment, end)
        if not self.cursor.is_saved:
            self.cursor.save()

    # What is given up.

    def _set_aside(self, line: bytes, segment: str, refusal: Refusal, why: str) -> None:
        folder = self.home / "state" / "quarantine"
        record = {
            "exporter": self.label,
            "segment": segment,
            "status": refusal.status,
            "message": refusal.message,
            "line": line.decode("utf-8", "replace"),
        }
        with suppress(OSError):  # the line is in the journal too; what was accepted must not be sent again for this
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{self.label}_{time.strftime('%Y%m%d', time.gmtime())}.ndjson").open("ab") as file:
                file.write(msgspec.json.encode(record) + b"\n")
        self._count(why, 1, f"set aside in {folder}: {refusal.message}")

    def _count(self, why: str, number: int, message: str) -> None:
        if not self.counts[why]:
            self.say(f"telemetry was {why}: {message} (from here on only counted)")
        self.counts[why] += number
