"""The functions whose SQL depends on what they are called with: choices, text of any type, dynamics."""

from __future__ import annotations

import re

from scoretrace import sql
from scoretrace.kql import values
from scoretrace.kql.arguments import Form, argument_values, constant_text, count_of, value_at
from scoretrace.kql.functions import pattern
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call, TypeOf
from scoretrace.kql.values import Value, constant

_DYNAMIC_TYPES = (
    "CASE {0} WHEN 'VARCHAR' THEN 'string' WHEN 'BIGINT' THEN 'long' WHEN 'UBIGINT' THEN 'long' "
    "WHEN 'DOUBLE' THEN 'double' WHEN 'BOOLEAN' THEN 'bool' WHEN 'ARRAY' THEN 'array' "
    "WHEN 'OBJECT' THEN 'dictionary' ELSE 'null' END"
)


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
    if count == 4:
        kind = node.arguments[3]
        if not isinstance(kind, TypeOf):
            raise scope.places.wrong(kind.at, "extract() takes a type as typeof(long)")
        return values.CONVERSIONS[kind.type](found)
    return found


def _extract_all(node: Call, scope: Scope) -> Value:
    if count_of(node, scope, 2, 3) == 3:
        raise scope.places.unsupported(node.at, "extract_all() of chosen groups")
    written = constant_text(node, 0, scope)
    if re.compile(written.replace("(?<", "(?P<")).groups != 1:
        raise scope.places.unsupported(node.at, "extract_all() of several groups, or of none,")
    body = values.text(value_at(node, 1, scope)).sql
    expression = pattern(value_at(node, 0, scope), scope, node.at)
    return Value(f"to_json(regexp_extract_all({body}, {expression}, 1))", "dynamic")


def _extract_json(node: Call, scope: Scope) -> Value:
    count_of(node, scope, 2, 2)
    path = constant_text(node, 0, scope)
    body = values.parsed(value_at(node, 1, scope)).sql
    return Value(f"coalesce(json_extract_string({body}, {sql.quote(path)}), '')", "string", nullable=False)


def _count_of(node: Call, scope: Scope) -> Value:
    count = count_of(node, scope, 2, 3)
    body, needle = values.text(value_at(node, 0, scope)).sql, value_at(node, 1, scope)
    if count == 3 and constant_text(node, 2, scope) == "regex":
        return Value(f"len(regexp_extract_all({body}, {pattern(needle, scope, node.at)}))", "long")
    wanted = values.text(needle).sql
    starts = f"range(1, length({body}) - length({wanted}) + 2)"
    matched = f"list_filter({starts}, lambda i: substr({body}, i, length({wanted})) = {wanted})"
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


def _materialize(node: Call, scope: Scope) -> Value:
    raise scope.places.wrong(node.at, f"{node.name}() gives rows, where a value is expected")


FORMS: dict[str, Form] = {
    "array_sort_asc": _sorted("list_sort"),
    "array_sort_desc": _sorted("list_reverse_sort"),
    "bag_merge": _merge_bags,
    "bag_pack": _pack_bag,
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
