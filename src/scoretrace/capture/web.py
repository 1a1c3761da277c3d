"""
Calls that a web server answers, as requests: WSGI and ASGI, whatever framework is behind it.

The row is written before the last piece of the answer goes out, so that whoever
has the answer can rely on the row. The answer itself passes through untouched.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from scoretrace.capture.operation import NONE, OPERATION, current
from scoretrace.capture.outlet import Outlet
from scoretrace.capture.requests import RequestContext

RESPONSE_VALUE = "Response Value"  # as the scoring server calls it, and the names of the headers' dimensions too
REQUEST_ID, CLIENT_REQUEST_ID = "Request Id", "Client Request Id"
PROBES = frozenset({"/health", "/healthz", "/livez", "/readyz", "/live", "/ready", "/liveness", "/readiness", "/ping"})

_BEGUN = "scoretrace.operation"  # in the environment of a call: the operation that it is
_PROBING = frozenset({"GET", "HEAD"})
_LENGTHS = frozenset(map(len, ("content-length", "content-type", "content-encoding", "x-request-id")))
_RESPONSE_BYTES = 16 * 1024**2  # of an answer; a stream that is longer must not fill the memory
_SAFE = "/:@!$&'()*+,;=~-._%"  # what a URL's path may have as it is

Environment = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
WsgiApp = Callable[[Environment, Callable[..., Any]], Iterable[bytes]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Options(NamedTuple):
    """Which calls are left out (paths of *probes*), whether answers are kept, and what all rows of a call share."""

    probes: frozenset[str] = PROBES
    log_response: bool = False
    shared: Mapping[str, str] = {}


class _Call:
    """One call while it is answered: the request, and what the answer has come to."""

    def __init__(
        self, outlet: Outlet, method: str, path: str, url: str, headers: tuple[str, str, str], options: Options
    ) -> None:
        traceparent, request_id, client_request_id = headers
        self._outlet = outlet
        self.context = RequestContext(
            outlet,
            f"{method} {path}",
            url=url,
            traceparent=traceparent,
            custom_dimensions={"http_method": method},
            operation_id=_as_operation(request_id),
            is_served=True,
        )
        self.context.share({**options.shared, REQUEST_ID: request_id, CLIENT_REQUEST_ID: client_request_id})
        self._keeps = options.log_response
        self._pieces: list[bytes] = []
        self._size = 0
        self._length: int | None = None
        self._type = ""
        self._is_encoded = self._is_unseen = False

    def answered(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Take the status, and what the headers say of the rest; an application may change its mind."""
        self.context.result_code = str(status)
        self._length, self._type, self._is_encoded = None, "", False
        for name, value in headers:
            if len(name) not in _LENGTHS:
                continue
            key = name.lower()
            if key == "content-length" and value.isdigit():
                self._length = int(value)
            elif key == "content-type":
                self._type = value
            elif key == "content-encoding":
                self._is_encoded = value.lower() != "identity"
            elif key == "x-request-id":
                self.context.share({REQUEST_ID: value})

    def passing(self, piece: bytes) -> None:
        """Take a piece of the answer before it goes out; where it is the last one, the request ends. Never raises."""
        try:
            self._size += len(piece)
            if self._keeps and self._size <= _RESPONSE_BYTES:
                self._pieces.append(bytes(piece))
            if self._length is not None and self._size >= self._length:
                self.end()
        except Exception as ours:  # noqa: BLE001 - a piece that is none is the server's to refuse
            self._outlet.failed(ours)

    def unseen(self) -> None:
        """The server sends a file by itself: it does not pass here, and what is known of the request is known now."""
        self._is_unseen = True
        self.end()

    def end(self, error: BaseException | None = None) -> None:
        """End the request, and keep the answer where that is wanted."""
        if self._keeps:
            self._keeps = False
            self.context.custom_dimensions[RESPONSE_VALUE] = self._response()
            self._pieces.clear()
        self.context.end(error)

    def _response(self) -> str:
        if self._is_unseen:
            return f"<a file of {self._type or 'unknown type'}>"
        if self._size <= _RESPONSE_BYTES and not self._is_encoded:
            try:
                return b"".join(self._pieces).decode()
            except UnicodeDecodeError:
                pass
        return f"<{self._size} bytes of {self._type or 'unknown type'}>"


def answer_wsgi(
    app: WsgiApp, environ: Environment, start_response: Callable[..., Any], outlet: Outlet, options: Options
) -> Iterable[bytes]:
    """What *app* answers, its request recorded."""
    call = None
    try:
        below = _text(environ.get("PATH_INFO", ""))
        path = _text(environ.get("SCRIPT_NAME", "")) + below
        method = environ.get("REQUEST_METHOD", "GET")
        is_probe = method in _PROBING and (path in options.probes or below in options.probes)
        if not (is_probe or _is_answered(environ)):
            headers = (
                _text(environ.get("HTTP_TRACEPARENT", "")),
                _text(environ.get("HTTP_X_REQUEST_ID", "")),
                _text(environ.get("HTTP_X_MS_CLIENT_REQUEST_ID", "")),
            )
            call = _Call(outlet, method, path, _wsgi_url(environ, path), headers, options)
            call.context.begin()
            environ[_BEGUN] = call.context.operation_id
    except Exception as ours:  # noqa: BLE001 - telemetry must not change the answer
        outlet.failed(ours)
    if call is None:
        return app(environ, start_response)
    begun = call

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        try:
            begun.answered(int(status[:3]), headers)
        except Exception as ours:  # noqa: BLE001 - see above
            outlet.failed(ours)
        write = start_response(status, headers, *more)

        def passed(piece: bytes) -> Any:
            begun.passing(piece)
            return write(piece)

        return passed if callable(write) else write

    context = call.context
    context.resume()
    try:
        body = app(environ, start)
    except BaseException as error:
        context.pause()
        call.end(error)
        raise
    context.pause()
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type) and isinstance(body, wrapper):  # the server sends the file by itself
        call.unseen()
        return body
    # Servers look at it: the length of an only piece is that of the answer.
    return (_SizedBody if hasattr(body, "__len__") else _Body)(call, body)


class _Body:
    """The pieces of an answer: the operation is current while one is made, and not while it is sent."""

    def __init__(self, call: _Call, body: Iterable[bytes]) -> None:
        self._call = call
        self._body = body
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        call = self._call
        call.context.resume()
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            piece = next(self._pieces)
        except StopIteration:
            call.end()
            raise
        except BaseException as error:
            call.end(error)
            raise
        finally:
            call.context.pause()
        call.passing(piece)
        return piece

    def close(self) -> None:
        call = self._call
        call.context.resume()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            call.end(error)
            raise
        finally:
            call.context.pause()
        call.end()


class _SizedBody(_Body):
    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


async def answer_asgi(
    app: AsgiApp, scope: Scope, receive: Receive, send: Send, outlet: Outlet, options: Options
) -> None:
    """What *app* answers, its request recorded. Websockets and the life of the server pass through."""
    call = None
    try:
        path = scope.get("path", "")
        method = scope.get("method", "GET")
        is_probe = method in _PROBING and path in options.probes
        if scope["type"] == "http" and not is_probe and not _is_answered(scope):
            _listed(scope)
            given = {name.lower(): value for name, value in map(_header, scope["headers"])}
            headers = (
                given.get("traceparent", ""),
                given.get("x-request-id", ""),
                given.get("x-ms-client-request-id", ""),
            )
            call = _Call(outlet, method, path, _asgi_url(scope, given), headers, options)
            call.context.begin()
            scope[_BEGUN] = call.context.operation_id
    except Exception as ours:  # noqa: BLE001 - telemetry must not change the answer
        outlet.failed(ours)
    if call is None:
        await app(scope, receive, send)
        return
    begun = call

    async def sent(message: MutableMapping[str, Any]) -> None:
        try:
            if message["type"] == "http.response.start":
                _listed(message)
                begun.answered(message["status"], map(_header, message.get("headers", ())))
            elif message["type"] == "http.response.pathsend":
                begun.unseen()
            elif message["type"] == "http.response.body":
                begun.passing(message.get("body", b""))
                if not message.get("more_body", False):
                    begun.end()
        except Exception as ours:  # noqa: BLE001 - see above
            outlet.failed(ours)
        await send(message)

    context = call.context
    context.resume()
    try:
        await app(scope, receive, sent)
    except BaseException as error:
        context.pause()
        call.end(error)
        raise
    context.pause()
    call.end()


def _as_operation(request_id: str) -> str:
    """
    An operation id made of a request id that is a GUID, so that who knows the one finds the other.

    >>> _as_operation("0de0c520-181f-422d-8640-100000000003"), _as_operation("mine")
    ('0de0c520181f422d8640100000000003', '')
    """
    try:
        found = uuid.UUID(request_id) if len(request_id) == 36 else None
    except ValueError:
        return ""
    return found.hex if found is not None and found.int else ""  # zeros would join strangers


def _text(value: str) -> str:
    """A WSGI string, which holds bytes as Latin-1, as text."""
    return value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")


def _is_answered(call: Mapping[str, Any]) -> bool:
    """Whether *call* is a request already: of ours further out, or of a span of OpenTelemetry's."""
    operation = OPERATION.get()
    return call.get(_BEGUN) == operation.id if operation is not NONE else current().is_served


def _listed(message: MutableMapping[str, Any]) -> None:
    """Make a list of headers that can be gone through only once: somebody else wants them too."""
    headers = message.get("headers")
    if headers is not None and not isinstance(headers, (list, tuple)):
        message["headers"] = list(headers)


def _header(pair: Iterable[bytes]) -> tuple[str, str]:
    name, value = pair
    return name.decode("latin-1"), value.decode("latin-1")


def _wsgi_url(environ: Environment, path: str) -> str:
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    query = environ.get("QUERY_STRING", "")
    return _url(environ.get("wsgi.url_scheme", "http"), host, path, query)


def _asgi_url(scope: Scope, headers: Mapping[str, str]) -> str:
    server = scope.get("server") or ("", "")
    host = headers.get("host") or ":".join(str(part) for part in server if part is not None)
    query = scope.get("query_string", b"").decode("latin-1")
    return _url(scope.get("scheme", "http"), host, scope.get("path", ""), query)


def _url(scheme: str, host: str, path: str, query: str) -> str:
    return f"{scheme}://{host}{_quoted(path)}{f'?{query}' if query else ''}"


@lru_cache(maxsize=256)
def _quoted(path: str) -> str:
    return quote(path, safe=_SAFE)
