"""
How far an exporter has come: for each segment the bytes that were acknowledged.

A cursor file belongs to one exporter and says what is delivered; whatever it
does not say is not. It is replaced whole, so that a crash leaves the old one or
the new one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from scoretrace.blobs import FolderBlobs


class Cursor:
    """
    The offsets of the exporter *name* in *home*, by segment (its path below ``telemetry``).

    A file that cannot be read counts as one that says nothing: items are then
    delivered again rather than not at all.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._blobs = FolderBlobs(home)
        self._name = f"state/cursors/{name}.json"
        self.offsets: dict[str, int] = {}
        try:
            with self._blobs.open(self._name) as file:
                self.offsets = msgspec.json.decode(file.read(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            pass

    def advance(self, segment: str, offset: int) -> None:
        """The bytes of *segment* before *offset* are delivered. Kept in memory until `save`."""
        self.offsets[segment] = offset

    def save(self) -> None:
        """Write the offsets, without those of segments that are gone. Raises OSError."""
        telemetry = self._blobs.root / "telemetry"
        self.offsets = {name: offset for name, offset in self.offsets.items() if (telemetry / name).exists()}
        self._blobs.put(self._name, msgspec.json.encode(self.offsets))


def cursors(home: Path) -> list[Cursor]:
    """The cursors of all exporters that ever drained *home*."""
    try:
        names = sorted(path.name for path in (home / "state" / "cursors").iterdir())
    except OSError:
        return []
    return [Cursor(home, name.removesuffix(".json")) for name in names if not name.startswith(".")]
