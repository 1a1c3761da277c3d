"""
Lines that cannot be read, set aside: which blob, which line, why, and the line itself.

Each blob has a file of its own, which is written anew whenever that blob is
read from its beginning: reading an archive twice sets aside what one reading does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

_TEXT_BYTES = 64 * 1024
_REASON_CHARACTERS = 300

_encode = msgspec.json.Encoder().encode


class Quarantine:
    """Sets lines of blobs aside in *folder*, which is made for the first, and counts them; without one, only counts."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.files: dict[str, Path] = {}
        self.failed = ""
        self._start = 0
        self._open: tuple[str, IO[bytes]] | None = None

    def begin(self, start: int) -> None:
        """The next blob is read from the offset *start* on: what was set aside before that stays."""
        self._start = start

    def put(self, blob: str, line: int | None, offset: int, reason: str, data: bytes, size: int = 0) -> None:
        """Set the line of *blob* at *offset* aside; *size* is how long it is where *data* is only its beginning."""
        self.counts[blob] += 1
        self.reasons[reason.partition(":")[0]] += 1
        if self.folder is None:
            return
        row = {
            "blob": blob,
            "line": line,
            "offset": offset,
            "reason": reason[:_REASON_CHARACTERS],
            "bytes": size or len(data),
            "text": data[:_TEXT_BYTES].decode("utf-8", "backslashreplace"),
        }
        try:
            self._file(blob, self.folder).write(_encode(row) + b"\n")
        except OSError as error:  # reading goes on: what is set aside is still counted
            self.failed = f"what cannot be read could not be set aside in {self.folder}: {error}"

    def done(self) -> None:
        """The blob has been read: its file is whole."""
        if self._open is None:
            return
        blob, file = self._open
        self._open = None
        try:
            file.close()
            path = Path(file.name).with_suffix(".ndjson")
            Path(file.name).replace(path)
            self.files[blob] = path
        except OSError as error:
            self.failed = f"what cannot be read could not be set aside in {self.folder}: {error}"
            with suppress(OSError):
                Path(file.name).unlink()

    def _file(self, blob: str, folder: Path) -> IO[bytes]:
        if self._open is None or self._open[0] != blob:
            self.done()
            folder.mkdir(parents=True, exist_ok=True)
            beside = folder / f"{_name(blob)}.part"
            file = beside.open("wb")
            if self._start:
                with suppress(FileNotFoundError):
                    file.write(beside.with_suffix(".ndjson").read_bytes())
            self._open = (blob, file)
        return self._open[1]


def _name(blob: str) -> str:
    return f"read-{hashlib.sha256(blob.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
