"""
What a script prints, as items: one for each `print` call, one for each line written to the stream.

The real print comes first; nothing here can keep it from happening. What is
tapped is `builtins.print` and the `write` and `flush` of the stream object
itself, so `sys.stdout` stays the object it was. A stream that comes to stand in
its place later is not tapped, but the prints that go to it are.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import threading
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

from scoretrace import forks

_DEEPEST = 3  # sinks within sinks
_MOST_PIECES = 10_000  # of an unfinished line; one that never ends must not grow without end

Sink = Callable[[str, str], None]
"""Takes the stream's name, ``STDOUT`` or ``STDERR``, and a text without its last newline; never raises."""


class _Pending:
    """The unfinished lines of all threads: a thread that ends in the middle of one still has it recorded."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.lines: list[tuple[threading.Thread, dict[str, list[str]]]] = []

    def after_fork(self) -> None:
        """What the parent had not finished is the parent's."""
        self._lock = threading.RLock()
        for _, line in self.lines:
            line.clear()

    def add(self) -> dict[str, list[str]]:
        """A place for the calling thread; those of threads that ended with nothing left are given up."""
        line: dict[str, list[str]] = {}
        with self._lock:
            self.lines = [(thread, other) for thread, other in self.lines if any(other.values()) or thread.is_alive()]
            self.lines.append((threading.current_thread(), line))
        return line


class _State(threading.local):
    """Per thread: whether a print or a sink is under way, and what each stream was given of an unfinished line."""

    printing = False
    depth = 0

    def __init__(self) -> None:
        self.pending = _pending.add()


_pending = _Pending()
_state = _State()
_sinks: dict[str, list[Sink]] = {"STDOUT": [], "STDERR": []}
_undo: dict[str, Callable[[], None]] = {}


def tap(sink: Sink, *, stderr: bool = False) -> None:
    """
    Call *sink* for what is printed, until `untap`. The same sink is called once, however often it is given.

    *stderr* adds what is written to `sys.stderr`.
    """
    forks.tell(_pending)
    for name in ("STDOUT", "STDERR") if stderr else ("STDOUT",):
        if sink not in _sinks[name]:
            _sinks[name].append(sink)
        if name not in _undo:
            _undo[name] = _tap_stream(name)
    retap()


def retap() -> None:
    """Be the first that a print meets again, where somebody replaced `print` since; nothing without a sink."""
    if any(_sinks.values()) and not _is_first():
        if "print" in _undo:
            _undo["print"]()
        _undo["print"] = _tap_print()


def _is_first() -> bool:
    return isinstance(builtins.print, _Print) and not builtins.print.is_idle


def passed_on(text: str) -> None:
    """Take a print from a hook of somebody else's, unless it came to that hook through our tap, which has it."""
    if not _state.printing:
        _hand_over("STDOUT", text)


def is_tapped() -> bool:
    """Whether a print comes to our tap first."""
    return _is_first() and any(_sinks.values())


def holder() -> str:
    """The module of the function that stands behind `print` here, past our own tap."""
    real: Any = builtins.print
    while isinstance(real, _Print):
        real = real.__wrapped__
    found = getattr(real, "__globals__", {}).get("__name__") or getattr(real, "__module__", None)
    return str(found or type(real).__module__)


def untap(sink: Sink) -> None:
    """Call *sink* no more, and put everything back when it was the last."""
    finish()
    for sinks in _sinks.values():
        if sink in sinks:
            sinks.remove(sink)
    if not any(_sinks.values()):
        while _undo:
            _undo.popitem()[1]()


def finish() -> None:
    """Hand over the unfinished lines of all threads, as at the end of a process."""
    for _, pending in list(_pending.lines):
        for name in list(pending):
            _emit(name, pending)


def _emit(name: str, pending: dict[str, list[str]] | None = None) -> None:
    """Hand over an unfinished line as it is."""
    pieces = (_state.pending if pending is None else pending).pop(name, None)
    if pieces:
        _hand_over(name, "".join(pieces))


def _hand_over(name: str, text: str) -> None:
    # A signal handler may print in the middle of a sink, and is heard; a sink that prints itself soon is not.
    _state.depth += 1
    try:
        for sink in tuple(_sinks[name]):
            sink(name, text)
    finally:
        _state.depth -= 1


class _Print:
    """
    Stands in the place of `print`.

    An object rather than a function, because a function that is put on a class
    becomes a method there, and the real print does not.
    """

    def __init__(self, real: Callable[..., None]) -> None:
        self.is_idle = False  # another of ours was put in front of whoever replaced this one
        self.__wrapped__ = real
        self.__doc__ = real.__doc__

    def __call__(
        self, *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        real = self.__wrapped__
        name = "STDERR" if file is not None and file is sys.stderr else "STDOUT"
        tapped = (file is None or file is sys.stdout or name == "STDERR") and _sinks[name] and _state.depth < _DEEPEST
        if (
            self.is_idle
            or not tapped
            or not (sep is None or isinstance(sep, str))
            or not (end is None or isinstance(end, str))
        ):
            real(*values, sep=sep, end=end, file=file, flush=flush)
            return
        between = " " if sep is None else sep
        texts: list[str] = []
        try:
            _into(texts, values)
        except BaseException:  # what the real print does then: it has printed what came before
            if texts and isinstance(real, BuiltinFunctionType):
                real(*texts, sep=between, end=between, file=file)
            raise
        text = between.join(texts)
        printing = _state.printing  # a signal handler may print while a print is under way
        _state.printing = True  # so that the stream's own tap lets it through
        try:
            real(text, end=end, file=file, flush=flush)
        finally:
            _state.printing = printing
            _emit(name)  # what was written before it without a newline
            _hand_over(name, text if end in ("\n", "", None) else f"{text}{end}".removesuffix("\n"))


def _into(texts: list[str], values: tuple[Any, ...]) -> None:
    """Make texts of *values*: the one place here where code of the script runs."""
    for value in values:
        texts.append(str(value))  # noqa: PERF401 - those before one that fails are wanted too


def _tap_print() -> Callable[[], None]:
    real = builtins.print
    tap_of_print = _Print(real)
    builtins.print = tap_of_print

    def undo() -> None:
        tap_of_print.is_idle = True
        if builtins.print is tap_of_print:  # else somebody wrapped it after us
            builtins.print = real

    return undo


def _tap_stream(name: str) -> Callable[[], None]:
    stream: Any = getattr(sys, name.lower())
    if stream is None:  # pythonw has none
        return lambda: None
    real_write, real_flush = stream.write, stream.flush

    def write(text: Any) -> Any:
        try:
            return real_write(text)
        finally:
            if not _state.printing and _state.depth < _DEEPEST and isinstance(text, str) and not _is_logging():
                lines, newline, rest = text.rpartition("\n")
                pending = _state.pending.setdefault(name, [])
                if newline:
                    lines = "".join((*pending, lines))
                    pending.clear()
                    if lines:
                        _hand_over(name, lines)
                if rest:
                    pending.append(rest)
                    if len(pending) > _MOST_PIECES:
                        _emit(name)

    def flush() -> Any:
        try:
            return real_flush()
        finally:
            if not _state.printing and _state.depth < _DEEPEST:
                _emit(name)

    try:
        stream.write, stream.flush = write, flush
    except AttributeError:  # a stream of somebody's own with slots: its prints are seen, its writes are not
        return lambda: None

    def undo() -> None:
        with contextlib.suppress(AttributeError):
            if stream.__dict__.get("write") is write:
                del stream.write
            if stream.__dict__.get("flush") is flush:
                del stream.flush

    return undo


def _is_logging() -> bool:
    """Whether the stream is written by a handler: the record is a row already."""
    try:
        return bool(sys._getframe(2).f_globals.get("__name__") == "logging")  # noqa: SLF001 - the way to a caller
    except ValueError:  # the interpreter itself writes, as it does when it shows an uncaught exception
        return False
