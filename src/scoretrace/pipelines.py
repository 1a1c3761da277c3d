"""
For OpenTelemetry pipelines that somebody has already: our guard around their exporter, or our journal as one.

It works with the SDK that the scoring image pins (1.33) and with the newest;
what was renamed in between goes by its newer name here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

from scoretrace.capture import spans as read
from scoretrace.capture.values import as_text
from scoretrace.errors import MissingExtraError
from scoretrace.guarding import new_guard
from scoretrace.item import ExceptionItem, Item, Trace
from scoretrace.process import current, telemetry_for
from scoretrace.settings import resolve
from scoretrace.telemetry import Telemetry

try:
    from opentelemetry.sdk._logs import export as logs
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
except ImportError as error:
    raise MissingExtraError("an OpenTelemetry pipeline", "opentelemetry", package="opentelemetry-sdk") from error

LogExporter: Any = getattr(logs, "LogRecordExporter", None) or logs.LogExporter
LogExportResult: Any = getattr(logs, "LogRecordExportResult", None) or logs.LogExportResult

_log = logging.getLogger("scoretrace")


class GuardedLogExporter(LogExporter):  # type: ignore[misc]
    """
    Wraps a log exporter: what is too large for Application Insights is stored whole, and a stand-in goes on.

        BatchLogRecordProcessor(scoretrace.GuardedLogExporter(AzureMonitorLogExporter()))

    *settings* are those of `configure`: `home` and `storage` say where originals go.
    """

    def __init__(self, exporter: Any, **settings: Any) -> None:
        self.exporter = exporter
        self._guard = new_guard(settings)

    def export(self, batch: Sequence[Any]) -> Any:
        """Export *batch*, each record within the limits."""
        return self.exporter.export([self._guarded(data) for data in batch])

    def _guarded(self, data: Any) -> Any:
        try:
            item = read.log_item(data)
            fit = self._guard(item)
            return data if fit is item else _with_log(data, item, fit)
        except Exception as error:  # noqa: BLE001 - telemetry must not break the one that sends it
            self._guard.failed(error)
            return data

    def shutdown(self) -> Any:
        """Shut the wrapped exporter down."""
        return self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the wrapped exporter, if it can."""
        flush = getattr(self.exporter, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))


class GuardedSpanExporter(SpanExporter):
    """
    Wraps a span exporter: attributes of spans and of their events that are too large are stored whole.

        BatchSpanProcessor(scoretrace.GuardedSpanExporter(AzureMonitorTraceExporter()))

    *settings* are those of `configure`.
    """

    def __init__(self, exporter: SpanExporter, **settings: Any) -> None:
        self.exporter = exporter
        self._guard = new_guard(settings)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export *spans*, each within the limits."""
        return self.exporter.export([self._guarded(span) for span in spans])

    def _guarded(self, span: ReadableSpan) -> ReadableSpan:
        try:
            items = read.span_items(span)
            fits = [self._guard(item) for item in items]
            return span if all(a is b for a, b in zip(items, fits, strict=True)) else _with_span(span, items, fits)
        except Exception as error:  # noqa: BLE001 - telemetry must not break the one that sends it
            self._guard.failed(error)
            return span

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the wrapped exporter."""
        return self.exporter.force_flush(timeout_millis)


class JournalLogExporter(LogExporter):  # type: ignore[misc]
    """
    Puts the log records of an OpenTelemetry pipeline into the journal: on disk, readable here, and delivered.

        SimpleLogRecordProcessor(scoretrace.JournalLogExporter())

    *settings* are those of `configure`; without any, the telemetry that is
    configured is used.
    """

    def __init__(self, **settings: Any) -> None:
        self.telemetry = _telemetry(settings)

    def export(self, batch: Sequence[Any]) -> Any:
        """Put *batch* on disk."""
        exclude = self.telemetry.settings.exclude
        kept = [data for data in batch if not _is_excluded(data, exclude)]
        done = _all(self.telemetry, kept, lambda data: [read.log_item(data)])
        return LogExportResult.SUCCESS if done else LogExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing: the telemetry goes on for others."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what waits; see `Telemetry.flush`."""
        return self.telemetry.flush(timeout_millis / 1_000)


class JournalSpanExporter(SpanExporter):
    """
    Puts the spans of an OpenTelemetry pipeline into the journal, as requests and dependencies.

        SimpleSpanProcessor(scoretrace.JournalSpanExporter())

    Span events become traces and exceptions. *settings* are those of
    `configure`; without any, the telemetry that is configured is used.
    """

    def __init__(self, **settings: Any) -> None:
        self.telemetry = _telemetry(settings)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Put *spans* on disk."""
        return SpanExportResult.SUCCESS if _all(self.telemetry, spans, read.span_items) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing: the telemetry goes on for others."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver what waits; see `Telemetry.flush`."""
        return self.telemetry.flush(timeout_millis / 1_000)


def _telemetry(settings: dict[str, Any]) -> Telemetry:
    found = None if settings else current()
    return found or telemetry_for(resolve({"capture_print": False, **settings}))


def _is_excluded(data: Any, exclude: tuple[str, ...]) -> bool:
    """Whether a record is of a logger that is left alone: what delivers telemetry must not feed it."""
    scope = getattr(data, "instrumentation_scope", None)
    name = f"{scope.name}." if scope is not None and scope.name else ""
    return any(name.startswith(f"{logger}.") for logger in exclude)


def _all(telemetry: Telemetry, batch: Sequence[Any], items: Any) -> bool:
    """Send the items of each; one that cannot be read is counted, and fails the batch."""
    return all([_sent(telemetry, one, items) for one in batch])  # noqa: C419 - all of them are to be sent


def _sent(telemetry: Telemetry, one: Any, items: Any) -> bool:
    try:
        for item in items(one):
            telemetry.send(item)
    except Exception as error:  # noqa: BLE001 - what an SDK of some other version hands over
        telemetry.failed(error)
        return False
    return True


def _with_log(data: Any, item: Item, fit: Item) -> Any:
    """A copy of *data* that says what *fit* says."""
    record = copy.copy(data.log_record)
    record.attributes = _attributes(record.attributes or {}, item, fit)
    if isinstance(fit, ExceptionItem):
        record.attributes.update(_thrown(fit))
        record.body = fit.custom_dimensions.get("log_message", record.body)
    elif isinstance(fit, Trace):
        record.body = fit.message
    else:
        record.body = fit.custom_dimensions.get("body", record.body)
    changed = copy.copy(data)
    object.__setattr__(changed, "log_record", record)  # the newer one is a frozen dataclass
    return changed


def _with_span(span: ReadableSpan, items: list[Item], fits: list[Item]) -> ReadableSpan:
    """A copy of *span* that says what *fits* say: the first is the span's, the others are its events'."""
    events = [
        Event(
            name=event.name if not isinstance(fit, Trace) else fit.message,
            attributes={
                **_attributes(event.attributes or {}, item, fit),
                **(_thrown(fit) if isinstance(fit, ExceptionItem) else {}),
            },
            timestamp=event.timestamp,
        )
        for event, item, fit in zip(span.events, items[1:], fits[1:], strict=True)
    ]
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes or {}, items[0], fits[0]),
        events=events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(before: Any, item: Item, fit: Item) -> dict[str, Any]:
    """The attributes *before* as the dimensions of *fit* have them; what was not cut keeps its type."""
    kept = {name: value for name, value in before.items() if as_text(name) not in item.custom_dimensions}
    for name, text in fit.custom_dimensions.items():
        if name in before and item.custom_dimensions.get(name) == text:
            kept[name] = before[name]
        elif name in before or name not in item.custom_dimensions:
            kept[name] = text
    return kept


def _thrown(fit: ExceptionItem) -> dict[str, str]:
    thrown = fit.details[0]
    texts = {"exception.type": thrown.type_name, "exception.message": thrown.message}
    return {**texts, "exception.stacktrace": thrown.stack} if thrown.stack else texts
