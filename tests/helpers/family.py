"""The family of networks, each as small as it can be: what tests/models/test_family.py runs every one through.

To add a network, add

* its class and options to `minunet/models/__init__.py`, and its name to `minunet/train/config.py`;
* an entry to `MEMBERS` below;
* to helpers/family_twins.py the same network in PyTorch, written from its paper, with the names of our parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from minunet.data import ClassMap, Preprocessing
from minunet.models import build
from minunet.nn import Module, Sequential


@dataclass(frozen=True)
class Member:
    """A network of the family.

    Attributes
    ----------
    tiny : dict
        Options with which it is small, widths of 2 to 8.
    variants : sequence of dict
        Further options, each added to `tiny`, with which gradients are checked and compared with the twin's.
    counts : sequence of (dict, int, int)
        Options, learned parameters and running statistics, from the paper or a known implementation; 3 channels, 2 classes.
    size : (int, int)
        Rows and columns of the images, odd where the network takes such.
    twin : bool
        Whether there is a twin in family_twins.py.
    steady : tuple of str
        How the paths of the parameters begin whose gradients half precision must give; by default all. Where values are put
        back at the places of maxima, a rounding moves them, and what comes before has another gradient altogether.
    classes : int
        Channels of the output; a detector has one kind of objects.
    """

    tiny: dict[str, Any]
    variants: Sequence[dict[str, Any]] = ({},)
    counts: Sequence[tuple[dict[str, Any], int, int]] = ()
    size: tuple[int, int] = (9, 10)
    twin: bool = True
    steady: tuple[str, ...] = ("",)
    classes: int = 3


MEMBERS: dict[str, Member] = {
    "unet": Member(
        {"base_width": 2, "depth": 2},
        [{}, {"up": "bilinear", "norm": "group"}],
        [({}, 31_037_698, 11_776), ({"base_width": 32}, 7_763_074, 5_888)],
    ),
    "residual_unet": Member({"base_width": 2, "depth": 2}, counts=[({}, 8_216_834, 6_400)]),
    "attention_unet": Member(
        {"base_width": 2, "depth": 2},
        [{}, {"reduction": 2}, {"gates": "upsampled"}],
        [
            ({}, 33_450_629, 13_568),
            ({"reduction": 2}, 32_417_541, 13_568),
            ({"gates": "upsampled"}, 34_878_638, 15_624),
        ],
    ),
    "se_unet": Member(
        {"base_width": 2, "depth": 2, "reduction": 2},
        counts=[({}, 31_261_891 - 2944 - 9, 11_776)],  # scSE without sSE
    ),
    "scse_unet": Member(
        {"base_width": 2, "depth": 2}, counts=[({}, 32_789_963, 11_776), ({"reduction": 16}, 31_261_891, 11_776)]
    ),
    "r2_unet": Member(
        {"base_width": 2, "depth": 1},
        [{}, {"separate": True}, {"step_norms": True, "steps": 1}],
        [({}, 39_091_458, 13_696), ({"separate": True}, 70_499_586, 13_696)],
    ),
    "unet_plus_plus": Member(
        {"base_width": 2, "depth": 2},
        [{}, {"norm": None, "up": "bilinear"}, {"deep_supervision": False, "conv_bias": True}],
        [
            ({}, 9_046_056, 7_296),
            ({"norm": None}, 9_042_408, 0),
            ({"norm": None, "in_channels": 1, "num_classes": 1}, 9_041_700, 0),
            ({"deep_supervision": False}, 9_045_858, 7_296),
            ({"up": "bilinear", "conv_bias": True}, 9_163_560, 7_296),  # the port "nested-unet"
        ],
    ),
    "unet_3plus": Member(
        {"base_width": 2, "depth": 2},
        [{"depth": 3}, {"norm": None}, {"deep_supervision": False, "conv_bias": True}],
        [
            ({"conv_bias": True}, 27_010_378, 13_056),
            ({"conv_bias": True, "num_classes": 1}, 26_989_637, 13_056),
            ({}, 27_003_850, 13_056),
            ({"conv_bias": True, "deep_supervision": False}, 26_974_658, 13_056),
        ],
    ),
    "nnunet": Member(
        {"base_width": 2, "stages": 3},
        [{"widest": 3, "stages": 4}, {"deep_supervision": False}],
        [
            ({}, 33_472_396, 0),
            ({"patch": 128}, 20_619_658, 0),
            ({"patch": 512}, 46_325_134, 0),
        ],
    ),
    "encoder_unet": Member(
        {"encoder": "resnet18", "encoder_width": 1 / 32, "decoder_width": 1},
        [{}, {"encoder": "vgg11", "full_resolution_skip": True}],
        [
            ({"encoder": "vgg11"}, 18_254_178, 4_032),
            ({"encoder": "vgg11_bn"}, 18_259_682, 9_536),
            ({"encoder": "vgg16_bn"}, 23_756_834, 12_480),
            ({"encoder": "resnet18"}, 14_328_354, 11_584),
            ({"encoder": "resnet34"}, 24_436_514, 19_008),
            ({"encoder": "resnet50"}, 32_521_250, 55_104),
            ({"encoder": "mobilenet_v2"}, 6_629_090, 36_096),
            # less than SMP by the 195 of an excitation in its last block that never runs
            ({"encoder": "resnet34", "attention": "scse"}, 24_550_505 - 195, 19_008),
        ],
        size=(33, 46),
    ),
    "encoder_unet_plus_plus": Member(
        {"encoder": "resnet18", "encoder_width": 1 / 32, "decoder_width": 1},
        counts=[({}, 26_078_754, 20_800)],
        size=(33, 46),
    ),
    "segnet": Member(
        {"base_width": 1, "conv_bias": False},
        counts=[({}, 29_444_162, 15_872), ({"conv_bias": False}, 29_436_226, 15_872)],
        size=(33, 46),
        steady=("head", "decoder.0"),
    ),
    "deeplab_v3plus": Member(
        {"encoder": "resnet18", "encoder_width": 1 / 32, "width": 2, "dropout": 0.0},
        [{}, {"output_stride": 8, "separable": True}],
        [({}, 39_756_962, 56_800), ({"output_stride": 8}, 39_756_962, 56_800)]
        + [
            ({"layout": "smp", "encoder": name, "separable": separable, "output_stride": stride}, params, running)
            for name, separable, stride, params, running in (
                ("resnet18", True, 16, 12_329_554, 13_792),
                ("resnet34", True, 16, 22_437_714, 21_216),
                ("resnet50", True, 8, 26_677_842, 57_312),
                ("resnet18", False, 16, 15_461_458, 13_792),
                ("resnet34", False, 16, 25_569_618, 21_216),
                ("resnet50", False, 16, 39_205_458, 57_312),
            )
        ],
        size=(33, 46),
    ),
    "stardist": Member(
        {"base_width": 2, "depth": 2, "features": 5},
        [{}, {"grid": 2, "depth": 1, "norm": "batch"}],
        [
            ({"num_classes": 33}, 1_407_265, 0),
            ({"num_classes": 33, "in_channels": 1}, 1_406_689, 0),
            ({"num_classes": 33, "grid": 2}, 1_425_761, 0),
            ({"num_classes": 33, "in_channels": 1, "grid": 2}, 1_425_185, 0),
        ],
        size=(10, 12),
    ),
    "instance_net": Member(
        {"encoder_width": 1 / 32, "width": 6, "tower": 1, "prototypes": 2},
        [{"num_classes": 3, "tower": 2}],
        [
            ({"num_classes": 1}, 13_119_370, 9_600),
            ({"num_classes": 1, "encoder": "resnet34", "width": 256, "tower": 4}, 31_070_602, 17_024),
        ],
        size=(33, 46),
        classes=1,
    ),
}

VARIANTS = [(name, options) for name, member in MEMBERS.items() for options in member.variants]


def make(name: str, **options: Any) -> Module:
    """A small network for images of 2 channels and 3 classes, or the member's.

    Norms and biases are away from their start, where errors hide.
    """
    model = build(
        name, **{"in_channels": 2, "num_classes": MEMBERS[name].classes, "seed": 1, **MEMBERS[name].tiny, **options}
    )
    rng = np.random.default_rng(0)
    for path, array in model.state().items():
        if path.endswith(("gamma", "var")):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif not path.endswith(".w"):
            array[...] = rng.normal(0, 0.3, array.shape)
    K, channels = model.architecture.num_classes, model.architecture.in_channels
    if model.finds_objects:
        model.preprocessing = Preprocessing(channels, ClassMap.binary(), target="instances")
    else:
        model.preprocessing = Preprocessing(channels, ClassMap(list(range(K)), [f"c{n}" for n in range(K)]))
    return model


class AllHeads(Module):
    """A network whose heads come as one vector, so that the gradient checker sees them all."""

    def __init__(self, net: Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = self.net.forward(x, train, rng, keep)
        heads = y if isinstance(y, list) else [y]
        shapes = [head.shape for head in heads]
        return np.concatenate([head.ravel() for head in heads]), (cache, shapes)

    def backward(self, dy, cache):
        inner, shapes = cache
        parts = np.split(dy, np.cumsum([np.prod(s) for s in shapes])[:-1])
        dheads = [part.reshape(s) for part, s in zip(parts, shapes)]
        return self.net.backward(dheads if len(dheads) > 1 else dheads[0], list(inner))


def biases_before_norms(net: Module) -> list[str]:
    """Paths of the biases that a norm takes away again, directly after their convolution: their gradient is 0."""
    found = []
    for path, block in net.modules():
        layers = list(block.children.items())
        for (name, m), (_, after) in pairwise(layers):
            if isinstance(block, Sequential) and "b" in m.params and "gamma" in after.params:
                found.append(f"{path}.{name}.b")
    return found
