"""A network that finds objects one by one: a detector without anchors (FCOS) that also gives masks (YOLACT).

    image - encoder - C2, C3, C4, C5    strides 4, 8, 16, 32
                      |   |   |   \\---------------- lateral.3 -> smooth.3 -> towers
                      |   |   \\------- lateral.2 + up --/     -> smooth.2 -> towers     the same towers at every level
                      |   \\--- lateral.1 + up --/             -> smooth.1 -> towers
                      \\- lateral.0 + up --/                   -> smooth.0 -> towers
                                                                        \\-> prototypes, at stride 2

A U-Net says of every pixel which class it is, and objects are told apart afterwards. Here a location says whether it lies in
the middle of an object (class), how far right, down, left and up of it the object's box ends (distances), how central it is
itself (centre-ness), and k coefficients: the object's mask is the sum of k prototypes, maps of the whole image, each times its
coefficient, cut to the box.

To compare with `unet.py`: up-step and skip, a sum in place of a concatenation, are the pyramid. What is new is that every level
has an output, and the same two towers run at all of them, so that their filters get the sum of four gradients. Nuclei are 8 to
60 pixels large: levels begin at stride 4, where the paper has 8, and end at 32.

Sources: Lin et al. 2017, Feature pyramid networks, arXiv:1612.03144; Tian et al. 2019, FCOS, arXiv:1904.01355 (towers, group
norm, a scale for each level, centre-ness on the tower of boxes); Bolya et al. 2019, YOLACT, arXiv:1904.02689 (prototypes and
coefficients). Of the kind of one-stage detectors that YOLO began, but no YOLO.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, log
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import (
    Add,
    Cache,
    Concat,
    Conv2d,
    GroupNorm,
    Module,
    ReLU,
    ScaledExp,
    Sequential,
    Tanh,
    UpsampleBilinear,
    UpsampleNearest,
    constant,
    he_normal,
    take,
)
from ..ops.lazy import fusion_scope
from .blocks import Fit, add
from .encoders import ENCODERS, make_encoder
from .network import Network
from .options import NetworkOptions

STRIDES = (4, 8, 16, 32)
BESIDES = 5  # channels of a level beside those of classes and coefficients: four distances and the centre-ness
PRIOR = 0.01  # how likely every location says at first that there is an object (Lin et al. 2017, arXiv:1708.02002)
FAN_IN = 20_000  # of the last filters: they are drawn with a standard deviation of 0.01, as FCOS's are


@dataclass(frozen=True)
class InstanceNetOptions(NetworkOptions):
    """The arguments of `InstanceNet`, which describes them."""

    name: ClassVar[str] = "instance_net"

    num_classes: int = setting(1, least=1)
    encoder: str = setting("resnet18", choices=tuple(e for e in ENCODERS if not e.startswith("vgg")))
    encoder_width: float = setting(1.0, above=0, most=8)
    standardise: str | None = setting(None, choices=("imagenet", None))
    width: int = setting(128, least=1)
    tower: int = setting(2, least=1, most=8)
    prototypes: int = setting(32, least=1)


class InstanceNet(Network):
    """A detector with masks, for ``--target instances``.

    Parameters
    ----------
    in_channels, seed, encoder, encoder_width, standardise
        As in `EncoderUNet`; there is no VGG.
    num_classes : int
        Kinds of objects, each with a sigmoid; `train` takes 1.
    width, tower : int
        Channels of the pyramid, the towers and the prototypes' layers, and a tower's convolutions; the papers have 256 and 4.
    prototypes : int
        How many maps a mask is the sum of.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build, outline
    >>> outline("instance_net", in_channels=3).num_params()
    13119370
    >>> net = build("instance_net", in_channels=1, encoder_width=1 / 32, width=4, prototypes=3)
    >>> [y.shape[1:] for y in net(np.zeros((1, 60, 64, 1), np.float32))]
    [(15, 16, 9), (8, 8, 9), (4, 4, 9), (2, 2, 9), (30, 32, 3)]
    """

    least = STRIDES[-1]
    finds_objects = True

    def __init__(
        self, in_channels: int, num_classes: int = 1, seed: int = 0, encoder: str = "resnet18", encoder_width: float = 1.0,
        standardise: str | None = None, width: int = 128, tower: int = 2, prototypes: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = InstanceNetOptions(
            in_channels, num_classes, seed, encoder, encoder_width, standardise, width, tower, prototypes
        )
        rng = np.random.default_rng(seed)
        self.encoder = make_encoder(encoder, in_channels, encoder_width, rng=rng, standardise=standardise)
        self.lateral = [make_conv(channels, width, 1, rng) for channels in self.encoder.channels[2:]]
        self.up, self.fit, self.add = UpsampleNearest(2), Fit(), Add()
        self.smooth = [make_conv(width, width, 3, rng) for _ in STRIDES]
        self.class_tower, self.box_tower = (make_tower(width, tower, rng) for _ in range(2))
        self.classes, self.distances, self.centre, self.coefficients = (
            make_conv(width, out, 3, rng, FAN_IN) for out in (num_classes, 4, 1, prototypes)
        )
        self.classes.params["b"] = constant(-log((1 - PRIOR) / PRIOR), num_classes)
        self.exp = [ScaledExp() for _ in STRIDES]
        self.tanh, self.concat = Tanh(), Concat()
        self.prototypes = make_prototypes(width, prototypes, rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[list[Array], Cache]:
        """Images (N, H, W, in_channels) to a list: four levels (N, H / s, W / s, num_classes + 5 + k), prototypes (N, h, w, k).

        The channels of a level are the classes' logits, the distances right, down, left and up in strides s, the logit of the
        centre-ness, and the coefficients. A pixel of the prototypes is two of the image. Sizes are rounded up.
        """
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        levels: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        features = run(self.encoder, x)[2:]
        for level in reversed(range(len(STRIDES))):
            side = run(self.lateral[level], features[level])
            if level < len(STRIDES) - 1:
                x = run(self.up, x)
                x = run(self.fit, (x, side))
                x = run(self.add, (side, x))
            else:
                x = side
            levels.insert(0, run(self.smooth[level], x))
        y = []
        for level, x in enumerate(levels):
            there, box = run(self.class_tower, x), run(self.box_tower, x)
            classes = run(self.classes, there)
            distances = run(self.exp[level], run(self.distances, box))
            centre = run(self.centre, box)
            coefficients = run(self.tanh, run(self.coefficients, box))
            y.append(run(self.concat, (classes, distances, centre, coefficients)))
        y.append(run(self.prototypes, levels[0]))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: list[Array], cache: Cache) -> Array:
        """From the gradients of the outputs, in their order, to that of the images; adds the parameters' to `grads`."""
        dlevels: list[Array] = []
        dfeatures: list[Array] = []

        def back(m: Module, dy: Any) -> Any:
            return m.backward(dy, take(cache))

        dx: Any = back(self.prototypes, dy[-1])
        for level in reversed(range(len(STRIDES))):
            dclasses, ddistances, dcentre, dcoefficients = back(self.concat, dy[level])
            dbox = back(self.coefficients, back(self.tanh, dcoefficients))
            dbox = add(dbox, back(self.centre, dcentre))
            dbox = add(dbox, back(self.distances, back(self.exp[level], ddistances)))
            dthere = back(self.classes, dclasses)
            dlevel = add(back(self.box_tower, dbox), back(self.class_tower, dthere))
            dlevels.insert(0, dlevel if level else add(dlevel, dx))
        dx = None
        for level, dlevel in enumerate(dlevels):
            dx = add(back(self.smooth[level], dlevel), dx)
            if level < len(STRIDES) - 1:
                dside, dx = back(self.add, dx)
                dx = back(self.fit, dx)
                dx = back(self.up, dx)
            else:
                dside = dx
            dfeatures.append(back(self.lateral[level], dside))
        return back(self.encoder, [None, None, *dfeatures])


def make_tower(width: int, depth: int, rng: np.random.Generator) -> Sequential:
    """3x3 convolutions, each with a group norm and a ReLU."""
    layers: dict[str, Module] = {}
    for n in range(1, depth + 1):
        conv, norm = Conv2d(width, width, bias=False, rng=rng), GroupNorm(width, gcd(width, 32))
        layers |= {f"conv{n}": conv, f"norm{n}": norm, f"relu{n}": ReLU()}
    return Sequential(**layers)


def make_conv(channels: int, out: int, size: int, rng: np.random.Generator, fan_in: int | None = None) -> Conv2d:
    """A convolution without a ReLU behind it: half of the usual variance of its filters keeps that of the map."""
    conv = Conv2d(channels, out, size, rng=rng)
    conv.params["w"] = he_normal((size, size, channels, out), rng, fan_in or 2 * conv.fan_in)
    return conv


def make_prototypes(width: int, count: int, rng: np.random.Generator) -> Sequential:
    """Three 3x3 convolutions, twice the size, and one more, each with a ReLU; then the prototypes, which have one, too."""
    layers: dict[str, Module] = {}
    for n in range(1, 5):
        layers |= {"up": UpsampleBilinear(2, align_corners=False)} if n == 4 else {}
        layers |= {f"conv{n}": Conv2d(width, width, rng=rng), f"relu{n}": ReLU()}
    return Sequential(**layers, conv5=Conv2d(width, count, 1, rng=rng), relu5=ReLU())
