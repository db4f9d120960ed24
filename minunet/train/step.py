"""A step of training: forward, loss, backward, update; in float32, in mixed precision, or replayed as a CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from ..nn import Module
from ..ops.lazy import fusion_scope, materialize_all
from ..ops.loss import check_labels
from ..optim import OPTIMIZERS, clip_by_norm
from .amp import MixedPrecision
from .config import TrainingConfig
from .detection import detection_loss, detection_loss_backward
from .distributed.join import join
from .distributed.losses import loss_of
from .distributed.world import ALONE, World
from .heads import heads_gradients, heads_loss


class NotFinite(Exception):
    """The loss is NaN or infinite, and no label is to blame."""


class TrainingStep:
    """Changes a model's weights by one batch at a time.

    Parameters
    ----------
    model : Module
        With `architecture`, and with its arrays on the device.
    config : TrainingConfig
    xp : module
        numpy or cupy: where to compute.
    graph : bool
        Whether to replay steps as a CUDA graph if possible, see `minunet.train.cuda_graph`.
    say : callable
        Called with a line of text if a graph is not possible.
    world : World
        The ranks that train together, each with a part of the batch.

    Attributes
    ----------
    optimizer : Optimizer
    mixed : MixedPrecision or None
    recorded : RecordedStep or None
    """

    def __init__(
        self, model: Module, config: TrainingConfig, xp: ModuleType = np, graph: bool = False,
        say: Callable[[str], object] = tqdm.write, world: World = ALONE,
    ) -> None:  # fmt: skip
        self.model, self.config, self.xp, self.say, self.world = model, config, xp, say, world
        extra = {"momentum": config.momentum} if config.optimizer in ("sgd", "rmsprop") else {}
        self.mixed = MixedPrecision(model, config.amp, world=world) if config.amp and xp is not np else None
        self.optimizer = OPTIMIZERS[config.optimizer](model, config.learning_rate, config.weight_decay, **extra)
        self.outputs: int = model.architecture.num_classes
        self.head_weights: tuple[float, ...] = getattr(model, "head_weights", (1.0,))
        polygons = getattr(getattr(model, "preprocessing", None), "rays", None) is not None
        self._detects = bool(getattr(model, "finds_objects", False))
        self._pair = loss_of(world, config.loss, self.outputs, polygons)
        self._own_pair = loss_of(ALONE, config.loss, self.outputs, polygons)
        self.joined = join(world, [model, *([self.mixed.half] if self.mixed else [])], config.sync_batch_norm)
        weights = xp.asarray(config.class_weights, np.float32) if config.class_weights else None
        self._class_weight = {} if weights is None else {"class_weight": weights}
        waits = xp is np or self.mixed or config.clip or world.size > 1  # for all gradients
        self.portions = None if waits else import_module("minunet.train.portions").Portions(model, self.optimizer)
        self.recorded = self._record() if graph else None

    def __call__(self, number: int, lr: float, images: Any, labels: Any, weights: Any = None) -> float:
        """Forward, loss, backward, update; returns the loss.

        Parameters
        ----------
        number : int
            How many steps came before; dropout draws from default_rng([seed, 3, number]).
        lr : float
            The learning rate.
        images : (N, h, w, C) float32 array
        labels : (N, h, w) integer array, -1 where they do not count; of polygons (N, h, w, 1 + R), see `star_targets`; of a
            detector the objects' numbers
        weights : (N, h, w) float32 array, optional, how much each pixel counts

        Raises
        ------
        ValueError
            If the loss is not finite because a label is no class.
        NotFinite
            If it is not finite otherwise.
        """
        batch = [self.xp.asarray(a) for a in (images, labels, weights) if a is not None]
        self.optimizer.lr = lr
        if self.recorded:
            self.optimizer.advance()
            if self.mixed:
                self.mixed.advance()
            loss = self.recorded(*batch)
            if self.mixed:
                self.mixed.look()
                self.optimizer.steps -= self.mixed.overflowed  # the kernels skipped this update
            return self._on_host(loss, batch[1])
        rng = self.joined.own_rows(np.random.default_rng([self.config.seed, 3, number]), len(images))
        if self.portions:
            self.optimizer.advance()
            loss = self._gradients(rng, *batch)
            self.optimizer.apply()
            return self._on_host(loss, batch[1])
        loss = self._gradients(rng, *batch)
        self.joined.finish_gradients()
        if not (self.mixed and self.mixed.overflowed):
            if self.config.clip:
                clip_by_norm(self.optimizer.gradients(), self.config.clip)
            self.optimizer.step()
        self.joined.finish_step()
        return self._on_host(loss, batch[1])

    def loss(self, logits: Any, labels: Any, weights: Any = None) -> float:
        """The loss of the main head's logits (N, h, w, K) against the middle of labels and weights (N, H, W), on this rank."""
        heads = logits if isinstance(logits, list) else [logits]
        return self._on_host(self._loss_of(heads, labels, weights, (1.0,), ALONE)[0], labels)

    def _loss_of(
        self, heads: list[Any], labels: Any, weights: Any, shares: tuple[float, ...], world: World
    ) -> tuple[Any, Any]:
        if self._detects:
            return detection_loss(materialize_all(heads), labels, world)
        t, w = (a if a is None else self.xp.asarray(centre(a, heads[0].shape[1:3])) for a in (labels, weights))
        forward, _ = self._own_pair if world is ALONE else self._pair
        return heads_loss(forward, shares, heads, t, w, **self._class_weight)

    @fusion_scope
    def _gradients(self, rng: np.random.Generator | None, x: Any, labels: Any, weights: Any = None) -> Any:
        """Forward, loss and backward. The loss stays on the device, so that the host need not wait for it.

        All in one scope, so that kernels may compute the loss together with the logits, and need not compute its gradient for
        itself, nor that of the images.
        """
        network = self.mixed or self.model
        network.zero_grad()  # before the forward, whose maps may need the memory
        y, cache = network.forward(x, train=True, rng=rng)
        heads = y if isinstance(y, list) else [y]
        loss, loss_caches = self._loss_of(heads, labels, weights, self.head_weights, self.world)
        if self.xp is np:
            self._on_host(loss, labels)  # check it before the weights change; on a GPU that would be a wait
        dy = (
            detection_loss_backward(1.0, loss_caches) if self._detects
            else heads_gradients(self._pair[1], self.head_weights, loss_caches)
        )  # fmt: skip
        with self.portions.used() if self.portions else nullcontext():
            network.backward(dy if isinstance(y, list) else dy[0], cache)
        return loss

    def _record(self) -> Callable[..., Any] | None:
        """The GPU's part of a step as a graph; None, after a note, if that is not possible."""
        graph = import_module("minunet.train.cuda_graph")
        reason = graph.reason_against(self.model, self.xp)
        if self.config.freeze or self.config.encoder_lr:
            reason = reason or "with --freeze or --encoder-lr steps are not all alike"
        if self.world.size > 1:
            reason = reason or "the ranks have to wait for each other within a step"
        if reason:
            self.say(f"note: --graph has no effect: {reason}")
            return None
        held = self.optimizer.hold()
        if self.mixed:
            self.mixed.hold(held[-1:])

        def update(*batch: Any) -> Any:
            loss = self._gradients(None, *batch)  # nothing draws: with dropout there is no graph
            if self.config.clip:
                clip_by_norm(self.optimizer.gradients(), self.config.clip)
            self.optimizer.apply()
            return loss

        return graph.RecordedStep(update, self.xp, self.say)  # type: ignore[no-any-return]

    def _on_host(self, loss: Any, labels: Any) -> float:
        """The loss as a number. The host waits for the GPU here; elsewhere in a step only `--amp` waits."""
        value = float(loss)
        if not math.isfinite(value):
            if labels.ndim == 3 and not self._detects:  # a GPU cannot say by itself that a label is no class
                check_labels(np.broadcast_to(np.float32(0), (*labels.shape, self.outputs)), labels, -1)
            raise NotFinite(str(value))
        return value


def centre(labels: Any, size: tuple[int, ...]) -> Any:
    """The middle of labels or weights (N, H, W), as large as the logits: "valid" convolutions lose the border."""
    top, left = ((n - m) // 2 for n, m in zip(labels.shape[1:], size))
    return labels[:, top : top + size[0], left : left + size[1]]
