"""The files with collected data: whole rows, one header, whoever writes and whatever happens."""

import csv
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collected import features, files, parsed, rows
from scoretrace import ModelDataCollector
from scoretrace.shared_file import SharedFile, last_end, whole

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are promised for POSIX")

PRELUDE = """
import os, signal, sys, threading, time
from scoretrace import ModelDataCollector
inputs = ModelDataCollector("m", "inputs", ["worker", "number", "text"])
text = 'a "b"\\n,c'
"""


def run(home, code, *arguments, check=True, **more):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code), *arguments],
        env={**os.environ, "SCORETRACE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
        **more,
    )


def numbers(home):
    """Who wrote which number, from files that each have one header."""
    found = []
    for file in files(home):
        header, *body = parsed(file.read_bytes())
        assert len(set(map(len, body))) <= 1
        assert all(row[2] == 'a "b"\n,c' for row in body)
        found += [(row[0], int(row[1])) for row in body]
        assert header[:3] == ["worker", "number", "text"]
    return sorted(found)


cells = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1))


def expected(cell):
    if cell is None or cell != cell:
        return ""
    return str(cell)


@given(calls=st.lists(tables, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_is_collected_is_what_any_reader_of_csv_reads(calls):
    """Strictly RFC 4180: each cell as it was, each file with one header and rows as wide as that."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        patch.setenv("SCORETRACE_HOME", str(home))
        collector = ModelDataCollector("m", "inputs")
        for table in calls:
            collector.collect(table)
        collector._bound.sink.close()

        found = []
        for file in files(home):
            header, *body = csv.reader(io.StringIO(file.read_bytes().decode(), newline=""), strict=True)
            assert all(len(row) == len(header) for row in body)
            found += [row[: len(header) - 9] for row in body]
        wanted = [[expected(cell) for cell in row] for table in calls for row in table]
        numeric = [[_same(cell) for cell in row] for row in wanted]
        assert sorted([_same(cell) for cell in row] for row in found) == sorted(numeric)


def _same(cell):
    """Numbers by what they are: JSON and Python write large ones differently."""
    try:
        return repr(float(cell))
    except ValueError:
        return cell


@given(
    data=st.lists(st.lists(st.text('a",\n', max_size=6), min_size=2, max_size=2), min_size=1), cut=st.integers(0, 200)
)
def test_where_the_last_whole_row_ends(data, cut):
    """However a file was cut off: what is before it parses, what is after it is no row."""
    out = io.StringIO(newline="")
    ends = [0]
    for row in data:
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
        ends.append(len(out.getvalue()))
    whole_text = out.getvalue()[:cut].encode()

    assert last_end(whole_text)[0] == max(end for end in ends if end <= len(whole_text))


def test_other_columns_begin_another_file(home):
    """data_1.csv instead of a ragged one; and each goes back to its own."""
    collector = ModelDataCollector("m", "inputs")
    for row in ({"a": 1}, {"a": 2, "b": 3}, {"a": 4}, {"b": 5, "a": 6}, {"a": 7, "b": 8}):
        collector.collect(row)

    found = {
        path.name: [
            features(dict(zip(parsed(path.read_bytes())[0], row, strict=True))) for row in parsed(path.read_bytes())[1:]
        ]
        for path in files(home)
    }
    assert found == {"data.csv": [["1"], ["4"]], "data_1.csv": [["2", "3"], ["7", "8"]], "data_2.csv": [["5", "6"]]}


def test_another_process_goes_on_in_the_same_file(home):
    """Whoever comes later finds its columns by the header."""
    for number in range(3):
        run(
            home,
            "inputs.collect(['w', int(sys.argv[1]), text]); ModelDataCollector('m', 'inputs').collect([1])",
            str(number),
        )

    assert numbers_of(home, "data.csv") == [0, 1, 2]
    assert sorted(path.name for path in files(home)) == ["data.csv", "data_1.csv"]


def numbers_of(home, name):
    (file,) = (path for path in files(home) if path.name == name)
    return [int(row[1]) for row in parsed(file.read_bytes())[1:]]


def test_two_thousand_calls_in_a_tight_loop_and_out(home):
    """All there, without a flush."""
    run(home, "for number in range(2_000): inputs.collect(['w', number, text])\nos._exit(0)")

    assert numbers(home) == [("w", number) for number in range(2_000)]


@posix
def test_kill_9_loses_nothing_that_returned(home):
    """Eight workers, killed at any moment: what each said is there, once, between whole rows."""
    code = """
    number = 0
    while True:
        inputs.collect([sys.argv[1], number, text])
        os.write(1, b".")
        number += 1
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), f"w{worker}"],
            env={**os.environ, "SCORETRACE_HOME": str(home)},
            stdout=subprocess.PIPE,
        )
        for worker in range(8)
    ]
    said = {}
    for number, worker in enumerate(workers):
        worker.stdout.read(50 + 20 * number)
        worker.send_signal(signal.SIGKILL)
    for number, worker in enumerate(workers):
        said[f"w{number}"] = 50 + 20 * number + len(worker.stdout.read())
        worker.stdout.close()
        worker.wait()

    found = numbers(home)
    assert len(set(found)) == len(found)
    for name, count in said.items():
        own = [number for worker, number in found if worker == name]
        assert own == list(range(len(own)))
        assert count <= len(own) <= count + 1


@posix
def test_what_a_killed_process_left_of_a_row_is_set_aside(home):
    """The next row is whole, and the torn one is in the quarantine."""
    run(home, "inputs.collect(['w', 0, text]); os.kill(os.getpid(), signal.SIGKILL)", check=False)
    (file,) = files(home)
    with file.open("ab") as opened:
        opened.write(b'w,1,"torn\n')

    run(home, "inputs.collect(['w', 2, text])")

    assert [number for _, number in numbers(home)] == [0, 2]
    (torn,) = (home / "state" / "quarantine").iterdir()
    assert torn.read_bytes() == b'w,1,"torn\n'


def test_a_torn_header_is_written_again(home):
    """A process that was killed in its first moment leaves nothing that is in the way."""
    run(home, "inputs.collect(['w', 0, text])")
    (file,) = files(home)
    for path in (file, *(home / "state").rglob("*.end")):
        path.write_bytes(path.read_bytes()[:7] if path == file else b"")

    run(home, "inputs.collect(['w', 1, text])")

    assert numbers(home) == [("w", 1)]


def test_without_its_note_a_file_is_looked_through(home):
    """The note of where the last row ends is a help, not the truth."""
    run(home, "inputs.collect([['w', number, text] for number in range(50)])")
    for note in (home / "state").rglob("*.end"):
        note.unlink()

    run(home, "inputs.collect(['w', 50, text])")

    assert numbers(home) == [("w", number) for number in range(51)]


@posix
def test_a_full_disk_costs_one_warning_and_no_row(home):
    """A real limit on the size of files: what does not fit waits in memory, whole, until there is room."""
    ended = run(
        home,
        """
        import resource
        inputs.collect(["w", 0, text])
        from pathlib import Path
        (file,) = Path(os.environ["SCORETRACE_HOME"]).rglob("data.csv")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 700, resource.RLIM_INFINITY))
        for number in range(1, 30):
            inputs.collect(["w", number, text])
        full = inputs.stats()
        size = file.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert inputs.flush()
        whole = file.read_bytes()[:size].endswith(b"\\n")
        print(full["buffered"] > 20, full["lost"], inputs.stats()["buffered"], whole)
        """,
    )

    assert ended.stderr.count("cannot write collected data") == 1
    assert ended.stdout.split() == ["True", "{}", "0", "True"]
    assert numbers(home) == [("w", number) for number in range(30)]


@posix
def test_what_does_not_fit_in_memory_either_is_counted(home):
    """By rows, and nothing is raised."""
    ended = run(
        home,
        """
        import resource
        os.environ["SCORETRACE_BUFFER_BYTES"] = "2000"
        inputs = ModelDataCollector("m", "inputs", ["worker", "number", "text"])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        for number in range(30):
            inputs.collect([["w", number, text]] * 2)
        print(inputs.stats()["buffered"] + inputs.stats()["lost"]["disk"])
        """,
    )

    assert ended.stdout.split() == ["60"]


@posix
def test_forked_workers_append_to_the_same_file(home):
    """Each through a descriptor of its own, and a fork in the middle of it loses nothing."""
    run(
        home,
        """
        def work(name):
            for number in range(300):
                inputs.collect([name, number, text])
        thread = threading.Thread(target=work, args=("parent",))
        thread.start()
        children = []
        for child in range(4):
            pid = os.fork()
            if not pid:
                work(f"child{child}")
                os._exit(0)
            children.append(pid)
        thread.join()
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        """,
    )

    names = [*(f"child{child}" for child in range(4)), "parent"]
    assert numbers(home) == [(name, number) for name in names for number in range(300)]


@posix
def test_a_signal_handler_that_collects_neither_hangs_nor_loses(home):
    """It may run in the middle of any of our own lines."""
    ended = run(
        home,
        """
        import itertools
        handled = itertools.count()
        signal.signal(signal.SIGALRM, lambda *_: inputs.collect(["handler", next(handled), text]))
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        for number in range(3_000):
            inputs.collect(["loop", number, text])
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(next(handled))
        """,
    )

    count = int(ended.stdout)
    assert count > 10
    assert numbers(home) == [("handler", number) for number in range(count)] + [
        ("loop", number) for number in range(3_000)
    ]
    assert ended.stderr == ""


@posix
def test_a_worker_that_is_stopped_while_it_has_the_lock_stops_nobody(home, monkeypatch):
    """Another waits a moment, keeps its rows in memory, and writes them when it can."""
    monkeypatch.setattr("scoretrace.collect.sink.LOCK_SECONDS", 0.05)
    collector = ModelDataCollector("m", "inputs", ["worker", "number", "text"])
    collector.collect(["w", 0, 'a "b"\n,c'])
    name = files(home)[0].relative_to(home).as_posix()
    other = SharedFile(home, name, quoted=True)
    with other._held(1):
        collector.collect(["w", 1, 'a "b"\n,c'])
        assert collector.stats()["buffered"] == 1
    other.close()

    assert collector.flush()
    assert numbers(home) == [("w", 0), ("w", 1)]


def test_a_file_that_is_removed_is_begun_again(home):
    """Or its whole folder, while the process runs."""
    collector = ModelDataCollector("m", "inputs", ["worker", "number", "text"])
    collector.collect(["w", 0, 'a "b"\n,c'])
    files(home)[0].unlink()
    collector.collect(["w", 1, 'a "b"\n,c'])

    assert numbers(home) == [("w", 1)]


def test_reading_while_somebody_writes(home):
    """Whatever is between the beginning and what counts as whole is whole rows."""
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_write, args=(str(home),))
    worker.start()
    try:
        seen = 0
        while worker.is_alive():
            for file in files(home):
                end = whole(home, file.relative_to(home).as_posix(), quoted=True)
                body = parsed(file.read_bytes()[:end])
                assert all(len(row) == len(body[0]) for row in body)
                seen = max(seen, len(body))
    finally:
        worker.join()
    assert worker.exitcode == 0
    assert seen > 1


def _write(home):
    os.environ["SCORETRACE_HOME"] = home
    collector = ModelDataCollector("m", "inputs", ["worker", "number", "text"])
    for number in range(300):
        collector.collect([["w", number, 'a "b"\n,c']] * 50)


def test_every_row_of_the_old_contract_is_there(home):
    """One correlated row of each kind, as the files of a day show it."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a"]), ModelDataCollector("m", "predictions", ["y"])
    predictions.collect(predictions.add_correlations([2], inputs.collect([1])))

    assert rows(home)[0]["$aml_dc_correlation_id"] == rows(home, "predictions")[0]["$aml_dc_correlation_id"]


def test_one_file_that_cannot_be_written_keeps_no_other(home):
    """Rows of one collector wait; those of the others are on disk at once."""
    bad, good = ModelDataCollector("bad", "inputs"), ModelDataCollector("good", "inputs")
    bad.collect([0])
    place = files(home)[0]
    place.unlink()
    place.mkdir()
    bad._bound.sink.close()
    for number in range(3):
        bad.collect([number])
        good.collect([number])

    assert bad.stats()["buffered"] == 3
    (file,) = (path for path in files(home) if "/good/" in path.as_posix())
    assert len(parsed(file.read_bytes())) == 4
    place.rmdir()
    assert bad.flush()
    assert bad.stats()["buffered"] == 0
    assert len(parsed(place.read_bytes())) == 4


def test_a_thousand_sets_of_columns_are_enough(home, monkeypatch):
    """More are refused and counted, and keep nobody else's rows from being written."""
    monkeypatch.setattr("scoretrace.shared_file.MOST_FILES", 5)
    many, other = ModelDataCollector("many", "inputs"), ModelDataCollector("other", "inputs")
    for number in range(8):
        many.collect({f"key{number}": 1})
        other.collect([number])

    assert many.stats()["refused"] == {"columns": 3}
    (file,) = (path for path in files(home) if "/other/" in path.as_posix())
    assert len(parsed(file.read_bytes())) == 9
    assert many.stats()["lost"] == {}


@posix
def test_stats_and_collect_in_signal_handlers_and_threads(home):
    """None of them hangs or raises, also while the disk refuses."""
    ended = run(
        home,
        """
        import resource
        inputs.collect(["w", 0, text])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        signal.signal(signal.SIGALRM, lambda *_: (inputs.collect(["h", 1, text]), inputs.stats()))
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        def work():
            for number in range(500):
                inputs.collect(["t", number, text])
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        for _ in range(3_000):
            inputs.stats()
        for thread in threads: thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(inputs.stats()["refused"])
        """,
    )

    assert ended.stdout.split() == ["{}"]


def test_ids_of_rows_are_their_own_whatever_collects_at_the_time(home):
    """Numbers of rows are not mixed up by threads that collect batches of all sizes."""
    collector = ModelDataCollector("m", "inputs", ["n"])

    def work(seed):
        for size in random.Random(seed).choices(range(2, 30_000), k=6):
            collector.collect([[number] for number in range(size)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = rows(home)
    assert len({row["$aml_dc_correlation_id"] for row in found}) == len(found)
    assert all(row["$aml_dc_correlation_id"].endswith(f"_{row['n']}") for row in found)
