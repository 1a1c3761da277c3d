"""Real records of others, where they are at hand: an extra that needs what is not in this repository."""

from pathlib import Path

import pytest

from scoretrace import ticks
from scoretrace.formats import continuous_export

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples" / "continuous-export"


@pytest.mark.skipif(not SAMPLES.exists(), reason="the folder of real samples is not beside this checkout")
def test_a_real_request_line_reads_back():
    """The documented sample of a request."""
    (item,) = continuous_export.decode((SAMPLES / "Requests" / "docs-request.blob").read_bytes().strip())

    assert (item.name, item.result_code, item.success, item.duration) == ("GET Home/Index", "200", True, 1_046_804)
    assert ticks.to_iso(item.timestamp) == "2016-03-21T10:05:45.7334717Z"
    assert item.operation_synthetic_source == ""
