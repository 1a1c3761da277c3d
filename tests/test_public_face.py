"""What is public is listed, light to import, and points in one direction."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import scoretrace

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "scoretrace"

# Who may import whom: a module imports from the layers before its own, and from no other of its own.
LAYERS = (
    {"errors", "forks", "locks", "backoff", "sql", "near", "bounds", ""},
    {"ticks", "connections", "item", "lines", "optional"},
    {"moments", "quarantine", "repeats"},
    {"schema", "setting_values", "blobs", "sampling"},
    {"settings"},
    {"layouts", "formats.parts", "formats.track", "overflow", "switches", "notes", "shared_file", "summary"},
    {"formats.reading"},
    {"formats.continuous_export", "formats.diagnostics", "formats.breeze", "formats.usual_lines", "standin", "cursor"},
    {"formats.unknown", "formats.decoders", "sources", "tables_values"},
    {"retention", "capture.values", "capture.outlet"},
    {
        "choosing",
        "limits",
        "journal",
        "formats.transcode",
        "capture.thrown",
        "capture.operation",
        "capture.prints",
        "read",
        "container",
        "tables_continuous",
        "tables_diagnostic",
    },
    {
        "capture.handler",
        "capture.requests",
        "capture.spans",
        "capture.uncaught",
        "capture.server_logs",
        "tables",
        "payloads",
        "rows",
        "downloads",
    },
    {"spool"},
    {"compacted"},
    {"exports", "compaction"},
    {"mirror"},
    {"capture.web", "capture.instrument"},
    {"capture.scoring_server"},
    {"exporters.segments", "exporters.replies"},
    {"exporters.drain", "exporters.ingestion"},
    {"exporters.items"},
    {
        "exporters.azure_monitor",
        "exporters.opentelemetry",
        "exporters.opencensus",
        "exporters.blob_export",
        "exporters.collected",
    },
    {"exporters.routes", "exporters.worker"},
    {"capture.records"},
    {"telemetry"},
    {"process", "model_data_files"},
    {"collect.tabular", "collect.correlation", "collect.origin", "collect.tally"},
    {"collect.csv_rows", "collect.correlated", "collect.sink"},
    {"collect.model_data_collector", "collect.collector"},
    {"compat", "model_data_columns"},
    {"model_data_csv", "model_data_events"},
    {"model_data"},
    {"kql", "kql.literals", "kql.syntax", "kql.places", "kql.dynamics"},
    {"kql.tokens", "kql.values", "kql.naming"},
    {"kql.cursor"},
    {"kql.parser_expressions", "kql.relations"},
    {"kql.parser_operators"},
    {"kql.parser"},
    {"kql.parameters", "kql.arguments", "kql.invocations"},
    {"kql.functions", "kql.times", "kql.windows"},
    {"kql.aggregates", "kql.forms", "kql.comparisons"},
    {"kql.expressions"},
    {"kql.calls", "kql.selecting", "kql.joining", "kql.series"},
    {"kql.grouping", "kql.expanding", "kql.plugins", "kql.matching", "kql.searching"},
    {"kql.pipelines"},
    {"kql.compiler", "kql.support"},
    {"bundled", "charts"},
    {"result"},
    {"azure_logs"},
    {"engine"},
    {"query_api", "kql_check"},
    {"scoring", "sidecar", "endpoint", "guarding", "middleware", "diagnosis"},
    {"pipelines", "memory"},
    {"pytest_plugin"},
    {"service", "service.configuration", "service.sdk_v1", "service.sdk_v2"},
    {"service.webservice"},
    {"service.updating"},
    {"commands", "commands.options", "commands.connection"},
    {"commands.render"},
    {
        "commands.completion",
        "commands.delivery",
        "commands.exports",
        "commands.model_data",
        "commands.queries",
        "commands.reading",
        "commands.run",
        "commands.services",
    },
    {"cli"},
    {"__main__"},
)


def modules():
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
        for path in SOURCE.rglob("*.py")
    }


def imported(path):
    """The modules of ours that a module imports at run time, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "scoretrace":
            package = node.module.partition(".")[2]
            for alias in node.names:
                whole = f"{package}.{alias.name}".strip(".")
                yield whole if whole in modules() else package


def test_everything_public_is_listed_and_there():
    """__all__ is sorted, and each name can be had."""
    assert scoretrace.__all__ == sorted(scoretrace.__all__)
    assert all(getattr(scoretrace, name) is not None for name in scoretrace.__all__)
    assert set(scoretrace.__all__) <= set(dir(scoretrace))
    with pytest.raises(AttributeError):
        scoretrace.nothing_of_this_name  # noqa: B018


def test_no_module_hides_a_public_name():
    """Importing a module sets it on its package: it must not be called like a function there."""
    assert not set(scoretrace.__all__) & set(modules())


def test_every_error_is_one_of_ours():
    """One root to catch them all."""
    errors = [getattr(scoretrace, name) for name in scoretrace.__all__ if isinstance(getattr(scoretrace, name), type)]
    assert all(issubclass(error, scoretrace.ScoretraceError) for error in errors if issubclass(error, Exception))


def test_modules_import_in_one_direction():
    """Each from the layers before its own; a new module must be given its layer."""
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = {name: set(imported(path)) - {""} for name, path in modules().items()}

    assert set(found) - {"formats", "capture", "exporters", "collect"} == set(layer)
    wrong = [
        f"{name} imports {other}"
        for name, others in found.items()
        for other in others
        if name in layer and layer.get(other, 0) >= layer[name] and other != name
    ]
    assert wrong == []


def test_steps_do_not_import_each_other():
    """Capture, guard (`limits`), journal and exporters are joined in telemetry alone."""
    steps = {
        "limits": {"capture", "journal", "exporters"},
        "journal": {"capture", "limits", "exporters"},
        "capture": {"limits", "journal", "exporters"},
        "exporters": {"capture", "journal"},
    }
    for name, path in modules().items():
        for step, others in steps.items():
            if name.split(".")[0] == step:
                assert not {other.split(".")[0] for other in imported(path)} & others


def test_nothing_happens_at_import(tmp_path):
    """No file, no environment, no logging set-up, no thread."""
    code = """
import logging, os, sys, threading, builtins
before = (dict(os.environ), logging.root.level, list(logging.root.handlers), builtins.print, sys.stdout.write)
import scoretrace
for name in scoretrace.__all__: getattr(scoretrace, name)
import scoretrace.cli
after = (dict(os.environ), logging.root.level, list(logging.root.handlers), builtins.print, sys.stdout.write)
assert before == after and threading.active_count() == 1 and os.listdir(".") == []
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)


def test_logging_needs_msgspec_and_nothing_else(tmp_path):
    """configure, log and print load none of the optional dependencies."""
    code = """
import sys, logging
import scoretrace
scoretrace.configure()
logging.getLogger("score").info("m"); print("m" * 9000); scoretrace.log(a=[1])
with scoretrace.request_context("r"): pass
optional = {"duckdb", "click", "rich", "azure", "opentelemetry", "opencensus", "numpy", "pandas"}
assert not optional & set(sys.modules), optional & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("hidden", "code", "extra"),
    [
        ("duckdb", "import scoretrace; scoretrace.query('print 1', source='.')", "scoretrace[query]"),
        ("click", "from scoretrace.__main__ import main; main()", "scoretrace[cli,query]"),
    ],
)
def test_a_missing_extra_names_the_command_that_installs_it(tmp_path, hidden, code, extra):
    """The way out is in the message."""
    hide = f"import sys; sys.modules[{hidden!r}] = None\n"
    ended = subprocess.run([sys.executable, "-c", hide + code], cwd=tmp_path, capture_output=True, text=True)

    assert ended.returncode == 1
    assert f"pip install '{extra}'" in ended.stderr


def test_the_wheel_carries_the_queries(tmp_path):
    """Installed, the bundled queries are found inside the package."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {f"scoretrace/kusto/{path.name}" for path in (ROOT / "kusto").glob("*.kql")} <= set(names)
    assert "scoretrace/py.typed" in names
    code = "import scoretrace; print(scoretrace.__file__); print(len(scoretrace.queries()))"
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shown[0].startswith(str(tmp_path))
    assert int(shown[1]) == len(list((ROOT / "kusto").glob("*.kql")))
