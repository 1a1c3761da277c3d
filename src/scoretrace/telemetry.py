"""
One line of the steps of writing, joined: capture, choosing, guard, journal, and what delivers.

A `Telemetry` is such a line for one home folder; `process` says which of them is
the current one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from scoretrace import forks, notes, switches, ticks
from scoretrace.capture import prints, records, uncaught
from scoretrace.capture.handler import RecordHandler
from scoretrace.capture.operation import current as current_operation
from scoretrace.capture.outlet import Lane, Outlet
from scoretrace.capture.thrown import exception_item
from scoretrace.capture.values import as_json, as_text, clean
from scoretrace.choosing import Chooser
from scoretrace.errors import MissingExtraError
from scoretrace.formats import continuous_export
from scoretrace.item import Ids, Item, Request, Trace
from scoretrace.journal import Journal
from scoretrace.limits import guard
from scoretrace.overflow import Overflow, overflow_of
from scoretrace.schema import BY_KIND
from scoretrace.setting_values import in_scoring_server
from scoretrace.settings import Settings
from scoretrace.switches import Watch

if TYPE_CHECKING:
    from scoretrace.exporters.worker import Worker
    from scoretrace.memory import MemoryJournal

_SAME = ("item_id", "cloud_role_name", "cloud_role_instance", "application_version")  # of all rows of a process
_PLAIN_PRINT = 4_096  # characters: within every limit, even where each is two UTF-16 units and six bytes
_TROUBLES = ("not_diverted", "processor_errors")

_log = logging.getLogger("scoretrace")


class Telemetry:
    """
    What `configure` returns: telemetry of one home folder, as long as it is not shut down.

    As a context manager it shuts down at the end.
    """

    def __init__(
        self, settings: Settings, *, journal: MemoryJournal | None = None, overflow: Overflow | None = None
    ) -> None:
        self.settings = settings
        self.overflow = overflow or overflow_of(settings)
        self._is_stuck = False  # there is somewhere to deliver to, and nothing to do it with
        self._worker = self._start_worker() if journal is None else None
        self.journal = journal or Journal(
            settings.home,
            settings.app_folder,
            segment_bytes=settings.segment_bytes,
            buffer_bytes=settings.buffer_bytes,
            keep_seconds=settings.keep_days * 86_400,
            keep_bytes=settings.keep_bytes,
            written=self._written,
        )
        self._choose = Chooser(settings.processors, dict(settings.sampling_percentage), self._count)
        self._switch: Watch | None = None
        if journal is None and not settings.disabled:
            self._switch = Watch(settings.home, settings.service, "enable_app_insights", hurry=self._forget_lane)
            switches.remember(settings.home, settings.service)
        self.is_plain = self._choose.leaves("trace")
        self._requests_are_plain = self._choose.leaves("request")
        self._ids = Ids()
        self._undo: list[Callable[[], None]] = []
        self._rests = False
        self.ended: Callable[[], None] = lambda: None  # called at the end of a shutdown
        self._is_instrumented = False
        self.collects_in: Path | None = None  # what collectors use in place of the home, where telemetry is in memory
        self._open = True
        self.configured = False
        self.handlers: weakref.WeakSet[RecordHandler] = weakref.WeakSet()
        self.tapped_by: RecordHandler | None = None
        self.after_fork()
        forks.tell(self)
        if not settings.disabled:
            self.journal.recover()
            self.journal.sweep(time.time())
            if self._worker is not None:
                self._worker.start()
        atexit.register(self._at_exit)

    def __repr__(self) -> str:
        exporters = ", ".join(self.settings.exporter) if self._worker is not None else "none"
        return f"<Telemetry {self.settings.service!r} in {str(self.settings.home)!r}, exporter {exporters}>"

    def _start_worker(self) -> Worker | None:
        """What delivers, where there is somewhere to deliver to; most of it is not imported elsewhere."""
        settings = self.settings
        if settings.disabled or not (settings.ingestion or "blob_export" in settings.exporter):
            return None
        if not settings.exporter:
            return None
        from scoretrace.exporters import routes
        from scoretrace.exporters.worker import Worker

        try:
            return Worker(routes.drains(settings, self.overflow, gentle=True), first=self._write_out)
        except MissingExtraError as error:
            if settings.exporter != ("azure_monitor",):
                raise
            # The default, perhaps only because the environment has a connection string: a script must still run.
            self._is_stuck = True
            _log.warning("telemetry stays on disk in %s: %s", settings.home, error)
            return None

    def after_fork(self) -> None:
        """Count from nothing: what happened before is in the parent's figures."""
        self._ids.after_fork()
        self._counts: Counter[str] = Counter()
        self._print_pieces: dict[str, continuous_export.PrintPieces] = {}  # they carry ids of this process
        self._request_pieces: continuous_export.RequestPieces | None = None
        self._noted: tuple[dict[str, int], dict[str, int], dict[str, int]] | None = None
        self._first = self._ids.next()
        self._skipped = 1

    def send(self, item: Item) -> None:
        """
        Put *item* on disk, with the context it has not got yet. Never raises.

        An item that is too large is replaced by its stand-in; where its
        original cannot be stored it stays whole, because nothing may be cut
        that is not kept.
        """
        if not self.is_on() and not self._was_on(item):
            return
        try:
            if type(item) is Request and self._requests_are_plain and self._request(item):
                return
            whole = self._in_context(item)
            wanted = self._choose(whole)
            if wanted is None:
                return
            try:
                self._write(wanted)
            except Exception as error:
                if not self.settings.processors:
                    raise
                # What a processor made of it cannot be written; the item goes on as it was.
                self._count("processor_errors", f"a processor made an item that cannot be written: {as_text(error)}")
                self._write(msgspec.structs.replace(whole, item_count=wanted.item_count))
        except Exception as error:  # noqa: BLE001 - the one place where everything behind capture ends
            self.failed(error)

    def _write(self, item: Item) -> None:
        try:
            guarded = guard(item, self._divert)
        except (OSError, ValueError) as error:
            guarded = item
            self._count("not_diverted", f"an item too large for Application Insights is kept as it is: {error}")
        self.journal.writer(BY_KIND[item.kind].folder).append(continuous_export.encode(guarded), time.time())

    def is_on(self) -> bool:
        """Whether anything is recorded now: the service's switch in the home folder says so. Never raises."""
        if self.settings.disabled or self._rests:
            return False
        return self._switch is None or self._switch.is_on()

    def _was_on(self, item: Item) -> bool:
        """Whether *item* is a request that began before the switch was turned off: what happened in it is recorded."""
        if self._switch is None or self.settings.disabled or self._rests or type(item) is not Request:
            return False
        return item.timestamp is not None and item.timestamp < self._switch.off_since

    def _forget_lane(self) -> None:
        """The fast lane asks once a second whether it is on; a new one asks at once."""
        for handler in list(self.handlers):
            handler.arm()

    def lane(self) -> Lane:
        """The parts of the fast lane: see `capture.handler`."""
        base = Trace(
            item_id=self._ids.prefix,
            cloud_role_name=self.settings.service,
            cloud_role_instance=self.settings.instance,
            application_version=self.settings.version,
        )
        return Lane(base, self._ids.next, self.journal.writer("Messages"))

    def failed(self, error: Exception) -> None:
        """Count an item that could not be made or written; say so the first time. Never raises."""
        self._count("error", f"a telemetry item was lost: {type(error).__name__}: {as_text(error)}")

    def printed(self, stream: str, text: str) -> None:
        """Record a print, in the shape that the classic scoring images gave it. Never raises."""
        try:
            if self.is_plain and len(text) <= _PLAIN_PRINT and self.is_on():
                self._print(stream, text)
                return
        except Exception:  # noqa: BLE001, S110 - a lone surrogate
            pass
        try:
            self.send(Trace(message=stream, severity_level=1, custom_dimensions={"Contents": clean(text)}))
        except Exception as error:  # noqa: BLE001 - print must not raise
            self.failed(error)

    def _request(self, item: Request) -> bool:
        """Write the line of a usual request without going through all steps; says whether it was one."""
        if self._request_pieces is None:
            base, _, _ = self.lane()
            shared = {name: getattr(base, name) for name in _SAME}
            self._request_pieces = continuous_export.cut_open_request(Request(**shared))
        line = continuous_export.request_line(self._request_pieces, item, self._ids.next) if item.operation_id else None
        if line is None:
            return False
        self.journal.writer("Requests").append(line, time.time())
        return True

    def _print(self, stream: str, text: str) -> None:
        """Write the line of a usual print, without an item: the same as `send` would write."""
        pieces = self._print_pieces.get(stream)
        if pieces is None:
            base, _, _ = self.lane()
            base = msgspec.structs.replace(base, message=stream, severity_level=1)
            pieces = self._print_pieces[stream] = continuous_export.cut_open_print(base, "Contents")
        operation = current_operation()
        value = continuous_export.json_text(text)
        now = ticks.now()
        self.journal.writer("Messages").append(
            b"".join(
                (
                    pieces.to_id,
                    b"%d" % self._ids.next(),
                    pieces.to_time,
                    ticks.to_iso(now)[:-1].encode(),
                    pieces.to_operation,
                    operation.json,
                    pieces.to_dimensions,
                    operation.shared_json,
                    pieces.to_value,
                    value,
                    pieces.to_end,
                )
            ),
            now / ticks.SECOND,
        )

    def log(self, obj: Any = None, /, **fields: Any) -> None:
        """One structured trace; see `scoretrace.log`."""
        try:
            message = as_text(obj) if isinstance(obj, str) else as_json(obj)
            if obj is None:
                message = ", ".join(fields)
            elif isinstance(obj, Mapping):
                with contextlib.suppress(Exception):  # somebody's own kind of mapping; its JSON says what it can
                    fields = {**{as_text(name): value for name, value in obj.items()}, **fields}
                    message = ", ".join(fields)
            dimensions = {as_text(name): as_text(value) for name, value in fields.items()}
            self.send(Trace(message=message, severity_level=1, custom_dimensions=dimensions))
        except Exception as error:  # noqa: BLE001 - telemetry must not break score.py
            self.failed(error)

    def flush(self, timeout: float | None = 5.0) -> bool:
        """
        Write what waits in memory, and deliver what waits on disk; says whether nothing waits any more.

        *timeout* is in seconds, None for as long as it takes. What could not be
        delivered in that time stays on disk, and is delivered later. Nothing is
        there to deliver without a connection string, or with exporter="none".
        """
        prints.finish()
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.journal.flush():
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        if self._worker is None:
            return not self._is_stuck
        return self._worker.flush(end - time.monotonic())

    def exception(self, error: BaseException, *, severity_level: int = 3) -> None:
        """Record *error*, with its chain, as a row of its own. Never raises."""
        try:
            self.send(exception_item(error, severity_level=severity_level))
        except Exception as ours:  # noqa: BLE001 - telemetry must not break score.py
            self.failed(ours)

    def install(self, handler: RecordHandler) -> None:
        """Capture what the process logs, and what ends it; see `configure`."""
        self.configured = True
        if self.settings.disabled:
            return
        self.tapped_by = handler
        for other in list(self.handlers):
            other.arm()
        self._undo.append(records.tap(handler))
        self._undo.append(uncaught.install(lambda error: self.exception(error, severity_level=4)))

    def rest(self, *, rests: bool) -> None:
        """Record nothing for a while, or go on."""
        self._rests = rests
        for handler in list(self.handlers):
            handler.arm()  # else its fast lane would look again in the next second only

    def instrument(self, outlet: Callable[[], Outlet | None]) -> None:
        """Record outgoing calls with what *outlet* gives, where the settings say so. Calling it again does nothing."""
        names = self.settings.instrument
        if not names or self.settings.disabled or self._is_instrumented:
            return
        from scoretrace.capture import instrument

        self._is_instrumented = True
        self._undo.append(instrument.install(names, outlet, in_server=in_scoring_server()))
        for handler in list(self.handlers):
            handler.arm()

    def shutdown(self, timeout: float = 5.0) -> None:
        """
        Undo what was installed, deliver what waits for *timeout* seconds at most, and close the files.

        Calling it again does nothing.
        """
        if not self._open:
            return
        self._open = False
        if self._worker is not None:
            self._worker.stop(timeout)
        self._at_exit()
        atexit.unregister(self._at_exit)
        while self._undo:
            self._undo.pop()()
        self.configured, self.tapped_by = False, None
        for handler in list(self.handlers):
            handler.arm()
        prints.untap(self.printed)
        self.ended()

    def _write_out(self) -> None:
        prints.finish()
        self.journal.flush()

    def _written(self) -> None:
        """A line was written, the first for a while."""
        if self._worker is not None:
            self._worker.wake()
        troubles = self._troubles()
        if troubles != self._noted:
            self._note(troubles)

    def _at_exit(self) -> None:
        # What is installed stays: a later exit handler may still log, and the journal opens again for it.
        self._write_out()
        self.journal.close()
        troubles = self._troubles()
        if any(troubles):
            self._note(troubles, has_ended=True)
        elif self._noted is not None:
            notes.remove(self.settings.home, self.journal.name)

    def _troubles(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """What was lost, given up and otherwise gone wrong, by reason."""
        lost = dict(self.journal.lost)
        if self._counts["error"]:
            lost["error"] = self._counts["error"]
        given_up = {} if self._worker is None else self._worker.given_up()
        return lost, given_up, {name: self._counts[name] for name in _TROUBLES if self._counts[name]}

    def _note(
        self, troubles: tuple[dict[str, int], dict[str, int], dict[str, int]], *, has_ended: bool = False
    ) -> None:
        """Leave word of them in the home, for `scoretrace doctor`, and for when this process is killed."""
        lost, given_up, _ = self._noted = troubles
        if not self.journal.name:  # it is in memory
            return
        tap = f"tapped by scoretrace, with {prints.holder()} behind it" if prints.is_tapped() else ""
        note = notes.Note(os.getpid(), self.settings.service, tap, 0.0, has_ended, dict(self._counts), lost, given_up)
        with contextlib.suppress(OSError, ValueError):  # a disk that is full
            notes.put(self.settings.home, self.journal.name, note)

    def stats(self) -> dict[str, Any]:
        """
        What happened since the start of this process.

        ``items`` that were made, how many were ``diverted`` (their original is
        below the home, and in storage where that is configured), how many are ``buffered`` in memory because the disk
        refuses, how many were ``lost`` by reason, ``not_diverted`` where the
        payload could not be stored and the row was kept whole, and
        ``set_aside``: torn lines that earlier processes left. Of the items
        ``dropped`` were not written because a processor said so, and
        ``sampled_out`` because others stand for them; ``processor_errors`` went
        on as they were. ``delivered`` is
        what this process sent, for other processes too, and ``given_up`` what it
        never will, by reason: refused by the service, expired, unreadable; all
        of it is still on disk. ``copied`` are bytes that blob_export brought to
        storage, and ``waiting`` bytes that are still to be delivered.
        """
        worker = self._worker
        made = self._ids.next() - self._first - self._skipped
        self._skipped += 1
        lost, _, _ = self._troubles()
        return {
            "items": made,
            "diverted": self._counts["diverted"],
            "not_diverted": self._counts["not_diverted"],
            "dropped": self._counts["dropped"],
            "sampled_out": self._counts["sampled_out"],
            "processor_errors": self._counts["processor_errors"],
            "buffered": self.journal.buffered,
            "set_aside": self.journal.set_aside,
            "lost": lost,
            **({"delivered": 0, "given_up": {}, "copied": 0, "waiting": 0} if worker is None else worker.stats()),
        }

    def __enter__(self) -> Telemetry:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def _in_context(self, item: Item) -> Item:
        context: dict[str, Any] = {
            "item_id": item.item_id or self._ids(),
            "timestamp": ticks.now() if item.timestamp is None else item.timestamp,
            "cloud_role_name": item.cloud_role_name or self.settings.service,
            "cloud_role_instance": item.cloud_role_instance or self.settings.instance,
            "application_version": item.application_version or self.settings.version,
        }
        operation = current_operation()
        if operation.id and item.operation_id in {"", operation.id}:
            context["operation_name"] = item.operation_name or operation.name
            if not item.operation_id:
                context |= {"operation_id": operation.id, "operation_parent_id": operation.parent_id}
            if operation.dimensions:
                context["custom_dimensions"] = {**operation.dimensions, **item.custom_dimensions}
        return msgspec.structs.replace(item, **context)

    def _divert(self, sha256: str, data: bytes) -> str:
        address = self.overflow.put(sha256, data)
        self._counts["diverted"] += 1
        return address

    def _count(self, what: str, message: str) -> None:
        self._counts[what] += 1
        if message and self._counts[what] == 1:
            with contextlib.suppress(Exception):
                _log.warning("%s (further ones are only counted)", message)
