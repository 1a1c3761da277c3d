"""Log records become traces and exceptions, whatever was logged."""

import json
import logging
import logging.config
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scoretrace
from scoretrace import read
from scoretrace.formats import continuous_export

LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}


@pytest.fixture(name="log")
def _log(telemetry):
    return logging.getLogger("score")


def test_a_record_becomes_a_trace(log, items):
    """Message, severity, and where it was logged."""
    log.info("scored %d rows", 3)

    (item,) = items("trace")
    assert item.message == "scored 3 rows"
    assert item.severity_level == 1
    assert item.cloud_role_name == "svc"
    assert item.cloud_role_instance == "test"
    assert item.custom_dimensions["logger_name"] == "score"
    assert item.custom_dimensions["code.file.path"] == __file__
    assert item.custom_dimensions["code.function.name"] == "test_a_record_becomes_a_trace"
    assert int(item.custom_dimensions["code.line.number"]) > 0


@pytest.mark.parametrize("name", LEVELS)
def test_severity_follows_the_level(home, items, name):
    """Debug is verbose, and so on up to critical."""
    with scoretrace.configure(home=home, level="DEBUG"):
        logging.getLogger("score").log(getattr(logging, name), "m")

    assert [item.severity_level for item in items("trace")] == [LEVELS[name]]


def test_records_below_the_level_are_left_alone(log, items):
    """The default level is INFO."""
    log.debug("quiet")

    assert items() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    message=st.sampled_from(["plain", "ä 🙂", "\ud800", "{not} %formatted"]),
    extra=st.dictionaries(
        st.sampled_from(["rows", "model", "a", "b"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.lists(st.integers(), max_size=2),
    ),
    created=st.floats(1, 253_402_300_799, exclude_max=True),
)
def test_both_lanes_write_the_same_row(tmp_path_factory, message, extra, created):
    """A handler with a filter takes the slow lane; its rows differ in nothing but the id."""
    home = tmp_path_factory.mktemp("lanes")
    fast, slow = (scoretrace.TelemetryHandler(home=home, capture_print=False) for _ in "ab")
    slow.addFilter(lambda record: True)
    record = logging.makeLogRecord(
        {"name": "score", "levelno": 30, "msg": message, "pathname": "/s.py", "lineno": 7, "funcName": "run", **extra}
    )
    record.created = created
    fast.handle(record)
    slow.handle(record)
    fast.telemetry.shutdown()

    (one,), (other,) = (continuous_export.decode(line) for blob in read.find(home) for _, line in read.lines(blob.path))
    assert msgspec.structs.replace(one, item_id="") == msgspec.structs.replace(other, item_id="")


def test_a_record_of_a_class_of_its_own_says_its_message(home, items):
    """One that hides secrets hides them from us."""

    class Masked(logging.LogRecord):
        def getMessage(self):  # noqa: N802
            return super().getMessage().replace("hunter2", "***")

    handler = scoretrace.TelemetryHandler(home=home)
    handler.handle(Masked("score", 20, "s.py", 1, "password hunter2", (), None))
    handler.handle(Masked("score", 20, "s.py", 1, "password %s", ("hunter2",), None))

    assert [item.message for item in items("trace")] == ["password ***"] * 2


def test_extra_becomes_custom_dimensions(log, items):
    """Text stays text, containers become JSON text."""
    log.info("m", extra={"model": "ridge", "rows": 3, "shape": {"a": (1, 2.5), "b": None}})

    dimensions = items("trace")[0].custom_dimensions
    assert dimensions["model"] == "ridge"
    assert dimensions["rows"] == "3"
    assert json.loads(dimensions["shape"]) == {"a": [1, 2.5], "b": None}


def test_the_custom_dimensions_idiom_is_expanded(log, items):
    """As people wrote it for OpenCensus, with measurements beside it."""
    log.info(
        "m", extra={"custom_dimensions": {"Request Id": "r1"}, "custom_measurements": {"ms": 1.5, "nan": float("nan")}}
    )

    item = items("trace")[0]
    assert item.custom_dimensions["Request Id"] == "r1"
    assert item.custom_measurements == {"ms": 1.5}
    assert item.custom_dimensions["nan"] == "nan"


def test_an_exception_has_an_entry_for_each_link(log, items):
    """The chain with types, messages and stacks, innermost frame first; and what was logged with it."""
    try:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("bad input") from error
    except ValueError:
        log.exception("scoring %s failed", "r1")

    (item,) = items("exception")
    assert [(thrown.type_name, thrown.message) for thrown in item.details] == [
        ("ValueError", "bad input"),
        ("KeyError", "'missing'"),
    ]
    assert [thrown.outer_id for thrown in item.details] == [0, 1]
    assert item.details[0].parsed_stack[0].method.endswith("test_an_exception_has_an_entry_for_each_link")
    assert item.severity_level == 3
    assert (item.outer_type, item.innermost_type) == ("ValueError", "KeyError")
    assert item.custom_dimensions["log_message"] == "scoring r1 failed"


def test_a_circular_chain_ends(log, items):
    """A cause can be made to point back at its effect."""
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    log.error("m", exc_info=one)

    assert [thrown.type_name for thrown in items("exception")[0].details] == ["ValueError", "KeyError"]


def test_a_stack_that_was_asked_for_is_recorded(log, items):
    """stack_info, and a traceback that came as text."""
    log.info("m", stack_info=True)
    log.handle(logging.makeLogRecord({"name": "score", "levelno": 20, "msg": "far", "exc_text": "Traceback ..."}))

    first, second = items("trace")
    assert "test_a_stack_that_was_asked_for_is_recorded" in first.custom_dimensions["stack_info"]
    assert second.custom_dimensions["exc_text"] == "Traceback ..."


@pytest.mark.parametrize("created", [0, -1, 1e18, float("nan"), float("inf"), 253_402_300_800, 2_000_000_000.5])
def test_a_record_of_any_time_is_a_row(log, items, home, created):
    """What is no time of a calendar becomes now."""
    log.handle(logging.makeLogRecord({"name": "score", "levelno": 20, "msg": "m", "created": created}))
    log.handle(logging.makeLogRecord({"name": "score", "levelno": 20, "msg": "m", "created": created, "a": [1]}))

    fast, slow = items("trace")
    assert fast.timestamp is not None
    if created == 2_000_000_000.5:
        assert fast.timestamp == slow.timestamp == 20_000_000_005_000_000
    assert len(scoretrace.query("traces", source=home)) == 2


def test_a_record_made_by_hand_is_a_row(log, items):
    """With next to nothing in it."""
    log.handle(logging.makeLogRecord({"levelno": 20}))
    log.handle(logging.makeLogRecord({"msg": "m", "exc_info": True, "levelno": 20}))
    log.handle(logging.makeLogRecord({"msg": None, "levelno": 20, 1: "a", b"k": "b"}))

    assert [item.message for item in items("trace")] == ["", "m", ""]
    assert items("trace")[2].custom_dimensions["k"] == "b"


def test_two_functions_on_one_line_are_told_apart(log, items):
    """As code made of text may have them."""
    names: dict = {"log": log}
    exec("def one(): log.info('m')", names)
    exec("def two(): log.info('m')", names)
    names["one"]()
    names["two"]()

    assert [item.custom_dimensions["code.function.name"] for item in items("trace")] == ["one", "two"]


def test_an_overridden_filter_is_heard(home, items):
    """A subclass takes the careful way."""

    class Picky(scoretrace.TelemetryHandler):
        def filter(self, record):
            return "secret" not in record.getMessage()

    logger = logging.getLogger("picky")
    logger.propagate = False
    logger.handlers = [Picky(home=home)]
    logger.warning("a secret")
    logger.warning("no such thing")
    logger.handlers.clear()
    logger.propagate = True

    assert [item.message for item in items("trace")] == ["no such thing"]


def test_works_from_dict_config(home, items):
    """A logging.json is enough: keywords are the settings."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"telemetry": {"class": "scoretrace.TelemetryHandler", "home": str(home), "level": "WARNING"}},
        "loggers": {"dict": {"handlers": ["telemetry"], "level": "INFO"}},
    }
    logging.config.dictConfig(json.loads(json.dumps(config)))
    logging.getLogger("dict").info("below")
    logging.getLogger("dict").warning("there")
    logging.getLogger("dict").handlers.clear()

    assert [item.message for item in items("trace")] == ["there"]


def test_a_formatter_makes_the_message(home, items):
    """A handler that was given a formatter uses it."""
    handler = scoretrace.TelemetryHandler(home=home)
    handler.setFormatter(logging.Formatter("%(levelname)s | %(message)s"))
    logger = logging.getLogger("formatted")
    logger.propagate = False
    logger.handlers = [handler]
    logger.warning("careful")

    assert [item.message for item in items("trace")] == ["WARNING | careful"]


def test_loggers_of_the_delivery_are_left_alone(log, items):
    """What sends telemetry must not make telemetry."""
    for name in ("scoretrace", "azure.core.pipeline", "urllib3.connectionpool", "opentelemetry.sdk"):
        logging.getLogger(name).warning("m")
    logging.getLogger("azureml").warning("kept")

    assert [item.message for item in items("trace")] == ["kept"]


def run_script(home, text, **more):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env={**os.environ, "SCORETRACE_HOME": str(home), **more},
        capture_output=True,
        text=True,
    )


def test_dict_config_after_configure_keeps_the_telemetry(home, items):
    """A script that sets up its console by dictConfig loses no rows."""
    ended = run_script(
        home,
        """
import logging, logging.config, scoretrace
scoretrace.configure()
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
})
logging.getLogger("score").info("both")
""",
    )

    assert ended.stderr == "both\n"
    assert [item.message for item in items("trace")] == ["both"]


SETUPS = {
    "none": "pass",
    "basic": "logging.basicConfig(format='%(message)s')",
    "info": "logging.basicConfig(level='INFO')",
    "error": "logging.basicConfig(level='ERROR')",
    "force": "logging.basicConfig(); logging.basicConfig(force=True, format='%(message)s')",
    "child level": "logging.basicConfig(); logging.getLogger('score').setLevel('INFO')",
    "child handler": "logging.getLogger('score').addHandler(logging.StreamHandler())",
    "root level": "logging.basicConfig(); logging.getLogger().setLevel('INFO')",
    "root handler": "logging.getLogger().addHandler(logging.StreamHandler())",
    "shortcut": "logging.warning('of the root logger')",
    "no propagation": "logging.getLogger('score').propagate = False",
    "removed": "root = logging.getLogger()\nwhile root.hasHandlers(): root.removeHandler(root.handlers[0])",
    "cleared": "logging.getLogger().handlers.clear()",
    "dictConfig": "logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False, "
    "'handlers': {'h': {'class': 'logging.StreamHandler'}}, 'root': {'handlers': ['h']}})",
}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
@pytest.mark.parametrize("order", ["{ours}\n{theirs}", "{theirs}\n{ours}"], ids=["ours first", "theirs first"])
def test_the_console_shows_what_it_would_without_us(home, items, setup, order):
    """Whichever comes first: telemetry has the INFO rows, the console what the script asked for."""
    text = """
import logging, logging.config, scoretrace
{setup}
log = logging.getLogger("score")
log.info("info"); log.warning("warning"); log.error("error")
"""
    bare = run_script(home, text.format(setup=setup))
    setup = order.format(ours="scoretrace.configure()", theirs=setup)
    ours = run_script(home, text.format(setup=setup))

    assert (ours.returncode, ours.stderr) == (0, bare.stderr)
    rows = [item.message for item in items("trace") if "root logger" not in item.message]
    assert rows == ["info", "warning", "error"]


def test_disabled_leaves_the_console_and_the_disk_alone(home):
    """Warnings are shown as ever, and nothing is made."""
    ended = run_script(
        home,
        "import logging, scoretrace; scoretrace.configure(); logging.getLogger('score').warning('seen')",
        OTEL_SDK_DISABLED="true",
    )

    assert ended.stderr == "seen\n"
    assert not home.exists()


@pytest.mark.parametrize("where", ["raise ValueError('end')", "threading.Thread(target=int, args=('x',)).start()"])
def test_an_exception_that_nobody_catches_is_a_row(home, items, where):
    """Of the process and of a thread, as critical; and it is shown as ever."""
    ended = run_script(home, f"import threading, scoretrace; scoretrace.configure()\n{where}")

    (item,) = items("exception")
    assert (item.type, item.severity_level) == ("ValueError", 4)
    assert "Traceback" in ended.stderr


def test_an_exception_is_one_row_wherever_it_ends(home, items):
    """One that fails a request and then the process."""
    run_script(
        home, "import scoretrace; scoretrace.configure()\nwith scoretrace.request_context('r'): raise ValueError"
    )

    assert len(items("exception")) == 1


def test_a_second_configure_takes_the_place_of_a_handler(home, items):
    """A logging.json and then a configure of another service: each row is one row."""
    root = logging.getLogger()
    root.addHandler(scoretrace.TelemetryHandler(home=home, service="first"))
    with scoretrace.configure(home=home, service="second"):
        logging.getLogger("score").warning("logged")
        print("printed")

    assert [item.cloud_role_name for item in items("trace")] == ["second", "second"]


def test_shutdown_puts_logging_back(home):
    """The root logger, its handlers and its level are as they were, and so are the methods."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.Logger.callHandlers, root.setLevel)

    with scoretrace.configure(home=home):
        assert logging.Logger.callHandlers is not before[2]

    assert (root.level, root.handlers, logging.Logger.callHandlers, root.setLevel) == before


@pytest.mark.parametrize("first", ["configure", "handler"])
def test_configure_and_a_handler_make_one_row(home, items, first):
    """Of the same settings, in either order."""
    logger = logging.getLogger("both")

    def handler():
        logger.handlers = [scoretrace.TelemetryHandler(home=home)]

    if first == "handler":
        handler()
    with scoretrace.configure(home=home):
        if first == "configure":
            handler()
        logger.warning("once")
    logger.warning("by the handler again")
    logger.handlers.clear()

    assert [item.message for item in items("trace")] == ["once", "by the handler again"]


def test_the_telemetry_before_takes_over_again(tmp_path):
    """Shutting down the newer leaves the older one at work."""
    older = scoretrace.TelemetryHandler(home=tmp_path / "older").telemetry
    newer = scoretrace.TelemetryHandler(home=tmp_path / "newer").telemetry
    print("newer")
    newer.shutdown()
    print("older")
    older.shutdown()

    for name in ("older", "newer"):
        rows = scoretrace.query("traces | project tostring(customDimensions.Contents)", source=tmp_path / name).rows
        assert rows == [(name,)]


def test_configure_twice_records_once(home, items):
    """The second call returns the first's telemetry."""
    with scoretrace.configure(home=home) as telemetry:
        assert scoretrace.configure(home=home) is telemetry
        logging.getLogger("score").info("once")

    assert len(items()) == 1


def test_nothing_is_captured_when_disabled(monkeypatch, home):
    """OTEL_SDK_DISABLED is the off switch that people know."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with scoretrace.configure(home=home):
        logging.getLogger("score").warning("m")
        print("m")
        scoretrace.log(a=1)

    assert not (home / "telemetry").exists()


TEXTS = st.lists(st.tuples(st.text(max_size=50), st.text(max_size=50)), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(texts=TEXTS)
def test_any_text_arrives_as_it_was(tmp_path_factory, texts):
    """Messages and values of any characters; a lone surrogate as its escape."""
    home = tmp_path_factory.mktemp("text") / "home"
    with scoretrace.configure(home=home, capture_print=False):
        for number, (message, value) in enumerate(texts):
            logging.getLogger("score").info("%s", message, extra={"value": value, "number": number})
    asked = "traces | project n = toint(customDimensions.number), message, v = tostring(customDimensions.value)"
    rows = scoretrace.query(f"{asked} | order by n asc | project message, v", source=home).rows

    def escaped(text):
        return text.encode("utf-8", "backslashreplace").decode()

    assert rows == [(escaped(message), escaped(value)) for message, value in texts]
