"""What is sent fits, nothing is cut that is not kept, and a stand-in is of use."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoretrace.formats import breeze, continuous_export
from scoretrace.item import ExceptionItem, Frame, Thrown, Trace, summarize
from scoretrace.limits import FIELD_LIMITS, LIMIT, NAME_LIMIT, VALUE_LIMIT, guard
from scoretrace.standin import cut, units
from strategies import items, text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=6),
    max_leaves=30,
)


class Store(dict):
    """Payloads by address."""

    def put(self, sha256, data):
        address = f"modeldata/default/default/default/svc/default/default/overflow/2026/11/20/{sha256}.json"
        self[address] = data
        return address


@given(
    item=items(),
    fill=st.sampled_from(["", "é", "😀", '"', "\\", "\x01", "x"]),
    times=st.sampled_from([1, 9_000, 40_000, 70_000]),
)
def test_fits_and_loses_nothing(item, fill, times):
    """Whatever was captured, what is sent fits, and the original can be read back."""
    grown = msgspec.structs.replace(
        item,
        custom_dimensions={**item.custom_dimensions, "a": fill * times, "b": fill * 20, "k" * (times // 100): fill},
    )
    if hasattr(item, "message") and item.kind == "trace":
        grown = msgspec.structs.replace(grown, message=fill * times)
    store = Store()

    sent = guard(grown, store.put)

    assert len(breeze.encode(sent, "0" * 36)) <= LIMIT
    if sent != grown:
        marks = sent.custom_dimensions
        original = store[marks["payload_uri"]]
        assert marks["truncated"] == "true"
        assert marks["payload_bytes"] == str(len(original))
        assert marks["payload_sha256"] == hashlib.sha256(original).hexdigest()
        if marks["payload_field"] == "item":
            assert continuous_export.decode(original) == (grown,)
        else:
            assert original.decode() in {fill * times, getattr(grown, "message", None)}


@given(item=items())
def test_every_field_is_within_its_own_limit(item):
    """A row whose names, values and fields are all too long has none too long afterwards."""
    long = {field: getattr(item, field) + "🙂" * limit for field, limit in FIELD_LIMITS[item.kind].items()}
    grown = msgspec.structs.replace(item, **long, custom_dimensions={"n" * 400: "v" * 9_000, "n" * 401: "w"})

    sent = guard(grown, Store().put)

    assert all(units(getattr(sent, field)) <= limit for field, limit in FIELD_LIMITS[item.kind].items())
    assert all(
        units(name) <= NAME_LIMIT and units(value) <= VALUE_LIMIT for name, value in sent.custom_dimensions.items()
    )
    assert len(sent.custom_dimensions) >= 2 + 5


@given(value=json_values, most=st.integers(16, 400))
def test_a_stand_in_for_json_is_json(value, most):
    """JSON that is cut stays JSON, and within what it may take."""
    whole = json.dumps(value, ensure_ascii=False)
    if whole[:1] not in "{[":
        whole = json.dumps([value], ensure_ascii=False)

    short = cut(whole, most)

    assert units(short) <= most
    assert short == whole or short == "" or type(json.loads(short)) is type(json.loads(whole))


@given(value=text.filter(bool), times=st.integers(1, 5_000), most=st.integers(64, 9_000))
def test_a_stand_in_for_text_keeps_its_head(value, times, most):
    """Plain text that is cut begins as it began, within the limit in UTF-16 units."""
    whole = f">{value * times}"

    short = cut(whole, most)

    assert units(short) <= most
    assert short.startswith(">")
    assert units(whole) > most or short == whole


def test_small_values_stay_whole_and_the_largest_give_way():
    """The keys and small values that people query by survive; only the large value loses something, and says so."""
    printed = json.dumps({"id": "r-7", "model": {"name": "ridge"}, "input": [[0.5] * 10] * 3_000, "output": [151.2]})

    short = json.loads(cut(printed, VALUE_LIMIT))

    assert short["id"] == "r-7"
    assert short["model"] == {"name": "ridge"}
    assert short["output"] == [151.2]
    assert short["input"][0] == [0.5] * 10
    assert short["input"][-1].endswith("more")
    assert 100 < len(short["input"]) < 3_000


def test_long_plain_text_keeps_its_tail_too():
    """The end of a log is where the error is."""
    short = cut("start " + "x" * 50_000 + " end", 8_192)

    assert short.startswith("start ")
    assert short.endswith(" end")
    assert "characters left out" in short


def test_deep_json_still_has_a_json_stand_in():
    """JSON too deep to look into, or to look into to its end, is replaced by JSON that shows what it can."""
    deep = "[" * 5_000 + "1" * 40_000 + "]" * 5_000

    short = cut(deep, 8_192)

    json.loads(short)
    assert "[[[[[[[[" in short
    assert 4_000 < units(short) <= 8_192


def test_one_long_text_is_kept_as_itself():
    """Where one text was cut, the payload is that text and nothing around it."""
    printed = json.dumps({"input": list(range(50_000))})
    store = Store()

    sent = guard(Trace(message="STDOUT", custom_dimensions={"Contents": printed}), store.put)

    assert list(store.values()) == [printed.encode()]
    assert sent.custom_dimensions["payload_field"] == "customDimensions.Contents"


def test_many_values_share_the_room():
    """Nine values that are each allowed are too much together: the row keeps all nine names."""
    item = Trace(message="m", custom_dimensions={f"k{index}": str(index) * VALUE_LIMIT for index in range(9)})
    store = Store()

    sent = guard(item, store.put)

    assert [sent.custom_dimensions[f"k{index}"][:1] for index in range(9)] == list("012345678")
    assert continuous_export.decode(next(iter(store.values()))) == (item,)


def test_three_hundred_small_properties_pass_untouched():
    """There is no documented limit on their number, and they fit."""
    item = Trace(message="m", custom_dimensions={f"k{index}": "v" for index in range(300)})

    assert guard(item, Store().put) is item


@pytest.mark.parametrize("links", [1, 60])
def test_a_long_exception_keeps_both_ends(links):
    """The frame that raised and the one that began, the outermost exception and the innermost."""
    stack = tuple(Frame(level=level, method=f"f{level}", file_name="/srv/score.py", line=level) for level in range(900))
    details = tuple(
        Thrown(id=index + 1, outer_id=index, type_name=f"E{index}", message="m" * 2_000, parsed_stack=stack)
        for index in range(links)
    )
    item = ExceptionItem(details=details, **summarize(details))
    store = Store()

    sent = guard(item, store.put)

    assert len(breeze.encode(sent)) <= LIMIT
    assert (sent.outer_type, sent.innermost_type) == ("E0", f"E{links - 1}")
    levels = [frame.level for frame in sent.details[0].parsed_stack]
    assert (levels[0], levels[-1]) == (0, 899)
    assert not sent.details[0].has_full_stack
    assert continuous_export.decode(next(iter(store.values()))) == (item,)


@pytest.mark.parametrize(("links", "frames", "path"), [(200, 1_000, 20), (30, 82, 60), (400, 1, 900), (2, 900, 1_000)])
def test_a_chain_of_any_shape_fits(links, frames, path):
    """Many links, long stacks, long names: stacks give way before links do."""
    stack = tuple(
        Frame(level=level, method="m" * path, assembly="a" * path, file_name="f" * path, line=level)
        for level in range(frames)
    )
    details = tuple(
        Thrown(id=n + 1, outer_id=n, type_name=f"E{n}", message="m", parsed_stack=stack) for n in range(links)
    )
    item = ExceptionItem(details=details, **summarize(details))

    sent = guard(item, Store().put)

    assert len(breeze.encode(sent)) <= LIMIT
    assert len(sent.problem_id) <= 1_024
    assert (sent.outer_type, sent.innermost_type) == ("E0", f"E{links - 1}")
    assert len(sent.details) >= min(links, 30) or path >= 900


def test_many_small_keys_outlive_one_large_value():
    """Only the large one gives way."""
    item = Trace(
        message="m", custom_dimensions={f"{'k' * 55}{n:05}": "v" for n in range(600)} | {"big": "x" * 9_000, "id": "7"}
    )

    sent = guard(item, Store().put)

    assert len(sent.custom_dimensions) == 602 + 5
    assert sent.custom_dimensions["id"] == "7"


def test_dimensions_of_our_own_names_are_kept_in_the_payload():
    """A script may call one of its own truncated."""
    item = Trace(message="x" * 70_000, custom_dimensions={"truncated": "mine"})
    store = Store()

    sent = guard(item, store.put)

    assert sent.custom_dimensions["payload_field"] == "item"
    assert continuous_export.decode(next(iter(store.values()))) == (item,)


@pytest.mark.parametrize("value", ["x" * 20_000, ["x" * 20_000], {"a": {"b": "x" * 20_000}}])
def test_any_json_value_has_a_json_stand_in(value):
    """A string too, and down to no room at all."""
    whole = json.dumps(value)
    for most in (8_192, 100, 20, 2):
        assert type(json.loads(cut(whole, most))) is type(value)


def test_deeply_nested_json_is_cut_in_time_that_grows_with_its_size():
    """Each level is looked through once by all above it, so only so many levels are."""
    whole = '{"a":' * 400 + '"' + "x" * 100_000 + '"' + "}" * 400

    assert "a" in json.loads(cut(whole, 8_192))


def test_nothing_is_cut_when_it_cannot_be_stored():
    """A store that fails is the caller's to handle; the item was not touched."""

    def put(sha256, data):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        guard(Trace(message="x" * 70_000), put)
