"""
What web servers log of each call: rows that say what the request says already.

As long as nothing of ours answers calls, they are all there is, and are kept.
"""

from __future__ import annotations

import logging

from scoretrace.capture.thrown import is_recorded

ACCESS = ("gunicorn.access", "hypercorn.access", "uvicorn.access")
ERRORS = ("gunicorn.error", "hypercorn.error", "uvicorn.error")
LOGGERS = (*ACCESS, *ERRORS)

_answers = False


def have_requests() -> None:
    """Calls are requests from now on: middleware, or the scoring server, sees to it."""
    global _answers  # noqa: PLW0603 - once a process
    _answers = True


def is_idle(record: logging.LogRecord) -> bool:
    """Whether *record* is an access line that nobody needs, as all of its logger are."""
    return _answers and record.name in ACCESS


def takes(record: logging.LogRecord) -> bool:
    """Whether *record*, of one of `LOGGERS`, needs no row: an access line, or an exception that is one already."""
    if is_idle(record):
        return True
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return error is not None and is_recorded(error)
