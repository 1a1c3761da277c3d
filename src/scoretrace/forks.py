"""Tell what must begin anew in a forked child that it is in one."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Whatever has state that a child may not share with its parent."""

    def after_fork(self) -> None:
        """Begin anew: called in the child, before its first line of code."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()
_hooked = False


def tell(subject: Forked) -> None:
    """Call `subject.after_fork` in each child forked from now on, as long as *subject* lives."""
    global _hooked  # noqa: PLW0603 - the interpreter's list of hooks only grows, so one entry is enough
    _known.add(subject)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
        _hooked = True


def _after_fork() -> None:
    for subject in list(_known):
        subject.after_fork()
