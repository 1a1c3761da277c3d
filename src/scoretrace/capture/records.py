"""
Every log record of the process, whatever the script does with logging.

A handler on the root logger would be noticed: `basicConfig` does nothing where
there is one, `dictConfig` and `force=True` throw it out, loops that remove all
handlers remove it too, warnings that nobody shows no longer reach stderr, and a
root level lowered for its sake floods the console. So it is `callHandlers` that
is tapped, where a record that passed its logger's level is given to handlers:
ours gets it first, and then the script's own, if they would have got it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from scoretrace.capture.handler import RecordHandler


def tap(handler: RecordHandler) -> Callable[[], None]:
    """
    Give *handler* each record of its level and above, of all loggers; returns what undoes it.

    The root logger lets that level through then. What the script sets it to is
    remembered, and decides what the script's own handlers get.
    """
    root, owner = logging.getLogger(), logging.Logger
    real_call, real_set = owner.callHandlers, root.setLevel
    before = root.__dict__.get("setLevel")
    least = handler.level
    own = root.level
    active = True

    @functools.wraps(real_call)
    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        level = record.levelno
        if level >= least and active:
            handler.handle(record)
        if level >= own or not active or _is_enabled(self, level):
            real_call(self, record)

    def _is_enabled(logger: logging.Logger, level: int) -> bool:
        """Whether the script itself would have had this record made."""
        current: logging.Logger | None = logger
        while current is not None and current is not root:
            if current.level:
                return level >= current.level
            current = current.parent
        return level >= own

    @functools.wraps(real_set)
    def set_level(level: int | str) -> None:
        nonlocal own
        real_set(level)
        own = root.level
        if own > least:
            real_set(least)

    def undo() -> None:
        nonlocal active
        active = False
        if owner.callHandlers is call_handlers:  # else somebody wrapped it after us, and it goes on without us
            owner.callHandlers = real_call  # type: ignore[method-assign]
        if root.__dict__.get("setLevel") is set_level:
            if before is None:
                del root.setLevel
            else:  # another tap's, which still remembers what the script wants
                root.setLevel = before  # type: ignore[method-assign]
        if own > least and root.level == least:
            root.setLevel(own)

    owner.callHandlers = call_handlers  # type: ignore[method-assign]
    root.setLevel = set_level  # type: ignore[method-assign]
    if own > least:
        real_set(least)
    return undo
