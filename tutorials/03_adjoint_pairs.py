# %% [markdown]
# # 03 Adjoint pairs: pooling, upsampling, crop and concat
#
# **You will be able to**
#
# * see a linear layer as a matrix, and its backward as the matrix transposed;
# * prove a backward right without differences, by one equation: $\langle y, dy \rangle = \langle x, dx \rangle$;
# * write pooling, upsampling, the transposed convolution, pad, crop and concat, each with its backward;
# * say why a transposed convolution can leave a checkerboard, and why the paper's does not.
#
# You need lessons 01 and 02. These are all the layers of a U-Net that have no statistics and no loss.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.gradcheck import check, draw
from minunet.ops import conv2d, conv2d_backward
from minunet.ops.conv import output_size, window  # lesson 01's, for more cases

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


def write_numbers(ax, a, size=10):
    """Write every number of a small matrix into its cell, in black or white, whichever is readable there."""
    image = ax.images[0]
    for (row, column), value in np.ndenumerate(a):
        red, green, blue, _ = image.cmap(image.norm(value))
        colour = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=size, color=colour)


# %% [markdown]
# ## A linear layer is a matrix
#
# Without its bias a convolution is linear in x. So there is a matrix $M$ with $y = M x$, if we write all numbers of x and y
# as two long columns. To find it, feed unit vectors: column $q$ of $M$ is what comes out if only pixel $q$ is 1.
#
# Now let $L$ be the loss. By the chain rule
#
# $$dx_q = \sum_p dy_p \, M_{pq} \quad\Rightarrow\quad dx = M^T dy.$$
#
# **The backward of a linear layer is its transpose.** No layer of this lesson needs more calculus than that. Check it: feed
# unit vectors to the backward as well, and compare.


# %%
def matrix_of(f, shape):
    """The matrix of a linear function of arrays of this shape."""
    columns = []
    for q in range(int(np.prod(shape))):
        unit = np.zeros(shape)
        unit.flat[q] = 1
        columns.append(f(unit).ravel())
    return np.array(columns).T


w = np.arange(1.0, 10.0).reshape(3, 3, 1, 1)
shape = (1, 5, 5, 1)
y, cache = conv2d(np.zeros(shape), w, stride=2)
M = matrix_of(lambda x: conv2d(x, w, stride=2)[0], shape)
back = matrix_of(lambda dy: conv2d_backward(dy, cache)[0], y.shape)
assert M.shape == (9, 25) and np.array_equal(back, M.T)

figure, (a, b) = plt.subplots(1, 2, figsize=(9.5, 5.2), layout="constrained", width_ratios=[25, 9])
for ax, matrix, title in ((a, M, "conv2d, stride 2: 25 pixels to 9"), (b, back, "its backward: 9 to 25")):
    ax.imshow(np.where(matrix, matrix, np.nan), cmap="viridis", vmin=0, vmax=9)
    write_numbers(ax, np.where(matrix, matrix, np.nan), size=7)
    for text in ax.texts:
        text.set_visible(text.get_text() != "nan")
    bare(ax, title)
a.set(xlabel="pixel of x", ylabel="pixel of y")
b.set(xlabel="pixel of dy", ylabel="pixel of dx")
plt.show()

# %% [markdown]
# A row of $M$ is the filter, laid over the pixels that one output reads; nine numbers, fewer at the border. Everything else
# is 0, and nobody would ever store it. The matrix is for thinking; the code does the same without it.
#
# ## The adjoint identity
#
# For any matrix, $\langle M x, dy \rangle = \langle x, M^T dy \rangle$; both are $\sum_{pq} dy_p M_{pq} x_q$. Hence, for a
# linear layer and *any* x and dy,
#
# $$\langle y, dy \rangle = \langle x, dx \rangle.$$
#
# It needs one forward, one backward and no step $h$. It holds to rounding: $10^{-15}$ in float64, $10^{-6}$ in float32. A
# function and a backward of which this is true for all x and dy are called **adjoint**.


# %%
def adjoint_error(forward, backward, x, seed=0):
    """|<y, dy> - <x, dx>| as a share of the sum of |y dy|, for a random dy."""
    y, cache = forward(x)
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    dx = backward(dy, cache)
    assert dx.shape == x.shape
    return float(abs((y * dy).sum() - (x * dx).sum()) / abs(y * dy).sum())


x = rng.standard_normal((2, 7, 9, 3))
w = rng.standard_normal((3, 3, 3, 4))


def conv(x):
    """A convolution of which only x varies."""
    return conv2d(x, w.astype(x.dtype), stride=2)


def conv_back(dy, cache):
    """Its dx."""
    return conv2d_backward(dy, cache)[0]


assert adjoint_error(conv, conv_back, x) < 1e-14
assert (
    adjoint_error(conv, conv_back, x.astype(np.float32)) < 1e-5
)  # float32 is good enough here: nothing is divided by h
assert adjoint_error(conv, lambda dy, cache: 1.001 * conv_back(dy, cache), x) > 1e-5  # and a mistake of 0.1 % shows


# %% [markdown]
# ## Transposed convolution: the backward, run forwards
#
# The way up in a U-Net needs a layer that makes maps *larger* and can learn. There is one already: the backward of a
# strided convolution takes a small map to a large one. Use it as a forward, with its own weights, and it is called a
# **transposed convolution**.
#
# In lesson 02 you saw what it does: each input pixel **stamps** the filter onto the output, stamps lie $s$ pixels apart,
# and where they overlap they add. With $H$ stamps of $K$ rows the output has $(H - 1) s + K$.
#
# Its own backward? The transpose of the transpose: a plain convolution.


# %%
def conv_transpose2d(x, w, b, stride=2):
    """x (N, H, W, C), w (KH, KW, C, K): C is what it takes, K what it gives; y (N, (H-1)*stride + KH, ..., K)."""
    (N, H, W, _), (KH, KW, _, K) = x.shape, w.shape
    y = np.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K), x.dtype)
    for i in range(KH):
        for j in range(KW):
            window(y, i, j, H, W, stride)[...] += x @ w[i, j]  # all stamps' pixel (i, j) at once
    return y + b, (x, w, stride)


def conv_transpose2d_backward(dy, cache):
    """dy to dx, dw, db: what a plain convolution does forwards, and its dw."""
    x, w, stride = cache
    (_, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(KH):
        for j in range(KW):
            stamped = window(dy, i, j, H, W, stride)
            dx += stamped @ w[i, j].T
            dw[i, j] = x.reshape(-1, C).T @ stamped.reshape(-1, K)
    return dx, dw, dy.sum((0, 1, 2))


for size, stride in [(2, 2), (3, 2), (3, 1), (2, 3)]:
    wt, bt = rng.standard_normal((size, size, 3, 4)), rng.standard_normal(4)
    y, cache = conv_transpose2d(x, wt, bt, stride)
    y_, cache_ = ops.conv_transpose2d(x, wt, bt, stride)
    np.testing.assert_allclose(y, y_, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    for mine, theirs in zip(conv_transpose2d_backward(dy, cache), ops.conv_transpose2d_backward(dy, cache_)):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)

wt = rng.standard_normal((3, 3, 3, 4))
larger = conv_transpose2d(x, wt, 0)[0]  # it is the dx of a convolution whose filters have C and K swapped:
_, cache = conv2d(np.zeros(larger.shape), wt.swapaxes(2, 3), stride=2, padding="valid")
np.testing.assert_allclose(larger, conv2d_backward(x, cache)[0], atol=1e-12)

# %% [markdown]
# Count how many stamps reach each output pixel: put 1 into every pixel and every weight. With $K = 3$, $s = 2$ the counts
# go 1, 2, 1, 2 in each direction: some pixels sum four products, their direct neighbours two, their diagonal ones one. An
# untrained layer paints this **checkerboard** onto everything. With $K = s = 2$ the stamps tile the plane and every output
# gets exactly one. This is the "up-convolution" of the U-Net.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for ax, (size, stride) in zip(axes, [(3, 2), (2, 2), (4, 2)]):
    stamps = conv_transpose2d(np.ones((1, 4, 4, 1)), np.ones((size, size, 1, 1)), 0, stride)[0][0, ..., 0]
    ax.imshow(stamps, cmap="viridis", vmin=0, vmax=4)
    write_numbers(ax, stamps)
    ax.add_patch(Rectangle((stride - 0.5, stride - 0.5), size, size, fill=False, ec=ORANGE, lw=2.5))
    bare(ax, f"{size} x {size}, stride {stride}")
    if (size, stride) == (3, 2):
        assert stamps[2, 2] == 4 and stamps[2, 3] == stamps[3, 2] == 2 and stamps[3, 3] == 1
    if (size, stride) == (2, 2):
        assert (stamps == 1).all()
figure.suptitle("how many stamps reach each output pixel; orange: one stamp", fontsize=10)
plt.show()


# %% [markdown]
# ## Max-pooling: linear once it is decided
#
# The way down halves the map: of each $2 \times 2$ window keep the largest value. That is not linear. But fix x, and nearby
# it is: the output is a *selection*, $y = S x$, with a single 1 in each row of $S$. Its transpose puts each dy back to the
# pixel that won, and 0 everywhere else.
#
# The backward needs to know who won, not x. The winner's number in its window, $i \cdot size + j$, fits into one byte, and
# there are a quarter as many windows as pixels: a sixteenth of what x itself takes in float32. In a tie the first in reading
# order wins alone.


# %%
def max_pool2d(x, size=2, stride=None):
    """Largest value of each window; the cache has the winners' numbers, (N, OH, OW, C) uint8."""
    stride = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y = window(x, 0, 0, OH, OW, stride).copy()
    winner = np.zeros(y.shape, np.uint8)
    for n in range(1, size * size):
        seen = window(x, *divmod(n, size), OH, OW, stride)
        winner[seen > y] = n  # > and not >=: of equals the first one stays
        y = np.maximum(y, seen)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy, cache):
    """dy to the winners."""
    winner, x_shape, size, stride = cache
    dx = np.zeros(x_shape, dy.dtype)
    for n in range(size * size):
        window(dx, *divmod(n, size), *dy.shape[1:3], stride)[...] += dy * (winner == n)
    return dx


picture = np.array([[1, 5, 2, 0], [3, 2, 7, 7], [4, 8, 0, 1], [6, 1, 2, 9]], float)
y, cache = max_pool2d(picture[None, ..., None])
dy = np.array([[10.0, 20], [30, 40]])
dx = max_pool2d_backward(dy[None, ..., None], cache)[0, ..., 0]
assert y[0, ..., 0].tolist() == [[5, 7], [8, 9]]
assert dx[0, 1] == 10 and dx[1, 2] == 20 and dx[1, 3] == 0  # of the two 7s the first took all
assert dx[2, 1] == 30 and dx[3, 3] == 40 and dx.sum() == dy.sum()

figure, axes = plt.subplots(1, 5, figsize=(12, 2.9), layout="constrained", width_ratios=[4, 2.4, 2.4, 2.4, 4])
for ax, values, title in zip(
    axes,
    (picture, y[0, ..., 0], cache[0][0, ..., 0].astype(float), dy, dx),
    ("x", "y: the largest", "cache: who won (0-3)", "dy", "dx: dy to the winners"),
):
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1.6 * values.max())
    write_numbers(ax, values, 11)
    bare(ax, title)
    for k in (0, 2):
        for l in (0, 2):
            if len(values) == 4:
                ax.add_patch(Rectangle((k - 0.5, l - 0.5), 2, 2, fill=False, ec=ORANGE, lw=2))
plt.show()

# %% [markdown]
# The identity $\langle y, dy \rangle = \langle x, dx \rangle$ holds here too, as $y = S x$ with the $S$ of this x. But it
# does not prove as much as before: a forward that picks the *smallest* value, with its own winners, passes. So does any
# selection. For what is not linear keep the gradient check, and compare the forward with something independent.

# %%
distinct = draw((2, 7, 5, 3), rng)  # no two values nearer than 0.001: no ties
assert adjoint_error(max_pool2d, max_pool2d_backward, distinct) < 1e-14


def min_pool2d(x):
    """Not what was asked for."""
    y, cache = max_pool2d(-x)
    return -y, cache


assert adjoint_error(min_pool2d, max_pool2d_backward, distinct) < 1e-14  # and yet it passes
assert check((max_pool2d, max_pool2d_backward), distinct).ok
for size, stride in [(2, 2), (3, 2), (2, 3)]:
    y, cache = max_pool2d(distinct, size, stride)
    y_, cache_ = ops.max_pool2d(distinct, size, stride)
    dy = rng.standard_normal(y.shape)
    assert np.array_equal(y, y_) and np.array_equal(cache[0], cache_[0])
    np.testing.assert_allclose(max_pool2d_backward(dy, cache), ops.max_pool2d_backward(dy, cache_))

# %% [markdown]
# A pool forgets *where* the winner was: shift the image by a pixel and many outputs stay. That helps to recognise a cell
# and hurts to outline it. The skip connections of the U-Net exist because of this.
#
# ## Upsampling without weights
#
# **Nearest neighbour** repeats each pixel as a block. Each input stands in $s^2$ outputs with weight 1, so its gradient is
# the block's *sum* (a mean would be the usual mistake).


# %%
def upsample_nearest(x, scale=2):
    """Each pixel becomes a block."""
    return x.repeat(scale, axis=1).repeat(scale, axis=2), (scale,)


def upsample_nearest_backward(dy, cache):
    """Sums over the blocks."""
    (scale,) = cache
    N, OH, OW, C = dy.shape
    return dy.reshape(N, OH // scale, scale, OW // scale, scale, C).sum((2, 4))


assert adjoint_error(upsample_nearest, upsample_nearest_backward, x) < 1e-14
assert adjoint_error(upsample_nearest, lambda dy, c: upsample_nearest_backward(dy, c) / 4, x) > 1e-3

# %% [markdown]
# **Bilinear**: place each output row somewhere among the input rows and mix the two beside it, in proportion to nearness.
# As a matrix $R$ of $OH$ rows and $H$ columns, with at most two entries a row that sum to 1. The columns have such a matrix
# $Q$, and for each channel of each image
#
# $$y = R \, x \, Q^T, \qquad dx = R^T \, dy \, Q.$$
#
# Where does output row $r$ lie? There are two conventions, and mixing them up shifts the map by up to half a pixel:
#
# * **align corners**: pixels are points; the first and the last rows coincide: $r \to r \, (H - 1) / (OH - 1)$;
# * otherwise pixels are *areas*: the middle of output row $r$ lies at $(r + \tfrac12) H / OH - \tfrac12$, clamped to the
#   image.


# %%
def interpolation_matrix(n, m, align_corners):
    """The (m, n) matrix that interpolates n values linearly at m places."""
    r = np.arange(m)
    place = r * (n - 1) / max(m - 1, 1) if align_corners else np.clip((r + 0.5) * n / m - 0.5, 0, n - 1)
    below = np.minimum(place.astype(int), n - 1)
    matrix = np.zeros((m, n))
    matrix[r, below] = 1 - (place - below)
    matrix[r, np.minimum(below + 1, n - 1)] += place - below
    return matrix


def upsample_bilinear(x, scale=2, align_corners=True):
    """Interpolate along rows and columns."""
    H, W = x.shape[1:3]
    R, Q = interpolation_matrix(H, scale * H, align_corners), interpolation_matrix(W, scale * W, align_corners)
    return np.einsum("rh,nhwc,qw->nrqc", R, x, Q), (H, W, align_corners)


def upsample_bilinear_backward(dy, cache):
    """The same two matrices, transposed."""
    H, W, align_corners = cache
    R, Q = interpolation_matrix(H, dy.shape[1], align_corners), interpolation_matrix(W, dy.shape[2], align_corners)
    return np.einsum("rh,nrqc,qw->nhwc", R, dy, Q)


for align in (True, False):
    for scale in (2, 3):
        y, cache = upsample_bilinear(x, scale, align)
        y_, cache_ = ops.upsample_bilinear(x, scale, align)
        dy = rng.standard_normal(y.shape)
        np.testing.assert_allclose(y, y_, atol=1e-12)
        np.testing.assert_allclose(
            upsample_bilinear_backward(dy, cache), ops.upsample_bilinear_backward(dy, cache_), atol=1e-12
        )
    assert adjoint_error(lambda x, a=align: upsample_bilinear(x, 2, a), upsample_bilinear_backward, x) < 1e-14

values = np.array([1.0, 3.0, 2.0, 4.0])
figure, axes = plt.subplots(2, 2, figsize=(10, 5), layout="constrained", width_ratios=[3, 2])
for (plot, grid), align in zip(axes, (True, False)):
    R = interpolation_matrix(4, 8, align)
    assert np.allclose(R.sum(1), 1)
    places = R @ np.arange(4)
    plot.plot(range(4), values, "o-", color=GREY, ms=10, mfc="white", label="4 rows of x")
    plot.plot(places, R @ values, "o", color=BLUE, ms=6, label="8 rows of y")
    plot.set(xlim=(-0.6, 3.6), ylim=(0, 5), xticks=range(4), ylabel="value")
    plot.set_title("align corners: pixels are points" if align else "pixels are areas", fontsize=10)
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(frameon=False, fontsize=9, loc="upper left")
    grid.imshow(R, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    write_numbers(grid, R.round(2), 8)
    bare(grid, "its R: 8 x 4, rows sum to 1")
axes[1, 0].set_xlabel("place among the rows of x")
plt.show()


# %% [markdown]
# ## Plumbing: pad, crop, concat, and the fork
#
# These move values and change none. Their matrices hold zeros and ones; the transposes move the values back.
#
# | forward | backward |
# | --- | --- |
# | pad with zeros | crop |
# | crop | pad with zeros |
# | concat (stack channels) | split |
# | **fork**: hand x to two places | **add** the two gradients |
#
# The last line is not even code in the forward: it happens whenever you use a variable twice. Its matrix is two identities,
# one above the other; its transpose adds. The U-Net does that at every skip connection, and forgetting the sum is the
# classic mistake.


# %%
def pad(x, margins):
    """Zeros around x; margins are ((top, bottom), (left, right))."""
    return np.pad(x, ((0, 0), *margins, (0, 0))), (margins,)


def pad_backward(dy, cache):
    """Cut them off."""
    return crop(dy, *cache)[0]


def crop(x, margins):
    """Cut the margins off."""
    (top, bottom), (left, right) = margins
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right], (margins,)


def crop_backward(dy, cache):
    """What was cut off did not matter to the loss: zeros."""
    return pad(dy, *cache)[0]


def concat(arrays):
    """Stack along the channels; the cache has each array's number of them."""
    return np.concatenate(arrays, axis=-1), tuple(a.shape[-1] for a in arrays)


def concat_backward(dy, cache):
    """Split again."""
    return tuple(np.split(dy, np.cumsum(cache)[:-1], axis=-1))


margins = ((1, 2), (0, 3))
assert adjoint_error(lambda x: pad(x, margins), pad_backward, x) < 1e-14
assert adjoint_error(lambda x: crop(x, margins), crop_backward, x) < 1e-14
skip, up = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((2, 4, 5, 2))
y, cache = concat([skip, up])
dy = rng.standard_normal(y.shape)
dskip, dup = concat_backward(dy, cache)
assert np.isclose((y * dy).sum(), (skip * dskip).sum() + (up * dup).sum())  # the identity for two inputs
assert all(np.array_equal(a, b) for a, b in zip((dskip, dup), ops.concat_backward(dy, ops.concat([skip, up])[1])))
assert np.array_equal(crop(x, margins)[0], ops.crop(x, margins)[0])
assert np.array_equal(pad(x, margins)[0], ops.pad(x, margins)[0])

fork = matrix_of(lambda x: np.stack([x, x]), (3,))
assert np.array_equal(fork.T @ np.array([1.0, 2, 3, 10, 20, 30]), [11, 22, 33])

# %% [markdown]
# ## Down and up again
#
# Pool an image three times, then come up in three ways. None brings back what the pool threw away; look how each fails.
# What is missing can only come over the skip.

# %%
cells = SyntheticCells(1, size=64, seed=3)[0].image[None].astype(float)
low = cells
for _ in range(3):
    low, _ = max_pool2d(low)
assert low.shape == (1, 8, 8, 1)
stamp = np.ones((2, 2, 1, 1))  # a transposed convolution that has learned nothing yet but to repeat
ways = {"nearest": low, "bilinear": low, "transposed 3 x 3, all ones": low}
for _ in range(3):
    ways["nearest"] = upsample_nearest(ways["nearest"])[0]
    ways["bilinear"] = upsample_bilinear(ways["bilinear"], align_corners=False)[0]
    full = conv_transpose2d(ways["transposed 3 x 3, all ones"], np.ones((3, 3, 1, 1)) * 4 / 9, 0)[0]
    ways["transposed 3 x 3, all ones"] = crop(full, ((0, 1), (0, 1)))[0]
repeated = low
for _ in range(3):
    repeated, _ = conv_transpose2d(repeated, stamp, 0)
assert np.array_equal(repeated, ways["nearest"])  # a 2 x 2 stamp of ones is the nearest neighbour

figure, axes = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
for ax, (name, a) in zip(axes, {"image, 64 x 64": cells, "max-pooled to 8 x 8": low, **ways}.items()):
    ax.imshow(a[0, ..., 0], cmap="gray", vmin=0, vmax=1)
    bare(ax, name)
    assert name.startswith("max") or a.shape == cells.shape
plt.show()

# %% [markdown]
# All of it stands in `minunet/ops/pool.py`, `minunet/ops/resample.py`, `minunet/ops/shape.py` and at the end of
# `minunet/ops/conv.py`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** A transposed convolution with stride 2 spreads ones with a filter of ones. How even is what comes out for
# filters of 2, 3 and 4 rows and columns?
#
# <details>
# <summary>Answer</summary>
#
# Away from the border: with 2 every pixel gets 1; with 3 it is 1, 2 or 4 in turns, the checkerboard; with 4 every pixel
# gets 4. It is even exactly if the stride divides the filter's size. (Even weights are not yet even: the network may
# learn others.)
#
# </details>
#
# **2.** A window of a max-pool holds four equal numbers, as in a dark background. Where may the gradient go, and where
# must it not?
#
# <details>
# <summary>Answer</summary>
#
# To any one of the four, or in shares that add up to one: each is a valid choice at a kink. It must not go whole to all
# four: then the sum of dx would be four times that of dy.
#
# </details>
#
# **3.** As the backward of bilinear up-sampling to twice the size somebody takes bilinear *down*-sampling. Shapes fit,
# pictures look right. What does the identity of adjoints say?
#
# <details>
# <summary>Answer</summary>
#
# Down-sampling takes a mean: its weights sum to 1 for each small pixel. The adjoint hands back every weight that the
# forward has given out, and these sum to the number of large pixels, four for each small one. So gradients would be
# four times too small, at each level: with four levels 256 times at the bottom.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/conv_transpose.py`: the transposed convolution
# * `python -m minunet.grade tutorials/exercises/max_pool.py`: max-pooling, both ways
# * `python -m minunet.grade tutorials/exercises/bilinear.py`: bilinear upsampling and its adjoint
# * `python -m minunet.grade tutorials/exercises/crop_concat.py`: crop and concat: the joint of a skip connection
#
# On your own, each with a check:
#
# 1. **Mean-pool.** Write `avg_pool2d` and its backward by windows. It is linear: which weight has every pixel? *Check:*
#    `adjoint_error` below $10^{-14}$, and `ops.avg_pool2d`.
# 2. **Transpose by eye.** Write down the $8 \times 2$ matrix of `upsample_nearest` for an image of one row and two pixels,
#    and the $2 \times 8$ one of mean-pooling for two rows and four columns. By which factor do the one and the other's
#    transpose differ? *Check:* `matrix_of(lambda x: upsample_nearest(x)[0], (1, 1, 2, 1))` and
#    `matrix_of(lambda x: ops.avg_pool2d(x)[0], (1, 2, 4, 1))`.
# 3. **A flip.** Mirror an image left to right, `x[:, :, ::-1]`. What is its backward? And of a rotation by 90 degrees?
#    *Check:* `adjoint_error`.
# 4. **Overlapping pools.** `max_pool2d` with size 3 and stride 2 lets a pixel win twice. Which line of the backward is
#    right only because of that? *Check:* replace it, and see `check` fail for size 3 and pass for size 2.
# 5. **A blind identity.** Write a *wrong* pair `(forward, backward)` for which `adjoint_error` is 0. What does the identity
#    leave open, and which comparison closes it? *Check:* your pair passes `adjoint_error` and fails against `ops`.
