"""Somebody's own OpenTelemetry or OpenCensus pipeline: our guard in front of it, or our journal as its exporter."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

import scoretrace

try:
    from opentelemetry.sdk._logs import LogRecord
except ImportError:  # from 1.39 on there is only the API's
    from opentelemetry._logs import LogRecord

ROOT = Path(__file__).resolve().parents[1]
OLD = ROOT / ".venv" / "opentelemetry-1.33" / "bin" / "python"
INSIDE = pytest.mark.skipif("SCORETRACE_TEST_INNER" in os.environ, reason="not with the SDK of the scoring image")
NAMED = Resource({"service.name": "scorer", "service.namespace": "ns", "service.instance.id": "i-1"})
LARGE = json.dumps({"input": ["é" * 1_000] * 60})


@pytest.fixture
def quiet(monkeypatch):
    for name in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED"):
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "true")
    monkeypatch.setenv("APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED", "true")


def emit(exporter, *records, batch=False):
    """Emit (body, attributes) pairs through a pipeline that ends in *exporter*."""
    provider = LoggerProvider(resource=NAMED, shutdown_on_exit=False)
    provider.add_log_record_processor((BatchLogRecordProcessor if batch else SimpleLogRecordProcessor)(exporter))
    for body, attributes in records:
        record = LogRecord(
            timestamp=1_763_600_000_123_456_700,
            trace_id=0xABC,
            span_id=0xDEF,
            trace_flags=TraceFlags(1),
            severity_number=SeverityNumber.WARN,
            body=body,
            attributes=attributes,
            **({"resource": NAMED} if "resource" in signature(LogRecord).parameters else {}),
        )
        provider.get_logger("score").emit(record)
    provider.shutdown()


def tracer(exporter):
    provider = TracerProvider(resource=NAMED, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("score")


class Seen:
    """An exporter that keeps what it gets."""

    def __init__(self):
        self.batches = []

    def export(self, batch):
        self.batches += batch

    def shutdown(self):
        pass


def test_log_records_become_traces(telemetry, items):
    """With severity, context, resource, and attributes of any kind as text."""
    emit(scoretrace.JournalLogExporter(), ("hello", {"rows": 3, "names": ("a", "b"), "flag": True}))

    (item,) = items("trace")
    assert (item.message, item.severity_level) == ("hello", 2)
    assert (item.operation_id, item.operation_parent_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (item.cloud_role_name, item.cloud_role_instance) == ("ns.scorer", "i-1")
    assert item.timestamp == 17_636_000_001_234_567
    assert item.custom_dimensions["rows"] == "3"
    assert item.custom_dimensions["names"] == '["a","b"]'
    assert item.custom_dimensions["logger_name"] == "score"


def test_a_body_that_is_no_text_is_json(telemetry, items):
    """So that Kusto can read it."""
    emit(scoretrace.JournalLogExporter(), ({"event": {"rows": [1, 2]}}, None))

    assert json.loads(items("trace")[0].message) == {"event": {"rows": [1, 2]}}


def test_records_with_an_exception_become_exceptions(telemetry, items):
    """Type, message and stack; the log's own message stays."""
    attributes = {
        "exception.type": "ValueError",
        "exception.message": "no",
        "exception.stacktrace": "Traceback ...\nValueError: no",
    }
    emit(scoretrace.JournalLogExporter(), ("scoring failed", attributes))

    (item,) = items("exception")
    assert (item.type, item.message, item.severity_level) == ("ValueError", "no", 2)
    assert item.details[0].stack.endswith("ValueError: no")
    assert item.custom_dimensions["log_message"] == "scoring failed"


def test_records_with_an_event_name_become_events(telemetry, items):
    """As Azure's exporter marks them, with measurements."""
    emit(
        scoretrace.JournalLogExporter(),
        ("", {"microsoft.custom_event.name": "Scored", "microsoft.custom_measurements": '{"latency": 12.5, "n": "x"}'}),
    )

    (item,) = items("event")
    assert item.name == "Scored"
    assert item.custom_measurements == {"latency": 12.5}
    assert item.custom_dimensions["n"] == "x"


def test_without_a_context_there_is_no_operation(telemetry, items):
    """Zeros would join all such rows."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(scoretrace.JournalLogExporter()))
    record = LogRecord(timestamp=1, body="alone", trace_id=0, span_id=0, trace_flags=TraceFlags(0))
    provider.get_logger("score").emit(record)

    (item,) = items("trace")
    assert (item.operation_id, item.operation_parent_id) == ("", "")


HTTP = {"http.request.method": "POST", "url.full": "http://h/score?x=1", "http.response.status_code": 200}
OLD_HTTP = {"http.method": "GET", "http.url": "http://f.local:81/v1?id=3", "http.status_code": 503}


def test_server_and_consumer_spans_become_requests(telemetry, items):
    """With their code, url, and the operation's name; failed where the code says so."""
    trace = tracer(scoretrace.JournalSpanExporter())
    trace.start_span("POST", kind=SpanKind.SERVER, attributes=HTTP).end()
    trace.start_span("work", kind=SpanKind.CONSUMER).end()
    trace.start_span("GET", kind=SpanKind.SERVER, attributes={**OLD_HTTP, "http.route": "/v1"}).end()

    first, second, third = items("request")
    assert (first.name, first.result_code, first.success, first.url) == ("POST /score", "200", True, HTTP["url.full"])
    assert first.operation_name == "POST /score"
    assert (second.name, second.success) == ("work", True)
    assert (third.name, third.result_code, third.success) == ("GET /v1", "503", False)
    assert first.duration >= 0
    assert len({first.operation_id, second.operation_id, third.operation_id}) == 3


DATABASE = {"db.system": "postgresql", "db.name": "m", "db.statement": "select 1", "net.peer.name": "db"}
NEW_DATABASE = {"db.system.name": "mysql", "db.namespace": "m", "db.query.text": "select 2", "server.address": "db2"}
QUEUE = {"messaging.system": "kafka", "messaging.destination.name": "q"}
RPC = {"rpc.system": "grpc", "server.address": "s", "rpc.grpc.status_code": 5}


@pytest.mark.parametrize(
    ("kind", "attributes", "expected"),
    [
        (SpanKind.CLIENT, OLD_HTTP, ("HTTP", "f.local:81", OLD_HTTP["http.url"], "503")),
        (SpanKind.CLIENT, DATABASE, ("postgresql", "db|m", "select 1", "0")),
        (SpanKind.CLIENT, NEW_DATABASE, ("mysql", "db2|m", "select 2", "0")),
        (SpanKind.PRODUCER, QUEUE, ("Queue Message | kafka", "q", "", "0")),
        (SpanKind.CLIENT, RPC, ("grpc", "s", "", "5")),
        (SpanKind.INTERNAL, {}, ("InProc", "", "", "0")),
        (SpanKind.CLIENT, {}, ("N/A", "", "", "0")),
    ],
)
def test_other_spans_become_dependencies(telemetry, items, kind, attributes, expected):
    """Type, target, data and result code by the semantic conventions, old and new."""
    tracer(scoretrace.JournalSpanExporter()).start_span("call", kind=kind, attributes=attributes).end()

    (item,) = items("dependency")
    assert (item.type, item.target, item.data, item.result_code) == expected
    assert set(attributes) <= set(item.custom_dimensions)


def test_a_trace_keeps_its_shape(telemetry, items):
    """Parents, events, exceptions, links and status."""
    trace = tracer(scoretrace.JournalSpanExporter())
    link = Link(SpanContext(0x1, 0x2, is_remote=True))
    with (
        trace.start_as_current_span("score", kind=SpanKind.SERVER, attributes=HTTP),
        trace.start_as_current_span("features", kind=SpanKind.CLIENT, links=[link]) as inner,
    ):
        inner.add_event("cache miss", {"key": "k"})
        inner.record_exception(ValueError("no"))
        inner.set_status(Status(StatusCode.ERROR, "gone"))

    (request,), (dependency,) = items("request"), items("dependency")
    (event,), (exception,) = items("trace"), items("exception")
    assert dependency.operation_parent_id == request.id
    assert event.operation_parent_id == exception.operation_parent_id == dependency.id
    assert len({item.operation_id for item in (request, dependency, event, exception)}) == 1
    assert (dependency.success, dependency.custom_dimensions["otel.status_code"]) == (False, "ERROR")
    assert dependency.custom_dimensions["otel.status_description"] == "gone"
    assert json.loads(dependency.custom_dimensions["_MS.links"]) == [{"operation_Id": f"{1:032x}", "id": f"{2:016x}"}]
    assert (event.message, event.custom_dimensions) == ("cache miss", {"key": "k"})
    assert (exception.type, exception.message) == ("ValueError", "no")


def test_an_attribute_may_hold_anything(telemetry, items):
    """A URL that is none costs no span."""
    broken = {"http.method": "GET", "http.url": "http://[bad/x", "db.system": ("a", "b")}
    tracer(scoretrace.JournalSpanExporter()).start_span("call", kind=SpanKind.CLIENT, attributes=broken).end()
    tracer(scoretrace.JournalSpanExporter()).start_span("call", kind=SpanKind.SERVER, attributes=broken).end()

    assert items("dependency")[0].data == items("request")[0].url == "http://[bad/x"


def test_the_journal_does_not_take_what_delivery_says(telemetry, items):
    """An OpenTelemetry handler on the root logger hears the HTTP client of the delivery, too."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(scoretrace.JournalLogExporter()))
    for name in ("azure.core.pipeline", "urllib3.connectionpool", "scoretrace", "azureml"):
        provider.get_logger(name).emit(LogRecord(timestamp=1, body=name))

    assert [item.message for item in items("trace")] == ["azureml"]


def test_the_journal_takes_what_is_too_large(telemetry, items, home):
    """A pipeline that ends in the journal has our guard, too."""
    emit(scoretrace.JournalLogExporter(), (LARGE, None))

    (item,) = items("trace")
    assert scoretrace.payload(item.item_id, source=home).decode() == LARGE


def test_a_journal_exporter_of_its_own_needs_no_configure(home, items):
    """Settings may be given to it."""
    emit(scoretrace.JournalLogExporter(home=home, service="own"), ("m", None), batch=True)

    assert [item.message for item in items("trace")] == ["m"]


def originals(home):
    """What was put away, by its SHA-256."""
    found = {path.stem: path.read_bytes() for path in home.glob("modeldata/**/overflow/*/*/*/*.json")}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in found.items())
    return found


def test_a_guarded_log_exporter_passes_on_what_fits(home):
    """The very record, untouched."""
    seen = Seen()
    emit(scoretrace.GuardedLogExporter(seen), ("small", {"rows": 3}))

    assert dict(seen.batches[0].log_record.attributes) == {"rows": 3}
    assert originals(home) == {}


def test_a_guarded_log_exporter_stores_the_original(home):
    """And the record says where it is; what is small stays as it was, also in its type."""
    seen = Seen()
    emit(scoretrace.GuardedLogExporter(seen), (LARGE, {"rows": 3, "big": "x" * 20_000}))

    record = seen.batches[0].log_record
    assert record.attributes["rows"] == 3
    assert len(record.attributes["big"]) <= 8_192
    json.loads(record.body)
    (original,) = originals(home).values()
    assert record.attributes["payload_sha256"] == hashlib.sha256(original).hexdigest()
    assert (home / record.attributes["payload_uri"]).read_bytes() == original
    assert LARGE[:2_000] in json.loads(original)["message"][0]["raw"]


@pytest.mark.parametrize("text", ["é" * 40_000, "😀" * 40_000, "x" * 200_000, '"' * 50_000])
def test_what_azure_s_exporter_sends_fits(home, endpoint, quiet, text):
    """As it is sent, with everything escaped; without the guard it is cut without a word, or over 64 KB."""
    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

    inner = AzureMonitorLogExporter(connection_string=endpoint.connection_string, disable_offline_storage=True)
    many = {f"name {number}": "é" * 8_000 for number in range(9)}
    failed = {"exception.type": "E", "exception.message": text, "exception.stacktrace": text}
    emit(scoretrace.GuardedLogExporter(inner), (text, None), ("m", many), ("m", failed), ("small", None))

    assert len(endpoint.envelopes) == 4
    assert all(len(json.dumps(envelope)) <= 65_536 for envelope in endpoint.envelopes)
    marks = [envelope["data"]["baseData"]["properties"].get("payload_uri") for envelope in endpoint.envelopes]
    assert all((home / mark).exists() for mark in marks[:3])
    assert marks[3] is None


def test_a_guarded_span_exporter_stores_the_original(home, endpoint, quiet):
    """Of the span's attributes and of its events'."""
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    inner = AzureMonitorTraceExporter(connection_string=endpoint.connection_string, disable_offline_storage=True)
    trace = tracer(scoretrace.GuardedSpanExporter(inner))
    with trace.start_as_current_span("score", kind=SpanKind.SERVER, attributes={"rows": 3, "input": LARGE}) as span:
        span.add_event("output", {"output": LARGE})
        span.add_event("small", {"n": 1})

    found = {envelope["data"]["baseType"]: envelope["data"]["baseData"] for envelope in endpoint.envelopes[:2]}
    assert found["RequestData"]["properties"]["rows"] == "3"
    for data, name in ((found["RequestData"], "input"), (found["MessageData"], "output")):
        assert json.loads(data["properties"][name])
        assert (home / data["properties"]["payload_uri"]).read_bytes() == LARGE.encode()


def test_a_guard_that_cannot_store_lets_the_record_through(home, caplog):
    """Nothing may be cut that is not kept, and nothing may break."""
    home.write_text("in the way")
    seen = Seen()
    emit(scoretrace.GuardedLogExporter(seen), (LARGE, None), (LARGE, None))

    assert [data.log_record.body for data in seen.batches] == [LARGE, LARGE]
    assert caplog.text.count("unguarded") == 1


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="OpenCensus does not work there")
@INSIDE
@pytest.mark.filterwarnings("ignore::DeprecationWarning:opencensus")
@pytest.mark.filterwarnings("ignore:.*getdefaultlocale.*:DeprecationWarning")
def test_a_guarded_azure_log_handler(home, endpoint, quiet):
    """One line: `guard(AzureLogHandler(...))`."""
    from opencensus.ext.azure.log_exporter import AzureLogHandler

    handler = scoretrace.guard(
        AzureLogHandler(connection_string=endpoint.connection_string, enable_local_storage=False)
    )
    logger = logging.getLogger("guarded")
    logger.addHandler(handler)
    try:
        logger.warning("small", extra={"custom_dimensions": {"rows": 3}})
        logger.warning(LARGE)
        logger.warning("m", extra={"custom_dimensions": {"input": LARGE, "nested": {"a": (1, 2)}}})
        try:
            raise ValueError("😀" * 40_000)
        except ValueError:
            logger.exception("failed")
        handler.flush()
    finally:
        logger.removeHandler(handler)
        handler.close()

    small, *large = [envelope["data"]["baseData"] for envelope in endpoint.envelopes]
    assert small["properties"]["rows"] == 3
    assert len(large) == 3
    assert all(len(json.dumps(envelope)) <= 65_536 for envelope in endpoint.envelopes)
    assert all((home / data["properties"]["payload_uri"]).exists() for data in large)
    assert (home / large[0]["properties"]["payload_uri"]).read_text() == LARGE
    assert json.loads(large[1]["properties"]["nested"]) == {"a": [1, 2]}


def test_a_handler_that_cannot_be_guarded_is_refused():
    """Early, with the reason."""
    with pytest.raises(scoretrace.SettingsError, match="StreamHandler takes no telemetry processors"):
        scoretrace.guard(logging.StreamHandler())


@INSIDE
def test_our_own_requests_make_no_spans(home, endpoint):
    """Each would be a row, which would be delivered by a request."""
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    telemetry = scoretrace.configure(home=home, connection_string=endpoint.connection_string, capture_print=False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(scoretrace.JournalSpanExporter()))
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        logging.getLogger("score").info("one")
        assert telemetry.flush(30)
        assert telemetry.flush(30)
    finally:
        instrumentor.uninstrument()
    assert [envelope["data"]["baseType"] for envelope in endpoint.envelopes] == ["MessageData"]


def test_batches_go_through_as_well(home, items, telemetry):
    """The processor that everybody uses."""
    emit(scoretrace.JournalLogExporter(), *[(f"{number}", None) for number in range(100)], batch=True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(scoretrace.JournalSpanExporter()))
    for _ in range(100):
        provider.get_tracer("t").start_span("s").end()
    provider.shutdown()

    assert len(items("trace")) == 100
    assert len(items("dependency")) == 100


@INSIDE
def test_all_of_it_with_the_sdk_of_the_scoring_image():
    """opentelemetry-sdk 1.33 in an environment of its own: the pipelines, and the delivery through its exporter."""
    if not OLD.exists():
        message = "there is no environment with opentelemetry-sdk 1.33: `make test` makes it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    chosen = [
        "tests/test_pipelines.py",
        "tests/test_delivery.py",
        "tests/test_answers.py",
        "tests/test_dependencies.py",
        "-k",
        "pipelines or opentelemetry or dependencies",
    ]
    environment = {**os.environ, "SCORETRACE_TEST_INNER": "1"}
    ended = subprocess.run(
        [OLD, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4_000:]
    assert " passed" in ended.stdout
