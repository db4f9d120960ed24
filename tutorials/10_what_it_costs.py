# %% [markdown]
# # 10 What it costs
#
# **You will be able to**
#
# * count a U-Net's parameters, operations and bytes before it runs, and say on which level they lie;
# * say what is in memory at each moment, and why training needs several times as much as inference;
# * measure time and memory by image size, fit the right law to them, and read the law;
# * say beforehand whether an image fits, and what to do if it does not.
#
# You need lessons 05 (the network and its caches), 06 (what an optimiser remembers) and 08 (intensity, fusion).

# %%
import json
import time
import tracemalloc
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minunet

minunet.use("reference")  # plain ops: Python can count every byte that they ask for
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
START = Path(globals().get("__file__", ".")).resolve()  # a notebook has no __file__: then where it was started
BENCH = next(p / "bench" for p in (START, *START.parents) if (p / "bench" / "conv_ladder").is_dir())
MIB, GIB = 2**20, 2**30
rng = np.random.default_rng(0)


def tidy(ax, **labels):
    """An open frame, and its labels."""
    ax.set(**labels)
    ax.spines[["top", "right"]].set_visible(False)


# %% [markdown]
# ## Three rules for a U-Net
#
# A $3 \times 3$ convolution of an $H \times W$ map from C channels to K has
#
# $$9 \, C K \text{ parameters}, \qquad 2 \cdot 9 \, C K \, H W \text{ operations}, \qquad K \, H W \text{ numbers as output.}$$
#
# One level down, H and W are half and the channels double. So, per convolution, at each level down
#
# * the parameters are **four times** as many,
# * the operations stay **the same**,
# * the output is **half** as large.
#
# `minunet.summary` sends a shape through the model's own forward and counts, without computing anything. Here is the
# network of the paper, with padding: 31 million parameters.

# %%
network = minunet.UNet(3, 2)
SIZE = 512
costs = minunet.summary(network, (1, SIZE, SIZE, 3))
convs = [row for row in costs.rows if row.name.endswith("conv2") and not row.name.startswith("decoder")]
for upper, lower in pairwise(convs):  # the second convolutions of encoder.0, encoder.1, ..., bottom
    assert lower.params == 4 * upper.params
    assert lower.flops == upper.flops == 2 * upper.params * upper.output[1] * upper.output[2]
    assert 2 * np.prod(lower.output) == np.prod(upper.output)
print("\n".join(str(costs).splitlines()[-4:]))

by_level = defaultdict(lambda: np.zeros(3))
for row in costs.rows:
    level = int(np.log2(SIZE / row.output[1]))
    by_level[level] += row.params / 1e6, row.flops / 1e9, row.kept / MIB
totals = sum(by_level.values())
np.testing.assert_allclose(totals, (network.num_params() / 1e6, costs.flops / 1e9, costs.kept / MIB))

figure, axes = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained", sharey=True)
titles = ("parameters, million", "operations, GFLOP", "kept for the backward, MiB")
for n, (ax, title, colour) in enumerate(zip(axes, titles, (PINK, BLUE, ORANGE))):
    values = [by_level[level][n] for level in range(5)]
    ax.barh(range(5), values, color=colour, height=0.65)
    for level, value in enumerate(values):
        ax.text(value + 0.02 * max(values), level, f"{value:.3g}", va="center", fontsize=9)
    tidy(ax, xticks=[], xlim=(0, 1.18 * max(values)))
    ax.set_title(f"{title}: {totals[n]:,.0f}", fontsize=10)
axes[0].set_yticks(range(5), [f"{SIZE >> level} x {SIZE >> level}" for level in range(5)])
axes[0].set_ylabel("maps of a level")
axes[0].invert_yaxis()
plt.show()
assert by_level[4][0] > by_level[0][0] * 50 and by_level[0][2] > by_level[4][2] * 10

# %% [markdown]
# **The parameters lie at the bottom, the memory at the top, the work everywhere** (the decoders' first convolutions read two
# maps, so levels with a decoder have more than the bottom). Who wants a smaller file takes channels from the bottom; who is
# short of memory must do something about the uppermost levels.
#
# ## What depends on the image, and what does not
#
# Parameters have no H and no W in their formula. The model is equally large for any image. Operations and maps are
# proportional to the number of pixels, and a batch of images is nothing but more pixels.

# %%
sizes = (64, 128, 256, 512)
many = [minunet.summary(network, (1, n, n, 3)) for n in sizes]
assert len({s.params for s in many}) == 1 and len({s.weight_bytes for s in many}) == 1
for one, four in pairwise(many):
    assert four.flops == 4 * one.flops and four.kept == 4 * one.kept
batch = minunet.summary(network, (16, 128, 128, 3))
assert (batch.flops, batch.kept) == (many[3].flops, many[3].kept)  # 16 images of a sixteenth of the pixels

published = json.loads((BENCH / "results" / "published_cpu.json").read_text())
assert abs(costs.weight_bytes / MIB - published["model_mib"]) < 0.1
print(f"the model: {costs.params:,} numbers of 4 bytes, {costs.weight_bytes / MIB:.1f} MiB, whatever the image")

# %% [markdown]
# A training step is forward, the gradient of the maps, and the gradient of the weights: three times the operations.
#
# ## Memory while it runs
#
# A number takes memory from the moment it is made until nobody needs it. At **inference** a map may go as soon as the next
# one is there, but for the skips: each waits for its decoder. In **training** caches wait, too: nearly everything that the
# forward makes stays until the backward comes by.
#
# Watch it. Python's `tracemalloc` knows how many bytes NumPy holds. Note the most that were in use while each layer ran, in
# a small network.


# %%
def memory_as_it_runs(model, x, train):
    """For each layer in the order of running, "d " before those of the backward: the most bytes of maps, and of the weights'
    gradients so far, meanwhile."""
    steps = []

    def noting(name, method):
        def run(*args, **options):
            tracemalloc.reset_peak()
            result = method(*args, **options)
            steps.append((name, tracemalloc.get_traced_memory()[1] + x.nbytes))
            return result

        return run

    leaves = [(name, m) for name, m in model.modules() if not m.children]  # those that are not made of others
    for name, m in leaves:
        m.forward, m.backward = noting(name, m.forward), noting("d " + name, m.backward)
    model.zero_grad()  # before the forward, whose maps may need the memory
    tracemalloc.start()
    y, caches = model.forward(x, train=train, keep=train)
    if train:
        model.backward(np.ones_like(y), caches)
    tracemalloc.stop()
    for _, m in leaves:
        del m.forward, m.backward
    return steps


small = minunet.UNet(1, 2, base_width=8, depth=3, seed=0)
x = rng.standard_normal((1, 128, 128, 1), np.float32)
prediction = minunet.summary(small, x.shape)
predicted = {
    "inference": prediction.inference_peak - prediction.weight_bytes - prediction.scratch,  # the maps alone
    "training": prediction.training_peak(1) - 2 * prediction.weight_bytes - prediction.scratch,  # and the gradients
}
watched = {"inference": memory_as_it_runs(small, x, False), "training": memory_as_it_runs(small, x, True)}

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", width_ratios=[1, 2], sharey=True)
for ax, (what, steps) in zip(axes, watched.items()):
    used = np.array([bytes_ for _, bytes_ in steps]) / MIB
    backward = np.array([name.startswith("d ") for name, _ in steps])
    colours = np.where(backward, ORANGE, BLUE)
    ax.bar(np.arange(len(used)), used, width=1, color=colours)
    ax.axhline(predicted[what] / MIB, color="#333333", lw=1, ls=(0, (4, 3)))
    ax.text(0, predicted[what] / MIB, " predicted peak", va="bottom", fontsize=9)
    names = [name for name, _ in steps]
    bottoms = [n for n, name in enumerate(names) if "bottom.conv1" in name]
    for n in bottoms:
        ax.text(n, used[n] + 0.15, "bottom", ha="center", rotation=90, va="bottom", fontsize=8)
    tidy(ax, xlabel="layers, one after the other", xticks=[], ylim=(0, 1.15 * predicted["training"] / MIB))
    ax.set_title(what + (": forward, then backward" if backward.any() else ""), fontsize=10)
    assert abs(max(used) * MIB / predicted[what] - 1) < 0.1
axes[0].set_ylabel("MiB of maps and gradients in use")
plt.show()

# %% [markdown]
# Inference stays flat. Its worst moment is in the last decoder, where maps are large and the skip lies beside them. Training
# climbs to the loss. On the way back each cache is used once and dropped, so the mountain is taken down as it was built. Its
# summit is where forward and backward meet.
#
# In training there are, besides: a **gradient** for each weight, and what the optimiser remembers, once the weights for
# momentum, twice for Adam (lesson 06). These do not depend on the image. So for small images they weigh most, and for large
# ones they hardly count. Gradients become more while maps become fewer: at the summit there are hardly any, if those of the
# step before have gone (`zero_grad` before the forward).

# %%
figure, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
shown = (128, 256, 512, 1024)
for place, n in enumerate(shown):
    plain, fused = (minunet.summary(network, (1, n, n, 3), fused=f) for f in (False, True))
    W = plain.weight_bytes
    for shift, s, training in ((-0.3, fused, False), (0, fused, True), (0.3, plain, True)):
        peak = s.training_peak(1) if training else s.inference_peak
        parts = [W, W, peak - 2 * W] if training else [W, 0, peak - W]
        assert sum(parts) == peak and min(parts) >= 0
        shares = np.array(parts) / peak
        base = 0
        for share, colour in zip(shares, (PINK, GREEN, BLUE)):
            ax.bar(place + shift, share, bottom=base, width=0.26, color=colour)
            base += share
        name = "inference" if not training else "plain" if s is plain else "training"
        ax.text(place + shift, 1.02, f"{name}\n{peak / GIB:.2f} GiB", ha="center", fontsize=8)
ax.set_xticks(range(len(shown)), [f"{n} x {n}" for n in shown])
tidy(ax, ylabel="share of the peak", ylim=(0, 1.22), yticks=(0, 0.5, 1))
for colour, label in ((PINK, "weights"), (GREEN, "momentum"), (BLUE, "maps, gradients")):
    ax.bar(0, 0, color=colour, label=label)
ax.legend(frameon=False, ncols=3, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.08))
plt.show()

# %% [markdown]
# Left and middle bars: minunet's kernels, which store convolutions' raw outputs only (lesson 08). Right bars: training with
# the plain ops, which store every map. Fusion saves memory as well as time.
#
# ## Measure, by image size
#
# Now time and memory of the small network, with plain ops, on images of 64 to 256 rows. The prediction is a claim: check it.


# %%
def step(model, x, train):
    """One inference, or a forward and a backward."""
    y, caches = model.forward(x, train=train, keep=train)
    if train:
        model.backward(np.ones_like(y), caches)


def seconds(call, least=0.2):
    """The shortest of several calls: what disturbs only makes them longer."""
    times = []
    while len(times) < 3 or sum(times) < least:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


sizes = (64, 96, 128, 192, 256)
measured = {"inference": {}, "training": {}}
for n in sizes:
    x = rng.standard_normal((1, n, n, 1), np.float32)
    s = minunet.summary(small, x.shape)
    for what, peak in (("inference", s.inference_peak), ("training", s.training_peak(1))):
        train = what == "training"
        t = seconds(lambda x=x, train=train: step(small, x, train))
        maps = max(bytes_ for _, bytes_ in memory_as_it_runs(small, x, train))
        foreseen = peak - (2 if train else 1) * s.weight_bytes
        measured[what][n] = t, maps, foreseen
        assert abs(foreseen / maps - 1) < 0.1
        print(f"{n} x {n} {what:<10}{1e3 * t:8.1f} ms{maps / MIB:8.2f} MiB, predicted {foreseen / MIB:.2f}")

# %% [markdown]
# ## Which law?
#
# **Memory** is a constant (weights, momentum, some gradients) and a share that goes with the pixels: a straight line,
# $a + b \cdot \text{pixels}$. Its slope says what a pixel costs.
#
# **Time** may go with any power. A power law $t = s \cdot P^p$ is a straight line when both axes are logarithmic:
# $\log t = \log s + p \log P$. Fit the logarithms, and the slope is the power:
#
# * $p = 1$: every pixel takes the same time. That is what the count of operations says.
# * $p < 1$: there is something that does not depend on the image, the overhead of calls, say.
# * $p > 1$: a pixel of a large image takes *longer*. The operations are the same. So it is memory: what stayed in a cache
#   no longer does.


# %%
def fit_power(points):
    """(s, p) of t = s * megapixels^p through a dict of size to t."""
    p, log_s = np.polyfit(np.log([n * n / 1e6 for n in points]), np.log(list(points.values())), 1)
    return np.exp(log_s), p


assert np.allclose(fit_power({n: 3 * (n * n / 1e6) ** 1.3 for n in sizes}), (3, 1.3))  # it finds a law that is there

figure, (ax, bx) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
pixels = np.array(sizes) ** 2
for what, colour in (("inference", BLUE), ("training", ORANGE)):
    t, maps, foreseen = np.array(list(measured[what].values())).T
    s, p = fit_power(dict(zip(sizes, t)))
    ax.plot(sizes, 1e3 * t, "o", color=colour, label=f"{what}: power {p:.2f}")
    ax.plot(sizes, 1e3 * s * (pixels / 1e6) ** p, color=colour, lw=1.2)
    b, a = np.polyfit(pixels, maps, 1)
    assert np.allclose(a + b * pixels, maps, rtol=0.05)  # a straight line it is
    bx.plot(pixels, maps / MIB, "o", color=colour, label=f"{what}: {b:.0f} bytes a pixel")
    bx.plot(pixels, foreseen / MIB, color=colour, lw=1.2)
tidy(ax, xscale="log", yscale="log", xlabel="rows and columns", ylabel="ms")
ax.set_xticks(sizes, sizes)
ax.xaxis.set_minor_formatter(plt.NullFormatter())
ax.set_title("time, both axes logarithmic; lines: fitted", fontsize=10)
tidy(bx, xlabel="pixels", ylabel="MiB of maps", ylim=(0, None))
bx.set_xticks(pixels, [f"{n}²" for n in sizes])
bx.set_title("memory; lines: predicted by minunet.summary", fontsize=10)
ax.legend(frameon=False)
bx.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The published table
#
# A talk of December 2023 published time and memory of this network on a CPU, for images of 256 to 1280 rows. Its hardware
# and framework are not stated. `bench/published.py` measures the same with minunet and its peers and keeps the results in
# `bench/results/`. We read them from there: the network with 31 million parameters, the kernels of lesson 08.

# %%
machine, threads = published["machine"], published["setting"]["threads"]
times, peaks = (defaultdict(dict) for _ in range(2))
for row in published["rows"]:
    who, what, n = (
        row["who"].split()[0],
        row["what"],
        row["size"],
    )  # "PyTorch NCHW" and "PyTorch channels_last": the better
    if row["turns"] != 0:
        times[what, who][n] = min(row["seconds"], times[what, who].get(n, np.inf))
    if row["peak_mib"]:
        peaks[what, who][n] = row["peak_mib"] / 1024
contestants = {"published": GREY, "PyTorch": RED, "OpenVINO": BLUE, "minunet": GREEN}
print(f"seconds; in brackets how many times minunet's\n{'':>22}" + "".join(f"{who:>18}" for who in contestants))
for what in ("inference", "training"):
    ours = times[what, "minunet"]
    for n in ours:
        found = [times[what, who].get(n) for who in contestants]
        print(
            f"{what:<10}{n:>6} x {n:<4}" + "".join(f"{t:>11.3f} ({t / ours[n]:.1f})" if t else " " * 18 for t in found)
        )

figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained", sharex=True)
powers = {}
for (above, below), what in zip(axes.T, ("inference", "training")):
    for who, colour in contestants.items():
        if points := times[what, who]:
            s, powers[what, who] = fit_power(points)
            line = s * (np.array(list(points)) ** 2 / 1e6) ** powers[what, who]
            above.plot(points.keys(), points.values(), "o", color=colour)
            above.plot(points.keys(), line, color=colour, lw=1.2, label=f"{who}: power {powers[what, who]:.2f}")
        if points := peaks[what, who]:
            below.plot(points.keys(), points.values(), "o-", color=colour, lw=1.2, label=who)
    ours = [row for row in published["rows"] if row["what"] == what and row["predicted_mib"]]
    below.plot([row["size"] for row in ours], [(row["predicted_mib"] + row["base_mib"]) / 1024 for row in ours], "_",
               color="#333333", ms=16, label="minunet, predicted")  # fmt: skip
    assert all(abs(row["error_percent"]) < 25 for row in ours)
    for ax, unit, kind in ((above, "seconds", "time"), (below, "GiB", "peak memory of the process")):
        tidy(ax, xscale="log", yscale="log", ylabel=unit)
        ax.set_title(f"{what}: {kind}", fontsize=10)
        ax.legend(frameon=False, fontsize=9)
        ax.set_xticks((256, 512, 1024, 1280), (256, 512, 1024, 1280))
        ax.xaxis.set_minor_formatter(plt.NullFormatter())
        ax.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(plt.NullFormatter())
figure.supxlabel(f"rows and columns of the image; {machine}, {threads} threads", fontsize=9)
plt.show()
assert all(powers[what, "published"] > 1.2 for what in ("inference", "training"))

# %% [markdown]
# Read the powers. The published times grow faster than the pixels. From 256 to 1280 rows the operations are 25 times as many;
# how many times as long did it take? So that program waits for memory, and the more the larger the image. A program that is
# blocked for the caches and fused can keep its power near 1.
#
# The memory's curves bend: on logarithmic axes a constant plus a line is flat first, and straight with slope 1 in pixels
# later. The constant is the process itself (Python, libraries) and the weights.

# %%
for what in ("inference", "training"):
    published_ratio, ours = (times[what, who][1280] / times[what, who][256] for who in ("published", "minunet"))
    print(f"25 times the pixels, {what}: published {published_ratio:.0f} times as long, minunet {ours:.0f} times")
    assert published_ratio > 2 * 25

# %% [markdown]
# ## Will it fit?
#
# Two predictions give the straight line, and the line turned round gives the largest image for a memory. No image of that
# size need exist.


# %%
def line_of(what, **options):
    """(a, b) of the predicted peak a + b * pixels, for the large network."""
    pixels, values = [], []
    for n in (512, 1024):
        s = minunet.summary(network, (1, n, n, 3), fused=True)
        pixels.append(n * n)
        values.append(s.inference_peak if what == "inference" else s.training_peak(**options))
    b = (values[1] - values[0]) / (pixels[1] - pixels[0])
    return values[0] - b * pixels[0], b


def largest(memory, what, multiple=16):
    """Rows of the largest square image whose peak is at most `memory` bytes."""
    a, b = line_of(what)
    return int(np.sqrt(max(0, memory - a) / b)) // multiple * multiple


def peak_of(n, what):
    """The predicted peak for one image of n x n."""
    s = minunet.summary(network, (1, n, n, 3), fused=True)
    return s.inference_peak if what == "inference" else s.training_peak(1)


for memory in (2, 4, 8, 16):
    sides = {what: largest(memory * GIB, what) for what in ("inference", "training")}
    for what, n in sides.items():
        assert peak_of(n, what) <= memory * GIB < peak_of(n + 16, what)  # the largest indeed
    print(f"{memory:>3} GiB: " + ", ".join(f"{what} {n} x {n}" for what, n in sides.items()))

# %% [markdown]
# To that comes the process itself, Python and its libraries (`base_mib` in the table), and what else runs. And if it does
# not fit? Each lever has its price, and `summary` says it beforehand:

# %%
levers = {
    "as it is": (network, (1, 512, 512, 3)),
    "half the width": (minunet.UNet(3, 2, base_width=32), (1, 512, 512, 3)),
    "one level less": (minunet.UNet(3, 2, depth=3), (1, 512, 512, 3)),
    "half the rows and columns": (network, (1, 256, 256, 3)),
}
head = f"{'':<28}{'parameters':>12}{'GFLOP':>8}{'inference':>12}{'training':>12}"
print(head)
found = {name: minunet.summary(model, shape, fused=True) for name, (model, shape) in levers.items()}
for name, s in found.items():
    print(
        f"{name:<28}{s.params:>12,}{s.flops / 1e9:>8.0f}{s.inference_peak / GIB:>8.2f} GiB{s.training_peak(1) / GIB:>8.2f} GiB"
    )
whole, half, shallow, quarter = found.values()
assert (
    3.8 < whole.flops / half.flops < 4.1
    and 1.9 < whole.kept / half.kept < 2.1
    and 3.9 < whole.params / half.params < 4.1
)
assert shallow.params < 0.3 * whole.params and shallow.kept > 0.9 * whole.kept  # the file shrinks, the memory hardly
assert quarter.params == whole.params and 4 * quarter.kept == whole.kept

# %% [markdown]
# * **Half the width**: a quarter of the parameters and of the time, half of the maps.
# * **A level less**: the file shrinks, the memory hardly. The bottom is where parameters lie, not maps.
# * **Crops or tiles**: a quarter of everything but the weights. Training on crops, and inference by tiles that overlap by
#   the receptive field (lesson 01), give a peak that does not depend on the image at all. `python -m minunet.predict` does
#   so with very large images.
# * **A smaller batch**: as with fewer pixels; but batch norm sees fewer of them (lesson 04).
#
# `print(minunet.summary(model, shape))` shows the whole table of any model. `python bench/published.py --sizes 256` measures
# your machine, with the kernels.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** You double the width and halve rows and columns of the images. What happens to parameters, operations, and what
# is kept for the backward?
#
# <details>
# <summary>Answer</summary>
#
# Parameters times 4; operations the same (a quarter of the pixels, four times the work for each); kept half (a quarter
# of the pixels, twice the channels).
#
# </details>
#
# **2.** You add a level at the bottom: depth 5 instead of 4, at $512 \times 512$. Which of the three grows most?
#
# <details>
# <summary>Answer</summary>
#
# Parameters: times 4.0. Operations grow by a quarter, and what is kept by 3 %: the new level's maps are the smallest of
# all.
#
# </details>
#
# **3.** From 256 to 1280 rows a program takes 60 times as long, not 25 times. Which explanations are ruled out by
# counting operations, and what is left?
#
# <details>
# <summary>Answer</summary>
#
# The operations are 25 times as many for everybody, so it is not the network, nor the number of calls (a constant,
# which makes the ratio *smaller*). What is left is the time for an operation: maps that stayed in a cache no longer do,
# memory that is swapped or allocated anew, or a machine that was slowed down.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/unet_cost.py`: a U-Net's parameters, operations and kept bytes, foretold to
#   the last one. (The plain ops keep every map; the file says which.)
#
# On your own, each with a check:
#
# 1. **By hand.** Parameters and operations of `decoder.0.conv1` on $512 \times 512$ pixels: which C does it read? *Check:*
#    the row of that name in `costs.rows`.
# 2. **Recompute.** Instead of each cache keep only the input of each block (`encoder.0`, ...), and run the block's forward
#    again before its backward. How many bytes does that save, and what part of a step's operations does it add? *Check:*
#    sum `kept` of `costs.rows` by `row.name.rpartition(".")[0]`; the operations are the forward's once more, a third.
# 3. **Extrapolate.** Fit the law to `times["inference", who]` of 256 to 576 rows and predict 1280. Whose prediction is good,
#    whose is not, and why? *Check:* against the same table.
# 4. **A GPU's memory.** `GIBIBYTES["cuda"]["training"]` in `bench/talk.py` is the talk's table for a GPU. Fit
#    $a + b \cdot \text{pixels}$. How many bytes a pixel, and how many maps of 64 float32 channels is that? *Check:* your b
#    lies between those of `minunet.summary(network, shape, fused=True).training_peak(1)` and `fused=False`.
# 5. **Half precision.** Which parts of the peak halve if all arrays are float16, and which should not, if small updates are
#    not to be lost? *Check:* `network.convert(lambda a: a.astype(np.float16))`, then `minunet.summary`; for the last part
#    add $10^{-4}$ to a float16 weight of 1.
