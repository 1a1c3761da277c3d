"""`scoretrace doctor` finds what keeps telemetry from arriving, and says how it is mended."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner

import scoretrace
from scoretrace.cli import cli

LOG = logging.getLogger("score")
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def said(findings, topic, *, ok=...):
    return " / ".join(one.text for one in findings if one.topic == topic and (ok is ... or one.ok is ok))


def test_a_home_in_which_all_is_well(telemetry):
    """Nothing does not work; what there is, is counted."""
    LOG.info("one")
    print("x" * 100_000)
    findings = scoretrace.doctor()

    assert not [one for one in findings if one.ok is False]
    assert "2 on disk, 1 of them diverted" in said(findings, "rows")
    assert "tapped by scoretrace, Python's own behind it" in said(findings, "print")
    assert f"in process {os.getpid()} (svc): tapped by scoretrace" in said(findings, "print")
    assert "can be written" in said(findings, "home", ok=True)
    assert "no connection string" in said(findings, "endpoint", ok=None)


def test_where_each_setting_comes_from(monkeypatch, endpoint):
    """The argument, a name of the environment, or the default; secrets are masked."""
    monkeypatch.setenv("SERVICE_NAME", "svc")
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", endpoint.connection_string)
    findings = scoretrace.doctor(level="WARNING")

    text = said(findings, "settings")
    assert "service = svc  (SERVICE_NAME)" in text
    assert "level = WARNING  (argument)" in text
    assert "keep_days = 30.0  (default)" in text
    assert "connection_string = ***  (APPLICATIONINSIGHTS_CONNECTION_STRING)" in text
    assert "12345678" not in str(findings)


def test_settings_that_cannot_work(monkeypatch):
    """All of them are said, each once."""
    monkeypatch.setenv("SCORETRACE_LEVEL", "LOUD")
    monkeypatch.setenv("SCORETRACE_KEEP_DAYS", "-1")
    text = said(scoretrace.doctor(), "settings", ok=False)

    assert text.count("SCORETRACE_LEVEL is 'LOUD'") == text.count("SCORETRACE_KEEP_DAYS is '-1'") == 1


def test_settings_are_shown_as_they_were_written(monkeypatch):
    """And names that look like ours, and are not, are said."""
    monkeypatch.setenv("SCORETRACE_SAMPLING_PERCENTAGE", "trace=50,request=33.3")
    monkeypatch.setenv("SCORETRACE_HOMR", "x")
    monkeypatch.setenv("SCORETRACE_PROCESSORS", "antigravity_that_is_not_there:f")
    findings = scoretrace.doctor()

    assert "sampling_percentage = trace=50,request=33.3  (SCORETRACE_SAMPLING_PERCENTAGE)" in said(findings, "settings")
    assert "SCORETRACE_HOMR is no name of a setting: did you mean SCORETRACE_HOME?" in said(
        findings, "settings", ok=False
    )
    assert "cannot be loaded" in said(findings, "settings", ok=False)


def test_an_endpoint_that_answers_and_one_that_does_not(endpoint):
    """It is asked with a batch of nothing."""
    findings = scoretrace.doctor(connection_string=endpoint.connection_string)
    assert "answers" in said(findings, "endpoint", ok=True)
    assert endpoint.envelopes == []

    endpoint.always = 403
    assert "HTTP 403" in said(scoretrace.doctor(connection_string=endpoint.connection_string), "endpoint", ok=False)
    nobody = "InstrumentationKey=12345678-90ab-cdef-1234-567890abcdef;IngestionEndpoint=http://127.0.0.1:1/"
    assert "refused" in said(scoretrace.doctor(connection_string=nobody), "endpoint", ok=False)


def test_a_storage_that_answers_and_one_that_does_not(azurite):
    """Without a word of its key."""
    assert "can be written" in said(scoretrace.doctor(storage=azurite), "storage", ok=True)
    wrong = azurite.replace(AZURITE_KEY, "d3Jvbmc=")
    findings = scoretrace.doctor(storage=wrong)

    assert said(findings, "storage", ok=False)
    assert "d3Jvbmc=" not in str(findings)


def test_a_home_that_cannot_be_written(tmp_path):
    """A file stands in its place."""
    (tmp_path / "file").touch()

    assert "cannot be written" in said(scoretrace.doctor(home=tmp_path / "file"), "home", ok=False)


def test_it_leaves_nothing_behind(tmp_path):
    """Looking at a home that is not there does not make it, nor any folder above it."""
    scoretrace.doctor(home=tmp_path / "new" / "deep" / "home")

    assert list(tmp_path.iterdir()) == []


def test_both_switches_on_say_that_each_row_arrives_twice(monkeypatch):
    """The server's own and ours."""
    monkeypatch.setenv("AML_APP_INSIGHTS_ENABLED", "true")
    monkeypatch.setenv("AML_APP_INSIGHTS_KEY", "12345678-90ab-cdef-1234-567890abcdef")
    findings = scoretrace.doctor(exporter="none")

    assert "each row would arrive twice" in said(findings, "scoring server", ok=False)


def test_a_service_that_is_switched_off(home):
    """The file that says so is named."""
    path = home / "state" / "switches" / "svc.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"enable_app_insights": false}')

    assert str(path) in said(scoretrace.doctor(), "home", ok=False)


def test_what_was_refused_and_why(start, endpoint):
    """With the service's own words, from whichever process."""
    endpoint.always = (400, {}, {"itemsReceived": 1, "itemsAccepted": 0,
                                 "errors": [{"index": 0, "statusCode": 400, "message": "no such field"}]})  # fmt: skip
    telemetry = start()
    LOG.info("one")
    telemetry.flush(10)
    telemetry.shutdown()

    assert "1 refused by the service: HTTP 400: no such field" in said(scoretrace.doctor(), "rows", ok=False)


def test_what_a_killed_process_lost_is_known_after_it(home, tmp_path):
    """A payload that could not be stored, and a processor that failed, in a process that SIGKILL ended."""
    code = """
import logging, os, signal, time, scoretrace
def broken(item):
    raise ValueError("no")
telemetry = scoretrace.configure(service="svc", processors=[broken])
os.makedirs(os.environ["SCORETRACE_HOME"], exist_ok=True)
open(os.path.join(os.environ["SCORETRACE_HOME"], "modeldata"), "w").close()
logging.getLogger("score").info("x" * 100_000)
time.sleep(1.1)
logging.getLogger("score").info("one")
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr

    text = said(scoretrace.doctor(), "rows", ok=False)
    assert "1 too large, and kept whole because the original could not be stored" in text
    assert "went on unchanged because a processor failed" in text


def test_a_process_that_ended_well_leaves_no_note(home):
    """Whoever runs a script a thousand times has no thousand files."""
    subprocess.run([sys.executable, "-c", "import scoretrace; scoretrace.configure(); print(1)"], check=True)

    assert list((home / "state" / "processes").glob("*")) == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_says_it_and_its_exit_code_too(home, monkeypatch, options):
    """0 where everything works, 1 where something does not; as lines or as JSON."""
    fine = CliRunner().invoke(cli, ["doctor", *options])
    monkeypatch.setenv("SCORETRACE_LEVEL", "LOUD")
    wrong = CliRunner().invoke(cli, ["doctor", *options])

    assert (fine.exit_code, wrong.exit_code) == (0, 1)
    assert "SCORETRACE_LEVEL is 'LOUD'" in wrong.stdout
    if options:
        assert {json.loads(line)["topic"] for line in fine.stdout.splitlines()} >= {"settings", "print", "home", "rows"}


def test_collected_data_that_waits(home, monkeypatch, azurite):
    """How much there is, how much of it is not in storage, and whether anything is collected at all."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    monkeypatch.setenv("SCORETRACE_EXPORTER", "none")
    scoretrace.ModelDataCollector("m", "inputs", ["a"]).collect([1])
    size = next((home / "modeldata").rglob("data.csv")).stat().st_size

    assert said(scoretrace.doctor(), "model data") == f"1 files with {size} bytes / {size} bytes wait to be delivered"
    monkeypatch.setenv("AML_MODEL_DC_STORAGE_ENABLED", "false")
    assert "nothing is collected" in said(scoretrace.doctor(), "model data", ok=False)


def test_both_accounts_are_looked_at(monkeypatch, azurite):
    """That for payloads, and that for collected data."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    monkeypatch.setenv("AML_MODEL_DC_STORAGE", re.sub(r":\d+/", ":1/", azurite))
    found = scoretrace.doctor()

    assert "can be written" in said(found, "storage", ok=True)
    assert "does not answer as it should" in said(found, "storage", ok=False)


def test_what_collectors_refused_and_lost_is_known_after_them(home):
    """By the note that a process leaves at its end."""
    code = """
        from scoretrace import ModelDataCollector
        collector = ModelDataCollector("m", "inputs", ["a", "b"])
        for data in ([1, 2], [1, 2, 3], b"raw", b"raw"):
            collector.collect(data)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, stderr=subprocess.DEVNULL)

    found = said(scoretrace.doctor(), "model data", ok=False)
    assert found == "1 calls of collect refused feature_names / 2 calls of collect refused media"
