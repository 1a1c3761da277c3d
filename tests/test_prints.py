"""What is printed is printed first, and then a row."""

import builtins
import functools
import io
import json
import logging
import os
import subprocess
import sys
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from scoretrace import read
from scoretrace.capture import prints
from scoretrace.formats import continuous_export

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(name="contents")
def _contents(items):
    return lambda: [item.custom_dimensions["Contents"] for item in items("trace") if item.message == "STDOUT"]


def test_a_print_is_one_row_in_the_classic_shape(telemetry, items, capsys):
    """Message STDOUT, the text in Contents."""
    print("scored", 3, "rows")

    (item,) = items()
    assert (item.message, item.custom_dimensions) == ("STDOUT", {"Contents": "scored 3 rows"})
    assert capsys.readouterr().out == "scored 3 rows\n"


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(), max_size=40) | st.sampled_from(["x" * 5_000, "\ud83d", "é\x00" * 2_000]))
def test_both_lanes_write_the_same_print(tmp_path_factory, text):
    """A usual print is written from pieces; with a processor it becomes an item first, and the row is the same."""
    home = tmp_path_factory.mktemp("lanes")
    for processors in ([], [lambda item: item]):
        with scoretrace.configure(home=home, instance="i", processors=processors) as telemetry:
            context = scoretrace.request_context("score", traceparent=TRACEPARENT)
            context.id = "b7ad6b7169203332"
            context.share({"Request Id": "r", "empty": ""})
            with context:
                telemetry.printed("STDOUT", text)

    traces = [item for blob in read.find(home, ["trace"]) for _, line in read.lines(blob.path)
              for item in continuous_export.decode(line)]  # fmt: skip
    one, other = (msgspec.structs.replace(item, item_id="", timestamp=0) for item in traces)
    assert one == other
    assert one.custom_dimensions["Request Id"] == "r"


def test_a_tap_that_comes_back_into_its_place_works(home, items, monkeypatch):
    """Somebody replaced print, another telemetry tapped that, and the first print is there again."""
    with scoretrace.configure(home=home):
        with monkeypatch.context() as patched:
            ours = builtins.print
            patched.setattr(builtins, "print", functools.partial(ours))
            scoretrace.TelemetryHandler(home=home)
        prints.retap()
        print("again")

    assert [item.custom_dimensions["Contents"] for item in items("trace")] == ["again"]


def test_printed_json_stays_json(telemetry, contents):
    """So that parse_json(tostring(customDimensions.Contents)).input works."""
    printed = json.dumps({"input": [1, 2], "output": [3.5], "text": 'é"\\'}, ensure_ascii=False)
    print(printed)

    assert contents() == [printed]


def test_a_print_of_many_lines_is_one_row(telemetry, contents):
    """One item a call, however many lines."""
    print("a\nb", "c", sep="\n")
    print("open", end="")
    print("x", end="...\n")
    print()

    assert contents() == ["a\nb\nc", "open", "x...", ""]


def test_print_to_another_file_is_not_ours(telemetry, contents):
    """Only what goes to stdout is a row."""
    print("elsewhere", file=io.StringIO())
    print("stderr", file=sys.stderr)

    assert contents() == []


def test_written_lines_become_rows(telemetry, contents):
    """sys.stdout.write is collected by line; flush ends an unfinished one."""
    sys.stdout.write("one\n")
    sys.stdout.write("t")
    sys.stdout.write("wo\nthr")
    sys.stdout.write("ee")
    sys.stdout.flush()

    assert contents() == ["one", "two", "three"]


def test_an_unfinished_line_is_recorded_at_the_end(home, contents):
    """Shutdown hands over what no newline ended, of a thread that is gone too."""
    with scoretrace.configure(home=home):
        thread = threading.Thread(target=sys.stdout.write, args=("of a thread",))
        thread.start()
        thread.join()
        sys.stdout.write("of the process")

    assert sorted(contents()) == ["of a thread", "of the process"]


def test_stderr_is_tapped_when_asked(home, items, capsys):
    """Message STDERR, for print and write alike."""
    with scoretrace.configure(home=home, capture_stderr=True):
        print("printed", file=sys.stderr)
        sys.stderr.write("written\n")

    assert [(item.message, item.custom_dimensions["Contents"]) for item in items()] == [
        ("STDERR", "printed"),
        ("STDERR", "written"),
    ]
    assert capsys.readouterr().err == "printed\nwritten\n"


def test_a_record_shown_on_stdout_is_not_a_print_too(telemetry, items):
    """A StreamHandler on stdout does not double the trace."""
    logger = logging.getLogger("shown")
    logger.handlers = [logging.StreamHandler(sys.stdout)]
    logger.warning("once")
    logger.handlers.clear()

    assert [item.message for item in items()] == ["once"]


def test_installing_twice_taps_once(home, contents):
    """A second handler for the same telemetry does not make a second row."""
    with scoretrace.configure(home=home):
        scoretrace.TelemetryHandler(home=home)
        print("once")

    assert contents() == ["once"]


def test_it_can_be_undone(home):
    """Print and the stream are what they were."""
    before = (builtins.print, sys.stdout)
    with scoretrace.configure(home=home):
        assert builtins.print is not before[0]

    assert (builtins.print, sys.stdout) == before
    assert "write" not in vars(sys.stdout)


def test_capture_print_can_be_left_out(home, items):
    """capture_print=False leaves print alone."""
    with scoretrace.configure(home=home, capture_print=False):
        print("not a row")

    assert items() == []


def test_a_sink_that_prints_does_not_go_round_for_ever(capsys):
    """Whatever happens behind the tap, it does not go round for ever."""
    seen = []

    def sink(stream, text):
        seen.append(text)
        print("from the sink")

    prints.tap(sink)
    try:
        print("from the script")
    finally:
        prints.untap(sink)

    assert seen[0] == "from the script"
    assert len(seen) <= 3
    assert capsys.readouterr().out == "from the script\n" + "from the sink\n" * len(seen)


def test_a_print_that_fails_fails_as_without_us(telemetry, contents):
    """What the real print raises goes to the script."""

    class Unprintable:
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError, match="no text"):
        print(Unprintable())
    with pytest.raises(TypeError):
        print("x", "y", sep=3)

    assert contents() == []


def test_a_closed_stdout_raises_as_without_us_and_the_row_is_kept(telemetry, contents, monkeypatch):
    """The script sees the error; the telemetry has the text."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)

    with pytest.raises(ValueError, match="closed"):
        print("said")
    monkeypatch.undo()

    assert contents() == ["said"]


def test_str_is_called_once(telemetry):
    """The tap does not print an object a second time."""
    calls = []

    class Counted:
        def __str__(self):
            calls.append(1)
            return "counted"

    print(Counted())

    assert len(calls) == 1


def test_print_on_a_class_is_no_method(telemetry, contents):
    """As the real one is none."""

    class Report:
        out = print

    Report().out("x")

    assert contents() == ["x"]


def test_what_was_written_before_a_print_is_a_row_of_its_own(telemetry, contents):
    """As it stands on the console, nothing is put together that was apart."""
    sys.stdout.write("abc")
    print("DEF")
    sys.stdout.write("ghi\n")

    assert contents() == ["abc", "DEF", "ghi"]


def test_a_line_that_never_ends_is_recorded_in_parts(telemetry, contents):
    """Memory does not grow with it."""
    for _ in range(25_000):
        sys.stdout.write("x")
    telemetry.flush()

    assert len(contents()) == 3


def test_the_last_words_of_a_process_are_shown(home):
    """The interpreter writes a traceback to a stream that is tapped, without a frame of Python's."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import scoretrace; scoretrace.configure(capture_stderr=True)\nraise ValueError('the end')",
        ],
        env={**os.environ, "SCORETRACE_HOME": str(home)},
        capture_output=True,
        text=True,
    )

    assert ended.stderr.splitlines()[-1] == "ValueError: the end"
