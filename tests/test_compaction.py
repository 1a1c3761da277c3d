"""Closed hours as Parquet beside their blobs: built once, used without being asked, never wrong."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from exported import blob, message, pt1h, put, record


def count(source):
    """How many traces a query finds, and which messages."""
    found = scoretrace.query("traces | project message", source=source).rows
    return sorted(message for (message,) in found)


def parquet(root):
    return sorted(root.rglob("*.parquet"))


@pytest.fixture
def archive(tmp_path):
    """Three hours of a continuous export, and two of a diagnostic setting."""
    for hour in ("10", "11", "12"):
        put(tmp_path, blob(hour=hour), message(int(hour)))
    put(tmp_path, pt1h(), record(Message="a"))
    put(tmp_path, pt1h(hour="12"), record(Message="b"))
    return tmp_path


def test_closed_hours_become_parquet_and_the_newest_does_not(archive):
    """Beside the blobs; the answers stay."""
    before = count(archive)

    result = scoretrace.compact(archive)

    assert (result.hours, result.kept) == (3, 0)
    assert len(parquet(archive)) == 3
    assert not any("/12/" in path.as_posix() or "h=12" in path.as_posix() for path in parquet(archive))
    assert count(archive) == before == ["a", "b", "message 10", "message 11", "message 12"]


def test_what_is_there_is_kept(archive):
    """It is built once."""
    scoretrace.compact(archive)
    first = {path: path.stat().st_mtime_ns for path in parquet(archive)}

    assert scoretrace.compact(archive)[:4:3] == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in parquet(archive)} == first


def test_queries_read_the_parquet(archive):
    """Without being asked: blobs that it stands for are not opened."""
    scoretrace.compact(archive)
    for path in archive.rglob("*.blob"):
        if "/12/" not in path.as_posix():
            times = path.stat()
            path.write_bytes(b"x" * times.st_size)
            import os

            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert count(archive) == ["a", "b", "message 10", "message 11", "message 12"]


@pytest.mark.parametrize("change", ["grown", "added", "removed"])
def test_an_hour_that_changed_is_read_from_its_blobs(archive, change):
    """And compacted anew when asked."""
    scoretrace.compact(archive)
    path = archive / blob(hour="10")
    if change == "grown":
        path.write_bytes(path.read_bytes() + message(100))
    elif change == "added":
        put(archive, blob(hour="10", name="late"), message(100))
    else:
        path.unlink()
    expected = {"a", "b", "message 11", "message 12"}
    expected |= set() if change == "removed" else {"message 10", "message 100"}

    assert set(count(archive)) == expected
    result = scoretrace.compact(archive)
    assert result.dropped == (change != "removed")
    assert set(count(archive)) == expected


def test_dropping_leaves_the_blobs(archive):
    """They can be made again."""
    scoretrace.compact(archive)

    assert scoretrace.compact(archive, drop=True).dropped == 3
    assert parquet(archive) == []
    assert len(count(archive)) == 5
    assert scoretrace.compact(archive).hours == 3


def test_an_hour_with_lines_that_cannot_be_read_stays_blobs(archive):
    """They are to be said each time."""
    put(archive, blob(hour="10"), message(10), b"oops\n")

    result = scoretrace.compact(archive)

    assert (result.hours, result.left) == (2, 1)
    assert sum(scoretrace.query("traces", source=archive).unreadable.values()) == 1


def test_a_compaction_that_is_killed_leaves_nothing_wrong(tmp_path):
    """At any moment; the next one cleans up."""
    for hour in range(24):
        put(tmp_path, blob(hour=f"{hour:02d}"), *(message(hour * 1_000 + row) for row in range(500)))
    code = f"import scoretrace; scoretrace.compact({str(tmp_path)!r})"
    expected = count(tmp_path)
    for attempt in range(5):
        process = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 10
        while len(parquet(tmp_path)) <= attempt * 3 and process.poll() is None and time.monotonic() < deadline:
            pass
        process.kill()
        process.wait()
        assert count(tmp_path) == expected

    scoretrace.compact(tmp_path)

    assert len(parquet(tmp_path)) == 23
    assert not list(tmp_path.rglob("*.compacting"))
    assert count(tmp_path) == expected


def test_all_columns_come_back_from_parquet(archive):
    """To the last 100 ns, and what could not be parsed."""
    put(archive, blob(hour="10", name="odd"), message(50, first={"count": "many"}))
    columns = 'epoch_ns(timestamp), customDimensions, "itemCount", unparsed, "iKey", message'

    def rows():
        return sorted(scoretrace.read_export(archive).relation("traces").project(columns).fetchall(), key=str)

    before = rows()
    assert scoretrace.compact(archive).hours == 3
    assert rows() == before


def test_what_retention_removes_is_not_kept_in_parquet(telemetry, home):
    """An hour goes whole."""
    from scoretrace.retention import sweep

    path = put(home / "telemetry", blob(), message(1))
    put(home / "telemetry", blob(hour="12"), message(2))
    scoretrace.compact(home)
    assert len(parquet(home)) == 1

    sweep(home, now=time.time() + 10**7, keep_seconds=1, keep_bytes=1e18)

    assert not path.exists()
    assert parquet(home) == []


@settings(max_examples=20, deadline=None)
@given(hours=st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=2, max_size=4))
def test_compacted_or_not_a_query_answers_the_same(tmp_path_factory, hours):
    """Whatever the hours hold."""
    root = tmp_path_factory.mktemp("any")
    for hour, numbers in enumerate(hours):
        put(root, blob(hour=f"{hour:02d}"), *map(message, numbers))
    before = count(root)

    scoretrace.compact(root)

    assert count(root) == before
