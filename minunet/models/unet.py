"""The U-Net (Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597).

    level 0   encoder.0 ------------------- skip ------------------> decoder.0 -> head
    level 1      \\- pool -> encoder.1 ------ skip -----> decoder.1 -- up -/
    ...
    level D                  \\- pool ->  bottom  -- up -/

Going down, every pool halves the map and every encoder doubles the channels: less of *where*, more of *what*. Going up,
every step doubles the map and halves the channels, and the skip brings back the *where*.

Read `forward` and `backward` side by side: the same lines in reverse, every layer replaced by its backward. Forward uses x
twice, for the pool and for the skip, so backward adds two gradients; that += is the whole secret of a skip connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array import Array
from ..nn import Cache, Conv2d, MaxPool2d, Module, take
from ..ops.lazy import fusion_scope, single_use
from .blocks import Join, double_conv, up_step
from .network import Network
from .options import UNetOptions

Widths = Sequence[int | tuple[int, int]]


class UNet(Network):
    """A U-Net with `depth` down-samplings.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        Number of poolings; the paper's is 4.
    widths : (encoder, decoder) or (encoder, decoder, up), optional
        Explicit channels instead of base_width and depth: the encoder's from level 0 to the bottom, depth + 1 numbers, and
        the decoder's from level 0 down, depth numbers. A pair (mid, out) gives a block's two convolutions different widths.
        The third list gives the output channels of the transposed convolutions, from level 0 down; without it they give half
        of what they take.
    conv_bias : bool, optional
        Whether 3x3 convolutions have a bias; by default only if there is no norm, which would cancel it.
    norm : {"batch", "group", None}
        The norm between convolution and ReLU.
    padding : {"same", "valid"}
        "same": output as large as the image, any size of at least 2^depth; "valid": the paper's unpadded convolutions.
    up : {"transpose", "bilinear", "nearest"}
        The up-step: a learned 2x2 transposed convolution that halves the channels, or interpolation that keeps them (the
        bottom is then half as wide).
    dropout : float
        Dropout rate at the end of the contracting path (its last two levels); 0 for none.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import UNet
    >>> UNet(3, 2).num_params()
    31037698
    >>> UNet(1, 2, base_width=4, depth=2)(np.zeros((1, 21, 34, 1), np.float32)).shape
    (1, 21, 34, 2)
    """

    hands_over = True

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4,
        widths: Sequence[Widths] | None = None, conv_bias: bool | None = None, norm: str | None = "batch",
        padding: str = "same", up: str = "transpose", dropout: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = UNetOptions(
            in_channels, num_classes, seed, base_width, depth, widths, conv_bias, norm, padding, up, dropout
        )
        rng = np.random.default_rng(seed)
        sides: Any = widths or default_widths(base_width, depth, up)
        encoder, decoder = [[mid_out(w) for w in side] for side in sides[:2]]
        turned_out = sides[2] if len(sides) > 2 else [None] * len(decoder)
        self.depth, self.padding, self.least = len(decoder), padding, 2 ** len(decoder)
        bias = norm is None if conv_bias is None else conv_bias
        block: dict[str, Any] = {"norm": norm, "bias": bias, "padding": padding, "rng": rng}

        ins = [in_channels, *(out for _, out in encoder)]
        blocks = [
            double_conv(i, *mid_out, dropout=dropout if level >= self.depth - 1 else 0.0, **block)
            for level, (i, mid_out) in enumerate(zip(ins, encoder))
        ]
        self.encoder, self.bottom = blocks[:-1], blocks[-1]
        below = encoder[-1][1]
        ups: list[Module] = []
        decoders: list[Module] = []
        for level in reversed(range(self.depth)):
            step, channels = up_step(up, below, turned_out[level], rng)
            ups.insert(0, step)
            decoders.insert(0, double_conv(encoder[level][1] + channels, *decoder[level], **block))
            below = decoder[level][1]
        self.pool, self.join = MaxPool2d(2), Join()
        self.up, self.decoder = ups, decoders
        self.head = Conv2d(below, num_classes, size=1, rng=rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes); with "valid" padding smaller ones."""
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
            return m.backward(single_use(dy), take(cache))

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

    def check_size(self, H: int, W: int) -> None:
        """ValueError, with the nearest sizes that fit, if images of H x W pixels do not."""
        if self.padding == "same":
            return super().check_size(H, W)
        for n in (H, W):
            if self.valid_output(n) is None:
                fits = [m for m in range(n - 2**self.depth, n + 2 ** (self.depth + 9)) if self.valid_output(m)]
                below, above = [m for m in fits if m < n], [m for m in fits if m > n]
                near = " and ".join(str(m) for m in below[-1:] + above[:1])
                raise ValueError(
                    f"with unpadded convolutions every pool needs even sides; {n} pixels do not fit, {near} do"
                )

    def fit_size(self, n: int) -> int:
        """The smallest number of rows or columns, at least n, that fits and whose output has at least n."""
        if self.padding == "same":
            return super().fit_size(n)
        fits = n
        while (self.valid_output(fits) or 0) < n:
            fits += 1
        return fits

    def output_size(self, n: int) -> int:
        """Rows or columns of the output, for n that fit."""
        return n if self.padding == "same" else self.valid_output(n) or 0

    def valid_output(self, n: int) -> int | None:
        """Output pixels along an axis of n with "valid" padding, or None if n does not fit."""
        for _ in range(self.depth):
            n -= 4
            if n % 2 or n < 2:
                return None
            n //= 2
        n = (n - 4) * 2**self.depth - 4 * (2**self.depth - 1)
        return n if n > 0 else None


def default_widths(base_width: int, depth: int, up: str) -> tuple[list, list]:
    """Encoder and decoder widths, doubled at every level.

    With interpolation in place of transposed convolutions nothing halves the channels on the way up. Then the bottom and every
    decoder but that of level 0 give half as many channels, and the middle of a decoder's block is half as wide as its input, as
    in the common implementations.
    """
    encoder = [base_width * 2**level for level in range(depth + 1)]
    if up == "transpose":
        return encoder, encoder[:-1]
    encoder[-1] //= 2
    decoder = [(encoder[level], max(encoder[level] // 2, encoder[0])) for level in range(depth)]
    return encoder, decoder


def mid_out(width: int | tuple[int, int]) -> tuple[int, int]:
    """A block's (mid, out) channels from a pair, or from one number for both."""
    mid, out = (width, width) if isinstance(width, int) else width
    return int(mid), int(out)
