"""Delivery with real processes and real signals: each item at least once, repeats at most one batch."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from ingestion import Endpoint
from processes import run_workers
from scoretrace.exporters.items import BATCH_ITEMS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are promised for POSIX")

PRELUDE = """
import logging, os, signal, sys, threading, time
import scoretrace
telemetry = scoretrace.configure(home=sys.argv[1], service="svc", capture_print=False)
log = logging.getLogger("score")
def burst(count, start=0):
    for number in range(start, start + count):
        log.info("%d", number)
"""


@pytest.fixture(autouse=True)
def _resource(monkeypatch, endpoint):
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", endpoint.connection_string)


def begin(home, code, **more):
    command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code), str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def run(home, code, *, expect=0, timeout=60):
    """Run *code* to its end; returns its stderr."""
    child = begin(home, code)
    try:
        _, err = child.communicate(timeout=timeout)
    finally:
        child.kill()
    assert child.returncode == expect, err
    return err


def recover(home):
    """What the next start delivers, here through the command."""
    command = [sys.executable, "-m", "scoretrace", "export", "--home", str(home), "--timeout", "20"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr


def assert_complete(endpoint, count, repeats=0):
    """All numbers below *count* arrived, each with one id, and at most *repeats* arrived twice."""
    ids = {}
    for message, item_id in zip(endpoint.messages(), endpoint.ids(), strict=True):
        ids.setdefault(int(message), []).append(item_id)
    assert sorted(ids) == list(range(count))
    assert {len(set(found)) for found in ids.values()} == {1}
    assert len(endpoint.envelopes) - count <= repeats


@pytest.mark.parametrize("exporter", ["azure_monitor", "opentelemetry", "opencensus"])
def test_a_tight_loop_and_exit(home, endpoint, monkeypatch, exporter):
    """20,000 calls, and the process ends at once."""
    if exporter == "opencensus" and sys.version_info >= (3, 13):
        pytest.skip("OpenCensus does not work there")
    monkeypatch.setenv("SCORETRACE_EXPORTER", exporter)
    run(home, "burst(20_000)")
    recover(home)

    assert_complete(endpoint, 20_000, BATCH_ITEMS)


@pytest.mark.parametrize("attempt", range(4))
def test_kill_9_and_restart(home, endpoint, attempt):
    """Killed in the middle of writing and delivering."""
    child = begin(home, "burst(3_000)\nprint('written', flush=True)\ntime.sleep(60)")
    child.stdout.readline()
    endpoint.wait_for(1 + attempt * 900)
    child.kill()
    child.communicate()
    recover(home)

    assert_complete(endpoint, 3_000, BATCH_ITEMS)


def test_sigterm_delivers_and_ends_the_process(home, endpoint):
    """By the signal, as without us; what was logged has arrived."""
    run(home, "burst(500)\nos.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", expect=-signal.SIGTERM)

    assert_complete(endpoint, 500)


def test_sigterm_is_chained_with_the_handler_of_the_script(home, endpoint):
    """It is called, and what it does decides."""
    script = """
        import scoretrace, signal, sys
        telemetry.shutdown()
        signal.signal(signal.SIGTERM, lambda *_: (print("theirs", flush=True), os._exit(7)))
        telemetry = scoretrace.configure(home=sys.argv[1], service="svc", capture_print=False)
        burst(500)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    """
    run(home, script, expect=7)

    assert_complete(endpoint, 500)


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_forked_workers(home, endpoint, end):
    """Four of them, however they end; their parent or the next start delivers what they left."""
    run(
        home,
        f"""
        children = []
        for worker in range(4):
            child = os.fork()
            if not child:
                burst(500, worker * 500)
                {end}
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
    )
    recover(home)

    assert_complete(endpoint, 2_000, BATCH_ITEMS * 4)


def test_a_fork_in_the_middle_of_delivery(home, endpoint):
    """The child has threads, locks and connections of its own."""
    run(
        home,
        """
        burst(2_000)
        for worker in range(5):
            child = os.fork()
            if not child:
                burst(200, 2_000 + worker * 200)
                assert telemetry.flush(30)
                os._exit(0)
            burst(200, 3_000 + worker * 200)
            assert os.waitpid(child, 0)[1] == 0
        """,
    )
    recover(home)

    assert_complete(endpoint, 4_000, BATCH_ITEMS)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(home, endpoint, tmp_path, method):
    """Its workers end without exit handlers, but with finalizers."""
    run_workers(tmp_path, home, method)
    arrived = len(set(endpoint.ids()))
    recover(home)

    assert arrived >= 500
    assert_complete(endpoint, 2_000, BATCH_ITEMS)


def test_an_endpoint_that_is_down_and_comes_back(home, endpoint):
    """Connections are refused for a while; nothing raises, and all arrives by itself."""
    port = endpoint.port
    endpoint.close()
    child = begin(home, "burst(3_000)\nprint('written', flush=True)\ntime.sleep(1)\nassert telemetry.flush(30)")
    child.stdout.readline()
    assert "telemetry waits on disk" in child.stderr.readline()  # after the first attempt, however long that takes
    healthy = Endpoint(port)
    try:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert "telemetry waits on disk" not in err, "said once"
        assert_complete(healthy, 3_000)
    finally:
        healthy.close()
        child.kill()


def test_an_endpoint_that_accepts_and_never_answers(home, endpoint, monkeypatch):
    """The process ends all the same, and the next start delivers."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        held = []
        threading.Thread(target=_accept, args=(deaf, held), daemon=True).start()
        deaf_string = endpoint.connection_string.replace(str(endpoint.port), str(deaf.getsockname()[1]))
        monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", deaf_string)
        run(home, "burst(2_000)", timeout=20)
        assert held
        for connection in held:
            connection.close()
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", endpoint.connection_string)
    recover(home)

    assert_complete(endpoint, 2_000)


def _accept(server, held):
    with contextlib.suppress(OSError):
        while True:
            held.append(server.accept()[0])


def test_a_disk_that_is_full_when_the_cursor_is_to_be_saved(home, endpoint):
    """What was delivered is not delivered again when there is room."""
    err = run(
        home,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        burst(1_500)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        assert not telemetry.flush(2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert telemetry.flush(30)
        """,
    )

    assert "telemetry waits on disk" in err
    assert_complete(endpoint, 1_500, BATCH_ITEMS)


def test_a_sidecar_delivers_what_the_script_only_writes(home, endpoint, monkeypatch):
    """`scoretrace export --follow` beside `exporter="none"`, until it is told to end."""
    sidecar = subprocess.Popen(
        [sys.executable, "-m", "scoretrace", "export", "--follow", "--home", str(home)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
        run(home, "burst(1_000)\nassert telemetry.flush(1)")
        endpoint.wait_for(1_000)
        run(home, "burst(1_000, 1_000)")
        endpoint.wait_for(2_000)
        sidecar.send_signal(signal.SIGTERM)
        _, err = sidecar.communicate(timeout=30)
    finally:
        sidecar.kill()

    assert sidecar.returncode == 0
    assert "2,000 items delivered" in err
    assert_complete(endpoint, 2_000)


def test_a_sidecar_may_be_the_only_one_that_has_the_key(home, endpoint, monkeypatch):
    """What a script without a connection string logged is delivered by the command that has one."""
    string = endpoint.connection_string
    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING")
    run(home, "burst(100)")
    other = "InstrumentationKey=00000000-1111-2222-3333-444444444444"
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", other)
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    run(home, "burst(1, 500)")
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", string)

    assert "100 items delivered, 1 folder of other resources left alone" in recover(home)
    assert_complete(endpoint, 100)


@pytest.mark.parametrize("exporter", ["azure_monitor", "opentelemetry"])
def test_the_console_of_the_script_stays_its_own(home, endpoint, monkeypatch, exporter):
    """Neither the HTTP client nor Azure's libraries speak of our requests at INFO."""
    monkeypatch.setenv("SCORETRACE_EXPORTER", exporter)
    err = run(home, "logging.basicConfig(level=logging.INFO)\nburst(3)\nassert telemetry.flush(30)")

    assert [line for line in err.splitlines() if "score:" not in line] == []
    assert_complete(endpoint, 3)


def test_a_sidecar_beside_a_process_that_delivers_says_so(home, endpoint):
    """Only one delivers; where nothing waits that is no failure."""
    child = begin(home, "burst(10)\nassert telemetry.flush(30)\nprint('delivered', flush=True)\ntime.sleep(60)")
    try:
        child.stdout.readline()
        command = [sys.executable, "-m", "scoretrace", "export", "--home", str(home)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        child.kill()
        child.communicate()

    assert ended.returncode == 0
    assert "0 items delivered, another process delivers this home" in ended.stderr
    assert_complete(endpoint, 10)


def test_an_import_during_a_fork_does_not_lock_the_child(home, endpoint):
    """The thread imports what it delivers with; a child that was forked in that moment imports it too."""
    run(
        home,
        """
        for round in range(10):
            burst(20, round * 40)
            time.sleep(0.02 * round)
            child = os.fork()
            if not child:
                import azure.core.pipeline.transport, azure.core.rest
                burst(20, round * 40 + 20)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
    )
    recover(home)

    assert_complete(endpoint, 400, BATCH_ITEMS)


def test_the_quarantine_says_why(home, endpoint):
    """Segment, status, message and line, one JSON object a line."""
    endpoint.always = (400, {}, {"errors": []})
    run(home, "burst(3)\nassert telemetry.flush(30)")
    (path,) = (home / "state" / "quarantine").iterdir()
    records = [json.loads(line) for line in path.read_text().splitlines()]

    assert [record["status"] for record in records] == [400] * 3
    assert all((home / "telemetry" / record["segment"]).exists() for record in records)
