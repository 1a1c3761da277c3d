"""
Arrays and bags in SQL: their elements as lists, and what is done with each.

Names of our own begin with a tilde, which `relations.sql_names` leaves to us:
an element may never be taken for a column that a user called the same.
"""

from __future__ import annotations

ELEMENT = '"~x"'


def elements(array: str) -> str:
    """The elements of an array as a list of dynamics, null where it is none."""
    return f"CAST(json_extract({array}, '$[*]') AS JSON[])"


def texts(array: str) -> str:
    """The elements of an array as a list of texts."""
    return f"json_extract_string({array}, '$[*]')"


def entries(bag: str) -> str:
    """The properties of a bag as a list of ``key`` and ``value``."""
    return f"map_entries({mapped(bag)})"


def mapped(bag: str) -> str:
    """A bag as a map of dynamics."""
    return f"CAST(json_transform({bag}, '\"MAP(VARCHAR, JSON)\"') AS MAP(VARCHAR, JSON))"


def each(listed: str, made: str) -> str:
    """A list with what is *made* of each `ELEMENT`."""
    return f"list_transform({listed}, lambda {ELEMENT}: {made})"


def kept(listed: str, test: str) -> str:
    """The elements for which *test* of `ELEMENT` is true."""
    return f"list_filter({listed}, lambda {ELEMENT}: {test})"


def array(listed: str) -> str:
    """A list as a dynamic."""
    return f"to_json({listed})"


def escaped_path(key: str) -> str:
    """The JSON path of the property whose name the SQL *key* gives."""
    return f"'$.\"' || replace(replace({key}, '\\', '\\\\'), '\"', '\\\"') || '\"'"
