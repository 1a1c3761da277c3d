"""
The local ingestion endpoint: any Application Insights SDK, of any language, can send to this machine.

It answers as the service does (`POST /v2.1/track`, `/v2/track`): item by item,
with the service's limits and messages. What it accepts is appended to the
journal of a home, where `scoretrace query` reads it, and clients of the
service's query API too (`query_api`).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import re
import socket
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from scoretrace import query_api, ticks
from scoretrace.connections import HOST, KEY, PORT
from scoretrace.errors import FormatError, MissingExtraError, SettingsError
from scoretrace.formats import breeze, continuous_export, track
from scoretrace.formats.track import Answer, ItemError
from scoretrace.item import Ids, Item
from scoretrace.journal import Journal
from scoretrace.limits import LIMIT
from scoretrace.schema import BY_KIND
from scoretrace.setting_values import path_part
from scoretrace.settings import NO_KEY, Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

BODY_BYTES = 32 * 1024**2  # as it arrives; the largest that an SDK was seen to send has 17 MB
PLAIN_BYTES = 128 * 1024**2  # decompressed
MOST_ITEMS = 64_000  # in a batch: Application Insights service limits
_MOST_APPS = 100  # telemetry folders; a sender that makes up roles must not open files without end
_OTHER_APP = f"other_{NO_KEY.replace('-', '')}"
_NO_JSON = re.compile(rb"NaN|Infinity|\\u[dD]")
_LONE = re.compile("[\ud800-\udfff]")


class Refused(Exception):  # noqa: N818 - what happened to the request
    """The whole request is refused with this HTTP *status*."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Receiver:
    """Takes request bodies, and writes the items in them below *home*, where *keep* seconds and bytes stay."""

    def __init__(
        self,
        home: Path,
        *,
        keep: tuple[float, float] = (float("inf"), float("inf")),
        clock: Callable[[], int] = ticks.now,
    ) -> None:
        self.home = home
        self._keep = keep
        self._clock = clock
        self._ids = Ids()
        self._journals: dict[str, Journal] = {}
        self.accepted = 0

    def take(self, body: bytes, encoding: str = "") -> tuple[int, list[ItemError]]:
        """
        Accept what can be accepted; returns how many items there were, and what is wrong with which.

        *body* is a JSON array of envelopes, one envelope, or one a line;
        *encoding* is the Content-Encoding, gzip or nothing.

        Raises:
            Refused: the body as a whole cannot be taken.
        """
        envelopes = _split(_plain(body, encoding))
        if len(envelopes) > MOST_ITEMS:
            raise Refused(413, f"a batch has at most {MOST_ITEMS:,} items")
        self._must_be_written()
        errors = []
        now = self._clock()
        for index, envelope in enumerate(envelopes):
            reason = self._take(envelope, now)
            if reason:
                errors.append(ItemError(index, 400, reason))
        self._must_be_written()
        self.accepted += len(envelopes) - len(errors)
        return len(envelopes), errors

    def _must_be_written(self) -> None:
        """Accepted means on disk: a sender keeps what is not."""
        if [journal for journal in list(self._journals.values()) if not journal.flush()]:
            raise Refused(503, f"{self.home} cannot be written")

    def _take(self, envelope: bytes, now: int) -> str:
        """Write an envelope; returns why it cannot be accepted, or nothing."""
        try:
            self._write(self._check(envelope, now), _key(envelope))
        except FormatError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - one envelope, whatever is in it, must not fail the others
            return f"not a telemetry envelope: {type(error).__name__}"
        return ""

    def _check(self, envelope: bytes, now: int) -> tuple[Item, ...]:
        if len(envelope) > LIMIT:
            raise FormatError(f"Telemetry item length must not exceed {LIMIT}")
        items = breeze.decode(envelope)
        for item in items:
            if item.timestamp is None:
                raise FormatError("Field 'time' on type 'Envelope' is required but missing or empty")
            if not now - track.OLDEST <= item.timestamp <= now + track.NEWEST:
                older = item.timestamp < now
                raise FormatError(
                    f"Field 'time' on type 'Envelope' is {'older' if older else 'newer'} than the allowed "
                    f"{'min' if older else 'max'} date"
                )
        return items

    def _write(self, items: tuple[Item, ...], i_key: str) -> None:
        for item in items:
            named = self._named(item)
            app = f"{path_part(item.cloud_role_name).lower()}_{i_key.replace('-', '')}"
            self._journal(app).writer(BY_KIND[item.kind].folder).append(continuous_export.encode(named), time.time())

    def _named(self, item: Item) -> Item:
        """*item* with an id; one that it came with stays a custom dimension, too, as it is in Azure."""
        if not item.item_id:
            return msgspec.structs.replace(item, item_id=self._ids())
        dimensions = {**item.custom_dimensions, breeze.ITEM_ID: item.item_id}
        return msgspec.structs.replace(item, custom_dimensions=dimensions)

    def _journal(self, app: str) -> Journal:
        if app not in self._journals and len(self._journals) >= _MOST_APPS:
            app = _OTHER_APP
        if app not in self._journals:
            journal = Journal(self.home, app, keep_seconds=self._keep[0], keep_bytes=self._keep[1])
            return self._journals.setdefault(app, journal)  # another thread may have been first
        return self._journals[app]

    def close(self) -> None:
        """Write what waits, and close the files."""
        for journal in self._journals.values():
            journal.close()


def _plain(body: bytes, encoding: str) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise Refused(415, f"Content-Encoding must be gzip or none, not {encoding[:40]}")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            plain = file.read(PLAIN_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(400, f"not gzip: {error}") from error
    if len(plain) > PLAIN_BYTES:
        raise Refused(413, f"a body has at most {PLAIN_BYTES:,} bytes decompressed")
    return plain


def _split(body: bytes) -> list[bytes]:
    """The envelopes in *body*, each as it was sent."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        try:
            return _parts(text)
        except msgspec.DecodeError:
            if not _NO_JSON.search(text):
                raise
        # Python's own json writes NaN, Infinity and lone surrogates, which are no JSON, and the SDKs send them.
        found = json.loads(text, parse_constant=str)
        return [_lone(json.dumps(part, ensure_ascii=False)) for part in (found if isinstance(found, list) else [found])]
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"not a JSON array of envelopes, nor one envelope a line: {error}") from error


def _lone(text: str) -> bytes:
    """*text* in UTF-8, lone surrogates as the text of their escape."""
    return _LONE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def _parts(text: bytes) -> list[bytes]:
    if text.startswith(b"["):
        return [bytes(part) for part in msgspec.json.decode(text, type=list[msgspec.Raw])]
    parts = [line.strip() for line in text.split(b"\n") if line.strip()]
    if len(parts) > 1 and all(part.startswith(b"{") and part.endswith(b"}") for part in parts):
        return parts  # each is looked at by itself
    return [bytes(msgspec.json.decode(text, type=msgspec.Raw))] if parts else []


class _Keyed(msgspec.Struct):
    iKey: str = ""  # noqa: N815 - the envelope's name


def _key(envelope: bytes) -> str:
    try:
        key = msgspec.json.decode(envelope, type=_Keyed).iKey.strip().lower()
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"not a telemetry envelope: {error}") from error
    if not KEY.fullmatch(key):
        raise FormatError("Invalid instrumentation key")
    return key


def application(receiver: Receiver, ended: Callable[[int], None] = lambda _accepted: None) -> Starlette:
    """The ASGI application that gives request bodies to *receiver*; *ended* gets the number of accepted items."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def receive(request: HttpRequest) -> Response:
        try:
            body = await _body(request)
            encoding = request.headers.get("content-encoding", "")
            count, errors = await run_in_threadpool(receiver.take, body, encoding)
        except Refused as refused:
            headers = {"Retry-After": "5"} if refused.status == 503 else {}
            return _answer(refused.status, 0, [ItemError(0, refused.status, str(refused))], headers)
        status = 200 if not errors else 400 if len(errors) == count else 206
        return _answer(status, count, errors, {})

    async def hello(_request: HttpRequest) -> Response:
        return PlainTextResponse(f"scoretrace: POST telemetry to /v2.1/track\n{receiver.accepted} items accepted\n")

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        receiver.close()
        ended(receiver.accepted)  # here, because the signal that ended the server ends the process next

    return Starlette(
        routes=[
            # A connection string that ends in a slash makes two of it with some SDKs.
            *(
                Route(path, receive, methods=["POST"])
                for path in ("/v2.1/track", "/v2/track", "//v2.1/track", "//v2/track")
            ),
            *query_api.routes(receiver.home),
            Route("/", hello),
        ],
        # The JavaScript SDK sends from a page of another origin, as it does to the service.
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["*"])],
        lifespan=lifespan,
    )


async def _body(request: HttpRequest) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES:
            raise Refused(413, f"a body has at most {BODY_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _answer(status: int, count: int, errors: list[ItemError], headers: dict[str, str]) -> Response:
    from starlette.responses import Response

    body = track.encode(Answer(count, max(count - len(errors), 0), None, tuple(errors)))
    return Response(body, status, headers, "application/json")


def serve(
    settings: Settings,
    *,
    host: str = HOST,
    port: int = PORT,
    ready: Callable[[str], None] = lambda _connection_string: None,
    ended: Callable[[int], None] = lambda _accepted: None,
) -> None:
    """
    Receive telemetry into the home of *settings* until SIGINT or SIGTERM.

    *ready* is called with the connection string when it listens, *ended* with
    the number of items that were accepted.

    A *port* of 0 takes a free one. There is no authentication, as there is none
    for an instrumentation key: a *host* that is not this machine lets everybody
    in who reaches it.

    Raises:
        MissingExtraError: starlette and uvicorn are not installed.
        SettingsError: the address cannot be listened on, or the home not be written.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("the endpoint", "server") from error
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2_048)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES}
        why = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"cannot listen on {host}:{port}: {why}{'; --port 0 takes a free one' if taken else ''}"
        ) from error
    home = settings.home
    with listener:
        try:
            (home / "telemetry").mkdir(parents=True, exist_ok=True)
            probe = home / f".{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SettingsError(f"home is {home}: it cannot be written ({error.strerror})") from error
        bound = listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        url = f"http://{'127.0.0.1' if host in {'0.0.0.0', ''} else name}:{bound}/"  # noqa: S104 - compared with
        receiver = Receiver(home, keep=(settings.keep_days * 86_400, settings.keep_bytes))
        app = application(receiver, ended)
        config: Any = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        app.state.is_ending = lambda: server.should_exit
        ready(f"InstrumentationKey={local_key(home)};IngestionEndpoint={url};LiveEndpoint={url}")
        server.run(sockets=[listener])


def local_key(home: Path) -> str:
    """An instrumentation key for *home*: the same each time, so that its folder is the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, home.absolute().as_uri()))
