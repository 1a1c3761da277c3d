"""Tell what must begin anew in a forked child that it is in one, and keep a fork away from what it would break."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Protocol

_WAIT_SECONDS = 2.0


class Forked(Protocol):
    """Whatever has state that a child may not share with its parent."""

    def after_fork(self) -> None:
        """Begin anew: called in the child, before its first line of code."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()
_hooked = False
_still = RLock()
_forking = False  # whether a fork holds it


def tell(subject: Forked) -> None:
    """Call `subject.after_fork` in each child forked from now on, as long as *subject* lives."""
    global _hooked  # noqa: PLW0603 - the interpreter's list of hooks only grows, so one entry is enough
    _known.add(subject)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
        _hooked = True


@contextmanager
def still() -> Iterator[None]:
    """
    Have a fork wait until the block is done, for two seconds at most.

    A thread that imports holds the locks of modules; a child that was forked in
    that moment would find them locked for ever.
    """
    with _still:
        yield


def _before_fork() -> None:
    global _forking  # noqa: PLW0603 - from one hook to the next
    if _still.acquire(timeout=_WAIT_SECONDS):
        _forking = True


def _in_parent() -> None:
    global _forking  # noqa: PLW0603
    if _forking:
        _forking = False
        _still.release()


def _in_child() -> None:
    global _still, _forking
    _still, _forking = RLock(), False
    for subject in list(_known):
        with suppress(Exception):  # the others are to begin anew all the same
            subject.after_fork()
