"""An item in a few words, for people who read rows one after the other."""

from __future__ import annotations

from scoretrace import ticks
from scoretrace.item import Dependency, ExceptionItem, Item, Request, Trace

PRINTS = {"STDOUT", "STDERR"}  # messages of traces whose text is in the custom dimension Contents


def printable(text: str) -> str:
    """*text* without what would steer a terminal; newlines and tabs stay."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def severity(item: Item) -> int | None:
    """0 (verbose) to 4 (critical); an error where a call failed, None where nothing was said of it."""
    if isinstance(item, (Request, Dependency)) and item.success is False:
        return 3
    return getattr(item, "severity_level", None)


def time(item: Item) -> str:
    """Its UTC time as ISO 8601 with milliseconds; nothing where it has none."""
    return f"{ticks.to_iso(item.timestamp)[:23]}Z" if item.timestamp is not None else ""


def summary(item: Item) -> str:
    """What it says: the text of a print or a log, an exception with its message, a call with its result."""
    if isinstance(item, Trace):
        text = item.custom_dimensions.get("Contents")
        return item.message if text is None or item.message not in PRINTS else text
    if isinstance(item, ExceptionItem):
        return f"{item.outer_type}: {item.outer_message}"
    if isinstance(item, (Request, Dependency)):
        milliseconds = (item.duration or 0) / ticks.MILLISECOND
        target = f" {item.target}" if isinstance(item, Dependency) else ""
        return f"{item.name}{target} {item.result_code} {milliseconds:.1f} ms"
    return str(getattr(item, "name", "") or getattr(item, "counter", ""))
