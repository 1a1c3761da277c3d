"""Which function reads the lines of which format; one more format is one more row."""

from __future__ import annotations

from collections.abc import Callable

from scoretrace import layouts
from scoretrace.formats import continuous_export, diagnostics
from scoretrace.item import Item

# A line, and the name and key of the application that its path says, to the items in it. Raises FormatError.
Decode = Callable[[bytes, str, str], tuple[Item, ...]]

DECODERS: dict[str, Decode] = {
    layouts.CONTINUOUS: continuous_export.decode,
    layouts.DIAGNOSTIC: lambda line, _app_name, _i_key: diagnostics.decode(line),
}
NATIVE = frozenset({layouts.CONTINUOUS, layouts.DIAGNOSTIC})  # what `tables` has in SQL; others are translated first


def is_native(layout: str) -> bool:
    """Whether the files of *layout* are read as tables as they are."""
    return layouts.decoder(layout) in NATIVE
