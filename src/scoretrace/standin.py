"""
A shorter text in place of one that is too long, still of use to whoever reads it.

JSON stays JSON, so that `parse_json(tostring(customDimensions.Contents)).input`
answers for a row that was cut too: keys and small values are kept, the largest
values give way first, and each place that lost something says how much. Other
text keeps its head and its tail.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_SHORT = 2_048  # units; a name or a URL is cut at its end, a longer text in its middle
_ROWS = 256  # bytes; an array keeps fewer elements whole rather than all of them in less than this
_DEPTH = 16  # levels that are cut as what they are; below, JSON is cut as text
_MARK = 48  # bytes that the mark of a cut may take

_LEAST = {"{}": "{}", "[]": "[]", '""': '""'}

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


def units(text: str) -> int:
    """
    The length of *text* in UTF-16 units, as .NET counts.

    >>> units("abc"), units("é"), units("😀")
    (3, 1, 2)
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, most: int, size: int | None = None) -> str:
    """
    *text* in at most *most* UTF-16 units and, if given, *size* bytes between the quotes of a JSON string.

    A text that fits comes back unchanged.

    >>> cut('{"id": 7, "rows": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]}', 60)
    '{"id":7,"rows":[1,2,3,4,5,6,7,8,"… 10 more"]}'
    """
    goal = float(most)
    for _ in range(24):
        if goal < 1:
            break
        short = text if goal >= most and units(text) <= most else _cut_once(text, int(goal))
        over = units(short) / max(most, 1)
        if size is not None:
            over = max(over, (len(_encode(short)) - 2) / max(size, 1))
        if over <= 1.0:
            return short
        goal = min(goal * 0.97, goal / over * 0.99) if goal > 8 else 0.0
    # So little room that nothing can be said: still of the kind that it was.
    least = _LEAST.get(f"{text.lstrip()[:1]}{text.rstrip()[-1:]}", "")
    return least if units(least) <= most and (size is None or len(_encode(least)) - 2 <= size) else ""


def _cut_once(text: str, goal: int) -> str:
    start = text.lstrip()[:1]
    if start and start in '{["':
        data = text.encode()
        budget = goal * len(data) // max(units(text), 1)
        try:
            return shrink(data, budget).decode()
        except RecursionError:  # too deep to look into, and JSON all the same
            half = max((budget - 40) // 4, 0)
            return _encode({"head": text[:half], "tail": text[len(text) - half :]}).decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    if goal <= _SHORT:
        return _head(text, goal)
    note = f"\n… {len(text) - goal:,} characters left out …\n"
    keep = goal - units(note)
    head = keep * 2 // 3
    return f"{_head(text, head, '')}{note}{_tail(text, keep - head)}"


def _head(text: str, goal: int, mark: str = "…") -> str:
    end = goal - len(mark)
    while end > 0 and units(text[:end]) > goal - len(mark):
        end -= max(1, (units(text[:end]) - goal + len(mark)) // 2)
    return text[: max(end, 0)] + mark


def _tail(text: str, goal: int) -> str:
    start = max(len(text) - goal, 0)
    while units(text[start:]) > goal:
        start += max(1, (units(text[start:]) - goal) // 2)
    return text[start:]


def shrink(data: bytes, budget: int, depth: int = 0) -> bytes:
    """
    The JSON value *data* as valid JSON in about *budget* bytes; the small stays whole.

    Raises:
        msgspec.DecodeError: *data* is not JSON.
        RecursionError: it is nested too deep to look into.
    """
    data = data.strip()
    if len(data) > budget and depth > _DEPTH:  # each level looks through all that is below it
        return _shrink_string(data.decode(), budget)
    kind = data[:1]
    if kind == b"{":
        pairs = [(key, bytes(value)) for key, value in _object(data).items()]
        return data if len(data) <= budget else _shrink_object(pairs, budget, depth)
    if kind == b"[":
        values = _array(data)
        return data if len(data) <= budget or not values else _shrink_array(values, budget, depth)
    if len(data) <= budget:
        return data
    if kind == b'"':
        return _shrink_string(_string(data), budget)
    return _shrink_string(data.decode(), budget)


def _shrink_object(pairs: list[tuple[str, bytes]], budget: int, depth: int) -> bytes:
    named = [(_encode(key) if len(key) <= _ROWS else _shrink_string(key, _ROWS), value) for key, value in pairs]
    costs = [len(name) + 2 + min(len(value), 24) for name, value in named]
    left = budget - 2 - (0 if sum(costs) <= budget - 2 else _MARK)
    kept: list[tuple[bytes, bytes]] = []
    for pair, cost in zip(named, costs, strict=True):
        left -= cost
        if left < 0 and kept:
            break
        kept.append(pair)
    room = budget - 2 - sum(len(name) + 2 for name, _ in kept) - (_MARK if len(kept) < len(pairs) else 0)
    level = max(fill([len(value) for _, value in kept], room), 4)
    parts = [name + b":" + (value if len(value) <= level else shrink(value, level, depth + 1)) for name, value in kept]
    if len(kept) < len(pairs):
        parts.append(_encode("…") + b":" + _encode(f"{len(pairs) - len(kept):,} more keys"))
    return b"{" + b",".join(parts) + b"}"


def _shrink_array(raw: list[msgspec.Raw], budget: int, depth: int) -> bytes:
    if len(raw) * 32 <= budget:  # few enough that each may keep a part
        values = [bytes(value) for value in raw]
        level = fill([len(value) for value in values], budget - 2 - len(values))
        if level >= _ROWS or len(values) <= 8:
            return (
                b"["
                + b",".join(value if len(value) <= level else shrink(value, level, depth + 1) for value in values)
                + b"]"
            )
    left = budget - 2 - 24
    kept: list[bytes] = []
    for value in map(bytes, raw):
        if len(value) + 1 > left:
            if not kept and left > 0:
                kept.append(shrink(value, left, depth + 1))
            break
        kept.append(value)
        left -= len(value) + 1
    if len(kept) < len(raw):
        kept.append(_encode(f"… {len(raw) - len(kept):,} more"))
    return b"[" + b",".join(kept) + b"]"


def _shrink_string(text: str, budget: int) -> bytes:
    keep = max(budget - 32, 0)
    while keep:
        short = _encode(f"{text[:keep]}… {len(text) - keep:,} more characters")
        if len(short) <= budget:
            return short
        keep = min(keep - 1, keep * budget // len(short))
    return _encode("…")


def fill(sizes: Iterable[int], room: int) -> int:
    """
    The level that, as the most that each of *sizes* may keep, makes them fill *room*: the largest give way first.

    >>> fill([10, 500, 800], 610)
    300
    """
    left = max(room, 0)
    ordered = sorted(sizes)
    for index, size in enumerate(ordered):
        share = left // (len(ordered) - index)
        if size > share:
            return share
        left -= size
    return ordered[-1] if ordered else 0
