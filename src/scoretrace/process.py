"""
The telemetry of this process: who is configured, which is current, and the functions that use it.

The last that was configured is the current one, which `log`, `request` and
`request_context` use, and which has the prints.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from typing import Any, TypeVar, overload

from scoretrace import forks
from scoretrace.capture import prints, requests, server_logs
from scoretrace.capture.handler import Aside, RecordHandler
from scoretrace.capture.requests import RequestContext
from scoretrace.setting_values import in_scoring_server
from scoretrace.settings import Settings, resolve, use_home
from scoretrace.telemetry import Telemetry

Run = TypeVar("Run", bound=Callable[..., Any])

_log = logging.getLogger("scoretrace")


class _Process:
    """The telemetries of this process by their settings, the current one, and what makes another."""

    def __init__(self) -> None:
        self.known: dict[Settings, Telemetry] = {}
        self.current: Telemetry | None = None
        self.make: Callable[[Settings], Telemetry] = Telemetry
        self.said: set[str] = set()
        self.after_fork()

    def after_fork(self) -> None:
        """Another thread of the parent's may have held the lock."""
        self.lock = RLock()

    def say_once(self, message: str) -> None:
        """Warn, the first time."""
        if message not in self.said:
            self.said.add(message)
            _log.warning("%s", message)


_process = _Process()


@contextlib.contextmanager
def made_by(make: Callable[[Settings], Telemetry]) -> Iterator[None]:
    """
    Have *make* make each telemetry that is asked for in the block, and end them all after it.

    What was configured before is set aside meanwhile, and goes on then.
    """
    real, known, before = _process.make, dict(_process.known), _process.current
    root = logging.getLogger()
    handlers = [handler for handler in root.handlers if isinstance(handler, TelemetryHandler)]
    for other in known.values():
        other.rest(rests=True)
    _process.known.clear()
    _process.make = make
    try:
        yield
    finally:
        _process.make = real
        for made in list(_process.known.values()):
            made.shutdown()
        _process.known.update(known)
        for other in known.values():
            other.rest(rests=False)
        for handler in handlers:
            root.addHandler(handler)
        if before is not None:
            telemetry_for(before.settings)


def telemetry_for(settings: Settings) -> Telemetry:
    """
    Make the telemetry of *settings* the current one, and return it: one a process, however many handlers ask for it.

    Prints go to the current one alone, so that none is two rows.
    """
    with _process.lock:
        if settings not in _process.known:
            if settings.instrument:
                from scoretrace.capture import instrument

                instrument.check(settings.instrument)
            made = _process.known[settings] = _process.make(settings)
            made.ended = lambda: _ended(made)
            forks.tell(_process)
        before, now = _process.current, _process.known[settings]
        _process.current = now
        use_home(settings.home)
        if settings.capture_print and not settings.disabled:
            if before is not None and before is not now:
                prints.untap(before.printed)
            prints.tap(now.printed, stderr=settings.capture_stderr)
        if settings.capture_requests and not settings.disabled and in_scoring_server():
            _install_in_server(settings)
        else:
            now.instrument(recording)
        return now


def _ended(telemetry: Telemetry) -> None:
    """The one before it, if that still lives, is current again, and has the prints."""
    with _process.lock:
        _process.known.pop(telemetry.settings, None)
        if _process.current is telemetry:
            before = next(reversed(_process.known.values()), None)
            _process.current = None
            use_home(None)
            if before is not None:
                telemetry_for(before.settings)


def _install_in_server(settings: Settings) -> None:
    """Record the calls of the scoring server with whatever telemetry is current when they come."""
    from scoretrace.capture import scoring_server, web

    shared = scoring_server.shared(settings.service, settings.workspace, settings.instance)
    options = web.Options(scoring_server.PROBES, settings.log_response, shared)

    def served() -> tuple[Telemetry, web.Options] | None:
        found = recording()
        return (found, options) if found is not None and found.settings.capture_requests else None

    server_logs.have_requests()
    scoring_server.install(served)
    scoring_server.when_ready(_ready)
    if settings.ingestion is not None and scoring_server.sends_itself():
        _process.say_once(
            "the scoring server's own Application Insights is on too, so each row arrives twice: "
            "set AML_APP_INSIGHTS_ENABLED=false"
        )


def _ready() -> None:
    """The scoring server has done what it does to `print` and to OpenTelemetry; the script comes next."""
    prints.retap()
    if _process.current is not None:
        _process.current.instrument(recording)


def recording() -> Telemetry | None:
    """The telemetry that was configured last, if it records anything now."""
    found = _process.current
    return found if found is not None and found.is_on() else None


def wanted() -> Telemetry | None:
    """The same for somebody who wants it recorded: that nothing is configured is said once."""
    return _wanted() and recording()


def current() -> Telemetry | None:
    """The telemetry that was configured last, or None."""
    return _process.current


def known() -> list[Telemetry]:
    """All that were configured, or asked for by a handler, and have not ended."""
    return list(_process.known.values())


class TelemetryHandler(RecordHandler):
    """
    A `logging.Handler` that turns records into telemetry: traces, and exceptions where there is `exc_info`.

    It takes the same keywords as `configure` and reads the same environment, so
    that a `logging.json` is enough to switch it on:

        {"version": 1,
         "handlers": {"telemetry": {"class": "scoretrace.TelemetryHandler"}},
         "root": {"handlers": ["telemetry"], "level": "INFO"}}

    Raises:
        SettingsError: a setting cannot work.
    """

    def __init__(self, resolved: Settings | None = None, /, **settings: Any) -> None:
        resolved = resolved or resolve(settings)
        self.telemetry = telemetry_for(resolved)
        aside = [Aside(server_logs.LOGGERS, server_logs.takes, server_logs.is_idle)]
        if in_scoring_server():
            from scoretrace.capture import scoring_server

            aside.append(Aside(scoring_server.LOGGERS, scoring_server.takes, scoring_server.is_idle))
        super().__init__(self.telemetry, level=resolved.level, exclude=resolved.exclude, aside=tuple(aside))
        self.telemetry.handlers.add(self)
        if resolved.disabled:
            self.addFilter(lambda _record: False)


def configure(
    *,
    connection_string: str | None = None,
    home: str | os.PathLike[str] | None = None,
    storage: str | None = None,
    exporter: str | Iterable[str] | None = None,
    service: str | None = None,
    model: str | None = None,
    level: int | str | None = None,
    capture_print: bool | None = None,
    **more: Any,
) -> Telemetry:
    """
    Start: log records of *level* and above, and prints, become items on disk below *home*.

    Records of all loggers are taken, whatever the script does with logging
    before or after, and the console shows what it would show without us (see
    `capture.records`). An exception that ends the process or a thread is
    recorded too. Further keywords and the environment names are in docs/settings.md's
    table of settings.

    Calling it again with the same settings returns the same telemetry; with
    others, it shuts down the one before.

    With a *connection_string* a thread delivers the journal to Application
    Insights, and what was not sent when the process ends goes out with the next
    start. *exporter* says how ("none" leaves it to `scoretrace export`), and
    *storage* is the account that payloads go to.

    Raises:
        SettingsError: a setting is unknown or cannot work.
        MissingExtraError: what the exporter or the storage needs is not installed.
    """
    given = {
        "connection_string": connection_string,
        "home": home,
        "storage": storage,
        "exporter": exporter,
        "service": service,
        "model": model,
        "level": level,
        "capture_print": capture_print,
        **more,
    }
    with _process.lock:
        settings = resolve(given)
        for other in known():
            if other.configured and other.settings != settings:
                other.shutdown()
        return _configured(settings)


def _configured(settings: Settings) -> Telemetry:
    telemetry = telemetry_for(settings)
    if not telemetry.configured:
        root = logging.getLogger()
        for handler in list(root.handlers):  # from a logging.json: a row is to be one row
            if isinstance(handler, TelemetryHandler) and handler.telemetry is not telemetry:
                root.removeHandler(handler)
        telemetry.install(TelemetryHandler(settings))
    return telemetry


def take_over(before: Telemetry) -> Telemetry:
    """Configure with the settings of *before*."""
    with _process.lock:
        return _configured(before.settings)


def log(obj: Any = None, /, **fields: Any) -> None:
    """
    Record one structured trace: the fields, and those of *obj* if it is a mapping, become custom dimensions.

    Containers become JSON text there, so that
    ``parse_json(tostring(customDimensions.input))`` reads them in Kusto. The
    message is *obj* if it is text, its JSON if it is some other value, and else
    the names of the fields. Never raises; without a `configure` before it,
    nothing is recorded.
    """
    telemetry = _wanted()
    if telemetry is not None:
        telemetry.log(obj, **fields)


@overload
def request(run: Run, /) -> Run: ...
@overload
def request(*, name: str | None = None) -> Callable[[Run], Run]: ...
def request(run: Any = None, /, *, name: str | None = None) -> Any:
    """
    Time each call of *run* as a request named after it, and give all that happens inside the same operation id.

    The result code is 200, the `status_code` of a response object, the second
    part of a ``(body, status)`` tuple, or 500 when *run* raises; the exception
    goes on and becomes a row of its own.

        @scoretrace.request
        def run(raw_data): ...
    """
    if run is None:
        return lambda function: requests.timed(function, _wanted, name)
    return requests.timed(run, _wanted, name)


def request_context(
    name: str = "request",
    *,
    url: str = "",
    source: str = "",
    traceparent: str = "",
    custom_dimensions: Mapping[str, Any] | None = None,
) -> RequestContext:
    """
    Do for a block of code what `request` does for a function.

        with scoretrace.request_context("score") as context:
            ...

    *traceparent* is the W3C header of the caller; one that is malformed is
    ignored. Inside, `context.result_code`, `context.success` and
    `context.custom_dimensions` may be set.
    """
    return RequestContext(
        _wanted(), name, url=url, source=source, traceparent=traceparent, custom_dimensions=custom_dimensions
    )


def _wanted() -> Telemetry | None:
    if _process.current is None:
        _process.say_once("nothing is recorded before scoretrace.configure() or a TelemetryHandler")
    return _process.current
