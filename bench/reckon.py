"""How fast the CUDA convolutions can be at most, by counting; for `bench/cuda_kernels.py --reckon`, which needs no GPU.

A block multiplies two tiles, step by step. For each step it fetches both from L2, moves them through shared memory as often as
its warps read them, and multiplies. The slowest of the three is its ceiling, and the blocks of the busiest multiprocessor are
the kernel's. What is counted is in `Step`, and a test finds the same in the emulator's counters; what is assumed is in `H200`.

No speed here was measured. A kernel also waits, begins and ends, so it stays below its ceiling.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from minunet.kernels.cuda import launch

TAPS, PIXELS = 9, 32
"""Taps of a filter; pixels in a step of a weight gradient."""

ITEMSIZE = {"float32": 4, "float16": 2}
PAGE = "docs/gpu.md"


@dataclass(frozen=True)
class Step:
    """What a block does in one step: bytes from L2, bytes into and out of shared memory, operations (a product is two)."""

    fetched: float
    moved: float
    operations: float


def conv_step(columns: int, itemsize: int, warpgroups: bool = True, halo: bool = False) -> Step:
    """Of conv.cu: 128 bytes of channels at one tap, of `launch.BM` pixels and `columns` channels out.

    With `warpgroups` a warp reads weights, and wgmma reads the pixels by itself, once for 64 channels out; else four warps read
    64 pixels and half of the channels each. `halo` is how it would be if the pixels of 8 x 16 and their border were fetched
    once for all nine taps, which no kernel does.
    """
    fetched = ((10 * 18 / TAPS if halo else launch.BM) + columns) * 128.0
    read = columns // 64 * (64 + launch.BM) if warpgroups else 4 * (64 + columns // 2)
    return Step(fetched, fetched + read * 128, 2.0 * launch.BM * columns * (128 // itemsize))


def weights_step(columns: int, itemsize: int) -> Step:
    """Of conv_weights.cu: 32 pixels at one tap, of `columns` channels in and out; two warps of 64 x 32, or four of 64 x 64."""
    fetched = 2.0 * columns * PIXELS * itemsize
    read = columns // 32 * (64 + columns // 2) * PIXELS * itemsize
    return Step(fetched, fetched + read, 2.0 * columns * columns * PIXELS)


@dataclass(frozen=True)
class Gpu:
    """What a GPU is assumed to do in a second, all of its multiprocessors together."""

    name: str
    processors: int
    clock: float
    products: dict[str, float]
    l2: float

    def seconds(self, step: Step, dtype: str) -> dict[str, float]:
        """How long a step takes by each of the three, where all multiprocessors do the same."""
        shared = self.processors * 128 * self.clock
        whole = {"L2": step.fetched / self.l2, "shared memory": step.moved / shared,
                 "products": step.operations / self.products[dtype]}  # fmt: skip
        return {what: self.processors * seconds for what, seconds in whole.items()}


H200 = Gpu("H200", 132, 1.83e9, {"float32": 494.7e12, "float16": 989.4e12}, 5.5e12)
"""Products: NVIDIA's data sheet, dense, TF32 and FP16: at this clock 2048 and 4096 operations a multiprocessor. L2: a guess,
as no data sheet states it."""


@dataclass(frozen=True)
class Ceiling:
    """Of a 3 x 3 convolution of C to C channels on n x n pixels: the share of the GPU's peak, and what binds it."""

    columns: int
    share: float
    bound: str


def ceiling(gpu: Gpu, n: int, C: int, dtype: str, weights: bool = False, halo: bool = False) -> Ceiling:
    """As launch.py would start it: the convolution, and its data gradient alike, or the gradient of its weights."""
    item, columns = ITEMSIZE[dtype], launch.WIDE if launch.fill_wide(C) else launch.BN
    across = -(-C // columns)
    if weights:
        step, tiles, steps = weights_step(columns, item), TAPS * across * across, -(-n * n // PIXELS)
        most = max(launch.MOST_SPLITS, min(launch.PARTIAL // (TAPS * C * C * 4), 512))
    else:
        step, most = conv_step(columns, item, halo=halo), launch.MOST_SPLITS
        tiles, steps = -(-n * n // launch.BM) * across, TAPS * -(-C * item // 128)
    splits = launch.choose_splits(tiles, steps, gpu.processors, most)
    times = gpu.seconds(step, dtype)
    bound = max(times, key=times.__getitem__)
    busiest = -(-tiles * splits // gpu.processors) * -(-steps // splits) * times[bound]
    return Ceiling(columns, 18.0 * n * n * C * C / gpu.products[dtype] / busiest, bound)


WAYS: dict[str, dict[str, bool]] = {"conv": {}, "weights": {"weights": True}, "with a halo": {"halo": True}}


def levels(gpu: Gpu, size: int) -> Iterator[tuple[int, int, dict[str, list[Ceiling]]]]:
    """Of the levels of the 31 M-parameter network: rows and columns, channels, and its ceilings in TF32 and FP16."""
    for level in range(5):
        n, C = size >> level, 64 << level
        yield n, C, {way: [ceiling(gpu, n, C, dtype, **how) for dtype in ITEMSIZE] for way, how in WAYS.items()}


def table(gpu: Gpu = H200, sizes: tuple[int, ...] = (512, 1664)) -> str:
    """What is written into the page."""
    lines = [
        "| image | map | tile's channels | conv, TF32 | FP16 | weights, TF32 | FP16 | bound by | with a halo, TF32 | FP16 |",
        "| --: | :-- | --: | --: | --: | --: | --: | :-- | --: | --: |",
    ]
    for size in sizes:
        for n, C, found in levels(gpu, size):
            today = [c for way in ("conv", "weights") for c in found[way]]
            shares = [f"{100 * c.share:.0f}" for c in (*today, *found["with a halo"])]
            bounds = ", ".join(dict.fromkeys(c.bound for c in today))
            cells = [size, f"{n} x {n} x {C}", today[0].columns, *shares[:4], bounds, *shares[4:]]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    narrow, wide = (conv_step(columns, 4).fetched / 1024 for columns in (launch.BN, launch.WIDE))
    tf32, fp16 = (operations / 1e12 for operations in gpu.products.values())
    texts = (
        f"""Ceilings on an {gpu.name} in percent of its peak in TF32 and in FP16, **reckoned and not measured**, by
        `bench/cuda_kernels.py --reckon` from bytes and operations. They are of the 3 x 3 convolutions of the 31 M-parameter
        network and their data gradients, by wgmma, and of the gradients of their weights, by mma.sync.""",
        f"""A step of a convolution's block, 128 bytes of channels at one tap, fetches {narrow:.0f} KiB from L2 for a tile of
        {launch.BM} pixels x {launch.BN} channels, {wide:.0f} KiB for one of {launch.BM} x {launch.WIDE}: every pixel nine
        times, once a tap. The last two columns are what a patch of 8 x 16 pixels and its border would allow, fetched
        once for all taps; no kernel does that yet.""",
        f"""Assumed: {gpu.processors} multiprocessors; {tf32:.0f} TFLOP/s in TF32 and {fp16:.0f} in FP16 (the data sheet's,
        dense); {gpu.l2 / 1e12:.1f} TB/s from L2 (a guess: no data sheet says it), of which each multiprocessor gets its
        share; 128 bytes a clock from shared memory, at {gpu.clock / 1e9:.2f} GHz. The busiest multiprocessor counts;
        beginnings, ends, waits, and sums of tiles that several blocks share do not.""",
    )
    head, *rest = (textwrap.fill(" ".join(text.split()), 140) for text in texts)
    return "\n\n".join((head, "\n".join(lines), *rest))
