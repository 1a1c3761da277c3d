"""
Typed values in SQL: what a Kusto type is in DuckDB, and how one becomes another.

| Kusto    | DuckDB    | |
|---|---|---|
| string   | VARCHAR   | never null |
| long, int, real, bool | BIGINT, INTEGER, DOUBLE, BOOLEAN | |
| datetime | TIMESTAMP | in UTC, to the microsecond |
| timespan | BIGINT    | in 100 ns; results show it as an INTERVAL |
| dynamic  | JSON      | the JSON null counts as null |
| guid     | UUID      | |

Sources: Microsoft's pages on the scalar data types and the conversion
functions of Kusto, and its emulator's answers.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import literals

SQL_TYPES = {
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "dynamic": "JSON",
    "guid": "UUID",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "string": "VARCHAR",
    "timespan": "BIGINT",
}
NUMBERS = frozenset({"int", "long", "real"})
NOT_CONSTANT = object()
EPOCH_TICKS = 621_355_968_000_000_000  # from the year 1 to 1970
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*")
_TIME_FORMS = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT")


class Value(msgspec.Struct, frozen=True):
    """
    An expression: its *sql* and its Kusto *type*.

    *constant* is what it is where that is known without rows, in the units of
    `syntax.Literal`; *at* is, for a place in a dynamic, the dynamic and the
    JSON path in it, and *inside* where else its members are found. *is_plain*
    is as of a column.
    """

    sql: str
    type: str
    nullable: bool = True
    constant: Any = NOT_CONSTANT
    at: tuple[str, str] | None = None
    inside: str = ""
    is_plain: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether it is known without rows."""
        return self.constant is not NOT_CONSTANT

    @property
    def is_number(self) -> bool:
        """Whether it is an int, a long or a real."""
        return self.type in NUMBERS


FIRST_MICROS = -EPOCH_TICKS // 10  # since 1970: the first of January of the year 1
LAST_MICROS = (literals.LAST_TICKS - EPOCH_TICKS) // 10


def constant(kind: str, value: Any) -> Value:
    """A literal of the Kusto type *kind*."""
    if kind == "string":
        return Value(sql.quote(value), kind, nullable=False, constant=value)
    if value is None:
        return Value(f"CAST(NULL AS {SQL_TYPES[kind]})", kind, constant=None)
    return Value(_literal(kind, value), kind, nullable=False, constant=value)


def _literal(kind: str, value: Any) -> str:
    if kind == "bool":
        return "TRUE" if value else "FALSE"
    if kind == "datetime":
        return f"TIMESTAMP '{literals.moment_of(value).isoformat(' ')}'"
    if kind == "dynamic":
        return f"{sql.quote(literals.json_text(value))}::JSON"
    if kind == "guid":
        return f"{sql.quote(value)}::UUID"
    if kind == "real":
        return f"{sql.quote(repr(value))}::DOUBLE"
    if kind == "int":
        return f"{value}::INTEGER"
    return f"({value})::BIGINT" if value < 0 else f"{value}::BIGINT"


def null(kind: str) -> Value:
    """The null of a type; the empty text of a string, which has none."""
    return constant("string", "") if kind == "string" else constant(kind, None)


def filled(value: Value) -> Value:
    """A string that was null in DuckDB (no match, no row) is empty in Kusto."""
    if value.type == "string" and value.nullable:
        return replace(value, sql=f"coalesce({value.sql}, '')", nullable=False)
    return value


def text(value: Value) -> Value:
    """`tostring`: empty for a null."""
    kind = value.type
    if kind == "string":
        return filled(value)
    if kind == "dynamic" and value.is_plain:
        return Value(f"coalesce(CAST({value.sql} AS VARCHAR), '')", "string", nullable=False)
    if kind == "dynamic":
        place, path = value.at or (value.sql, "$")
        return Value(f"coalesce(json_extract_string({place}, {sql.quote(path)}), '')", "string", nullable=False)
    if kind == "bool":
        body = f"CASE {value.sql} WHEN TRUE THEN 'True' WHEN FALSE THEN 'False' END"
    else:
        body = _TEXTS[kind](value.sql) if kind in _TEXTS else f"CAST({value.sql} AS VARCHAR)"
    known: Any = NOT_CONSTANT
    if value.is_constant and kind in {"long", "int"}:
        known = "" if value.constant is None else str(value.constant)
    if not value.nullable:
        return Value(body, "string", nullable=False, constant=known)
    return Value(f"coalesce({body}, '')", "string", nullable=False, constant=known)


def moment_text(moment: str) -> str:
    """A time as Kusto writes it, with seven digits and a Z."""
    return f"(strftime({moment}, '%Y-%m-%dT%H:%M:%S.%f') || '0Z')"


def span_text(ticks: str) -> str:
    """A length of time as Kusto writes it: ``[-][d.]hh:mm:ss[.fffffff]``."""

    def part(size: int, modulo: int) -> str:
        return f"lpad(CAST(abs({ticks}) // {size} % {modulo} AS VARCHAR), 2, '0')"

    days = f"abs({ticks}) // {literals.DAY}"
    fraction = f"abs({ticks}) % {literals.SECOND}"
    return (
        f"(CASE WHEN {ticks} < 0 THEN '-' ELSE '' END || CASE WHEN {days} > 0 THEN ({days})::VARCHAR || '.' "
        f"ELSE '' END || {part(literals.HOUR, 24)} || ':' || {part(literals.MINUTE, 60)} || ':' || "
        f"{part(literals.SECOND, 60)} || CASE WHEN {fraction} > 0 "
        f"THEN '.' || lpad(({fraction})::VARCHAR, 7, '0') ELSE '' END)"
    )


def real_text(number: str) -> str:
    """A real as Kusto writes it."""
    written = f"CAST({number} AS VARCHAR)"
    return f"CASE WHEN isnan({number}) THEN 'NaN' WHEN isinf({number}) THEN {written} ELSE upper({written}) END"


_TEXTS = {"datetime": moment_text, "timespan": span_text, "real": real_text}


def dynamic(value: Value) -> Value:
    """The value as an element of a dynamic: times and spans as their text."""
    if value.type == "dynamic":
        return value
    if value.type in {"datetime", "timespan"}:
        return Value(f"to_json({_TEXTS[value.type](value.sql)})", "dynamic")
    if value.type == "real":
        # JSON has no NaN; Kusto writes the word.
        odd = f"isnan({value.sql}) OR isinf({value.sql})"
        return Value(f"CASE WHEN {odd} THEN to_json({real_text(value.sql)}) ELSE to_json({value.sql}) END", "dynamic")
    return Value(f"to_json({value.sql})", "dynamic")


def long_of_text(body: str) -> str:
    """A whole number that is written as one, null for all else: ``5.7`` and ``1e3`` are none."""
    return rf"CASE WHEN regexp_full_match({body}, '\s*[-+]?[0-9]+\s*') THEN try_cast(trim({body}) AS BIGINT) END"


def bool_of_text(body: str) -> str:
    """``true``, ``false`` in any case, or a whole number; null for all else."""
    return (
        rf"CASE WHEN lower(trim({body})) IN ('true', 'false') THEN lower(trim({body})) = 'true' "
        rf"ELSE ({long_of_text(body)}) <> 0 END"
    )


def moment_of_text(body: str) -> str:
    """A time in any of the ways that Kusto reads, with its offset taken into account; null for all else."""
    forms = ", ".join(map(sql.quote, _TIME_FORMS))
    return f"coalesce(try_cast({body} AS TIMESTAMPTZ) AT TIME ZONE 'UTC', try_strptime({body}, [{forms}]))"


def span_of_text(body: str) -> str:
    """A length of time as ``d.hh:mm:ss.fffffff``, ``1d`` or a number of days; null for all else."""
    shape = r"^\s*(-)?(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7})\d*)?)?\s*$"

    def group(number: int) -> str:
        return f"coalesce(try_cast(regexp_extract({body}, {sql.quote(shape)}, {number}) AS BIGINT), 0)"

    fraction = f"rpad(regexp_extract({body}, {sql.quote(shape)}, 6), 7, '0')::BIGINT"
    long = (
        f"({group(2)} * {literals.DAY} + {group(3)} * {literals.HOUR} + {group(4)} * {literals.MINUTE} + "
        f"{group(5)} * {literals.SECOND} + {fraction}) * CASE WHEN {body} LIKE '%-%' THEN -1 ELSE 1 END"
    )
    units = {"d": literals.DAY, "h": literals.HOUR, "m": literals.MINUTE, "s": literals.SECOND, "ms": 10_000}
    short = r"^\s*(-?\d+(?:\.\d+)?)(ms|[dhms])\s*$"
    sizes = " ".join(f"WHEN '{unit}' THEN {size}" for unit, size in units.items())
    number = f"try_cast(regexp_extract({body}, {sql.quote(short)}, 1) AS DOUBLE)"
    return (
        f"CASE WHEN {body} = '' THEN NULL WHEN regexp_matches({body}, {sql.quote(shape)}) AND {group(3)} < 24 "
        f"AND {group(4)} < 60 AND {group(5)} < 60 THEN {long} "
        f"WHEN regexp_matches({body}, {sql.quote(short)}) THEN "
        f"round({number} * CASE regexp_extract({body}, {sql.quote(short)}, 2) {sizes} END)::BIGINT "
        rf"WHEN regexp_full_match({body}, '\s*-?[0-9]+\s*') THEN try_cast({body} AS BIGINT) * {literals.DAY} END"
    )


def ticks_of_moment(moment: str) -> str:
    """A time as its 100 ns since the year 1."""
    return f"(epoch_us({moment}) * 10 + {EPOCH_TICKS})"


def long(value: Value) -> Value:
    """`tolong`: cut towards zero, null where there is no number."""
    body = value.sql
    kind = value.type
    if kind == "long":
        return value
    if kind in {"int", "bool"}:
        return Value(f"CAST({body} AS BIGINT)", "long", value.nullable)
    if kind == "real":
        return Value(_whole(body), "long")
    if kind == "timespan":
        return replace(value, type="long")
    if kind == "datetime":
        return Value(ticks_of_moment(body), "long")
    if kind == "dynamic":
        held = text(value).sql
        number = f"try_cast({held} AS DOUBLE)"
        return Value(
            f"CASE {json_type(value)} WHEN 'DOUBLE' THEN {_whole(number)} WHEN 'BOOLEAN' THEN "
            f"CASE {held} WHEN 'true' THEN 1 ELSE 0 END ELSE {long_of_text(held)} END",
            "long",
        )
    return Value(long_of_text(filled(value).sql), "long")


def _whole(number: str) -> str:
    """A real cut to a long: at the ends of what a long can be it stays there."""
    top = "9223372036854775807"
    return (
        f"CASE WHEN abs({number}) < 9.2233720368547758e18 THEN CAST(trunc({number}) AS BIGINT) "
        f"WHEN NOT isfinite({number}) THEN NULL WHEN {number} > 0 THEN {top} ELSE -{top} - 1 END"
    )


def integer(value: Value) -> Value:
    """`toint`: as `long`, null where it does not fit."""
    if value.type == "int":
        return value
    return Value(f"try_cast({long(value).sql} AS INTEGER)", "int")


def real(value: Value) -> Value:
    """`todouble`: null where there is no number."""
    kind = value.type
    if kind == "real":
        return value
    if value.is_constant and kind in {"int", "long"}:
        return constant("real", None if value.constant is None else float(value.constant))
    if kind in {"int", "long", "bool", "timespan"}:
        return Value(f"CAST({value.sql} AS DOUBLE)", "real", value.nullable)
    if kind == "datetime":
        return Value(f"CAST({ticks_of_moment(value.sql)} AS DOUBLE)", "real")
    if kind == "dynamic":
        place, path = value.at or (value.sql, "$")
        return Value(f"try_cast(json_extract_string({place}, {sql.quote(path)}) AS DOUBLE)", "real")
    return Value(f"try_cast({value.sql} AS DOUBLE)", "real")


def boolean(value: Value) -> Value:
    """`tobool`: null where there is none."""
    if value.type == "bool":
        return value
    if value.is_number:
        return Value(f"({value.sql} <> 0)", "bool", value.nullable)
    return Value(bool_of_text(text(value).sql), "bool")


def moment(value: Value) -> Value:
    """`todatetime`: null where there is none."""
    if value.type == "datetime":
        return value
    if value.is_constant and value.type == "string":
        return constant("datetime", literals.datetime_ticks(value.constant))
    if value.type in {"long", "int"}:
        ticks = value.sql
        inside = f"{ticks} BETWEEN 0 AND {literals.LAST_TICKS}"
        return Value(f"CASE WHEN {inside} THEN make_timestamp({ticks} // 10 - {EPOCH_TICKS // 10}) END", "datetime")
    return Value(moment_of_text(text(value).sql), "datetime")


def span(value: Value) -> Value:
    """`totimespan`: null where there is none; a number counts 100 ns."""
    if value.type == "timespan":
        return value
    if value.is_constant and value.type == "string":
        return constant("timespan", literals.timespan_ticks(value.constant))
    if value.is_number or value.type == "datetime":
        return replace(long(value), type="timespan")
    return Value(span_of_text(text(value).sql), "timespan")


def guid(value: Value) -> Value:
    """`toguid`: null where there is none."""
    if value.type == "guid":
        return value
    return Value(f"try_cast({text(value).sql} AS UUID)", "guid")


def parsed(value: Value) -> Value:
    """`parse_json`: text that is no JSON stays the text it is, and empty text is null."""
    if value.type == "dynamic":
        return value
    if value.type != "string":
        return dynamic(value)
    body = filled(value).sql
    return Value(
        f"coalesce(try_cast({body} AS JSON), CASE WHEN {body} <> '' THEN to_json({body}) END)",
        "dynamic",
        inside=f"try_cast({body} AS JSON)",
    )


def json_type(value: Value) -> str:
    """What kind of JSON a dynamic is: DuckDB's names, SQL's null where there is nothing."""
    if value.at:
        place, path = value.at
        return f"json_type({place}, {sql.quote(path)})"
    return f"json_type({value.sql})"


def is_null(value: Value) -> str:
    """The condition that it is null; a string never is, and the JSON null counts."""
    if not value.nullable:
        return "FALSE"
    if value.type == "dynamic":
        return f"(coalesce({json_type(value)}, 'NULL') = 'NULL')"
    return f"({value.sql} IS NULL)"


def number_inside(value: Value, kind: str) -> Value:
    """
    A dynamic where a number is wanted, as a comparison or a sum wants it.

    Text in it ends the query: whether Azure reads a number out of it is not to
    be guessed, and `todouble` says what is meant.
    """
    held = text(value).sql
    why = sql.quote("a dynamic holds text where a number is wanted: write todouble(...), tolong(...) or tostring(...)")
    number = f"try_cast({held} AS {'DOUBLE' if kind == 'real' else 'BIGINT'})"
    cut = sql.quote("a dynamic holds a real where a long is wanted: write todouble(...) or tolong(...)")
    real_case = number if kind == "real" else f"error({cut})"
    return Value(
        f"CASE {json_type(value)} WHEN 'BIGINT' THEN {number} WHEN 'UBIGINT' THEN {number} "
        f"WHEN 'DOUBLE' THEN {real_case} WHEN 'VARCHAR' THEN error({why}) END",
        kind,
    )


def truth_inside(value: Value) -> Value:
    """
    A text that is compared with true or false, as `success` of the classic tables is.

    "True" and "False" are how Kusto writes them. Another spelling ends the query:
    whether Azure takes it for the same is not to be guessed.
    """
    held = filled(value).sql
    why = sql.quote("a text such as 'true' or '1' is compared with a bool: write tobool(...) or tostring(...)")
    return Value(
        f"CASE {held} WHEN 'True' THEN TRUE WHEN 'False' THEN FALSE "
        f"ELSE CASE WHEN {bool_of_text(held)} IS NOT NULL THEN error({why}) END END",
        "bool",
    )


CONVERSIONS = {
    "bool": boolean,
    "datetime": moment,
    "dynamic": parsed,
    "guid": guid,
    "int": integer,
    "long": long,
    "real": real,
    "string": text,
    "timespan": span,
}


def json_step(name: str) -> str:
    """The step of a JSON path to a property, whatever is in its name."""
    if _PLAIN_KEY.fullmatch(name):
        return f".{name}"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'."{escaped}"'


def place_in(value: Value, path: str) -> Value:
    """What is at a JSON *path*, such as ``.a[0]``, of a dynamic."""
    place, before = value.at or (value.inside or value.sql, "$")
    whole = before + path
    return Value(f"json_extract({place}, {sql.quote(whole)})", "dynamic", at=(place, whole))


def common_type(kinds: list[str]) -> str | None:
    """
    The type that values of *kinds* have together in one column; None where there is none.

    >>> common_type(["int", "real"]), common_type(["dynamic", "long"]), common_type(["string", "long"])
    ('real', 'long', None)
    """
    found = set(kinds)
    if len(found) == 1:
        return found.pop()
    if found <= NUMBERS:
        return "real" if "real" in found else "long"
    plain = found - {"dynamic"}
    if len(plain) == 1:
        return plain.pop()
    return "real" if "real" in plain and plain <= NUMBERS else None


def add(moment: Value, span: Value, operator: str = "+") -> Value:
    """A time and a length of time."""
    if moment.is_constant and span.is_constant and None not in (moment.constant, span.constant):
        sign = 1 if operator == "+" else -1
        return constant("datetime", moment.constant + sign * span.constant)
    if span.is_constant and span.constant is not None:
        return Value(f"({moment.sql} {operator} INTERVAL '{span.constant // 10} microseconds')", "datetime")
    return Value(f"({moment.sql} {operator} to_microseconds({span.sql} // 10))", "datetime")
