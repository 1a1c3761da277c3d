"""
Log records as traces and exceptions.

Most records are alike: text, a call site seen before, nothing extra. Those take
the fast lane, which joins pieces of a line cut open in advance and writes it,
at a few microseconds a call; everything else becomes an `Item` first. Both
lanes write the same line, and neither takes a lock or raises.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from scoretrace import forks, ticks
from scoretrace.capture.operation import reader
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.thrown import exception_item
from scoretrace.capture.values import as_json, as_text, clean, measured
from scoretrace.formats.continuous_export import add_dimensions, cut_open
from scoretrace.item import Item, Trace

_REPLACEABLE = ("handle", "emit", "filter", "format")
_BLANK = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__
_LATE = frozenset({"message", "asctime"})
_NUMBERS = frozenset({int, float, bool})
_STANDARD = frozenset(_BLANK) | _LATE | {"taskName"}
_IDIOMS = frozenset({"custom_dimensions", "custom_measurements"})
_PLAIN = len(_BLANK)
_SITES = 4_096  # call sites remembered; a program that makes up logger names must not grow without end
_SITE_TEXT = 2_048  # characters of path, function and logger name; one that has more takes the slow lane
_EXTRA_TEXT = 16_384  # of all of them together
_NAME_TEXT, _VALUE_TEXT = 75, 4_096  # characters of an `extra`: within the limits even where each is two UTF-16 units
_FAST_BYTES = 16_384  # a message of this size has not too many characters, and its envelope fits
_END_OF_TIME = 253_402_300_800.0  # the year 10000, in seconds since 1970

# Path, function, logger, level, and the pieces of a line; without pieces the records of the site take the slow lane.
Site = tuple[Any, ...]
_NO_SITE: Site = (None,) * 9
_SLOW = (None,) * 5

_Record = logging.LogRecord  # one of somebody's own may say its message otherwise
_join = b"".join
_write = os.write
_json = msgspec.json.Encoder().encode


def severity(level: int) -> int:
    """
    The severity level (0 verbose to 4 critical) of a level of the logging module.

    >>> [severity(level) for level in (logging.DEBUG, logging.INFO, 25, logging.ERROR, logging.CRITICAL)]
    [0, 1, 1, 3, 4]
    """
    return max(0, min(level // 10 - 1, 4))


class Aside(NamedTuple):
    """
    Records of *loggers* are shown to *takes*; those for which it returns True are done with.

    Where *is_idle* says so of one record, *takes* would return True for all of
    its call site and do nothing, so they need not be shown.
    """

    loggers: tuple[str, ...]
    takes: Callable[[logging.LogRecord], bool]
    is_idle: Callable[[logging.LogRecord], bool]


class RecordHandler(logging.Handler):
    """
    Hand each record to *outlet*: a trace, or an exception where there is one.

    Records of the loggers in *exclude*, and of those below them, are left alone,
    and so are those that somebody else takes (*aside*).
    """

    def __init__(self, outlet: Outlet, *, level: int, exclude: tuple[str, ...], aside: tuple[Aside, ...] = ()) -> None:
        super().__init__(level)
        self.outlet = outlet
        self.exclude = exclude
        self.aside = aside
        self._sites: dict[int, Site] = {}
        self._all_sites: dict[int, dict[tuple[Any, ...], Site]] = {}
        self._site_count = 0
        self.arm()
        forks.tell(self)

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter *record*, then `emit` it. Without filters and formatter the fast lane stands in this place."""
        passed = self.filter(record)
        if not passed:
            return passed
        if isinstance(passed, logging.LogRecord):  # from Python 3.12 on a filter may replace it
            record = passed
        self.emit(record)
        return record

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record* to the outlet. Never raises."""
        try:
            if not self._is_left_alone(record):
                self.outlet.send(to_item(record, self.formatter))
        except Exception as error:  # noqa: BLE001 - telemetry must not break score.py
            self.outlet.failed(error)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - logging's name
        """Use *fmt* to make the message of a trace."""
        super().setFormatter(fmt)
        self.arm()

    def addFilter(self, filter: Any) -> None:  # noqa: A002, N802 - logging's names
        """Leave out what *filter* does not let pass."""
        super().addFilter(filter)
        self.arm()

    def removeFilter(self, filter: Any) -> None:  # noqa: A002, N802 - logging's names
        """Undo `addFilter`."""
        super().removeFilter(filter)
        self.arm()

    def after_fork(self) -> None:
        """Cut the lines open anew: they carry ids of the parent."""
        self._forget()
        self.__dict__["handle"] = self._handle_first

    def _handle_first(self, record: logging.LogRecord) -> Any:
        self.arm()
        return self.handle(record)

    def arm(self) -> None:
        """Put the fast lane in the place of `handle`, where nothing needs the slow one."""
        tap = self.outlet.tapped_by
        kind = type(self)
        custom = any(getattr(kind, name) is not getattr(RecordHandler, name) for name in _REPLACEABLE)
        # Replaced at once: in between, a record of another thread would be handled as by neither.
        if tap is not None and tap is not self:  # it gets every record already
            self.__dict__["handle"] = _pass_over
        elif self.outlet.is_plain and not (custom or self.filters or self.formatter):
            self.__dict__["handle"] = self._fast_lane()
        else:
            self.__dict__.pop("handle", None)

    def _fast_lane(self) -> Callable[[logging.LogRecord], Any]:
        """
        A `handle` for records without anything extra.

        This is the product's hottest path, so it is written for CPython: the
        record's own dictionary, call sites by line number first, times and ids
        through msgspec (an int costs it a fifth of a format), at most ten parts
        to join (more would cost `join` an allocation), and the write in place.
        """
        slowly, find = self.emit, self._find
        base, next_id, writer = self.outlet.lane()
        limit, append, refused = writer.limit, writer.append, writer.refused
        is_on = self.outlet.is_on
        sites = self._sites
        operation = reader()
        now = (float("-inf"), b"")  # replaced whole: another thread must not see the one half without the other

        def handle(record: logging.LogRecord) -> Any:
            nonlocal now
            try:
                fields = record.__dict__
                extra = None
                if len(fields) != _PLAIN and len(fields) - ("message" in fields) - ("asctime" in fields) != _PLAIN:
                    extra = _extra(fields)
                    if extra is None:
                        slowly(record)
                        return record
                message = fields["msg"]
                if (
                    type(record) is not _Record
                    or fields["exc_info"]
                    or fields["exc_text"]
                    or fields["stack_info"]
                    or type(message) is not str
                ):
                    slowly(record)
                    return record
                site = sites.get(fields["lineno"], _NO_SITE)
                if (
                    site[0] is not fields["pathname"]
                    or site[1] is not fields["funcName"]
                    or site[2] is not fields["name"]
                    or site[3] != fields["levelno"]
                ):
                    site = find(record, base)
                _, _, _, _, to_message, to_id, to_time, to_operation, to_end = site
                if to_message is None:
                    if to_id is None or not to_id(record):
                        slowly(record)
                    return record
                current = operation()
                if current.dimensions:
                    extra = {**current.dimensions, **(extra or {})}
                arguments = fields["args"]
                if arguments:
                    message = message % arguments
                message = _json(message)
                if len(message) > _FAST_BYTES:
                    slowly(record)
                    return record
                created = fields["created"]
                most = limit
                # Counted from one second before, so that the digits never begin with a zero.
                start, second = now
                fraction = created - start
                if not 1.0 <= fraction < 2.0:
                    if not is_on():
                        return record
                    if not 0.0 <= created < _END_OF_TIME:
                        slowly(record)
                        return record
                    start = created // 1.0 - 1.0
                    fraction = created - start
                    second = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(created)).encode()
                    now = (start, second)
                    most = 0  # once a second the writer looks after its file
                if extra:
                    to_end = add_dimensions(to_end, extra)
                line = _join(
                    (
                        to_message,
                        message,
                        to_id,
                        _json(next_id()),
                        to_time,
                        second,
                        _json(fraction * 1e7)[1:8],
                        to_operation,
                        current.json,
                        to_end,
                    )
                )
            except Exception:  # noqa: BLE001 - a format that does not fit its arguments, a lone surrogate
                slowly(record)
                return record
            # What follows is Writer.append, in place.
            segment = writer.segment
            size = segment.size + len(line)
            if created >= segment.until or size > most:
                append(line, created)
                return record
            segment.size = size
            try:
                if _write(segment.fd, line) != len(line):
                    refused(line)
            except OSError as error:
                refused(line, error)
            return record

        return handle

    def _find(self, record: logging.LogRecord, base: Trace) -> Site:
        """The site of *record*, made if need be, and put where the next record of its line finds it first."""
        key = (record.pathname, record.funcName, record.name, record.levelno)
        known = self._all_sites.setdefault(record.lineno, {})
        if key not in known:
            known[key] = (*key, *(self._cut(record, base) or _SLOW))
            self._site_count += 1
            if self._site_count > _SITES:
                self._forget()
                return self._find(record, base)
        site = known[key]
        # The strings of this very record: the fast lane compares by identity.
        self._sites[record.lineno] = (record.pathname, record.funcName, record.name, *site[3:])
        return site

    def _cut(self, record: logging.LogRecord, base: Trace) -> tuple[Any, ...] | None:
        """The pieces for the call site of *record*; None where its records take the slow lane."""
        if _is_below(record.name, self.exclude):
            return _taken(_always)
        for aside in self.aside:
            if _is_below(record.name, aside.loggers):
                return _taken(_always if aside.is_idle(record) else aside.takes)
        where = _where(record)
        if sum(map(len, where.values())) > _SITE_TEXT:
            return None
        return cut_open(msgspec.structs.replace(base, severity_level=severity(record.levelno), custom_dimensions=where))

    def _forget(self) -> None:
        self._sites.clear()
        self._all_sites.clear()
        self._site_count = 0

    def _is_left_alone(self, record: logging.LogRecord) -> bool:
        if _is_below(record.name, self.exclude):
            return True
        return any(_is_below(record.name, aside.loggers) and aside.takes(record) for aside in self.aside)


def _taken(takes: Callable[[logging.LogRecord], bool]) -> tuple[Any, ...]:
    """In place of pieces: *takes* decides about the records of the site."""
    return (None, takes, None, None, None)


def _always(_record: logging.LogRecord) -> bool:
    return True


def _is_below(name: Any, loggers: tuple[str, ...]) -> bool:
    name = str(name)
    return any(name == other or name.startswith(f"{other}.") for other in loggers)


def _pass_over(record: logging.LogRecord) -> Any:
    return record


def _extra(fields: dict[str, Any]) -> dict[str, str] | None:
    """The `extra` of a record as custom dimensions; None where it takes more than that."""
    found: list[tuple[str, str]] = []
    expected = len(fields) - _PLAIN - ("message" in fields) - ("asctime" in fields)
    left = _EXTRA_TEXT
    for name in reversed(fields):  # they come after the record's own, but for two that a formatter adds
        if name in _STANDARD:
            if name in _LATE:
                continue
            break
        value = fields[name]
        kind = type(value)
        text = value if kind is str else str(value) if kind in _NUMBERS else as_text(value)
        left -= len(name) + len(text)
        if name in _SPECIAL or len(name) > _NAME_TEXT or len(text) > _VALUE_TEXT or left < 0:
            return None
        found.append((name, text))
    # A record class of somebody's own may put its fields first; the slow lane finds them.
    return dict(reversed(found)) if len(found) == expected else None


def to_item(record: logging.LogRecord, formatter: logging.Formatter | None = None) -> Item:
    """The item of *record*, its `extra` as custom dimensions. Never raises for what was logged."""
    dimensions = _where(record)
    message = _message(record, formatter, dimensions)
    fields = record.__dict__
    for name, value in fields.items():
        if name not in _STANDARD and name not in _IDIOMS:
            dimensions[as_text(name)] = as_text(value)
    dimensions.update((as_text(name), as_text(value)) for name, value in _idiom(fields, "custom_dimensions"))
    measurements = measured(_idiom(fields, "custom_measurements"), dimensions)
    if record.stack_info:
        dimensions["stack_info"] = as_text(record.stack_info)
    if record.exc_text and not record.exc_info:  # a record that came through a socket or a queue
        dimensions["exc_text"] = as_text(record.exc_text)
    created = record.created
    known = isinstance(created, (int, float)) and 0 <= created < _END_OF_TIME
    timestamp = _ticks(created) if known else ticks.now()
    thrown = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if thrown is None:
        return Trace(
            timestamp=timestamp,
            message=message,
            severity_level=severity(record.levelno),
            custom_dimensions=dimensions,
            custom_measurements=measurements,
        )
    return exception_item(
        thrown,
        severity_level=severity(record.levelno),
        timestamp=timestamp,
        custom_dimensions={"log_message": message, **dimensions},
        custom_measurements=measurements,
    )


def _ticks(created: float) -> int:
    """The time of a record as the fast lane writes it: a float has not the digits for all of it at once."""
    start = created // 1.0 - 1.0
    return int(start) * ticks.SECOND + int((created - start) * 1e7)


_PLACES = ("code.file.path", "code.line.number", "code.function.name", "logger_name")
_SPECIAL = _IDIOMS.union(_PLACES)


def _where(record: logging.LogRecord) -> dict[str, str]:
    # The names are OpenTelemetry's, and so those of rows that came through Azure's own exporter.
    values = (as_text(record.pathname), as_text(record.lineno), as_text(record.funcName), as_text(record.name))
    return dict(zip(_PLACES, values, strict=True))


def _message(record: logging.LogRecord, formatter: logging.Formatter | None, dimensions: dict[str, str]) -> str:
    message = record.msg
    try:
        if formatter is not None:
            return clean(formatter.format(record))
        if record.args or type(record).getMessage is not logging.LogRecord.getMessage:
            return clean(record.getMessage())
    except Exception as error:  # noqa: BLE001 - arguments that do not fit, or that cannot be printed
        dimensions["logging_error"] = f"{type(error).__name__}: {as_text(error)}"
        if record.args:
            return f"{as_text(message)} {as_json(record.args)}"
    return as_text(message)


def _idiom(fields: dict[str, Any], name: str) -> list[tuple[Any, Any]]:
    """The pairs of `extra={"custom_dimensions": {...}}`, as people wrote it for OpenCensus; else what it is."""
    given = fields.get(name)
    try:
        pairs = list(given.items()) if isinstance(given, dict) else []
    except Exception:  # noqa: BLE001 - somebody's own kind of dictionary
        pairs = []
    return pairs if pairs or given is None else [(name, as_text(given))]
