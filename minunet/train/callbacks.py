"""What is called while a network trains: functions and objects of the user's, and the progress on the screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from .config import score_of

Row = dict[str, Any]


class Callback:
    """Base of objects that follow a training; methods that a subclass does not define do nothing.

    If `on_epoch` or `on_step` returns True, the training stops there. What a method raises reaches the caller of `fit`.
    """

    def on_start(self, trainer: Any) -> None:
        """Before the first step, when everything is ready. Keep the `Trainer` to use its `state` and `stop` later."""

    def on_step(self, step: Row) -> bool | None:
        """After every step, with a dictionary of "epoch" and "step", both from 1, "loss" and "learning_rate"."""

    def on_epoch(self, row: Row) -> bool | None:
        """After every epoch, with its row of history."""

    def on_stop(self) -> None:
        """When the training was stopped early; the state is complete and can be saved."""

    def on_end(self) -> None:
        """After the last step, also if an error ended the training."""


class OnEpoch(Callback):
    """A plain function as a callback after every epoch."""

    def __init__(self, function: Callable[[Row], Any]) -> None:
        self.function = function

    def on_epoch(self, row: Row) -> bool | None:
        """Call the function."""
        answer = self.function(row)
        return isinstance(answer, bool | np.bool_) and bool(answer)  # what else it may return is no answer


def as_callback(callback: Callback | Callable[[Row], Any]) -> Callback:
    """Make a callback of a function of the row of history; a callback is returned as it is. TypeError for anything else."""
    if isinstance(callback, Callback):
        return callback
    if not callable(callback):
        raise TypeError(f"a callback is a function of the row of history or a Callback, not {type(callback).__name__}")
    return OnEpoch(callback)


class Progress(Callback):
    """A line on stdout for every epoch, and a bar on stderr if that is a terminal."""

    def on_start(self, trainer: Any) -> None:
        """Open the bar and write the table's head."""
        self.state, self.epochs = trainer.state, trainer.config.epochs
        total = self.epochs * len(trainer.batches)
        self.bar = tqdm(
            total=total, initial=self.state.step, unit="batch", disable=None, dynamic_ncols=True, smoothing=0.05
        )
        self.bar.write(f"{'epoch':>9}  train loss  val loss  val Dice   val IoU   seconds     left")

    def on_step(self, step: Row) -> None:
        """Move the bar."""
        s = self.state
        self.bar.set_description(f"epoch {step['epoch']}/{self.epochs}", refresh=False)
        dice = _number(s.history[-1]["val_dice"], 3) if s.history else "?"
        self.bar.set_postfix_str(f"loss {s.loss_sum / s.loss_count:.3f}, val Dice {dice}", refresh=False)
        self.bar.update()

    def on_epoch(self, row: Row) -> None:
        """Write a line of the table."""
        times = [r["seconds"] for r in self.state.history]
        left = format_seconds((self.epochs - self.state.epoch) * float(np.median(times)))
        best = "  best" if row["val_dice"] is not None and score_of(row) == self.state.best else ""
        self.bar.write(
            f"{int(row['epoch']):>4}/{self.epochs:<4}  {row['train_loss']:>10.4f}{_number(row['val_loss']):>10}"
            f"{_number(row['val_dice']):>10}{_number(row['val_iou']):>10}{row['seconds']:>10.1f}{left:>9}{best}"
        )

    def on_end(self) -> None:
        """Close the bar."""
        self.bar.close()


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def format_seconds(seconds: float) -> str:
    """ "2:05" or "1:02:05"."""
    m, s = divmod(round(seconds), 60)
    return f"{m // 60}:{m % 60:02}:{s:02}" if m >= 60 else f"{m}:{s:02}"
