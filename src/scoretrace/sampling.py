"""
Keep a part of the telemetry, so that what belongs together stays together and sums stay true.

The score of an operation id is the one that the Application Insights SDKs
compute, so a service that samples as well keeps the same operations. What is
kept says how many items it stands for; what failed is always kept, and stands
for itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from scoretrace.item import Dependency, ExceptionItem, Item, Request, Trace

_INT_MAX = 2**31 - 1
_ERROR = 3  # the severity level from which on a trace is a failure


def score(operation_id: str) -> float:
    """
    Where an operation lies between 0 and 1; it is kept where that is below the part that is kept.

    Source: SamplingScoreGenerator of the Application Insights SDKs, a djb2 hash
    in 32 bits of the id, which is repeated until it has eight characters.

    >>> f"{score('0af7651916cd43dd8448eb211c80319c'):.6f}"
    '0.527889'
    """
    text = operation_id
    while 0 < len(text) < 8:
        text += text
    number = 5381
    for character in text:
        number = (number * 33 + ord(character)) & 0xFFFFFFFF
    if number > _INT_MAX:
        number -= 2**32
    return min(abs(number), _INT_MAX) / _INT_MAX


def sample(item: Item, counts: Mapping[str, int]) -> Item | None:
    """
    *item* with the number of items that it stands for, or None where others stand for it.

    *counts* has that number for each type. The operation id decides, and chance
    where there is none: item ids are counted up, which the score would not part.
    """
    count = counts.get(item.kind, 1)
    if count == 1 or has_failed(item):
        return item
    where = score(item.operation_id) if item.operation_id else int.from_bytes(os.urandom(4), "big") / 2**32
    if where >= 1 / count:
        return None
    return msgspec.structs.replace(item, item_count=item.item_count * count)


def has_failed(item: Item) -> bool:
    """Whether *item* says that something went wrong: an exception, a failed call, a trace of an error."""
    if isinstance(item, (Request, Dependency)):
        return item.success is False
    if isinstance(item, Trace):
        return (item.severity_level or 0) >= _ERROR
    return isinstance(item, ExceptionItem)
