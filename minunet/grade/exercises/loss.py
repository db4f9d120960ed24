"""Exercises on batch norm and the losses."""

from __future__ import annotations

import numpy as np

from ... import ops
from .. import cut
from ..exercise import Exercise
from ..sheet import Raised, Sheet
from .filter import images

NORM, LOSS = "ops/norm.py", "ops/loss.py"

# ---- batch norm ------------------------------------------------------------------------------------------------------

batch_norm = Exercise(
    "batch_norm",
    "The backward of batch norm",
    lesson=4,
    minutes=75,
    task=f"""Write `batch_norm_backward`: from dy to dx, dgamma and dbeta, for

{cut.quoted(NORM, "xhat = (x - mean)", "xhat = (x - mean)")}

with mean and (biased) var over the M = N*H*W values of a channel. x moves its xhat directly, and every other xhat of
the
channel through the mean and through the variance: do not lose a term. If the statistics were given (from_batch is
False, as
at inference) they are constants. Each gradient counts by itself; return None for one that you have not written.
The cache holds (x, gamma, mean, rstd, from_batch).""",
    write=((NORM, "batch_norm_backward"),),
    hidden=((NORM, "BATCH"), (NORM, "_sum")),
)


@batch_norm.check("dx", "dgamma", "dbeta")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = rng.uniform(0.5, 2) * images(rng, 3, sheet.time) + rng.standard_normal()
    _normed(sheet, rng, ("dx", "dgamma", "dbeta"), "statistics of the batch", x)


@batch_norm.check("dx, given statistics")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, 3, sheet.time)
    mean = rng.standard_normal(x.shape[3:])
    _normed(sheet, rng, ("dx, given statistics", "dgamma", "dbeta"), "statistics given", x, mean, mean**2 + 0.1)


def _normed(
    sheet: Sheet, rng: np.random.Generator, parts: tuple[str, str, str], asked: str, x: np.ndarray, *given: np.ndarray
) -> None:
    gamma, beta = (rng.standard_normal(x.shape[-1]) for _ in range(2))
    names, ours = ("batch_norm", "batch_norm_backward"), (ops.batch_norm, ops.batch_norm_backward)
    sheet.backward(parts, asked, names, ours, (x, gamma, beta, *given), rng.standard_normal(x.shape))


_NORM = "dx = dy - dbeta / M - xhat * (dgamma / M)"
batch_norm.wrong(
    "forgets_the_mean",
    "dx lacks the term -mean(g): x moves the mean too. With dy = 1 this cannot be seen",
    (_NORM, "dx = dy - xhat * (dgamma / M)"),
)
batch_norm.wrong(
    "forgets_the_variance",
    "dx lacks the term -xhat * mean(g * xhat): x moves the variance too",
    (_NORM, "dx = dy - dbeta / M"),
)
batch_norm.wrong(
    "statistics_constant",
    "dx takes mean and variance for constants: they depend on x, and give two more terms",
    (_NORM, "dx = dy"),
)
batch_norm.wrong("forgets_gamma", "dx misses the factor gamma", ("return dx * (gamma * rstd)", "return dx * rstd"))
batch_norm.wrong("forgets_rstd", "dx misses the factor rstd", ("return dx * (gamma * rstd)", "return dx * gamma"))
batch_norm.wrong(
    "counts_one_image",
    "the means are divided by H*W; a channel extends over the images too: M = N*H*W",
    ("M = x.size // x.shape[-1]", "M = x.shape[1] * x.shape[2]"),
)
batch_norm.wrong(
    "dgamma_of_x",
    "dgamma multiplies dy by x, where the forward multiplied gamma by xhat",
    ("_sum(dy * xhat, BATCH)", "_sum(dy * x, BATCH)"),
)
batch_norm.wrong(
    "terms_at_inference",
    "with given statistics dx still has the terms of the mean and the variance: there they are constants",
    ("if from_batch:", "if True:"),
)

# ---- cross-entropy ---------------------------------------------------------------------------------------------------

cross_entropy = Exercise(
    "cross_entropy",
    "Softmax cross-entropy, both ways",
    lesson=4,
    minutes=60,
    task="""Write `softmax_cross_entropy` and its backward: the weighted mean, over the pixels, of -log p(true
class), where p is the
softmax of a pixel's logits. Every pixel's weight is that of the map `weight` (1 without one) times its class's in
`class_weight`, and 0 where the label is `ignore`; divide by the weights' sum, or give 0 where that is 0. Logits may
be in
the thousands: shift them before exp. The backward takes a scalar dloss. The given `pixel_shares` and
`one_hot` will help. You choose what the cache holds.""",
    write=((LOSS, "softmax_cross_entropy"), (LOSS, "softmax_cross_entropy_backward")),
    given=tuple((LOSS, n) for n in ("check_labels", "pixel_shares", "pixel_weights", "one_hot")),
    docstrings={"softmax_cross_entropy_backward": "Gradient of `softmax_cross_entropy`: dloss times dL/dlogits."},
)


def _pixels(rng: np.random.Generator, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two to four classes, and labels, among which every class is."""
    shape, K = images(rng, 3, kind).shape[:3], (3, 4, 2)[kind]
    labels = rng.integers(0, K, shape)
    labels[0, 0, :K] = np.arange(K)[: shape[2]]
    return 2 * rng.standard_normal((*shape, K)), labels


def _some(rng: np.random.Generator, labels: np.ndarray, ignore: int = -1) -> np.ndarray:
    """The labels, of which some, but not all, are to be ignored."""
    left_out = rng.random(labels.shape) < 0.3
    left_out[0, :2, :2] = ((True, False), (False, True))
    return np.where(left_out, ignore, labels)


@cross_entropy.check("loss", "gradient")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _entropy(sheet, rng, ("loss", "gradient"), (*_pixels(rng, sheet.time), {}), (*_pixels(rng, sheet.time), {}))
    logits, labels = _pixels(rng, sheet.time)
    for asked, wrong in (("labels of other rows", labels[:, 1:]), ("a label that is no class", labels + 1)):
        loss, _ = sheet.call("softmax_cross_entropy", logits, wrong, keep=2)
        told = "a number comes back, where a ValueError should be raised, as `pixel_shares` does"
        sheet.holds("loss", asked, isinstance(loss, Raised), loss, told)  # any error will do


@cross_entropy.check("ignored pixels")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    logits, labels = _pixels(rng, sheet.time)
    cases = [(logits, _some(rng, labels, ignore), {"ignore": ignore}) for ignore in (-1, 255, 1, -100)]
    cases.append((logits, np.full_like(labels, -1), {}))  # nothing counts
    _entropy(sheet, rng, ("ignored pixels",) * 2, *cases)


@cross_entropy.check("weights")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    logits, labels = _pixels(rng, sheet.time)
    weight = {"weight": rng.uniform(0, 3, labels.shape)}
    classes = {"class_weight": rng.uniform(0.1, 2, logits.shape[-1])}
    cases = ((logits, labels, weight), (logits, labels, classes), (logits, _some(rng, labels), weight | classes))
    _entropy(sheet, rng, ("weights",) * 2, *cases)


@cross_entropy.check("large logits")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    logits, labels = _pixels(rng, sheet.time)
    _entropy(sheet, rng, ("large logits",) * 2, (1000 * logits, labels, {}), (1000 * logits - 9000, labels, {}))


def _entropy(
    sheet: Sheet, rng: np.random.Generator, parts: tuple[str, str], *cases: tuple[np.ndarray, np.ndarray, dict]
) -> None:
    asked = [((logits, labels), how, float(rng.uniform(0.5, 2))) for logits, labels, how in cases]
    found = sheet.pairs(("softmax_cross_entropy", "softmax_cross_entropy_backward"), asked)
    for (loss, got), (inputs, how, dloss) in zip(found, asked):
        wanted, cache = ops.softmax_cross_entropy(*inputs, **how)
        what = "".join(f", {name}" if name != "ignore" else f", ignore {value}" for name, value in how.items())
        sheet.same(parts[0], "the loss" + what, loss, wanted)
        sheet.same(parts[1], "its gradient" + what, got, ops.softmax_cross_entropy_backward(dloss, cache))


cross_entropy.wrong(
    "gradient_without_dloss",
    "dloss is left out: a scaled loss gives the gradient of the unscaled one",
    ("return dloss * share", "return share"),
)
cross_entropy.wrong(
    "sum_instead_of_mean",
    "the gradient is that of a sum over the pixels: divide by the weights' sum, as the loss does",
    ("return dloss * share[..., None]", "return dloss * (share > 0)[..., None]"),
)
cross_entropy.wrong(
    "ignored_pixels_push",
    "ignored pixels still count",
    ("    found = (labels != ignore).astype(dtype)\n", "    found = np.ones(labels.shape)\n"),
)
cross_entropy.wrong(
    "weights_ignored",
    "the map of weights is ignored",
    ("    if weight is not None:\n", "    if False:\n"),
)
cross_entropy.wrong(
    "not_shifted",
    "exp overflows: subtract each pixel's largest logit first",
    ("shifted = logits - logits.max(-1, keepdims=True)", "np.seterr(all='ignore')\n    shifted = logits"),
)
cross_entropy.wrong(
    "sign",
    "the gradient has the wrong sign: it is p - [true class]",
    ("* (p - one_hot(labels, p))", "* (one_hot(labels, p) - p)"),
)

# ---- Dice ------------------------------------------------------------------------------------------------------------

dice = Exercise(
    "dice",
    "The gradient of soft Dice",
    lesson=4,
    minutes=60,
    needs=("cross_entropy",),
    task="""Write `soft_dice_backward`. Per class, over all pixels of the batch, with t = 1 for the true class and 0
else,

    I = sum p*t,   U = sum p + sum t,   D = (2 I + s) / (U + s),       L = 1 - mean over the classes of D

where p is the softmax of the logits, and ignored pixels are left out of all sums. p stands in the numerator and in the
denominator. Derive dL/dp, then go through the softmax, for which lesson 04 has the backward. The cache holds p (N,
H, W, K),
the labels, seen (N, H, W) (1, or 0 where ignored), shares (K,) (each class's share in the mean, 1/K), dice = D (K,),
union = U + s (K,), and K.""",
    write=((LOSS, "soft_dice_backward"),),
    given=((LOSS, "one_hot"),),
    hidden=(("ops/activation.py", "softmax_backward"),),
    docstrings={"soft_dice_backward": "Gradient of `soft_dice`: dloss times dL/dlogits, (N, H, W, K)."},
)


@dice.check("gradient", "scaled loss")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    logits, labels = _pixels(rng, sheet.time)
    for part, dloss in (("gradient", 1.0), ("scaled loss", float(rng.uniform(2, 3)))):
        _overlap(sheet, part, f"dloss = {dloss:.3g}", logits, labels, dloss)


@dice.check("ignored pixels", "absent class")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    logits, labels = _pixels(rng, sheet.time)
    _overlap(sheet, "ignored pixels", "some labels are -1", logits, _some(rng, labels), 1.5)
    _overlap(sheet, "absent class", "no pixel is of class 1", logits, np.where(labels == 1, 0, labels), 1.5)


def _overlap(sheet: Sheet, part: str, asked: str, logits: np.ndarray, labels: np.ndarray, dloss: float) -> None:
    names, ours = ("soft_dice", "soft_dice_backward"), (ops.soft_dice, ops.soft_dice_backward)
    sheet.backward((part,), asked, names, ours, (logits, labels), dloss)


_DICE = "(2 * one_hot(labels, p) - dice)"
dice.wrong(
    "no_quotient_rule",
    "the quotient rule's second term is missing: p stands in the denominator too",
    (_DICE, "(2 * one_hot(labels, p))"),
)
dice.wrong("factor_two", "the 2 of the numerator is lost", (_DICE, "(one_hot(labels, p) - dice)"))
dice.wrong(
    "not_through_the_softmax",
    "this is dL/dp: the way through the softmax to the logits is missing",
    ("dz = softmax_backward(dp, (p,))", "dz = dp"),
)
dice.wrong(
    "diagonal_softmax",
    "only the diagonal of the softmax's Jacobian, p (1 - p): the classes compete",
    ("dz = softmax_backward(dp, (p,))", "dz = dp * p * (1 - p)"),
)
dice.wrong("no_mean", "a sum over the classes where the loss has their mean", ("(shares / union)", "(1 / union)"))
dice.wrong("ignored_pixels_push", "ignored pixels still push", ("dloss * seen[..., None]", "dloss * 1.0"))
dice.wrong("sign", "the sign is wrong: the loss is one minus Dice", ("dp = -dloss", "dp = dloss"))
dice.wrong("without_dloss", "dloss is left out", ("dp = -dloss * seen", "dp = -seen"))
