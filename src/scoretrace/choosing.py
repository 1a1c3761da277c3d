"""What becomes of an item before the guard: processors change or drop it, sampling leaves it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import local

import msgspec

from scoretrace.capture.values import as_text, measured
from scoretrace.item import Item
from scoretrace.sampling import sample
from scoretrace.setting_values import Processor

Count = Callable[[str, str], None]
"""Takes what to count, and what to say the first time."""


class Chooser:
    """
    Calls *processors* one after the other, and samples by *counts* (how many items of a type one stands for).

    *count* hears of items that were ``dropped`` or ``sampled_out``, and of ``processor_errors``.
    """

    def __init__(self, processors: tuple[Processor, ...], counts: Mapping[str, int], count: Count) -> None:
        self._processors = processors
        self._sampled = dict(counts)
        self._count = count
        self._state = local()

    def leaves(self, kind: str) -> bool:
        """Whether items of that kind stay as they are."""
        return not self._processors and kind not in self._sampled

    def __call__(self, item: Item) -> Item | None:
        """*item* as the processors and sampling leave it; None where they leave it out."""
        chosen: Item | None = item
        if self._processors and not getattr(self._state, "busy", False):
            self._state.busy = True  # what a processor logs itself does not go through it again
            try:
                chosen = self._processed(item)
            finally:
                self._state.busy = False
            if chosen is None:
                self._count("dropped", "")
                return None
        if self._sampled:
            chosen = sample(item if chosen is None else chosen, self._sampled)
            if chosen is None:
                self._count("sampled_out", "")
        return chosen

    def _processed(self, item: Item) -> Item | None:
        for processor in self._processors:
            changed = self._with(processor, item)
            if changed is None:
                return None
            item = changed
        if item.custom_measurements:  # NaN would make a line that nobody reads
            dimensions = dict(item.custom_dimensions)
            measurements = measured(item.custom_measurements.items(), dimensions)
            item = msgspec.structs.replace(item, custom_dimensions=dimensions, custom_measurements=measurements)
        return item

    def _with(self, processor: Processor, item: Item) -> Item | None:
        try:
            # Its dictionaries are the processor's own: one that fails half way has changed nothing.
            own = {
                "custom_dimensions": dict(item.custom_dimensions),
                "custom_measurements": dict(item.custom_measurements),
            }
            changed = processor(msgspec.structs.replace(item, **own))
            if changed is None or isinstance(changed, Item):
                return changed
            reason = f"it returned {type(changed).__name__}, which is no item"
        except Exception as error:  # noqa: BLE001 - somebody else's code must not cost a row
            reason = f"{type(error).__name__}: {as_text(error)}"
        name = getattr(processor, "__qualname__", type(processor).__qualname__)
        self._count("processor_errors", f"a processor failed, and the item goes on without it: {name}: {reason}")
        return item
