"""The loop over epochs: steps, validation, early stopping, and the best weights.

All random numbers are a function of the seed and of how far the run is: for batches see data/loader.py, and dropout draws from
default_rng([seed, 3, step]). There is no other random state. So a run that was interrupted, even within an epoch, continues
with exactly the numbers that it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from ..array import Array, to_numpy
from ..data import Batches, ImageSet
from ..data.loader import to_device
from ..data.sample import true_labels
from ..data.stars import true_target
from ..errors import UserError
from ..kernels.device import memory_explained
from ..metrics import Confusion
from ..models.summary import summary
from ..nn import Module
from ..optim import Schedule, WeightAverage
from ..predict.inference import outputs_of, predict_logits, predicted_at
from .callbacks import Callback
from .config import COLUMNS, TrainingConfig, TrainState, score_of
from .distributed.scores import added_up
from .distributed.world import ALONE, World
from .parts import Parts
from .step import NotFinite, TrainingStep

NAN_ADVICE = (
    "Usual causes: a learning rate that is too high (try a tenth of it: -l {lr:g}), or --normalise none on images with "
    "large values. --clip 1 limits the gradients' length; with --amp fp16, --amp bf16 reaches further"
)


def is_validation(column: str) -> bool:
    """Whether a column of history is of the validation images."""
    return column.startswith(("val_", "dice_"))


class Stopped(Exception):
    """The training was asked to stop, and has stopped where its state can be saved."""


class Trainer:
    """Trains a model on a data set.

    Parameters
    ----------
    model : Module
        With `architecture` and `preprocessing`. It is changed in place.
    dataset, train, validation : ImageSet and two lists of indices
        A `TargetSet` has weights, and labels other than the masks' classes.
    config : TrainingConfig
    xp : module
        numpy or cupy: where to compute.
    graph : bool
        Whether to replay steps as a CUDA graph if possible, see `minunet.train.cuda_graph`.
    callbacks : sequence of Callback
    say : callable
        Called with notes, each a line of text.
    world : World
        The ranks that train together, see `minunet.train.distributed`; they all do the same but for their shares of patches and
        validation images.
    """

    def __init__(
        self, model: Module, dataset: ImageSet, train: list[int], validation: list[int], config: TrainingConfig,
        xp: ModuleType = np, graph: bool = False, callbacks: Sequence[Callback] = (),
        say: Callable[[str], object] = tqdm.write, world: World = ALONE,
    ) -> None:  # fmt: skip
        self.model, self.config, self.xp, self.world = model, config, xp, world
        self.dataset, self.validation, self.callbacks = dataset, validation, list(callbacks)
        self.classes = dataset.classes
        self.has_score = (
            dataset.preprocessing.target != "classes"
        )  # one by which the best epoch is chosen, beside the Dice
        model.convert(xp.asarray)
        self.batches = Batches(
            dataset, train, context=(config.crop - model.output_size(config.crop)) // 2 if config.crop else 0,
            groups=dataset.groups if config.even_groups else None, rank=world.rank, ranks=world.size, **config.of_patches(),
        )  # fmt: skip
        self.training_step = TrainingStep(model, config, xp, graph, say, world)
        self.optimizer, self.mixed = self.training_step.optimizer, self.training_step.mixed
        copies = [self.mixed.half] if self.mixed else []
        self.parts = Parts([model, *copies], self.optimizer, config)
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.schedule = Schedule(config.schedule, config.learning_rate, config.epochs * len(self.batches))
        self.images = {"train": [dataset.names[i] for i in train], "validation": [dataset.names[i] for i in validation]}
        self.state = TrainState()
        self.best_weights: dict[str, Array] | None = None
        self.improved = False  # whether the last epoch was the best so far
        self.last_good: Path | None = None  # a checkpoint, if there is one
        self._asked_to_stop = False

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train to the last epoch, or until early stopping; False if `stop` was called before."""
        for callback in self.callbacks:
            callback.on_start(self)
        try:
            self._check_alike()
            with self.training_step.joined():
                while self.state.epoch < self.config.epochs and not self.out_of_patience():
                    self._stop_if_asked()
                    self._train_epoch()
                    row = self._finish_epoch()
                    self._obey([callback.on_epoch(row) for callback in self.callbacks])
        except Stopped:
            for callback in self.callbacks:
                callback.on_stop()
            return False
        finally:
            self.parts.freeze(set())
            for callback in self.callbacks:
                callback.on_end()
        return True

    def stop(self) -> None:
        """Stop after the current step, or the current validation image; may be called from signal handlers and threads."""
        self._asked_to_stop = True

    def _obey(self, answers: list[bool | None]) -> None:
        """Stop if a callback returned True."""
        if any(answers):
            self.stop()

    def out_of_patience(self) -> bool:
        """Early stopping: whether the validation score has not improved for `patience` epochs."""
        return bool(self.config.patience) and self.state.waited() >= self.config.patience

    def _train_epoch(self) -> None:
        """Train on the batches that are left of the current epoch."""
        s, began = self.state, time.perf_counter()
        self.parts.begin(s.epoch, s.thawed)
        elapsed, plan = s.seconds, self.batches.plan(s.epoch)
        for batch in to_device(self.batches.epoch(s.epoch, start=s.batch), self.xp):
            with self._memory_explained(batch[0].shape):
                loss = self.step(*batch)
            count = len(plan[s.batch])  # of all ranks
            s.loss_sum, s.loss_count = s.loss_sum + loss * count, s.loss_count + count
            s.batch, s.step = s.batch + 1, s.step + 1
            if self.average:
                self.average.update(s.step)
            s.seconds = elapsed + time.perf_counter() - began
            told = {"epoch": s.epoch + 1, "step": s.step, "loss": loss, "learning_rate": self.schedule(s.step - 1)}
            self._obey([callback.on_step(told) for callback in self.callbacks])
            self._stop_if_asked()

    def step(self, images: Array, labels: Array, weights: Array | None = None) -> float:
        """One step of training on a batch, see `TrainingStep`. Returns the loss."""
        with self._stopped_by_nan():
            loss = self.training_step(self.state.step, self.schedule(self.state.step), images, labels, weights)
        if self.mixed:
            self.state.loss_scale = self.mixed.scale
        return loss

    def averaged(self) -> AbstractContextManager[dict[str, Array]]:
        """A block in which the model has the weights that are validated and saved: the moving average, if there is one.

        It yields the weights that training continues from, if those are others, else an empty dictionary.
        """
        return self.average.applied() if self.average else nullcontext({})

    def validate(self) -> tuple[float, Confusion]:
        """The mean loss over the pixels that count, and the confusion counts, of the validation images, each taken whole.

        Of objects found one by one, the counts are those at the threshold that is best: how probable they are is learnt last.
        """
        confusions: list[Confusion] = []
        loss_sum, pixels = 0.0, 0
        for i in self.world.rounds(self.validation):
            self._stop_if_asked()
            if i is None:
                continue
            sample = self.dataset[i]
            logits = predict_logits(self.model, sample.image[None])
            truth = true_labels(sample)
            weight = None if sample.weight is None else sample.weight[None]
            with self._stopped_by_nan():
                known = self.dataset.preprocessing
                target = true_target(sample, known.rays, known.one_by_one)
                loss = self.training_step.loss(logits, target[None], weight)
            counting = int(np.count_nonzero(truth >= 0))
            loss_sum, pixels = loss_sum + loss * counting, pixels + counting
            predicted = predicted_at(self.model, outputs_of(logits, truth.shape))
            confusions = confusions or [Confusion(self.classes.num_classes) for _ in predicted]
            for confusion, classes in zip(confusions, predicted):
                confusion.add(truth, classes)
        loss_sum, pixels, confusions = added_up(self.world.gather((loss_sum, pixels, confusions)))
        best = max(confusions, key=Confusion.mean_dice, default=Confusion(self.classes.num_classes))
        return loss_sum / max(pixels, 1), best

    def _finish_epoch(self) -> dict[str, Any]:
        """Validate, add the scores to the history, and remember the weights if they are the best so far."""
        s, began = self.state, time.perf_counter()
        self._check_alike()
        with self.averaged():
            val_loss, confusion = self.validate()
        row = self._row(val_loss, confusion, s.seconds + time.perf_counter() - began)
        if self.validation:
            self.schedule.step(score_of(row))
        s.history.append(row)
        s.epoch, s.batch, s.loss_sum, s.loss_count, s.seconds = s.epoch + 1, 0, 0.0, 0, 0.0
        self.improved = score_of(row) > s.best or not self.validation  # then the last weights are the ones to keep
        if self.improved:
            s.best = score_of(row)
            with self.averaged():
                self.best_weights = {name: a.copy() for name, a in self.model.state().items()}
        return row

    def _row(self, val_loss: float, confusion: Confusion, seconds: float) -> dict[str, Any]:
        """An epoch's row of history."""
        s = self.state
        row: dict[str, Any] = {
            "epoch": s.epoch + 1,
            "train_loss": s.loss_sum / max(s.loss_count, 1),
            "val_loss": val_loss,
            "val_dice": confusion.mean_dice(),
            "val_iou": confusion.mean_iou(),
            "seconds": seconds,
            "val_accuracy": confusion.pixel_accuracy(),
            "learning_rate": self.schedule(s.step - 1),
        }
        dice = zip(self.classes.names, confusion.dice())
        row |= {f"dice_{name}": None if math.isnan(d) else float(d) for name, d in dice}
        if self.classes.num_classes > 2:
            row["dice_all_foreground"] = confusion.foreground_dice()
        if (
            self.has_score and self.dataset.preprocessing.one_by_one
        ):  # a mask's Dice tells nothing of objects that touch
            row["val_score"] = 1 / (1 + val_loss)
        elif self.has_score:  # inside and border are one foreground; as classes they choose the best epoch
            whole = confusion.foreground_dice()
            row |= {"val_score": confusion.mean_dice(), "val_dice": whole, "val_iou": whole / (2 - whole)}
        return row if self.validation else {k: None if is_validation(k) else v for k, v in row.items()}

    def columns(self) -> set[str]:
        """The names in a row of history."""
        more = {"dice_all_foreground"} if self.classes.num_classes > 2 else set()
        more |= {"val_score"} if self.has_score else set()
        return {*COLUMNS, *(f"dice_{name}" for name in self.classes.names)} | more

    # ---- what is kept ------------------------------------------------------------------------------------------------

    def _check_alike(self) -> None:
        """UserError if the ranks have different weights."""
        self.world.check_equal("weights", lambda: b"".join(to_numpy(a).tobytes() for a in self.model.state().values()))

    def check_finite(self) -> None:
        """UserError if a weight is not finite."""
        if not all(bool(self.xp.isfinite(p).all()) for p in self.model.state().values()):
            self._stop_on_nan("infinite")

    def go_on_from(self, state: TrainState, raw: dict[str, Array]) -> None:
        """Continue from a state. With a moving average, the model holds the average and `raw` the weights to train on.

        ValueError if `raw` are another network's weights.
        """
        self.state = state
        if self.average:
            self.average = WeightAverage(self.model, self.config.ema)
            self.model.load_state(raw)
        if self.mixed and state.loss_scale:
            self.mixed.scale = state.loss_scale

    def take_best_weights(self) -> None:
        """Give the model the weights with the best validation score; before the first, the current ones or their average."""
        if self.best_weights:
            self.model.load_state(self.best_weights)
        elif self.average:
            self.model.load_state(self.average.values)

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def _memory_explained(self, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        slots = len(self.optimizer.slots) + bool(self.average)
        return memory_explained(
            self.xp,
            f"a training step on {shape[0]} image{'s' * (shape[0] > 1)} of {shape[2]} x {shape[1]} pixels",
            lambda: summary(self.model, shape, fused=self.xp is np).training_peak(slots),
            "Take a smaller --batch-size, --crop, --base-width or --scale",
        )

    def _stop_if_asked(self) -> None:
        if self.world.any(self._asked_to_stop):
            raise Stopped

    @contextmanager
    def _stopped_by_nan(self) -> Iterator[None]:
        try:
            yield
        except NotFinite as e:
            self._stop_on_nan(e)

    def _stop_on_nan(self, loss: object) -> None:
        kept = "no epoch was finished, nothing was saved"
        if self.last_good:
            kept = f"the last good state is {self.last_good}"
        raise UserError(
            f"the loss became {loss} in epoch {self.state.epoch + 1}, step {self.state.step + 1}; {kept}. "
            + NAN_ADVICE.format(lr=self.config.learning_rate / 10)
        )
