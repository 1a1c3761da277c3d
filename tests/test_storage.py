"""Payloads and exports in a real Azurite: stored before their rows go out, and none of it twice."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta, timezone

import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)

import scoretrace
from conftest import ACCOUNT, run_azurite
from scoretrace.blobs import AzureBlobs
from scoretrace.guarding import new_guard
from scoretrace.item import Trace

log = logging.getLogger("score")
LARGE = "{" + ", ".join(f'"{number}": "{"x" * 100}"' for number in range(1_000)) + "}"
KEY = ACCOUNT.partition("AccountKey=")[2]


@pytest.fixture
def service(azurite):
    with BlobServiceClient.from_connection_string(azurite) as client:
        yield client


@pytest.fixture
def start(home, endpoint, tmp_path):
    started = []

    def begin(storage, **more):
        more = {"connection_string": endpoint.connection_string, **more}
        name = f"svc-{tmp_path.name}"
        started.append(scoretrace.configure(home=home, service=name, storage=storage, capture_print=False, **more))
        return started[-1]

    yield begin
    for telemetry in started:
        telemetry.shutdown(timeout=1)


def read(service, container, name):
    with service.get_blob_client(container, name) as blob:
        return blob.download_blob().readall()


def properties(endpoint):
    return [envelope["data"]["baseData"]["properties"] for envelope in endpoint.envelopes]


def test_a_payload_is_stored_before_its_row_is_delivered(start, azurite, service, endpoint, home):
    """The address in the row is the blob's, known when the row was written, and the original is there."""
    found = []

    def answer(batch):
        for envelope in batch:
            uri = envelope["data"]["baseData"]["properties"]["payload_uri"]
            found.append(read(service, "modeldata", uri.partition("/modeldata/")[2]))
        return 200, {}, {"errors": []}

    endpoint.always = answer
    telemetry = start(azurite)
    log.info(LARGE)
    log.info("%s ", LARGE)

    assert telemetry.flush(30)
    assert sorted(found) == sorted([LARGE.encode(), (LARGE + " ").encode()])
    row = scoretrace.query("traces | project itemId, tostring(customDimensions.payload_uri)", source=home).rows[0]
    assert row[1] in {found["payload_uri"] for found in properties(endpoint)}
    assert KEY not in row[1]
    assert "sig=" not in row[1]


def test_an_original_comes_back_from_storage(start, azurite, endpoint, home, monkeypatch):
    """Also when the copy on this machine is gone."""
    telemetry = start(azurite)
    log.info(LARGE)
    assert telemetry.flush(30)
    for path in home.glob("modeldata/**/overflow/*/*/*/*.json"):
        path.unlink()
    (item_id,) = endpoint.ids()

    with pytest.raises(scoretrace.PayloadNotFound):
        scoretrace.payload(item_id, source=home)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    assert scoretrace.payload(item_id, source=home) == LARGE.encode()


def test_storage_that_is_down_holds_only_what_needs_it(start, endpoint, caplog):
    """Other rows go out at once; those with a payload when it is stored, and after it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    storage = f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    telemetry = start(storage)
    log.info("small")
    log.info(LARGE)
    log.info("small too")
    assert endpoint.wait_for(2) == 2
    assert not telemetry.flush(1)
    assert sorted(endpoint.messages()) == ["small", "small too"]
    assert caplog.text.count("payload cannot be stored") == 1

    with run_azurite(port), BlobServiceClient.from_connection_string(storage) as client:
        assert telemetry.flush(60)
        assert len(endpoint.envelopes) == 3
        uri = properties(endpoint)[-1]["payload_uri"]
        assert read(client, "modeldata", uri.partition("/modeldata/")[2]) == LARGE.encode()


def test_what_storage_holds_up_survives_the_process(home, endpoint, tmp_path):
    """Killed while rows wait for their payload; the next start delivers all of them."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "APPLICATIONINSIGHTS_CONNECTION_STRING": endpoint.connection_string,
        "AZURE_STORAGE_CONNECTION_STRING": f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1",
        "SCORETRACE_HOME": str(home),
    }
    code = """
        import logging, time, scoretrace
        scoretrace.configure(capture_print=False)
        for number in range(50):
            logging.getLogger("score").info("%d %s", number, "x" * 60_000)
            logging.getLogger("score").info("small %d", number)
        print("written", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.readline()
    endpoint.wait_for(50)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert all(message.startswith("small") for message in endpoint.messages())

    with run_azurite(port):
        subprocess.run([sys.executable, "-m", "scoretrace", "export"], env=environment, check=True, timeout=120)
    assert len(set(endpoint.ids())) == 100
    assert len(endpoint.ids()) <= 200  # the batch in whose middle it was killed may come twice


def test_a_wrong_key_is_said_without_it(start, azurite, endpoint, caplog, home):
    """Rows with a payload wait on disk; the others go out."""
    wrong = "d3Jvbmc" + KEY[7:]
    telemetry = start(azurite.replace(KEY, wrong))
    log.info("small")
    log.info(LARGE)

    assert not telemetry.flush(3)
    assert endpoint.messages() == ["small"]
    assert wrong not in caplog.text
    assert KEY not in caplog.text
    assert len(list(home.glob("state/held/*/*"))) == 1
    telemetry.shutdown()
    telemetry = start(azurite)
    assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 2


def _sas(azurite, service, container=None):
    name, key, expiry = "devstoreaccount1", KEY, datetime.now(timezone.utc) + timedelta(hours=1)
    if container:
        everything = ContainerSasPermissions(read=True, write=True, create=True, add=True, list=True)
        sas = generate_container_sas(name, container, account_key=key, permission=everything, expiry=expiry)
    else:
        everything = AccountSasPermissions(read=True, write=True, create=True, add=True, list=True)
        kinds = ResourceTypes(service=True, container=True, object=True)
        sas = generate_account_sas(name, key, kinds, everything, expiry)
    return f"{service.url.rstrip('/')}/{container or ''}?{sas}"


@pytest.mark.parametrize("container", [None, "mine"])
def test_a_sas_is_enough(start, azurite, service, endpoint, container):
    """Of the account, or of one container, where everything goes below it then."""
    if container:
        with contextlib.suppress(Exception):
            service.create_container(container)
    telemetry = start(_sas(azurite, service, container))
    log.info(LARGE)

    assert telemetry.flush(30)
    uri = properties(endpoint)[0]["payload_uri"]
    below = f"{service.url.rstrip('/')}/{container + '/' if container else ''}modeldata/"
    assert uri.startswith(below)
    place = ("mine", "modeldata/" + uri.removeprefix(below)) if container else ("modeldata", uri.removeprefix(below))
    assert read(service, *place) == LARGE.encode()


def test_putting_twice_changes_nothing(azurite):
    """Content-addressed blobs are created if absent."""
    blobs = AzureBlobs(azurite)
    blobs.put("modeldata/twice/a.json", b"first")
    blobs.put("modeldata/twice/a.json", b"second")

    with blobs.open("modeldata/twice/a.json") as file:
        assert file.read() == b"first"
    with pytest.raises(FileNotFoundError, match="twice/none"):
        blobs.open("modeldata/twice/none.json")


def test_an_append_whose_answer_was_lost_is_not_repeated(azurite):
    """The size of the blob says how far it is."""
    blobs = AzureBlobs(azurite)
    name = f"telemetry/appends/{os.urandom(4).hex()}.blob"
    assert blobs.append(name, b"one\n", 0) == 4
    assert blobs.append(name, b"one\n", 0) == 4
    assert blobs.append(name, b"two\n", 4) == 8

    with blobs.open(name) as file:
        assert file.read() == b"one\ntwo\n"


def test_a_guard_stores_originals_too(azurite, service, home):
    """In front of somebody else's exporter, with storage of its own."""
    guarded = new_guard({"home": home, "storage": azurite})
    fit = guarded(Trace(message=LARGE))

    uri = fit.custom_dimensions["payload_uri"]
    assert read(service, "modeldata", uri.partition("/modeldata/")[2]) == LARGE.encode()


@pytest.mark.parametrize(
    "address", ["modeldata//b.json", "{url}/modeldata/a//b.json", "{url}/modeldata/../x", "{url}/"]
)
def test_a_dimension_that_only_looks_like_an_address_stops_nothing(start, azurite, service, endpoint, address):
    """A script may call its own like ours."""
    telemetry = start(azurite)
    log.info("odd", extra={"payload_uri": address.format(url=service.url.rstrip("/"))})
    log.info(LARGE)

    assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 2


def test_an_original_that_is_gone_is_said_and_its_row_goes_out(start, azurite, home, endpoint, caplog):
    """What is given up is counted by reason, and the rest of the row is still of use."""
    telemetry = start(azurite, exporter="none")
    log.info(LARGE)
    telemetry.shutdown()
    (path,) = home.glob("modeldata/**/overflow/*/*/*/*.json")
    path.unlink()
    telemetry = start(azurite)

    assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 1
    assert caplog.text.count("an original is not stored") == 1
    assert telemetry.overflow.counts == {"missing": 1}


def copied(service, home):
    """Whether the container holds each segment, byte by byte."""
    segments = list(home.glob("telemetry/*/*/*/*/*.blob"))
    names = [path.relative_to(home / "telemetry").as_posix() for path in segments]
    assert segments
    return [read(service, "telemetry", name) for name in names] == [path.read_bytes() for path in segments]


def test_blob_export_copies_segments_as_they_grow(start, azurite, service, home):
    """Closed ones and growing ones, and the payloads that their rows point at."""
    telemetry = start(azurite, exporter="blob_export", connection_string=None)
    for number in range(3):
        log.info("%d", number)
        log.info("%s%s", LARGE, " " * number)
        assert telemetry.flush(30)
        assert copied(service, home)

    payloads = list(home.glob("modeldata/**/overflow/*/*/*/*.json"))
    assert len(payloads) == 3
    for path in payloads:
        name = path.relative_to(home / "modeldata").as_posix()
        assert read(service, "modeldata", name) == path.read_bytes()


@pytest.mark.parametrize("forget", [False, True])
def test_blob_export_goes_on_where_it_stopped(start, azurite, service, home, forget):
    """Also where its cursor is lost: no line is there twice."""
    for number in range(2):
        telemetry = start(azurite, exporter="blob_export", connection_string=None, segment_bytes=20_000)
        for line in range(100):
            log.info("%d %d", number, line)
        assert telemetry.flush(30)
        telemetry.shutdown()
        if forget:
            for path in home.glob("state/*/blob_export.json"):
                path.unlink()

    assert copied(service, home)


def test_both_exporters_have_their_own_cursor(start, azurite, service, endpoint, home):
    """What one has delivered the other delivers too."""
    telemetry = start(azurite, exporter="azure_monitor,blob_export")
    log.info("both")

    assert telemetry.flush(30)
    assert endpoint.messages() == ["both"]
    assert copied(service, home)


def test_a_blob_of_somebody_else_is_left_alone(start, azurite, service, home, caplog):
    """One that is larger than its segment is said and passed over."""
    telemetry = start(azurite, exporter="none")
    log.info("mine")
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    name = segment.relative_to(home / "telemetry").as_posix()
    AzureBlobs(azurite).append(f"telemetry/{name}", b"x" * 10_000, 0)
    telemetry = start(azurite, exporter="blob_export")

    assert telemetry.flush(30)
    assert "a larger blob of that name" in caplog.text
    assert read(service, "telemetry", name) == b"x" * 10_000


def test_a_blob_of_another_kind_stops_no_other(start, azurite, service, home, caplog):
    """It cannot be appended to, and is said."""
    telemetry = start(azurite, exporter="none")
    log.info("mine")
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    name = segment.relative_to(home / "telemetry").as_posix()
    AzureBlobs(azurite).put(f"telemetry/{name}", b"")
    telemetry = start(azurite, exporter="blob_export")
    log.info("another")

    assert telemetry.flush(30)
    assert "cannot be appended to" in caplog.text
    (other,) = (path for path in home.glob("telemetry/*/*/*/*/*.blob") if path != segment)
    assert read(service, "telemetry", other.relative_to(home / "telemetry").as_posix()) == other.read_bytes()


def test_a_container_that_cannot_be_made_is_no_storm(start, azurite, service, endpoint, caplog, tmp_path):
    """A SAS that may not make containers, and none is there: said, and tried again later."""
    sas = _sas(azurite, service, f"none{tmp_path.name[-4:].strip('_')}".lower().replace("_", ""))
    telemetry = start(sas, exporter="blob_export", connection_string=None)
    log.info("waits")
    assert not telemetry.flush(2)

    assert telemetry.stats()["copied"] == 0
    assert telemetry._worker.drains[0].counts["failures"] <= 8
    assert caplog.text.count("telemetry waits on disk") == 1


def test_originals_of_before_there_was_storage_are_copied_too(start, azurite, service, home):
    """Their rows point below the home, and that is where they are in the container."""
    telemetry = start(None)
    log.info(LARGE)
    telemetry.shutdown()
    telemetry = start(azurite, exporter="blob_export")

    assert telemetry.flush(30)
    (path,) = home.glob("modeldata/**/overflow/*/*/*/*.json")
    assert read(service, "modeldata", path.relative_to(home / "modeldata").as_posix()) == LARGE.encode()
