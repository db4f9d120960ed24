"""One trial: a training with the settings that were proposed, followed epoch by epoch.

Its score is the one by which a training chooses its best epoch: of the validation images, the best of all epochs. Nothing of a
trial is kept but its numbers; the best settings are trained again, with `minunet train`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from ...checkpoint.load import Checkpoint, read_checkpoint
from ...data import ImageSet
from ...data.groups import read_groups
from ...errors import UserError
from ...nn import Module
from ..arguments import Arguments
from ..beforehand import check_class_weights, check_crop
from ..callbacks import Callback, Row
from ..config import TrainingConfig, score_of, training_config
from ..fit import fit
from ..session import Say, make_model, open_data, with_target
from ..start import following

ENDS = ("stopped", "time", "pruned")  # why a trial ended before its last epoch; the first reason counts


class Job(NamedTuple):
    """What all trials have in common: the data set, its split, the arguments of the default trial, and a checkpoint to start
    from if there is one."""

    args: Arguments
    given: set[str]
    dataset: ImageSet
    split: tuple[list[int], list[int]]
    file: Checkpoint | None


def prepare(args: Arguments, given: set[str], say: Say = lambda *_: None) -> Job:
    """Open the data set. UserError if it cannot be used, or if no image is held out."""
    file = read_checkpoint(args.load) if args.load else None
    if file:
        args = following(args, given, file)
    data, split = open_data(args, None)
    if not split[1]:
        raise UserError("-v 0: a search goes by the score of images that are held out: hold some out")
    args, dataset = with_target(replace(args, quiet=True), given, data, split[0], say, file)
    if args.groups:
        dataset.groups = read_groups(args.groups, dataset.names)
    return Job(args, given, dataset, split, file)


def with_settings(job: Job, chosen: dict[str, Any]) -> tuple[Arguments, set[str]]:
    """The arguments of a trial, and which of them count as typed."""
    return replace(job.args, **chosen), job.given | set(chosen)


def network(job: Job, chosen: dict[str, Any]) -> tuple[Module, TrainingConfig]:
    """A trial's network and settings; UserError if they do not suit each other."""
    args, given = with_settings(job, chosen)
    model = make_model(args, given, job.dataset, job.file)
    config = training_config(args)
    check_crop(model, config, job.dataset)
    check_class_weights(config, job.dataset)
    return model, config


class Follow(Callback):
    """Tells Optuna the score of each epoch, and ends the training where it prunes, when time is up, or when it is told to.

    Parameters
    ----------
    trial : optuna.Trial
    ends : float
        When time is up, as `time.monotonic` counts.
    told_to_stop : callable
        Whether to stop.
    """

    def __init__(self, trial: Any, ends: float, told_to_stop: Callable[[], bool]) -> None:
        self.trial, self.ends, self.told_to_stop = trial, ends, told_to_stop
        self.why: str | None = None
        self.best: Row | None = None
        self.seconds, self.epochs = 0.0, 0

    def on_step(self, step: Row) -> bool:
        """Is time up?"""
        self.why = self.why or ("stopped" if self.told_to_stop() else None)
        self.why = self.why or ("time" if time.monotonic() >= self.ends else None)
        return self.why is not None

    def on_epoch(self, row: Row) -> bool:
        """Report, and ask whether to go on."""
        self.best = row if self.best is None or score_of(row) > score_of(self.best) else self.best
        self.seconds, self.epochs = self.seconds + row["seconds"], self.epochs + 1
        self.trial.report(score_of(row), self.epochs)
        for name, value in self.told().items():
            self.trial.set_user_attr(name, value)
        if self.why is None and self.trial.should_prune():
            self.why = "pruned"
        return self.why is not None

    def told(self) -> dict[str, Any]:
        """What a person wants to know of the training so far."""
        best = self.best or {}
        return {
            "epochs": self.epochs, "seconds": self.seconds, "best_epoch": best.get("epoch"), "dice": best.get("val_dice"),
            "best": score_of(best) if best else None,
        }  # fmt: skip


class Outcome(NamedTuple):
    """How a trial ended: its score if it came to its last epoch, else why not, one of `ENDS`."""

    score: float | None
    why: str | None


def run_trial(
    job: Job, trial: Any, chosen: dict[str, Any], ends: float, stopper: Any, told_to_stop: Callable[[], bool]
) -> Outcome:
    """Train with the settings `chosen`. What `fit` raises, UserError and MemoryError above all, is the trial's failure."""
    model, config = network(job, chosen)
    trial.set_user_attr("parameters", model.num_params())
    follow = Follow(trial, ends, told_to_stop)
    fitted = fit(
        job.dataset, config, model=model, validation=job.split[1], device=job.args.device, graph=job.args.graph,
        callbacks=[follow, stopper],
    )  # fmt: skip
    if not fitted.finished:
        return Outcome(None, follow.why or "stopped")
    if fitted.tuned:
        trial.set_user_attr("precision", fitted.tuned.after)
    return Outcome(score_of(fitted.best), None)
