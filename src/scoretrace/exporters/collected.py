"""
Copy collected data to storage: what many hosts append to the same blobs.

A file of the home goes into the append blob of the same name, block by block.
Others append there too, so how far the blob is says nothing about how far we
are: before each block it is noted where it is meant to go, and an append whose
answer was lost is looked up there before anything else is sent. Each row carries a
correlation id or an event id, so what is found is ours or it is not.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from scoretrace import retention, shared_file
from scoretrace.blobs import AzureBlobs, FolderBlobs
from scoretrace.connections import said
from scoretrace.exporters.drain import Blocked, Drain
from scoretrace.exporters.segments import Segment
from scoretrace.overflow import Overflow
from scoretrace.shared_file import first_end, last_end, numbered

NAME = "model_data"
SCOPE = "modeldata"  # of the cursor: it is there for no telemetry
# Scalability targets of Blob Storage: an append blob has 50,000 blocks, of 100 MiB since version 2022-11-02 of its API.
BLOCKS, LARGEST_BLOCK = 50_000, 100 * 1024**2
BLOCK_BYTES = 4 * 1024**2  # usually: what a slow line sends in a moment
_SWEEP_SECONDS = 3_600.0  # between looks at what may be removed from the home
_A_ROW = 512  # bytes that have the first of its ids, most likely
_TRIES = 50  # for one block, while others append to the same blob
_LONGEST_PAUSE = 0.05
_DAY = 86_400
_NUMBER = re.compile(r"(.+)_(\d+)")


class _Sending(msgspec.Struct):
    """The bytes of a file from *start* to *end* are being appended to *blob* at *at*, behind *header* bytes of it."""

    name: str = ""
    start: int = 0
    end: int = 0
    blob: str = ""
    at: int = 0
    header: int = 0


class _Target(msgspec.Struct):
    """The blob that a file goes to, its size, and how many blocks it has."""

    blob: str
    size: int
    blocks: int


class CollectedDrain(Drain):
    """
    Drains what collectors wrote in *home* to what *connect* returns.

    What is there for longer than *keep_seconds* is removed from the home.
    *blocks* is how many a blob takes.
    """

    subject = "collected data"

    def __init__(
        self,
        home: Path,
        *,
        connect: Callable[[], AzureBlobs],
        keep_seconds: float = float("inf"),
        gentle: bool = False,
        blocks: int = BLOCKS,
    ) -> None:
        self.connect = connect
        self.keep_seconds = keep_seconds
        self.blocks = blocks
        super().__init__(home, NAME, label="storage", scope=SCOPE, gentle=gentle)

    def _begin(self) -> None:
        super()._begin()
        self._storage: AzureBlobs | None = None
        self._payloads: Overflow | None = None
        self._targets: dict[str, _Target] = {}
        self._full: set[str] = set()  # blobs that take no more
        self._sending = _Sending()
        self._sweep_at = float("-inf")

    def _lead(self) -> None:
        self._targets.clear()
        self._full.clear()
        self._sending = _Sending()
        with suppress(OSError, msgspec.MsgspecError), FolderBlobs(self.home).open(self._note) as file:
            self._sending = msgspec.json.decode(file.read(), type=_Sending)

    @property
    def _note(self) -> str:
        return f"state/sending/{self.name}.json"

    @property
    def _blobs(self) -> AzureBlobs:
        if self._storage is None:
            self._storage = self.connect()
            self._payloads = Overflow(FolderBlobs(self.home), "", self._storage)
        return self._storage

    def _find(self, *, recent: bool) -> list[Segment]:
        """The files; those of today and yesterday, where a look at all of them was just taken."""
        now = time.time()
        days = {tuple(time.strftime("%Y %m %d", time.gmtime(now - back)).split()) for back in (0, _DAY)}
        found = []
        for name in shared_file.names(self.home, days if recent else None):
            path = self.home / name
            with suppress(FileNotFoundError):
                found.append(Segment(shared_file.key(self.home, name), path, path.stat().st_size))
        return found

    def _pass(self) -> bool:
        found = self._unread()
        if time.monotonic() > self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS
            retention.sweep_collected(self.home, now=time.time(), keep_seconds=self.keep_seconds)
        for segment in found:
            try:
                file = segment.path.open("rb")
            except OSError as error:
                self._cannot_read(segment, error)
                continue
            try:
                with file:
                    self._settle()
                    self._send(segment, file)
            except Blocked:
                raise
            except Exception as error:  # azure-core, requests and credentials raise what they like
                raise Blocked(said(error)) from error
            if time.monotonic() >= self.deadline:
                break
        return bool(found)

    def _settle(self) -> None:
        """
        Find out what became of an append whose answer never came.

        Where nothing is there yet it may still be on its way, so the same bytes
        are sent again to the same place: only one of the two can be appended.
        """
        sending = self._sending
        if not sending.name or self._read_to(sending.name) >= sending.end:
            self._sending = _Sending()
            return
        data = self._bytes_of(sending)
        if data is None:
            self._sending = _Sending()
            return
        for _ in range(_TRIES):
            # In this order: what arrives between the two looks must not be taken for somebody else's.
            found = self._blobs.look(sending.blob)
            if sending.at == (0 if found is None else found.size):
                try:
                    appended = self._blobs.extend(sending.blob, data, sending.at)
                except FileExistsError:
                    break
                if not appended:
                    continue
            elif not self._has_arrived(sending, data):
                break  # others were quicker, and what is meant for that place can come to nothing
            self._settled(sending)
            break
        else:
            raise Blocked(f"it cannot be told what became of {sending.blob}", quiet=True)
        self._sending = _Sending()

    def _bytes_of(self, sending: _Sending) -> bytes | None:
        """What was sent; None where the file is not there any more."""
        try:
            with (self.home / name_of(sending.name)).open("rb") as file:
                data = file.read(sending.header)
                file.seek(sending.start)
                data += file.read(sending.end - sending.start)
        except FileNotFoundError:
            return None
        if shared_file.key(self.home, name_of(sending.name)) != sending.name:  # it is another file by now
            return None
        return data if len(data) == sending.header + sending.end - sending.start else None

    def _has_arrived(self, sending: _Sending, data: bytes) -> bool:
        # Mostly it is not there, and then the first of its ids is not.
        head = data[: sending.header + _A_ROW]
        if self._blobs.read(sending.blob, sending.at, len(head)) != head:
            return False
        return self._blobs.read(sending.blob, sending.at, len(data)) == data

    def _settled(self, sending: _Sending) -> None:
        self.cursor.advance(sending.name, sending.end)
        self._read[sending.name] = sending.end
        self.cursor.save()
        self.counts["bytes"] += sending.end - sending.start
        self._recovered()

    def _send(self, segment: Segment, file: BinaryIO) -> None:
        name = name_of(segment.name)
        quoted = name.endswith(".csv")
        end = shared_file.whole(self.home, name, quoted=quoted)
        if shared_file.key(self.home, name) != segment.name:
            return  # it was begun anew since it was found
        header = shared_file.read_header(file) if quoted else b""
        at = max(self._read_to(segment.name), len(header))
        while at < end and time.monotonic() < self.deadline:
            data = _block(file, at, end, quoted=quoted)
            if not data:  # somebody shortened it
                return
            if len(data) > LARGEST_BLOCK - len(header):
                self._skip(segment, at, len(data))
            else:
                self._deliver(segment.name, header, data, at)
            at += len(data)
            if self.gentle and self.deadline == float("inf"):
                self._yield_interpreter()
        if at >= end:
            self._torn[segment.name] = (end, segment.size)
            if self._read_to(segment.name) < end:  # the header alone, which is nothing to send
                self.cursor.advance(segment.name, end)
                self._read[segment.name] = end
                self.cursor.save()

    def _deliver(self, name: str, header: bytes, data: bytes, at: int) -> None:
        """Append *data*, which is in the file *name* from *at* on, to a blob that begins with *header*."""
        blobs = self._blobs
        if not self.cursor.is_saved:  # the disk was full; what it says must not be forgotten with the next note
            self.cursor.save()
        if self._payloads is not None:
            reason = self._payloads.store(self._payloads.named_in(data))
            if reason:
                raise Blocked(reason)
        for number in range(_TRIES):
            target = self._targets.get(name) or self._choose(name, header)
            own_header = header if target.size == 0 else b""
            sending = _Sending(name, at, at + len(data), target.blob, target.size, len(own_header))
            FolderBlobs(self.home).put(self._note, msgspec.json.encode(sending))
            self._sending, block = sending, own_header + data
            try:
                appended = blobs.extend(target.blob, block, target.size)
            except FileExistsError:  # it is full, or became something else
                self._targets.pop(name, None)
                self._full.add(target.blob)
                continue
            # Where it is not: others were quicker, or this is what a request of ours did that was given up.
            if appended or self._has_arrived(sending, block):
                self._settled(sending)
                grown = _Target(target.blob, target.size + len(block), target.blocks + 1)
                self._targets[name] = grown
                if grown.blocks >= self.blocks:
                    del self._targets[name]
                return
            self._targets.pop(name, None)
            time.sleep(random.uniform(0, _LONGEST_PAUSE) * min(number / 10, 1))  # noqa: S311 - to get out of step
        raise Blocked(f"many others append to {name}", quiet=True)

    def _choose(self, name: str, header: bytes) -> _Target:
        """The first blob of the series of *name* that is not there yet, or begins with *header* and takes more."""
        blobs = self._blobs
        own = name_of(name)
        folder, _, file = own.rpartition("/")
        stem, dot, ending = file.rpartition(".")
        match = _NUMBER.fullmatch(stem)
        base, number = stem, 0
        if match is not None and (self.home / folder / f"{match[1]}{dot}{ending}").exists():
            base, number = match[1], int(match[2])
        for step in range(shared_file.MOST_FILES):
            blob = own if step == 0 else numbered(folder, base, f"{dot}{ending}", number + step)
            if blob in self._full:
                continue
            found = blobs.look(blob)
            if found is None:
                target = _Target(blob, 0, 0)
            elif not found.is_append or found.blocks >= self.blocks:
                self._full.add(blob)
                continue
            elif found.size == 0 or blobs.read(blob, 0, len(header)) == header:
                target = _Target(blob, found.size, found.blocks)
            else:
                continue
            self._targets[name] = target
            return target
        self._full.clear()
        raise Blocked(f"there are too many blobs with other columns beside {own}")

    def _skip(self, segment: Segment, at: int, size: int) -> None:
        """Leave a row alone that no block takes; it stays here."""
        self.counts["skipped"] += 1
        self.say(f"{segment.path}: a row of {size:,} bytes is larger than storage takes, and is not delivered")
        self.cursor.advance(segment.name, at + size)
        self._read[segment.name] = at + size
        self.cursor.save()


def _block(file: BinaryIO, at: int, end: int, *, quoted: bool) -> bytes:
    """Whole records from *at* on: as many as a block usually has, or a larger one by itself."""
    size = BLOCK_BYTES
    while True:
        file.seek(at)
        data = file.read(min(size, end - at))
        whole = last_end(data)[0] if quoted else data.rfind(b"\n") + 1
        if whole > LARGEST_BLOCK // 2:
            return data[: first_end(data) if quoted else data.find(b"\n") + 1]
        if whole or at + len(data) >= end or len(data) < size:
            return data[:whole] if whole else data
        size *= 2


def name_of(key: str) -> str:
    """
    The name of the file that a cursor calls *key*.

    >>> name_of("modeldata/a/data.csv@9f86d081884c7d65")
    'modeldata/a/data.csv'
    """
    return key.partition("@")[0]
