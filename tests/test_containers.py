"""Exports in a real Azurite: listed no further than needed, fetched through faults, mirrored and resumed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
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
from conftest import ACCOUNT
from exported import blob, message, pt05m, pt1h, record
from faulty_storage import FaultyStorage
from scoretrace.errors import SourceError

KEY = ACCOUNT.partition("AccountKey=")[2]


@pytest.fixture
def service(azurite):
    with BlobServiceClient.from_connection_string(azurite) as client:
        for container in client.list_containers():
            client.delete_container(container.name)
        yield client


@pytest.fixture
def upload(service):
    """Put blobs into containers that are made for them."""
    known = set()

    def put(name, *lines, append=False):
        container, _, inside = name.partition("/")
        if container not in known:
            service.create_container(container)
            known.add(container)
        with service.get_blob_client(container, inside) as client:
            if append:
                if not client.exists():
                    client.create_append_blob()
                client.append_block(b"".join(lines))
            else:
                client.upload_blob(b"".join(lines), overwrite=True)

    return put


@pytest.fixture
def account(azurite, monkeypatch):
    """The URL of the account, whose key is in the environment."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    return azurite.partition("BlobEndpoint=")[2]


@pytest.fixture
def faulty(azurite):
    """A proxy in front of the account that makes faults; its list of what was asked."""
    proxies = []

    def begin(*odds):
        proxies.append(FaultyStorage(azurite, odds, reads=True))
        return proxies[-1], proxies[-1].connection_string.partition("BlobEndpoint=")[2]

    yield begin
    for proxy in proxies:
        proxy.close()


def messages(source, **more):
    return sorted(item.message for item in scoretrace.read_export(source, **more))


def test_a_container_an_account_a_folder_and_a_blob_are_sources(account, upload):
    """One argument for all."""
    upload(f"exports/{blob()}", message(1))
    upload(pt1h(), record(Message="a"))
    upload(pt05m(), record(Message="b"))
    upload(f"telemetry/{blob()}", message(2))

    assert messages(f"{account}/exports") == ["message 1"]
    assert messages(f"{account}/exports/{blob().rpartition('/')[0]}") == ["message 1"]
    assert messages(f"{account}/exports/{blob()}") == ["message 1"]
    upload("pictures/cat.blob", b"meow")
    assert messages(account) == ["a", "b", "message 1", "message 2"]
    with scoretrace.read_export(account, tables="traces") as export:
        assert len(export.df()) == 4
    assert scoretrace.query("traces | count", source=f"{account}/exports").rows == [(1,)]


def test_every_way_of_signing_reads(azurite, account, upload, monkeypatch):
    """A key, a connection string, a SAS in the URL or beside it."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    upload(f"exports/{blob()}", message(1))
    expiry = datetime.now(timezone.utc) + timedelta(hours=1)
    allowed = ContainerSasPermissions(read=True, list=True)
    sas = generate_container_sas("devstoreaccount1", "exports", account_key=KEY, permission=allowed, expiry=expiry)
    url = f"{account}/exports"

    assert messages(url, credential=azurite) == ["message 1"]
    assert messages(url, credential=KEY) == ["message 1"]
    assert messages(url, credential=sas) == ["message 1"]
    assert messages(f"{url}?{sas}") == ["message 1"]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("bm90IHRoZSBrZXk=", "may not be listed .*Storage Blob Data Reader"),
        ("AccountName=other;AccountKey=eA==", "the connection string is of https://other"),
    ],
)
def test_a_wrong_key_says_what_would_do(account, upload, monkeypatch, credential, said):
    """Early, and without the key."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    upload(f"exports/{blob()}", message(1))

    with pytest.raises(SourceError, match=said) as caught:
        messages(f"{account}/exports", credential=credential)
    assert credential not in str(caught.value)


def test_a_sas_that_may_not_list_says_so(account, upload):
    """Reading alone is not enough to find what there is."""
    upload(f"exports/{blob()}", message(1))
    expiry = datetime.now(timezone.utc) + timedelta(hours=1)
    sas = generate_account_sas(
        "devstoreaccount1", KEY, ResourceTypes(object=True), AccountSasPermissions(read=True), expiry
    )

    with pytest.raises(SourceError, match=r"exports may not be listed .* a SAS that may read and list") as caught:
        messages(f"{account}/exports?{sas}")
    assert "sig=" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "there is no container nothing"), ("empty", "there are no exports in .*/empty: known are")],
)
def test_a_container_without_exports_is_named(account, service, name, said):
    """One that is not there, and one that is empty."""
    service.create_container("empty")

    with pytest.raises(SourceError, match=said):
        messages(f"{account}/{name}")


def test_lists_go_by_day_and_never_through_all(faulty, upload, monkeypatch):
    """Of a year of blobs beside a lot of other things, one day is listed."""
    for month in range(1, 13):
        upload(f"exports/{blob(day=f'2026-{month:02d}-03')}", message(month, time=f"2026-{month:02d}-03T10:00:00Z"))
        upload(f"exports/{blob('Requests', day=f'2026-{month:02d}-03')}", b"never fetched\n")
    for number in range(20):
        upload(f"exports/pictures/{number}/cat.blob", b"meow")
    proxy, url = faulty()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    assert messages(f"{url}/exports", tables="traces", since="2026-06-03", until="2026-06-04") == ["message 6"]
    fetched = [request for request in proxy.requests if "comp=list" not in request]
    listed = [request for request in proxy.requests if "comp=list" in request]
    assert len(fetched) == 1
    assert len(listed) <= 5
    assert not any("pictures" in request for request in listed)


def test_faults_of_a_storage_account_are_outlasted(faulty, upload, monkeypatch):
    """Busy with a Retry-After, connections that end at once or in the middle."""
    for number in range(60):
        upload(f"exports/{blob(name=f'b{number:02d}')}", *(message(number * 100 + row) for row in range(100)))
    proxy, url = faulty(("busy", 0.05), ("refused", 0.05), ("cut", 0.1), ("short", 0.2))
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    export = scoretrace.read_export(f"{url}/exports", tables="traces")

    assert sorted(int(item.message.split()[1]) for item in export) == list(range(6_000))
    assert all(proxy.happened[fault] for fault in ("refused", "cut", "short"))
    assert export.summary.failed == {}
    assert (export.summary.rows, export.summary.repeated) == (6_000, 0)


def test_a_storage_account_that_is_busy_is_left_alone_as_long_as_it_says(faulty, upload, monkeypatch):
    """Retry-After is followed: there are few requests, however long it takes."""
    upload(f"exports/{blob()}", message(1))
    proxy, url = faulty(("busy", 0.5))
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    assert messages(f"{url}/exports") == ["message 1"]
    answered = len(proxy.requests) - proxy.happened["busy"]
    assert answered <= 10


def test_a_blob_that_is_gone_is_named(faulty, service, upload, monkeypatch):
    """It was listed, and then somebody removed it."""
    upload(f"exports/{blob(name='a')}", message(1))
    upload(f"exports/{blob(name='b')}", message(2))
    proxy, url = faulty()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    def remove(request):
        if request.path.partition("?")[0].endswith("/b.blob"):
            service.get_blob_client("exports", blob(name="b")).delete_blob()
            proxy.before = lambda _request: None

    proxy.before = remove
    export = scoretrace.read_export(f"{url}/exports")

    assert [item.message for item in export] == ["message 1"]
    assert export.summary.failed == {f"exports/{blob(name='b')}": f"exports/{blob(name='b')} is gone"}


def test_a_blob_that_no_table_could_have_is_named(faulty, service, upload, monkeypatch):
    """Each time the summary is asked for."""
    upload(f"exports/{blob(name='a')}", message(1))
    upload(f"exports/{blob(name='b')}", message(2))
    proxy, url = faulty()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    def remove(request):
        if request.path.partition("?")[0].endswith("/b.blob"):
            proxy.before = lambda _request: None
            service.get_blob_client("exports", blob(name="b")).delete_blob()

    proxy.before = remove
    with scoretrace.read_export(f"{url}/exports", tables="traces") as export:
        assert len(export.df()) == 1
        for _ in range(2):
            assert list(export.examine().failed) == [f"exports/{blob(name='b')}"]


@pytest.mark.parametrize("append", [True, False])
def test_a_blob_that_changes_while_it_is_fetched_is_whole(faulty, upload, monkeypatch, append):
    """One that is appended to is taken as far as it is; one that is replaced is begun anew."""
    name = f"exports/{blob()}"
    upload(name, *map(message, range(2_000)), append=append)
    proxy, url = faulty(("short", 0.7))
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)

    def change(request):
        if ".blob" in request.path and request.headers.get("Range"):
            proxy.before = lambda _request: None
            if append:
                upload(name, message(2_000), append=True)
            else:
                upload(name, *map(message, range(5_000, 6_000)))

    proxy.before = change
    found = {int(text.split()[1]) for text in messages(f"{url}/exports")}

    assert found == (set(range(2_001)) if append else set(range(5_000, 6_000)))


def test_a_growing_blob_is_read_on(account, upload, tmp_path):
    """Only what came since is fetched; a line that is not whole yet waits."""
    upload(pt1h(), record(Message="a"), record(Message="b")[:40], append=True)
    mark = tmp_path / "mark.json"

    assert messages(account, bookmark=mark) == ["a"]
    assert messages(account, bookmark=mark) == []
    upload(pt1h(), record(Message="b")[40:], record(Message="c"), append=True)
    assert messages(account, bookmark=mark) == ["b", "c"]


@pytest.mark.parametrize("append", [True, False])
def test_a_blob_that_grows_between_list_and_fetch_loses_nothing(faulty, upload, tmp_path, monkeypatch, append):
    """With a bookmark: what is read on begins where the last reading ended, whatever happens."""
    name, had = f"exports/{blob()}", [message(1), message(2)]
    upload(name, *had, append=append)
    proxy, url = faulty()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)
    mark = tmp_path / "mark.json"
    assert messages(f"{url}/exports", bookmark=mark) == ["message 1", "message 2"]

    def grow(request):
        if ".blob" in request.path:
            proxy.before = lambda _request: None
            add(message(4))

    def add(*more):
        had.extend(more)
        upload(name, *(more if append else had), append=append)

    add(message(3))
    proxy.before = grow
    found = set(messages(f"{url}/exports", bookmark=mark))
    add(message(5), message(6))
    found |= set(messages(f"{url}/exports", bookmark=mark))

    assert found >= {f"message {number}" for number in range(3, 7)}


def test_a_compressed_blob_is_read(account, upload):
    """As some copy them."""
    upload(f"exports/{blob()}", gzip.compress(message(1)))

    assert messages(f"{account}/exports") == ["message 1"]


def test_sync_copies_what_changed(account, upload, service, tmp_path, faulty, monkeypatch):
    """By etag and offset; what is gone stays."""
    upload(f"exports/{blob()}", message(1))
    upload(pt1h(), record(Message="a"), append=True)
    folder = tmp_path / "mirror"

    assert scoretrace.sync(f"{account}/exports", folder)[:2] == (1, 1)
    first = scoretrace.sync(account, folder)
    assert first == (2, 1, len(record(Message="a")), {})
    assert messages(folder) == ["a", "message 1"]

    upload(pt1h(), record(Message="b"), append=True)
    proxy, url = faulty()
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", proxy.connection_string)
    again = scoretrace.sync(url, folder)
    assert again == (2, 1, len(record(Message="b")), {})
    (rest,) = [request for request in proxy.requests if "PT1H.json?" in request]
    assert proxy.ranges[rest] == f"bytes={len(record(Message='a'))}-"
    assert scoretrace.sync(url, folder)[:2] == (2, 0)
    service.delete_container("exports")
    assert messages(folder) == ["a", "b", "message 1"]


def test_a_blob_that_was_replaced_is_copied_anew(account, upload, tmp_path):
    """It is another one, even if it is larger."""
    upload(f"exports/{blob()}", message(1))
    scoretrace.sync(f"{account}/exports", tmp_path / "mirror")
    upload(f"exports/{blob()}", message(2), message(3))

    scoretrace.sync(f"{account}/exports", tmp_path / "mirror")

    assert messages(tmp_path / "mirror") == ["message 2", "message 3"]


def test_a_sync_that_is_killed_goes_on(faulty, account, upload, tmp_path):
    """At any moment, again and again: in the end the folder is the container."""
    for number in range(40):
        upload(f"exports/{blob(name=f'b{number:02d}')}", *(message(number * 2_000 + row) for row in range(2_000)))
    proxy, url = faulty()
    proxy.before = lambda _request: time.sleep(0.02)  # so that there is time to kill it
    folder = tmp_path / "mirror"
    code = f"import scoretrace; scoretrace.sync({url + '/exports'!r}, {str(folder)!r}, credential={KEY!r})"
    killed = 0
    for copied in range(0, 36, 3):
        process = subprocess.Popen([sys.executable, "-c", code])
        while process.poll() is None and len(list(folder.rglob("*.blob"))) <= copied:
            time.sleep(0.001)
        process.kill()
        killed += process.wait() == -signal.SIGKILL

    result = scoretrace.sync(f"{url}/exports", folder, credential=KEY)

    assert killed > 5
    assert result.failed == {}
    assert sorted(int(text.split()[1]) for text in messages(folder)) == list(range(80_000))
    assert not list(folder.rglob("*.part"))


def test_two_syncs_do_not_write_one_folder(account, upload, tmp_path):
    """The second says so."""
    upload(f"exports/{blob()}", message(1))
    scoretrace.sync(f"{account}/exports", tmp_path)
    code = f"""
    import fcntl, os, time
    lock = os.open({str(tmp_path / ".scoretrace-sync.lock")!r}, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(60)
    """
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with pytest.raises(SourceError, match="another sync is at work"):
            scoretrace.sync(f"{account}/exports", tmp_path)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_sync_is_for_containers(tmp_path):
    """A folder is there already."""
    with pytest.raises(SourceError, match="is a folder already"):
        scoretrace.sync(str(tmp_path), tmp_path / "mirror")


def test_control_c_ends_a_read_at_once(faulty, upload, tmp_path, monkeypatch):
    """Whatever is under way."""
    for number in range(200):
        upload(f"exports/{blob(name=f'b{number:03d}')}", message(number))
    proxy, url = faulty()
    environment = {**os.environ, "AZURE_STORAGE_CONNECTION_STRING": proxy.connection_string}

    def slow(request):
        if ".blob" in request.path:
            time.sleep(0.5)

    proxy.before = slow
    command = [sys.executable, "-m", "scoretrace", "read", f"{url}/exports", "-t", "traces"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process.stderr:
        deadline = time.monotonic() + 30
        while not any(".blob" in request for request in proxy.requests) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert b"Traceback" not in process.stderr.read()


def test_a_summary_is_json_of_numbers(account, upload, tmp_path):
    """For whoever logs it."""
    upload(f"exports/{blob()}", message(1), b"oops\n")
    export = scoretrace.read_export(f"{account}/exports", quarantine=tmp_path)
    list(export)

    told = {name: value for name, value in export.summary._asdict().items() if name != "quarantine"}
    assert json.loads(json.dumps(told))["set_aside"] == 1
