"""What every test gets: an environment without settings of ours, and telemetry in a folder of its own."""

import contextlib
import logging
import os
import socket
import subprocess
import time

import pytest

import scoretrace
from scoretrace import process, read
from scoretrace.collect import sink
from scoretrace.formats import continuous_export
from scoretrace.settings import SETTINGS

# The account that every Azurite has; its key is documented and guards nothing.
ACCOUNT = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for setting in SETTINGS:
        for name in setting.environment:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCORETRACE_HOME", str(tmp_path / "home"))
    before = logging.getLogger().level
    yield
    for telemetry in process.known():
        telemetry.shutdown()
    for settings in list(sink._sinks):
        sink.forget(settings.home)
    logging.getLogger().setLevel(before)


@pytest.fixture(name="home")
def _home(tmp_path):
    return tmp_path / "home"


@pytest.fixture(name="telemetry")
def _telemetry(home):
    with scoretrace.configure(home=home, service="svc", instance="test") as telemetry:
        yield telemetry


@pytest.fixture(name="items")
def _items(home):
    """Read back what is on disk now: all items, or those of one kind, in the order in which they were written."""

    def items(kind=None):
        found = [
            item
            for blob in read.find(home, None if kind is None else [kind])
            for _, line in read.lines(blob.path)
            for item in continuous_export.decode(line)
        ]
        return sorted(found, key=lambda item: item.item_id)

    return items


@pytest.fixture
def endpoint():
    """A loopback ingestion endpoint, which can be told to fail."""
    from ingestion import Endpoint

    server = Endpoint()
    yield server
    server.close()


@contextlib.contextmanager
def run_azurite(port):
    """A real Azurite on a loopback port, with nothing in it."""
    from services.node import AZURITE, MISSING, node

    if node() is None or not AZURITE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    where = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    server = subprocess.Popen([node(), str(AZURITE), *options, *where], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def azurite():
    """The connection string of an Azurite that the tests share."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with run_azurite(port):
        yield f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"


@pytest.fixture(name="start")
def _start(home, endpoint):
    """Configure with the loopback endpoint."""
    started = []

    def begin(exporter="azure_monitor", **more):
        more = {"connection_string": endpoint.connection_string, "capture_print": False, **more}
        started.append(scoretrace.configure(home=home, service="svc", exporter=exporter, **more))
        return started[-1]

    yield begin
    for telemetry in started:
        telemetry.shutdown(timeout=1)


@pytest.fixture(name="serve")
def _serve(tmp_path, home):
    """Start the real scoring server with a script."""
    from scoring_server import ECHO, Server

    servers = []

    def start(source=ECHO, **options):
        servers.append(Server(tmp_path / f"app{len(servers)}", home, source, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(name="scored")
def _scored(home):
    """Three scorings: one row, several rows, and one that nothing was predicted from."""
    inputs, predictions = (
        scoretrace.ModelDataCollector("m", "inputs", ["a", "b"]),
        scoretrace.ModelDataCollector("m", "predictions", ["y"]),
    )
    inputs.collect([1, 2.5])
    predictions.collect([10])
    inputs.collect([[3, 4], [5, 6]])
    predictions.collect([[30], [50]])
    inputs.collect([7, 8])
    return home
