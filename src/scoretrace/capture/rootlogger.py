"""
A handler on the root logger that the script does not notice.

Logging asks in many places whether the root logger has a handler, and at which
level it is. A handler of ours would answer for the script: `basicConfig` would
do nothing, `dictConfig` would throw it out, warnings would no longer reach
stderr, and a level lowered for telemetry would flood the console. Each of these
is mended here, and undone together.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from scoretrace.capture.handler import RecordHandler


class _Uncounted(list[logging.Handler]):
    """A list that does not count one of its members, which is all that basicConfig asks; records still find it."""

    def __init__(self, handlers: list[logging.Handler], hidden: logging.Handler) -> None:
        super().__init__(handlers)
        self.hidden = hidden

    def __len__(self) -> int:
        return super().__len__() - (self.hidden in self)


def install(handler: RecordHandler, level: int) -> Callable[[], None]:
    """Put *handler* on the root logger, which lets records of *level* and above through; returns what undoes it."""
    root = logging.getLogger()
    handler.stand_in()
    before, real_remove, real_config = root.level, root.removeHandler, logging.basicConfig
    raised: list[tuple[logging.Handler, int, int]] = []

    def keep_quiet(others: list[logging.Handler]) -> None:
        # They have been getting what the root logger's own level let through, and shall get no more than that.
        for other in others:
            if other is not handler and other.level < before and before > level:
                raised.append((other, other.level, before))
                other.setLevel(before)

    def remove_handler(hdlr: logging.Handler) -> None:
        if hdlr is not handler:  # dictConfig, fileConfig and basicConfig(force=True) remove all there are
            real_remove(hdlr)

    def basic_config(**kwargs: Any) -> None:
        others = list(root.handlers)
        root.handlers = _Uncounted(root.handlers, handler)  # it does nothing where there is a handler
        try:
            real_config(**kwargs)
        finally:
            root.handlers = list(root.handlers)
            if kwargs.get("level") is None:
                keep_quiet([other for other in root.handlers if other not in others])

    def undo() -> None:
        root.__dict__.pop("removeHandler", None)
        if logging.basicConfig is basic_config:
            logging.basicConfig = real_config
        root.removeHandler(handler)
        if before > level and root.level == level:
            root.setLevel(before)
        for other, own, given in raised:
            if other.level == given:
                other.setLevel(own)

    if before > level:
        keep_quiet(list(root.handlers))
        root.setLevel(level)
    if handler not in root.handlers:
        root.addHandler(handler)
    functools.update_wrapper(basic_config, real_config)
    logging.basicConfig = basic_config
    root.removeHandler = remove_handler  # type: ignore[method-assign]
    return undo
