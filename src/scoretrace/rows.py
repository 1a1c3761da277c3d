"""
Blobs as items: every row that can be read, in the order of its blob, at constant memory.

A chunk of lines goes through `formats.usual_lines`; if any of them is unusual,
each goes through its format alone. A line that is no row is set aside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from scoretrace import layouts, lines, ticks
from scoretrace.errors import FormatError
from scoretrace.formats import diagnostics, unknown, usual_lines
from scoretrace.item import Item
from scoretrace.layouts import Window
from scoretrace.quarantine import Quarantine
from scoretrace.read import Blob
from scoretrace.repeats import Counted, Dropped
from scoretrace.schema import BY_KIND

_MESSAGE = re.compile(rb'\s*\{\s*"records"\s*:')


class Reader:
    """
    Makes items of blobs, and keeps count.

    That is of *rows* given, of blobs whose last line is not whole yet
    (*unfinished*), of keys that no column has (*unknown*, by the first line of
    each blob), of rows without a time where some were asked for (*undated*), of
    what is set aside, and of what is *repeated*. Only items of
    *kinds* and *window* are given, and each but once with *drop_repeats*. With
    *each*, every line is looked at by itself, as strictly as DuckDB does.
    """

    def __init__(
        self,
        kinds: frozenset[str],
        window: Window,
        quarantine: Quarantine,
        *,
        drop_repeats: bool = False,
        each: bool = False,
    ) -> None:
        self.kinds = kinds
        self.each = each
        self.quarantine = quarantine
        self.rows = self.undated = 0
        self.unfinished: set[str] = set()
        self.unknown: Counter[str] = Counter()
        self.dropped = Dropped() if drop_repeats else None
        self.counted = Counted()
        since, until = window
        self._from = None if since is None else ticks.from_iso(since.isoformat())
        self._to = None if until is None else ticks.from_iso(until.isoformat())

    @property
    def repeated(self) -> int:
        """How many rows had been read before."""
        return self.dropped.repeated if self.dropped is not None else self.counted.repeated

    def items(self, blob: Blob, start: int, ended: Callable[[int], None]) -> Iterator[list[Item]]:
        """
        The items of *blob* from the offset *start* on, a chunk at a time.

        *ended* is told the offset behind the rows of a chunk when those have been taken. Raises OSError.
        """
        self.unfinished.discard(blob.name)
        usual = None
        if blob.table is not None and blob.layout == layouts.CONTINUOUS and not self.each:
            usual = usual_lines.reader(blob.table)
        is_first = not start
        self._numbers = lines.Numbers(blob.path)
        self.quarantine.begin(start)
        for chunk in lines.chunks(blob.path, start - blob.base):
            if is_first and not chunk.size:
                is_first = False
                if is_one_message(blob, chunk.data):
                    yield from self._of_whole(blob, ended)
                    break
                self.unknown.update(unknown.keys(chunk.data.partition(b"\n")[0]))
            found: list[Item] = []
            if chunk.size:
                self._aside(blob, chunk.start, "longer than any row", chunk.data, chunk.size)
            elif chunk.last:
                try:
                    found = self._last(blob, chunk)
                except FormatError:
                    self.unfinished.add(blob.name)
                    break
            else:
                found = self._usual(usual, blob, chunk) if usual is not None else self._each(blob, chunk)
            chosen = self._chosen(found, blob)
            self.rows += len(chosen)
            if chosen:
                yield chosen
            del found, chosen  # before the next chunk is read: the processor's cache has room for one
            ended(chunk.end + blob.base)
        self.quarantine.done()

    def _of_whole(self, blob: Blob, ended: Callable[[int], None]) -> Iterator[list[Item]]:
        text = whole(blob)
        chosen = self._chosen(self._message(blob, 0, text), blob)
        self.rows += len(chosen)
        yield chosen
        ended(blob.size)

    def _usual(self, read: usual_lines.Read, blob: Blob, chunk: lines.Chunk) -> list[Item]:
        try:
            found = read(chunk.data, blob.app_name, blob.i_key)
        except usual_lines.UNUSUAL:
            return self._each(blob, chunk)
        keys = [item.item_id for item in found]
        if "" in keys:
            return self._each(blob, chunk)
        if self.dropped is None:
            self.counted.add(keys)
            return found
        return [item for item, key in zip(found, keys, strict=True) if self.dropped.is_new(key)]

    def _each(self, blob: Blob, chunk: lines.Chunk) -> list[Item]:
        found: list[Item] = []
        at = chunk.start
        for line in chunk.data.split(b"\n")[:-1]:
            if line.strip():
                found += self._message(blob, at, line) if is_message(line) else self._one(blob, at, line)
            at += len(line) + 1
        return found

    def _last(self, blob: Blob, chunk: lines.Chunk) -> list[Item]:
        """The items of a last line without its newline. Raises FormatError where it is not whole yet."""
        if is_message(chunk.data):
            diagnostics.unwrapped(chunk.data)
            return self._message(blob, chunk.start, chunk.data)
        return list(self._fresh(chunk.data, blob.decode(chunk.data)))

    def _one(self, blob: Blob, at: int, line: bytes) -> tuple[Item, ...]:
        try:
            items = blob.decode(line)
            if blob.table is not None and items and items[0].kind != blob.table.kind:
                raise FormatError(f"a row of another table than {blob.table.classic}: {BY_KIND[items[0].kind].classic}")
            return self._fresh(line, items)
        except FormatError as error:
            self._aside(blob, at, str(error), line)
            return ()

    def _message(self, blob: Blob, at: int, text: bytes) -> list[Item]:
        """The items of an Event Hub's message, each record by itself."""
        try:
            records = diagnostics.unwrapped(text)
        except FormatError as error:
            self._aside(blob, at, str(error), text)
            return []
        return [item for record in records for item in self._one(blob, at, record)]

    def _fresh(self, line: bytes, items: tuple[Item, ...]) -> tuple[Item, ...]:
        key = (items[0].item_id if items else "") or line.strip()
        if self.dropped is not None:
            return items if self.dropped.is_new(key) else ()
        self.counted.add((key,))
        return items

    def _aside(self, blob: Blob, at: int, reason: str, data: bytes, size: int = 0) -> None:
        # Of a blob whose beginning is not here the number of a line is not known.
        number = self._numbers.of(at) if not blob.base else None
        self.quarantine.put(blob.name, number, blob.base + at, reason, data, size)

    def _chosen(self, found: list[Item], blob: Blob) -> list[Item]:
        if blob.table is None:
            found = [item for item in found if item.kind in self.kinds]
        if self._from is not None or self._to is not None:
            self.undated += sum(item.timestamp is None for item in found)
        if self._from is not None:
            found = [item for item in found if item.timestamp is not None and item.timestamp >= self._from]
        if self._to is not None:
            found = [item for item in found if item.timestamp is not None and item.timestamp < self._to]
        return found


def is_message(line: bytes) -> bool:
    """Whether a line wraps records, as messages of an Event Hub do."""
    return line.startswith(b"{") and _MESSAGE.match(line) is not None


def is_one_message(blob: Blob, head: bytes) -> bool:
    """Whether a file is one message of an Event Hub over several lines, which is whole."""
    if layouts.decoder(blob.layout) != layouts.DIAGNOSTIC or not _MESSAGE.match(head) or blob.size > lines.LINE_BYTES:
        return False
    try:
        diagnostics.unwrapped(head.lstrip().partition(b"\n")[0])
    except FormatError:
        try:
            diagnostics.unwrapped(whole(blob))
        except FormatError:
            return False
        return True
    return False


def whole(blob: Blob) -> bytes:
    """All that a file of one message holds."""
    with lines.opened(blob.path) as file:
        return file.read().removeprefix(lines.BOM)
