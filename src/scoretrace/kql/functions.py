"""
The scalar functions: what each takes, what it gives, and how it is written in SQL.

The plain ones are rows of a table. A function whose SQL depends on what it is
called with has a form of its own, in `forms`.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import dynamics, literals, values
from scoretrace.kql.arguments import argument_values
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call, Expression
from scoretrace.kql.values import Value

_NAMED_GROUP = re.compile(r"\(\?<(?![=!])")
_ORDERED = {"datetime", "timespan", "string", "bool", *values.NUMBERS}


class Scalar(msgspec.Struct, frozen=True):
    """
    A function: the types it *takes*, the type it *gives*, and its SQL with ``{0}`` and so on.

    Of the takes, ``number`` is any number, ``any`` any type, ``regex`` a
    pattern; the last of them may be missing where there are *defaults*.
    """

    takes: tuple[str, ...]
    gives: str
    template: str
    defaults: tuple[str, ...] = ()


def _row(takes: str, gives: str, template: str, *defaults: str) -> Scalar:
    return Scalar(tuple(takes.split()), gives, template, defaults)


def _encoded(url: str) -> str:
    """As .NET's UrlEncode: small letters in the codes, a plus for a blank, and its own idea of what may stay."""
    for code, kept in (("%20", "+"), ("%21", "!"), ("%2A", "*"), ("%28", "("), ("%29", ")"), ("~", "%7E")):
        url = f"replace({url}, '{code}', '{kept}')"
    for letter in "ABCDEF":
        url = f"regexp_replace({url}, '%{letter}', '%{letter.lower()}', 'g')"
        url = f"regexp_replace({url}, '%([0-9a-f]){letter}', '%\\1{letter.lower()}', 'g')"
    return url


_LISTED = dynamics.elements("{0}")
_IS_LIST = "json_type({0}) = 'ARRAY'"
_IS_BAG = "json_type({0}) = 'OBJECT'"
_NO_NUMBER = f"json_type({dynamics.ELEMENT}) NOT IN ('BIGINT', 'UBIGINT', 'DOUBLE', 'NULL')"
_ZIPPED = f"list_zip({dynamics.elements('{0}')}, {dynamics.elements('{1}')})"
REPEATS = 1_024  # of a text or a value, as Kusto has it
_WEEK = "(date_trunc('week', {0} + INTERVAL 1 DAY) - INTERVAL 1 DAY)"


def _period(unit: str, *, is_end: bool) -> str:
    """The start or end of a day, week, month or year, an offset of such periods away."""
    start = _WEEK if unit == "week" else f"CAST(date_trunc('{unit}', {{0}}) AS TIMESTAMP)"
    step = "7 * {1} * INTERVAL 1 DAY" if unit == "week" else f"{{1}} * INTERVAL 1 {unit.upper()}"
    if is_end:
        one = "INTERVAL 7 DAY" if unit == "week" else f"INTERVAL 1 {unit.upper()}"
        return f"({start} + {step} + {one} - INTERVAL 1 MICROSECOND)"
    return f"({start} + {step})"


def _unix(micros: str) -> str:
    """A time from microseconds since 1970, null where Kusto has none: outside of the years 1 to 9999."""
    inside = f"{micros} BETWEEN {values.FIRST_MICROS} AND {values.LAST_MICROS}"
    return f"CASE WHEN {inside} THEN make_timestamp(CAST({micros} AS BIGINT)) END"


# fmt: off
SCALARS: dict[str, Scalar] = {
    # Text.
    "strlen": _row("string", "long", "length({0})"),
    "string_size": _row("string", "long", "strlen({0})"),
    "toupper": _row("string", "string", "upper({0})"),
    "tolower": _row("string", "string", "lower({0})"),
    "reverse": _row("string", "string", "reverse({0})"),
    "strrep": _row("string long string", "string",
                   f"CASE WHEN {{1}} > 0 THEN {{0}} || repeat({{2}} || {{0}}, least({{1}}, {REPEATS}) - 1) ELSE '' END",
                   "''"),
    "replace_string": _row("string string string", "string",
                           "CASE WHEN {1} = '' THEN {0} ELSE replace({0}, {1}, {2}) END"),
    "replace_regex": _row("string regex string", "string", "regexp_replace({0}, {1}, {2}, 'g')"),
    "replace": _row("regex string string", "string", "regexp_replace({2}, {0}, {1}, 'g')"),
    "strcmp": _row("string string", "long", "CASE WHEN {0} < {1} THEN -1 WHEN {0} > {1} THEN 1 ELSE 0 END"),
    "substring": _row("string long long", "string",
                      "CASE WHEN {2} < 0 OR {0} = '' OR (CASE WHEN {1} < 0 THEN length({0}) + {1} ELSE {1} END) < 0 "
                      "THEN '' ELSE substr({0}, (CASE WHEN {1} < 0 THEN length({0}) + {1} ELSE {1} END + 1)::BIGINT, "
                      "{2}) END", "2147483647"),
    "trim": _row("regex string", "string", "regexp_replace({1}, '^(' || {0} || ')|(' || {0} || ')$', '', 'g')"),
    "trim_start": _row("regex string", "string", "regexp_replace({1}, '^(' || {0} || ')', '', 'g')"),
    "trim_end": _row("regex string", "string", "regexp_replace({1}, '(' || {0} || ')$', '', 'g')"),
    "isempty": _row("any", "bool", "({0} = '')"),
    "isnotempty": _row("any", "bool", "({0} <> '')"),
    "isascii": _row("string", "bool", r"regexp_full_match({0}, '[\x00-\x7F]*')"),
    "url_encode": _row("string", "string", _encoded("url_encode({0})")),
    "url_decode": _row("string", "string", "url_decode(replace({0}, '+', ' '))"),
    "base64_encode_tostring": _row("string", "string", "to_base64(encode({0}))"),
    "base64_decode_tostring": _row("string", "string",
                                   "coalesce(TRY(decode(from_base64({0}))), '')"),
    "hash_md5": _row("string", "string", "CASE WHEN {0} = '' THEN '' ELSE md5({0}) END"),
    "hash_sha1": _row("string", "string", "CASE WHEN {0} = '' THEN '' ELSE sha1({0}) END"),
    "hash_sha256": _row("string", "string", "CASE WHEN {0} = '' THEN '' ELSE sha256({0}) END"),
    "strcat_array": _row("dynamic string", "string",
                         f"coalesce(array_to_string({dynamics.texts('{0}')}, {{1}}), '')"),
    "tohex": _row("long long", "string",
                  "CASE WHEN length(to_hex({0})) < {1} THEN lpad(lower(to_hex({0})), {1}::INTEGER, '0') "
                  "ELSE lower(to_hex({0})) END", "0"),
    # Numbers.
    "abs": _row("number", "same", "abs({0})"),
    "ceiling": _row("number", "same", "ceil({0})"),
    "sqrt": _row("real", "real", "CASE WHEN {0} < 0 THEN NULL ELSE sqrt({0}) END"),
    "exp": _row("real", "real", "exp({0})"),
    "exp2": _row("real", "real", "pow(2::DOUBLE, {0})"),
    "exp10": _row("real", "real", "pow(10::DOUBLE, {0})"),
    "log": _row("real", "real", "CASE WHEN {0} <= 0 THEN NULL ELSE ln({0}) END"),
    "log10": _row("real", "real", "CASE WHEN {0} <= 0 THEN NULL ELSE log10({0}) END"),
    "log2": _row("real", "real", "CASE WHEN {0} <= 0 THEN NULL ELSE log2({0}) END"),
    "pow": _row("real real", "real", "pow({0}, {1})"),
    "sign": _row("number", "real", "CAST(coalesce(sign({0}), 0) AS DOUBLE)"),
    "pi": _row("", "real", "pi()"),
    "sin": _row("real", "real", "sin({0})"),
    "cos": _row("real", "real", "cos({0})"),
    "tan": _row("real", "real", "tan({0})"),
    "asin": _row("real", "real", "CASE WHEN abs({0}) <= 1 THEN asin({0}) END"),
    "acos": _row("real", "real", "CASE WHEN abs({0}) <= 1 THEN acos({0}) END"),
    "atan": _row("real", "real", "atan({0})"),
    "atan2": _row("real real", "real", "atan2({0}, {1})"),
    "degrees": _row("real", "real", "degrees({0})"),
    "radians": _row("real", "real", "radians({0})"),
    "isnan": _row("real", "bool", "coalesce(isnan({0}), FALSE)"),
    "isinf": _row("real", "bool", "coalesce(isinf({0}), FALSE)"),
    "isfinite": _row("real", "bool", "coalesce(isfinite({0}), FALSE)"),
    "binary_and": _row("long long", "long", "({0} & {1})"),
    "binary_or": _row("long long", "long", "({0} | {1})"),
    "binary_xor": _row("long long", "long", "xor({0}, {1})"),
    "binary_not": _row("long", "long", "(~{0})"),
    "binary_shift_left": _row("long long", "long", "({0} << {1})"),
    "binary_shift_right": _row("long long", "long", "({0} >> {1})"),
    # Conversions; `values` has those of the types.
    "not": _row("bool", "bool", "(NOT {0})"),
    # Times.
    "hourofday": _row("datetime", "int", "CAST(hour({0}) AS INTEGER)"),
    "dayofmonth": _row("datetime", "int", "CAST(day({0}) AS INTEGER)"),
    "dayofyear": _row("datetime", "int", "CAST(dayofyear({0}) AS INTEGER)"),
    "dayofweek": _row("datetime", "timespan", f"(dayofweek({{0}}) * {literals.DAY})"),
    "monthofyear": _row("datetime", "int", "CAST(month({0}) AS INTEGER)"),
    "getmonth": _row("datetime", "int", "CAST(month({0}) AS INTEGER)"),
    "getyear": _row("datetime", "int", "CAST(year({0}) AS INTEGER)"),
    "week_of_year": _row("datetime", "int", "CAST(weekofyear({0}) AS INTEGER)"),
    "weekofyear": _row("datetime", "int", "CAST(weekofyear({0}) AS INTEGER)"),
    **{
        f"{edge}of{unit}": _row("datetime long", "datetime", _period(unit, is_end=edge == "end"), "0")
        for edge in ("start", "end") for unit in ("day", "week", "month", "year")
    },
    "make_datetime": _row("long long long long long number", "datetime",
                          "CASE WHEN {0} BETWEEN 1 AND 9999 THEN "
                          "TRY(make_timestamp({0}, {1}, {2}, {3}, {4}, CAST({5} AS DOUBLE))) END", "0", "0", "0"),
    "unixtime_seconds_todatetime": _row("number", "datetime", _unix("{0} * 1000000")),
    "unixtime_milliseconds_todatetime": _row("number", "datetime", _unix("{0} * 1000")),
    "unixtime_microseconds_todatetime": _row("number", "datetime", _unix("{0}")),
    # Dynamics.
    "array_length": _row("dynamic", "long", f"CASE WHEN {_IS_LIST} THEN json_array_length({{0}})::BIGINT END"),
    "array_sum": _row("dynamic", "real",
                      f"CASE WHEN {_IS_LIST} AND len({dynamics.kept(_LISTED, _NO_NUMBER)}) = 0 THEN list_sum("
                      f"{dynamics.each(dynamics.texts('{0}'), f'try_cast({dynamics.ELEMENT} AS DOUBLE)')}) END"),
    "array_reverse": _row("dynamic", "dynamic", f"CASE WHEN {_IS_LIST} THEN to_json(list_reverse({_LISTED})) END"),
    "array_index_of": _row("dynamic any", "long",
                           f"coalesce(list_position({dynamics.texts('{0}')}, {{1}}), 0) - 1"),
    "array_slice": _row("dynamic long long", "dynamic",
                        f"CASE WHEN {_IS_LIST} THEN to_json(list_slice({_LISTED}, "
                        "CASE WHEN {1} < 0 THEN greatest(json_array_length({0})::BIGINT + {1}, 0) ELSE {1} END + 1, "
                        "CASE WHEN {2} < 0 THEN json_array_length({0})::BIGINT + {2} ELSE {2} END + 1)) END"),
    "bag_keys": _row("dynamic", "dynamic", f"CASE WHEN {_IS_BAG} THEN to_json(json_keys({{0}})) END"),
    "set_has_element": _row("dynamic any", "bool",
                            f"coalesce(list_contains({dynamics.texts('{0}')}, {{1}}), FALSE)"),
    "zip": _row("dynamic dynamic", "dynamic",
                f"to_json({dynamics.each(_ZIPPED, f'[{dynamics.ELEMENT}[1], {dynamics.ELEMENT}[2]]')})"),
}
# fmt: on
CONVERTING = {
    "parse_json": "dynamic",
    "parsejson": "dynamic",
    "tobool": "bool",
    "toboolean": "bool",
    "todatetime": "datetime",
    "todouble": "real",
    "todynamic": "dynamic",
    "toguid": "guid",
    "toint": "int",
    "tolong": "long",
    "toobject": "dynamic",
    "toreal": "real",
    "tostring": "string",
    "totimespan": "timespan",
}  # fmt: skip
ALIASES = {
    "base64_decodestring": "base64_decode_tostring",
    "base64_encodestring": "base64_encode_tostring",
    "notempty": "isnotempty",
    "notnull": "isnotnull",
    "pack": "bag_pack",
    "series_sum": "array_sum",
    "columnifexists": "column_ifexists",
    "iif": "iff",
    "timespan": "totimespan",
    "floor": "bin",
}


def converted(node: Call, kind: str, scope: Scope) -> Value:
    """The value of a function that converts to the type *kind*."""
    (argument,) = argument_values(node, scope, 1, 1)
    if kind == "guid" and argument.type not in {"string", "dynamic", "guid"}:
        raise scope.places.wrong(node.at, f"{node.name}() takes a string, not a {argument.type}")
    return values.CONVERSIONS[kind](argument)


def plain(node: Call, scalar: Scalar, scope: Scope) -> Value:
    """The value of a function of the table."""
    least = len(scalar.takes) - len(scalar.defaults)
    given = argument_values(node, scope, least, len(scalar.takes))
    taken = [
        _taken(node, argument, kind, wanted, scope)
        for argument, kind, wanted in zip(given, node.arguments, scalar.takes, strict=False)
    ]
    missing = len(scalar.takes) - len(taken)
    body = scalar.template.format(
        *(argument.sql for argument in taken), *(scalar.defaults[-missing:] if missing else ())
    )
    gives = scalar.gives
    if gives == "same":
        gives = "long" if taken[0].type == "int" else taken[0].type
        body = f"CAST({body} AS {values.SQL_TYPES[gives]})"
    nullable = any(argument.nullable for argument in taken) or gives not in {"string", "bool"}
    return values.filled(Value(body, gives, nullable))


def _taken(node: Call, argument: Value, written: Expression, wanted: str, scope: Scope) -> Value:
    """An argument as the type that the function takes, converted where Kusto converts by itself."""
    kind = argument.type
    if wanted == "any":
        return values.text(argument)
    if wanted == "regex":
        if kind != "string":
            raise scope.places.wrong(written.at, f"{node.name}() takes a pattern as a string, not a {kind}")
        return replace(argument, sql=pattern(argument, scope, written.at))
    if wanted == "string" and kind in {"string", "dynamic"}:
        return values.text(argument)
    if wanted in {"number", "real", "long"} and kind in values.NUMBERS:
        if wanted == "real":
            return values.real(argument)
        if wanted == "long" and kind == "real":
            raise scope.places.wrong(written.at, f"{node.name}() takes a long here, not a real: tolong(...) cuts it")
        return values.long(argument) if wanted == "long" else argument
    if wanted == "number" and kind == "timespan":
        return argument
    if wanted == kind:
        return argument
    reader = {"datetime": "todatetime", "bool": "tobool", "timespan": "totimespan"}.get(wanted, "todouble")
    hint = f"; {reader}(...) reads it" if kind in {"dynamic", "string"} else ""
    wanted = {"number": "number", "long": "long", "real": "number"}.get(wanted, wanted)
    raise scope.places.wrong(written.at, f"{node.name}() takes a {wanted} here, not a {kind}{hint}")


def pattern(found: Value, scope: Scope, at: int) -> str:
    """
    A regular expression in SQL: RE2's, as Kusto's own are, with its spelling of named groups.

    Raises:
        QueryError: it is none.
    """
    if not found.is_constant:
        return found.sql
    written = _NAMED_GROUP.sub("(?P<", found.constant)
    if re.search(r"\(\?<?[=!]", written):
        raise scope.places.wrong(at, "a regular expression of Kusto cannot look ahead or behind")
    return sql.quote(written)
