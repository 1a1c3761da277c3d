"""Text and names as they stand in SQL."""

from __future__ import annotations


def quote(text: str) -> str:
    """
    *text* as a string.

    >>> quote("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """
    *text* as the name of a column or table, whatever is in it.

    >>> name("a b")
    '"a b"'
    """
    return '"' + text.replace('"', '""') + '"'
