"""Whatever is logged or printed: nothing raises, nothing is lost, nothing is cut in silence."""

import dataclasses
import datetime
import decimal
import json
import logging
import math
import os
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace.capture.values import CIRCULAR, as_json, as_text


class Text(str):
    __slots__ = ()

    def __str__(self):
        return self


class Torn(dict):
    def items(self):
        raise RuntimeError("no items")

    def __iter__(self):
        raise RuntimeError("no keys")


@dataclasses.dataclass
class Coded(Exception):
    code: int

    def __str__(self):
        return f"code was {self.code}"


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def circular():
    value = {"name": "loop"}
    value["self"] = value
    return value


def nested(depth):
    value = "bottom"
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(name="alone")
def _alone(telemetry):
    """Make a logger with our handler alone: pytest gives those it finds one of its own, which raises."""
    logger = logging.getLogger("score.alone")

    def alone():
        logger.propagate = False
        logger.handlers = [scoretrace.TelemetryHandler(home=telemetry.settings.home, service="svc", instance="test")]
        return logger

    yield alone
    logger.handlers.clear()
    logger.propagate = True


VALUES = {
    "unprintable": (Unprintable(), "<Unprintable that cannot be printed: RuntimeError>"),
    "circular": (circular(), json.dumps({"name": "loop", "self": CIRCULAR}, separators=(",", ":"))),
    "deep": (nested(1_000), "[" * 1_000 + '"bottom"' + "]" * 1_000),
    "nan": (
        {"a": math.nan, "b": math.inf, "c": -math.inf, "d": None},
        '{"a":"NaN","b":"Infinity","c":"-Infinity","d":null}',
    ),
    "surrogate": ("\ud83d!", "\\ud83d!"),
    "surrogate inside": ({"a": "\ud83d"}, '{"a":"\\\\ud83d"}'),
    "text bytes": ("é".encode(), "é"),
    "raw bytes": (b"\xff\x00", "/wA="),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "datetime": (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.timezone.utc), "2026-01-02T03:00:00+00:00"),
    "uuid": ({"a": uuid.UUID(int=1)}, '{"a":"00000000-0000-0000-0000-000000000001"}'),
    "set": ({"a": {1}}, '{"a":[1]}'),
    "numpy scalar": (np.float32(2.5), "2.5"),
    "numpy int": ({"a": np.int64(3)}, '{"a":3}'),
    "numpy array": (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
    "numpy nan": ({"a": np.array([1.0, np.nan])}, '{"a":[1.0,"NaN"]}'),
    "frame": (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), '[{"a":1,"b":"x"},{"a":2,"b":'),
    "series": (pd.Series([1.5, 2.5]), "[1.5,2.5]"),
    "timestamp": (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    "missing": (pd.NaT, "NaT"),
    "huge int": (10**5_000, hex(10**5_000)),
    "tuple keys": ({(1, 2): 3}, '{"(1, 2)":3}'),
    "none": (None, ""),
    "longdouble": (np.longdouble(1), "1.0"),
    "longdouble inside": ({"max": np.longdouble(1), "note": None}, '{"max":"1.0","note":null}'),
    "str subclass": (Text("text"), "text"),
    "torn mapping": (Torn(a=1), ""),
    "numpy times": (np.array(["2026-01-02T03:04:05"], "datetime64[ns]"), '["2026-01-02T03:04:05.000000000"]'),
    "columns twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), '{"columns":["a","a"],"data":[[1,2]]}'),
    "a null that is none": ({"a": "null", "b": None, "c": [1, 2]}, '{"a":"null","b":null,"c":[1,2]}'),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_any_kind_arrives(telemetry, items, name):
    """As an extra, in a structured trace, and inside a container."""
    value, expected = VALUES[name]
    logging.getLogger("score").info("m", extra={"value": value})
    scoretrace.log(value=value)
    scoretrace.log({"inside": {"deeper": [value]}})

    first, second, third = items("trace")
    assert first.custom_dimensions["value"].startswith(expected)
    assert second.custom_dimensions["value"] == first.custom_dimensions["value"]
    assert "deeper" in json.loads(third.custom_dimensions["inside"]) if name != "deep" else True
    assert telemetry.stats()["lost"] == {}


@pytest.mark.parametrize("name", VALUES)
def test_a_message_of_any_kind_arrives(telemetry, alone, items, name):
    """As the message itself and as its argument; the caller sees nothing."""
    value, _ = VALUES[name]
    log = alone()
    log.info(value)
    log.info("got %s", value)

    assert len(items("trace")) == 2
    assert telemetry.stats()["lost"] == {}


def test_arguments_that_do_not_fit_are_kept(alone, items):
    """The template, the arguments, and what was wrong."""
    log = alone()
    log.info("%d rows", "x")
    log.info("%s %s", "one")

    first, second = items("trace")
    assert first.message == '%d rows ["x"]'
    assert first.custom_dimensions["logging_error"].startswith("TypeError")
    assert second.message == '%s %s ["one"]'


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.binary()
        | st.decimals()
        | st.datetimes()
        | st.timedeltas()
        | st.complex_numbers(),
        lambda inner: (
            st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner)
        ),
        max_leaves=20,
    )
)
def test_json_of_any_value_is_json(value):
    """as_json gives valid JSON in UTF-8, as_text gives UTF-8, for whatever it is given."""
    json.loads(as_json(value).encode())
    as_text(value).encode()


def test_three_hundred_properties_and_a_key_of_five_hundred_characters(telemetry, items):
    """All of them arrive; the long key is shortened, and the whole row kept beside it."""
    logging.getLogger("score").info("m", extra={f"k{index}": index for index in range(300)} | {"long" * 125: "v"})

    (item,) = items("trace")
    assert (
        sum(name.startswith("k") and item.custom_dimensions[name] == name[1:] for name in item.custom_dimensions) == 300
    )
    assert item.custom_dimensions["truncated"] == "true"
    assert ("long" * 125).encode() in scoretrace.payload(item.item_id)


def test_a_structured_trace_of_odd_things(telemetry, items):
    """Names of our own arguments, and mappings that cannot be read."""
    scoretrace.log(obj={"a": 1}, self=2)
    scoretrace.log(Torn(a=1), b=2)
    logging.getLogger("score").info("m", extra={"custom_dimensions": Torn(a=1), "custom_measurements": Torn(b=1)})

    assert items("trace")[0].custom_dimensions == {"obj": '{"a":1}', "self": "2"}
    assert items("trace")[1].custom_dimensions == {"b": "2"}
    assert telemetry.stats()["lost"] == {}
    assert telemetry.stats()["items"] == 3


def test_an_exception_says_what_it_says(telemetry, items):
    """Not what it is made of."""
    logging.getLogger("score").error("m", exc_info=Coded(5))

    assert items("exception")[0].details[0].message == "code was 5"


def test_a_service_whose_name_is_no_text(home, monkeypatch, items):
    """The environment may hold any bytes."""
    monkeypatch.setenv("SERVICE_NAME", os.fsdecode(b"caf\xe9"))
    with scoretrace.configure(home=home):
        print("m")

    assert [item.cloud_role_name for item in items()] == ["caf\\udce9"]


def test_an_empty_message_is_a_row(telemetry, items):
    """Nothing was said, and that is recorded."""
    logging.getLogger("score").info("")

    assert [item.message for item in items("trace")] == [""]


def test_a_message_of_ten_megabytes(telemetry, items):
    """Its head and tail in the row, all of it in the payload."""
    message = "head" + "x" * 10_000_000 + "tail"
    logging.getLogger("score").info(message)

    (item,) = items("trace")
    assert item.message.startswith("head")
    assert item.message.endswith("tail")
    assert scoretrace.payload(item.item_id) == message.encode()


def test_a_logger_with_a_name_of_kilobytes(telemetry, items):
    """Dimensions that the handler adds itself are guarded like any other."""
    logging.getLogger("n" * 20_000).info("m")

    (item,) = items("trace")
    assert len(item.custom_dimensions["logger_name"]) <= 8_192
    assert item.custom_dimensions["truncated"] == "true"


def test_an_exception_that_cannot_be_printed(telemetry, items):
    """Its type is known all the same."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    try:
        raise Mute
    except Mute:
        logging.getLogger("score").exception("m")

    assert (
        items("exception")[0].details[0].message
        == "<test_an_exception_that_cannot_be_printed.<locals>.Mute that cannot be printed: RuntimeError>"
    )


def test_a_recursion_error_keeps_both_ends_of_its_stack(telemetry, items):
    """A thousand frames are too many for one row; the whole is in the payload."""

    def down(level):
        return down(level + 1)

    try:
        down(0)
    except RecursionError:
        logging.getLogger("score").exception("m")

    (item,) = items("exception")
    assert item.type == "RecursionError"
    frames = item.details[0].parsed_stack
    assert frames[-1].method.endswith("test_a_recursion_error_keeps_both_ends_of_its_stack")
    assert frames[-1].level > 900
    assert item.custom_dimensions["truncated"] == "true"
