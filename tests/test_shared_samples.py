"""Real records of others, where they are at hand: an extra that needs what is not in this repository."""

from pathlib import Path

import pytest

import scoretrace
from scoretrace import ticks
from scoretrace.formats import continuous_export
from scoretrace.schema import BY_WORKSPACE

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="the folder of real samples is not beside this checkout")


def test_a_real_request_line_reads_back():
    """The documented sample of a request."""
    line = (SAMPLES / "continuous-export" / "Requests" / "docs-request.blob").read_bytes().strip()
    (item,) = continuous_export.decode(line)

    assert (item.name, item.result_code, item.success, item.duration) == ("GET Home/Index", "200", True, 1_046_804)
    assert ticks.to_iso(item.timestamp) == "2016-03-21T10:05:45.7334717Z"
    assert item.operation_synthetic_source == ""


@pytest.mark.parametrize("table", sorted(path.name for path in SAMPLES.glob("diagnostic-eventhub/*")))
def test_real_records_are_read_whole(table, tmp_path):
    """As lines and as messages: the same rows, nothing set aside, nothing unparsed, no key unknown."""
    for kind in ("ndjson", "envelope.json"):
        for path in (SAMPLES / "diagnostic-eventhub" / table).glob(f"*.{kind}"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{path.stem}.json").write_bytes(path.read_bytes())

    lines, messages = (
        scoretrace.read_export(tmp_path / kind, quarantine=tmp_path / "q") for kind in ("ndjson", "envelope.json")
    )

    found = list(lines)
    assert found == list(messages) != []
    assert {type(item) for item in found} == {type(found[0])}
    assert all(item.unparsed == {} and item.timestamp for item in found)
    assert (lines.summary.set_aside, lines.summary.unknown) == (0, {})
    assert len(lines.df(BY_WORKSPACE[table].classic)) == len(found)
