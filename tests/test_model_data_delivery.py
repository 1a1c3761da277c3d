"""Collected data in a real Azurite: every row once, one header a blob, whoever delivers and whatever happens."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest
from azure.storage.blob import BlobServiceClient

import scoretrace
from collected import HEADERS, files, parsed
from conftest import ACCOUNT, run_azurite
from faulty_storage import FaultyStorage
from scoretrace import ModelDataCollector, retention
from scoretrace.blobs import AzureBlobs
from scoretrace.exporters.collected import CollectedDrain

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are promised for POSIX")

PRELUDE = """
import os, signal, sys, time
from scoretrace import ModelDataCollector, retention
inputs = ModelDataCollector(os.environ["MODEL"], "inputs", ["worker", "number", "text"])
text = 'a "b"\\n,c'
"""


@pytest.fixture(name="model")
def _model(tmp_path):
    """A name that no other test uses: they share the storage account."""
    return f"m-{tmp_path.name}-{os.urandom(3).hex()}"


@pytest.fixture
def faulty(azurite):
    proxy = FaultyStorage(azurite)
    yield proxy
    proxy.close()


def begin(home, model, storage, code, *arguments):
    environment = {**os.environ, "SCORETRACE_HOME": str(home), "MODEL": model}
    if storage:
        environment["AZURE_STORAGE_CONNECTION_STRING"] = storage
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, timeout=120):
    """Wait for it; what it printed."""
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors
    return output, errors


def export(home, storage):
    """Deliver what is left, with the command."""
    environment = {**os.environ, "SCORETRACE_HOME": str(home), "AZURE_STORAGE_CONNECTION_STRING": storage}
    return subprocess.run(
        [sys.executable, "-m", "scoretrace", "export"], env=environment, check=True, capture_output=True, text=True
    ).stderr


def blobs(storage, model):
    """The blobs of *model*: their content by file name."""
    with BlobServiceClient.from_connection_string(storage) as client:
        container = client.get_container_client("modeldata")
        names = [name for name in container.list_blob_names() if f"/{model}/" in name]
        return {name.rpartition("/")[2]: container.download_blob(name).readall() for name in names}


def is_delivered(storage, model, *homes):
    """Whether each row of the files in *homes* is in some blob once, and each blob has one header."""
    local, remote = Counter(), Counter()
    for home in homes:
        for file in files(home):
            header, *body = parsed(file.read_bytes())
            local.update((*header, *row) for row in body)
    for content in blobs(storage, model).values():
        header, *body = parsed(content)
        assert header[-9:] == HEADERS
        remote.update((*header, *row) for row in body)
    assert sum(local.values()) > 0
    assert max(remote.values()) == 1
    return local == remote


def test_the_blob_is_the_file(azurite, model, home, monkeypatch):
    """Byte for byte, as it grows, with one process that delivers."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    collector = ModelDataCollector(model, "inputs", ["a", "b"])
    for number in range(3):
        collector.collect([number, 'a "b"\n,c'])
        assert collector.flush(30)
        assert blobs(azurite, model) == {"data.csv": files(home)[0].read_bytes()}
    assert collector.stats()["waiting_bytes"] == 0


def test_collected_data_has_an_account_of_its_own(azurite, model, home, monkeypatch):
    """The name that Azure ML sets wins over the account for payloads."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:1/devstoreaccount1")
    monkeypatch.setenv("AML_MODEL_DC_STORAGE", azurite)
    collector = ModelDataCollector(model, "inputs")
    collector.collect([1])

    assert collector.flush(30)
    assert is_delivered(azurite, model, home)


@posix
def test_eight_workers_and_a_storage_that_loses_answers(azurite, faulty, model, home):
    """Appends that were done and not answered, refused, cut, or done late: no row is missing, none is there twice."""
    faulty.odds = {"lost": 0.15, "refused": 0.1, "late": 0.1, "cut": 0.1}
    code = """
    for number in range(40):
        for _ in range(5):
            inputs.collect([sys.argv[1], number, text])
        inputs.flush(0.1)
        time.sleep(0.02)
    """
    workers = [begin(home, model, faulty.connection_string, code, f"w{worker}") for worker in range(8)]
    for worker in workers:
        end(worker)
    deadline = time.monotonic() + 60
    while "still waiting" in export(home, faulty.connection_string) and time.monotonic() < deadline:
        pass

    assert sum(faulty.happened.values()) > 3
    assert is_delivered(azurite, model, home)
    assert sum(len(parsed(file.read_bytes())) - 1 for file in files(home)) == 8 * 200


@posix
def test_hosts_that_append_to_the_same_blob(azurite, faulty, model, tmp_path):
    """Four homes with two workers each, and one header among them."""
    faulty.odds = {"lost": 0.1, "late": 0.1}
    code = """
    for number in range(30):
        inputs.collect([sys.argv[1], number, text])
        inputs.flush(0.1)
    """
    homes = [tmp_path / f"host{host}" for host in range(4)]
    workers = [
        begin(home, model, faulty.connection_string, code, f"{home.name}-{worker}")
        for home in homes
        for worker in range(2)
    ]
    for worker in workers:
        end(worker)
    for home in homes:
        export(home, faulty.connection_string)

    assert is_delivered(azurite, model, *homes)
    assert list(blobs(azurite, model)) == ["data.csv"]


@posix
def test_kill_9_of_whoever_delivers(azurite, faulty, model, home):
    """At any moment of it; the next start knows what became of the append that was under way."""
    faulty.odds = {"lost": 0.2, "late": 0.2}
    code = """
    for number in range(1_000_000):
        inputs.collect([sys.argv[1], number, text])
        inputs.flush(0.05)
        os.write(1, b".")
    """
    for round_number in range(6):
        worker = begin(home, model, faulty.connection_string, code, f"r{round_number}")
        worker.stdout.read(5 + 3 * round_number)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    for thread in faulty.late:
        thread.join()
    export(home, azurite)

    assert is_delivered(azurite, model, home)


@posix
def test_storage_that_is_down_for_the_whole_life_of_a_process(model, home):
    """It ends in time, and the rows arrive when something delivers again."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    storage = f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    code = "for number in range(500): inputs.collect([sys.argv[1], number, text])"
    _, errors = end(begin(home, model, storage, code, "w"))
    assert errors.count("collected data waits on disk") == 1

    with run_azurite(port):
        export(home, storage)
        assert is_delivered(storage, model, home)


def test_other_columns_are_another_blob(azurite, model, tmp_path, monkeypatch):
    """Whatever the file is called on the host: two hosts that met them in another order agree in storage."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    homes = [tmp_path / "one", tmp_path / "two"]
    for home, order in zip(homes, ("ab", "ba"), strict=True):
        monkeypatch.setenv("SCORETRACE_HOME", str(home))
        collector = ModelDataCollector(model, "inputs")
        for name in order:
            collector.collect({name: home.name})
        assert collector.flush(30)

    assert is_delivered(azurite, model, *homes)
    assert {parsed(content)[0][0] for content in blobs(azurite, model).values()} == {"a", "b"}
    assert all(
        len({row[0] for row in parsed(content)[1:]}) == len(parsed(content)) - 1
        for content in blobs(azurite, model).values()
    )


def test_a_blob_that_takes_no_more_blocks_is_followed_by_another(azurite, model, home):
    """With a header of its own; the limit of the service is 50,000."""
    collector = ModelDataCollector(model, "inputs", ["number"])
    drain = CollectedDrain(home, connect=lambda: AzureBlobs(azurite), blocks=3)
    for number in range(8):
        collector.collect([number])
        assert drain.lead()
        assert drain.drain() is None
    drain.release()

    found = blobs(azurite, model)
    assert sorted(found) == ["data.csv", "data_1.csv", "data_2.csv"]
    assert [len(parsed(found[name])) - 1 for name in sorted(found)] == [3, 3, 2]
    assert is_delivered(azurite, model, home)


def test_a_blob_of_another_kind_is_left_alone(azurite, model, home):
    """Somebody uploaded one of that name: ours is beside it."""
    ModelDataCollector(model, "inputs", ["number"]).collect([1])
    (file,) = files(home)
    AzureBlobs(azurite).put(file.relative_to(home).as_posix(), b"theirs")
    drain = CollectedDrain(home, connect=lambda: AzureBlobs(azurite))
    assert drain.lead()
    assert drain.drain() is None
    drain.release()

    found = blobs(azurite, model)
    assert found["data.csv"] == b"theirs"
    assert found["data_1.csv"] == file.read_bytes()


def test_a_row_of_20_megabytes_arrives(azurite, model, home):
    """Whole, in a block of its own size."""
    collector = ModelDataCollector(model, "inputs", ["text"])
    collector.collect([["x,y\n" * 5_000_000], ["small"]])
    export(home, azurite)

    assert is_delivered(azurite, model, home)


def test_many_rows_are_cut_between_rows(azurite, model, home):
    """Blocks of at most 4 MiB, and no row in two of them."""
    collector = ModelDataCollector(model, "inputs", ["a", "b"])
    for _ in range(3):
        collector.collect([[number, "line one\nline two, and more of it" * 3] for number in range(10_000)])
    export(home, azurite)

    assert files(home)[0].stat().st_size > 8 * 1024**2
    assert blobs(azurite, model)["data.csv"] == files(home)[0].read_bytes()


def test_a_sidecar_delivers_what_the_script_only_writes(azurite, model, home, monkeypatch):
    """Where the exporter is none the script itself never speaks to storage."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    collector = ModelDataCollector(model, "inputs")
    collector.collect([1])
    assert collector.flush()
    assert blobs(azurite, model) == {}

    assert "bytes copied" in export(home, azurite)
    assert is_delivered(azurite, model, home)


def test_telemetry_is_swept_as_if_nothing_was_collected(azurite, model, home, monkeypatch):
    """The cursor of collected data keeps no segment of the journal."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    with scoretrace.configure(home=home, service="svc", exporter="blob_export", capture_print=False) as telemetry:
        scoretrace.log(a=1)
        ModelDataCollector(model, "inputs").collect([1])
        assert telemetry.flush(30)
    removed = retention.sweep(home, now=time.time() + 86_400, keep_seconds=1, keep_bytes=2**40)

    assert any(path.suffix == ".blob" for path in removed)


def test_what_is_in_storage_is_removed_after_its_time(azurite, model, home, monkeypatch):
    """And nothing else: rows that are nowhere else stay, whatever the settings say."""
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    late = time.time() + 2 * 86_400
    ModelDataCollector(model, "inputs").collect([1])
    scoretrace.Collector(name=model).collect([["x" * 5_000_000]])
    assert retention.sweep_collected(home, now=late, keep_seconds=86_400) == []
    export(home, azurite)
    ModelDataCollector("waits", "inputs").collect([2])
    assert retention.sweep_collected(home, now=time.time(), keep_seconds=0) == []

    removed = retention.sweep_collected(home, now=late, keep_seconds=86_400)

    assert sorted(path.suffix for path in removed) == [".csv", ".jsonl"]
    assert [path.parts[-7] for path in (home / "modeldata").rglob("*") if path.is_file()] == ["waits"]
    assert len(list((home / "state" / "collected").rglob("*.end"))) == 1


def test_events_by_reference_are_stored_before_their_line(azurite, model, home, monkeypatch):
    """The line names where the rows are in storage, and they are there."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    collector = scoretrace.Collector(name=model)
    collector.collect([["x" * 5_000_000]])
    assert collector.flush(30)

    found = blobs(azurite, model)
    (line,) = (content for name, content in found.items() if name.endswith(".jsonl"))
    (rows,) = (content for name, content in found.items() if name.endswith(".json"))
    address = json.loads(line)["dataref"]
    assert address.startswith(azurite.partition("BlobEndpoint=")[2] + "/modeldata/modelDataCollector/")
    assert json.loads(rows) == [{"column0": "x" * 5_000_000}]
    assert len(scoretrace.read_model_data(home, designation=model)) == 1


def test_a_home_that_was_emptied_is_delivered_anew(azurite, model, home, monkeypatch):
    """A file of the same name is another file: nothing of it counts as delivered."""
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    collector = ModelDataCollector(model, "inputs", ["text"])
    collector.collect([["first"]] * 20)
    export(home, azurite)
    files(home)[0].unlink()
    collector.collect([["second, and much longer"]] * 30)
    export(home, azurite)

    rows = parsed(blobs(azurite, model)["data.csv"])[1:]
    assert Counter(row[0] for row in rows) == {"first": 20, "second, and much longer": 30}


def test_a_conflict_that_passes_is_waited_for(faulty, azurite, model, home):
    """A container that is being removed answers 409 too, which does not make a blob full."""
    faulty.odds = {"conflict": 1.0}
    ModelDataCollector(model, "inputs").collect([1])
    drain = CollectedDrain(home, connect=lambda: AzureBlobs(faulty.connection_string))
    assert drain.lead()
    assert drain.drain()
    faulty.odds = {}
    drain.hurry()
    assert drain.drain() is None
    drain.release()

    assert list(blobs(azurite, model)) == ["data.csv"]
    assert is_delivered(azurite, model, home)


def test_a_row_that_storage_does_not_take_keeps_no_other(azurite, model, home, monkeypatch):
    """It stays in the home, counted; what is before and after it arrives."""
    monkeypatch.setattr("scoretrace.exporters.collected.LARGEST_BLOCK", 9_000_000)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    collector = ModelDataCollector(model, "inputs", ["text"])
    for size in (10, 3_000_000, 10_000_000, 3_000_000, 10):
        collector.collect(["x" * size])

    assert collector.flush(60)
    assert collector.stats()["not_delivered"] == 1
    sizes = [len(row[0]) for row in parsed(blobs(azurite, model)["data.csv"])[1:]]
    assert sizes == [10, 3_000_000, 3_000_000, 10]


def test_a_header_of_more_than_a_megabyte(azurite, model, tmp_path, monkeypatch):
    """Is there once, however many hosts begin the blob."""
    names = [f"a feature with a long name and number {number}" for number in range(30_000)]
    for host in ("one", "two"):
        monkeypatch.setenv("SCORETRACE_HOME", str(tmp_path / host))
        ModelDataCollector(model, "inputs", names).collect([1] * len(names))
        export(tmp_path / host, azurite)

    assert is_delivered(azurite, model, tmp_path / "one", tmp_path / "two")
    assert len(scoretrace.read_model_data(tmp_path / "one", designation="inputs").columns) == 30_009


def test_a_full_disk_forgets_nothing_that_was_sent(azurite, model, home, monkeypatch):
    """Where the cursor could not be saved, it is before the note of what was sent is written over."""
    for name in ("inputs", "predictions"):
        ModelDataCollector(model, name).collect([1])
    drain = CollectedDrain(home, connect=lambda: AzureBlobs(azurite))
    assert drain.lead()
    save, saves = drain.cursor.save, []

    def full():
        saves.append(1)
        if len(saves) < 4:
            raise OSError(28, "No space left on device")
        save()

    monkeypatch.setattr(drain.cursor, "save", full)
    for _ in range(3):
        assert drain.drain() is not None
        drain.hurry()
    drain.release()  # as if it was killed
    export(home, azurite)

    with BlobServiceClient.from_connection_string(azurite) as client:
        container = client.get_container_client("modeldata")
        found = [name for name in container.list_blob_names() if f"/{model}/" in name]
        assert [len(parsed(container.download_blob(name).readall())) for name in found] == [2, 2]


def test_export_removes_what_is_past_its_keeping(azurite, model, home, monkeypatch):
    """Whoever delivers tidies up, also where the script leaves that to a sidecar."""
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    ModelDataCollector(model, "inputs").collect([1])
    export(home, azurite)
    (file,) = files(home)
    os.utime(file, (0, 0))
    ModelDataCollector(model, "labels").collect([1])
    export(home, azurite)

    assert [path.parts[-5] for path in files(home)] == ["labels"]


@pytest.mark.parametrize("left", [0, 20])
def test_a_note_that_was_damaged_delivers_nothing_twice(azurite, model, home, monkeypatch, left):
    """What tells a file from another is in the file."""
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    collector = ModelDataCollector(model, "inputs", ["text"])
    for text in ("one", "two", "three\nlines"):
        collector.collect([text])
        export(home, azurite)
        for note in (home / "state").rglob("*.end"):
            note.write_bytes(note.read_bytes()[:left])
        collector._bound.sink.close()

    assert is_delivered(azurite, model, home)


def test_a_file_that_was_shortened_ends_no_delivery(azurite, model, home):
    """It is begun again with a header, and the thread that delivers goes on."""
    collector = ModelDataCollector(model, "inputs", ["text"])
    collector.collect([["x" * 100]] * 50)
    (file,) = files(home)
    drain = CollectedDrain(home, connect=lambda: AzureBlobs(azurite))
    assert drain.lead()
    file.write_bytes(file.read_bytes()[:500])
    assert drain.drain() is None
    file.write_bytes(b"")
    collector.collect(["after"])
    drain.look_everywhere()
    assert drain.drain() is None
    drain.release()

    assert [row[0] for row in parsed(file.read_bytes())] == ["text", "after"]
    assert parsed(blobs(azurite, model)["data.csv"])[-1][0] == "after"
