"""Delivery: what was logged arrives, once, from wherever it waited."""

import json
import logging
import os
import shutil
import threading
import time

import pytest

import scoretrace
from delivering import ALL, SCOPE, burst, log, put_off, quarantined
from ingestion import KEY, accepted, partly
from scoretrace import sidecar
from scoretrace.cursor import Cursor
from scoretrace.exporters.items import BATCH_BYTES, BATCH_ITEMS
from scoretrace.locks import try_lock
from scoretrace.settings import resolve


@pytest.mark.parametrize("exporter", ALL)
def test_everything_logged_arrives_once(start, endpoint, exporter):
    """Through each of the exporters, in order, with the key of the resource."""
    telemetry = start(exporter)
    burst(2_500)

    assert telemetry.flush(30)
    assert endpoint.messages() == [str(number) for number in range(2_500)]
    assert len(set(endpoint.ids())) == 2_500
    assert {envelope["iKey"] for envelope in endpoint.envelopes} == {KEY}
    assert telemetry.stats()["delivered"] == 2_500


@pytest.mark.parametrize("exporter", ALL)
def test_every_kind_arrives_as_what_it_is(start, endpoint, exporter):
    """A trace, an exception and a request, in one operation."""
    telemetry = start(exporter)
    with scoretrace.request_context("score"):
        log.info("inside", extra={"model": "ridge"})
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("failed")

    assert telemetry.flush(30)
    found = {envelope["data"]["baseType"]: envelope for envelope in endpoint.envelopes}
    assert set(found) == {"MessageData", "ExceptionData", "RequestData"}
    assert found["ExceptionData"]["data"]["baseData"]["exceptions"][0]["typeName"] == "ValueError"
    assert found["MessageData"]["data"]["baseData"]["properties"]["model"] == "ridge"
    assert len({envelope["tags"]["ai.operation.id"] for envelope in endpoint.envelopes}) == 1


def test_no_operation_is_made_up(start, endpoint):
    """A zero id would join every uncorrelated row into one operation."""
    telemetry = start()
    log.info("alone")

    assert telemetry.flush(30)
    (envelope,) = endpoint.envelopes
    assert not [tag for tag in envelope["tags"] if tag.startswith("ai.operation")]
    assert envelope["tags"]["ai.internal.sdkVersion"].endswith(f":scoretrace{scoretrace.__version__}")


def test_batches_are_bounded_and_compressed(start, endpoint):
    """At most 1 MB and 1,000 items each."""
    telemetry = start()
    burst(1_500)
    for _ in range(60):
        log.info("x" * 30_000)

    assert telemetry.flush(30)
    assert max(len(batch) for batch in endpoint.batches) <= BATCH_ITEMS
    assert max(size for _, _, size in endpoint.requests) <= BATCH_BYTES
    assert {headers["Content-Encoding"] for _, headers, _ in endpoint.requests} == {"gzip"}
    assert len(endpoint.envelopes) == 1_560


def test_what_is_older_than_48_hours_is_counted_and_kept(start, home, endpoint, caplog):
    """The service would refuse it."""
    telemetry = start(exporter="none")
    old = logging.makeLogRecord({"name": "score", "msg": "old", "created": time.time() - 49 * 3_600, "levelno": 20})
    log.handle(old)
    log.info("new")
    telemetry.shutdown()
    telemetry = start()

    assert telemetry.flush(30)
    assert endpoint.messages() == ["new"]
    assert telemetry.stats()["given_up"] == {"expired": 1}
    assert "expired" in caplog.text
    assert len(scoretrace.query("traces", source=home)) == 2


def test_a_line_that_cannot_be_read_is_set_aside(start, home, endpoint):
    """It stops nothing, and is counted."""
    telemetry = start(exporter="none")
    burst(1)
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/Messages/*/*/*.blob")
    with segment.open("ab") as file:
        file.write(b'{"message": 7}\nnonsense\n')
    telemetry = start()
    burst(1, start=1)

    assert telemetry.flush(30)
    assert sorted(endpoint.messages()) == ["0", "1"]
    assert telemetry.stats()["given_up"] == {"unreadable": 2}
    assert [record["line"] for record in quarantined(home)] == ['{"message": 7}', "nonsense"]


def test_nothing_is_delivered_twice_after_a_restart(start, endpoint):
    """The cursor says how far the last process came."""
    for number in range(3):
        telemetry = start()
        burst(10, start=number * 10)
        assert telemetry.flush(30)
        telemetry.shutdown()

    assert sorted(map(int, endpoint.messages())) == list(range(30))


def test_exporters_to_the_same_place_share_a_cursor(start, endpoint):
    """Changing the exporter delivers nothing again."""
    for exporter in ALL:
        telemetry = start(exporter)
        burst(10)
        assert telemetry.flush(30)
        telemetry.shutdown()

    assert len(endpoint.envelopes) == 10 * len(ALL)


@pytest.mark.parametrize("places", [["cursors"], ["spare"], ["cursors", "spare"]])
def test_a_cursor_that_was_cut_in_half_is_rebuilt(start, home, endpoint, places):
    """One copy is enough; without any, what is there is delivered again rather than not at all."""
    telemetry = start()
    burst(1_500)
    assert telemetry.flush(30)
    telemetry.shutdown()
    for place in places:
        (path,) = (home / "state" / place).glob("*.json")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    telemetry = start()
    burst(1, start=1_500)

    assert telemetry.flush(30)
    assert len(set(endpoint.ids())) == 1_501
    assert len(endpoint.ids()) == (1_501 if len(places) == 1 else 3_001)
    cursor = Cursor(home, f"azure_monitor_{SCOPE}")
    assert all(cursor.at(p.relative_to(home / "telemetry").as_posix()) for p in home.glob("telemetry/*/*/*/*/*.blob"))


def test_telemetry_of_another_resource_is_left_alone(start, home, endpoint):
    """What was logged without a connection string, or with another, does not go to this one."""
    with scoretrace.configure(home=home, service="svc", capture_print=False):
        log.info("local")
    telemetry = start()
    log.info("mine")

    assert telemetry.flush(30)
    assert endpoint.messages() == ["mine"]


def test_delivery_does_not_feed_on_itself(start, endpoint):
    """Neither at the level of DEBUG, where HTTP clients say much."""
    telemetry = start(level="DEBUG")
    log.info("one")
    assert telemetry.flush(30)
    time.sleep(1.5)

    assert telemetry.flush(30)
    assert endpoint.messages() == ["one"]


def test_without_a_connection_string_nothing_starts(home):
    """Local is enough: no thread, no cursor that would keep retention waiting."""
    with scoretrace.configure(home=home) as telemetry:
        log.info("local")
        assert telemetry.flush()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("scoretrace")]
    assert not (home / "state" / "cursors").exists()


def test_one_process_delivers_and_the_other_takes_over(start, home, endpoint, tmp_path):
    """A file lock: the one that waits goes on when the holder is gone."""
    from scoretrace.exporters.drain import Drain

    class Holder(Drain):
        def _pass(self):
            return False

    holder = Holder(home, f"azure_monitor_{SCOPE}", scope=SCOPE)
    assert holder.lead()
    telemetry = start()
    burst(5)
    assert not telemetry.flush(0.5)
    assert endpoint.envelopes == []

    holder.release()
    assert telemetry.flush(30)
    assert endpoint.messages() == ["0", "1", "2", "3", "4"]


def test_the_clock_that_is_set_back_hides_nothing(start, home, endpoint):
    """Segments in older hours are found too."""
    telemetry = start()
    burst(1)
    assert telemetry.flush(30)
    journal = telemetry.journal
    journal.clock = lambda: time.time() - 5 * 3_600
    journal.close()
    for number in range(1, 4):
        log.info("%d", number)

    assert telemetry.flush(30)
    assert endpoint.messages() == ["0", "1", "2", "3"]


def test_an_item_that_was_kept_whole_is_cut_before_it_is_sent(start, home, endpoint):
    """Where the disk refused its payload when it was logged, the payload is stored now."""
    telemetry = start(exporter="none")
    overflow = home / "modeldata"
    overflow.write_text("in the way")
    log.info("x" * 100_000)
    assert telemetry.stats()["not_diverted"] == 1
    telemetry.shutdown()
    overflow.unlink()
    telemetry = start()

    assert telemetry.flush(30)
    (envelope,) = endpoint.envelopes
    properties = envelope["data"]["baseData"]["properties"]
    assert (home / properties["payload_uri"]).read_text() == "x" * 100_000
    assert len(json.dumps(envelope)) <= 65_536


@pytest.mark.skipif(os.name == "nt", reason="file modes are promised for POSIX")
def test_a_home_that_cannot_be_written_delivers_nothing_and_raises_nothing(start, home, endpoint):
    """Where no cursor can be saved, nothing may be sent."""
    (home / "state").mkdir(parents=True)
    (home / "state" / "exporters").write_text("in the way")
    telemetry = start()
    burst(3)

    assert not telemetry.flush(0.3)
    assert endpoint.envelopes == []
    (home / "state" / "exporters").unlink()
    assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 3


def test_a_row_that_was_put_off_expires_like_any_other(start, home, endpoint):
    """It does not wait for ever."""
    telemetry = start(exporter="none")
    old = logging.makeLogRecord({"name": "score", "msg": "old", "created": time.time() - 49 * 3_600, "levelno": 20})
    log.handle(old)
    telemetry.shutdown()
    held = put_off(home, "payload")
    telemetry = start()

    assert telemetry.flush(30)
    assert endpoint.envelopes == []
    assert telemetry.stats()["given_up"] == {"expired": 1}
    assert not held.exists()


def test_a_held_file_that_was_cut_short_is_done_with(start, home, endpoint):
    """By a power cut: what is whole in it is delivered, and the rest is counted."""
    telemetry = start(exporter="none")
    burst(3)
    telemetry.shutdown()
    held = put_off(home)
    held.write_bytes(held.read_bytes()[:-20])
    telemetry = start()

    assert telemetry.flush(30)
    assert endpoint.messages() == ["0", "1"]
    assert telemetry.stats()["given_up"] == {"unreadable": 1}
    assert not held.exists()


def test_the_end_of_a_torn_segment_does_not_count_as_delivered(start, home, endpoint):
    """Whole lines before it wait like all others."""
    telemetry = start(exporter="none")
    burst(5)
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    endpoint.always = 503
    telemetry = start()
    with segment.open("ab") as file:
        file.write(b'{"message":[{"raw":"tor')
    assert not telemetry.flush(1)
    assert telemetry.stats()["waiting"] > 1_000
    endpoint.always = None

    assert telemetry.flush(30)
    assert endpoint.messages() == ["0", "1", "2", "3", "4"]


def test_a_segment_that_cannot_be_read_stops_no_other(start, home, endpoint, caplog):
    """A folder in its place, here; another user's file, elsewhere."""
    telemetry = start(exporter="none")
    burst(3)
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    (segment.parent / "00000000_20200101_000000.blob").mkdir()
    (segment.parent / "ffffffff_20990101_000000.blob").mkdir()
    start()

    assert endpoint.wait_for(3) == 3
    burst(1, start=3)
    assert endpoint.wait_for(4) == 4
    assert caplog.text.count("cannot be read, and is not delivered") == 1


def test_what_a_sidecar_delivered_is_not_forgotten_by_a_process_with_a_key(start, home, endpoint):
    """They share a cursor, and one of them is there for more."""
    with scoretrace.configure(home=home, service="svc", capture_print=False, exporter="none"):
        burst(5)
    settings = resolve({"home": home, "connection_string": endpoint.connection_string})
    assert sidecar.export(settings).delivered == 5
    telemetry = start()
    burst(1, start=5)
    assert telemetry.flush(30)
    telemetry.shutdown()

    assert sidecar.export(settings).delivered == 0
    assert len(endpoint.ids()) == 6


def test_after_the_end_flush_does_not_wait(start, endpoint):
    """Nobody is there any more to deliver."""
    endpoint.always = 503
    telemetry = start()
    burst(1)
    telemetry.shutdown(timeout=0)

    assert not telemetry.flush(None)


def test_a_folder_that_cannot_be_looked_at_is_not_gone(start, endpoint, monkeypatch):
    """Too many open files, for a moment: what was delivered is not forgotten."""
    telemetry = start()
    burst(10)
    assert telemetry.flush(30)
    real = os.scandir

    def failing(path):
        if "telemetry" in os.fspath(path):
            raise OSError(24, "Too many open files")
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert not telemetry.flush(0.5)
    monkeypatch.setattr(os, "scandir", real)
    burst(1, start=10)

    assert telemetry.flush(30)
    assert len(endpoint.ids()) == len(set(endpoint.ids())) == 11


def test_a_home_that_is_removed_is_begun_anew(start, home, endpoint):
    """The lock, too: another process could hold the new one."""
    telemetry = start()
    burst(5)
    assert telemetry.flush(30)
    while home.exists():  # the delivery may be writing its cursor
        shutil.rmtree(home, ignore_errors=True)
    time.sleep(1.1)  # the journal looks after its file once a second
    burst(5, start=5)

    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == list(range(10))
    (lock,) = (home / "state" / "exporters").iterdir()
    with lock.open("rb") as file:
        assert not try_lock(file.fileno())


def test_rows_of_others_are_within_the_limits_too(start, home, endpoint):
    """What `scoretrace serve` took, or somebody copied in, is guarded before it goes out."""
    telemetry = start(exporter="none")
    burst(1)
    telemetry.shutdown()
    (segment,) = home.glob("telemetry/*/Messages/*/*/*.blob")
    long = json.loads(segment.read_text())
    long["message"][0]["raw"] = "x" * 40_000
    named = json.loads(segment.read_text())
    named["context"]["custom"]["dimensions"].append({"n" * 200: "v"})
    with segment.open("a") as file:
        file.write(f"{json.dumps(long)}\n{json.dumps(named)}\n")
    telemetry = start()

    assert telemetry.flush(30)
    found = [envelope["data"]["baseData"] for envelope in endpoint.envelopes]
    assert len(found) == 3
    assert max(len(data["message"]) for data in found) <= 32_768
    assert max(len(name) for data in found for name in data["properties"]) <= 150
    assert sum("payload_uri" in data["properties"] for data in found) == 2


def test_stats_say_what_waits(start, endpoint):
    """In bytes on disk; nothing does when all has arrived."""
    endpoint.always = 503
    telemetry = start()
    burst(3)
    endpoint.wait_for(1, seconds=0.3)
    assert telemetry.stats()["waiting"] > 300
    endpoint.always = None

    assert telemetry.flush(None)
    assert telemetry.stats()["waiting"] == 0


def test_the_end_says_what_was_not_delivered_in_time(start, endpoint, caplog):
    """Where nothing was said of it before."""
    endpoint.answers = [lambda batch: time.sleep(1) or accepted(len(batch))]
    telemetry = start()
    burst(1)
    telemetry.shutdown(timeout=0.2)

    assert "the next start goes on" in caplog.text


def test_a_telemetry_shows_itself_without_secrets(start):
    """In a notebook, say."""
    shown = repr(start())

    assert "exporter azure_monitor" in shown
    assert KEY not in shown


def test_no_message_has_the_key_in_it(start, home, endpoint, caplog):
    """In neither of its forms."""
    endpoint.answers = [503, lambda batch: partly(len(batch), [(0, 400, "no")])]
    telemetry = start()
    burst(2)
    assert telemetry.flush(30)

    assert "azure_monitor" in caplog.text
    for form in (KEY, SCOPE):
        assert form not in caplog.text
        assert form not in next((home / "state" / "quarantine").glob("*")).name
        assert form not in " ".join(thread.name for thread in threading.enumerate())
