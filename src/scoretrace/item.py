"""
What a row is: the noun that every step shares.

An item is frozen: whoever needs another one (the guard, a processor) makes it
with `msgspec.structs.replace`. Its attributes carry the classic column names in
Python's spelling, so that `operation_Id` of the tables is `operation_id` here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

import msgspec

Dimensions = dict[str, str]


class Frame(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of a parsed stack; *level* 0 is where the exception was raised."""

    level: int = 0
    method: str = ""
    assembly: str = ""
    file_name: str = ""
    line: int = 0


class Thrown(msgspec.Struct, frozen=True, kw_only=True):
    """One exception of a chain; *outer_id* is the id of the one that was raised from it, 0 for the outermost."""

    id: int = 1
    outer_id: int = 0
    type_name: str = ""
    message: str = ""
    has_full_stack: bool = True
    stack: str = ""
    parsed_stack: tuple[Frame, ...] = ()


class Item(msgspec.Struct, frozen=True, gc=False):  # an item never holds itself
    """
    What every kind of telemetry has.

    *timestamp* is in ticks of 100 ns since 1970-01-01 UTC, ``None`` where the
    row has no time. *item_count* is how many items this one stands for: 100
    divided by the sampling percentage. Only rows that were read from an export
    say whose they are (from *app_id* on), and have what a column could not
    take in *unparsed*: its text, by the classic name of the column.
    """

    kind: ClassVar[str] = ""

    timestamp: int | None = None
    item_id: str = ""
    item_count: int = 1
    sdk_version: str = ""
    application_version: str = ""
    client_type: str = ""
    client_model: str = ""
    client_os: str = ""
    client_browser: str = ""
    client_ip: str = ""
    client_city: str = ""
    client_state_or_province: str = ""
    client_country_or_region: str = ""
    cloud_role_name: str = ""
    cloud_role_instance: str = ""
    operation_id: str = ""
    operation_name: str = ""
    operation_parent_id: str = ""
    operation_synthetic_source: str = ""
    session_id: str = ""
    user_id: str = ""
    user_authenticated_id: str = ""
    user_account_id: str = ""
    custom_dimensions: Dimensions = {}
    custom_measurements: dict[str, float] = {}
    app_id: str = ""
    app_name: str = ""
    i_key: str = ""
    resource_id: str = ""
    unparsed: dict[str, str] = {}


class Trace(Item, frozen=True):
    """A log line or a print; *severity_level* is 0 (verbose) to 4 (critical)."""

    kind: ClassVar[str] = "trace"

    message: str = ""
    severity_level: int | None = None


class Request(Item, frozen=True):
    """A call that the service answered; *duration* in ticks of 100 ns."""

    kind: ClassVar[str] = "request"

    id: str = ""
    source: str = ""
    name: str = ""
    url: str = ""
    success: bool | None = None
    result_code: str = ""
    duration: int | None = None


class Dependency(Item, frozen=True):
    """A call that the service made; *duration* in ticks of 100 ns."""

    kind: ClassVar[str] = "dependency"

    id: str = ""
    target: str = ""
    type: str = ""
    name: str = ""
    data: str = ""
    success: bool | None = None
    result_code: str = ""
    duration: int | None = None


class ExceptionItem(Item, frozen=True):
    """An exception with its chain; the summary columns come from `summarize`."""

    kind: ClassVar[str] = "exception"

    problem_id: str = ""
    handled_at: str = ""
    type: str = ""
    message: str = ""
    assembly: str = ""
    method: str = ""
    outer_type: str = ""
    outer_message: str = ""
    outer_assembly: str = ""
    outer_method: str = ""
    innermost_type: str = ""
    innermost_message: str = ""
    innermost_assembly: str = ""
    innermost_method: str = ""
    severity_level: int | None = None
    details: tuple[Thrown, ...] = ()


class Event(Item, frozen=True):
    """Something that happened, by name."""

    kind: ClassVar[str] = "event"

    name: str = ""


class Metric(Item, frozen=True):
    """A measured value, or *value_count* of them added up in *value_sum*."""

    kind: ClassVar[str] = "metric"

    name: str = ""
    value: float = 0.0
    value_count: int = 1
    value_sum: float = 0.0
    value_min: float | None = None
    value_max: float | None = None
    value_std_dev: float | None = None


class PageView(Item, frozen=True):
    """A page that a browser showed."""

    kind: ClassVar[str] = "page_view"

    id: str = ""
    name: str = ""
    url: str = ""
    duration: int | None = None


class Availability(Item, frozen=True):
    """One run of an availability test."""

    kind: ClassVar[str] = "availability"

    id: str = ""
    name: str = ""
    location: str = ""
    success: bool | None = None
    message: str = ""
    size: float | None = None
    duration: int | None = None


class Counter(Item, frozen=True):
    """One reading of a performance counter."""

    kind: ClassVar[str] = "counter"

    category: str = ""
    counter: str = ""
    instance: str = ""
    value: float = 0.0


class BrowserTiming(Item, frozen=True):
    """What a browser measured while it loaded a page; durations in ticks of 100 ns."""

    kind: ClassVar[str] = "browser_timing"

    name: str = ""
    url: str = ""
    network_duration: int | None = None
    send_duration: int | None = None
    receive_duration: int | None = None
    processing_duration: int | None = None
    total_duration: int | None = None


KINDS: dict[str, type[Item]] = {
    cls.kind: cls
    for cls in (
        Trace,
        Request,
        Dependency,
        ExceptionItem,
        Event,
        Metric,
        PageView,
        Availability,
        Counter,
        BrowserTiming,
    )
}


def summarize(details: tuple[Thrown, ...]) -> dict[str, str]:
    """
    The summary columns of an exception chain, as the service fills them: outermost, innermost, and the problem.

    As in real exports, `type` is the innermost type and `problemId` reads
    "<type> at <method>".
    """
    if not details:
        return {}
    outer, inner = details[0], details[-1]
    outer_at = outer.parsed_stack[0] if outer.parsed_stack else Frame()
    inner_at = inner.parsed_stack[0] if inner.parsed_stack else Frame()
    return {
        "problem_id": f"{inner.type_name} at {inner_at.method}" if inner_at.method else inner.type_name,
        "type": inner.type_name,
        "message": inner.message,
        "assembly": inner_at.assembly,
        "method": inner_at.method,
        "outer_type": outer.type_name,
        "outer_message": outer.message,
        "outer_assembly": outer_at.assembly,
        "outer_method": outer_at.method,
        "innermost_type": inner.type_name,
        "innermost_message": inner.message,
        "innermost_assembly": inner_at.assembly,
        "innermost_method": inner_at.method,
    }


def map_texts(item: Item, change: Callable[[str], str]) -> Item:
    """
    *item* with *change* made of every text that a script or a caller wrote: to redact, wherever it stands.

    That is messages, names, URLs, the data of dependencies, values of custom
    dimensions (the text of a print is one of them), and the messages and stacks
    of an exception's chain. Ids and names of properties stay.

    >>> map_texts(Trace(message="key 123"), lambda text: text.replace("123", "***")).message
    'key ***'
    """
    changes: dict[str, Any] = {name: change(text) for name in _TEXTS if (text := getattr(item, name, ""))}
    changes["custom_dimensions"] = {name: change(value) for name, value in item.custom_dimensions.items()}
    if isinstance(item, ExceptionItem):
        details = tuple(
            msgspec.structs.replace(thrown, message=change(thrown.message), stack=change(thrown.stack))
            for thrown in item.details
        )
        changes |= {**changes, **summarize(details), "details": details}
    return msgspec.structs.replace(item, **changes)


_TEXTS = ("message", "outer_message", "innermost_message", "name", "operation_name", "url", "target", "data")


class Ids:
    """
    Item ids of one process: a random prefix and a count, in the form of a GUID.

    Counting is several times cheaper than a random GUID each, and `next` on an
    `itertools.count` is atomic, so threads need no lock. The count starts at
    10^11, which keeps it twelve digits wide without padding.
    """

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Take a new prefix: a forked child would repeat its parent's ids."""
        digits = os.urandom(10).hex()
        self.prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-8{digits[15:18]}-"
        self.next = count(100_000_000_000).__next__

    def __call__(self) -> str:
        """Give an id that no other item has."""
        return f"{self.prefix}{self.next()}"
