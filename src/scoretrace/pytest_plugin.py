"""
The fixture `telemetry` for pytest: what a script logs, to assert on.

    def test_run(telemetry):
        score.run('{"data": [[1, 2]]}')
        assert telemetry.query("traces | where message == 'STDOUT'").rows

It is there wherever scoretrace and pytest are installed; nothing is imported
before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scoretrace.memory import Recorder


@pytest.fixture(name="telemetry")
def _telemetry() -> Iterator[Recorder]:
    """Telemetry in memory: `.items`, `.of(kind)`, `.query(kql)`, `.payload(item)`, `.collected()`, `.clear()`."""
    from scoretrace.memory import record

    with record() as recorder:
        yield recorder
