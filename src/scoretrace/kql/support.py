"""
What of Kusto the local engine answers, and what it refuses by name.

The one list: the parser, the functions and the documents go by it, and a test
goes through it in both directions.
"""

from __future__ import annotations

from scoretrace.kql import aggregates, calls, parser_operators, plugins


def supported() -> dict[str, list[str]]:
    """What is answered, by its kind: operators, scalar functions, aggregates, plugins."""
    return {
        "operators": sorted({*parser_operators.OPERATORS, "datatable", "print", "range"}),
        "functions": sorted(calls.NAMES),
        "aggregates": sorted(aggregates.NAMES),
        "plugins": sorted(plugins.PLUGINS),
    }


def refused() -> dict[str, list[str]]:
    """What is refused by name, by its kind."""
    return {
        "operators": sorted({*parser_operators.UNSUPPORTED, "find"}),
        "functions": sorted(calls.REFUSED),
        "aggregates": sorted(aggregates.REFUSED),
        "plugins": sorted(plugins.UNSUPPORTED),
    }
