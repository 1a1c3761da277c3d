"""Segments, rotation, recovery, retention: what is on disk, and what becomes of it."""

import itertools
import logging
import os
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace import retention
from scoretrace.cursor import Cursor
from scoretrace.journal import Journal

LINE = b'{"message":[{"raw":"x"}]}\n'
NOW = 1_763_600_000.0  # 2025-11-20 00:53:20 UTC


@pytest.fixture(name="clock")
def _clock():
    """A clock that the test sets."""

    class Clock:
        now = NOW

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture(name="journal")
def _journal(home, clock):
    journal = Journal(home, "svc_" + "0" * 32, clock=clock)
    yield journal
    journal.close()


def segments(home):
    return sorted((home / "telemetry").glob("*/*/*/*/*.blob"))


def test_the_layout_is_that_of_the_continuous_export(telemetry, home):
    """It reads <app>_<ikey>/<Folder>/<yyyy-MM-dd>/<HH>/<guid>_<yyyyMMdd_HHmmss>.blob."""
    logging.getLogger("score").info("m")

    (segment,) = segments(home)
    name = segment.relative_to(home / "telemetry").as_posix()
    guid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    assert re.fullmatch(rf"svc_0{{32}}/Messages/\d{{4}}-\d\d-\d\d/\d\d/{guid}_\d{{8}}_\d{{6}}\.blob", name)


def test_the_key_of_the_connection_string_names_the_folder(home):
    """Without dashes, as the export does."""
    key = "12345678-90ab-cdef-1234-567890abcdef"
    with scoretrace.configure(home=home, service="My Svc", connection_string=f"InstrumentationKey={key}"):
        print("m")

    assert [path.name for path in (home / "telemetry").iterdir()] == [f"my_svc_{key.replace('-', '')}"]


def test_a_segment_ends_with_its_hour(journal, home, clock):
    """The next hour has a folder of its own."""
    writer = journal.writer("Messages")
    for moment in (NOW, NOW + 300, NOW + 3600):
        clock.now = moment
        writer.append(LINE, moment)

    assert [(path.parent.name, path.read_bytes()) for path in segments(home)] == [("00", LINE * 2), ("01", LINE)]


def test_a_segment_ends_when_it_is_full(home):
    """No segment is larger than it may be."""
    journal = Journal(home, "svc", segment_bytes=len(LINE) * 3, clock=lambda: NOW)
    writer = journal.writer("Messages")
    for _ in range(10):
        writer.append(LINE, NOW)
    journal.close()

    assert sorted(path.stat().st_size // len(LINE) for path in segments(home)) == [1, 3, 3, 3]


def test_a_clock_set_back_does_not_matter(journal, home, clock):
    """Lines go on into the segment that is open."""
    writer = journal.writer("Messages")
    writer.append(LINE, NOW)
    clock.now = NOW - 86_400
    writer.append(LINE, NOW - 86_400)

    assert [path.read_bytes() for path in segments(home)] == [LINE * 2]


@pytest.mark.parametrize("own_time", [0.0, NOW - 10**8, NOW + 10**8, 1e18, float("inf"), float("nan")])
def test_the_time_of_an_item_decides_nothing(home, own_time):
    """A record from the past or the future goes where the clock says, and retention keeps to the clock too."""
    journal = Journal(home, "svc", clock=lambda: NOW, keep_seconds=86_400)
    writer = journal.writer("Messages")
    for moment in (NOW, own_time, NOW):
        writer.append(LINE, moment)
    journal.close()

    assert [(path.parent.name, path.read_bytes()) for path in segments(home)] == [("00", LINE * 3)]


def test_a_home_that_is_removed_is_made_again(journal, home, clock):
    """Within a second, what follows is on disk again."""
    writer = journal.writer("Messages")
    writer.append(LINE, NOW)
    for later in (2, -7_200):  # and where the clock was set back, too
        shutil.rmtree(home)
        clock.now = NOW + later
        writer.append(LINE, clock.now)

    assert [path.read_bytes() for path in segments(home)] == [LINE]


def test_a_torn_last_line_is_set_aside_at_the_next_start(home):
    """What a dead process left unfinished goes to quarantine, and the rest stays."""
    dead = Journal(home, "svc", clock=lambda: NOW)
    dead.writer("Messages").append(LINE, NOW)
    (segment,) = segments(home)
    os.close(dead._marker)  # as the system does when a process dies
    dead._marker = -1
    with segment.open("ab") as file:
        file.write(b'{"message":[{"raw":"to')

    with scoretrace.configure(home=home) as telemetry:
        assert telemetry.stats()["set_aside"] == 1

    assert segment.read_bytes() == LINE
    assert [path.read_bytes() for path in (home / "state" / "quarantine").iterdir()] == [b'{"message":[{"raw":"to']


def test_a_living_process_is_not_recovered(journal, home):
    """An unfinished line of a process that lives is being written."""
    journal.writer("Messages").append(LINE, NOW)
    (segment,) = segments(home)
    with segment.open("ab") as file:
        file.write(b"half")

    assert Journal(home, "svc").recover() == 0
    assert segment.read_bytes() == LINE + b"half"


def test_a_home_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    """Items wait in memory, nothing raises, and they are written when the disk is back."""
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    with scoretrace.configure(home=home, capture_print=False) as telemetry:
        for index in range(50):
            logging.getLogger("score").info("%d", index)
        assert telemetry.stats()["buffered"] == 50
        assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["scoretrace"]

        (tmp_path / "file").unlink()
        assert telemetry.flush()
        assert telemetry.stats()["buffered"] == 0

    assert len(b"".join(path.read_bytes() for path in segments(home)).splitlines()) == 50


def test_what_does_not_fit_in_memory_is_counted(tmp_path):
    """The fallback is bounded, and says what it lost."""
    (tmp_path / "file").write_text("in the way")
    telemetry = scoretrace.configure(home=tmp_path / "file" / "home", capture_print=False, buffer_bytes=10_000)
    for _ in range(100):
        logging.getLogger("score").info("x" * 500)
    stats = telemetry.stats()
    telemetry.shutdown()

    assert 0 < stats["buffered"] < 100
    assert stats["buffered"] + stats["lost"]["disk"] == stats["items"] == 100
    assert telemetry.stats()["lost"]["disk"] == 100


def test_a_payload_that_cannot_be_stored_leaves_the_row_whole(telemetry, home, items):
    """Nothing is cut whose original is not kept."""
    (home / "modeldata").parent.mkdir(parents=True, exist_ok=True)
    (home / "modeldata").write_text("in the way")
    logging.getLogger("score").info("x" * 100_000)

    assert [item.message for item in items("trace")] == ["x" * 100_000]
    assert telemetry.stats()["not_diverted"] == 1


def test_a_disk_that_never_takes_anything_is_not_said_to_be_well(tmp_path, caplog):
    """Lines that were lost at the end do not show that it can be written again."""
    (tmp_path / "file").touch()
    telemetry = scoretrace.configure(home=tmp_path / "file" / "home", capture_print=False)
    scoretrace.log(number=1)
    telemetry.shutdown()
    telemetry.flush(0.1)

    assert "cannot be written" in caplog.text or "cannot write" in caplog.text
    assert "can be written again" not in caplog.text


def test_a_sink_that_fails_is_counted(telemetry, monkeypatch):
    """An error of ours is counted, said once, and not the caller's."""

    def broken(item, put):
        raise ZeroDivisionError

    monkeypatch.setattr("scoretrace.telemetry.guard", broken)
    scoretrace.log(number=1)
    scoretrace.log(number=2)

    assert telemetry.stats()["lost"] == {"error": 2}


def _write(home, day, hour, *, age, size=1, name="a"):
    path = home / "telemetry" / "svc" / "Messages" / day / hour / f"{name}.blob"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(LINE * size)
    os.utime(path, (NOW - age, NOW - age))
    return path


def sweep(home, *, seconds=float("inf"), size=float("inf")):
    return {path.name for path in retention.sweep(home, now=NOW, keep_seconds=seconds, keep_bytes=size)}


def test_retention_removes_what_is_too_old(home):
    """And the folders that are empty then."""
    old, new = _write(home, "2025-10-01", "00", age=50 * 86_400), _write(home, "2025-11-19", "00", age=86_400)
    sweep(home, seconds=30 * 86_400)

    assert (old.exists(), new.exists(), old.parent.exists()) == (False, True, False)


def test_retention_removes_the_oldest_of_too_much(home):
    """Until what is left fits."""
    for age in (1, 2, 3):
        _write(home, f"2025-11-1{9 - age}", "00", age=age * 86_400, name=str(age))

    assert sweep(home, size=len(LINE) * 2) == {"3.blob"}


def test_retention_never_removes_what_is_not_delivered(home):
    """Whatever the limits say: an exporter that has a cursor has not come that far."""
    delivered, half, unknown = (
        _write(home, "2025-10-01", "00", age=50 * 86_400, size=2, name=name)
        for name in ("delivered", "half", "unknown")
    )
    cursor = Cursor(home, "azure_monitor")
    cursor.advance("svc/Messages/2025-10-01/00/delivered.blob", delivered.stat().st_size)
    cursor.advance("svc/Messages/2025-10-01/00/half.blob", len(LINE))
    cursor.save()

    assert sweep(home, seconds=1, size=1) == {"delivered.blob"}
    assert half.exists()
    assert unknown.exists()


def test_retention_never_removes_what_is_being_written(journal, home):
    """The newest segment of a living process stays, however old the clock says it is."""
    journal.writer("Messages").append(LINE, NOW)
    (segment,) = segments(home)
    os.utime(segment, (0, 0))

    assert sweep(home, seconds=1) == set()


def test_payloads_count_for_the_size_of_a_home(home):
    """They are most of it, and go with the rows that point at them."""
    for day in ("2025-10-01", "2025-10-03"):
        _write(home, day, "00", age=50 * 86_400, name=day)
        payload = home / "modeldata/default/default/default/svc/m/1/overflow" / day.replace("-", "/") / f"{day}.json"
        payload.parent.mkdir(parents=True)
        payload.write_bytes(b"x" * 1_000)

    assert sweep(home, size=1_500) == {"2025-10-01.blob", "2025-10-01.json"}


def test_a_payload_of_the_day_before_its_row_stays(home):
    """It is stored first, and midnight may lie between."""
    _write(home, "2025-10-02", "00", age=1)
    payload = home / "modeldata/default/default/default/svc/m/1/overflow/2025/10/01/abc.json"
    payload.parent.mkdir(parents=True)
    payload.write_bytes(b"x" * 1_000)
    Cursor(home, "azure_monitor").save()

    assert sweep(home, size=1) == set()


def test_payloads_go_after_their_rows(home):
    """No row points at nothing."""
    segment = _write(home, "2025-10-01", "00", age=50 * 86_400)
    payload = home / "modeldata/default/default/default/svc/m/1/overflow/2025/10/01/abc.json"
    payload.parent.mkdir(parents=True)
    payload.write_bytes(b"{}")
    os.utime(payload, (NOW - 50 * 86_400,) * 2)
    Cursor(home, "azure_monitor").save()

    assert sweep(home, seconds=86_400) == set()
    for path in home.glob("state/*/azure_monitor.json"):
        path.unlink()
    assert sweep(home, seconds=86_400) == {segment.name, payload.name}


def test_what_was_set_aside_goes_with_its_time(home):
    """As long as telemetry is kept, and no longer."""
    quarantine = home / "state" / "quarantine"
    quarantine.mkdir(parents=True)
    for name, age in (("old.torn", 50 * 86_400), ("new.ndjson", 10)):
        (quarantine / name).write_text("{}")
        os.utime(quarantine / name, (NOW - age,) * 2)
    sweep(home, seconds=86_400)

    assert [path.name for path in quarantine.iterdir()] == ["new.ndjson"]


def test_retention_runs_by_itself(home):
    """A start removes what is past its keeping."""
    old = _write(home, "2025-10-01", "00", age=50 * 86_400)
    with scoretrace.configure(home=home):
        pass

    assert not old.exists()


def test_a_cursor_remembers(home):
    """Offsets survive the process that saved them; those of segments that are gone do not pile up."""
    segment = _write(home, "2025-11-19", "00", age=0)
    name = segment.relative_to(home / "telemetry").as_posix()
    cursor = Cursor(home, "azure_monitor")
    cursor.advance(name, 17)
    cursor.advance("gone.blob", 3)
    cursor.settle({name})
    cursor.advance("fresh.blob", 5)
    cursor.save()

    again = Cursor(home, "azure_monitor")
    assert [again.at(segment) for segment in (name, "gone.blob", "fresh.blob")] == [17, 0, 5]


@given(damaged=st.sampled_from(["cursors", "spare"]), part=st.floats(0, 0.99))
def test_a_cursor_file_that_was_cut_costs_nothing(tmp_path_factory, damaged, part):
    """There are two of them, and either is enough."""
    home = tmp_path_factory.mktemp("cut")
    cursor = Cursor(home, "azure_monitor", "abc")
    cursor.advance("svc_abc/Messages/2025-10-01/00/a.blob", 170)
    cursor.save()
    path = home / "state" / damaged / "azure_monitor.json"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    again = Cursor(home, "azure_monitor")
    assert again.at("svc_abc/Messages/2025-10-01/00/a.blob") == 170
    assert again.covers("svc_abc/Messages/2025-10-01/00/a.blob")
    assert not again.covers("svc_def/Messages/2025-10-01/00/a.blob")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[]", b'{"a":"b"}', b"\xff"])
def test_a_broken_cursor_says_nothing(home, content):
    """What it does not say is delivered again rather than not at all."""
    for place in ("cursors", "spare"):
        path = home / "state" / place / "azure_monitor.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

    assert Cursor(home, "azure_monitor").at("a.blob") == 0


def test_rows_logged_after_shutdown_are_still_written(home, items):
    """A handler that is still attached somewhere loses nothing."""
    handler = scoretrace.TelemetryHandler(home=home)
    logger = logging.getLogger("late")
    logger.handlers = [handler]
    logger.warning("before")
    handler.telemetry.shutdown()
    logger.warning("after")
    logger.handlers.clear()
    handler.telemetry.journal.close()

    assert [item.message for item in items("trace")] == ["before", "after"]


def test_nothing_is_lost_between_hours_and_threads(home):
    """Many threads over a rotation: every line is there, whole."""
    import threading

    hours = itertools.count()
    journal = Journal(home, "svc", segment_bytes=10_000, clock=lambda: NOW + next(hours) * 600)
    writer = journal.writer("Messages")

    def write(start):
        for index in range(2_000):
            writer.append(b'{"message":[{"raw":"%d"}]}\n' % (start + index), NOW + index)

    threads = [threading.Thread(target=write, args=(number * 2_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()

    lines = b"".join(path.read_bytes() for path in segments(home)).splitlines()
    assert sorted(int(line.split(b'"')[5]) for line in lines) == list(range(8_000))
