"""Delivery: what was logged arrives, whatever the endpoint answers."""

import json
import logging
import os
import shutil
import sys
import threading
import time

import pytest

import scoretrace
from ingestion import KEY, Endpoint, accepted, partly
from scoretrace import sidecar
from scoretrace.cursor import Cursor
from scoretrace.exporters.items import BATCH_BYTES, BATCH_ITEMS
from scoretrace.locks import try_lock
from scoretrace.settings import resolve

SCOPE = KEY.replace("-", "")
OURS = "azure_monitor"
ALL = [OURS, "opentelemetry"]
if sys.version_info < (3, 13):
    ALL.append("opencensus")

log = logging.getLogger("score")


@pytest.fixture
def start(home, endpoint):
    """Configure with the loopback endpoint."""
    started = []

    def begin(exporter=OURS, **more):
        more = {"connection_string": endpoint.connection_string, "capture_print": False, **more}
        started.append(scoretrace.configure(home=home, service="svc", exporter=exporter, **more))
        return started[-1]

    yield begin
    for telemetry in started:
        telemetry.shutdown(timeout=1)


def burst(count, start=0):
    for number in range(start, start + count):
        log.info("%d", number)


def quarantined(home):
    return [
        json.loads(line)
        for path in sorted((home / "state" / "quarantine").glob("*.ndjson"))
        for line in path.read_text().splitlines()
    ]


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


@pytest.mark.parametrize("exporter", ALL)
@pytest.mark.parametrize(
    "answer",
    [0, 402, 408, 429, 439, 500, 503, (429, {"Retry-After": "1"}, {}), 401, 403],
    ids=lambda answer: str(answer if isinstance(answer, int) else "retry-after"),
)
def test_what_is_not_taken_is_sent_again(start, endpoint, caplog, exporter, answer):
    """It waits on disk, is said aloud once, and goes out later, each item once."""
    endpoint.answers = [answer, answer]
    telemetry = start(exporter)
    burst(20)

    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == list(range(20))
    assert len(set(endpoint.ids())) == 20
    said = [record.getMessage() for record in caplog.records if record.name == "scoretrace"]
    assert sum("telemetry waits on disk" in message for message in said) == 1
    assert KEY not in "".join(said)


def test_retry_after_is_honoured(start, endpoint):
    """No request goes out before the time that the service named."""
    endpoint.answers = [(503, {"Retry-After": "1"}, {})]
    telemetry = start()
    burst(1)

    assert not telemetry.flush(0.6)
    assert len(endpoint.batches) == 1
    assert telemetry.flush(30)
    assert len(endpoint.batches) == 2


@pytest.mark.parametrize("exporter", ALL)
def test_a_part_that_is_accepted_is_not_sent_again(start, home, endpoint, exporter):
    """A 206 is read item by item: accepted, refused for good, or to be sent again."""
    endpoint.answers = [
        lambda batch: partly(len(batch), [(1, 400, "no good"), (2, 429, "slower"), (3, 500, "oops")]),
    ]
    telemetry = start(exporter)
    burst(6)

    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == [0, 2, 3, 4, 5]
    (record,) = quarantined(home)
    assert (record["status"], record["message"]) == (400, "no good")
    assert json.loads(record["line"])["message"][0]["raw"] == "1"
    assert telemetry.stats()["given_up"] == {"refused": 1}


@pytest.mark.parametrize("exporter", ALL)
def test_a_batch_that_is_too_large_is_halved(start, home, endpoint, exporter):
    """Down to a single item, which is set aside if it alone is too large."""

    def answer(batch):
        if any(envelope["data"]["baseData"]["message"] == "7" for envelope in batch) or len(batch) > 4:
            return (413, {}, {})
        return accepted(len(batch))

    endpoint.answers = [answer] * 200
    telemetry = start(exporter)
    burst(50)

    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == [number for number in range(50) if number != 7]
    assert [record["status"] for record in quarantined(home)] == [413]


@pytest.mark.parametrize("exporter", ALL)
def test_one_bad_item_does_not_spoil_its_batch(start, home, endpoint, exporter):
    """A 400 that does not say which item is meant is narrowed down."""

    def answer(batch):
        bad = any(envelope["data"]["baseData"]["message"] == "13" for envelope in batch)
        return (400, {}, {"errors": []}) if bad else accepted(len(batch))

    endpoint.answers = [answer] * 200
    telemetry = start(exporter)
    burst(20)

    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == [number for number in range(20) if number != 13]
    assert len(quarantined(home)) == 1


def test_an_item_that_the_service_stumbles_over_does_not_stop_the_others(start, endpoint):
    """It is put off after a few attempts, and is delivered when the service takes it."""

    def answer(batch):
        places = [i for i, envelope in enumerate(batch) if envelope["data"]["baseData"]["message"] == "3"]
        return partly(len(batch), [(i, 500, "oops") for i in places])

    endpoint.always = answer
    start()
    burst(5)
    assert endpoint.wait_for(4) == 4
    burst(5, start=100)
    assert endpoint.wait_for(9) == 9
    endpoint.always = None

    assert endpoint.wait_for(10) == 10, endpoint.messages()
    assert sorted(map(int, endpoint.messages())) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


@pytest.mark.parametrize("refusal", [415, 400])
def test_an_endpoint_that_takes_no_gzip_gets_plain(start, endpoint, refusal):
    """It is asked once, and not again."""

    def answer(batch):
        compressed = endpoint.requests[-1][1].get("Content-Encoding") == "gzip"
        return (refusal, {}, {}) if compressed else accepted(len(batch))

    endpoint.always = answer
    telemetry = start()
    burst(1_500)

    assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 1_500
    assert sum(headers.get("Content-Encoding") == "gzip" for _, headers, _ in endpoint.requests) == 1


@pytest.mark.parametrize("exporter", ALL)
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_host_is_followed_and_kept(start, endpoint, exporter, status):
    """The second batch goes to the new place at once."""
    other = Endpoint()
    try:
        endpoint.always = (status, {"Location": f"{other.url}/v2.1/track"}, {})
        telemetry = start(exporter)
        burst(1_200)

        assert telemetry.flush(30)
        assert len(other.envelopes) == 1_200
        assert len(endpoint.batches) == 1
    finally:
        other.close()


@pytest.mark.parametrize("exporter", ALL)
@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/v2.1/track", "https://evil.example/", "/loop", "http://[broken"]
)
def test_a_redirect_elsewhere_is_not_followed(start, endpoint, caplog, exporter, location):
    """Telemetry does not go where a header points; it waits."""
    endpoint.answers = [(307, {"Location": location}, {})] * 300
    telemetry = start(exporter)
    burst(1)
    telemetry.flush(0.3)

    assert endpoint.envelopes == []
    endpoint.answers = []
    assert telemetry.flush(30)
    assert endpoint.messages() == ["0"]


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
        pass

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


def test_a_206_that_does_not_say_what_was_accepted_is_not_believed(start, endpoint):
    """All of it comes again, rather than a part never."""
    endpoint.answers = [lambda batch: (206, {}, {"itemsReceived": len(batch), "itemsAccepted": 1, "errors": []})]
    telemetry = start()
    burst(1)
    burst(3, start=1)

    assert telemetry.flush(30)
    assert {"0", "1", "2", "3"} == set(endpoint.messages())
    assert len(set(endpoint.ids())) == 4


def test_a_quarantine_that_cannot_be_written_costs_no_repeats(start, home, endpoint):
    """What was accepted is not sent again because something else could not be set aside."""
    (home / "state").mkdir(parents=True)
    (home / "state" / "quarantine").write_text("in the way")
    endpoint.answers = [lambda batch: partly(len(batch), [(0, 400, "no good")])]
    telemetry = start()
    burst(4)

    assert telemetry.flush(30)
    assert len(endpoint.ids()) == len(set(endpoint.ids())) == 3
    assert telemetry.stats()["given_up"] == {"refused": 1}


def test_a_place_that_was_redirected_to_may_go(start, endpoint):
    """The next attempt begins where the connection string says."""
    other = Endpoint()
    endpoint.answers = [(307, {"Location": f"{other.url}/v2.1/track"}, {})]
    telemetry = start()
    burst(1)
    assert telemetry.flush(30)
    assert len(other.envelopes) == 1
    other.answers = [0] * 10  # also for the connection that is open
    other.close()
    burst(1, start=1)

    assert telemetry.flush(30)
    assert endpoint.messages() == ["1"]


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


def numbered(batch):
    return [envelope["data"]["baseData"]["message"] for envelope in batch]


def put_off(home, why="service"):
    """Move the only segment to where rows are that were put off."""
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    held = home / "state" / "held" / f"azure_monitor_{SCOPE}" / f"1-{why}.blob"
    held.parent.mkdir(parents=True)
    segment.rename(held)
    return held


def test_a_row_that_is_held_blocks_nobody_and_repeats_nobody(start, home, endpoint):
    """Not the new rows, also after an outage in the middle; not the rows that were held with it."""

    def poison(batch):
        return partly(len(batch), [(i, 500, "oops") for i, text in enumerate(numbered(batch)) if text == "1"])

    telemetry = start(exporter="none")
    burst(4)
    telemetry.shutdown()
    put_off(home)
    endpoint.always = poison
    endpoint.answers = [503]
    telemetry = start()
    burst(4, start=10)

    assert endpoint.wait_for(7) == 7
    burst(2, start=20)
    assert endpoint.wait_for(9) == 9
    before = len(endpoint.batches)
    time.sleep(1)
    assert len(endpoint.batches) - before <= 4  # it is tried again ever later
    endpoint.always = None
    assert telemetry.flush(30)
    assert sorted(map(int, endpoint.messages())) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21]


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


def test_where_nothing_is_taken_nothing_is_put_off(start, home, endpoint, caplog):
    """A 206 that throttles all is an outage: it is said, and waited for ever longer."""
    endpoint.always = lambda batch: partly(len(batch), [(i, 429, "slower") for i in range(len(batch))])
    telemetry = start()
    burst(50)
    time.sleep(3)

    assert len(endpoint.batches) <= 6
    assert not (home / "state" / "held").exists()
    assert caplog.text.count("telemetry waits on disk") == 1
    endpoint.always = None
    assert telemetry.flush(30)
    assert len(endpoint.ids()) == 50


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


@pytest.mark.parametrize(
    "answer",
    [
        (206, {}, {"itemsReceived": 1, "itemsAccepted": 0, "errors": []}),
        (206, {}, {"errors": [{"index": 99, "statusCode": 500}]}),
        (206, {}, {"errors": None}),
        (200, {}, "<html>Please log in</html>"),
        (200, {}, '"ok"'),
        (204, {}, ""),
    ],
    ids=["not accounted for", "of another batch", "no errors", "login page", "no object", "another success"],
)
def test_an_answer_that_says_too_little_is_not_believed(start, endpoint, answer):
    """What may not have been taken comes again."""
    endpoint.answers = [answer]
    telemetry = start()
    burst(1)

    assert telemetry.flush(30)
    assert len(endpoint.batches) == 2
    assert set(endpoint.messages()) == {"0"}


def test_an_error_without_a_message_is_still_an_error(start, endpoint):
    """Whatever the service leaves out."""
    endpoint.answers = [
        lambda batch: (206, {}, {"itemsAccepted": 0, "errors": [{"index": 0, "statusCode": 500, "message": None}]})
    ]
    telemetry = start()
    burst(1)

    assert telemetry.flush(30)
    assert len(endpoint.batches) == 2


@pytest.mark.parametrize("header", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense", "-5"])
def test_a_time_that_is_over_is_waited_for_all_the_same(start, endpoint, header):
    """The clock of the service may be another: no storm of requests."""
    endpoint.always = (503, {"Retry-After": header}, {})
    telemetry = start()
    burst(1)
    time.sleep(1)

    assert len(endpoint.batches) <= 5
    endpoint.always = None
    assert telemetry.flush(30)


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
