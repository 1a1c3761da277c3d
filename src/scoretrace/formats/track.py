"""
What an ingestion endpoint answers to `POST /v2.1/track`: how many items it got and took, and what is wrong with which.

Contract: TrackResponse of the ingestion service's API, version 2.1.
"""

from __future__ import annotations

import msgspec

from scoretrace import ticks

# How old and how far ahead `time` of an envelope may be, in ticks: EndpointSpecs, Envelope.
OLDEST, NEWEST = 48 * 3_600 * ticks.SECOND, 2 * 3_600 * ticks.SECOND


class ItemError(msgspec.Struct, frozen=True, rename="camel"):
    """Why the item at *index* of a batch was not accepted; *status_code* as of HTTP."""

    index: int | None = None
    status_code: int | None = 500
    message: str | None = ""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an answer."""

    items_received: int | None = None
    items_accepted: int | None = None
    app_id: str | None = None
    errors: tuple[ItemError, ...] | None = ()


def encode(answer: Answer) -> bytes:
    """*answer* as JSON."""
    return msgspec.json.encode(answer)


def decode(body: bytes) -> Answer | None:
    """
    The answer in *body*, or None where there is none.

    >>> decode(b'{"errors":[{"index":1,"statusCode":400,"message":"no"}]}').errors[0].message
    'no'
    """
    try:
        return msgspec.json.decode(body, type=Answer, strict=False)
    except (msgspec.MsgspecError, RecursionError):
        return None
