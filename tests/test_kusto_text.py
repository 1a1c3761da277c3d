"""What a query may be written like, what is wrong with one and where, and values that are put into it."""

import datetime as dt
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from scoretrace import QueryError, QuerySyntaxError, UnknownNameError, UnsupportedQuery
from scoretrace.kql.compiler import compile_query
from scoretrace.kql.parameters import parameters, with_parameters
from scoretrace.kql.parser import parse

NOW = 638_000_000_000_000_000
TABLES = {"T": [("t", "datetime"), ("s", "string"), ("n", "long"), ("r", "real"), ("d", "dynamic"), ("b", "bool")]}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def compiled(text):
    return compile_query(text, TABLES, now=NOW)


def place(text, kind=QueryError):
    with pytest.raises(kind) as caught:
        compiled(text)
    return caught.value.line, caught.value.column


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("| where n > 1", 1, 1),
        ("T wher n > 1", 1, 3),
        ("T\n| where n >\n| take 3", 3, 1),
        ("T\n| take 3\n| summarize count() by (", 3, 25),
        ("T | where s = 'a'", 1, 13),
        ("T | where s == 'a", 1, 16),
        ("T | extend", 1, 11),
        ("T | join (T) on", 1, 16),
        ("T | top 3", 1, 10),
        ("let a = 1;", 1, 5),
        ("", 1, 1),
        ("// nothing", 1, 1),
        ("T | take 1; T | take 2", 1, 13),
        ("T | where n == 99999999999999999999", 1, 16),
        ("T | where t > datetime(yesterday 5)", 1, 15),
        ("T | render starchart", 1, 12),
        ("print dynamic({a: 1})", 1, 16),
        ("T | where n § 1", 1, 13),
    ],
)
def test_a_syntax_error_has_its_place(text, line, column):
    """Whether at the first, a middle or the last line."""
    assert place(text, QuerySyntaxError) == (line, column)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("T | where m == 1", 1, 11, "no column m"),
        ("T | where sx == 1", 1, 11, "no column sx"),
        ("T | project n | where s == 'a'", 1, 23, "any more"),
        ("T | sumarize count()", 1, 5, "did you mean summarize"),
        ("T | extend x = strlenn(s)", 1, 16, "did you mean strlen"),
        ("T | evaluate bagunpack(d)", 1, 14, "did you mean bag_unpack"),
        ("T | render timchart", 1, 12, "did you mean timechart"),
        ("Tt | count", 1, 1, "did you mean T"),
        ("T | where S == 'a'", 1, 11, "did you mean s"),
        ("T | join (T) on q", 1, 17, "q on the left"),
        ("T | where s", 1, 11, "must be a bool"),
        ("T | where s > 'a'", 1, 13, "not defined for string and string"),
        ("T | extend x = s + s", 1, 18, "strcat"),
        ("T | where s == n", 1, 13, "not defined for string and long"),
        ("T | order by d", 1, 14, "sorted by a dynamic"),
        ("T | summarize count() by d", 1, 26, "grouped by a dynamic"),
        ("T | summarize n", 1, 15, "an aggregate"),
        ("T | extend x = count()", 1, 16, "outside of a summarize"),
        ("T | summarize sum(d.a)", 1, 19, "sum() takes a number"),
        ("T | summarize sum(sum(n))", 1, 19, "outside of a summarize"),
        ("T | extend x = prev(n)", 1, 16, "serialize"),
        ("T | extend x = n.a", 1, 16, "only a dynamic has"),
        ("T | extend x = substring(s)", 1, 16, "2 to 3 arguments"),
        ("T | extend x = iff(b, 1, 'a')", 1, 16, "different types"),
        ("T | extend x = hourofday(s)", 1, 26, "todatetime"),
        ("T | project a = n, a = s", 1, 20, "two columns are called a"),
        ("T | join kind=sideways (T) on n", 1, 5, "no join kind=sideways"),
        ("T | take n", 1, 10, "no column n"),
        ("T | where d == d.a", 1, 13, "two dynamics"),
        ("datatable(a: long)[1, 2, 'x'] | where a == 1 | extend b = a.c", 1, 59, "only a dynamic has"),
        ("datatable(a: long, b: long)[1]", 1, 1, "cannot have 1 values"),
        ("let a = 1; let a = 2; T | take a", 1, 16, "defined twice"),
    ],
)
def test_what_azure_would_refuse_is_refused_with_its_place(text, line, column, said):
    """By the types of columns, which the engine knows as Azure does; and with the nearest name where there is one."""
    assert place(text) == (line, column)
    with pytest.raises(QueryError, match=said.replace("(", r"\(").replace(")", r"\)")):
        compiled(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (".drop table T", "control commands"),
        (".set-or-replace x <| T", "control commands"),
        ("externaldata(a: string)['https://x']", "externaldata"),
        ("cluster('c').database('d').T", "cluster"),
        ("database('d').T | count", "database"),
        ("T | join (workspace('w').AppTraces) on s", "workspace"),
        ("T | fork (count) (take 1)", "fork"),
        ("T | partition by s (top 1 by n)", "partition"),
        ("T | evaluate python(typeof(*), 'x')", "python"),
        ("T | extend x = hash(s)", r"hash\(\)"),
        ("T | summarize hll(s)", r"hll\(\)"),
        ("print decimal(1.5)", "decimal"),
        ("set foo = 1; T", "set foo"),
    ],
)
def test_what_is_not_answered_is_refused_by_name(text, what):
    """Never with a part of the answer, or another one."""
    with pytest.raises(UnsupportedQuery, match=what) as caught:
        compiled(text)
    assert caught.value.line == 1


def test_a_long_query_is_answered():
    """Lists and chains of 100 KB; brackets without end are refused, not a crash."""
    values = ", ".join(f'"value {number:06}"' for number in range(7_000))
    assert len(values) > 100_000
    assert compiled(f"T | where s in ({values}) | count").columns == (("Count", "long"),)
    assert compiled("T | where " + " or ".join(f"n == {number}" for number in range(9_000))).columns
    assert compiled("T" + " | where n > 1" * 3_000).columns
    with pytest.raises(QueryError, match="nested"):
        compiled("print " + "(" * 5_000 + "1" + ")" * 5_000)
    with pytest.raises(QueryError, match="nested"):
        compiled("print " + "-" * 20_000 + "1")


@pytest.mark.parametrize(
    "text",
    [
        "T\n// a comment with | and ;\n| where s == 'a' // and 'more'\n| count",
        "T | where s == '//' and s != \"|\" | count",
        "set notruncation; T | count",
        "T|where n>1|summarize count()by s|order by count_ desc",
        "let f=(x:long){let y=x*2;y+1};T|extend z=f(n)",
        "T | join hint.strategy=broadcast kind=inner (T) on n",
        "T | summarize hint.strategy=shuffle count() by s",
        "T | project ['my column'] = n | where ['my column'] > 1",
        "T | extend x = d['a b'].c[0], y = d.['z']",
        "T | where s !in~ ('a') and n between (1 .. 2)",
        "declare query_parameters(least: long = 2); T | where n > least",
        "union (T | take 1), (T | take 2) | count",
        "T | render timechart with (title='a, b', ycolumns=n, r)",
        "T | limit 3 | sort by n | filter n > 1",
    ],
)
def test_what_people_write_is_read(text):
    """Comments, hints, spaces or none, quoted names, older words."""
    assert compiled(text).columns


@given(TEXT)
def test_text_in_a_query_is_only_text(value):
    """Whatever stands between quotes, it comes back as it is and is no piece of anything."""
    text = f"print x = {json.dumps(value, ensure_ascii=False)}"

    assert parse(text).body.values[0].value.value == value


@settings(max_examples=25, deadline=None)
@given(name=TEXT.filter(lambda text: text.strip() and "'" not in text and "\n" not in text and "\\" not in text))
def test_a_column_may_be_called_anything(name):
    """A name is no piece of SQL, nor of the path into a dynamic."""
    quoted = json.dumps(name, ensure_ascii=False)
    text = f"print ['{name}'] = 1, d = bag_pack({quoted}, 2) | extend e = d[{quoted}] | project ['{name}'], e"
    if any(ord(character) < 32 for character in name):
        return
    assert scoretrace.query(text).rows == [(1, 2)]


@settings(deadline=None, max_examples=30)
@given(
    text=TEXT,
    whole=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False),
    truth=st.booleans(),
    moment=st.datetimes(),
    span=st.timedeltas(dt.timedelta(days=-9_000), dt.timedelta(days=9_000)),
)
def test_a_parameter_arrives_as_it_was_given(text, whole, real, truth, moment, span):
    """Of every type, and never as a piece of the query."""
    query = "let a = ''; let b = 1; let c = 1.0; let e = true; let f = datetime(2026-01-01); let g = 1d; print a, b, c, e, f, g"

    (row,) = scoretrace.query(query, a=text, b=whole, c=real, e=truth, f=moment, g=span).rows

    assert row == (text, whole, real, truth, moment.replace(tzinfo=dt.timezone.utc), span)


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [
        ("let a = 1d; T", "7d", "7d"),
        ("let a = 1d; T", "1.02:03:04", "timespan(1.02:03:04)"),
        ("let a = 1d; T", "PT2H", "timespan(02:00:00)"),
        ("let a = 1d; T", "-1h", "timespan(-1h)"),
        ("let a = 5; T", " 7 ", "7"),
        ("let a = 1.5; T", "2", "real(2.0)"),
        ("let a = datetime(2026-01-01); T", "2026-02-03", "datetime(2026-02-03T00:00:00)"),
        ("let a = dynamic(['x']); T", "p, q", 'dynamic(["p", "q"])'),
        ("let a = guid(00000000-0000-0000-0000-000000000001); T", "C0FFEE00000000000000000000000001", "guid(c0ffee00-0000-0000-0000-000000000001)"),
        ("let a = 'x'; T", 'q"; T | take 1 //\n', '"q\\"; T | take 1 //\\n"'),
        ("let a = ago(1d); T", "datetime(2026-01-01)", "datetime(2026-01-01)"),
    ],
)  # fmt: skip
def test_a_value_becomes_a_literal_of_the_type_that_stands_there(text, value, written):
    """As the command line gives it: as text."""
    found = with_parameters(text, {"a": value})

    assert found == f"let a = {written}; T"
    assert parse(found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("let a = 1d; T", "1d; T"),
        ("let a = 1d; T", "ago(1d)"),
        ("let a = 5; T", "5 or 1 == 1"),
        ("let a = 5; T", True),
        ("let a = true; T", "maybe"),
        ("let a = datetime(2026-01-01); T", "now()"),
        ("let a = T | take 1; T", "T | take 2"),
        ("let a = 1.0; T", "one"),
    ],
)
def test_a_value_that_is_none_of_that_type_is_refused(text, value):
    """Before anything runs."""
    with pytest.raises(QueryError, match="no value for the parameter a"):
        with_parameters(text, {"a": value})


def test_parameters_are_the_lets_that_are_one_literal():
    """With their types; a let inside of a function or a text is none."""
    text = "let since = 1d; let f = (x: long) { let inner = 5; x }; let s = 'let no = 1;'; let t = T | take 1; T"

    found = parameters(text)

    assert {name: one.type for name, one in found.items()} == {"since": "timespan", "f": "", "s": "string", "t": ""}
    with pytest.raises(UnknownNameError, match="did you mean since"):
        with_parameters(text, {"sinse": "1d"})
