"""
Deliver a home from a process of its own, so that scoring keeps the interpreter to itself.

`scoretrace export` is this, and `configure(exporter="none")` in the scoring
process leaves the delivery to it. Without `follow` it is also what delivers by
hand what a machine without a network left behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from scoretrace import notes
from scoretrace.errors import SettingsError, SourceError
from scoretrace.exporters import routes
from scoretrace.exporters.drain import Drain
from scoretrace.exporters.worker import EXIT_SECONDS, Worker
from scoretrace.journal import Journal
from scoretrace.overflow import overflow_of
from scoretrace.settings import Settings

_POLL_SECONDS = 0.1


class Exported(NamedTuple):
    """
    What a drain of a home came to.

    *waiting* and *copied* are in bytes; *busy* where another process delivers
    it; *others* are telemetry folders with a key that is not the one delivered to.
    """

    delivered: int
    given_up: dict[str, int]
    copied: int
    waiting: int
    busy: bool
    others: int


def export(
    settings: Settings,
    *,
    follow: bool = False,
    timeout: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    tick: Callable[[int], None] = lambda _delivered: None,
    said: Callable[[str], None] = lambda _message: None,
) -> Exported:
    """
    Deliver what waits in the home of *settings*, and with *follow* what comes after, until *stop* says so.

    That is also what was logged without any key: the secret need not be where
    the script is. Without *follow* it ends when nothing waits any more, or when
    nothing could be delivered for *timeout* seconds. *tick* is called now and
    then with the number of items and bytes that were delivered, *said* with what there is
    to know at the start.

    Raises:
        SettingsError: the settings name no place to deliver to.
        SourceError: there is no such home.
        MissingExtraError: what an exporter needs is not installed.
    """
    if not settings.home.exists() and not follow:
        raise SourceError(f"there is no telemetry in {settings.home}: nothing to deliver")
    drains = routes.drains(settings, overflow_of(settings), gentle=False, keyless=True)
    drains += routes.collected(settings, gentle=False)
    if not drains:
        raise SettingsError(
            "there is nowhere to deliver to: set APPLICATIONINSIGHTS_CONNECTION_STRING for telemetry, "
            "or AZURE_STORAGE_CONNECTION_STRING for collected model data and the exporter blob_export"
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    Journal(settings.home, settings.app_folder).recover()
    mine = [drain for drain in drains if drain.lead()]
    busy = len(mine) < len(drains)
    if follow:
        where = ", ".join(drain.label for drain in drains)
        said(f"delivering {settings.home} through {where}; control-C stops it")
        if busy:
            said("another process delivers this home; this one takes over when that ends")
        mine = drains
    worker = Worker(mine)
    worker.start()
    last, moved_at, gave_up = -1, time.monotonic(), False
    while not stop():
        moved = sum(drain.counts["delivered"] + drain.counts["bytes"] for drain in mine)
        tick(moved)
        if moved != last:
            last, moved_at = moved, time.monotonic()
        elif not follow:
            gave_up = time.monotonic() - moved_at > timeout
            if gave_up or not _waits(mine):
                break
        time.sleep(_POLL_SECONDS)
    worker.stop(0.0 if gave_up else EXIT_SECONDS)
    if gave_up:
        said(f"nothing was accepted for {timeout:g} seconds")
    stats = worker.stats()
    if stats["given_up"]:
        note = notes.Note(os.getpid(), settings.service, has_ended=True, given_up=stats["given_up"])
        with suppress(OSError):
            notes.put(settings.home, f"export-{os.urandom(8).hex()}", note)
    waiting = sum(drain.waiting_bytes() for drain in drains)
    return Exported(stats["delivered"], stats["given_up"], stats["copied"], waiting, busy, _others(settings, drains))


def _waits(drains: list[Drain]) -> bool:
    try:
        return any(drain.waiting() or drain.holds for drain in drains)
    except OSError:  # a home that cannot be looked at now
        return True


def _others(settings: Settings, drains: list[Drain]) -> int:
    """How many telemetry folders no drain is there for."""
    with suppress(OSError):
        names = [path.name for path in (settings.home / "telemetry").iterdir()]
        return sum(not any(drain.cursor.covers(name) for drain in drains) for name in names)
    return 0
