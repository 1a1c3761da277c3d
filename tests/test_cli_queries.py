"""scoretrace query and queries: what they show, where, and with which exit code."""

import json

import pytest
from click.testing import CliRunner

import scoretrace
from scoretrace.cli import cli
from services.node import PARSER, node


def run(*arguments, stdin=None):
    return CliRunner().invoke(cli, list(map(str, arguments)), input=stdin)


@pytest.fixture(name="rows", autouse=True)
def _rows(home):
    with scoretrace.configure(home=home, service="svc", capture_print=False, exporter="none"):
        for number in range(5):
            with scoretrace.request_context("score"):
                scoretrace.log({"number": number})


def test_a_limit_says_how_many_there_are(home):
    """Of a table, of lines, and not where all are shown."""
    shown = run("query", "traces | project message", "--limit", 2)
    assert len(shown.stdout.splitlines()) == 2
    assert shown.stderr.strip() == "2 of 5 rows"
    table = run("query", "traces | project message", "--limit", 2, "--format", "table")
    assert "2 of 5 rows in " in table.stderr
    assert run("query", "traces | project message", "--limit", 5).stderr == ""


def test_a_table_says_how_long_it_took(home):
    """Beside how many rows there are."""
    assert "1 row in 0." in run("query", "requests | count", "--format", "table").stderr


def test_a_source_may_be_called_source_too(home):
    """As the interface of Python calls it."""
    assert (
        run("query", "requests | count", "--source", home).stdout
        == run("query", "requests | count", "--from", home).stdout
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["query", "requests | where nme == 1"], 3, "did you mean name"),
        (["query", "requests | fork (count)"], 3, "fork is not supported by the local engine"),
        (["query", ".drop table requests"], 3, "control commands"),
        (["query", "request-rte"], 3, "did you mean request-rate"),
        (["query", "request-rate", "--set", "sinse=1d"], 3, "did you mean since"),
        (["query", "request-rate", "--set", "since=1d; x"], 3, "no value for the parameter since"),
        (["query", "request-rate", "--set", "since"], 2, "NAME=VALUE"),
        (["query", "requests", "--set", "memory=1"], 2, "cannot be set from here"),
        (["query", "range x from 1 to 1000000000000 step 1 | summarize sum(x % 7)", "--timeout", "0.2"], 3, "timeout"),
        (["query", "requests", "--memory", "much"], 3, "memory"),
        (["query", "requests", "--limit", "-1"], 2, "limit"),
        (["query", "requests", "--source", "azure:x"], 4, "is no resource"),
        (["query", "requests", "--open"], 4, "needs a resource"),
        (["queries", "failurs"], 3, "did you mean failures"),
        (["queries", "--check", "nowhere.kql"], 2, "nowhere.kql"),
    ],
)
def test_wrong_arguments_and_queries_are_told(home, arguments, code, said):
    """On stderr, in a line, with the exit code of their kind."""
    shown = run(*arguments)

    assert (shown.exit_code, shown.stdout) == (code, "")
    assert said in shown.stderr


def test_the_link_of_a_query_is_printed():
    """And nothing runs."""
    resource = "azure:/subscriptions/s/resourceGroups/g/providers/microsoft.insights/components/c"
    shown = run("query", "failures", "--set", "since=7d", "--source", resource, "--open")

    assert shown.exit_code == 0
    assert shown.stdout.strip() == scoretrace.portal_link("failures", source=resource, since="7d")


def test_bundled_queries_are_listed_and_shown(home):
    """With their questions; as they are, or for a workspace."""
    listed = run("queries").stdout
    assert listed.count("?") >= 40
    assert "let since = 1d;" in run("queries", "failures").stdout
    assert "let requests = AppRequests" in run("queries", "failures", "--workspace").stdout


def test_what_is_supported_is_shown(home):
    """From the one list."""
    shown = run("queries", "--support").stdout

    assert "operators, answered:" in shown
    assert "make-series" in shown
    assert "plugins, refused by name:" in shown


def test_files_are_checked_by_the_parser_of_microsoft(home, tmp_path, monkeypatch):
    """Line and column of what is wrong; what is good but not answered here is told apart."""
    if node() is None or not PARSER.exists():
        pytest.skip("Node.js or the Kusto parser is not installed: run `make test`")
    monkeypatch.setenv("NODE_PATH", str(PARSER.parents[1]))
    files = {
        "good": "traces | take 1",
        "bad": "traces\n| where mesage == ''",
        "elsewhere": "traces | fork (count) (take 1)",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.kql").write_text(text)

    good, bad, elsewhere = (run("queries", "--check", tmp_path / f"{name}.kql") for name in files)

    assert (good.exit_code, elsewhere.exit_code, bad.exit_code) == (0, 0, 1)
    assert "bad.kql:2:9: Error KS142" in bad.stdout
    assert "not answered on this machine: line 1, column 10: fork" in elsewhere.stderr


def test_rows_of_any_type_are_written_in_any_form(home, tmp_path):
    """Timespans, dynamics and times, as lines, CSV and Parquet."""
    text = (
        "print s = 90m, d = dynamic({'a': [1]}), t = datetime(2026-01-05 10:00), x = real(nan), "
        "g = guid(c0ffee00-0000-0000-0000-000000000001)"
    )
    (line,) = run("query", text).stdout.splitlines()
    assert json.loads(line) == {
        "s": "01:30:00",
        "d": {"a": [1]},
        "t": "2026-01-05T10:00:00Z",
        "x": None,
        "g": "c0ffee00-0000-0000-0000-000000000001",
    }
    assert "01:30:00" in run("query", text, "--format", "csv").stdout
    out = tmp_path / "rows.parquet"
    assert run("query", "traces | project message | order by message asc", "--limit", 2, "-o", out).exit_code == 0
    import pandas as pd

    assert len(pd.read_parquet(out)) == 2


def test_a_query_without_the_value_that_it_needs_says_so(home):
    """Rather than that nothing was found."""
    answered = run("query", "one-operation")

    assert (answered.exit_code, answered.stdout) == (0, "")
    assert "--set operation=..." in answered.stderr
