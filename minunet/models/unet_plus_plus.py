"""UNet++ (Zhou et al., 2018, arXiv:1807.10165, and 2020, arXiv:1912.05074): a U-Net whose skips are filled with nodes.

    X(0,0) --- X(0,1) --- X(0,2) --- X(0,3) --- X(0,4)        every node of row i takes all nodes before it in its row,
        \\   /     \\   /     \\   /     \\   /                    and from below the up-step of X(i+1, j-1)
        X(1,0) --- X(1,1) --- X(1,2) --- X(1,3)
            \\   /     \\   /     \\   /                          X(i,0) is the encoder of level i; the last of every row are
            X(2,0) --- X(2,1) --- X(2,2)                      the U-Net's decoders; X(0,1) to X(0,depth) have a head each
                \\   /     \\   /
                X(3,0) --- X(3,1)
                    \\   /
                    X(4,0)

The nodes run by diagonals i + j = d: down to X(d,0), then up to X(0,d). Every diagonal is a U-Net of depth d; it uses what the
shorter ones have made, and nothing that a longer one makes. So a trained network can be cut to fewer poolings, `prune`.

Read it beside unet.py: its loops, down and up, are one loop over diagonals here. A map has up to six readers (pool, up-step,
joints, head), so the += of the U-Net's skip becomes `add`, and what they hand back is summed in `drows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, MaxPool2d, Module, take
from ..ops.lazy import fusion_scope
from .blocks import Join, add, double_conv, up_step
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class UNetPlusPlusOptions(NetworkOptions):
    """The arguments of `UNetPlusPlus`, which describes them."""

    name: ClassVar[str] = "unet_plus_plus"

    base_width: int = setting(32, least=1)
    depth: int = setting(4, least=1, most=16)
    conv_bias: bool | None = None
    norm: str | None = setting("batch", choices=("batch", "group", None))
    up: str = setting("transpose", choices=("transpose", "bilinear", "nearest"))
    deep_supervision: bool = True


class UNetPlusPlus(Network):
    """A UNet++ with `depth` down-samplings.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first row; doubled from row to row.
    depth : int
        Number of poolings, and of heads; the paper's is 4.
    conv_bias : bool, optional
        Whether 3x3 convolutions have a bias; by default only if there is no norm, which would cancel it.
    norm : {"batch", "group", None}
        The norm between convolution and ReLU; the paper's network has none.
    up : {"transpose", "bilinear", "nearest"}
        The up-step: a learned 2x2 transposed convolution that halves the channels, as in the paper, or interpolation that keeps
        them.
    deep_supervision : bool
        Whether every node X(0,j), j >= 1, has a head, and the loss is the mean of theirs; else only the last one has.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import UNetPlusPlus
    >>> net = UNetPlusPlus(1, 2, base_width=4, depth=3)
    >>> logits, _ = net.forward(np.zeros((1, 21, 34, 1), np.float32))  # in training one for each head, the last node's first
    >>> len(logits), net(np.zeros((1, 21, 34, 1), np.float32)).shape
    (3, (1, 21, 34, 2))
    >>> net.num_params(), net.prune(1).num_params()
    (34942, 1682)
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 32, depth: int = 4, conv_bias: bool | None = None,
        norm: str | None = "batch", up: str = "transpose", deep_supervision: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = UNetPlusPlusOptions(
            in_channels, num_classes, seed, base_width, depth, conv_bias, norm, up, deep_supervision
        )
        rng = np.random.default_rng(seed)
        widths = [base_width * 2**level for level in range(depth + 1)]
        block: dict[str, Any] = {"norm": norm, "bias": norm is None if conv_bias is None else conv_bias, "rng": rng}
        self.depth, self.least = depth, 2**depth
        self.node: dict[tuple[int, int], Module] = {}
        self.up: dict[tuple[int, int], Module] = {}
        self.head: dict[int, Module] = {}
        for d in range(depth + 1):
            self.node[d, 0] = double_conv(widths[d - 1] if d else in_channels, widths[d], widths[d], **block)
            for i in reversed(range(d)):
                j, width = d - i, widths[i]
                self.up[i, j], channels = up_step(up, widths[i + 1], width, rng)
                self.node[i, j] = double_conv(j * width + channels, width, width, **block)
            if d == depth or (d and deep_supervision):
                self.head[d] = Conv2d(base_width, num_classes, size=1, rng=rng)
        self.pool, self.join = MaxPool2d(2), Join()
        for name, modules in (("node", self.node), ("up", self.up)):
            self.children.update({f"{name}.{i}.{j}": m for (i, j), m in modules.items()})
        self.children.update({f"head.{j}": m for j, m in self.head.items()})
        self.head_weights = (1 / len(self.head),) * len(self.head)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Any, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes) of the last head; in training a list, one a head."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        rows: list[list[Array]] = []  # rows[i][j] is X(i, j)
        logits: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        for d in range(self.depth + 1):
            x = run(self.pool, rows[-1][0]) if d else x
            x = run(self.node[d, 0], x)
            rows.append([x])
            for i in reversed(range(d)):
                x = run(self.up[i, d - i], x)
                x = run(self.join, (*rows[i], x))
                if d == self.depth:
                    del rows[i:]  # this was their last reader
                x = run(self.node[i, d - i], x)
                if d < self.depth:
                    rows[i].append(x)
            if d in self.head and (train or d == self.depth):
                logits.insert(0, run(self.head[d], x))
        return logits if len(logits) > 1 else logits[0], caches if keep else None

    @fusion_scope
    def backward(self, dy: Array | Sequence[Array | None], cache: Cache) -> Array:
        """From the gradients of the logits, in forward's order, to that of the images; adds the parameters' to `grads`."""
        dlogits = list(dy) if isinstance(dy, (list, tuple)) else [dy]
        drows: list[dict[int, Array]] = [
            {} for _ in range(self.depth + 1)
        ]  # what the readers of X(i, j) hand back, summed

        def back(m: Module, dy: Any) -> Any:
            kept = take(cache)
            return None if dy is None else m.backward(dy, kept)  # None: of a head of weight 0

        for d in reversed(range(self.depth + 1)):
            if d in self.head and dlogits:
                drows[0][d] = add(back(self.head[d], dlogits.pop(0)), drows[0].get(d))
            for i in range(d):
                dx = back(self.node[i, d - i], drows[i].pop(d - i))
                *dskips, dx = back(self.join, dx)
                for j, dskip in enumerate(dskips):
                    drows[i][j] = add(dskip, drows[i].get(j))
                dx = back(self.up[i, d - i], dx)
                drows[i + 1][d - i - 1] = add(dx, drows[i + 1].get(d - i - 1))
            dx = back(self.node[d, 0], drows[d].pop(0))
            if d:
                dx = back(self.pool, dx)
                drows[d - 1][0] = add(dx, drows[d - 1].get(0))
        return dx

    def prune(self, depth: int) -> UNetPlusPlus:
        """A copy with only `depth` poolings and the head of X(0,depth): its logits are bit by bit those of that head here.

        Raises
        ------
        ValueError
            If there is no such head: without deep supervision only the last node has one.
        """
        if depth not in self.head:
            raise ValueError(f"a network with heads at {', '.join(map(str, self.head))} cannot be cut to depth {depth}")
        pruned = UNetPlusPlus(**asdict(replace(self.architecture, depth=depth, deep_supervision=False)))
        own = dict(self.modules())
        for path, m in pruned.modules():
            m.params = {name: p.copy() for name, p in own[path].params.items()}
            m.buffers = {name: b.copy() for name, b in own[path].buffers.items()}
        if hasattr(self, "preprocessing"):
            pruned.preprocessing = self.preprocessing
        return pruned
