"""Settings: where each comes from, and what a wrong one gets."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace import SettingsError
from scoretrace.settings import NO_KEY, SETTINGS, path_part, resolve


def test_an_argument_wins_over_the_environment_and_that_over_the_default():
    """In this order."""
    environment = {"SERVICE_NAME": "from the environment"}

    assert resolve({"service": "given"}, environment).service == "given"
    assert resolve({"service": None}, environment).service == "from the environment"
    assert resolve({}, {"SERVICE_NAME": "  "}).service == "default"


def test_the_first_name_in_the_environment_wins():
    """Names in use elsewhere come in a fixed order."""
    both = {"SERVICE_NAME": "azure", "OTEL_SERVICE_NAME": "otel"}

    assert resolve({}, both).service == "otel"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_a_default_a_name_in_the_environment_and_a_sentence(setting):
    """The table is complete."""
    assert setting.environment
    assert setting.help
    setting.read(setting.default)


def test_without_a_connection_string_the_key_is_zero():
    """Telemetry is local then."""
    assert resolve({}, {}).i_key == NO_KEY


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"level": "LOUD"}, "level is 'LOUD'"),
        ({"capture_print": "perhaps"}, "capture_print is 'perhaps'"),
        ({"keep_days": 0}, "keep_days is 0"),
        ({"keep_days": "long"}, "keep_days is 'long'"),
        ({"segment_bytes": -1}, "segment_bytes is -1"),
        ({"service": ""}, "service is ''"),
        ({"service": 7}, "service is 7"),
        ({"workspace": "a/b"}, "workspace is 'a/b'"),
        ({"home": 7}, "home is 7"),
        ({"hom": "x"}, "hom is not a setting"),
    ],
)
def test_a_setting_that_cannot_work_is_named(given, said):
    """By configure and by the handler, before anything is written."""
    for start in (scoretrace.configure, scoretrace.TelemetryHandler):
        with pytest.raises(SettingsError, match=said):
            start(**given)


def test_a_wrong_environment_is_named_by_its_own_name(monkeypatch):
    """The reader must find where it was set."""
    monkeypatch.setenv("SCORETRACE_LEVEL", "LOUD")

    with pytest.raises(SettingsError, match="SCORETRACE_LEVEL is 'LOUD'"):
        scoretrace.configure()


def test_home_is_where_the_process_was_started(tmp_path, monkeypatch):
    """A script that changes its working directory does not split its telemetry."""
    monkeypatch.chdir(tmp_path)
    settings = resolve({"home": "here"}, {})

    assert settings.home == Path(os.fspath(tmp_path)) / "here"


@given(text=st.text(max_size=300))
def test_a_folder_name_stays_in_its_folder(text):
    """Whatever a service is called."""
    part = path_part(text)

    assert part
    assert not set(part) & set('/\\\0:*?"<>|')
    assert part.strip(".")
    assert len(part) <= 128
