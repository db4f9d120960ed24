"""The options that networks are built from: the arguments of their constructors, checked, as checkpoints store them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import Settings, UserError, setting, shown


@dataclass(frozen=True)
class NetworkOptions(Settings):
    """What all architectures have in common.

    Attributes
    ----------
    name : str
        Name of the architecture, as ``--arch`` takes it; "" for a class of the caller's own, which no file can build again.
    in_channels : int
        Channels of the images.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    seed : int
        Seed of the initial weights.
    """

    name: ClassVar[str] = ""

    in_channels: int = setting(1, least=1)
    num_classes: int = setting(2, least=1)
    seed: int = setting(0, least=0)


@dataclass(frozen=True)
class UNetOptions(NetworkOptions):
    """The arguments of `minunet.UNet`, which describes them."""

    name: ClassVar[str] = "unet"

    base_width: int = setting(64, least=1)
    depth: int = setting(4, least=0, most=16)
    widths: Any = None
    conv_bias: bool | None = None
    norm: str | None = setting("batch", choices=("batch", "group", None))
    padding: str = setting("same", choices=("same", "valid"))
    up: str = setting("transpose", choices=("transpose", "bilinear", "nearest"))
    dropout: float = setting(0.0, least=0, most=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths is not None and not _are_widths(self.widths):
            raise UserError(
                f"widths: {shown(self.widths)} is not [encoder, decoder] or [encoder, decoder, up], lists of channels of "
                "which the encoder's has one more"
            )


def _are_widths(sides: Any) -> bool:
    """Whether these are two or three lists of channels (whole numbers or pairs), the first longer by one than the others."""

    def are_channels(values: Any) -> bool:
        return isinstance(values, (list, tuple)) and all(type(n) is int and n >= 1 for n in values)

    def fits(side: Any) -> bool:
        if not isinstance(side, (list, tuple)):
            return False
        blocks = [[w] if isinstance(w, int) else w for w in side]
        return all(are_channels(block) and len(block) in (1, 2) for block in blocks)

    lists = isinstance(sides, (list, tuple)) and len(sides) in (2, 3) and all(map(fits, sides))
    return lists and all(len(sides[0]) == len(side) + 1 for side in sides[1:])


OPTIONS: dict[str, type[NetworkOptions]] = {"unet": UNetOptions}
