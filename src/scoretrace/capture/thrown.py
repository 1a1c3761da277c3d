"""An exception and all that led to it, one entry per link of the chain."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scoretrace.capture.values import clean, printed
from scoretrace.item import ExceptionItem, Frame, Thrown, summarize

if TYPE_CHECKING:
    from types import TracebackType

    from scoretrace.capture.outlet import Outlet

_WRAPPERS = frozenset(
    f"scoretrace.{name}" for name in ("capture.requests", "capture.scoring_server", "capture.web", "scoring")
)
_RECORDED = "__scoretrace_recorded__"  # set on an exception that is a row already, to the id of its operation


def is_recorded(error: BaseException) -> bool:
    """Whether *error* is a row already."""
    return hasattr(error, _RECORDED)


def mark_recorded(error: BaseException, operation_id: str) -> bool:
    """Note that *error* is a row of that operation now; says whether it was none before."""
    if getattr(error, _RECORDED, None) == operation_id:
        return False
    with suppress(AttributeError):  # one with slots
        setattr(error, _RECORDED, operation_id)
    return True


def send_once(outlet: Outlet, error: BaseException, operation_id: str, *, severity_level: int = 3) -> None:
    """Send *error*, unless it is a row of that operation already: it may pass by more than one place on its way."""
    if mark_recorded(error, operation_id):
        outlet.send(exception_item(error, severity_level=severity_level))


def chain(error: BaseException, *, is_passing: bool = False) -> tuple[Thrown, ...]:
    """
    The entries of *error*, outermost first: what it was raised from, or the members of a group, follow it.

    Each entry names the one it led to in `outer_id`, and its parsed stack
    starts where it was raised. Where *error* is still passing by, its traceback
    ends here, and the callers that it will come to are added.
    """
    found: list[Thrown] = []
    seen: set[int] = set()
    todo: list[tuple[BaseException, int]] = [(error, 0)]
    while todo:
        current, outer = todo.pop(0)
        if id(current) in seen:  # a chain may be made circular
            continue
        seen.add(id(current))
        number = len(found) + 1
        found.append(
            Thrown(
                id=number,
                outer_id=outer,
                type_name=_type_name(type(current)),
                message=_message(current),
                parsed_stack=_frames(current.__traceback__, is_passing=is_passing and current is error),
            )
        )
        todo += [(inner, number) for inner in _causes(current)]
    return tuple(found)


def exception_item(
    error: BaseException, *, severity_level: int = 3, is_passing: bool = False, **fields: Any
) -> ExceptionItem:
    """The row of *error* with its chain; *fields* are further ones of the item."""
    details = chain(error, is_passing=is_passing)
    return ExceptionItem(severity_level=severity_level, details=details, **summarize(details), **fields)  # type: ignore[arg-type]


def _causes(error: BaseException) -> list[BaseException]:
    try:
        members = getattr(error, "exceptions", None)
    except Exception:  # noqa: BLE001 - a property of somebody's own
        members = None
    causes = [member for member in members if isinstance(member, BaseException)] if isinstance(members, tuple) else []
    if error.__cause__ is not None:
        causes.append(error.__cause__)
    elif error.__context__ is not None and not error.__suppress_context__:
        causes.append(error.__context__)
    return causes


def _type_name(kind: type[BaseException]) -> str:
    if kind.__module__ in {"builtins", "__main__"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    notes = getattr(error, "__notes__", None)
    return "\n".join(map(printed, [error, *notes] if isinstance(notes, list) else [error]))


def _callers(traceback: TracebackType | None) -> list[tuple[Any, Any, int]]:
    """Who called the frame at which *traceback* ends now, outermost first, up to the one that we put around it."""
    places: list[tuple[Any, Any, int]] = []
    frame = traceback.tb_frame.f_back if traceback is not None else None
    known = set()
    while traceback is not None:
        known.add(traceback.tb_frame)
        traceback = traceback.tb_next
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module in _WRAPPERS:
            break
        if frame not in known and not _is_between(module):
            places.append((frame.f_code, module, frame.f_lineno))
        frame = frame.f_back
    places.reverse()
    return places


def _is_between(module: Any) -> bool:
    """Whether a frame is of whoever looks at the exception while it passes by."""
    return str(module).startswith(("opentelemetry.", "contextlib"))


def _frames(traceback: TracebackType | None, *, is_passing: bool = False) -> tuple[Frame, ...]:
    places = _callers(traceback) if is_passing else []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__")
        # The frame that `request` puts around a function is not the script's.
        if module not in _WRAPPERS and not (is_passing and _is_between(module)):
            places.append((code, module, traceback.tb_lineno))
        traceback = traceback.tb_next
    places.reverse()  # level 0 is the innermost frame, as in the exports
    return tuple(
        Frame(
            level=level,
            method=clean(getattr(code, "co_qualname", code.co_name)),  # qualified from Python 3.11 on
            assembly=clean(module) if isinstance(module, str) else "",
            file_name=clean(code.co_filename),
            line=line or 0,
        )
        for level, (code, module, line) in enumerate(places)
    )
