"""The fixture `telemetry`: what a script logs, in memory, for its own tests."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(name="pytest_in")
def _pytest_in(tmp_path):
    """Run pytest on some files in a folder of their own, and see what it says and leaves behind."""

    def run(*options, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        before = {path.name for path in tmp_path.iterdir()}
        environment = {name: value for name, value in os.environ.items() if name != "SCORETRACE_HOME"}
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
            cwd=tmp_path,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert {path.name for path in tmp_path.iterdir()} == before
        return ended.returncode, ended.stdout

    return run


def test_the_example_passes_and_leaves_no_file(tmp_path, pytest_in):
    """As it is in examples/tested."""
    shutil.copytree(ROOT / "examples" / "tested", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*"))

    status, said = pytest_in()
    assert (status, "4 passed" in said) == (0, True), said


def test_each_test_begins_with_nothing(pytest_in):
    """And what one configures ends with it."""
    code = """
        import builtins, logging
        import scoretrace
        real = builtins.print

        def test_one(telemetry):
            scoretrace.configure(service="a", processors=lambda item: None if "drop" in str(item) else item)
            logging.getLogger("x").warning("one")
            logging.getLogger("x").warning("drop")
            assert [item.message for item in telemetry.items] == ["one"]
            assert [item.cloud_role_name for item in telemetry.items] == ["a"]

        def test_two(telemetry):
            assert telemetry.items == []
            print("two")
            assert len(telemetry.items) == 1

        def test_three():
            assert builtins.print is real
            from scoretrace import process
            assert process.current() is None
    """
    status, said = pytest_in(test_some=code)
    assert (status, "3 passed" in said) == (0, True), said


def test_what_was_configured_before_goes_on_after(pytest_in):
    """A telemetry of the whole session has its own rows, and none of the test's prints."""
    conftest = """
        import pytest, scoretrace
        @pytest.fixture(scope="session", autouse=True)
        def whole(tmp_path_factory):
            home = tmp_path_factory.mktemp("home")
            scoretrace.configure(home=home)
            yield
            print("after")
            rows = scoretrace.query("traces | project tostring(customDimensions.Contents)", source=home).rows
            assert rows == [("after",)], rows
    """
    code = """
        def test_one(telemetry):
            print("inside")
            assert len(telemetry.items) == 1
    """
    status, said = pytest_in(conftest=conftest, test_some=code)
    assert (status, "1 passed" in said) == (0, True), said


def test_a_script_that_configured_itself_before_is_recorded_as_it_asked(tmp_path, pytest_in):
    """With its service and processors, and nothing of it in its own home; it goes on after the test."""
    code = """
    import logging, os, pathlib
    import scoretrace

    def mark(item):
        return None if "drop" in getattr(item, "message", "") else item

    home = pathlib.Path(os.environ["OUTER_HOME"])
    scoretrace.configure(home=home, service="prod", processors=[mark])
    log = logging.getLogger("x")

    def test_one(telemetry):
        log.warning("inside")
        log.warning("drop")
        print("printed")
        assert [item.message for item in telemetry.items] == ["inside", "STDOUT"]
        assert {item.cloud_role_name for item in telemetry.items} == {"prod"}

    def test_two():
        log.warning("after")
        print("printed after")
        rows = scoretrace.query("traces | project message, tostring(customDimensions.Contents)", source=home).rows
        assert rows == [("after", ""), ("STDOUT", "printed after")], rows
    """
    os.environ["OUTER_HOME"] = str(tmp_path.parent / f"{tmp_path.name}-outer")
    try:
        status, said = pytest_in(test_some=code)
    finally:
        del os.environ["OUTER_HOME"]
    assert (status, "2 passed" in said) == (0, True), said


def test_a_handler_of_a_logging_config_is_there_again_after(pytest_in):
    """It rests during the test, and keeps its place on the root logger."""
    conftest = """
    import logging, pytest, scoretrace
    @pytest.fixture(scope="session", autouse=True)
    def whole(tmp_path_factory):
        handler = scoretrace.TelemetryHandler(home=tmp_path_factory.mktemp("home"))
        logging.getLogger().addHandler(handler)
        yield
        logging.getLogger("x").warning("after")
        logging.getLogger().removeHandler(handler)
        assert handler.telemetry.stats()["items"] == 1
    """
    code = """
    import logging
    def test_one(telemetry):
        logging.getLogger("x").warning("inside")
        assert len(telemetry.items) == 1
    """
    status, said = pytest_in(conftest=conftest, test_some=code)
    assert (status, "1 passed" in said) == (0, True), said


def test_a_processor_that_fails_leaves_no_file_either(pytest_in):
    """No note of it, as a home would have."""
    code = """
    import logging, scoretrace
    def test_one(telemetry):
        scoretrace.configure(processors=[lambda item: 1 / 0])
        logging.getLogger("x").warning("one")
        assert len(telemetry.items) == 1
    """
    status, said = pytest_in(test_some=code)
    assert (status, "1 passed" in said) == (0, True), said


def test_it_costs_nothing_where_nobody_asks(pytest_in):
    """Neither msgspec nor any module of ours behind the plugin is imported."""
    code = """
        import sys
        def test_one():
            assert not {"msgspec", "scoretrace.telemetry", "scoretrace.memory"} & set(sys.modules)
    """
    status, said = pytest_in(test_some=code)
    assert (status, "1 passed" in said) == (0, True), said


def test_what_was_collected_is_recorded_too(pytest_in):
    """In a folder that ends with the test; a collector that was made before it writes there as well."""
    code = """
        from scoretrace import ModelDataCollector
        inputs = ModelDataCollector("m", "inputs", ["a", "b"], on_error=print)

        def test_one(telemetry):
            assert telemetry.collected() == []
            inputs.collect([1, "x"])
            (row,) = telemetry.collected("inputs")
            assert (row["a"], row["b"], row["$aml_model_name"]) == (1, "x", "m")
            assert telemetry.query("modelData | project toint(data.a)").rows == [(1,)]
            telemetry.clear()
            assert telemetry.collected() == []
            inputs.collect([2, "y"])
            assert [row["a"] for row in telemetry.collected()] == [2]

        def test_two(telemetry):
            assert telemetry.collected() == []
    """
    status, said = pytest_in(test_some=code)
    assert (status, "2 passed" in said) == (0, True), said
