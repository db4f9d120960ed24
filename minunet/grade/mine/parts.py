"""The parts of a U-Net and its training that an exercise stands in for, and where."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """What one exercise does in the network.

    Attributes
    ----------
    exercise : str
    functions : tuple of str
        The functions of minunet in whose place it runs.
    words : str
    where : str
        For a part with one place only, the layer's path; "" if it runs wherever these functions are called.
    """

    exercise: str
    functions: tuple[str, ...]
    words: str
    where: str = ""


def pair(name: str) -> tuple[str, str]:
    """An op and its backward."""
    return name, f"{name}_backward"


ALL = (
    Part("filter_image", ("conv2d",), "the first convolution, one filter at a time", "encoder.0.conv1"),
    Part("conv_forward", ("conv2d",), "convolutions, forward"),
    Part("im2col", ("conv2d",), "the second convolution, as a matrix product", "encoder.0.conv2"),
    Part("conv_backward", ("conv2d_backward",), "convolutions, backward"),
    Part("gradient_check", ("is_gradient",), "the check before the training"),
    Part("conv_transpose", pair("conv_transpose2d"), "the lower up-step"),
    Part("max_pool", pair("max_pool2d"), "pools"),
    Part("bilinear", pair("upsample_bilinear"), "the upper up-step"),
    Part("crop_concat", (*pair("concat"), *pair("crop")), "joints of the skips, and the cut of the margin"),
    Part("batch_norm", ("batch_norm_backward",), "batch norms, backward"),
    Part("cross_entropy", pair("softmax_cross_entropy"), "the first half of the loss"),
    Part("dice", ("soft_dice_backward",), "the second half of the loss, backward"),
    Part("unet_backward", ("unet_backward",), "the wiring of the whole backward"),
    Part("momentum", ("sgd_step",), "the steps of the training"),
    Part("weight_map", ("class_balance", "separation"), "the weights of the pixels"),
    Part("winograd", ("conv2d",), "the first convolution at the bottom, tile by tile", "bottom.conv1"),
)
PARTS = {part.exercise: part for part in ALL}
OPS = ("conv2d", "conv2d_backward", "conv_transpose2d", "conv_transpose2d_backward", "max_pool2d", "max_pool2d_backward",
       "upsample_bilinear", "upsample_bilinear_backward", "concat", "concat_backward", "batch_norm_backward",
       "softmax_cross_entropy", "softmax_cross_entropy_backward", "soft_dice_backward", "sgd_step")  # fmt: skip
EVERYWHERE = ("conv_forward", "im2col")  # convolutions that have no place of their own, or whose own is missing


def owner(function: str, path: str, answered: Collection[str]) -> str | None:
    """Whose exercise runs a function at a layer, of those that are answered; None if minunet's own does."""
    own = [p.exercise for p in ALL if function in p.functions and p.where == path and path]
    general = EVERYWHERE if function == "conv2d" else [p.exercise for p in ALL if function in p.functions]
    return next((name for name in (*own, *general) if name in answered), None)
