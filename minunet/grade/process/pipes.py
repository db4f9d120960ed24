"""Our end of a process's pipes: nothing that the process does, or leaves behind, makes us wait longer than we want to."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from typing import IO

from . import wire


class Late(Exception):
    """The time is over."""


class Pipes:
    """A process and the threads that read from it and write to it.

    Three threads, since a pipe may be held open by what the process started, and no system call on it then ends by itself: they
    may wait for ever, and we do not.

    Parameters
    ----------
    command : list of str
    environment : dict
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        import subprocess  # which a browser's Python lacks; what is graded there runs without a process

        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            cwd=os.path.abspath(os.sep), start_new_session=True, bufsize=0,
        )  # fmt: skip
        self.over = False
        self.tail = b""  # the end of what it printed
        self.buffer = bytearray()
        self.came = self.taken = 0  # bytes
        self.arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.leaving: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # one message at most, and b"" for the end
        self.taken_over = threading.Event()  # it has all that was sent, or will take nothing more
        self.deaf = False  # it will take nothing more
        self.taken_over.set()
        each = (
            (self._take, self.process.stdout),
            (self._listen, self.process.stderr),
            (self._hand_over, self.process.stdin),
        )
        self.threads = [threading.Thread(target=f, args=(pipe,), daemon=True) for f, pipe in each]
        for thread in self.threads:
            thread.start()

    def send(self, data: bytes, deadline: float) -> None:
        """Hand it over, as soon as the process takes it. Late if it has not taken the message before by the deadline.

        So no more than one message waits here for a process that asks and never reads.
        """
        if not self.taken_over.wait(max(deadline - time.monotonic(), 0.0)):
            raise Late
        if not self.deaf:
            self.taken_over.clear()
            self.leaving.put(data)

    def read(self, n: int, deadline: float) -> bytes:
        """Exactly n bytes that the process wrote. EOFError if it ended before; Late after the deadline, by time.monotonic()."""
        while len(self.buffer) < n:
            left = deadline - time.monotonic()
            if left <= 0:  # whatever else has come: one that never stops writing is late, too
                raise Late
            try:
                data = self.arrived.get(timeout=left)
            except queue.Empty:
                raise Late from None
            if not data:
                raise EOFError
            self.buffer += data
            self.taken += len(data)
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def end(self, dying: bool = False) -> int:
        """End the process and all of its group, and return its status; one that is dying is given time for its own."""
        import subprocess

        self.over = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0 if dying else 0.0)
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self.process.kill()
        status = self.process.wait()
        self.leaving.put(b"")
        for thread in self.threads:  # one whose pipe is held open, by what we cannot reach, is left alone
            thread.join(0.2)
        return status

    def _take(self, pipe: IO[bytes]) -> None:
        """Read what it writes, but never more ahead than a message may have."""
        with pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self.came += len(data)
                self.arrived.put(data)
                while self.came - self.taken > wire.JSON + wire.BYTES + (1 << 17) and not self.over:
                    time.sleep(0.01)
        self.arrived.put(b"")

    def _listen(self, pipe: IO[bytes]) -> None:
        """Read what it prints, so that it never waits for us, and keep the end."""
        with pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self.tail = (self.tail + data)[-4096:]

    def _hand_over(self, pipe: IO[bytes]) -> None:
        """Write what we send."""
        with contextlib.suppress(OSError), pipe:  # it may have ended: that is seen where it is read from
            while data := self.leaving.get():
                left = memoryview(data)
                while left:
                    left = left[os.write(pipe.fileno(), left) :]
                self.taken_over.set()
        self.deaf = True
        self.taken_over.set()
