"""
The expressions of a query as a tree.

Written against Microsoft's grammar of Kusto, whose precedence it keeps: ``or``,
``and``, equality and ``in``, comparison, sums, products, and closest of all the
operators on text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from scoretrace.kql.cursor import Cursor
from scoretrace.kql.syntax import (
    Between,
    Binary,
    Call,
    Expression,
    InList,
    Literal,
    Member,
    Name,
    Named,
    Path,
    Pattern,
    SortKey,
    Star,
    TypeOf,
    Unary,
)
from scoretrace.kql.tokens import Token

TYPES = {
    "bool": "bool",
    "boolean": "bool",
    "date": "datetime",
    "datetime": "datetime",
    "decimal": "decimal",
    "double": "real",
    "dynamic": "dynamic",
    "guid": "guid",
    "int": "int",
    "long": "long",
    "real": "real",
    "string": "string",
    "time": "timespan",
    "timespan": "timespan",
}
_EQUALITY = {"==", "!=", "<>", "=~", "!~"}
_LISTS = {"in", "!in", "in~", "!in~", "has_any", "has_all"}
_TEXT_STEMS = ("contains", "has", "startswith", "endswith", "hasprefix", "hassuffix")
TEXT_OPERATORS = frozenset(f"{no}{stem}{case}" for no in ("", "!") for stem in _TEXT_STEMS for case in ("", "_cs"))
_TYPED = {"bool", "boolean", "int", "long", "real", "double", "decimal"}
_OUTSIDE = {
    "cluster": "there is one database here",
    "database": "there is one database here",
    "workspace": "there is one workspace here",
    "app": "there is one application here",
    "resource": "there is one resource here",
    "externaldata": "queries read nothing from outside",
    "external_table": "queries read nothing from outside",
    "stored_query_result": "there are no stored results here",
}
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class ExpressionParser(Cursor, ABC):
    """What stands for a value; the brackets of one may hold whole pipelines."""

    @abstractmethod
    def pipeline(self) -> Expression:
        """Rows, or a value."""

    def type_name(self) -> str:
        """The name of a type, as Kusto's own."""
        token = self.take()
        if token.text not in TYPES:
            raise self.places.syntax(token.at, f"{token.text or 'nothing'} is no type: there are {', '.join(TYPES)}")
        return TYPES[token.text]

    def name(self) -> str:
        """A name, bare or as ``['any text']``."""
        if self.at_sign("[") and self.ahead().kind == "string":
            self.take()
            name: str = self.take().value
            self.expect("]")
            return name
        if self.token.kind != "name":
            raise self.unexpected("a name")
        return self.take().text

    def named_list(self) -> tuple[Named, ...]:
        """``a = x, y, (b, c) = f(z)``."""
        found = [self.named()]
        while self.skip(","):
            found.append(self.named())
        return tuple(found)

    def named(self) -> Named:
        """``name = value``, or a value."""
        at = self.token.at
        names: tuple[str, ...] = ()
        if self._at_assignment():
            names = (self.name(),)
            self.expect("=")
        elif self.at_sign("(") and self._at_names():
            self.take()
            several = [self.name()]
            while self.skip(","):
                several.append(self.name())
            self.expect(")")
            self.expect("=")
            names = tuple(several)
        return Named(at, self.expression(), names)

    def axis(self) -> Named:
        """``name = value`` that ends before ``in range(...)``."""
        at = self.token.at
        names = (self.name(),) if self._at_assignment() else ()
        if names:
            self.expect("=")
        return Named(at, self._comparison(), names)

    def named_pattern(self) -> Named:
        """The name of a column, or a pattern with an asterisk at its end, whatever comes next."""
        token, ahead = self.token, self.ahead()
        if token.kind == "name" and ahead.text == "*" and ahead.at == token.end:
            self.take()
            self.take()
            return Named(token.at, Pattern(token.at, f"{token.text}*"))
        return self.named()

    def _at_assignment(self) -> bool:
        if self.token.kind == "name":
            return self.ahead().text == "=" and self.ahead().kind == "sign"
        return self.at_sign("[") and self.ahead().kind == "string" and self.ahead(3).text == "="

    def _at_names(self) -> bool:
        """Whether ``(a, b) =`` follows."""
        index = self._index + 1
        while self._tokens[index].kind == "name" and self._tokens[index + 1].text == ",":
            index += 2
        return (
            self._tokens[index].kind == "name"
            and self._tokens[index + 1].text == ")"
            and self._tokens[min(index + 2, len(self._tokens) - 1)].text == "="
        )

    def sort_keys(self) -> tuple[SortKey, ...]:
        """``a asc, b desc nulls first``."""
        keys = [self.sort_key()]
        while self.skip(","):
            keys.append(self.sort_key())
        return tuple(keys)

    def sort_key(self) -> SortKey:
        """One value to sort by: falling, unless the query says otherwise."""
        value = self.named().value
        ascending = False
        if self.at_word("asc", "desc", "granny-asc", "granny-desc"):
            ascending = self.take().text == "asc"
        first = self.expect_word("first", "last") == "first" if self.skip_word("nulls") else None
        return SortKey(value, ascending, first)

    def expression(self) -> Expression:
        """A value."""
        left = self._and()
        while self.at_word("or"):
            at = self.take().at
            left = Binary(at, "or", left, self._and())
        return left

    def _and(self) -> Expression:
        left = self._equality()
        while self.at_word("and"):
            at = self.take().at
            left = Binary(at, "and", left, self._equality())
        return left

    def _equality(self) -> Expression:
        left = self._comparison()
        while True:
            token = self.token
            if token.kind == "sign" and token.text in _EQUALITY:
                self.take()
                left = Binary(token.at, "!=" if token.text == "<>" else token.text, left, self._comparison())
            elif token.text in _LISTS and token.kind in {"name", "sign"}:
                self.take()
                left = InList(token.at, token.text, left, self._items())
            elif token.text in {"between", "!between"}:
                self.take()
                self.expect("(")
                low = self.expression()
                self.expect("..")
                high = self.expression()
                self.expect(")")
                left = Between(token.at, left, low, high, token.text[0] == "!")
            else:
                return left

    def _items(self) -> tuple[Expression, ...]:
        self.expect("(")
        items = []
        while not self.at_sign(")"):
            items.append(self.pipeline())
            if not self.skip(","):
                break
        self.expect(")")
        return tuple(items)

    def _comparison(self) -> Expression:
        left = self._sum()
        while self.at_sign("<", ">", "<=", ">="):
            token = self.take()
            left = Binary(token.at, token.text, left, self._sum())
        return left

    def _sum(self) -> Expression:
        left = self._product()
        while self.at_sign("+", "-"):
            token = self.take()
            left = Binary(token.at, token.text, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._text_operation()
        while self.at_sign("*", "/", "%"):
            token = self.take()
            left = Binary(token.at, token.text, left, self._text_operation())
        return left

    def _text_operation(self) -> Expression:
        left = self._unary()
        while True:
            token = self.token
            if token.kind in {"name", "sign"} and token.text in TEXT_OPERATORS:
                self.take()
                left = Binary(token.at, token.text, left, self._unary())
            elif self.at_word("matches") and self.ahead().text == "regex":
                self.take()
                self.take()
                left = Binary(token.at, "matches regex", left, self._unary())
            elif self.is_searching and self.at_sign(":"):
                self.take()
                left = Binary(token.at, "has", left, self._unary())
            else:
                return left

    def _unary(self) -> Expression:
        if self.at_sign("-", "+"):
            token = self.take()
            return Unary(token.at, token.text, self._unary())
        return self._postfix(self._primary())

    def _postfix(self, value: Expression) -> Expression:
        at = value.at
        members: list[Member] = []
        while True:
            if self.at_sign(".") and self.ahead().kind in {"name", "sign"}:
                self.take()
                if self.at_sign("["):
                    self.take()
                    if self.token.kind != "string":
                        raise self.unexpected("the name of a member in quotes")
                    members.append(Member(self.take().value))
                    self.expect("]")
                else:
                    members.append(Member(self.name()))
            elif self.at_sign("["):
                self.take()
                index = self.expression()
                self.expect("]")
                if isinstance(index, Literal) and index.type == "string":
                    members.append(Member(index.value))
                else:
                    members.append(Member(index=index))
            else:
                return Path(at, value, tuple(members)) if members else value

    def _primary(self) -> Expression:
        token = self.token
        if token.kind == "string":
            self.take()
            parts = [token.value]
            while self.token.kind == "string":  # texts side by side are one
                parts.append(self.take().value)
            return Literal(token.at, "string", "".join(parts))
        if token.kind not in {"name", "sign", "end"}:
            self.take()
            return Literal(token.at, token.kind, token.value)
        if token.kind == "name":
            return self._word()
        if self.skip("("):
            value = self.pipeline()
            self.expect(")")
            return value
        if self.at_sign("*"):
            self.take()
            return Star(token.at)
        if self.at_sign("[") and self.ahead().kind == "string":
            return Name(token.at, self.name())
        raise self.unexpected("a value")

    def _word(self) -> Expression:
        token = self.take()
        word = token.text
        if word in _TRUTHS:
            return Literal(token.at, "bool", _TRUTHS[word])
        if self.at_sign("*") and self.token.at == token.end and self.ahead().text in {",", ")", "|", "", ";"}:
            self.take()
            return Pattern(token.at, f"{word}*")
        if not self.at_sign("("):
            return Name(token.at, word)
        if word == "dynamic":
            return self._dynamic(token.at)
        if word in _OUTSIDE:
            raise self.places.unsupported(token.at, f"{word}()", f"is not supported: {_OUTSIDE[word]}")
        if word == "typeof":
            self.take()
            kind = self._schema_of_rows() if self.at_sign("*", "(") else self.type_name()
            self.expect(")")
            return TypeOf(token.at, kind)
        if word in _TYPED:
            return self._typed(token)
        self.take()
        return Call(token.at, word, *self.call_arguments())

    def _schema_of_rows(self) -> str:
        """What stands in ``typeof(*, name: type)``, which only plugins take that are refused."""
        while not self.at_sign(")") and self.token.kind != "end":
            self.take()
        return "dynamic"

    def call_arguments(self) -> tuple[tuple[Expression, ...], tuple[str, ...]]:
        """The arguments up to the bracket that ends them, and the name of each, empty where it has none."""
        arguments: list[Expression] = []
        names: list[str] = []
        while not self.at_sign(")"):
            names.append(self.name() if self._at_assignment() else "")
            if names[-1]:
                self.expect("=")
            arguments.append(self.pipeline())
            if not self.skip(","):
                break
        self.expect(")")
        return tuple(arguments), tuple(names)

    def _typed(self, token: Token) -> Expression:
        """``long(5)``, ``real(null)``, ``int(-3)``."""
        self.expect("(")
        kind = TYPES[token.text]
        if self.skip_word("null"):
            self.expect(")")
            return Literal(token.at, kind, None)
        sign = -1 if self.skip("-") else 1
        self.skip("+")
        if kind == "real" and self.at_word("inf", "nan"):
            value = sign * float(self.take().text)
            self.expect(")")
            return Literal(token.at, kind, value)
        inner = self.expression()
        self.expect(")")
        if isinstance(inner, Literal) and inner.type in {"long", "real", "bool"} and inner.value is not None:
            plain = inner.value if kind == "bool" else sign * inner.value
            if kind in {"real", "decimal"}:
                return Literal(token.at, kind, float(plain))
            if kind == "bool":
                return Literal(token.at, kind, bool(plain))
            if kind == "int" and not -(2**31) <= plain < 2**31:
                raise self.places.wrong(token.at, f"{plain} is larger than an int can be")
            return Literal(token.at, kind, int(plain))
        raise self.places.wrong(token.at, f"{token.text}(...) takes a literal: to{token.text}() converts")

    def _dynamic(self, at: int) -> Literal:
        self.expect("(")
        value = self._json()
        self.expect(")")
        return Literal(at, "dynamic", value)

    def _json(self) -> Any:
        """A JSON value as Kusto writes it: also in single quotes, and with Kusto's own literals."""
        token = self.token
        if self.skip("["):
            items = []
            while not self.at_sign("]"):
                items.append(self._json())
                if not self.skip(","):
                    break
            self.expect("]")
            return items
        if self.skip("{"):
            found = {}
            while not self.at_sign("}"):
                if self.token.kind != "string":
                    raise self.unexpected("the name of a property in quotes")
                key = self.take().value
                self.expect(":")
                found[key] = self._json()
                if not self.skip(","):
                    break
            self.expect("}")
            return found
        if self.skip_word("null"):
            return None
        if self.skip("-"):
            number = self._json()
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise self.places.syntax(token.at, "a number is expected behind the minus")
            return -number
        if token.kind == "name" and token.text == "dynamic":
            self.take()
            return self._dynamic(token.at).value
        value = self._primary()
        if not isinstance(value, Literal):
            raise self.places.syntax(token.at, "a dynamic holds literals only")
        if value.type in {"datetime", "timespan"}:
            raise self.places.unsupported(token.at, f"a {value.type} in a dynamic literal")
        return value.value
