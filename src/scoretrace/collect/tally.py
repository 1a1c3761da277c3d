"""What a collector counts, and how it says that it refused something."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any

from scoretrace import forks
from scoretrace.errors import CollectionError

OnError = Callable[[CollectionError], object]

_log = logging.getLogger("scoretrace")


_refusals: Counter[str] = Counter()


def refusals() -> Counter[str]:
    """How many calls of all collectors of this process were refused, by reason."""
    return _refusals


class Tally:
    """Counts of the collector *whose*, in this process; *on_error* is told of each refusal."""

    def __init__(self, whose: str, on_error: OnError | None) -> None:
        self._whose = whose
        self._on_error = on_error
        self._begin()
        forks.tell(self)

    def after_fork(self) -> None:
        """Count from nothing: what happened before is in the parent's figures."""
        _refusals.clear()
        self._begin()

    def _begin(self) -> None:
        self._lock = RLock()  # reentrant: a signal handler may collect while its own thread is in here
        self._calls = self._rows = 0
        self._refused: Counter[str] = Counter()

    def collected(self, rows: int) -> None:
        """A call wrote *rows*."""
        with self._lock:
            self._calls += 1
            self._rows += rows

    def refused(self, error: CollectionError) -> None:
        """Count what was not collected, and say of whom and why: to `on_error`, or the first time aloud."""
        error.args = (f"{self._whose}: {error}",)
        with self._lock:
            self._calls += 1
            self._refused[error.reason] += 1
            _refusals[error.reason] += 1
            first = self._refused[error.reason] == 1
        if self._on_error is not None:
            self._on_error(error)
        elif first:
            with suppress(Exception):
                _log.warning("CollectionError: %s (further ones are only counted)", error)

    def stats(self) -> dict[str, Any]:
        """``calls``, ``rows``, and how many calls were ``refused``, by reason."""
        with self._lock:
            return {"calls": self._calls, "rows": self._rows, "refused": dict(self._refused)}
