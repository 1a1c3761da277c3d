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
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from scoretrace.capture.operation import NONE, OPERATION, Operation, connect
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.spans import span_items
from scoretrace.capture.thrown import exception_item, mark_recorded
from scoretrace.capture.values import as_text, printed
from scoretrace.errors import MissingExtraError, SettingsError
from scoretrace.item import ExceptionItem, Item


def fitting(name: str) -> str:
    """
    What to install to instrument *name*: the version that goes with the SDK that is here, if there is one.

    A newer one would replace the SDK, which the scoring server pins. Version
    0.N of the instrumentations belongs to version 1.(N - 21) of the SDK.
    """
    package = f"opentelemetry-instrumentation-{name}"
    try:
        minor = int(version("opentelemetry-sdk").split(".")[1])
    except (PackageNotFoundError, ValueError, IndexError):
        return package
    return f"'{package}==0.{minor + 21}b0'"


try:
    from opentelemetry import context, trace
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
except ImportError as error:
    raise MissingExtraError("the setting instrument", package=fitting("requests")) from error

GROUP = "opentelemetry_instrumentor"
# Log records are captured anyway, and metrics of the system are no calls.
_LEFT_OUT = frozenset({"logging", "system_metrics"})
_SERVERS = frozenset({"flask", "wsgi"})  # in the scoring server, whose calls are requests already

_log = logging.getLogger("scoretrace")


class _Processor(SpanProcessor):
    """Sends each span that ended to what is current then."""

    def __init__(self) -> None:
        self.outlet: Callable[[], Outlet | None] = lambda: None
        self._inner: set[int] = set()  # spans of servers inside a request that we have already

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002 - OpenTelemetry's
        if span.kind is trace.SpanKind.SERVER and OPERATION.get().is_served:
            self._inner.add(span.context.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        is_inner = span.context.span_id in self._inner
        self._inner.discard(span.context.span_id)
        outlet = self.outlet()
        if outlet is None or not span.context.trace_flags.sampled:
            return
        try:
            items = span_items(span, is_inner=is_inner)
            # A span ends while its exception passes by, which may be a row by now, or become one further out.
            error = sys.exc_info()[1]
            for item in items:
                if error is None or not _says(item, error):
                    outlet.send(item)
                elif mark_recorded(error, item.operation_id):
                    outlet.send(_whole(item, error))
        except Exception as ours:  # noqa: BLE001 - telemetry must not break the call
            outlet.failed(ours)


def _says(item: Item, error: BaseException) -> bool:
    """Whether *item*, of an event of a span, is about *error*."""
    if not isinstance(item, ExceptionItem):
        return False
    thrown = item.details[0]
    return thrown.type_name.rpartition(".")[2] == type(error).__name__ and thrown.message == printed(error)


def _whole(item: Item, error: BaseException) -> Item:
    """*item* with what *error* itself says: its chain and its stack, with the callers in the script."""
    where = ("timestamp", "operation_id", "operation_name", "operation_parent_id", "item_count", "custom_dimensions")
    return exception_item(error, is_passing=True, **{name: getattr(item, name) for name in where})


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
        name = as_text(getattr(span, "name", ""))
        if last is span and operation.name == name:
            return operation
        ids = span.get_span_context()
        kind = getattr(span, "kind", None)
        operation = Operation(
            f"{ids.trace_id:032x}",
            name,
            f"{ids.span_id:016x}",
            is_served=kind is trace.SpanKind.SERVER,
        )
        self._last = (span, operation)
        return operation


_processor = _Processor()
_bridge = _Bridge()
_joined: list[Any] = []  # tracer providers that have our processor
_installs: list[tuple[Callable[[], Outlet | None], list[Any]]] = []  # who records, and what they began


def check(names: Iterable[str]) -> None:
    """
    Find out early whether *names* can be instrumented.

    Raises:
        SettingsError: one of them is not installed; "auto" takes what is there.
    """
    missing = set(names) - {"auto"} - {entry.name for entry in entry_points(group=GROUP)}
    if missing:
        name = min(missing)
        raise SettingsError(f"instrument names {name!r}, which is not installed: pip install {fitting(name)}")


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
    found = _instrumentors(set(names), in_server=in_server)
    begun = [one for name, one in found.items() if _begin(one, provider, is_named=name in names)]
    installed = (outlet, begun)
    _installs.append(installed)
    _processor.outlet = outlet
    connect(_bridge)

    def undo() -> None:
        _installs[:] = [one for one in _installs if one is not installed]
        if _installs:  # another telemetry goes on with what this one began
            _processor.outlet = _installs[-1][0]
            _installs[-1][1].extend(begun)
            return
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
            except Exception as error:  # noqa: BLE001 - somebody else's library must not keep a script from starting
                # An ImportError is expected: the instrumentation is installed, and what it would instrument is not.
                if entry.name in names or not isinstance(error, ImportError):
                    _log.warning("%s cannot be instrumented: %s: %s", entry.name, type(error).__name__, as_text(error))
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
