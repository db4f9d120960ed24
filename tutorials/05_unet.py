# %% [markdown]
# # 05 The U-Net: forward and backward on one page
#
# **You will be able to**
#
# * put the layers of lessons 01 to 04 together to a U-Net, forward and backward, in some forty lines;
# * write any backward by reading its forward from the last line to the first;
# * find a forgotten skip gradient from which of the parameters' gradients are wrong;
# * say what the skips carry, and see it.
#
# You need lessons 01 to 04. Here the layers are `minunet.ops`, which you have written yourself by now.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

import minunet
from minunet.data import SyntheticCells
from minunet.gradcheck import check
from minunet.ops import (
    batch_norm,
    batch_norm_backward,
    concat,
    concat_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    max_pool2d,
    max_pool2d_backward,
    pad,
    pad_backward,
    relu,
    relu_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"

# %% [markdown]
# ## The problem that it solves
#
# To outline a cell a network must know two things. **What** is here, a cell or its haze? That takes a wide view, and lesson
# 01 showed that halving the map widens the view cheaply. And **where** exactly does it end? Lesson 03 showed that a pool
# forgets just that.
#
# The U-Net (Ronneberger, Fischer and Brox, 2015) does both. Down the left side maps halve and channels double: less where,
# more what. Up the right side maps double again. And at each level a **skip** hands the left side's map across, with the
# *where* still in it.

# %%
depth, width, size = 3, 8, 64
figure, ax = plt.subplots(figsize=(10, 4.8), layout="constrained")


def box(x, y, text, colour):
    """A block of the diagram."""
    ax.add_patch(
        FancyBboxPatch((x - 0.75, y - 0.27), 1.5, 0.54, boxstyle="round,pad=0.03", fc=colour, ec="none", alpha=0.25)
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=9)


def arrow(start, end, text, colour, where):
    """An arrow of the diagram, with words beside its middle."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8})
    ax.text(
        (start[0] + end[0]) / 2 + where[0],
        (start[1] + end[1]) / 2 + where[1],
        text,
        ha="center",
        color=colour,
        fontsize=8,
    )


for level in range(depth):
    n, c, y = size >> level, width << level, -level
    box(level, y, f"encoder.{level}\n{n} x {n} x {c}", BLUE)
    box(8 - level, y, f"decoder.{level}\n{n} x {n} x {c}", GREEN)
    arrow((level + 0.8, y), (8 - level - 0.8, y), f"skip: concat {c} + {c} channels", ORANGE, (0, 0.07))
    below = 0.75 if level < depth - 1 else 1.2  # the bottom is as far from both sides
    arrow((level + 0.3, y - 0.3), (level + below, y - 0.7), "pool", GREY, (-0.35, -0.05))
    arrow((8 - level - below, y - 0.7), (8 - level - 0.3, y - 0.3), "up", GREY, (0.3, -0.05))
box(4, -depth, f"bottom\n{size >> depth} x {size >> depth} x {width << depth}", PINK)
arrow((8.8, 0), (9.5, 0), "head", GREY, (0, 0.07))
ax.text(9.55, 0, "logits", va="center", fontsize=9)
arrow((-1.5, 0), (-0.8, 0), "image", GREY, (0, 0.07))
ax.set(xlim=(-1.6, 10.2), ylim=(-depth - 0.5, 0.6))
ax.axis("off")
plt.show()


# %% [markdown]
# ## One rule for all backwards
#
# The forward is a list of lines. Each line calls an op and keeps its cache. The backward is **the same list from the end to
# the beginning, each line replaced by its backward**, with these three rules:
#
# * what the forward put last, the backward takes first: caches are a stack;
# * what the forward *joined*, the backward *splits*;
# * what the forward *used twice*, the backward *adds*.
#
# Start with a block: twice a $3 \times 3$ convolution, batch norm, ReLU. Parameters lie in a dict `p` under dotted names;
# gradients go to a dict `grads` under the same. The convolutions have no bias, as the norm would take it away again.


# %%
def double_conv(x, p, name, train=True):
    """Twice convolution, norm, ReLU."""
    caches = []
    for n in ("1", "2"):
        norm = f"{name}.norm{n}"
        given = () if train else (p[f"{norm}.mean"], p[f"{norm}.var"])
        x, conv_cache = conv2d(x, p[f"{name}.conv{n}.w"])
        x, norm_cache, _ = batch_norm(x, p[f"{norm}.gamma"], p[f"{norm}.beta"], *given)
        x, relu_cache = relu(x)
        caches.append((conv_cache, norm_cache, relu_cache))
    return x, caches


def double_conv_backward(dy, caches, name, grads):
    """The same from the end to the beginning."""
    for n in ("2", "1"):
        norm = f"{name}.norm{n}"
        conv_cache, norm_cache, relu_cache = caches.pop()
        dy = relu_backward(dy, relu_cache)
        dy, grads[f"{norm}.gamma"], grads[f"{norm}.beta"] = batch_norm_backward(dy, norm_cache)
        dy, grads[f"{name}.conv{n}.w"], _ = conv2d_backward(dy, conv_cache)
    return dy


# %% [markdown]
# The joint of a skip. A pool drops an odd last row, so the map that comes up may be a pixel smaller than the skip. Fill up
# with zeros, then concatenate. Backwards: split, then cut off.


# %%
def join(skip, up):
    """Bring up to the skip's size and stack them, the skip first."""
    lack = [s - u for s, u in zip(skip.shape[1:3], up.shape[1:3])]
    up, pad_cache = pad(up, tuple((n // 2, n - n // 2) for n in lack))
    y, concat_cache = concat([skip, up])
    return y, (pad_cache, concat_cache)


def join_backward(dy, cache):
    """To (dskip, dup)."""
    pad_cache, concat_cache = cache
    dskip, dup = concat_backward(dy, concat_cache)
    return dskip, pad_backward(dup, pad_cache)


# %% [markdown]
# ## The page
#
# Read the two functions side by side. The last line of the one is the first of the other.


# %%
def unet(x, p, depth, train=True):
    """Images (N, H, W, C) to logits (N, H, W, K)."""
    caches, skips = [], []
    for level in range(depth):
        x, cache = double_conv(x, p, f"encoder.{level}", train)
        caches.append(cache)
        skips.append(x)  # x is used twice: here ...
        x, cache = max_pool2d(x)  # ... and here
        caches.append(cache)
    x, cache = double_conv(x, p, "bottom", train)
    caches.append(cache)
    for level in reversed(range(depth)):
        x, cache = conv_transpose2d(x, p[f"up.{level}.w"], p[f"up.{level}.b"])
        caches.append(cache)
        x, cache = join(skips.pop(), x)
        caches.append(cache)
        x, cache = double_conv(x, p, f"decoder.{level}", train)
        caches.append(cache)
    y, cache = conv2d(x, p["head.w"], p["head.b"])
    caches.append(cache)
    return y, caches


def unet_backward(dy, caches, depth, add=lambda level, dx, dskip: dx + dskip):
    """dlogits to dx and a dict of the parameters' gradients; `add` is there to be tampered with, below."""
    grads, dskips = {}, []
    dx, grads["head.w"], grads["head.b"] = conv2d_backward(dy, caches.pop())
    for level in range(depth):
        dx = double_conv_backward(dx, caches.pop(), f"decoder.{level}", grads)
        dskip, dx = join_backward(dx, caches.pop())
        dskips.append(dskip)
        dx, grads[f"up.{level}.w"], grads[f"up.{level}.b"] = conv_transpose2d_backward(dx, caches.pop())
    dx = double_conv_backward(dx, caches.pop(), "bottom", grads)
    for level in reversed(range(depth)):
        dx = max_pool2d_backward(dx, caches.pop())
        dx = add(level, dx, dskips.pop())  # used twice: the sum
        dx = double_conv_backward(dx, caches.pop(), f"encoder.{level}", grads)
    return dx, grads


# %% [markdown]
# Is it minunet's U-Net? Take a model's parameters, in float64, an image of an odd size, and compare the logits, dx, and
# each gradient.

# %%
model = minunet.UNet(1, 2, base_width=4, depth=2, seed=1).convert(lambda a: a.astype(np.float64))
p = model.state()  # parameters and running statistics by dotted name
rng = np.random.default_rng(0)
x, dy = rng.standard_normal((2, 13, 10, 1)), rng.standard_normal((2, 13, 10, 2))
y, caches = unet(x, p, depth=2)
dx, grads = unet_backward(dy, caches, depth=2)
assert caches == []  # each was used, and used once

y_, cache = model.forward(x)
dx_ = model.backward(dy, cache)
np.testing.assert_allclose(y, y_, atol=1e-10)
np.testing.assert_allclose(dx, dx_, atol=1e-10)
assert grads.keys() == model.named_grads().keys() == model.named_params().keys()
for name, theirs in model.named_grads().items():
    np.testing.assert_allclose(grads[name], theirs, atol=1e-9 * max(1, abs(theirs).max()), err_msg=name)
print(f"{len(grads)} gradients agree")

# %% [markdown]
# ## The mirror, drawn
#
# Note down each line as it runs. A thread joins a line to its backward. They nest and never cross, as with brackets: that
# is what a stack does.

# %%
steps = []
for level in range(2):
    steps += [f"encoder.{level}", f"pool {level}"]
steps += ["bottom"]
for level in (1, 0):
    steps += [f"up.{level}", f"join {level}", f"decoder.{level}"]
steps += ["head", "loss"]
figure, ax = plt.subplots(figsize=(11, 4.6), layout="constrained")
last = len(steps) - 1
for k, name in enumerate(steps):
    colour = {"e": BLUE, "b": PINK, "d": GREEN, "j": ORANGE}.get(name[0], "#555555")
    if name != "loss":
        there, back = k, 2 * last - k
        arc = np.linspace(0, np.pi, 60)
        ax.plot(last - (last - k) * np.cos(arc), (last - k) * 0.28 * np.sin(arc), color=colour, lw=1, alpha=0.5)
        for at, word in ((there, name), (back, "d " + name)):
            ax.plot(at, 0, "o", color=colour, ms=6)
            ax.text(at, -0.15, word, rotation=60, ha="right", va="top", fontsize=8, color=colour)
    else:
        ax.plot(k, 0, "s", color=RED, ms=8)
        ax.text(k, -0.15, "loss", rotation=60, ha="right", va="top", fontsize=9, color=RED)
for level in range(2):
    forked, joined = steps.index(f"encoder.{level}"), steps.index(f"join {level}")
    for start, end in ((forked, joined), (2 * last - joined, 2 * last - forked)):
        style = {"arrowstyle": "-|>", "color": ORANGE, "lw": 1.8, "connectionstyle": "arc3,rad=-0.35"}
        ax.annotate("", (end, 0.04), (start, 0.04), arrowprops=style)
ax.text(last * 0.28, 3.2, "forward: skips jump ahead", ha="center", fontsize=10)
ax.text(last * 1.72, 3.2, "backward: skip gradients jump ahead, too", ha="center", fontsize=10)
ax.set(xlim=(-1.2, 2 * last + 0.6), ylim=(-1.6, 3.8))
ax.axis("off")
plt.show()

# %% [markdown]
# ## Forget the sum, and see who notices
#
# The classic mistake: the gradient of a skip is dropped. Which gradients are wrong then? Only those *behind* the sum on the
# way back: the encoders. Decoders, up-steps, head and bottom are right. So where the first wrong gradient lies tells you
# where the mistake is: **read the table from the loss backwards.**

# %%
y, caches = unet(x, p, depth=2)
_, forgetful = unet_backward(dy, caches, depth=2, add=lambda level, dx, dskip: dx)
wrong = {name for name in grads if abs(forgetful[name] - grads[name]).max() > 1e-6 * abs(grads[name]).max()}
assert wrong == {name for name in grads if name.startswith("encoder")}

y, caches = unet(x, p, depth=2)
_, partly = unet_backward(dy, caches, depth=2, add=lambda level, dx, dskip: dx + dskip if level == 1 else dx)
wrong = {name for name in grads if abs(partly[name] - grads[name]).max() > 1e-6 * abs(grads[name]).max()}
assert wrong == {name for name in grads if name.startswith("encoder.0")}  # only level 0 was forgotten
print("level 0 forgotten, wrong:", ", ".join(sorted(wrong)))

# %% [markdown]
# Such a network still trains. The loss falls, the pictures look plausible, only not as good. No error is raised, ever.
# **That is why one checks gradients.**
#
# A whole network has too many parameters to try one by one, so check along random directions (lesson 02). Its ReLUs and
# pools have kinks, and no choice of x keeps away from all of them; differences whose two sides decided otherwise are left
# out and counted as *rejected*.

# %%
report = check(model, x, mode="projected", h=1e-6)
assert report.ok
print("\n".join(str(report).splitlines()[:6]), "\n  ...")

# %% [markdown]
# ## What the skips carry
#
# Take one output pixel and ask: on which input pixels does it depend, and *by which way*? Put dy = 1 at that pixel and run
# the backward in inference mode. dx is the answer. A gradient that comes up a U has turned at one of the skips, or at the
# bottom. The backward is linear, so dx is the sum of the ways. Let only one pass at a time.
#
# (The weights are random. Training changes the picture's texture, not its reach.)

# %%
depth = 3
model = minunet.UNet(1, 2, base_width=8, depth=depth, seed=0).convert(lambda a: a.astype(np.float64))
image = SyntheticCells(1, size=64, seed=3)[0].image[None].astype(float)
for _ in range(30):
    model.forward(image)  # the running statistics settle
p = model.state()
dy = np.zeros((1, 64, 64, 2))
dy[0, 32, 32, 1] = 1


def through(turn):
    """dx by the one way that turns at this skip's level; `depth` means at the bottom, None all ways."""

    def add(level, dx, dskip):
        if turn is None:
            return dx + dskip
        return dskip if level == turn else dx * (level < turn or turn == depth)

    y, caches = unet(image, p, depth, train=False)
    return unet_backward(dy, caches, depth, add)[0][0, ..., 0]


ways = {f"skip {level}": through(level) for level in range(depth)} | {"bottom": through(depth)}
everything = through(None)
np.testing.assert_allclose(sum(ways.values()), everything, atol=1e-12)


def reach(dx):
    """Rows that it extends over."""
    rows = np.flatnonzero(abs(dx).max(1))
    return int(rows[-1] - rows[0] + 1)


reaches = [reach(dx) for dx in ways.values()]
assert reaches == sorted(reaches) and reaches[0] <= 9 < reaches[-1]  # four 3 x 3 convolutions see 9 pixels
figure, axes = plt.subplots(1, depth + 2, figsize=(13, 3.1), layout="constrained")
for ax, (name, dx) in zip(axes, (ways | {"all ways": everything}).items()):
    scale = np.log10(np.maximum(abs(dx), 1e-12) / abs(everything).max())
    picture = ax.imshow(scale, cmap="magma", vmin=-4, vmax=0)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{name}: {reach(dx)} rows", fontsize=10)
figure.colorbar(picture, ax=axes[-1], label="log10 |dx| / largest", shrink=0.9)
figure.suptitle("which input pixels one output pixel depends on, by the way that turns at ...", fontsize=10)
plt.show()

# %% [markdown]
# Skip 0 sees a few pixels, sharply: *where*. The bottom sees nearly all, coarsely: *what*. The network has both, at each
# pixel.
#
# ## A first sign of life
#
# One image, one loss, plain gradient descent, twenty steps: the loss must fall. (Lesson by lesson you have written each
# line of this.)

# %%
sample = SyntheticCells(1, size=64, seed=8)[0]
image, truth = sample.image[None].astype(float), sample.labels[None].astype(int)
model = minunet.UNet(1, 2, base_width=8, depth=2, seed=0).convert(lambda a: a.astype(np.float64))
p = model.named_params()
losses = []
for _ in range(20):
    logits, caches = unet(image, p, depth=2)
    loss, loss_cache = softmax_cross_entropy(logits, truth)
    losses.append(float(loss))
    _, grads = unet_backward(softmax_cross_entropy_backward(1.0, loss_cache), caches, depth=2)
    for name in p:
        p[name] -= 0.3 * grads[name]  # in place: the model's own arrays
assert losses[-1] < 0.5 * losses[0]

figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained", width_ratios=[1.3, 1, 1, 1])
axes[0].plot(losses, "o-", color=BLUE, ms=4)
axes[0].set(xlabel="step", ylabel="loss", ylim=(0, None), xticks=range(0, 21, 5))
axes[0].spines[["top", "right"]].set_visible(False)
cell = 1 / (1 + np.exp(logits[0, ..., 0] - logits[0, ..., 1]))
for ax, a, title in zip(axes[1:], (image[0, ..., 0], truth[0], cell), ("image", "truth", "p(cell) after 20 steps")):
    ax.imshow(a, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
plt.show()

# %% [markdown]
# Now read `minunet/models/unet.py`. It is this page, with modules that keep their own parameters, and the options of the
# paper.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** In the backward of a joint you swap the two gradients, skip and way up. Both have the same shape, so nothing
# complains. Which gradients of parameters are still right?
#
# <details>
# <summary>Answer</summary>
#
# Those of the head and of decoder.0, which were computed before the first joint was walked back. All others are wrong:
# up.0 got the skip's gradient, and what follows was fed by it. Reading from the loss downwards, the first wrong one
# stands right behind the mistake.
#
# </details>
#
# **2.** An image of $50 \times 70$ pixels goes into a U-Net of depth 4. At which joints do the two maps not fit, and
# why is the answer's size right nevertheless?
#
# <details>
# <summary>Answer</summary>
#
# Rows: 50, 25, 12, 6, 3. On the way up 3, 6 and 12 double to 6, 12 and 24, where the skip has 25. Columns: 70, 35, 17,
# 8, 4, and 8 and 17 double to 16 and 34, where the skips have 17 and 35. The joint fills the missing row or column with
# zeros, so every decoder works at its skip's size, and the uppermost skip has the image's.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/unet_backward.py`: the U-Net's backward: wiring
#
# Then put it all together: `python -m minunet mine YOUR_FILES` builds a small U-Net in which each answer that has passed
# runs in the place of ours, trains it, and draws which layers are yours. With `--look` it shows where a wrong gradient
# first goes astray.
#
# On your own, each with a check:
#
# 1. **Count.** How many parameters has a U-Net with one input channel, two classes, width $B$ and depth 1? Add up by hand:
#    convolutions, norms, up-step, head. *Check:* `minunet.UNet(1, 2, base_width=B, depth=1).num_params()`.
# 2. **Sizes.** An image of $45 \times 70$ pixels and depth 3: which sizes have the maps on the way down, and where does
#    `join` fill up? *Check:* print `skip.shape` and `up.shape` in `join`.
# 3. **Unpadded.** In the paper all convolutions are *valid*, and `join` crops the skip to its middle. Write `join` and
#    `join_backward` for that. *Check:* the adjoint identity of lesson 03 for two inputs; then
#    `minunet.UNet(1, 2, base_width=4, depth=2, padding="valid")` on $44 \times 44$ pixels.
# 4. **Add instead of concat.** Let `join` return `skip + up`. What is its backward, what must change in the decoders'
#    filters, and what is lost? *Check:* `check((add, add_backward), skip, up)`.
# 5. **Memory.** Which caches are alive at the bottom of the U? Sum the bytes of the arrays of each level, each array once.
#    Where would you save? *Check:* each level takes about half of what the level above it takes.
