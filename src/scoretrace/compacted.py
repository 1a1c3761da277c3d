"""
Parquet files beside blobs: what an hour's blobs hold, read a hundred times as fast.

A file is named after the blobs it was made of, their sizes and times. So one
that does not stand for what is there now is never found, whoever changed what,
and making it is a rename.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from scoretrace.read import Blob
from scoretrace.schema import Table
from scoretrace.tables import PARQUET, Part

PATTERN = "compacted-*.parquet"


class Hour(NamedTuple):
    """The blobs of a table of an hour, in their folder, and where their Parquet file is if there is one."""

    folder: Path
    table: Table
    hour: str
    blobs: tuple[Blob, ...]

    @property
    def path(self) -> Path:
        """The file that stands for just these blobs as they are."""
        digest = hashlib.sha256()
        for blob in sorted(self.blobs):
            digest.update(f"{blob.path.relative_to(self.folder).as_posix()}\0{blob.size}\0{blob.version}\n".encode())
        return self.folder / f"compacted-{self.table.classic}-{digest.hexdigest()[:20]}.parquet"


def hours(blobs: Iterable[Blob]) -> Iterator[Hour]:
    """*blobs* by table and hour; those whose path names none are left out."""
    groups: dict[tuple[Path, str, str], list[Blob]] = {}
    for blob in blobs:
        if blob.table is not None and blob.hour:
            folder = blob.path.parent
            # Minutes are folders of their own in an hour's.
            folder = folder.parent if folder.name.startswith("m=") else folder
            groups.setdefault((folder, blob.table.kind, blob.hour), []).append(blob)
    for (folder, _, hour), found in groups.items():
        table = found[0].table
        if table is not None:
            yield Hour(folder, table, hour, tuple(found))


def parts(blobs: Iterable[Blob]) -> tuple[list[Part], list[Blob]]:
    """What of *blobs* there are Parquet files for, as parts of tables, and the blobs that are left."""
    left = list(blobs)
    found: list[Part] = []
    stood_for: set[str] = set()
    for hour in hours(left):
        path = hour.path
        if path.exists():
            found.append(Part(str(path), hour.table, PARQUET))
            stood_for.update(blob.name for blob in hour.blobs)
    return found, [blob for blob in left if blob.name not in stood_for]
