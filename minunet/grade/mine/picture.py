"""The U with the student's layers in one colour and ours in another: as text for a terminal, and as a drawing for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from html import escape

import numpy as np

from .parts import PARTS, owner

YOURS, OURS, GIVEN = "yours", "ours", "given"


@dataclass(eq=False)
class Box:
    """A layer in the drawing: its place in the network, what it is, the functions that compute it, and where it stands.

    `forward` or `backward` is "" for what is no exercise, and given.
    """

    path: str
    label: str
    words: str
    level: int
    forward: str
    backward: str
    wide: float
    x: float = 0.0
    y: float = 0.0
    high: float = 0.0


@dataclass
class Drawing:
    """The boxes of the U, from left to right."""

    boxes: list[Box] = field(default_factory=list)

    def at(self, path: str) -> Box:
        """The box of a layer."""
        return next(box for box in self.boxes if box.path == path)


HIGH = (132.0, 88.0, 56.0)  # of the boxes of a level
TOPS = (58.0, 236.0, 370.0)
PHOTO, LEFT, TALL = 132.0, 4.0, 446.0


def make_drawing() -> Drawing:
    """Place all boxes: the levels' blocks from left to right, down and up again."""
    rows = [
        (0, [*block("encoder.0", (18, 18), 0)]),
        (1, [plain("pool.0", "pool", "max-pool", 1, "max_pool2d"), *block("encoder.1", (24, 24), 1)]),
        (2, [plain("pool.1", "pool", "max-pool", 2, "max_pool2d"), *block("bottom", (32, 32), 2)]),
        (1, [plain("up.1", "up", "transposed convolution", 1, "conv_transpose2d"),
             plain("join.1", "join", "joint with the skip", 1, "concat"), *block("decoder.1", (18, 18), 1)]),
        (0, [plain("up.0", "up", "bilinear up-step", 0, "upsample_bilinear"),
             plain("join.0", "join", "joint with the skip", 0, "concat"), *block("decoder.0", (18, 18), 0),
             plain("head", "1x1", "1x1 convolution to two classes", 0, "conv2d"),
             plain("crop", "cut", "the margin cut off", 0, "crop"),
             plain("loss", "CE", "cross-entropy", 0, "softmax_cross_entropy"),
             Box("loss", "Dice", "soft Dice", 0, "", "soft_dice_backward", 16)]),
    ]  # fmt: skip
    x = LEFT + PHOTO + 20
    boxes: list[Box] = []
    for level, row in rows:
        for box in row:
            box.x, box.y, box.high = x, TOPS[level], HIGH[level]
            x += box.wide + (2 if box.label == "conv" else 10)
        x += 24
        boxes += row
    return Drawing(boxes)


def plain(path: str, label: str, words: str, level: int, op: str) -> Box:
    """A layer that is an op and its backward."""
    return Box(path, label, words, level, op, f"{op}_backward", 16)


def block(path: str, wide: tuple[float, float], level: int) -> list[Box]:
    """Two convolutions, each with its norm (and its ReLU, which is given)."""
    boxes = []
    for n, width in enumerate(wide, 1):
        boxes += [
            Box(f"{path}.conv{n}", "conv", "3x3 convolution", level, "conv2d", "conv2d_backward", width),
            Box(f"{path}.norm{n}", "", "batch norm and ReLU", level, "", "batch_norm_backward", 8),
        ]
    return boxes


def half(box: Box, function: str, answered: Collection[str]) -> tuple[str, str | None]:
    """Whose a half of a box is, and by which exercise."""
    if not function:
        return GIVEN, None
    exercise = owner(function, box.path, answered)
    return (YOURS if exercise else OURS), exercise


# ---- for a terminal --------------------------------------------------------------------------------------------------


def as_text(answered: Collection[str], encodes: Callable[[str], bool] = lambda text: True) -> str:
    """The U as lines of text: for each layer its forward and its backward."""
    signs = {YOURS: "█", OURS: "░", GIVEN: "·"}
    line, arrow = "─", "▶"
    if not encodes("█░·─▶"):
        signs, line, arrow = {YOURS: "#", OURS: ".", GIVEN: " "}, "-", ">"
    drawing = make_drawing()

    def said(box: Box) -> str:
        pair = "".join(signs[half(box, f, answered)[0]] for f in (box.forward, box.backward))
        return pair if box.label in ("conv", "") else f"{box.label} {pair}"

    def row(*starts: str) -> str:
        return " ".join(said(box) for box in drawing.boxes if box.path.startswith(starts))

    down = [row("encoder.0."), row("pool.0", "encoder.1."), row("pool.1", "bottom.")]
    up = [row("up.0", "join.0", "decoder.0."), row("up.1", "join.1", "decoder.1."), ""]
    end = row("head", "crop", "loss")
    in_1, in_2 = 12, 20
    at_1 = in_2 + len(down[2]) - 1
    at_0 = at_1 + len(up[1]) - 12
    first = "  image " + down[0] + " "
    second = " " * in_1 + down[1] + " "
    lines = [
        f"{first}{line * (at_0 - len(first) - 2)}{arrow} {up[0]}  {end}",
        f"{second}{line * max(at_1 - len(second) - 2, 1)}{arrow} {up[1]}",
        " " * in_2 + down[2],
        "",
        f"  forward and backward of each layer: {signs[YOURS]} yours  {signs[OURS]} ours  {signs[GIVEN]} given (no exercise)",
    ]
    return "\n".join(lines)


# ---- for the page ----------------------------------------------------------------------------------------------------


def as_svg(
    answered: Collection[str], image: str, prediction: str, wrong: Collection[tuple[str, str]] = (),
    astray: tuple[str, str] | None = None,
) -> str:  # fmt: skip
    """The U as SVG.

    Parameters
    ----------
    answered : collection of str
        The exercises that count as the student's.
    image, prediction : str
        URIs of the pictures at its two ends; "" for none.
    wrong : collection of (function, path)
        Halves whose results are wrong.
    astray : (function, path), optional
        Where it begins.
    """
    drawing = make_drawing()
    wired = YOURS if "unet_backward" in answered else OURS
    parts = [f'<g class="wires {wired}">{wires(drawing)}</g>']
    end = drawing.boxes[-1].x + 16 + 16
    parts += [photo(LEFT, image, "the image")] + [photo(end, prediction, "what the network says")] * bool(prediction)
    wide = end + PHOTO + LEFT
    for box in drawing.boxes:
        middle = box.high / 2
        halves = []
        for kind, function, y in (("forward", box.forward, 0.0), ("backward", box.backward, middle + 0.75)):
            whose, exercise = half(box, function, answered)
            state = " astray" if astray == (function, box.path) else " wrong" if (function, box.path) in wrong else ""
            answers = owner(function, box.path, PARTS)
            said = f"{box.words}, {kind}: {describe_half(whose, exercise)}"
            halves.append(
                f'<rect class="half {whose}{state}" data-exercise="{exercise or ""}" data-for="{answers or ""}" '
                f'data-words="{escape(said)}" x="{box.x:g}" y="{box.y + y:g}" width="{box.wide:g}" '
                f'height="{middle - 0.75:g}" rx="2">'
                f"<title>{escape(said)}</title></rect>"
            )
        label = (
            f'<text x="{box.x + box.wide / 2:g}" y="{box.y + box.high + 13:g}">{box.label}</text>' if box.label else ""
        )
        parts.append(f'<g class="box" data-path="{box.path}">{"".join(halves)}{label}</g>')
    return (
        f'<svg id="u" viewBox="0 0 {wide:g} {TALL:g}" role="img" aria-label="The U-Net, layer by layer: yours and ours">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def describe_half(whose: str, exercise: str | None) -> str:
    """Whose it is, in words."""
    return {YOURS: f"yours ({exercise})", OURS: "ours", GIVEN: "given, no exercise"}[whose]


def photo(x: float, uri: str, title: str) -> str:
    """A picture at an end of the U."""
    return (
        f'<image x="{x:g}" y="{TOPS[0]:g}" width="{PHOTO:g}" height="{PHOTO:g}" href="{uri}" '
        f'preserveAspectRatio="none"><title>{title}</title></image>'
    )


def wires(drawing: Drawing) -> str:
    """The lines between the levels, and the skips."""
    lines = []
    for last, pool in (("encoder.0.norm2", "pool.0"), ("encoder.1.norm2", "pool.1")):
        a, b = drawing.at(last), drawing.at(pool)
        x, y = a.x + a.wide / 2, b.y + b.high / 2
        lines.append(f"M{x:g} {a.y + a.high + 4:g} V{y - 8:g} q0 8 8 8 H{b.x - 5:g}")
    for last, up in (("bottom.norm2", "up.1"), ("decoder.1.norm2", "up.0")):
        a, b = drawing.at(last), drawing.at(up)
        x, y = b.x + b.wide / 2, a.y + a.high / 2
        lines.append(f"M{a.x + a.wide + 4:g} {y:g} H{x - 8:g} q8 0 8 -8 V{b.y + b.high + 20:g}")
    for last, join in (("encoder.0.norm2", "join.0"), ("encoder.1.norm2", "join.1")):
        a, b = drawing.at(last), drawing.at(join)
        x, end, y = a.x + a.wide / 2, b.x + b.wide / 2, a.y - 26
        lines.append(f"M{x:g} {a.y - 4:g} V{y + 8:g} q0 -8 8 -8 H{end - 8:g} q8 0 8 8 V{b.y - 5:g}")
    head, tail, y = drawing.boxes[0], drawing.boxes[-1], TOPS[0] + HIGH[0] / 2
    lines += [f"M{LEFT + PHOTO + 3:g} {y:g} H{head.x - 3:g}", f"M{tail.x + tail.wide + 2:g} {y:g} h10"]
    return "".join(f'<path d="{d}" marker-end="url(#tip)"/>' for d in lines)


# ---- maps as pictures ------------------------------------------------------------------------------------------------

RAMPS = {
    "grey": ("#05070a", "#ffffff"),
    "cell": ("#0b1220", "#0f4c55", "#14998a", "#8fe3c0", "#fdfff0"),
    "signed": ("#123f7a", "#3f87c0", "#a9cfe6", "#f6f4f0", "#f3b79a", "#d3573f", "#7d1229"),
    "error": ("#f6f4f0", "#e7a6c0", "#c2255c", "#5c0f2c"),
}


def coloured(a: np.ndarray, ramp: str, low: float, high: float) -> np.ndarray:
    """A map (H, W) as (H, W, 3) uint8: from `low` to `high` along a ramp of colours."""
    stops = np.array([[int(s[i : i + 2], 16) for i in (1, 3, 5)] for s in RAMPS[ramp]], float)
    place = np.clip((a - low) / ((high - low) or 1.0), 0, 1) * (len(stops) - 1)
    return np.stack([np.interp(place, range(len(stops)), stops[:, c]) for c in range(3)], -1).round().astype(np.uint8)


def data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 pixels as a PNG inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def outline(mask: np.ndarray) -> str:
    """The edges between the True and the False pixels of a mask (H, W), as the path of an SVG in units of pixels."""
    padded = np.pad(mask, 1)
    across = np.argwhere(padded[:, 1:] != padded[:, :-1]) - [1, 0]  # an edge at the left of pixel (row, column)
    down = np.argwhere(padded[1:] != padded[:-1]) - [0, 1]
    return "".join([f"M{c} {r}v1" for r, c in across.tolist()] + [f"M{c} {r}h1" for r, c in down.tolist()])


def missing(answered: Collection[str]) -> list[str]:
    """The exercises that are still ours, in the order of the lessons."""
    return [name for name in PARTS if name not in answered]
