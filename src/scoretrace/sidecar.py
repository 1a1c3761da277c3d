"""
Deliver a home from a process of its own, so that scoring keeps the interpreter to itself.

`scoretrace export` is this, and `configure(exporter="none")` in the scoring
process leaves the delivery to it. Without `follow` it is also what delivers by
hand what a machine without a network left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from scoretrace.errors import SettingsError, SourceError
from scoretrace.exporters import routes
from scoretrace.exporters.drain import Drain
from scoretrace.exporters.segments import held
from scoretrace.exporters.worker import Worker
from scoretrace.journal import Journal
from scoretrace.overflow import overflow_of
from scoretrace.settings import Settings

_POLL_SECONDS = 0.1


class Exported(NamedTuple):
    """What a drain of a home came to; *busy* where another process delivers it, *waiting* is in bytes."""

    delivered: int
    undelivered: dict[str, int]
    copied: int
    waiting: int
    busy: bool


def export(
    settings: Settings,
    *,
    follow: bool = False,
    timeout: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    tick: Callable[[int], None] = lambda _delivered: None,
) -> Exported:
    """
    Deliver what waits in the home of *settings*, and with *follow* what comes after, until *stop* says so.

    Without *follow* it ends when nothing waits any more, or when nothing could
    be delivered for *timeout* seconds. *tick* is called now and then with the
    number of items that were delivered.

    Raises:
        SettingsError: the settings name no place to deliver to.
        SourceError: there is no such home.
        MissingExtraError: what an exporter needs is not installed.
    """
    if not settings.home.exists() and not follow:
        raise SourceError(f"there is no telemetry in {settings.home}: nothing to deliver")
    drains = routes.drains(settings, overflow_of(settings), gentle=False)
    if not drains:
        raise SettingsError(
            "there is nowhere to deliver to: set APPLICATIONINSIGHTS_CONNECTION_STRING, "
            "or storage with the exporter blob_export"
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    Journal(settings.home, settings.app_folder).recover()
    mine = drains if follow else [drain for drain in drains if drain.lead()]
    worker = Worker(mine)
    worker.start()
    last, moved_at = -1, time.monotonic()
    while not stop():
        moved = sum(drain.counts["delivered"] + drain.counts["bytes"] for drain in mine)
        tick(worker.stats()[0])
        if moved != last:
            last, moved_at = moved, time.monotonic()
        elif not follow and (time.monotonic() - moved_at > timeout or not _waits(mine)):
            break
        time.sleep(_POLL_SECONDS)
    worker.stop()
    delivered, undelivered = worker.stats()
    left = [(drain, segment) for drain in mine for segment in (*drain.waiting(), *held(drain.home, drain.name))]
    waiting = sum(segment.size - drain.cursor.at(segment.name) for drain, segment in left)
    copied = sum(drain.counts["bytes"] for drain in mine)
    return Exported(delivered, undelivered, copied, waiting, busy=len(mine) < len(drains))


def _waits(drains: list[Drain]) -> bool:
    try:
        return any(drain.waiting() or drain.holds for drain in drains)
    except OSError:  # a home that cannot be looked at now
        return True
