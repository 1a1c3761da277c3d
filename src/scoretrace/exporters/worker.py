"""
The threads of this process that deliver, when it is this process's turn.

They start with the first line that is written, in a forked child too, and end
with the process: bounded in time, because what was not sent is on disk and goes
out with the next start.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from scoretrace import forks
from scoretrace.exporters.drain import STANDBY_SECONDS, Drain
from scoretrace.exporters.items import GIVEN_UP
from scoretrace.exporters.segments import Segment

EXIT_SECONDS = 5.0
TIMER_SECONDS = 1.0  # between looks at the journal where nothing wakes the thread
CHAINED_SECONDS = 1.0  # for a SIGTERM that the script handles: its handler should not wait long
OTHERS_SECONDS = 1.0  # at the end, for another process that delivers what this one wrote
_POLL_SECONDS = 0.05
_ends_at = 0.0  # of the time.monotonic() clock, once the process ends
THREADS = "scoretrace-"  # how the names of our threads begin


class _Bell:
    """An Event that a signal handler may set while its own thread is setting it."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._rung = False

    def ring(self) -> None:
        with self._condition:
            self._rung = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or rang since the last time."""
        with self._condition:
            self._condition.wait_for(lambda: self._rung, seconds)
            self._rung = False


class _Turn:
    """A drain with the thread that runs it."""

    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self.wake = _Bell()
        self.hurry = _Bell()
        self.thread: threading.Thread | None = None

    def now(self) -> None:
        """Have the drain look everywhere, and at once."""
        self.drain.hurry()
        self.drain.look_everywhere()
        self.hurry.ring()
        self.wake.ring()


class Worker:
    """Runs *drains*, each in a thread of its own, as long as this process lives; *first* is done before it ends."""

    def __init__(self, drains: list[Drain], *, first: Callable[[], object] = lambda: None) -> None:
        self.drains = drains
        self._first = first
        self._begin()
        forks.tell(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._turns = [_Turn(drain) for drain in self.drains]
        self._started = False
        self._stopping = False

    def after_fork(self) -> None:
        """The threads are the parent's; those of this process start when it writes."""
        for drain in self.drains:
            drain.after_fork()
        self._begin()

    def start(self) -> None:
        """Start delivering, if that has not begun. Never raises."""
        with self._lock:
            if self._started or self._stopping or not self.drains:
                return
            self._started = True
            self._hook()
            for turn in self._turns:
                name = f"{THREADS}{turn.drain.label}"
                thread = threading.Thread(target=self._run, args=(turn,), name=name, daemon=True)
                turn.thread = thread  # before it runs: a signal handler may come in between
                try:
                    thread.start()
                except RuntimeError:  # the interpreter ends, and takes no new threads
                    turn.thread = None

    def wake(self) -> None:
        """Something was written. Never raises, and never waits."""
        if not self._started:
            self.start()
        for turn in self._turns:
            turn.wake.ring()

    def _run(self, turn: _Turn) -> None:
        drain = turn.drain
        _hush()
        try:
            while not self._stopping:
                left = self._take_turn(drain)
                if self._stopping:
                    break
                # What failed is not repeated, and what rests does not go on, because something was written meanwhile.
                (turn.hurry if drain.failures or drain.rests else turn.wake).wait(left)
        finally:
            drain.release()

    def _take_turn(self, drain: Drain) -> float:
        """Drain if no other process does; returns after how many seconds to look again."""
        with suppress(OSError), _uninstrumented():  # a home that cannot be written; the journal says so
            if drain.lead():
                left = drain.drain()
                return TIMER_SECONDS if left is None else left
        return STANDBY_SECONDS

    def flush(self, timeout: float) -> bool:
        """
        Deliver what is on disk now; says whether all of it is settled.

        *timeout* is in seconds. Where another process delivers, it is waited for.
        """
        if not self.drains:
            return True
        end = time.monotonic() + timeout
        self.start()
        try:
            wanted = [(turn, turn.drain.waiting()) for turn in self._turns]
            for turn, _ in wanted:
                turn.now()
            while not all(turn.drain.is_settled(found) and not turn.drain.holds for turn, found in wanted):
                left = end - time.monotonic()
                if left <= 0 or self._stopping:  # nobody is there any more to deliver it
                    return False
                self._wait(wanted[0][0], left)
        except OSError:  # a home that cannot be looked at now
            return False
        return True

    def given_up(self) -> dict[str, int]:
        """How many items will never be sent, by reason."""
        total: Counter[str] = Counter()
        for drain in self.drains:
            total.update(drain.counts)
        return {reason: total[reason] for reason in GIVEN_UP if total[reason]}

    def stats(self) -> dict[str, Any]:
        """Items that were ``delivered`` and ``given_up`` (by reason), and bytes: ``copied``, and still ``waiting``."""
        total: Counter[str] = Counter()
        for drain in self.drains:
            total.update(drain.counts)
        waiting = 0
        with suppress(OSError):
            waiting = sum(drain.waiting_bytes() for drain in self.drains)
        return {
            "delivered": total["delivered"],
            "given_up": self.given_up(),
            "copied": total["bytes"],
            "waiting": waiting,
        }

    def stop(self, timeout: float = EXIT_SECONDS) -> bool:
        """Deliver what waits, for *timeout* seconds at most, and end; says whether nothing waits any more."""
        with self._lock:
            if self._stopping or not self._started:
                self._unhook()
                return True
        with suppress(Exception):
            self._first()
        end = time.monotonic() + timeout
        for drain in self.drains:
            drain.deadline = end
        settled = False
        with suppress(OSError):  # a home that cannot be looked at now
            settled = self._last_round(end)
        if not settled:
            for drain in self.drains:
                drain.say_what_waits()
        self._stopping = True
        for turn in self._turns:
            turn.now()
        for turn in self._turns:
            if turn.thread is None:
                turn.drain.release()
            elif turn.thread is not threading.current_thread():
                turn.thread.join(max(end - time.monotonic(), 0.0))
        self._unhook()
        return settled

    def _last_round(self, end: float) -> bool:
        """Drain until *end*, or sooner where the other side does not take anything."""
        wanted = [(turn, turn.drain.waiting(), Counter(turn.drain.counts)) for turn in self._turns]
        for turn, _, _ in wanted:
            turn.now()
            if turn.thread is None:
                self._take_turn(turn.drain)
        others = min(end, time.monotonic() + OTHERS_SECONDS)
        while open_turns := [
            turn for turn, found, before in wanted if self._is_worth_waiting(turn, found, before, end, others)
        ]:
            for turn in open_turns:
                turn.wake.ring()  # it may be its turn now
            self._wait(open_turns[0], end - time.monotonic())
        return all(turn.drain.is_settled(found) and not turn.drain.holds for turn, found, _ in wanted)

    def _is_worth_waiting(
        self, turn: _Turn, found: list[Segment], before: Counter[str], end: float, others: float
    ) -> bool:
        drain = turn.drain
        until = end if drain.leads else others
        if time.monotonic() >= until or turn.thread is None or not turn.thread.is_alive():
            return False
        if drain.counts["failures"] > before["failures"] or drain.pause > end - time.monotonic():
            return False
        if not drain.is_settled(found):
            return True
        return drain.holds and drain.counts["storage_failures"] == before["storage_failures"]

    def _wait(self, turn: _Turn, left: float) -> None:
        with turn.drain.progress:
            turn.drain.progress.wait(min(max(left, 0.0), _POLL_SECONDS))

    # The ends of a process.

    def _at_exit(self) -> None:
        """Deliver what waits, in what is left of the time that all workers of this process have together."""
        global _ends_at  # noqa: PLW0603 - a process ends once
        now = time.monotonic()
        _ends_at = _ends_at or now + EXIT_SECONDS
        self.stop(max(_ends_at - now, 0.0))

    def _hook(self) -> None:
        atexit.register(self._at_exit)
        self._hook_sigterm()
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self._at_exit, exitpriority=100)  # such a child ends by os._exit, after its finalizers

    def _unhook(self) -> None:
        atexit.unregister(self._at_exit)
        if self._handler is not None and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) is self._handler:
                signal.signal(signal.SIGTERM, self._before)
            self._handler = None

    _handler: Any = None
    _before: Any = None

    def _hook_sigterm(self) -> None:
        """
        Deliver before SIGTERM ends the process.

        Where the script handles the signal its handler is called after that, and
        what it decides holds. A script that ignores it goes on ignoring it.
        """
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)
        if before in (signal.SIG_IGN, None) or before is self._handler:
            return

        def handler(number: int, frame: FrameType | None) -> None:
            if callable(before):
                with suppress(Exception):
                    self._first()
                self.flush(CHAINED_SECONDS)
                before(number, frame)
                return
            self.stop()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        self._handler, self._before = handler, before
        signal.signal(signal.SIGTERM, handler)


class _Hush(logging.Filter):
    """What HTTP clients say of our own requests is not the script's, and is not for its console."""

    def filter(self, record: logging.LogRecord) -> bool:
        # A login that cannot be had is said by us, in one line.
        is_worth_it = record.levelno >= logging.WARNING and not record.name.startswith("azure.identity")
        return is_worth_it or not (record.threadName or "").startswith(THREADS)


_HUSH = _Hush()
_TALKATIVE = (
    "azure.core.pipeline.policies.http_logging_policy",
    "azure.core.pipeline.policies._universal",
    "azure.identity._internal.decorators",
    "azure.identity._credentials.chained",
    "azure.identity._credentials.environment",
    "azure.identity._credentials.managed_identity",
    "urllib3.connectionpool",
    "opencensus.ext.azure.common.transport",
)


def _hush() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_HUSH)  # once, however often it is called


@contextmanager
def _uninstrumented() -> Iterator[None]:
    """
    Have OpenTelemetry's instrumentations leave our own requests alone.

    Each would be a span, which is a row, which is delivered by a request.
    """
    context: Any = sys.modules.get("opentelemetry.context")
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if key is None:
        yield
        return
    token = context.attach(context.set_value(key, True))
    try:
        yield
    finally:
        context.detach(token)
