"""
OpenTelemetry's spans and log records as items.

Nothing of OpenTelemetry is imported: its objects are read by the attributes
that its SDK has had from 1.33 to the newest. What becomes a column follows
Azure's own exporter, with the names of the semantic conventions old and new;
the attributes themselves all stay, as custom dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from scoretrace import ticks
from scoretrace.capture.values import as_json, as_text, measured
from scoretrace.item import Dependency, Event, ExceptionItem, Item, Request, Thrown, Trace, summarize

EVENT_NAME = "microsoft.custom_event.name"
MEASUREMENTS = "microsoft.custom_measurements"
EXCEPTION = ("exception.type", "exception.message", "exception.stacktrace", "exception.escaped")
_SAMPLE_RATE = "_MS.sampleRate"
_TAKEN = frozenset((*EXCEPTION, EVENT_NAME, MEASUREMENTS, _SAMPLE_RATE))
_NAMELESS = "unknown_service"  # what the SDK calls a service that nobody named

Attributes = Mapping[str, Any]


def log_item(data: Any) -> Item:
    """
    The item of a log record as an exporter gets it (`LogData`, from 1.39 on `ReadableLogRecord`).

    An exception where it carries one, an event where it has an event's name,
    else a trace; a body that is no text becomes JSON.
    """
    record = data.log_record
    attributes: Attributes = record.attributes or {}
    scope = getattr(data, "instrumentation_scope", None)
    dimensions = _dimensions(attributes)
    if scope is not None and scope.name:
        dimensions.setdefault("logger_name", as_text(scope.name))
    common: dict[str, Any] = {
        **_resource(getattr(data, "resource", None) or getattr(record, "resource", None)),
        "timestamp": _ticks(record.timestamp or record.observed_timestamp),
        "operation_id": _hex(record.trace_id, 32),
        "operation_parent_id": _hex(record.span_id, 16),
        "custom_measurements": measured(_measurements(attributes), dimensions),
        "custom_dimensions": dimensions,
    }
    body = record.body
    message = "" if body is None else as_text(body) if isinstance(body, str) else as_json(body)
    severity = _severity(record.severity_number)
    if attributes.get(EXCEPTION[0]) is not None or attributes.get(EXCEPTION[1]) is not None:
        if message:
            dimensions["log_message"] = message
        return _exception(attributes, common, severity)
    name = attributes.get(EVENT_NAME) or getattr(record, "event_name", None)
    if name:
        if message:
            dimensions["body"] = message
        return Event(name=as_text(name), **common)
    return Trace(message=message, severity_level=severity, **common)


def span_items(span: Any, *, is_inner: bool = False) -> list[Item]:
    """
    The items of a finished span: the span, and each of its events.

    With *is_inner* it is part of a request that is a row already, whatever its kind.

    Server and consumer spans are requests, all others dependencies; an event is
    a trace, or an exception. Links are in the custom dimension ``_MS.links``,
    the status in ``otel.status_code`` and ``otel.status_description``.
    """
    attributes: Attributes = span.attributes or {}
    context = span.context
    operation = _hex(context.trace_id, 32)
    dimensions = _dimensions(attributes)
    if span.links:
        links = [
            {"operation_Id": _hex(li.context.trace_id, 32), "id": _hex(li.context.span_id, 16)} for li in span.links
        ]
        dimensions["_MS.links"] = as_json(links)
    status = span.status.status_code.name
    if status != "UNSET":
        dimensions["otel.status_code"] = status
    if span.status.description:
        dimensions["otel.status_description"] = as_text(span.status.description)
    rate = attributes.get(_SAMPLE_RATE)
    shared: dict[str, Any] = {
        **_resource(span.resource),
        "operation_id": operation,
        "item_count": max(1, round(100.0 / rate)) if isinstance(rate, (int, float)) and rate > 0 else 1,
    }
    common: dict[str, Any] = {
        **shared,
        "timestamp": _ticks(span.start_time),
        "operation_parent_id": _hex(span.parent.span_id, 16) if span.parent is not None else "",
        "custom_measurements": measured(_measurements(attributes), dimensions),
        "custom_dimensions": dimensions,
        "id": _hex(context.span_id, 16),
        "duration": max((span.end_time or 0) - (span.start_time or 0), 0) // 100,
    }
    kind = span.kind.name
    make = _request if kind in {"SERVER", "CONSUMER"} and not is_inner else _dependency
    whole = make("INTERNAL" if is_inner else kind, as_text(span.name), attributes, common, ok=status != "ERROR")
    inside = {**shared, "operation_name": whole.operation_name, "operation_parent_id": common["id"]}
    return [whole, *(_event(event, inside) for event in span.events or ())]


def _request(kind: str, name: str, attributes: Attributes, common: dict[str, Any], *, ok: bool) -> Item:
    method = _first(attributes, "http.request.method", "http.method")
    code = _code(attributes)
    url = _url(attributes)
    operation = name
    if method:
        path = _first(attributes, "http.route") or _split(url).path
        operation = f"{method} {path}" if path else name
    source = _first(attributes, "messaging.destination.name", "messaging.destination") if kind == "CONSUMER" else ""
    success = ok and not (code.isdigit() and int(code) >= 400)
    return Request(
        **common, name=operation, operation_name=operation, url=url, source=source, result_code=code, success=success
    )


def _dependency(kind: str, name: str, attributes: Attributes, common: dict[str, Any], *, ok: bool) -> Item:
    target = _first(attributes, "peer.service", "server.address", "net.peer.name", "net.peer.ip")
    port = _first(attributes, "server.port", "net.peer.port")
    method = _first(attributes, "http.request.method", "http.method")
    database = _first(attributes, "db.system.name", "db.system")
    messaging = _first(attributes, "messaging.system")
    rpc = _first(attributes, "rpc.system")
    data, code = "", _code(attributes)
    if method:
        type_, data = "HTTP", _url(attributes)
        parts = _split(data)
        target = parts.netloc.rpartition("@")[2] or _host(target, port)
        name = f"{method} {parts.path}" if parts.path else name
    elif database:
        type_ = database
        data = _first(attributes, "db.query.text", "db.statement", "db.operation.name", "db.operation")
        where = _first(attributes, "db.namespace", "db.name")
        target = "|".join(filter(None, (_host(target, port), where))) or database
    elif messaging or kind == "PRODUCER":
        type_ = " | ".join(filter(None, ("Queue Message" if kind == "PRODUCER" else "", messaging)))
        destination = _first(attributes, "messaging.destination.name", "messaging.destination")
        target = "/".join(filter(None, (target, destination))) or messaging
    elif rpc:
        type_, target = rpc, _host(target, port) or _first(attributes, "rpc.service")
    else:
        type_ = "InProc" if kind == "INTERNAL" else "N/A"
        target = _host(target, port)
    return Dependency(**common, name=name, type=type_, target=target, data=data, result_code=code, success=ok)


def _event(event: Any, inside: dict[str, Any]) -> Item:
    attributes: Attributes = event.attributes or {}
    dimensions = _dimensions(attributes)
    common = {**inside, "timestamp": _ticks(event.timestamp), "custom_dimensions": dimensions}
    if event.name == "exception":
        return _exception(attributes, common, 3)
    return Trace(message=as_text(event.name), severity_level=1, **common)


def _exception(attributes: Attributes, common: dict[str, Any], severity: int | None) -> Item:
    kind, message, stack = (as_text(attributes.get(name) or "") for name in EXCEPTION[:3])
    thrown = Thrown(type_name=kind or "Exception", message=message, stack=stack, has_full_stack=bool(stack))
    values: dict[str, Any] = {**common, **summarize((thrown,))}
    return ExceptionItem(**values, details=(thrown,), severity_level=severity)


def _dimensions(attributes: Attributes) -> dict[str, str]:
    return {
        as_text(name): value if isinstance(value, str) else as_text(list(value) if isinstance(value, tuple) else value)
        for name, value in attributes.items()
        if name not in _TAKEN
    }


def _measurements(attributes: Attributes) -> list[tuple[Any, Any]]:
    found = attributes.get(MEASUREMENTS)
    if isinstance(found, str):
        try:
            found = msgspec.json.decode(found)
        except msgspec.DecodeError:
            return []
    return list(found.items()) if isinstance(found, Mapping) else []


def _resource(resource: Any) -> dict[str, str]:
    attributes: Attributes = getattr(resource, "attributes", None) or {}
    name = as_text(attributes.get("service.name") or "")
    if name.startswith(_NAMELESS):
        name = ""
    space = as_text(attributes.get("service.namespace") or "")
    return {
        "cloud_role_name": f"{space}.{name}" if space and name else name,
        "cloud_role_instance": as_text(attributes.get("k8s.pod.name") or attributes.get("service.instance.id") or ""),
        "application_version": as_text(attributes.get("service.version") or ""),
    }


def _first(attributes: Attributes, *names: str) -> str:
    return next((as_text(attributes[name]) for name in names if attributes.get(name) not in (None, "")), "")


def _code(attributes: Attributes) -> str:
    names = ("http.response.status_code", "http.status_code", "rpc.response.status_code", "rpc.grpc.status_code")
    return _first(attributes, *names, "db.response.status_code") or "0"


def _url(attributes: Attributes) -> str:
    url = _first(attributes, "url.full", "http.url")
    if url:
        return url
    scheme = _first(attributes, "url.scheme", "http.scheme")
    host = _first(attributes, "http.host") or _host(
        _first(attributes, "server.address", "net.host.name"), _first(attributes, "server.port", "net.host.port")
    )
    query = _first(attributes, "url.query")
    path = _first(attributes, "http.target") or _first(attributes, "url.path") + (f"?{query}" if query else "")
    return f"{scheme or 'http'}://{host}{path}" if host else path


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # an attribute may hold anything
        return urlsplit("")


def _host(host: str, port: str) -> str:
    return f"{host}:{port}" if host and port and port not in {"80", "443"} else host


def _hex(number: int | None, width: int) -> str:
    """An id as W3C writes it; none where there is none, because zeros would join what does not belong together."""
    return f"{number:0{width}x}" if number else ""


def _ticks(nanoseconds: int | None) -> int:
    return nanoseconds // 100 if nanoseconds else ticks.now()


def _severity(number: Any) -> int | None:
    """OpenTelemetry's 1 to 24 (trace, debug, info, warn, error, fatal, four of each) as 0 to 4."""
    value = getattr(number, "value", number)
    return max(0, (value - 1) // 4 - 1) if isinstance(value, int) and value > 0 else None
