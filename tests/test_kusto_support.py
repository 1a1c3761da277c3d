"""The one list of what is answered and what is refused, in both directions."""

import re

import pytest

import scoretrace
from kusto_parser import ask
from scoretrace import QueryError, UnsupportedQuery
from scoretrace.kql import support

# How each is called, where it is not by one value of each kind.
ROWS = (
    "datatable(t: datetime, s: string, n: long, r: real, d: dynamic, ts: timespan)"
    '[datetime(2026-01-05), "a1", 2, 0.5, dynamic([1, 2]), 1h] | extend bag = bag_pack("a", 1) | serialize '
)
OPERATORS = {
    "as": "as rows", "count": "count", "datatable": "count", "distinct": "distinct s",
    "evaluate": "project s, n | evaluate pivot(s)", "extend": "extend x = 1", "filter": "filter n > 1",
    "getschema": "getschema", "invoke": "count", "join": "join (datatable(s: string)['a1']) on s", "limit": "limit 1",
    "lookup": "lookup (datatable(s: string)['a1']) on s", "mv-apply": "mv-apply d on (take 1)", "mvapply": "count",
    "make-series": "make-series count() on n from 0 to 5 step 1", "mv-expand": "mv-expand d", "mvexpand": "mvexpand d",
    "order": "order by n", "parse": "parse s with 'a' x", "parse-where": "parse-where s with 'a' x",
    "print": "count", "project": "project s", "project-away": "project-away s", "project-keep": "project-keep s",
    "project-rename": "project-rename z = s", "project-reorder": "project-reorder n", "range": "count",
    "render": "render table", "search": "search 'a1'", "serialize": "serialize", "sort": "sort by n",
    "summarize": "summarize count()", "take": "take 1", "top": "top 1 by n", "top-nested": "top-nested 1 of s by count()",
    "union": "union (datatable(s: string)['b'])", "where": "where n > 1",
}  # fmt: skip
FUNCTIONS = {
    "abs": "n", "acos": "r", "ago": "1d", "array_concat": "d, d", "array_index_of": "d, 1", "array_length": "d",
    "array_reverse": "d", "array_slice": "d, 0, 1", "array_sort_asc": "d", "array_sort_desc": "d", "array_sum": "d",
    "asin": "r", "atan": "r", "atan2": "r, r", "bag_has_key": "bag, 'a'", "bag_keys": "bag", "bag_merge": "bag, bag",
    "bag_pack": "'a', 1", "bag_remove_keys": "bag, dynamic(['a'])", "bin": "n, 2", "bin_at": "n, 2, 1",
    "binary_and": "n, 1", "binary_not": "n", "binary_or": "n, 1", "binary_shift_left": "n, 1",
    "binary_shift_right": "n, 1", "binary_xor": "n, 1", "case": "n > 1, 1, 2", "ceiling": "r", "coalesce": "n, 1",
    "column_ifexists": "'q', s", "columnifexists": "'q', s", "cos": "r", "countof": "s, 'a'",
    "datetime_add": "'day', 1, t", "datetime_diff": "'day', t, t", "datetime_part": "'day', t", "dayofmonth": "t",
    "dayofweek": "t", "dayofyear": "t", "degrees": "r", "endofday": "t", "endofmonth": "t", "endofweek": "t",
    "endofyear": "t", "exp": "r", "exp10": "r", "exp2": "r", "extract": "'a', 0, s", "extract_all": "'(a)', s",
    "extract_json": "'$.a', s", "extractjson": "'$.a', s", "floor": "r, 1", "format_datetime": "t, 'yyyy'",
    "format_timespan": "ts, 'hh'", "getmonth": "t", "getyear": "t", "gettype": "s", "hourofday": "t",
    "iff": "n > 1, 1, 2", "iif": "n > 1, 1, 2", "indexof": "s, 'a'", "isascii": "s", "isfinite": "r", "isinf": "r",
    "isnan": "r", "log": "r", "log10": "r", "log2": "r", "make_datetime": "2026, 1, 1", "make_timespan": "1, 2",
    "max_of": "n, 1", "min_of": "n, 1", "monthofyear": "t", "next": "n", "not": "n > 1", "now": "", "pack": "'a', 1",
    "pack_all": "", "pack_array": "n", "pi": "", "pow": "n, 2", "prev": "n", "radians": "r", "range": "1, 3",
    "repeat": "1, 2", "replace": "'a', 'b', s", "replace_regex": "s, 'a', 'b'", "replace_string": "s, 'a', 'b'",
    "round": "r, 1", "row_cumsum": "n", "row_number": "", "row_rank_dense": "n", "row_rank_min": "n",
    "series_sum": "d", "set_difference": "d, d", "set_has_element": "d, 1", "set_intersect": "d, d",
    "set_union": "d, d", "sign": "r", "sin": "r", "split": "s, 'a'", "sqrt": "r", "startofday": "t",
    "startofmonth": "t", "startofweek": "t", "startofyear": "t", "strcat_array": "d, '-'",
    "strcat_delim": "'-', s, s", "strcmp": "s, s", "strrep": "s, 2", "substring": "s, 0", "tan": "r", "tohex": "n",
    "todatetime": "s", "trim": "'a', s", "trim_end": "'a', s", "trim_start": "'a', s",
    "toscalar": "datatable(a: long)[1]", "unixtime_microseconds_todatetime": "n",
    "unixtime_milliseconds_todatetime": "n", "unixtime_seconds_todatetime": "n", "week_of_year": "t",
    "weekofyear": "t", "zip": "d, d",
}  # fmt: skip
AGGREGATES = {
    "any": "n", "anyif": "n, n > 0", "arg_max": "n, s", "arg_min": "n, s", "avgif": "n, n > 0", "count": "",
    "count_distinctif": "s, n > 0", "countif": "n > 0", "covariance": "n, r", "dcountif": "s, n > 0",
    "make_bag": "bag", "make_bag_if": "bag, n > 0", "make_list_if": "n, n > 0", "make_set_if": "n, n > 0",
    "maxif": "n, n > 0", "minif": "n, n > 0", "percentile": "n, 50", "percentileif": "n, 50, n > 0",
    "percentiles": "n, 50, 95", "percentiles_array": "n, 50", "percentilesw": "n, n, 50", "percentilew": "n, n, 50",
    "stdevif": "n, n > 0", "sumif": "n, n > 0", "take_anyif": "n, n > 0", "varianceif": "n, n > 0",
}  # fmt: skip
PLUGINS = {"bag_unpack": "project bag | evaluate bag_unpack(bag)", "pivot": "project s, n | evaluate pivot(s)"}


def query_of(kind, name):
    """A query that uses it."""
    if kind == "operators":
        return ROWS + "| " + OPERATORS[name]
    if kind == "plugins":
        return ROWS + "| " + PLUGINS[name]
    if kind == "aggregates":
        return f"{ROWS}| summarize x = {name}({AGGREGATES.get(name, 'n')})"
    return f"{ROWS}| extend x = {name}({FUNCTIONS.get(name, 's')}) | project x"


ANSWERED = [(kind, name) for kind, names in support.supported().items() for name in names]
REFUSED = [(kind, name) for kind, names in support.refused().items() for name in names]


def test_everything_that_is_said_to_be_answered_is():
    """Each operator, function, aggregate and plugin of the list, run."""
    for kind, name in ANSWERED:
        if name != "materialize":  # which stands for rows
            assert scoretrace.query(query_of(kind, name)).columns, (kind, name)


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_everything_that_is_said_to_be_refused_is_by_its_name(kind, name):
    """And at its place, however it is called."""
    written = {
        "operators": f"{ROWS}\n| {name} x",
        "functions": f"{ROWS}\n| extend x = {name}(s)",
        "aggregates": f"{ROWS}\n| summarize x = {name}(s)",
        "plugins": f"{ROWS}\n| evaluate {name}(s)",
    }[kind]
    with pytest.raises(UnsupportedQuery, match=re.escape(name)) as caught:
        scoretrace.query(written)
    assert caught.value.line == 2


def test_nothing_is_on_both_lists_or_twice():
    """What is answered is not refused."""
    for kind in support.supported():
        answered, refused = support.supported()[kind], support.refused()[kind]
        assert not set(answered) & set(refused)
        assert len(set(answered)) == len(answered)
        assert len(set(refused)) == len(refused)


def test_the_lists_name_what_kusto_has():
    """Microsoft's parser knows every function that is answered, and those of its own that it names for typing slips."""
    functions = [name for kind, name in ANSWERED if kind == "functions" and name != "materialize"]

    found = ask([query_of("functions", name) for name in functions])

    unknown = [
        name
        for name, said in zip(functions, found, strict=True)
        if any(one.severity == "Error" and "does not refer to any known" in one.message for one in said.diagnostics)
    ]
    assert unknown == []


def test_what_is_on_neither_list_is_a_slip(tmp_path):
    """With the nearest that there is."""
    with pytest.raises(QueryError, match=r"no function tostrng\(\): did you mean tostring"):
        scoretrace.query("print tostrng(1)")
