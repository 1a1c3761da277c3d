"""Times as those who read give them: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

from scoretrace.errors import QueryError

When = date | datetime | timedelta | str | None
_PERIOD = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SHORT_PERIOD = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WAYS = "give 2026-11-20, 2026-11-20T06:00, or how long ago: 6h, 7d"


def moment(when: When) -> datetime | None:
    """
    *when* as a time in UTC without a zone; a day is its beginning, a span is so long ago.

    Raises:
        ValueError: it is no time.
    """
    if when is None:
        return None
    if isinstance(when, str):
        when = _parsed(when)
    if isinstance(when, timedelta):
        try:
            when = datetime.now(timezone.utc) - when
        except OverflowError:
            raise ValueError(f"{when!r:.80} is longer than the calendar") from None
    if isinstance(when, datetime):
        return when.astimezone(timezone.utc).replace(tzinfo=None) if when.tzinfo else when
    if isinstance(when, date):
        return datetime(when.year, when.month, when.day)  # noqa: DTZ001 - naive on purpose: it is UTC
    raise ValueError(f"{when!r:.80} is no time: {_WAYS}")


def _parsed(text: str) -> datetime | timedelta:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        try:
            return duration(text)
        except (QueryError, OverflowError):
            raise ValueError(f"{text!r:.80} is no time: {_WAYS}") from None


def duration(text: str) -> timedelta:
    """
    A time span as text: 30m, 6h, 7d, or an ISO 8601 duration such as P1D.

    Raises:
        QueryError: it is none.
    """
    short = _SHORT_PERIOD.fullmatch(text.strip())
    if short:
        try:
            return timedelta(**{_UNITS[short[2]]: float(short[1])})
        except OverflowError as error:
            raise QueryError(f"{text!r:.80} is too long a time span") from error
    match = _PERIOD.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise QueryError(f"{text!r:.80} is no time span: give 30m, 6h, 7d, or an ISO 8601 duration such as P1D")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
