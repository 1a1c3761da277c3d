"""
Copy the journal to a container as it stands: it is a continuous export already.

Each segment becomes an append blob of the same name, and grows as the segment
does. A segment is written by one process and a blob by one drain, so the size
of the blob says how far it is; an append whose answer was lost is not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from scoretrace.blobs import AzureBlobs
from scoretrace.connections import said
from scoretrace.exporters.drain import Blocked, Drain
from scoretrace.exporters.items import Payloads
from scoretrace.exporters.segments import Segment

# An append block may have 4 MiB and a blob 50,000 of them (scalability targets of Blob Storage); an hour's segment
# grows once a second at the most.
BLOCK_BYTES = 4 * 1024**2


class BlobDrain(Drain):
    """Drains whole lines to the container ``telemetry`` of what *connect* returns, *payloads* first."""

    def __init__(
        self,
        home: Path,
        name: str,
        *,
        connect: Callable[[], AzureBlobs],
        payloads: Payloads,
        gentle: bool = False,
    ) -> None:
        super().__init__(home, name, gentle=gentle)
        self.connect = connect
        self.payloads = payloads

    def _begin(self) -> None:
        super()._begin()
        self._blobs: AzureBlobs | None = None

    def _pass(self) -> bool:
        found = self._unread()
        for segment in found:
            try:
                self._copy(segment)
            except Blocked:
                raise
            except OSError as error:
                self._cannot_read(segment, error)
            except Exception as error:  # azure-core, requests and credentials raise what they like
                raise Blocked(said(error)) from error
            if time.monotonic() >= self.deadline:
                break
        return bool(found)

    def _copy(self, segment: Segment) -> None:
        if self._blobs is None:
            self._blobs = self.connect()
        at, corrected = self._read_to(segment.name), False
        with segment.path.open("rb") as file:
            while time.monotonic() < self.deadline:
                file.seek(at)
                data = file.read(BLOCK_BYTES)
                whole = data[: data.rfind(b"\n") + 1]
                data = data if len(data) == BLOCK_BYTES and not whole else whole
                if not data:
                    self._torn[segment.name] = (at, segment.size)
                    break
                reason = self.payloads.store(self.payloads.named_in(data))
                if reason:
                    raise Blocked(reason)
                try:
                    size = self._blobs.append(f"telemetry/{segment.name}", data, at)
                except FileExistsError as error:
                    self._skip(segment, str(error))
                    return
                if size > segment.path.stat().st_size:
                    self._skip(segment, "the container has a larger blob of that name")
                    return
                if size <= at:  # it did not take it: once that may mean that it is not as far as we thought
                    if corrected or size == at:
                        raise Blocked(f"storage does not take telemetry/{segment.name}")
                    corrected = True
                else:
                    self.counts["bytes"] += size - at
                at = size
                self.cursor.advance(segment.name, at)
                self._read[segment.name] = at
                self.cursor.save()
                self._recovered()

    def _skip(self, segment: Segment, why: str) -> None:
        """Leave a blob alone that is somebody else's; its segment stays here."""
        self.counts["skipped"] += 1
        self.say(f"telemetry/{segment.name} is not copied: {why}")
        self.cursor.advance(segment.name, segment.path.stat().st_size)
        self._read[segment.name] = segment.size
        self.cursor.save()
