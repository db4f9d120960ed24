# %% [markdown]
# # 08 Fast on a CPU
#
# **You will be able to**
#
# * tell, by counting operations and bytes, whether code waits for arithmetic or for memory;
# * say what compiling, the order of loops, blocks in caches and sums in registers gain, and measure it;
# * derive Winograd's convolution from two polynomials, for tiles of any size, and say what it costs in digits;
# * say why norm and ReLU cost nothing when the next layer does them while it reads.
#
# You need lessons 01 (loops, im2col, shifted products), 03 (the transpose of a linear map), 04 (batch norm) and 05.
#
# The rungs of this climb are files: `bench/conv_ladder/` has eleven, one idea each, all with the same `conv(x, w)`. We take
# the ideas one by one and measure some of the rungs here. Times are those of your machine, and of what else it does just
# now: if they look odd, run the lesson again when nothing else runs.

# %%
import json
import runpy
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from numba import njit

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.kernels.cpu import winograd_matrices
from minunet.kernels.cpu.launch import workers

minunet.use("fast")  # now the kernels: this lesson is about them
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
START = Path(globals().get("__file__", ".")).resolve()  # a notebook has no __file__: then where it was started
BENCH = next(p / "bench" for p in (START, *START.parents) if (p / "bench" / "conv_ladder").is_dir())
rng = np.random.default_rng(0)


def seconds(call, least=0.05):
    """The shortest of several calls, after one that does not count: what disturbs only makes them longer."""
    call()  # compiles, or fills the caches
    times = []
    while len(times) < 3 or sum(times) < least:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


# %% [markdown]
# ## The task, and what the machine could do
#
# A $3 \times 3$ convolution of a $64 \times 64$ map, 64 channels to 64: 0.3 billion operations. What is the best we may
# hope for? BLAS, behind NumPy's `@`, is as fast as the arithmetic units allow when the matrices are large. That is the
# **peak**. We count in GFLOP/s, billions of operations a second.

# %%
SIZE, CHANNELS = 64, 64
GFLOP = 2e-9 * 9 * CHANNELS**2 * SIZE**2
square = rng.standard_normal((1024, 1024), np.float32)
peak = 2e-9 * 1024**3 / seconds(lambda: square @ square, 0.3)
print(f"{GFLOP:.2f} GFLOP; BLAS on {workers()} thread(s): {peak:.0f} GFLOP/s, so {1e3 * GFLOP / peak:.1f} ms would do")
w = rng.standard_normal((3, 3, CHANNELS, CHANNELS), np.float32) / 24
speed = {}


def climb(rung, size=SIZE):
    """Check a rung against the plain op, time it on a map of this size, and note its GFLOP/s."""
    module = runpy.run_path(str(BENCH / "conv_ladder" / f"{rung}.py"))
    conv, name = module["conv"], f"{rung[:2]} {module['__doc__'].split(':')[0]}"
    x, few = rng.standard_normal((1, 5, 6, 3), np.float32), rng.standard_normal((3, 3, 3, 4), np.float32)
    np.testing.assert_allclose(conv(x, few), ops.conv2d.plain(x, few)[0], atol=1e-4)
    x = rng.standard_normal((1, size, size, CHANNELS), np.float32)
    speed[name] = GFLOP * (size / SIZE) ** 2 / seconds(lambda: conv(x, w))
    print(f"{name:<20}{speed[name]:>10.4f} GFLOP/s, {100 * speed[name] / peak:>8.4f} % of the peak")


climb("01_seven_loops", 3)  # as slow as this is, a few pixels say it
climb("02_numpy_sums", 12)
climb("06_im2col")
climb("07_shifted_products")

# %% [markdown]
# This is lesson 01's ladder. Python needs some 500 instructions for the two that count. NumPy's loops are compiled, but
# each of its calls should have much to do.
#
# ## Compile the loops
#
# **numba** turns a Python function into machine code when it is first called: `@njit` above it, that is all. It knows types
# before a loop starts, so an index becomes an addition. The very seven loops of rung 1:

# %%
climb("03_compiled")

# %% [markdown]
# Hundreds of times faster, and still about a hundredth of the peak. Why? Two reasons, and neither has to do with how *many*
# operations there are:
#
# * **The sum waits for itself.** Each addition needs the result of the one before, which takes about four cycles. A core
#   could start two additions in *each* cycle, and each of up to 16 numbers (a **vector** instruction, SIMD).
# * **w is read in steps.** The innermost loop goes over c, and w's numbers for neighbouring c lie $K$ numbers apart. But
#   memory comes in **lines** of 64 bytes. Of the 16 numbers that come, one is used.
#
# Exchange loops so that the innermost one goes over k. Then neighbours are read, and the K sums do not wait for each other.
# Not one operation is saved:

# %%
climb("04_loop_order")

# %% [markdown]
# ## Memory is a staircase
#
# A core does arithmetic much faster than memory delivers numbers. So there are **caches** between: L1, small and fast, L2
# and L3, larger and slower, then memory. What was read lately is there. Read an array again and again, and see how many
# bytes a second come, by the size of the array.


# %%
@njit(nogil=True, fastmath=True)  # fastmath: sums may be taken in any order, hence in vectors
def read(a, rounds):
    """Add up a, so many times."""
    total = np.float32(0)
    for _ in range(rounds):
        for i in range(a.size):
            total += a[i]
    return total


def cache_sizes():
    """Bytes of the first core's data caches, from Linux; nothing elsewhere."""
    sizes = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            sizes["L" + level] = 1024 * int(size.removesuffix("K"))
    return sizes


ones = np.ones(1 << 25, np.float32)  # 128 MiB
assert read(ones[:1000], 3) == 3000
bandwidth = {}
for power in range(12, 28):
    n = (1 << power) // 4
    rounds = max(1, (1 << 24) // n)
    bandwidth[4 * n] = 4e-9 * n * rounds / seconds(lambda n=n, rounds=rounds: read(ones[:n], rounds), 0)
with ThreadPoolExecutor(workers()) as pool:  # all cores at once, each a part of the large array
    parts = np.array_split(ones, workers())
    together = 1e-9 * ones.nbytes / seconds(lambda: list(pool.map(read, parts, [1] * len(parts))))

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.plot(list(bandwidth), list(bandwidth.values()), "o-", color=BLUE, label="one core")
ax.plot(ones.nbytes, together, "s", color=ORANGE, label="all cores together")
for name, size in cache_sizes().items():
    ax.axvline(size, color=GREY, lw=1, ls=(0, (4, 3)))
    ax.text(size, 1.02, f"{name} ends", ha="center", fontsize=9, color="#555555", transform=ax.get_xaxis_transform())
ax.set(xscale="log", ylim=(0, None), xlabel="bytes of the array, logarithmic", ylabel="GB/s read")
ax.set_xticks([1 << p for p in range(12, 28, 3)], ["4 KiB", "32 KiB", "256 KiB", "2 MiB", "16 MiB", "128 MiB"])
ax.xaxis.set_minor_locator(plt.NullLocator())
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Arithmetic intensity: two numbers tell what code waits for
#
# Let code do $F$ operations on $B$ bytes that come from memory. Its **intensity** is $I = F / B$. It cannot be faster than
# the arithmetic, nor than the bytes come:
#
# $$\text{GFLOP/s} \le \min(\text{peak}, \; I \cdot \text{bandwidth}).$$
#
# Drawn against $I$ that is a **roof**. Left of its edge code waits for memory; right of it, for arithmetic. Where are the
# layers of a U-Net? `minunet.summary` lists them with shapes and operations. Count every number of input, output and
# filters once.


# %%
def intensity(row):
    """Operations a byte of a convolution, each array read or written once."""
    return row.flops / (4 * (np.prod(row.input) + np.prod(row.output) + row.params))


network = minunet.UNet(3, 2)
rows = minunet.summary(network, (1, 256, 256, 3)).rows
layers = {row.name: intensity(row) for row in rows if row.kind == "Conv2d"}
relu_intensity, norm_intensity = 1 / 8, 2 / 8  # one operation, or two, on a number that is read and written: 8 bytes
inner = [i for name, i in layers.items() if name not in ("encoder.0.conv1", "head")]
assert min(inner) > 40 and layers["encoder.0.conv1"] < min(inner)  # 3 channels in: little to do with each number

figure, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
edge, x, lowest = peak / together, np.geomspace(0.06, 2000, 200), relu_intensity * together / 20
ax.plot(x, np.minimum(peak, x * together), color="#333333", lw=2)
ax.axvline(edge, color=GREY, lw=1, ls=(0, (4, 3)))
for at, name, colour in (
    (relu_intensity, "ReLU", RED),
    (norm_intensity, "batch norm", RED),
    (layers["encoder.0.conv1"], "first conv", BLUE),
    (min(inner), "3 x 3 conv, lowest", BLUE),
    (max(inner), "3 x 3 conv, highest", BLUE),
):
    top = min(peak, at * together)
    ax.plot([at, at], [lowest, top], color=colour, lw=1.2)
    ax.plot(at, top, "o", color=colour)
    ax.text(at * 1.08, 1.15 * lowest, name, rotation=90, fontsize=9, color=colour, va="bottom")
ax.text(edge * 0.93, 1.4 * peak, "waits for memory", ha="right", fontsize=9, color="#555555")
ax.text(edge * 1.07, 1.4 * peak, "waits for arithmetic", fontsize=9, color="#555555")
ax.set(xscale="log", yscale="log", ylim=(lowest, 3 * peak), xlim=(0.06, 2000))
ax.set(xlabel="operations a byte", ylabel="GFLOP/s, at most")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# So there are two tasks. A convolution has intensity to spare: it should run at the peak, *if* numbers that were fetched are
# used often before they leave the caches. Norms and ReLUs cannot be fast by themselves: they should not go over memory at
# all. First the convolution.
#
# ## Blocks: use what is near
#
# A matrix product $C = A B$ uses each number $n$ times. But in the order of the definition, row by column, the whole of B
# goes through the cache for each row of A. If B is larger than the cache, it comes from memory every time. Better: cut into
# blocks of $b \times b$ and multiply block by block. Two numbers fetched, $b$ terms each: about $2 n^3 / b$ fetches in all,
# as long as the blocks of A and B fit. (C's block wants room, too. It is left out here: each of its sums is in a register
# while it grows by $b$ terms, so that C comes and goes once in $b$.)
#
# We need no machine to see it. Here is a cache: a table of the lines that were used last. Count what it must fetch.


# %%
def fetched_lines(n, b, lines=64, per_line=16):
    """Lines that A and B (n x n) bring into a cache of so many lines during C = AB, by blocks of b x b."""
    cache, fetched = OrderedDict(), 0
    for block in np.ndindex(n // b, n // b, n // b):
        i0, j0, k0 = (b * at for at in block)
        for i in range(i0, i0 + b):
            for j in range(j0, j0 + b):
                for k in range(k0, k0 + b):  # the sum of C[i, j] is in a register
                    for line in (("A", i, k // per_line), ("B", k, j // per_line)):
                        if line in cache:
                            cache.move_to_end(line)
                            continue
                        fetched += 1
                        cache[line] = True
                        if len(cache) > lines:
                            cache.popitem(last=False)  # the one unused for longest goes
    return fetched


n, blocks = 64, (2, 4, 8, 16, 32, 64)
fetched = {b: fetched_lines(n, b) for b in blocks}
assert min(fetched, key=fetched.get) == 16 and fetched[16] <= 2 * n**3 / 16 / 16  # 2 n^3 / b numbers, 16 a line
assert fetched[64] > n**3  # no blocks: each number of B costs a line, a hundred times as many

figure, (ax, sketch) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained", width_ratios=[4, 5])
ax.plot(blocks, list(fetched.values()), "o-", color=BLUE)
ax.set(xscale="log", yscale="log", xlabel="side of the blocks b", ylabel="lines fetched")
ax.set_xticks(blocks, blocks)
ax.xaxis.set_minor_locator(plt.NullLocator())
ax.annotate("a block of A and one of B\nfill half of the cache", (16, fetched[16]), (2, 0.95 * fetched[16]), fontsize=9,
            arrowprops={"arrowstyle": "->", "color": GREY})  # fmt: skip
ax.set_title("A, B: 64 x 64; a cache of 4 KiB", fontsize=10)
ax.spines[["top", "right"]].set_visible(False)
for left, name, row, column, colour in ((0, "A", 1, 2, BLUE), (5.2, "B", 2, 0, ORANGE), (10.4, "C", 1, 0, GREEN)):
    for i, j in np.ndindex(4, 4):
        mine = (i, j) == (row, column)
        sketch.add_patch(Rectangle((left + j, -i), 1, 1, fc=colour if mine else "#eeeeee", ec="white"))
    sketch.text(left + 2, 1.3, name, ha="center", fontsize=12)
sketch.text(4.6, -1, "x", ha="center", va="center", fontsize=13)
sketch.text(9.8, -1, "+=", ha="center", va="center", fontsize=11)
sketch.set(xlim=(-0.2, 14.6), ylim=(-3.4, 2), aspect="equal")
sketch.axis("off")
sketch.set_title("one step: a block of A times a block of B", fontsize=10)
plt.show()

# %% [markdown]
# A machine has several caches, so real products block several times: for L2, for L1, and for the smallest and fastest
# memory of all.
#
# ## Registers: a block of sums
#
# A core calculates in **registers**, 32 vectors with AVX-512. Rung 4 loads its vector of sums for every multiply-add and
# stores it again. Keep a block of sums there instead, $r$ pixels times $v$ vectors of output channels. For each term it
# loads $v$ vectors of w and $r$ numbers of x and does $r v$ multiply-adds:
#
# $$\frac{\text{loads}}{\text{multiply-add}} = \frac{r + v}{r \, v}, \qquad r v + v + 1 \le 32.$$
#
# A core can load twice a cycle and multiply-add twice, so below 1 the arithmetic is what it waits for.

# %%
pixels, vectors = np.mgrid[1:13, 1:7]
loads = np.where(pixels * vectors + vectors + 1 <= 32, (pixels + vectors) / (pixels * vectors), np.nan)
four = loads[:, 3]  # four vectors of 16 are 64 channels: layers have such numbers
assert np.nanargmin(four) + 1 == 6 and np.nanmin(four) < 1.05 * np.nanmin(loads)

figure, ax = plt.subplots(figsize=(7.5, 3.1), layout="constrained")
ax.imshow(loads.T, cmap="Blues_r", vmin=0.2, vmax=2.2, origin="lower", aspect="auto")
for (r, v), value in np.ndenumerate(loads):
    if not np.isnan(value):
        ax.text(r, v, f"{value:.2f}", ha="center", va="center", fontsize=9, color="white" if value < 1 else "black")
ax.add_patch(Rectangle((4.5, 2.5), 1, 1, fill=False, ec=ORANGE, lw=3))
ax.set_xticks(range(12), range(1, 13))
ax.set_yticks(range(6), range(1, 7))
ax.set(xlabel="pixels r", ylabel="vectors v", facecolor="#eeeeee")
ax.set_title("loads a multiply-add; grey: more than 32 registers; framed: minunet's block", fontsize=10)
plt.show()

# %% [markdown]
# Compilers do not find this block. `minunet/kernels/cpu/simd_gemm.py` writes it in vector instructions, and everything
# around it is ordinary numba. It reads the three taps of a filter's row as one run of $3C$ numbers, which they are in
# NHWC: im2col without a copy. (With 16 registers, AVX2, the block is 6 by 2.)

# %%
climb("08_registers")

# %% [markdown]
# That is about what BLAS can do. `bench/conv_ladder/09_caches.py` blocks for L1 and L2 as above, which gains more with more
# channels. And there this road ends: nearly every instruction is a multiply-add and hardly one waits. Who wants more must
# multiply **less**.
#
# ## Winograd: fewer multiplications
#
# Two outputs of a filter of three taps need six products:
#
# $$y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2, \qquad y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2.$$
#
# Four are enough. The way there is a detour by polynomials. Let $g(x) = g_0 + g_1 x + g_2 x^2$ and $z(x) = z_0 + z_1 x$.
# To multiply them out takes six products, too. But $p = g \, z$ has degree 3: **four values fix it.** A value of $p$ is one
# product of two values, $p(a) = g(a) \, z(a)$. Take the points 0, 1, -1, and "infinity", where the value is the leading
# coefficient:
#
# $$p(0) = g_0 z_0, \quad p(1) = (g_0 + g_1 + g_2)(z_0 + z_1), \quad p(-1) = (g_0 - g_1 + g_2)(z_0 - z_1), \quad
# p(\infty) = g_2 z_1.$$
#
# Four products. With a pencil find p's coefficients $c_0 \dots c_3$: $p(1) \pm p(-1)$ are twice the even and twice the odd
# ones, so
#
# $$c_0 = p(0), \quad c_1 = \tfrac{p(1) - p(-1)}{2} - p(\infty), \quad c_2 = \tfrac{p(1) + p(-1)}{2} - p(0), \quad
# c_3 = p(\infty).$$

# %%
g, z = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.5])  # lowest coefficient first
p0, p1, pm1, p_infinity = g[0] * z[0], g.sum() * z.sum(), (g[0] - g[1] + g[2]) * (z[0] - z[1]), g[2] * z[1]
c = np.array([p0, (p1 - pm1) / 2 - p_infinity, (p1 + pm1) / 2 - p0, p_infinity])
np.testing.assert_allclose(c, np.convolve(g, z))

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
x = np.linspace(-1.6, 1.6, 100)
for ax, coefficients, name, colour, side in zip(axes, (g, z, c), "gzp", (BLUE, ORANGE, GREEN), (1, -1, 1)):
    ax.plot(x, np.polyval(coefficients[::-1], x), color=colour)
    for a in (0, 1, -1):
        value = np.polyval(coefficients[::-1], a)
        ax.plot([a, a], [0, value], color=GREY, lw=1)
        ax.plot(a, value, "o", color=colour, ms=7)
        ax.annotate(f"{value:g}", (a, value), (8 * side, 5), textcoords="offset points", fontsize=9,
                    ha="left" if side > 0 else "right", bbox={"fc": "white", "ec": "none", "pad": 0.5})  # fmt: skip
    ax.axhline(0, color="#333333", lw=0.7)
    ax.set(xticks=(-1, 0, 1), yticks=[], ylim=(-6.5, 5.5))
    ax.set_title(f"{name}; at infinity {coefficients[-1]:g}", fontsize=10)
    ax.spines[["top", "right", "left"]].set_visible(False)
figure.suptitle("values multiply one by one: three dots and the leading coefficient fix p", fontsize=10)
plt.show()

# %% [markdown]
# **Now transpose** (lesson 03). As a function of z, multiplying by g is a linear map: $z$ to $c$, a $4 \times 2$ matrix
# whose column i has g from row i on. Its transpose takes four numbers d to two, $y_i = \sum_j d_{i + j} \, g_j$. That is
# the convolution! And the transpose of a product is the product of the transposes, from the other end:
#
# $$c = B \, \big( (G g) \odot (A z) \big) \quad\Rightarrow\quad y = A^T \big( (G g) \odot (B^T d) \big).$$
#
# A evaluates z at the points, G evaluates g, B interpolates. By Lagrange's formula the column of B for the point $a$ holds
# the coefficients of $M(x) / (x - a)$, where $M(x)$ is the product of all $(x - a)$, and is to be divided by what
# that polynomial is at $a$. The division goes into G: it is done once a filter. For infinity the column is M itself: it has
# the leading coefficient, and is 0 at all other points.
#
# In exact fractions, for $m$ outputs of $r$ taps and any $m + r - 2$ points:


# %%
def multiply_out(roots):
    """The coefficients of the product of (x - a), lowest first."""
    p = [Fraction(1)]
    for a in roots:
        p = [low - a * high for low, high in zip([0, *p], [*p, 0])]
    return p


def winograd(points, m, r=3):
    """The matrices A^T (m, n), G (n, r) and B^T (n, n) of F(m, r), exact; n = m + r - 1, one more than points."""
    points = [Fraction(a) for a in points]
    n = len(points) + 1
    assert n == m + r - 1
    A = [[a**k for k in range(m)] for a in points] + [[Fraction(k == m - 1) for k in range(m)]]
    G, BT = [], []
    for a in points:
        numerator = multiply_out([other for other in points if other != a])
        at_a = sum(c * a**k for k, c in enumerate(numerator))
        G.append([a**k / at_a for k in range(r)])
        BT.append([*numerator, Fraction(0)])
    G.append([Fraction(k == r - 1) for k in range(r)])
    BT.append(multiply_out(points))
    return [np.array(matrix, dtype=object) for matrix in (np.array(A, dtype=object).T, G, BT)]


AT, G, BT = winograd((0, 1, -1), m=2)
for name, matrix in (("A^T", AT), ("G", G), ("B^T", BT)):
    print(name, *(" ".join(f"{entry!s:>5}" for entry in line) for line in matrix), sep="\n")
d = np.array([3, -1, 4, 2])
taps = np.array([Fraction(2), Fraction(7), Fraction(-1)])
product = (G @ taps) * (BT @ d)  # four multiplications
assert len(product) == 4 and list(AT @ product) == [d[0:3] @ taps, d[1:4] @ taps]

AT, G, BT = winograd((0, 1, -1, Fraction(1, 2), -2), m=4)
for mine, theirs in ((AT, "AT"), (G, "G"), (BT, "BT")):  # minunet's own
    np.testing.assert_array_equal(mine.astype(float), getattr(winograd_matrices, theirs))

# %% [markdown]
# ## Two dimensions, whole maps
#
# Treat columns as rows: $Y = A^T \big[ (G g G^T) \odot (B^T X B) \big] A$. A tile of $m \times m$ outputs reads
# $(m + 2) \times (m + 2)$ inputs; neighbouring tiles overlap by two. It takes $(m + 2)^2$ multiplications in place of
# $9 m^2$.
#
# The transforms are additions, mostly, but that alone would not pay. What pays: $B^T X B$ serves all K filters, $G g G^T$
# all tiles, and the sum over the C channels is taken *before* the outer transform. That sum is a matrix product at each of
# the $(m + 2)^2$ points of a tile, for which we have the block of registers.

# %%
POINTS = {2: (0, 1, -1), 4: (0, 1, -1, Fraction(1, 2), -2), 6: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))}


def conv2d_winograd(x, w, m=4, points=None):
    """x (N, H, W, C) with w (3, 3, C, K), same padding; sides that m divides."""
    AT, G, BT = (matrix.astype(x.dtype) for matrix in winograd(points or POINTS[m], m))
    (N, H, W, C), K, n = x.shape, w.shape[3], m + 2
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (n, n), (1, 2))[:, ::m, ::m]  # (N, H/m, W/m, C, n, n)
    V = np.einsum("pi,nhwcij,qj->pqnhwc", BT, tiles, BT, optimize=True)
    U = np.einsum("pi,ijck,qj->pqck", G, w, G, optimize=True)
    M = V.reshape(n, n, -1, C) @ U  # at each point (tiles, C) @ (C, K)
    y = np.einsum("ap,pqtk,bq->tabk", AT, M, AT, optimize=True)
    return y.reshape(N, H // m, W // m, m, m, K).swapaxes(2, 3).reshape(N, H, W, K)


x, few = rng.standard_normal((2, 12, 24, 3)), rng.standard_normal((3, 3, 3, 5))
for m in POINTS:
    np.testing.assert_allclose(conv2d_winograd(x, few, m), ops.conv2d(x, few)[0], atol=1e-11)
    print(f"F({m}x{m}, 3x3): {(m + 2) ** 2} products for {m * m} outputs, {9 * m * m / (m + 2) ** 2:.2f} times fewer")

# %% [markdown]
# Why not $6 \times 6$, or larger? Look at float32. The larger the tile, the more points; their powers grow, the transforms
# subtract large numbers from each other, and digits go. *Which* points matters as well: 1/2 and -2 do better than 2 and -2.

# %%
x = rng.standard_normal((1, 24, 24, 64), np.float32)
truth = ops.conv2d.plain(x.astype(float), w.astype(float))[0]


def error(y):
    """The largest error over the largest value."""
    return abs(y - truth).max() / abs(truth).max()


errors = {m: error(conv2d_winograd(x, w, m)) for m in POINTS}
usual = error(conv2d_winograd(x, w, 4, (0, 1, -1, 2, -2)))
direct = error(ops.conv2d.plain(x, w)[0])
assert errors[2] < errors[4] < errors[6] and errors[4] < usual and errors[6] > 5 * errors[2]

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
per_output = {m: (m + 2) ** 2 / m**2 for m in POINTS}
ax.plot([9, *per_output.values()], [direct, *errors.values()], "o-", color=BLUE, ms=8)
ax.plot(per_output[4], usual, "o", color=GREY, ms=8, mfc="white")
ax.annotate("F(4x4) with 0, 1, -1, 2, -2", (per_output[4], usual), (12, 0), textcoords="offset points", va="center",
            fontsize=9, color="#555555")  # fmt: skip
for m, value in errors.items():
    ax.annotate(f"F({m}x{m})", (per_output[m], value), (12, 2), textcoords="offset points", fontsize=10)
ax.annotate("direct", (9, direct), (0, 9), textcoords="offset points", ha="center", fontsize=10)
ax.set(yscale="log", xlim=(0, 10), ylim=(direct / 3, 3 * errors[6]))
ax.set(xlabel="multiplications an output and channel", ylabel="largest error, float32")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From $4 \times 4$ to $6 \times 6$ the multiplications fall by a fifth, the error grows several times over, and the
# transforms grow, too. minunet takes $4 \times 4$. Weights' gradients of a batch differ by far more than $10^{-5}$ from
# batch to batch; training does not notice.
#
# ## The whole climb, here
#
# minunet's convolution is this, with the transforms in registers and everything blocked for the caches. Bars are measured
# just now, diamonds were published with minunet on another machine; GFLOP/s count the operations of the definition, so
# Winograd may pass the peak. Grey: PyTorch, if you have it.

# %%
climb("11_larger_tiles")
try:
    import torch
except ImportError:
    torch = None
    print("PyTorch is not installed: pip install torch, and run this again to compare")
if torch:
    torch.set_num_threads(workers())
    tx = torch.from_numpy(rng.standard_normal((1, CHANNELS, SIZE, SIZE), np.float32))
    tx, tw = (t.contiguous(memory_format=torch.channels_last) for t in (tx, torch.from_numpy(w).permute(3, 2, 0, 1)))
    with torch.inference_mode():
        speed["PyTorch"] = GFLOP / seconds(lambda: torch.nn.functional.conv2d(tx, tw, padding=1))
    print(f"{'PyTorch':<20}{speed['PyTorch']:>10.0f} GFLOP/s")

published = json.loads((BENCH / "results" / "conv_ladder.json").read_text())
elsewhere = {f"{r['rung']} {r['name']}": r["gflops"] for r in published["rungs"]}
if published["torch_ms"]:
    elsewhere["PyTorch"] = 1e3 * published["gflop"] / published["torch_ms"]

figure, ax = plt.subplots(figsize=(9.5, 4.6), layout="constrained")
lowest = min(*speed.values(), *elsewhere.values()) / 5
names = sorted({*speed, *elsewhere})  # digits come before PyTorch
for row, name in enumerate(names):
    colour = GREY if name == "PyTorch" else PINK if name >= "10" else GREEN if name >= "08" else ORANGE
    if name in speed:
        ax.barh(row, speed[name], color=colour, height=0.62)
        ax.text(1.2 * lowest, row, f"{speed[name]:.3g}", va="center", fontsize=9, color="white", fontweight="bold")
    if name in elsewhere:
        ax.plot(elsewhere[name], row, "D", color="#333333", mfc="white", ms=6)
ax.axvline(peak, color="#333333", lw=1, ls=(0, (4, 3)))
ax.text(peak, -0.75, "BLAS here ", ha="right", fontsize=9)
ax.set(xscale="log", xlim=(lowest, 3 * max(peak, *elsewhere.values())), xlabel="GFLOP/s, logarithmic")
ax.set_yticks(range(len(names)), names)
ax.set_title(f"bars: here; diamonds: {published['machine']}", fontsize=10, pad=16)
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Rungs without a bar (threads, caches, small tiles) are left out to save time: `python bench/conv_ladder` measures them all.
#
# ## Fusion: do not go over memory at all
#
# What remains are norms and ReLUs, left of the roof's edge. Between two convolutions stands $\max(s \, x + t, 0)$, with a
# scale and a shift for each channel (lesson 04). In NumPy that is three functions. Each reads a map and writes one: six
# passes over memory. Compiled into one loop: two. And if the next convolution does it *while it reads*, none.


# %%
@njit
def norm_relu(x, scale, shift):
    """max(x * scale + shift, 0) in one loop; x (pixels, C)."""
    y = np.empty_like(x)
    for p in range(x.shape[0]):
        for c in range(x.shape[1]):
            value = x[p, c] * scale[c] + shift[c]
            y[p, c] = value if value > 0 else np.float32(0)
    return y


raw = rng.standard_normal((256 * 256, 64), np.float32)
scale, shift = rng.uniform(0.5, 2, 64).astype(np.float32), rng.standard_normal(64, np.float32)
np.testing.assert_allclose(norm_relu(raw, scale, shift), np.maximum(raw * scale + shift, 0), atol=1e-6)
apart = seconds(lambda: np.maximum(raw * scale + shift, 0))
one_loop = seconds(lambda: norm_relu(raw, scale, shift))
print(f"three functions {1e3 * apart:.1f} ms, one loop {1e3 * one_loop:.1f} ms, while reading: nothing of its own")

# %% [markdown]
# minunet's convolutions return a small object that stands for the map, a *lazy map*: the raw output, scale, shift, and whether
# a ReLU follows. The next kernel applies them as it loads a tile. A concatenation is two such maps side by side, never
# copied. `minunet/kernels/cpu/lazy_maps.py` says how; the layers themselves stay as you wrote them. Count what is *stored*:

# %%
shape = (1, 256, 256, 3)
plain, fused = (sum(minunet.summary(network, shape, fused=f).stored) / 2**20 for f in (False, True))
print(f"maps that one forward of the U-Net writes: {plain:.0f} MiB plain, {fused:.0f} MiB fused")
assert fused < 0.4 * plain

# %% [markdown]
# One trap, and everybody who fuses steps into it. The zeros of the padding stand around the map *after* norm and ReLU. Pad
# the raw map and apply both afterwards, and the border is $\max(0 \cdot s + t, 0)$, which is not 0.

# %%
x = SyntheticCells(1, size=64, seed=3)[0].image[None, :40, :40]
blur, scale, shift = np.full((3, 3, 1, 1), 1 / 9, np.float32), np.float32(1), np.float32(0.5)
right = ops.conv2d.plain(np.maximum(x * scale + shift, 0), blur)[0][0, ..., 0]
padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
wrong = ops.conv2d.plain(np.maximum(padded * scale + shift, 0), blur, padding="valid")[0][0, ..., 0]
off = abs(wrong - right)
assert off[1:-1, 1:-1].max() < 1e-6 and np.isclose(off[0, 1], 3 / 9 * shift) and np.isclose(off[0, 0], 5 / 9 * shift)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, a, title in zip(axes, (right, wrong, off), ("a blur, right", "padded too early", "the difference")):
    ax.imshow(a, cmap="gray", vmin=0, vmax=off.max() if a is off else right.max())
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
plt.show()

# %% [markdown]
# A network trained with the wrong border works with the wrong border, and nobody notices, until its weights are used
# elsewhere. The tests compare kernel and plain op; so should yours.
#
# Now read, in this order: `bench/conv_ladder/08_registers.py`, `minunet/kernels/cpu/simd_gemm.py`,
# `minunet/kernels/cpu/winograd_transforms.py`, `minunet/kernels/cpu/winograd.py`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** `y += a * x` in float32 on arrays far larger than the caches, on a core of 100 GFLOP/s beside a memory of 20
# GB/s. How fast can it be, and what would twice as wide vector instructions bring?
#
# <details>
# <summary>Answer</summary>
#
# Two operations for 12 bytes (read x, read y, write y): $2 / 12$ operations a byte, so at most $20 \cdot 2 / 12 = 3.3$
# GFLOP/s. Wider vectors bring nothing: it waits for memory. Only less traffic helps, such as doing the next step while
# y is at hand.
#
# </details>
#
# **2.** Winograd's $F(4 \times 4, 3 \times 3)$ needs 36 multiplications for 16 outputs where the plain way needs 144.
# Name two reasons why it is not four times as fast.
#
# <details>
# <summary>Answer</summary>
#
# The transforms cost additions of their own, for each tile and channel; with few channels they are most of the work.
# And the transformed maps are $36 / 16$ times as large, so more goes over memory. Besides, larger numbers meet smaller
# ones in it, so it rounds more coarsely.
#
# </details>
#
# **3.** You fuse the wrong way and pad the *raw* map with zeros, before scale $s$, shift $t$ and ReLU. For which
# channels does nobody notice?
#
# <details>
# <summary>Answer</summary>
#
# At the border stands $\max(0 \cdot s + t, 0)$, which is 0 for every $t \le 0$. So a test whose shifts are negative, or
# 0 as at the start of a training, passes; give the test random shifts.
#
# </details>
#
# ## Exercises
#
# With a grade: one tile of Winograd's convolution, [`winograd.py`](exercises/winograd.py). Write it, then
# `python -m minunet.grade tutorials/exercises/winograd.py`.
#
# 1. **The roof.** A $1 \times 1$ convolution with C channels in and out on a large map: what is its intensity, as a formula?
#    From which C on does it wait for arithmetic, on your machine? *Check:* `intensity` of the row that
#    `minunet.summary(minunet.nn.Conv2d(C, C, 1), (1, 256, 256, C)).rows` holds; `edge` is the roof's.
# 2. **Five taps.** How many multiplications does F(2, 5) take for an output, in one dimension and in two? Find points and
#    build it. *Check:* `winograd(points, 2, r=5)` on integers, against `np.correlate(d, g, "valid")`, exactly.
# 3. **Better points.** Search five points among 0, ±1/2, ±1, ±2, ±3/2 and their like for a smaller error of F(4x4). How do
#    the best compare with minunet's? *Check:* `error(conv2d_winograd(x, w, 4, points))` with the `x` of its cell, and
#    with a second random x, on which you did not choose.
# 4. **One pass for the variance.** $E[x^2] - E[x]^2$ needs one pass in place of two. Try it in float32 on
#    `1000 + rng.standard_normal(10**6, np.float32)`. What went wrong, and how does subtracting the first value help?
#    *Check:* `np.var` in float64.
# 5. **No norm at all.** After training, scale and shift are constants. Fold them into the filters and the bias of the
#    convolution *before* the norm. Why not into the one after it? *Check:* `np.testing.assert_allclose` against
#    `ops.conv2d` followed by `* scale + shift`.
