"""
Where bytes live. Names are paths with forward slashes, as in a blob container.

The home folder is a picture of a storage account, so a name here is
``<container>/<blob>`` and can be copied to Azure as it stands.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class FolderBlobs:
    """Blobs as files below *root*, which is made when the first is written."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def put(self, name: str, data: bytes) -> None:
        """
        Store *data* under *name*: written beside it first, then moved, so that no reader sees a part.

        Raises:
            OSError: the folder cannot be written; nothing is left behind then.
            ValueError: the name would leave the folder.
        """
        path = self.path(name)
        beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        try:
            try:
                beside.write_bytes(data)
            except FileNotFoundError:  # the first of its day
                path.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(data)
            beside.replace(path)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            raise

    def open(self, name: str) -> BinaryIO:
        """Read *name*; raises FileNotFoundError where there is none."""
        return self.path(name).open("rb")

    def path(self, name: str) -> Path:
        """
        The file of *name*.

        Raises:
            ValueError: the name would leave the folder.
        """
        parts = name.split("/")
        if not name or not all(parts) or ".." in parts or "\\" in name or "\0" in name:
            raise ValueError(f"not a blob name: {name!r}")
        return self.root.joinpath(*parts)
