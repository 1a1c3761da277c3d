"""The bundled queries, over the rows that each generation of the scoring server leaves."""

import json
import time

import pytest

import scoretrace
from scoretrace import item, ticks
from scoretrace.formats import continuous_export
from scoretrace.schema import BY_KIND

KEY = "0123456789abcdef0123456789abcdef"
MINUTE = 60 * ticks.SECOND
PAIR = json.dumps({"input": [[1.0, 2.0]], "output": [42.5]})


@pytest.fixture(name="put")
def _put(home):
    def put(*found):
        for number, one in enumerate(found):
            folder = (
                home
                / "telemetry"
                / f"svc_{KEY}"
                / BY_KIND[one.kind].folder
                / time.strftime("%Y-%m-%d/%H", time.gmtime())
            )
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{number}.blob").open("ab") as file:
                file.write(continuous_export.encode(one))

    return put


def ago(minutes):
    return ticks.now() - minutes * MINUTE


@pytest.fixture(name="generations")
def _generations(put):
    """Requests and prints as four generations write them, one failed request among them."""
    dimensions = {"duration": "0:00:00.250000", "resultCode": "500", "success": "False", "name": "POST /score"}
    put(
        item.Request(name="/score", timestamp=ago(9), duration=0, result_code="0", success=True, operation_id="new",
                     custom_dimensions=dimensions),
        item.Request(name="POST /score", timestamp=ago(8), duration=100 * ticks.MILLISECOND, result_code="200",
                     success=True, operation_id="old", item_count=3, cloud_role_instance="one"),
        item.Trace(message="STDOUT", timestamp=ago(8), operation_id="old", custom_dimensions={"Contents": PAIR}),
        item.Trace(message="STDOUT", timestamp=ago(7), custom_dimensions={"Content": PAIR, "Service Name": "svc"}),
        item.Trace(message=PAIR, timestamp=ago(6), custom_dimensions={"module": "print_log_hook"}),
        item.Trace(message=PAIR, timestamp=ago(5),
                   custom_dimensions={"code.file.path": "/x/print_log_hook.py"}),
        item.Trace(message="logged, not printed", timestamp=ago(4), severity_level=3,
                   custom_dimensions={"logger_name": "score"}),
    )  # fmt: skip


def rows(name, **parameters):
    return scoretrace.query(name, **parameters).dicts()


def test_the_truth_of_a_request_is_taken_from_where_it_is(generations):
    """Code, success and duration of the newest server sit in dimensions, those of others in columns."""
    (failed,) = rows("failures")
    assert (failed["code"], failed["operation_Id"]) == ("500", "new")
    by_code = {row["code"]: row for row in rows("requests-by-result")}
    assert (by_code["500"]["average"], by_code["200"]["average"], by_code["200"]["total"]) == (250.0, 100.0, 3)
    rate = rows("request-rate")
    assert (sum(row["total"] for row in rate), sum(row["failed"] for row in rate)) == (4, 1)
    assert [row["ms"] for row in rows("slowest-requests")] == [250.0, 100.0]


def test_prints_of_every_generation_are_found(generations):
    """As Contents or Content, and as plain messages of the print hook; what was only logged is none."""
    assert [row["contents"] for row in rows("prints")] == [PAIR] * 4
    assert len(rows("prints-with-input")) == 4
    assert {row["output"] for row in rows("inputs-and-outputs")} == {"[42.5]"}
    assert rows("output-distribution") == [{"value": 40.0, "total": 4}]
    (day, *_) = rows("output-drift")
    assert (day["p50"], day["average"]) == (42.5, 42.5)
    places = {row["place"]: row["average"] for row in rows("inputs-by-feature")}
    assert places == {0: 1.0, 1: 2.0}


def test_what_stands_for_several_counts_for_several(generations):
    """A percentile is of requests, not of rows."""
    put = {row["name"]: row for row in rows("response-times")}
    assert (put["POST /score"]["total"], put["POST /score"]["p50"]) == (3, 100.0)
    assert rows("load-by-instance")[0]["total"] == 3


def test_requests_without_an_answer_are_found(generations):
    """Neither printed nor collected; one that failed is none of them."""
    assert rows("missing-predictions") == []
    scoretrace.query("missing-predictions", since="1d")


def test_collected_rows_are_counted_against_requests(home, generations):
    """On this machine those of the collectors, which Azure does not have as a table."""
    with scoretrace.configure(home=home, capture_print=False), scoretrace.request_context("score"):
        scoretrace.ModelDataCollector("m", "predictions", ["y"]).collect([1])

    found = rows("collected-against-requests")

    assert sum(row["collected"] for row in found) == 1
    assert sum(row["requests"] for row in found) == 5


def test_a_version_is_compared_with_what_was_before(put):
    """Which is which is said by the parameter."""
    put(
        item.Request(
            name="r", timestamp=ago(50), duration=10 * ticks.MILLISECOND, application_version="1", success=True
        ),
        item.Request(
            name="r", timestamp=ago(5), duration=30 * ticks.MILLISECOND, application_version="2", success=False
        ),
    )
    found = {row["which"]: row for row in rows("versions-compared", version="2")}

    assert (found["before"]["p50"], found["version 2"]["p50"], found["version 2"]["percentFailed"]) == (
        10.0,
        30.0,
        100.0,
    )


def test_messages_that_differ_in_numbers_and_ids_are_one_shape(put):
    """So that the many do not hide the rare."""
    messages = [f"row {n} of job 3f2b8c1e-0000-4000-8000-00000000000{n} failed" for n in range(3)]
    put(
        *(item.Trace(message=message, severity_level=3, timestamp=ago(5)) for message in messages),
        item.Trace(message="disk is full", severity_level=4, timestamp=ago(1)),
    )
    assert [(row["shape"], row["total"]) for row in rows("errors-by-shape")] == [
        ("row <n> of job <id> failed", 3),
        ("disk is full", 1),
    ]


def test_stretches_without_a_request_are_named(put):
    """With their beginning and their end."""
    put(item.Request(name="r", timestamp=ago(200)), item.Request(name="r", timestamp=ago(100)))

    found = rows("quiet-hours", since="4h", slot="30m")

    assert sum(row["quiet"].total_seconds() for row in found) == 6 * 1800
    assert all(row["start"] < row["end"] for row in found)


def test_the_first_request_of_an_instance_is_told_from_the_others(put):
    """Its time stands beside theirs."""
    times = [900, 10, 10, 10]
    put(
        *(
            item.Request(name="r", timestamp=ago(30 - n), duration=ms * ticks.MILLISECOND, cloud_role_instance="one")
            for n, ms in enumerate(times)
        )
    )

    (row,) = rows("cold-starts")

    assert (row["firstMs"], row["laterMs"], row["total"]) == (900.0, 10.0, 4)


def test_a_row_that_was_delivered_twice_is_found(put):
    """By the id that it keeps."""
    twice = item.Trace(message="m", timestamp=ago(1), custom_dimensions={"scoretrace_item_id": "a1"})
    put(twice, twice, item.Trace(message="n", timestamp=ago(1), custom_dimensions={"scoretrace_item_id": "b2"}))

    assert [(row["id"], row["times"]) for row in rows("duplicates")] == [("a1", 2)]


def test_an_instance_that_fell_silent_is_marked(put):
    """After five minutes."""
    put(
        item.Trace(message="m", timestamp=ago(60), cloud_role_instance="old"),
        item.Trace(message="m", timestamp=ago(0), cloud_role_instance="new"),
    )

    assert [(row["cloud_RoleInstance"], row["isSilent"]) for row in rows("heartbeat")] == [
        ("old", True),
        ("new", False),
    ]


def test_both_namings_say_the_same(generations):
    """A twin over the tables of a workspace gives the same rows."""
    for entry in scoretrace.queries():
        if entry.name != "heartbeat":  # which says how long ago
            classic, twin = scoretrace.query(entry.text), scoretrace.query(entry.workspace)
            assert (entry.name, twin.columns, twin.types) == (entry.name, classic.columns, classic.types)
            if "itemId" not in classic.columns:
                assert (entry.name, repr(twin.rows)) == (entry.name, repr(classic.rows))
