# %% [markdown]
# # 13 The family: what each variant of the U-Net changes
#
# **You will be able to**
#
# * read a variant of the U-Net as a few lines of difference to the page of lesson 05;
# * write the backward of what is added, multiplied, used again or read by many, and say where a sum appears;
# * say of residual, attention, SE, recurrent, UNet++, UNet 3+ and nnU-Net what each adds, and what it costs;
# * measure whether a variant is better, and say so if that cannot be told.
#
# You need lessons 01 to 06, and what lesson 11 says about luck.

# %%
import difflib
import inspect
import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.gradcheck import check, draw
from minunet.metrics import dice
from minunet.models import ARCHITECTURES, build, gates, recurrent, residual_unet
from minunet.models.command import costs
from minunet.optim import Adam, Schedule

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)

# %% [markdown]
# ## One picture
#
# Since 2015 hundreds of papers have changed the U-Net. Most changes are one of a few kinds, and each kind is easy to see:
# what is new is orange. Blue is the way down, green the way up, grey what all share.

# %%
DEPTH, ROW = 3, 1.35
DOWN = [(level, -ROW * level) for level in range(DEPTH)]
UP = [(2 * DEPTH - level, -ROW * level) for level in range(DEPTH)]
BOTTOM = (DEPTH, -ROW * DEPTH)


def arrow(ax, start, end, colour=GREY, bend=0.0, gap=8, width=1.3):
    """An arrow from block to block."""
    how = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": gap, "shrinkB": gap, "mutation_scale": 9}
    ax.annotate("", end, start, arrowprops=how | {"connectionstyle": f"arc3,rad={bend}"}, zorder=3)


def block(ax, at, colour, words=""):
    """A block of convolutions."""
    corner = (at[0] - 0.27, at[1] - 0.22)
    ax.add_patch(
        FancyBboxPatch(corner, 0.54, 0.44, boxstyle="round,pad=0.02", fc=colour, ec="none", alpha=0.85, zorder=4)
    )
    ax.text(*at, words, ha="center", va="center", color="white", fontsize=8, weight="bold", zorder=6)


def sign(ax, at, words, size=0.19, colour=ORANGE):
    """A circle with a sign in it."""
    ax.add_patch(Circle(at, size, fc=colour, ec="white", lw=1, zorder=5))
    ax.text(at[0], at[1] - 0.02, words, ha="center", va="center", color="white", fontsize=8, weight="bold", zorder=6)


def draw_unet(ax, skips=True, pools=True, up=True, words=""):
    """What all variants share."""
    for blocks, colour in ((DOWN, BLUE), (UP, GREEN), ([BOTTOM], PINK)):
        for at in blocks:
            block(ax, at, colour, words)
    for (here, below), (there, lower) in zip(zip(DOWN, [*DOWN[1:], BOTTOM]), zip(UP, [*UP[1:], BOTTOM])):
        arrow(ax, here, below, GREY if pools else ORANGE)
        if up:
            arrow(ax, lower, there)
        if skips:
            arrow(ax, here, there)


def draw_residual(ax):
    draw_unet(ax, pools=False)
    for x, y in [*DOWN, BOTTOM, *UP]:
        arrow(ax, (x - 0.32, y), (x + 0.32, y), ORANGE, bend=-1.15, gap=0)
        sign(ax, (x + 0.36, y), "+", 0.13)


def draw_attention(ax):
    draw_unet(ax)
    for (x, y), below in list(zip(UP, [*UP[1:], BOTTOM]))[1:]:
        arrow(ax, below, (x - 0.85, y), ORANGE, bend=-0.25, gap=7)
        sign(ax, (x - 0.85, y), r"$\times$")


def draw_excitation(ax):
    draw_unet(ax)
    for x, y in [*DOWN, BOTTOM, *UP]:
        arrow(ax, (x - 0.1, y + 0.2), (x + 0.38, y + 0.02), ORANGE, bend=-0.9, gap=0)
        sign(ax, (x + 0.36, y - 0.02), r"$\times$", 0.16)


def draw_recurrent(ax):
    draw_unet(ax)
    for x, y in [*DOWN, BOTTOM, *UP]:
        arrow(ax, (x + 0.2, y + 0.2), (x - 0.2, y + 0.2), ORANGE, bend=1.3, gap=0)


def draw_plus_plus(ax):
    draw_unet(ax, skips=False)
    nodes = {(i, j): (i + 2 * j, -ROW * i) for i in range(DEPTH + 1) for j in range(DEPTH + 1 - i)}
    for (i, j), at in nodes.items():
        if j:
            arrow(ax, nodes[i, j - 1], at, ORANGE if j + i < DEPTH or j > 1 else GREY)
            if i + j < DEPTH:
                arrow(ax, nodes[i + 1, j - 1], at, ORANGE)
                block(ax, at, ORANGE)
            if not i and j > 1:
                arrow(ax, nodes[0, 0], at, ORANGE, bend=-0.32, width=0.9)
        if j and not i:
            arrow(ax, at, (at[0] + 0.55, 0.62), ORANGE, gap=5)


def draw_three_plus(ax):
    draw_unet(ax)
    for level, end in enumerate(UP):
        for other in range(level):
            arrow(ax, DOWN[other], end, ORANGE, width=1.1)
        for start in [*UP[level + 2 :], BOTTOM] if level < DEPTH - 1 else []:
            arrow(ax, start, end, ORANGE, bend=0.35, width=1.1)


def draw_nnunet(ax):
    draw_unet(ax, pools=False)
    for x, y in UP:
        arrow(ax, (x, y), (x + 0.95, y), ORANGE, gap=6)


VARIANTS = {
    "U-Net (2015)": (draw_unet, "skips bring back the where"),
    "residual (2017)": (draw_residual, "a block learns what to add; strides for pools"),
    "attention (2018)": (draw_attention, "the map below says where a skip counts"),
    "SE, scSE (2018)": (draw_excitation, "channels (and pixels) are weighed"),
    "recurrent, R2 (2018)": (draw_recurrent, "the same filters run again"),
    "UNet++ (2018)": (draw_plus_plus, "skips are filled with nodes; more heads"),
    "UNet 3+ (2020)": (draw_three_plus, "every decoder reads all levels"),
    "nnU-Net (2021)": (draw_nnunet, "strides, a head a level, depth by rule"),
}
figure, axes = plt.subplots(2, 4, figsize=(13, 5.9), layout="constrained")
for ax, (name, (drawing, words)) in zip(axes.flat, VARIANTS.items()):
    drawing(ax)
    ax.set(xlim=(-0.7, 2 * DEPTH + 1.15), ylim=(BOTTOM[1] - 0.85, 1.05), aspect="equal")
    ax.axis("off")
    ax.set_title(name, fontsize=11, weight="bold", pad=2)
    ax.text(DEPTH, BOTTOM[1] - 0.75, words, ha="center", fontsize=9, color="#444444")
plt.show()

# %% [markdown]
# ## The page, and what a difference says
#
# In minunet each network is a file with its forward and its backward, written like the U-Net's. So a program can tell what is
# new: take the text of both pages, and let `difflib` compare them. First the page itself; `run` calls a layer and keeps its
# cache.


# %%
def page(method):
    """The lines of a method: without its head, its docstring, and what only helps it."""
    text = textwrap.dedent(inspect.getsource(method))
    text = re.sub(r"^(@\w+\n)*def .*?:\n(?=    \S)", "", text, count=1, flags=re.S)
    text = re.sub(r'^    """.*?"""\n', "", text, count=1, flags=re.S)
    text = re.sub(r"    def (run|back)\(.*?\n\n", "", text, count=1, flags=re.S)
    return [line for line in textwrap.dedent(text).splitlines() if line and not line.endswith(" = []")]


def difference(name, method="forward"):
    """What stands in another network's page only (+), and in the U-Net's only (-)."""
    pages = (page(getattr(ARCHITECTURES[n], method)) for n in ("unet", name))
    return [line for line in difflib.unified_diff(*pages, lineterm="", n=0) if not re.match(r"---|\+\+\+|@@", line)]


def show(title, lines):
    """Print lines under a title."""
    print("\n".join([title, *(f"    {line}" for line in lines), ""]))


show("the U-Net's forward", page(minunet.UNet.forward))

# %% [markdown]
# ## Add: residual blocks
#
# What is other on the residual U-Net's page, and what its blocks do:

# %%
show("residual_unet, its page", difference("residual_unet"))
show("residual_unet, its block", page(residual_unet.ResidualUnit.forward))

# %% [markdown]
# A block of the U-Net computes $f(x)$. A residual block computes $x + f(x)$: it learns what to *change*. (Where sizes
# differ, x passes a 1x1 convolution, the shortcut.) x is used twice, so backwards two gradients are added:
#
# $$y = x + f(x) \qquad dx = dy + f'(x)^T dy$$
#
# The first term is the point: **dy reaches every block by a road without any layer on it.** Stack thirty random layers, each
# norm, ReLU and convolution, send a gradient back, and watch its size. Without the sum every layer multiplies, and thirty
# factors of 1.2 are a factor of 200.


# %%
def sizes_of_gradients(residual, layers=30, C=8):
    """How large the gradient is before each layer, from the last to the first; 1 at the end."""
    x, caches = rng.standard_normal((4, 12, 12, C)), []
    for _ in range(layers):
        w = rng.standard_normal((3, 3, C, C)) * np.sqrt(2 / (9 * C))
        h, norm, _ = ops.batch_norm(x, np.ones(C), np.zeros(C))
        h, relu = ops.relu(h)
        h, conv = ops.conv2d(h, w)
        x = x + h if residual else h
        caches.append((norm, relu, conv))
    dx = rng.standard_normal(x.shape)
    sizes = [np.linalg.norm(dx)]
    for norm, relu, conv in reversed(caches):
        dh = ops.conv2d_backward(dx, conv)[0]
        dh = ops.relu_backward(dh, relu)
        dh = ops.batch_norm_backward(dh, norm)[0]
        dx = dx + dh if residual else dh
        sizes.append(np.linalg.norm(dx))
    return np.array(sizes) / sizes[0]


plain, summed = sizes_of_gradients(False), sizes_of_gradients(True)
assert plain[-1] > 50 and summed[-1] < 20

figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
for sizes, colour, words in ((plain, GREY, "$y = f(x)$"), (summed, ORANGE, "$y = x + f(x)$")):
    ax.semilogy(sizes, color=colour, lw=2)
    ax.text(30.3, sizes[-1], words, color=colour, va="center")
ax.set(xlabel="layers that the gradient has come back through", ylabel="its size", xlim=(0, 34))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# So residual blocks let *deep* networks train. A U-Net of eighteen convolutions with norms is not deep, and its skips are
# short roads already: expect less here than ResNets got on ImageNet.
#
# ## Multiply: gates
#
# Attention, SE and scSE do one thing: multiply a map by numbers from 0 to 1 that were computed from maps. They differ in
# which axes share a number.
#
# | | one number for each | made of |
# | --- | --- | --- |
# | SE | channel: (N, 1, 1, C) | the means of all channels over the image |
# | scSE | channel, and pixel | the same, and the pixel's own channels |
# | attention | pixel of a skip: (N, H, W, 1) | the skip, and the decoder's map below |
#
# The rule of lesson 03 says the backward: what was **broadcast along an axis gets the sum over that axis**.


# %%
def gate(x, g):
    """Weigh x (N, H, W, C) by g, which has 1 where an axis shares a number."""
    return x * g, (x, g)


def gate_backward(dy, cache):
    """Gradients of both."""
    x, g = cache
    shared = tuple(axis for axis in range(4) if g.shape[axis] < x.shape[axis])
    return dy * g, (dy * x).sum(shared, keepdims=True)


for shape in ((2, 1, 1, 3), (2, 4, 5, 1)):
    check((gate, gate_backward), draw((2, 4, 5, 3), rng), draw(shape, rng))

show("attention_unet, its page", difference("attention_unet"))
show("attention_unet, its gate", page(gates.GridGate.forward))
assert not difference("se_unet") and not difference(
    "scse_unet"
)  # their pages are the U-Net's: the news is in the blocks
show("se_unet, at the end of each block", page(gates.ChannelExcitation.forward))
show("scse_unet, at the end of each block", page(gates.BothExcitations.forward))

# %% [markdown]
# A gate has a second rule in it: the skip is *multiplied* by `a`, and `a` is *made of* the skip. **What is read twice gets
# the sum of two gradients.** In scSE a map has four readers. The exercise `attention_gate` asks for all six gradients of a
# gate.
#
# ## Run again: recurrent blocks
#
# R2U-Net's page is the U-Net's, too. Its blocks run one convolution several times, on x and on what it gave before:

# %%
assert not difference("r2_unet") and not difference("r2_unet", "backward")
show("r2_unet, in each block", page(recurrent.Recurrent.forward))

# %% [markdown]
# So a block sees further with the same parameters. The filters w are read once a step; their gradient is therefore the **sum
# over the steps**. And every step needs a cache of its own, so the memory grows with the steps while the parameters do not.


# %%
def twice(x, w):
    """h = w * x, and w * (x + h)."""
    h, first = ops.conv2d(x, w)
    y, second = ops.conv2d(x + h, w)
    return y, (first, second)


def twice_backward(dy, cache):
    """Both uses of w count, and both of x."""
    first, second = cache
    dsum, dw, _ = ops.conv2d_backward(dy, second)
    dx, dw_first, _ = ops.conv2d_backward(dsum, first)
    return dsum + dx, dw + dw_first


check((twice, twice_backward), rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((3, 3, 3, 3)))

# %% [markdown]
# ## More roads: UNet++, UNet 3+
#
# Here the page itself changes; these lines are new in it. In UNet++ the loops down and up become one loop over diagonals, and
# in UNet 3+ a decoder asks for the maps of all levels, each brought to its size.

# %%
for name in ("unet_plus_plus", "unet_3plus"):
    show(f"{name}, its page", [line for line in difference(name) if line[0] == "+"])

# %% [markdown]
# No new op is needed, only the rule of the skip in the plural: a map with $n$ readers gets the sum of $n$ gradients. In a
# UNet++ of depth 4 the first encoder's map has five: the pool, and the four nodes of its row.
#
# Both give an answer at several places, and the loss is the mean of theirs (**deep supervision**). In UNet++ that buys
# something of use: each diagonal is a whole U-Net that needs nothing of a longer one. So a trained network can be cut
# afterwards, and the smaller one gives, bit by bit, what its head gave before.

# %%
model = build("unet_plus_plus", in_channels=1, num_classes=2, base_width=4, depth=3)
x = SyntheticCells(1, size=32, seed=4)[0].image[None]
whole, _ = model.forward(x)  # in training: a list, the deepest head first
print(f"3 poolings: {model.num_params():6,} parameters")
for depth, head in ((2, whole[1]), (1, whole[2])):
    cut = model.prune(depth)
    assert np.array_equal(cut.forward(x)[0], head)
    print(f"cut to {depth}:   {cut.num_params():6,} parameters")

# %% [markdown]
# ## Nothing new: nnU-Net
#
# nnU-Net is the plain U-Net: convolutions with a stride in place of pools, instance norm, leaky ReLU, a head at every
# level. What is new is that nothing is chosen by hand: how many levels, which patch, which batch, how to normalise, all
# follow by rules from the data. Its paper reports it ahead of most specialised methods on 23 public data sets: a
# well-trained U-Net is the one to beat.

# %%
show("nnunet, its page", difference("nnunet"))

# %% [markdown]
# ## All backwards, at once
#
# Nine networks, nine hand-written backwards. Are they right? Move the image a little along a random direction $v$: the loss
# $\sum dy \, y(x)$ must change by $\langle dx, v \rangle$. And move all parameters. One number for each network checks every
# line of its backward (but does not say which line is wrong; for that there is `check`).

# %%
SMALL = {
    "unet": {"depth": 2}, "residual_unet": {"depth": 2}, "attention_unet": {"depth": 2}, "se_unet": {"depth": 2},
    "scse_unet": {"depth": 2}, "r2_unet": {"depth": 2}, "unet_plus_plus": {"depth": 2}, "unet_3plus": {"depth": 2},
    "nnunet": {"stages": 3},
}  # fmt: skip


def as_list(y):
    """The logits of all heads."""
    return y if isinstance(y, list) else [y]


worst = {}
for name, options in SMALL.items():
    model = build(name, in_channels=1, num_classes=2, base_width=2, **options)
    model.convert(lambda a: a.astype(np.float64))
    x = rng.standard_normal((2, 16, 16, 1))
    y, cache = model.forward(x)
    dys = [rng.standard_normal(head.shape) for head in as_list(y)]
    model.zero_grad()
    dx = model.backward(dys if isinstance(y, list) else dys[0], cache)
    params, grads = model.named_params(), model.named_grads()
    step_x = rng.standard_normal(x.shape)
    steps = {n: rng.standard_normal(p.shape) for n, p in params.items()}
    told = (dx * step_x).sum() + sum((grads[n] * steps[n]).sum() for n in params)
    sides, h = [], 1e-6
    for side in (h, -2 * h):  # first to x + h v, then back to x - h v
        for n, p in params.items():
            p += side * steps[n]
        x += side * step_x
        sides.append(sum((dy * head).sum() for dy, head in zip(dys, as_list(model.forward(x)[0]))))
    worst[name] = abs((sides[0] - sides[1]) / (2 * h) - told) / abs(told)
    print(f"{name:<16}{len(as_list(y))} head{'s' if len(as_list(y)) > 1 else ' '}   relative error {worst[name]:.0e}")
assert max(worst.values()) < 1e-4

# %% [markdown]
# ## What they cost
#
# Parameters and arithmetic can be counted without training, here in the papers' widths on an image of $256 \times 256
# \times 3$. They are not the same thing: UNet 3+ has fewer parameters than the U-Net and takes four times the arithmetic,
# as its wide maps are at full size. R2U-Net runs each filter three times.

# %%
counted = [costs(name) for name in SMALL]
names = [c["name"] for c in counted]
places = np.arange(len(names))[::-1]
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", sharey=True)
for ax, values, title in (
    (axes[0], [c["parameters"] / 1e6 for c in counted], "millions of parameters"),
    (axes[1], [c["gflop"] for c in counted], "$10^9$ multiplications and additions"),
):
    ax.barh(places, values, color=[GREY if name == "unet" else ORANGE for name in names], height=0.65)
    for place, value in zip(places, values):
        ax.text(value, place, f" {value:.0f}", va="center", fontsize=9)
    ax.set_title(title, fontsize=10)
    ax.set(yticks=places, xticks=[], xlim=(0, 1.12 * max(values)))
    ax.set_yticklabels(names)
    ax.tick_params(length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
plt.show()
cost = dict(zip(names, counted))
assert cost["unet_3plus"]["gflop"] > 4 * cost["unet"]["gflop"] and cost["unet_3plus"]["parameters"] < 31e6

# %% [markdown]
# ## What they buy
#
# Each paper has a table in which its network is ahead of the U-Net, often by one point of Dice. How would you find out? As
# in lesson 11: the same images, the same order, the same number of steps and about as many parameters; and **more than one
# seed**, since the luck of the first weights must be smaller than what you want to see.
#
# Here four networks of some 30,000 parameters see 192 images of $32 \times 32$ pixels once each, with three seeds.

# %%
size, batch, steps = 32, 4, 48
cells = SyntheticCells(batch * steps + 64, size=size, seed=3)
images = np.stack([sample.image for sample in cells])
masks = np.stack([sample.labels for sample in cells]).astype(int)
train, held = slice(0, batch * steps), slice(batch * steps, None)


def race(name, seed):
    """Train for a while; returns the network."""
    model = build(name, in_channels=1, num_classes=2, base_width=8, depth=2, seed=seed)
    optimizer, schedule = Adam(model, 1e-2), Schedule("cosine", 1e-2, steps)
    for step in range(steps):
        optimizer.lr = schedule(step)
        some = slice(batch * step, batch * step + batch)
        logits, cache = model.forward(images[train][some])
        _, loss_cache = ops.softmax_cross_entropy(logits, masks[train][some])
        model.zero_grad()
        model.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step()
    return model


racers = ("unet", "residual_unet", "attention_unet", "scse_unet")
trained = {name: [race(name, seed) for seed in range(3)] for name in racers}
scores = {name: [dice(masks[held], m(images[held]).argmax(-1)) for m in models] for name, models in trained.items()}
luck = np.mean([np.ptp(s) for s in scores.values()])
apart = np.ptp([np.mean(s) for s in scores.values()])
for name in racers:
    print(
        f"{name:<16}{trained[name][0].num_params():>7,} parameters   Dice {'  '.join(f'{s:.3f}' for s in scores[name])}"
    )
print(
    f"between seeds of one network {luck:.3f} on average, between the means of the best and the worst network {apart:.3f}"
)
assert min(map(min, scores.values())) > 0.5 and apart < 2 * luck

figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
for place, (name, colour) in enumerate(zip(racers, (GREY, BLUE, ORANGE, GREEN))):
    ax.plot(scores[name], [-place] * 3, "o", color=colour, ms=8, alpha=0.8)
    ax.plot([np.mean(scores[name])] * 2, [-place - 0.3, -place + 0.3], color=colour, lw=2)
ax.set(yticks=[-n for n in range(len(racers))], xlabel="Dice on 64 other images; a dot is a seed, a line the mean")
ax.set_yticklabels(racers)
ax.tick_params(axis="y", length=0)
ax.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# **At this size the luck of the seed is as large as what lies between the networks**, so nobody has won, and whoever shows
# one seed each can crown any of them. Differences of a point need larger networks, real images, whole trainings, and seeds.
# `bench/family.py` makes that comparison on nuclei, at equal numbers of parameters, and writes it to `docs/family.md`.
#
# One thing a toy can show: where a trained gate looks. Its number for each pixel is what the skip is multiplied by.

# %%
model = trained["attention_unet"][int(np.argmax(scores["attention_unet"]))]
gated, noted = model.gate[0].score, []
forward = gated.forward


def noting(*args):
    """The gate's own forward, whose result is kept to be looked at."""
    y, cache = forward(*args)
    noted.append(np.array(y))
    return y, cache


gated.forward = noting
shown = [int(n) for n in np.argsort(-masks[held].mean((1, 2)))[:40:13]]
logits = model(images[held][shown])
gated.forward = forward
weights = noted[0][..., 0]
assert weights.shape == (len(shown), size // 4, size // 4) and 0 <= weights.min() < weights.max() <= 1

figure, axes = plt.subplots(3, len(shown), figsize=(7.5, 5.4), layout="constrained")
for column, n in enumerate(shown):
    axes[0, column].imshow(images[held][n, ..., 0], cmap="gray", vmin=0, vmax=1)
    drawn = axes[1, column].imshow(weights[column], cmap="magma", vmin=0, vmax=1)
    axes[2, column].imshow(logits[column].argmax(-1), cmap="gray", vmin=0, vmax=1)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax, words in zip(axes[:, 0], ("image", "the gate's numbers", "prediction")):
    ax.set_ylabel(words, fontsize=10)
figure.colorbar(drawn, ax=axes[1], shrink=0.85)
plt.show()

# %% [markdown]
# From the command line: `python -m minunet.train --arch attention_unet` trains any of them, and `minunet models` lists all
# with what they cost. Read them beside `minunet/models/unet.py`: `minunet/models/residual_unet.py`,
# `minunet/models/gates.py`, `minunet/models/recurrent.py`, `minunet/models/unet_plus_plus.py`,
# `minunet/models/unet_3plus.py`, `minunet/models/nnunet.py`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** Three gates multiply a map (N, H, W, C): one number for each channel, one for each pixel, one for each image.
# Over which axes is the gradient of the numbers summed?
#
# <details>
# <summary>Answer</summary>
#
# Over those along which they were broadcast: H and W for channels (N, 1, 1, C), C for pixels (N, H, W, 1), and H, W and
# C for images (N, 1, 1, 1).
#
# </details>
#
# **2.** Thirty residual blocks whose $f$ gives 0. What is the network, and what is the gradient of its input? And
# thirty plain blocks that give 0?
#
# <details>
# <summary>Answer</summary>
#
# The identity, and dx = dy: the sum's road is free of layers. Plain blocks give 0 and hand back 0; nothing before them
# can learn. That is why a residual block may begin as $f = 0$, and a plain one may not.
#
# </details>
#
# **3.** How many readers has the first encoder's map in a UNet++ of depth 3, and what is left of its gradient if each
# overwrites the one before?
#
# <details>
# <summary>Answer</summary>
#
# Four: the pool and the three other nodes of its row (five at depth 4). One of the four is left, so the gradient has
# the right shape, and mostly a plausible size. Only a check of numbers sees it.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/attention_gate.py`: the attention gate's backward
#
# On your own, each with a check:
#
# 1. **The other page.** Print `difference(name, "backward")` for the attention U-Net. Which line is there because the map
#    below has two readers? *Check:* leave it out in a copy of the class; the directional test above fails.
# 2. **Both ways of pooling.** A residual block of stride 2 never looks at three of four pixels in its shortcut. Does its
#    branch? Count which inputs an output of `ResidualUnit(1, 1, stride=2)` depends on. *Check:* put a gradient into one
#    output pixel with its `backward` and count where dx is not 0.
# 3. **Squeeze by hand.** Write channel excitation and its backward: mean, two 1x1 convolutions, ReLU, sigmoid, gate. *Check:*
#    `check((excite, excite_backward), x, w1, w2)`.
# 4. **More steps.** With `steps=0` a recurrent layer is a plain block. How many parameters has `r2_unet` for 0, 2 and 5
#    steps, and how much arithmetic? *Check:* `costs("r2_unet", steps=n)`.
# 5. **Your own race.** Add `se_unet` to the race, or two more seeds to all. Before you run it, write down which difference
#    you would believe. *Check:* is `apart` larger than `luck` now, and would you have believed it with one seed each?
