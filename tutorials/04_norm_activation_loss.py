# %% [markdown]
# # 04 Normalisation, activations, losses
#
# **You will be able to**
#
# * say why a network needs something that is not linear, and why its numbers must be kept in range;
# * derive and code the backward of batch norm, whose three terms are so easily two;
# * derive the gradient of softmax with cross-entropy, and see why it is so simple;
# * write the soft Dice loss, and say what it does that cross-entropy does not.
#
# You need lessons 01 to 03. After this one you have every part of a U-Net.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.gradcheck import check, draw
from minunet.ops import conv2d

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)

# %% [markdown]
# ## Activations: without them, depth is nothing
#
# Two convolutions in a row are one convolution with a larger filter. So are twenty. Feed an impulse through two
# $3 \times 3$ filters and you can read off the $5 \times 5$ filter that replaces them.

# %%
x, first, second = (rng.standard_normal(s) for s in ((1, 12, 12, 1), (3, 3, 1, 1), (3, 3, 1, 1)))
impulse = np.zeros((1, 9, 9, 1))
impulse[0, 4, 4, 0] = 1
response = conv2d(conv2d(impulse, first, padding="valid")[0], second, padding="valid")[0]
replacement = response[0, ::-1, ::-1, :, None]  # an impulse comes out turned round, lesson 01
assert replacement.shape == (5, 5, 1, 1)
twice = conv2d(conv2d(x, first, padding="valid")[0], second, padding="valid")[0]
np.testing.assert_allclose(twice, conv2d(x, replacement, padding="valid")[0], atol=1e-12)


# %% [markdown]
# An **activation** between them, applied to each number alone, ends that. Its Jacobian is diagonal: $dx = f'(x) \cdot dy$.
#
# | | $f(x)$ | $f'(x)$ | cache |
# | --- | --- | --- | --- |
# | ReLU | $\max(x, 0)$ | 1 where $x > 0$, else 0 | the mask, a byte a number |
# | sigmoid | $1 / (1 + e^{-x})$ | $y (1 - y)$ | its output |
#
# The sigmoid's slope is at most 1/4. Ten of them in a row pass on at most $4^{-10}$, a millionth: the layers in front do
# not learn. ReLU passes on all or nothing. That is why it stands inside of networks, and the sigmoid only at the end.


# %%
def relu(x):
    """max(x, 0); the cache is where x > 0."""
    return np.maximum(x, 0), (x > 0,)


def relu_backward(dy, cache):
    """dy where x was positive."""
    (mask,) = cache
    return dy * mask


def sigmoid(x):
    """1 / (1 + exp(-x)), written so that exp is only taken of what is not positive: nothing overflows."""
    e = np.exp(-abs(x))
    y = np.where(x >= 0, 1, e) / (1 + e)
    return y, (y,)


def sigmoid_backward(dy, cache):
    """dy y (1 - y)."""
    (y,) = cache
    return dy * y * (1 - y)


values = draw((60,), rng)
assert check((relu, relu_backward), values).ok and check((sigmoid, sigmoid_backward), values).ok
assert sigmoid(np.array([-1000.0, 1000.0]))[0].tolist() == [0, 1]

line = np.linspace(-5, 5, 401)
figure, (a, b) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for f, back, colour, name in ((relu, relu_backward, BLUE, "ReLU"), (sigmoid, sigmoid_backward, ORANGE, "sigmoid")):
    y, cache = f(line)
    a.plot(line, y, color=colour, lw=2, label=name)
    b.plot(line, back(np.ones_like(line), cache), color=colour, lw=2, label=name)
a.set(ylim=(-0.1, 2.1), title="f(x)", xlabel="x")
b.set(ylim=(-0.1, 1.1), title="f '(x): what is passed on", xlabel="x")
a.legend(frameon=False)
for ax in (a, b):
    ax.spines[["top", "right"]].set_visible(False)
assert b.lines[1].get_ydata().max() == 0.25
plt.show()

# %% [markdown]
# ## Why numbers drift
#
# One output of a convolution is a sum of $F = KH \cdot KW \cdot C$ products. If weights have variance $\sigma^2$ and mean
# 0, then $\text{var}(y) = F \sigma^2 \, E[x^2]$. A ReLU lets half of that through:
# $E[\text{relu}(y)^2] = \text{var}(y) / 2$. So each layer multiplies $E[x^2]$ by $F \sigma^2 / 2$. If that is 2, twenty
# layers make a million of it. It stays if
#
# $$\sigma = \sqrt{2 / F},$$
#
# which is **He's initialisation**. But training moves the weights. **Batch norm** does not hope: it sets mean and variance
# after each convolution.

# %%
layers, channels = 20, 16
image = SyntheticCells(1, size=64, seed=3)[0].image[None].astype(float).repeat(channels, axis=-1)
image = (image - image.mean()) / image.std()
spread = {}
for name, factor, normalise in (
    ("weights twice as large", 2, False),
    ("He's initialisation", 1, False),
    ("weights half as large", 0.5, False),
    ("twice as large, normalised", 2, True),
):
    y, weights = image, np.random.default_rng(0)
    spread[name] = [1.0]
    for _ in range(layers):
        w = factor * np.sqrt(2 / (9 * channels)) * weights.standard_normal((3, 3, channels, channels))
        y = conv2d(y, w)[0]
        if normalise:
            y = (y - y.mean((0, 1, 2))) / y.std((0, 1, 2))
        y = relu(y)[0]
        spread[name].append(float(np.sqrt((y**2).mean())))
last = {name: values[-1] for name, values in spread.items()}
assert last["weights twice as large"] > 1e4 and last["weights half as large"] < 1e-4
assert 0.1 < last["He's initialisation"] < 10 and 0.5 < last["twice as large, normalised"] < 1

figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for (name, values), colour in zip(spread.items(), (RED, BLUE, PINK, GREEN)):
    ax.semilogy(values, "o-", ms=3, color=colour, label=name)
ax.set(xlabel="layers (3 x 3 convolution and ReLU)", ylabel="root mean square", xticks=range(0, 21, 5))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Batch norm and its three terms
#
# Take one channel of the whole batch: $M = N \cdot H \cdot W$ numbers. **Standardise** them, then let the network choose
# scale and shift:
#
# $$\hat x = (x - \mu)\, r, \quad r = 1 / \sqrt{\text{var} + \epsilon}, \qquad y = \gamma \hat x + \beta.$$
#
# Given dy. The easy ones: $\beta$ stands in every $y_i$, $\gamma$ with $\hat x_i$, so $d\beta = \sum_i dy_i$,
# $d\gamma = \sum_i dy_i\, \hat x_i$. With $g = \gamma\, dy$, the gradient of $\hat x$, there remains dx.
#
# $x_i$ reaches $\hat x_j$ in three ways:
#
# 1. directly, if $i = j$: $\; r$;
# 2. through the mean, $\partial \mu / \partial x_i = 1 / M$: $\; -r / M$;
# 3. through the variance. As $\sum (x - \mu) = 0$, $\partial\, \text{var} / \partial x_i = 2 (x_i - \mu) / M$. And
#    $\partial r / \partial\, \text{var} = -r^3 / 2$. Together
#    $(x_j - \mu) \cdot (-r^3 / 2) \cdot 2 (x_i - \mu) / M = -r\, \hat x_i \hat x_j / M$.
#
# Sum over all $j$ with $g_j$:
#
# $$dx_i = r \left( g_i - \overline{g} - \hat x_i\, \overline{g \hat x} \right) \qquad \text{(bars: means over } j \text{).}$$
#
# Read it: take from g what is constant and what is proportional to $\hat x$. Adding a constant to all x changes nothing,
# nor does stretching them, so the loss cannot want either.


# %%
def batch_norm(x, gamma, beta, mean=None, var=None, eps=1e-5):
    """Standardise each channel of x (N, H, W, C), with the batch's statistics or given ones."""
    from_batch = mean is None
    if from_batch:
        mean = x.mean((0, 1, 2))
        var = ((x - mean) ** 2).mean((0, 1, 2))
    rstd = 1 / np.sqrt(var + eps)
    return (x - mean) * rstd * gamma + beta, (x, gamma, mean, rstd, from_batch), (mean, var)


def batch_norm_backward(dy, cache):
    """dy to dx, dgamma, dbeta."""
    x, gamma, mean, rstd, from_batch = cache
    xhat = (x - mean) * rstd
    g = gamma * dy
    dx = rstd * g
    if from_batch:  # given statistics are constants: then the first term is all
        dx = rstd * (g - g.mean((0, 1, 2)) - xhat * (g * xhat).mean((0, 1, 2)))
    return dx, (dy * xhat).sum((0, 1, 2)), dy.sum((0, 1, 2))


x, gamma, beta = draw((2, 5, 4, 3), rng), rng.uniform(0.5, 2, 3), rng.standard_normal(3)
assert check((batch_norm, batch_norm_backward), x, gamma, beta).ok
given = {"mean": rng.standard_normal(3), "var": rng.uniform(0.5, 2, 3)}
assert check((batch_norm, batch_norm_backward), x, gamma, beta, **given).ok
dy = rng.standard_normal(x.shape)
for options in ({}, given):
    (y, cache, _), (y_, cache_, _) = batch_norm(x, gamma, beta, **options), ops.batch_norm(x, gamma, beta, **options)
    np.testing.assert_allclose(y, y_, atol=1e-12)
    for mine, theirs in zip(batch_norm_backward(dy, cache), ops.batch_norm_backward(dy, cache_)):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)

y, cache, _ = batch_norm(x, gamma, beta)
dx, _, _ = batch_norm_backward(dy, cache)
xhat = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
assert abs(dx.sum((0, 1, 2))).max() < 1e-12  # no constant part
assert abs((dx * xhat).sum((0, 1, 2))).max() < 1e-2 * abs(dx).max()  # and, but for eps, none along xhat

# %% [markdown]
# With dy = 1 the first two terms cancel and the third is 0: lesson 02's blind check.
#
# At inference there is no batch to speak of, perhaps one image. The layer keeps *running averages* of mean and variance
# while it trains and uses them then. So train mode and inference mode are different functions, with different gradients;
# the cache remembers which it was.
#
# A trap of arithmetic: $\text{var} = E[x^2] - \mu^2$ needs one pass over the data instead of two, and is wrong in float32
# when the mean is large. It subtracts two large numbers that agree in nearly all their digits.

# %%
offset = (rng.standard_normal(10_000) + 5000).astype(np.float32)
one_pass = (offset**2).mean(dtype=np.float32) - offset.mean(dtype=np.float32) ** 2
two_passes = ((offset - offset.mean(dtype=np.float32)) ** 2).mean()
print(f"the variance is about 1; in two passes {two_passes:.4f}, in one {one_pass:.4f}")
exact = offset.astype(float).var()
assert abs(two_passes - exact) < 1e-3 and abs(one_pass - exact) > 0.1

# %% [markdown]
# ## From scores to probabilities: softmax
#
# The last convolution gives each pixel $K$ numbers of any size, its **logits** $z$. Softmax makes probabilities of them:
# $p_k = e^{z_k} / \sum_j e^{z_j}$. A constant added to all logits cancels, so subtract the largest first: then no exponential
# overflows. From the quotient rule
#
# $$\frac{\partial p_j}{\partial z_k} = p_j ([j = k] - p_k).$$
#
# ## Cross-entropy
#
# The loss of a pixel whose true class is $t$ is $-\log p_t$: 0 if the network was sure and right, large if it was sure and
# wrong. By the line above
#
# $$dz_k = -\frac{1}{p_t}\, p_t ([t = k] - p_k) = p_k - [k = t].$$
#
# **What was said minus what is true.** The dangerous division has cancelled. That is why the two are written as *one* op:
# apart, $p_t$ can round to 0 and its logarithm is infinite.
#
# Over an image we take the mean, or a weighted mean: each pixel has a *share*, its weight divided by the sum of all
# weights. A pixel with label -1 gets none.


# %%
def one_hot(labels, K):
    """(N, H, W) labels as (N, H, W, K) zeros and ones; -1 gives zeros only."""
    return (labels[..., None] == np.arange(K)).astype(float)


def softmax_cross_entropy(logits, labels, weight=None):
    """Weighted mean over the pixels of -log p(true class): logits (N, H, W, K), labels and weight (N, H, W)."""
    share = (labels != -1) * (1.0 if weight is None else weight)
    share = share / share.sum()
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    loss = -(share * (log_p * one_hot(labels, logits.shape[-1])).sum(-1)).sum()
    return loss, (np.exp(log_p), labels, share)


def softmax_cross_entropy_backward(dloss, cache):
    """dloss, a number, to dlogits."""
    p, labels, share = cache
    return dloss * share[..., None] * (p - one_hot(labels, p.shape[-1]))


logits, labels = rng.standard_normal((2, 4, 5, 3)), rng.integers(-1, 3, (2, 4, 5))
weight = rng.uniform(0.5, 3, labels.shape)
for w in (None, weight):
    loss, cache = softmax_cross_entropy(logits, labels, w)
    loss_, cache_ = ops.softmax_cross_entropy(logits, labels, w)
    assert np.isclose(loss, loss_)
    mine, theirs = softmax_cross_entropy_backward(2.5, cache), ops.softmax_cross_entropy_backward(2.5, cache_)
    np.testing.assert_allclose(mine, theirs, atol=1e-12)
    assert abs(mine.sum(-1)).max() < 1e-15  # a constant on all logits changes nothing
assert check((softmax_cross_entropy, softmax_cross_entropy_backward), logits, labels).ok
assert np.isclose(softmax_cross_entropy(np.zeros((1, 4, 4, 3)), np.ones((1, 4, 4), int))[0], np.log(3))
assert np.isfinite(softmax_cross_entropy(np.full((1, 1, 1, 2), [-1e4, 1e4]), np.zeros((1, 1, 1), int))[0])

# %% [markdown]
# A network that knows nothing has loss $\ln K$. If your training starts far above that, something is wrong before it began.
#
# Why not the squared error $(1 - p_t)^2$? Look at the gradient where the network is *surely wrong*. Cross-entropy pushes
# with full force. The squared error, through the flat end of the softmax, hardly at all: the worst pixels learn least.

# %%
z = np.linspace(-8, 8, 401)  # logit of the true class, the other being 0
p = 1 / (1 + np.exp(-z))
entropy_push, square_push = 1 - p, 2 * (1 - p) * p * (1 - p)
assert entropy_push[0] > 0.99 and square_push[0] < 0.001
figure, (a, b) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
a.plot(z, -np.log(p), color=BLUE, lw=2, label="cross-entropy")
a.plot(z, (1 - p) ** 2, color=ORANGE, lw=2, label="squared error")
b.plot(z, entropy_push, color=BLUE, lw=2)
b.plot(z, square_push, color=ORANGE, lw=2)
a.set(title="loss", xlabel="logit of the true class")
b.set(title="push towards the truth, -dz", xlabel="logit of the true class")
a.legend(frameon=False)
for ax in (a, b):
    ax.axvspan(-8, -4, color=RED, alpha=0.08, lw=0)
    ax.spines[["top", "right"]].set_visible(False)
b.text(-6, 0.5, "surely\nwrong", ha="center", color=RED, fontsize=9)
plt.show()

# %% [markdown]
# ## Soft Dice
#
# Where cells cover a twentieth of the image, "background everywhere" has 95 % of the pixels right. The score of
# segmentation is **Dice**, $2\,|A \cap B| / (|A| + |B|)$, of the found set A and the true set B; for "background
# everywhere" it is 0. With probabilities for A it becomes a loss that can be differentiated. For each class, over all
# pixels of the batch,
#
# $$I = \sum p\, t, \quad U = \sum p + \sum t, \quad D = \frac{2 I + s}{U + s}, \quad L = 1 - \text{mean over classes of } D.$$
#
# The small $s$ keeps a class finite that is neither there nor predicted. By the quotient rule, with
# $\partial I / \partial p = t$ and $\partial U / \partial p = 1$,
#
# $$\frac{\partial D}{\partial p} = \frac{2 t (U + s) - (2 I + s)}{(U + s)^2} = \frac{2 t - D}{U + s},$$
#
# and then on through the softmax: $dz_k = p_k (dp_k - \sum_j dp_j\, p_j)$.


# %%
def softmax(z):
    """Probabilities over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    return p, (p,)


def softmax_backward(dp, cache):
    """p (dp - sum of dp p)."""
    (p,) = cache
    return p * (dp - (dp * p).sum(-1, keepdims=True))


def soft_dice(logits, labels, smooth=1.0):
    """1 - the mean Dice of the classes; pixels labelled -1 do not count."""
    p, _ = softmax(logits)
    true, seen = one_hot(labels, logits.shape[-1]), (labels != -1)[..., None]
    union = (seen * (p + true)).sum((0, 1, 2)) + smooth
    dice = (2 * (seen * p * true).sum((0, 1, 2)) + smooth) / union
    return 1 - dice.mean(), (p, true, seen, dice, union)


def soft_dice_backward(dloss, cache):
    """dloss, a number, to dlogits."""
    p, true, seen, dice, union = cache
    dp = -dloss * seen * (2 * true - dice) / union / len(dice)
    return softmax_backward(dp, (p,))


loss, cache = soft_dice(logits, labels)
loss_, cache_ = ops.soft_dice(logits, labels)
assert np.isclose(loss, loss_)
np.testing.assert_allclose(soft_dice_backward(2.5, cache), ops.soft_dice_backward(2.5, cache_), atol=1e-12)
assert check((soft_dice, soft_dice_backward), logits, labels).ok
assert check((softmax, softmax_backward), logits).ok

# %% [markdown]
# See the difference at the start of training, when a network says "one half" at each pixel of an image with few cells. Both
# losses push cells up (purple) and background down (orange). To cross-entropy all pixels are alike, so nearly all of the
# push goes down: the network first learns to say "background everywhere", and may stay there for long. To Dice a class's
# pixels count more the fewer there are.

# %%
sample = SyntheticCells(1, size=96, seed=29)[0]
truth = sample.labels[None].astype(int)
covered = truth.mean()
told = np.zeros((*truth.shape, 2))
pushes = {}
for name, (f, back) in {
    "cross-entropy": (softmax_cross_entropy, softmax_cross_entropy_backward),
    "soft Dice": (soft_dice, soft_dice_backward),
}.items():
    pushes[name] = -back(1.0, f(told, truth)[1])[0, ..., 1]
counts_for = {name: push[truth[0] == 1].mean() / -push[truth[0] == 0].mean() for name, push in pushes.items()}
print(f"covered {covered:.3f}; one pixel of a cell pushes like so many of background: {counts_for}")
assert np.isclose(counts_for["cross-entropy"], 1) and counts_for["soft Dice"] > 2.5

figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
axes[0].imshow(sample.image[..., 0], cmap="gray", vmin=0, vmax=1)
axes[0].set_title(f"cells cover {100 * covered:.0f} %", fontsize=10)
for ax, (name, push) in zip(axes[1:], pushes.items()):
    limit = abs(push).max()
    ax.imshow(push, cmap="PuOr", vmin=-limit, vmax=limit)
    ax.set_title(f"{name}: a cell's pixel counts {counts_for[name]:.1f}-fold", fontsize=10)
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# In practice one adds the two: cross-entropy is smooth and fair to each pixel, Dice minds the small class. minunet calls
# that `ce+dice`. Read `minunet/ops/norm.py`, `minunet/ops/activation.py` and `minunet/ops/loss.py`: one channel with a
# sigmoid, focal loss and group norm are there, too.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** A convolution with a bias stands before a batch norm. What does training do to the bias?
#
# <details>
# <summary>Answer</summary>
#
# Nothing: the norm subtracts the mean, and with it any constant. The gradient that the norm hands back sums to 0 over
# each channel, so the bias's gradient is 0 (but for rounding), and it stays where it began. Hence minunet's
# convolutions before a norm have none.
#
# </details>
#
# **2.** You add 100 to all scores of a pixel. What happens to the softmax, to the loss, and to the gradient's sum over
# the classes?
#
# <details>
# <summary>Answer</summary>
#
# Nothing changes: softmax only sees differences. For the same reason the gradient over a pixel's classes always sums to
# 0: a step along (1, 1, ..., 1) could not change the loss.
#
# </details>
#
# **3.** In training, a batch norm gets one image of $1 \times 1$ pixel. What does it give, and what does it learn?
#
# <details>
# <summary>Answer</summary>
#
# Each channel has one number, which is its own mean, with variance 0. What comes out is beta, whatever went in, and dx
# is 0. A small batch at the bottom of a deep network comes close to that: norms need many numbers.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/batch_norm.py`: the backward of batch norm
# * `python -m minunet.grade tutorials/exercises/cross_entropy.py`: softmax cross-entropy, both ways
# * `python -m minunet.grade tutorials/exercises/dice.py`: the gradient of soft Dice
#
# On your own, each with a check:
#
# 1. **Leaky.** $f(x) = x$ for $x > 0$, else $0.01\, x$. Write it and its backward. *Check:*
#    `check((f, f_backward), draw((50,), rng))`.
# 2. **Two classes, one logit.** Show on paper that softmax over $(0, z)$ gives $p_1 = \text{sigmoid}(z)$. *Check:*
#    `softmax(np.array([0, z]))[0][1]`.
# 3. **A bias for nothing.** In front of batch norm a convolution's bias has no effect: why? What is its db? *Check:* db
#    from `batch_norm_backward`'s dx, summed over pixels, is 0 but for rounding.
# 4. **Group norm.** The same formula over another set: one image, a group of channels. Rewrite `batch_norm` for it by
#    reshaping to $(N, H W, G, C / G)$. Which axes are summed for dx, which for dgamma? *Check:*
#    `ops.group_norm(x, gamma, beta, 3)`.
# 5. **Forget a term.** Leave $\overline{g}$ out of `batch_norm_backward`. What does `check` say? And with $L = \sum y$,
#    that is dy = 1? *Check:* `check` fails; then compute dx for dy = 1 by both backwards and by differences.
