"""When to try again after a failure: soon, then ever later, or when the other side said."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

FIRST_SECONDS, MOST_SECONDS = 0.5, 60.0
_LONGEST_WAIT = 3_600.0  # seconds that a Retry-After is followed for
_LEAST_SECONDS = 1.0  # where the other side names a time that is over: its clock may be another


class Backoff:
    """Counts *failures* in a row, and says with `pause` how long to wait."""

    def __init__(self) -> None:
        self.failures = 0
        self._not_before = float("-inf")
        self._was_asked = False

    def failed(self, retry_after: float | None = None) -> None:
        """Wait longer than the last time, or *retry_after* seconds if the other side asked for it."""
        self.failures += 1
        wait = min(FIRST_SECONDS * 2.0 ** min(self.failures - 1, 16), MOST_SECONDS)
        self._was_asked = bool(retry_after)
        if retry_after:
            wait = max(retry_after, min(wait, _LEAST_SECONDS))
        else:
            wait *= random.uniform(0.5, 1.0)  # noqa: S311 - not all of a fleet at the same moment
        self._not_before = time.monotonic() + wait

    def succeeded(self) -> None:
        """Begin anew."""
        self.failures = 0
        self._not_before = float("-inf")

    def hurry(self) -> None:
        """Do not wait for the next attempt, unless the other side asked for it."""
        if not self._was_asked:
            self._not_before = float("-inf")

    @property
    def pause(self) -> float:
        """How many seconds the next attempt is away."""
        return max(self._not_before - time.monotonic(), 0.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for: a number, or a date."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            import email.utils  # a fifth of what importing all of this costs, and seldom needed

            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None  # noqa: PLR0124 - not a number
