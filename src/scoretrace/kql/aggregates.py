"""
The functions of a summarize: what they make of the rows of a group.

What they give of no rows at all is Kusto's: a sum is 0, an average NaN, a list
empty, the largest of nothing null.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from scoretrace import sql
from scoretrace.kql import dynamics, naming, values
from scoretrace.kql.arguments import argument_values
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call, Expression, Star
from scoretrace.kql.values import Value

_MOST = 1_048_576  # elements of a list, as Kusto has it
_ORDERED = {"bool", "datetime", "timespan", "string", *values.NUMBERS}
Aggregate = Callable[[Call, Scope, str], Value]


def aggregate(node: Call, scope: Scope) -> Value:
    """
    A function of a summarize as SQL; *scope* is the one of its rows.

    Raises:
        QueryError: it does not take these arguments.
    """
    name = node.name
    filtered = ""
    if name.endswith("if"):
        index = {"countif": 0, "percentileif": 2}.get(name, 1)
        if len(node.arguments) <= index:
            raise scope.places.wrong(node.at, f"{name}() takes a condition as argument {index + 1}")
        filtered = scope.condition(node.arguments[index])
        rest = (*node.arguments[:index], *node.arguments[index + 1 :])
        base = name.removesuffix("_if") if name.endswith("_if") else name.removesuffix("if")
        node = replace(node, name=base, arguments=rest)
    return values.filled(_AGGREGATES[node.name](node, scope, filtered))


def filtered(node: Call, test: str, scope: Scope) -> Value:
    """An aggregate of just the rows for which SQL's *test* is true."""
    if node.name not in _AGGREGATES:
        raise scope.places.unsupported(node.at, f"{node.name}() in a pivot")
    return _AGGREGATES[node.name](node, scope, test)


def _filter(*conditions: str) -> str:
    given = [condition for condition in conditions if condition]
    return f" FILTER (WHERE {' AND '.join(given)})" if given else ""


def _one(node: Call, scope: Scope, known: set[str] | frozenset[str], what: str) -> Value:
    (found,) = argument_values(node, scope, 1, 1)
    return _checked(found, node.arguments[0], node, scope, known, what)


def _checked(
    found: Value, written: Expression, node: Call, scope: Scope, known: set[str] | frozenset[str], what: str
) -> Value:
    if found.type not in known:
        hint = "; cast it with todouble(...) or tostring(...)" if found.type in {"dynamic", "string"} else ""
        raise scope.places.wrong(written.at, f"{node.name}() takes {what}, not a {found.type}{hint}")
    return found


def _count(node: Call, scope: Scope, filtered: str) -> Value:
    if len(node.arguments) == 1:
        filtered = " AND ".join(filter(None, (filtered, scope.condition(node.arguments[0]))))
    elif node.arguments:
        raise scope.places.wrong(node.at, "count() takes no arguments")
    return Value(f"count(*){_filter(filtered)}", "long", nullable=False)


def _sum(node: Call, scope: Scope, filtered: str) -> Value:
    found = _one(node, scope, {"timespan", *values.NUMBERS}, "a number or a timespan")
    kind = "long" if found.type == "int" else found.type
    return Value(
        f"coalesce(CAST(sum({found.sql}){_filter(filtered)} AS {values.SQL_TYPES[kind]}), 0)", kind, nullable=False
    )


def _avg(node: Call, scope: Scope, filtered: str) -> Value:
    found = _one(node, scope, {"timespan", "datetime", *values.NUMBERS}, "a number, a timespan or a datetime")
    if found.type == "datetime":
        return Value(f"make_timestamp(CAST(avg(epoch_us({found.sql})){_filter(filtered)} AS BIGINT))", "datetime")
    if found.type == "timespan":
        return Value(f"CAST(avg({found.sql}){_filter(filtered)} AS BIGINT)", "timespan")
    return Value(f"coalesce(avg({found.sql}){_filter(filtered)}, 'NaN'::DOUBLE)", "real", nullable=False)


def _extreme(node: Call, scope: Scope, filtered: str) -> Value:
    found = _one(node, scope, _ORDERED, "what can be put in an order")
    return Value(f"{node.name}({found.sql}){_filter(filtered)}", found.type)


def _spread(function: str) -> Aggregate:
    def made(node: Call, scope: Scope, filtered: str) -> Value:
        found = _one(node, scope, values.NUMBERS, "a number")
        return Value(f"coalesce({function}({values.real(found).sql}){_filter(filtered)}, 0)", "real", nullable=False)

    return made


def _distinct_count(node: Call, scope: Scope, filtered: str) -> Value:
    most = 2 if node.name == "dcount" else 1
    found = argument_values(node, scope, 1, most)[0]
    body = values.text(found).sql if found.type == "dynamic" else found.sql
    return Value(f"count(DISTINCT {body}){_filter(filtered)}", "long", nullable=False)


def percent(written: Expression, node: Call, scope: Scope) -> float:
    """The percentage that a percentile is asked for."""
    found = scope.value(written)
    if not found.is_number or not found.is_constant or not 0 <= found.constant <= 100:
        raise scope.places.wrong(written.at, f"{node.name}() takes literal percentages of 0 to 100")
    return float(found.constant)


def percentile(node: Call, scope: Scope, filtered: str, share: float) -> Value:
    """The smallest value that so many percent of the values are not above: nearest rank, not interpolated."""
    ordered = _checked(
        scope.value(node.arguments[0]), node.arguments[0], node, scope, _ORDERED, "what can be put in an order"
    )
    kind = "long" if ordered.type == "int" else ordered.type
    body = f"quantile_disc({ordered.sql}, {share / 100!r}){_filter(filtered)}"
    return Value(f"CAST({body} AS BIGINT)" if kind != ordered.type else body, kind)


def _percentile(node: Call, scope: Scope, filtered: str) -> Value:
    if len(node.arguments) != 2:
        raise scope.places.wrong(node.at, f"{node.name}() takes a value and a percentage")
    return percentile(node, scope, filtered, percent(node.arguments[1], node, scope))


def _percentiles_array(node: Call, scope: Scope, filtered: str) -> Value:
    if len(node.arguments) < 2:
        raise scope.places.wrong(node.at, "percentiles_array() takes a value and percentages")
    parts = [
        values.dynamic(percentile(node, scope, filtered, percent(written, node, scope))).sql
        for written in node.arguments[1:]
    ]
    return Value(f"to_json(list_value({', '.join(parts)})::JSON[])", "dynamic")


def _gathered(*, is_set: bool, keeps_nulls: bool = False) -> Aggregate:
    def made(node: Call, scope: Scope, filtered: str) -> Value:
        argument_values(node, scope, 1, 2)
        found = scope.value(node.arguments[0])
        most = scope.value(node.arguments[1]).constant if len(node.arguments) == 2 else _MOST
        if not isinstance(most, int):
            raise scope.places.wrong(node.arguments[1].at, f"{node.name}() takes a literal number of elements")
        element = found.sql if found.type in {"string", "long", "int", "bool"} else values.dynamic(found).sql
        order = scope.current.ordering
        there = "" if keeps_nulls or not found.nullable else f"NOT {values.is_null(found)}"
        if found.type == "dynamic":
            # The elements of arrays are gathered, not the arrays.
            element = (
                f"CASE WHEN {values.json_type(found)} = 'ARRAY' "
                f"THEN {dynamics.elements(found.sql)} ELSE [{found.sql}] END"
            )
            listed = f"flatten(list({element}{order}){_filter(filtered, there)})"
            listed = f"list_sort(list_distinct({listed}))" if is_set else listed
        elif is_set:
            listed = f"list(DISTINCT {element} ORDER BY {element}){_filter(filtered, there)}"
        else:
            listed = f"list({element}{order}){_filter(filtered, there)}"
        return Value(f"to_json(list_slice(coalesce({listed}, []), 1, {most}))", "dynamic", nullable=False)

    return made


def _bag(node: Call, scope: Scope, filtered: str) -> Value:
    found = argument_values(node, scope, 1, 2)[0]
    if found.type != "dynamic":
        raise scope.places.wrong(node.arguments[0].at, f"make_bag() takes a dynamic, not a {found.type}")
    bag = dynamics.mapped(found.sql)
    is_bag = f"{values.json_type(found)} = {sql.quote('OBJECT')}"
    listed = f"list({bag}){_filter(filtered, is_bag)}"
    merged = f'list_reduce({listed}, lambda "~one", "~other": map_concat("~one", "~other"))'
    return Value(f"coalesce(to_json({merged}), '{{}}'::JSON)", "dynamic", nullable=False)


def _any(node: Call, scope: Scope, filtered: str) -> Value:
    (found,) = argument_values(node, scope, 1, 1)
    return Value(f"any_value({found.sql}){_filter(filtered)}", found.type)


def _bits(function: str) -> Aggregate:
    def made(node: Call, scope: Scope, filtered: str) -> Value:
        found = _one(node, scope, {"int", "long"}, "a whole number")
        return Value(f"{function}({found.sql}){_filter(filtered)}", found.type)

    return made


def _correlated(function: str) -> Aggregate:
    def made(node: Call, scope: Scope, filtered: str) -> Value:
        one, other = argument_values(node, scope, 2, 2)
        for found, written in zip((one, other), node.arguments, strict=True):
            _checked(found, written, node, scope, values.NUMBERS, "numbers")
        return Value(f"{function}({values.real(one).sql}, {values.real(other).sql}){_filter(filtered)}", "real")

    return made


_AGGREGATES: dict[str, Aggregate] = {
    "any": _any,
    "avg": _avg,
    "binary_all_and": _bits("bit_and"),
    "binary_all_or": _bits("bit_or"),
    "binary_all_xor": _bits("bit_xor"),
    "count": _count,
    "count_distinct": _distinct_count,
    "covariance": _correlated("covar_samp"),
    "dcount": _distinct_count,
    "make_bag": _bag,
    "make_list": _gathered(is_set=False),
    "make_list_with_nulls": _gathered(is_set=False, keeps_nulls=True),
    "make_set": _gathered(is_set=True),
    "makelist": _gathered(is_set=False),
    "makeset": _gathered(is_set=True),
    "max": _extreme,
    "min": _extreme,
    "percentile": _percentile,
    "percentiles_array": _percentiles_array,
    "stdev": _spread("stddev_samp"),
    "stdevp": _spread("stddev_pop"),
    "sum": _sum,
    "take_any": _any,
    "variance": _spread("var_samp"),
    "variancep": _spread("var_pop"),
}
_CONDITIONAL = frozenset([
    "anyif", "avgif", "countif", "count_distinctif", "dcountif", "make_bag_if", "make_list_if", "make_set_if",
    "maxif", "minif", "percentileif", "stdevif", "sumif", "take_anyif", "varianceif",
])  # fmt: skip
_SEVERAL = frozenset({"arg_max", "arg_min", "percentiles"})
WEIGHTED = frozenset({"percentilew", "percentilesw"})
# They exist in Kusto, and what they give is for other functions that would have to be guessed.
REFUSED = frozenset(
    ["buildschema", "hll", "hll_if", "make_dictionary", "stdevpif", "tdigest", "tdigest_merge", "variancepif"]
)
_NAME_IT = "needs one: name = ..."
NAMES = frozenset(_AGGREGATES) | _CONDITIONAL | _SEVERAL | WEIGHTED


def has_several_columns(node: Expression) -> bool:
    """Whether an expression of a summarize is a function that gives several columns."""
    if not isinstance(node, Call):
        return False
    if node.name in {"any", "take_any"}:
        return len(node.arguments) > 1 or any(isinstance(argument, Star) for argument in node.arguments)
    return node.name in _SEVERAL or node.name == "percentilesw"


def several(node: Call, scope: Scope, keys: list[str]) -> list[tuple[str, Value]]:
    """The columns of such a function by their names; *keys* are the names of what is grouped by."""
    if node.name == "percentiles":
        names = naming.aggregate_names(node, NAMES)
        if len(node.arguments) < 2:
            raise scope.places.wrong(node.at, "percentiles() takes a value and percentages")
        shares = [percent(written, node, scope) for written in node.arguments[1:]]
        return [(name, percentile(node, scope, "", share)) for name, share in zip(names, shares, strict=True)]
    if node.name in {"any", "take_any"}:
        return _row("first({})", node.arguments, [], node, scope, keys)
    if len(node.arguments) < 1:
        raise scope.places.wrong(node.at, f"{node.name}() takes what is to be the {node.name[-3:]}imum")
    by = _checked(
        scope.value(node.arguments[0]), node.arguments[0], node, scope, _ORDERED, "what can be put in an order"
    )
    given = node.names or ("",) * len(node.arguments)
    name = given[0] or naming.implied(node.arguments[0], NAMES) or f"{node.name[-3:]}_"
    # Where all that is compared is null there is a row nevertheless.
    chosen = f"coalesce({node.name}({{0}}, {by.sql}), any_value({{0}}))"
    first = (name, values.filled(Value(f"{node.name[-3:]}({by.sql})", by.type)))
    return [first, *_row(chosen, node.arguments[1:], [name], node, scope, keys)]


def _row(
    chosen: str, written: tuple[Expression, ...], taken: list[str], node: Call, scope: Scope, keys: list[str]
) -> list[tuple[str, Value]]:
    """Values of one and the same row, which *chosen* finds."""
    pairs: list[tuple[str, Value]] = []
    before = "any_" if node.name == "any" else ""
    said = node.names[-len(written) :] if node.names and written else ("",) * len(written)
    for argument, own in zip(written, said, strict=True):
        if isinstance(argument, Star):
            columns = [column for column in scope.current.columns if column.name not in {*keys, *taken}]
            pairs += [(f"{before}{column.name}", column.value) for column in columns]
        else:
            name = own or naming.implied(argument, NAMES)
            if name is None:
                raise scope.places.unsupported(argument.at, f"a value of {node.name}() without a name", _NAME_IT)
            pairs.append((own or f"{before}{name}", scope.value(argument)))
    row = ", ".join(f"f{index}: {found.sql}" for index, (_, found) in enumerate(pairs))
    body = chosen.format(f"{{{row}}}")
    return [(name, values.filled(Value(f"({body}).f{index}", found.type))) for index, (name, found) in enumerate(pairs)]
