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
from typing import Any

from scoretrace import forks

Sink = Callable[[str, str], None]
"""Takes the stream's name, ``STDOUT`` or ``STDERR``, and a text without its last newline; never raises."""


class _Pending:
    """The unfinished lines of all threads: a thread that ends in the middle of one still has it recorded."""

    def __init__(self) -> None:
        self.lines: list[tuple[threading.Thread, dict[str, str]]] = []
        forks.tell(self)

    def after_fork(self) -> None:
        """What the parent had not finished is the parent's."""
        for _, line in self.lines:
            line.clear()

    def add(self) -> dict[str, str]:
        """A place for the calling thread; those of threads that ended with nothing left are given up."""
        self.lines = [(thread, line) for thread, line in self.lines if line or thread.is_alive()]
        line: dict[str, str] = {}
        self.lines.append((threading.current_thread(), line))
        return line


class _State(threading.local):
    """Per thread: whether a print is under way, and what each stream was given of an unfinished line."""

    busy = False

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
    for name in ("STDOUT", "STDERR") if stderr else ("STDOUT",):
        if sink not in _sinks[name]:
            _sinks[name].append(sink)
        if name not in _undo:
            _undo[name] = _tap_stream(name)
    if "print" not in _undo:
        _undo["print"] = _tap_print()


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
    for _, line in list(_pending.lines):
        for name in list(line):
            _emit(name, line.pop(name, ""))


def _emit(name: str, text: str) -> None:
    if _state.busy or not text:
        return
    _hand_over(name, text)


def _hand_over(name: str, text: str) -> None:
    _state.busy = True  # a sink that prints, or that warns on stderr, must not come back here
    try:
        for sink in tuple(_sinks[name]):
            sink(name, text)
    finally:
        _state.busy = False


def _tap_print() -> Callable[[], None]:
    real = builtins.print

    def print(  # noqa: A001 - tracebacks and help() show it as what it is
        *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        name = "STDERR" if file is not None and file is sys.stderr else "STDOUT"
        tapped = (file is None or file is sys.stdout or name == "STDERR") and _sinks[name] and not _state.busy
        if not tapped or not (sep is None or isinstance(sep, str)) or not (end is None or isinstance(end, str)):
            real(*values, sep=sep, end=end, file=file, flush=flush)
            return
        try:
            text = (" " if sep is None else sep).join([str(value) for value in values])
        except Exception:  # noqa: BLE001 - the real print raises it, as it would without us
            real(*values, sep=sep, end=end, file=file, flush=flush)
            return
        _state.busy = True  # so that the stream's own tap lets it through
        try:
            real(text, end=end, file=file, flush=flush)
        finally:
            _state.busy = False
            _hand_over(name, text if end in ("\n", "", None) else f"{text}{end}".removesuffix("\n"))

    print.__doc__ = real.__doc__
    print.__wrapped__ = real  # type: ignore[attr-defined]
    builtins.print = print

    def undo() -> None:
        if builtins.print is print:  # else somebody wrapped it after us, and an empty list of sinks makes us idle
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
            if not _state.busy and isinstance(text, str) and not _is_logging(sys._getframe(1)):  # noqa: SLF001 - the way to a caller
                whole = _state.pending.pop(name, "") + text
                lines, newline, rest = whole.rpartition("\n")
                if rest:
                    _state.pending[name] = rest
                if newline and lines:
                    _hand_over(name, lines)

    def flush() -> Any:
        try:
            return real_flush()
        finally:
            if not _state.busy:
                _emit(name, _state.pending.pop(name, ""))

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


def _is_logging(frame: Any) -> bool:
    # A record that a StreamHandler shows on the stream is a row already.
    return bool(frame.f_globals.get("__name__") == "logging")
