"""What can be known of the text of a Kusto query without its engine: names, where they are, and its parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from scoretrace.errors import QueryError, UnknownNameError

_TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|@?"(?:[^"\\\n]|\\.)*"|@?'(?:[^'\\\n]|\\.)*'|\s+)|(?P<word>[A-Za-z_]\w*)|.""", re.DOTALL
)
_BLANKED = re.compile(r"""//[^\n]*|@?"(?:[^"\\\n]|\\.)*"|@?'(?:[^'\\\n]|\\.)*'""")  # comments and strings
_LET = re.compile(
    r"""(?P<head>(?:^|(?<=;))[ \t]*let[ \t]+(?P<name>\w+)[ \t]*=[ \t]*)"""
    r"""(?P<value>(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^;"'])*)(?P<end>;)""",
    re.MULTILINE,
)
LITERAL = re.compile(
    r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?:tick|microsecond|ms|millisecond|[smhd])?|true|false"
    r"|(?:datetime|timespan|time)\([-\w:. ]*\)",
    re.IGNORECASE,
)

_PERIOD = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SHORT_PERIOD = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def with_parameters(text: str, parameters: dict[str, Any]) -> str:
    """
    *text* with other values in its ``let`` statements.

    A value that was a string in the query is quoted; others must be literals
    (a number, ``7d``, ``datetime(...)``, ``true``), so that a parameter never
    becomes a piece of the query.

    >>> with_parameters("let since = 1d;\\nrequests | where timestamp > ago(since)", {"since": "7d"})
    'let since = 7d;\\nrequests | where timestamp > ago(since)'
    """
    known = lets(text)
    for name in parameters:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            hint = "; timespan= limits any query" if name == "since" else ""
            raise UnknownNameError(f"the query has no parameter {name}: {there}{hint}")

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in parameters:
            return match[0]
        return f"{match['head']}{_literal(name, parameters[name], known[name])}{match['end']}"

    return _LET.sub(replaced, text)


def lets(text: str) -> dict[str, str]:
    """The names and values of the query's ``let`` statements."""
    return {match["name"]: match["value"].strip() for match in _LET.finditer(text)}


def _literal(name: str, value: Any, before: str) -> str:
    if before[:1] in {'"', "'"} or before[:2] in {'@"', "@'"}:
        # Kusto has the escapes of JSON, the local engine not those of its \\u kind.
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)}microsecond"
    if isinstance(value, datetime):
        return f"datetime({iso(value)})"
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    if LITERAL.fullmatch(text) is None:
        raise QueryError(f"{text!r:.80} is no value for the parameter {name}, which is {before} in the query")
    return text


def words(text: str) -> Iterator[tuple[str, int]]:
    """The names in a query, with their offsets; strings and comments are passed over."""
    for match in _TOKEN.finditer(text):
        if match["word"]:
            yield match["word"], match.start()


def place(text: str, name: str) -> tuple[int | None, int | None]:
    """Line and column of the first *name* in a query, from 1; None where it is not in there."""
    for word, offset in words(text):
        if word == name:
            before = text[:offset]
            return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
    return None, None


def is_code(text: str, offset: int) -> bool:
    """Whether what is at *offset* is neither a comment nor in a string."""
    return not any(match.start() <= offset < match.end() for match in _BLANKED.finditer(text))


def iso(time: datetime) -> str:
    """*time* in UTC, as DuckDB and Kusto take it; one without a zone is UTC."""
    return (time.astimezone(timezone.utc) if time.tzinfo else time).replace(tzinfo=None).isoformat()


def blanked(text: str) -> str:
    """*text* with spaces for comments and strings, so that each place in it stays where it was."""
    return _BLANKED.sub(lambda found: " " * len(found[0]), text)


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
