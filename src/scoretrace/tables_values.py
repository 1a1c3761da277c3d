"""
What the tables of every layout have alike: values of columns in SQL, as the classic tables show them.

Text is never null, `success` is the text "True" or "False", severities are 0 to
4, and a time keeps its 100 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scoretrace import sql
from scoretrace.schema import SEVERITIES

ITEM_TYPES = {
    "trace": "trace",
    "request": "request",
    "dependency": "dependency",
    "exception": "exception",
    "event": "customEvent",
    "metric": "customMetric",
    "page_view": "pageView",
    "availability": "availabilityResult",
    "counter": "performanceCounter",
    "browser_timing": "browserTiming",
}
_BUCKETS = (
    (250, "<250ms"),
    (500, "250ms-500ms"),
    (1_000, "500ms-1sec"),
    (3_000, "1sec-3sec"),
    (7_000, "3sec-7sec"),
    (15_000, "7sec-15sec"),
    (30_000, "15sec-30sec"),
    (60_000, "30sec-1min"),
    (120_000, "1min-2min"),
    (300_000, "2min-5min"),
)
_SEVERITIES = {name.lower(): str(level) for level, name in enumerate(SEVERITIES)}
_TRUTHS = {"true": "'True'", "false": "'False'"}
_PASSES = {"pass": "'1'", "true": "'1'", "fail": "'0'", "false": "'0'"}


NANOSECONDS, MICROSECONDS = "TIMESTAMP_NS", "TIMESTAMP"


def time_of(text: str, kind: str = NANOSECONDS) -> str:
    """
    A time of *kind*, in UTC: of nanoseconds from 1677 to 2262. Exports write that there is none as 0001-01-01.

    DuckDB passes over an offset where the type has none, so it is taken away here.
    """
    unit, per_minute = ("ns", 60 * 10**9) if kind == NANOSECONDS else ("us", 60 * 10**6)
    make = "make_timestamp_ns" if kind == NANOSECONDS else "make_timestamp"
    plain = f"try_cast({text} AS {kind})"
    if kind == MICROSECONDS:
        plain = f"nullif({plain}, {kind} '0001-01-01')"
    offset = rf"regexp_extract({text}, '([+-])(\d\d):?(\d\d)$', "
    minutes = f"({offset}2)::BIGINT * 60 + {offset}3)::BIGINT) * CASE {offset}1) WHEN '-' THEN -1 ELSE 1 END"
    local = rf"try_cast(regexp_replace({text}, '[+-]\d\d:?\d\d$', '') AS {kind})"
    shifted = f"{make}(epoch_{unit}({local}) - ({minutes}) * {per_minute})"
    return rf"CASE WHEN regexp_matches({text}, ':\d\d(\.\d+)?[+-]\d\d:?\d\d$') THEN {shifted} ELSE {plain} END"


def severity_of(text: str) -> str:
    """The level of a name or a number."""
    number = f"try_cast({text} AS DOUBLE)"
    return _cases(f"lower({text})", _SEVERITIES, f"CASE WHEN {number} BETWEEN 0 AND 4 THEN {number}::INTEGER END")


def success_of(text: str) -> str:
    """The words of the classic tables for a truth, however it is written."""
    return _cases(f"lower({text})", _TRUTHS, "''")


def passed_of(text: str) -> str:
    """
    How `availabilityResults` writes whether a test passed: 1 or 0, where other tables say True or False.

    Source: Microsoft's own queries of it, which count `success == 1`.
    """
    return _cases(f"lower({text})", _PASSES, "''")


def bucket_of(milliseconds: str) -> str:
    """The name of the range that a duration is in."""
    cases = " ".join(f"WHEN {milliseconds} < {limit} THEN {sql.quote(name)}" for limit, name in _BUCKETS)
    return f"CASE WHEN {milliseconds} IS NULL THEN '' {cases} ELSE '>=5min' END"


def unparsed_of(checks: Mapping[str, tuple[str, str]]) -> str:
    """
    One object of the texts that no value could be made of, null where there is none.

    *checks* gives for each column its text, and what is null or empty where that is no value.
    """
    pairs = [
        f"CASE WHEN ({text}) <> '' AND nullif(({value})::VARCHAR, '') IS NULL AND ({text}) NOT LIKE '0001-01-01%' "
        f"THEN {sql.quote(f'{sql.name(name)}:')} || to_json({text})::VARCHAR END"
        for name, (text, value) in checks.items()
    ]
    return f"nullif('{{' || concat_ws(',', {', '.join(pairs)}) || '}}', '{{}}')"


def _cases(value: str, results: Mapping[str, str], otherwise: str) -> str:
    cases = " ".join(f"WHEN {sql.quote(key)} THEN {result}" for key, result in results.items())
    return f"CASE {value} {cases} ELSE {otherwise} END"


# By form: what of a text is null or empty where it is none of it.
CHECKED: dict[str, Callable[[str], str]] = {
    "time": time_of,
    "severity": severity_of,
    "bool": success_of,
    "pass": passed_of,
    **dict.fromkeys(("count", "duration", "real"), lambda text: f"try_cast({text} AS DOUBLE)"),
}
