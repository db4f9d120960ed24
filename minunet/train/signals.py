"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .callbacks import Callback
from .trainer import Trainer


class StopOnSignal(Callback):
    """Ctrl-C, and the signals with which batch systems and lost terminals end a program, stop the run after the current batch.

    A second Ctrl-C stops at once; the other signals may come twice, to the process and to its group. So may Ctrl-C under a
    launcher that passes it on, such as mpiexec: what comes within `again` seconds is the same one.
    """

    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # the latter two are unknown to Windows

    def __init__(self, again: float = 0.0) -> None:
        self.trainer: Trainer | None = None
        self.stopping = False
        self.again, self.first = again, 0.0

    def on_start(self, trainer: Trainer) -> None:
        """Remember which trainer to stop; KeyboardInterrupt if there was a signal before.

        It may have come while a kernel was compiled: an exception within LLVM's callbacks is lost.
        """
        if self.stopping:
            raise KeyboardInterrupt
        self.trainer = trainer

    def on_end(self) -> None:
        """From now on there is nothing to save."""
        self.trainer = None

    def on_signal(self, number: int, _: Any) -> None:
        """Handle a signal; KeyboardInterrupt if nothing is to be saved, or for a second Ctrl-C."""
        now = time.monotonic()
        again = self.stopping and now - self.first >= self.again
        if not self.stopping:
            self.stopping, self.first = True, now
        if self.trainer is None or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.trainer.stop()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """A block in which the signals do this, except where somebody wants SIGHUP ignored, as `nohup` does."""
        before: dict[signal.Signals, Any] = {}
        with suppress(ValueError):  # not in the main thread, where alone handlers can be set
            for each in (getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)):
                if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN:
                    before[each] = signal.signal(each, self.on_signal)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
