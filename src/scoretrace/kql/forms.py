"""The functions whose SQL depends on what they are called with: choices, text of any type, dynamics."""

from __future__ import annotations

import re

from scoretrace import sql
from scoretrace.kql import dynamics, literals, values
from scoretrace.kql.arguments import Form, argument_values, constant_text, count_of, value_at
from scoretrace.kql.functions import REPEATS, pattern
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call, TypeOf
from scoretrace.kql.values import Value, constant

_DYNAMIC_TYPES = (
    "CASE {0} WHEN 'VARCHAR' THEN 'string' WHEN 'BIGINT' THEN 'long' WHEN 'UBIGINT' THEN 'long' "
    "WHEN 'DOUBLE' THEN 'double' WHEN 'BOOLEAN' THEN 'bool' WHEN 'ARRAY' THEN 'array' "
    "WHEN 'OBJECT' THEN 'dictionary' ELSE 'null' END"
)
_MOST_ELEMENTS = 1_048_576  # of an array, as Kusto has it
_KEY = '"~key"'


# Choices.


def alike(found: list[Value], node: Call, scope: Scope) -> list[Value]:
    """Values of one type, as the branches of a choice have it."""
    kind = values.common_type([one.type for one in found])
    if kind is None:
        kinds = ", ".join(dict.fromkeys(one.type for one in found))
        raise scope.places.wrong(node.at, f"{node.name}() has values of different types: {kinds}")
    return [values.filled(values.CONVERSIONS[kind](one)) for one in found]


def _iff(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 3, 3)
    test = scope.condition(node.arguments[0])
    one, other = alike([value_at(node, 1, scope), value_at(node, 2, scope)], node, scope)
    return Value(f"CASE WHEN {test} THEN {one.sql} ELSE {other.sql} END", one.type, one.nullable or other.nullable)


def _case(node: Call, scope: Scope) -> Value:
    count = len(node.arguments)
    if count < 3 or count % 2 == 0:
        raise scope.places.wrong(node.at, "case() takes pairs of a condition and a value, and a value for the rest")
    tests = [scope.condition(argument) for argument in node.arguments[:-1:2]]
    indices = [*range(1, count, 2), count - 1]
    found = alike([value_at(node, index, scope) for index in indices], node, scope)
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
    count_of(node, scope, 1, 1)
    return Value(values.is_null(value_at(node, 0, scope)), "bool", nullable=False)


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
    count_of(node, scope, 2, 2)
    name = constant_text(node, 0, scope)
    column = scope.column(name)
    return column.value if column is not None else value_at(node, 1, scope)


def _to_scalar(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 1, 1)
    argument = node.arguments[0]
    if not scope.is_tabular(argument):
        return value_at(node, 0, scope)
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
    count = count_of(node, scope, 3, 4)
    group = values.long(value_at(node, 1, scope)).sql
    body = values.text(value_at(node, 2, scope)).sql
    expression = pattern(value_at(node, 0, scope), scope, node.at)
    found = Value(
        f"coalesce(regexp_extract({body}, {expression}, ({group})::INTEGER), '')",
        "string",
        nullable=False,
    )
    return _as_type(found, node, 3, scope) if count == 4 else found


def _as_type(found: Value, node: Call, index: int, scope: Scope) -> Value:
    kind = node.arguments[index]
    if not isinstance(kind, TypeOf) or kind.type not in values.CONVERSIONS:
        raise scope.places.wrong(kind.at, f"{node.name}() takes a type as typeof(long)")
    return values.CONVERSIONS[kind.type](found)


def _index_of(node: Call, scope: Scope) -> Value:
    """The place of a text in another, -1 where it is not; a start before the text counts from its end."""
    found = argument_values(node, scope, 2, 5)
    body, needle = (values.text(one).sql for one in found[:2])
    start, length = "0", ""
    if len(found) > 2:
        given = values.long(found[2]).sql
        start = f"CASE WHEN {given} < 0 THEN greatest(length({body}) + {given}, 0) ELSE {given} END"
    if len(found) > 3:
        given = values.long(found[3]).sql
        length = f", CASE WHEN {given} < 0 THEN length({body}) ELSE {given} END"
    if len(found) > 4 and found[4].constant != 1:
        raise scope.places.unsupported(node.arguments[4].at, "indexof() of another occurrence than the first")
    place = f"strpos(substr({body}, {start} + 1{length}), {needle})"
    return Value(f"CASE WHEN {place} = 0 THEN -1 ELSE {place} - 1 + {start} END", "long")


def _extract_all(node: Call, scope: Scope) -> Value:
    """The groups of each match: texts where there is one group, else arrays of texts."""
    count = count_of(node, scope, 2, 3)
    try:
        there = re.compile(constant_text(node, 0, scope).replace("(?<", "(?P<")).groups
    except re.error as error:
        raise scope.places.wrong(node.arguments[0].at, f"this is no regular expression: {error}") from error
    chosen = list(range(1, there + 1))
    if count == 3:
        groups = value_at(node, 1, scope)
        chosen = groups.constant if groups.type == "dynamic" and isinstance(groups.constant, list) else []
        if not all(isinstance(group, int) and 0 < group <= there for group in chosen):
            raise scope.places.unsupported(node.arguments[1].at, "extract_all() of groups by name")
    if not chosen:
        raise scope.places.wrong(node.arguments[0].at, "extract_all() needs a group, (...), in its expression")
    body = values.text(value_at(node, count - 1, scope)).sql
    expression = pattern(value_at(node, 0, scope), scope, node.at)
    found = [f"regexp_extract_all({body}, {expression}, {group})" for group in chosen]
    if len(found) == 1:
        return Value(dynamics.array(found[0]), "dynamic")
    picked = ", ".join(f"{dynamics.ELEMENT}[{index}]" for index in range(1, len(found) + 1))
    return Value(dynamics.array(dynamics.each(f"list_zip({', '.join(found)})", f"[{picked}]")), "dynamic")


def _extract_json(node: Call, scope: Scope) -> Value:
    count = count_of(node, scope, 2, 3)
    path = constant_text(node, 0, scope)
    body = values.parsed(value_at(node, 1, scope)).sql
    found = Value(f"coalesce(json_extract_string({body}, {sql.quote(path)}), '')", "string", nullable=False)
    return _as_type(found, node, 2, scope) if count == 3 else found


def _count_of(node: Call, scope: Scope) -> Value:
    count = count_of(node, scope, 2, 3)
    body, needle = values.text(value_at(node, 0, scope)).sql, value_at(node, 1, scope)
    if count == 3 and constant_text(node, 2, scope) == "regex":
        return Value(f"len(regexp_extract_all({body}, {pattern(needle, scope, node.at)}))", "long")
    wanted = values.text(needle).sql
    starts = f"range(1, length({body}) - length({wanted}) + 2)"
    matched = dynamics.kept(starts, f"substr({body}, {dynamics.ELEMENT}, length({wanted})) = {wanted}")
    return Value(f"coalesce(len({matched}), 0)", "long")


def _get_type(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 1, 1)
    found = value_at(node, 0, scope)
    if found.type == "dynamic":
        return Value(_DYNAMIC_TYPES.format(values.json_type(found)), "string", nullable=False)
    return constant("string", found.type)


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
    if count_of(node, scope, 0, 1):
        raise scope.places.unsupported(node.at, "pack_all() that leaves out empty columns")
    columns = scope.current.columns
    pairs = [part for column in columns for part in (sql.quote(column.name), values.dynamic(column.value).sql)]
    return Value(f"json_object({', '.join(pairs)})", "dynamic")


def _range(node: Call, scope: Scope) -> Value:
    """Numbers, times or lengths of time in equal steps, of which there are no more than Kusto has."""
    found = argument_values(node, scope, 2, 3)
    kind = found[0].type
    step = found[2] if len(found) == 3 else constant("long", 1)
    if kind in {"datetime", "timespan"}:
        step = found[2] if len(found) == 3 else constant("timespan", literals.HOUR)
        if found[1].type != kind or step.type != "timespan":
            raise scope.places.wrong(node.at, f"range() takes two of {kind}, and a step that is a timespan")
    elif not {one.type for one in found} <= values.NUMBERS:
        kinds = ", ".join(one.type for one in found)
        raise scope.places.wrong(node.at, f"range() takes numbers, or times with a timespan, not {kinds}")
    elif "real" in {one.type for one in found}:
        kind = "real"
        first, last, size = (values.real(one).sql for one in (*found[:2], step))
        steps = f"range(least(floor(({last} - {first}) / {size}), {_MOST_ELEMENTS - 1})::BIGINT + 1)"
        return Value(dynamics.array(dynamics.each(steps, f"{first} + {dynamics.ELEMENT} * {size}")), "dynamic")
    ticks = values.ticks_of_moment if kind == "datetime" else str
    first, last, size = ticks(found[0].sql), ticks(found[1].sql), step.sql
    end = f"({first} + {size} * {_MOST_ELEMENTS - 1})"
    bounded = f"CASE WHEN {size} < 0 THEN greatest({last}, {end}) ELSE least({last}, {end}) END"
    series = f"generate_series(({first})::BIGINT, ({bounded})::BIGINT, nullif({size}, 0)::BIGINT)"
    element = Value(dynamics.ELEMENT, "long")
    made = {"datetime": values.moment, "timespan": values.span}.get(kind, values.long)(element)
    return Value(dynamics.array(dynamics.each(series, values.dynamic(made).sql)), "dynamic")


def _repeat(node: Call, scope: Scope) -> Value:
    one, times = argument_values(node, scope, 2, 2)
    count = f"range(least({values.long(times).sql}, {REPEATS}))"
    return Value(dynamics.array(dynamics.each(count, values.dynamic(one).sql)), "dynamic")


def _concatenated(node: Call, scope: Scope) -> Value:
    lists = _arrays(node, scope, 1)
    return Value(dynamics.array(" || ".join(lists)), "dynamic")


def _arrays(node: Call, scope: Scope, least: int) -> list[str]:
    """The arguments as lists, all of which have to be dynamics."""
    found = []
    for argument, written in zip(argument_values(node, scope, least, 64), node.arguments, strict=True):
        if argument.type != "dynamic":
            raise scope.places.wrong(written.at, f"{node.name}() takes a dynamic here, not a {argument.type}")
        found.append(f"coalesce({dynamics.elements(argument.sql)}, [])")
    return found


def _sorted(*, ascending: bool) -> Form:
    """Numbers, then texts, and nulls last, or first where that is said."""

    def made(node: Call, scope: Scope) -> Value:
        count = count_of(node, scope, 1, 64)
        last = value_at(node, count - 1, scope) if count > 1 else constant("bool", True)
        if count > 2 or last.type != "bool" or not last.is_constant:
            raise scope.places.unsupported(node.at, f"{node.name}() of several arrays")
        found = value_at(node, 0, scope)
        if found.type != "dynamic":
            raise scope.places.wrong(node.arguments[0].at, f"{node.name}() takes a dynamic, not a {found.type}")
        listed = dynamics.elements(found.sql)
        kind, held = f"json_type({dynamics.ELEMENT})", f"json_extract_string({dynamics.ELEMENT}, '$')"
        nulls = 9 if ascending == last.constant else -1
        is_number = f"{kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
        others = f"CASE {kind} WHEN 'NULL' THEN {nulls} WHEN 'VARCHAR' THEN 2 ELSE 3 END"
        rank = f"CASE WHEN {is_number} THEN 1 ELSE {others} END"
        number = f"CASE WHEN {is_number} THEN try_cast({held} AS DOUBLE) END"
        keys = dynamics.each(listed, f"{{'rank': {rank}, 'number': {number}, 'text': {held}}}")
        places = f"list_grade_up({keys}, '{'ASC' if ascending else 'DESC'}')"
        body = f"CASE WHEN {listed} = [] THEN '[]'::JSON ELSE to_json(list_select({listed}, {places})) END"
        return Value(body, "dynamic")

    return made


def _sets(how: str) -> Form:
    def made(node: Call, scope: Scope) -> Value:
        one, *others = _arrays(node, scope, 2)
        for other in others:
            inside = f"list_contains({other}, {dynamics.ELEMENT})"
            if how == "union":
                one = f"({one} || {other})"
            else:
                one = dynamics.kept(one, inside if how == "intersect" else f"NOT {inside}")
        return Value(dynamics.array(f"list_distinct({one})"), "dynamic")

    return made


def _merge_bags(node: Call, scope: Scope) -> Value:
    """Of a name in several bags the first counts."""
    found = argument_values(node, scope, 2, 64)
    bags = [f"CASE WHEN {values.json_type(one)} = 'OBJECT' THEN {one.sql} ELSE '{{}}'::JSON END" for one in found]
    keys = "list_distinct(flatten([" + ", ".join(f"json_keys({bag})" for bag in bags) + "]))"
    path = dynamics.escaped_path(_KEY)
    first = "coalesce(" + ", ".join(f"json_extract({bag}, {path})" for bag in bags) + ")"
    return Value(_bag_of(keys, first), "dynamic")


def _bag_of(keys: str, value: str) -> str:
    """A bag with *value* for each `_KEY` of a list."""
    return f"(SELECT coalesce(json_group_object({_KEY}, {value}), '{{}}'::JSON) FROM (SELECT unnest({keys}) AS {_KEY}))"


def _bag_without(node: Call, scope: Scope) -> Value:
    found, gone = argument_values(node, scope, 2, 2)
    if found.type != "dynamic" or gone.type != "dynamic":
        raise scope.places.wrong(node.at, f"{node.name}() takes a bag and an array, not {found.type} and {gone.type}")
    if gone.is_constant and any(str(name).startswith("$") for name in gone.constant or []):
        raise scope.places.unsupported(node.arguments[1].at, f"a JSON path in {node.name}()")
    keys = dynamics.kept(
        f"json_keys({found.sql})", f"NOT list_contains({dynamics.texts(gone.sql)}, {dynamics.ELEMENT})"
    )
    value = f"json_extract({found.sql}, {dynamics.escaped_path(_KEY)})"
    return Value(f"CASE WHEN {values.json_type(found)} = 'OBJECT' THEN {_bag_of(keys, value)} END", "dynamic")


def _bag_has(node: Call, scope: Scope) -> Value:
    found, name = argument_values(node, scope, 2, 2)
    if found.type != "dynamic" or name.type != "string":
        raise scope.places.wrong(node.at, f"{node.name}() takes a bag and a string, not {found.type} and {name.type}")
    if name.is_constant and name.constant.startswith("$"):
        return Value(f"coalesce(json_exists({found.sql}, {name.sql}), FALSE)", "bool", nullable=False)
    return Value(f"coalesce(list_contains(json_keys({found.sql}), {name.sql}), FALSE)", "bool", nullable=False)


def _materialize(node: Call, scope: Scope) -> Value:
    raise scope.places.wrong(node.at, f"{node.name}() gives rows, where a value is expected")


FORMS: dict[str, Form] = {
    "array_concat": _concatenated,
    "array_sort_asc": _sorted(ascending=True),
    "array_sort_desc": _sorted(ascending=False),
    "bag_has_key": _bag_has,
    "bag_merge": _merge_bags,
    "bag_pack": _pack_bag,
    "bag_remove_keys": _bag_without,
    "case": _case,
    "coalesce": _coalesce,
    "column_ifexists": _column_if_exists,
    "countof": _count_of,
    "extract": _extract,
    "extract_all": _extract_all,
    "extract_json": _extract_json,
    "extractjson": _extract_json,
    "gettype": _get_type,
    "iff": _iff,
    "indexof": _index_of,
    "isnotnull": _is_not_null,
    "isnull": _is_null,
    "materialize": _materialize,
    "max_of": _extreme("greatest"),
    "min_of": _extreme("least"),
    "pack_all": _pack_all,
    "pack_array": _pack_array,
    "range": _range,
    "repeat": _repeat,
    "set_difference": _sets("difference"),
    "set_intersect": _sets("intersect"),
    "set_union": _sets("union"),
    "split": _split,
    "strcat": _join,
    "strcat_delim": _join_with,
    "toscalar": _to_scalar,
}
