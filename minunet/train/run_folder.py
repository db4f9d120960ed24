"""What a run leaves in its folder, and how it goes on from there: checkpoints and history.csv.

A checkpoint's entry "train" holds

    {"images": {"train": [...], "validation": [...]},   their names
     "config": {...}, "state": {...},                   TrainingConfig and TrainState, see config.py
     "schedule": {...}, "optimizer_steps": 123,         what schedule and optimiser remember beside arrays
     "arguments": {...}}                                those of the command line, if it was one

In files of before there was `minunet.fit`, "state" is called "place", and "arguments" "flags".
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..checkpoint.build import load_weights
from ..checkpoint.file import save_checkpoint
from ..checkpoint.load import Checkpoint, read_checkpoint
from ..errors import UserError, shown
from .callbacks import Callback, Row
from .config import TrainingConfig, TrainState
from .trainer import Trainer

RAW = "raw."  # in a checkpoint: the weights to go on from, where the model's are an average
FORMER = {"state": "place", "arguments": "flags"}


class RunFolder(Callback):
    """The folder of a run: writes checkpoints and history.csv after every epoch, and where the run is stopped.

    Parameters
    ----------
    path : Path
        It is made if it is not there.
    arguments : dict, optional
        Those of the command line, kept in the checkpoints for --resume.

    Raises
    ------
    UserError
        If it cannot be made or written to.
    """

    def __init__(self, path: Path | str, arguments: dict[str, Any] | None = None) -> None:
        self.path, self.arguments = Path(path), arguments or {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.was_empty = not any(self.path.iterdir())
            probe = self.path / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as e:
            raise UserError(f"cannot write to {self.path}: {e.strerror or e}; choose another --out") from e

    @property
    def last(self) -> Path:
        """Where the newest state is kept."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """Where the weights with the best validation score are kept."""
        return self.path / "best.safetensors"

    def on_start(self, trainer: Trainer) -> None:
        """Know whose folder this is."""
        self.trainer = trainer
        trainer.last_good = self.last if self.last.exists() else None

    def on_epoch(self, row: Row) -> None:
        """Keep the state, and the weights if they are the best so far."""
        if self.trainer.improved:
            self.save(self.best)
        self.save(self.last)
        self.write_history(self.trainer.state.history)

    def on_stop(self) -> None:
        """Keep the state, within an epoch too."""
        self.save(self.last)

    def save(self, path: Path) -> None:
        """Write a checkpoint; never of weights that are not finite."""
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

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write the epochs' scores as CSV, a row an epoch."""
        columns = list(history[0])
        lines = [",".join(columns)] + [",".join(_cell(row[c]) for c in columns) for row in history]
        write_atomically(self.path / "history.csv", ("\n".join(lines) + "\n").encode())

    def remove_if_unused(self) -> None:
        """Take the folder away if it was empty, and there is no more in it than how the run was to be."""
        if self.was_empty and self.path.is_dir() and {p.name for p in self.path.iterdir()} <= {"config.toml"}:
            (self.path / "config.toml").unlink(missing_ok=True)
            self.path.rmdir()


def check_unused(folder: Path) -> None:
    """UserError if there is a run in a folder that a new one is to get."""
    if any((folder / name).exists() for name in ("history.csv", "last.safetensors")):
        raise UserError(
            f"{folder} holds a run already; choose another --out, or continue it with --resume {folder}/last.safetensors"
        )


def part_of(file: Checkpoint, path: Path | str, name: str) -> Any:
    """A part of a checkpoint's entry "train"; UserError if it is not there."""
    found = file.train.get(name, file.train.get(FORMER.get(name, "")))
    if found is None:
        raise UserError(f"{path} is not from a training run; start one from its weights with -f {path}")
    return found


def restore(trainer: Trainer, file: Checkpoint, path: Path) -> None:
    """Bring a trainer to where a checkpoint of its run stands, weights included.

    Raises
    ------
    UserError
        If it is of other images, another model or optimiser, or holds a value that cannot be, which is named.
    """
    try:
        if part_of(file, path, "images") != trainer.images:
            raise UserError(
                f"{path} was trained on other images than those of {trainer.dataset.path or 'this data set'} now: some "
                f"were added, removed or renamed. Put them back, or start a new run from its weights with -f {path}"
            )
        state = TrainState.from_json(part_of(file, path, "state"), f"{path}: train.state")
        for row in state.history if trainer.classes.num_classes > 2 else ():
            row.setdefault("dice_all_foreground", None)  # early runs did not count it
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
        raise UserError(f"{path} cannot be resumed ({e}); start a new run from its weights with -f {path}") from e
    if not (path.parent / "best.safetensors").exists():
        state.best = -1.0  # it was left behind: the next epoch is the best that there is


def check_state(trainer: Trainer, state: TrainState, source: str) -> None:
    """UserError if a state is none of this run's."""
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
    """What `Schedule` remembers; UserError naming the value that cannot be."""
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
    """How the run of a checkpoint is trained."""
    return TrainingConfig.from_json(part_of(file, path, "config"), f"{path}: train.config")


def open_run(path: Path | str) -> Checkpoint:
    """Read a checkpoint that a run is to be continued from; UserError if it is from none."""
    file = read_checkpoint(path)
    for name in ("images", "config", "state", "schedule", "optimizer_steps"):
        part_of(file, path, name)
    return file


def _cell(value: Any) -> str:
    """A number as text; nothing for a class without a score."""
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
