"""The folder of a run: checkpoints and history.csv, and resuming a run from them.

A checkpoint's entry "train" holds

    {"images": {"train": [...], "validation": [...]},   the images' names
     "config": {...}, "state": {...},                   TrainingConfig and TrainState, see config.py
     "schedule": {...}, "optimizer_steps": 123,         the state of schedule and optimiser, except for arrays
     "arguments": {...}}                                those of the command line, {} if `fit` was called from Python

In files that were written before `minunet.fit` existed, "state" is called "place", and "arguments" is called "flags".
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..atomic import remove_orphans, write_atomically
from ..checkpoint.build import load_weights
from ..checkpoint.file import restate, save_checkpoint
from ..checkpoint.load import Checkpoint, read_checkpoint
from ..cli import csv_text, quoted
from ..data import Preprocessing
from ..errors import UserError, shown
from .callbacks import Callback, Row
from .config import TrainingConfig, TrainState
from .distributed.world import World
from .lock import NAME, RunLock
from .trainer import Trainer

RAW = "raw."  # in a checkpoint whose model is a moving average: the weights that training continues from
FORMER = {"state": "place", "arguments": "flags"}


class RunFolder(Callback):
    """The folder of a run: writes checkpoints and history.csv after every epoch, and also when the run is stopped.

    It belongs to one process at a time. ``with folder:`` makes it, locks it, and deletes what a process that died has left
    half-written; such blocks may be nested. At the end of the outermost one the folder is deleted if nothing was written.
    UserError if another process has it, or if it cannot be written to.

    Parameters
    ----------
    path : Path
    arguments : dict, optional
        The arguments of the command line, stored in the checkpoints for --resume.
    """

    def __init__(self, path: Path | str, arguments: dict[str, Any] | None = None) -> None:
        self.path, self.arguments = Path(path), arguments or {}
        self.lock, self.depth, self.was_empty = RunLock(self.path), 0, False

    def __enter__(self) -> RunFolder:
        if self.depth == 0:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                self.was_empty = {p.name for p in self.path.iterdir()} <= {NAME}
            except OSError as e:
                raise UserError(f"cannot write to {self.path}: {e.strerror or e}; choose another --out") from e
            self.lock.acquire()
            remove_orphans(self.path)
        self.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            with suppress(OSError):  # it may be gone, or on a disk that is gone
                if self.was_empty and {p.name for p in self.path.iterdir()} <= {NAME, "config.toml"}:
                    (self.path / "config.toml").unlink(missing_ok=True)
                    (self.path / NAME).unlink(missing_ok=True)
                    self.path.rmdir()
            self.lock.release()

    def check_unused(self) -> None:
        """UserError if the folder for a new run already holds one."""
        if any((self.path / name).exists() for name in ("history.csv", "last.safetensors")):
            raise UserError(
                f"{self.path} holds a run already; choose another --out, or continue it with --resume {quoted(self.last)}"
            )

    @property
    def last(self) -> Path:
        """The path of the newest checkpoint."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The path of the checkpoint with the best validation score."""
        return self.path / "best.safetensors"

    def on_start(self, trainer: Trainer) -> None:
        """Remember whose state to save, and write the history that there is."""
        self.trainer = trainer
        trainer.last_good = self.last if self.last.exists() else None
        self.write_history()  # of a run that goes on, and may have died before it wrote the last row

    def on_epoch(self, row: Row) -> None:
        """Save the state and the history, and the weights if they are the best so far."""
        if self.trainer.improved:
            self.save(self.best)
        self.on_stop()

    def on_stop(self) -> None:
        """Save the state, also in the middle of an epoch, and the history, which is always that of the newest checkpoint."""
        self.save(self.last)
        self.write_history()

    def save(self, path: Path) -> None:
        """Write a checkpoint; UserError if a weight is not finite."""
        trainer = self.trainer
        trainer.check_finite()
        train = {
            "images": trainer.images,
            "config": trainer.config.to_json(),
            "state": trainer.state.to_json(),
            "schedule": trainer.schedule.state,
            "optimizer_steps": trainer.optimizer.steps,
            "arguments": self.arguments,
        }
        with trainer.averaged() as weights:
            kept = {RAW + name: a for name, a in weights.items()}
            save_checkpoint(path, trainer.model, train, trainer.optimizer.state() | kept)
        trainer.last_good = path

    def restate(self, preprocessing: Preprocessing) -> None:
        """Put another preprocessing into both checkpoints."""
        for path in (self.best, self.last):
            if path.exists():
                restate(path, preprocessing)

    def write_history(self) -> None:
        """Write the epochs' scores as CSV, one row for each epoch that is finished; nothing if none is."""
        history = self.trainer.state.history
        if history:
            columns = list(history[0])
            rows = [[row[name] for name in columns] for row in history]
            write_atomically(self.path / "history.csv", csv_text([columns, *rows]).encode())


class FolderOfFirst(RunFolder):
    """The run's folder as ranks other than the first see it: they write nothing there, and look at nothing."""

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check_unused(self) -> None:
        pass

    def on_start(self, trainer: Trainer) -> None:
        pass

    def on_epoch(self, row: Row) -> None:
        pass

    def on_stop(self) -> None:
        pass

    def restate(self, preprocessing: Preprocessing) -> None:
        pass


def folder_on(world: World, path: Path | str, arguments: dict[str, Any] | None = None) -> RunFolder:
    """The folder of a run on several ranks: rank 0 writes there."""
    return (FolderOfFirst if world.rank else RunFolder)(path, arguments)


def part_of(file: Checkpoint, path: Path | str, name: str) -> Any:
    """A part of a checkpoint's entry "train"; UserError if it is not there."""
    found = file.train.get(name, file.train.get(FORMER.get(name, "")))
    if found is None:
        raise UserError(f"{path} is not from a training run; start one from its weights with -f {quoted(path)}")
    return found


def restore(trainer: Trainer, file: Checkpoint, path: Path) -> None:
    """Bring a trainer to the state that a checkpoint of its run holds, weights included.

    Raises
    ------
    UserError
        If the checkpoint is of other images, another model or another optimiser, or holds an impossible value, which is named.
    """
    try:
        if part_of(file, path, "images") != trainer.images:
            raise UserError(
                f"{path} was trained on other images than those of {trainer.dataset.path or 'this data set'} now: some "
                f"were added, removed or renamed. Put them back, or start a new run from its weights with -f {quoted(path)}"
            )
        state = TrainState.from_json(part_of(file, path, "state"), f"{path}: train.state")
        for row in state.history if trainer.classes.num_classes > 2 else ():
            row.setdefault("dice_all_foreground", None)  # early runs did not count it
        for row in state.history if trainer.has_score else ():
            row.setdefault("val_score", row["val_dice"])  # which it was in early runs
        check_state(trainer, state, f"{path}: train.state")
        trainer.schedule.state.update(check_schedule(part_of(file, path, "schedule"), f"{path}: train.schedule"))
        steps = part_of(file, path, "optimizer_steps")
        if type(steps) is not int or not 0 <= steps <= state.step:
            raise UserError(
                f"{path}: train.optimizer_steps: {shown(steps)} is not a number of steps up to {state.step}"
            )
        arrays = dict(file.optimizer)
        raw = {k.removeprefix(RAW): arrays.pop(k) for k in list(arrays) if k.startswith(RAW)}
        load_weights(trainer.model, file.weights, path)
        trainer.optimizer.load_state(arrays, steps)
        trainer.go_on_from(state, raw)
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{path} cannot be resumed ({e}); start a new run from its weights with -f {quoted(path)}"
        ) from e
    if not (path.parent / "best.safetensors").exists():
        state.best = -1.0  # the best weights are missing: the next epoch counts as the best


def check_state(trainer: Trainer, state: TrainState, source: str) -> None:
    """UserError if a state cannot be one of this run."""
    batches = len(trainer.batches)
    if state.batch > batches or state.step != state.epoch * batches + state.batch:
        raise UserError(
            f"{source}: step {state.step} is not batch {state.batch} of epoch {state.epoch + 1} with {batches} batches each"
        )
    if (state.loss_count == 0) != (state.batch == 0):
        raise UserError(f"{source}: loss_count {state.loss_count} after {state.batch} batches")
    if state.history and state.history[0].keys() != trainer.columns():
        raise UserError(
            f"{source}: history: {shown(list(state.history[0]))} are not the scores of {trainer.classes.describe()}"
        )


def check_schedule(stored: Any, source: str) -> dict[str, Any]:
    """The state of a `Schedule`; UserError, naming the value, if one is impossible."""
    if not isinstance(stored, dict) or stored.keys() != {"best", "waited", "factor"}:
        raise UserError(f"{source}: {shown(stored)} is not best, waited and factor")
    best, waited, factor = stored["best"], stored["waited"], stored["factor"]
    if not isinstance(best, int | float) or isinstance(best, bool) or math.isnan(best):
        raise UserError(f"{source}: best: {shown(best)} is no score")
    if type(waited) is not int or waited < 0:
        raise UserError(f"{source}: waited: {shown(waited)} is no number of epochs")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor <= 1:
        raise UserError(f"{source}: factor: {shown(factor)} is not above 0 and at most 1")
    return stored


def stored_config(file: Checkpoint, path: Path | str) -> TrainingConfig:
    """The settings with which a checkpoint's run is trained."""
    return TrainingConfig.from_json(part_of(file, path, "config"), f"{path}: train.config")


def open_run(path: Path | str) -> Checkpoint:
    """Read the checkpoint of a run that is to be resumed; UserError if it is not from a run."""
    file = read_checkpoint(path)
    for name in ("images", "config", "state", "schedule", "optimizer_steps"):
        part_of(file, path, name)
    return file
