"""Real processes, real signals: what a call that returned has put on disk is there."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import scoretrace
from processes import run_workers

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are promised for POSIX")

PRELUDE = """
import logging, os, signal, sys, threading
import scoretrace
telemetry = scoretrace.configure(home=sys.argv[1], service="svc", capture_print=False)
log = logging.getLogger("score")
"""


def run(home, code, *, check=True, warnings="error", **more):
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", PRELUDE + textwrap.dedent(code), str(home)],
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
        **more,
    )


def numbers(home):
    """The numbers that were logged, and the ids of their rows."""
    rows = scoretrace.query("traces | project message, itemId", source=home).rows
    return sorted(int(message) for message, _ in rows), {item_id for _, item_id in rows}


def test_two_hundred_thousand_calls_from_four_threads(home):
    """200,000 calls in a tight loop: 200,000 rows, each with an id of its own."""
    run(
        home,
        """
        def work(start):
            for number in range(start, start + 50_000):
                log.info("%d", number)
        threads = [threading.Thread(target=work, args=(index * 50_000,)) for index in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    )

    found, ids = numbers(home)
    assert found == list(range(200_000))
    assert len(ids) == 200_000


@posix
@pytest.mark.parametrize("attempt", range(20))
def test_kill_9_loses_nothing_that_returned(home, attempt):
    """The process says on a pipe which call returned, and is killed at any moment: rows 1 to n are all there."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PRELUDE
            + textwrap.dedent(
                """
                number = 0
                while True:
                    number += 1
                    log.info("%d", number, extra={"large": "x" * (number % 5 * 4_000)})
                    os.write(1, b"%d\\n" % number)
                """
            ),
            str(home),
        ],
        stdout=subprocess.PIPE,
    )
    returned = 0
    for _ in range(200 + attempt * 37):
        returned = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    for line in child.stdout:
        if line.endswith(b"\n"):
            returned = int(line)
    child.wait()
    child.stdout.close()

    found, _ = numbers(home)
    assert returned >= 200
    assert found[:returned] == list(range(1, returned + 1))
    assert len(found) - returned <= 1


@posix
@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_forked_workers_write_segments_of_their_own(home, end):
    """Four workers forked after configure, however they end: all rows, no id twice."""
    run(
        home,
        f"""
        log.info("-1")
        children = []
        for worker in range(4):
            child = os.fork()
            if not child:
                for number in range(500):
                    log.info("%d", worker * 500 + number)
                {end}
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
    )

    found, ids = numbers(home)
    assert found == list(range(-1, 2_000))
    assert len(ids) == 2_001


@posix
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(home, tmp_path, method):
    """Workers of multiprocessing end by os._exit, without any exit handler."""
    run_workers(tmp_path, home, method, parent=f"scoretrace.configure(home={str(home)!r}, capture_print=False)")

    found, ids = numbers(home)
    assert found == list(range(2_000))
    assert len(ids) == 2_000


@posix
def test_sigterm_loses_nothing(home):
    """The default action ends the process at once; the rows are there."""
    ended = run(
        home,
        """
        for number in range(500):
            log.info("%d", number)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        """,
        check=False,
    )

    assert ended.returncode == -signal.SIGTERM
    assert numbers(home)[0] == list(range(500))


@posix
def test_a_full_disk_costs_one_warning_and_no_exception(home):
    """A real limit on the size of files: what does not fit waits in memory, then is counted; nothing raises."""
    ended = run(
        home,
        """
        import resource
        log.info("0")
        from pathlib import Path
        size = next(Path(sys.argv[1]).rglob("*.blob")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 10 + size // 2, resource.RLIM_INFINITY))
        for number in range(1, 30):
            log.info("%d", number)
        full = telemetry.stats()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert telemetry.flush(), "written when there is room again"
        print(full["buffered"], telemetry.stats()["lost"])
        """,
    )

    assert ended.stderr.count("cannot write telemetry") == 1
    assert ended.stdout.split()[1:] == ["{}"]
    assert numbers(home)[0] == list(range(30))


@posix
def test_a_torn_line_of_a_killed_process_hides_no_other(home):
    """Reading passes over an unfinished line; the next start sets it aside."""
    run(home, 'log.info("1"); os.kill(os.getpid(), signal.SIGKILL)', check=False)
    (segment,) = (home / "telemetry").glob("*/*/*/*/*.blob")
    with segment.open("ab") as file:
        file.write(b'{"message":[{"raw":"tor')
    assert numbers(home)[0] == [1]
    assert scoretrace.query("traces", source=home).unreadable == {}

    run(home, 'log.info("2"); assert telemetry.stats()["set_aside"] == 1')

    assert numbers(home)[0] == [1, 2]
    assert segment.read_bytes().endswith(b"\n")
    assert len(list((home / "state" / "quarantine").iterdir())) == 1


@posix
@pytest.mark.parametrize("segment_bytes", [3_000, 64 * 1024**2])
def test_a_signal_handler_that_logs_neither_hangs_nor_loses(home, segment_bytes):
    """It may run in the middle of any of our own lines, also of those that change segments."""
    ended = run(
        home,
        f"""
        telemetry = scoretrace.configure(
            home=sys.argv[1], service="svc", capture_print=False, segment_bytes={segment_bytes})
        import itertools
        numbers = itertools.count(100_000)
        def again(*_):
            log.info("%d", next(numbers))
            if going:
                # Only then the next one: on a slow machine they would pile up until the interpreter gives in.
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
        going = True
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        for number in range(1_500):
            log.info("%d", number)
        going = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(next(numbers))
        """,
    )

    end = int(ended.stdout)
    assert end > 100_010
    assert numbers(home)[0] == [*range(1_500), *range(100_000, end)]
    assert ended.stderr == ""


def test_an_exit_handler_that_logs_is_recorded(home):
    """One that runs after ours, too."""
    subprocess.run(
        [
            sys.executable,
            "-c",
            'import atexit, logging; atexit.register(lambda: logging.getLogger("score").warning("7"))\n' + PRELUDE,
            str(home),
        ],
        check=True,
        capture_output=True,
    )

    assert numbers(home)[0] == [7]
