"""UNet 3+ (Huang et al., 2020, arXiv:2004.08790): a U-Net whose decoders read maps of all levels.

    level 0   encoder.0 ----------------------------------------> decoder.0 -> head.0
    level 1   encoder.1 ------------------------------> decoder.1 ... -> head.1, up-sampled
    ...                            every decoder d reads
    level D   bottom               - the encoders above it, max-pooled to its size
                                   - the encoder beside it
                                   - the decoders below it and the bottom, up-sampled to its size

Each of these D + 1 maps goes through a 3x3 convolution of its own to `base_width` channels; another one mixes them all. So a
decoder has (D + 1) * base_width channels at every level. There are fewer parameters than in a U-Net, but at D = 4 four times
the arithmetic: decoder.0 convolves 320 channels at full resolution, and maps are up-sampled *before* their convolution.

Read it beside unet.py: the way down is the same. On the way up, one map from below and one skip became D + 1 branches, so
backward sums what all decoders hand back for a map, in `dmaps`, before it goes on through that map's own layers.

The paper's classification-guided module is not here: it needs a loss and labels for whole images, and its published code sets
the *logits* of an image without objects to 0, which is a probability of one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, MaxPool2d, Module, Sequential, UpsampleBilinear, take
from ..ops.lazy import fusion_scope
from .blocks import Fit, Join, add, conv_norm_relu, double_conv
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class UNet3PlusOptions(NetworkOptions):
    """The arguments of `UNet3Plus`, which describes them."""

    name: ClassVar[str] = "unet_3plus"

    base_width: int = setting(64, least=1)
    depth: int = setting(4, least=1, most=4)
    conv_bias: bool | None = None
    norm: str | None = setting("batch", choices=("batch", "group", None))
    deep_supervision: bool = True


class UNet3Plus(Network):
    """A UNet 3+ with `depth` down-samplings.

    Halving rounds up (pools with `ceil_mode`), so that pooling by 8 and three times by 2 give one size, and maps that are
    up-sampled by a whole factor are cut at the bottom and at the right. So images of any size fit, and tiles give the same as
    the whole.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level, doubled at every level of the encoder; also of every branch of a decoder.
    depth : int
        Number of poolings; the paper's is 4, and more is not possible, since a pool's windows have at most 16 x 16 pixels.
    conv_bias : bool, optional
        Whether 3x3 convolutions before a norm have a bias, which the norm cancels; the authors' code has them. By default
        they have one only without a norm.
    norm : {"batch", "group", None}
        The norm between convolution and ReLU.
    deep_supervision : bool
        Whether every decoder and the bottom have a head, whose logits are up-sampled to the image's size, and the loss is the
        mean of theirs; else only decoder.0 has one.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import UNet3Plus
    >>> net = UNet3Plus(1, 2, base_width=2, depth=2)
    >>> logits, _ = net.forward(np.zeros((1, 21, 34, 1), np.float32))  # in training one for each head, that of decoder.0 first
    >>> [y.shape for y in logits]
    [(1, 21, 34, 2), (1, 21, 34, 2), (1, 21, 34, 2)]
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4, conv_bias: bool | None = None,
        norm: str | None = "batch", deep_supervision: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = UNet3PlusOptions(
            in_channels, num_classes, seed, base_width, depth, conv_bias, norm, deep_supervision
        )
        rng = np.random.default_rng(seed)
        block: dict[str, Any] = {"norm": norm, "bias": norm is None if conv_bias is None else conv_bias, "rng": rng}
        encoder = [base_width * 2**level for level in range(depth + 1)]
        mixed = (depth + 1) * base_width
        self.depth, self.least = depth, 2**depth
        blocks = [double_conv(i, o, o, **block) for i, o in zip([in_channels, *encoder], encoder)]
        self.encoder, self.bottom = blocks[:-1], blocks[-1]
        self.branch: list[list[Sequential]] = []
        for d in range(depth):
            widths = [*encoder[: d + 1], *[mixed] * (depth - d - 1), encoder[depth]]
            self.branch.append([conv_norm_relu(width, base_width, **block) for width in widths])
            self.children.update({f"branch.{d}.{k}": m for k, m in enumerate(self.branch[d])})
        self.decoder = [conv_norm_relu(mixed, mixed, **block) for _ in range(depth)]
        self.pool = [
            MaxPool2d(2**n, ceil_mode=True) for n in range(1, depth + 1)
        ]  # pool[n - 1] and up[n - 1] bridge n levels
        self.up = [UpsampleBilinear(2**n, align_corners=False) for n in range(1, depth + 1)]
        self.fit, self.join = Fit(), Join()
        heads = [mixed] * depth + [encoder[depth]] if deep_supervision else [mixed]
        self.head = [Conv2d(width, num_classes, rng=rng) for width in heads]
        self.head_weights = (1 / len(heads),) * len(heads)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Any, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes) of decoder.0; in training a list, one a head."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        maps: list[Array] = []  # of every level: the encoder's, and once it has run, the decoder's
        logits: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        def at_size(k: int, d: int) -> Array:
            if k < d:
                return run(self.pool[d - k - 1], maps[k])
            return run(self.fit, (run(self.up[k - d - 1], maps[k]), maps[d])) if k > d else maps[k]

        for level in range(self.depth):
            x = run(self.encoder[level], x)
            maps.append(x)
            x = run(self.pool[0], x)
        maps.append(run(self.bottom, x))
        for d in reversed(range(self.depth)):
            branches = (run(self.branch[d][k], at_size(k, d)) for k in range(self.depth + 1))
            maps[d] = run(self.decoder[d], run(self.join, tuple(branches)))
        for d, head in enumerate(self.head if train else self.head[:1]):
            x = run(head, maps[d])
            logits.append(run(self.fit, (run(self.up[d - 1], x), maps[0])) if d else x)
        return logits if len(logits) > 1 else logits[0], caches if keep else None

    @fusion_scope
    def backward(self, dy: Array | Sequence[Array | None], cache: Cache) -> Array:
        """From the gradients of the logits, in forward's order, to that of the images; adds the parameters' to `grads`."""
        dlogits = list(dy) if isinstance(dy, (list, tuple)) else [dy]
        dmaps: list[Any] = [None] * (self.depth + 1)  # what the readers of a level's map hand back, summed

        def back(m: Module, dy: Any) -> Any:
            kept = take(cache)
            return None if dy is None else m.backward(dy, kept)  # None: of a head of weight 0

        for d in reversed(range(len(dlogits))):
            dx = dlogits[d] if d == 0 else back(self.up[d - 1], back(self.fit, dlogits[d]))
            dmaps[d] = add(back(self.head[d], dx), dmaps[d])
        for d in range(self.depth):
            dx, dmaps[d] = back(self.decoder[d], dmaps[d]), None
            dbranches = back(self.join, dx)
            for k in reversed(range(self.depth + 1)):
                dx = back(self.branch[d][k], dbranches[k])
                if k < d:
                    dx = back(self.pool[d - k - 1], dx)
                elif k > d:
                    dx = back(self.up[k - d - 1], back(self.fit, dx))
                dmaps[k] = add(dx, dmaps[k])
        dx = back(self.bottom, dmaps.pop())
        for level in reversed(range(self.depth)):
            dx = add(back(self.pool[0], dx), dmaps.pop())
            dx = back(self.encoder[level], dx)
        return dx
