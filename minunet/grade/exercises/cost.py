"""The exercise on what a U-Net costs."""

from __future__ import annotations

import numpy as np

from ...models import UNet
from ...models.summary import summary
from ..exercise import Exercise
from ..sheet import Sheet

PLAIN = "grade/later_answers.py"

cost = Exercise(
    "unet_cost",
    "What a U-Net costs, before it runs",
    lesson=10,
    minutes=45,
    task="""Write three functions that foretell a U-Net's parameters, operations and the bytes it keeps for the backward. The
grader asks `minunet.summary` for the right numbers, to the last one. This is the network:

    encoder.l   level l = 0 ... depth - 1: two 3x3 convolutions, padded and without bias, each followed by a batch norm
                (gamma and beta) and a ReLU. The first takes what comes from above (at level 0 the image), both give
                width * 2^l channels. Then a 2x2 max-pool, which drops an odd last row or column
    bottom      the same two convolutions, with width * 2^depth channels; no pool
    up.l        level l = depth - 1 ... 0: a 2x2 transposed convolution with stride 2 and a bias, to half as many channels;
                if a pool has dropped a row or a column, zeros make up for it
    decoder.l   joined with what encoder.l gave, two convolutions as there, to width * 2^l channels
    head        a 1x1 convolution with a bias, to K channels

Kept are, by the plain ops: what each convolution (also a transposed one, and the head) and each batch norm reads, 4 bytes a
number; of each ReLU a mask, and of each pool the winners, one byte for each number that it gives.""",
    write=((PLAIN, "unet_parameters"), (PLAIN, "unet_operations"), (PLAIN, "unet_kept")),
)


def _network(rng: np.random.Generator, depth: int) -> tuple[tuple[int, int, int], UNet]:
    """Channels, classes and width, all different from one another, and the network."""
    C, K, width = (int(n) for n in rng.permutation([1, 2, 3, 4, 5])[:3])
    width += 5
    return (C, K, width), UNet(C, K, base_width=width, depth=depth)


@cost.check("parameters", "parameters without levels", times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for part, depths in (("parameters", (1, 3)), ("parameters without levels", (0,))):
        for depth in depths:
            (C, K, width), net = _network(rng, depth)
            got = sheet.call("unet_parameters", C, K, width, depth)
            sheet.same(part, f"{C} channels, {K} classes, width {width}, depth {depth}", got, net.num_params(), 0.0)


@cost.check("operations", "operations, odd sizes", "kept", "kept, odd sizes", times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for odd in ("", ", odd sizes"):
        for N, depth in ((1, 1), (3, 2)):
            (C, K, width), net = _network(rng, depth)
            H, W = (2**depth * int(n) + (2**depth - 1) * bool(odd) for n in rng.permutation([3, 4, 5])[:2])
            found, shape = summary(net, (N, H, W, C), fused=False), (N, H, W, C)
            asked = f"images {shape}, {K} classes, width {width}, depth {depth}"
            sheet.same(
                f"operations{odd}", asked, sheet.call("unet_operations", shape, K, width, depth), found.flops, 0.0
            )
            sheet.same(f"kept{odd}", asked, sheet.call("unet_kept", shape, K, width, depth), found.kept, 0.0)


_BLOCK, _DECODER = "9 * c * k + 9 * k * k + 4 * k", "9 * (2 * k) * k + 9 * k * k + 4 * k"
_MAPS, _DECODER_MAPS = "(4 * (c + 3 * k) + 2 * k) * pixels", "(4 * (2 * k + 3 * k) + 2 * k) * pixels"
_FIRST, _SECOND = "2 * 9 * (c * k + k * k) * pixels", "2 * 9 * (2 * k * k + k * k) * pixels"
_UP, _HEAD = "2 * 4 * (2 * k) * k * below", "count = 2 * width * K * N * H * W"
cost.wrong(
    "no_norm",
    "the norms' parameters are missing: gamma and beta, two for each channel and each of the two norms of a block",
    (_BLOCK, _BLOCK.replace(" + 4 * k", "")), (_DECODER, _DECODER.replace(" + 4 * k", "")),
)  # fmt: skip
cost.wrong(
    "one_norm",
    "a block has two norms, and each has gamma and beta: four parameters a channel",
    (_BLOCK, _BLOCK.replace("4 * k", "2 * k")), (_DECODER, _DECODER.replace("4 * k", "2 * k")),
)  # fmt: skip
cost.wrong(
    "biases",
    "the 3x3 convolutions have no bias here: the norm after them has one (beta)",
    (_BLOCK, _BLOCK.replace("4 * k", "6 * k")), (_DECODER, _DECODER.replace("4 * k", "6 * k")),
)  # fmt: skip
cost.wrong(
    "one_map_joined",
    "a decoder's first convolution reads two maps, the skip and the one from below: twice as many channels",
    (_DECODER, "9 * k * k + 9 * k * k + 4 * k"), (_SECOND, "2 * 9 * (k * k + k * k) * pixels"),
    (_DECODER_MAPS, "(4 * (k + 3 * k) + 2 * k) * pixels"),
)  # fmt: skip
cost.wrong(
    "three_maps_joined",
    "the transposed convolution halves the channels: a decoder reads k from the skip and k from below, not 3 k",
    (_DECODER, "9 * (3 * k) * k + 9 * k * k + 4 * k"), (_SECOND, "2 * 9 * (3 * k * k + k * k) * pixels"),
    (_DECODER_MAPS, "(4 * (3 * k + 3 * k) + 2 * k) * pixels"),
)  # fmt: skip
cost.wrong(
    "no_bias_up", "the transposed convolutions' biases are missing", ("4 * (2 * k) * k + k\n", "4 * (2 * k) * k\n")
)
cost.wrong("no_bias_head", "the head's bias is missing", ("width * K + K", "width * K"))
cost.wrong("no_bias_up_nor_head", "the biases of the head and of the transposed convolutions are missing",
           ("4 * (2 * k) * k + k\n", "4 * (2 * k) * k\n"), ("width * K + K", "width * K"))  # fmt: skip
cost.wrong("large_up", "the transposed convolution has 2 x 2 taps, not 3 x 3",
           ("4 * (2 * k) * k + k\n", "9 * (2 * k) * k + k\n"),
           (_UP, _UP.replace("2 * 4", "2 * 9")))  # fmt: skip
cost.wrong(
    "no_bottom",
    "the bottom is missing: there are depth + 1 levels of blocks on the way down",
    ("for level in range(depth + 1):", "for level in range(depth):"),
)
cost.wrong(
    "multiply_adds",
    "this counts multiplications alone: each comes with an addition",
    (_FIRST, _FIRST[4:]), (_SECOND, _SECOND[4:]), (_UP, _UP[4:]), (_HEAD, "count = width * K * N * H * W"),
)  # fmt: skip
cost.wrong("no_up", "the transposed convolutions are missing", (_UP, "0"))
cost.wrong("no_head", "the head is missing", (_HEAD, "count = 0"))
cost.wrong(
    "up_at_its_output",
    "the transposed convolution's products are counted at its output's pixels: each pixel of its *input* meets all 2 x 2 taps",
    (_UP, "2 * 4 * (2 * k) * k * pixels"),
)
cost.wrong(
    "one_image", "images are not counted: all grows with N", ("N * (H >> level) * (W >> level)", "(H >> level) * (W >> level)"),
    ("N * (H >> level + 1) * (W >> level + 1)", "(H >> level + 1) * (W >> level + 1)"), ("* N * H * W", "* H * W"),
)  # fmt: skip
cost.wrong(
    "sizes_rounded_up", "odd sizes are rounded up: a pool drops an odd last row or column, so divide with //",
    ("(H >> level) * (W >> level)", "-(-H >> level) * -(-W >> level)"),
    ("(H >> level + 1) * (W >> level + 1)", "-(-H >> level + 1) * -(-W >> level + 1)"),
)  # fmt: skip
cost.wrong(
    "sizes_not_halved", "maps are not halved: level l has H / 2^l rows and W / 2^l columns",
    ("(H >> level) * (W >> level)", "H * W"), ("(H >> level + 1) * (W >> level + 1)", "H * W"),
)  # fmt: skip
cost.wrong(
    "halved_once", "pixels are halved from level to level: rows and columns both are, so pixels are quartered",
    ("(H >> level) * (W >> level)", "(H * W >> level)"), ("(H >> level + 1) * (W >> level + 1)", "(H * W >> level + 1)"),
)  # fmt: skip
cost.wrong(
    "masks_of_four_bytes", "a ReLU's mask takes one byte a number, not four",
    (_MAPS, _MAPS.replace("2 * k)", "8 * k)")), (_DECODER_MAPS, _DECODER_MAPS.replace("2 * k) *", "8 * k) *")),
)  # fmt: skip
cost.wrong("no_masks", "the ReLUs' masks are missing, a byte for each number",
           (_MAPS, _MAPS.replace(" + 2 * k", "")), (_DECODER_MAPS, "4 * (2 * k + 3 * k) * pixels"))  # fmt: skip
cost.wrong(
    "no_winners",
    "the pools' winners are missing, a byte for each number that a pool gives",
    ("count += k * below", "count += 0"),
)
cost.wrong("winners_above", "a pool keeps one winner for each number that it *gives*, not for each that it takes",
           ("count += k * below", "count += k * pixels"))  # fmt: skip
cost.wrong(
    "winners_of_four_bytes", "a winner takes one byte, not four", ("count += k * below", "count += 4 * k * below")
)
cost.wrong(
    "no_norm_inputs", "what the norms read is kept, too, beside what the convolutions read",
    (_MAPS, "(4 * (c + k) + 2 * k) * pixels"), (_DECODER_MAPS, "(4 * (2 * k + k) + 2 * k) * pixels"),
)  # fmt: skip
cost.wrong(
    "up_keeps_nothing",
    "what the transposed convolutions read is kept, too",
    ("count += 4 * (2 * k) * below", "count += 0"),
)
cost.wrong("head_keeps_nothing", "what the head reads is kept, too", ("count = 4 * width * N * H * W", "count = 0"))
cost.wrong("skips_again", "the skips count twice: the decoder's convolution keeps the joined map, nobody else the skip",
           (_DECODER_MAPS, "(4 * (3 * k + 3 * k) + 2 * k) * pixels"))  # fmt: skip
cost.wrong(
    "numbers", "this counts numbers: a number of float32 takes 4 bytes, a mask's or a winner's one",
    (_MAPS, "(c + 3 * k + 2 * k) * pixels"), (_DECODER_MAPS, "(2 * k + 3 * k + 2 * k) * pixels"),
    ("count += 4 * (2 * k) * below", "count += 2 * k * below"), ("count = 4 * width * N", "count = width * N"),
)  # fmt: skip
