"""
Times as a query writes them, in 100 ns: since the year 1, or of a length.

Sources: Microsoft's pages on the datetime and timespan data types of Kusto.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

MICROSECOND = 10
MILLISECOND = 10_000
SECOND = 10_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND

_UNITS = {
    "d": DAY,
    "h": HOUR,
    "m": MINUTE,
    "s": SECOND,
    "ms": MILLISECOND,
    "day": DAY,
    "hour": HOUR,
    "hr": HOUR,
    "minute": MINUTE,
    "min": MINUTE,
    "second": SECOND,
    "sec": SECOND,
    "millisecond": MILLISECOND,
    "millisec": MILLISECOND,
    "milli": MILLISECOND,
    "microsecond": MICROSECOND,
    "micro": MICROSECOND,
    "tick": 1,
}
_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_LONG = re.compile(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7})\d*)?)?")
_TIME = re.compile(
    r"(\d{4})-(\d{1,2})(?:-(\d{1,2})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7})\d*)?)?)?)?"
    r"\s*(Z|[-+]\d{2}:?\d{2})?"
)
_OTHER_TIMES = (
    "%m/%d/%Y",
    "%m-%d-%Y",
    "%m/%d/%Y %H:%M:%S",
    "%m-%d-%Y %H:%M:%S",
    "%d %b %Y",
    "%d %b %Y %H:%M:%S",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%Y%m%d",
    "%Y",
)
LAST_TICKS = 3_155_378_975_999_999_999  # of the year 9999, which is the last of both calendars
_EPOCH = datetime(1, 1, 1)  # noqa: DTZ001 - the calendar of Kusto is UTC and has no zones


def short_timespan(text: str) -> int:
    """
    ``1d``, ``90s``, ``1.5h``, ``2tick``.

    >>> short_timespan("1.5h") == 90 * MINUTE
    True
    """
    match = _SHORT.fullmatch(text)
    if match is None:
        raise ValueError(text)
    unit = match[2] if match[2] in _UNITS else match[2].removesuffix("s")
    return round(float(match[1]) * _UNITS[unit])


def timespan_ticks(text: str) -> int | None:
    """
    What is in the brackets of ``timespan(...)``: ``1.02:03:04.5``, ``1d``, or days; None where it is none.

    >>> timespan_ticks("1.02:00:00") == 26 * HOUR
    True
    """
    text = text.strip()
    match = _LONG.fullmatch(text)
    if match:
        sign, days, hours, minutes, seconds, fraction = match.groups()
        if int(hours) > 23 or int(minutes) > 59 or int(seconds or 0) > 59:
            return None
        ticks = int(days or 0) * DAY + int(hours) * HOUR + int(minutes) * MINUTE + int(seconds or 0) * SECOND
        ticks += int((fraction or "").ljust(7, "0"))
        return -ticks if sign else ticks
    number = text.removeprefix("-")
    sign = -1 if number != text else 1
    short = _SHORT.fullmatch(number)
    if short and (short[2] in _UNITS or short[2].removesuffix("s") in _UNITS):
        return sign * short_timespan(number)
    return sign * int(number) * DAY if number.isdigit() else None


def datetime_ticks(text: str) -> int | None:
    """
    What is in the brackets of ``datetime(...)``; a time with an offset in UTC, None where it is none.

    >>> datetime_ticks("0001-01-02") == DAY
    True
    """
    text = text.strip()
    match = _TIME.fullmatch(text)
    try:
        if match:
            year, month, day, hour, minute, second, fraction, zone = match.groups()
            moment = datetime(  # noqa: DTZ001 - as _EPOCH
                int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
            )
            ticks = ticks_of(moment) + int((fraction or "").ljust(7, "0"))
            if zone and zone != "Z":
                offset = int(zone[1:3]) * HOUR + int(zone[-2:]) * MINUTE
                ticks += offset if zone[0] == "-" else -offset
            return ticks if 0 <= ticks <= LAST_TICKS else None
        for form in _OTHER_TIMES:
            try:
                return ticks_of(datetime.strptime(text, form))  # noqa: DTZ007 - as _EPOCH
            except ValueError:  # noqa: PERF203 - a handful of forms
                continue
    except ValueError:
        return None
    return None


def ticks_of(moment: datetime) -> int:
    """A datetime in 100 ns since the year 1; one without a zone is UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return (moment - _EPOCH) // timedelta(microseconds=1) * MICROSECOND


def moment_of(ticks: int) -> datetime:
    """The datetime of 100 ns since the year 1, without its zone; what is less than a microsecond is cut."""
    return _EPOCH + timedelta(microseconds=ticks // MICROSECOND)


def guid(text: str) -> str | None:
    """A GUID as Kusto writes it, None where it is none."""
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return None


def timespan_text(ticks: int) -> str:
    """
    A timespan as Kusto writes it.

    >>> timespan_text(26 * HOUR)
    '1.02:00:00'
    """
    sign, ticks = ("-", -ticks) if ticks < 0 else ("", ticks)
    days, rest = divmod(ticks, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds, fraction = divmod(rest, SECOND)
    text = f"{hours:02}:{minutes:02}:{seconds:02}" + (f".{fraction:07}" if fraction else "")
    return f"{sign}{days}.{text}" if days else f"{sign}{text}"


def json_text(value: Any) -> str:
    """The JSON of a dynamic literal."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
