"""
Which request is being answered: what gives every row inside it the same operation id.

It is a context variable, so asyncio tasks keep it by themselves. Threads do not
(before Python 3.14 a new thread begins with an empty context, and a pool's
threads outlive the request that made them), so `carry` hands it to them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any, NamedTuple, Protocol

from scoretrace.formats import continuous_export

SHARED_TEXT = 256  # characters of a value that rows inside a request share: it is written with each of them


class Operation:
    """
    The ids that rows inside a request carry; *json* is how a line of the journal writes them.

    *dimensions* are custom dimensions that the rows share. *is_served* says
    that it is a call which a server answers, so that a function which is timed
    inside is no request of its own. In *kept* others keep what belongs to it.
    """

    __slots__ = ("_kept", "_shared_json", "dimensions", "id", "is_served", "json", "name", "parent_id")

    def __init__(
        self,
        id: str = "",  # noqa: A002 - the column's name
        name: str = "",
        parent_id: str = "",
        *,
        is_served: bool = False,
    ) -> None:
        self.id = id
        self.name = name
        self.parent_id = parent_id
        self.is_served = is_served
        self.json = continuous_export.operation(id, name, parent_id)
        self.dimensions: dict[str, str] = {}
        self._shared_json: bytes | None = b""
        self._kept: dict[str, Any] | None = None

    @property
    def kept(self) -> dict[str, Any]:
        """What others keep with it, by name."""
        if self._kept is None:  # most requests have nothing to keep
            self._kept = {}
        return self._kept

    @property
    def shared_json(self) -> bytes:
        """The *dimensions* as a line of the journal writes them."""
        found = self._shared_json
        if found is None:
            found = self._shared_json = continuous_export.dimensions(self.dimensions)
        return found

    def share(self, dimensions: Mapping[str, str]) -> None:
        """Give *dimensions* to the rows that follow, but for those that are empty, or too long for each of them."""
        known = self.dimensions
        fresh = {
            name: value
            for name, value in dimensions.items()
            if 0 < len(value) <= SHARED_TEXT and known.get(name) != value
        }
        if fresh:
            self.dimensions = {**known, **fresh}  # replaced whole: another thread may be writing a row
            self._shared_json = None


NONE = Operation()
OPERATION: ContextVar[Operation] = ContextVar("scoretrace_operation", default=NONE)


class Bridge(Protocol):
    """Somebody else's idea of what is current, kept in step with ours."""

    def attach(self, operation: Operation) -> Any:
        """Make *operation* theirs too; returns what `detach` takes."""

    def detach(self, token: Any) -> None:
        """Undo `attach`."""

    def outer(self) -> Operation:
        """What is current with them where nothing is with us."""


class Entered(NamedTuple):
    """What `leave` needs to undo an `enter`."""

    token: Token[Operation]
    bridge: Bridge | None
    theirs: Any


_bridge: Bridge | None = None
_carried = False


def connect(bridge: Bridge | None) -> None:
    """Keep *bridge* in step from now on, or nobody."""
    global _bridge  # noqa: PLW0603 - one a process, as the other side is
    _bridge = bridge


def current() -> Operation:
    """The operation that is current, here or on the other side of the bridge."""
    found = OPERATION.get()
    return found if found is not NONE or _bridge is None else _bridge.outer()


def reader() -> Callable[[], Operation]:
    """The cheapest function that gives what `current` does, until `connect` is called again."""
    return OPERATION.get if _bridge is None else current


def enter(operation: Operation) -> Entered:
    """Make *operation* the current one, until `leave`."""
    bridge = _bridge
    return Entered(OPERATION.set(operation), bridge, None if bridge is None else bridge.attach(operation))


def leave(entered: Entered, before: Operation) -> None:
    """Give the place back, to *before* where it was entered in another context."""
    try:
        OPERATION.reset(entered.token)
    except ValueError:
        OPERATION.set(before)
        if entered.bridge is not None:
            entered.bridge.attach(before)
        return
    if entered.bridge is not None:
        entered.bridge.detach(entered.theirs)


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
        operation = OPERATION.get()
        return real(self, *args, **kwargs) if operation is NONE else around(real, operation, self, *args, **kwargs)

    setattr(owner, name, wrapper)


def _start(real: Callable[..., Any], operation: Operation, thread: threading.Thread) -> Any:
    # On the instance, so that a subclass with a run() of its own is served too.
    thread.run = functools.partial(_inside, operation, thread.run)  # type: ignore[method-assign]
    return real(thread)


def _submit(
    real: Callable[..., Any], operation: Operation, pool: Any, work: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    # The pool may start a thread here; that one serves later requests too and must not keep this one's operation.
    token = OPERATION.set(NONE)
    try:
        return real(pool, _inside, operation, work, *args, **kwargs)
    finally:
        OPERATION.reset(token)


def _inside(operation: Operation, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    entered = enter(operation)
    try:
        return work(*args, **kwargs)
    finally:
        leave(entered, NONE)
