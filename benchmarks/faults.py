"""
What arrives through faults, ours and the peers' side by side: `make bench-faults`, or with names only those.

Each scenario runs in processes of its own against a loopback endpoint that is
told to fail, with the default settings of each. Afterwards comes a new start,
which has RECOVERY seconds to deliver what is left. A cell says how many of the
items arrived at least once, how many came twice, and how long the process took
to end after its last call.
"""

import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from ingestion import Endpoint, accepted, partly  # noqa: E402

SYSTEMS = ("scoretrace", "opentelemetry", "opencensus")
RECOVERY = 25
QUIET = {
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
}


# The process that logs.


def set_back_later():
    """Make the clock of this process one that goes back five hours when the result is called."""
    shift = [0]
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() - shift[0]
    time.time_ns = lambda: nanoseconds() - shift[0] * 10**9
    return lambda: shift.__setitem__(0, 5 * 3_600)


def ours(home, key):
    import scoretrace

    scoretrace.configure(home=home, connection_string=key, capture_print=False, storage=os.environ.get("STORAGE"))


def opentelemetry(home, key):
    import logging

    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    exporter = AzureMonitorLogExporter(connection_string=key, storage_directory=home)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logging.getLogger("bench").addHandler(LoggingHandler(logger_provider=provider))


def opencensus(home, key):
    import logging

    from opencensus.ext.azure.log_exporter import AzureLogHandler

    logging.getLogger("bench").addHandler(AzureLogHandler(connection_string=key, storage_path=home))


def worker(system, home, key, plan):
    """Log as *plan* says; a line on stdout for each exception that reached the caller."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    back = set_back_later() if plan.get("back") else None
    {"scoretrace": ours, "opentelemetry": opentelemetry, "opencensus": opencensus}[system](home, key)
    log = logging.getLogger("bench")
    log.setLevel(logging.INFO)
    log.propagate = False
    raised = 0

    def burst(start, count, rate=0, text=""):
        nonlocal raised
        begin = time.perf_counter()
        for number in range(count):
            if back is not None and number == count // 2:
                back()
            try:
                log.info("%d%s", start + number, text)
            except Exception:  # noqa: BLE001 - it is what is counted
                raised += 1
            if rate:
                time.sleep(max(0.0, begin + (number + 1) / rate - time.perf_counter()))

    count, rate, end = plan["count"], plan.get("rate", 0), plan.get("end", "exit")
    if plan.get("full"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan["full"], resource.RLIM_INFINITY))
    if plan.get("workers"):
        if plan["workers"] == "multiprocessing":
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=burst, args=(n * count // 4, count // 4)) for n in range(4)]
            for child in children:
                child.start()
            for child in children:
                child.join()
        else:
            for number in range(4):
                if not os.fork():
                    burst(number * count // 4, count // 4)
                    os._exit(0) if plan["workers"] == "_exit" else sys.exit(0)
            for _ in range(4):
                os.wait()
    else:
        burst(0, count, rate, plan.get("text", ""))
    print(json.dumps({"raised": raised}), flush=True)
    if plan.get("full"):
        time.sleep(2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        burst(count, 1)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    time.sleep(plan.get("idle", 0))


# The one that watches it.


def start(system, home, key, plan, **environment):
    command = [sys.executable, __file__, "--worker", system, home, key, json.dumps(plan)]
    environment = {**os.environ, **QUIET, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)


def wait(child, timeout=120):
    """The line that the worker wrote, and how long it took to end after it."""
    line = child.stdout.readline()
    begin = time.perf_counter()
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    taken = time.perf_counter() - begin
    child.stdout.close()
    return json.loads(line)["raised"] if line else 0, taken


def recover(system, home, endpoint, expected, **environment):
    """A new start that logs one item, and ends when all is there or the time is over."""
    if len(numbers(endpoint)) >= expected:
        return
    child = start(
        system, home, endpoint.connection_string, {"count": 1, "text": " recovery", "idle": 600}, **environment
    )
    end = time.monotonic() + RECOVERY
    while time.monotonic() < end and len(numbers(endpoint)) < expected:
        time.sleep(0.2)
    child.terminate()
    wait(child, 20)


def numbers(endpoint):
    found = {}
    for message in endpoint.messages():
        if message and " recovery" not in message:
            found[message.split()[0]] = found.get(message.split()[0], 0) + 1
    return found


def plainly(plan, arrange=None):
    def scenario(system, home):
        endpoint = Endpoint()
        try:
            if arrange is not None:
                arrange(endpoint)
            raised, taken = wait(start(system, home, endpoint.connection_string, plan))
            if arrange is not in_parts:
                endpoint.always = None
            recover(system, home, endpoint, plan["count"] - plan.get("refused", 0))
            return cell(endpoint, plan["count"] - plan.get("refused", 0), raised, taken)
        finally:
            endpoint.close()

    return scenario


def cell(endpoint, expected, raised, taken):
    found = numbers(endpoint)
    twice = sum(found.values()) - len(found)
    text = f"{min(len(found), expected):,} of {expected:,}"
    text += f", {twice:,} twice" if twice else ""
    text += f", {raised:,} raised" if raised else ""
    ids = {
        envelope["data"]["baseData"]["properties"].get("scoretrace_item_id", index)
        for index, envelope in enumerate(endpoint.envelopes)
        if " recovery" not in (envelope["data"]["baseData"].get("message") or " recovery")
    }
    text += "" if not twice or len(ids) == len(found) else " under another id"
    return f"{text}, {taken:.1f} s"


def down(seconds, plan):
    """The endpoint refuses connections for so long."""

    def scenario(system, home):
        reserved = Endpoint()
        reserved.close()
        child = start(system, home, reserved.connection_string, plan)
        time.sleep(seconds)
        endpoint = Endpoint(reserved.port)
        try:
            raised, taken = wait(child)
            recover(system, home, endpoint, plan["count"])
            return cell(endpoint, plan["count"], raised, taken)
        finally:
            endpoint.close()

    return scenario


def deaf(system, home):
    """Connections are accepted, and nobody answers."""
    plan = {"count": 2_000}
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept():
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        endpoint = Endpoint()
        silent = endpoint.connection_string.replace(str(endpoint.port), str(server.getsockname()[1]))
        raised, taken = wait(start(system, home, silent, plan), 60)
        for connection in held:
            connection.close()
    try:
        recover(system, home, endpoint, plan["count"])
        return cell(endpoint, plan["count"], raised, taken)
    finally:
        endpoint.close()


def waiting(system, home):
    """100,000 items were logged while nothing answered; then comes a new start."""
    plan = {"count": 100_000}
    closed = Endpoint()
    closed.close()
    raised, taken = wait(start(system, home, closed.connection_string, plan))
    endpoint = Endpoint(closed.port)
    try:
        recover(system, home, endpoint, plan["count"])
        return cell(endpoint, plan["count"], raised, taken)
    finally:
        endpoint.close()


def redirect(system, home):
    other = Endpoint()
    try:
        endpoint = Endpoint()
        endpoint.always = (307, {"Location": f"{other.url}/v2.1/track"}, {})
        raised, taken = wait(start(system, home, endpoint.connection_string, {"count": 2_000}))
        endpoint.close()
        return cell(other, 2_000, raised, taken)
    finally:
        other.close()


def storage_down(system, home):
    if system != "scoretrace":
        return "no payloads"
    from conftest import ACCOUNT, run_azurite

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    storage = f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    endpoint = Endpoint()
    try:
        plan = {"count": 200, "text": " " + "x" * 60_000}
        raised, taken = wait(start(system, home, endpoint.connection_string, plan, STORAGE=storage))
        assert not endpoint.envelopes, "a row went out before its payload"
        with run_azurite(port):
            recover(system, home, endpoint, 200, STORAGE=storage)
        return cell(endpoint, 200, raised, taken)
    finally:
        endpoint.close()


def in_parts(endpoint):
    """Of 500 items 17 are refused for good; 34 are accepted only when they come again."""
    seen = set()

    def answer(batch):
        errors = []
        for index, envelope in enumerate(batch):
            text = (envelope["data"]["baseData"].get("message") or "").split()[0]
            number = int(text) if text.isdigit() else 1
            status = {0: 400, 10: 429, 20: 500}.get(number % 30)
            if status == 400 or (status and number not in seen):
                errors.append((index, status, "told to"))
                seen.add(number)
        return partly(len(batch), errors)

    endpoint.always = answer


def first(*answers):
    return lambda endpoint: endpoint.answers.extend(answers)


def no_gzip(endpoint):
    def answer(batch):
        return (415, {}, {}) if endpoint.requests[-1][1].get("Content-Encoding") == "gzip" else accepted(len(batch))

    endpoint.always = answer


def at_most(count):
    return first(*[lambda batch: (413, {}, {}) if len(batch) > count else accepted(len(batch))] * 500)


QUIETLY = {"count": 500, "rate": 500, "idle": 6}
SCENARIOS = {
    "20,000 in a tight loop, exit": plainly({"count": 20_000}),
    "200,000 in a tight loop, exit": plainly({"count": 200_000}),
    "kill -9 after 10,000 at 2,000/s": plainly({"count": 10_000, "rate": 2_000, "end": "kill"}),
    "SIGTERM after 500 at 500/s": plainly({"count": 500, "rate": 500, "end": "term"}),
    "4 forked workers, sys.exit": plainly({"count": 2_000, "workers": "exit"}),
    "4 forked workers, os._exit": plainly({"count": 2_000, "workers": "_exit"}),
    "multiprocessing, 4 workers": plainly({"count": 2_000, "workers": "multiprocessing"}),
    "down for 10 s, 1,000/s": down(10, {"count": 20_000, "rate": 1_000, "idle": 5}),
    "down for 10 s, tight loop": down(10, {"count": 20_000, "idle": 15}),
    "restart with 100,000 waiting": waiting,
    "accepts and never answers": deaf,
    "206 with 400, 429 and 500": plainly({**QUIETLY, "refused": 17}, in_parts),
    "402": plainly(QUIETLY, first(402, 402)),
    "413 above 100 items": plainly(QUIETLY, at_most(100)),
    "429 with Retry-After": plainly(QUIETLY, first((429, {"Retry-After": "2"}, {}))),
    "439": plainly(QUIETLY, first(439, 439)),
    "503": plainly(QUIETLY, first(503, 503)),
    "redirect": redirect,
    "gzip refused": plainly(QUIETLY, no_gzip),
    "storage down, payloads wait": storage_down,
    "clock set back by 5 h": plainly({"count": 2_000, "rate": 1_000, "idle": 3, "back": True}),
    "disk full": plainly({"count": 2_000, "full": 100_000, "idle": 3}),
}


def main(chosen):
    width = max(map(len, SCENARIOS))
    print(f"{'':{width}}  " + "".join(f"{system:46}" for system in SYSTEMS), flush=True)
    for name, scenario in SCENARIOS.items():
        if chosen and not any(word in name for word in chosen):
            continue
        cells = []
        for system in SYSTEMS:
            with tempfile.TemporaryDirectory() as home:
                cells.append(scenario(system, home))
        print(f"{name:{width}}  " + "".join(f"{text:46}" for text in cells), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5], json.loads(sys.argv[5]))
    else:
        main(sys.argv[1:])
