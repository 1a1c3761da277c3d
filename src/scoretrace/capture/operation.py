"""
Which request is being answered: what gives every row inside it the same operation id.

It is a context variable, so asyncio tasks keep it by themselves. Threads do not
(before Python 3.14 a new thread begins with an empty context, and a pool's
threads outlive the request that made them), so `carry` hands it to them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from scoretrace.formats.continuous_export import operation


class Operation:
    """The ids that rows inside a request carry; *json* is how a line of the journal writes them."""

    __slots__ = ("id", "json", "name", "parent_id")

    def __init__(self, id: str = "", name: str = "", parent_id: str = "") -> None:  # noqa: A002 - the column's name
        self.id = id
        self.name = name
        self.parent_id = parent_id
        self.json = operation(id, name, parent_id)


NONE = Operation()
OPERATION: ContextVar[Operation] = ContextVar("scoretrace_operation", default=NONE)

_carried = False


def carry() -> None:
    """
    Let threads that are started, and work that is given to a thread pool, keep the operation of whoever did it.

    Outside a request nothing changes for them. Calling it again does nothing.
    """
    global _carried  # noqa: PLW0603 - a class is patched once a process
    if _carried:
        return
    _carried = True
    from concurrent.futures import ThreadPoolExecutor

    _wrap(threading.Thread, "start", _start)
    _wrap(ThreadPoolExecutor, "submit", _submit)


def _wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        current = OPERATION.get()
        return real(self, *args, **kwargs) if current is NONE else around(real, current, self, *args, **kwargs)

    setattr(owner, name, wrapper)


def _start(real: Callable[..., Any], current: Operation, thread: threading.Thread) -> Any:
    # On the instance, so that a subclass with a run() of its own is served too.
    thread.run = functools.partial(_inside, current, thread.run)  # type: ignore[method-assign]
    return real(thread)


def _submit(
    real: Callable[..., Any], current: Operation, pool: Any, work: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    # The pool may start a thread here; that one serves later requests too and must not keep this one's operation.
    token = OPERATION.set(NONE)
    try:
        return real(pool, _inside, current, work, *args, **kwargs)
    finally:
        OPERATION.reset(token)


def _inside(current: Operation, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = OPERATION.set(current)
    try:
        return work(*args, **kwargs)
    finally:
        OPERATION.reset(token)
