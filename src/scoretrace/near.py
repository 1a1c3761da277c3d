"""Which of the known names somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str:
    """
    The question whether one of *known* was meant; nothing where none is near.

    >>> near("requets", ["requests", "traces"])
    ': did you mean requests?'
    """
    by_case = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.6)
    return f": did you mean {by_case[found[0]]}?" if found else ""
