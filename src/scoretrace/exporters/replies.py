"""
What an ingestion endpoint answers, and what follows from it for each item.

Contract: 200 says that all was accepted and 206 that a part was, with errors by
index (`formats.track`); 402 and 439 are quotas, 429 is throttling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scoretrace.backoff import retry_after
from scoretrace.formats import track
from scoretrace.formats.track import Answer, ItemError

# An item that got one of these would get it again: the service will never take it.
_REFUSALS = frozenset({400, 404, 413})
_TOO_LARGE = 413
_MESSAGE = 1_000  # characters of what the service says


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


def reply_of(status: int, body: bytes, headers: Mapping[str, str], count: int) -> Reply:
    """
    What the answer to a batch of *count* items means.

    >>> reply_of(206, b'{"errors":[{"index":1,"statusCode":400,"message":"no"}]}', {}, 2).refused[1].message
    'no'
    """
    answer = track.decode(body)
    listed = answer.errors or () if answer is not None else ()
    errors = {error.index: error for error in listed if error.index is not None and 0 <= error.index < count}
    if status in {200, 206}:
        if not _is_believable(status, body, answer, len(errors), count):
            if count == 1 and listed and answer is not None and answer.items_accepted == 0:
                return reply_of(400, body, headers, 1)  # there is only one that can be meant
            reason = f"HTTP {status} that does not say what was accepted"
            return Reply(reason=reason, retry_after=retry_after(headers), split=status == 206)
        refused = {index: _refusal(error) for index, error in errors.items() if error.status_code in _REFUSALS}
        again = frozenset(errors.keys() - refused.keys())
        return Reply(refused, again, retry_after=retry_after(headers) if again else None)
    if status == _TOO_LARGE:
        if count == 1:
            return Reply({0: Refusal(status, _message(status, errors))})
        return Reply(reason=_message(status, errors), split=True)
    if status == 400:
        if len(errors) == count:
            return Reply({index: _refusal(error) for index, error in errors.items()})
        if count == 1:
            return Reply({0: Refusal(status, _message(status, errors))})
        return Reply(reason=_message(status, errors), split=True)  # one of them spoils the batch: find it
    return Reply(reason=_message(status, errors), retry_after=retry_after(headers))


def _is_believable(status: int, body: bytes, answer: Answer | None, errors: int, count: int) -> bool:
    """Whether an answer says of each item what became of it; somebody's login page does not."""
    if status == 200:
        return answer is not None or not body.strip()
    if answer is None:
        return False
    return errors > 0 if answer.items_accepted is None else answer.items_accepted + errors >= count


def _refusal(error: ItemError) -> Refusal:
    return Refusal(error.status_code or 400, (error.message or "")[:_MESSAGE])


def _message(status: int, errors: Mapping[int, ItemError]) -> str:
    text = next((error.message for error in errors.values() if error.message), "")[:_MESSAGE]
    return f"HTTP {status}{text and ': '}{text}"
