"""What is changed, dropped or sampled on its way, and that sums stay true."""

import logging
import math

import msgspec
import pytest
from azure.monitor.opentelemetry.exporter.export.trace._utils import _get_DJB2_sample_score
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace.sampling import score
from strategies import items as any_items

LOG = logging.getLogger("score")


@pytest.fixture(name="begin")
def _begin(home):
    started = []

    def begin(**settings):
        started.append(scoretrace.configure(home=home, capture_print=False, **settings))
        return started[-1]

    yield begin
    for telemetry in started:
        telemetry.shutdown()


def redact(item):
    """A processor as people write it."""
    if item.kind == "trace":
        return msgspec.structs.replace(item, message=item.message.replace("secret", "***"))
    return item


def test_a_processor_changes_what_is_written(begin, items):
    """Before the guard: what was redacted is in no payload either."""
    begin(processors=[redact])
    LOG.info("a secret")
    LOG.info("secret " * 10_000)

    short, long = items("trace")
    assert short.message == "a ***"
    assert scoretrace.payload(long.item_id) == b"*** " * 10_000


def test_processors_see_the_whole_item_and_run_in_order(begin, items):
    """With its operation, service and id; the second gets what the first made."""
    seen = []

    def enrich(item):
        seen.append((item.operation_id, item.cloud_role_name, item.item_id))
        return msgspec.structs.replace(item, custom_dimensions={**item.custom_dimensions, "team": "a"})

    def join(item):
        return msgspec.structs.replace(item, custom_dimensions={"both": item.custom_dimensions["team"] + "b"})

    begin(processors=(enrich, join), service="svc")
    with scoretrace.request_context("score") as context:
        LOG.info("one")

    (trace,) = items("trace")
    assert seen[0] == (context.operation_id, "svc", trace.item_id)
    assert trace.custom_dimensions == {"both": "ab"}


def test_one_that_returns_none_drops_the_item_and_it_is_counted(begin, items):
    """So is one that raises or returns something else, and its item goes on unchanged."""

    def drop(item):
        if item.message == "raise":
            raise ValueError("no good")
        return None if item.message == "drop" else "text" if item.message == "text" else item

    telemetry = begin(processors=drop)
    for message in ("keep", "drop", "raise", "text"):
        LOG.info(message)

    assert [item.message for item in items("trace")] == ["keep", "raise", "text"]
    stats = telemetry.stats()
    assert (stats["items"], stats["dropped"], stats["processor_errors"]) == (4, 1, 2)


def test_one_that_fails_half_way_changes_nothing(begin, items):
    """Neither the dictionaries that it had in hand, nor by giving back what cannot be written."""

    def broken(item):
        item.custom_dimensions["half"] = "done"
        if item.message == "raise":
            raise ValueError("no good")
        return msgspec.structs.replace(item, message=12) if item.message == "number" else item

    telemetry = begin(processors=[broken])
    for message in ("fine", "raise", "number"):
        LOG.info(message)

    assert [(item.message, "half" in item.custom_dimensions) for item in items("trace")] == [
        ("fine", True), ("raise", False), ("number", False),
    ]  # fmt: skip
    assert (telemetry.stats()["processor_errors"], telemetry.stats()["lost"]) == (2, {})


def test_a_measurement_that_is_no_number_is_a_dimension(begin, items):
    """Of a processor's making, as of anybody's."""
    begin(processors=[lambda item: msgspec.structs.replace(item, custom_measurements={"a": 1.5, "b": math.nan})])
    LOG.info("one")

    (item,) = items("trace")
    assert (item.custom_measurements, item.custom_dimensions["b"]) == ({"a": 1.5}, "nan")


@given(item=any_items())
def test_every_text_can_be_redacted_in_one_place(item):
    """Whatever the kind: no text that somebody wrote is left."""
    changed = scoretrace.map_texts(item, lambda text: "*" * len(text))

    texts = [getattr(changed, name, "") for name in ("message", "name", "url", "data", "target", "outer_message")]
    texts += changed.custom_dimensions.values()
    texts += [thrown.message + thrown.stack for thrown in getattr(changed, "details", ())]
    assert all(set(text) <= {"*"} for text in texts)
    assert (changed.item_id, changed.operation_id) == (item.item_id, item.operation_id)


def test_what_a_processor_logs_does_not_go_through_it_again(begin, items):
    """It is a row, and no recursion."""

    def chatty(item):
        LOG.info("saw %s", item.message)
        return item

    begin(processors=[chatty])
    LOG.info("one")

    assert sorted(item.message for item in items("trace")) == ["one", "saw one"]


def test_a_processor_can_be_named_in_text(begin, items, tmp_path, monkeypatch):
    """As a logging.json has to: module:function."""
    (tmp_path / "team_rules.py").write_text("def none(item):\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    begin(processors="team_rules:none")
    LOG.info("one")

    assert items() == []


@pytest.mark.parametrize("wrong", ["no_such_module:f", "json", [7], 42, "json:nothing"])
def test_a_processor_that_cannot_work_is_refused(begin, wrong):
    """When it is configured."""
    with pytest.raises(scoretrace.SettingsError, match="processors"):
        begin(processors=wrong)


def operations(count):
    for number in range(count):
        with scoretrace.request_context("score") as context:
            LOG.info("%d", number)
            if number % 10 == 0:
                context.success = False
                LOG.error("failed")


@pytest.mark.parametrize("percentage", [25, "25", {"trace": 25, "request": "25"}, "trace=25,request=25"])
def test_sums_stay_true_and_operations_stay_whole(begin, items, percentage):
    """A quarter is kept, each row saying for how many it stands; failures are kept, each for itself."""
    telemetry = begin(sampling_percentage=percentage)
    operations(2_000)

    requests, traces = items("request"), items("trace")
    failed = [item for item in requests if not item.success]
    errors = [item for item in traces if item.severity_level == 3]
    kept = [item for item in requests if item.success]
    assert (len(failed), len(errors)) == (200, 200)
    assert {item.item_count for item in (*failed, *errors)} == {1}
    assert {item.item_count for item in kept} == {4}
    assert 0.2 < len(kept) / 1_800 < 0.3
    assert abs(sum(item.item_count for item in requests) / 2_000 - 1) < 0.15
    with_traces = {item.operation_id for item in traces if item.severity_level == 1}
    assert {item.operation_id for item in kept} == {one for one in with_traces if one in {i.operation_id for i in kept}}
    assert {item.operation_id for item in kept} <= with_traces
    stats = telemetry.stats()
    assert stats["sampled_out"] == 4_200 - len(requests) - len(traces)
    assert stats["items"] == 4_200


def test_sums_stay_true_without_any_operation(begin, items):
    """What is logged outside of requests is sampled each for itself, and not all or nothing."""
    begin(sampling_percentage=25)
    for number in range(2_000):
        LOG.info("%d", number)

    kept = items("trace")
    assert {item.item_count for item in kept} == {4}
    assert 0.2 < len(kept) / 2_000 < 0.3


def test_one_type_can_be_sampled_alone(begin, items):
    """Traces at one in a hundred, requests whole; the lines of a fast call too."""
    begin(sampling_percentage={"trace": 1})
    operations(300)

    assert len(items("request")) == 300
    assert {item.item_count for item in items("trace") if item.severity_level == 1} <= {100}
    assert len([item for item in items("trace") if item.severity_level == 1]) < 30


def test_exceptions_are_always_kept(begin, items):
    """However little else is."""
    begin(sampling_percentage=0.001)
    for _ in range(20):
        LOG.error("failed", exc_info=ValueError("no good"))

    assert [item.item_count for item in items("exception")] == [1] * 20


@pytest.mark.parametrize("wrong", [0, -1, 101, 60, "most", True, {"exception": 10}, {"trace": 0}, "trace"])
def test_a_percentage_that_cannot_work_is_refused(begin, wrong):
    """One of which no whole number of items is made, or a type that is never sampled."""
    with pytest.raises(scoretrace.SettingsError, match="sampling_percentage"):
        begin(sampling_percentage=wrong)


@given(operation=st.text("0123456789abcdef", min_size=8, max_size=40))
def test_the_score_is_the_one_of_the_other_sdks(operation):
    """As azure-monitor-opentelemetry-exporter computes it, so that a call is kept everywhere or nowhere."""
    assert score(operation) == pytest.approx(_get_DJB2_sample_score(operation))
