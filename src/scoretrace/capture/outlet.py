"""What capture needs of the steps behind it: the seam at which they are joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from scoretrace.item import Item, Trace


class LineWriter(Protocol):
    """What `journal.Writer` lets the fast lane do in its place."""

    segment: Any
    limit: int

    def append(self, line: bytes, now: float) -> None:
        """Write *line*; never raises."""

    def refused(self, line: bytes, error: OSError | None = None) -> None:
        """Keep a *line* that the disk did not take, or took a part of where there is no *error*; never raises."""


class Lane(NamedTuple):
    """What the fast lane writes with: *base* carries what all lines share, its `item_id` the prefix of the ids."""

    base: Trace
    next_id: Callable[[], int]
    writer: LineWriter


class Outlet(Protocol):
    """
    Where items go.

    *tapped_by* is the handler that gets every record of the process, if there
    is one. *is_plain* says that nothing looks at items on their way, so that a
    line may be written without one.
    """

    tapped_by: Any
    is_plain: bool

    def is_on(self) -> bool:
        """Whether anything is to be recorded now; it may change while the process runs. Never raises."""

    def send(self, item: Item) -> None:
        """Take *item*; never raises."""

    def lane(self) -> Lane:
        """The parts of the fast lane."""

    def failed(self, error: Exception) -> None:
        """Count an item that could not be made; never raises."""
