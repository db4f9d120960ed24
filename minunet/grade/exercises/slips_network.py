"""More known mistakes in the exercises on batch norm, the losses, the U-Net's wiring and momentum; see slips.py."""

from __future__ import annotations

from .loss import batch_norm, cross_entropy
from .network import momentum, unet

# ---- norm and losses -------------------------------------------------------------------------------------------------

_NORM, _M = "dx = dy - dbeta / M - xhat * (dgamma / M)", "M = x.size // x.shape[-1]"
for number, size in enumerate(("x.shape[0]", "x.size", "x.shape[-1]", "x.shape[1]", "x.shape[2]")):
    batch_norm.wrong(
        f"other_m_{number}",
        "the sums are divided by another number than M = N*H*W, the values of a channel over all images and pixels",
        (_M, f"M = {size}"),
    )
for number, instead in enumerate((
    "dx = dy - dbeta / M - xhat * (dgamma / (M - 1))",
    "dx = dy - dbeta / (M - 1) - xhat * (dgamma / (M - 1))",
)):  # fmt: skip
    batch_norm.wrong(
        f"m_less_one_{number}",
        "the variance is divided by M - 1: here it is the biased one, and its term divides by M",
        (_NORM, instead),
    )
_LARGE = "as large as it should be: the -1/2 of (var + eps)^(-1/2) and the 2 of the square cancel"
for number, (instead, said) in enumerate((
    ("dx = dy - dbeta / M - xhat * (2 * dgamma / M)", f"twice {_LARGE}"),
    ("dx = dy - dbeta / M - xhat * (dgamma / (2 * M))", f"half {_LARGE}"),
    ("dx = dy - dbeta / M + xhat * (dgamma / M)", "added, where it should be subtracted"),
    ("dx = dy - dbeta / M - (x - mean) * (dgamma / M)", "made with x - mean, where xhat = (x - mean) * rstd should be"),
    ("dx = dy - dbeta / M - (x - mean) * rstd**2 * (dgamma / M)", "divided by the standard deviation once too often"),
)):  # fmt: skip
    batch_norm.wrong(f"variance_{number}", f"dx: the term of the variance is {said}", (_NORM, instead))
batch_norm.wrong(
    "mean_added",
    "dx: the term of the mean is added, where it should be subtracted",
    (_NORM, _NORM.replace("- dbeta", "+ dbeta")),
)
batch_norm.wrong(
    "sums_over_the_images",
    "the sums go over the images alone: a channel's mean and variance go over rows and columns, too",
    ("dgamma, dbeta = _sum(dy * xhat, BATCH), _sum(dy, BATCH)", "dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0)"),
    (_M, "M = len(x)"),
)
batch_norm.wrong(
    "means_over_the_images",
    "the sums go over the images alone: a channel's mean and variance go over rows and columns, too",
    (_NORM, "dx = dy - dy.mean(0) - xhat * (dy * xhat).mean(0)"),
)
batch_norm.wrong(
    "sums_over_the_pixels",
    "the sums go over an image's pixels alone: a channel's mean and variance go over the images, too",
    ("dgamma, dbeta = _sum(dy * xhat, BATCH), _sum(dy, BATCH)",
     "dgamma, dbeta = (dy * xhat).sum((1, 2), keepdims=True), dy.sum((1, 2), keepdims=True)"),
    (_M, "M = x.shape[1] * x.shape[2]"),
)  # fmt: skip
batch_norm.wrong(
    "means_over_the_pixels",
    "the sums go over an image's pixels alone: a channel's mean and variance go over the images, too",
    (_NORM, "dx = dy - dy.mean((1, 2), keepdims=True) - xhat * (dy * xhat).mean((1, 2), keepdims=True)"),
)
batch_norm.wrong(
    "terms_exchanged",
    "dx: the two sums are exchanged: dbeta belongs to the mean, and xhat goes with dgamma",
    (_NORM, "dx = dy - dgamma / M - xhat * (dbeta / M)"),
)
batch_norm.wrong(
    "gamma_in_one_term",
    "gamma multiplies the first term alone: it stands before all three",
    (_NORM, "dx = dy - (dbeta / M + xhat * (dgamma / M)) / gamma"),
)
SMALL = (
    *(f"1e-{n}" for n in (300, 20, 16, 15, 12, 10, 9, 8, 7, 6, 5, 4)),
    "np.finfo(float).eps",
    "np.finfo(float).tiny",
)
for number, size in enumerate(SMALL):
    cross_entropy.wrong(
        f"small_number_added_{number}",
        "log(p + a small number) is wrong where p is 0 in floats: take log p = z - log sum exp z, of the shifted logits z",
        ("(log_p * true)", f"(np.log(np.exp(log_p) + {size}) * true)"),
    )
cross_entropy.wrong(
    "logarithm_of_zero",
    "p is 0 in floats where a logit is far below the largest: take log p = z - log sum exp z, of the shifted logits z",
    ("(log_p * true)", "(np.log(np.exp(log_p)) * true)"),
)
for number, instead in enumerate((".sum() / share.size", ".sum() / share.sum() / share.size", ".sum() / len(logits)")):
    cross_entropy.wrong(
        f"mean_twice_{number}",
        "the mean is taken twice: the shares are divided by their sum already, so add up",
        ("(share * (log_p * true).sum(-1)).sum()", f"(share * (log_p * true).sum(-1)){instead}"),
    )
cross_entropy.wrong(
    "gradient_over_all_pixels",
    "the gradient is divided by the number of pixels: each pixel has its share, which knows weights and ignored ones",
    ("dloss * share[..., None]", "dloss * np.ones_like(share)[..., None] / share.size"),
)
cross_entropy.wrong(
    "class_weights_ignored",
    "the weights of the classes are ignored",
    (
        "pixel_shares(logits, labels, weight, class_weight, ignore)",
        "pixel_shares(logits, labels, weight, None, ignore)",
    ),
)
cross_entropy.wrong(
    "one_largest_for_all",
    "the largest logit of all is subtracted everywhere, so that exp gives 0 at pixels with small ones: take each pixel's own",
    ("logits.max(-1, keepdims=True)", "logits.max()"),
)

# ---- the network and momentum ----------------------------------------------------------------------------------------

_ADD = '        dx = back(f"pool.{level}", dx)\n        dx = dx + dskips.pop()\n'
unet.wrong(
    "skip_added_below_the_pool",
    "the skip's gradient is added before the backward of pool.l: it belongs to what encoder.l gave, so add it after that",
    (_ADD, '        dx = back(f"pool.{level}", dx + dskips.pop())\n'),
)
unet.wrong(
    "levels_reversed",
    "the skips come in the wrong order: the last gradient that a join gave is the deepest level's, which needs it first",
    ("dskips.pop()", "dskips.pop(0)"),
)
_UP = '    for level in range(depth):\n        dx = back(f"decoder.{level}", dx)'
unet.wrong(
    "decoders_from_the_deepest",
    "the way up is gone in the wrong direction: backwards the decoder of level 0, which ran last, comes first",
    (_UP, _UP.replace("range(depth)", "reversed(range(depth))")),
)
unet.wrong(
    "encoders_from_the_first",
    "the way down is gone in the wrong direction: backwards the deepest encoder, which ran last, comes first",
    ("for level in reversed(range(depth)):", "for level in range(depth):"),
)
_DECAY, _STEP = "        g = g + weight_decay * p\n", "p -= lr * (g + momentum * velocity if nesterov else velocity)"
for number, (before, after) in enumerate((
    ("        p -= lr * weight_decay * p\n", _STEP),
    ("        old = p.copy()\n", f"{_STEP}\n    p -= lr * weight_decay * (old if weight_decay else 0)"),
    ("        p = p\n", f"{_STEP}\n    p -= lr * weight_decay * p"),
)):  # fmt: skip
    momentum.wrong(
        f"decay_beside_the_gradient_{number}",
        "the weight decay changes p by itself: here weight_decay * p is added to the gradient, and goes through the velocity",
        (_DECAY, before),
        (_STEP, after),
    )
momentum.wrong(
    "decay_added_to_g_itself",
    "g is modified in place: g += ... changes the caller's array, g = g + ... makes another",
    (_DECAY, "        g += weight_decay * p\n"),
)
momentum.wrong("decay_ignored", "the weight decay is ignored", (_DECAY, "        g = g\n"))
for number, (grow, step) in enumerate((
    ("velocity -= lr * g", "p += momentum * velocity - lr * g if nesterov else velocity"),
    ("velocity += lr * g", "p -= momentum * velocity + lr * g if nesterov else velocity"),
)):  # fmt: skip
    momentum.wrong(
        f"rate_in_the_velocity_{number}",
        "the learning rate is in the velocity: here the velocity adds up gradients as they are, and p moves by lr times it",
        ("velocity += g", grow),
        (_STEP, step),
    )
momentum.wrong(
    "velocity_after_the_step",
    "p moves by the velocity as it was before this step: it moves by the new one",
    ("    velocity *= momentum\n    velocity += g\n    p -= lr * (", "    p -= lr * ("),
    ("if nesterov else velocity)", "if nesterov else velocity)\n    velocity *= momentum\n    velocity += g"),
)
momentum.wrong(
    "nesterov_without_the_gradient",
    "Nesterov's step lacks the gradient: it is the gradient plus `momentum` times the new velocity",
    ("g + momentum * velocity if", "momentum * velocity if"),
)
