"""Times as those who read give them: a date, a time, or how long ago."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from scoretrace.errors import QueryError
from scoretrace.kusto_text import duration

When = date | datetime | timedelta | str | None
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
