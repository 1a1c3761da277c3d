"""The switches of a service in its home folder are obeyed while it runs."""

import json
import logging
import subprocess
import sys
import time

import pytest

import scoretrace
from processes import until

LOG = logging.getLogger("score")


def switch(home, service="svc", **switches):
    """Write the file as whoever switches does."""
    path = home / "state" / "switches" / f"{service}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(switches))
    new.replace(path)


def test_off_and_on_again_within_two_seconds(telemetry, home, items):
    """Logs, prints, requests: nothing while it is off, everything when it is on."""

    def count():
        LOG.info("a log")
        print("a print")
        scoretrace.request(lambda: None)()
        return len(items())

    for _ in range(2):
        switch(home, enable_app_insights=False)
        assert until(lambda: count() == count())
        before = count()
        assert count() == before
        switch(home, enable_app_insights=True)
        assert until(lambda before=before: count() > before)
        after = count()
        assert count() == after + 3


def test_what_is_off_at_the_start_is_off(home, items):
    """From the first call on."""
    switch(home, enable_app_insights=False)
    with scoretrace.configure(home=home, service="svc", capture_print=False) as telemetry:
        LOG.info("one")
        assert telemetry.is_on() is False

    assert items() == []


def test_other_services_go_on(telemetry, home, items):
    """A switch is a service's own."""
    switch(home, "other", enable_app_insights=False)
    LOG.info("one")

    assert len(items()) == 1


def test_a_file_that_is_damaged_changes_nothing(telemetry, home, items, caplog):
    """And is said once."""
    path = home / "state" / "switches" / "svc.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert until(lambda: LOG.info("one") or str(path) in caplog.text)

    assert items()


def test_a_process_that_logs_all_the_time_obeys(home, items):
    """Its fast lane looks too, in a process of its own."""
    code = """
import logging, sys, time, scoretrace
scoretrace.configure(service="svc", capture_print=False)
log = logging.getLogger("score")
print("begun", flush=True)
for number in range(3_000):
    log.info("%d", number)
    time.sleep(0.01)
"""

    def stands_still():
        before = len(items())
        time.sleep(0.3)
        return len(items()) == before

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        assert until(lambda: len(items()) > 3)
        switch(home, enable_app_insights=False)
        assert until(stands_still)
        before = len(items())
        switch(home, enable_app_insights=True)
        assert until(lambda: len(items()) > before)
        process.kill()


@pytest.mark.parametrize("text", ["[]", '{"enable_app_insights": "no"}', "", '{"enabled": false}'])
def test_nonsense_leaves_it_on(telemetry, home, items, text):
    """A list, a text where a flag belongs, an empty file, a name that is none."""
    path = home / "state" / "switches" / "svc.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    time.sleep(0.6)
    LOG.info("one")

    assert [item.message for item in items() if item.message == "one"] == ["one"]


def test_two_seconds_by_the_clock(telemetry, home, items, monkeypatch):
    """Whatever is recorded two seconds after the file was written obeys it, in each lane."""
    LOG.info("on")
    switch(home, enable_app_insights=False)
    now = time.monotonic
    monkeypatch.setattr("scoretrace.switches.time.monotonic", lambda: now() + 0.9)
    for stream in (lambda: print("off"), scoretrace.request(lambda: None)):
        stream()
    record = LOG.makeRecord("score", logging.INFO, __file__, 1, "off", (), None)
    record.created += 1.1  # the fast lane looks once a second of the records
    LOG.handle(record)

    assert [item.message for item in items()] == ["on"]


def test_doctor_names_the_files_that_nobody_obeys(telemetry, home):
    """Cut in half, and named as no process looks for it."""
    folder = home / "state" / "switches"
    folder.mkdir(parents=True)
    (folder / "svc.json").write_text('{"enable_app')
    (folder / "bytes.json").write_bytes(b'{"x\xff": 1}')
    (folder / "Diabetes.json").write_text('{"enable_app_insights": false}')
    found = [finding.text for finding in scoretrace.doctor(home=home, service="svc") if finding.ok is False]

    assert any("svc.json is not understood" in text for text in found)
    assert any("bytes.json is not understood" in text for text in found)
    assert any("Diabetes.json is not read: its name has to be diabetes.json" in text for text in found)
    assert not any("switched off for" in text for text in found)
