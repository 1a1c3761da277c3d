"""Any WSGI or ASGI application: its calls are requests, and its answers what they were."""

import asyncio
import logging
import sys
import time
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

import scoretrace

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GUID = "0de0c520-181f-422d-8640-100000000003"


def app(environ, start_response):
    """A WSGI application that answers what its path asks for."""
    print("called")
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("no good")
    if path == "/late":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return late()
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    body = b"\xff\x00" if path == "/binary" else f"hello {path}".encode()
    start_response(
        "404 Not Found" if path == "/gone" else "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
    )
    return [body]


def stream():
    for number in range(3):
        print("piece", number)
        yield f"{number}\n".encode()


def late():
    yield b"0"
    raise ValueError("half way")


def call(application, path="/", method="GET", query="", **headers):
    """Call it as a server would: status, headers, body."""
    environ = {
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
        "HTTP_HOST": "host:8080",
    }
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    answered = []
    body = application(environ, lambda status, pairs, exc_info=None: answered.append((status, pairs)))
    try:
        data = b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    return *answered[-1], data


@pytest.mark.parametrize("path", ["/", "/a b", "/gone", "/stream", "/binary", "/é".encode().decode("latin-1")])
def test_a_wsgi_answer_is_what_it_was(telemetry, path):
    """Status, headers and body, and every rule that servers and applications agreed on."""
    expected = call(app, path)
    found = call(validator(scoretrace.middleware.wsgi(validator(app))), path)

    assert found == expected


def test_a_wsgi_call_is_a_request(telemetry, items):
    """With its URL, its ids, and the prints of the pieces of a stream."""
    wrapped = scoretrace.middleware.wsgi(app)
    call(wrapped, "/stream", "POST", "q=1", traceparent=TRACEPARENT, x_request_id="r-1", x_ms_client_request_id="c-1")

    (request,) = items("request")
    assert (request.name, request.url) == ("POST /stream", "http://host:8080/stream?q=1")
    assert (request.result_code, request.success) == ("200", True)
    assert (request.operation_id, request.operation_parent_id) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert request.custom_dimensions == {"Request Id": "r-1", "Client Request Id": "c-1", "http_method": "POST"}
    traces = items("trace")
    assert [item.custom_dimensions["Contents"] for item in traces] == ["called", "piece 0", "piece 1", "piece 2"]
    assert {item.operation_id for item in traces} == {request.operation_id}
    assert {item.custom_dimensions["Request Id"] for item in traces} == {"r-1"}


def test_a_request_id_that_is_a_guid_names_the_operation(telemetry, items):
    """Where there is no traceparent: who has the one finds the other."""
    call(scoretrace.middleware.wsgi(app), x_request_id=GUID)

    assert [item.operation_id for item in items()] == [GUID.replace("-", "")] * 2


def test_the_row_is_there_before_the_answer_is(telemetry, items):
    """Whoever has the last byte can rely on the row."""
    environ = {"PATH_INFO": "/"}
    setup_testing_defaults(environ)
    body = iter(scoretrace.middleware.wsgi(app)(environ, lambda *_: None))

    assert items("request") == []
    next(body)
    assert len(items("request")) == 1


@pytest.mark.parametrize("path", ["/raise", "/late"])
def test_an_application_that_raises_is_a_failed_request(telemetry, items, path):
    """At once, or half way through its answer; the exception goes on."""
    with pytest.raises(ValueError, match=r"no good|half way"):
        call(scoretrace.middleware.wsgi(app), path)

    (request,), (exception,) = items("request"), items("exception")
    assert (request.result_code, request.success) == ("500", False)
    assert (exception.type, exception.operation_id) == ("ValueError", request.operation_id)


def test_the_answer_is_kept_where_that_is_wanted(telemetry, items):
    """As text, or by its size and type where it is none."""
    wrapped = scoretrace.middleware.wsgi(app, log_response=True)
    for path in ("/", "/stream", "/binary"):
        call(wrapped, path)

    assert [item.custom_dimensions["Response Value"] for item in items("request")] == [
        "hello /", "0\n1\n2\n", "<2 bytes of text/plain>",
    ]  # fmt: skip


def test_a_request_id_of_zeros_joins_nobody(telemetry, items):
    """Two calls with it are two operations."""
    for _ in range(2):
        call(scoretrace.middleware.wsgi(app), x_request_id="00000000-0000-0000-0000-000000000000")

    assert len({item.operation_id for item in items("request")}) == 2
    assert all(item.operation_id.strip("0") for item in items("request"))


def test_one_environment_used_twice_is_two_requests(telemetry, items):
    """As test clients do it."""
    environ = {}
    setup_testing_defaults(environ)
    wrapped = scoretrace.middleware.wsgi(app)
    for _ in range(2):
        list(wrapped(environ, lambda *_: None))

    assert len(items("request")) == 2


def test_a_probe_of_an_application_that_is_mounted_somewhere(telemetry, items):
    """The path below its place counts."""
    environ = {"SCRIPT_NAME": "/api", "PATH_INFO": "/healthz"}
    setup_testing_defaults(environ)
    list(scoretrace.middleware.wsgi(app)(environ, lambda *_: None))

    assert items("request") == []


def test_a_file_is_left_to_the_server(telemetry, items, tmp_path):
    """What the server's own wrapper holds it sends by itself; it gets the same object."""
    (tmp_path / "file").write_bytes(b"content")

    def inner(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb"))

    environ = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    body = scoretrace.middleware.wsgi(inner)(environ, lambda *_: None)

    assert type(body) is FileWrapper
    assert b"".join(body) == b"content"
    body.close()
    assert len(items("request")) == 1


def test_an_application_that_changes_its_mind(telemetry, items):
    """start_response a second time with exc_info: the later status counts. What it writes itself passes through."""
    written = []

    def inner(environ, start_response):
        write = start_response("200 OK", [])
        write(b"part")
        try:
            raise ValueError("half way")
        except ValueError:
            start_response("503 Service Unavailable", [], sys.exc_info())
        return []

    def start_response(status, headers, exc_info=None):
        return written.append

    environ = {}
    setup_testing_defaults(environ)
    assert list(scoretrace.middleware.wsgi(inner, log_response=True)(environ, start_response)) == []

    (request,) = items("request")
    assert (request.result_code, written) == ("503", [b"part"])
    assert request.custom_dimensions["Response Value"] == "part"


def test_probes_are_left_out(telemetry, items):
    """Health checks by default, or what one names; a POST to the same path is a call."""
    call(scoretrace.middleware.wsgi(app), "/healthz")
    call(scoretrace.middleware.wsgi(app, probes=["/mine"]), "/mine")
    call(scoretrace.middleware.wsgi(app, probes=["/mine"]), "/healthz")
    call(scoretrace.middleware.wsgi(app), "/healthz", "POST")

    assert [item.name for item in items("request")] == ["GET /healthz", "POST /healthz"]


def test_middleware_twice_and_a_timed_function_inside_are_one_request(telemetry, items):
    """Whatever is wrapped around whatever."""
    timed = scoretrace.request(lambda: print("scored"))

    def inner(environ, start_response):
        timed()
        return app(environ, start_response)

    call(scoretrace.middleware.wsgi(scoretrace.middleware.wsgi(inner)))

    (request,) = items("request")
    assert {item.operation_id for item in items()} == {request.operation_id}
    assert len(items()) == 3


def test_without_telemetry_the_application_is_alone():
    """Nothing is configured: it answers."""
    assert call(scoretrace.middleware.wsgi(app))[2] == b"hello /"


header = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(traceparent=header, request_id=header, host=header, path=header, query=header)
def test_headers_of_any_kind_change_nothing(telemetry, traceparent, request_id, host, path, query):
    """Whatever a client sends, the application is called once and answers, and the request is a row."""
    calls = []

    def inner(environ, start_response):
        calls.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]

    before = telemetry.stats()["items"]
    environ = {"HTTP_TRACEPARENT": traceparent, "HTTP_X_REQUEST_ID": request_id, "HTTP_HOST": host}
    environ |= {"PATH_INFO": f"/x{path}", "QUERY_STRING": query}
    setup_testing_defaults(environ)
    assert list(scoretrace.middleware.wsgi(inner)(environ, lambda *_: None)) == [b"fine"]

    assert len(calls) == 1
    assert telemetry.stats()["items"] == before + 1
    assert telemetry.stats()["lost"] == {}


# ASGI


async def hello(request):
    logging.getLogger("web").info("hello")
    return JSONResponse({"path": request.url.path}, status_code=int(request.query_params.get("status", "200")))


async def pieces(_):
    async def made():
        for number in range(3):
            print("piece", number)
            yield f"{number}\n"

    return StreamingResponse(made(), media_type="text/plain")


async def failing(_):
    raise ValueError("no good")


async def afterwards(_):
    return PlainTextResponse("done", background=BackgroundTask(time.sleep, 1))


ROUTES = [
    Route("/", hello, methods=["GET", "POST"]),
    Route("/healthz", hello),
    Route("/pieces", pieces),
    Route("/failing", failing),
    Route("/afterwards", afterwards),
]


@pytest.fixture(name="client")
def _client(telemetry):
    application = scoretrace.middleware.asgi(Starlette(routes=ROUTES), log_response=True)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)

    class Client:
        def request(self, method, url, **options):
            async def asked():
                async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                    return await client.request(method, url, **options)

            return asyncio.run(asked())

        def get(self, url, **options):
            return self.request("GET", url, **options)

        def post(self, url, **options):
            return self.request("POST", url, **options)

    return Client()


def test_an_asgi_call_is_a_request(client, items):
    """With its URL, its ids and its answer; the log inside belongs to it."""
    answer = client.post("/?status=404", headers={"traceparent": TRACEPARENT, "x-request-id": "r-1"})

    assert (answer.status_code, answer.json()) == (404, {"path": "/"})
    (request,) = items("request")
    (trace,) = [item for item in items("trace") if item.message == "hello"]
    assert (request.name, request.url) == ("POST /", "http://testserver/?status=404")
    assert (request.result_code, request.success) == ("404", False)
    assert (request.operation_id, request.operation_parent_id) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert request.custom_dimensions["Response Value"] == '{"path":"/"}'
    assert (trace.operation_id, trace.operation_parent_id) == (request.operation_id, request.id)
    assert trace.custom_dimensions["Request Id"] == "r-1"


def test_an_asgi_stream_is_one_request(client, items):
    """Its pieces' prints belong to it."""
    assert client.get("/pieces").text == "0\n1\n2\n"

    (request,) = items("request")
    assert request.custom_dimensions["Response Value"] == "0\n1\n2\n"
    assert [item.operation_id for item in items("trace") if item.message == "STDOUT"] == [request.operation_id] * 3


def test_an_asgi_application_that_raises_is_a_failed_request(client, items):
    """With its exception, once."""
    assert client.get("/failing").status_code == 500

    (request,), (exception,) = items("request"), items("exception")
    assert (request.result_code, request.success) == ("500", False)
    assert (exception.message, exception.operation_id) == ("no good", request.operation_id)


def test_what_is_done_after_the_answer_is_not_its_duration(client, items):
    """A background task of a second."""
    assert client.get("/afterwards").text == "done"

    (request,) = items("request")
    assert request.duration / 1e7 < 0.9


def test_probes_of_an_asgi_application_are_left_out(client, items):
    """They are answered, and are no requests."""
    assert client.get("/healthz").status_code == 200

    assert items("request") == []


def test_headers_that_can_be_read_only_once(telemetry, items):
    """ASGI allows any iterable: the application and the server get what they would get without us."""
    got = {}

    async def application(scope, receive, send):
        got["asked"] = list(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": iter([(b"x-a", b"1")])})
        await send({"type": "http.response.body", "body": b"fine"})

    async def send(message):
        if message["type"] == "http.response.start":
            got["answered"] = list(message["headers"])

    scope = {"type": "http", "method": "GET", "path": "/", "headers": iter([(b"x-request-id", b"r")])}
    asyncio.run(scoretrace.middleware.asgi(application)(scope, None, send))

    assert got == {"asked": [(b"x-request-id", b"r")], "answered": [(b"x-a", b"1")]}
    assert items("request")[0].custom_dimensions["Request Id"] == "r"


def test_what_the_server_logs_of_a_call_is_no_second_row(client, items):
    """Its access line, and the exception that is a row already; what else it says is kept."""
    error = None

    async def failing_app(scope, receive, send):
        raise ValueError("no good")

    try:
        asyncio.run(scoretrace.middleware.asgi(failing_app)({"type": "http", "path": "/", "headers": []}, None, None))
    except ValueError as raised:
        error = raised
    logging.getLogger("uvicorn.access").warning("GET / 500")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    logging.getLogger("uvicorn.error").error("something else")

    assert len(items("exception")) == 1
    assert [item.message for item in items("trace") if "uvicorn" in str(item.custom_dimensions)] == ["something else"]


def test_calls_that_are_begun_inside_another_are_their_own(telemetry, items):
    """As a server does it with pipelined calls; and a task that outlives its call is not a part of it."""
    done = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})
        if scope["path"] == "/task":
            done.append(asyncio.ensure_future(later()))

    async def later():
        await asyncio.sleep(0.01)
        scoretrace.request(name="job")(lambda: None)()

    wrapped = scoretrace.middleware.asgi(application)

    async def pipelined():
        async def send(message):
            if message["type"] == "http.response.body":
                await wrapped({"type": "http", "method": "GET", "path": "/b", "headers": []}, None, nothing)

        async def nothing(_):
            pass

        await wrapped({"type": "http", "method": "GET", "path": "/a", "headers": []}, None, send)
        await wrapped({"type": "http", "method": "GET", "path": "/task", "headers": []}, None, nothing)
        await asyncio.gather(*done)

    asyncio.run(pipelined())
    assert sorted(item.name for item in items("request")) == ["GET /a", "GET /b", "GET /task", "job"]
    assert len({item.operation_id for item in items("request")}) == 3


def test_what_is_no_http_passes_through(telemetry, items):
    """Websockets and the life of the server: the same scope, the same functions, no row."""
    seen = []

    async def application(scope, receive, send):
        seen.append((scope, receive, send))

    async def nothing(*_):
        pass

    for kind in ("websocket", "lifespan"):
        scope = {"type": kind, "path": "/", "headers": []}
        asyncio.run(scoretrace.middleware.asgi(application)(scope, nothing, nothing))
        assert seen.pop() == (scope, nothing, nothing)
        assert scope == {"type": kind, "path": "/", "headers": []}

    assert items() == []


def test_a_call_that_is_cancelled_is_no_exception(telemetry, items):
    """Whoever called has gone: 499, as proxies write it."""

    async def slow(scope, receive, send):
        await asyncio.sleep(60)

    async def cancelled():
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        task = asyncio.ensure_future(scoretrace.middleware.asgi(slow)(scope, None, None))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    (request,) = items("request")
    assert (request.result_code, request.success) == ("499", False)
    assert items("exception") == []
