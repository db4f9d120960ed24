"""The networks, by the name that ``--arch`` takes.

unet.py       the U-Net, forward and backward; options.py: the options to build it from, as checkpoints store them
residual_unet.py   the U-Net of residual units; attention_unet.py: with gated skips; se_unet.py: with excited channels;
              scse_unet.py: and pixels; r2_unet.py: of recurrent blocks, which are in recurrent.py
gates.py      attention gates and excitations
unet_plus_plus.py, unet_3plus.py   U-Nets whose skips are filled with nodes, and whose decoders read all levels
nnunet.py     nnU-Net's plain 2-D network
encoder_unet.py   a U-Net with a classification network as its encoder; encoder_unet_plus_plus.py: a UNet++ with one
encoders/     VGG, ResNet and MobileNetV2
segnet.py   unpooling at the winners of the pools: SegNet
deeplab_v3plus.py   dilated convolutions in place of a long way down: DeepLab v3+
stardist.py   StarDist's network
instance_net.py   a detector with masks
network.py    the base of the networks: which images they take, how much each of their heads counts
blocks.py     their larger parts: double convolution, up-step, joint of a skip
ensemble.py   several networks as one
trace.py      which layers run, on which maps, without computing anything
summary.py    what a network costs: parameters, arithmetic, memory
receptive_field.py   how far a network looks
shipped/      networks that come trained
command.py    the command that lists the networks
"""

from __future__ import annotations

from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any

from ..errors import UserError, shown
from ..nn import Module, shapes_only
from .attention_unet import AttentionUNet, AttentionUNetOptions
from .deeplab_v3plus import DeepLabV3Plus, DeepLabV3PlusOptions
from .encoder_unet import EncoderUNet, EncoderUNetOptions
from .encoder_unet_plus_plus import EncoderUNetPlusPlus, EncoderUNetPlusPlusOptions
from .ensemble import Ensemble
from .instance_net import InstanceNet, InstanceNetOptions
from .network import Network
from .nnunet import NNUNet, NNUNetOptions
from .options import NetworkOptions, UNetOptions, unknown_option
from .r2_unet import R2UNet, R2UNetOptions
from .residual_unet import ResidualUNet, ResidualUNetOptions
from .scse_unet import ScSEUNet, ScSEUNetOptions
from .se_unet import SEUNet, SEUNetOptions
from .segnet import SegNet, SegNetOptions
from .stardist import StarDist, StarDistOptions
from .unet import UNet
from .unet_3plus import UNet3Plus, UNet3PlusOptions
from .unet_plus_plus import UNetPlusPlus, UNetPlusPlusOptions

# a network is one line in each: its class, and its options, from its own file
ARCHITECTURES: dict[str, type[Module]] = {
    "unet": UNet,
    "residual_unet": ResidualUNet,
    "attention_unet": AttentionUNet,
    "se_unet": SEUNet,
    "scse_unet": ScSEUNet,
    "r2_unet": R2UNet,
    "unet_plus_plus": UNetPlusPlus,
    "unet_3plus": UNet3Plus,
    "nnunet": NNUNet,
    "encoder_unet": EncoderUNet,
    "encoder_unet_plus_plus": EncoderUNetPlusPlus,
    "segnet": SegNet,
    "deeplab_v3plus": DeepLabV3Plus,
    "stardist": StarDist,
    "instance_net": InstanceNet,
}
OPTIONS: dict[str, type[NetworkOptions]] = {
    "unet": UNetOptions,
    "residual_unet": ResidualUNetOptions,
    "attention_unet": AttentionUNetOptions,
    "se_unet": SEUNetOptions,
    "scse_unet": ScSEUNetOptions,
    "r2_unet": R2UNetOptions,
    "unet_plus_plus": UNetPlusPlusOptions,
    "unet_3plus": UNet3PlusOptions,
    "nnunet": NNUNetOptions,
    "encoder_unet": EncoderUNetOptions,
    "encoder_unet_plus_plus": EncoderUNetPlusPlusOptions,
    "segnet": SegNetOptions,
    "deeplab_v3plus": DeepLabV3PlusOptions,
    "stardist": StarDistOptions,
    "instance_net": InstanceNetOptions,
}


def build(network: NetworkOptions | str, **options: Any) -> Module:
    """Build a network from its options, which it keeps as `architecture`.

    Parameters
    ----------
    network : NetworkOptions or str
        Options, or the name of an architecture (`minunet models` lists them).
    **options
        The architecture's options, see its class; those that are left out are `network`'s, or have their defaults.

    Raises
    ------
    UserError
        If there is no such architecture, it has no such option, or an option takes no such value.

    Examples
    --------
    >>> from minunet.models import build
    >>> build("unet", in_channels=3, num_classes=2, base_width=32).num_params()
    7763074
    """
    chosen = network if isinstance(network, NetworkOptions) else options_of(network)()
    for name in options:
        if name not in type(chosen).__dataclass_fields__:
            raise UserError(unknown_option(type(chosen), name))
    chosen = replace(chosen, **options)
    return ARCHITECTURES[chosen.name](**asdict(chosen))


def outline(network: NetworkOptions | str, **options: Any) -> Module:
    """The same network without memory for its weights, which have shapes only: to count and to follow it."""
    with shapes_only():
        return build(network, **options)


def options_of(name: str) -> type[NetworkOptions]:
    """The class of an architecture's options; UserError, which suggests the nearest name, if there is none of this name."""
    if name not in OPTIONS:
        near = get_close_matches(str(name), OPTIONS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(OPTIONS)}"
        raise UserError(f"there is no architecture {shown(name)}: {hint}")
    return OPTIONS[name]


__all__ = [
    "ARCHITECTURES", "OPTIONS", "DeepLabV3PlusOptions", "EncoderUNetOptions", "EncoderUNetPlusPlusOptions", "Ensemble",
    "NNUNet", "NNUNetOptions", "Network", "NetworkOptions", "UNet", "UNet3Plus", "UNet3PlusOptions", "UNetOptions",
    "UNetPlusPlus", "UNetPlusPlusOptions", "build", "options_of", "outline",
]  # fmt: skip
