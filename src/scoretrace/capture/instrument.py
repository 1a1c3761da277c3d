"""
Outgoing calls as dependencies, through OpenTelemetry's own instrumentations.

They know how to time a call of `requests`, `httpx` or `sqlalchemy`, and how to
hand its trace on to whoever is called; here their spans become rows when they
end, and our request is the parent of theirs. Where the process has a tracer
provider already it is used, so that spans go on to where they went.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any

from scoretrace.capture.operation import NONE, Operation, connect
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.spans import span_items
from scoretrace.capture.values import as_text
from scoretrace.errors import MissingExtraError, SettingsError

try:
    from opentelemetry import context, trace
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
except ImportError as error:
    raise MissingExtraError(
        "the setting instrument", "instrument", package="opentelemetry-instrumentation-requests"
    ) from error

GROUP = "opentelemetry_instrumentor"
# Log records are captured anyway, and metrics of the system are no calls.
_LEFT_OUT = frozenset({"logging", "system_metrics"})
_SERVERS = frozenset({"flask", "wsgi"})  # in the scoring server, whose calls are requests already

_log = logging.getLogger("scoretrace")


class _Processor(SpanProcessor):
    """Sends each span that ended to what is current then."""

    outlet: Callable[[], Outlet | None] = staticmethod(lambda: None)

    def on_end(self, span: ReadableSpan) -> None:
        outlet = self.outlet()
        if outlet is None or not span.context.trace_flags.sampled:
            return
        try:
            for item in span_items(span):
                outlet.send(item)
        except Exception as ours:  # noqa: BLE001 - telemetry must not break the call
            outlet.failed(ours)


class _Bridge:
    """Our operations as OpenTelemetry's current span, and the other way round."""

    def __init__(self) -> None:
        self._last: tuple[Any, Operation] = (None, NONE)

    def attach(self, operation: Operation) -> Any:
        try:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
            ids = int(operation.id, 16), int(operation.parent_id, 16)
            parent = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=True, trace_flags=flags))
        except ValueError:  # ids of somebody's own
            parent = trace.INVALID_SPAN
        return context.attach(trace.set_span_in_context(parent))

    def detach(self, token: Any) -> None:
        context.detach(token)

    def outer(self) -> Operation:
        span = trace.get_current_span()
        if span is trace.INVALID_SPAN:
            return NONE
        last, operation = self._last
        if last is span:
            return operation
        ids = span.get_span_context()
        kind = getattr(span, "kind", None)
        operation = Operation(
            f"{ids.trace_id:032x}",
            as_text(getattr(span, "name", "")),
            f"{ids.span_id:016x}",
            is_served=kind is trace.SpanKind.SERVER,
        )
        self._last = (span, operation)
        return operation


_processor = _Processor()
_bridge = _Bridge()
_joined: list[Any] = []  # tracer providers that have our processor


def check(names: Iterable[str]) -> None:
    """
    Find out early whether *names* can be instrumented.

    Raises:
        SettingsError: one of them is not installed; "auto" takes what is there.
    """
    missing = set(names) - {"auto"} - {entry.name for entry in entry_points(group=GROUP)}
    if missing:
        name = min(missing)
        raise SettingsError(
            f"instrument names {name!r}, which is not installed: pip install opentelemetry-instrumentation-{name}"
        )


def install(names: Iterable[str], outlet: Callable[[], Outlet | None], *, in_server: bool) -> Callable[[], None]:
    """
    Record what the instrumentations *names* see, and all other spans of the process; returns what undoes it.

    *outlet* says who records, at the time when a span ends. Instrumentations
    that are at work already stay as they are, then and afterwards.
    """
    provider: Any = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    if provider not in _joined:
        _joined.append(provider)
        provider.add_span_processor(_processor)
    _processor.outlet = outlet
    connect(_bridge)
    found = _instrumentors(set(names), in_server=in_server)
    begun = [one for name, one in found.items() if _begin(one, provider, is_named=name in names)]

    def undo() -> None:
        connect(None)
        _processor.outlet = lambda: None
        for instrumentor in begun:
            instrumentor.uninstrument()

    return undo


def _instrumentors(names: set[str], *, in_server: bool) -> dict[str, BaseInstrumentor]:
    disabled = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    passed_over = _LEFT_OUT | disabled | (_SERVERS if in_server else frozenset())
    found = {}
    for entry in entry_points(group=GROUP):
        wanted = entry.name in names or ("auto" in names and entry.name not in passed_over and "*" not in disabled)
        if wanted and entry.name not in found:
            try:
                found[entry.name] = entry.load()()
            except ImportError:  # the instrumentation is installed, and what it would instrument is not
                continue
    return found


def _begin(instrumentor: BaseInstrumentor, provider: Any, *, is_named: bool) -> bool:
    """Start *instrumentor*; says whether it was this that started it."""
    if instrumentor.is_instrumented_by_opentelemetry:
        return False
    try:
        # Its own check logs an error where a library is missing; that one is missing is what "auto" expects.
        instrumentor.instrument(tracer_provider=provider, raise_exception_on_conflict=True)
    except Exception as error:  # noqa: BLE001 - somebody else's library must not keep a script from starting
        conflict = getattr(error, "conflict", None)
        if is_named or conflict is None or getattr(conflict, "found", None):  # else its library is not there at all
            _log.warning("%s did not start: %s", type(instrumentor).__name__, as_text(error))
        return False
    return True
