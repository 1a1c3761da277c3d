"""Where in a query something is, and an error that says so."""

from __future__ import annotations

from collections.abc import Iterable

from scoretrace.errors import QueryError, QuerySyntaxError, UnknownNameError, UnsupportedQuery
from scoretrace.near import near


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """
    Line and column of an offset, both from 1.

    >>> line_and_column("requests\\n| take 3", 11)
    (2, 3)
    """
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


class Places:
    """Makes the errors of one query."""

    def __init__(self, text: str) -> None:
        self.text = text

    def syntax(self, at: int, message: str) -> QuerySyntaxError:
        """It is not Kusto."""
        line, column = line_and_column(self.text, at)
        return QuerySyntaxError(message, line=line, column=column)

    def unsupported(self, at: int, what: str, why: str = "is not supported by the local engine") -> UnsupportedQuery:
        """It is Kusto, but is not answered here."""
        line, column = line_and_column(self.text, at)
        return UnsupportedQuery(f"{what} {why}", line=line, column=column)

    def wrong(self, at: int, message: str) -> QueryError:
        """Azure would refuse it too."""
        line, column = line_and_column(self.text, at)
        return QueryError(message, line=line, column=column)

    def unknown(self, at: int, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """There is nothing of that name."""
        line, column = line_and_column(self.text, at)
        return UnknownNameError(f"there is no {what} {name}{near(name, known)}", line=line, column=column)
