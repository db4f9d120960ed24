"""Exercises on pieces of other networks: the attention gate's backward, and the image pooling of an atrous pyramid."""

from __future__ import annotations

import numpy as np

from .. import answers
from ..exercise import Exercise
from ..sheet import Sheet
from .filter import images

PLAIN = "grade/answers.py"

# ---- attention gate --------------------------------------------------------------------------------------------------

attention_gate = Exercise(
    "attention_gate",
    "The attention gate's backward",
    lesson=13,
    minutes=45,
    needs=("conv_backward",),
    task="""Write `attention_gate_backward`. The forward is given: x @ theta is a 1x1 convolution. Read it from its last
line to its first. What was used twice gets the sum of two gradients; what was broadcast along an axis gets the sum over that
axis. The six gradients count by themselves: return None for what you have not written yet. Do not change dy or the cache.""",
    write=((PLAIN, "attention_gate_backward"),),
    given=((PLAIN, "attention_gate"),),
)

GATE_PARTS = ("dskip", "dsignal", "dtheta", "dphi", "dbias", "dpsi")


@attention_gate.check(*GATE_PARTS)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    skip = images(rng, 3, sheet.time)
    C = skip.shape[-1]
    G, M = ((C + 1, C + 2), (C - 1, C + 1), (2, 3))[sheet.time]  # so that no two arrays fit each other by chance
    signal, theta, phi = (rng.standard_normal(s) for s in ((*skip.shape[:3], G), (C, M), (G, M)))
    inputs = (skip, signal, theta, phi, rng.standard_normal(M), rng.standard_normal((M, 1)))
    names, ours = (
        ("attention_gate", "attention_gate_backward"),
        (answers.attention_gate, answers.attention_gate_backward),
    )
    sheet.backward(GATE_PARTS, f"C = {C}, G = {G}, M = {M}", names, ours, inputs, rng.standard_normal(skip.shape))


_DSKIP, _DSCORE = "dskip = dy * a + dz @ theta.T", "dscore = da * a * (1 - a)"
attention_gate.wrong(
    "skip_through_the_gate_only_once",
    "dskip has one part of two: the skip is multiplied by a, and a is made of the skip, too",
    (_DSKIP, "dskip = dy * a"),
)
attention_gate.wrong(
    "skip_without_the_product",
    "dskip has one part of two: what comes back through theta; the skip itself was multiplied by a, which gives dy * a",
    (_DSKIP, "dskip = dz @ theta.T"),
)
attention_gate.wrong(
    "gate_not_summed",
    "a has one number a pixel, which all C channels share: da is the sum of dy * skip over the channels, not their mean",
    ("(dy * skip).sum(-1", "(dy * skip).mean(-1"),
)
attention_gate.wrong(
    "gate_of_the_output",
    "da is made of the output: dy meets the skip as it was before it was weighed",
    ("(dy * skip).sum", "(dy * skip * a).sum"),
)
attention_gate.wrong(
    "gate_of_dy_alone",
    "da lacks the skip: in y = skip * a the derivative by a is the skip",
    ("(dy * skip).sum", "dy.sum"),
)
attention_gate.wrong("sigmoid_skipped", "the sigmoid's derivative, a * (1 - a), is missing", (_DSCORE, "dscore = da"))
attention_gate.wrong(
    "half_of_the_sigmoid",
    "the sigmoid's derivative is a * (1 - a): one of the two factors is missing",
    (_DSCORE, "dscore = da * a"),
)
attention_gate.wrong(
    "other_half_of_the_sigmoid",
    "the sigmoid's derivative is a * (1 - a): one of the two factors is missing",
    (_DSCORE, "dscore = da * (1 - a)"),
)
attention_gate.wrong(
    "tanh_for_sigmoid",
    "1 - a^2 is the derivative of tanh; the sigmoid's is a * (1 - a)",
    (_DSCORE, "dscore = da * (1 - a * a)"),
)
attention_gate.wrong(
    "relu_skipped",
    "the ReLU is skipped: where z is 0 nothing goes back",
    ("(dscore @ psi.T) * (z > 0)", "dscore @ psi.T"),
)
attention_gate.wrong(
    "relu_turned_round",
    "the ReLU's mask is turned round: the gradient passes where z is above 0",
    ("(z > 0)", "(z <= 0)"),
)
attention_gate.wrong(
    "relu_as_a_factor",
    "z itself is no mask: the ReLU lets the gradient pass as it is where z is above 0",
    ("(z > 0)", "z"),
)
attention_gate.wrong(
    "weights_of_one_image",
    "the weights' gradients have the first image's share only: sum over the batch",
    ("nhwc,nhwm->cm", "hwc,hwm->cm"),
    ("nhwg,nhwm->gm", "hwg,hwm->gm"),
    ("nhwm,nhwk->mk", "hwm,hwk->mk"),
    ('", skip, dz', '", skip[0], dz[0]'),
    ('", signal, dz', '", signal[0], dz[0]'),
    ('", z, dscore', '", z[0], dscore[0]'),
    ("dz.sum((0, 1, 2))", "dz[0].sum((0, 1))"),
)
attention_gate.wrong(
    "weights_as_means",
    "the weights' gradients are means over images or pixels, where every pixel adds its share: sums",
    ('np.einsum("nhwc,nhwm->cm", skip, dz)', 'np.einsum("nhwc,nhwm->cm", skip, dz) / len(dy)'),
    ('np.einsum("nhwg,nhwm->gm", signal, dz)', 'np.einsum("nhwg,nhwm->gm", signal, dz) / len(dy)'),
    ('np.einsum("nhwm,nhwk->mk", z, dscore)', 'np.einsum("nhwm,nhwk->mk", z, dscore) / len(dy)'),
    ("dz.sum((0, 1, 2))", "dz.sum((0, 1, 2)) / len(dy)"),
)
attention_gate.wrong(
    "psi_after_the_sigmoid",
    "dpsi is made with da: psi stands before the sigmoid, so its gradient needs the sigmoid's derivative",
    ('"nhwm,nhwk->mk", z, dscore', '"nhwm,nhwk->mk", z, da'),
)
attention_gate.wrong(
    "transposed_products",
    "a product with theta, phi or psi goes back with its transpose: dz @ theta.T",
    ("dz @ theta.T", "dz @ theta"),
    ("dz @ phi.T", "dz @ phi"),
)

# ---- image pooling ---------------------------------------------------------------------------------------------------

image_pooling = Exercise(
    "image_pooling",
    "The pyramid's image pooling, both ways",
    lesson=14,
    minutes=40,
    task="""Write `image_pooling` and its backward, the branch of DeepLab's pyramid that sees the whole map: the mean of every
channel over all pixels, a 1x1 convolution with a bias, ReLU, and back to the size of the map. From a map of one pixel,
interpolation can give nothing but that pixel, everywhere. (The real one has a batch norm before the ReLU.) Three gradients come
back; each counts by itself. You choose what the cache holds.""",
    write=((PLAIN, "image_pooling"), (PLAIN, "image_pooling_backward")),
)


@image_pooling.check("y", "dx", "dw", "db")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    cases = [_pooled(rng, sheet.time) for _ in range(2)]
    for (y, got), ((x, w, b), _, dy) in zip(sheet.pairs(("image_pooling", "image_pooling_backward"), cases), cases):
        asked = f"{x.shape[1]} x {x.shape[2]} pixels, {w.shape[0]} to {w.shape[1]} channels"
        wanted, cache = answers.image_pooling(x, w, b)
        sheet.same("y", asked, y, wanted)
        sheet.gradients(("dx", "dw", "db"), asked, got, answers.image_pooling_backward(dy, cache))


def _pooled(rng: np.random.Generator, kind: int) -> tuple[tuple[np.ndarray, ...], dict, np.ndarray]:
    """Inputs of which some means pass the ReLU and some do not, and a gradient for the output."""
    x = images(rng, 3, kind)
    C = x.shape[-1]
    K = C + (3, -1, 2)[kind]
    on = np.zeros(1)
    while not on.any(0).any() or on.all():
        w, b = rng.standard_normal((C, K)), 0.3 * rng.standard_normal(K)
        on = x.mean((1, 2)) @ w + b > 0
    return (x, w, b), {}, rng.standard_normal((*x.shape[:3], K))


_MEAN, _SUM = "mean = x.mean((1, 2))", "dz = dy.sum((1, 2)) * (z > 0)"
_SHARE = "dmean[:, None, None] / (shape[1] * shape[2])"
image_pooling.wrong(
    "mean_over_the_batch",
    "the mean goes over the images, too: every image has its own",
    (_MEAN, "mean = np.broadcast_to(x.mean((0, 1, 2)), (N, x.shape[-1]))"),
)
image_pooling.wrong(
    "sum_forwards", "y is made of a sum over the pixels: it should be their mean", (_MEAN, "mean = x.sum((1, 2))")
)
image_pooling.wrong("maximum", "the largest pixel is taken where the mean should be", (_MEAN, "mean = x.max((1, 2))"))
image_pooling.wrong(
    "one_pixel",
    "y has one pixel an image: bring it back to the size of the map",
    ("(N, H, W, len(b))", "(N, 1, 1, len(b))"),
)
image_pooling.wrong("bias_forgotten", "the bias is not added", ("mean @ w + b", "mean @ w + 0 * b"))
image_pooling.wrong(
    "relu_forgotten", "the ReLU is missing", ("np.maximum(mean @ w + b, 0)", "mean @ w + b"), (" * (z > 0)", "")
)
image_pooling.wrong(
    "relu_forgotten_backwards",
    "the ReLU is skipped on the way back: where it gave 0 nothing passes",
    (" * (z > 0)", ""),
)
image_pooling.wrong(
    "mean_backwards",
    "one number went to all pixels, so what comes back from them is added: the sum of dy over the pixels, not its mean",
    (_SUM, _SUM.replace("sum", "mean")),
)
image_pooling.wrong(
    "one_pixel_backwards",
    "only one pixel's dy comes back: one number went to all pixels, so add what comes back from all",
    (_SUM, _SUM.replace("dy.sum((1, 2))", "dy[:, 0, 0]")),
)
image_pooling.wrong(
    "not_shared",
    "every pixel gets the mean's whole gradient: each is one of H * W, and gets dmean / (H * W)",
    (_SHARE, "dmean[:, None, None]"),
)
image_pooling.wrong(
    "shared_by_the_batch",
    "the mean was taken over the pixels of one image: divide by H * W, not by N * H * W",
    (_SHARE, _SHARE.replace("(shape[1]", "(shape[0] * shape[1]")),
)
image_pooling.wrong(
    "dx_of_one_pixel",
    "dx is not 0 at one pixel only: every pixel was read by the mean, and gets its share",
    ("    return dx,", "    dx[:, 1:] = dx[:, :, 1:] = 0\n    return dx,"),
)
image_pooling.wrong(
    "db_as_mean", "db is a mean over the images, where every image adds its share: a sum", ("dz.sum(0)", "dz.mean(0)")
)
image_pooling.wrong(
    "dw_as_mean",
    "dw is a mean over the images, where every image adds its share: a sum",
    ("mean.T @ dz", "mean.T @ dz / len(dz)"),
)
image_pooling.wrong(
    "db_over_pixels_without_relu",
    "db is the sum of dy: between y and the bias stands the ReLU",
    ("dz.sum(0)", "dy.sum((0, 1, 2))"),
)
image_pooling.wrong(
    "dw_transposed",
    "dw is transposed: it is a matrix of C rows and K columns, mean.T @ dz",
    ("mean.T @ dz", "dz.T @ mean"),
)
image_pooling.wrong(
    "w_not_transposed", "the product with w goes back with its transpose: dz @ w.T", ("dz @ w.T", "dz @ w")
)
