"""Queries against Microsoft's own parser: what ships is without fault, and columns are those that it names."""

import json
from pathlib import Path

import pytest

import scoretrace
from kusto_parser import ask
from scoretrace.engine import CATALOG
from scoretrace.kql.compiler import compile_query
from scoretrace.schema import MODEL_DATA
from test_kusto_answers import ANSWERS, NAMES, whole

SHARED = Path(__file__).resolve().parents[2] / "shared" / "reference" / "appinsights_kusto_schema.json"
# Whose columns depend on rows, or which the parser works out otherwise than the engine behind it.
DATA_DEPENDENT = (
    "d.l[-1], ",
    "bag_unpack(d)",
    "columnsConflict",
    "pivot(",
    'bag_unpack(d, "p_")',
    "kind=inner T, R",
    "isfuzzy",
)


def columns(text):
    return list(compile_query(text, CATALOG, now=638_000_000_000_000_000).columns)


@pytest.fixture(name="bundled", scope="module")
def _bundled():
    return scoretrace.queries()


@pytest.mark.parametrize("naming", ["text", "workspace"])
def test_every_bundled_query_is_good_kusto_with_the_columns_that_it_has_here(bundled, naming):
    """In both namings: not one diagnostic, and the same names and types as the local engine."""
    texts = [getattr(entry, naming) for entry in bundled]

    found = ask(texts)

    assert len(bundled) >= 30
    assert {entry.name: said.diagnostics for entry, said in zip(bundled, found, strict=True) if said.diagnostics} == {}
    for entry, text, said in zip(bundled, texts, found, strict=True):
        assert (entry.name, said.columns) == (entry.name, columns(text))


def test_the_tables_of_azure_are_enough_for_them(bundled):
    """Of the tables that Azure documents, and of no other of ours."""
    if not SHARED.exists():
        pytest.skip("the reference of the tables is not here")
    tables = {name: list(found.items()) for name, found in json.loads(SHARED.read_text())["tables"].items()}
    assert MODEL_DATA not in tables

    for naming in ("text", "workspace"):
        found = ask([getattr(entry, naming) for entry in bundled], tables=tables)
        faults = {entry.name: said.diagnostics for entry, said in zip(bundled, found, strict=True) if said.diagnostics}
        assert faults == {}


def test_answers_have_the_columns_that_azure_would_give_them():
    """Names and types of every query whose answer was worked out by hand."""
    texts = [whole(text) for text in (*ANSWERS, *NAMES) if not any(odd in text for odd in DATA_DEPENDENT)]

    found = list(zip(texts, ask(texts), strict=True))

    assert {
        text: said.diagnostics for text, said in found if any(one.severity == "Error" for one in said.diagnostics)
    } == {}
    assert {text: said.columns for text, said in found if said.columns != columns(text)} == {}


def test_a_fault_is_said_with_its_place(tmp_path):
    """Line and column count from 1."""
    (found,) = ask(["traces\n| where tmessage == 'x'"])

    (said,) = found.diagnostics
    assert (said.line, said.column, said.severity, said.code) == (2, 9, "Error", "KS142")
    assert "tmessage" in str(said)
