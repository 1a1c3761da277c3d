"""
Log records as traces and exceptions.

Most records are alike: text, a call site seen before, nothing extra. Those take
the fast lane, which joins pieces of a line cut open in advance and writes it,
at a few microseconds a call; everything else becomes an `Item` first. Both
lanes write the same line, and neither takes a lock or raises.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from scoretrace import forks
from scoretrace.capture.operation import OPERATION
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.thrown import chain
from scoretrace.capture.values import as_json, as_text, clean
from scoretrace.formats.continuous_export import Pieces, cut_open
from scoretrace.item import ExceptionItem, Item, Trace, summarize

_BLANK = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__
_OWN = frozenset(_BLANK) | {"message", "asctime", "taskName", "custom_dimensions", "custom_measurements"}
_PLAIN = len(_BLANK)
_SITES = 4_096  # call sites remembered; a program that makes up logger names must not grow without end
_FAST_BYTES = 24_576  # a line of this size has no field over its limit, and its envelope fits

_join = b"".join
_json = msgspec.json.Encoder().encode


def severity(level: int) -> int:
    """
    The severity level (0 verbose to 4 critical) of a level of the logging module.

    >>> [severity(level) for level in (logging.DEBUG, logging.INFO, 25, logging.ERROR, logging.CRITICAL)]
    [0, 1, 1, 3, 4]
    """
    return max(0, min(level // 10 - 1, 4))


class RecordHandler(logging.Handler):
    """
    Hand each record to *outlet*: a trace, or an exception where there is one.

    Records of the loggers in *exclude*, and of those below them, are left alone.
    """

    def __init__(self, outlet: Outlet, *, level: int, exclude: tuple[str, ...]) -> None:
        super().__init__(level)
        self.outlet = outlet
        self.exclude = exclude
        self._stands_in = False
        self._sites: dict[tuple[str, int, int, str], Pieces | None] = {}
        self._arm()
        forks.tell(self)

    def handle(self, record: logging.LogRecord) -> Any:
        """Filter *record*, then `emit` it. Without filters and formatter the fast lane stands in this place."""
        if self.filters:
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
            if not self._is_excluded(record.name):
                self.outlet.send(to_item(record, self.formatter))
        except Exception as error:  # noqa: BLE001 - telemetry must not break score.py
            self.outlet.failed(error)
        if self._stands_in and record.levelno >= logging.WARNING:
            self._last_resort(record)

    def stand_in(self) -> None:
        """
        Show on stderr what logging would have shown there for want of any handler.

        For a handler that was added to the root logger behind the script's back.
        """
        self._stands_in = True
        self._sites.clear()

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - logging's name
        """Use *fmt* to make the message of a trace."""
        super().setFormatter(fmt)
        self._arm()

    def addFilter(self, filter: Any) -> None:  # noqa: A002, N802 - logging's names
        """Leave out what *filter* does not let pass."""
        super().addFilter(filter)
        self._arm()

    def removeFilter(self, filter: Any) -> None:  # noqa: A002, N802 - logging's names
        """Undo `addFilter`."""
        super().removeFilter(filter)
        self._arm()

    def after_fork(self) -> None:
        """Cut the lines open anew: they carry ids of the parent."""
        self._sites.clear()
        self.__dict__["handle"] = self._handle_first

    def _handle_first(self, record: logging.LogRecord) -> Any:
        self._arm()
        return self.handle(record)

    def _arm(self) -> None:
        """Put the fast lane in the place of `handle`, where nothing needs the slow one."""
        self.__dict__.pop("handle", None)
        kind = type(self)
        custom = kind.handle is not RecordHandler.handle or kind.emit is not RecordHandler.emit
        if not (custom or self.filters or self.formatter):
            self.__dict__["handle"] = self._fast_lane()

    def _fast_lane(self) -> Callable[[logging.LogRecord], Any]:
        slowly, sites, cut = self.emit, self._sites, self._cut
        base, next_id, append = self.outlet.lane()
        operation = OPERATION.get
        second = (0.0, b"")

        def handle(record: logging.LogRecord) -> Any:
            nonlocal second
            try:
                fields = record.__dict__
                message = record.msg
                if (
                    record.exc_info
                    or type(message) is not str
                    or (len(fields) != _PLAIN and len(fields) - ("message" in fields) - ("asctime" in fields) != _PLAIN)
                ):
                    slowly(record)
                    return record
                try:
                    pieces = sites[record.name, record.lineno, record.levelno, record.pathname]
                except KeyError:
                    pieces = cut(record, base)
                if pieces is None:
                    slowly(record)
                    return record
                if record.args:
                    message = message % record.args
                created = record.created
                start, text = second
                # One second late, so that the digits never begin with a zero that an int would not show.
                fraction = created - start
                if not 1.0 <= fraction < 2.0:
                    start = created // 1 - 1.0
                    fraction = created - start
                    text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(created)).encode()
                    second = (start, text)
                to_message, to_id, to_time, to_operation, to_end = pieces
                line = _join(
                    (
                        to_message,
                        _json(message),
                        to_id,
                        _json(next_id()),
                        to_time,
                        text,
                        _json(int(fraction * 10_000_000))[1:],
                        b"Z",
                        to_operation,
                        operation().json,
                        to_end,
                    )
                )
            except Exception:  # noqa: BLE001 - a format that does not fit its arguments, a lone surrogate
                slowly(record)
                return record
            if len(line) > _FAST_BYTES:
                slowly(record)
            else:
                append(line, created)
            return record

        return handle

    def _cut(self, record: logging.LogRecord, base: Trace) -> Pieces | None:
        """The pieces for the call site of *record*; None where its records take the slow lane."""
        pieces = None
        shown = self._stands_in and record.levelno >= logging.WARNING
        if not shown and not self._is_excluded(record.name):
            trace = msgspec.structs.replace(
                base, severity_level=severity(record.levelno), custom_dimensions=_where(record)
            )
            pieces = cut_open(trace)
            if sum(map(len, pieces)) > _FAST_BYTES // 4 or any(len(v) > 2_000 for v in trace.custom_dimensions.values()):
                pieces = None  # somebody's logger has a name of kilobytes
        if len(self._sites) >= _SITES:
            self._sites.clear()
        self._sites[record.name, record.lineno, record.levelno, record.pathname] = pieces
        return pieces

    def _is_excluded(self, name: str) -> bool:
        return any(name == other or name.startswith(f"{other}.") for other in self.exclude)

    def _last_resort(self, record: logging.LogRecord) -> None:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return
            logger = logger.parent if logger.propagate else None
        if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)


def to_item(record: logging.LogRecord, formatter: logging.Formatter | None = None) -> Item:
    """The item of *record*, its `extra` as custom dimensions. Never raises for what was logged."""
    dimensions = _where(record)
    message = _message(record, formatter, dimensions)
    measurements: dict[str, float] = {}
    fields = record.__dict__
    for name, value in fields.items():
        if name not in _OWN:
            dimensions[clean(name)] = as_text(value)
    _expand(fields, dimensions, measurements)
    if record.stack_info:
        dimensions["stack_info"] = as_text(record.stack_info)
    timestamp = int(record.created * 10_000_000)
    thrown = record.exc_info[1] if record.exc_info else None
    if thrown is None:
        return Trace(
            timestamp=timestamp,
            message=message,
            severity_level=severity(record.levelno),
            custom_dimensions=dimensions,
            custom_measurements=measurements,
        )
    details = chain(thrown)
    return ExceptionItem(
        timestamp=timestamp,
        severity_level=severity(record.levelno),
        details=details,
        custom_dimensions={"log_message": message, **dimensions},
        custom_measurements=measurements,
        **summarize(details),  # type: ignore[arg-type]
    )


def _where(record: logging.LogRecord) -> dict[str, str]:
    # The names are OpenTelemetry's, and so those of rows that came through Azure's own exporter.
    return {
        "code.file.path": clean(record.pathname or ""),
        "code.line.number": str(record.lineno),
        "code.function.name": clean(record.funcName or ""),
        "logger_name": as_text(record.name),
    }


def _message(record: logging.LogRecord, formatter: logging.Formatter | None, dimensions: dict[str, str]) -> str:
    message = record.msg
    try:
        if formatter is not None:
            return clean(formatter.format(record))
        if record.args:
            return clean(record.getMessage())
    except Exception as error:  # noqa: BLE001 - arguments that do not fit, or that cannot be printed
        dimensions["logging_error"] = f"{type(error).__name__}: {as_text(error)}"
        if record.args:
            return f"{as_text(message)} {as_json(record.args)}"
    return as_text(message)


def _expand(fields: dict[str, Any], dimensions: dict[str, str], measurements: dict[str, float]) -> None:
    """`extra={"custom_dimensions": {...}, "custom_measurements": {...}}`, as people wrote it for OpenCensus."""
    custom = fields.get("custom_dimensions")
    if isinstance(custom, dict):
        dimensions.update((as_text(name), as_text(value)) for name, value in custom.items())
    elif custom is not None:
        dimensions["custom_dimensions"] = as_text(custom)
    measured = fields.get("custom_measurements")
    if isinstance(measured, dict):
        for name, value in measured.items():
            number = _number(value)
            if number is None:
                dimensions[as_text(name)] = as_text(value)
            else:
                measurements[as_text(name)] = number
    elif measured is not None:
        dimensions["custom_measurements"] = as_text(measured)


def _number(value: Any) -> float | None:
    """*value* as a measurement can carry it: finite, and a number rather than text or a flag."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - somebody else's __float__
        return None
    return number if math.isfinite(number) and not isinstance(value, (str, bytes, bool)) else None
