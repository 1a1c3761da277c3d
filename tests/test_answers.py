"""What an endpoint answers, and what becomes of each item then."""

import json
import time

import pytest

from delivering import ALL, burst, numbered, put_off, quarantined
from ingestion import KEY, Endpoint, accepted, partly


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


@pytest.mark.parametrize("header", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense", "-5"])
def test_a_time_that_is_over_is_waited_for_all_the_same(start, endpoint, header):
    """The clock of the service may be another: no storm of requests."""
    endpoint.always = (503, {"Retry-After": header}, {})
    telemetry = start()
    burst(1)
    (drain,) = telemetry._worker.drains
    end = time.monotonic() + 30
    while drain.failures < 2 and time.monotonic() < end:
        time.sleep(0.02)

    assert drain.pause > 0
    assert len(endpoint.batches) == 2
    endpoint.always = None
    assert telemetry.flush(30)


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


def test_a_206_that_does_not_say_what_was_accepted_is_not_believed(start, endpoint):
    """All of it comes again, rather than a part never."""
    endpoint.answers = [lambda batch: (206, {}, {"itemsReceived": len(batch), "itemsAccepted": 1, "errors": []})]
    telemetry = start()
    burst(1)
    burst(3, start=1)

    assert telemetry.flush(30)
    assert {"0", "1", "2", "3"} == set(endpoint.messages())
    assert len(set(endpoint.ids())) == 4


def test_an_error_without_a_message_is_still_an_error(start, endpoint):
    """Whatever the service leaves out."""
    endpoint.answers = [
        lambda batch: (206, {}, {"itemsAccepted": 0, "errors": [{"index": 0, "statusCode": 500, "message": None}]})
    ]
    telemetry = start()
    burst(1)

    assert telemetry.flush(30)
    assert len(endpoint.batches) == 2


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


def test_where_nothing_is_taken_nothing_is_put_off(start, home, endpoint, caplog):
    """A 206 that throttles all is an outage: it is said, and waited for ever longer."""
    endpoint.always = lambda batch: partly(len(batch), [(i, 429, "slower") for i in range(len(batch))])
    telemetry = start()
    burst(50)
    (drain,) = telemetry._worker.drains
    end = time.monotonic() + 30
    while drain.failures < 4 and time.monotonic() < end:  # in a row: nothing in between counts as a success
        time.sleep(0.02)

    assert drain.failures == 4
    assert len(endpoint.batches) == 4
    assert drain.pause > 1
    assert not (home / "state" / "held").exists()
    assert caplog.text.count("telemetry waits on disk") == 1
    endpoint.always = None
    assert telemetry.flush(30)
    assert len(endpoint.ids()) == 50


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
