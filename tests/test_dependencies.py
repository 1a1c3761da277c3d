"""Outgoing calls are dependencies of the request that made them, and spans are rows."""

import logging
import threading

import httpx
import pytest
import requests
import sqlalchemy
import urllib3
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

import scoretrace

URL = "/v2.1/track"


@pytest.fixture(name="auto")
def _auto(home):
    with scoretrace.configure(home=home, service="svc", capture_print=False, instrument="auto") as telemetry:
        yield telemetry


CALLS = {
    "requests": lambda url: requests.post(url, json=[], timeout=5),
    "urllib3": lambda url: urllib3.PoolManager().request("POST", url, body=b"[]"),
    "httpx": lambda url: httpx.post(url, json=[]),
}


@pytest.mark.parametrize("library", CALLS)
def test_a_call_is_a_dependency_of_its_request(auto, items, endpoint, library):
    """Target, type, name, duration and result code; and whoever is called gets the same operation."""
    with scoretrace.request_context("score") as context:
        CALLS[library](endpoint.url + URL)

    (dependency,) = items("dependency")
    assert (dependency.type, dependency.name) == ("HTTP", f"POST {URL}")
    assert (dependency.target, dependency.data) == (f"127.0.0.1:{endpoint.port}", endpoint.url + URL)
    assert (dependency.result_code, dependency.success) == ("200", True)
    assert 0 < dependency.duration / 1e7 < 5
    assert (dependency.operation_id, dependency.operation_parent_id) == (context.operation_id, context.id)
    assert (dependency.operation_name, dependency.cloud_role_name) == ("score", "svc")
    ((_, headers, _),) = endpoint.requests
    assert headers["traceparent"].split("-")[1:3] == [context.operation_id, dependency.id]


def test_a_call_that_fails_is_a_failed_dependency(auto, items, endpoint):
    """An answer of 503, and none at all."""
    endpoint.answers.append(503)
    requests.post(endpoint.url + URL, json=[], timeout=5)
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:1/", timeout=5)

    answered, refused = items("dependency")
    assert (answered.result_code, answered.success) == ("503", False)
    assert refused.success is False
    (exception,) = items("exception")
    assert exception.outer_type.rpartition(".")[2] == "ConnectionError"
    assert exception.type == "ConnectionRefusedError"
    methods = [frame.method for frame in exception.details[0].parsed_stack]
    assert "test_a_call_that_fails_is_a_failed_dependency" in methods


def test_an_exception_that_passes_many_spans_is_one_row(auto, items):
    """The innermost span has it; each span and the request have failed."""
    tracer = trace.get_tracer("score")

    @scoretrace.request
    def run():
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        run()
    (exception,) = items("exception")
    inner = next(item for item in items("dependency") if item.name == "inner")
    assert (exception.message, exception.operation_parent_id) == ("no good", inner.id)
    assert [frame.method.rpartition(".")[2] for frame in exception.details[0].parsed_stack] == ["run"]
    assert [item.success for item in (*items("request"), *items("dependency"))] == [False] * 3


def test_a_server_that_is_instrumented_too_is_no_second_request(auto, items):
    """Inside our middleware its span is a part of the request; around it, it is the request."""
    tracer = trace.get_tracer("web")

    def app(environ, start_response):
        with tracer.start_as_current_span("GET /", context=Context(), kind=SpanKind.SERVER):
            start_response("200 OK", [])
        return []

    wrapped = scoretrace.middleware.wsgi(app)
    list(wrapped({"PATH_INFO": "/"}, lambda *_: None))
    assert len(items("request")) == 1

    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        list(scoretrace.middleware.wsgi(lambda *_: [])({"PATH_INFO": "/"}, lambda *_: None))
    assert len(items("request")) == 2


def test_one_telemetry_that_ends_leaves_the_others_dependencies(home, items, endpoint):
    """What was instrumented stays so until the last that wants it has ended."""
    first = scoretrace.TelemetryHandler(home=home, instrument="urllib3", capture_print=False).telemetry
    with scoretrace.configure(home=home, instrument="urllib3", capture_print=False, service="b"):
        first.shutdown()
        CALLS["urllib3"](endpoint.url + URL)
        assert len(items("dependency")) == 1
    CALLS["urllib3"](endpoint.url + URL)

    assert len(items("dependency")) == 1


def test_a_statement_is_a_dependency(auto, items):
    """Its text is the data, the database its type."""
    engine = sqlalchemy.create_engine("sqlite://")
    with scoretrace.request_context("score") as context, engine.connect() as connection:
        connection.execute(sqlalchemy.text("select 7"))
    engine.dispose()

    statement = next(item for item in items("dependency") if item.data)
    assert (statement.type, statement.data) == ("sqlite", "select 7")
    assert statement.operation_id == context.operation_id


def test_calls_of_threads_belong_to_the_request_too(auto, items, endpoint):
    """The operation is carried, and with it the parent of the span."""
    with scoretrace.request_context("score") as context:
        thread = threading.Thread(target=lambda: requests.get(endpoint.url + URL, timeout=5))
        thread.start()
        thread.join()

    (dependency,) = items("dependency")
    assert (dependency.operation_id, dependency.operation_parent_id) == (context.operation_id, context.id)


def test_spans_of_the_script_are_rows(auto, items):
    """A server span is a request, what is logged and timed inside belongs to it; events, status and links are kept."""
    tracer = trace.get_tracer("score")
    linked = trace.Link(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
    with tracer.start_as_current_span("answer", kind=SpanKind.SERVER, links=[linked]) as span:
        logging.getLogger("score").info("inside")
        scoretrace.request(lambda: None)()
        span.add_event("halfway", {"rows": 3})
        span.set_status(Status(StatusCode.ERROR, "bad"))
        with tracer.start_as_current_span("look up", kind=SpanKind.CLIENT) as inner:
            inner.record_exception(ValueError("no good"))

    (request,), (dependency,), (exception,) = items("request"), items("dependency"), items("exception")
    logged = next(item for item in items("trace") if item.message == "inside")
    event = next(item for item in items("trace") if item.message == "halfway")
    assert (request.name, request.success) == ("answer", False)
    assert request.custom_dimensions["otel.status_description"] == "bad"
    assert "_MS.links" in request.custom_dimensions
    assert {item.operation_id for item in items()} == {request.operation_id}
    assert {logged.operation_parent_id, event.operation_parent_id, dependency.operation_parent_id} == {request.id}
    assert (exception.message, exception.operation_parent_id) == ("no good", dependency.id)


def test_delivery_makes_no_dependencies(home, items, endpoint):
    """Our own requests are nobody's calls."""
    pytest.importorskip("azure.core")
    with scoretrace.configure(
        home=home, connection_string=endpoint.connection_string, capture_print=False, instrument="auto"
    ) as telemetry:
        logging.getLogger("score").info("one")
        assert telemetry.flush(10)

    assert endpoint.messages() == ["one"]
    assert items("dependency") == []


def test_only_what_is_named_is_instrumented_and_it_ends_with_the_telemetry(home, items, endpoint):
    """A call through another library is no row, and none is after shutdown."""
    with scoretrace.configure(home=home, capture_print=False, instrument=["urllib3"]):
        CALLS["httpx"](endpoint.url + URL)
        CALLS["urllib3"](endpoint.url + URL)
    CALLS["urllib3"](endpoint.url + URL)

    assert len(items("dependency")) == 1


def test_one_that_is_not_installed_says_how_to_install_it(home):
    """Early, when it is configured."""
    with pytest.raises(scoretrace.SettingsError, match=r"pip install 'opentelemetry-instrumentation-nothing==0."):
        scoretrace.configure(home=home, instrument="nothing")
