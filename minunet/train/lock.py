"""The lock on a run's folder: one process at a time writes there.

It is the system's lock on a file, which the system releases when the process ends, however it ends. The file is `.lock` in the
folder. It names the process that holds the lock, and is deleted at the end; where one is left, the process was killed.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..atomic import host
from ..errors import UserError

NAME = ".lock"
UNKNOWN = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of file systems that have no locks


class RunLock:
    """A lock on a folder, taken by `acquire` and given back by `release`; both may be called again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self.lock: Any = None

    def acquire(self) -> None:
        """Take the lock; UserError, naming who holds it, if it is taken. Does nothing where the file system has no locks."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path, timeout=0, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except (Timeout, RuntimeError):
            raise UserError(
                f"{self.folder} is in use: {self.holder()} trains there. Wait until it has ended, or choose another --out"
            ) from None
        except OSError as e:
            if e.errno in UNKNOWN:
                return
            raise UserError(f"cannot write to {self.folder}: {e.strerror or e}; choose another --out") from e
        self.lock = lock
        with suppress(OSError):
            self.path.write_text(f"process {os.getpid()} on {host()}", encoding="utf-8", errors="replace")

    def holder(self) -> str:
        """Who holds the lock: "process 123 on localhost"."""
        with suppress(OSError, UnicodeDecodeError):
            found = re.fullmatch(r"process \d{1,20} on \S{1,255}", self.path.read_text(encoding="utf-8"))
            if found:
                return found[0]
        return "another process"

    def release(self) -> None:
        """Delete the file and give the lock back."""
        if self.lock is not None:
            with suppress(OSError):  # its folder may be gone
                self.path.unlink()  # before the lock is free: later, the file may be another process's
            with suppress(OSError):
                self.lock.release()
            self.lock = None
