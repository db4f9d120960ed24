# %% [markdown]
# # 06 Training: the loop, its curves, and its faults
#
# **You will be able to**
#
# * write the training loop in six lines, and say what momentum and Adam add to plain descent;
# * test a new network by two numbers known beforehand: the loss of chance, and the loss of a batch learned by heart;
# * read a curve: which fault has which shape, and which fault has none;
# * make six images do by augmentation, and see overfitting come and go;
# * score a segmentation so that the score cannot flatter.
#
# You need lessons 01 to 05. From here on the network is minunet's own, which lesson 05 took apart.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minunet
from minunet.data import Batches, SyntheticCells
from minunet.data.augment import augment
from minunet.metrics import Confusion
from minunet.models.blocks import Join
from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.optim import Adam, Schedule, adam_step, sgd_step
from minunet.predict.overlay import boundary, errors

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


def open_axes(ax, **labels):
    """A plot without a box around it."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(**labels)


size = 48
cells = SyntheticCells(240, size=size, seed=0)
images = np.stack([sample.image for sample in cells])  # (240, 48, 48, 1) float32
masks = np.stack([sample.labels for sample in cells]).astype(int)  # (240, 48, 48): 0 background, 1 cell
held_images, held_masks = images[200:], masks[200:]  # never trained on


def small_unet(seed=0):
    """A network small enough to train in seconds."""
    return minunet.UNet(1, 2, base_width=8, depth=2, seed=seed)


# %% [markdown]
# ## Six lines
#
# A training step is: forward, loss, clear the gradients, backward, update. A model's `forward` gives the logits and the
# caches, as in lesson 05; its `backward` *adds* to the gradients that lie beside the parameters (so that one may sum over
# several batches). Hence somebody must clear them.


# %%
def step(model, optimizer, images, masks, clear=True):
    """One step of training; returns the loss before it."""
    logits, cache = model.forward(images)
    loss, loss_cache = softmax_cross_entropy(logits, masks)
    if clear:
        model.zero_grad()
    model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
    optimizer.step()
    return float(loss)


# %% [markdown]
# ## Before the first step: the loss of chance
#
# The first number of a run can be known. A network whose last layer is zero says "one half" everywhere, and the
# cross-entropy of that is $-\ln \tfrac12 = 0.693$ for two classes, whatever the image. A fresh network says little more.
# A first loss of 5 or of 0.01 means that something is wrong already: labels, normalisation, or a mean that is a sum.
#
# A second number: the best that one can do *without looking at the image*. If a share $c$ of the pixels is cell, say "cell
# with probability $c$" everywhere; the loss is then the entropy of $c$. We call it the **blind** loss. A curve that stops
# there belongs to a network that has learned nothing but how many cells there are.

# %%
model = small_unet()
first_loss, _ = softmax_cross_entropy(model(images[:6]), masks[:6])
model.head.params["w"][...] = 0
chance_loss, _ = softmax_cross_entropy(model(images[:6]), masks[:6])
assert np.isclose(chance_loss, np.log(2)) and abs(first_loss - chance_loss) < 0.35

covered = masks[:200].mean()
blind = float(-covered * np.log(covered) - (1 - covered) * np.log(1 - covered))
print(
    f"fresh {first_loss:.3f}, chance {chance_loss:.3f}; cells cover {covered:.2f} of the pixels: blind loss {blind:.3f}"
)

# %% [markdown]
# ## Downhill
#
# The gradient points uphill, so step against it: $p \leftarrow p - \eta\, g$ with the **learning rate** $\eta$. How large
# may $\eta$ be? Take the simplest valley, $L = \tfrac12 \lambda p^2$ with the slope $g = \lambda p$:
#
# $$p \leftarrow p - \eta \lambda p = (1 - \eta \lambda)\, p.$$
#
# It shrinks if $|1 - \eta \lambda| < 1$, that is for $\eta < 2 / \lambda$, and *explodes* beyond: each step overshoots by
# more than the one before. A loss in many parameters has many curvatures $\lambda$; the steepest sets the limit, and the
# flattest then crawls, since it shrinks by $1 - 2 \lambda_{\min} / \lambda_{\max}$ a step at best.
#
# **Momentum** lets the step remember. What changes sign from step to step cancels, what keeps its sign adds up, to
# $1 / (1 - \mu)$ times the gradient:
#
# $$v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v.$$
#
# **Adam** keeps a running mean $m$ of the gradient and $s$ of its square, and steps by their ratio:
#
# $$p \leftarrow p - \eta \, m / \sqrt{s}.$$
#
# Multiply the loss by 100, and Adam's steps stay as they are: about $\eta$ for each parameter, steep or flat. In this valley
# it does not win. But its rate means the same in any network, and one rate, 0.001 to 0.01, does for most.

# %%
curvature = np.array([1.0, 25.0])
start = np.array([-4.0, 1.3])


def descend(update, steps=30):
    """The path of p, (steps + 1, 2), down L = sum(curvature * p * p) / 2 by `update(p, g, number)`, which changes p."""
    p = start.copy()
    path = [p.copy()]
    for number in range(1, steps + 1):
        update(p, curvature * p, number)
        path.append(p.copy())
    return np.array(path)


def descent(rate, momentum):
    """An update that carries its velocity along."""
    v = np.zeros(2)

    def update(p, g, number):
        v[...] = momentum * v + g
        p -= rate * v

    return update


def valley(path):
    """The loss along a path."""
    return 0.5 * (curvature * path**2).sum(1)


def adam(scale=1.0):
    """Adam's update with rate 0.3, of a loss multiplied by `scale`."""
    m, s = np.zeros(2), np.zeros(2)
    return lambda p, g, number: adam_step(p, scale * g, m, s, number, 0.3)


limit = 2 / curvature.max()
paths = {
    "plain, rate just below the limit": descend(descent(0.96 * limit, 0)),
    "momentum 0.6, the same rate": descend(descent(0.96 * limit, 0.6)),
    "Adam, rate 0.3": descend(adam()),
}
assert valley(descend(descent(1.04 * limit, 0)))[-1] > valley(start[None])[0]  # beyond the limit it climbs
plain, heavy, _ = (valley(path)[-1] for path in paths.values())
assert heavy < 0.01 * plain
np.testing.assert_allclose(descend(adam(100)), paths["Adam, rate 0.3"], atol=1e-6)
velocity = np.zeros(2)  # our momentum is minunet's
theirs = descend(lambda p, g, number: sgd_step(p, g, velocity, 0.96 * limit, momentum=0.6))
np.testing.assert_allclose(theirs, paths["momentum 0.6, the same rate"], atol=1e-12)

figure, axes = plt.subplots(1, 3, figsize=(12, 2.9), layout="constrained", sharey=True)
across, up = np.meshgrid(np.linspace(-4.6, 1.8, 120), np.linspace(-1.7, 1.7, 80))
for ax, (name, path), colour in zip(axes, paths.items(), (GREY, BLUE, GREEN)):
    height = 0.5 * (curvature[0] * across**2 + curvature[1] * up**2)
    ax.contour(across, up, height, levels=np.geomspace(0.1, 40, 9), colors="#dddddd", linewidths=0.8)
    ax.plot(*path.T, "o-", color=colour, ms=3.5, lw=1)
    ax.plot(0, 0, "+", color=RED, ms=11, mew=2)
    bare(ax, f"{name}: L = {valley(path)[-1]:.1g}")
figure.suptitle("30 steps down a valley that is 25 times steeper across than along; +: the lowest point", fontsize=10)
plt.show()

# %% [markdown]
# A network's valley has thousands of directions and is not round, but these pictures are what happens there. *Stochastic*
# means that each step sees another batch, so the gradient is that of the whole set plus noise.
#
# ## Overfit one batch
#
# **The first test of any new network, loss or data: can it learn three images by heart?** It must come to a loss near 0 and
# all pixels right. It cannot fail for lack of data, and it takes seconds. If it does fail, do not train on; look for the
# mistake.

# %%
model = small_unet()
optimizer = Adam(model, 1e-2)
shown, losses = {}, []
for number in range(81):
    if number in (0, 4, 16, 80):
        shown[number] = model.forward(images[:3])[0].argmax(-1)
    losses.append(step(model, optimizer, images[:3], masks[:3]))
right = float((shown[80] == masks[:3]).mean())
assert losses[-1] < 0.02 and right > 0.995

figure, axes = plt.subplots(1, 6, figsize=(13, 2.7), layout="constrained", width_ratios=[1.5, 1, 1, 1, 1, 1])
axes[0].plot(losses, color=BLUE, lw=1.8)
axes[0].axhline(blind, color=GREY, lw=1, ls=":")
axes[0].text(80, blind, "blind", color=GREY, fontsize=9, ha="right", va="bottom")
open_axes(axes[0], xlabel="step", ylabel="loss", ylim=(0, None))
axes[1].imshow(images[1, ..., 0], cmap="gray", vmin=0, vmax=1)
bare(axes[1], "one of the three")
for ax, (number, labels) in zip(axes[2:], shown.items()):
    ax.imshow(errors(images[1], masks[1], labels[1]))
    bare(ax, f"after {number} steps")
figure.suptitle("blue: true positives; orange: false positives; pink: false negatives", fontsize=10)
plt.show()

# %% [markdown]
# Passing proves little: a network that can only learn by heart passes, too. It is a test of the wiring, and the cheapest
# one.
#
# ## Faults, and the curves that they draw
#
# Now a stream of new images, three a step, each seen once. Five runs, in each of which one thing is wrong. Guess the shape
# of the curve before you look.


# %%
class ForgetfulJoin(Join):
    """The skip's joint with lesson 05's mistake: the skip's gradient is dropped."""

    def backward(self, dy, cache):
        dskip, dup = super().backward(dy, cache)
        return 0 * dskip, dup


def train_on_stream(rate=1e-2, clear=True, turned=False, forgetful=False, steps=66):
    """Train on new images at each step. Returns the losses, and the Dice of the held-out images."""
    model = small_unet()
    if forgetful:
        model.join = ForgetfulJoin()
    optimizer = Adam(model, rate)
    losses = []
    for number in range(steps):
        some = slice(3 * number, 3 * number + 3)
        x = images[some, ::-1, ::-1] if turned else images[some]
        losses.append(step(model, optimizer, np.ascontiguousarray(x), masks[some], clear))
    return losses, score(model).mean_dice()


def score(model, threshold=0.5):
    """Counts of right and wrong pixels in the held-out images."""
    logits = model(held_images)
    cell = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
    counts = Confusion(2)
    counts.add(held_masks, (cell > threshold).astype(int))
    return counts


runs = {
    "as it should be": train_on_stream(),
    "rate 1/300 of that": train_on_stream(rate=3e-5),
    "rate 300 times that": train_on_stream(rate=3),
    "gradients not cleared": train_on_stream(clear=False),
    "images turned, masks not": train_on_stream(turned=True),
    "skip gradients dropped": train_on_stream(forgetful=True),
}
figure, axes = plt.subplots(2, 3, figsize=(12, 5.4), layout="constrained", sharex=True, sharey=True)
for ax, (name, (losses, dice)) in zip(axes.flat, runs.items()):
    ax.plot(runs["as it should be"][0], color=GREY, lw=1)
    ax.plot(losses, color=GREEN if name == "as it should be" else RED, lw=1.8)
    ax.axhline(blind, color=GREY, lw=1, ls=":")
    open_axes(ax, ylim=(0, 1.5))
    ax.set_title(f"{name}: Dice {dice:.2f}", fontsize=10)
for ax in axes[:, 0]:
    ax.set_ylabel("loss")
for ax in axes[1]:
    ax.set_xlabel("step")
axes[0, 0].text(65, blind, "blind", color=GREY, fontsize=9, ha="right", va="bottom")
plt.show()

ends = {name: float(np.mean(losses[-16:])) for name, (losses, _) in runs.items()}
healthy = ends["as it should be"]
assert healthy < 0.4 * blind
assert ends["rate 1/300 of that"] > blind and np.ptp(runs["rate 1/300 of that"][0]) < 0.3  # a straight line, too high
assert max(runs["rate 300 times that"][0]) > 3 and ends["rate 300 times that"] > 0.85 * blind
assert ends["gradients not cleared"] > 1.6 * healthy
assert abs(ends["images turned, masks not"] / blind - 1) < 0.12
assert ends["skip gradients dropped"] < 0.6 * blind

# %% [markdown]
# * **Too small a rate**: a straight line. Nothing is wrong but your patience.
# * **Too large**: a spike in the first steps, then a plateau at the blind loss. The first steps have
#   thrown the weights to where nothing is learned any more; often it ends in `nan`.
# * **Gradients not cleared**: each step is the sum of all before. It falls at first, then wanders.
# * **Images and masks that do not belong together**: the plateau at the blind loss, from the start and without a spike. Look
#   at what you feed the network, *after* augmentation, image and mask on top of each other.
# * **Dropped skip gradients**: a healthy curve! Curves do not find wrong gradients. Lesson 02 does.
#
# ## Learning by heart, and augmentation
#
# Real sets are small; the paper had 30 images. Take 6, and train on them again and again. Besides the loss of the
# **training** images watch that of **validation** images, on which no step is taken.
#
# **Augmentation** makes new images of old ones, by changes under which the truth is known: flips and quarter turns, any
# angle, size, elastic deformation, brightness, noise, blur. What moves pixels must move image and mask *together*; what
# changes intensity must leave the mask alone.

# %%
example = cells[1]
rng = np.random.default_rng(6)
figure, axes = plt.subplots(2, 6, figsize=(12, 4.2), layout="constrained")
for number, ax in enumerate(axes.flat):
    image, mask = (
        (example.image, example.labels)
        if number == 0
        else augment(example.image, example.labels, rng, size, p_elastic=0.7)
    )
    ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    edge = np.ma.masked_equal(boundary(mask) & (mask == 1), 0)
    ax.imshow(edge, cmap="autumn", vmin=0, vmax=2, alpha=0.8)
    bare(ax, "as it came" if number == 0 else "")
figure.suptitle("one image, and eleven that were made of it; the mask's outline goes along", fontsize=10)
plt.show()

# %% [markdown]
# How does one *test* that image and mask move together? Augment the mask as if it were the image. Both must come out the
# same, but for the pixels along outlines (the image is interpolated, the mask is not).

# %%
for seed in range(10):
    as_image, mask = augment(
        masks[1][..., None].astype(np.float32),
        masks[1],
        np.random.default_rng(seed),
        size,
        p_elastic=1,
        intensity=False,
    )
    inside = np.ones(mask.shape, bool)  # where all neighbours agree
    for axis in (0, 1):
        for shift in (-1, 1):
            inside &= np.roll(mask, shift, axis) == mask
    assert np.array_equal(as_image[..., 0][inside] > 0.5, mask[inside] == 1)


# %%
def train_on_six(with_augmentation, epochs=96):
    """Train on six images; returns the model and (epoch, training loss, validation loss) by epoch."""
    model = small_unet()
    batches = Batches(cells, range(6), batch_size=3, crop=size, augment=with_augmentation, seed=0)
    optimizer, schedule = Adam(model, 1e-2), Schedule("cosine", 1e-2, epochs * len(batches))
    rows = []
    for epoch in range(epochs):
        losses = []
        for number in range(len(batches)):
            optimizer.lr = schedule(optimizer.steps)
            losses.append(step(model, optimizer, *batches.batch(epoch, number)))
        if epoch % 6 == 5:
            held_loss, _ = softmax_cross_entropy(model(held_images), held_masks)
            rows.append((epoch + 1, float(np.mean(losses)), float(held_loss)))
    return model, np.array(rows)


by_heart, plain_rows = train_on_six(with_augmentation=False)
model, rows = train_on_six(with_augmentation=True)

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
for ax, (epochs, train_loss, held_loss), title in zip(
    axes, (plain_rows.T, rows.T), ("six images as they are", "six images, augmented")
):
    ax.plot(epochs, train_loss, color=BLUE, lw=1.8, label="training")
    ax.plot(epochs, held_loss, color=RED, lw=1.8, label="validation")
    ax.fill_between(epochs, train_loss, held_loss, color=RED, alpha=0.08, lw=0)
    open_axes(ax, xlabel="epoch", ylim=(0, 0.9))
    ax.set_title(title, fontsize=10)
axes[0].set_ylabel("loss")
axes[0].legend(frameon=False, fontsize=9)
plt.show()

_, train_loss, held_loss = plain_rows[-1]
assert train_loss < 0.05 and held_loss > 5 * train_loss  # learned by heart
assert rows[-1, 2] < 0.85 * held_loss  # the same six images, seen in many ways
print(f"validation loss {held_loss:.3f} without and {rows[-1, 2]:.3f} with augmentation")
print(f"training loss   {train_loss:.3f} without and {rows[-1, 1]:.3f} with")

# %% [markdown]
# Without augmentation the training loss goes to 0 and the validation loss does not follow: the gap between them is what was
# learned by heart. With it the *training* loss is higher, for the task is harder, and the *validation* loss is lower, which
# is what counts. Both runs took the same number of steps.
#
# The rate fell along half a cosine to 0. At a constant rate the last steps keep jumping about; a falling rate lets them
# settle.
#
# ## Scores that do not flatter
#
# Count four kinds of pixels: true positives (TP: cell, and predicted as cell), false positives (FP: background, predicted as
# cell), false negatives (FN: cell, predicted as background) and true negatives (TN: the rest).
#
# $$\text{accuracy} = \frac{TP + TN}{\text{all}}, \qquad \text{IoU} = \frac{TP}{TP + FP + FN}, \qquad
# \text{Dice} = \frac{2\, TP}{2\, TP + FP + FN}$$
#
# Accuracy flatters where there is much background: say "background" everywhere, and see. Dice and IoU leave TN out. They
# rank alike, as $\text{Dice} = 2\, \text{IoU} / (1 + \text{IoU})$. And no score says anything without something to compare
# it with; here it is the best single threshold of grey values.


# %%
def scores(prediction):
    """Accuracy, IoU and Dice of the held-out images, counted by hand."""
    tp = np.count_nonzero((prediction == 1) & (held_masks == 1))
    fp = np.count_nonzero((prediction == 1) & (held_masks == 0))
    fn = np.count_nonzero((prediction == 0) & (held_masks == 1))
    return 1 - (fp + fn) / held_masks.size, tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)


grey = held_images[..., 0]
brightest = max(np.linspace(0, 1, 41), key=lambda t: scores(grey > t)[2])  # chosen on these very images: a strong rival
rivals = {
    "background everywhere": np.zeros_like(held_masks),
    f"grey value above {brightest:.2f}": (grey > brightest).astype(int),
    "learned by heart": by_heart(held_images).argmax(-1),
    "with augmentation": model(held_images).argmax(-1),
}
print(f"{'':<24}accuracy   IoU    Dice")
for name, prediction in rivals.items():
    accuracy, iou, dice = scores(prediction)
    print(f"{name:<24}{accuracy:8.3f}{iou:8.3f}{dice:8.3f}")
    assert np.isclose(dice, 2 * iou / (1 + iou))
nothing, threshold, heart, best = (scores(prediction) for prediction in rivals.values())
assert nothing[0] > 0.65 and nothing[2] == 0
assert best[2] > heart[2] and best[2] > threshold[2] + 0.08
counts = score(model)
assert np.isclose(counts.mean_dice(), best[2]) and np.isclose(counts.mean_iou(), best[1])  # minunet counts alike

# %% [markdown]
# We added up the pixels of all images first: **pooled**. The mean of the images' Dice is another number, in which an image
# with one small cell weighs as much as one full of them. Say which one you mean.
#
# Then *look*, at the worst images first. A score tells how much is wrong, a picture what.

# %%
prediction = rivals["with augmentation"]
both = ((prediction == 1) & (held_masks == 1)).sum((1, 2))
dices = 2 * both / (prediction.sum((1, 2)) + held_masks.sum((1, 2)))
order = np.argsort(dices)
figure, axes = plt.subplots(2, 6, figsize=(12, 4.4), layout="constrained")
for column, index in zip(axes.T, (*order[:3], *order[len(order) // 2 : len(order) // 2 + 2], order[-1])):
    column[0].imshow(held_images[index, ..., 0], cmap="gray", vmin=0, vmax=1)
    column[1].imshow(errors(held_images[index], held_masks[index], prediction[index]))
    bare(column[0], f"Dice {dices[index]:.2f}")
    bare(column[1])
figure.suptitle(
    "the three worst, two from the middle, the best; blue: true positives; orange: false positives; pink: false negatives",
    fontsize=10,
)
plt.show()
assert dices.min() < best[2] < dices.max()

# %% [markdown]
# Errors along outlines are small and everywhere. What hurts is haze taken for a cell, and cells that drown in it. Neighbours
# that run into one are hardly counted here; the next lesson is about them.
#
# ## The command
#
# `python -m minunet.train` is this lesson with files; `minunet.fit(images, masks)` (`minunet/train/fit.py`) is the same as a
# function: `minunet/train/trainer.py` is the loop, `minunet/train/step.py` a step of it, `minunet/optim.py` the updates,
# `minunet/data/augment.py` the distortions, `minunet/metrics/confusion.py` the counts. The command draws the two curves, keeps
# the weights of the best epoch, and stops with an explanation at a loss of `nan`. `python -m
# minunet.doctor` looks for the faults in images and masks before you train.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** Before the first step a network for 4 classes has a loss of 5.2. What should it be, and what do you suspect?
#
# <details>
# <summary>Answer</summary>
#
# About $\log 4 = 1.39$, the loss of somebody who knows nothing. At 5.2 it is *sure and wrong*: first weights that are
# too large, images that were not scaled, or class numbers that do not fit the scores.
#
# </details>
#
# **2.** With momentum 0.9 and a gradient that stays $g$, what does the velocity become? You now take 0.99. What about
# the rate?
#
# <details>
# <summary>Answer</summary>
#
# It goes to $g / (1 - 0.9) = 10 g$, and with 0.99 to $100 g$. So the steps grow tenfold; take a tenth of the rate, and
# expect about ten times as many steps until the velocity has forgotten an old gradient.
#
# </details>
#
# **3.** The loss on one batch, shown again and again, falls to 0. On held-out images the network is no better than
# chance. What has been shown?
#
# <details>
# <summary>Answer</summary>
#
# That gradients, loss and optimiser work: a broken backward seldom gets there. Nothing about learning: a network with
# many more parameters than pixels knows a batch by heart. Faults of the data (masks that belong to other images) look
# just so.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/momentum.py`: gradient descent with momentum
#
# On your own, each with a check:
#
# 1. **The limit.** In the valley, from which rate on does *momentum* 0.6 diverge? Derive it: two steps are
#    $p_{t+1} = (1 + \mu - \eta \lambda)\, p_t - \mu\, p_{t-1}$; when does a root of its polynomial reach $-1$? *Check:*
#    `descend(descent(rate, 0.6), 300)` shrinks a little below $2 (1 + \mu) / \lambda_{\max}$ and explodes a little above.
# 2. **Scale.** Multiply the loss by 100 (hand 100.0 to `softmax_cross_entropy_backward`). Which optimiser does not care,
#    and why? *Check:* the losses of twenty steps with Adam hardly change; with `minunet.optim.SGD` and momentum 0 they do.
# 3. **Sum of batches.** Two batches of three images, gradients added without clearing, one update with half of their sum. Is
#    it a batch of six? *Check:* compare the gradients with `norm=None` in the network; then say what batch norm changes.
# 4. **One kind of change.** Which augmentation helps most here: flips and turns, elastic deformation, or intensity? *Check:*
#    `augment` has `p_elastic`, `elastic`, `scales` and `intensity`; train each with two seeds, and call a difference one only
#    if it is larger than that between seeds.
# 5. **Pooled or mean.** Make two predictions A and B for two images, such that A has the higher pooled Dice and B the higher
#    mean of images. *Check:* count with `Confusion`.
