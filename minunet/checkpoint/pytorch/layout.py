"""Which key of PyTorch-UNet is which of our parameters.

A block of two convolutions has the keys P.0.weight (and P.0.bias, in the releases 1.0 and 2.0) and P.1 for the first
convolution and its norm, P.3 and P.4 for the second pair. The prefixes P of the first blocks down and up:

                    first              down                               up                    transposed convolution
    since 10/2019   inc.double_conv    down1.maxpool_conv.1.double_conv   up1.conv.double_conv  up1.up
    before          inc.conv.conv      down1.mpconv.1.conv                up1.conv.conv         up1.up

The last key is outc.conv. Block up1 is the deepest. With bilinear interpolation there is no up1.up. Widths have changed from
version to version, so they are read from the tensors' shapes.

PyTorch's filters are (out, in, H, W), those of transposed convolutions (in, out, H, W); ours are (H, W, in, out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .pickles import Refused

STYLES = (
    {"inc": "inc.double_conv", "down": "down{}.maxpool_conv.1.double_conv", "up": "up{}.conv.double_conv"},
    {"inc": "inc.conv.conv", "down": "down{}.mpconv.1.conv", "up": "up{}.conv.conv"},
)
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
MAX_DEPTH = 8  # as `train --depth` has it
COUNTER = "num_batches_tracked"  # PyTorch needs it for other kinds of running means, and has it since 0.4.1


@dataclass(frozen=True)
class ParameterSpec:
    """For a key of PyTorch: the shape of its tensor, and the path of our parameter, None if the tensor is not needed."""

    shape: tuple[int, ...]
    path: str | None


@dataclass(frozen=True)
class Layout:
    """Everything that determines PyTorch's keys and their shapes.

    Attributes
    ----------
    in_channels, num_classes : int
    encoder, decoder : lists of (int, int)
        Widths of the two convolutions of each block, as `UNet` takes them; the encoder's last one is the bottom's.
    up : list of int or None
        Channels of the transposed convolutions; None for bilinear interpolation.
    conv_bias : bool
        Whether convolutions before a norm have biases.
    style : int
        Which names the keys have, an index of STYLES.
    """

    in_channels: int
    num_classes: int
    encoder: list[tuple[int, int]]
    decoder: list[tuple[int, int]]
    up: list[int] | None  # None: bilinear
    conv_bias: bool = False
    style: int = 0

    @property
    def depth(self) -> int:
        return len(self.decoder)

    def prefixes(self) -> dict[str, str]:
        """PyTorch's prefix of each of our blocks, in PyTorch's order."""
        return block_prefixes(self.depth, self.style)

    def entries(self) -> dict[str, ParameterSpec]:
        """Every key, in PyTorch's order."""
        entries: dict[str, ParameterSpec] = {}
        widths = {"bottom": self.encoder[-1]}
        widths |= {f"encoder.{i}": w for i, w in enumerate(self.encoder[:-1])}
        widths |= {f"decoder.{i}": w for i, w in enumerate(self.decoder)}
        below = self.in_channels
        for block, prefix in self.prefixes().items():
            takes = below
            if block.startswith("decoder"):
                level = int(block.partition(".")[2])
                if self.up is not None:
                    up, gives = f"up{self.depth - level}.up", self.up[level]
                    entries[f"{up}.weight"] = ParameterSpec((below, gives, 2, 2), f"up.{level}.w")
                    entries[f"{up}.bias"] = ParameterSpec((gives,), f"up.{level}.b")
                takes = self.encoder[level][1] + (below if self.up is None else self.up[level])
            entries |= self._block(prefix, block, takes, *widths[block])
            below = widths[block][1]
        entries["outc.conv.weight"] = ParameterSpec((self.num_classes, below, 1, 1), "head.w")
        entries["outc.conv.bias"] = ParameterSpec((self.num_classes,), "head.b")
        return entries

    def _block(self, prefix: str, block: str, takes: int, mid: int, out: int) -> dict[str, ParameterSpec]:
        entries = {}
        for n, (i, o) in enumerate([(takes, mid), (mid, out)]):
            conv, norm = f"{prefix}.{3 * n}", f"{prefix}.{3 * n + 1}"
            entries[f"{conv}.weight"] = ParameterSpec((o, i, 3, 3), f"{block}.conv{n + 1}.w")
            if self.conv_bias:
                entries[f"{conv}.bias"] = ParameterSpec((o,), f"{block}.conv{n + 1}.b")
            entries |= {
                f"{norm}.{key}": ParameterSpec((o,), f"{block}.norm{n + 1}.{name}") for key, name in NORM.items()
            }
            entries[f"{norm}.{COUNTER}"] = ParameterSpec((), None)
        return entries


def block_prefixes(depth: int, style: int) -> dict[str, str]:
    """PyTorch's prefix of each of our blocks, in PyTorch's order: "encoder.0", ..., "bottom", "decoder.3", ..."""
    names = STYLES[style]
    down = [f"encoder.{level}" for level in range(1, depth)] + ["bottom"]
    prefixes = {"encoder.0": names["inc"]} | {b: names["down"].format(n) for n, b in enumerate(down, 1)}
    return prefixes | {f"decoder.{depth - n}": names["up"].format(n) for n in range(1, depth + 1)}


def find_layout(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """The layout of tensors of these shapes; Refused, naming the first key, if one is missing, surplus or of another shape."""
    style = int(f"{STYLES[1]['inc']}.0.weight" in shapes)
    depth = 0
    while depth < MAX_DEPTH and any(key.startswith(f"down{depth + 1}.") for key in shapes):
        depth += 1
    if not depth or not any(key.startswith("inc.") for key in shapes):
        found = ", ".join(ascii(key)[1:-1][:60] for key in list(shapes)[:3]) or "no tensors at all"
        raise Refused(
            f"its keys are not those of PyTorch-UNet, which begin with inc.double_conv.0.weight: it has {found}"
        )

    def shape(key: str, dimensions: int = 4) -> tuple[int, ...]:
        if key not in shapes:
            raise Refused(f"it lacks the key {key}, which PyTorch-UNet has")
        if len(shapes[key]) != dimensions or 0 in shapes[key]:
            raise Refused(f"{key} has the shape {shapes[key]}, {dimensions} dimensions without 0 were expected")
        return shapes[key]

    prefixes = block_prefixes(depth, style)
    widths = {block: (shape(f"{p}.0.weight")[0], shape(f"{p}.3.weight")[0]) for block, p in prefixes.items()}
    encoder = [*(f"encoder.{level}" for level in range(depth)), "bottom"]
    transposed = any(key.startswith("up1.up.") for key in shapes)
    layout = Layout(
        in_channels=shape(f"{prefixes['encoder.0']}.0.weight")[1],
        num_classes=shape("outc.conv.weight")[0],
        encoder=[widths[block] for block in encoder],
        decoder=[widths[f"decoder.{level}"] for level in range(depth)],
        up=[shape(f"up{depth - level}.up.weight")[1] for level in range(depth)] if transposed else None,
        conv_bias=f"{prefixes['encoder.0']}.0.bias" in shapes,
        style=style,
    )
    check_shapes(shapes, layout.entries())
    return layout


def check_shapes(shapes: Mapping[str, tuple[int, ...]], entries: Mapping[str, ParameterSpec]) -> None:
    """Refused, naming the first key, if one of the entries is missing, surplus or of another shape."""
    missing = [key for key in entries if key not in shapes and not key.endswith(COUNTER)]
    surplus = [key for key in shapes if key not in entries]
    for keys, complaint in ((missing, "it lacks the key {}, which PyTorch-UNet has"),
                            (surplus, "it has the key {}, which PyTorch-UNet does not have")):  # fmt: skip
        if keys:
            more = f" (and {len(keys) - 1} more such)" if len(keys) > 1 else ""
            raise Refused(complaint.format(ascii(keys[0])[1:-1][:100]) + more)
    for key, found in shapes.items():
        if found != entries[key].shape:
            raise Refused(f"{key} has the shape {found}, beside the other tensors it must be {entries[key].shape}")


def axes(key: str, dimensions: int) -> tuple[int, ...]:
    """Which axes of PyTorch's tensor are the axes of ours, for `transpose`: filters become (H, W, in, out)."""
    if dimensions != 4:
        return tuple(range(dimensions))
    return (2, 3, 0, 1) if key.endswith(".up.weight") else (2, 3, 1, 0)
