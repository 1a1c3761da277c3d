"""Microsoft's own parser of Kusto, which the tests ask about queries."""

import os

import pytest

from scoretrace import kql_check
from services.node import PARSER, node


def ask(texts, **options):
    """What it says of each of *texts*."""
    if node() is None or not PARSER.exists():
        missing = "Node.js or the Kusto parser is not installed (Debian: apt-get install nodejs npm): run `make test`"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return kql_check.check(list(texts), package=PARSER, node=node(), **options)
