"""Requests: when each began, how long it took, how it ended, and what belongs to it."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from scoretrace import ticks
from scoretrace.capture.operation import NONE, Entered, Operation, carry, current, enter, leave
from scoretrace.capture.thrown import send_once
from scoretrace.capture.values import as_text, measured
from scoretrace.item import Request

if TYPE_CHECKING:
    from types import TracebackType

    from scoretrace.capture.outlet import Outlet

Run = TypeVar("Run", bound=Callable[..., Any])

_TIMED = "__scoretrace_request__"  # set on what `timed` returns

_NAME = 512  # characters of an operation's name, within its limit even where each is two UTF-16 units

# https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


class RequestContext:
    """
    One request, from entering the context to leaving it.

    Rows made inside carry its operation id. `result_code`, `success`, `name`
    and the dictionaries may be set while it lasts; what is left alone is 200
    and success, or 500 and failure where an exception leaves the context. The
    exception goes on as it would without us, and becomes a row of its own.
    """

    def __init__(
        self,
        outlet: Outlet | None,
        name: str = "request",
        *,
        url: str = "",
        source: str = "",
        traceparent: str = "",
        custom_dimensions: Mapping[str, Any] | None = None,
        operation_id: str = "",
        is_served: bool = False,
    ) -> None:
        self._outlet = outlet
        self._is_served = is_served
        self.name = name
        self.url = url
        self.source = source
        self.result_code = ""
        self.success: bool | None = None
        self.custom_dimensions: dict[str, Any] = {}
        if type(custom_dimensions) is dict or isinstance(custom_dimensions, Mapping):
            self.custom_dimensions.update(custom_dimensions)
        elif custom_dimensions:
            self.custom_dimensions["custom_dimensions"] = custom_dimensions
        self.custom_measurements: dict[str, float] = {}
        ids = os.urandom(24).hex()
        self.id = ids[:16]
        # A call that a server answers is nobody's part, whatever context its task was begun in.
        self._caller = NONE if is_served else current()
        self.parent_id = self._caller.parent_id
        self.operation_id = self._caller.id or operation_id or ids[16:]
        match = _TRACEPARENT.fullmatch(as_text(traceparent).strip().lower()) if traceparent else None
        if match and self._caller is NONE:
            self.operation_id, self.parent_id = match.groups()
        self._shared: dict[str, str] = {}
        self._operation = NONE
        self._entered: list[Entered] = []
        self._start = self._timestamp = 0
        self._is_over = False

    def __enter__(self) -> RequestContext:  # noqa: PYI034 - Self is newer than Python 3.10
        self.begin()
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pause()
        self.end(error)

    def begin(self) -> None:
        """Start the clock."""
        if self._outlet is not None:
            carry()
            name = as_text(self.name)[:_NAME]
            self._operation = Operation(self.operation_id, name, self.id, is_served=self._is_served)
            inherited = self._caller.dimensions
            self._operation.share({**inherited, **self._shared} if inherited else self._shared)
        self._timestamp = ticks.now()
        self._start = time.perf_counter_ns()

    def share(self, dimensions: Mapping[str, str]) -> None:
        """Give *dimensions* to the request, and to the rows inside that follow."""
        known = self._shared
        fresh = {name: value for name, value in dimensions.items() if value and known.get(name) != value}
        if fresh:
            known.update(fresh)
            if self._operation is not NONE:
                self._operation.share(fresh)

    def resume(self) -> None:
        """Make this the current operation, until `pause`."""
        if self._outlet is not None:
            self._entered.append(enter(self._operation))

    def pause(self) -> None:
        """Give the place back to the operation before."""
        if self._entered:
            leave(self._entered.pop(), self._caller)

    def end(self, error: BaseException | None = None) -> None:
        """
        Stop the clock and send the request, and *error* if that is what ended it. Never raises.

        What comes after the end changes nothing any more, but an *error* still becomes a row.
        """
        duration = (time.perf_counter_ns() - self._start) // 100
        self._operation.is_served = False  # what it began and what outlives it is for itself
        if self._outlet is None:
            return
        if error is not None and _is_cancelled(error):  # whoever called has gone, or the program ends
            self.result_code, error = self.result_code or "499", None
        try:
            if error is not None:
                self._send_exception(self._outlet, error)
        except Exception as ours:  # noqa: BLE001 - telemetry must not change the answer
            self._outlet.failed(ours)
        try:
            if not self._is_over:
                self._is_over = True
                self._send(self._outlet, duration, error)
        except Exception as ours:  # noqa: BLE001 - see above
            self._outlet.failed(ours)

    def answer(self, value: Any) -> None:
        """Take the result code from what a scoring function returned: 200, unless it is a response that says more."""
        self.result_code = self.result_code or status_of(value)

    def _send(self, outlet: Outlet, duration: int, error: BaseException | None) -> None:
        code, name = as_text(self.result_code or "200"), as_text(self.name)
        failed = code.isascii() and code.isdigit() and len(code) < 10 and int(code) >= 400
        if error is not None and not failed:  # whatever was planned to be answered, it was not
            code, failed = "500", True
        own = {as_text(name): as_text(value) for name, value in self.custom_dimensions.items()}
        dimensions = {**self._operation.dimensions, **self._shared, **own}
        measurements = measured(self.custom_measurements.items(), dimensions) if self.custom_measurements else {}
        outlet.send(
            Request(
                timestamp=self._timestamp,
                id=self.id,
                operation_id=self.operation_id,
                operation_name=name[:_NAME],
                operation_parent_id=self.parent_id,
                name=name,
                url=as_text(self.url),
                source=as_text(self.source),
                result_code=code,
                success=not failed if self.success is None or error is not None else bool(self.success),
                duration=duration,
                custom_dimensions=dimensions,
                custom_measurements=measurements,
            )
        )

    def _send_exception(self, outlet: Outlet, error: BaseException) -> None:
        self.resume()  # for the item to find it
        try:
            send_once(outlet, error, self.operation_id)
        finally:
            self.pause()


def _is_cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")  # not imported for those who do without
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def is_timed(run: Callable[..., Any]) -> bool:
    """Whether *run* is a request already each time it is called."""
    return bool(getattr(run, _TIMED, False))


def timed(run: Run, outlet: Callable[[], Outlet | None], name: str | None = None) -> Run:
    """*run* as a request each time it is called; what returns a coroutine or a generator still does."""
    import inspect

    if is_timed(run):  # wrapping it again would count each call twice
        return run

    title = str(name or getattr(run, "__name__", "run"))

    def begun() -> RequestContext | None:
        """A request; None inside a call that a server answers, which is one already."""
        return None if current().is_served else RequestContext(outlet(), title)

    if inspect.iscoroutinefunction(run):

        @functools.wraps(run)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = begun()
            if context is None:
                return await run(*args, **kwargs)
            with context:
                value = await run(*args, **kwargs)
                context.answer(value)
                return value

    elif inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        steps: Callable[..., Any] = _steps if inspect.isgeneratorfunction(run) else _async_steps

        @functools.wraps(run)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = begun()
            return run(*args, **kwargs) if context is None else steps(run(*args, **kwargs), context)

    else:

        @functools.wraps(run)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = begun()
            if context is None:
                return run(*args, **kwargs)
            with context:
                value = run(*args, **kwargs)
                context.answer(value)
                return value

    setattr(wrapper, _TIMED, True)
    return wrapper  # type: ignore[return-value]


def _steps(pieces: Generator[Any, Any, Any], context: RequestContext) -> Generator[Any, Any, Any]:
    """The pieces of a streaming answer; the operation is current while one is made, and not while it is consumed."""
    error: BaseException | None = None
    step: Callable[[Any], Any] = pieces.send
    sent: Any = None
    context.begin()
    try:
        while True:
            context.resume()
            try:
                piece = step(sent)
            except StopIteration as end:
                return end.value
            finally:
                context.pause()
            try:
                step, sent = pieces.send, (yield piece)
            except GeneratorExit:  # whoever consumed it has enough, which is no failure
                context.resume()
                try:
                    pieces.close()
                finally:
                    context.pause()
                raise
            except BaseException as thrown:  # noqa: BLE001 - it is for the script's generator
                step, sent = pieces.throw, thrown
    except GeneratorExit:
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        context.end(error)


async def _async_steps(pieces: AsyncGenerator[Any, Any], context: RequestContext) -> AsyncGenerator[Any, Any]:
    """The same for an asynchronous one."""
    error: BaseException | None = None
    step: Callable[[Any], Any] = pieces.asend
    sent: Any = None
    context.begin()
    try:
        while True:
            context.resume()
            try:
                piece = await step(sent)
            except StopAsyncIteration:
                return
            finally:
                context.pause()
            try:
                step, sent = pieces.asend, (yield piece)
            except GeneratorExit:
                context.resume()
                try:
                    await pieces.aclose()
                finally:
                    context.pause()
                raise
            except BaseException as thrown:  # noqa: BLE001 - see above
                step, sent = pieces.athrow, thrown
    except GeneratorExit:
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        context.end(error)


def status_of(value: Any) -> str:
    """
    The result code of what a scoring function returned.

    A response object has a `status_code`; Flask also takes ``(body, status)``
    and ``(body, status, headers)``, the status a number or a line.

    >>> status_of([1.5]), status_of(("gone", 404)), status_of(("no", "503 Service Unavailable", {}))
    ('200', '404', '503')
    """
    try:
        if isinstance(value, tuple):
            return _code(value[1]) if len(value) in (2, 3) else "200"
        return _code(getattr(value, "status_code", None))
    except Exception:  # noqa: BLE001 - somebody else's response object
        return "200"


def _code(status: Any) -> str:
    if isinstance(status, str):
        status = status.split(" ", 1)[0]
        status = int(status) if status.isascii() and status.isdigit() else None
    if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
        return str(int(status))
    return "200"
