"""The functions of times and lengths of time, and what rounds them as it rounds numbers."""

from __future__ import annotations

import re

from scoretrace import sql
from scoretrace.kql import literals, values
from scoretrace.kql.arguments import Form, argument_values, constant_text, count_of, value_at
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call
from scoretrace.kql.values import Value, constant

_DATETIME_PARTS = {
    "year": "year", "quarter": "quarter", "month": "month", "day": "day", "hour": "hour", "minute": "minute",
    "second": "second", "millisecond": "millisecond", "microsecond": "microsecond",
}  # fmt: skip
_FORMATS = {
    "yyyy": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "dd": "%d", "d": "%-d", "HH": "%H", "H": "%-H", "hh": "%I",
    "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "tt": "%p",
}  # fmt: skip
_RUN = re.compile(r"y+|M+|d+|H+|h+|m+|s+|t+|f+|F+|[ /\-:,.\[\]_]+|.", re.DOTALL)


def _bin(node: Call, scope: Scope) -> Value:
    found, size = argument_values(node, scope, 2, 2)
    return binned(found, size, node, scope)


def binned(found: Value, size: Value, node: Call, scope: Scope) -> Value:
    """A value cut to a multiple of a size: of times, counted from the first of January of the year 1."""
    kinds = (found.type, size.type)
    if kinds == ("datetime", "timespan"):
        if size.is_constant and size.constant and size.constant > 0 and size.constant % literals.MICROSECOND == 0:
            width = f"to_microseconds({size.constant // 10})"
            return Value(f"time_bucket({width}, {found.sql}, TIMESTAMP '0001-01-01')", "datetime", found.nullable)
        ticks = values.ticks_of_moment(found.sql)
        return values.moment(Value(_floored(ticks, size.sql), "long"))
    if kinds == ("timespan", "timespan"):
        return Value(_floored(found.sql, size.sql), "timespan")
    if found.is_number and size.is_number:
        if "real" in kinds:
            one, other = values.real(found).sql, values.real(size).sql
            cut = f"floor({one} / {other}) * {other}"
            if size.is_constant and size.constant and size.constant > 0:
                return Value(f"({cut})", "real", found.nullable)
            return Value(f"CASE WHEN {other} > 0 THEN {cut} END", "real")
        return Value(_floored(values.long(found).sql, values.long(size).sql), "long")
    raise scope.places.wrong(node.at, f"{node.name}() does not round a {kinds[0]} by a {kinds[1]}")


def _floored(number: str, size: str) -> str:
    """A whole number cut to a multiple of *size*, null where that is not larger than 0."""
    return f"CASE WHEN {size} > 0 THEN {number} - (({number} % {size}) + {size}) % {size} END"


def _bin_at(node: Call, scope: Scope) -> Value:
    found, size, fixed = argument_values(node, scope, 3, 3)
    kinds = (found.type, size.type, fixed.type)
    if kinds == ("datetime", "timespan", "datetime"):
        distance = f"((epoch_us({found.sql}) - epoch_us({fixed.sql})) * 10)"
        return Value(f"({fixed.sql} + to_microseconds({_floored(distance, size.sql)} // 10))", "datetime")
    if kinds == ("timespan",) * 3 or set(kinds) <= {"int", "long"}:
        kind = "timespan" if "timespan" in kinds else "long"
        return Value(f"({fixed.sql} + {_floored(f'({found.sql} - {fixed.sql})', size.sql)})", kind)
    if set(kinds) <= values.NUMBERS:
        one, other, start = (values.real(part).sql for part in (found, size, fixed))
        return Value(f"({start} + floor(({one} - {start}) / {other}) * {other})", "real")
    raise scope.places.wrong(node.at, f"bin_at() does not round a {kinds[0]} by a {kinds[1]} from a {kinds[2]}")


def _round(node: Call, scope: Scope) -> Value:
    found = argument_values(node, scope, 1, 2)
    number = found[0]
    if not number.is_number:
        hint = "; todouble(...) reads it" if number.type in {"dynamic", "string"} else ""
        raise scope.places.wrong(node.at, f"round() takes a number, not a {number.type}{hint}")
    digits = f"({values.long(found[1]).sql})::INTEGER" if len(found) == 2 else "0"
    rounded = f"round({number.sql}, {digits})" if number.type == "real" or len(found) == 2 else number.sql
    return Value(f"CAST({rounded} AS {values.SQL_TYPES[number.type]})", number.type, number.nullable)


# Times.


def _now(node: Call, scope: Scope) -> Value:
    now = constant("datetime", scope.builder.now)
    if count_of(node, scope, 0, 1):
        return values.add(now, _span(node, 0, scope))
    return now


def _ago(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 1, 1)
    return values.add(constant("datetime", scope.builder.now), _span(node, 0, scope), "-")


def _span(node: Call, index: int, scope: Scope) -> Value:
    found = value_at(node, index, scope)
    if found.type != "timespan":
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a timespan, not a {found.type}")
    return found


def _moment(node: Call, index: int, scope: Scope) -> Value:
    found = value_at(node, index, scope)
    if found.type != "datetime":
        hint = "; todatetime(...) reads it" if found.type in {"dynamic", "string"} else ""
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a datetime, not a {found.type}{hint}")
    return found


def _part(node: Call, scope: Scope, known: dict[str, str]) -> str:
    part = constant_text(node, 0, scope).lower()
    if part not in known:
        raise scope.places.unsupported(node.arguments[0].at, f"{node.name}() by {part or 'nothing'}")
    return known[part]


def _datetime_add(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 3, 3)
    unit = _part(node, scope, {**_DATETIME_PARTS, "week": "week"})
    amount = values.long(value_at(node, 1, scope)).sql
    return Value(f"({_moment(node, 2, scope).sql} + {amount} * INTERVAL 1 {unit.upper()})", "datetime")


def _make_timespan(node: Call, scope: Scope) -> Value:
    """Hours and minutes, then seconds, all of them after days where there are four."""
    found = argument_values(node, scope, 2, 4)
    for one, written in zip(found, node.arguments, strict=True):
        if not one.is_number:
            raise scope.places.wrong(written.at, f"{node.name}() takes numbers, not a {one.type}")
    units = [literals.HOUR, literals.MINUTE, literals.SECOND]
    units = [literals.DAY, *units] if len(found) == 4 else units
    parts = [f"{one.sql} * {unit}" for one, unit in zip(found, units, strict=False)]
    return Value(f"CAST({' + '.join(parts)} AS BIGINT)", "timespan")


def _datetime_diff(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 3, 3)
    unit = _part(node, scope, {**_DATETIME_PARTS, "week": "week"})
    one, other = _moment(node, 1, scope).sql, _moment(node, 2, scope).sql
    if unit == "week":  # Mondays between, as others are turns of the year or of the hour
        one, other = (f"epoch(date_trunc('week', {moment}))" for moment in (one, other))
        return Value(f"CAST(({one} - {other}) / 604800 AS BIGINT)", "long")
    return Value(f"date_diff('{unit}', {other}, {one})", "long")


def _datetime_part(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 2, 2)
    part = _part(node, scope, {**_DATETIME_PARTS, "week_of_year": "week", "dayofyear": "dayofyear"})
    moment = _moment(node, 1, scope).sql
    if part in {"millisecond", "microsecond"}:
        size = 1_000 if part == "millisecond" else 1
        return Value(f"CAST(epoch_us({moment}) % 1000000 // {size} AS INTEGER)", "int")
    return Value(f"CAST(date_part('{part}', {moment}) AS INTEGER)", "int")


def _format_datetime(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 2, 2)
    moment, written = _moment(node, 0, scope).sql, constant_text(node, 1, scope)
    parts = []
    for run in _RUN.findall(written):
        if run in _FORMATS:
            parts.append(f"strftime({moment}, '{_FORMATS[run]}')")
        elif set(run) == {"f"} and len(run) <= 7:
            parts.append(f"left(strftime({moment}, '%f') || '0', {len(run)})")
        elif set(run) == {"F"} and len(run) <= 7:
            parts.append(f"rtrim(left(strftime({moment}, '%f') || '0', {len(run)}), '0')")
        elif re.fullmatch(r"[ /\-:,.\[\]_]+", run):
            parts.append(sql.quote(run))
        else:
            raise scope.places.unsupported(node.arguments[1].at, f"{run!r} in the format of format_datetime()")
    return Value(f"coalesce({' || '.join(parts) or sql.quote('')}, '')", "string", nullable=False)


def _format_timespan(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 2, 2)
    ticks, written = _span(node, 0, scope).sql, constant_text(node, 1, scope)
    sizes = {"d": (literals.DAY, 10**9), "h": (literals.HOUR, 24), "H": (literals.HOUR, 24)}
    sizes |= {"m": (literals.MINUTE, 60), "s": (literals.SECOND, 60)}
    parts = []
    for run in _RUN.findall(written):
        if run[0] in sizes and len(set(run)) == 1:
            size, modulo = sizes[run[0]]
            number = f"CAST(abs({ticks}) // {size} % {modulo} AS VARCHAR)"
            padded = f"lpad({number}, {len(run)}, '0')"
            parts.append(f"CASE WHEN length({number}) < {len(run)} THEN {padded} ELSE {number} END")
        elif set(run) == {"f"} and len(run) <= 7:
            parts.append(f"left(lpad(CAST(abs({ticks}) % {literals.SECOND} AS VARCHAR), 7, '0'), {len(run)})")
        elif re.fullmatch(r"[ /\-:,.\[\]_]+", run):
            parts.append(sql.quote(run))
        else:
            raise scope.places.unsupported(node.arguments[1].at, f"{run!r} in the format of format_timespan()")
    return Value(f"coalesce({' || '.join(parts) or sql.quote('')}, '')", "string", nullable=False)


FORMS: dict[str, Form] = {
    "ago": _ago,
    "bin": _bin,
    "bin_at": _bin_at,
    "datetime_add": _datetime_add,
    "datetime_diff": _datetime_diff,
    "datetime_part": _datetime_part,
    "format_datetime": _format_datetime,
    "format_timespan": _format_timespan,
    "make_timespan": _make_timespan,
    "now": _now,
    "round": _round,
}
