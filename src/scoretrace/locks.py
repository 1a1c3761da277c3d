"""A lock on an open file that ends with the process that holds it, however it ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":  # pragma: no cover - promised to log and read there, tested elsewhere
    import msvcrt

    def try_lock(fd: int) -> bool:
        """Lock the file behind *fd* for this process alone, or say at once that another holds it."""
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file behind *fd* for this process alone, or say at once that another holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
