"""
Files as DuckDB can read them: most as they are, the others as a copy without what would stop it.

That is compression, a byte order mark, messages of an Event Hub with many
records in one, a line that is longer than any row, and formats that have no
tables of their own. Where reading goes on
from an offset, the copy is what is behind it.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path

from scoretrace import layouts, lines
from scoretrace.errors import FormatError
from scoretrace.formats import continuous_export, diagnostics
from scoretrace.formats.decoders import is_native
from scoretrace.read import Blob
from scoretrace.rows import is_message, is_one_message, whole
from scoretrace.tables import LINE_BYTES, LONG_LINE_BYTES, Part

_HEAD_BYTES = 4_096
# Where there is a newline in each so many bytes, no line has twice as many.
_STEP = LINE_BYTES // 2


_kept: set[Spool] = set()  # until they are closed, or the process ends


class Spool:
    """A temporary folder for such copies, made when the first is needed and gone with `close`."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._copies: dict[tuple[str, int, str], Path] = {}
        self.blobs: dict[str, Blob] = {}
        self.ends: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.unfinished: set[str] = set()
        self._tried = 0
        self.line_bytes = LINE_BYTES
        self.shortened: set[Path] = set()  # copies that lack a line

    @property
    def folder(self) -> Path:
        """Where the copies are."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="scoretrace-"))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def keep(self) -> None:
        """Let the copies outlive whoever asked for them: a relation reads them when it is asked for its rows."""
        _kept.add(self)

    def close(self) -> None:
        """Remove all copies."""
        _kept.discard(self)
        if self._folder is not None:
            self._remove()
            self._folder = None
        self._copies.clear()

    def parts(self, blobs: Iterable[Blob], offsets: Mapping[str, int] | None = None) -> list[Part]:
        """
        *blobs* as parts of tables, whose `line_bytes` is the longest line then.

        With *offsets*, where a blob has none being 0, only what is whole behind
        them, up to what `ends` says after. What cannot be read is in `failed`.
        """
        found = []
        for blob in blobs:
            if blob.name in self.failed:
                continue
            try:
                path = self._readable(blob, offsets)
            except OSError as error:
                self.failed[blob.name] = str(error)
                continue
            self.blobs[str(path)] = blob
            found.append(Part(str(path), blob.table, blob.layout if is_native(blob.layout) else layouts.CONTINUOUS))
        return found

    def _readable(self, blob: Blob, offsets: Mapping[str, int] | None) -> Path:
        with blob.path.open("rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
            has_long = blob.path.stat().st_size > LINE_BYTES and _has_long_lines(file.fileno())
        packed = head.startswith(lines.GZIP)
        if packed:
            with lines.opened(blob.path) as unpacked:
                head = unpacked.read(_HEAD_BYTES)
        is_messages = _is_diagnostic(blob) and is_message(head.removeprefix(lines.BOM).lstrip())
        if has_long or packed:
            self.line_bytes = LONG_LINE_BYTES
        is_plain = is_native(blob.layout) and not (packed or has_long or is_messages or head.startswith(lines.BOM))
        if offsets is None and is_plain:
            return blob.path
        start = (offsets or {}).get(blob.name, 0)
        key = (blob.name, start, blob.version)
        if key not in self._copies:
            self._copies[key] = self._copy(blob, start)
        return self._copies[key]

    def _copy(self, blob: Blob, start: int) -> Path:
        # The last folders say whose it is.
        self._tried += 1
        path = self.folder / f"copy-{self._tried}" / "/".join(blob.path.parts[-5:])
        path = path.with_name(f"{path.name}.copy")
        path.parent.mkdir(parents=True)
        self.ends[blob.name] = start
        with path.open("wb") as copy:
            for chunk in lines.chunks(blob.path, start - blob.base):
                if chunk.start <= len(lines.BOM) and not start and is_one_message(blob, chunk.data):
                    text = whole(blob)
                    copy.write(_unwrapped(text))
                    self.ends[blob.name] = blob.size
                    break
                if chunk.last and not _is_row(blob, chunk.data):
                    self.unfinished.add(blob.name)
                    break
                if _is_diagnostic(blob) and b'"records"' in chunk.data:
                    copy.writelines(_unwrapped(line) + b"\n" for line in chunk.data.splitlines())
                elif chunk.size:
                    self.shortened.add(path)
                elif not is_native(blob.layout):
                    copy.writelines(_translated(blob, line) for line in chunk.data.splitlines())
                else:
                    copy.write(chunk.data)
                self.ends[blob.name] = chunk.end + blob.base
        return path


def _has_long_lines(descriptor: int) -> bool:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(b"\n", at, at + _STEP) < 0 for at in range(0, len(data) - _STEP, _STEP))


def _is_diagnostic(blob: Blob) -> bool:
    return layouts.decoder(blob.layout) == layouts.DIAGNOSTIC


def _is_row(blob: Blob, line: bytes) -> bool:
    try:
        if is_message(line):
            diagnostics.unwrapped(line)
        else:
            blob.decode(line)
    except FormatError:
        return False
    return True


def _translated(blob: Blob, line: bytes) -> bytes:
    """A line of another format as those of a continuous export; one that is none becomes one that is no row at all."""
    try:
        return b"".join(map(continuous_export.encode, blob.decode(line)))
    except FormatError:
        return b"no row\n"


def _unwrapped(text: bytes) -> bytes:
    """The records of a message, a line each; anything else as it is."""
    try:
        return b"\n".join(diagnostics.unwrapped(text)) if is_message(text.lstrip()) else text
    except FormatError:
        return text
