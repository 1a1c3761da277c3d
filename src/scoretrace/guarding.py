"""
Our guard in front of somebody else's exporter.

What they send is cut without a word, or refused: Azure's OpenTelemetry exporter
cuts, opencensus-ext-azure does not even look. Both escape everything that is
not ASCII, so that a character takes up to twelve bytes of the 65,536.
"""

from __future__ import annotations

import json
import logging
from typing import Any, TypeVar

import msgspec

from scoretrace.capture.values import as_text
from scoretrace.errors import SettingsError
from scoretrace.formats import breeze
from scoretrace.item import Item
from scoretrace.limits import LIMIT, MARGIN
from scoretrace.limits import guard as within_limits
from scoretrace.overflow import Overflow, overflow_of
from scoretrace.settings import resolve

Handler = TypeVar("Handler", bound=logging.Handler)

_ROOM = LIMIT - 4 * MARGIN  # they add tags of their own
_TRIES = 8
_MOST_WAITING = 1_000

_log = logging.getLogger("scoretrace")


class Guard:
    """Replaces items that are too large by their stand-ins, and stores the originals of *overflow*."""

    def __init__(self, overflow: Overflow) -> None:
        self.overflow = overflow
        self.failures = 0
        self._waiting: dict[str, None] = {}  # originals that storage did not take; they come again with later items

    def __call__(self, item: Item) -> Item:
        """*item*, or what fits in its place even when each character is escaped. Raises OSError."""
        limit, whole = LIMIT, item
        for _ in range(_TRIES):
            item = within_limits(whole, self.overflow.put, limit=limit)
            size = len(json.dumps(msgspec.json.decode(breeze.encode(item))))
            if size <= _ROOM:
                break
            limit = int(limit * min(_ROOM / size, 0.9))
        if item is not whole:
            self._waiting.update(dict.fromkeys(self.overflow.named_in(breeze.encode(item))))
        if self._waiting and not self.overflow.store(self._waiting):
            self._waiting.clear()
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        return item

    def failed(self, error: Exception) -> None:
        """Count an item that could not be looked at, and say so the first time. Never raises."""
        self.failures += 1
        if self.failures == 1:
            _log.warning("an item goes out as it is, unguarded: %s (further ones are only counted)", as_text(error))


def new_guard(settings: dict[str, Any]) -> Guard:
    """The guard of *settings*: those of `configure`."""
    return Guard(overflow_of(resolve({"exporter": "none", **settings}), uploads=True))


def guard(handler: Handler, **settings: Any) -> Handler:
    """
    Guard what a handler of opencensus-ext-azure sends, and return it.

        logger.addHandler(scoretrace.guard(AzureLogHandler()))

    What is too large for Application Insights is stored below the home, and in
    storage where that is configured, before its stand-in goes out; the original
    is in the file that its `payload_uri` names. It happens in the handler's own
    thread. *settings* are those of `configure`.

    Raises:
        SettingsError: *handler* takes no telemetry processors, or a setting cannot work.
    """
    add = getattr(handler, "add_telemetry_processor", None)
    if add is None:
        raise SettingsError(
            f"{type(handler).__name__} takes no telemetry processors: give a handler of opencensus-ext-azure"
        )
    guarded = new_guard(settings)

    def process(envelope: Any) -> bool:
        try:
            data = envelope["data"]
            text = msgspec.json.encode(envelope, enc_hook=as_text)
            (item,) = breeze.decode(text)
            fit = guarded(item)
            if fit is not item:
                base = msgspec.json.decode(breeze.encode(fit))["data"]["baseData"]
                data["baseData"].clear()
                data["baseData"].update(base)
        except Exception as error:  # noqa: BLE001 - telemetry must not break the one that sends it
            guarded.failed(error)
        return True

    add(process)
    return handler
