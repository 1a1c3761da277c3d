"""
Any WSGI or ASGI application, its calls as requests.

    app = scoretrace.middleware.asgi(app)

Each call becomes a request with its true duration, result code, success, name
and URL; what is printed, logged and raised meanwhile carries its operation id.
`traceparent` is honoured, `x-request-id` and `x-ms-client-request-id` become
custom dimensions. The answer passes through untouched, streams too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from scoretrace import process
from scoretrace.capture import server_logs, web
from scoretrace.capture.web import PROBES

__all__ = ["PROBES", "asgi", "wsgi"]


def wsgi(app: web.WsgiApp, *, probes: Iterable[str] = PROBES, log_response: bool = False) -> web.WsgiApp:
    """
    *app*, its calls recorded by the telemetry that is configured.

    GET and HEAD of the paths in *probes* are left out: health checks by
    default. With *log_response* the answer is kept as the custom dimension
    ``Response Value``, whole however large it is up to 16 MiB; one that is no
    UTF-8 is only named by its size and type.
    """
    options = web.Options(frozenset(probes), log_response)
    server_logs.have_requests()

    @functools.wraps(app, updated=())
    def middleware(environ: web.Environment, start_response: Any) -> Iterable[bytes]:
        outlet = process.wanted()
        if outlet is None:
            return app(environ, start_response)
        return web.answer_wsgi(app, environ, start_response, outlet, options)

    return middleware


def asgi(app: web.AsgiApp, *, probes: Iterable[str] = PROBES, log_response: bool = False) -> web.AsgiApp:
    """The same for ASGI (FastAPI, Starlette, Quart, Django); websockets pass through unrecorded."""
    options = web.Options(frozenset(probes), log_response)
    server_logs.have_requests()

    @functools.wraps(app, updated=())
    async def middleware(scope: web.Scope, receive: web.Receive, send: web.Send) -> None:
        outlet = process.wanted()
        if outlet is None:
            await app(scope, receive, send)
        else:
            await web.answer_asgi(app, scope, receive, send, outlet, options)

    return middleware
