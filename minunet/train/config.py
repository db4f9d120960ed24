"""The settings of a training, `TrainingConfig`, and its state, `TrainState`; checkpoints store both."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from ..errors import Numbers, Settings, UserError, Values, limits, setting, shown

OPTIMIZER_NAMES = ("adam", "adamw", "rmsprop", "sgd")  # written out, so that --help need not load the optimisers
SCHEDULE_NAMES = ("constant", "step", "cosine", "poly", "plateau")
ARCHITECTURE_NAMES = (
    "unet",
    "residual_unet",
    "attention_unet",
    "se_unet",
    "scse_unet",
    "r2_unet",
    "unet_plus_plus",
    "unet_3plus",
    "nnunet",
    "encoder_unet",
    "encoder_unet_plus_plus",
    "segnet",
    "deeplab_v3plus",
    "stardist",
    "instance_net",
)  # those of minunet.models, in its order
ENCODER_NAMES = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "mobilenet_v2")
LOSS_NAMES = ("ce", "bce", "dice", "ce+dice", "focal")


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How to train. `minunet.fit` takes these settings, and ``python -m minunet.train`` has flags of the same names.

    Attributes
    ----------
    epochs, batch_size : int
        Passes over the images; patches in a step.
    patience : int
        Stop when the validation score has not improved for so many epochs; 0 for never.
    learning_rate : float
        Learning rate at the start.
    encoder_lr : float, optional
        Learning rate at the start of the network's part "encoder"; by default that of the others.
    freeze : tuple of str
        Parts of the network that do not learn, "PART" or, for the first epochs only, "PART:EPOCHS", see minunet/train/parts.py.
    schedule : "constant", "step", "cosine", "poly" or "plateau"
        How the learning rate changes from there, see `minunet.optim.Schedule`.
    optimizer : "adam", "adamw", "sgd" or "rmsprop"
    momentum : float, of sgd and rmsprop
    weight_decay : float
    clip : float
        Limit of the 2-norm of all gradients together; 0 for no limit.
    ema : float
        Decay of a moving average of the weights; it is the average that is validated and stored. 0 for none.
    loss : "ce+dice", "ce", "dice", "bce" or "focal"
    class_weights : tuple of float
        How much the pixels of each class count in the loss, in the classes' order; empty if all count alike.
    crop : int
        Side of the training patches in pixels; 0 for whole images.
    foreground_share : float
        Share of the patches that are placed so that they hold foreground, every class of it as often as the others.
    even_groups : bool
        Whether every kind of image gives as many patches, see minunet/data/groups.py.
    augment : bool
        Whether patches are flipped, rotated, deformed and changed in brightness, see minunet/data/augment.py.
    bent : float
        Probability that a patch is rotated by any angle, scaled and deformed: `p_elastic` of `minunet.data.augment.augment`.
    zoom : float
        Such a patch is magnified by a factor between 1 / zoom and zoom.
    elastic : float
        Standard deviation of such a patch's displacements, in pixels.
    interpolation : "linear" or "cubic"
        How such a patch is interpolated.
    invert : float
        Probability that a patch's light and dark change places, for networks that are to see both.
    recolour : float
        Probability that a patch's colours are mixed, for stains of any colour.
    sync_batch_norm : bool
        On several ranks: whether a batch norm's batch is that of all of them, as it is for one process.
    amp : "fp16", "bf16" or None
        Mixed precision on a GPU.
    seed : int
        Seed of the patches, dropout, the initial weights, and the choice of validation images.
    """

    epochs: int = setting(20, least=1)
    patience: int = setting(0, least=0)
    batch_size: int = setting(8, least=1)
    learning_rate: float = setting(1e-3, above=0)
    encoder_lr: float | None = setting(None, above=0)
    freeze: Values = ()
    optimizer: str = setting("adam", choices=OPTIMIZER_NAMES)
    momentum: float = setting(0.9, least=0, most=1)
    weight_decay: float = setting(0.0, least=0)
    schedule: str = setting("cosine", choices=SCHEDULE_NAMES)
    clip: float = setting(0.0, least=0)
    ema: float = setting(0.0, least=0, most=0.99999)
    loss: str = setting("ce+dice", choices=LOSS_NAMES)
    class_weights: Numbers = field(default=(), metadata=limits(least=0, most=1e6))
    crop: int = setting(128, least=0, most=65536)
    foreground_share: float = setting(0.0, least=0, most=1)
    even_groups: bool = False
    augment: bool = True
    bent: float = setting(0.5, least=0, most=1)
    zoom: float = setting(1.25, least=1, most=4)
    elastic: float = setting(4.0, least=0)
    interpolation: str = setting("linear", choices=("linear", "cubic"))
    invert: float = setting(0.0, least=0, most=1)
    recolour: float = setting(0.0, least=0, most=1)
    sync_batch_norm: bool = True
    amp: str | None = setting(None, choices=("fp16", "bf16", None))
    seed: int = setting(0, least=0)

    @classmethod
    def from_json(cls, stored: Any, source: str) -> Self:
        """As in `Settings`; in early checkpoints `amp` is True, which means fp16, or False."""
        if isinstance(stored, dict) and isinstance(stored.get("amp"), bool):
            stored = {**stored, "amp": "fp16" if stored["amp"] else None}
        return super().from_json(stored, source)

    def of_patches(self) -> dict[str, Any]:
        """What `minunet.data.Batches` is told of the patches: how many, how large, and how they are distorted."""
        same = [
            "batch_size",
            "crop",
            "augment",
            "seed",
            "foreground_share",
            "elastic",
            "interpolation",
            "invert",
            "recolour",
        ]
        bent = {"p_elastic": self.bent, "scales": (1 / self.zoom, self.zoom)}
        return {name: getattr(self, name) for name in same} | bent


def score_of(row: dict[str, Any]) -> float:
    """By which the best epoch is chosen, from its row of history: mean Dice of the classes, of polygons 1 / (1 + loss); -1 if
    nothing was held out."""
    score = row.get("val_score", row["val_dice"])
    return -1.0 if score is None else float(score)


COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_dice",
    "val_iou",
    "seconds",
    "val_accuracy",
    "learning_rate",
)  # of a row of history; the classes' Dice follow


@dataclass
class TrainState(Settings):
    """The state of a run: the next epoch and its next batch, the sums over that epoch so far, and the history.

    `thawed` has the parts of the network that were frozen and are no longer, and the optimiser's steps before that.
    """

    epoch: int = setting(0, least=0)
    batch: int = setting(0, least=0)
    step: int = setting(0, least=0)
    loss_sum: float = setting(0.0)
    loss_count: int = setting(0, least=0)
    seconds: float = setting(0.0, least=0)
    best: float = setting(-1.0)
    loss_scale: float | None = setting(None, above=0)  # of mixed precision
    history: list[dict[str, Any]] = field(default_factory=list)
    thawed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = self.thawed.values() if isinstance(self.thawed, dict) else [-1]
        if not all(type(n) is int and 0 <= n <= self.step for n in numbers):
            raise UserError(f"thawed: {shown(self.thawed)} is not the number of steps, up to {self.step}, of each part")
        if not isinstance(self.history, list) or len(self.history) != self.epoch:
            raise UserError(f"history: {shown(self.history)} is not a row for each of {self.epoch} epochs")
        blank = all(isinstance(row, dict) and row.get("val_dice") is None for row in self.history)  # of no validation
        for row in self.history:
            if not isinstance(row, dict) or not all(
                _is_score(value) or (value is None and (name not in COLUMNS or (blank and name.startswith("val_"))))
                for name, value in row.items()
            ):
                raise UserError(f"history: {shown(row)} is no row of scores")
            if any(name not in row for name in COLUMNS) or row.keys() != self.history[0].keys():
                raise UserError(f"history: {shown(row)} lacks a score that others have")

    def waited(self) -> int:
        """Epochs since the best validation score."""
        scores = [score_of(row) for row in self.history]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > sys.float_info.max


def training_config(settings: Settings) -> TrainingConfig:
    """The fields of `TrainingConfig` out of settings that have more."""
    values = asdict(settings)  # type: ignore[call-overload]
    return TrainingConfig(**{f.name: values[f.name] for f in fields(TrainingConfig)})
