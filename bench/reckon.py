"""How fast the CUDA convolutions can be at most, by counting; for `bench/cuda_kernels.py --reckon`, which needs no GPU.

A block fetches what its tile needs from L2, moves it through shared memory as often as its warps read it, and multiplies.
The slowest of the three is its ceiling, and the blocks of the busiest multiprocessor are the kernel's. What a block does is
counted, see cuda_counts.py; what is assumed is in `H200`.

No speed here was measured. A kernel also waits, begins and ends, so it stays below its ceiling.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import cuda_counts
from cuda_counts import Row

from minunet.kernels.cuda import launch_conv

TAPS, PIXELS = 9, 32
"""Taps of a filter; pixels in a step of a weight gradient."""

ITEMSIZE = {"float32": 4, "float16": 2}
PAGE = "docs/gpu.md"
SHARED = (228, 164, 100)
"""KB of shared memory of a multiprocessor: of compute capability 9.0 and 10.0; 8.0; 8.9 and 12.0."""


@dataclass(frozen=True)
class Gpu:
    """What a GPU is assumed to do in a second, all of its multiprocessors together."""

    name: str
    processors: int
    clock: float
    products: dict[str, float]
    l2: float

    def seconds(self, row: Row) -> dict[str, float]:
        """How long what was counted takes by each of the three, where all multiprocessors do the same."""
        moved = row["copied"] + 128 * row["turns"]
        whole = {"L2": row["copied"] / self.l2, "shared memory": moved / (self.processors * 128 * self.clock),
                 "products": 2 * row["products"] / self.products[row["dtype"]]}  # fmt: skip
        return {what: self.processors * seconds for what, seconds in whole.items()}


H200 = Gpu("H200", 132, 1.83e9, {"float32": 494.7e12, "float16": 989.4e12}, 5.5e12)
"""Products: NVIDIA's data sheet, dense, TF32 and FP16: at this clock 2048 and 4096 operations a multiprocessor. L2: a guess,
as no data sheet states it."""


@dataclass(frozen=True)
class Ceiling:
    """Of a 3 x 3 convolution of C to C channels on n x n pixels: the share of the GPU's peak, what binds it, its time."""

    share: float
    bound: str
    seconds: float
    splits: int  # blocks that share a tile's sums


def ceiling(gpu: Gpu, rows: list[Row], n: int, C: int, dtype: str, kernel: str) -> Ceiling:
    """As launch_conv.py would start it: the convolution, and its data gradient alike, or the gradient of its weights."""
    columns = launch_conv.WIDE if launch_conv.fill_wide(C) else launch_conv.BN
    columns = launch_conv.BN if kernel == "conv_patch_weights" else columns
    across, chunks = -(-C // columns), -(-C * ITEMSIZE[dtype] // 128)
    row = cuda_counts.find(rows, kernel, dtype, columns, kernel != "conv_weights")
    most, cost, whole = launch_conv.MOST_SPLITS, launch_conv.SPLIT_STEPS, 1.0  # part of what was counted in a step
    if kernel == "conv_patch_weights":
        tiles, steps = across * across, launch_conv.row_steps(1, n + 1, n, ITEMSIZE[dtype])
    elif kernel == "conv_weights":
        tiles, steps = TAPS * across * across, -(-n * n // PIXELS)
        most = max(most, min(launch_conv.PARTIAL // (TAPS * C * C * 4), 512))
    elif kernel == "conv_patch":
        tiles, steps, whole = -(-n // (row["pixels"] // 16)) * -(-n // 16) * across, 2 * chunks, 0.5
        cost = launch_conv.SPLIT_CHUNKS
    else:
        tiles, steps, whole = -(-n * n // row["pixels"]) * across, TAPS * chunks, 1 / TAPS
    if kernel == "conv_patch_weights":
        splits = launch_conv.splits_of_rows(tiles, steps, gpu.processors, TAPS * C * C * 4, n * n * C * ITEMSIZE[dtype])
    else:
        splits = launch_conv.choose_splits(tiles, steps, gpu.processors, most, cost)
    times = gpu.seconds(row)
    bound = max(times, key=times.__getitem__)
    busiest = -(-tiles * splits // gpu.processors) * -(-steps // splits) * times[bound] * whole
    return Ceiling(18.0 * n * n * C * C / gpu.products[dtype] / busiest, bound, busiest, splits)


KERNELS = ("conv", "conv_patch", "conv_weights", "conv_patch_weights")


def levels(gpu: Gpu, rows: list[Row], size: int) -> Iterator[tuple[int, int, dict[str, list[Ceiling]]]]:
    """Of the levels of the 31 M-parameter network: rows and columns, channels, and its ceilings in TF32 and FP16."""
    for level in range(5):
        n, C = size >> level, 64 << level
        yield n, C, {k: [ceiling(gpu, rows, n, C, dtype, k) for dtype in ITEMSIZE] for k in KERNELS}


def ceilings(gpu: Gpu, rows: list[Row], sizes: tuple[int, ...]) -> str:
    """A row for each level: percent of the peak."""
    by_kernel = [f"{what}, TF32 | FP16" for what in ("without a patch", "with it", "weights without", "with it")]
    lines = [
        f"| image | map | {' | '.join(f'{what} | bound by' for what in by_kernel)} |",
        f"| --: | :-- |{' --: | --: | :-- |' * len(KERNELS)}",
    ]
    for size in sizes:
        for n, C, found in levels(gpu, rows, size):
            cells = [size, f"{n} x {n} x {C}"]
            for kernel in KERNELS:
                cells += [f"{100 * c.share:.0f}" for c in found[kernel]]
                cells.append(", ".join(dict.fromkeys(c.bound for c in found[kernel])))
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def counted(rows: list[Row]) -> str:
    """A row for each kernel: what its block does, and how many of them fit."""
    lines = [
        "| kernel | tile | numbers | from L2, KiB | products a byte | read from shared memory, KiB | turns a 128 bytes |"
        f" barriers | registers | instructions | blocks at {', '.join(map(str, SHARED))} KB |",
        f"| :-- | :-- | :-- {'| --: ' * 8}|",
    ]
    for row in rows:
        weights = "weights" in row["kernel"]
        by = "" if row["kernel"] == "conv_weights" else ", wgmma" if row["wgmma"] else ", mma.sync"
        tile = f"{row['columns'] if weights else row['pixels']} x {row['columns']}"
        fit = ", ".join(str(cuda_counts.blocks(row, kb << 10)) for kb in (SHARED if not row["wgmma"] else SHARED[:1]))
        numbers = {"float32": "TF32", "float16": "FP16"}[row["dtype"]]
        moved = f"{row['copied'] / 1024:.1f}", f"{row['products'] / row['copied']:.0f}", f"{row['read'] / 1024:.0f}"
        turns, code = f"{row['turns'] * 128 / row['read']:.2f}", (row["registers"], row["instructions"])
        cells = [row["kernel"] + by, tile, numbers, *moved, turns, row["barriers"], *code, fit]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def table(rows: list[Row], gpu: Gpu = H200, sizes: tuple[int, ...] = (512, 1664)) -> str:
    """What is written into the page."""
    small = launch_conv.CONV_SHARED[launch_conv.BN, 2] >> 10
    last = ceiling(gpu, rows, 512, 64, "float32", "conv_patch_weights")
    shared = 2 * last.splits * TAPS * 64 * 64 * 4 / gpu.l2  # written, and read
    tf32, fp16 = (operations / 1e12 for operations in gpu.products.values())
    texts = (
        f"""Ceilings on an {gpu.name} in percent of its peak in TF32 and in FP16, **reckoned and not measured**, by
        `bench/cuda_kernels.py --reckon` from bytes and operations. They are of the 3 x 3 convolutions of the 31 M-parameter
        network and their data gradients, by wgmma, without a patch (`conv.cu`) and with it (`conv_patch.cu`, which runs),
        and of the gradients of their weights, without a patch, by mma.sync (`conv_weights.cu`), and with it, by wgmma
        (`conv_patch_weights.cu`, which runs).""",
        f"""Assumed: {gpu.processors} multiprocessors; {tf32:.0f} TFLOP/s in TF32 and {fp16:.0f} in FP16 (the data sheet's,
        dense); {gpu.l2 / 1e12:.1f} TB/s from L2 (a guess: no data sheet says it), of which each multiprocessor gets its
        share; 128 bytes a clock from shared memory, at {gpu.clock / 1e9:.2f} GHz. The busiest multiprocessor counts;
        beginnings, ends, waits, and sums of tiles that several blocks share do not.""",
        """What this rests on is counted: by the emulator while it runs a tile (bytes, products, turns of shared memory's banks,
        and barriers, of nine taps and 128 bytes of channels; of `conv_weights` of a tap and 32 pixels, and of
        `conv_patch_weights` of a step: nine taps, and 3 rows of 8 pixels in TF32 and of 16 in FP16), and in the machine
        code for sm_90a (registers of a thread, instructions). The last column says how many blocks a multiprocessor holds,
        by its shared
        memory and the kernel's registers: of compute capability 9.0, 8.0 and 8.9.
        A turn of the banks gives at most 128 bytes, so 1.00 is no conflict.""",
        f"""Without a patch every pixel is fetched nine times, once a tap, and L2 is what a block waits for. With it, a
        pixel and those of the tile's border are fetched once, and weights are most of what is fetched. So wgmma has tiles of
        256 pixels,
        which use each weight twice as often; it reads the pixels of a tap from the patch by itself, and weights come through
        registers, since in TF32 wgmma takes no weights that lie across k, as those of a forward convolution do. mma.sync, whose
        GPUs have more bytes from L2 for each product, has tiles of 128 pixels, and of two kinds: where a multiprocessor has
        100 KB of shared memory only 64 channels are taken at once, since then two blocks fit, and one can multiply while the
        other waits (so `conv.cu` has two stages there, {small} KB).""",
        f"""A gradient of weights by a patch has nine sums for every pair of channels. Those of 64 x 64 channels, 36,864, fill
        more than half of a multiprocessor's registers, so that one block fits, and a number is fetched for 64 x 9 products,
        where it was for 64 or 128. A block goes down a strip of the map row by row, and multiplies each row of x with three
        rows of dy. By mma.sync these stay in registers, and 8 warps have all nine taps; that waits for nothing but mma.sync
        itself. By wgmma each of three warpgroups has a column of three taps; the pixels of x come through registers, and dy
        from shared memory, where in TF32 it must not lie across the pixels: so its rows are turned first. What is lost beside:
        rows of zeros between strips, columns of the last strip, and multiprocessors that get no block, or one fewer than
        others. The sums that blocks share are not in the table;
        with 64 channels at 512 x 512, where every block has them all, they take {1e6 * shared:.0f} microseconds beside
        {1e6 * last.seconds:.0f}, at the rate of L2.""",
    )
    head, assumed, what, why, weights = (textwrap.fill(" ".join(text.split()), 140) for text in texts)
    return "\n\n".join((head, ceilings(gpu, rows, sizes), assumed, what, counted(rows), why, weights))
