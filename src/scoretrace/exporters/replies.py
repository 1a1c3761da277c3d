"""
What an ingestion endpoint answers, and what follows from it for each item.

Contract: `POST /v2.1/track` answers 200 where all was accepted and 206 where a
part was, with ``{"itemsReceived", "itemsAccepted", "errors": [{"index",
"statusCode", "message"}]}``; 402 and 439 are quotas, 429 is throttling.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

# An item that got one of these would get it again: the service will never take it.
_REFUSALS = frozenset({400, 404, 413})
_TOO_LARGE = 413
_LONGEST_WAIT = 3_600.0  # seconds that a Retry-After is followed for


class Refusal(NamedTuple):
    """Why the service will never take an item."""

    status: int
    message: str


class Reply(NamedTuple):
    """
    What became of a batch.

    By index: *refused* is never to be sent again, *again* is to be sent again,
    all others were accepted. Where *reason* is not empty nothing was taken: the
    batch is too large if *split*, and else it is to be sent later, not before
    *retry_after* seconds if that is known.
    """

    refused: Mapping[int, Refusal] = {}
    again: frozenset[int] = frozenset()
    reason: str = ""
    retry_after: float | None = None
    split: bool = False


class _Error(msgspec.Struct, rename="camel"):
    index: int | None = None
    status_code: int = 500
    message: str = ""


class _Body(msgspec.Struct, rename="camel"):
    items_received: int = 0
    items_accepted: int = 0
    errors: list[_Error] | None = None


def reply_of(status: int, body: bytes, headers: Mapping[str, str], count: int) -> Reply:
    """
    What the answer to a batch of *count* items means.

    >>> reply_of(206, b'{"errors":[{"index":1,"statusCode":400,"message":"no"}]}', {}, 2).refused[1].message
    'no'
    """
    errors = _errors(body, count)
    if status in {200, 206}:
        refused = {error.place: Refusal(error.status_code, error.message) for error in errors if _is_final(error)}
        again = frozenset(error.place for error in errors if not _is_final(error))
        return Reply(refused, again, retry_after=_retry_after(headers) if again else None)
    if status == _TOO_LARGE:
        if count == 1:
            return Reply({0: Refusal(status, _message(status, errors))})
        return Reply(reason=_message(status, errors), split=True)
    if status == 400:
        if len({error.place for error in errors}) == count:
            return Reply({error.place: Refusal(error.status_code, error.message) for error in errors})
        if count == 1:
            return Reply({0: Refusal(status, _message(status, errors))})
        return Reply(reason=_message(status, errors), split=True)  # one of them spoils the batch: find it
    return Reply(reason=_message(status, errors), retry_after=_retry_after(headers))


def _is_final(error: _Indexed) -> bool:
    return error.status_code in _REFUSALS


class _Indexed(NamedTuple):
    place: int
    status_code: int
    message: str


def _errors(body: bytes, count: int) -> list[_Indexed]:
    try:
        found = msgspec.json.decode(body, type=_Body, strict=False).errors or []
    except (msgspec.MsgspecError, RecursionError):
        return []
    return [
        _Indexed(error.index, error.status_code, error.message[:1_000])
        for error in found
        if error.index is not None and 0 <= error.index < count
    ]


def _message(status: int, errors: list[_Indexed]) -> str:
    text = next((error.message for error in errors if error.message), "")
    return f"HTTP {status}{text and ': '}{text}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for: a number, or a date."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None  # noqa: PLR0124 - not a number
