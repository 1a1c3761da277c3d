"""The documents say what there is, and what they claim is held by tests that exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import scoretrace
from documents import DOCUMENTS, blocks, run_console, run_json, run_shell, shell_environment
from scoretrace.cli import cli

ROOT = Path(__file__).resolve().parents[1]
TESTS = [*(ROOT / "tests").glob("test_*.py"), *(ROOT / "tests" / "azureml").glob("test_*.py")]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


DOCS = ROOT / "docs"
QUERIES = (DOCS / "queries.md").read_text(encoding="utf-8")
# What the documents show with python, by their paths; those for the SDKs run in the environment of the SDKs.
ALONE = [(document, block) for document in DOCUMENTS for block in blocks(document) if "alone" in block.words]


@pytest.mark.parametrize("page", ["commands.md", "settings.md"])
def test_pages_made_from_the_code_are_what_the_code_says(page):
    """`make docs` writes them."""
    made = subprocess.run(
        [sys.executable, "-c", f"import build; print(build.PAGES[{page!r}](), end='')"],
        cwd=DOCS, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert (DOCS / page).read_text(encoding="utf-8") == made.stdout


def test_the_page_of_commands_is_what_they_say():
    """As they are called, at the width of the page."""
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    for name in cli.commands:
        shown = CliRunner().invoke(
            cli, [name, "--help"], prog_name="scoretrace", terminal_width=100, max_content_width=100
        )
        assert f"```text\n{shown.stdout}```" in page


@pytest.mark.parametrize("bundled", scoretrace.queries(), ids=lambda bundled: bundled.name)
def test_every_query_is_documented(bundled):
    """With the question it answers."""
    assert f"| `{bundled.name}` | {bundled.question} |" in QUERIES


@pytest.mark.parametrize("name", scoretrace.__all__)
def test_every_public_name_has_a_docstring(name):
    """One that was written for it."""
    assert (getattr(scoretrace, name).__doc__ or "").strip()


def test_every_test_that_the_architecture_names_exists():
    """An invariant is claimed where a test holds it."""
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    tests = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    named = re.findall(r"`(test_\w+)`", ARCHITECTURE)

    assert len(named) >= 8
    assert set(named) <= tests


def test_the_architecture_has_every_module_and_no_other():
    """In its table, by name."""
    source = ROOT / "src" / "scoretrace"
    modules = {path.stem for path in source.rglob("*.py") if not path.stem.startswith("__")}
    folders = {path.name for path in source.iterdir() if (path / "__init__.py").exists()}
    words = {part for name in re.findall(r"`([\w./]+)`", ARCHITECTURE) for part in re.split(r"[./]", name)}
    rows = re.findall(r"^\| (`[^|]+`) \|", ARCHITECTURE.partition("## The home folder")[0], re.MULTILINE)
    named = {name.strip("/").rpartition("/")[2] for row in rows for name in re.findall(r"`([\w/]+)`", row)}

    assert modules <= words
    assert named <= modules | folders


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_block_of_a_document_runs(document, tmp_path, monkeypatch, capsys, endpoint):
    """From the first to the last in one folder, as a reader would: Python, shell, JSON, Kusto, tests."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".scoretrace"
    monkeypatch.setenv("SCORETRACE_HOME", str(home))
    namespace, queries = {}, []
    for block in blocks(document):
        where = f"{document.name}:{block.line}"
        if block.language == "python" and not block.words:
            exec(compile(block.code, where, "exec"), namespace)
        elif block.language == "python":
            compile(block.code, where, "exec")  # below, and in the environment of the SDKs
            assert set(block.words) <= {"alone", "sdk"}, where
        elif block.language == "console":
            run_console(block, tmp_path, shell_environment(home))
        elif block.language == "sh":
            run_shell(block, tmp_path, shell_environment(home), endpoint.connection_string)
        elif block.language == "json":
            run_json(block, tmp_path, shell_environment(home))
        elif block.language == "kql":
            queries.append(block.code)
        elif block.language == "pytest":
            _run_tests(block, tmp_path)
        else:
            assert block.language == "text", where
    for query in queries:
        scoretrace.query(query, source=home)


def _run_tests(block, folder):
    (folder / "score.py").write_text(
        "import scoretrace\nscoretrace.configure()\n@scoretrace.request\ndef run(data): print(data)\n"
    )
    (folder / "test_it.py").write_text(block.code)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "test_it.py")],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(("document", "block"), ALONE, ids=[f"{path.stem}:{one.line}" for path, one in ALONE])
def test_what_a_script_has_before_and_after_runs(document, block, endpoint, tmp_path):
    """Each in a process of its own, the libraries before it included; azureml's by what answers for them."""
    before = "import scoretrace.compat\nscoretrace.compat.install(replace=True)\n"
    ended = subprocess.run(
        [sys.executable, "-c", before + block.code],
        env={
            **os.environ,
            "APPLICATIONINSIGHTS_CONNECTION_STRING": endpoint.connection_string,
            "SCORETRACE_HOME": str(tmp_path / "home"),
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    if "scoretrace" in block.code:
        rows = scoretrace.query("union traces, (modelData | project message = 'collected')", source=tmp_path / "home")
        assert rows.rows


def test_rows_keep_their_columns_from_before_to_after(endpoint, tmp_path):
    """Message, severity and dimensions of opencensus-ext-azure, as the service gets them."""
    page = DOCS / "migrating.md"
    before, after = [block for block in blocks(page) if "alone" in block.words][:2]
    assert "opencensus" in before.code
    assert "scoretrace" in after.code
    got = []
    for number, block in enumerate((before, after), start=1):
        subprocess.run(
            [sys.executable, "-c", block.code],
            env={
                **os.environ,
                "APPLICATIONINSIGHTS_CONNECTION_STRING": endpoint.connection_string,
                "SCORETRACE_HOME": str(tmp_path / "home"),
            },
            cwd=tmp_path, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        endpoint.wait_for(number)
        data = endpoint.envelopes[-1]["data"]["baseData"]
        got.append((data["message"], str(data["severityLevel"]), str(data["properties"]["rows"])))

    assert got[0] == ("scored", "1", "3")
    assert got[1][0::2] == ("scored", "3")
    assert got[1][1] in {"1", "Information"}


@pytest.mark.parametrize("document", [*DOCUMENTS, *ROOT.glob("*.md")], ids=lambda path: path.stem)
def test_links_between_documents_lead_somewhere(document):
    """Relative links name files that are there, and headings that are in them."""
    text = document.read_text(encoding="utf-8")
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), target
        if heading:
            found = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}, heading


def test_every_test_states_its_promise():
    """In its docstring."""
    for path in TESTS:
        text = path.read_text(encoding="utf-8")
        tests = len(re.findall(r"^def test_", text, re.MULTILINE))
        promised = len(re.findall(r'^def test_[^\n]*(?:\n [^\n]*)*?\n    r?"""', text, re.MULTILINE))
        assert tests == promised, path.name
