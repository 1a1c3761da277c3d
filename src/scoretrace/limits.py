"""
Keep every item within what Application Insights accepts.

The service refuses an item over 64 KB and cuts a field over its own limit, and
the script that logged it never hears of either. So the whole original is put
away first, and a stand-in that says where goes on.

Limits: Application Insights service limits (64 KB an item; names and values of
properties) and the telemetry schemas (fields of each type). They are stated in
characters there; the service is .NET, so a character is a UTF-16 unit here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from scoretrace.formats import breeze, continuous_export
from scoretrace.item import ExceptionItem, Item, Thrown, summarize
from scoretrace.standin import cut, fill, units

LIMIT = 65_536  # bytes of UTF-8 of the envelope as sent
MARGIN = 1_024  # kept free: whether the service counts anything that it adds is not documented
NAME_LIMIT = 150  # of a property or measurement
VALUE_LIMIT = 8_192  # of a property
ID_LIMIT = 128

_THROWN_LIMITS = {"message": 32_768, "stack": 32_768, "type_name": 1_024}
_FRAME_LIMIT, _FRAME_FIELDS = 1_024, ("method", "file_name", "assembly")
# How many frames of a stack and links of a chain are kept, both ends of each: stacks give way first.
_THINNER = (
    (200, 1_000),
    (50, 1_000),
    (20, 1_000),
    (10, 1_000),
    (4, 1_000),
    (2, 1_000),
    (2, 100),
    (2, 30),
    (2, 8),
    (2, 2),
)
_TAGS = dict.fromkeys(
    (
        "operation_name",
        "operation_parent_id",
        "operation_synthetic_source",
        "cloud_role_name",
        "cloud_role_instance",
        "application_version",
        "session_id",
        "user_id",
        "user_authenticated_id",
        "user_account_id",
    ),
    1_024,
)
_CALL = {"id": ID_LIMIT, "name": 1_024, "result_code": 1_024}
FIELD_LIMITS: dict[str, dict[str, int]] = {
    kind: {"operation_id": ID_LIMIT, **_TAGS, **own}
    for kind, own in {
        "trace": {"message": 32_768},
        "request": {**_CALL, "url": 2_048, "source": 1_024},
        "dependency": {**_CALL, "data": 8_192, "target": 1_024, "type": 1_024},
        "exception": {"problem_id": 1_024, "handled_at": 1_024},
        "event": {"name": 512},
        "metric": {"name": 512},
        "page_view": {"id": ID_LIMIT, "name": 1_024, "url": 2_048},
        "availability": {"id": ID_LIMIT, "name": 1_024, "location": 1_024, "message": 8_192},
        "counter": {"category": 1_024, "counter": 1_024, "instance": 1_024},
        "browser_timing": {"name": 1_024, "url": 2_048},
    }.items()
}

MARKS = ("payload_uri", "payload_bytes", "payload_sha256", "payload_field", "truncated")
_MARKS_SIZE = 1_024  # bytes that the marks may take in the envelope: the address is at most some 700 of them
_LEAST = 64  # bytes of a value that are worth a property
_STRUCTURE = 2_048  # bytes of an envelope around its properties
_WORST_ESCAPE = 6  # bytes of JSON that one character can become
_ENVELOPE_SIZE = 6_144  # more than an envelope takes apart from the texts counted in _fits

Put = Callable[[str, bytes], str]
Slot = tuple[str | int, ...]


def guard(item: Item, put: Put, *, limit: int = LIMIT) -> Item:
    """
    Return *item* if it fits, else *put* its original away and return a stand-in.

    *put* takes the SHA-256 (hex) and the bytes of the original, stores them and
    returns the address that the row will carry. Where one text is cut, the
    original is that text in UTF-8; where more is, it is the whole item as a
    line of the continuous export. The stand-in keeps what is small, cuts the
    largest first, and is valid JSON wherever the original was. Its custom
    dimensions say what happened: ``payload_uri``, ``payload_bytes``,
    ``payload_sha256``, ``payload_field`` (the column that was cut, or "item")
    and ``truncated`` ("true").

    Raises:
        Whatever *put* raises; nothing has been cut then.
    """
    room = limit - MARGIN
    if _fits(item, room):
        return item
    import hashlib  # here, because most processes never divert anything and OpenSSL takes its time to load

    cuts, small = _shorten(item, room - _MARKS_SIZE)
    only = next(iter(cuts)) if len(cuts) == 1 and small is None else None
    if item.custom_dimensions.keys() & set(MARKS):  # the script's own of these names make room for ours
        only = None
    original = continuous_export.encode(item)[:-1] if only is None else _texts(item)[only].encode()
    sha256 = hashlib.sha256(original).hexdigest()
    marks = (put(sha256, original), str(len(original)), sha256, _column(only), "true")
    result = _replace(item if small is None else small, cuts)
    dimensions = {**result.custom_dimensions, **dict(zip(MARKS, marks, strict=True))}
    return msgspec.structs.replace(result, custom_dimensions=dimensions)


def _fits(item: Item, room: int) -> bool:
    total = 0
    for field, most in FIELD_LIMITS[item.kind].items():
        text = getattr(item, field)
        if text:
            if len(text) * 2 > most and units(text) > most:
                return False
            total += len(text)
    for name, value in item.custom_dimensions.items():
        if len(name) * 2 > NAME_LIMIT and units(name) > NAME_LIMIT:
            return False
        if len(value) * 2 > VALUE_LIMIT and units(value) > VALUE_LIMIT:
            return False
        total += len(name) + len(value) + 2
    for name in item.custom_measurements:
        if units(name) > NAME_LIMIT:
            return False
        total += len(name) + 8
    if isinstance(item, ExceptionItem):
        for thrown in item.details:
            if any(units(getattr(thrown, field)) > most for field, most in _THROWN_LIMITS.items()):
                return False
            for frame in thrown.parsed_stack:
                if any(len(getattr(frame, field)) > _FRAME_LIMIT // 2 for field in _FRAME_FIELDS):
                    return False
        total += room  # its structure is worth measuring
    return total * _WORST_ESCAPE + _ENVELOPE_SIZE <= room or len(breeze.encode(item)) <= room


def _texts(item: Item) -> dict[Slot, str]:
    """Every text that may be cut, by where it is."""
    texts: dict[Slot, str] = {("field", field): getattr(item, field) for field in FIELD_LIMITS[item.kind]}
    texts |= {("dimension", name): value for name, value in item.custom_dimensions.items()}
    if isinstance(item, ExceptionItem):
        for index, thrown in enumerate(item.details):
            texts |= {("thrown", index, field): getattr(thrown, field) for field in _THROWN_LIMITS}
    return texts


def _most(slot: Slot, item: Item) -> int:
    if slot[0] == "field":
        return FIELD_LIMITS[item.kind][str(slot[1])]
    return VALUE_LIMIT if slot[0] == "dimension" else _THROWN_LIMITS[str(slot[2])]


def _shorten(item: Item, room: int) -> tuple[dict[Slot, str], Item | None]:
    """
    What to put in place of which text, so that the envelope takes at most *room* bytes.

    The second part is the item with fewer properties, frames or links, where
    cutting texts is not enough; ``None`` where it is.
    """
    small = _thin(item, room)
    current = item if small is None else small
    texts = {slot: text for slot, text in _texts(current).items() if text}
    cuts = {slot: cut(text, _most(slot, item)) for slot, text in texts.items() if units(text) > _most(slot, item)}
    sizes = {slot: _size(cuts.get(slot, text)) for slot, text in texts.items()}
    bare = len(breeze.encode(_replace(current, dict.fromkeys(texts, ""))))
    level = fill(sizes.values(), room - bare)
    for slot, text in texts.items():
        if sizes[slot] > level:
            cuts[slot] = cut(text, _most(slot, item), level)
    return cuts, small


def _thin(item: Item, room: int) -> Item | None:
    """*item* with fewer properties, stack frames and chain links where their number alone is too much, else None."""
    changes: dict[str, Any] = {}
    if isinstance(item, ExceptionItem):
        details = _thin_chain(item.details, room // 2)
        if details != item.details:
            changes["details"] = details
    for field in ("custom_dimensions", "custom_measurements"):
        values: dict[str, Any] = getattr(item, field)
        names: dict[str, str] = {}
        for name in values:
            names.setdefault(_name(name, names), name)
        costs = {short: _size(short) + 6 + _least(values[name]) for short, name in names.items()}
        kept, left = set(), room * 7 // 8 - _STRUCTURE
        for short in sorted(costs, key=costs.__getitem__):  # the small ones stay
            left -= costs[short]
            if left < 0:
                break
            kept.add(short)
        room -= sum(costs[short] for short in kept)
        small = {short: values[name] for short, name in names.items() if short in kept}
        if small.keys() != values.keys():
            changes[field] = small
    return msgspec.structs.replace(item, **changes) if changes else None


def _least(value: str | float) -> int:
    """The bytes that a property must have at the least to be worth its name."""
    return min(_size(value), _LEAST) if isinstance(value, str) else 24


def _thin_chain(details: tuple[Thrown, ...], room: int) -> tuple[Thrown, ...]:
    """Leave out of the middle, first of each stack, then of the chain: what raised and what began are at the ends."""
    chain = tuple(
        msgspec.structs.replace(
            thrown,
            type_name=cut(thrown.type_name, _THROWN_LIMITS["type_name"]),
            parsed_stack=tuple(
                msgspec.structs.replace(
                    frame, **{field: cut(getattr(frame, field), _FRAME_LIMIT) for field in _FRAME_FIELDS}
                )
                for frame in thrown.parsed_stack
            ),
        )
        for thrown in details
    )
    thinned = chain
    for frames, links in _THINNER:
        thinned = tuple(_thin_stack(thrown, frames) for thrown in _ends(chain, links))
        bare = [msgspec.structs.replace(thrown, message="", stack="") for thrown in thinned]
        if len(msgspec.json.encode(bare)) <= room:
            break
    return thinned


def _thin_stack(thrown: Thrown, frames: int) -> Thrown:
    if len(thrown.parsed_stack) <= frames:
        return thrown
    return msgspec.structs.replace(thrown, parsed_stack=_ends(thrown.parsed_stack, frames), has_full_stack=False)


def _ends(sequence: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    if len(sequence) <= most:
        return sequence
    half = most // 2
    return sequence[: most - half] + sequence[-half:]


def _name(name: str, taken: dict[str, Any]) -> str:
    """*name* within its limit, told from others that begin alike by a piece of its hash."""
    if units(name) <= NAME_LIMIT and name not in taken:
        return name
    import hashlib

    return f"{name[:60]}…{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _size(text: str) -> int:
    """The bytes that *text* takes between its quotes in an envelope."""
    return len(msgspec.json.encode(text)) - 2


def _column(slot: Slot | None) -> str:
    if slot is None:
        return "item"
    form = {"field": "{1}", "dimension": "customDimensions.{1}", "thrown": "details.{2}"}[str(slot[0])]
    return form.format(*slot)[:512]


def _replace(item: Item, cuts: dict[Slot, str]) -> Item:
    changes: dict[str, Any] = {str(slot[1]): text for slot, text in cuts.items() if slot[0] == "field"}
    dimensions = {str(slot[1]): text for slot, text in cuts.items() if slot[0] == "dimension"}
    if dimensions:
        changes["custom_dimensions"] = {**item.custom_dimensions, **dimensions}
    if isinstance(item, ExceptionItem):
        details = list(item.details)
        for slot, text in cuts.items():
            if slot[0] == "thrown":
                index = int(slot[1])
                details[index] = msgspec.structs.replace(details[index], **{str(slot[2]): text})
        changes = {**summarize(tuple(details)), **changes, "details": tuple(details)}
    return msgspec.structs.replace(item, **changes) if changes else item
