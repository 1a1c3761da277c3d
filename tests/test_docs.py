"""The documents say what there is, and what they claim is held by tests that exist."""

import re
from pathlib import Path

import pytest

import scoretrace
from scoretrace.cli import cli
from scoretrace.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TESTS = [*(ROOT / "tests").glob("test_*.py"), *(ROOT / "tests" / "azureml").glob("test_*.py")]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting):
    """With its names in the environment and the same sentence."""
    row = f"| `{setting.name}` | {', '.join(f'`{name}`' for name in setting.environment)} |"

    assert row in README
    assert setting.help in README


@pytest.mark.parametrize("command", cli.commands)
def test_every_command_is_documented(command):
    """In the README's list."""
    assert f"`scoretrace {command}" in README


@pytest.mark.parametrize("bundled", scoretrace.queries(), ids=lambda bundled: bundled.name)
def test_every_query_is_documented(bundled):
    """With the question it answers."""
    assert f"| `{bundled.name}` | {bundled.question} |" in README


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


def test_the_readme_shows_code_that_runs(home, capsys):
    """Every Python block of the README, in order, in one script."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)

    assert len(scoretrace.query("requests", source=home)) >= 1


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"])
def test_links_between_documents_lead_somewhere(name):
    """Relative links name files that are there."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_every_test_states_its_promise():
    """In its docstring."""
    for path in TESTS:
        text = path.read_text(encoding="utf-8")
        tests = len(re.findall(r"^def test_", text, re.MULTILINE))
        promised = len(re.findall(r'^def test_[^\n]*(?:\n [^\n]*)*?\n    r?"""', text, re.MULTILINE))
        assert tests == promised, path.name
