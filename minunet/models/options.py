"""The options that networks are built from: the arguments of their constructors, checked, as checkpoints store them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
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

    @classmethod
    def own(cls) -> dict[str, Field[Any]]:
        """The options of this architecture beyond what all have, by name."""
        return {f.name: f for f in fields(cls) if f.name not in NetworkOptions.__dataclass_fields__}

    @classmethod
    def for_patches(cls, side: int) -> dict[str, Any]:
        """The options that follow from the side of the training patches, in pixels: none for most architectures."""
        return {}

    @classmethod
    def from_texts(cls, texts: Iterable[str | int]) -> dict[str, Any]:
        """The values of options that are given as texts: ["steps=3", "separate=true"].

        Raises
        ------
        UserError
            If a text is not of the form NAME=VALUE, an option is unknown, or it takes no such value.
        """
        return dict(_value_of(cls, str(text)) for text in texts)


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


def _value_of(kind: type[NetworkOptions], text: str) -> tuple[str, Any]:
    """The name and the value of an option from a text NAME=VALUE."""
    name, equals, value = text.partition("=")
    name, own = name.strip().replace("-", "_"), kind.own()
    if not equals:
        raise UserError(f"{shown(text)} is no option: write NAME=VALUE, such as {next(iter(own), 'depth')}=4")
    if name not in own:
        raise UserError(unknown_option(kind, name))
    what, _, optional = str(own[name].type).partition(" | ")
    if value.lower() == "none" and (optional == "None" or None in own[name].metadata.get("choices", ())):
        return name, None
    try:
        kinds: dict[str, Any] = {"int": int, "float": float, "bool": {"true": True, "false": False}.__getitem__}
        return name, kinds.get(what, str)(value.strip())
    except (ValueError, KeyError):
        raise UserError(f"{name}: {shown(value)} is no {what}") from None


def unknown_option(kind: type[NetworkOptions], name: str) -> str:
    """A sentence: that an architecture has no option of this name, and which it has."""
    near = get_close_matches(name, kind.own(), 1)
    return (
        f"{kind.name} has no option {shown(name)}{f'; did you mean {near[0]}?' if near else ''}; it has "
        f"{', '.join(kind.own()) or 'none'}"
    )
