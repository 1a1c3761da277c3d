"""
Requests a second of the real scoring server: bare, with scoretrace, and with its own Application Insights switch.

All of them run at once, each with one worker, and are called in turns, a block
of calls each, so that what the machine does meanwhile hits them alike. A call
is one connection, as the server closes it; `run()` takes 2 ms of CPU and prints
1 KB. Each figure is the median of the blocks' ratios to the bare server.
"""

import http.client
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from ingestion import KEY  # noqa: E402 - the helpers of the tests start the same server
from scoring_server import ON, Server  # noqa: E402

BLOCKS, CALLS = int(os.environ.get("BLOCKS", "40")), 150

SCRIPT = """
import json, time

def init():
    pass

def run(data):
    print(json.dumps({"input": "x" * 1000}))
    end = time.perf_counter() + 0.002
    while time.perf_counter() < end:
        pass
    return [1.0]
"""


def block(server, calls):
    """Seconds of each of *calls* calls, one after the other."""
    taken = []
    for _ in range(calls):
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/score", b'{"data": [1]}', {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        taken.append(time.perf_counter() - begin)
        assert answer.status == 200
    return taken


def main(folder, port):
    root = Path(folder)
    endpoint = f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:{port}/"
    azure = {"APPLICATIONINSIGHTS_CONNECTION_STRING": endpoint}
    own = {**azure, "AML_APP_INSIGHTS_ENABLED": "true", "AML_APP_INSIGHTS_KEY": KEY}
    servers = {
        "bare": Server(root / "bare", root / "home0", SCRIPT, on=""),
        "scoretrace, on disk": Server(root / "disk", root / "home1", SCRIPT, on=ON),
        "scoretrace, delivering": Server(root / "azure", root / "home2", SCRIPT, on=ON, **azure),
        "the server's own Application Insights": Server(root / "own", root / "home3", SCRIPT, on="", **own),
    }
    try:
        for server in servers.values():
            block(server, CALLS)
        taken = {name: [] for name in servers}
        order = list(servers)
        for number in range(BLOCKS):
            for name in order[number % len(order) :] + order[: number % len(order)]:
                taken[name].append(block(servers[name], CALLS))
    finally:
        for server in servers.values():
            server.stop()
    print(
        f"{'one worker, run() of 2 ms that prints 1 KB':40} {'a second':>9} {'of bare':>8} {'p99 ms':>7} {'of bare':>8}"
    )
    bare = taken["bare"]
    for name, blocks in taken.items():
        rates = [sum(b) / sum(a) for a, b in zip(blocks, bare, strict=True)]
        every = sorted(second for one in blocks for second in one)
        late = [p99(a) / p99(b) for a, b in zip(blocks, bare, strict=True)]
        rate = CALLS / statistics.median(map(sum, blocks))
        print(
            f"{name:40} {rate:9.0f} {statistics.median(rates):7.3f}x {p99(every) * 1000:7.2f}"
            f" {statistics.median(late):7.3f}x"
        )


def p99(seconds):
    return sorted(seconds)[int(len(seconds) * 0.99)]


if __name__ == "__main__":
    main(*sys.argv[1:])
