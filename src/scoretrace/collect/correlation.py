"""
What joins inputs to predictions, and both to the request they belong to.

All designations that are collected for one scoring share a correlation id:
`inputs` begins one, and each other designation takes the id of the latest
inputs of the same model, once. It is looked for where the script is now, and
for work that a request gives to another thread in that request, so that two
scorings at a time are never mixed up.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from typing import Any, NamedTuple

from scoretrace.capture.operation import Operation
from scoretrace.capture.operation import current as current_operation
from scoretrace.capture.values import as_text
from scoretrace.capture.web import REQUEST_ID

NO_ID = "00000000-0000-0000-0000-000000000000"
INPUTS = "inputs"


class Scoring(NamedTuple):
    """One scoring of the model in *folder*: its correlation *id*, the *user_id* in it, and who has collected for it."""

    id: str
    user_id: str
    operation_id: str
    collected: set[str]


class Place(NamedTuple):
    """The request that is current: its id, and the id of the operation it begins or belongs to."""

    request_id: str
    operation_id: str


_latest: ContextVar[dict[str, Scoring]] = ContextVar("scoretrace_scoring", default={})  # noqa: B039 - never changed


def correlation_id(folder: str, designation: str, user_id: str) -> str:
    """
    The id of the scoring that *designation* is collected for now, for the model in *folder*.

    It is a UUID, after the *user_id* and a dash where there is one.
    """
    operation = current_operation()
    if designation != INPUTS:
        for found in (_latest.get().get(folder), operation.kept.get(folder)):
            if found is not None and _is_meant(found, designation, user_id, operation):
                found.collected.add(designation)
                return str(found.id)
    made = _with_user(user_id)
    if designation == INPUTS:
        begin(folder, made, user_id)
    return made


def begin(folder: str, id: str, user_id: str = "") -> None:  # noqa: A002 - what it is
    """Inputs of the model in *folder* were collected under *id*: what is predicted next belongs to them."""
    operation = current_operation()
    scoring = Scoring(id, user_id, operation.id, {INPUTS})
    _latest.set({**_latest.get(), folder: scoring})
    if operation.id:
        # A second one in the same request: another thread could not tell which is meant.
        operation.kept[folder] = None if folder in operation.kept else scoring


def end(folder: str) -> None:
    """Inputs of the model in *folder* were not collected: nothing that follows belongs to those before them."""
    operation = current_operation()
    _latest.set({name: scoring for name, scoring in _latest.get().items() if name != folder})
    if operation.id:
        operation.kept[folder] = None


def place() -> Place:
    """Where the script is now."""
    operation = current_operation()
    if not operation.id:
        return Place(_flask_request_id() or NO_ID, "")
    return Place(operation.dimensions.get(REQUEST_ID) or operation.parent_id or NO_ID, operation.id)


def _is_meant(found: Scoring, designation: str, user_id: str, operation: Operation) -> bool:
    return found.operation_id == operation.id and designation not in found.collected and user_id in {"", found.user_id}


def _with_user(user_id: str) -> str:
    digits = os.urandom(16).hex()
    # Version 4 and its variant, as uuid.uuid4 sets them.
    made = (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )
    return f"{user_id}-{made}" if user_id else made


def _flask_request_id() -> str:
    """The scoring server's, where nothing of ours records its requests."""
    flask: Any = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return ""
    return as_text(getattr(flask.g, "request_id", None) or flask.request.environ.get("REQUEST_ID"))
