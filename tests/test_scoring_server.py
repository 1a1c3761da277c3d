"""Behind the real azureml-inference-server-http: each call one true request, with all that happened in it."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from scoring_server import ECHO, ROOT, TRACEPARENT, inside, printed, python


def test_it_is_installed_beside_the_server_without_changing_a_version():
    """scoretrace[azure] fits what azureml-inference-server-http 1.5.1 pins."""
    subprocess.run([python(), "-m", "pip", "--disable-pip-version-check", "check"], check=True, capture_output=True)
    freeze = [python(), "-m", "pip", "--disable-pip-version-check", "freeze", "--exclude-editable"]
    frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = (ROOT / "tests" / "environments" / "scoring-server.txt").read_text().splitlines()

    assert {line for line in wanted if not line.startswith("#")} <= set(frozen)


def test_a_call_is_one_true_request_with_all_that_happened_in_it(serve, items):
    """Two lines in score.py: duration, code, URL and method; prints, logs and writes joined; the ids of the caller."""
    server = serve()
    headers = {"traceparent": TRACEPARENT, "x-request-id": "mine-1", "x-ms-client-request-id": "theirs-1"}
    status, answered, body = server.post("sleep 0.05", headers)

    assert (status, json.loads(body), answered["x-request-id"]) == (200, {"got": "sleep 0.05"}, "mine-1")
    (request,) = items("request")
    assert (request.name, request.result_code, request.success) == ("POST /score", "200", True)
    assert request.url == f"http://127.0.0.1:{server.port}/score"
    assert 0.05 <= request.duration / 1e7 < 5
    assert (request.operation_id, request.operation_parent_id) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    dimensions = {
        "Request Id": "mine-1",
        "Client Request Id": "theirs-1",
        "Service Name": "diabetes",
        "Workspace Name": "team",
        "Container Id": "pod-1",
    }
    assert request.custom_dimensions == {**dimensions, "http_method": "POST", "Response Value": body.decode()}
    rows = inside(items(), request)
    assert [(item.message, item.custom_dimensions.get("Contents")) for item in rows] == [
        ("STDOUT", '{"input": "sleep 0.05"}'),
        ("logged", None),
        ("STDOUT", "written"),
        ("STDERR", "complained"),
    ]
    assert {item.operation_parent_id for item in rows} == {request.id}
    assert all(dimensions.items() <= item.custom_dimensions.items() for item in rows)


def test_the_console_shows_what_it_showed_without_us(serve, home):
    """The server's lines, prints among them."""
    bare = serve(on="")
    bare.post("a")
    bare.stop()
    ours = serve()
    ours.post("a")
    ours.stop()

    def shape(text):
        return re.sub(r"[\d.:,-]+|app\d", "#", text[text.index("Initializing logger") :]).splitlines()

    assert sorted(shape(ours.text())) == sorted(shape(bare.text()))


def test_a_request_id_that_nobody_sent_is_the_servers(serve, items):
    """What it answers is what the rows say."""
    _, answered, _ = serve().post("a")

    (request,) = items("request")
    ids = {item.custom_dimensions["Request Id"] for item in [request, *inside(items(), request)]}
    assert ids == {answered["x-request-id"]}


def test_a_run_that_fails_is_a_failed_request_with_the_scripts_own_exception(serve, items):
    """Not the server's wrapper around it; and the answer is the server's."""
    status, _, body = serve().post("fail")

    assert (status, b"An unexpected error occurred in scoring script" in body) == (500, True)
    (request,), (exception,) = items("request"), items("exception")
    assert (request.result_code, request.success) == ("500", False)
    assert "Response Value" in request.custom_dimensions
    assert (exception.type, exception.message) == ("ValueError", "no good")
    assert (exception.operation_id, exception.operation_parent_id) == (request.operation_id, request.id)
    assert exception.details[0].parsed_stack[0].method == "run"
    assert printed(inside(items(), request))[0] == '{"input": "fail"}'


@pytest.mark.parametrize(
    ("body", "headers", "path", "status"),
    [
        ("odd", {}, "/score", 500),
        (b"\xff\xfe", {}, "/score", 400),
        ("a", {}, "/nowhere", 404),
        ("a", {"x-request-id": "x" * 1_000}, "/score", 431),
        ("a", {"traceparent": "00-nonsense"}, "/score", 200),
        ("a", {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, "/score", 200),
        ("a", {"x-ms-client-request-id": "é".encode()}, "/score", 200),
    ],
)
def test_what_is_wrong_is_collected_like_the_rest(serve, items, body, headers, path, status):
    """An answer that cannot be serialised, a body that is not UTF-8, a header that is malformed or too long."""
    server = serve()
    answer = server.call("POST", path, body, headers)
    bare = serve(on="").call("POST", path, body, headers)

    assert (answer[0], answer[2]) == (status, bare[2])
    assert answer[1].keys() == bare[1].keys()
    (request,) = items("request")
    assert (request.result_code, request.success) == (str(status), status < 400)
    assert len(request.operation_id) == 32
    assert len(items("exception")) == (body == "odd")


def test_a_header_that_the_server_refuses_costs_nothing(serve, items):
    """10 KB are more than gunicorn takes; the next call is answered."""
    server = serve()
    assert server.post("a", {"x-big": "x" * 10_240})[0] in {400, 431}
    assert server.post("b")[0] == 200

    (request,) = items("request")
    assert printed(inside(items(), request))[0] == '{"input": "b"}'


def test_health_probes_are_left_out(serve, items):
    """GET / is no request; what the script never sees is no row."""
    server = serve()
    for _ in range(5):
        assert server.get("/")[0] == 200
    server.post("a")

    assert [item.name for item in items("request")] == ["POST /score"]


def test_the_answer_is_kept_only_where_that_is_wanted(serve, items):
    """APP_INSIGHTS_LOG_RESPONSE_ENABLED=false leaves it out."""
    serve(APP_INSIGHTS_LOG_RESPONSE_ENABLED="false").post("a")

    (request,) = items("request")
    assert "Response Value" not in request.custom_dimensions


def test_a_large_print_and_a_large_answer_are_whole(serve, home, items):
    """300 KB: the call answers in time, and both originals can be had."""
    import scoretrace

    text = json.dumps({"input": "x" * 300_000})
    status, _, body = serve("def init(): pass\ndef run(data):\n    print(data)\n    return data\n").post(text)

    assert (status, json.loads(body)) == (200, text)
    (request,) = items("request")
    (trace,) = [item for item in inside(items("trace"), request) if item.message == "STDOUT"]
    assert scoretrace.payload(trace.item_id, source=home).decode() == text
    assert scoretrace.payload(request.item_id, source=home) == body


def test_a_logging_json_is_enough(serve, items):
    """No line of the script changes: prints, logs, writes and the request, each once."""
    handlers = {"telemetry": {"class": "scoretrace.TelemetryHandler"}}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": handlers,
        "root": {"handlers": ["telemetry"], "level": "INFO"},
    }
    server = serve(on="", logging_json=config)
    server.post("a", {"traceparent": TRACEPARENT})
    server.post("fail")

    ok, failed = items("request")
    rows = inside(items(), ok)
    assert [item.custom_dimensions.get("Contents", item.message) for item in rows] == [
        '{"input": "a"}', "logged", "written", "complained",
    ]  # fmt: skip
    assert ok.operation_id == TRACEPARENT[3:35]
    assert "ready" in printed(items())
    assert [(item.type, item.operation_id) for item in items("exception")] == [("ValueError", failed.operation_id)]


def test_both_at_once_are_still_one_row_each(serve, items):
    """A logging.json and the two lines, and a run() that is timed as well."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"telemetry": {"class": "scoretrace.TelemetryHandler"}},
        "root": {"handlers": ["telemetry"], "level": "INFO"},
    }
    source = ECHO.replace("def run(", "@scoretrace.request\ndef run(")
    serve(source, logging_json=config).post("a")

    (request,) = items("request")
    assert len(inside(items(), request)) == 4


def test_an_init_that_fails_is_delivered_before_the_process_ends(serve, items, endpoint):
    """Its exception is at the endpoint when the server has gone."""
    source = "def init():\n    print('loading')\n    open('/no/such/model')\ndef run(data): pass\n"
    server = serve(source, ready=False, APPLICATIONINSIGHTS_CONNECTION_STRING=endpoint.connection_string)
    assert server.process.wait(60) == 3

    (exception,) = items("exception")
    assert (exception.type, exception.severity_level) == ("FileNotFoundError", 4)
    types = [envelope["data"]["baseType"] for envelope in endpoint.envelopes]
    assert types.count("ExceptionData") == 1
    assert "loading" in [
        envelope["data"]["baseData"].get("properties", {}).get("Contents") for envelope in endpoint.envelopes
    ]


def test_an_import_that_fails_is_a_row(serve, items):
    """What follows configure() in the script and raises."""
    server = serve("import no_such_module\n", ready=False)
    assert server.process.wait(60) == 3

    assert [item.type for item in items("exception")] == ["ModuleNotFoundError"]


@pytest.mark.parametrize("preload", ["false", "true"])
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_four_workers_lose_nothing(serve, items, signal, preload):
    """Each answer that arrived has its request and its print, whoever of the four gave it."""
    server = serve(workers=4, WORKER_PRELOAD=preload)
    bodies = [f"sleep 0.02 {number}" for number in range(100)]
    with ThreadPoolExecutor(8) as callers:
        assert {status for status, _, _ in callers.map(server.post, bodies)} == {200}
    if signal == "SIGTERM":
        server.stop()
    else:
        server.kill()

    requests = items("request")
    assert len(requests) == len({item.operation_id for item in requests}) == 100
    inputs = [json.loads(text)["input"] for text in printed(items()) if text.startswith("{")]
    assert sorted(inputs) == sorted(bodies)
    assert len({item.item_id.rpartition("-")[0] for item in requests}) > 1


def test_what_a_killed_server_left_is_delivered_by_the_next(serve, items, endpoint):
    """Every row arrives, once or more, with the same ids."""
    on = {"APPLICATIONINSIGHTS_CONNECTION_STRING": endpoint.connection_string}
    first = serve(workers=2, **on)
    for number in range(20):
        first.post(str(number))
    first.kill()
    second = serve(workers=2, **on)
    second.post("last")
    second.stop()

    ids = {item.item_id for item in items()}
    assert len(items("request")) == 21
    assert ids <= set(endpoint.ids())
