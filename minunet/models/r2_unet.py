"""The recurrent residual U-Net, R2U-Net (Alom et al., 2018, arXiv:1802.06955, eq. 1-5).

    level 0   encoder.0 ------------------- skip ------------------> decoder.0 -> head
    level 1      \\- pool -> encoder.1 ------ skip -----> decoder.1 -- up -/
    ...
    level D                  \\- pool ->  bottom  -- up -/

What is new, compared with `unet.py`: a block first brings its input to its width by a 1x1 convolution, and adds to that what
two recurrent layers in a row make of it. A recurrent layer runs one convolution several times, on x and on what it gave before:

    h = f(x)           f is convolution, norm and ReLU;  then, `steps` times,
    h = f(x + h)

So a block looks farther with the same filters. They are shared over time: their gradient is the sum over the uses, and all uses
must be kept for the backward, which takes (steps + 1) times the memory. That is the widespread implementation (LeeJunHyun's).
With `separate`, x and h have filters of their own, as the paper's equation says: h = ReLU(norm(wf * x + wr * h + b)).

One norm serves all uses, so that its running statistics mix those of all steps, and inference differs from training. With
`step_norms` every step has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, MaxPool2d, Module, take
from ..ops.lazy import fusion_scope
from .blocks import Join, up_conv
from .network import Network
from .options import NetworkOptions
from .recurrent import RecurrentBlock


@dataclass(frozen=True)
class R2UNetOptions(NetworkOptions):
    """The arguments of `R2UNet`, which describes them."""

    name = "r2_unet"

    base_width: int = setting(64, least=1)
    depth: int = setting(4, least=1, most=16)
    steps: int = setting(2, least=0, most=16)
    separate: bool = False
    step_norms: bool = False


class R2UNet(Network):
    """A U-Net of recurrent residual blocks.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        Number of poolings.
    steps : int
        How often a recurrent layer uses its own output; its filters run steps + 1 times.
    separate : bool
        Whether input and state of a recurrent layer have filters of their own.
    step_norms : bool
        Whether every step has its own norm.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build
    >>> build("r2_unet", in_channels=1, base_width=4, depth=2)(np.zeros((1, 21, 34, 1), np.float32)).shape
    (1, 21, 34, 2)
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4, steps: int = 2,
        separate: bool = False, step_norms: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = R2UNetOptions(
            in_channels, num_classes, seed, base_width, depth, steps, separate, step_norms
        )
        rng = np.random.default_rng(seed)
        self.depth, self.least = depth, 2**depth
        how: dict[str, Any] = {"steps": steps, "separate": separate, "step_norms": step_norms, "rng": rng}
        w = [base_width * 2**level for level in range(depth + 1)]
        blocks = [RecurrentBlock(i, o, **how) for i, o in pairwise([in_channels, *w])]
        self.encoder, self.bottom = blocks[:-1], blocks[-1]
        self.up = [up_conv(below, o, rng) for o, below in pairwise(w)]
        self.decoder = [RecurrentBlock(2 * o, o, **how) for o in w[:-1]]
        self.pool, self.join = MaxPool2d(2), Join()
        self.head = Conv2d(w[0], num_classes, size=1, rng=rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes)."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        skips: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        for level in range(self.depth):
            x = run(self.encoder[level], x)
            skips.append(x)
            x = run(self.pool, x)
        x = run(self.bottom, x)
        for level in reversed(range(self.depth)):
            x = run(self.up[level], x)
            x = run(self.join, (skips.pop(), x))
            x = run(self.decoder[level], x)
        y = run(self.head, x)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""
        dskips: list[Array] = []

        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.head, dy)
        for level in range(self.depth):
            dx = back(self.decoder[level], dx)
            dskip, dx = back(self.join, dx)
            dskips.append(dskip)
            dx = back(self.up[level], dx)
        dx = back(self.bottom, dx)
        for level in reversed(range(self.depth)):
            dx = back(self.pool, dx)
            dx += dskips.pop()
            dx = back(self.encoder[level], dx)
        return dx
