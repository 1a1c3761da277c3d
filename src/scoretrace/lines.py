"""
The lines of an export's file, a chunk of whole ones at a time, whatever their length.

A last line without its newline may be whole all the same, or still be written:
it comes by itself, and whoever can make a row of it knows.
"""

from __future__ import annotations

import gzip
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

# Small enough for what is made of it to stay in a processor's cache: twice the speed of a megabyte.
CHUNK_BYTES = 64 * 1024
# A longer line is no row: Application Insights takes 64 KB, and nobody who wrote this meant it.
LINE_BYTES = 64 * 1024**2
_SHOWN_BYTES = 64 * 1024
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"


class Chunk(NamedTuple):
    """
    Whole lines: *data*, from the offset *start* to the offset *end* of the file.

    *size* is 0, unless it is a line of so many bytes that is too long, of which
    *data* is the beginning. A last line without its newline is *last*.
    """

    start: int
    end: int
    data: bytes
    size: int = 0
    last: bool = False


def opened(path: Path, start: int = 0) -> BinaryIO:
    """*path* from the byte *start* on, of what it is when it is unpacked."""
    file = path.open("rb", buffering=0)
    if file.read(2) == GZIP:
        file.close()
        unpacked = cast("BinaryIO", gzip.open(path, "rb"))  # noqa: SIM115
        unpacked.seek(start)
        return unpacked
    file.seek(start)
    return cast("BinaryIO", file)


def chunks(path: Path, start: int = 0) -> Iterator[Chunk]:
    """
    The lines of *path* from the byte *start* on, which begins a line.

    Raises OSError, also where a gzip file is broken.
    """
    end, held = start, [b""]
    try:
        with opened(path, start) as file:
            block = file.read(CHUNK_BYTES)
            if not start and block.startswith(BOM):
                block, end = block[len(BOM) :], len(BOM)
            while block:
                cut = block.rfind(b"\n") + 1
                if cut:
                    held.append(block[:cut])
                    data = b"".join(held)
                    yield Chunk(end, end + len(data), data)
                    end += len(data)
                    held = [block[cut:]]
                else:
                    held.append(block)
                    if len(held) * CHUNK_BYTES > LINE_BYTES:
                        head, size = b"".join(held[:2])[:_SHOWN_BYTES], sum(map(len, held))
                        held = []
                        while block := file.read(CHUNK_BYTES):
                            cut = block.find(b"\n") + 1
                            size += cut or len(block)
                            if cut:
                                break
                        yield Chunk(end, end + size, head, size)
                        end += size
                        block = block[cut:] if block else b""
                        if block:
                            continue
                block = file.read(CHUNK_BYTES)
    except (EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise OSError(f"{path} is a broken gzip file: {error}") from error
    rest = b"".join(held)
    if rest:
        yield Chunk(end, end + len(rest), rest, last=True)


class Numbers:
    """
    Numbers of the lines of a file, from 1, for whoever has to name a few of many.

    Counting the newlines of all that is read would cost a tenth of reading it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at, self._number = 0, 1
        self._file: BinaryIO | None = None

    def of(self, offset: int) -> int:
        """The number of the line that begins at *offset*, which is behind that of the last call."""
        if self._file is None:
            self._file = opened(self._path)
            weakref.finalize(self, self._file.close)
        while self._at < offset:
            block = self._file.read(min(CHUNK_BYTES, offset - self._at))
            if not block:
                break
            self._number += block.count(b"\n")
            self._at += len(block)
        return self._number
