"""
What each process has to say of itself, in its home folder: ``state/processes/<name>.json``.

Counts live in memory and end with their process; where something was lost,
refused or kept out, the note outlives it, for `scoretrace doctor` to read.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from scoretrace.blobs import FolderBlobs

FOLDER = "state/processes"
_MOST = 200  # notes that are kept; the oldest go first


class Note(msgspec.Struct):
    """
    *pid* and *service* of a process, who stands behind `print` there, and what it counted.

    *written* is in seconds since 1970; *has_ended* says that the process said so itself.
    """

    pid: int
    service: str
    print: str = ""
    written: float = 0.0
    has_ended: bool = False
    counts: dict[str, int] = {}
    lost: dict[str, int] = {}
    given_up: dict[str, int] = {}


def put(home: Path, name: str, note: Note) -> None:
    """Write the note of a process. Raises OSError."""
    note.written = time.time()
    FolderBlobs(home).put(f"{FOLDER}/{name}.json", msgspec.json.encode(note))


def remove(home: Path, name: str) -> None:
    """Nothing has to be said of it any more."""
    with suppress(OSError):
        (home / FOLDER / f"{name}.json").unlink()


def read(home: Path) -> list[Note]:
    """The notes in *home*, newest first; those beyond the two hundred newest are removed."""
    found: list[tuple[float, Path]] = []
    with suppress(OSError):
        found = [(path.stat().st_mtime, path) for path in (home / FOLDER).glob("[!.]*.json")]
    found.sort(reverse=True)
    notes = []
    for number, (_, path) in enumerate(found):
        with suppress(OSError, msgspec.MsgspecError):
            if number >= _MOST:
                path.unlink()
            else:
                notes.append(msgspec.json.decode(path.read_bytes(), type=Note))
    return notes


def is_alive(note: Note) -> bool:
    """Whether the process of *note* still runs, as far as its id says; on another machine it cannot be told."""
    if note.has_ended or os.name == "nt":
        return False
    try:
        os.kill(note.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
