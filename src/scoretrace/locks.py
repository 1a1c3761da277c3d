"""A lock on an open file that ends with the process that holds it, however it ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":  # pragma: no cover - promised to log and read there, tested elsewhere
    import msvcrt
    import os

    _AT = 0x7FFF_FFFE  # a lock there keeps nobody from reading

    def try_lock(fd: int) -> bool:
        """Lock the file behind *fd* for this process alone, or say at once that another holds it."""
        try:
            os.lseek(fd, _AT, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Let others have it."""
        os.lseek(fd, _AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file behind *fd* for this process alone, or say at once that another holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Let others have it."""
        fcntl.flock(fd, fcntl.LOCK_UN)
