"""The CUDA emulator itself: its arithmetic against NumPy's, and that it notices what a GPU would not forgive."""

import shutil

import numpy as np
import pytest
from helpers.cuda_device import CONDITIONS, to_bfloat16

from minunet.kernels.cuda import build, emulator, launch, launch_many

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")

SOURCE = r"""
#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(32)
convert(const float* x, int* half, int* bfloat, int* tf32, float* back, int n) {
  for (int i = threadIdx.x; i < n; i += 32) {
    half[i] = float_to_half(x[i]), bfloat[i] = float_to_bfloat(x[i]);
    uint32_t bits;
    memcpy(&bits, &x[i], 4);
    tf32[i] = to_tf32(bits);
    back[i] = half_to_float(half[i]);
  }
}
extern "C" __global__ void __launch_bounds__(32)
multiply_16(const int* a, const int* b, float* d, int bfloat) {  // registers of every lane
  uint32_t ra[4], rb[2];
  float rd[4];
  for (int i = 0; i < 4; ++i) ra[i] = a[threadIdx.x * 4 + i], rd[i] = d[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) rb[i] = b[threadIdx.x * 2 + i];
  bfloat ? mma_bfloat(rd, ra, rb) : mma_half(rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = rd[i];
}
extern "C" __global__ void __launch_bounds__(32)
multiply_32(const int* a, const int* b, float* d) {
  uint32_t ra[4], rb[2];
  float rd[4];
  for (int i = 0; i < 4; ++i) ra[i] = a[threadIdx.x * 4 + i], rd[i] = d[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) rb[i] = b[threadIdx.x * 2 + i];
  mma_tf32(rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = rd[i];
}
extern "C" __global__ void __launch_bounds__(128)
multiply_group(const float* a, const float* x, float* d, int step, int forgets) {  // x: 128 rows of 32, swizzled
  SHARED(float, s);
  for (int i = threadIdx.x; i < 128 * 8; i += 128) cp_async16(s + 4 * i, x + 4 * i, true);
  cp_async_commit();
  cp_async_wait<0>();
  fence_for_wgmma();
  __syncthreads();
  uint32_t ra[1][4], others[1][4];
  float rd[16][4], sums[16][4];
  memcpy(ra, a + 4 * threadIdx.x, sizeof ra);
  memcpy(rd, d + 64 * threadIdx.x, sizeof rd);
  forgets == 1 ? wgmma_fence(sums, ra) : forgets == 2 ? wgmma_fence(rd, others) : wgmma_fence(rd, ra);
  wgmma_tf32<0>(rd, ra[0], rows_for_wgmma<128, 8 * 128>(s + 8 * step));
  wgmma_commit();
  forgets == 3 ? wgmma_wait(sums, ra) : forgets == 4 ? wgmma_wait(rd, others) : wgmma_wait(rd, ra);
  memcpy(d + 64 * threadIdx.x, rd, sizeof rd);
}
extern "C" __global__ void __launch_bounds__(32)
matrices(const int* x, int* y, int transposed) {  // 32 rows of 8 numbers of 16 bits
  SHARED(uint4, s);
  s[threadIdx.x] = load<uint4>(x + 4 * threadIdx.x);
  __syncthreads();
  uint32_t r[4];
  transposed ? ldmatrix4<true>(r, s + threadIdx.x) : ldmatrix4<false>(r, s + threadIdx.x);
  for (int m = 0; m < 4; ++m) y[4 * threadIdx.x + m] = r[m];
}
extern "C" __global__ void __launch_bounds__(64)
neighbours(int* order, float* y, int barrier) {  // each thread reads what the next one writes
  SHARED(float, s);
  s[threadIdx.x] = threadIdx.x;
  order[threadIdx.x] = order[64]++;
  if (barrier) __syncthreads();
  y[threadIdx.x] = s[(threadIdx.x + 1) % 64] + __shfl_xor_sync(~0u, 1000.f * threadIdx.x, 1);
}
extern "C" __global__ void __launch_bounds__(32)
copies(const float* x, float* y, int wait, int offset) {
  SHARED(float, s);
  float* mine = s + 4 * threadIdx.x;
  for (int j = 0; j < 4; ++j) mine[j] = -1.f;
  cp_async16(mine + offset, x + 4 * threadIdx.x, threadIdx.x % 2 == 0);
  cp_async_commit();
  if (wait) cp_async_wait<0>();
  for (int j = 0; j < 4; ++j) y[4 * threadIdx.x + j] = mine[j];
}
extern "C" __global__ void __launch_bounds__(64)
leaves_early(float* y, int n) {
  if ((int)threadIdx.x >= n) return;
  __syncthreads();
  y[threadIdx.x] = 1.f;
}
extern "C" __global__ void __launch_bounds__(32)
divided_warp(float* y, int n) {
  if ((int)threadIdx.x < n) y[0] = __shfl_xor_sync(~0u, 1.f, 1);
  else __syncwarp();
}
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel of SOURCE, by its name."""
    shutil.copytree(build.FOLDER, tmp_path / "cuda", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "cuda" / "tests_of_emulator.cu").write_text(SOURCE.replace("uint4", "Four").replace(
        'extern "C"', "struct alignas(16) Four { int v[4]; };\nextern \"C\"", 1))  # fmt: skip
    monkeypatch.setattr(build, "FOLDER", tmp_path / "cuda")

    def get(name, threads=32, shared=1024):
        start = emulator.function("tests_of_emulator.cu", name, ())
        return lambda *arguments: start((1,), (threads,), arguments, shared)

    return get


def test_conversions(kernel):
    """Every float16 number, numbers halfway between two of them, and others, against NumPy."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    between = (halves[1:] + halves[:-1]) / 2
    other = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 10.0 ** np.arange(-10, 10).repeat(50)
    x = np.concatenate([halves, between, other, [np.inf, -np.inf, 70000]]).astype(np.float32)
    half, bfloat, tf32 = np.zeros((3, x.size), np.int32)
    back = np.zeros_like(x)
    kernel("convert")(x, half, bfloat, tf32, back, np.int32(x.size))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(np.float16)
    np.testing.assert_array_equal(half.astype(np.uint16), wanted.view(np.uint16))
    np.testing.assert_array_equal(back, wanted.astype(np.float32))
    np.testing.assert_array_equal(bfloat.astype(np.uint16), to_bfloat16(x))


def test_tf32_is_true_in_the_mean(kernel, rng):
    """Once tensor cores have cut it to 10 bits of fraction; and what has no more bits stays what it is."""

    def cut(x):
        tf32, others = np.zeros(x.size, np.int32), np.zeros((2, x.size), np.int32)
        kernel("convert")(x, *others, tf32, np.zeros_like(x), np.int32(x.size))
        return (tf32 & ~0x1FFF).view(np.float32)

    x = (2.0 ** rng.uniform(-20, 20, 100_000)).astype(np.float32)
    error = (cut(x).astype(float) - x) / x
    assert np.abs(error).max() <= 2.0**-10 and abs(error.mean()) < 2.0**-11 / 50 and error.std() < 2.0**-11 / 2
    short = (x.view(np.uint32) & 0xFFFFE000).view(np.float32)
    short = np.concatenate([short, -short, [0, np.inf, -np.inf]]).astype(np.float32)
    np.testing.assert_array_equal(cut(short), short)


def test_nan_stays_nan(kernel):
    """What shared memory is filled with must not become a number on its way to the tensor cores."""
    x = np.array([0xFFFFFFFF, 0x7FFFFFFF, 0x7F800001, 0xFFC00000], np.uint32).view(np.float32)
    half, bfloat, tf32 = np.zeros((3, x.size), np.int32)
    kernel("convert")(x, half, bfloat, tf32, np.zeros_like(x), np.int32(x.size))
    assert np.isnan(tf32.view(np.float32)).all()
    assert np.isnan(half.astype(np.uint16).view(np.float16)).all()
    assert np.isnan((bfloat << 16).view(np.float32)).all()


def fragments(matrix, per_lane, place):
    """A matrix spread over the lanes by a table as the PTX ISA has it: place(lane, i) is row and column."""
    return np.array([[matrix[place(lane, i)] for i in range(per_lane)] for lane in range(32)])


def place_c(lane, i):
    return lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2


@pytest.mark.parametrize("bfloat", [False, True])
def test_mma_of_16_bits(kernel, rng, bfloat):
    """Tables "Matrix Fragments for mma.m16n8k16": a_i, b_i, c_i by number, two of 16 bits in a register."""
    a, b, c = (rng.integers(-8, 9, s).astype(np.float32) for s in ((16, 16), (16, 8), (16, 8)))

    def place_a(lane, i):
        return lane // 4 + 8 * (i in (2, 3, 6, 7)), lane % 4 * 2 + i % 2 + 8 * (i >= 4)

    def place_b(lane, i):
        return lane % 4 * 2 + i % 2 + 8 * (i >= 2), lane // 4

    bits = to_bfloat16 if bfloat else lambda m: m.astype(np.float16).view(np.uint16)
    ra, rb = (bits(fragments(m, n, p)).view(np.int32) for m, n, p in ((a, 8, place_a), (b, 4, place_b)))
    d = np.ascontiguousarray(fragments(c, 4, place_c))
    kernel("multiply_16")(ra, rb, d, np.int32(bfloat))
    np.testing.assert_array_equal(d, fragments(a @ b + c, 4, place_c))


def test_mma_of_tf32(kernel, rng):
    a, b, c = (rng.integers(-8, 9, s).astype(np.float32) for s in ((16, 8), (8, 8), (16, 8)))
    ra = fragments(a, 4, lambda lane, i: (lane // 4 + 8 * (i % 2), lane % 4 + 4 * (i // 2)))
    rb = fragments(b, 2, lambda lane, i: (lane % 4 + 4 * i, lane // 4))
    d = np.ascontiguousarray(fragments(c, 4, place_c))
    kernel("multiply_32")(ra.view(np.int32), rb.view(np.int32), d)
    np.testing.assert_array_equal(d, fragments(a @ b + c, 4, place_c))


@pytest.mark.parametrize("step", [0, 3])
def test_wgmma_of_tf32(kernel, rng, step):
    """Tables "Register Fragments for wgmma.mma_async.m64n128k8", and chunk c of row r in the place of c xor r mod 8."""
    a, b, c = (rng.integers(-8, 9, s).astype(np.float32) for s in ((64, 8), (32, 128), (64, 128)))

    def spread(matrix, numbers, place):
        return np.array([[matrix[place(thread, i)] for i in range(numbers)] for thread in range(128)])

    def place_a(thread, i):
        return thread // 32 * 16 + thread % 32 // 4 + 8 * (i % 2), thread % 4 + 4 * (i // 2)

    def place_d(thread, i):
        return thread // 32 * 16 + thread % 32 // 4 + 8 * (i // 2 % 2), i // 4 * 8 + thread % 4 * 2 + i % 2

    swizzled = np.zeros(128 * 32 + 4, np.float32)
    swizzled = swizzled[-(swizzled.ctypes.data // 4) % 4 :][: 128 * 32]
    for row, numbers in enumerate(b.T):
        for chunk in range(8):
            at = 32 * row + 4 * (chunk ^ row % 8)
            swizzled[at : at + 4] = numbers[4 * chunk : 4 * chunk + 4]
    d = np.ascontiguousarray(spread(c, 64, place_d))
    kernel("multiply_group", threads=128, shared=128 * 128)(
        spread(a, 4, place_a), swizzled, d, np.int32(step), np.int32(0)
    )  # fmt: skip
    np.testing.assert_array_equal(d, spread(a @ b[8 * step : 8 * step + 8] + c, 64, place_d))


@pytest.mark.parametrize("forgets, what", [(1, "fence"), (2, "fence"), (3, "wait"), (4, "wait")])
def test_wgmma_must_be_told_its_registers(kernel, forgets, what):
    """Sums and factors, at the fence and at the wait: else a compiler may move what touches them into the products' time."""
    x = np.zeros(128 * 32 + 4, np.float32)
    x = x[-(x.ctypes.data // 4) % 4 :][: 128 * 32]
    arrays = np.zeros((128, 4), np.float32), x, np.zeros((128, 64), np.float32)
    with pytest.raises(emulator.EmulatorError, match=f"the {what} d[a-z]* not name its registers"):
        kernel("multiply_group", threads=128, shared=128 * 128)(*arrays, np.int32(0), np.int32(forgets))


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(kernel, rng, transposed):
    x = rng.integers(0, 65536, (4, 8, 8)).astype(np.uint16)
    y = np.zeros((32, 4), np.int32)
    aligned = np.zeros(128 + 4, np.int32)
    aligned = aligned[-(aligned.ctypes.data // 4) % 4 :][:128]
    aligned[:] = x.reshape(-1).view(np.int32)
    kernel("matrices")(aligned, y, np.int32(transposed))
    wanted = x.transpose(0, 2, 1) if transposed else x
    np.testing.assert_array_equal(
        y.view(np.uint16).reshape(8, 4, 4, 2), wanted.reshape(4, 8, 4, 2).transpose(1, 2, 0, 3)
    )


@pytest.mark.parametrize("barrier", [True, False])
def test_orders_and_barriers(kernel, barrier):
    """With a barrier every order gives the same; without one, in every order somebody reads what is not written yet."""
    orders = set()
    for schedule, eager in CONDITIONS:
        order, y = np.zeros(65, np.int32), np.zeros(64, np.float32)
        with emulator.conditions(schedule, eager):
            kernel("neighbours", threads=64)(order, y, np.int32(barrier))
        t = np.arange(64)
        assert (y == (t + 1) % 64 + 1000 * (t ^ 1)).all() == barrier
        orders.add(tuple(order))
    assert len(orders) == 3  # up, down, shuffled; by warps they start as up and as down


@pytest.mark.parametrize("eager", [False, True])
def test_copies_land_late_or_early(kernel, eager):
    x = np.zeros(128 + 4, np.float32)
    x = x[-(x.ctypes.data // 4) % 4 :][:128]
    x[:] = np.arange(128)
    landed = np.where(np.arange(128) // 4 % 2 == 0, x, 0)  # zeros where not valid
    for wait in (0, 1):
        y = np.zeros(128, np.float32)
        with emulator.conditions(eager=eager):
            kernel("copies")(x, y, np.int32(wait), np.int32(0))
        np.testing.assert_array_equal(y, landed if wait or eager else -1)


@pytest.mark.parametrize(
    "offset, message",
    [(1, "cp.async: 16 bytes at offset 4 of 512"), (4, "thread 31: cp.async: 16 bytes at offset 512")],
)
def test_copies_to_wrong_places(kernel, offset, message):
    x = np.zeros(132, np.float32)
    x = x[-(x.ctypes.data // 4) % 4 :][:128]
    with pytest.raises(emulator.EmulatorError, match=message):
        kernel("copies", shared=512)(x, np.zeros(128, np.float32), np.int32(1), np.int32(offset))


def test_barriers_that_not_all_reach(kernel):
    y = np.zeros(64, np.float32)
    kernel("leaves_early", threads=64)(y, np.int32(64))
    assert (y == 1).all()
    with pytest.raises(
        emulator.EmulatorError, match=r"deadlock: of 64 threads 40 wait at __syncthreads, 0 .*, 24 are done"
    ):
        kernel("leaves_early", threads=64)(y, np.int32(40))
    with pytest.raises(emulator.EmulatorError, match="lanes of a warp are at different instructions"):
        kernel("divided_warp")(y, np.int32(7))


def test_other_sources():
    """A change to a kernel holds within the block and no longer."""
    text = (build.FOLDER / "optim.cu").read_text()
    changed = text.replace("    p[i] = w - lr * (nesterov", "    p[i] = w + lr * (nesterov")
    own = '#include "prim.cuh"\nextern "C" __global__ void __launch_bounds__(32)\nones(float* y) { y[threadIdx.x] = 1.f; }\n'

    def step():
        p, g, v = np.zeros(3, np.float32), np.ones(3, np.float32), np.zeros(3, np.float32)
        launch_many.sgd_steps([p], [g], [v], 0.5, 0.0, False, 0.0)
        return p.tolist()

    home = build.FOLDER
    assert changed != text and step() == [-0.5] * 3
    with build.sources({"optim.cu": changed, "own.cu": own}):
        assert step() == [0.5] * 3
        y = np.zeros(32, np.float32)
        launch.run("own.cu", "ones", (1,), (32,), (y,))
        assert y.all()
    assert home == build.FOLDER and step() == [-0.5] * 3


def test_arguments_are_checked(kernel):
    x = np.zeros(4, np.float32)
    with pytest.raises(TypeError, match="takes 2 arguments, not 1"):
        kernel("leaves_early")(x)
    with pytest.raises(TypeError, match="n must be int32, not int"):
        kernel("leaves_early")(x, 3)
    with pytest.raises(TypeError, match="y must be an array or None, not list"):
        kernel("leaves_early")([0.0], np.int32(1))


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in emulator.missing()
