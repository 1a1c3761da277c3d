"""
Times and durations in ticks of 100 ns, the unit Application Insights stores.

Python's datetime stops at microseconds, so a time that went through it would
come back changed. An int of ticks does not: times count from 1970-01-01 UTC
(years 1 to 9999), durations from zero.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from scoretrace.errors import FormatError

SECOND = 10_000_000  # ticks
MILLISECOND = 10_000

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose: every time here is UTC
_FIRST = datetime(1, 1, 1)  # noqa: DTZ001
NULL_TIME = int((_FIRST - _EPOCH).total_seconds()) * SECOND  # 0001-01-01, how the exports write "no time"

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?\s*(Z|[+-]\d\d:?\d\d)?")
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d\d):(\d\d)(?:\.(\d+))?")


def now() -> int:
    """The time now, in ticks."""
    return time.time_ns() // 100


def to_iso(ticks: int) -> str:
    """
    The ISO 8601 text of a time, always with seven digits and a Z.

    >>> to_iso(17_000_000_001_234_567)
    '2023-11-14T22:13:20.1234567Z'
    """
    seconds, fraction = divmod(ticks, SECOND)
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()}.{fraction:07d}Z"


def from_iso(text: str) -> int:
    """
    The ticks of an ISO 8601 time; digits beyond the seventh are dropped, no zone means UTC.

    >>> from_iso("1970-01-01T00:00:00.0000001Z")
    1

    Raises:
        FormatError: *text* is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise FormatError(f"not an ISO 8601 time: {text!r:.80}")
    day, clock, fraction, zone = match.groups()
    try:
        seconds = int((datetime.fromisoformat(f"{day}T{clock}") - _EPOCH).total_seconds())
    except ValueError as error:
        raise FormatError(f"not an ISO 8601 time: {text!r:.80}") from error
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * SECOND + int((fraction or "")[:7].ljust(7, "0"))


def to_timespan(ticks: int) -> str:
    """
    A duration as the ingestion service reads it: ``d.hh:mm:ss.fffffff``.

    >>> to_timespan(SECOND * 90_061 + 5)
    '1.01:01:01.0000005'
    """
    seconds, fraction = divmod(ticks, SECOND)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}.{hour:02d}:{minute:02d}:{second:02d}.{fraction:07d}"


def from_timespan(text: str) -> int:
    """
    The ticks of ``[d.]hh:mm:ss[.fffffff]``.

    >>> from_timespan("00:00:01.5")
    15000000

    Raises:
        FormatError: *text* is not such a duration.
    """
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise FormatError(f"not a duration: {text!r:.80}")
    days, hours, minutes, seconds, fraction = match.groups()
    total = ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
    return total * SECOND + int((fraction or "")[:7].ljust(7, "0"))
