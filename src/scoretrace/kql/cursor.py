"""Going through the tokens of a query: what is next, and what is wrong where it is not what has to be."""

from __future__ import annotations

from scoretrace.errors import QuerySyntaxError
from scoretrace.kql.places import Places, line_and_column
from scoretrace.kql.tokens import Token, tokens

_OPENING = {")": "(", "]": "[", "}": "{"}


class Cursor:
    """A place between two tokens, which moves forward."""

    def __init__(self, text: str) -> None:
        self.places = Places(text)
        self._tokens = tokens(self.places)
        self._index = 0
        self._depth = 0
        self.is_searching = False  # where a colon means has

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._index]

    def ahead(self, count: int = 1) -> Token:
        """The token *count* after the next."""
        return self._tokens[min(self._index + count, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, which is passed."""
        token = self.token
        if token.kind != "end":
            self._index += 1
        return token

    def at_sign(self, *signs: str) -> bool:
        """Whether the next token is one of these signs."""
        return self.token.kind == "sign" and self.token.text in signs

    def at_word(self, *words: str) -> bool:
        """Whether the next token is one of these words."""
        return self.token.kind == "name" and self.token.text in words

    def skip(self, sign: str) -> bool:
        """Pass *sign* if it is next."""
        if self.at_sign(sign):
            self._index += 1
            return True
        return False

    def skip_word(self, word: str) -> bool:
        """Pass *word* if it is next."""
        if self.at_word(word):
            self._index += 1
            return True
        return False

    def expect(self, sign: str) -> Token:
        """The sign that has to be next."""
        if not self.at_sign(sign):
            raise self.unexpected(sign)
        return self.take()

    def expect_word(self, *words: str) -> str:
        """The word of these that has to be next."""
        if not self.at_word(*words):
            raise self.unexpected(" or ".join(words))
        return self.take().text

    def unexpected(self, wanted: str) -> QuerySyntaxError:
        """The error for a token that is not what is wanted."""
        token = self.token
        found = "the query ends" if token.kind == "end" else f"there is {token.text[:40]!r}"
        hint = "; a comparison is written ==" if token.text == "=" else ""
        if token.kind == "end" and wanted in _OPENING:
            hint = self._opened(_OPENING[wanted])
        return self.places.syntax(token.at, f"{found} where {wanted} is expected{hint}")

    def _opened(self, bracket: str) -> str:
        """Where the innermost bracket stands that nothing ends."""
        open_at = []
        for token in self._tokens:
            if token.kind == "sign" and token.text in _OPENING.values():
                open_at.append(token)
            elif token.kind == "sign" and token.text in _OPENING and open_at:
                open_at.pop()
        if not open_at or open_at[-1].text != bracket:
            return ""
        line, column = line_and_column(self.places.text, open_at[-1].at)
        return f": the {bracket} of line {line}, column {column} is open"
