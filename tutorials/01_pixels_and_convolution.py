# %% [markdown]
# # 01 Pixels and convolution
#
# **You will be able to**
#
# * read an image as an array of numbers, and a filter as another;
# * say how large a convolution's output is, for any padding and stride, and what a zero border does to it;
# * write a convolution as seven loops, as one matrix product (im2col), and as nine shifted products, and show that all agree;
# * say which input pixels an output pixel depends on.
#
# You need Python and NumPy, and about 20 minutes to read; the exercises take longer. If you would rather begin at once, read to
# the formula under "Taking fewer" and write the first of them, `tutorials/exercises/filter_image.py`: its filter has a weight
# for every channel of the pixels, and sums over these, too. (`python -m minunet.grade FILE` grades it.) The lesson ends with
# the function that `minunet/ops/conv.py` holds, and you can write that as well.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from threadpoolctl import threadpool_limits

import minunet
from minunet import ops
from minunet.data import SyntheticCells

minunet.use(
    "reference"
)  # minunet's plain ops, as one reads them in minunet/ops; its fast kernels come in a later lesson
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


def write_numbers(ax, a, form="{:.2f}", size=8):
    """Write every number of a small matrix into its cell, in black or white, whichever is readable there."""
    image = ax.images[0]
    for (row, column), value in np.ndenumerate(a):
        red, green, blue, _ = image.cmap(image.norm(value))
        colour = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        ax.text(column, row, form.format(value), ha="center", va="center", fontsize=size, color=colour)


# %% [markdown]
# ## An image is an array
#
# A microscope counts light on a grid. One number a pixel is a grey image, three are a colour image. We keep images as
# $(H, W, C)$: row, column, channel. Rows count downwards. A *batch* of $N$ images is $(N, H, W, C)$; everything in minunet
# has this layout, called **NHWC**.
#
# minunet generates pictures of cells, so that you need no data. Brightness is scaled to about 0..1.

# %%
sample = SyntheticCells(1, size=128, seed=3)[0]
image = sample.image
assert image.shape == (128, 128, 1) and image.dtype == np.float32
x = image[None]  # a batch of one
assert x.shape == (1, 128, 128, 1)  # N, H, W, C

top, left, side = 49, 83, 8
zoom = image[top : top + side, left : left + side, 0]
figure, (a, b) = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
a.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
a.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, ec=ORANGE, lw=2))
bare(a, "128 x 128 pixels of generated cells")
b.imshow(zoom, cmap="gray", vmin=0, vmax=1)
write_numbers(b, zoom)
bare(b, f"the framed {side} x {side} of them: rows {top}-{top + side - 1}, columns {left}-{left + side - 1}")
plt.show()

# %% [markdown]
# ## A filter is a small array of weights
#
# Lay a $3 \times 3$ filter onto the image. Multiply what lies on top of each other and add up. That is one output number.
# Move the filter by a pixel for the next one:
#
# $$y[h, w] = \sum_{i=0}^{2} \sum_{j=0}^{2} x[h + i, w + j] \; w[i, j]$$
#
# The nine positions $(i, j)$ within the filter are its **taps**. ($h$ and $w$ alone are a row and a column, here and below;
# $w[i, j]$ with brackets is a weight of the filter.)

# %%
across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 4  # right minus left: Sobel's filter
patch = zoom[3:6, 3:6]
number = (patch * across).sum()

figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
axes[0].imshow(patch, cmap="gray", vmin=0, vmax=1)
axes[1].imshow(across, cmap="PuOr", vmin=-0.6, vmax=0.6)
axes[2].imshow(patch * across, cmap="PuOr", vmin=-0.6, vmax=0.6)
for ax, values in zip(axes, (patch, across, patch * across)):
    write_numbers(ax, values, size=11)
for ax, title in zip(axes, ("a patch of x", "times the filter w", f"products; their sum is y = {number:.3f}")):
    bare(ax, title)
plt.show()


# %% [markdown]
# Two loops move the filter, one line does the sum. This is the whole idea; what follows makes it complete and then fast.


# %%
def filter_grey(image, w):
    """Filter a grey image (H, W) with w (KH, KW), only where the filter fits: (H - KH + 1, W - KW + 1)."""
    (H, W), (KH, KW) = image.shape, w.shape
    y = np.empty((H - KH + 1, W - KW + 1), image.dtype)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            y[row, column] = (image[row : row + KH, column : column + KW] * w).sum()
    return y


grey = image[..., 0]
assert np.isclose(filter_grey(grey, across)[top + 3, left + 3], number)
patches = np.lib.stride_tricks.sliding_window_view(grey, across.shape)  # NumPy's view of all patches: (OH, OW, KH, KW)
np.testing.assert_allclose(filter_grey(grey, across), (patches * across).sum((2, 3)), atol=1e-6)

# %% [markdown]
# SciPy calls this `correlate2d`. In mathematics a *convolution* turns the filter by 180 degrees first. Deep learning leaves
# that out and says convolution all the same: the weights are learned, so their order is a matter of naming. You can see the
# difference: a single bright pixel comes out as the filter *turned round*.

# %%
impulse = np.zeros((5, 5), np.float32)
impulse[2, 2] = 1
counted = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
assert np.array_equal(filter_grey(impulse, counted), counted[::-1, ::-1])

# %% [markdown]
# ## What a filter sees
#
# The answer is large where the patch looks like the filter, since a sum of products is a dot product. A filter whose weights
# sum to 0 does not see brightness, only change. Orange is negative, purple positive.

# %%
down = across.T
filters = {
    "mean of 5 x 5": np.full((5, 5), 1 / 25, np.float32),
    "right minus left": across,
    "below minus above": down,
    "centre minus surround": np.pad(np.full((9, 9), 1 / 81), 6).astype(np.float32)
    - np.full((21, 21), 1 / 441, np.float32),
}
figure, axes = plt.subplots(2, 4, figsize=(11, 4.1), layout="constrained", height_ratios=[1, 3])
for (above, below), (name, w) in zip(axes.T, filters.items()):
    y = filter_grey(grey, w)
    is_change = abs(w.sum()) < 1e-6
    above.imshow(w, cmap="PuOr", vmin=-abs(w).max(), vmax=abs(w).max())
    limit = np.percentile(abs(y), 99)
    below.imshow(
        y, cmap="PuOr" if is_change else "gray", vmin=-limit if is_change else 0, vmax=limit if is_change else 1
    )
    bare(above, name if name.startswith("mean") else f"{name}, {w.shape[0]} x {w.shape[1]}")
    bare(below)
axes[0, 0].set_ylabel("filter", fontsize=10)
axes[1, 0].set_ylabel("what it sees", fontsize=10)
plt.show()

brighter = grey + 0.5  # change sees no brightness
assert np.allclose(filter_grey(brighter, across), filter_grey(grey, across), atol=1e-5)
assert np.allclose(
    filter_grey(brighter, filters["mean of 5 x 5"]), filter_grey(grey, filters["mean of 5 x 5"]) + 0.5, atol=1e-5
)

# %% [markdown]
# Nobody designs such filters for a network. Training finds them: some three million squares of $3 \times 3$ numbers in the
# paper's U-Net.
#
# ## The border: padding
#
# A filter of $KH$ rows fits only $H - KH + 1$ times into $H$ rows. Two choices:
#
# * **valid**: only where it fits. Each $3 \times 3$ convolution then costs two rows and two columns. The U-Net of 2015 did
#   that.
# * **same**: put zeros around the image, so that the output has the input's size. Most networks do that today.
#
# ## Taking fewer: stride
#
# With **stride** $s$ the filter moves $s$ pixels at a time. With $P$ rows of zeros added in all (above and below together),
# its last start is at or before row $H + P - KH$, so
#
# $$OH = \left\lfloor \frac{H + P - KH}{s} \right\rfloor + 1$$
#
# and the same for columns. *Valid* is $P = 0$. *Same* padding means $OH = \lceil H / s \rceil$. Solve for the smallest $P$:
# $P = (OH - 1)\,s + KH - H$, or 0 if that is negative. If $P$ is odd, the odd row goes below.


# %%
def output_size(n, k, total, stride):
    """Rows of the output for n rows, a filter of k, `total` rows of zeros."""
    return (n + total - k) // stride + 1


def same_padding(n, k, stride):
    """(before, after): so many zeros that the output has ceil(n / stride) rows."""
    total = max(0, (-(-n // stride) - 1) * stride + k - n)  # -(-n // s) is n / s rounded up
    return total // 2, total - total // 2


for n in range(3, 30):
    for k in (1, 2, 3, 5):
        for stride in (1, 2, 3):
            assert output_size(n, k, sum(same_padding(n, k, stride)), stride) == -(-n // stride)

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 3.3), layout="constrained")
for ax, (title, n, stride, pads) in zip(
    axes,
    [
        ("valid: 7 to 5", 7, 1, (0, 0)),
        ("same: 7 to 7", 7, 1, same_padding(7, 3, 1)),
        ("same, stride 2: 7 to 4", 7, 2, same_padding(7, 3, 2)),
        ("same, stride 2: 6 to 3", 6, 2, same_padding(6, 3, 2)),
    ],
):
    before, after = pads
    for row in range(-before, n + after):
        for column in range(-before, n + after):
            inside = 0 <= row < n and 0 <= column < n
            ax.add_patch(Rectangle((column, row), 1, 1, fc="#dceaf4" if inside else "white", ec=GREY, lw=0.7))
    places = np.arange(output_size(n, 3, sum(pads), stride)) * stride - before + 1.5
    ax.plot(*np.meshgrid(places, places), "o", color=BLUE, ms=5)
    ax.add_patch(Rectangle((-before, -before), 3, 3, fill=False, ec=ORANGE, lw=2.5))
    ax.set(xlim=(-1.3, 8.3), ylim=(8.3, -1.3), aspect="equal")
    ax.axis("off")
    ax.set_title(title, fontsize=10)
    assert len(places) == int(title.split()[-1])
figure.suptitle("blue squares: image; white: zeros; dots: centres of the filter; orange: its first place", fontsize=9)
plt.show()

# %% [markdown]
# Zeros are a lie about what lies beyond the border, and the output shows it. In the corner of a white image a mean over
# $9 \times 9$ pixels finds only $5 \times 5$ of them real: 25/81, less than a third of the truth. A network can learn
# to notice its border by this. (`ops.conv2d` is minunet's own convolution, which this lesson builds below. Its filters
# have an axis for rows, for columns, for input and for output channels; it returns the output and what the backward
# will need, hence `[0]`.)

# %%
white = np.ones((1, 32, 32, 1), np.float32)
mean = np.full((9, 9, 1, 1), 1 / 81, np.float32)
blurred = ops.conv2d(white, mean, padding="same")[0][0, :, :, 0]
assert np.isclose(blurred[16, 16], 1) and np.isclose(blurred[0, 16], 5 / 9) and np.isclose(blurred[0, 0], 25 / 81)

figure, ax = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
ax.imshow(blurred[:8, :8], cmap="gray", vmin=0, vmax=1)
write_numbers(ax, blurred[:8, :8])
bare(ax, "a white image's corner after a 9 x 9 mean, zeros around it")
plt.show()


# %% [markdown]
# ## Many channels: the seven loops
#
# Inside a network an image has $C$ channels, and a layer has $K$ filters, each with a weight for every tap *and* input
# channel. The weights are an array $(KH, KW, C, K)$, called **HWIO**; each output channel also has a bias $b[k]$:
#
# $$y[n, h, w, k] = b[k] + \sum_{i, j, c} x[n,\; h s + i,\; w s + j,\; c] \; w[i, j, c, k] \qquad (1)$$
#
# Four loops choose an output number, three add up. Channels are summed over: a filter always looks at *all* channels, but
# only at a small neighbourhood.


# %%
def pad_image(x, w, stride, padding):
    """x with its zeros around it, and the output's rows and columns."""
    KH, KW = w.shape[:2]
    rows = same_padding(x.shape[1], KH, stride) if padding == "same" else (0, 0)
    columns = same_padding(x.shape[2], KW, stride) if padding == "same" else (0, 0)
    OH, OW = output_size(x.shape[1], KH, sum(rows), stride), output_size(x.shape[2], KW, sum(columns), stride)
    return np.pad(x, ((0, 0), rows, columns, (0, 0))), OH, OW


def conv2d_loops(x, w, b, stride=1, padding="same"):
    """Equation (1), word for word."""
    padded, OH, OW = pad_image(x, w, stride, padding)
    N, (KH, KW, C, K) = len(x), w.shape
    y = np.empty((N, OH, OW, K), x.dtype)
    for n in range(N):
        for row in range(OH):
            for column in range(OW):
                for k in range(K):
                    total = b[k]
                    for i in range(KH):
                        for j in range(KW):
                            for c in range(C):
                                total += padded[n, row * stride + i, column * stride + j, c] * w[i, j, c, k]
                    y[n, row, column, k] = total
    return y


rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
for stride in (1, 2):
    for padding in ("same", "valid"):
        np.testing.assert_allclose(
            conv2d_loops(x, w, b, stride, padding), ops.conv2d(x, w, b, stride, padding)[0], atol=1e-12
        )

# %% [markdown]
# How much work is it? $KH \cdot KW \cdot C$ multiplications and as many additions for each of $N \cdot OH \cdot OW \cdot K$
# numbers. The first large layer of the paper's U-Net, $3 \times 3$ with 64 channels in and out on $512 \times 512$ pixels,
# needs

# %%
operations = 2 * 3 * 3 * 64 * 512 * 512 * 64
print(f"{operations / 1e9:.1f} billion operations")
assert 19e9 < operations < 20e9

# %% [markdown]
# Python takes some 0.1 to 0.5 microseconds for each: half an hour to three hours, for one layer and one image. A processor
# core can do tens of billions a second. Something must change.
#
# ## im2col: one matrix product
#
# The best-tuned function of any computer is the matrix product, in a library called BLAS; NumPy's `@` calls it. So make the
# convolution one. Write every patch as a *row* of $KH \cdot KW \cdot C$ numbers, every filter as a *column*. Then $y$ is
# rows times columns. This is **im2col**, image to columns (they once stood the other way).


# %%
def im2col(x, KH, KW, stride=1, padding="valid"):
    """Every patch of x (N, H, W, C) as a row: (N*OH*OW, KH*KW*C)."""
    padded, OH, OW = pad_image(x, np.empty((KH, KW)), stride, padding)
    N, C = len(x), x.shape[-1]
    rows = np.empty((N, OH, OW, KH, KW, C), x.dtype)
    for i in range(KH):
        for j in range(KW):
            rows[:, :, :, i, j] = padded[
                :, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride
            ]
    return rows.reshape(N * OH * OW, KH * KW * C)


def conv2d_im2col(x, w, b, stride=1, padding="same"):
    """Equation (1) as one matrix product."""
    KH, KW, C, K = w.shape
    _, OH, OW = pad_image(x, w, stride, padding)
    y = im2col(x, KH, KW, stride, padding) @ w.reshape(KH * KW * C, K) + b
    return y.reshape(len(x), OH, OW, K)


for stride in (1, 2):
    for padding in ("same", "valid"):
        np.testing.assert_allclose(
            conv2d_im2col(x, w, b, stride, padding), conv2d_loops(x, w, b, stride, padding), atol=1e-12
        )

# %% [markdown]
# Look at the rows of a $5 \times 5$ image whose pixels are numbered, with a $3 \times 3$ filter. Each row is a patch. Each
# *column* is what one tap sees. The middle pixel, 12, lies in all nine patches: it is copied nine times.

# %%
small = np.arange(25.0).reshape(1, 5, 5, 1)
rows = im2col(small, 3, 3)
assert rows.shape == (9, 9)
assert (rows == 12).sum() == 9 and (rows == 0).sum() == 1
assert list(rows[0]) == [0, 1, 2, 5, 6, 7, 10, 11, 12]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.3), layout="constrained", width_ratios=[5, 9])
for ax, values, title in (
    (left, small[0, :, :, 0], "x, its pixels numbered"),
    (right, rows, "im2col(x): a row a patch, a column a tap"),
):
    ax.imshow(values, cmap="viridis", vmin=0, vmax=24)
    write_numbers(ax, values, "{:.0f}", size=10)
    bare(ax, title)
    for row, column in np.argwhere(values == 12):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2.5))
right.set_ylabel("9 output pixels")
right.set_xlabel("9 taps")
plt.show()

# %% [markdown]
# The price is memory: away from borders every number is stored nine times. For the layer above:

# %%
bytes_of_map = 512 * 512 * 64 * 4
bytes_of_rows = 512 * 512 * (3 * 3 * 64) * 4
assert bytes_of_rows == 9 * bytes_of_map
print(f"the map: {bytes_of_map / 2**20:.0f} MiB, its im2col: {bytes_of_rows / 2**20:.0f} MiB")


# %% [markdown]
# ## Shifted products: no im2col
#
# The columns of im2col that belong to tap $(i, j)$ are a shifted copy of the image: what tap $(i, j)$ sees when the filter
# visits every place. Call it the tap's **window**. A matrix product may be summed piece by piece over its inner dimension,
# so do it tap by tap:
#
# $$y = b + \sum_{i, j} \text{window}(x, i, j) \; @ \; w[i, j] \qquad (2)$$
#
# Here $w[i, j]$ is a $C \times K$ matrix, and `@` multiplies the last axis by it, for every pixel alike. The window is a
# *view*: a slice from row $i$ on, every $s$-th row, $OH$ of them, copies nothing. The largest array is the map itself.
# Equation (2) also makes the gradients easy; that is the next lesson.

# %%
figure, axes = plt.subplots(3, 3, figsize=(5.4, 5.8), layout="constrained")
for (i, j), ax in np.ndenumerate(axes):
    ax.imshow(small[0, :, :, 0], cmap="viridis", vmin=0, vmax=24, alpha=0.25)
    shade = np.full((5, 5), np.nan)
    shade[i : i + 3, j : j + 3] = small[0, i : i + 3, j : j + 3, 0]
    ax.imshow(shade, cmap="viridis", vmin=0, vmax=24)
    ax.add_patch(Rectangle((j - 0.5, i - 0.5), 3, 3, fill=False, ec=ORANGE, lw=2.5))
    bare(ax, f"tap ({i}, {j})")
    assert np.array_equal(rows[:, 3 * i + j], small[0, i : i + 3, j : j + 3, 0].ravel())  # a column of im2col
figure.suptitle("what each tap sees: its window of x", fontsize=11)
plt.show()


# %%
def window(padded, i, j, OH, OW, stride=1):
    """The view of a padded image that tap (i, j) reads: (N, OH, OW, C)."""
    return padded[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]


def conv2d(x, w, b, stride=1, padding="same"):
    """Equation (2): x (N, H, W, C), w (KH, KW, C, K), b (K,) to y (N, OH, OW, K)."""
    padded, OH, OW = pad_image(x, w, stride, padding)
    y = np.zeros((len(x), OH, OW, w.shape[-1]), x.dtype)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            y += window(padded, i, j, OH, OW, stride) @ w[i, j]
    return y + b


assert np.shares_memory(window(x, 1, 2, 3, 3), x)  # a view, not a copy

# %% [markdown]
# Compare with minunet's own, on awkward shapes: odd sizes, a batch, one channel, filters that are not square, strides.

# %%
for N, H, W, C, K in [(1, 5, 5, 1, 1), (2, 7, 9, 3, 4), (3, 8, 6, 2, 5), (1, 1, 12, 4, 2)]:
    for KH, KW in [(1, 1), (3, 3), (2, 2), (1, 5)]:
        for stride in (1, 2):
            for padding in ("same", "valid"):
                if padding == "valid" and (KH > H or KW > W):
                    continue
                x, w, b = rng.standard_normal((N, H, W, C)), rng.standard_normal((KH, KW, C, K)), rng.standard_normal(K)
                y = conv2d(x, w, b, stride, padding)
                np.testing.assert_allclose(y, ops.conv2d(x, w, b, stride, padding)[0], atol=1e-12)
                np.testing.assert_allclose(y, conv2d_im2col(x, w, b, stride, padding), atol=1e-12)

# %% [markdown]
# ## How much faster?
#
# The same layer, $32 \times 32$ pixels and 16 channels in and out, done three ways. Note the logarithmic axis.

# %%
x = rng.standard_normal((1, 32, 32, 16)).astype(np.float32)
w, b = rng.standard_normal((3, 3, 16, 16)).astype(np.float32), np.zeros(16, np.float32)


def seconds(function, x, repeats):
    """The shortest of several runs: what disturbs only makes them longer."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function(x, w, b)
        times.append(time.perf_counter() - began)
    return min(times)


with threadpool_limits(1):  # all three on one core, so that methods are compared
    times = {
        "seven loops": 64 * seconds(conv2d_loops, x[:, :4, :4], 5),  # a 64th of the pixels, times 64
        "im2col": seconds(conv2d_im2col, x, 20),
        "shifted products": seconds(conv2d, x, 20),
    }
figure, ax = plt.subplots(figsize=(8, 2.2), layout="constrained")
ax.barh(list(times), list(times.values()), color=[GREY, BLUE, GREEN], height=0.6)
for y_, t in enumerate(times.values()):
    ax.text(t * 1.15, y_, f"{1e3 * t:,.2f} ms", va="center", fontsize=9)
ax.set(xscale="log", xlim=(min(times.values()) / 4, max(times.values()) * 8), xlabel="seconds, logarithmic")
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Three to four powers of ten without a line of C. im2col and shifted products do the same arithmetic; im2col makes one
# large product, the other nine smaller ones and no copies. On small maps either may win, on large ones memory decides.
#
# The climb goes on: `bench/conv_ladder/` has eleven rungs, one idea a file, to compiled loops, registers, caches and
# Winograd's algorithm, which needs fewer multiplications than equation (1) seems to ask for. `python bench/conv_ladder`
# measures them on your machine.
#
# ## What stacked filters see
#
# One $3 \times 3$ filter sees 3 pixels across. Two in a row see 5: the second sees 3 outputs of the first, whose patches
# overlap. With a stride in between, the next filter's step counts double. The span of inputs that reach one output is its
# **receptive field**:
#
# $$R = 1 + \sum_{l} (K_l - 1) \prod_{m < l} s_m$$
#
# with filters of $K_l$ rows and strides $s_l$; for the first layer the product is empty, 1.
#
# One can *see* it: brighten one input pixel at a time and note whether the output pixel changes. With all weights 1 the
# change counts the paths from the one to the other.


# %%
def influence(strides, size=19):
    """How much each input pixel moves the middle output pixel, through 3x3 filters of ones with these strides: (size, size)."""
    pixels = np.eye(size * size).reshape(size * size, size, size, 1)  # a batch of images, each with one bright pixel
    ones = np.ones((3, 3, 1, 1))
    for stride in strides:
        pixels = conv2d(pixels, ones, np.zeros(1), stride)
    middle = pixels.shape[1] // 2
    return pixels[:, middle, middle, 0].reshape(size, size)


def receptive_field(strides):
    """The formula, for 3x3 filters."""
    return 1 + sum(2 * int(np.prod(strides[:l])) for l in range(len(strides)))


figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
for ax, strides in zip(axes, [(1,), (1, 1), (1, 1, 1), (2, 2, 1)]):
    paths = influence(strides)
    across_it = int((paths.sum(0) > 0).sum())
    assert across_it == receptive_field(strides)
    ax.imshow(np.where(paths > 0, paths, np.nan), cmap="viridis_r")
    ax.set_facecolor("#eeeeee")
    bare(ax, f"strides {', '.join(map(str, strides))}: {across_it} x {across_it}")
figure.suptitle("which input pixels reach the middle output pixel; darker: on more paths", fontsize=10)
plt.show()

# %% [markdown]
# This is why a U-Net halves its maps on the way down: at a quarter of the side, a $3 \times 3$ filter spans four times
# as many pixels along it, at a sixteenth of the cost. (The last picture is off its centre: after the first stride of 2,
# 10 rows are left, and with an even number the odd zero lies below and to the right. Each picture has colours of its
# own.)
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** A filter's nine weights sum to 0. It slides over an image that is 0.7 everywhere, once without padding and once
# with a border of zeros. What comes out?
#
# <details>
# <summary>Answer</summary>
#
# Without padding 0 everywhere: every output is 0.7 times the sum of the weights. With the border of zeros the outputs
# along the edge are not 0: a filter cannot tell a border of zeros from a real edge between 0.7 and 0. That is why
# pixels near the border are the less certain ones of a network.
#
# </details>
#
# **2.** Two convolutions of $3 \times 3$ with stride 2 and "same" padding. How many rows do 9 and 10 rows become, and
# what follows for the way back up?
#
# <details>
# <summary>Answer</summary>
#
# Both become 5, then 3: "same" with a stride rounds up. So the size of the output does not tell that of the input, and
# whoever goes back up must remember it.
#
# </details>
#
# **3.** Textbooks flip the filter before it slides; then it is a *convolution*, and what we compute is a *correlation*.
# What changes for a network if its filters are flipped, and what if only at inference?
#
# <details>
# <summary>Answer</summary>
#
# If it is trained so, nothing: it learns the flipped filters. If it is flipped only afterwards, or when weights are
# taken over from another program, every filter is the wrong one, and no error is raised: shapes are the same.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file to where you work, write in your copy what it leaves open, and have it graded as often as you like. In
# the folder that holds `tutorials`:
#
#     cp tutorials/exercises/filter_image.py tutorials/exercises/conv_forward.py tutorials/exercises/im2col.py .
#
# * `python -m minunet.grade filter_image.py`: one filter, one image, with a stride. Begin here.
# * `python -m minunet.grade conv_forward.py`: the convolution, forwards. Against the lesson's `conv2d` it has a dilation
#   (the taps lie $d$ pixels apart), may come without a bias (`b` is None), takes the padding as numbers, too, and returns a
#   tuple. Helpers are given: `resolve_padding` makes `pads` of whatever the padding is, pairs of rows or columns before and
#   after, and `output_size` there takes rows and columns at once, and these pairs, where the lesson's takes one number each.
# * `python -m minunet.grade im2col.py`: image to columns: a convolution as one matrix product
#
# On your own, each with a check:
#
# 1. **By hand.** The image is `[[1, 2, 0], [0, 1, 3], [4, 0, 1]]`, the filter `[[1, 0], [0, -1]]`, no padding. Work out all
#    four outputs on paper. *Check:* `filter_grey(np.array(...), np.array(...))`.
# 2. **Sizes.** A network applies $3 \times 3$ valid, $3 \times 3$ valid, then a $2 \times 2$ filter with stride 2, valid.
#    For which $H$ between 20 and 30 does no row go unread? *Check:* call `output_size` three times; a row goes unread where
#    `(n + total - k) % stride` is not 0.
# 3. **Dilation.** A filter with dilation $d$ reads every $d$-th pixel: $x[h s + i d, w s + j d]$. Change `window` and
#    `output_size` for it. *Check:* `ops.conv2d(x, w, b, padding="valid", dilation=2)[0]`.
# 4. **Separable.** `across` is a column times a row: `np.outer([1, 2, 1], [-1, 0, 1]) / 4`. Filter with the row, an array
#    $(1, 3)$, then with the column, $(3, 1)$. Is it the same? How many multiplications a pixel does that save, for
#    $3 \times 3$ and for $K \times K$? *Check:* `np.testing.assert_allclose` with `atol=1e-6`, as above: float32 rounds.
# 5. **A detector.** Use the cell in `grey[75:90, 75:90]` as a $15 \times 15$ filter. The output is largest somewhere else:
#    where, and why? Now take `im2col(grey[None, ..., None], 15, 15)`, subtract from each row its mean, divide it by its
#    Euclidean norm, and do the same with the filter. *Check:* now the largest output is 1 (but for rounding) and lies at row
#    75, column 75 (`np.unravel_index(y.argmax(), (114, 114))`). Why can it not be larger than 1?
