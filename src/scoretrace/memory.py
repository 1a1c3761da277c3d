"""
Telemetry in memory instead of a home folder: for tests of what a script logs.

Nothing is written but what collectors collect, which goes to a temporary folder;
nothing is delivered, no switch is read; everything between the call and the line
is what it is in production.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoretrace import process
from scoretrace.blobs import MemoryBlobs
from scoretrace.capture.outlet import LineWriter
from scoretrace.collect import sink
from scoretrace.errors import SourceError
from scoretrace.formats import continuous_export
from scoretrace.overflow import Overflow, name_of
from scoretrace.settings import Settings
from scoretrace.telemetry import Telemetry

if TYPE_CHECKING:
    from scoretrace.item import Item
    from scoretrace.result import Result


class _Segment:
    """One that is never full and never over."""

    fd, size, until = -1, 0, float("inf")


class _Writer:
    """Keeps the lines of one telemetry folder. The fast lane, which would write to a file, finds no room in it."""

    segment = _Segment()
    limit = -1

    def __init__(self, lines: list[tuple[str, bytes]], folder: str) -> None:
        self._lines = lines
        self._folder = folder

    def append(self, line: bytes, now: float) -> None:  # noqa: ARG002 - the journal's
        self._lines.append((self._folder, line))

    def refused(self, line: bytes, error: OSError | None = None) -> None:
        """Never: memory takes everything."""


class MemoryJournal:
    """The journal's twin: *lines* of whichever telemetry folder, in the order in which they were written."""

    def __init__(self, lines: list[tuple[str, bytes]]) -> None:
        self.name = ""
        self.lines = lines
        self.lost: Counter[str] = Counter()
        self.buffered = self.set_aside = 0

    def writer(self, folder: str) -> LineWriter:
        """The writer of a telemetry folder."""
        return _Writer(self.lines, folder)

    def flush(self) -> bool:
        """Nothing waits."""
        return True

    def close(self) -> None:
        """Nothing is open."""

    def recover(self) -> int:
        """Nothing is torn."""
        return 0

    def sweep(self, now: float) -> None:
        """Nothing is removed."""


class Recorder:
    """What a script logged while it was under test."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, bytes]] = []
        self._blobs = MemoryBlobs()
        self._folder = Path(tempfile.mkdtemp(prefix="scoretrace-"))  # of what collectors write, as long as it records

    @property
    def items(self) -> list[Item]:
        """All items, in the order in which they were logged."""
        return [item for _, line in self._lines for item in continuous_export.decode(line)]

    def of(self, kind: str) -> list[Item]:
        """The items of one kind: trace, request, dependency, exception, event, metric."""
        return [item for item in self.items if item.kind == kind]

    def query(self, text: str, **parameters: Any) -> Result:
        """
        What the Kusto query *text* answers of them; see `scoretrace.query`. Needs ``scoretrace[query]``.

        The engine reads files: they are in a temporary folder as long as it runs.
        """
        from scoretrace import engine

        with tempfile.TemporaryDirectory(prefix="scoretrace-") as folder:
            root = Path(folder, "telemetry", "test_0")
            for name, line in self._lines:
                place = root / name / "2000-01-01" / "00"
                place.mkdir(parents=True, exist_ok=True)
                with (place / "memory.blob").open("ab") as file:
                    file.write(line)
            root.mkdir(parents=True, exist_ok=True)
            if (self._folder / "modeldata").is_dir():
                Path(folder, "modeldata").symlink_to(self._folder / "modeldata")
            return engine.query(text, source=folder, **parameters)

    def payload(self, item: Item) -> bytes:
        """The original of an *item* that was too large for Application Insights."""
        with self._blobs.open(name_of(item.custom_dimensions["payload_uri"])) as file:
            return file.read()

    def collected(self, designation: str = "inputs") -> list[dict[str, Any]]:
        """
        The rows that `ModelDataCollector` or `Collector` collected as *designation*; needs ``scoretrace[query]``.

        They are read from files in a temporary folder, by `read_model_data`.
        """
        from scoretrace import model_data

        try:
            rows = model_data.read_model_data(self._folder, designation=designation)
        except SourceError:
            return []
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]

    def clear(self) -> None:
        """Forget what was logged and collected so far."""
        self._lines.clear()
        sink.forget(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def telemetry(self, settings: Settings) -> Telemetry:
        """A telemetry of *settings* that writes here."""
        overflow = Overflow(self._blobs, f"modeldata/{settings.model_folder}")
        made = Telemetry(settings, journal=MemoryJournal(self._lines), overflow=overflow)
        made.collects_in = self._folder
        return made

    def close(self) -> None:
        """Remove what collectors wrote."""
        sink.forget(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def record() -> Iterator[Recorder]:
    """
    Have everything that is logged in the block go to a `Recorder`.

    A script that calls `scoretrace.configure()` itself, or has a
    `TelemetryHandler`, is recorded with the settings that it asks for.
    """
    recorder = Recorder()
    before = process.current()
    with process.made_by(recorder.telemetry):
        if before is None:
            process.configure()
        else:  # by the script's own settings, where it was imported before the test
            process.take_over(before)
        try:
            yield recorder
        finally:
            recorder.close()
