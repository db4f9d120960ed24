# %% [markdown]
# # 07 Touching cells: weight map, borders, tiles, and from pixels to objects
#
# **You will be able to**
#
# * show that a Dice near 1 can hide that half of the cells have run together, and count merged pairs instead;
# * derive the U-Net paper's weight map, draw it, and say what it does to the gradient;
# * say how a class for borders does the same job, and compare the three on new images;
# * turn probabilities into objects by distance transform and watershed;
# * segment an image of any size by overlapping tiles, and prove that the seams are invisible.
#
# You need lessons 01 to 06.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from scipy import ndimage
from skimage.segmentation import watershed

import minunet
from minunet.data import Batches, SyntheticCells, weightmap
from minunet.data.targets import Target, TargetSet, border_labels
from minunet.metrics import dice
from minunet.metrics.instances import ObjectCounts
from minunet.ops import class_probabilities, softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.optim import Adam, Schedule
from minunet.predict.inference import predict_logits
from minunet.predict.overlay import object_outlines
from minunet.predict.tiles import reach

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


size = 64
cells = SyntheticCells(90, size=size, seed=1)
train, held = list(range(60)), list(range(60, 90))

# %% [markdown]
# ## A score that looks away
#
# Biologists count cells. Take the *true* masks, in which touching cells are one blob of foreground, and number the blobs
# (connected components). Then do the same after cutting touching cells apart by a seam one pixel wide. As pixels the two
# hardly differ. As objects they do.
#
# An object is **found**, a true positive, if its IoU with a predicted one is above 1/2. Two true objects are a **merged
# pair** if more than half of each lies in one and the same predicted object.

# %%
blobs, cut = ObjectCounts(), ObjectCounts()
agreement = []
for i in held:
    instances = cells[i].instances  # 0 for background, 1, 2, ... for the cells
    seamless = instances > 0
    seamed = seamless & ~weightmap.cut_seams(instances)
    agreement.append(dice(seamless.astype(int), seamed.astype(int)))
    blobs.add(instances, ndimage.label(seamless)[0])
    cut.add(instances, ndimage.label(seamed)[0])
print(f"Dice between the two masks: {np.mean(agreement):.3f}")
print(
    f"{blobs.truth} cells; perfect masks: {blobs.predicted} blobs, {blobs.tp[0]} cells found, {blobs.merged} merged pairs"
)
print(f"seams cut: {cut.predicted} objects, {cut.tp[0]} cells found, {cut.merged} merged pairs")
assert np.mean(agreement) > 0.95 and blobs.merged > 40 and cut.merged == 0
assert blobs.tp[0] < 0.5 * blobs.truth and cut.tp[0] > 0.95 * cut.truth

example = cells[max(held, key=lambda i: weightmap.cut_seams(cells[i].instances).sum())]
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
seam = weightmap.cut_seams(example.instances)
mask = example.labels > 0
axes[0].imshow(example.image[..., 0], cmap="gray", vmin=0, vmax=1)
axes[1].imshow(object_outlines(example.image, example.instances))
axes[2].imshow(object_outlines(example.image, ndimage.label(mask)[0]))
axes[3].imshow(np.where(seam, 2.0, mask), cmap="magma", vmin=0, vmax=2.4)
for ax, title in zip(
    axes,
    (
        "image",
        f"truth: {len(np.unique(example.instances)) - 1} cells",
        f"blobs of its mask: {ndimage.label(mask)[1]}",
        f"the {seam.sum()} pixels that matter",
    ),
):
    bare(ax, title)
plt.show()

# %% [markdown]
# So a perfect mask may find fewer than half of the cells. What parts them is about one pixel in a hundred, and
# cross-entropy counts each pixel alike. A network that gets *all* seams wrong pays next to nothing.
#
# ## The weight map
#
# The remedy of the paper: let the pixels between near cells count more. A weight must be large where *two* cells are near,
# not where one is. Let $d_1$ be the distance to the nearest cell and $d_2$ that to the second nearest. Both are small only
# in a narrow gap. Their sum is the way from the one cell over the pixel to the other: **the width of the gap**, wherever in
# it the pixel lies. Let the weight fall off with that width like a Gaussian:
#
# $$w(x) = w_c(x) + w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2}\right)$$
#
# with $w_0 = 10$ and $\sigma = 5$ pixels. The first term $w_c$ balances the classes: 1 for the rarest, less for the others in
# proportion to how frequent they are.
#
# Write it. SciPy's `distance_transform_edt` gives each pixel's distance to the nearest zero. One map a cell, sorted, and
# the two smallest are $d_1$ and $d_2$.


# %%
def nearest_two(instances):
    """Distances to the nearest and the second nearest cell, (H, W) each; infinity if there is none."""
    numbers = np.unique(instances[instances > 0])
    distances = [ndimage.distance_transform_edt(instances != number) for number in numbers]
    distances += 2 * [np.full(instances.shape, np.inf)]
    return np.sort(distances, axis=0)[:2]


def separation(instances, sigma=5.0):
    """The second term, without w0."""
    near, second = nearest_two(instances)
    return np.exp(-((near + second) ** 2) / (2 * sigma**2))


def class_balance(counts):
    """The first term for each class, from its number of pixels."""
    return counts.min() / counts


def cut_labels(instances):
    """1 in cells, 0 in the background, to which the seams between touching cells now belong."""
    return np.where(weightmap.cut_seams(instances), 0, instances > 0).astype(int)


def weight_map(instances, balance, w0=10.0, sigma=5.0):
    """Labels in which touching cells are cut apart, and the weight of each pixel."""
    labels = cut_labels(instances)
    return labels, balance[labels] + w0 * separation(instances, sigma) * (labels == 0)


counts = sum(np.bincount(cut_labels(cells[i].instances).ravel()) for i in train)
labels, weights = weight_map(example.instances, class_balance(counts))
np.testing.assert_allclose(separation(example.instances), weightmap.separation(example.instances), atol=1e-6)
np.testing.assert_allclose(class_balance(counts), weightmap.class_balance(counts), atol=1e-6)

near, second = nearest_two(example.instances)
figure, axes = plt.subplots(1, 5, figsize=(13, 2.9), layout="constrained")
for ax, a, title, limits, colours in (
    (axes[0], near, "$d_1$: to the nearest cell", (0, 25), "viridis_r"),
    (axes[1], second, "$d_2$: to the second nearest", (0, 25), "viridis_r"),
    (axes[2], near + second, "$d_1 + d_2$: the gap's width", (0, 25), "viridis_r"),
    (axes[3], separation(example.instances), "separation", (0, 1), "magma"),
    (axes[4], weights, "weight of each pixel", (0, None), "magma"),
):
    picture = ax.imshow(a, cmap=colours, vmin=limits[0], vmax=limits[1])
    figure.colorbar(picture, ax=ax, shrink=0.75)
    bare(ax, title)
plt.show()

# %% [markdown]
# (minunet's own computes each cell's distances only within reach of it, so that an image with thousands of cells does not
# cost thousands of maps.) Walk across gaps of several widths. The weight is the same all over a gap, and low at a cell's
# free side.

# %%
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for gap, colour in ((1, RED), (4, ORANGE), (8, GREEN), (16, BLUE)):
    row = np.zeros((1, 70), int)
    row[0, 20:30], row[0, 30 + gap : 40 + gap] = 1, 2
    line = weight_map(row, np.array([0.3, 1.0]))[1][0]
    ax.step(np.arange(70) - 30, line, where="mid", color=colour, lw=1.8, label=f"gap of {gap} pixels")
    within = line[30 : 30 + gap]
    assert np.ptp(within) < 1e-9 and np.isclose(within[0], 0.3 + 10 * np.exp(-((gap + 1) ** 2) / 50))
    assert line[10] < 0.31 + 10 * np.exp(-((10 + 20) ** 2) / 50)  # ten pixels away from its free side
ax.axvspan(-10, -0.5, color=GREY, alpha=0.15, lw=0)
ax.text(-5.2, 4, "first cell", ha="center", fontsize=9)
ax.set(xlabel="pixels from the first cell's end; then the gap, then the second cell", ylabel="weight")
ax.legend(frameon=False, fontsize=9)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# What do weights do? The loss is the weighted mean $\sum w L / \sum w$, so a pixel's gradient is multiplied by its share
# $w / \sum w$. Nothing else changes. Let a network say "one half" everywhere: which part of the total push comes from the
# gaps?

# %%
half = np.zeros((1, size, size, 2))
shares = []
for weight in (None, weights[None]):
    _, cache = softmax_cross_entropy(half, labels[None], weight=weight)
    push = abs(softmax_cross_entropy_backward(1.0, cache))[0, ..., 1]
    if weight is not None:
        np.testing.assert_allclose(push, 0.5 * weights / weights.sum(), atol=1e-12)
    shares.append(push[seam].sum() / push.sum())
print(f"the seams' part of the gradient: {shares[0]:.3f} plain, {shares[1]:.3f} with the weight map")
assert shares[1] > 3 * shares[0]

# %% [markdown]
# ## Another way: a class for borders
#
# Do not weigh the seam, *make it wide*. Three classes: background, the inside of cells, and their border, the outermost two
# pixels. A seam between two cells is then four pixels of border, in a mask in which borders are not rare at all. Insides
# never touch, so counting insides counts cells.

# %%
border = border_labels(example.instances, width=2)
assert ndimage.label(border == 1)[1] >= len(np.unique(example.instances)) - 1 > ndimage.label(mask)[1]
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
tint = np.array([[0.08, 0.08, 0.08], [0, 0.62, 0.45], [0.9, 0.62, 0]])
for ax, a, title in zip(
    axes, (example.labels, labels, border), ("plain", "weight map: seams cut, gaps count", "inside and border")
):
    ax.imshow(tint[a])
    bare(ax, f"{title}: {ndimage.label(a == 1)[1]} regions")
axes[1].imshow(np.ma.masked_less(weights, 3), cmap="magma", vmin=0, vmax=12)
figure.suptitle("three targets for the same cells", fontsize=10)
plt.show()


# %% [markdown]
# ## Three networks
#
# The same network, images, seed, rate and number of steps; only the target differs. minunet's `TargetSet` makes the labels
# and weights that we made by hand.


# %%
def train_on(target, epochs=10, seed=0):
    """Train a small U-Net on a target; see lesson 06."""
    data = cells if target.is_plain else TargetSet(cells, target, train)
    batches = Batches(data, train, batch_size=4, crop=size, seed=seed)
    model = minunet.UNet(1, 3 if target.kind == "border" else 2, base_width=8, depth=2, seed=seed)
    optimizer, schedule = Adam(model, 1e-2), Schedule("cosine", 1e-2, epochs * len(batches))
    for epoch in range(epochs):
        for images, labels, *weights in batches.epoch(epoch):
            optimizer.lr = schedule(optimizer.steps)
            logits, cache = model.forward(images)
            _, loss_cache = softmax_cross_entropy(logits, labels, weight=weights[0] if weights else None)
            model.zero_grad()
            model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
            optimizer.step()
    return model


targets = {"plain": Target(), "weight map": Target(weight_map=True), "border class": Target(kind="border")}
theirs = TargetSet(cells, targets["weight map"], train)[held[0]]  # minunet's labels and weights are ours
for mine, same in zip(weight_map(cells[held[0]].instances, class_balance(counts)), (theirs.labels, theirs.weight)):
    np.testing.assert_allclose(mine, same, atol=1e-5)
models = {name: train_on(target) for name, target in targets.items()}


def probabilities(name, image):
    """Class probabilities (H, W, K) of an image (H, W, 1)."""
    return class_probabilities(models[name](image[None]))[0]


def regions(p):
    """The simplest objects: connected pixels of class 1, the cell or its inside."""
    return ndimage.label(p.argmax(-1) == 1)[0]


predictions = {name: [probabilities(name, cells[i].image) for i in held] for name in models}
simple, pixel_dice = {}, {}
for name, maps in predictions.items():
    simple[name] = ObjectCounts()
    for i, p in zip(held, maps):
        simple[name].add(cells[i].instances, regions(p))
    foreground = np.stack([p[..., 0] < 0.5 for p in maps]).astype(int)
    pixel_dice[name] = dice(np.stack([cells[i].labels for i in held]).astype(int), foreground)
print("connected regions      Dice  merged  split  found")
for name, c in simple.items():
    print(f"{name:<20}{pixel_dice[name]:7.3f}{c.merged:8}{c.split:7}{c.tp[0]:7} of {c.truth}")
assert all(score > 0.85 for score in pixel_dice.values())
assert simple["weight map"].merged < 0.6 * simple["plain"].merged
assert simple["border class"].merged < 0.85 * simple["plain"].merged
assert simple["weight map"].tp[0] > 1.2 * simple["plain"].tp[0]

# %% [markdown]
# By Dice the plain network is as good as any. By merged pairs it is the worst by far. The weight map pays for its gaps with a
# lower Dice, for it makes seams wider than they are. Look:

# %%
figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
at = next(k for k, i in enumerate(held) if cells[i].name == example.name)
axes[0, 0].imshow(example.image[..., 0], cmap="gray", vmin=0, vmax=1)
bare(axes[0, 0], "image")
axes[1, 0].imshow(object_outlines(example.image, example.instances))
bare(axes[1, 0], "truth")
for (above, below), (name, maps) in zip(axes.T[1:], predictions.items()):
    p = maps[at]
    above.imshow(p[..., 1], cmap="gray", vmin=0, vmax=1)
    below.imshow(object_outlines(example.image, regions(p)))
    c = ObjectCounts()
    c.add(example.instances, regions(p))
    bare(above, f"{name}: p({'inside' if p.shape[-1] == 3 else 'cell'})")
    bare(below, f"merged pairs: {c.merged}")
plt.show()


# %% [markdown]
# ## From pixels to objects: flood the landscape
#
# Connected regions are the simplest objects, but one bridge of a single pixel joins two cells. Most cells are round, and a
# bridge is *narrow*. Measure how narrow:
#
# 1. the **distance transform** of the foreground: each pixel's distance to the background. A cell becomes a hill as high as
#    its half width, a bridge a low saddle;
# 2. **seeds**: the hills. Noise makes many small tops, so a top counts only if the way to a higher one leads down below 0.9
#    of its height (a neck narrower than the cell);
# 3. the **watershed**: turn the landscape upside down, let water rise from the seeds, and build a dam where two lakes meet.
#
# Find the tops by *reconstruction*: raise 0.9 times the height as far as it goes, but nowhere above the height itself, by
# spreading to neighbours again and again. A hill that stands out by more keeps a flat top of its own.


# %%
def watershed_objects(foreground, neck=0.9):
    """Separate objects of a mask (H, W): their numbers, the height, and the seeds."""
    depth = ndimage.distance_transform_edt(np.pad(foreground, 1))[1:-1, 1:-1]
    height = ndimage.gaussian_filter(depth, 1) * foreground  # smooth over the pixels' steps
    level, before = neck * height, None
    while not np.array_equal(level, before):  # reconstruction
        before = level
        level = np.minimum(ndimage.maximum_filter(level, footprint=ndimage.generate_binary_structure(2, 1)), height)
    plateaus, count = ndimage.label(np.isclose(level, ndimage.maximum_filter(level, 3)) & foreground)
    seeds = np.zeros_like(plateaus)
    for number in range(1, count + 1):  # a plateau is a seed if nothing around it is higher
        own = plateaus == number
        around = ndimage.binary_dilation(own) & ~own
        if level[around].max(initial=0) < level[own].max():
            seeds[own] = number
    return watershed(-height, seeds, mask=foreground), height, seeds


p = predictions["plain"][at]
foreground = p[..., 1] > 0.5
objects, height, seeds = watershed_objects(foreground)
figure, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained")
axes[0].imshow(foreground, cmap="gray")
picture = axes[1].imshow(height, cmap="magma")
figure.colorbar(picture, ax=axes[1], shrink=0.75)
axes[2].imshow(height, cmap="gray")
axes[2].imshow(np.ma.masked_equal(seeds > 0, 0), cmap="autumn", vmin=0, vmax=2)
axes[3].imshow(object_outlines(example.image, objects))
for ax, title in zip(axes, ("foreground", "height: distance to background", "seeds", "flooded from the seeds")):
    bare(ax, f"{title}: {len(np.unique(objects)) - 1} objects" if "flooded" in title else title)
plt.show()

# %% [markdown]
# `minunet.label_objects` is this, faster. For a border class depth counts from the borders, and is multiplied by the share of
# inside, so that faint borders are valleys, too. Its `neck` says how narrow a neck has to be, as a share of the object's width:
# here 0.9, as above, for all three. A training tunes it, and three more numbers, on its validation images. Those are the images
# that are counted here, so it would not be fair to take what it found. Count again, on all held-out images:

# %%
flooded = {name: ObjectCounts() for name in models}
mine = ObjectCounts()
for name, maps in predictions.items():
    for i, p in zip(held, maps):
        flooded[name].add(cells[i].instances, minunet.label_objects(p, targets[name].kind, neck=0.9, smooth=1.0))
        if name == "plain":
            mine.add(cells[i].instances, watershed_objects(p[..., 1] > 0.5)[0])
assert abs(mine.merged - flooded["plain"].merged) <= 3  # the two differ in ties and in objects of a few pixels
figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), layout="constrained", sharey=True)
for ax, count, title in (
    (axes[0], lambda c: c.merged, "merged pairs"),
    (axes[1], lambda c: 100 * c.precision(50), "precision at IoU 0.5, %"),
):
    for row, name in enumerate(models):
        for offset, c, colour, label in (
            (-0.18, simple[name], GREY, "regions"),
            (0.18, flooded[name], BLUE, "watershed"),
        ):
            ax.barh(row + offset, count(c), 0.34, color=colour, label=label if row == 0 else None)
            ax.text(count(c), row + offset, f" {count(c):.0f}", va="center", fontsize=9)
    ax.set_title(title, fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(yticks=range(3), yticklabels=list(models), ylim=(2.6, -0.6))
axes[0].legend(frameon=False, fontsize=9, loc="lower right")
plt.show()
for name in models:
    assert flooded[name].merged < 0.6 * simple[name].merged and flooded[name].precision(50) > simple[name].precision(50)

# %% [markdown]
# The watershed mends most of what the plain network merged, since these cells are round. It must not be asked for what is not
# round: neurites, or the gaps between membranes. There the network has to find the seam itself, and the weight map or the
# border class is what teaches it.
#
# Which is best? These are 30 small images and one seed. The differences between regions and watershed are large; those
# among the three after the watershed are not, and another seed may turn them round.
#
# ## Images of any size: overlap-tile
#
# An image of a whole slide does not fit into memory. Cut it into tiles? At a tile's edge the network sees zeros where the
# neighbour's pixels are (lesson 01's lie), and the result has seams. So show the network *more* than the tile: as much
# around it as an output pixel can see. The paper's convolutions are unpadded and eat just that margin. Beyond the image's
# own border there is nothing to show; **mirror** the image there.
#
# With unpadded convolutions the result by tiles is *the same* as that in one piece, but for rounding.

# %%
large = SyntheticCells(1, size=160, seed=5)[0].image
valid = minunet.UNet(1, 2, base_width=4, depth=2, padding="valid", seed=0)
for _ in range(30):
    valid.forward(large[None])  # random weights will do; the running statistics settle
tile = 40  # of output
window = valid.fit_size(tile)  # of input
margin = (window - valid.output_size(window)) // 2
assert valid.output_size(window) == tile and (window, margin) == (80, 20)


def overlap_tile(model, image):
    """Logits (H, W, K) of an image (H, W, C) with sides that are multiples of `tile`, tile by tile."""
    H, W, _ = image.shape
    mirrored = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    y = np.empty((H, W, 2), np.float32)
    for top in range(0, H, tile):
        for left in range(0, W, tile):
            seen = mirrored[top : top + window, left : left + window]
            y[top : top + tile, left : left + tile] = model(seen[None])[0]
    return y


by_tiles = overlap_tile(valid, large)
whole = predict_logits(valid, large[None])[0]  # mirrors the image's margin, too
np.testing.assert_allclose(by_tiles, whole, atol=1e-4)

mirrored = np.pad(large[..., 0], margin, mode="reflect")
figure, ax = plt.subplots(figsize=(4.8, 4.8), layout="constrained")
ax.imshow(mirrored, cmap="gray", vmin=0, vmax=1, alpha=0.35)
ax.imshow(
    large[..., 0], cmap="gray", vmin=0, vmax=1, extent=(margin - 0.5, margin + 159.5, margin + 159.5, margin - 0.5)
)
for (top, left), colour in (((0, 0), BLUE), ((80, 40), ORANGE)):
    ax.add_patch(Rectangle((left, top), window, window, fill=False, ec=colour, lw=1.8, ls="--"))
    ax.add_patch(Rectangle((left + margin, top + margin), tile, tile, fc=colour, ec=colour, alpha=0.45, lw=2))
ax.set(xlim=(-1, 200), ylim=(200, -1))
bare(ax, "filled: a tile of output; dashed: what the network sees for it\npale: the image, mirrored")
plt.show()

# %% [markdown]
# With zero-padded convolutions the same holds away from the image's border, if windows begin at multiples of $2^{depth}$ (the
# pools must pair the same pixels) and overlap by as much as an output pixel can see. Too small an overlap leaves seams; see how
# the error goes to nothing just there.

# %%
plain = models["plain"]
x = SyntheticCells(1, size=192, seed=6)[0].image
whole = plain(x[None])[0]


def middle_error(overlap):
    """Largest error of a tile's logits, 64 pixels wide in the image's middle, if the network sees `overlap` around it."""
    first, last = 64 - overlap, 128 + overlap
    y = plain(x[None, first:last, first:last])[0]
    return abs(y[overlap : overlap + 64, overlap : overlap + 64] - whole[64:128, 64:128]).max(-1)


overlaps = range(0, 33, 4)
worst = [float(middle_error(n).max()) for n in overlaps]
assert worst[0] > 0.5 and all(e < 1e-3 for n, e in zip(overlaps, worst) if n >= reach(plain))
figure, axes = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained", width_ratios=[1, 1, 1.5])
for ax, n in zip(axes, (0, 8)):
    picture = ax.imshow(middle_error(n), cmap="magma", vmin=0, vmax=2)
    bare(ax, f"error of a tile, overlap {n}")
figure.colorbar(picture, ax=axes[1], shrink=0.85)
axes[2].semilogy(overlaps, np.maximum(worst, 1e-7), "o-", color=BLUE)
axes[2].axvline(reach(plain), color=RED, lw=1, ls=":")
axes[2].text(reach(plain) - 0.5, worst[0], "what it can see", color=RED, fontsize=9, ha="right", va="top")
axes[2].set(xlabel="overlap, pixels", ylabel="largest error (0 drawn as $10^{-7}$)")
axes[2].spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From the command line: `python -m minunet.train --weight-map` or `--target border`; `python -m minunet.predict --instances`
# for objects, by tiles where the image is large; `python -m minunet.evaluate` for the scores. Read `minunet/data/weightmap.py`,
# `minunet/data/targets.py`, `minunet/predict/instances.py`, `minunet/metrics/instances.py` and `minunet/predict/tiles.py`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** Two cells of equal size touch; the prediction is right in every pixel, except that it makes one object of both.
# What does the IoU of pixels say, and what does a count of objects at IoU 0.5?
#
# <details>
# <summary>Answer</summary>
#
# The IoU of pixels is 1. The one object has an IoU of 0.5 with each cell, which is not *above* 0.5: no match, one false
# object and two missed ones. The score of pixels cannot see what matters to who counts cells.
#
# </details>
#
# **2.** With $w_0 = 10$ and $\sigma = 5$, how much is added to the weight in a gap of one pixel, where both cells are
# one pixel away, and how much where both are ten pixels away?
#
# <details>
# <summary>Answer</summary>
#
# $10 \exp(-(1 + 1)^2 / 50) = 9.2$ and $10 \exp(-(10 + 10)^2 / 50) = 0.003$. So a pixel of the gap counts ten times a
# pixel elsewhere, and open background counts as before.
#
# </details>
#
# **3.** You cut an image into tiles without any overlap and put the answers together. Where do they differ from the
# answer for the whole image, and why is a network with instance norms worse off?
#
# <details>
# <summary>Answer</summary>
#
# Along every seam, up to half of the receptive field deep: there the tile's border of zeros is seen instead of the
# neighbour's pixels. A norm whose statistics come from the image at hand takes other ones in each tile, so *every*
# pixel changes, and no overlap cures that.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/weight_map.py`: the paper's weight map
#
# On your own, each with a check:
#
# 1. **Half width.** For which gap has the separation fallen to one half of what it is at a gap of 1 pixel? Give it in terms
#    of $\sigma$. *Check:* `separation` of a row with two cells, as in the picture of gaps.
# 2. **Squares.** Somebody writes $d_1^2 + d_2^2$ for $(d_1 + d_2)^2$. What does the weight then look like across a wide gap?
#    *Check:* draw it; at the middle of a gap it is $\exp(-g^2 / 4 \sigma^2)$ and not $\exp(-g^2 / 2 \sigma^2)$, about.
# 3. **Count by hand.** Truth: three cells in a row, A, B, C. Prediction: one object over A and B, two halves of C. How many
#    merged pairs, split pairs, found cells? *Check:* `ObjectCounts().add(...)` on an image of one row, four pixels a cell.
# 4. **Neck.** Run `watershed_objects` with `neck` from 0.5 to 1.0 on the plain network's foregrounds. Which mistake grows on
#    either side? *Check:* plot `merged` and `split` over `neck`; they move against each other.
# 5. **Less overlap.** Up to which overlap is the error outside a tile's outermost 4 pixels still visible? *Check:*
#    `middle_error(n)[4:-4, 4:-4].max()` over n. Why can a smaller overlap than `reach` do in practice?
