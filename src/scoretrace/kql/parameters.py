"""
The parameters of a query: its ``let`` statements that are one literal, and other values for them.

A value becomes a literal of the type that stands there, so that none becomes a
piece of the query, here or in Azure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from scoretrace.errors import QueryError, QuerySyntaxError, UnknownNameError
from scoretrace.kql import literals
from scoretrace.kql.parser import Parser
from scoretrace.kql.syntax import Literal, Unary
from scoretrace.kql.tokens import tokens
from scoretrace.moments import duration
from scoretrace.near import near


class Parameter(NamedTuple):
    """A ``let``: its *value* as it is written from *start* to *end*, and its *type* where it is a literal."""

    name: str
    value: str
    type: str
    start: int
    end: int


def parameters(text: str) -> dict[str, Parameter]:
    """
    The ``let`` statements of a query by name; *type* is empty of those that are no literal.

    >>> parameters("let since = 1d; requests")["since"].type
    'timespan'
    """
    try:
        return {found.name: found for found in _lets(text)}
    except QuerySyntaxError:
        return {}  # said when it is compiled


def _lets(text: str) -> Iterator[Parameter]:
    found = Parser(text)
    listed = tokens(found.places)
    is_first = True
    for index, token in enumerate(listed):
        if is_first and token.text == "let" and [after.text for after in listed[index + 2 : index + 3]] == ["="]:
            depth = 0
            last = index + 3
            for last in range(index + 3, len(listed)):
                sign = listed[last].text if listed[last].kind == "sign" else ""
                depth += (sign in {"(", "{", "["}) - (sign in {")", "}", "]"})
                if (sign == ";" and depth == 0) or listed[last].kind == "end":
                    break
            start, end = listed[index + 3].at, listed[last - 1].end
            written = text[start:end]
            yield Parameter(listed[index + 1].text, written, _type_of(written), start, end)
        is_first = token.text == ";" and token.kind == "sign"


def _type_of(written: str) -> str:
    try:
        parser = Parser(written)
        value = parser.expression()
    except (QueryError, RecursionError):
        return ""
    if parser.token.kind != "end":
        return ""
    if isinstance(value, Unary):
        value = value.operand
    return value.type if isinstance(value, Literal) else ""


def with_parameters(text: str, values: Mapping[str, Any]) -> str:
    """
    *text* with other values in its ``let`` statements.

    >>> with_parameters("let since = 1d;\\nrequests | where timestamp > ago(since)", {"since": "7d"})
    'let since = 7d;\\nrequests | where timestamp > ago(since)'

    Raises:
        UnknownNameError: the query has no such parameter.
        QueryError: a value is none of the type that it has to be.
    """
    known = parameters(text)
    for name in values:
        if name not in known:
            there = f"it has {', '.join(known)}{near(name, known)}" if known else "it has none"
            hint = "; timespan= limits any query" if name == "since" else ""
            raise UnknownNameError(f"the query has no parameter {name}: {there}{hint}")
    for parameter in sorted(known.values(), key=lambda one: -one.start):
        if parameter.name in values:
            written = literal(parameter, values[parameter.name])
            text = text[: parameter.start] + written + text[parameter.end :]
    return text


def literal(parameter: Parameter, value: Any) -> str:
    """
    *value* as a literal of the type that the parameter has; where that is no literal, of any type but text.

    Raises:
        QueryError: it is none.
    """
    written = _LITERALS.get(parameter.type, _any)(value)
    if written is None:
        kind = f"a {parameter.type}, " if parameter.type else ""
        raise QueryError(
            f"{str(value)!r:.80} is no value for the parameter {parameter.name}, which is {kind}{parameter.value:.80} "
            "in the query"
        )
    return written


def quoted(text: str) -> str:
    """
    Text as a literal of Kusto.

    >>> quoted('a "b"')
    '"a \\\\"b\\\\""'
    """
    return json.dumps(text, ensure_ascii=False)


def _bool(value: Any) -> str | None:
    word = str(value).strip().lower()
    return word if word in {"true", "false"} else None


def _whole(value: Any) -> str | None:
    try:
        number = int(str(value).strip())
    except ValueError:
        return None
    return str(number) if -(2**63) <= number < 2**63 and not isinstance(value, bool) else None


def _real(value: Any) -> str | None:
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    if isinstance(value, bool):
        return None
    if not math.isfinite(number):
        return f"real({'nan' if math.isnan(number) else '+inf' if number > 0 else '-inf'})"
    return f"real({number!r})"


def _timespan(value: Any) -> str | None:
    if isinstance(value, timedelta):
        return f"timespan({literals.timespan_text(value // timedelta(microseconds=1) * literals.MICROSECOND)})"
    written = str(value).strip()
    if literals.timespan_ticks(written) is not None:
        return written if written[:1].isdigit() and written[-1:].isalpha() else f"timespan({written})"
    try:
        return _timespan(duration(written))  # ISO 8601
    except QueryError:
        return None


def _datetime(value: Any) -> str | None:
    if isinstance(value, datetime):
        ticks: int | None = literals.ticks_of(value)
    elif isinstance(value, date):
        ticks = literals.ticks_of(datetime(value.year, value.month, value.day))  # noqa: DTZ001 - it is UTC
    else:
        ticks = literals.datetime_ticks(str(value).strip().removeprefix("datetime(").removesuffix(")"))
    return None if ticks is None else f"datetime({literals.moment_of(ticks).isoformat()})"


def _guid(value: Any) -> str | None:
    found = literals.guid(str(value))
    return None if found is None else f"guid({found})"


def _dynamic(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [part.strip() for part in value.split(",")]
    return f"dynamic({json.dumps(value, ensure_ascii=False)})"


def _any(value: Any) -> str | None:
    """A literal of any type, as text that is one or as a value of Python."""
    if isinstance(value, timedelta):
        return _timespan(value)
    if isinstance(value, datetime):
        return _datetime(value)
    written = str(value).lower() if isinstance(value, bool) else str(value).strip()
    return written if _type_of(written) not in {"", "string"} else None


_LITERALS = {
    "bool": _bool,
    "datetime": _datetime,
    "dynamic": _dynamic,
    "guid": _guid,
    "int": _whole,
    "long": _whole,
    "real": _real,
    "string": lambda value: quoted(str(value)),
    "timespan": _timespan,
}
