# %% [markdown]
# # 11 Optimisation: rate, depth, width, batch size, and an honest search
#
# **You will be able to**
#
# * find a learning rate with one short run;
# * say what depth and width buy, and what they cost;
# * measure how noisy a gradient is, and what a larger batch does about it;
# * tell a real difference from luck, and know why the winner of a search is worse than it looks;
# * start from weights that were learned elsewhere.
#
# You need lessons 01 to 06.

# %%
import itertools
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import minunet
from minunet.data import SyntheticCells
from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.optim import Adam, Schedule

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"


def open_axes(ax, title="", **labels):
    """A plot without a box around it."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, fontsize=10)
    ax.set(**labels)


size = 48
cells = SyntheticCells(224, size=size, seed=3)
images = np.stack([sample.image for sample in cells])  # (224, 48, 48, 1) float32
masks = np.stack([sample.labels for sample in cells]).astype(int)  # (224, 48, 48)
train, held = slice(0, 192), slice(192, 224)

# %% [markdown]
# ## A fair race, and how much of it is luck
#
# To compare two settings, all else must be equal: the images, their order, the number of them that is looked at (here 192,
# once each), and the schedule. And the *score* is taken on images that no step was taken on. Here: the loss on 32 of them.
#
# What remains is luck: other first weights, another result. **Measure the luck before anything else.** A difference that is
# not larger than that between seeds is none.


# %%
@cache  # a setting that was tried before is not trained again
def race(rate=1e-2, depth=2, width=8, batch=4, seed=0, number=192):
    """Train on `number` images, each seen once, with Adam and a cosine schedule; returns the model."""
    model = minunet.UNet(1, 2, base_width=width, depth=depth, seed=seed)
    steps = number // batch
    optimizer, schedule = Adam(model, rate), Schedule("cosine", rate, steps)
    for n in range(steps):
        optimizer.lr = schedule(n)
        some = slice(batch * n, batch * n + batch)
        loss_and_gradients(model, images[train][some], masks[train][some])
        optimizer.step()
    return model


def loss_and_gradients(model, x, truth):
    """The loss; the gradients lie in model.named_grads() then."""
    logits, cache = model.forward(x)
    loss, loss_cache = softmax_cross_entropy(logits, truth)
    model.zero_grad()
    model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
    return float(loss)


def held_out(model):
    """The loss on the images that were held out."""
    return float(softmax_cross_entropy(model(images[held]), masks[held])[0])


by_seed = [held_out(race(seed=seed)) for seed in range(3)]
base, luck = float(np.mean(by_seed)), float(np.ptp(by_seed))
print(
    f"held-out loss with three seeds: {', '.join(f'{v:.3f}' for v in by_seed)}: {base:.3f}, and luck is worth {luck:.3f}"
)

# %% [markdown]
# ## The learning rate
#
# Of all numbers the rate matters most: too small and nothing happens in the time given, too large and it explodes (lesson
# 06). Between lies a valley that is wide on a logarithmic axis, so search by factors, not by differences.
#
# A **range test** finds it in one run: begin with a rate that is far too small, multiply it by a constant at every step, and
# watch the loss. Where it falls fastest, the rate is good; where it turns up, too large. (Smith, 2017, *Cyclical learning
# rates for training neural networks*.)


# %%
def range_test(low=1e-5, high=3.0, steps=64):
    """Rates from low to high, and the loss at each step."""
    model = minunet.UNet(1, 2, base_width=8, depth=2, seed=0)
    optimizer = Adam(model, low)
    rates, losses = np.geomspace(low, high, steps), []
    for n, rate in enumerate(rates):
        optimizer.lr = rate
        start = 4 * n % 192
        losses.append(loss_and_gradients(model, images[start : start + 4], masks[start : start + 4]))
        optimizer.step()
    return rates, np.array(losses)


tested, range_losses = range_test()
kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.5) ** 2)  # batches differ: smooth over a few
smooth = np.convolve(np.pad(range_losses, 6, mode="edge"), kernel / kernel.sum(), mode="valid")
turn = tested[smooth.argmin()]
suggested = turn / 5

rates = [1e-4, 2.5e-3, 1e-2, 4e-2, 0.5]
by_rate = [held_out(race(rate)) for rate in rates]

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", sharex=True)
axes[0].plot(tested, np.minimum(range_losses, 2), ".", color=GREY, ms=4)
axes[0].plot(tested, np.minimum(smooth, 2), color=BLUE, lw=1.8)
axes[0].axvline(turn, color=RED, lw=1, ls=":")
axes[0].text(turn, 1.35, " turns", color=RED, fontsize=9)
axes[0].axvline(suggested, color=GREEN, lw=1, ls=":")
axes[0].text(suggested, 1.35, "a fifth ", color=GREEN, fontsize=9, ha="right")
open_axes(axes[0], "one run, the rate rising at every step", xscale="log", xlabel="rate", ylabel="loss", ylim=(0, 1.5))
axes[1].plot(rates, np.minimum(by_rate, 1.5), "o-", color=BLUE)
axes[1].axvline(suggested, color=GREEN, lw=1, ls=":")
open_axes(axes[1], "whole runs, each at its rate", xlabel="rate", ylabel="held-out loss", ylim=(0, 1.0))
plt.show()

assert by_rate[0] > base + 3 * luck and by_rate[-1] > base + 3 * luck  # both ends of the valley
assert 1e-3 <= suggested <= 5e-2  # the test, a fifth of one search, has found its floor
print(
    f"range test: turns at {turn:.2g}, a fifth of it is {suggested:.2g}; the best whole run: {rates[int(np.argmin(by_rate))]:g}"
)

# %% [markdown]
# The rate need not stay the same, and mostly does not. At first the weights are random and the gradients large, so many
# trainings begin with a **warm-up**, some steps in which the rate rises from nearly nothing. In the end small steps let the
# weights settle, so it falls, here along half a cosine (Loshchilov and Hutter, 2017, *SGDR*).
#
# ## Depth: how far it sees
#
# Each level doubles the reach of the convolutions in it. Add up: four pixels for the two convolutions of level 0, eight for
# those of level 1, and so on, once on the way down and once on the way up; one, two, four for the pools. An output pixel of
# depth $d$ sees a square of side
#
# $$r(d) = 1 + 2 \cdot 4\,(2^d - 1) + (2^d - 1) + 4 \cdot 2^d = 13 \cdot 2^d - 8.$$
#
# What must be *seen* to decide decides the depth: here cells are 13 to 30 pixels across, and whether a bright patch is cell
# or haze shows at its edge.
#
# **Cost**: a level deeper doubles the channels and quarters the pixels: the arithmetic of a level is the same as that of
# the one above, so it grows *linearly* with depth. The parameters do not: each level has four times as many as the one
# above it. Deep levels are where the weights are, shallow ones where the time goes (lesson 10 has the numbers).


# %%
@cache
def reach(depth):
    """Side of the square of input pixels that the middle output pixel can depend on, measured by gradients."""
    side, seen = 128, []
    model = minunet.UNet(1, 2, base_width=2, depth=depth, norm=None, seed=1)
    for p in model.named_params().values():
        p[...] = abs(p)  # so that nothing cancels and no ReLU closes
    for x in np.random.default_rng(0).random(
        (4, 1, side, side, 1), dtype=np.float32
    ):  # a pool passes on its largest only
        logits, cache = model.forward(x)
        dlogits = np.zeros_like(logits)
        dlogits[0, side // 2, side // 2, 1] = 1
        seen.extend(np.flatnonzero(model.backward(dlogits, cache)[0, ..., 0].any(0)))
    return int(max(seen) - min(seen) + 1)


def cost(depth=2, width=8):
    """Parameters, and arithmetic of a forward pass in MFLOP."""
    model = minunet.UNet(1, 2, base_width=width, depth=depth)
    return model.num_params(), minunet.summary(model, (1, size, size, 1)).flops / 1e6


depths = [0, 1, 2, 3]
by_depth = [held_out(race(depth=depth)) for depth in depths]
print("depth   sees     parameters    MFLOP   held-out loss")
for depth, loss in zip(depths, by_depth):
    parameters, mflop = cost(depth)
    print(f"{depth:5}{reach(depth):5} px{parameters:14,}{mflop:9.1f}{loss:14.3f}")

reaches = [reach(depth) for depth in depths]
assert all(0.9 * (13 * 2**d - 8) < r <= 13 * 2**d - 8 for d, r in zip(depths, reaches)) and reaches[0] == 5
assert min(by_depth[:2]) > base + 3 * luck  # neither 5 nor 18 pixels tell a cell from haze
(p1, f1), (p2, f2), (p3, f3) = (cost(depth) for depth in depths[1:])
assert p3 / p2 > 3.5 and 0.8 < (f3 - f2) / (f2 - f1) < 1.25  # parameters times four; arithmetic by equal steps

# %% [markdown]
# 18 pixels are less than a large cell, 44 show it whole with what is around it. When all that matters is in view, more depth
# only adds weights, which these few steps cannot teach.
#
# ## Width: how much it can say
#
# Twice the width is four times the arithmetic *and* four times the parameters, at every level. Draw the loss over the cost,
# both on logarithmic axes, and a question such as "is it worth it?" can be read off.

# %%
widths = [2, 4, 8, 16]
by_width = [held_out(race(width=width)) for width in widths]
width_costs = [cost(width=width)[1] for width in widths]
depth_costs = [cost(depth=depth)[1] for depth in depths]

figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for costs, losses, names, colour, what, below in (
    (width_costs, by_width, widths, BLUE, "width (depth 2)", 5),
    (depth_costs, by_depth, depths, ORANGE, "depth (width 8)", -14),
):
    ax.loglog(costs, losses, "o-", color=colour, label=what)
    for c, loss, name in zip(costs, losses, names):
        ax.annotate(str(name), (c, loss), xytext=(5, below), textcoords="offset points", color=colour, fontsize=10)
ax.axhspan(min(by_seed), max(by_seed), color=GREY, alpha=0.25, lw=0)
ax.text(max(width_costs), max(by_seed), "luck", color=GREY, fontsize=9, ha="right", va="bottom")
open_axes(ax, "what a network costs and what it gets", xlabel="MFLOP, forward", ylabel="held-out loss")
ax.set_yticks([0.1, 0.2, 0.4], labels=["0.1", "0.2", "0.4"])
ax.minorticks_off()
ax.legend(frameon=False, fontsize=9)
plt.show()
assert by_width[0] > by_width[2] + luck  # two channels are too few
assert 3.3 < width_costs[-1] / width_costs[-2] < 4.2

# %% [markdown]
# With 192 images, each seen once, more than a few channels hardly pay. With more images and more steps the wide ones go on
# getting better: how large a network should be depends on how much there is to learn from. The paper's 64 channels at depth
# 4 are a thousand times these.
#
# ## Batch size: how noisy the gradient is
#
# The gradient of a batch is an estimate of that of all images, from a sample of $B$. If single images' gradients scatter
# with the variance $\sigma^2$ about their mean $g$, the estimate's squared error is
#
# $$\mathrm{E}\, \lVert g_B - g \rVert^2 = \sigma^2 / B.$$
#
# Four times the batch, half the noise, four times the arithmetic. Measure it (on a network without batch norm, which would
# make an image's gradient depend on its neighbours in the batch).

# %%
quiet = minunet.UNet(1, 2, base_width=8, depth=2, norm=None, seed=0)
for n in range(12):  # a few steps away from the start
    loss_and_gradients(quiet, images[4 * n : 4 * n + 4], masks[4 * n : 4 * n + 4])
    for name, p in quiet.named_params().items():
        p -= 0.02 * quiet.named_grads()[name]


def gradient(some):
    """The gradient of all parameters as one vector, from the images of these numbers."""
    loss_and_gradients(quiet, images[some], masks[some])
    return np.concatenate([g.ravel().copy() for g in quiet.named_grads().values()]).astype(float)


single = np.stack([gradient([n]) for n in range(128)])  # (128, parameters)
whole = single.mean(0)
assert np.allclose(gradient(list(range(16))), single[:16].mean(0), atol=1e-5)  # a batch's gradient is the mean
scatter = ((single - whole) ** 2).sum(1).mean() * 128 / 127
sizes, rng = [1, 2, 4, 8, 16, 32], np.random.default_rng(0)
errors = []
for batch in sizes:
    drawn = [single[rng.integers(128, size=batch)].mean(0) for _ in range(200)]
    errors.append(float(np.mean([((g - whole) ** 2).sum() for g in drawn])))

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
axes[0].loglog(sizes, errors, "o", color=BLUE, label="measured")
axes[0].loglog(sizes, scatter / np.array(sizes), color=GREY, lw=1, label=r"$\sigma^2 / B$")
axes[0].axhline((whole**2).sum(), color=GREEN, lw=1, ls=":")
axes[0].text(sizes[-1], (whole**2).sum(), r"$\Vert g \Vert^2$", color=GREEN, va="bottom", ha="right")
axes[0].set_xticks(sizes, labels=[str(s) for s in sizes])
axes[0].minorticks_off()
open_axes(axes[0], "squared error of a batch's gradient", xlabel="batch size")
axes[0].legend(frameon=False, fontsize=9)
assert all(0.7 < e * b / scatter < 1.4 for e, b in zip(errors, sizes))

tried = {1: (2.5e-3, 1e-2), 4: (2.5e-3, 1e-2, 4e-2), 16: (1e-2, 4e-2)}
best_of = {}
for (batch, some_rates), colour in zip(tried.items(), (BLUE, ORANGE, GREEN)):
    row = {rate: held_out(race(rate, batch=batch)) for rate in some_rates}
    best_of[batch] = min((loss, rate) for rate, loss in row.items())
    axes[1].semilogx(
        list(row), list(row.values()), "o-", color=colour, label=f"batches of {batch}: {192 // batch} steps"
    )
open_axes(axes[1], "the same 192 images in batches", xlabel="rate", ylabel="held-out loss", ylim=(0, None))
axes[1].set_xticks([2.5e-3, 1e-2, 4e-2], labels=["0.0025", "0.01", "0.04"])
axes[1].minorticks_off()
axes[1].legend(frameon=False, fontsize=9)
plt.show()

assert best_of[16][0] > max(best_of[1][0], best_of[4][0]) + luck  # a better gradient, but too few steps
print({batch: f"loss {loss:.3f} at rate {rate:g}" for batch, (loss, rate) in best_of.items()})

# %% [markdown]
# A larger batch has a better gradient, so it bears a larger rate; but it takes fewer steps for the same images, and here that
# weighs more. Compare batch sizes only with the rate tuned *for each*. A rule that often does: twice the batch, twice the
# rate with SGD, 1.4 times with Adam. On a GPU a larger batch also fills the machine; lesson 10 shows what it costs in memory.
#
# ## The winner's curse
#
# We have compared a dozen settings by the same held-out images. The best of them has won by merit *and* by luck: its
# score on just these images flatters it. The fewer the images and the more the settings, the worse.
#
# That can be seen with what we have. Score six networks on each image. Draw 4 images at random, let the networks compete on
# them, and ask how good the winner is on all the *other* images. A thousand times.

# %%
contestants = [race(seed=0), race(seed=1), race(seed=2), race(1e-2, batch=1), race(width=16), race(depth=3)]
table = np.array(
    [[softmax_cross_entropy(m(images[n : n + 1]), masks[n : n + 1])[0] for n in range(192, 224)] for m in contestants]
)  # (networks, images)
rng = np.random.default_rng(1)
promised, kept = [], []
for _ in range(1000):
    shuffled = rng.permutation(table.shape[1])
    few, others = shuffled[:4], shuffled[4:]
    winner = table[:, few].mean(1).argmin()
    promised.append(table[winner, few].mean())
    kept.append(table[winner, others].mean())
optimism = float(np.mean(kept) - np.mean(promised))
print(
    f"the winner promises {np.mean(promised):.3f} and keeps {np.mean(kept):.3f}: the choice alone flatters by {optimism:.3f}"
)
assert optimism > 0

# %% [markdown]
# So divide the images in **three**: train on the first, choose on the second (validation), and touch the third (test) once,
# at the end; its score is the one to report. `minunet.train` prints *validation* scores, and `best.safetensors` is chosen
# by them: they flatter a little.
#
# And when there are several numbers to search, **draw them at random**, each on its own scale (rates logarithmically). On a
# grid of $5 \times 5$ one tries five rates, 25 random points try 25, and it is mostly the rate that matters (Bergstra and
# Bengio, 2012, *Random search for hyper-parameter optimization*).

# %%
rng = np.random.default_rng(2)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharex=True, sharey=True)
points = {"grid": np.array(list(itertools.product(np.linspace(0.1, 0.9, 5), repeat=2))), "random": rng.random((25, 2))}
line = np.linspace(0, 1, 200)
importance = 0.25 * np.exp(-0.5 * ((line - 0.62) / 0.07) ** 2)  # of what matters; the other axis does not matter
for ax, (name, xy) in zip(axes, points.items()):
    ax.plot(*xy.T, "o", color=BLUE, ms=5)
    ax.plot(xy[:, 0], np.full(25, 1.04), "|", color=RED, ms=9)
    ax.fill_between(line, 1.1, 1.1 + importance, color=GREEN, alpha=0.6, lw=0)
    open_axes(ax, f"{name}: {len(np.unique(xy[:, 0].round(9)))} values of what matters", xticks=[], yticks=[])
    ax.set(xlabel="a number that matters", ylabel="one that does not")
plt.show()

# %% [markdown]
# ## Starting from learned weights
#
# First layers find edges and blobs, whatever the images are of. So weights learned elsewhere are a better start than random
# ones, above all when there are few images. Here: a network that has learned on the cells above shall segment cells of
# another microscope, out of focus and noisier, from eight images. (With ImageNet's photographs as the elsewhere this is the
# "pretrained encoder" of many U-Nets; its gain shrinks the further the microscope is from photographs.)

# %%
noise = np.random.default_rng(0).normal(0, 0.06, images.shape)
blurred = (0.6 * ndimage.gaussian_filter(images, (0, 1.5, 1.5, 0)) + noise).astype(np.float32)


def tune(model, steps=32, rate=3e-3):
    """Train on eight of the blurred images; the held-out loss at every eighth step."""
    optimizer, found = Adam(model, rate), []
    for n in range(steps + 1):
        if n % 8 == 0:
            found.append(float(softmax_cross_entropy(model(blurred[held]), masks[held])[0]))
        start = 4 * (n % 2)
        loss_and_gradients(model, blurred[start : start + 4], masks[start : start + 4])
        optimizer.step()
    return found


from_scratch = tune(minunet.UNet(1, 2, base_width=8, depth=2, seed=0))
from_learned = tune(race(seed=0))
figure, axes = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained", width_ratios=[1, 1, 2])
for ax, image, title in zip(axes, (images[held][0], blurred[held][0]), ("learned on such", "to be segmented")):
    ax.imshow(image[..., 0], cmap="gray")
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
axes[2].plot(range(0, 33, 8), from_scratch, "o-", color=GREY, label="random weights")
axes[2].plot(range(0, 33, 8), from_learned, "o-", color=GREEN, label="weights learned on sharp images")
open_axes(axes[2], "eight blurred images", xlabel="step", ylabel="held-out loss", ylim=(0, None))
axes[2].legend(frameon=False, fontsize=9)
plt.show()
assert max(from_learned[1:]) < 0.7 * min(from_scratch)
print(f"after 32 steps: {from_scratch[-1]:.3f} from random and {from_learned[-1]:.3f} from learned weights")

# %% [markdown]
# The learned start is good before the first step, and eight images add little to it. The random start's loss even rises: its
# weights change faster than the running statistics of its norms can follow (lesson 04), and eight images, shown again and
# again, are soon known by heart (lesson 06).
#
# `python -m minunet.train --data MINE -f FILE` does this: it starts from a checkpoint of minunet's or of PyTorch-UNet's.
#
# ## In which order to search
#
# 1. One batch by heart (lesson 06); the loss of chance; the luck between seeds.
# 2. The rate, by a range test, and again whenever batch size, optimiser or network change.
# 3. More or better augmented images. They nearly always bring more than all that follows.
# 4. Depth until all that matters is in view; width until the time is used up.
# 5. The rest (weight decay, dropout, schedule), at random, on validation images; the test images once.
#
# The flags: `-l`, `-b`, `--depth`, `--base-width`, `--schedule`, `--optimizer`, `--weight-decay`, `--dropout`, `--seed`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** Two seeds of one setting differ by about 0.01. You try 12 settings, and the best is 0.016 better than the usual
# one. What do you conclude?
#
# <details>
# <summary>Answer</summary>
#
# Nothing yet. If all twelve were equal and their luck normal with standard deviation $s$, the best of twelve would be
# ahead of the mean by $1.6\,s$ on the average. Run the winner and the usual one with several new seeds, and compare
# those.
#
# </details>
#
# **2.** Four times the batch, the same images. What happens to the gradient's noise, to the number of steps, and to how
# far small steps go in all?
#
# <details>
# <summary>Answer</summary>
#
# The variance falls to a quarter, the steps to a quarter, and with the same rate the way that the weights can go, too.
# So the rate should rise, up to four times with SGD; if it cannot, because it would explode, the larger batch has only
# made fewer steps.
#
# </details>
#
# **3.** Your cells are 60 pixels across, and only the whole cell tells what it is. Which depth?
#
# <details>
# <summary>Answer</summary>
#
# $13 \cdot 2^d - 8$ pixels are seen: 44 at depth 2, 96 at depth 3. So depth 3, or images of half the size at depth 2.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/schedule.py`: a rate that warms up and then falls along half a cosine, and
#   the range test that finds its largest value
#
# On your own, each with a check:
#
# 1. **Steps or images.** In the last picture of batch sizes all runs saw 192 images. Give all of them 48 *steps* instead.
#    Who wins now, and which comparison would you make to choose for a given *time*? *Check:* `race(batch=1, number=48)`.
# 2. **The best constant.** Suppose that the loss at rate $\eta$ is a parabola in $\log \eta$. Fit one through the three best
#    points of `by_rate`; where is its lowest point? *Check:* `race` at that rate, with three seeds.
# 3. **How many seeds?** The spread between seeds is $s$. How many must be averaged to see a difference of $s / 2$ with some
#    confidence? *Check:* simulate with normal numbers; the standard error is $s \sqrt{2 / n}$.
# 4. **Optimism.** How does the winner's promise change with 1, 4, 16 images to compete on, and with two and six networks?
#    *Check:* vary the loop above; it falls with the images and grows with the contestants.
# 5. **The wrong elsewhere.** Tune on `1 - images`, cells that are dark on bright. How much is the learned start worth now,
#    and what must the network unlearn? *Check:* `tune` with these images in place of `blurred`, 64 steps.
