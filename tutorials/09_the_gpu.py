# %% [markdown]
# # 09 The GPU: from NumPy to a tensor-core kernel
#
# **You will be able to**
#
# * run a NumPy function on a GPU unchanged, and say why that alone does not make it fast;
# * read a CUDA kernel: threads, warps, blocks, shared memory, barriers, asynchronous copies, `mma.sync`;
# * say why minunet stores channels last, why tiles are swizzled, and which lane of a warp holds which number;
# * say what TF32, float16 and bfloat16 do to a convolution, in numbers;
# * find a missing barrier by running a kernel in ten different orders.
#
# You need lessons 01, 02 and 08. You do not need a GPU: without one, the kernels run on an emulator. It needs a C++ compiler;
# without that the lesson goes on with what can be read and drawn. **No speed is told here**: an emulator has none to tell.

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import minunet
from minunet import ops
from minunet.array import get_array_module, to_numpy
from minunet.kernels.cuda import build, emulator, launch, launch_conv

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"
rng = np.random.default_rng(0)

status = minunet.gpu_status()
if status:
    import cupy as xp
else:
    xp = np
emulated = emulator.missing() is None
can_run = bool(status) or emulated
print("GPU:     ", status.reason)
print("emulator:", emulator.missing() or "ready")


def bare(ax, title=""):
    """Take the ticks off a picture."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


def show_source(file, start, stop):
    """Print a piece of a kernel's file, from one piece of text up to another."""
    text = (build.FOLDER / file).read_text()
    begin = text.index(start)
    print(text[begin : text.index(stop, begin)].rstrip())


# %% [markdown]
# ## One body for two devices
#
# CuPy is NumPy on a GPU: the same names, another array type. So write `xp` instead of `np`, and ask the array where it
# lives. All of `minunet/ops` is written like this. **The array's type is the device.**


# %%
def conv_shifted(x, w):
    """Lesson 01's nine shifted products, for arrays of NumPy and of CuPy."""
    xp = get_array_module(x)
    (_, H, W, _), (KH, KW, _, K) = x.shape, w.shape
    padded = xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = xp.zeros((*x.shape[:3], K), x.dtype)
    for i in range(KH):
        for j in range(KW):
            y += padded[:, i : i + H, j : j + W] @ w[i, j]
    return y


x, w = rng.standard_normal((2, 9, 12, 40)), rng.standard_normal((3, 3, 40, 24))
wanted = ops.conv2d(x, w)[0]
np.testing.assert_allclose(to_numpy(conv_shifted(xp.asarray(x), xp.asarray(w))), wanted, atol=1e-10)

# %% [markdown]
# It is right, and it is not what a GPU can do. Each line starts kernels of its own, and each kernel reads its maps from the
# GPU's memory and writes them back. For each tap: the product reads a window and writes a result; the sum reads that and y
# and writes y. Count passes over a map, and compare with the least that a convolution must do: read x, write y.

# %%
passes = 9 * (2 + 3)
print(f"{passes} passes over a map; the least possible is 2")
assert passes > 20 * 2

# %% [markdown]
# Arithmetic is cheap on a GPU; fetching is dear. The rest of the lesson is about fetching less.
#
# ## A kernel is the body of a loop
#
# A kernel is a C++ function that thousands of **threads** run at once, each with its number. 32 threads are a **warp**,
# which moves as one; some warps are a **block**, which shares a small, quick memory and can wait for each other; all blocks
# are the **grid**. So where is the loop over blocks and threads? The GPU is that loop; the kernel is what stands inside.
# Here it is for the step of gradient descent, with all its loops, in Python:


# %%
def sgd_by_hand(p, g, v, rate, momentum, blocks, threads):
    """The kernel, one thread after another (without decay and Nesterov); who did which number."""
    who = np.full(p.size, -1)
    for block in range(blocks):
        for thread in range(threads):
            for i in range(block * threads + thread, p.size, blocks * threads):
                v[i] = momentum * v[i] + g[i]
                p[i] -= rate * v[i]
                who[i] = block * threads + thread
    return who


p, g, v = rng.standard_normal((3, 1000)).astype(np.float32)
p_, v_ = p.copy(), v.copy()
who = sgd_by_hand(p_, g, v_, 0.1, 0.9, blocks=2, threads=256)
assert (who == np.arange(1000) % 512).all()  # each number has one thread, and neighbours have neighbours

# %% [markdown]
# The kernel itself has only the innermost loop. To read it, you need to know beside C++:
#
# * `extern "C" __global__`: a function that the host starts and the GPU runs, found by its name;
#   `__launch_bounds__(256, 1)`: its blocks have at most 256 threads;
# * `float*`: where numbers begin in the GPU's memory; `const` and `__restrict__`: they are only read, and lie in no other
#   array, so that they may be fetched early;
# * `blockIdx.x`, `threadIdx.x`: the number of the block, and of the thread in it; `gridDim.x`: how many blocks there are;
# * `256LL`: 256 in 64 bits, since arrays may be long.

# %%
DESCENT = """#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(256, 1)
descent(float* p, const float* __restrict__ g, float* v, long long size, float rate, float momentum) {
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < size; i += gridDim.x * 256LL) {
    v[i] = momentum * v[i] + g[i];
    p[i] -= rate * v[i];
  }
}
"""
if can_run:
    on = [xp.asarray(a) for a in (p, g, v)]
    with build.sources({"descent.cu": DESCENT}):
        launch.run("descent.cu", "descent", (2,), (256,), (*on, p.size, 0.1, 0.9))
    np.testing.assert_allclose(to_numpy(on[0]), p_, atol=1e-6)
    np.testing.assert_allclose(to_numpy(on[2]), v_, atol=1e-6)

# %% [markdown]
# A network has many parameters, most of them small, and to start a kernel takes longer than to change those. So the kernels
# of `optim.cu` take a table of arrays, and one start changes them all: `tables.cuh` has their common loop.

# %% [markdown]
# Note the stride: a thread's next number is a whole grid away. One might give each thread a piece of its own instead, as
# one does with the cores of a CPU. But memory is read in **sectors** of 32 bytes, and a warp reads together. Count the
# sectors that the 32 threads of a warp touch at one moment, for 4 bytes each.


# %%
def sectors(addresses):
    """How many sectors of 32 bytes hold these bytes' addresses."""
    return len(np.unique(np.asarray(addresses) // 32))


lane = np.arange(32)
side_by_side, pieces = 4 * lane, 4 * (lane * 8)  # the first number of each thread: neighbours, or pieces of 8 numbers
assert sectors(side_by_side) == 4 and sectors(pieces) == 32

figure, axes = plt.subplots(2, 1, figsize=(11, 2.9), layout="constrained")
for ax, addresses, title in zip(axes, (side_by_side, pieces), ("thread t reads number t", "thread t reads number 8 t")):
    for sector in range(32):
        touched = sector in addresses // 32
        ax.add_patch(Rectangle((8 * sector, 0), 8, 1, fc="#fbe6bd" if touched else "white", ec=GREY, lw=0.8))
    for t, address in enumerate(addresses):
        ax.add_patch(Rectangle((address / 4, 0), 1, 1, fc=BLUE, ec="white", lw=0.3))
        if addresses is pieces and t % 4 == 0:
            ax.text(address / 4 + 0.5, -0.4, str(t), ha="center", fontsize=7, color=BLUE)
    share = 100 * 32 * 4 / (32 * sectors(addresses))
    ax.set(xlim=(-1, 257), ylim=(-0.7, 1.1))
    ax.axis("off")
    ax.set_title(f"{title}: {sectors(addresses)} sectors, {share:.1f} % of what is fetched is used", fontsize=10)
words = "boxes: sectors of 32 bytes; orange: fetched; blue: wanted"
axes[0].text(36, 0.5, words, va="center", fontsize=9, bbox={"fc": "white", "ec": "none"})
plt.show()

# %% [markdown]
# Reading neighbours side by side is called **coalesced**. This is the first rule of the GPU.
#
# ## A convolution as tiles of one matrix product
#
# Lesson 01 made a convolution one matrix product: pixels times (taps and channels). The kernel `conv.cu` computes that
# product without ever storing im2col; this is called *implicit*. A block makes a tile of $BM \times BN$ results, of BM
# pixels and BN output channels. It goes along the inner dimension in steps of BK numbers: a step is one tap and BK
# channels. In each step it copies two small tiles to shared memory and multiplies them.
#
# What is that good for? A number in the tile of x is used for BN results, one in the tile of w for BM. (Where there are
# enough output channels to fill it, the tile is twice as wide.)

# %%
BM, BN, BK = launch_conv.BM, launch_conv.BN, 128 // 4
for width in (BN, launch_conv.WIDE):
    fetched, products = (BM + width) * BK, BM * width * BK
    print(
        f"tiles of {BM} x {width}: {products / fetched:.1f} products for each number fetched; without tiles {1 / 2:.1f}"
    )
    assert products / fetched == BM * width / (BM + width) > 40

C, K, H, W = 64, 128, 32, 32
tap, chunk, m0, n0 = 3, 1, 256, 64  # the tile of pixels 256.. and channels 64.., at tap (1, 0), channels 32..63
figure, axes = plt.subplots(
    2, 3, figsize=(12, 6.6), layout="constrained", width_ratios=[4, 6, 2.4], height_ratios=[4, 4]
)
axes[0, 0].axis("off")
ax = axes[1, 0]
ax.add_patch(Rectangle((0, 0), W, H, fc="#eeeeee", ec=GREY))
ax.add_patch(Rectangle((0, m0 // W), W, BM // W, fc=GREEN, alpha=0.35))
ax.add_patch(Rectangle((-1, m0 // W), W, BM // W, fill=False, ec=BLUE, lw=2.5))
ax.set(xlim=(-3, W + 2), ylim=(H + 2, -3), aspect="equal")
bare(ax, f"x, {H} x {W} pixels: {BM} outputs (green),\nand what tap (1, 0) of them reads (blue)")
ax = axes[1, 1]
ax.add_patch(Rectangle((0, 0), 9 * C, H * W, fc="#eeeeee", ec=GREY))
for t in range(1, 9):
    ax.plot([t * C, t * C], [0, H * W], color="white", lw=2)
for t in range(9):
    ax.text(t * C + C / 2, -25, f"({t // 3}, {t % 3})", ha="center", fontsize=8)
ax.add_patch(Rectangle((0, m0), 9 * C, BM, fc=BLUE, alpha=0.15))
ax.add_patch(Rectangle((tap * C + chunk * BK, m0), BK, BM, fc=BLUE))
ax.annotate("", (9 * C, m0 + BM + 30), (0, m0 + BM + 30), arrowprops={"arrowstyle": "-|>", "color": BLUE, "lw": 1.5})
ax.text(4.5 * C, m0 + BM + 95, f"{9 * C // BK} steps of {BK} channels of a tap", ha="center", color=BLUE, fontsize=9)
ax.set(xlim=(-10, 9 * C + 10), ylim=(H * W + 10, -70), ylabel=f"{H * W} pixels")
bare(ax, f"im2col(x), never stored: {H * W} x {9 * C}")
ax = axes[1, 2]
ax.add_patch(Rectangle((0, 0), K, H * W, fc="#eeeeee", ec=GREY))
ax.add_patch(Rectangle((n0, m0), BN, BM, fc=GREEN))
ax.set(xlim=(-5, K + 5), ylim=(H * W + 10, -70))
bare(ax, f"y: {H * W} x {K}")
ax.set_xlabel(f"green: one block's\n{BM} x {BN} results", fontsize=9)
ax = axes[0, 2]
ax.add_patch(Rectangle((0, 0), K, 9 * C, fc="#eeeeee", ec=GREY))
for t in range(1, 9):
    ax.plot([0, K], [t * C, t * C], color="white", lw=2)
ax.add_patch(Rectangle((n0, 0), BN, 9 * C, fc=ORANGE, alpha=0.2))
ax.add_patch(Rectangle((n0, tap * C + chunk * BK), BN, BK, fc=ORANGE))
ax.set(xlim=(-5, K + 5), ylim=(9 * C + 5, -5))
bare(ax, f"w: {9 * C} x {K}")
ax = axes[0, 1]
ax.axis("off")
small = f"blue {BM} x {BK} and orange {BK} x {BN}"
words = f"shared memory holds the small tiles,\n{small},\nof three steps at once: {launch_conv.CONV_SHARED[BN, 3] // 1024} KB"
ax.text(0.5, 0.5, words, ha="center", va="center", fontsize=11, transform=ax.transAxes)
plt.show()
assert launch_conv.CONV_SHARED[BN, 3] == 3 * (BM * BK + BK * BN) * 4

# %% [markdown]
# Look at the blue frame once more: the next taps read nearly the same pixels, and they are fetched again, nine times in all.
# So for $3 \times 3$ taps minunet has a second kernel, `conv_patch.cu`. Its tile is $8 \times 16$ pixels of the image; it
# copies these and a border of one pixel, a **patch**, and all nine taps read from that. How much less does it fetch? Count
# rows of channels, of pixels and of weights, for nine taps and BN output channels:

# %%
tall, across = launch_conv.DOWN[False], launch_conv.ACROSS
assert tall * across == BM
rows = {"conv.cu": 9 * (BM + BN), "conv_patch.cu": (tall + 2) * (across + 2) + 9 * BN}
print(", ".join(f"{file}: {n} rows" for file, n in rows.items()))
assert rows["conv.cu"] > 2.2 * rows["conv_patch.cu"]

# %% [markdown]
# Now weights are most of what is fetched; twice as many pixels in a tile would use each of them twice as often.
# `docs/gpu.md` counts on. We stay with `conv.cu`, which is easier to read, and which all other filters need.

# %% [markdown]
# ## Why channels last
#
# Copies to shared memory go 16 bytes at a time, from addresses that are multiples of 16 (`cp.async`). A tap shifts the
# window by one pixel. With channels last (**NHWC**) that is a step of C numbers: with 4, 8, 16 ... channels a multiple of 16
# bytes. With channels first (NCHW) it is a step of one number, 4 bytes: a copy may start at one place of four, and a tap
# mostly wants another. Besides, the BK channels that a step wants lie side by side in NHWC, and $H \cdot W$ numbers apart in
# NCHW.

# %%
C, H, W = 64, 32, 32
shift = {"NHWC": 4 * C, "NCHW": 4}  # bytes from a pixel to its neighbour
channel = {"NHWC": 4, "NCHW": 4 * H * W}  # bytes from a channel to the next
for layout in shift:
    of_pixel = sectors(channel[layout] * np.arange(BK))
    print(f"{layout}: a pixel's shift is {shift[layout]:>3} bytes; {BK} channels of a pixel lie in {of_pixel} sectors")
assert shift["NHWC"] % 16 == 0 and shift["NCHW"] % 16 != 0
assert sectors(channel["NHWC"] * np.arange(BK)) == 4 and sectors(channel["NCHW"] * np.arange(BK)) == 32

# %% [markdown]
# Where the channels are no multiple of 16 bytes (an image has 1 or 3), the same file is compiled a second way, `-DFLAT`,
# which copies number by number.
#
# ## Banks, and a swizzle
#
# Shared memory has 32 **banks**. Word number $a$ lies in bank $a \bmod 32$. A bank serves one word at a time; if a warp wants
# eight words of the same bank, it waits eight times. A row of our tile is 128 bytes, exactly 32 words. And a matrix
# instruction reads eight rows at the same column, 16 bytes each: eight times the same four banks.
#
# The cure costs nothing: permute the eight 16-byte chunks of row $r$ by $\text{chunk} \oplus (r \bmod 8)$, at the copy and
# at the reading alike.

# %%
show_source("tiles.cuh", "// where number i of row `row` lies in a tile whose rows", "// where number i of k's row")


def along_k(row, i):
    """The same in Python, for float32."""
    return row * 32 + (((i // 4) ^ (row & 7)) * 4 | i % 4)


assert sorted(along_k(r, i) for r in range(8) for i in range(32)) == list(range(256))  # a permutation: nothing is lost
figure, axes = plt.subplots(2, 2, figsize=(12, 4.2), layout="constrained", height_ratios=[8, 3.4])
waits = {}
for (grid, count), swizzled in zip(axes.T, (False, True)):
    wanted_words = [
        along_k(r, i) if swizzled else r * 32 + i for r in range(8) for i in range(8, 12)
    ]  # chunk 2 of 8 rows
    image = np.zeros((8, 32))
    for word in wanted_words:
        image[word // 32, word % 32] = 1
    grid.imshow(image, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for r in range(8):
        for c in range(8):
            text = c ^ r if swizzled else c
            grid.text(
                4 * c + 1.5, r, str(text), ha="center", va="center", fontsize=8, color="white" if text == 2 else GREY
            )
    for edge in range(4, 32, 4):
        grid.axvline(edge - 0.5, color="white", lw=1.5)
    per_bank = image.sum(0)
    waits[swizzled] = int(per_bank.max())
    count.bar(range(32), per_bank, color=BLUE, width=0.8)
    count.set(xlim=(-0.5, 31.5), ylim=(0, 8.5), yticks=[0, 8], xlabel="bank")
    count.spines[["top", "right"]].set_visible(False)
    bare(grid, f"{'swizzled' if swizzled else 'as it comes'}: the busiest bank gives {waits[swizzled]}")
axes[0, 0].set_ylabel("8 rows")
axes[1, 0].set_ylabel("words")
figure.suptitle(
    "a tile's rows in shared memory; numbers: which chunk of 4 channels lies there; blue: chunk 2, wanted now",
    fontsize=10,
)
plt.show()
assert waits == {False: 8, True: 1}

# %% [markdown]
# ## `mma.sync`: a warp multiplies
#
# A **tensor core** multiplies two small matrices in one instruction: $16 \times 8$ times $8 \times 8$ for TF32. No thread
# holds a matrix. The 32 **lanes** of a warp hold it together, each a few numbers in its registers, by a fixed plan. With
# $g = \lfloor \text{lane} / 4 \rfloor$ and $t = \text{lane} \bmod 4$:
#
# | | lane holds |
# | --- | --- |
# | a (16 x 8) | rows $g$ and $g + 8$ of columns $t$ and $t + 4$ |
# | b (8 x 8) | rows $t$ and $t + 4$ of column $g$ |
# | c (16 x 8) | rows $g$ and $g + 8$ of columns $2 t$ and $2 t + 1$ |


# %%
def a_of(lane):
    """Where a lane's four numbers of a stand."""
    g, t = divmod(lane, 4)
    return [(g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)]


def b_of(lane):
    """Its two of b."""
    g, t = divmod(lane, 4)
    return [(t, g), (t + 4, g)]


def c_of(lane):
    """Its four results."""
    g, t = divmod(lane, 4)
    return [(g, 2 * t), (g, 2 * t + 1), (g + 8, 2 * t), (g + 8, 2 * t + 1)]


figure, axes = plt.subplots(2, 2, figsize=(8.6, 9), layout="constrained", height_ratios=[8, 16])
chosen = 13
for ax, rows, places, title in (
    (axes[0, 1], 8, b_of, "b: 8 x 8"),
    (axes[1, 0], 16, a_of, "a: 16 x 8"),
    (axes[1, 1], 16, c_of, "c: 16 x 8"),
):
    owner = np.full((rows, 8), -1)
    for lane in range(32):
        for place in places(lane):
            assert owner[place] == -1
            owner[place] = lane
    assert owner.min() == 0  # each element has one owner
    ax.imshow(owner // 4, cmap="viridis", vmin=-4, vmax=9, alpha=0.55)
    for (row, column), lane in np.ndenumerate(owner):
        ax.text(column, row, str(lane), ha="center", va="center", fontsize=9)
        if lane == chosen:
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=ORANGE, lw=3))
    bare(ax, title)
axes[0, 0].axis("off")
frame = f"orange: what lane {chosen} holds\n(g = {chosen // 4}, t = {chosen % 4})"
words = f"which lane holds which number\n\none colour: four lanes, one g\n{frame}"
axes[0, 0].text(0.5, 0.5, words, ha="center", va="center", fontsize=11, transform=axes[0, 0].transAxes)
plt.show()

# %% [markdown]
# Write a kernel with it. `build.sources` puts a file of one's own beside minunet's, within a `with` block. One warp, one
# instruction; the three tables above are the indices.

# %%
WARP_PRODUCT = r"""
#include "prim.cuh"
// c (16 x 8) = a (16 x 8) b (8 x 8), by one warp
extern "C" __global__ void __launch_bounds__(32)
warp_product(const float* a, const float* b, float* c) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const float mine[6] = {a[g * 8 + t],     a[(g + 8) * 8 + t],     a[g * 8 + t + 4],
                         a[(g + 8) * 8 + t + 4], b[t * 8 + g], b[(t + 4) * 8 + g]};
  uint32_t bits[6];
  UNROLL for (int i = 0; i < 6; ++i) bits[i] = to_tf32(*reinterpret_cast<const uint32_t*>(&mine[i]));
  const uint32_t ra[4] = {bits[0], bits[1], bits[2], bits[3]}, rb[2] = {bits[4], bits[5]};
  float sum[4] = {};
  mma_tf32(sum, ra, rb);
  c[g * 8 + 2 * t] = sum[0], c[g * 8 + 2 * t + 1] = sum[1];
  c[(g + 8) * 8 + 2 * t] = sum[2], c[(g + 8) * 8 + 2 * t + 1] = sum[3];
}
"""
a, b = rng.integers(-9, 10, (16, 8)).astype(np.float32), rng.integers(-9, 10, (8, 8)).astype(np.float32)
if can_run:
    with build.sources({"lesson.cu": WARP_PRODUCT}):
        c = xp.zeros((16, 8), np.float32)
        launch.run("lesson.cu", "warp_product", (1,), (32,), (xp.asarray(a), xp.asarray(b), c))
    assert np.array_equal(to_numpy(c), a @ b)  # small integers: TF32 is exact

# %% [markdown]
# `conv.cu` has four warps, and each makes $64 \times 32$ results: $4 \times 4$ such fragments of c stay in its registers
# through all steps. The fragments of a come by `ldmatrix`, which reads the eight rows of the picture before at once.
#
# ## What tensor cores round
#
# Sums are float32. But the *factors* are cut first. TF32 keeps float32's exponent and 10 bits of its fraction. float16
# has as many bits of fraction and a short exponent; bfloat16 a long exponent and 7 bits.


# %%
def tf32(a):
    """Cut to 10 bits of fraction, as tensor cores do it; the kernels put back beforehand what that takes off in the mean."""
    bits = np.asarray(np.float32(1 + 0.7213 / 2048) * a, np.float32).view(np.uint32)
    return (bits & 0xFFFFE000).view(np.float32)


def bf16_bits(a):
    """The nearest bfloat16 numbers: the upper 16 bits of a float32, ties to even."""
    bits = np.asarray(a, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16(bits):
    """Back to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


third = np.float32(1 / 3)
stored = {"float32": third, "TF32": tf32(third), "float16": np.float16(third), "bfloat16": bf16(bf16_bits(third))}
fraction = {"float32": 23, "TF32": 10, "float16": 10, "bfloat16": 7}  # bits
exponent = {"float32": 8, "TF32": 8, "float16": 5, "bfloat16": 8}
for name, value in stored.items():
    print(f"{name:<9} 1/3 = {float(value):.9f}")
    assert abs(float(value) - 1 / 3) <= 2.0 ** -(fraction[name] + 1) / 3 * 2
assert np.float16(1e-8) == 0 and bf16(bf16_bits(np.float32(1e-8))) > 0  # a small gradient is lost in float16 ...
assert np.float16(1e-8 * 65536) / np.float64(65536) > 0.99e-8  # ... unless the loss was scaled up before

# %% [markdown]
# How far does a whole convolution move? Run it in each way, and compare with float64. (bfloat16 numbers travel as their bits
# here, as NumPy does not know them. On the emulator TF32's rounding can be switched off.)

# %%
x = rng.standard_normal((1, 12, 13, 64)).astype(np.float32)
w = (rng.standard_normal((3, 3, 64, 16)) / 24).astype(np.float32)
wanted = ops.conv2d(x.astype(np.float64), w.astype(np.float64))[0]
size = np.sqrt((wanted**2).mean())


def conv_on_gpu(x, w, **more):
    """A 3 x 3 convolution by conv.cu, of arrays wherever they live, stored in their dtype."""
    y = get_array_module(x).zeros((*x.shape[:3], w.shape[3]), x.dtype)
    launch_conv.conv([x], w.reshape(9, *w.shape[2:]), [y], side=3, pad=1, patch=False, **more)
    return y


error = {}
if emulated:
    with emulator.conditions(exact=True):
        error["float32"] = conv_on_gpu(x, w)
    error["TF32"] = conv_on_gpu(x, w)
    error["float16"] = conv_on_gpu(x.astype(np.float16), w.astype(np.float16)).astype(np.float32)
    error["bfloat16"] = bf16(conv_on_gpu(bf16_bits(x), bf16_bits(w)))
    error = {name: float(np.sqrt(((y - wanted) ** 2).mean()) / size) for name, y in error.items()}
    for name, e in error.items():
        print(f"{name:<9} error {e:.1e} of the result's size; half a last place is {2.0 ** -(fraction[name] + 1):.1e}")
        assert e < 4 * 2.0 ** -(fraction[name] + 1)
    assert error["float32"] < 0.01 * error["TF32"] and error["TF32"] < 0.3 * error["bfloat16"]

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 2.7), layout="constrained", width_ratios=[3, 2])
for row, name in enumerate(stored):
    start = 0
    for bits, colour in ((1, GREY), (exponent[name], ORANGE), (fraction[name], BLUE)):
        for bit in range(start, start + bits):
            left.add_patch(Rectangle((bit, row - 0.35), 1, 0.7, fc=colour, ec="white", lw=0.8))
        start += bits
    left.text(-0.5, row, name, ha="right", va="center", fontsize=10)
    if name in error:
        right.barh(row, error[name], color=BLUE, height=0.6)
        right.text(error[name] * 1.3, row, f"{error[name]:.1e}", va="center", fontsize=9)
left.set(xlim=(-5.5, 32.5), ylim=(3.6, -0.6))
left.axis("off")
left.set_title("bits: sign, exponent (orange), fraction (blue)", fontsize=10)
right.set(xscale="log", xlim=(1e-8, 1), ylim=(3.6, -0.6), yticks=[])
right.set_title("error of a convolution, relative, logarithmic" if error else "the emulator has not run", fontsize=10)
right.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# TF32 and float16 err alike; bfloat16 eight times as much. All this is small beside what a batch's choice does to a
# gradient, so networks train with it. Two things must stay in float32: sums, and what adds little to much (parameters,
# running statistics). float16's short exponent wants the loss scaled up, so that small gradients survive;
# `minunet/train/amp.py` does that.
#
# And it means for tests: compare with a tolerance made of the *format's* last place and of how many products were added,
# not with a number that happens to pass.
#
# ## Copies under way
#
# The heart of `conv.cu`:

# %%
show_source("conv.cu", "  Sums c = {};", "  store_sums(c, s->result.out);")

# %% [markdown]
# A copy takes long. So it is *started* two steps ahead (`cp_async`), and three pairs of tiles take turns. Three lines keep
# this right:
#
# * `cp_async_wait` waits for *this thread's* copies of the step that comes now;
# * `__syncthreads` waits for *everybody's*, and makes sure that everybody has done the step before;
# * only then may the next copy start, since it writes over that step's tiles.
#
# (`READ_BY_WGMMA`: GPUs of compute capability 9.0 also have `wgmma`, by which four warps, a *warpgroup*, multiply
# $64 \times 8$ by $8 \times 128$ at once. It reads the second matrix from shared memory by itself, past the registers, and goes
# on while the warps do something else. So it wants two more lines: a *fence*, that it may see what the copies have written,
# and a *wait* before anybody reads the sums. `multiply_transposed` in `tiles.cuh` is all of it.)

# %%
STAGES, steps = 3, 8
figure, ax = plt.subplots(figsize=(11, 2.8), layout="constrained")
for step in range(steps):
    for buffer in range(STAGES):
        held = next(s for s in range(step, step + STAGES) if s % STAGES == buffer)
        now, new = held == step, held == step + STAGES - 1
        colour, word = (
            (GREEN, f"multiply\n{held}") if now else (ORANGE, f"copy {held}\n" + ("starts" if new else "under way"))
        )
        if held >= steps:
            colour, word = "white", "free"
        ax.add_patch(Rectangle((step, buffer), 0.97, 0.9, fc=colour, alpha=1 if now else 0.6 if new else 0.3))
        ax.text(step + 0.48, buffer + 0.45, word, ha="center", va="center", fontsize=8)
    ax.plot([step - 0.015] * 2, [-0.15, 3.05], color=RED, lw=2)
for buffer in range(STAGES):
    ax.text(-0.1, buffer + 0.45, f"tiles {buffer}", ha="right", va="center", fontsize=9)
ax.set(xlim=(-0.8, steps), ylim=(3.1, -0.5))
ax.axis("off")
ax.set_title("step after step; red: wait for one's own copies, then for everybody", fontsize=10)
plt.show()

# %% [markdown]
# Does it compute a convolution? And its dx, by the same file: the gradient of a convolution is a convolution (lesson 02), of
# dy with the taps read backwards and the two channel axes of w exchanged.

# %%
dy = rng.standard_normal(wanted.shape).astype(np.float32)
_, cache = ops.conv2d(x.astype(np.float64), w.astype(np.float64))
dx_wanted = ops.conv2d_backward(dy.astype(np.float64), cache)[0]


def rounding(terms, values):
    """What TF32 may do to sums of so many products, generously."""
    return 4 * 2.0**-11 * np.sqrt(terms) * np.sqrt((values**2).mean())


if can_run:
    x_, w_, dy_ = (xp.asarray(a) for a in (x, w, dy))
    y = to_numpy(conv_on_gpu(x_, w_))
    dx = xp.zeros_like(x_)
    launch_conv.conv([dy_], w_.reshape(9, 64, 16), [dx], side=3, pad=1, flip=True, gradient=True, patch=False)
    assert abs(y - wanted).max() < rounding(9 * 64, wanted) / 8
    assert abs(to_numpy(dx) - dx_wanted).max() < rounding(9 * 16, dx_wanted) / 4
    print(f"largest errors: y {abs(y - wanted).max():.1e}, dx {abs(to_numpy(dx) - dx_wanted).max():.1e}")

# %% [markdown]
# On a GPU, now run a whole network: `convert` moves the parameters, the image is moved by hand, and each op finds its
# kernel by itself (`minunet/kernels/cuda/rules.py`).

# %%
if status:
    with minunet.use("fast"):
        image = rng.standard_normal((1, 64, 64, 1)).astype(np.float32)
        model = minunet.UNet(1, 2, base_width=16, depth=3, seed=0)
        on_cpu = model(image)
        on_gpu = to_numpy(model.convert(xp.asarray)(xp.asarray(image)))
    assert abs(on_gpu - on_cpu).max() < 0.05 * abs(on_cpu).max()
else:
    print("no GPU, so this cell has done nothing:", status.reason)

# %% [markdown]
# ## Ten orders, and four bugs
#
# Take one barrier away. What happens? On a GPU: often nothing, or nothing today. Threads mostly run side by side; the numbers
# are wrong only when some fall behind, on another card perhaps, or beside another kernel. Such bugs are not found by trying.
#
# The emulator (`minunet/kernels/cuda/emulator/`) runs threads one after another, each up to its next barrier, in an order
# that *we* choose: by number, backwards, shuffled, or one warp as far ahead of the others as it can get. Copies land at the
# last moment that CUDA allows, or at the first. And shared memory is **poisoned**: it starts full of NaN. A kernel that is
# right gives the same answer in all ten conditions. Plant four mistakes, each a change of one line.

# %%
BARRIER = "    __syncthreads();  // everybody's; and everybody is done with the tiles of the step before\n"
COPY = "    if (step + STAGES - 1 < stop) copy(step + STAGES - 1);\n"
BUGS = {
    "none": ("", ""),
    "waits for one copy too few": ("cp_async_wait<STAGES - 2>", "cp_async_wait<STAGES - 1>"),
    "copies start before the barrier": (BARRIER + COPY, COPY + BARRIER),
    "no barrier before the results": ("  __syncthreads();  // the results take", "  // the results take"),
    "half of the weights never copied": ("i < BN * 8 / THREADS; ++i", "i < BN * 8 / THREADS / 2; ++i"),
}
CONDITIONS = [(schedule, eager) for schedule in emulator.SCHEDULES for eager in (False, True)]
x = rng.standard_normal((1, 7, 8, 40)).astype(np.float32)  # 40 channels: two steps a tap
w = (rng.standard_normal((3, 3, 40, 12)) / 19).astype(np.float32)
wanted = ops.conv2d(x.astype(np.float64), w.astype(np.float64))[0]
outcomes = {}
if emulated:
    text = (build.FOLDER / "conv.cu").read_text()
    for name, (old, new) in BUGS.items():
        assert not old or text.count(old) == 1
        with build.sources({"conv.cu": text.replace(old, new) if old else text}):
            for condition in CONDITIONS:
                with emulator.conditions(*condition):
                    worst = abs(conv_on_gpu(x, w) - wanted).max()
                right = worst < rounding(9 * 40, wanted) / 4
                outcomes[name, condition] = "right" if right else "NaN" if np.isnan(worst) else "wrong"

    def caught(name):
        """In which conditions a bug shows."""
        return {c for c in CONDITIONS if outcomes[name, c] != "right"}

    assert caught("none") == set()
    assert all(caught(name) for name in BUGS if name != "none")
    assert caught("waits for one copy too few") == {c for c in CONDITIONS if not c[1]}  # only if copies land late
    assert caught("copies start before the barrier") <= {c for c in CONDITIONS if c[1]}  # only if they land early
    assert not any(all(c in caught(name) for name in BUGS if name != "none") for c in CONDITIONS)  # none catches all
    assert len(caught("no barrier before the results")) < 5  # most orders do not show it
    assert {outcomes["half of the weights never copied", c] for c in CONDITIONS} == {"NaN"}  # the poison

# %%
figure, ax = plt.subplots(figsize=(12, 3.8), layout="constrained")
colour = {"right": "#cfe8df", "wrong": RED, "NaN": PINK, "not run": "white"}
for row, name in enumerate(BUGS):
    ax.text(-0.15, row, name, ha="right", va="center", fontsize=10)
    for column, condition in enumerate(CONDITIONS):
        found = outcomes.get((name, condition), "not run")
        ax.add_patch(Rectangle((column, row - 0.42), 0.95, 0.84, fc=colour[found], ec=GREY, lw=0.4))
        ax.text(column + 0.47, row, found, ha="center", va="center", fontsize=8.5)
for column, (schedule, eager) in enumerate(CONDITIONS):
    ax.text(column + 0.47, -0.62, f"{schedule}\n{'early' if eager else 'late'}", ha="center", fontsize=8.5)
ax.set(xlim=(-3.2, 10), ylim=(4.5, -1.5))
ax.axis("off")
ax.set_title("the bug, and what comes out by the order of threads and the landing of copies", fontsize=10)
plt.show()

# %% [markdown]
# No column catches all. A wait that is missing shows only if copies land late; a copy that starts before its tiles are free,
# only if they land early; a barrier that is missing before the results, only where one warp is far ahead of the others. What
# was never written shows as NaN, wherever it goes: without the poison it would be what the block before left there, which may
# well be the right numbers. `tests/helpers/cuda_bugs.py` has some eighty such mistakes, and the tests demand that each is
# caught.
#
# The emulator also stops a kernel that a GPU would only punish: barriers that not all threads reach, lanes at different
# instructions, addresses that are no multiple of what is read. Here a copy of 16 bytes goes to a place that is none:

# %%
if emulated:
    misplaced = text.replace("across_k<BN>(r, n)], weight", "across_k<BN>(r, n) + 1], weight")
    assert misplaced != text
    with build.sources({"conv.cu": misplaced}):
        try:
            conv_on_gpu(x, w)
        except emulator.EmulatorError as problem:
            print(problem)
        else:
            raise AssertionError("a misplaced copy went unnoticed")

# %% [markdown]
# What it cannot find: slowness, bank conflicts, registers that spill, what the memory model allows beyond these ten orders,
# and a mistake in its own table of fragments. For the first three there are the compiler's report
# (`tests/kernels/cuda/test_cuda_build.py`) and a GPU with `python bench/cuda_kernels.py`. For the last, an independent table in
# the tests, and in this lesson yours.
#
# Now read `minunet/kernels/cuda/prim.cuh` (each instruction once), `minunet/kernels/cuda/tiles.cuh` (fragments), and
# `minunet/kernels/cuda/conv.cu`, in this order; then `conv_patch.cu`.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** A warp reads a column of a tile in shared memory, one word in each of 32 rows. How many turns does that take
# with rows of 32, 33, 34 and 36 words?
#
# <details>
# <summary>Answer</summary>
#
# 32, 1, 2 and 4: the step from row to row, modulo 32 banks, decides, and it is the largest power of two in it that
# hurts. An odd length is free of conflicts, but rows then no longer begin at multiples of 16 bytes, which copies and
# `ldmatrix` want. Hence the swizzle.
#
# </details>
#
# **2.** Replace the xor of the swizzle by $(\text{chunk} + r) \bmod 8$. Is it still a permutation of each row, and do
# eight rows at one chunk still come from all banks?
#
# <details>
# <summary>Answer</summary>
#
# Yes, twice: it turns each row by $r$ chunks, and for a fixed chunk the eight rows give eight different places, so it
# takes one turn. Xor is chosen since it is a single instruction that needs no remainder.
#
# </details>
#
# **3.** A kernel with a missing barrier gives the right answer in nine of ten orders, and always on your GPU. What
# would you tell somebody who wants to ship it?
#
# <details>
# <summary>Answer</summary>
#
# The order in which it fails is allowed too, and another card, driver or neighbour may choose it. Being right is a
# property of the kernel under *all* orders that the model allows; a GPU that you tried shows some of them.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/warp_tile.py`: where numbers lie in a tile that is stored across k,
#   how many turns the banks take, and what each lane of a warp loads and stores
#
# On your own, each with a check:
#
# 1. **Reuse.** Which tile of $BM \times BN$ with 8192 results has the most products for each number fetched? And with twice
#    as many results? What do these cost in registers, if each of 128 threads keeps its share of them? *Check:*
#    `BM * BN / (BM + BN)` for all powers of two.
# 2. **Another pitch.** Instead of the swizzle one may make rows longer: 36 words in place of 32. Does that also spread eight
#    rows over all banks? What does it cost? *Check:* draw the bank picture with `r * 36 + i`, and count.
# 3. **Sixteen columns.** Extend `warp_product` to $b$ of $8 \times 16$: two instructions, the same `ra`. *Check:* `a @ b`.
# 4. **A kernel of your own.** Write `relu(const float* x, float* y, long long size)`, one number a thread, with
#    `if (i < size)`. Run it with `build.sources` and `launch.run` on 1000 numbers, in blocks of 256. Then leave the `if` out.
#    *Check:* let x and y be `[:1000]` of arrays of 1024, full of NaN; with the `if` the last 24 of y stay NaN.
# 5. **Hide a bug.** Leave `&& c < last` out of the pixels' copy in `conv.cu`. Which numbers does it read now, and why is the
#    answer still right in all ten conditions? Find an x for which it is wrong. *Check:* make an array of 64 channels, NaN
#    from channel 40 on, and let x be `[..., :40]` of it.
