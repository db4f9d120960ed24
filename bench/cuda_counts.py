"""What a block of the CUDA convolutions does for its tile, counted; for `bench/cuda_kernels.py --reckon`, which needs no GPU.

The emulator counts what is fetched and read while it runs a tile; NVRTC's machine code says how many registers and
instructions there are. All that stands in bench/results/cuda_counts.json, one row a kernel:

    kernel, dtype, columns, wgmma   which one: its file, what it stores, channels of its tile, and who multiplies
    pixels                          of its tile
    copied, read, turns             bytes fetched; bytes read from shared memory, and in how many turns of its banks
    products, barriers              of tensor cores; of the block
    threads, shared, registers      of a block: threads, bytes of shared memory; of a thread
    instructions                    of the whole kernel

Counts are of 3 x 3 taps and 128 bytes of channels; of conv_weights.cu of 32 pixels and one tap, and of
conv_patch_weights.cu of a step amid others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minunet.kernels.cuda import build, emulator, launch_conv

PATH = Path(__file__).parent / "results" / "cuda_counts.json"
DTYPES = {"float32": (), "float16": ("F16",)}
Row = dict[str, Any]


def kernels() -> Iterator[tuple[str, str, int, bool]]:
    """File without .cu, dtype, columns, and whether wgmma multiplies, of all that are counted."""
    for kernel in ("conv", "conv_patch", "conv_weights", "conv_patch_weights"):
        for wgmma in (False,) if kernel == "conv_weights" else (False, True):
            for columns in (launch_conv.BN, launch_conv.WIDE) if kernel != "conv_patch_weights" else (launch_conv.BN,):
                for dtype in DTYPES:
                    yield kernel, dtype, columns, wgmma


def weights_by_patch(dtype: str, steps: int, wgmma: bool) -> emulator.Counts:
    """Of a tile of conv_patch_weights.cu in so many steps, whose rows of x have no border."""
    rows, across = steps * launch_conv.ROWS, launch_conv.STRIP // np.dtype(dtype).itemsize
    x, y = (
        np.zeros((1, rows, across + 2, launch_conv.BN), dtype),
        np.zeros((1, rows - 2, across, launch_conv.BN), dtype),
    )
    dw = np.zeros((9, launch_conv.BN, launch_conv.BN), np.float32)
    launch_conv.conv_weights([x], y, dw, side=3, splits=1, warpgroups=wgmma)
    return emulator.counts("conv_patch_weights.cu", (*DTYPES[dtype], *["WARPGROUPS"] * wgmma))


def count(kernel: str, dtype: str, columns: int, wgmma: bool) -> Row:
    """Run a tile in the emulator, and count; needs a C++ compiler."""
    defines = (*DTYPES[dtype], *["WIDE"] * (columns == launch_conv.WIDE), *["WARPGROUPS"] * wgmma)
    item = np.dtype(dtype).itemsize
    tall = 16 if wgmma and kernel == "conv_patch" else 8
    of_weights = {"conv_weights": columns, "conv_patch_weights": 384 if wgmma else 256}
    threads = of_weights.get(kernel, 2 * columns if wgmma else 128)
    with emulator.conditions(exact=True, counting=True):  # exact as most tests compile it
        if kernel == "conv_patch_weights":
            three, two = (weights_by_patch(dtype, steps, wgmma) for steps in (3, 2))
            found = emulator.Counts(*(a - b for a, b in zip(three, two)))
            parts, shared = 1, launch_conv.PATCH_WEIGHTS_SHARED[item, wgmma]
            pixels = launch_conv.ROWS * launch_conv.STRIP // item
        elif kernel == "conv_weights":
            x, y = np.zeros((1, 6, 10, columns), dtype), np.zeros((1, 4, 8, columns), dtype)
            dw = np.zeros((9, columns, columns), np.float32)
            launch_conv.conv_weights([x], y, dw, side=3, splits=1, columns=columns, patch=False)
            found = emulator.counts(f"{kernel}.cu", defines)
            parts, shared, pixels = 9, launch_conv.WEIGHTS_SHARED * columns * item, 32
        else:
            x, y = np.zeros((1, tall + 2, 18, 128 // item), dtype), np.zeros((1, tall, 16, columns), dtype)
            w, patch = np.zeros((9, 128 // item, columns), dtype), kernel == "conv_patch"
            launch_conv.conv([x], w, [y], side=3, splits=1, columns=columns, warpgroups=wgmma, patch=patch)
            shared = launch_conv.PATCH_SHARED[columns, wgmma] if patch else launch_conv.CONV_SHARED[columns, 3]
            parts, pixels, found = 1, 16 * tall, emulator.counts(f"{kernel}.cu", defines)
    return {
        "kernel": kernel, "dtype": dtype, "columns": columns, "wgmma": wgmma, "pixels": pixels,
        "copied": found.copied // parts, "read": found.read // parts, "turns": found.turns // parts,
        "products": found.multiplied // parts, "barriers": found.barriers, "threads": threads, "shared": shared,
    }  # fmt: skip


def machine_code(row: Row) -> Row:
    """Registers and instructions of a kernel for sm_90a; needs NVRTC."""
    defines = (*DTYPES[row["dtype"]], *["WIDE"] * (row["columns"] == launch_conv.WIDE), *["WARPGROUPS"] * row["wgmma"])
    cubin, usage = build.compile_cubin(f"{row['kernel']}.cu", defines, "sm_90a")
    (registers,) = (u.registers for u in usage if u.name == row["kernel"])
    return {"registers": registers, "instructions": size_of_section(cubin, f".text.{row['kernel']}") // 16}


def size_of_section(elf: bytes, name: str) -> int:
    """Bytes of a section of a 64-bit ELF file; an instruction has 16."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(elf[at : at + size], "little")

    start, size, sections, names = number(40, 8), number(58, 2), number(60, 2), number(62, 2)
    strings = number(start + names * size + 24, 8)
    for header in range(start, start + sections * size, size):
        at = strings + number(header, 4)
        if elf[at : elf.index(b"\0", at)].decode() == name:
            return number(header + 32, 8)
    raise KeyError(name)


def blocks(row: Row, shared: int) -> int:
    """How many blocks a multiprocessor with so many bytes of shared memory holds: by those, registers and threads."""
    by_registers = 65536 // (-(-row["registers"] // 8) * 8 * row["threads"])
    return min(shared // (row["shared"] + 1024), by_registers, 2048 // row["threads"])


def write() -> None:
    """Count all, and write the file."""
    rows = [row | machine_code(row) for row in (count(*kernel) for kernel in kernels())]
    lines = ",\n".join(json.dumps(row) for row in rows)
    PATH.write_text(f"[\n{lines}\n]\n")


def read() -> list[Row]:
    return json.loads(PATH.read_text())


def find(rows: list[Row], kernel: str, dtype: str, columns: int, wgmma: bool) -> Row:
    """The row of one kernel."""
    key = {"kernel": kernel, "dtype": dtype, "columns": columns, "wgmma": wgmma}
    return next(row for row in rows if row.items() >= key.items())
