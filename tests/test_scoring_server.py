"""Behind the real azureml-inference-server-http: each call one true request, with all that happened in it."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from scoring_server import ROOT, SCRIPTS, Server, python

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = json.dumps({"data": [[1, 2], [3, 4]]})
ECHO = """
import json, logging, os, sys, time

def init():
    print("ready")

def run(data):
    print(json.dumps({"input": data}))
    logging.getLogger("score").info("logged", extra={"rows": 1})
    sys.stdout.write("written\\n")
    sys.stderr.write("complained\\n")
    if data.startswith("sleep"):
        time.sleep(float(data.split()[1]))
    if data == "fail":
        raise ValueError("no good")
    if data == "odd":
        return {1, 2}
    return {"got": data}
"""


@pytest.fixture(name="serve")
def _serve(tmp_path, home):
    servers = []

    def start(source=ECHO, **options):
        servers.append(Server(tmp_path / f"app{len(servers)}", home, source, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def inside(found, request):
    """The rows of a request, but for itself."""
    return [item for item in found if item.operation_id == request.operation_id and item.kind != "request"]


def printed(found):
    return [item.custom_dimensions["Contents"] for item in found if item.kind == "trace" and item.message == "STDOUT"]


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


def test_a_run_that_takes_too_long_is_an_exception_where_it_was(serve, items):
    """The server's timeout, with the line of the script."""
    status, _, _ = serve(SCORING_TIMEOUT_MS="200").post("sleep 20")

    assert status == 500
    (exception,) = items("exception")
    assert exception.type == "TimeoutError"
    assert "200" in exception.message
    assert "run" in [frame.method for frame in exception.details[0].parsed_stack]


def test_a_script_that_prints_for_ever_times_out(serve, items):
    """The alarm mostly strikes inside a print, which must not swallow it."""
    source = "def init(): pass\ndef run(data):\n    while True:\n        print('again')\n"
    server = serve(source, SCORING_TIMEOUT_MS="200")
    for _ in range(5):
        assert server.post("a")[0] == 500

    assert [item.type for item in items("exception")] == ["TimeoutError"] * 5


@pytest.mark.parametrize(
    "body",
    [
        "with scoretrace.request_context('step'):\n            pass",
        "scoretrace.request(lambda: None)()",
        "scoretrace.log({'a': 1})",
        "logging.getLogger('x').info('again')",
    ],
)
def test_nothing_of_ours_swallows_the_timeout(serve, items, body):
    """Whatever the script calls for ever, it is ended, and the exception is the timeout's."""
    source = f"import logging\ndef init(): pass\ndef run(data):\n    while True:\n        {body}\n"
    assert serve(source, SCORING_TIMEOUT_MS="200").post("a")[0] == 500

    assert "TimeoutError" in {item.type for item in items("exception")}


def test_a_handler_of_the_scripts_that_hangs_is_ended_too(serve):
    """It runs inside of our own code, which waits for a second at the most."""
    source = """
import logging, time
class Hanging(logging.Handler):
    def emit(self, record):
        time.sleep(60)
def init():
    logging.getLogger("x").addHandler(Hanging())
def run(data):
    logging.getLogger("x").warning("hang")
"""
    server = serve(source, SCORING_TIMEOUT_MS="200")
    for _ in range(2):
        assert server.post("a")[0] == 500


def test_what_the_script_does_inside_a_print_is_its_own(serve):
    """A slow __str__ is ended by the timeout, as it is without us."""
    source = """
import time
class Slow:
    def __str__(self):
        time.sleep(20)
        return "slow"
def init(): pass
def run(data):
    print(Slow())
"""
    assert serve(source, SCORING_TIMEOUT_MS="200").post("a")[0] == 500


def test_a_file_that_a_script_sends(serve, items):
    """It arrives, and the request says that it was one."""
    source = """
from flask import send_file
from azureml_inference_server_http.api.aml_request import rawhttp
def init(): pass
@rawhttp
def run(request):
    return send_file(__file__, mimetype="text/plain")
"""
    assert b"send_file(__file__" in serve(source).post("a")[2]

    (request,) = items("request")
    assert request.custom_dimensions["Response Value"] == "<a file of text/plain; charset=utf-8>"


def test_what_comes_after_the_last_byte_still_belongs_to_the_call(serve, items):
    """Prints and exceptions behind the length that was announced."""
    source = """
from flask import Response
def init(): pass
def run(data):
    def pieces():
        yield "12345"
        print("after the last piece")
        raise ValueError("too late")
    return Response(pieces(), headers={"Content-Length": "5"})
"""
    assert serve(source).post("a")[2] == b"12345"

    (request,) = items("request")
    assert printed(inside(items(), request)) == ["after the last piece"]
    assert [item.message for item in items("exception") if item.operation_id == request.operation_id] == ["too late"]


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


def test_a_stream_is_one_request_until_its_end(serve, items):
    """Prints made between two pieces belong to it, and the answer is what it is without us."""
    source = (SCRIPTS / "streams.py").read_text()
    answer = serve(source).post(TWO)
    bare = serve(source, on="").post(TWO)

    assert (answer[0], answer[2], answer[1].keys()) == (bare[0], bare[2], bare[1].keys())
    (request,) = items("request")
    assert printed(inside(items(), request)) == ["begins", "piece of 2", "piece of 2"]
    assert request.custom_dimensions["Response Value"] == "3\n7\n"


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_public_scripts_run_unchanged_behind_the_server(serve, items, script):
    """Every pattern gives the answer that it gives without us, with its prints in its request."""
    source = (SCRIPTS / f"{script}.py").read_text()
    headers = {"traceparent": TRACEPARENT, "x-ms-request-id": "call-7"}
    answer = serve(source).post(TWO, headers)
    bare = serve(source, on="").post(TWO, headers)

    volatile = {"x-ms-run-fn-exec-ms", "Date", "x-request-id"}
    assert (answer[0], answer[2]) == (bare[0], bare[2])
    assert {k: v for k, v in answer[1].items() if k not in volatile} == {
        k: v for k, v in bare[1].items() if k not in volatile
    }
    (request,) = items("request")
    assert request.result_code == str(answer[0])
    assert inside(items(), request)


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_public_scripts_run_unchanged_without_a_server(tmp_path, home, items, script):
    """`scoretrace run` calls them as the server does."""
    requests = tmp_path / "requests.ndjson"
    requests.write_text(f"{TWO}\n{TWO}\n")
    run = [python(), "-m", "scoretrace", "run", str(SCRIPTS / f"{script}.py"), str(requests), "--home", str(home)]
    ended = subprocess.run([*run, "-o", str(tmp_path / "out")], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert "2 requests, 0 failed" in ended.stderr
    first, second = items("request")
    assert first.result_code == second.result_code == ("201" if script == "raw_http" else "200")
    assert inside(items(), first)
    assert all(json.loads(line) is not None for line in (tmp_path / "out").read_text().splitlines())


@pytest.mark.parametrize(
    "act",
    [
        "import io; sys.stdout = io.StringIO()",
        "sys.stdout.close()",
        "sys.stdout = None",
        "import builtins; real = builtins.print; builtins.print = lambda *a, **k: real(*a, **k)",
        "child = os.fork()\n    if child == 0:\n        print('child')\n        os._exit(0)\n    os.waitpid(child, 0)",
    ],
)
def test_a_script_that_does_strange_things_gets_the_answer_that_it_gets_without_us(serve, items, act):
    """It replaces or closes sys.stdout, wraps print, or forks."""
    source = f"import os, sys\ndef init(): pass\ndef run(data):\n    {act}\n    print('after')\n    return data\n"
    ours, bare = serve(source), serve(source, on="")
    for _ in range(2):
        answer, without = ours.post("a"), bare.post("a")
        assert (answer[0], answer[2]) == (without[0], without[2])

    assert len(items("request")) == 2
    assert {item.result_code for item in items("request")} == {str(answer[0])}


def test_a_recursion_through_our_own_handler_ends(serve, items):
    """What is logged logs itself while it is made into text."""
    source = """
import logging
log = logging.getLogger("deep")
class Chatty:
    def __str__(self):
        log.info("making text of %s", self)
        return "chatty"
def init(): pass
def run(data):
    print(Chatty())
    log.info(Chatty())
    return "done"
"""
    status, _, body = serve(source).post("a")

    assert (status, body) in {(200, b'"done"'), (500, body)}
    assert len(items("request")) == 1


def test_outgoing_calls_of_a_script_are_its_dependencies(serve, items, endpoint):
    """requests, through the OpenTelemetry that the image has; the trace goes on to whoever is called."""
    source = f"""
import requests
def init(): pass
def run(data):
    return requests.post("{endpoint.url}/v2.1/track", json=[]).status_code
"""
    on = "import scoretrace\nscoretrace.configure(instrument='auto')\n"
    assert serve(source, on=on).post("a", {"traceparent": TRACEPARENT})[0] == 200

    (request,), (dependency,) = items("request"), items("dependency")
    assert (dependency.operation_id, dependency.operation_parent_id) == (TRACEPARENT[3:35], request.id)
    assert (dependency.type, dependency.target, dependency.success) == ("HTTP", f"127.0.0.1:{endpoint.port}", True)
    assert dependency.custom_dimensions["Request Id"] == request.custom_dimensions["Request Id"]
