# %% [markdown]
# # 14 Other answers: SegNet, DeepLab, polygons and boxes
#
# **You will be able to**
#
# * bring a map back to its size by where its maxima were, and say what that keeps and what a skip keeps;
# * let a filter see far without making the map small, and draw what it sees;
# * describe an object by rays from its middle, or by a box and a few numbers for its mask;
# * choose the best of many answers for one object: non-maximum suppression;
# * say which of these answers suits which question.
#
# You need lessons 01 to 05, and lesson 07 for what makes touching objects hard.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from skimage.draw import polygon2mask

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.data.objects import Rays
from minunet.data.stars import directions, star_targets
from minunet.models import build
from minunet.models.command import costs
from minunet.predict.overlay import object_outlines

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


sample = SyntheticCells(16, size=64, seed=1)[9]
image, numbers = sample.image[..., 0], sample.instances

# %% [markdown]
# ## SegNet: remember where, not what
#
# The U-Net's question was: what is here, and *where* exactly does it end? Its answer is the skip, a whole map of floats
# handed across. SegNet (Badrinarayanan, Kendall and Cipolla, 2015) hands across less. A max-pool knows **which pixel of
# each window won**. Going up, put each value back where its window's winner was, and zeros elsewhere: **unpooling**. The
# convolutions that follow fill in the rest.

# %%
x = np.array([[1, 3, 2, 0], [0, 2, 5, 1], [4, 1, 0, 2], [2, 0, 3, 1]], float).reshape(1, 4, 4, 1)
y, cache = ops.max_pool2d(x)
winners = cache[0]  # 0 1 / 2 3 for the pixels of a window, in a byte each
back, unpool_cache = ops.max_unpool2d(y, winners, (4, 4))

figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
for ax, a, title in zip(
    axes, (x, y, winners, back), ("a map", "pooled: the largest", "winners: which of four", "unpooled")
):
    a = a[0, ..., 0]
    ax.imshow(a, cmap="Blues" if title != "winners: which of four" else "Oranges", vmin=0, vmax=7)
    for (r, c), value in np.ndenumerate(a):
        ax.text(c, r, f"{value:g}", ha="center", va="center", fontsize=13)
    bare(ax, title)
    if len(a) == 4:
        ax.axhline(1.5, color="white", lw=3)
        ax.axvline(1.5, color="white", lw=3)
plt.show()

# %% [markdown]
# You know this picture. It is what the *backward* of a max-pool does with dy, used forwards. So its own backward is a
# gather: from each window, the gradient at the winner. The two are transposes of each other (lesson 03), $\langle U x, dy
# \rangle = \langle x, U^T dy \rangle$; and the winners, being numbers of pixels, have no gradient.

# %%
dy = rng.standard_normal(back.shape)
dx = ops.max_unpool2d_backward(dy, unpool_cache)
assert np.isclose((back * dy).sum(), (y * dx).sum())
assert np.array_equal(back, ops.max_pool2d_backward(y, cache))
by_window = dy.reshape(1, 2, 2, 2, 2, 1).swapaxes(2, 3).reshape(1, 2, 2, 4, 1)
chosen = np.take_along_axis(by_window, winners[..., None, :].astype(int), axis=3)
assert np.array_equal(dx, chosen[..., 0, :])  # a gather: of each window the winner's
print(f"across goes, for a window: {4 * 4} bytes of a skip, {winners.itemsize} byte of winners")

# %% [markdown]
# What does a sixteenth of the memory keep? Pool an image three times and come back. Nearest up-sampling makes blocks.
# Unpooling puts the brightest points where they were, to the pixel. But what was *not* a maximum is gone: a skip would have
# it.

# %%
small, kept = image[None, ..., None].astype(float), []
for _ in range(3):
    small, cache = ops.max_pool2d(small)
    kept.append(cache[0])
blocks = ops.upsample_nearest(small, 8)[0]
points = small
for winners in reversed(kept):
    points = ops.max_unpool2d(points, winners, (2 * winners.shape[1], 2 * winners.shape[2]))[0]
lit = points[0, ..., 0] > 0
assert np.array_equal(points[0, ..., 0][lit], image[lit].astype(float)) and lit.sum() == 64

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), layout="constrained")
for ax, a, title in zip(
    axes,
    (image, blocks[0, ..., 0], points[0, ..., 0]),
    ("an image", "pooled three times, nearest back", "pooled three times, unpooled"),
):
    ax.imshow(a, cmap="gray", vmin=0, vmax=1)
    bare(ax, title)
plt.show()

# %% [markdown]
# ## DeepLab: look far, and stay large
#
# The U-Net makes the map small so that a $3 \times 3$ filter sees far, and then needs a way back. Why not make the *filter*
# large? A **dilated** (or atrous) convolution reads pixels that lie $d$ apart: nine parameters, a window $2d + 1$ wide, and
# the map keeps its size. Lesson 01 had it as an option. To see what an output sees, send a gradient back from it, through
# filters of ones.


# %%
def seen(size, *layers):
    """What an output in the middle of a map sees through layers (dilation, stride): how often each pixel counts."""
    x, caches = np.zeros((1, size, size, 1)), []
    for dilation, stride in layers:
        x, cache = ops.conv2d(x, np.ones((3, 3, 1, 1)), dilation=dilation, stride=stride, padding=dilation)
        caches.append(cache)
    dx = np.zeros(x.shape)
    dx[0, x.shape[1] // 2, x.shape[2] // 2] = 1
    for cache in reversed(caches):
        dx = ops.conv2d_backward(dx, cache)[0]
    return dx[0, ..., 0]


def width(counts):
    """Rows from the first that is seen to the last."""
    rows = np.flatnonzero(counts.any(1))
    return rows[-1] - rows[0] + 1


stacks = {
    "three plain": ((1, 1), (1, 1), (1, 1)),
    "strides 2, 2, 1": ((1, 2), (1, 2), (1, 1)),
    "dilations 1, 2, 4": ((1, 1), (2, 1), (4, 1)),
    "dilations 4, 4, 4": ((4, 1), (4, 1), (4, 1)),
}
views = {name: seen(33, *layers) for name, layers in stacks.items()}
assert [width(v) for v in views.values()] == [7, 15, 15, 25]
assert (views["dilations 4, 4, 4"] > 0).sum() == 49  # it sees far, and one pixel in sixteen of it
figure, axes = plt.subplots(1, 4, figsize=(11.5, 3.2), layout="constrained")
for ax, (name, view) in zip(axes, views.items()):
    ax.imshow(np.ma.masked_equal(view, 0), cmap="viridis", vmin=0)
    ax.plot(16, 16, "+", color=RED, ms=9)
    end = {"strides 2, 2, 1": "9 x 9"}.get(name, "33 x 33")
    bare(ax, f"{name}: sees {width(view)}\nand leaves {end} pixels")
plt.show()

# %% [markdown]
# Dilations 1, 2, 4 see as far as two strides do, **and the map is still whole**. Three times the same dilation leaves
# holes: the *gridding* of the last picture.
#
# DeepLab v3+ (Chen et al., 2018) does both. An ordinary encoder goes down to a sixteenth of the size, not to a
# thirty-second: its last stage is dilated instead. There a **pyramid** (ASPP) looks at five scales side by side: one pixel,
# three dilations, and the mean of the whole map. One skip, from a quarter of the size, sharpens what comes out. Here is
# what the pyramid's five branches read for one pixel of a map of $33 \times 33$:

# %%
figure, ax = plt.subplots(figsize=(4.6, 4.3), layout="constrained")
ax.add_patch(Rectangle((-0.5, -0.5), 33, 33, fc=GREY, alpha=0.2))
for rate, colour in ((6, BLUE), (12, GREEN), (18, PINK)):
    at = np.argwhere(seen(33, (rate, 1)))
    ax.plot(at[:, 1], at[:, 0], "s", color=colour, ms=8, label=f"3x3, dilation {rate}: {len(at)} of 9 inside")
    assert len(at) == (9 if rate < 17 else 1)
ax.plot(16, 16, "s", color=ORANGE, ms=8, label="1x1")
ax.plot([], [], "s", color=GREY, alpha=0.3, ms=10, label="the mean of the map")
ax.set(xlim=(-1, 33), ylim=(33, -1), aspect="equal")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=8, frameon=False, ncols=2)
bare(ax, "what the pyramid reads for the pixel in the middle")
plt.show()

# %% [markdown]
# Two traps are in this picture. **A dilation as large as the map is a 1x1 convolution**: eight of nine taps read zeros, and
# learn nothing. (An image of 256 pixels has a map of 16.) And **the mean is one value** a channel and image: a batch norm
# over a batch of one image standardises a single number to 0.
#
# The mean's branch goes mean, 1x1 convolution, back to the map's size. Read it backwards: one number went to all $HW$
# pixels, so their gradients are *summed*; and it was a mean of $HW$ pixels, so each gets one $HW$-th. (Exercise
# `image_pooling`.)
#
# A large map costs. Half the stride is four times the pixels in all that stands on it:

# %%
priced = {stride: costs("deeplab_v3plus", output_stride=stride) for stride in (16, 8)}
for stride, cost in priced.items():
    print(
        f"output stride {stride:>2}: {cost['parameters']:,} parameters, {cost['gflop']:.1f} GFLOP for 256 x 256 pixels"
    )
assert priced[8]["parameters"] == priced[16]["parameters"] and priced[8]["gflop"] > 2.5 * priced[16]["gflop"]

# %% [markdown]
# ## Objects by rays
#
# All of these answer *which class has this pixel?*, and lesson 07 showed what that costs where objects touch. The next two
# answer *which objects are there?*
#
# **Star-convex polygons** (StarDist; Schmidt et al., 2018). Every pixel says how far away the outline of its object is,
# along 32 rays, and how near it is to the middle. One pixel is then enough to draw the whole object. The target comes from
# the object numbers; a ray ends where the number changes, so a touching neighbour ends it, too.

# %%
rays = Rays(32, unit=1.0)
target = star_targets(numbers, rays)  # (H, W, 1 + 32): the probability, and distances in pixels
probability, distances = target[..., 0], target[..., 1:]
sines, cosines = directions(rays.count)


def corners(row, column, distance):
    """The polygon of a pixel: (32, 2) rows and columns."""
    return np.stack([row + distance * sines, column + distance * cosines], axis=1)


figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
axes[0].imshow(object_outlines(sample.image, numbers))
bare(axes[0], "the objects")
shown = axes[1].imshow(probability, cmap="magma", vmin=0, vmax=1)
figure.colorbar(shown, ax=axes[1], shrink=0.8)
bare(axes[1], "how near the middle: the probability")
axes[2].imshow(image, cmap="gray", vmin=0, vmax=1, alpha=0.6)
largest = np.bincount(numbers[numbers > 0]).argsort()[-4:]
for number, colour in zip(largest, (BLUE, ORANGE, GREEN, PINK)):
    row, column = np.unravel_index(np.where(numbers == number, probability, -1).argmax(), numbers.shape)
    for r, c in (outline := corners(row, column, distances[row, column])):
        axes[2].plot([column, c], [row, r], color=colour, lw=0.7)
    axes[2].fill(outline[:, 1], outline[:, 0], fill=False, ec=colour, lw=2)
axes[2].set(xlim=(-0.5, 63.5), ylim=(63.5, -0.5))
bare(axes[2], "32 rays of four pixels, and their polygons")
plt.show()

# %% [markdown]
# What can no polygon say? An object must be *seen whole* from its middle. A banana is not; and few rays cut corners.


# %%
def best_polygon(object_, count):
    """IoU of an object with the polygon of its middle pixel."""
    rays = star_targets(object_.astype(int), Rays(count, unit=1.0))
    row, column = np.unravel_index(rays[..., 0].argmax(), object_.shape)
    angles = directions(count)
    outline = np.stack([p + rays[row, column, 1:] * a for p, a in zip((row, column), angles)], axis=1)
    drawn = polygon2mask(object_.shape, outline)
    return (drawn & object_).sum() / (drawn | object_).sum(), outline


rows, columns = np.mgrid[:48, :48] - 24.0
shapes = {
    "disc": rows**2 + columns**2 < 18**2,
    "ellipse": (rows / 9) ** 2 + (columns / 20) ** 2 < 1,
    "banana": (abs(np.hypot(rows, columns) - 15) < 4) & (rows < 5),
}
figure, axes = plt.subplots(2, 3, figsize=(8, 5.2), layout="constrained")
reached = {}
for line, count in zip(axes, (8, 32)):
    for ax, (name, object_) in zip(line, shapes.items()):
        reached[name, count], outline = best_polygon(object_, count)
        ax.imshow(object_, cmap="Blues", vmin=0, vmax=2)
        ax.fill(outline[:, 1], outline[:, 0], fill=False, ec=ORANGE, lw=2)
        bare(ax, f"{name}, {count} rays: IoU {reached[name, count]:.2f}")
plt.show()
assert reached["disc", 32] > 0.93 and reached["ellipse", 32] > 0.88 and reached["banana", 32] < 0.75
assert all(reached[name, 8] < reached[name, 32] for name in ("disc", "ellipse"))

# %% [markdown]
# ## One of many: non-maximum suppression
#
# Every pixel of a cell offers a polygon, hundreds for one object. Choose greedily:
#
# 1. take the most probable of those that are left;
# 2. drop all that overlap it by too much: they are the same object;
# 3. begin again, until none is left.
#
# A polygon that was dropped drops no other. Let a network be right but for some noise, and look at what it offers and what is
# left.


# %%
def overlaps(masks):
    """For all pairs of masks (n, H, W): what they share, of the smaller one, as StarDist has it."""
    flat = masks.reshape(len(masks), -1).astype(float)
    areas = flat.sum(1)
    return flat @ flat.T / np.maximum(np.minimum.outer(areas, areas), 1)


def suppress(overlap, score, most):
    """Greedy suppression: the numbers of those kept, the best first."""
    left, kept = np.argsort(-score), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[overlap[best, left] <= most]
    return np.array(kept)


offered = np.argwhere(probability > 0.4)[::3]
scores = probability[tuple(offered.T)] + 0.05 * rng.standard_normal(len(offered))
noisy = distances[tuple(offered.T)] * (1 + 0.04 * rng.standard_normal((len(offered), 32)))
outlines = [corners(*at, d) for at, d in zip(offered, noisy)]
masks = np.stack([polygon2mask(numbers.shape, o) for o in outlines])
kept = suppress(overlaps(masks), scores, most=0.4)
truth = [numbers == n for n in np.unique(numbers[numbers > 0])]
found = sum(max((m & t).sum() / (m | t).sum() for m in masks[kept]) > 0.5 for t in truth)
print(f"{len(offered)} polygons offered, {len(kept)} kept; {len(truth)} objects, {found} of them found")
assert len(kept) < len(offered) / 8 and found >= 0.8 * len(truth)

figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.3), layout="constrained")
for ax, some, title in ((axes[0], range(0, len(offered), 2), "offered (every second one)"), (axes[1], kept, "kept")):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    for n, k in enumerate(some):
        colour = plt.cm.hsv(0.618 * n % 1) if title == "kept" else ORANGE
        ax.fill(outlines[k][:, 1], outlines[k][:, 0], fill=False, ec=colour, lw=0.5 if title != "kept" else 1.8)
    ax.set(xlim=(-0.5, 63.5), ylim=(63.5, -0.5))
    bare(ax, title)
plt.show()

# %% [markdown]
# ## Objects by boxes
#
# Detectors of the kind of FCOS (Tian et al., 2019) need no polygon. Every pixel in an object says how far the four sides of
# its **box** are: up, left, down, right. Pixels near the box's side see little of the object, so a second output, the
# **centre-ness**, says how good the place is; it multiplies the score:
#
# $$\sqrt{\frac{\min(l, r)}{\max(l, r)} \cdot \frac{\min(t, b)}{\max(t, b)}}$$

# %%
boxes_of = {}
for n in np.unique(numbers[numbers > 0]):
    r, c = np.nonzero(numbers == n)
    boxes_of[n] = np.array([r.min(), c.min(), r.max() + 1, c.max() + 1], float)
at = np.argwhere(numbers > 0)
middles = at + 0.5
true_boxes = np.stack([boxes_of[n] for n in numbers[numbers > 0]])
sides = np.concatenate([middles - true_boxes[:, :2], true_boxes[:, 2:] - middles], axis=1)  # up, left, down, right
pairs = np.stack([sides[:, :2], sides[:, 2:]])
centreness = np.sqrt((pairs.min(0) / pairs.max(0)).prod(1))
assert sides.min() > 0 and centreness.min() > 0 and centreness.max() <= 1

noisy = sides * (1 + 0.1 * rng.standard_normal(sides.shape))
boxes = np.concatenate([middles - noisy[:, :2], middles + noisy[:, 2:]], axis=1)
scores = centreness * rng.uniform(0.8, 1, len(boxes))

# %% [markdown]
# For boxes, the overlap is the IoU: what both cover, of what either covers. Sides of an intersection that would be negative
# are 0: two boxes that are apart in *both* directions would otherwise have a positive intersection. (Exercise `nms` asks
# for both functions.)


# %%
def overlaps_of_boxes(boxes):
    """IoU of all pairs (n, n)."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return common / (np.add.outer(area, area) - common)


good = scores > 0.3
kept = np.flatnonzero(good)[suppress(overlaps_of_boxes(boxes[good]), scores[good], most=0.4)]
print(f"{good.sum()} boxes offered, {len(kept)} kept, {len(truth)} objects")
assert abs(len(kept) - len(truth)) <= 0.25 * len(truth)

centre_map = np.zeros(numbers.shape)
centre_map[numbers > 0] = centreness
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
shown = axes[0].imshow(centre_map, cmap="magma", vmin=0, vmax=1)
figure.colorbar(shown, ax=axes[0], shrink=0.8)
bare(axes[0], "centre-ness")
for ax, some, title in ((axes[1], np.flatnonzero(good)[::6], "offered (every sixth)"), (axes[2], kept, "kept")):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    for n, (top, left, bottom, right) in enumerate(boxes[some]):
        colour = plt.cm.hsv(0.618 * n % 1) if title == "kept" else ORANGE
        style = {"fill": False, "ec": colour, "lw": 1.4 if title == "kept" else 0.4}
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **style))
    bare(ax, title)
plt.show()

# %% [markdown]
# ### A loss for boxes
#
# One could learn the four sides by their squared errors. But what is scored is the IoU, so let that be the loss, $1 - IoU$?
# Slide a box away from its target. Where they no longer meet, the loss is 1 however far the box is, and **its gradient is
# 0**: such a box never learns. The *generalised* IoU (Rezatofighi et al., 2019) subtracts the share of the common hull that
# neither covers. That pulls.

# %%
fixed = np.array([[0.0, 0.0, 10.0, 10.0]])
shifts = np.linspace(0, 30, 121)
moved = fixed + np.stack([0 * shifts, shifts, 0 * shifts, shifts], axis=1)
plain = 1 - np.array([overlaps_of_boxes(np.concatenate([fixed, m[None]]))[0, 1] for m in moved])
losses = np.array([float(ops.giou(m[None], fixed)[0]) for m in moved])
pulls = []
for m in moved:
    _, cache = ops.giou(m[None], fixed)
    pulls.append(
        float(-ops.giou_backward(1.0, cache)[0, [1, 3]].sum())
    )  # along the shift; negative: back to the target
assert np.allclose(plain[shifts >= 10], 1) and losses[-1] > 1.4
assert np.allclose(plain[shifts <= 10], losses[shifts <= 10]) and max(pulls[1:]) < 0

figure, axes = plt.subplots(1, 2, figsize=(10, 3.1), layout="constrained")
axes[0].plot(shifts, plain, color=GREY, lw=2, label="1 - IoU")
axes[0].plot(shifts, losses, color=ORANGE, lw=2, ls="--", label="1 - GIoU")
axes[0].axvline(10, color=RED, lw=1, ls=":")
axes[0].text(10.3, 0.1, "from here on they do not meet", color=RED, fontsize=9)
axes[0].set(xlabel="pixels to the side, of two boxes of 10 x 10", ylabel="loss")
axes[0].legend(frameon=False, fontsize=9)
axes[1].plot(shifts[1:], np.negative(pulls[1:]), color=ORANGE, lw=2)
axes[1].plot(shifts[1:], np.where(shifts[1:] < 10, np.gradient(plain, shifts)[1:], 0), color=GREY, lw=2)
axes[1].set(xlabel="pixels to the side", ylabel="pull towards the target", ylim=(0, None))
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ### A mask in a few numbers
#
# A box is no outline. YOLACT (Bolya et al., 2019) lets the network draw some **prototypes**, maps for the whole image, and
# each box say with which numbers to add them up: $mask = \sigma(\sum_k c_k P_k)$, cut to the box. How many prototypes do
# eleven cells need? The network finds its own by gradients. Here both are found by least squares, in turns: the numbers for
# given maps, then the maps for given numbers. What lies outside an object's box does not count, since it is cut off.

# %%
wide = SyntheticCells(3, size=128, seed=3)[0]
cells = np.stack([wide.instances == n for n in np.unique(wide.instances[wide.instances > 0])])
in_box = np.zeros(cells.shape)
for counts, cell in zip(in_box, cells):
    r, c = np.nonzero(cell)
    counts[r.min() : r.max() + 1, c.min() : c.max() + 1] = 1
counts, wanted = in_box.reshape(len(cells), -1), 2.0 * cells.reshape(len(cells), -1) - 1  # 1 in the cell, -1 outside


def prototypes(k, rounds=8):
    """Numbers (n, k) and maps (k, pixels) whose products are right in the boxes."""
    numbers, ridge = rng.standard_normal((len(cells), k)), 0.1 * np.eye(k)
    for _ in range(rounds):
        normal = np.einsum("nk,nl,np->pkl", numbers, numbers, counts, optimize=True) + ridge
        maps = np.linalg.solve(normal, ((counts * wanted).T @ numbers)[..., None])[..., 0].T
        normal = np.einsum("kp,lp,np->nkl", maps, maps, counts, optimize=True) + ridge
        numbers = np.linalg.solve(normal, ((counts * wanted) @ maps.T)[..., None])[..., 0]
    return numbers, maps


drawn, iou = {}, {}
for k in (1, 2):
    numbers_of, maps = prototypes(k)
    drawn[k] = ((numbers_of @ maps > 0) & (counts > 0)).reshape(cells.shape)
    iou[k] = (drawn[k] & cells).sum((1, 2)) / (drawn[k] | cells).sum((1, 2))
    print(f"{k} prototype{'s' * (k > 1)} for {len(cells)} cells: IoU {iou[k].mean():.3f}, the worst {iou[k].min():.3f}")
assert iou[1].mean() > 0.9 and iou[2].mean() > 0.99 and iou[2].min() > iou[1].min() + 0.05

worst = int(iou[1].argmin())
figure, axes = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
axes[0].imshow(object_outlines(wide.image, wide.instances))
bare(axes[0], f"{len(cells)} cells")
for n, ax in enumerate(axes[1:3]):
    ax.imshow(maps[n].reshape(wide.instances.shape), cmap="RdBu", vmin=-1.5, vmax=1.5)
    bare(ax, f"prototype {n + 1} of 2")
for k, ax in zip((1, 2), axes[3:]):
    ax.imshow(wide.image[..., 0], cmap="gray", vmin=0, vmax=1)
    ax.contour(drawn[k][worst], [0.5], colors=ORANGE, linewidths=2)
    r, c = np.nonzero(in_box[worst])
    ax.add_patch(Rectangle((c.min() - 0.5, r.min() - 0.5), np.ptp(c) + 1, np.ptp(r) + 1, fill=False, ec=BLUE, lw=1.5))
    bare(ax, f"one cell's mask, {k} prototype{'s' * (k > 1)}")
plt.show()

# %% [markdown]
# One prototype, the foreground, is right for every cell whose box holds no other. With two, neighbours are told apart: where
# their boxes overlap, one sum of the two maps is positive in one cell, and another sum in the other. Since masks are cut to
# their boxes, so few maps are enough; YOLACT has 32.
#
# ### All of it in one network
#
# `instance_net` puts this together: an encoder; a pyramid of four maps, from a quarter of the image's size down (small objects
# are found on the large maps, large ones on the small); the same two towers of convolutions on each; and the prototypes.
# Every pixel of the four maps says: is there an object, how far are its box's four sides, how central am I, and the numbers for
# the mask. What follows you have seen here: scores times centre-ness, suppression, masks cut to boxes.

# %%
net = build("instance_net", in_channels=1, encoder_width=1 / 8, width=16, prototypes=8)
*levels, maps = net(image[None, ..., None].astype(np.float32))
for level in levels:
    _, H, W, C = level.shape
    print(f"{H:2} x {W:2} places, each with {C} numbers: 1 class, 4 sides, 1 centre-ness, {C - 6} for the mask")
print(f"{maps.shape[1]} x {maps.shape[2]} pixels of {maps.shape[3]} prototypes")
assert [level.shape[1] for level in levels] == [16, 8, 4, 2] and maps.shape == (1, 32, 32, 8)

# %% [markdown]
# ## Which for what
#
# | answer | says | good at | not made for |
# | --- | --- | --- | --- |
# | U-Net | a class for each pixel | anything with outlines; few images | touching objects, without a trick (lesson 07) |
# | SegNet | the same | little memory | fine detail that was no maximum |
# | DeepLab v3+ | the same | large context; encoders trained before | few, small images |
# | polygons | objects | nuclei, round cells, crowded | bananas, nets, holes |
# | boxes and masks | objects of any shape, with classes | few large objects | crowds, where boxes of neighbours overlap |
#
# From the command line: `python -m minunet.train --arch segnet`, `--arch deeplab_v3plus`, `--arch instance_net`, and
# `--target stardist` for any network that ends at full size. Read `minunet/models/segnet.py`,
# `minunet/models/deeplab_v3plus.py`, `minunet/data/stars.py`, `minunet/ops/stars.py`, `minunet/predict/stars.py`,
# `minunet/models/instance_net.py`, `minunet/predict/detections.py` and `minunet/ops/detection.py`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** Max-pooling of $4 \times 4$ windows with stride 4. What share of a skip's memory (float32) do winners of one
# byte take?
#
# <details>
# <summary>Answer</summary>
#
# One byte for sixteen numbers of four bytes: 1/64. With $2 \times 2$ windows it is 1/16.
#
# </details>
#
# **2.** Three dilated $3 \times 3$ filters in a row, with dilations 2, 2, 2 or 1, 2, 4. How wide do they see, and how
# many pixels of that square do they read?
#
# <details>
# <summary>Answer</summary>
#
# $1 + 2 (2 + 2 + 2) = 13$ and $1 + 2 (1 + 2 + 4) = 15$. The first reads 49 of 169 pixels, only those an even number of
# rows and columns away; the second reads all 225.
#
# </details>
#
# **3.** Boxes of $10 \times 10$ pixels, one moved by 3 or by 5 pixels along one side. Does a suppression at IoU 0.5
# keep both? What does that mean for cells in a row?
#
# <details>
# <summary>Answer</summary>
#
# Moved by 3 the IoU is $70 / 130 = 0.54$: one goes. Moved by 5 it is $50 / 150 = 0.33$: both stay. Neighbours that
# overlap by more than two thirds of a side are taken for one; a lower threshold would lose true neighbours, a higher
# one would keep doubles.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/unpool.py`: unpooling, both ways
# * `python -m minunet.grade tutorials/exercises/image_pooling.py`: the pyramid's image pooling, both ways
# * `python -m minunet.grade tutorials/exercises/nms.py`: non-maximum suppression of boxes
# * `python -m minunet.grade tutorials/exercises/star_distances.py`: star distances of labelled objects
#
# On your own, each with a check:
#
# 1. **Two bits.** A winner of a $2 \times 2$ window needs two bits, not a byte. Pack four into a byte, and unpack them.
#    *Check:* `unpack(pack(winners))` equals `winners`, in a quarter of the bytes.
# 2. **No holes.** Which three dilations see 25 pixels without leaving one out? *Check:* `width(v) == 25` and `(v > 0).sum()
#    == 625` for `v = seen(33, ...)`.
# 3. **How many rays?** Draw `best_polygon(shapes["ellipse"], count)[0]` for counts from 4 to 64. From where on is it not
#    the rays that limit it, but the pixels? *Check:* the curve is flat there.
# 4. **Fast NMS.** YOLACT sorts, and drops every box that overlaps *any* better one, dropped or not. Write it without a
#    loop. *Check:* it keeps no more than `suppress` does; find three boxes where it keeps fewer.
# 5. **Lost in a crowd.** Two long cells cross each other at right angles, or lie side by side at 45 degrees. Which IoU have
#    their boxes, and what do polygons and boxes make of them? *Check:* `overlaps_of_boxes`, and `suppress` with `most=0.4`.
