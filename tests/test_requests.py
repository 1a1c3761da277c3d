"""A request is timed truly, ends truly, and correlates what happens inside."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace.capture.requests import status_of


class Response:
    """What a web framework returns."""

    def __init__(self, status_code):
        self.status_code = status_code


def test_a_call_becomes_a_request(telemetry, items):
    """True start and duration, 200 and success, under the function's name."""
    before = time.time()

    @scoretrace.request
    def run(data):
        """Score."""
        time.sleep(0.05)
        return [data]

    assert run(7) == [7]
    assert (run.__name__, run.__doc__) == ("run", "Score.")
    (item,) = items("request")
    assert (item.name, item.result_code, item.success) == ("run", "200", True)
    assert 0.05 <= item.duration / 1e7 < 5
    assert before <= item.timestamp / 1e7 <= time.time()
    assert len(item.operation_id) == 32
    assert len(item.id) == 16


@pytest.mark.parametrize(
    ("returned", "code", "success"),
    [
        ([1.5], "200", True),
        (None, "200", True),
        (Response(404), "404", False),
        (Response(201), "201", True),
        (({"error": "no"}, 503), "503", False),
        (("no", "422 Unprocessable", {}), "422", False),
        ((1, 2), "200", True),
        ((1, 2, 3, 4), "200", True),
        ((1, True), "200", True),
    ],
)
def test_the_result_code_is_what_was_answered(telemetry, items, returned, code, success):
    """A plain value is 200; a response says itself."""
    scoretrace.request(lambda: returned)()

    (item,) = items("request")
    assert (item.result_code, item.success) == (code, success)


@given(
    value=st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.tuples(inner, inner) | st.lists(inner))
)
def test_any_answer_has_a_result_code(value):
    """Whatever a script returns, three digits come out."""
    assert 100 <= int(status_of(value)) <= 599


def test_a_run_that_raises_is_a_failed_request_with_its_exception(telemetry, items):
    """500, and the exception goes on as it would without us."""
    error = ValueError("bad input")

    @scoretrace.request
    def run():
        raise error

    with pytest.raises(ValueError, match="bad input") as caught:
        run()

    assert caught.value is error
    (request,), (exception,) = items("request"), items("exception")
    assert (request.result_code, request.success) == ("500", False)
    assert exception.operation_id == request.operation_id
    assert exception.operation_parent_id == request.id
    assert [frame.method.rpartition(".")[2] for frame in exception.details[0].parsed_stack][:1] == ["run"]
    assert not any(frame.assembly.startswith("scoretrace") for frame in exception.details[0].parsed_stack)


def test_a_generator_gets_what_is_sent_and_thrown_into_it(telemetry, items):
    """As without us: send, throw and close reach the script's own."""
    seen = []

    def once():
        try:
            seen.append((yield len(seen)))
        except ValueError as error:
            seen.append(str(error))

    @scoretrace.request
    def run():
        try:
            while True:
                yield from once()
        finally:
            seen.append("closed")

    pieces = run()
    next(pieces)
    pieces.send("sent")
    pieces.throw(ValueError("thrown"))
    pieces.close()

    assert seen == ["sent", "thrown", "closed"]
    (request,) = items("request")
    assert request.success is True


def test_what_a_generator_does_when_it_is_closed_belongs_to_it(telemetry, items):
    """A client that goes away ends it: what its finally prints is joined."""

    @scoretrace.request
    def run():
        try:
            yield 1
        finally:
            print("closing")

    pieces = run()
    next(pieces)
    pieces.close()

    (request,), (trace,) = items("request"), items("trace")
    assert trace.operation_id == request.operation_id


def test_a_call_that_is_cancelled_is_no_exception(telemetry, items):
    """An asyncio task that somebody gave up: 499, as proxies write it."""

    @scoretrace.request
    async def run():
        await asyncio.sleep(60)

    async def cancelled():
        task = asyncio.ensure_future(run())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    (request,) = items("request")
    assert (request.result_code, request.success, items("exception")) == ("499", False, [])


def test_everything_inside_carries_the_operation(telemetry, items):
    """Logs, prints and structured traces, and nothing outside."""
    log = logging.getLogger("score")

    with scoretrace.request_context("score") as context:
        log.info("logged")
        log.info("with extra", extra={"a": {1: 2}})
        print("printed")
        scoretrace.log(a=1)
    log.info("outside")

    inside = [item for item in items("trace") if item.message != "outside"]
    assert len(inside) == 4
    assert {item.operation_id for item in inside} == {context.operation_id}
    assert {item.operation_parent_id for item in inside} == {context.id}
    assert {item.operation_name for item in inside} == {"score"}
    assert next(item for item in items("trace") if item.message == "outside").operation_id == ""


def test_threads_and_tasks_keep_the_operation(telemetry, items):
    """Threads started inside, work given to a pool, asyncio tasks and their executor."""
    log = logging.getLogger("score")

    class Own(threading.Thread):
        def run(self):
            log.info("subclass")

    async def task():
        log.info("task")
        await asyncio.get_running_loop().run_in_executor(None, log.info, "executor")

    with ThreadPoolExecutor(1) as pool:
        with scoretrace.request_context("first") as first:
            pool.submit(log.info, "pool").result()
            for thread in (threading.Thread(target=log.info, args=("thread",)), Own()):
                thread.start()
                thread.join()
            asyncio.run(task())
        with scoretrace.request_context("second") as second:
            pool.submit(log.info, "second").result()
        pool.submit(log.info, "outside").result()

    found = {item.message: item.operation_id for item in items("trace")}
    expected = dict.fromkeys(("pool", "thread", "subclass", "task", "executor"), first.operation_id)
    assert found == {**expected, "second": second.operation_id, "outside": ""}


def test_concurrent_tasks_do_not_mix(telemetry, items):
    """Each asyncio task has its own operation."""

    @scoretrace.request
    async def run(number):
        await asyncio.sleep(0.01)
        logging.getLogger("score").info("%d", number)
        return number

    async def main():
        return await asyncio.gather(*(run(number) for number in range(10)))

    assert asyncio.run(main()) == list(range(10))
    by_operation = {item.operation_id for item in items("request")}
    assert len(by_operation) == 10
    assert {item.operation_id for item in items("trace")} == by_operation


def test_a_generator_is_a_request_until_it_ends(telemetry, items):
    """A streaming answer is timed to its last piece."""

    @scoretrace.request
    def run():
        yield 1
        time.sleep(0.02)
        yield 2

    assert list(run()) == [1, 2]
    assert items("request")[0].duration >= 200_000


def test_streaming_answers_do_not_mix(telemetry, items):
    """Each piece is made in its own operation, and consumed outside of any."""
    log = logging.getLogger("score")

    @scoretrace.request
    def run(number):
        for _ in range(2):
            log.info("made %d", number)
            yield number

    first, second = run(1), run(2)
    assert [next(first), next(second), next(first), next(second)] == [1, 2, 1, 2]
    log.info("consumed")
    assert (list(first), list(second)) == ([], [])

    operations = {item.message: item.operation_id for item in items("trace")}
    assert operations["consumed"] == ""
    assert len({item.operation_id for item in items("request")} & {operations["made 1"], operations["made 2"]}) == 2


def test_a_stream_that_is_left_early_is_no_failure(telemetry, items):
    """Whoever consumed it has enough."""

    @scoretrace.request
    def run():
        yield 1
        yield 2

    stream = run()
    next(stream)
    stream.close()

    assert [(item.result_code, item.success) for item in items("request")] == [("200", True)]
    assert items("exception") == []


def test_an_asynchronous_stream_is_a_request_until_it_ends(telemetry, items):
    """Timed to its last piece, with what is inside, and failed where it raises."""

    @scoretrace.request
    async def run(fail):
        logging.getLogger("score").info("made")
        yield 1
        await asyncio.sleep(0.02)
        if fail:
            raise ValueError("late")

    async def main():
        assert [piece async for piece in run(False)] == [1]
        with pytest.raises(ValueError, match="late"):
            [piece async for piece in run(True)]

    asyncio.run(main())
    assert [item.result_code for item in items("request")] == ["200", "500"]
    assert items("request")[0].duration >= 200_000
    assert {item.operation_id for item in items("trace")} == {item.operation_id for item in items("request")}


def test_a_request_is_recorded_whatever_is_set_on_it(telemetry, items):
    """Values that are no measurements, a code that was planned before it failed."""

    class Odd(Exception):
        @property
        def exceptions(self):
            raise RuntimeError

    with pytest.raises(Odd), scoretrace.request_context("r", traceparent=b"x", custom_dimensions="abc") as context:
        context.custom_measurements = {"a": "abc", "b": None, "c": float("nan"), "d": 2}
        context.result_code = "202"
        raise Odd

    (item,) = items("request")
    assert (item.result_code, item.success) == ("500", False)
    assert item.custom_measurements == {"d": 2.0}
    assert item.custom_dimensions == {"custom_dimensions": "abc", "a": "abc", "b": "", "c": "nan"}
    assert items("exception")[0].type.endswith("Odd")
    assert telemetry.stats()["lost"] == {}


def test_a_traceparent_is_continued(telemetry, items):
    """The caller's trace id becomes the operation id, its span id the parent."""
    with scoretrace.request_context("score", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"):
        pass

    (item,) = items("request")
    assert (item.operation_id, item.operation_parent_id) == ("a" * 32, "b" * 16)


@pytest.mark.parametrize(
    "header", ["", "x", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "é" * 999]
)
def test_a_malformed_traceparent_is_ignored(telemetry, items, header):
    """The request gets an id of its own."""
    with scoretrace.request_context("score", traceparent=header):
        pass

    (item,) = items("request")
    assert len(item.operation_id) == 32
    assert item.operation_parent_id == ""


@pytest.mark.parametrize("code", ["²", "9" * 9_999, "", "Faulted"])
def test_a_result_code_of_any_kind(telemetry, items, code):
    """It is text, and need not be a number."""
    with scoretrace.request_context("score", custom_dimensions={"a": "b"}) as context:
        context.result_code = code

    assert items("request")[0].result_code[:9] == (code[:9] or "200")


def test_a_request_inside_a_request_belongs_to_it(telemetry, items):
    """The same operation, the outer request as parent."""
    with scoretrace.request_context("outer") as outer, scoretrace.request_context("inner"):
        pass

    inner = next(item for item in items("request") if item.name == "inner")
    assert (inner.operation_id, inner.operation_parent_id) == (outer.operation_id, outer.id)


def test_what_is_set_inside_is_recorded(telemetry, items):
    """Result code, success, dimensions and measurements."""
    with scoretrace.request_context("score", url="http://localhost/score", custom_dimensions={"a": 1}) as context:
        context.result_code = "202"
        context.success = False
        context.custom_dimensions["b"] = {"c": 1}
        context.custom_measurements["rows"] = 3

    (item,) = items("request")
    assert (item.result_code, item.success, item.url) == ("202", False, "http://localhost/score")
    assert item.custom_dimensions == {"a": "1", "b": '{"c":1}'}
    assert item.custom_measurements == {"rows": 3.0}


def test_without_configure_a_request_is_just_the_call(caplog):
    """The script runs as it would; one warning says that nothing is recorded."""
    assert scoretrace.request(lambda: 7)() == 7


def test_log_records_fields_and_objects(telemetry, items):
    """Mappings become dimensions; other values the message."""
    scoretrace.log({"input": [[1, 2]], "output": [3.5]}, model="ridge")
    scoretrace.log("text", rows=2)
    scoretrace.log([1, 2])

    first, second, third = items("trace")
    assert first.custom_dimensions == {"input": "[[1,2]]", "output": "[3.5]", "model": "ridge"}
    assert first.message == "input, output, model"
    assert (second.message, second.custom_dimensions) == ("text", {"rows": "2"})
    assert third.message == "[1,2]"
