"""How a CUDA kernel is started, on the GPU or in the emulator, and the maps that it reads and writes.

A *map* here is an array (N, H, W, C), or a slice of an array's channels, in which pixels are further apart than C numbers. So a
kernel can read and write one half of a concatenation where it lies. Maps are stored as float32, float16, or bfloat16 (CuPy's
own dtype; in NumPy its bits as uint16).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...array import Array, get_array_module
from . import build, emulator

Grid = tuple[int, ...]


def run(
    file: str,
    name: str,
    grid: Grid,
    block: Grid,
    arguments: Sequence[Any],
    shared: int = 0,
    defines: Sequence[str] = (),
    like: Array | None = None,
) -> None:
    """Start a kernel where its arrays are: Python ints, floats and bools become the C types of its signature.

    The first argument is an array, or `like` is one; arguments for other pointers are arrays or None. A table (launch_many.py)
    is an array on the host, of one number, and goes by value. This function runs some hundred times in a training step, so
    everything that stays the same from call to call is cached.
    """
    types = build.scalar_types(file)[name]
    if len(types) != len(arguments):
        raise TypeError(f"{name} takes {len(types)} arguments, not {len(arguments)}")
    values = [a if c is None else c(a) for c, a in zip(types, arguments)]
    if not all(grid):
        return  # no pixels or no channels
    xp = get_array_module(arguments[0] if like is None else like)
    if xp is np:
        emulator.function(file, name, tuple(defines))(grid, block, tuple(values), shared)
        return
    kernel = load(file, name, tuple(defines), shared, device_of(xp))
    kernel(grid, block, tuple(_NULL if v is None else v for v in values), shared_mem=shared)


_NULL = np.uint64(0)

MUCH_SHARED = 32 << 10
"""Bytes of shared memory from which on a block needs those rather than a cache."""


@functools.cache
def load(file: str, name: str, defines: tuple[str, ...], shared: int, device: int) -> Any:
    """A kernel, loaded on a GPU, that may use `shared` bytes of shared memory."""
    import cupy

    capability = int(cupy.cuda.Device(device).compute_capability)
    kernel = cupy.RawModule(path=str(build.cached_cubin(file, defines, capability))).get_function(name)
    if shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared  # more than 48 KB must be asked for,
    if shared >= MUCH_SHARED:
        kernel.preferred_shared_memory_carveout = 100  # and room for as many blocks as fit, percent of what there is
    return kernel


def device_of(xp: Any) -> int:
    """The current GPU's number, a key for caches; 0 for the emulator."""
    return 0 if xp is np else int(xp.cuda.runtime.getDevice())


def multiprocessors(xp: Any) -> int:
    """How many multiprocessors the GPU has; 1 for the emulator."""
    return _properties(xp, device_of(xp))[0]


def has_wgmma(xp: Any) -> bool:
    """Whether the GPU has wgmma, which only compute capability 9.0 has; False for the emulator."""
    return _properties(xp, device_of(xp))[1] == "90"


def two_blocks_fit(xp: Any, shared: int) -> bool:
    """Whether a multiprocessor has room for two blocks with so many bytes of shared memory, and the 1 KB that CUDA takes."""
    return 2 * (shared + 1024) <= _properties(xp, device_of(xp))[2]


@functools.cache
def _properties(xp: Any, device: int) -> tuple[int, str, int]:
    """Multiprocessors, compute capability, and bytes of shared memory of a multiprocessor."""
    if xp is np:
        return 1, "", 164 << 10
    found = xp.cuda.Device(device)
    of = found.attributes
    return int(of["MultiProcessorCount"]), found.compute_capability, int(of["MaxSharedMemoryPerMultiprocessor"])


@functools.cache
def storage(dtype: Any) -> tuple[str, ...]:
    """The macros for maps of a dtype."""
    name = np.dtype(dtype).name
    known = {"float32": (), "float16": ("F16",), "bfloat16": ("BF16",), "uint16": ("BF16",)}
    if name not in known:
        raise TypeError(f"no CUDA kernel stores {name}: float32, float16 or bfloat16")
    return known[name]


# ---- maps ------------------------------------------------------------------------------------------------------------


def is_map(x: Array) -> bool:
    """Whether channels of x (N, H, W, C) are contiguous, and pixels at equal distances."""
    _, H, W, C = x.shape
    step = x.strides[2] if W > 1 else x.strides[1] if H > 1 else x.strides[0]
    apart = (W * H * step, W * step, step, x.itemsize)
    return step >= C * x.itemsize and all(n == 1 or s == a for n, s, a in zip(x.shape, x.strides, apart))


def as_map(x: Array) -> Array:
    """x, or a contiguous copy if it is no map."""
    return x if is_map(x) else get_array_module(x).ascontiguousarray(x)


def contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous else get_array_module(a).ascontiguousarray(a)


def floats(a: Array | None) -> Any:
    """An array as the kernels take statistics, biases and weights of losses: contiguous float32; None stays None."""
    if a is None or (a.dtype == np.float32 and a.flags.c_contiguous):
        return a  # the usual case; CuPy's astype would take microseconds even without a copy
    return contiguous(a.astype(np.float32, copy=False))


def step_of(x: Array) -> int:
    """Numbers from one pixel of a map to the next."""
    N, H, W, C = x.shape
    bytes_ = x.strides[2] if W > 1 else x.strides[1] if H > 1 else x.strides[0] if N > 1 else C * x.itemsize
    return bytes_ // x.itemsize


def address(x: Array) -> int:
    """Where an array's memory starts."""
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def in_pieces(numbers: int, *maps: Array) -> bool:
    """Whether all maps can be read in vectors of so many numbers."""
    return not any(x.shape[-1] % numbers or step_of(x) % numbers or address(x) % (numbers * x.itemsize) for x in maps)


class Moments(NamedTuple):
    """Means and sums of squared deviations of a map's tiles, `partial` (tiles, 2, C) float32, of one image after another.

    An image of H x W pixels has tiles of down x across, smaller ones at its end. H = 1: pixels are counted one after another,
    through all images.
    """

    partial: Array
    H: int
    W: int
    down: int
    across: int

    def tiles_of_image(self) -> int:
        return -(-self.H // self.down) * -(-self.W // self.across)


def pixels(x: Array) -> int:
    N, H, W, _ = x.shape
    return N * H * W


@functools.cache
def elementwise(P: int, C: int, wide: bool) -> tuple[Grid, Grid]:
    """Grid and block of a kernel whose threads take 1 or 4 channels of a pixel."""
    items = C // 4 if wide else C
    across = 1
    while across < min(items, 256):
        across *= 2
    return (-(-P // (256 // across)), -(-items // across)), (across, 256 // across)
