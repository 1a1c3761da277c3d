"""
Where the collectors of a process put what they collect: files in the home, and from there in storage.

A row is in its file when `collect` returns. While the disk refuses, rows wait in
memory, up to the setting `buffer_bytes`. Where storage is configured, one
process of the home delivers, as with telemetry; it may be down for as long as it
likes.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from scoretrace import forks, notes, process
from scoretrace.collect import tally
from scoretrace.errors import CollectionError, MissingExtraError
from scoretrace.settings import Settings, resolve
from scoretrace.shared_file import LOCK_SECONDS, SharedFile, TooManyFiles, open_one
from scoretrace.switches import Watch, remember

if TYPE_CHECKING:
    from scoretrace.exporters.worker import Worker

_MOST_OPEN, _MOST_NAMES = 64, 4_096  # files
_SHORT_WAIT = 0.02  # seconds for a file that somebody kept for long
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.01, 1.0
_DAY = 86_400

_log = logging.getLogger("scoretrace")


class Series(NamedTuple):
    """Files of one day (or hour), the first of them that begins with *header*: ``<folder>/<stem>[_<n>]<suffix>``."""

    folder: str
    stem: str
    suffix: str
    header: bytes = b""
    quoted: bool = False


class _Outage:
    """A series that the disk, or another process, keeps from being written, and its *rows* as far as they fit."""

    def __init__(self) -> None:
        self.rows: deque[tuple[bytes, int, bool]] = deque()
        self.retry_at, self.seconds = 0.0, _RETRY_SECONDS

    def failed(self) -> None:
        """Wait before the next attempt, longer each time."""
        self.retry_at = time.monotonic() + self.seconds
        self.seconds = min(self.seconds * 2, _LONGEST_RETRY_SECONDS)


class Sink:
    """
    Writes into the home of *settings*, and has it delivered.

    Counts what was `lost`, by reason, in rows.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lost: Counter[str] = Counter()
        self._files: OrderedDict[Series, SharedFile] = OrderedDict()
        self._names: OrderedDict[Series, str] = OrderedDict()  # of files that were open before
        self._watches: dict[str, Watch] = {}
        self._note = f"collected-{os.urandom(8).hex()}"
        self._begin()
        self._worker = self._start_worker()
        if self._worker is not None:
            self._worker.start()  # also what earlier processes left
        forks.tell(self)
        atexit.register(self.close)

    def _begin(self) -> None:
        self._lock = RLock()  # reentrant: a signal handler may collect while its own thread does
        self._busy = False
        self._aside: deque[tuple[Series, bytes, int, bool]] = deque()  # a signal handler only ever adds to it
        self._outages: dict[Series, _Outage] = {}
        self._buffered = self._buffered_rows = 0
        self._warned = False

    def after_fork(self) -> None:
        """Open files of the child's own; what waits in memory is the parent's to write."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self.lost.clear()
        self._note = f"collected-{os.urandom(8).hex()}"
        self._begin()

    def _start_worker(self) -> Worker | None:
        settings = self.settings
        if settings.disabled or not settings.exporter or not (settings.model_data_storage or settings.storage):
            return None
        from scoretrace.exporters import routes
        from scoretrace.exporters.worker import Worker

        try:
            return Worker(routes.collected(settings, gentle=True), first=self.write_out)
        except MissingExtraError as error:
            # Storage may be in the environment for somebody else; a script must still run.
            _log.warning("collected data stays in %s: %s", settings.home, error)
            return None

    def is_on(self, service: str) -> bool:
        """Whether anything is collected now for *service*: its switch in the home says so, or else the settings."""
        if self.settings.disabled:
            return False
        watch = self._watches.get(service)
        if watch is None:
            watch = self._watches[service] = Watch(
                self.settings.home, service, "collect_model_data", configured=self.settings.collect_model_data
            )
            if self.settings.collect_model_data:
                remember(self.settings.home, service)
        return watch.is_on()

    def append(self, series: Series, data: bytes, rows: int) -> None:
        """
        Append *data*, which is *rows* whole records.

        Raises:
            CollectionError: the day has too many files of other columns.
        """
        many_lines = series.quoted and data.count(b"\n") != rows
        mine = (series, data, rows, many_lines)
        refused = None
        with self._lock:
            self._aside.append(mine)
            while self._aside and not self._busy:  # else this is a signal handler, and whoever is writing writes it
                refused = self._take(mine) or refused
        if refused is not None:
            raise CollectionError("columns", str(refused)) from refused
        if self._worker is not None:
            self._worker.wake()

    def write_out(self) -> bool:
        """Write what waits in memory; says whether nothing waits any more."""
        with self._lock:
            if not self._busy:
                self._busy = True
                try:
                    for series in [series for series, outage in self._outages.items() if outage.rows]:
                        self._retry(series)
                finally:
                    self._busy = False
                self._take(None)
            return not self._buffered_rows and not self._aside

    def flush(self, timeout: float | None) -> bool:
        """Write what waits in memory and deliver what is on disk; see `ModelDataCollector.flush`."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.write_out():
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return self._worker is None or self._worker.flush(end - time.monotonic())

    def stats(self) -> dict[str, Any]:
        """What `ModelDataCollector.stats` says of all collectors together."""
        found: dict[str, Any] = {} if self._worker is None else self._worker.stats()
        drains = [] if self._worker is None else self._worker.drains
        with self._lock:
            return {
                "buffered": self._buffered_rows,
                "lost": dict(self.lost),
                "delivered_bytes": found.get("copied", 0),
                "waiting_bytes": found.get("waiting", 0),
                "not_delivered": sum(drain.counts["skipped"] for drain in drains),
            }

    def close(self) -> None:
        """Write what waits, and count what could not be written as lost. The files open again when they are needed."""
        self.write_out()
        with self._lock:
            if self._buffered_rows:
                rows = self._buffered_rows
                self.lost["disk"] += rows
                self._say(f"{rows} collected rows were lost: {self.settings.home} cannot be written")
                self._outages.clear()
                self._buffered = self._buffered_rows = 0
            while self._files:
                self._files.popitem()[1].close()
        refused = tally.refusals()
        if self.lost or refused:  # for `scoretrace doctor`
            note = notes.Note(os.getpid(), self.settings.service, has_ended=True)
            note.lost = {f"collected, {reason}": rows for reason, rows in self.lost.items()}
            note.counts = {f"refused {reason}": calls for reason, calls in refused.items()}
            with suppress(OSError, ValueError):
                notes.put(self.settings.home, self._note, note)

    def end(self) -> None:
        """Close it for good, without waiting for what is to be delivered."""
        if self._worker is not None:
            self._worker.stop(0.0)
        self.close()
        atexit.unregister(self.close)

    # What follows holds the lock.

    def _take(self, mine: tuple[Series, bytes, int, bool] | None) -> TooManyFiles | None:
        """Write what was put aside, in its order; returns why *mine* cannot be written at all."""
        refused = None
        self._busy = True
        try:
            while self._aside:
                row = self._aside.popleft()
                try:
                    self._append(*row)
                except TooManyFiles as error:
                    if row is mine:
                        refused = error
                    else:  # a signal handler's, who is not there any more
                        self.lost["columns"] += row[2]
        finally:
            self._busy = False
        return refused

    def _append(self, series: Series, data: bytes, rows: int, many_lines: bool) -> None:
        now = time.monotonic()
        for other in [one for one, outage in self._outages.items() if outage.rows and now >= outage.retry_at]:
            self._retry(other)
        outage = self._outages.get(series)
        if outage is not None and (outage.rows or now < outage.retry_at):
            self._keep(outage, data, rows, many_lines)
        elif self._put(series, data, many_lines, LOCK_SECONDS if outage is None else _SHORT_WAIT):
            self._outages.pop(series, None)
        else:
            outage = self._outages.setdefault(series, _Outage())
            outage.failed()
            self._keep(outage, data, rows, many_lines)

    def _put(self, series: Series, data: bytes, many_lines: bool, wait: float) -> bool:
        try:
            try:
                self._file(series, wait).append(data, many_lines=many_lines, wait=wait)
            except FileNotFoundError:  # somebody removed it, or its folder: there is another one now
                self._forget(series)
                self._file(series, wait).append(data, many_lines=many_lines, wait=wait)
        except TooManyFiles:
            raise
        except OSError as error:
            self._forget(series)
            if not self._warned:
                self._warned = True
                kept = f"keeping up to {self.settings.buffer_bytes // 1024} KB in memory"
                self._say(f"cannot write collected data to {self.settings.home} ({error}): {kept}")
            return False
        return True

    def _file(self, series: Series, wait: float) -> SharedFile:
        found = self._files.get(series)
        if found is None:
            folder, stem, suffix, header, quoted = series
            likely = self._names.get(series, "")
            found = open_one(self.settings.home, folder, stem, suffix, header, quoted=quoted, likely=likely, wait=wait)
            self._files[series], self._names[series] = found, found.name
            if len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            if len(self._names) > _MOST_NAMES:
                self._names.popitem(last=False)
        return found

    def _forget(self, series: Series) -> None:
        file = self._files.pop(series, None)
        if file is not None:
            file.close()

    def _retry(self, series: Series) -> None:
        """Write what waits of *series*, without waiting for whoever has its file."""
        outage = self._outages[series]
        while outage.rows:
            data, rows, many_lines = outage.rows[0]
            try:
                written = self._put(series, data, many_lines, _SHORT_WAIT)
            except TooManyFiles:
                self.lost["columns"] += rows
                written = True
            if not written:
                outage.failed()
                return
            outage.rows.popleft()
            self._buffered -= len(data)
            self._buffered_rows -= rows
        del self._outages[series]
        if self._warned and not self._buffered_rows:
            self._warned = False
            self._say(f"{self.settings.home} can be written again")

    def _keep(self, outage: _Outage, data: bytes, rows: int, many_lines: bool) -> None:
        if self._buffered + len(data) > self.settings.buffer_bytes:
            self.lost["disk"] += rows
            return
        outage.rows.append((data, rows, many_lines))
        self._buffered += len(data)
        self._buffered_rows += rows

    def _say(self, message: str) -> None:
        with suppress(Exception):
            _log.warning("%s", message)


_sinks: dict[Settings, Sink] = {}
_making = RLock()


def sink() -> Sink:
    """
    The one of this process, by the settings of the telemetry that is configured, or else of the environment.

    Raises:
        SettingsError: a setting in the environment cannot work.
    """
    current = process.current()
    settings = resolve() if current is None else current.settings
    if current is not None and current.collects_in is not None:
        nowhere = {"storage": "", "model_data_storage": "", "exporter": ()}
        settings = msgspec.structs.replace(settings, home=current.collects_in, **nowhere)
    with _making:
        found = _sinks.get(settings)
        if found is None:
            found = _sinks[settings] = Sink(settings)
    return found


def forget(home: Path) -> None:
    """End the sinks that write into *home*, which is about to be removed."""
    for settings in [settings for settings in _sinks if settings.home == home]:
        _sinks.pop(settings).end()


def day(now: float) -> str:
    """
    The folder of the UTC day of *now*, in seconds since 1970.

    >>> day(0.0)
    '1970/01/01'
    """
    return _day(int(now // _DAY))


def _day(number: int) -> str:
    found = _days.get(number)
    if found is None:
        _days.clear()
        found = _days[number] = time.strftime("%Y/%m/%d", time.gmtime(number * _DAY))
    return found


_days: dict[int, str] = {}
