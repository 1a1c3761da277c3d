"""
Inside azureml-inference-server-http: its calls as true requests, and nothing twice.

The server answers with Flask and calls `run()` from its own class. It sends
request rows without duration, result code or operation, and keeps the script's
exception to itself; so its calls are taken at the WSGI door, and exceptions
where the server wraps them. It turns prints into records of its own logger,
which are left alone here, because the tap of `print` has them. Written for
1.5.1; what another version does not have is passed over.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from scoretrace.capture import prints, web
from scoretrace.capture.operation import current as current_operation
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.thrown import send_once
from scoretrace.connections import KEY

PACKAGE = "azureml_inference_server_http"
PROBES = frozenset({"/"})
LOGGERS = ("azmlinfsrv",)

_SCRIPT = f"{PACKAGE}.server.user_script"
_REQUEST_LINES = "routes"  # the module that logs what a request row and its exception say
# Functions of ours that call the script: what is above them in a stack is the script's own.
_BELOW = frozenset(
    {
        ("prints", "_into"),
        ("requests", "wrapper"),
        ("requests", "_steps"),
        ("requests", "_async_steps"),
        ("web", "answer_wsgi"),
        ("web", "__next__"),
        ("web", "close"),
        ("scoring_server", "wrapper"),
        ("scoring_server", "_invoke_run"),
    }
)
_OURS = "scoretrace."
_PATIENCE_SECONDS = 1.0
_waiting: FrameType | None = None  # the frame at which the alarm is to strike
_PATCHED = "__scoretrace_patched__"

Current = Callable[[], tuple[Outlet, web.Options] | None]

_current: Current = lambda: None  # noqa: E731 - replaced by `install`
_ready: Callable[[], object] = lambda: None  # noqa: E731


def sends_itself() -> bool:
    """Whether the environment switches the server's own Application Insights on."""
    # As its launcher reads them; it switches itself off where the key is no GUID.
    enabled = os.environ.get("AML_APP_INSIGHTS_ENABLED") == "true"
    return enabled and KEY.fullmatch(os.environ.get("AML_APP_INSIGHTS_KEY", "")) is not None


def shared(service: str, workspace: str, instance: str) -> dict[str, str]:
    """The custom dimensions that the classic images gave to all rows of a call."""
    name = workspace.rpartition("/")[2]
    return {
        "Service Name": service,
        "Workspace Name": "" if name == "default" else name,
        "Container Id": instance,
    }


def takes(record: logging.LogRecord) -> bool:
    """Whether *record*, of one of `LOGGERS`, needs no row: it is a print, or says what the request's row says."""
    if record.name == "azmlinfsrv.print" and record.funcName == "print_to_logger":
        prints.passed_on(record.getMessage())
        return True
    return is_idle(record)


def is_idle(record: logging.LogRecord) -> bool:
    """Whether *record* says what the request's row says, as all of its line do."""
    return record.module == _REQUEST_LINES and PACKAGE in record.pathname


def when_ready(then: Callable[[], object]) -> None:
    """Call *then* when the server is set up and about to load the script; at once where that has begun."""
    global _ready  # noqa: PLW0603 - one server a process
    _ready = then
    if _SCRIPT in sys.modules:
        then()


def install(current: Current) -> None:
    """
    Record the calls of the server with what *current* gives, as long as it gives something.

    It may be called at any time: from a logging.json, which is read before the
    server's own modules are there, or from the script.
    """
    global _current  # noqa: PLW0603 - see above
    _current = current
    with suppress(ImportError, AttributeError):
        from flask import Flask

        _patch(Flask, "wsgi_app", _wsgi_app)
        _patch(Flask, "handle_user_exception", _handle_user_exception)
        _patch(Flask, "register_blueprint", _register_blueprint)
    _patch_script()


def _patch_script() -> None:
    script: Any = sys.modules.get(_SCRIPT)
    utils: Any = sys.modules.get(f"{PACKAGE}.server.utils")
    with suppress(AttributeError):
        if not hasattr(utils._alarm_handler, _PATCHED):  # noqa: SLF001 - the one place where the timeout strikes
            utils._alarm_handler = _patient(utils._alarm_handler)  # noqa: SLF001
    for owner, name, around in (
        ("UserScript", "load_script", _load_script),
        ("UserScript", "invoke_run", _invoke_run),
        ("UserScriptException", "__init__", _script_failed),
        ("UserScriptTimeout", "__init__", _script_timed_out),
    ):
        with suppress(AttributeError):
            _patch(getattr(script, owner), name, around)


def _patch(owner: type, name: str, around: Callable[..., Any]) -> None:
    real = getattr(owner, name)
    if hasattr(real, _PATCHED):
        return

    @functools.wraps(real)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(real, self, *args, **kwargs)

    setattr(wrapper, _PATCHED, True)
    setattr(owner, name, wrapper)


def _patient(real: Callable[..., Any]) -> Callable[..., Any]:
    """
    The server's alarm, which waits for the end of our own code where it would strike inside.

    It raises wherever the script is; a print or a log call that telemetry keeps
    from raising would swallow it, and the script would run on without any timeout.
    """

    @functools.wraps(real)
    def alarm(number: int, frame: FrameType | None) -> Any:
        global _waiting  # noqa: PLW0603 - there is one alarm a process
        caller = _caller_of_ours(frame)
        if caller is None or _waiting is not None:
            _stop_waiting()
            return real(number, frame)
        _waiting = caller
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)  # something of the script's may hang inside of ours

        def strike(where: FrameType, _event: str, _argument: Any) -> Any:
            _stop_waiting()
            return real(number, where)  # which raises, here where our call has returned to

        caller.f_trace = strike
        sys.settrace(sys.gettrace() or (lambda *_: None))
        return None

    setattr(alarm, _PATCHED, True)
    return alarm


def _stop_waiting() -> None:
    global _waiting  # noqa: PLW0603 - see above
    if _waiting is not None:
        _waiting.f_trace = None
        _waiting = None


def _caller_of_ours(frame: FrameType | None) -> FrameType | None:
    """Who called our code, where *frame* is in it or in what it calls; None where it is only below, as always."""
    caller = None
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_OURS):
            if (module.rpartition(".")[2], frame.f_code.co_name) in _BELOW:
                break
            caller = frame.f_back
        frame = frame.f_back
    return caller


def _wsgi_app(real: Callable[..., Any], app: Any, environ: web.Environment, start_response: Any) -> Any:
    found = _current()
    if found is None or not app.import_name.startswith(PACKAGE):
        return real(app, environ, start_response)
    return web.answer_wsgi(functools.partial(real, app), environ, start_response, *found)


def _register_blueprint(real: Callable[..., Any], app: Any, *args: Any, **options: Any) -> Any:
    _patch_script()  # its module is there by now, and the script is not yet
    return real(app, *args, **options)


def _load_script(real: Callable[..., Any], script: Any, *args: Any, **kwargs: Any) -> Any:
    _ready()
    return real(script, *args, **kwargs)


def _invoke_run(real: Callable[..., Any], script: Any, *args: Any, **kwargs: Any) -> Any:
    with suppress(Exception):  # outside of a call, or a server that keeps its ids elsewhere
        ids = sys.modules["flask"].g
        current_operation().share({web.REQUEST_ID: ids.request_id, web.CLIENT_REQUEST_ID: ids.client_request_id})
    tracer = sys.gettrace()
    try:
        return real(script, *args, **kwargs)
    finally:
        _stop_waiting()
        if sys.gettrace() is not tracer:  # the timeout struck, which ends tracing: a debugger goes on, and nobody else
            sys.settrace(tracer)


def _handle_user_exception(real: Callable[..., Any], app: Any, error: Exception) -> Any:
    if not hasattr(error, "get_response"):  # an HTTPException is an answer
        _record(error)
    return real(app, error)


def _script_failed(real: Callable[..., Any], wrapped: Any, error: BaseException, *args: Any, **kwargs: Any) -> None:
    real(wrapped, error, *args, **kwargs)
    _record(error)


def _script_timed_out(real: Callable[..., Any], wrapped: Any, *args: Any, **kwargs: Any) -> None:
    real(wrapped, *args, **kwargs)
    inside = sys.exc_info()[1]  # where in the script it was, which the server drops
    if inside is not None:
        _record(TimeoutError(str(wrapped)).with_traceback(inside.__traceback__))


def _record(error: BaseException) -> None:
    """The script's own exception as a row: the server shows it to nobody, whatever it answers."""
    found = _current()
    if found is None:
        return
    outlet, _ = found
    operation_id = current_operation().id
    try:
        # Outside of a call it is init(), or the import, that failed: what would have been a service ends.
        send_once(outlet, error, operation_id, severity_level=3 if operation_id else 4)
    except Exception as ours:  # noqa: BLE001 - telemetry must not break the server
        outlet.failed(ours)
