# %% [markdown]
# # 02 Backprop by hand
#
# **You will be able to**
#
# * derive the three gradients of a convolution, dx, dw and db, with a pencil, and code them;
# * write a gradient check with central differences, and say why it wants float64 and which step;
# * name four ways in which a check says "fine" to a wrong gradient, or "wrong" to a right one.
#
# You need lesson 01 (windows, equation (2)) and the chain rule.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.gradcheck import GradientError, check, draw
from minunet.ops.conv import output_size, pad_spatial, resolve_padding, window  # lesson 01's, for more cases

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)

# %% [markdown]
# ## What is wanted
#
# A network ends in one number, the loss $L$. Training asks of every weight: if I raise you a little, what does $L$ do? That
# is $\partial L / \partial w$. Write **dw** for the array of these numbers, in the shape of w. Likewise **dx** and **dy**
# for the input and output of a layer.
#
# A layer does not know the loss. It need not: the layers behind it hand over dy. So the task of a layer's *backward* is
#
# $$\text{given } dy = \frac{\partial L}{\partial y}, \quad \text{find } dx = \frac{\partial L}{\partial x}, \quad
# dw = \frac{\partial L}{\partial w}, \quad db = \frac{\partial L}{\partial b}.$$
#
# The dx is then the dy of the layer before. That is all of backpropagation.
#
# ## With a pencil: four pixels, two weights
#
# Take one row of four pixels and a filter of two taps:
#
# $$y_0 = x_0 w_0 + x_1 w_1, \quad y_1 = x_1 w_0 + x_2 w_1, \quad y_2 = x_2 w_0 + x_3 w_1.$$
#
# **What does $x_1$ do?** It stands in $y_0$ with weight $w_1$ and in $y_1$ with weight $w_0$. The chain rule adds up all
# ways by which it moves the loss:
#
# $$dx_1 = dy_0\, w_1 + dy_1\, w_0.$$
#
# **What does $w_0$ do?** It stands in every output: $dw_0 = dy_0 x_0 + dy_1 x_1 + dy_2 x_2$. Likewise
# $dw_1 = dy_0 x_1 + dy_1 x_2 + dy_2 x_3$.
#
# Draw an arrow for each product. Forwards an output adds up the arrows that arrive. Backwards an *input* adds up the arrows
# that leave it, each with the same weight as before. Nothing else happens.

# %%
x4, w2, dy3 = np.array([1.0, 2.0, -1.0, 3.0]), np.array([0.5, -2.0]), np.array([1.0, -1.0, 2.0])
y3 = np.array([x4[h] * w2[0] + x4[h + 1] * w2[1] for h in range(3)])
dx4 = np.zeros(4)
for h in range(3):
    dx4[h] += dy3[h] * w2[0]
    dx4[h + 1] += dy3[h] * w2[1]
assert dx4[1] == dy3[0] * w2[1] + dy3[1] * w2[0]

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, top, bottom, names, title in (
    (axes[0], y3, x4, "yx", "forward: an output adds up what arrives"),
    (axes[1], dy3, dx4, ("dy", "dx"), "backward: an input adds up what left it"),
):
    for h in range(3):
        for i, colour in ((0, BLUE), (1, ORANGE)):
            start, end = (h + i, 0.12), (h + 0.5, 0.88)
            if title.startswith("backward"):
                start, end = end, start
            bold = (h if title.startswith("forward") else h + i) == 1
            style = {"arrowstyle": "-|>", "color": colour, "lw": 2.8 if bold else 1.2, "alpha": 1 if bold else 0.45}
            ax.annotate("", end, start, arrowprops=style)
    for values, row, shift, name in ((bottom, 0, 0, names[1]), (top, 1, 0.5, names[0])):
        for h, value in enumerate(values):
            box = {"boxstyle": "round", "fc": "white", "ec": GREY}
            ax.text(h + shift, row, f"${name}_{h}$ = {value:g}", ha="center", va="center", bbox=box)
    ax.set(xlim=(-0.5, 3.5), ylim=(-0.2, 1.2))
    ax.set_title(title, fontsize=10)
    ax.axis("off")
arrows = "blue arrows multiply by $w_0$ = 0.5, orange ones by $w_1$ = -2; thick: all that comes to $y_1$, and to $dx_1$"
figure.suptitle(arrows, fontsize=9)
plt.show()

# %% [markdown]
# ## The one rule that is needed: a matrix product
#
# Let $P = A\,B$, that is $P_{mk} = \sum_c A_{mc} B_{ck}$, and let $dP$ be given. $A_{mc}$ stands in $P_{mk}$ for every $k$,
# with weight $B_{ck}$:
#
# $$dA_{mc} = \sum_k dP_{mk} B_{ck} \quad\Rightarrow\quad dA = dP\, B^T, \qquad\qquad
# dB_{ck} = \sum_m A_{mc}\, dP_{mk} \quad\Rightarrow\quad dB = A^T dP.$$
#
# No need to remember which is transposed: **only one arrangement has the right shapes.** With A $(M, C)$, B $(C, K)$, dP
# $(M, K)$, the product that gives $(M, C)$ is dP times B turned.
#
# ## The convolution
#
# Lesson 01 ended with a sum of matrix products, one for each tap:
#
# $$y = b + \sum_{i, j} \text{window}(x, i, j) \; @ \; w[i, j].$$
#
# Apply the rule to each product, with A the window and B the tap's $C \times K$ matrix:
#
# $$dw[i, j] = \text{window}(x, i, j)^T \; @ \; dy, \qquad
# \text{window}(dx, i, j) \mathrel{+}= dy \; @ \; w[i, j]^T, \qquad
# db = \sum_{n, h, w} dy.$$
#
# (The products are of matrices with a row a pixel: in NumPy `seen.reshape(-1, C).T @ dy.reshape(-1, K)`. `.T` of an array of
# four axes would turn all four round.)
#
# * **dw**: what the tap saw, times what came back, summed over all places and images. The weight is *shared*, so its
#   gradient is a sum.
# * **dx**: the tap hands its part back to the pixels that it read. A pixel lies in several windows, hence `+=`, not `=`.
# * **db**: the bias stands in every pixel with weight 1.
# * The zeros of the padding get a gradient like any pixel. Nobody asked for it; it is cut off.
#
# The backward needs x and w again, so the forward hands them over in a **cache**.


# %%
def conv2d(x, w, b, stride=1, padding="same"):
    """Lesson 01's convolution, with a cache for the backward."""
    KH, KW = w.shape[:2]
    pads = resolve_padding(padding, x.shape[1:3], (KH, KW), stride, 1)
    OH, OW = output_size(x.shape[1:3], (KH, KW), pads, stride)
    padded = pad_spatial(x, pads)
    y = np.zeros((len(x), OH, OW, w.shape[-1]), x.dtype)
    for i in range(KH):
        for j in range(KW):
            y += window(padded, i, j, OH, OW, stride) @ w[i, j]
    return y + b, (x, w, stride, pads)


def conv2d_backward(dy, cache):
    """dy (N, OH, OW, K) to dx, dw, db in the shapes of x, w, b."""
    x, w, stride, pads = cache
    (_, H, W, C), (KH, KW, _, K), (_, OH, OW, _) = x.shape, w.shape, dy.shape
    padded = pad_spatial(x, pads)
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(KH):
        for j in range(KW):
            seen = window(padded, i, j, OH, OW, stride)
            dw[i, j] = seen.reshape(-1, C).T @ dy.reshape(-1, K)
            window(dpadded, i, j, OH, OW, stride)[...] += (
                dy @ w[i, j].T
            )  # the window is a view: this writes into dpadded
    (top, _), (left, _) = pads
    return dpadded[:, top : top + H, left : left + W], dw, dy.sum((0, 1, 2))


row = {"x": x4.reshape(1, 1, 4, 1), "w": w2.reshape(1, 2, 1, 1), "b": np.zeros(1), "padding": "valid"}
y, cache = conv2d(**row)
dx, dw, db = conv2d_backward(dy3.reshape(1, 1, 3, 1), cache)
assert np.array_equal(y.ravel(), y3) and np.array_equal(dx.ravel(), dx4)
assert dw.ravel().tolist() == [dy3 @ x4[:3], dy3 @ x4[1:]] and db[0] == dy3.sum()

# %% [markdown]
# ## See them
#
# Let dy be 1 at two output pixels and 0 elsewhere: "only these two matter to the loss". Then dx shows the filter itself,
# **stamped** at both places; where the stamps overlap they add. (Forwards, lesson 01, a single bright pixel came out as the
# filter turned round. Forward gathers, backward scatters.) And dw is the sum of the two patches that were seen there.

# %%
image = SyntheticCells(1, size=128, seed=3)[0].image[None, 40:64, 76:100].astype(float)
w = np.zeros((5, 5, 1, 1))
w[:, 0, 0, 0], w[4, :, 0, 0] = 1, 0.5  # an L: not symmetric, so that turning shows
y, cache = conv2d(image, w, np.zeros(1))
dy = np.zeros_like(y)
dy[0, 8, 7], dy[0, 11, 10] = 1, 1
dx, dw, _ = conv2d_backward(dy, cache)
assert np.array_equal(dx[0, 6:11, 5:8, 0], w[:, :3, 0, 0])  # the first stamp, where the second does not reach
assert np.allclose(dw[..., 0, 0], image[0, 6:11, 5:10, 0] + image[0, 9:14, 8:13, 0])

figure, axes = plt.subplots(1, 5, figsize=(12, 2.7), layout="constrained", width_ratios=[24, 14, 24, 24, 14])
for ax, a, title in zip(
    axes,
    (image[0, ..., 0], w[..., 0, 0], dy[0, ..., 0], dx[0, ..., 0], dw[..., 0, 0]),
    ("x", "w", "dy: two pixels matter", "dx: the filter, stamped", "dw: patches, added"),
):
    ax.imshow(a, cmap="gray", vmin=0, vmax=None if title[:2] in ("x", "dw") else dx.max())
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
figure.suptitle(f"w, dy and dx in one scale, black 0 and white {dx.max():g}; x and dw in their own", fontsize=9)
plt.show()


# %% [markdown]
# ## Is it right? Ask the loss itself
#
# A derivative is a limit of differences, so take a small difference. From Taylor's series of $f(x \pm h)$:
#
# $$\frac{f(x+h) - f(x)}{h} = f'(x) + O(h), \qquad \frac{f(x+h) - f(x-h)}{2h} = f'(x) + O(h^2).$$
#
# The **central** difference is better, as even powers cancel. A smaller $h$ makes this *truncation* error smaller. But both
# $f$ are rounded, by about $\varepsilon |f|$ with $\varepsilon = 2 \cdot 10^{-16}$ in float64, and the rounding is divided by
# $h$: a smaller $h$ makes that one larger. The best step is where the two are equal, $\varepsilon / h \approx h^2$: at
# $h \approx \varepsilon^{1/3}$, about $10^{-5}$. See it for $f(x) = e^x$.


# %%
def errors(steps, dtype, central):
    """Largest relative error of the difference of exp, at 101 places from 1 to 2, for many steps h."""
    x, found = np.linspace(1, 2, 101, dtype=dtype), []
    for h in steps.astype(dtype):
        right, left = x + h, (x - h if central else x)
        slope = (np.exp(right) - np.exp(left)) / (right - left)  # what x + h is after rounding, not what it should be
        found.append((abs(slope / np.exp(x.astype(float)) - 1)).max())
    return np.array(found)


steps = np.logspace(-12, 0, 49)
steps32 = steps[steps > 3e-7]  # smaller ones change nothing in float32
central, one_sided = (errors(steps, np.float64, central=c) for c in (True, False))
error32 = errors(steps32, np.float32, central=True)

figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
ax.loglog(steps, central, color=GREEN, label="float64, central")
ax.loglog(steps, one_sided, color=BLUE, label="float64, one-sided")
ax.loglog(steps32, error32, color=RED, label="float32, central")
ax.axvline(1e-5, color=GREY, lw=1, ls=":")
ax.text(1.2e-5, 2e-1, "h = $10^{-5}$", fontsize=9, color="#555555")
ax.text(2e-11, 1e-7, "rounding\n(falls with h)", fontsize=9, ha="center")
ax.text(3e-2, 3e-7, "truncation\n(grows with h)", fontsize=9, ha="left")
ax.set(xlabel="step h", ylabel="relative error of the difference", ylim=(1e-13, 2))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower left")
plt.show()

at_1e5 = abs(steps - 1e-5).argmin()
assert central[at_1e5] < 1e-9 < one_sided[at_1e5]
assert error32.min() > 1e-6  # the best that float32 can do is ten thousand times worse


# %% [markdown]
# For a layer, take $L = \langle y, dy \rangle = \sum y \cdot dy$ with some fixed array dy. Then $\partial L / \partial y$
# is dy indeed, and differences of $L$ in each element must give what the backward gives. Measure the error against the
# *largest* element of the gradient: an element that should be 0 is $10^{-12}$ here, and that is no mistake.


# %%
def numeric_gradient(L, x, h=1e-5):
    """Central differences of the scalar function L, in every element of x; x is changed and put back."""
    dx = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        before = x[index]
        x[index] = before + h
        plus = L()
        x[index] = before - h
        minus = L()
        x[index] = before
        dx[index] = (plus - minus) / (2 * h)
    return dx


def gradient_error(forward, backward, *arrays, dy=None, h=1e-5, **options):
    """The largest error of each gradient, as a share of the gradient's largest element."""
    y, cache = forward(*arrays, **options)
    dy = np.random.default_rng(1).standard_normal(y.shape) if dy is None else dy
    grads = backward(dy, cache)
    found = []
    for x, dx in zip(arrays, grads if isinstance(grads, tuple) else (grads,)):
        numeric = numeric_gradient(lambda: (forward(*arrays, **options)[0] * dy).sum(), x, h)
        found.append(float(abs(dx - numeric).max() / max(abs(numeric).max(), 1e-8)))
    return found


x, w, b = rng.standard_normal((2, 5, 6, 3)), rng.standard_normal((3, 3, 3, 2)), rng.standard_normal(2)
for stride in (1, 2):
    for padding in ("same", "valid"):
        found = gradient_error(conv2d, conv2d_backward, x, w, b, stride=stride, padding=padding)
        print(f"stride {stride}, {padding:<5}  dx, dw, db: " + "  ".join(f"{e:.0e}" for e in found))
        assert max(found) < 1e-8

# %% [markdown]
# Now the other half, which is easily forgotten: **would the check have noticed?** Plant mistakes and see. A check that has
# never failed has proved nothing.


# %%
def planted(change):
    """conv2d_backward with a mistake."""

    def backward(dy, cache):
        dx, dw, db = conv2d_backward(dy, cache)
        x, w, stride, pads = cache
        return change(dx, dw, db, w, dy, (x, stride, pads))

    return backward


mistakes = {
    "filter turned round in dx": lambda dx, dw, db, w, dy, rest: (
        conv2d_backward(dy, (rest[0], w[::-1, ::-1], *rest[1:]))[0],
        dw,
        db,
    ),
    "dx a pixel off": lambda dx, dw, db, w, dy, rest: (np.roll(dx, 1, axis=2), dw, db),
    "dw averaged, not summed": lambda dx, dw, db, w, dy, rest: (dx, dw / len(rest[0]), db),
    "rows and columns of taps swapped": lambda dx, dw, db, w, dy, rest: (dx, dw.swapaxes(0, 1), db),
    "db of the first image only": lambda dx, dw, db, w, dy, rest: (dx, dw, dy[0].sum((0, 1))),
}
for name, change in mistakes.items():
    found = gradient_error(conv2d, planted(change), x, w, b)
    print(f"{name:<34}  dx, dw, db: " + "  ".join(f"{e:7.0e}" for e in found))
    assert sum(e > 0.1 for e in found) == 1 and sum(e < 1e-8 for e in found) == 2

# %% [markdown]
# Right gradients err by about $10^{-10}$, wrong ones by about 1. The gap is ten powers of ten wide, **in float64**. A
# tolerance of $10^{-7}$ leaves no doubt on either side.
#
# ## How a check can deceive
#
# ### 1. float32
#
# The same right gradient, with everything in float32. Errors of per cents are normal then, and a mistake of a per cent hides.

# %%
x32, w32, b32 = (a.astype(np.float32) for a in (x, w, b))
for h in (1e-2, 1e-3, 1e-4, 1e-5):
    found = gradient_error(conv2d, conv2d_backward, x32, w32, b32, h=np.float32(h))
    print(f"float32, h = {h:.0e}  dx, dw, db: " + "  ".join(f"{e:.0e}" for e in found))
assert max(found) > 1e-2
one_per_cent = planted(lambda dx, dw, db, *rest: (1.01 * dx, dw, db))
assert gradient_error(conv2d, one_per_cent, x, w, b)[0] > 1e-3  # float64 finds it with ease

# %% [markdown]
# A convolution is linear in x, so it has no truncation error and a large $h$ helps. Most layers are not linear.
#
# ### 2. Kinks
#
# $\text{relu}(x) = \max(x, 0)$ has slope 0 or 1. If 0 lies between $x - h$ and $x + h$, the difference gives something
# between, and the check blames a right gradient. Max-pooling has the same trouble where two pixels are nearly equal.
#
# Two remedies: draw inputs that keep away from kinks and ties (`minunet.gradcheck.draw`), or notice that the two sides of a
# difference *decided* differently (another mask) and leave that difference out, counting how often. minunet does both.


# %%
def relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0), (x > 0,)


def relu_backward(dy, cache):
    """dy where x was positive."""
    (mask,) = cache
    return dy * mask


near = np.array([-0.8, 0.3e-5, 0.5])  # the second is nearer to 0 than h
ones = np.ones(3)
numeric = numeric_gradient(lambda: relu(near)[0].sum(), near)
assert np.allclose(numeric, [0, 0.65, 1]) and relu_backward(ones, relu(near)[1]).tolist() == [0, 1, 1]
away = draw((200,), rng)  # at least 0.001 away from 0 and from each other
assert abs(away).min() > 4e-4 and np.diff(np.sort(away)).min() > 4e-4
assert gradient_error(relu, relu_backward, away)[0] < 1e-8

figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
line = np.linspace(-3, 4, 401)
ax.plot(line, np.maximum(line, 0), color=BLUE, lw=2)
for centre, colour in ((0.3, RED), (2.6, GREEN)):
    ends = np.array([centre - 1, centre + 1])
    ax.plot(ends, np.maximum(ends, 0), "o-", color=colour, lw=1.5, ms=5)
    slope = float(np.diff(np.maximum(ends, 0))[0]) / 2
    middle = np.maximum(ends, 0).mean()
    ax.text(centre - 0.15, middle + 0.1, f"slope {slope:g}", color=colour, fontsize=10, ha="right")
ax.set(xlabel="x, in units of h", ylabel="relu(x)", ylim=(-0.3, 4.1))
ax.set_title("a difference across the kink gives a slope that the function never has", fontsize=10)
ax.spines[["top", "right"]].set_visible(False)
plt.show()


# %% [markdown]
# ### 3. Ones upstream
#
# It is tempting to check $L = \sum y$, that is dy = 1. Now take a layer whose outputs always sum to the same. Then $L$ is
# constant, its gradient is 0, and many wrong backwards are 0, too.
#
# The layer that does this is in every U-Net. It **standardises**: subtract the mean, divide by the standard deviation,
# $y = (x - \mu) / \sigma$. (Lesson 04 derives its gradient, $dx = (dy - \overline{dy} - y\, \overline{dy\, y}) / \sigma$,
# bars being means.) Forget the last term, the one for the standard deviation:


# %%
def standardise(x):
    """Mean 0, standard deviation 1."""
    sigma = x.std()
    y = (x - x.mean()) / sigma
    return y, (y, sigma)


def standardise_backward(dy, cache):
    """As it should be."""
    y, sigma = cache
    return (dy - dy.mean() - y * (dy * y).mean()) / sigma


def forgetful_backward(dy, cache):
    """The last term is missing."""
    y, sigma = cache
    return (dy - dy.mean()) / sigma


values, upstream = rng.standard_normal(40), rng.standard_normal(40)
y, cache = standardise(values)
with_ones, forgetful_ones = standardise_backward(np.ones(40), cache), forgetful_backward(np.ones(40), cache)
assert abs(with_ones).max() < 1e-14 and abs(forgetful_ones).max() < 1e-14  # both 0: ones cannot tell them apart
right, forgetful = (
    gradient_error(standardise, f, values, dy=upstream)[0] for f in (standardise_backward, forgetful_backward)
)
assert right < 1e-8 and forgetful > 1e-2
print(f"with a random dy: right {right:.0e}, forgetful {forgetful:.0e}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharex=True, sharey=True)
for ax, dy, title in zip(axes, (np.ones(40), upstream), ("dy = 1: nothing to see", "dy random: the mistake shows")):
    numeric = numeric_gradient(lambda dy=dy: (standardise(values)[0] * dy).sum(), values)
    ax.axhline(0, color=GREY, lw=1)
    ax.plot(numeric, forgetful_backward(dy, cache) - numeric, "o", color=RED, ms=6, label="last term missing")
    ax.plot(numeric, standardise_backward(dy, cache) - numeric, ".", color=GREEN, ms=6, label="right")
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("dx by differences")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("dx by the backward, minus that")
axes[1].legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# ### 4. One element, one shape
#
# A mistake at the border touches few elements. Suppose dx is wrong in its last column only. Checking one random element of a
# $32 \times 32$ map finds that once in 32 times. Checking all of them costs two forwards an element. There is a third way: a
# random **direction** $v$ moves all elements at once,
#
# $$\langle dx, v \rangle = \frac{L(x + hv) - L(x - hv)}{2h} + O(h^2),$$
#
# two forwards in all, and a wrong element anywhere shows. This is how whole networks are checked.

# %%
xb, wb, bb = rng.standard_normal((1, 32, 32, 1)), rng.standard_normal((3, 3, 1, 1)), np.zeros(1)
y, cache = conv2d(xb, wb, bb)
dy = rng.standard_normal(y.shape)
dx = conv2d_backward(dy, cache)[0]
bad = dx.copy()
bad[:, :, -1] *= 0.9
wrong = abs(bad - dx) > 1e-6
assert wrong.sum() == 32 and wrong.size == 1024
v = rng.standard_normal(xb.shape)
slope = sum(sign * (conv2d(xb + sign * 1e-5 * v, wb, bb)[0] * dy).sum() for sign in (1, -1)) / 2e-5
assert abs((dx * v).sum() - slope) < 1e-6 * abs(slope) < abs((bad * v).sum() - slope)
print(f"by differences {slope:.6f}, right {(dx * v).sum():.6f}, wrong at the border {(bad * v).sum():.6f}")

# %% [markdown]
# Shapes deceive, too. If H = W a swap of rows and columns fits; with stride 1 a forgotten stride is right; with C = K a
# missing transpose fits; with N = 1 a mean over the batch is a sum. **Check awkward shapes**: odd, unequal, stride 2, a
# batch of 2.
#
# ## minunet's checker
#
# `minunet.gradcheck.check` does what this lesson did: float64, $h = 10^{-5}$, random dy, every element, decisions compared.
# It says what is wrong and where. It takes your functions as they are.

# %%
x, w, b = draw((2, 7, 5, 3), rng), draw((3, 3, 3, 4), rng), draw((4,), rng)
print(check((conv2d, conv2d_backward), x, w, b, stride=2))
try:
    check((conv2d, planted(mistakes["dw averaged, not summed"])), x, w, b, stride=2)
    raise AssertionError("the mistake was not found")
except GradientError as e:
    print(e)
    assert "0.5 times what it should be" in str(e)

# %% [markdown]
# And your backward is minunet's:

# %%
for stride in (1, 2):
    for padding in ("same", "valid"):
        y, cache = conv2d(x, w, b, stride, padding)
        y_, cache_ = ops.conv2d(x, w, b, stride, padding)
        dy = rng.standard_normal(y.shape)
        np.testing.assert_allclose(y, y_, atol=1e-12)
        for mine, theirs in zip(conv2d_backward(dy, cache), ops.conv2d_backward(dy, cache_)):
            np.testing.assert_allclose(mine, theirs, atol=1e-12)

# %% [markdown]
# Count its work: dw takes as many multiplications as the forward, dx too. So a training step costs three times a forward.
# Read `minunet/ops/conv.py` now: it is this lesson, with dilation and groups. `python -m minunet.gradcheck --bugs` plants
# some thirty mistakes.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** All of dy and all weights are 1, the filter is $3 \times 3$, without padding. What is dx in the middle of a
# large image, at its corner, and what does a stride of 2 do to the middle?
#
# <details>
# <summary>Answer</summary>
#
# dx counts in how many outputs a pixel takes part: 9 in the middle, 1 at the corner, 3 at the middle of an edge. With a
# stride of 2 it is 1, 2 or 4 in turns: counted from 0, a pixel in an odd row and an odd column is seen by one filter
# only, one in an even row and an even column by four.
#
# </details>
#
# **2.** Somebody's dx uses the filter upside down. A check with dy = 1 everywhere passes away from the border. Why, and
# which dy finds it?
#
# <details>
# <summary>Answer</summary>
#
# With dy = 1 every pixel inside gets the sum of all nine taps, in whatever order they are taken. A random dy gives each
# tap another factor; then every order but the right one is wrong.
#
# </details>
#
# **3.** The loss is a mean over all outputs. You give every image of a batch twice. What happens to dw, to db, and to
# dx?
#
# <details>
# <summary>Answer</summary>
#
# dw and db stay: twice as many terms, each half as large. dx of each image is half of what it was, since each image is
# now a smaller share of the mean.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/conv_backward.py`: the three gradients of a convolution
# * `python -m minunet.grade tutorials/exercises/gradient_check.py`: the gradient checker itself
#
# On your own, each with a check:
#
# 1. **Pencil.** Four pixels, two taps, stride 2: $y_0 = x_0 w_0 + x_1 w_1$, $y_1 = x_2 w_0 + x_3 w_1$. Write down dx and
#    dw. Which sum from the stride-1 case is gone, and why? *Check:* `conv2d(**row, stride=2)`.
# 2. **Dense.** Write `dense(x, w, b)` for x $(N, C)$, w $(C, K)$ and its backward, three lines. *Check:* `gradient_error`
#    gives three numbers below $10^{-8}$.
# 3. **Backwards by forwards.** For stride 1 and *same* padding with an odd filter, dx is itself a convolution: of dy, with
#    w turned round in rows and columns and with C and K swapped. Derive it from the stamps, and write it in one line.
#    *Check:* `np.allclose` with `conv2d_backward`.
# 4. **Deceive yourself.** Find a wrong `relu_backward` that passes `gradient_error` if all of x is positive. Find a wrong
#    `conv2d_backward` that passes for $1 \times 1$ filters. *Check:* `check` on `draw((2, 5, 4, 3), rng)` and a
#    $3 \times 3$ filter finds both.
# 5. **The step.** In the picture of errors, where is the best $h$ for float32, and how small does the error get? Predict
#    both from $\varepsilon = 1.2 \cdot 10^{-7}$ by setting $\varepsilon / h = h^2$. *Check:* `steps32[error32.argmin()]`
#    and `error32.min()`, to a factor of ten.
