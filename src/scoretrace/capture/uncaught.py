"""Exceptions that nobody catches: what ends a process or a thread is what one wants to read about first."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from scoretrace.capture.thrown import is_recorded


def install(record: Callable[[BaseException], None]) -> Callable[[], None]:
    """
    Call *record* (which never raises) with each uncaught exception, and then whoever was called before.

    Control-C and `sys.exit` are not among them. Returns what undoes it.
    """
    real, real_of_threads = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> Any:
        if not isinstance(error, KeyboardInterrupt) and not is_recorded(error):
            record(error)
        return real(kind, error, traceback)

    def hook_of_threads(arguments: Any) -> Any:
        error = arguments.exc_value
        if error is not None and not isinstance(error, SystemExit) and not is_recorded(error):
            record(error)
        return real_of_threads(arguments)

    sys.excepthook, threading.excepthook = hook, hook_of_threads

    def undo() -> None:
        # Where somebody took our place since, they still call us; recording goes on then, which loses nothing.
        if sys.excepthook is hook:
            sys.excepthook = real
        if threading.excepthook is hook_of_threads:
            threading.excepthook = real_of_threads

    return undo
