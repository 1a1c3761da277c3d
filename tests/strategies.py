"""Hypothesis strategies for items: anything that capture can hand on."""

from hypothesis import strategies as st

from scoretrace import ticks
from scoretrace.formats.breeze import ITEM_ID
from scoretrace.item import KINDS, Frame, Thrown, summarize

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = text.filter(bool).filter(lambda name: name != ITEM_ID)
finite = st.floats(allow_nan=False, allow_infinity=False)
durations = st.none() | st.integers(0, 2**53)
times = st.none() | st.integers(ticks.NULL_TIME + ticks.SECOND, ticks.from_iso("9999-12-31T23:59:59.9999999Z"))

frames = st.builds(
    Frame, level=st.integers(0, 99), method=text, assembly=text, file_name=text, line=st.integers(0, 9999)
)
thrown = st.builds(
    Thrown,
    id=st.integers(1, 99),
    outer_id=st.integers(0, 99),
    type_name=text,
    message=text,
    has_full_stack=st.booleans(),
    stack=text,
    parsed_stack=st.lists(frames, max_size=3).map(tuple),
)

_special = {
    "custom_dimensions": st.dictionaries(names, text, max_size=4),
    "custom_measurements": st.dictionaries(names, finite, max_size=3),
    "item_count": st.integers(1, 1_000_000),
    "timestamp": times,
    "severity_level": st.none() | st.integers(0, 4),
    "success": st.none() | st.booleans(),
    "size": st.none() | finite,
    "value_count": st.integers(1, 10**9),
    "value_min": st.none() | finite,
    "value_max": st.none() | finite,
    "value_std_dev": st.none() | finite,
    "counter": names.filter(lambda name: name not in {"categoryName", "instanceName"}),
    "result_code": text | st.integers(0, 999).map(str),
}

# What only a row of an export has, and no item that was captured; details are drawn below.
_OF_A_READER = {"app_id", "app_name", "i_key", "resource_id", "unparsed", "details"}


def _field(name):
    if name in _special:
        return _special[name]
    if name.endswith("duration"):
        return durations
    return finite if name.startswith("value") else text


@st.composite
def items(draw, kinds=tuple(KINDS)):
    """An item of any kind, or of one of *kinds*, with every field drawn."""
    cls = KINDS[draw(st.sampled_from(kinds))]
    values = {name: draw(_field(name)) for name in cls.__struct_fields__ if name not in _OF_A_READER}
    if cls.kind == "metric":
        # An envelope carries one value, which is the sum; and a metric line's metrics are the metric itself.
        values |= {"value_sum": values["value"], "custom_measurements": {}}
    if cls.kind == "exception":
        details = tuple(draw(st.lists(thrown, min_size=1, max_size=3)))
        values |= {**summarize(details), "details": details}
    return cls(**values)
