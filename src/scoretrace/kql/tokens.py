"""The words, signs and values that a query is written in."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from scoretrace.kql import literals
from scoretrace.kql.places import Places

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_TOKEN = re.compile(
    r"""
      (?P<skip>(?:\s+|//[^\n]*)+)
    | (?P<long_text>```.*?```|~~~.*?~~~)
    | (?P<verbatim>[hH]?@(?:"(?:[^"\n]|"")*"|'(?:[^'\n]|'')*'))
    | (?P<text>[hH]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<raw>(?:datetime|date|timespan|time|guid|uuid)\s*\(\s*(?:null|[-+.:\w\s/]*|"[^"\n]*"|'[^'\n]*')\s*\))(?![\w(])
    | (?P<hex>0[xX][0-9a-fA-F]+)
    | (?P<span>\d+(?:\.\d+)?(?:micro(?:second)?s?|milli(?:sec(?:ond)?)?s?|min(?:ute)?s?|sec(?:ond)?s?|hours?|hrs?|days?
        |ticks?|ms|[dhms])(?!\w))
    | (?P<real>\d+\.\d*(?:[eE][-+]?\d+)?(?!\w)(?<!\.\.)|\d+[eE][-+]?\d+(?!\w))
    | (?P<long>\d+(?!\w))
    | (?P<sign>!?in~|![A-Za-z_]+|=~|!~|==|!=|<>|<=|>=|=>|\.\.|[-+*/%<>=(){}\[\],;:.|?@])
    | (?P<name>[$A-Za-z_][A-Za-z0-9_]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_HALF = "half of a character stands here: it has no meaning in any text"
_LARGEST = 2**63 - 1
_DOTS = re.compile(r"\d+(?=\.\.)")  # in 1..5 the dots are no part of the number


class Token(NamedTuple):
    """
    A piece of a query.

    *kind* is name, sign, end, or the Kusto type of a value; *text* is how it is
    written and *value* what it means; it is what the source has from *at* to *end*.
    """

    kind: str
    text: str
    value: Any
    at: int
    end: int


def tokens(places: Places) -> list[Token]:
    """
    All of a query, ended by a token of kind ``end``.

    Raises:
        QuerySyntaxError: something in it is no piece of any query.
    """
    text = places.text
    half = re.search("[\ud800-\udfff]", text)
    if half:
        raise places.syntax(half.start(), _HALF)
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _DOTS.match(text, at)
        kind = "long" if match else ""
        if match is None:
            match = _TOKEN.match(text, at)
            if match is None:
                raise places.syntax(at, _unreadable(text[at]))
            kind = match.lastgroup or ""
        if kind == "skip":
            at = match.end()
            continue
        if kind == "long" and int(match[0]) > _LARGEST + (found[-1:] != [] and found[-1].text == "-"):
            raise places.syntax(at, f"{match[0]} is larger than a long can be")
        found.append(_token(kind, match[0], at, places))
        at = found[-1].end
    return [*found, Token("end", "", None, len(text), len(text))]


def _unreadable(character: str) -> str:
    if character in "\"'":
        return f"the text that begins with {character} does not end in its line"
    return f"{character!r} is not a part of Kusto"


def _token(kind: str, text: str, at: int, places: Places) -> Token:
    end = at + len(text)
    if kind in {"text", "verbatim", "long_text"}:
        return Token("string", text, _whole(_content(kind, text), at, places), at, end)
    if kind == "raw":
        return _raw(text, at, places)
    if kind == "span":
        return Token("timespan", text, literals.short_timespan(text), at, end)
    if kind == "hex":
        return Token("long", text, int(text, 16), at, end)
    if kind == "long":
        return Token("long", text, int(text), at, end)
    if kind == "real":
        return Token("real", text, float(text), at, end)
    return Token(kind, text, None, at, end)


def _whole(content: str, at: int, places: Places) -> str:
    """A text with the two halves of a character, as escapes of UTF-16 have them, made one."""
    try:
        return content.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise places.syntax(at, _HALF) from error


def _content(kind: str, text: str) -> str:
    if kind == "long_text":
        return text[3:-3]
    text = text.lstrip("hH")
    if kind == "verbatim":
        return text[2:-1].replace(text[1] * 2, text[1])
    return _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return _ESCAPES.get(escape, escape)


def _raw(text: str, at: int, places: Places) -> Token:
    """``datetime(2026-01-01)``: what is between the brackets is not made of tokens."""
    name, _, rest = text.partition("(")
    kind = {"date": "datetime", "time": "timespan", "uuid": "guid"}.get(name.strip(), name.strip())
    inside = rest.rstrip()[:-1].strip().strip("\"'")
    end = at + len(text)
    if inside == "null":
        return Token(kind, text, None, at, end)
    read = {"datetime": literals.datetime_ticks, "timespan": literals.timespan_ticks, "guid": literals.guid}[kind]
    value = read(inside)
    if value is None:
        if inside.isidentifier() or not inside:  # a function of a column
            return Token("name", name.strip(), None, at, at + len(name.rstrip()))
        raise places.syntax(at, f"{inside!r} is no {kind}")
    return Token(kind, text, value, at, end)
