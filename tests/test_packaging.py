"""What is built installs and works, on each Python of this machine that is promised."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import scoretrace
from documents import blocks, run_console

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
SMOKE = """
import logging, sys
import scoretrace
with scoretrace.configure(service="svc") as telemetry:
    print("a print")
    logging.getLogger("score").warning("a log")
    scoretrace.ModelDataCollector("m", "inputs").collect([1, 2])
assert telemetry.stats()["items"] == 2, telemetry.stats()
scoretrace.update("svc", enable_app_insights=False)
assert scoretrace.Webservice("svc").switches()["enable_app_insights"] is False
"""


def found(version):
    """The interpreter of a version of Python, wherever pyenv, Debian or anybody else put it; "" where it is not."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    folders = [*map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"))), *os.get_exec_path()]
    for folder in folders:
        python = shutil.which(f"python{version}", path=folder)
        # A shim of pyenv is there for versions that it does not give.
        if python and subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return python
    return ""


EVERYWHERE = os.environ.get("SCORETRACE_TEST_INSTALL") == "1"
PYTHONS = [pytest.param(found(version), id=version) for version in VERSIONS]


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory):
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def pip(python, folder, *words):
    """The pip of the tests at work on a new environment, which needs none of its own; gives its interpreter."""
    if not python:
        pytest.skip("this machine does not have that Python: pyenv or the system's packages install it")
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
    inside = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "--python",
        inside,
        *map(str, words),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return inside


def run(inside, *words, cwd, code=0):
    """What a command of that environment says, nothing of ours in its way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCORETRACE"))}
    ended = subprocess.run([inside, *words], cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_the_wheel_alone_logs(built, tmp_path, python):
    """With msgspec and nothing else: rows, collected data and switches; the command says what it needs."""
    inside = pip(python, tmp_path / "environment", "install", built[0])
    code = "from importlib.metadata import distributions; print(*sorted(one.name for one in distributions()))"

    assert run(inside, "-c", code, cwd=tmp_path).split() == ["msgspec", "scoretrace"]
    run(inside, "-W", "error", "-c", SMOKE, cwd=tmp_path)
    assert "pip install 'scoretrace[cli,query]'" in run(inside, "-m", "scoretrace", cwd=tmp_path, code=1)


def test_a_stranger_comes_to_a_first_row(built, tmp_path):
    """From the sdist, with the lines of the README: one that installs, and four more at the most."""
    inside = pip(sys.executable, tmp_path / "environment", "install", f"{built[1]}[cli,query]")
    command = str(Path(inside).with_name("scoretrace"))
    first, typed = [block for block in blocks(ROOT / "README.md") if block.language in {"sh", "console"}][:2]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCORETRACE"))}
    run_console(typed, tmp_path, {**clean, "PATH": f"{Path(inside).parent}{os.pathsep}{os.environ['PATH']}"})

    assert first.code.strip() == "pip install 'scoretrace[cli,query]'"
    assert typed.code.count("$ ") <= 4
    assert run(command, "--version", cwd=tmp_path).strip() == f"scoretrace, version {scoretrace.__version__}"
    shown = run(command, "query", "traces | project text = tostring(customDimensions.Contents)", cwd=tmp_path)
    assert [line for line in shown.splitlines() if line] == ['{"text":"[1, 2, 3]"}', '{"text":"[4, 5]"}']
    assert "there is no" not in run(command, "queries", "failures", cwd=tmp_path)


@pytest.mark.parametrize("python", PYTHONS if EVERYWHERE else PYTHONS[-1:])
def test_all_of_it_can_be_installed(built, tmp_path, python):
    """`[all]` is resolved for the newest; `make test-install` installs and uses it on each."""
    if not EVERYWHERE:
        pip(python, tmp_path / "environment", "install", "--dry-run", "--only-binary", ":all:", f"{built[0]}[all]")
        return
    inside = pip(python, tmp_path / "environment", "install", f"{built[0]}[all]")
    run(inside, "-c", SMOKE, cwd=tmp_path)
    for module in ("click", "azure.storage.blob", "azure.monitor.query", "starlette", "opentelemetry.sdk", "sklearn"):
        run(inside, "-c", f"import {module}", cwd=tmp_path)
    command = str(Path(inside).with_name("scoretrace"))
    assert "a print" in run(command, "tail", cwd=tmp_path)
    said = run(command, "query", "traces | count", cwd=tmp_path, code=1 if "3.10" in run(inside, "-V", cwd=".") else 0)
    assert ('{"Count":2}' in said) or ("DuckDB 2, which there is for Python 3.11" in said)


def test_the_wheel_and_the_sdist_have_what_they_need(built):
    """The bundled queries, the types and the licence in one; what builds and tests it in the other, and no more."""
    wheel, sdist = built
    inside = zipfile.ZipFile(wheel).namelist()
    assert "scoretrace/kusto/failures.kql" in inside
    assert "scoretrace/py.typed" in inside
    assert not [name for name in inside if name.startswith(("tests", "docs"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "kusto/failures.kql", "tests/conftest.py", "docs/scoring.md"} <= names
    assert not [name for name in names if "node_modules" in name or ".venv" in name]
