"""
What an ingestion endpoint answers to `POST /v2.1/track`: how many items it got and took, and what is wrong with which.

Contract: TrackResponse of the ingestion service's API, version 2.1.
"""

from __future__ import annotations

import msgspec


class ItemError(msgspec.Struct, frozen=True, rename="camel"):
    """Why the item at *index* of a batch was not accepted; *status_code* as of HTTP."""

    index: int | None = None
    status_code: int = 500
    message: str = ""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """The body of an answer."""

    items_received: int = 0
    items_accepted: int = 0
    app_id: str | None = None
    errors: tuple[ItemError, ...] | None = ()


def encode(answer: Answer) -> bytes:
    """*answer* as JSON."""
    return msgspec.json.encode(answer)


def decode(body: bytes) -> Answer:
    """
    The answer in *body*; one that says nothing where there is none.

    >>> decode(b'{"errors":[{"index":1,"statusCode":400,"message":"no"}]}').errors[0].message
    'no'
    """
    try:
        return msgspec.json.decode(body, type=Answer, strict=False)
    except (msgspec.MsgspecError, RecursionError):
        return Answer()
