"""The notebooks run from top to bottom, and what readers see is what they are."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from scoring_server import python

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
SERVED = {"enable_app_insights_in_production", "enable_data_collection"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook):
    """Each cell, in order, on this machine; those of Azure ML's documentation behind the real scoring server."""
    environment = {**os.environ, "MPLBACKEND": "agg"}
    if notebook.stem in SERVED:
        environment["SERVER_PYTHON"] = python()
    ended = subprocess.run(
        [sys.executable, str(notebook)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3_000:]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_built_notebook_has_the_cells_of_its_source(notebook):
    """It ran to its end, and shows nothing of the machine that it ran on: `make notebooks` builds it."""
    built = notebook.with_suffix(".ipynb")
    source, shown = jupytext.read(notebook), jupytext.read(built)

    assert [(cell.cell_type, cell.source) for cell in shown.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    outputs = [output for cell in shown.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    text = built.read_text(encoding="utf-8")
    assert not [path for path in (str(ROOT), str(Path.home()), "/tmp/") if path in text]
