"""The functions whose SQL depends on what they are called with: choices, times, rounding, text of any type, windows."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import literals, values
from scoretrace.kql.functions import argument_values, pattern
from scoretrace.kql.relations import OrderKey, Scope
from scoretrace.kql.syntax import Call, TypeOf
from scoretrace.kql.values import Value, constant

Form = Callable[[Call, Scope], Value]

_DATETIME_PARTS = {
    "year": "year", "quarter": "quarter", "month": "month", "day": "day", "hour": "hour", "minute": "minute",
    "second": "second", "millisecond": "millisecond", "microsecond": "microsecond",
}  # fmt: skip
_FORMATS = {
    "yyyy": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "dd": "%d", "d": "%-d", "HH": "%H", "H": "%-H", "hh": "%I",
    "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "tt": "%p",
}  # fmt: skip
_RUN = re.compile(r"y+|M+|d+|H+|h+|m+|s+|t+|f+|F+|[ /\-:,.\[\]_]+|.", re.DOTALL)
_DYNAMIC_TYPES = (
    "CASE {0} WHEN 'VARCHAR' THEN 'string' WHEN 'BIGINT' THEN 'long' WHEN 'UBIGINT' THEN 'long' "
    "WHEN 'DOUBLE' THEN 'double' WHEN 'BOOLEAN' THEN 'bool' WHEN 'ARRAY' THEN 'array' "
    "WHEN 'OBJECT' THEN 'dictionary' ELSE 'null' END"
)


def _value(node: Call, index: int, scope: Scope) -> Value:
    return scope.value(node.arguments[index])


def _count(node: Call, scope: Scope, least: int, most: int) -> int:
    count = len(node.arguments)
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise scope.places.wrong(node.at, f"{node.name}() takes {wanted} arguments, not {count}")
    return count


def _constant_text(node: Call, index: int, scope: Scope) -> str:
    found = _value(node, index, scope)
    if found.type != "string" or not found.is_constant:
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a literal string here")
    return str(found.constant)


# Choices.


def alike(found: list[Value], node: Call, scope: Scope) -> list[Value]:
    """Values of one type, as the branches of a choice have it."""
    kind = values.common_type([one.type for one in found])
    if kind is None:
        kinds = ", ".join(dict.fromkeys(one.type for one in found))
        raise scope.places.wrong(node.at, f"{node.name}() has values of different types: {kinds}")
    return [values.filled(values.CONVERSIONS[kind](one)) for one in found]


def _iff(node: Call, scope: Scope) -> Value:
    _count(node, scope, 3, 3)
    test = scope.condition(node.arguments[0])
    one, other = alike([_value(node, 1, scope), _value(node, 2, scope)], node, scope)
    return Value(f"CASE WHEN {test} THEN {one.sql} ELSE {other.sql} END", one.type, one.nullable or other.nullable)


def _case(node: Call, scope: Scope) -> Value:
    count = len(node.arguments)
    if count < 3 or count % 2 == 0:
        raise scope.places.wrong(node.at, "case() takes pairs of a condition and a value, and a value for the rest")
    tests = [scope.condition(argument) for argument in node.arguments[:-1:2]]
    indices = [*range(1, count, 2), count - 1]
    found = alike([_value(node, index, scope) for index in indices], node, scope)
    cases = " ".join(f"WHEN {test} THEN {one.sql}" for test, one in zip(tests, found, strict=False))
    nullable = any(one.nullable for one in found)
    return Value(f"CASE {cases} ELSE {found[-1].sql} END", found[-1].type, nullable)


def _coalesce(node: Call, scope: Scope) -> Value:
    found = argument_values(node, scope, 1, 64)
    if {one.type for one in found} == {"string"}:
        body = ", ".join(f"nullif({one.sql}, '')" for one in found)
        return Value(f"coalesce({body}, '')", "string", nullable=False)
    if any(one.type == "dynamic" for one in found):
        if len({one.type for one in found}) > 1:
            raise scope.places.wrong(node.at, "coalesce() of a dynamic and another type: cast it with tostring(...)")
        body = ", ".join(f"CASE WHEN NOT {values.is_null(one)} THEN {one.sql} END" for one in found)
        return Value(f"coalesce({body})", "dynamic")
    found = alike(found, node, scope)
    return Value(f"coalesce({', '.join(one.sql for one in found)})", found[0].type, all(one.nullable for one in found))


def _is_null(node: Call, scope: Scope) -> Value:
    _count(node, scope, 1, 1)
    return Value(values.is_null(_value(node, 0, scope)), "bool", nullable=False)


def _is_not_null(node: Call, scope: Scope) -> Value:
    return Value(f"(NOT {_is_null(node, scope).sql})", "bool", nullable=False)


def _extreme(function: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        found = argument_values(node, scope, 1, 64)
        for one, written in zip(found, node.arguments, strict=True):
            if one.type in {"dynamic", "guid"}:
                raise scope.places.wrong(written.at, f"{node.name}() does not take a {one.type}")
        found = alike(found, node, scope)
        return Value(f"{function}({', '.join(one.sql for one in found)})", found[0].type, found[0].type != "string")

    return made


def _column_if_exists(node: Call, scope: Scope) -> Value:
    _count(node, scope, 2, 2)
    name = _constant_text(node, 0, scope)
    column = scope.column(name)
    return column.value if column is not None else _value(node, 1, scope)


def _to_scalar(node: Call, scope: Scope) -> Value:
    _count(node, scope, 1, 1)
    argument = node.arguments[0]
    if not scope.is_tabular(argument):
        return _value(node, 0, scope)
    rows = scope.rows(argument)
    column = rows.columns[0]
    first = f"SELECT {column.value.sql} AS v FROM {rows.sql}{rows.ordering} LIMIT 1"
    return values.filled(Value(f"(SELECT v FROM {scope.builder.stage(first, is_shared=True)})", column.type))


# Text of any type.


def _join(node: Call, scope: Scope) -> Value:
    found = [values.text(one) for one in argument_values(node, scope, 1, 64)]
    if all(one.is_constant for one in found):
        return constant("string", "".join(one.constant for one in found))
    parts = [one.sql for one in found]
    return Value(f"({' || '.join(parts)})" if len(parts) > 1 else parts[0], "string", nullable=False)


def _join_with(node: Call, scope: Scope) -> Value:
    delimiter, *parts = (values.text(one).sql for one in argument_values(node, scope, 3, 65))
    return Value(f"concat_ws({delimiter}, {', '.join(parts)})", "string", nullable=False)


def _split(node: Call, scope: Scope) -> Value:
    found = argument_values(node, scope, 2, 3)
    body = f"string_split({values.text(found[0]).sql}, {values.text(found[1]).sql})"
    if len(found) == 3:
        index = values.long(found[2]).sql
        body = f"list_slice({body}, {index} + 1, {index} + 1)"
    return Value(f"to_json({body})", "dynamic")


def _extract(node: Call, scope: Scope) -> Value:
    count = _count(node, scope, 3, 4)
    group = values.long(_value(node, 1, scope)).sql
    body = values.text(_value(node, 2, scope)).sql
    found = Value(
        f"coalesce(regexp_extract({body}, {pattern(_value(node, 0, scope), scope, node.at)}, ({group})::INTEGER), '')",
        "string",
        nullable=False,
    )
    if count == 4:
        kind = node.arguments[3]
        if not isinstance(kind, TypeOf):
            raise scope.places.wrong(kind.at, "extract() takes a type as typeof(long)")
        return values.CONVERSIONS[kind.type](found)
    return found


def _extract_all(node: Call, scope: Scope) -> Value:
    if _count(node, scope, 2, 3) == 3:
        raise scope.places.unsupported(node.at, "extract_all() of chosen groups")
    written = _constant_text(node, 0, scope)
    if re.compile(written.replace("(?<", "(?P<")).groups != 1:
        raise scope.places.unsupported(node.at, "extract_all() of several groups, or of none,")
    body = values.text(_value(node, 1, scope)).sql
    expression = pattern(_value(node, 0, scope), scope, node.at)
    return Value(f"to_json(regexp_extract_all({body}, {expression}, 1))", "dynamic")


def _extract_json(node: Call, scope: Scope) -> Value:
    _count(node, scope, 2, 2)
    path = _constant_text(node, 0, scope)
    body = values.parsed(_value(node, 1, scope)).sql
    return Value(f"coalesce(json_extract_string({body}, {sql.quote(path)}), '')", "string", nullable=False)


def _count_of(node: Call, scope: Scope) -> Value:
    count = _count(node, scope, 2, 3)
    body, needle = values.text(_value(node, 0, scope)).sql, _value(node, 1, scope)
    if count == 3 and _constant_text(node, 2, scope) == "regex":
        return Value(f"len(regexp_extract_all({body}, {pattern(needle, scope, node.at)}))", "long")
    wanted = values.text(needle).sql
    starts = f"range(1, length({body}) - length({wanted}) + 2)"
    matched = f"list_filter({starts}, lambda i: substr({body}, i, length({wanted})) = {wanted})"
    return Value(f"coalesce(len({matched}), 0)", "long")


def _get_type(node: Call, scope: Scope) -> Value:
    _count(node, scope, 1, 1)
    found = _value(node, 0, scope)
    if found.type == "dynamic":
        return Value(_DYNAMIC_TYPES.format(values.json_type(found)), "string", nullable=False)
    return constant("string", found.type)


# Rounding.


def _bin(node: Call, scope: Scope) -> Value:
    found, size = argument_values(node, scope, 2, 2)
    return binned(found, size, node, scope)


def binned(found: Value, size: Value, node: Call, scope: Scope) -> Value:
    """A value cut to a multiple of a size: of times, counted from the first of January of the year 1."""
    kinds = (found.type, size.type)
    if kinds == ("datetime", "timespan"):
        if size.is_constant and size.constant and size.constant > 0 and size.constant % 10 == 0:
            width = f"to_microseconds({size.constant // 10})"
            return Value(f"time_bucket({width}, {found.sql}, TIMESTAMP '0001-01-01')", "datetime", found.nullable)
        ticks = values.ticks_of_moment(found.sql)
        cut = f"(({ticks}) // {size.sql} * {size.sql})"
        return values.moment(Value(cut, "long"))
    if kinds == ("timespan", "timespan"):
        return Value(_floored(found.sql, size.sql), "timespan")
    if found.is_number and size.is_number:
        if "real" in kinds:
            one, other = values.real(found).sql, values.real(size).sql
            return Value(f"(floor({one} / {other}) * {other})", "real", found.nullable)
        return Value(_floored(values.long(found).sql, values.long(size).sql), "long")
    raise scope.places.wrong(node.at, f"{node.name}() does not round a {kinds[0]} by a {kinds[1]}")


def _floored(number: str, size: str) -> str:
    return f"(({number} - ((({number} % NULLIF({size}, 0)) + {size}) % NULLIF({size}, 0))))"


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
    if number.type != "real":
        return values.long(number)
    digits = values.long(found[1]).sql if len(found) == 2 else "0"
    return Value(f"round({number.sql}, ({digits})::INTEGER)", "real", number.nullable)


# Times.


def _now(node: Call, scope: Scope) -> Value:
    now = constant("datetime", scope.builder.now)
    if _count(node, scope, 0, 1):
        return values.add(now, _span(node, 0, scope))
    return now


def _ago(node: Call, scope: Scope) -> Value:
    _count(node, scope, 1, 1)
    return values.add(constant("datetime", scope.builder.now), _span(node, 0, scope), "-")


def _span(node: Call, index: int, scope: Scope) -> Value:
    found = _value(node, index, scope)
    if found.type != "timespan":
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a timespan, not a {found.type}")
    return found


def _moment(node: Call, index: int, scope: Scope) -> Value:
    found = _value(node, index, scope)
    if found.type != "datetime":
        hint = "; todatetime(...) reads it" if found.type in {"dynamic", "string"} else ""
        raise scope.places.wrong(node.arguments[index].at, f"{node.name}() takes a datetime, not a {found.type}{hint}")
    return found


def _part(node: Call, scope: Scope, known: dict[str, str]) -> str:
    part = _constant_text(node, 0, scope).lower()
    if part not in known:
        raise scope.places.unsupported(node.arguments[0].at, f"{node.name}() by {part or 'nothing'}")
    return known[part]


def _datetime_add(node: Call, scope: Scope) -> Value:
    _count(node, scope, 3, 3)
    unit = _part(node, scope, {**_DATETIME_PARTS, "week": "week"})
    amount = values.long(_value(node, 1, scope)).sql
    return Value(f"({_moment(node, 2, scope).sql} + {amount} * INTERVAL 1 {unit.upper()})", "datetime")


def _datetime_diff(node: Call, scope: Scope) -> Value:
    _count(node, scope, 3, 3)
    unit = _part(node, scope, _DATETIME_PARTS)
    one, other = _moment(node, 1, scope).sql, _moment(node, 2, scope).sql
    return Value(f"date_diff('{unit}', {other}, {one})", "long")


def _datetime_part(node: Call, scope: Scope) -> Value:
    _count(node, scope, 2, 2)
    part = _part(node, scope, {**_DATETIME_PARTS, "week_of_year": "week", "dayofyear": "dayofyear"})
    moment = _moment(node, 1, scope).sql
    if part in {"millisecond", "microsecond"}:
        size = 1_000 if part == "millisecond" else 1
        return Value(f"CAST(epoch_us({moment}) % 1000000 // {size} AS INTEGER)", "int")
    return Value(f"CAST(date_part('{part}', {moment}) AS INTEGER)", "int")


def _format_datetime(node: Call, scope: Scope) -> Value:
    _count(node, scope, 2, 2)
    moment, written = _moment(node, 0, scope).sql, _constant_text(node, 1, scope)
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
    _count(node, scope, 2, 2)
    ticks, written = _span(node, 0, scope).sql, _constant_text(node, 1, scope)
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


# Dynamics.


def _pack_array(node: Call, scope: Scope) -> Value:
    parts = [values.dynamic(one).sql for one in argument_values(node, scope, 0, 64)]
    return Value(f"to_json(list_value({', '.join(parts)})::JSON[])" if parts else "'[]'::JSON", "dynamic")


def _pack_bag(node: Call, scope: Scope) -> Value:
    found = argument_values(node, scope, 0, 128)
    if len(found) % 2:
        raise scope.places.wrong(node.at, f"{node.name}() takes pairs of a name and a value")
    pairs = [
        part
        for name, one in zip(found[::2], found[1::2], strict=True)
        for part in (values.text(name).sql, values.dynamic(one).sql)
    ]
    return Value(f"json_object({', '.join(pairs)})", "dynamic")


def _pack_all(node: Call, scope: Scope) -> Value:
    if _count(node, scope, 0, 1):
        raise scope.places.unsupported(node.at, "pack_all() that leaves out empty columns")
    columns = scope.current.columns
    pairs = [part for column in columns for part in (sql.quote(column.name), values.dynamic(column.value).sql)]
    return Value(f"json_object({', '.join(pairs)})", "dynamic")


def _range(node: Call, scope: Scope) -> Value:
    found = argument_values(node, scope, 2, 3)
    kinds = {one.type for one in found}
    if not kinds <= {"int", "long"}:
        raise scope.places.unsupported(node.at, f"range() of {' and '.join(sorted(kinds))}")
    parts = [values.long(one).sql for one in found]
    return Value(f"to_json(list_slice(generate_series({', '.join(parts)}), 1, 1048576))", "dynamic")


def _repeat(node: Call, scope: Scope) -> Value:
    one, times = argument_values(node, scope, 2, 2)
    element = values.dynamic(one).sql
    return Value(f"to_json(list_transform(range({values.long(times).sql}), lambda _: {element}))", "dynamic")


def _sorted(function: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        (found,) = argument_values(node, scope, 1, 1)
        listed = f"CAST(json_extract({found.sql}, '$[*]') AS JSON[])"
        kinds = f"list_distinct(list_transform({listed}, lambda x: json_type(x)))"
        numbers = f"list_transform({listed}, lambda x: try_cast(json_extract_string(x, '$') AS DOUBLE))"
        texts = f"list_transform({listed}, lambda x: json_extract_string(x, '$'))"
        places = f"list_grade_up({{0}}, '{'ASC' if function == 'list_sort' else 'DESC'}', 'NULLS LAST')"
        chosen = f"CASE WHEN {kinds} = ['VARCHAR'] THEN {places.format(texts)} ELSE {places.format(numbers)} END"
        return Value(f"to_json(list_select({listed}, {chosen}))", "dynamic")

    return made


def _sets(how: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        found = argument_values(node, scope, 2, 2)
        one, other = (f"coalesce(CAST(json_extract({part.sql}, '$[*]') AS JSON[]), [])" for part in found)
        body = {
            "union": f"list_distinct({one} || {other})",
            "intersect": f"list_distinct(list_filter({one}, lambda x: list_contains({other}, x)))",
            "difference": f"list_distinct(list_filter({one}, lambda x: NOT list_contains({other}, x)))",
        }[how]
        return Value(f"to_json({body})", "dynamic")

    return made


def _merge_bags(node: Call, scope: Scope) -> Value:
    """Of a name in several bags the first counts."""
    found = argument_values(node, scope, 2, 64)
    bags = [f"CASE WHEN {values.json_type(one)} = 'OBJECT' THEN {one.sql} ELSE '{{}}'::JSON END" for one in found]
    keys = "list_distinct(flatten([" + ", ".join(f"json_keys({bag})" for bag in bags) + "]))"
    path = "'$.\"' || replace(replace(k, '\\', '\\\\'), '\"', '\\\"') || '\"'"
    first = "coalesce(" + ", ".join(f"json_extract({bag}, {path})" for bag in bags) + ")"
    return Value(
        f"(SELECT coalesce(json_group_object(k, {first}), '{{}}'::JSON) FROM (SELECT unnest({keys}) AS k))", "dynamic"
    )


# Windows: what a row sees of the rows around it.


def _window(node: Call, scope: Scope) -> None:
    relation = scope.relation
    if relation is None:
        raise scope.places.wrong(node.at, f"{node.name}() stands where there are no rows")
    if not relation.is_serialized:
        raise scope.places.wrong(node.at, f"{node.name}() needs rows in an order: sort by ... or serialize before it")
    if len(relation.order) != 1 or not relation.order[0].sql.startswith("~number"):
        # Rows that sort alike have to have one order for all windows and for the answer.
        number = scope.add(f"row_number() OVER {relation.window}", "number")
        scope.relation = replace(scope.current, order=(OrderKey(number, ascending=True, nulls_first=True),))


def _over(scope: Scope, frame: str = "") -> str:
    return f"OVER {scope.current.window[:-1]}{frame})"


def _hoisted(expression: str, kind: str, scope: Scope) -> Value:
    return Value(sql.name(scope.add(expression, "window")), kind)


def _row_number(node: Call, scope: Scope) -> Value:
    count = _count(node, scope, 0, 2)
    start = values.long(_value(node, 0, scope)).sql if count else "1"
    if count == 2:
        restart = scope.condition(node.arguments[1])
        _window(node, scope)
        group = scope.add(f"count(*) FILTER ({restart}) {_over(scope, ' ROWS UNBOUNDED PRECEDING')}", "group")
        inner = replace(scope.current, partition=(*scope.current.partition, group)).window
        return _hoisted(f"row_number() OVER {inner} - 1 + {start}", "long", scope)
    _window(node, scope)
    return _hoisted(f"row_number() {_over(scope)} - 1 + {start}", "long", scope)


def _neighbour(function: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        count = _count(node, scope, 1, 3)
        found = _value(node, 0, scope)
        offset = _value(node, 1, scope) if count > 1 else constant("long", 1)
        if not offset.is_constant:
            raise scope.places.wrong(node.arguments[1].at, f"{node.name}() takes a literal number of rows")
        default = values.null(found.type).sql
        if count == 3:
            kind = values.common_type([found.type, _value(node, 2, scope).type])
            if kind is None:
                raise scope.places.wrong(node.at, f"{node.name}() has a default of another type")
            found = values.CONVERSIONS[kind](found)
            default = values.CONVERSIONS[kind](_value(node, 2, scope)).sql
        _window(node, scope)
        body = f"{function}({found.sql}, {offset.constant}, {default}) {_over(scope)}"
        return _hoisted(body, found.type, scope)

    return made


def _cumulated(node: Call, scope: Scope) -> Value:
    count = _count(node, scope, 1, 2)
    found = _value(node, 0, scope)
    if not found.is_number and found.type != "timespan":
        raise scope.places.wrong(node.at, f"row_cumsum() takes a number, not a {found.type}")
    kind = "long" if found.type == "int" else found.type
    frame = " ROWS UNBOUNDED PRECEDING"
    if count == 2:
        restart = scope.condition(node.arguments[1])
        _window(node, scope)
        group = scope.add(f"count(*) FILTER ({restart}) {_over(scope, frame)}", "group")
        inner = replace(scope.current, partition=(*scope.current.partition, group)).window
        return _hoisted(f"CAST(sum({found.sql}) OVER {inner[:-1]}{frame}) AS {values.SQL_TYPES[kind]})", kind, scope)
    _window(node, scope)
    return _hoisted(f"CAST(sum({found.sql}) {_over(scope, frame)} AS {values.SQL_TYPES[kind]})", kind, scope)


def _ranked(*, is_dense: bool) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        _count(node, scope, 1, 1)
        found = _value(node, 0, scope)
        _window(node, scope)
        changed = scope.add(f"({found.sql} IS DISTINCT FROM lag({found.sql}) {_over(scope)})", "changed")
        number = scope.add(f"row_number() {_over(scope)}", "number")
        frame = " ROWS UNBOUNDED PRECEDING"
        if is_dense:
            # The first row changes from nothing, be its own value null.
            first = f"({sql.name(changed)} OR {sql.name(number)} = 1)"
            return _hoisted(f"count(*) FILTER ({first}) {_over(scope, frame)}", "long", scope)
        since = f"max(CASE WHEN {sql.name(changed)} OR {sql.name(number)} = 1 THEN {sql.name(number)} END)"
        return _hoisted(f"{since} {_over(scope, frame)}", "long", scope)

    return made


def _materialize(node: Call, scope: Scope) -> Value:
    raise scope.places.wrong(node.at, f"{node.name}() gives rows, where a value is expected")


FORMS: dict[str, Form] = {
    "ago": _ago,
    "array_sort_asc": _sorted("list_sort"),
    "array_sort_desc": _sorted("list_reverse_sort"),
    "bag_merge": _merge_bags,
    "bag_pack": _pack_bag,
    "bin": _bin,
    "bin_at": _bin_at,
    "case": _case,
    "coalesce": _coalesce,
    "column_ifexists": _column_if_exists,
    "countof": _count_of,
    "datetime_add": _datetime_add,
    "datetime_diff": _datetime_diff,
    "datetime_part": _datetime_part,
    "extract": _extract,
    "extract_all": _extract_all,
    "extract_json": _extract_json,
    "extractjson": _extract_json,
    "format_datetime": _format_datetime,
    "format_timespan": _format_timespan,
    "gettype": _get_type,
    "iff": _iff,
    "isnotnull": _is_not_null,
    "isnull": _is_null,
    "materialize": _materialize,
    "max_of": _extreme("greatest"),
    "min_of": _extreme("least"),
    "next": _neighbour("lead"),
    "now": _now,
    "pack_all": _pack_all,
    "pack_array": _pack_array,
    "prev": _neighbour("lag"),
    "range": _range,
    "repeat": _repeat,
    "round": _round,
    "row_cumsum": _cumulated,
    "row_number": _row_number,
    "row_rank_dense": _ranked(is_dense=True),
    "row_rank_min": _ranked(is_dense=False),
    "set_difference": _sets("difference"),
    "set_intersect": _sets("intersect"),
    "set_union": _sets("union"),
    "split": _split,
    "strcat": _join,
    "strcat_delim": _join_with,
    "toscalar": _to_scalar,
}
