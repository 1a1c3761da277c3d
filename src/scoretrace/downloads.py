"""Blobs of a container on their way here: many at a time, in order, no more on the disk than are soon read."""

from __future__ import annotations

import errno
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from scoretrace import read, sources
from scoretrace.blobs import FolderBlobs
from scoretrace.container import Container, Fetched
from scoretrace.layouts import Place
from scoretrace.read import Blob
from scoretrace.sources import Found

# Four keep the processor busy where a storage account is near; where it is far away more of them wait at a time.
AT_ONCE = 16
_AHEAD = 64  # blobs
_AHEAD_BYTES = 256 * 1024**2

Progress = Callable[[int, int, int], None]
Failed = Callable[[str, Exception], None]


def ahead(
    container: Container,
    found: Iterable[tuple[Found, Place]],
    *,
    offsets: Mapping[str, int],
    failed: Failed,
    keep: Path | None = None,
) -> Iterator[Blob]:
    """
    The blobs that were *found*, as files. Each is gone when the next is asked for, unless it is to be kept in *keep*.

    Of a blob in *offsets* only what is behind that is fetched. What cannot be
    had is told to *failed*, and left out.

    Raises:
        SourceError: blobs may not be read.
    """
    with tempfile.TemporaryDirectory(prefix="scoretrace-") as temporary:
        folder = Path(temporary) if keep is None else keep
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scoretrace-fetch")
        waiting: deque[tuple[Found, Place, Path, int, Future[Fetched]]] = deque()
        files, left = FolderBlobs(folder), iter(found)
        held, more = 0, True
        try:
            while more or waiting:
                while more and len(waiting) < _AHEAD and (held < _AHEAD_BYTES or not waiting):
                    blob, place = next(left, (None, None))
                    if blob is None or place is None:
                        more = False
                        break
                    try:
                        path = files.path(blob.name)
                    except ValueError as error:  # a name that would leave the folder
                        failed(blob.name, error)
                        continue
                    base = offsets.get(blob.name, 0)
                    base = base if base <= blob.size else 0  # another blob of that name
                    held += blob.size - base
                    waiting.append((blob, place, path, base, pool.submit(container.fetch, blob, path, base)))
                if not waiting:
                    break
                blob, place, path, base, future = waiting.popleft()
                try:
                    got = future.result()
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise
                    failed(blob.name, error)
                else:
                    known = place if place.layout else sources.peeked(path)
                    if known.layout:
                        yield read.of(blob, known, path)._replace(size=got.size, base=got.begins)
                if keep is None:
                    with suppress(OSError):
                        path.unlink()
                held -= blob.size - base
        finally:
            container.stopped.set()
            pool.shutdown(cancel_futures=True)
            container.stopped.clear()
