"""Training: the loop, its state, and what it leaves in the run folder.

All randomness is a function of (seed, place in the run): batches see data/loader.py, dropout draws from
default_rng([seed, 3, step]). So the place is all the random state there is, and a run that was interrupted, even within an
epoch, continues with the very numbers that it would have had.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from ..atomic import write_atomically
from ..checkpoint.file import save_checkpoint
from ..checkpoint.load import read_checkpoint
from ..data import Batches, ImageSet
from ..data.loader import to_device
from ..data.sample import true_labels
from ..errors import UserError
from ..kernels.device import memory_explained
from ..metrics import Confusion
from ..models.summary import summary
from ..nn import Module
from ..ops import class_probabilities
from ..optim import Schedule, WeightAverage
from ..predict.inference import classify, predict_logits
from .config import Config, Place
from .step import NotFinite, TrainingStep

RAW = "raw."  # in a checkpoint: the weights to go on from, where the model's are an average

NAN_ADVICE = (
    "Usual causes: a learning rate that is too high (try a tenth of it: -l {rate:g}), or --normalise none on images with "
    "large values. --clip 1 limits the gradients' length; with --amp fp16, --amp bf16 reaches further"
)


class Interrupted(Exception):
    """Ctrl-C was pressed; the trainer's state is whole."""


class Trainer:
    """Trains a model on a data set and keeps its run folder.

    Parameters
    ----------
    model : Module
        Made by `build_model`; with ``data`` as `minunet.load` leaves it.
    dataset, train, validation : ImageSet and two lists of indices
        Of a `TargetSet` come labels other than the masks' classes, and weights.
    config : Config
    out : Path
        The run folder; it exists when `run` is called.
    xp : module
        numpy or cupy: where to compute.
    flags : dict
        Stored in the checkpoints, for --resume.
    graph : bool
        Whether to replay steps as a CUDA graph where that can be, see `minunet.train.cuda_graph`.
    """

    def __init__(
        self, model: Module, dataset: ImageSet, train: list[int], validation: list[int], config: Config, out: Path,
        xp: ModuleType = np, flags: dict[str, Any] | None = None, graph: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.config, self.out, self.xp = model, config, out, xp
        self.dataset, self.validation = dataset, validation
        self.flags = flags or {}
        self.classes = dataset.classes
        model.convert(xp.asarray)
        self.batches = Batches(
            dataset, train, config.batch_size, config.crop, config.augment, config.seed,
            context=(config.crop - model.output_size(config.crop)) // 2 if config.crop else 0,
            scales=(1 / config.zoom, config.zoom), p_elastic=config.bent, elastic=config.elastic,
            interpolation=config.interpolation,
        )  # fmt: skip
        self.training_step = TrainingStep(model, config, xp, graph)
        self.optimizer, self.mixed = self.training_step.optimizer, self.training_step.mixed
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.schedule = Schedule(config.schedule, config.learning_rate, config.epochs * len(self.batches))
        self.images = {"train": [dataset.names[i] for i in train], "validation": [dataset.names[i] for i in validation]}
        self.place = Place()
        self.interrupted = False

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train to the last epoch; False if Ctrl-C ended it before (all is saved then)."""
        total = self.config.epochs * len(self.batches)
        with self._catch_interrupt(), tqdm(
            total=total, initial=self.place.step, unit="batch", disable=None, dynamic_ncols=True, smoothing=0.05
        ) as bar:  # fmt: skip
            bar.write(f"{'epoch':>9}  train loss  val loss  val Dice   val IoU   seconds     left")
            try:
                while self.place.epoch < self.config.epochs:
                    self._train_epoch(bar)
                    row = self._finish_epoch()
                    bar.write(self._line(row))
            except Interrupted:
                self.save("last")
                return False
        return True

    def _train_epoch(self, bar: tqdm) -> None:
        """The batches that are left of the current epoch."""
        p, began = self.place, time.perf_counter()
        elapsed = p.seconds
        bar.set_description(f"epoch {p.epoch + 1}/{self.config.epochs}")
        for batch in to_device(self.batches.epoch(p.epoch, start=p.batch), self.xp):
            images = batch[0]
            with self._memory_explained(images.shape):
                loss = self.step(*batch)
            p.loss_sum, p.loss_count = p.loss_sum + loss * len(images), p.loss_count + len(images)
            p.batch, p.step = p.batch + 1, p.step + 1
            if self.average:
                self.average.update(p.step)
            p.seconds = elapsed + time.perf_counter() - began
            dice = f"{p.history[-1]['val_dice']:.3f}" if p.history else "?"
            bar.set_postfix_str(f"loss {p.loss_sum / p.loss_count:.3f}, val Dice {dice}", refresh=False)
            bar.update()
            self._stop_if_interrupted()

    def step(self, images: Any, labels: Any, weights: Any = None) -> float:
        """One step of training on a batch, see `TrainingStep`. Returns the loss."""
        with self._stopped_by_nan():
            loss = self.training_step(self.place.step, self.schedule(self.place.step), images, labels, weights)
        if self.mixed:
            self.place.loss_scale = self.mixed.scale
        return loss

    def _averaged(self) -> AbstractContextManager[dict[str, Any]]:
        """A block in which the model has the weights that are validated and kept; those to go on from, if others."""
        return self.average.applied() if self.average else nullcontext({})

    def validate(self) -> tuple[float, Confusion]:
        """Loss, averaged over pixels that count, and pixel counts of the validation images, each seen whole."""
        confusion, loss_sum, pixels = Confusion(self.classes.num_classes), 0.0, 0
        for i in self.validation:
            self._stop_if_interrupted()
            sample = self.dataset[i]
            logits = predict_logits(self.model, sample.image[None])
            truth = true_labels(sample)
            with self._stopped_by_nan():
                loss = self.training_step.loss(
                    logits, truth[None], None if sample.weight is None else sample.weight[None]
                )
            counting = int(np.count_nonzero(truth >= 0))
            loss_sum, pixels = loss_sum + loss * counting, pixels + counting
            confusion.add(truth, classify(class_probabilities(logits)[0]))
        return loss_sum / max(pixels, 1), confusion

    def _finish_epoch(self) -> dict[str, Any]:
        """Validate, note the scores, and save."""
        p, began = self.place, time.perf_counter()
        with self._averaged():
            val_loss, confusion = self.validate()
        row: dict[str, Any] = {
            "epoch": p.epoch + 1,
            "train_loss": p.loss_sum / max(p.loss_count, 1),
            "val_loss": val_loss,
            "val_dice": confusion.mean_dice(),
            "val_iou": confusion.mean_iou(),
            "seconds": p.seconds + time.perf_counter() - began,
            "val_accuracy": confusion.pixel_accuracy(),
            "learning_rate": self.schedule(p.step - 1),
        }
        dice = zip(self.classes.names, confusion.dice())
        row |= {f"dice_{name}": None if math.isnan(d) else float(d) for name, d in dice}
        if self.classes.num_classes > 2:
            row["dice_all_foreground"] = confusion.foreground_dice()
        self.schedule.report(row["val_dice"])
        p.history.append(row)
        p.epoch, p.batch, p.loss_sum, p.loss_count, p.seconds = p.epoch + 1, 0, 0.0, 0, 0.0
        improved, p.best = row["val_dice"] > p.best, max(p.best, row["val_dice"])
        if improved:
            self.save("best")
        self.save("last")
        write_history(self.out / "history.csv", p.history)
        return row

    def _line(self, row: dict[str, Any]) -> str:
        times = [r["seconds"] for r in self.place.history]
        left = format_seconds((self.config.epochs - self.place.epoch) * float(np.median(times)))
        best = "  best" if row["val_dice"] == self.place.best else ""
        return (
            f"{int(row['epoch']):>4}/{self.config.epochs:<4}  {row['train_loss']:>10.4f}{row['val_loss']:>10.4f}"
            f"{row['val_dice']:>10.4f}{row['val_iou']:>10.4f}{row['seconds']:>10.1f}{left:>9}{best}"
        )

    # ---- what is kept ------------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        """Write NAME.safetensors into the run folder; never weights that are not finite."""
        if not all(bool(self.xp.isfinite(p).all()) for p in self.model.state().values()):
            self._stop_on_nan("infinite")
        train = {
            "images": self.images,
            "flags": self.flags,
            "config": asdict(self.config),
            "place": asdict(self.place),
            "schedule": self.schedule.state,
            "optimizer_steps": self.optimizer.steps,
        }
        path = self.out / f"{name}.safetensors"
        with self._averaged() as weights:
            kept = {RAW + path: a for path, a in weights.items()}
            save_checkpoint(path, self.model, self.model.data, train, self.optimizer.state() | kept)

    def resume(self, path: Path) -> None:
        """Go to where a checkpoint of this run stands (its weights are loaded already)."""
        meta, _, optimizer = read_checkpoint(path)
        train = meta["train"]
        try:
            if train["images"] != self.images:
                raise UserError(
                    f"{path} was trained on other images than those of {self.dataset.path or 'these cells'} now: some were "
                    f"added, removed or renamed. Put them back, or start a new run from its weights with -f {path}"
                )
            self.place = Place(**train["place"])
            self.schedule.state = train["schedule"]
            raw = {k.removeprefix(RAW): optimizer.pop(k) for k in list(optimizer) if k.startswith(RAW)}
            self.optimizer.load_state(optimizer, train["optimizer_steps"])
            if self.average:  # has the averages already, which were loaded as the model's weights
                self.model.load_state(raw)
            if self.mixed and self.place.loss_scale:
                self.mixed.scale = self.place.loss_scale
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(f"{path} cannot be resumed ({e}); start a new run from its weights with -f {path}") from e
        if not (self.out / "best.safetensors").exists():
            self.place.best = -1.0  # it was left behind: the next epoch is the best that there is

    def _memory_explained(self, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        slots = len(self.optimizer.slots) + bool(self.average)
        return memory_explained(
            self.xp,
            f"a training step on {shape[0]} image{'s' * (shape[0] > 1)} of {shape[2]} x {shape[1]} pixels",
            lambda: summary(self.model, shape, fused=self.xp is np).training_peak(slots),
            "Take a smaller --batch-size, --crop, --base-width or --scale",
        )

    def _stop_if_interrupted(self) -> None:
        if self.interrupted:
            raise Interrupted

    @contextmanager
    def _stopped_by_nan(self) -> Iterator[None]:
        try:
            yield
        except NotFinite as e:
            self._stop_on_nan(e)

    def _stop_on_nan(self, loss: Any) -> None:
        last = self.out / "last.safetensors"
        kept = f"the last good state is {last}" if last.exists() else "no epoch was finished, nothing was saved"
        raise UserError(
            f"the loss became {loss} in epoch {self.place.epoch + 1}, step {self.place.step + 1}; {kept}. "
            + NAN_ADVICE.format(rate=self.config.learning_rate / 10)
        )

    @contextmanager
    def _catch_interrupt(self) -> Iterator[None]:
        """Ctrl-C ends the run after the current batch; pressed again, at once."""

        def on_interrupt(signum: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        try:
            before = signal.signal(signal.SIGINT, on_interrupt)
        except ValueError:  # not in the main thread: leave it to whoever runs us
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write the epochs' scores as CSV, a row an epoch."""
    columns = list(history[0])
    lines = [",".join(columns)] + [",".join(_cell(row[c]) for c in columns) for row in history]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _cell(value: Any) -> str:
    """A number as text; nothing for a class without a score."""
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def format_seconds(seconds: float) -> str:
    """ "2:05" or "1:02:05"."""
    m, s = divmod(round(seconds), 60)
    return f"{m // 60}:{m % 60:02}:{s:02}" if m >= 60 else f"{m}:{s:02}"
