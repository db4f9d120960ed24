"""The base of the networks: which images they take, and how much each of their heads counts in training."""

from __future__ import annotations

from ..nn import Module


class Network(Module):
    """Base of the networks; the output of most is as large as the image.

    To add one, write `models/NAME.py` with its class and its options, and add a line for it in `models/__init__.py`, a word in
    `train/config.py`, and an entry in `tests/helpers/family.py`, with which tests/models/test_family.py checks it.

    Attributes
    ----------
    least : int
        The fewest rows and columns that an image may have: 2^depth where maps are halved `depth` times.
    multiple : int
        Rows and columns must be multiples of it; 1 if the joints of skips pad maps that halving has cut (`Join`).
    finds_objects : bool
        Whether the outputs are a list, in training and inference alike, from which objects are found one by one
        (`minunet.predict.detections`), in place of a map as large as the image.
    head_weights : tuple of float
        How much the loss of each head counts, the main one first. With several (deep supervision), ``forward(train=True)``
        returns a list of logits in this order, and `backward` takes a list of their gradients, None for a head of weight 0.
        ``forward(train=False)`` returns one map. A head may be smaller than the image; see `minunet.train.heads`.
    hands_over : bool
        Whether the backward passes every gradient on as `single_use`, so that none waits in a variable; `summary` asks.
    """

    least: int = 1
    multiple: int = 1
    finds_objects: bool = False
    head_weights: tuple[float, ...] = (1.0,)
    hands_over: bool = False

    def check_size(self, H: int, W: int) -> None:
        """ValueError, with the nearest sizes that fit, if images of H x W pixels do not."""
        if min(H, W) < self.least:
            raise ValueError(f"{H} x {W} pixels are too small: {self.least} is the least")
        for n in (H, W):
            if n % self.multiple:
                raise ValueError(
                    f"sides must be multiples of {self.multiple}: {n} pixels do not fit, {self.fit_size(n)} do"
                )

    def fit_size(self, n: int) -> int:
        """The smallest number of rows or columns, at least n, that fits and whose output has at least n."""
        return -(-max(n, self.least) // self.multiple) * self.multiple

    def output_size(self, n: int) -> int:
        """Rows or columns of the output, for n that fit."""
        return n
