"""nnU-Net's plain 2-D network (Isensee et al., 2021, doi:10.1038/s41592-020-01008-z): a U-Net with everything chosen by rule.

    stage 0   encoder.0 ------------------ skip -----------------> decoder.0 -> head.0
    stage 1      \\- encoder.1 ------------ skip -----> decoder.1 -- up -/ \\-> head.1, half as large
    ...
    stage S - 1               \\- encoder.S-1 -- up -/

What is not as in the U-Net: the first convolution of a stage halves the map (stride 2), there is no pool; instance norm and
leaky ReLU; the width is 32 at first, doubled up to 512; the map from below comes first in a joint; every decoder has a head,
whose loss counts half of that of the next finer one. The size of the patches says how many stages there are, see `stages_for`.

Read it beside unet.py: the same lines without the pool, and heads. A decoder's map goes up *and* to its head, so backward adds
two gradients there as well.

Source of the details: github.com/MIC-DKFZ/dynamic-network-architectures and the trainer of nnU-Net v2. Its training is SGD with
a learning rate of 0.01, Nesterov momentum 0.99, weight decay 3e-5 and the schedule "poly", with cross-entropy and soft Dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, ConvTranspose2d, InstanceNorm2d, LeakyReLU, Module, take
from ..nn import Sequential as Layers
from ..ops.lazy import fusion_scope
from .blocks import Join, add
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class NNUNetOptions(NetworkOptions):
    """The arguments of `NNUNet`, which describes them."""

    name: ClassVar[str] = "nnunet"

    base_width: int = setting(32, least=1)
    patch: int = setting(256, least=8)
    stages: int | None = setting(None, least=2, most=16)
    widest: int = setting(512, least=1)
    deep_supervision: bool = True

    @classmethod
    def for_patches(cls, side: int) -> dict[str, Any]:
        """The number of stages follows from the patches that a run trains on; 0, whole images, tells nothing."""
        return {"patch": max(side, 8)} if side else {}


class NNUNet(Network):
    """A plain 2-D nnU-Net.

    Odd sizes are rounded up where maps are halved, and what a joint takes from below is cut to the skip's size: so images of
    any size fit.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first stage; doubled from stage to stage.
    patch : int
        Side of the patches to train on, in pixels: the number of stages follows from it, see `stages_for`.
    stages : int, optional
        Number of encoders, the last of which is the bottom, in place of the one that follows from `patch`.
    widest : int
        The most channels of a stage.
    deep_supervision : bool
        Whether every decoder has a head, see `supervision_weights`; else only the one at full resolution.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import NNUNet
    >>> net = NNUNet(1, 2, base_width=4, stages=4)
    >>> logits, _ = net.forward(np.zeros((1, 32, 50, 1), np.float32))  # in training one for each head, the largest first
    >>> [y.shape for y in logits]
    [(1, 32, 50, 2), (1, 16, 25, 2), (1, 8, 13, 2)]
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 32, patch: int = 256,
        stages: int | None = None, widest: int = 512, deep_supervision: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = NNUNetOptions(
            in_channels, num_classes, seed, base_width, patch, stages, widest, deep_supervision
        )
        rng, stages = np.random.default_rng(seed), stages or stages_for(patch)
        widths = [min(widest, base_width * 2**stage) for stage in range(stages)]
        self.depth, self.least = stages - 1, 2 ** (stages - 1) + 1  # so that the bottom has more than one pixel
        ins = [in_channels, *widths]
        self.encoder = [double_conv(i, o, 1 + (s > 0), rng) for s, (i, o) in enumerate(zip(ins, widths))]
        self.up = [ConvTranspose2d(below, width, rng=rng) for width, below in pairwise(widths)]
        self.join = Join(up_first=True)
        self.decoder = [double_conv(2 * width, width, 1, rng) for width in widths[:-1]]
        heads = widths[:-1] if deep_supervision else widths[:1]
        self.head = [Conv2d(width, num_classes, size=1, rng=rng) for width in heads]
        self.head_weights = supervision_weights(len(heads))

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Any, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes); in training a list, each half as large."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        skips: list[Array] = []
        logits: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        for level in range(self.depth):
            x = run(self.encoder[level], x)
            skips.append(x)
        x = run(self.encoder[-1], x)
        for level in reversed(range(self.depth)):
            x = run(self.up[level], x)
            x = run(self.join, (skips.pop(), x))
            x = run(self.decoder[level], x)
            if level == 0 or (train and level < len(self.head)):
                logits.insert(0, run(self.head[level], x))
        return logits if len(logits) > 1 else logits[0], caches if keep else None

    @fusion_scope
    def backward(self, dy: Array | Sequence[Array | None], cache: Cache) -> Array:
        """From the gradients of the logits, in forward's order, to that of the images; adds the parameters' to `grads`."""
        dlogits = list(dy) if isinstance(dy, (list, tuple)) else [dy]
        dskips: list[Array] = []

        def back(m: Module, dy: Any) -> Any:
            kept = take(cache)
            return None if dy is None else m.backward(dy, kept)  # None: of a head of weight 0

        dx: Any = None
        for level in range(self.depth):
            if level < len(dlogits):
                dx = add(dx, back(self.head[level], dlogits[level]))
            dx = back(self.decoder[level], dx)
            dskip, dx = back(self.join, dx)
            dskips.append(dskip)
            dx = back(self.up[level], dx)
        dx = back(self.encoder[-1], dx)
        for level in reversed(range(self.depth)):
            dx = add(dx, dskips.pop())
            dx = back(self.encoder[level], dx)
        return dx


def double_conv(in_channels: int, out_channels: int, stride: int, rng: np.random.Generator) -> Layers:
    """3x3 convolution, the first with this stride, instance norm and leaky ReLU, and all three once more."""
    layers: dict[str, Module] = {}
    for n, (i, s) in enumerate([(in_channels, stride), (out_channels, 1)], 1):
        layers[f"conv{n}"] = Conv2d(i, out_channels, stride=s, padding=1, rng=rng)
        layers[f"norm{n}"] = InstanceNorm2d(out_channels)
        layers[f"relu{n}"] = LeakyReLU(0.01)
    return Layers(**layers)


def supervision_weights(heads: int) -> tuple[float, ...]:
    """How much each head's loss counts, the largest head first: halved from head to head, 0 for the last, their sum 1.

    A single head, of a network of two stages, counts 1: with its weight set to 0 nothing would be left to divide by.

    >>> supervision_weights(3), supervision_weights(1)
    ((0.6666666666666666, 0.3333333333333333, 0.0), (1.0,))
    """
    halves = [2.0**-n for n in range(heads)]
    if heads > 1:
        halves[-1] = 0.0
    return tuple(h / sum(halves) for h in halves)


def stages_for(patch: int) -> int:
    """How many stages nnU-Net plans for patches of that many rows and columns: they are halved while 8 or more are left.

    >>> stages_for(256), stages_for(512), stages_for(128)
    (7, 8, 6)
    """
    return 1 + (stages_for(-(-patch // 2)) if patch >= 8 else 0)
