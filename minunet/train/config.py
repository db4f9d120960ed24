"""What a training run is, and where it stands: both are kept in its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Config:
    """How to train: the flags of ``python -m minunet.train`` that shape the run."""

    epochs: int = 20
    batch_size: int = 8
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    clip: float = 0.0
    ema: float = 0.0
    loss: str = "ce+dice"
    crop: int = 128
    augment: bool = True
    bent: float = 0.5
    zoom: float = 1.25
    elastic: float = 4.0
    interpolation: str = "linear"
    amp: str | None = None
    seed: int = 0


@dataclass
class Place:
    """Where a run stands: the next epoch and its next batch, and what was summed up so far in that epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    best: float = -1.0
    loss_scale: float | None = None  # of mixed precision
    history: list[dict[str, Any]] = field(default_factory=list)
