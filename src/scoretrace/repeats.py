"""
Which rows were read before: exports are written at least once, and copies of them overlap.

Neither way of knowing takes more than some tens of megabytes, however much is
read: what is counted is written down and compared at the end, what is dropped
is looked up, in SQLite where there is too much of it. A key is remembered by 64
bits of its hash.
"""

from __future__ import annotations

import sqlite3
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from typing import IO

_IN_MEMORY = 1_000_000  # keys


class Counted:
    """Counts how many keys came again, without looking while they come."""

    def __init__(self) -> None:
        self._keys = array("q")
        self._file: IO[bytes] | None = None
        self._spilled = 0

    def add(self, keys: Sequence[str | bytes]) -> None:
        """Take the keys of some rows."""
        self._keys.extend(map(hash, keys))
        if len(self._keys) >= _IN_MEMORY:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object
                weakref.finalize(self, self._file.close)
            self._file.write(self._keys.tobytes())
            self._spilled += len(self._keys)
            self._keys = array("q")

    @property
    def repeated(self) -> int:
        """How many so far had come before."""
        total = self._spilled + len(self._keys)
        parts = total // _IN_MEMORY + 1  # one part of all keys at a time
        return total - sum(self._different(part, parts) for part in range(parts))

    def _different(self, part: int, parts: int) -> int:
        found = {key for key in self._keys if key % parts == part}
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(8 * _IN_MEMORY):
                found.update(key for key in array("q", data) if key % parts == part)
        return len(found)


class Dropped:
    """Says of each key whether it came before."""

    def __init__(self) -> None:
        self.repeated = 0
        self._recent: set[int] = set()
        self._older: sqlite3.Connection | None = None

    def is_new(self, key: str | bytes) -> bool:
        """Whether a row with *key* is the first; it is remembered."""
        short = hash(key)
        if short in self._recent or (self._older is not None and self._is_older(short)):
            self.repeated += 1
            return False
        self._recent.add(short)
        if len(self._recent) >= _IN_MEMORY:
            self._put_away()
        return True

    def _is_older(self, key: int) -> bool:
        assert self._older is not None  # noqa: S101 - asked for only then
        return self._older.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is not None

    def _put_away(self) -> None:
        if self._older is None:
            self._older = sqlite3.connect("", isolation_level=None)  # a file that goes with the connection
            weakref.finalize(self, self._older.close)
            self._older.execute("PRAGMA journal_mode = OFF")
            self._older.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY) WITHOUT ROWID")
        self._older.execute("BEGIN")
        self._older.executemany("INSERT INTO seen VALUES (?)", ((key,) for key in sorted(self._recent)))
        self._older.execute("COMMIT")
        self._recent.clear()
