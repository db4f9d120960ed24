"""Networks as files that PyTorch-UNet loads."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...array import to_numpy
from ...atomic import write_atomically
from ...errors import UserError
from ...models import UNet
from ...models.unet import default_widths, mid_out
from ...nn import Module
from .layout import Layout, axes

FOLDER = "archive"  # in the zip
ALIGNMENT = 64  # storages start at multiples of so many bytes, as in PyTorch's own files, so that they can be mapped


def save_torch(model: Module, path: Path | str, mask_values: bool = False, any_width: bool = False) -> None:
    """Write a checkpoint that PyTorch-UNet loads: ``net.load_state_dict(torch.load(path, weights_only=True))``.

    Biases of convolutions before a norm, which PyTorch-UNet no longer has, are subtracted from the norm's running mean; the
    outputs stay the same.

    Parameters
    ----------
    model : UNet
    path : path
    mask_values : bool
        Also write the key "mask_values". PyTorch-UNet's train.py -f needs it and removes it before it loads the weights; a
        plain load_state_dict refuses a file that has it.
    any_width : bool
        Also write networks that are wider, narrower, deeper or shallower than PyTorch-UNet's, for an edited copy of its code.

    Raises
    ------
    UserError
        If PyTorch-UNet has no such network, with the reason; or if the file cannot be written.
    """
    state = {name: to_numpy(a).astype(np.float32) for name, a in model.state().items()}
    layout = layout_of(model, state, path, any_width)
    if layout.conv_bias:
        fold_biases(state)
        layout = replace(layout, conv_bias=False)
    content: dict[str, Any] = {}
    for key, entry in layout.entries().items():
        array = np.zeros((), np.int64) if entry.path is None else state[entry.path]
        content[key] = np.array(array.transpose(np.argsort(axes(key, array.ndim))), order="C")
    if mask_values:
        if not hasattr(model, "preprocessing"):
            raise UserError(f"{path} was not written: this network was not trained, so there are no mask_values")
        values = list(model.preprocessing.classes.values)  # a network of a border class has more outputs than these
        content["mask_values"] = (
            values if len(values) == max(2, layout.num_classes) else list(range(layout.num_classes))
        )
    write_atomically(path, torch_zip(content))


def layout_of(model: Module, state: Mapping[str, np.ndarray], path: Path | str, any_width: bool = False) -> Layout:
    """The layout of one of our networks in PyTorch-UNet's newest version; UserError with the reason if it has none."""
    kinds = {type(m).__name__ for _, m in model.modules()}
    if not isinstance(model, UNet):
        reason = f"it is a {type(model).__name__}"
    elif model.padding != "same":
        reason = "its convolutions are not padded"
    elif "BatchNorm2d" not in kinds:
        reason = "it has " + ("group norms" if "GroupNorm" in kinds else "no norms") + " where that has batch norms"
    elif "UpsampleNearest" in kinds:
        reason = "its maps grow by nearest neighbours, neither bilinearly nor by transposed convolutions"
    else:
        layout = _layout_of_unet(state, model.depth)
        if any_width or _is_stock(layout):
            return layout
        reason = (
            f"it has {layout.depth} poolings and is {layout.encoder[0][1]} to {layout.encoder[-1][1]} wide; train with "
            "--base-width 64 --depth 4, or pass any_width=True (--any-width) for an edited copy of it"
        )
    raise UserError(f"{path} was not written: PyTorch-UNet has no such network: {reason}")


def _layout_of_unet(state: Mapping[str, np.ndarray], depth: int) -> Layout:
    """The layout of the weights of a padded U-Net with batch norms."""

    def width(block: str) -> tuple[int, int]:
        return state[f"{block}.conv1.w"].shape[-1], state[f"{block}.conv2.w"].shape[-1]

    return Layout(
        in_channels=state["encoder.0.conv1.w"].shape[2],
        num_classes=state["head.w"].shape[-1],
        encoder=[*(width(f"encoder.{level}") for level in range(depth)), width("bottom")],
        decoder=[width(f"decoder.{level}") for level in range(depth)],
        up=[state[f"up.{level}.w"].shape[-1] for level in range(depth)] if "up.0.w" in state else None,
        conv_bias="encoder.0.conv1.b" in state,
    )


def _is_stock(layout: Layout) -> bool:
    """Whether PyTorch-UNet as it is published has these widths."""
    up = "bilinear" if layout.up is None else "transpose"
    stock = tuple([mid_out(w) for w in side] for side in default_widths(64, 4, up))
    return (layout.encoder, layout.decoder) == stock and layout.up in (None, [64, 128, 256, 512])


def fold_biases(state: dict[str, np.ndarray]) -> None:
    """Move the biases into the running means of the norms that follow, in place: (x + b) - mean = x - (mean - b)."""
    for path in [path for path in state if path.endswith((".conv1.b", ".conv2.b"))]:
        mean = path.replace(".conv", ".norm").removesuffix(".b") + ".mean"
        state[mean] = state[mean] - state.pop(path)


# ---- the file --------------------------------------------------------------------------------------------------------


def torch_zip(content: Mapping[str, Any]) -> bytes:
    """What `torch.save` writes for a dictionary of arrays (contiguous float32 or int64) and lists of whole numbers."""
    arrays = [a for a in content.values() if isinstance(a, np.ndarray)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        _add(file, "data.pkl", pickle_state(content))
        _add(file, "byteorder", b"little")
        for n, array in enumerate(arrays):
            _add(file, f"data/{n}", array.astype(array.dtype.newbyteorder("<")).tobytes())
        _add(file, "version", b"3\n")
    return buffer.getvalue()


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add an entry whose bytes begin on a multiple of ALIGNMENT, by an extra field of the right length before them."""
    entry = zipfile.ZipInfo(f"{FOLDER}/{name}", (1980, 1, 1, 0, 0, 0))
    begins = file.fp.tell() + 30 + len(entry.filename) + 4  # type: ignore[union-attr]
    filling = -begins % ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", filling) + b"Z" * filling
    file.writestr(entry, content)


def pickle_state(content: Mapping[str, Any]) -> bytes:
    """The pickle, protocol 2, of a dictionary of tensors whose storages are numbered, and of lists of whole numbers."""
    parts, number = [b"\x80\x02}("], 0
    for key, value in content.items():
        parts.append(_text(key))
        if isinstance(value, np.ndarray):
            parts.append(_describe_tensor(number, value))
            number += 1
        else:
            parts.append(_list(value))
    return b"".join([*parts, b"u."])


def _describe_tensor(number: int, array: np.ndarray) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)."""
    kind = {"float32": b"FloatStorage", "int64": b"LongStorage"}[array.dtype.name]
    storage = [
        b"(",
        _text("storage"),
        b"ctorch\n" + kind + b"\n",
        _text(str(number)),
        _text("cpu"),
        _int(array.size),
        b"tQ",
    ]
    strides = [s // array.itemsize for s in array.strides]
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"".join(
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            *storage,
            _int(0),
            _tuple(array.shape),
            _tuple(strides),
            b"\x89",
            hooks,
            b"tR",
        ]
    )


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _int(n: int) -> bytes:
    return b"J" + struct.pack("<i", n)


def _tuple(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_int, numbers)) + b"t"


def _list(values: Iterable[Any]) -> bytes:
    """A list of whole numbers, or of such lists."""
    return b"](" + b"".join(_list(v) if isinstance(v, (list, tuple)) else _int(v) for v in values) + b"e"
