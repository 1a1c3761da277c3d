"""`scoretrace serve`: any Application Insights SDK can send to this machine, and gets the service's answers."""

import contextlib
import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace import ticks
from scoretrace.endpoint import BODY_BYTES, PLAIN_BYTES, Receiver, Refused
from scoretrace.formats import breeze
from strategies import items

SHARED = Path(__file__).resolve().parents[2] / "shared" / "reference" / "wire_samples.json"
KEY = "12345678-90ab-cdef-1234-567890abcdef"
log = logging.getLogger("score")


def now(**delta):
    return (datetime.now(timezone.utc) + timedelta(**delta)).isoformat()


def envelope(message="m", *, key=KEY, when=None, **properties):
    return {
        "name": "Microsoft.ApplicationInsights.Message",
        "time": now() if when is None else when,
        "iKey": key,
        "tags": {"ai.cloud.role": "svc"},
        "data": {"baseType": "MessageData", "baseData": {"ver": 2, "message": message, "properties": properties}},
    }


class Served:
    def __init__(self, home, *options):
        command = [sys.executable, "-m", "scoretrace", "serve", "--port", "0", "--home", str(home), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = [self.process.stdout.readline().strip() for _ in range(3)]
        self.connection_string = self.lines[0].partition("'")[2].rstrip("'")
        self.url = re.search(r"IngestionEndpoint=([^;]+)/", self.connection_string)[1]

    def post(self, body, path="/v2.1/track", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.communicate(timeout=30)


@pytest.fixture
def served(home):
    server = Served(home)
    yield server
    if server.process.poll() is None:
        server.stop()
    server.process.stdout.close()
    server.process.stderr.close()


def messages(home):
    return sorted(row[0] for row in scoretrace.query("traces | project message", source=home).rows)


def test_it_says_where_it_listens_where_it_writes_and_how_to_stop_it(served, home):
    """Three lines for a shell; the first sets a connection string that works as it stands."""
    assert served.lines[0].startswith("export APPLICATIONINSIGHTS_CONNECTION_STRING='InstrumentationKey=")
    assert f"IngestionEndpoint=http://127.0.0.1:{served.url.rpartition(':')[2]}/;" in served.lines[0]
    assert str(home) in served.lines[1]
    assert "control-C" in served.lines[2]
    assert len(scoretrace.query("traces", source=home)) == 0


@pytest.mark.parametrize("path", ["/v2/track", "/v2.1/track"])
@pytest.mark.parametrize("form", ["array", "lines", "one", "pretty"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_of_body_is_taken(served, home, path, form, compressed):
    """An array, one envelope a line, a single one; gzip or plain."""
    envelopes = [envelope("a"), envelope("b")] if form in {"array", "lines"} else [envelope("a")]
    body = {
        "array": json.dumps(envelopes),
        "lines": "\r\n".join(map(json.dumps, envelopes)) + "\n",
        "one": json.dumps(envelopes[0]),
        "pretty": json.dumps(envelopes[0], indent=1),
    }[form].encode()
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    status, answer = served.post(gzip.compress(body) if compressed else body, path, **headers)

    assert status == 200
    assert answer == {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "appId": None, "errors": []}
    assert messages(home) == ["a", "b"][: len(envelopes)]


def test_errors_are_by_index(served, home):
    """What can be accepted is, with 206; with nothing accepted it is a 400."""
    bad = [
        envelope("x" * 70_000),
        envelope("old", when=now(hours=-49)),
        envelope("early", when=now(hours=3)),
        envelope("key", key="none"),
        {**envelope("type"), "data": {"baseType": "NoData", "baseData": {}}},
        {"no": "envelope"},
        7,
        {**envelope("time"), "time": None},
    ]
    status, answer = served.post([envelope("good"), *bad, envelope("good too")])

    assert status == 206
    assert (answer["itemsReceived"], answer["itemsAccepted"]) == (10, 2)
    assert [error["index"] for error in answer["errors"]] == list(range(1, 9))
    assert {error["statusCode"] for error in answer["errors"]} == {400}
    assert answer["errors"][0]["message"] == "Telemetry item length must not exceed 65536"
    assert messages(home) == ["good", "good too"]
    assert served.post(bad)[0] == 400


@pytest.mark.parametrize(
    ("size", "accepted"), [(65_536, 1), (65_537, 0)], ids=["as large as allowed", "one byte larger"]
)
def test_an_item_may_have_65536_bytes(served, size, accepted):
    """As it was sent, without what is around it."""
    text = json.dumps(envelope("")).replace('"message": ""', '"message": "{}"')
    item = text.replace("{}", "x" * (size - len(text) + 2), 1)
    item = (
        item
        if len(item) == size
        else text[: text.index('"{}"') + 1] + "x" * (size - len(text) + 2) + text[text.index('"{}"') + 3 :]
    )
    assert len(item) == size

    assert served.post(f"[ {item} ]".encode())[1]["itemsAccepted"] == accepted


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 200),
        (b"nonsense", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'[{"a":1},', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(b"[]")[:-4], {"Content-Encoding": "gzip"}, 400),
        (b"[]", {"Content-Encoding": "br"}, 415),
        (gzip.compress(b" " * (PLAIN_BYTES + 1)), {"Content-Encoding": "gzip"}, 413),
        (b" " * (BODY_BYTES + 1), {}, 413),
    ],
    ids=["empty", "nonsense", "deep", "cut", "binary", "no gzip", "cut gzip", "brotli", "bomb", "large"],
)
def test_a_malformed_body_is_refused_and_nothing_breaks(served, home, body, headers, status):
    """The next request is served as ever."""
    assert served.post(body, **headers)[0] == status
    assert served.post([envelope("after")])[0] == 200
    assert messages(home) == ["after"]


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_body_raises_anything_but_a_refusal(tmp_path_factory, body):
    """Whatever bytes arrive."""
    receiver = Receiver(tmp_path_factory.getbasetemp() / "any")
    for encoding in ("", "gzip"):
        with contextlib.suppress(Refused):
            count, errors = receiver.take(body, encoding)
            assert len(errors) == count


@given(item=items())
def test_what_was_sent_is_the_row(tmp_path_factory, item):
    """Every kind of item, as an envelope, comes out of the journal as itself."""
    home = tmp_path_factory.mktemp("row")
    when = item.timestamp if item.timestamp is not None else 0
    receiver = Receiver(home, clock=lambda: when)
    body = breeze.encode(item, KEY)
    if item.timestamp is None or len(body) > 65_536:
        return
    count, errors = receiver.take(body)
    receiver.close()
    assert (count, errors) == (1, [])
    from scoretrace import read

    (found,) = read.newest(home)
    (expected,) = breeze.decode(body)
    if expected.item_id:  # in Azure it is a custom dimension, and queries are to run in both
        assert found.item_id == found.custom_dimensions.pop(breeze.ITEM_ID) == expected.item_id
    path = {"item_id": "", "app_name": "", "i_key": ""}  # what it is by its place in the journal
    assert _fields(found) | path == _fields(expected) | path


def _fields(item):
    return {name: getattr(item, name) for name in item.__struct_fields__}


SAMPLES = {
    "Message": ("MessageData", {"message": "hello", "severityLevel": 2}, "traces"),
    "Request": (
        "RequestData",
        {"id": "1", "name": "POST /score", "duration": "0.00:00:00.001", "responseCode": "200", "success": True},
        "requests",
    ),
    "RemoteDependency": (
        "RemoteDependencyData",
        {"id": "2", "name": "GET /v1", "duration": "0.00:00:00.020", "resultCode": "503", "success": False},
        "dependencies",
    ),
    "Exception": ("ExceptionData", {"exceptions": [{"typeName": "ValueError", "message": "no"}]}, "exceptions"),
    "Event": ("EventData", {"name": "ScoreEvent", "measurements": {"latency": 12.5}}, "customEvents"),
    "Metric": ("MetricData", {"metrics": [{"name": "rows", "value": 5, "count": 1}]}, "customMetrics"),
    "PageView": ("PageViewData", {"name": "home", "url": "http://a/", "duration": "0.00:00:01"}, "pageViews"),
    "Availability": (
        "AvailabilityData",
        {"id": "3", "name": "ping", "duration": "0.00:00:01", "success": True},
        "availabilityResults",
    ),
}


def test_every_type_lands_in_its_table(served, home):
    """As the SDKs of other languages write them."""
    batch = [
        {
            **envelope(),
            "name": f"Microsoft.ApplicationInsights.{name}",
            "data": {"baseType": base, "baseData": {"ver": 2, **data}},
        }
        for name, (base, data, _) in SAMPLES.items()
    ]
    assert served.post(batch)[0] == 200

    for _, _, table in SAMPLES.values():
        assert len(scoretrace.query(table, source=home)) == 1


@pytest.mark.skipif(not SHARED.exists(), reason="the shared samples are not here")
def test_real_envelopes_land_as_the_right_rows(served, home):
    """Captured from the OpenTelemetry and the OpenCensus exporter."""
    samples = list(json.loads(SHARED.read_text()).values())
    status, answer = served.post([{**sample, "time": now()} for sample in samples])

    assert (status, answer["errors"]) == (200, [])
    tables = {"traces": 2, "exceptions": 2, "customEvents": 2, "dependencies": 2, "requests": 2, "customMetrics": 1}
    for table, count in tables.items():
        assert len(scoretrace.query(table, source=home)) == count
    assert scoretrace.query("requests | where duration > 0 | where resultCode == '200' | count", source=home).rows


def test_one_bad_line_does_not_spoil_the_others(served, home):
    """Where each envelope is a line, too."""
    body = "\n".join([json.dumps(envelope("a")), '{"broken": }', json.dumps(envelope("b"))])
    status, answer = served.post(body.encode())

    assert (status, [error["index"] for error in answer["errors"]]) == (206, [1])
    assert messages(home) == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data": None}, "Field 'data' on type 'Envelope' is required but missing or empty"),
        ({"data": {"baseType": "NoData", "baseData": {}}}, "Field 'baseType' on type 'Data' is unknown: NoData"),
        ({"iKey": "none"}, "Invalid instrumentation key"),
        ({"time": None}, "Field 'time' on type 'Envelope' is required but missing or empty"),
    ],
)
def test_an_error_says_which_field_is_meant(served, wrong, said):
    """As the service does."""
    _, answer = served.post([{**envelope(), **wrong}])

    assert answer["errors"][0]["message"] == said


def test_a_value_of_a_wrong_kind_fails_its_envelope_alone(served, home):
    """Whatever is in it."""
    odd = {
        **envelope(),
        "data": {"baseType": "PerformanceCounterData", "baseData": {"counterName": ["x"], "value": []}},
    }
    status, answer = served.post([envelope("good"), odd])

    assert (status, answer["itemsAccepted"]) == (206, 1)
    assert messages(home) == ["good"]


def test_numbers_that_are_none_do_not_spoil_a_batch(served, home):
    """OpenCensus sends NaN, which is no JSON: the value is kept as text."""
    event = {
        **envelope(),
        "data": {
            "baseType": "EventData",
            "baseData": {
                "name": "e",
                "measurements": {"bad": float("nan"), "good": 1.5},
                "properties": {"t": "NaN, x"},
            },
        },
    }
    metric = {
        **envelope(),
        "data": {"baseType": "MetricData", "baseData": {"metrics": [{"name": "m", "value": float("inf")}]}},
    }
    status, answer = served.post([event, metric])

    assert (status, answer["itemsAccepted"]) == (206, 1)
    row = scoretrace.query("customEvents | project customMeasurements, customDimensions", source=home).rows[0]
    assert [json.loads(value) if isinstance(value, str) else value for value in row] == [
        {"good": 1.5},
        {"bad": "NaN", "t": "NaN, x"},
    ]


def test_a_lone_surrogate_spoils_nothing(served, home):
    """The SDKs send them; it is text here, as where we log it."""
    body = json.dumps([envelope("a"), envelope("\ud800 b"), envelope("c")])
    status, answer = served.post(body.encode())

    assert (status, answer["errors"]) == (200, [])
    assert messages(home) == ["\\ud800 b", "a", "c"]


def test_gzip_in_several_parts_is_taken_whole(served, home):
    """A gzip file may be several, one after the other."""
    first, second = json.dumps(envelope("a")) + "\n", json.dumps(envelope("b"))
    body = gzip.compress(first.encode()) + gzip.compress(second.encode())

    assert served.post(body, **{"Content-Encoding": "gzip"})[1]["itemsAccepted"] == 2
    assert messages(home) == ["a", "b"]


def test_our_own_telemetry_goes_through_it_unchanged(served, home, tmp_path):
    """From one home to another, with the same item ids."""
    origin = tmp_path / "origin"
    with scoretrace.configure(home=origin, connection_string=served.connection_string, capture_print=False) as ours:
        with scoretrace.request_context("score"):
            log.info("inside", extra={"model": "ridge"})
        assert ours.flush(30)
    query = "union traces, requests | project itemId, message, operation_Id, name | order by itemId asc"

    assert scoretrace.query(query, source=home).rows == scoretrace.query(query, source=origin).rows
    assert len(scoretrace.query(query, source=home)) == 2


def test_the_opentelemetry_exporter_sends_to_it(served, home, tmp_path):
    """Azure's own, as it comes."""
    code = """
import logging, os, sys
os.environ["APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL"] = "true"
os.environ["APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED"] = "true"
from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry._logs import LogRecord, SeverityNumber
provider = LoggerProvider()
exporter = AzureMonitorLogExporter(connection_string=sys.argv[1], disable_offline_storage=True)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
for number in range(100):
    provider.get_logger("score").emit(LogRecord(body=f"{number}", severity_number=SeverityNumber.INFO))
provider.shutdown()
"""
    subprocess.run([sys.executable, "-c", code, served.connection_string], check=True, timeout=60)

    assert len(messages(home)) == 100


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="OpenCensus does not work there")
def test_the_opencensus_handler_sends_to_it(served, home):
    """Deprecated, and still in use."""
    code = """
import logging, os, sys
os.environ["APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL"] = "true"
from opencensus.ext.azure.log_exporter import AzureLogHandler
handler = AzureLogHandler(connection_string=sys.argv[1], enable_local_storage=False)
log = logging.getLogger("score")
log.addHandler(handler)
log.setLevel("INFO")
for number in range(50):
    log.info("%d", number)
handler.flush()
"""
    subprocess.run([sys.executable, "-c", code, served.connection_string], check=True, timeout=60)

    assert sorted(map(int, messages(home))) == list(range(50))


def test_many_senders_at_once(served, home):
    """Each item is a line of its own."""
    threads = [
        threading.Thread(target=lambda: [served.post([envelope(str(n)) for n in range(100)]) for _ in range(5)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    result = scoretrace.query("traces | summarize rows = count(), ids = dcount(itemId)", source=home)
    assert result.rows[0] == (4_000, 4_000)
    assert result.unreadable == {}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are promised for POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, (0, -15)), (signal.SIGINT, (0, 130, -2))])
def test_it_ends_when_told_to(served, home, number, code):
    """Without a traceback, and what it accepted is there."""
    served.post([envelope("kept")])
    _, err = served.stop(number)

    assert "1 item accepted" in err
    assert served.process.returncode in code
    assert "Traceback" not in err
    assert messages(home) == ["kept"]


def test_what_was_accepted_survives_a_kill(served, home):
    """On disk before the answer."""
    assert served.post([envelope("kept")])[0] == 200
    served.process.kill()
    served.process.wait()

    assert messages(home) == ["kept"]


def test_a_port_that_is_taken_is_said(served, tmp_path):
    """With the way out."""
    port = served.url.rpartition(":")[2]
    command = [sys.executable, "-m", "scoretrace", "serve", "--port", port, "--home", str(tmp_path / "new")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "--port 0" in ended.stderr
    assert not (tmp_path / "new").exists()


def test_another_address_is_only_taken_when_it_is_named_and_said(home):
    """The default is this machine alone."""
    server = Served(home, "--host", "0.0.0.0")
    try:
        assert server.post([envelope("open")])[0] == 200
        assert "127.0.0.1" in server.url
    finally:
        _, err = server.stop()
    assert "not only this machine" in err


@pytest.mark.skipif(os.name == "nt", reason="limits are promised for POSIX")
def test_a_full_disk_is_an_answer(home):
    """503: the sender keeps what is not on disk."""
    receiver = Receiver(home, clock=lambda: ticks.from_iso(now()))
    assert receiver.take(json.dumps(envelope("first")).encode())[1] == []
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(Refused, match="cannot be written") as refused:
            receiver.take(json.dumps(envelope("second")).encode())
        assert refused.value.status == 503
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    time.sleep(0.05)
    receiver.take(json.dumps(envelope("third")).encode())
    receiver.close()
    assert {"first", "third"} <= set(messages(home))


def test_a_sender_that_makes_up_names_does_not_open_files_without_end(home):
    """Beyond a hundred, telemetry folders are shared."""
    receiver = Receiver(home)
    for number in range(150):
        made_up = {**envelope(str(number)), "tags": {"ai.cloud.role": f"role{number}"}}
        assert receiver.take(json.dumps(made_up).encode())[1] == []
    receiver.close()

    assert len(list((home / "telemetry").iterdir())) == 101
    assert len(messages(home)) == 150
