"""What every test gets: an environment without settings of ours, and telemetry in a folder of its own."""

import logging

import pytest

import scoretrace
from scoretrace import read
from scoretrace import telemetry as joined
from scoretrace.formats import continuous_export
from scoretrace.settings import SETTINGS


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for setting in SETTINGS:
        for name in setting.environment:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCORETRACE_HOME", str(tmp_path / "home"))
    before = logging.getLogger().level
    yield
    for telemetry in list(joined._known.values()):
        telemetry.shutdown()
    logging.getLogger().setLevel(before)


@pytest.fixture(name="home")
def _home(tmp_path):
    return tmp_path / "home"


@pytest.fixture(name="telemetry")
def _telemetry(home):
    with scoretrace.configure(home=home, service="svc", instance="test") as telemetry:
        yield telemetry


@pytest.fixture(name="items")
def _items(home):
    """Read back what is on disk now: all items, or those of one kind, in the order in which they were written."""

    def items(kind=None):
        found = [
            item
            for blob in read.find(home, None if kind is None else [kind])
            for _, line in read.lines(blob.path)
            for item in continuous_export.decode(line)
        ]
        return sorted(found, key=lambda item: item.item_id)

    return items


@pytest.fixture
def endpoint():
    """A loopback ingestion endpoint, which can be told to fail."""
    from ingestion import Endpoint

    server = Endpoint()
    yield server
    server.close()
