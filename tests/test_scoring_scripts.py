"""Scripts of every kind behind the real scoring server: they run unchanged, stream, hang, and do strange things."""

import json
import subprocess

import pytest

from processes import until
from scoring_server import SCRIPTS, TRACEPARENT, TWO, inside, printed, python


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

    assert until(lambda: items("exception"))  # whoever has the answer has not waited for what comes after it
    (request,) = items("request")
    assert printed(inside(items(), request)) == ["after the last piece"]
    assert [item.message for item in items("exception") if item.operation_id == request.operation_id] == ["too late"]


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
