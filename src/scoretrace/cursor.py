"""
How far an exporter has come: for each segment the bytes that are settled.

A cursor file says what is delivered (or given up, and counted); whatever it
does not say is not. It is replaced whole, so that a crash leaves the old one or
the new one, and it is written twice, so that one that somebody damaged costs
nothing: at most the last batch is sent again.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import msgspec

from scoretrace.blobs import FolderBlobs

HELD = "state/held"  # below it, by exporter: rows whose payload is not yet where they say it is
_PLACES = ("state/cursors", "state/spare")


class _File(msgspec.Struct, omit_defaults=True):
    """*cold* holds the segments that nothing was read of for a while: most of them, so they are encoded seldom."""

    sequence: int = 0
    scope: str = ""
    cold: msgspec.Raw = msgspec.Raw(b"{}")
    hot: dict[str, int] = {}


class Cursor:
    """
    The offsets of the exporter *name* in *home*, by segment (its path below ``telemetry``).

    *scope* names the instrumentation keys, without dashes and with a comma
    between them, of the telemetry folders that the exporter is there for; it is
    empty where it is there for all. Of two
    copies that can be read the later counts; where there is none, the cursor
    says nothing: items are then delivered again rather than not at all.
    """

    def __init__(self, home: Path, name: str, scope: str = "") -> None:
        self._blobs = FolderBlobs(home)
        self._names = [f"{place}/{name}.json" for place in _PLACES]
        self._cold: dict[str, int] = {}
        self._hot: dict[str, int] = {}
        self._raw = msgspec.Raw(b"{}")
        self._sequence = 0
        self.is_saved = True
        self.scope = self._told = scope
        for found, cold in filter(None, map(self._read, self._names)):
            if found.sequence >= self._sequence:
                self._sequence, self._hot, self._raw, self._cold = found.sequence, found.hot, found.cold, cold
                self.scope = scope or found.scope
                # Somebody may be there for more: what only they deliver is not to be swept away meanwhile.
                self._told = ",".join(sorted({*scope.split(","), *found.scope.split(",")} - {""}))

    def _read(self, name: str) -> tuple[_File, dict[str, int]] | None:
        try:
            with self._blobs.open(name) as file:
                found = msgspec.json.decode(file.read(), type=_File)
            return found, msgspec.json.decode(found.cold, type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return None

    def covers(self, segment: str) -> bool:
        """Whether the exporter is there for *segment*."""
        return not self.scope or segment.partition("/")[0].rpartition("_")[2] in self.scope.split(",")

    def at(self, segment: str) -> int:
        """How many bytes of *segment* are settled."""
        return self._hot.get(segment) or self._cold.get(segment, 0)

    def advance(self, segment: str, offset: int) -> None:
        """The bytes of *segment* before *offset* are settled. Kept in memory until `save`."""
        self._hot[segment] = offset
        self.is_saved = False

    def settle(self, present: Container[str]) -> None:
        """Forget the segments of this exporter that are not *present* any more, and set all others apart."""
        known = {**self._cold, **self._hot}
        gone = {name for name in known if name not in present and (self.covers(name) or name.startswith(HELD))}
        if self._hot or gone:
            self._cold = {name: at for name, at in known.items() if name not in gone}
            self._hot = {}
            self._raw = msgspec.Raw(msgspec.json.encode(self._cold))

    def save(self) -> None:
        """Write the offsets. Raises OSError."""
        self._sequence += 1
        data = msgspec.json.encode(_File(self._sequence, self._told, self._raw, self._hot))
        for name in self._names:
            self._blobs.put(name, data)
        self.is_saved = True


def cursors(home: Path) -> list[Cursor]:
    """The cursors of all exporters that ever drained *home*."""
    names: set[str] = set()
    for place in _PLACES:
        with suppress(OSError):
            names |= {path.stem for path in (home / place).iterdir() if path.suffix == ".json"}
    return [Cursor(home, name) for name in sorted(names) if not name.startswith(".")]
