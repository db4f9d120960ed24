"""Starting the kernels that work on many arrays at once: those of optim.cu and cast.cu; compare launch.py.

A training step changes all parameters. A start for each would be most of the starts of a small image's step, and most
parameters are so small that their start takes longer than their change. So these kernels get a table of arrays, see tables.cuh.
They are kernels of ops that take lists of arrays, under the ops' own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from .launch import in_memory
from .start import address, run, storage

ARRAYS, CHUNK, BLOCKS = 96, 2048, 1024
"""A table has at most ARRAYS rows, as a kernel's arguments have 4 KB. A block takes CHUNK numbers at a time; at most BLOCKS are
started."""

TABLE = np.dtype(
    [("at", np.uint64, (4, ARRAYS)), ("first", np.int32, ARRAYS + 1), ("size", np.int32, ARRAYS), ("rows", np.int32)],
    align=True,
)
Arrays = Sequence[Array]


def tables(*columns: Arrays) -> Iterator[tuple[np.ndarray, int]]:
    """Tables with all rows of some columns, lists of as many contiguous arrays; and how many blocks are to work on each."""
    for start in range(0, len(columns[0]), ARRAYS):
        part = [column[start : start + ARRAYS] for column in columns]
        table, rows = np.zeros((), TABLE), len(part[0])
        for at, column in zip(table["at"], part):
            at[:rows] = [address(a) for a in column]
        size = table["size"]
        size[:rows] = [a.size for a in part[0]]
        np.cumsum(-(-size // CHUNK), dtype=np.int32, out=table["first"][1:])
        table["rows"] = rows
        yield table, min(int(table["first"][rows]), BLOCKS)


def unscale(grads: Arrays, factor: float | Array, broken: Array) -> None:
    """optim.cu, of `amp.unscale`."""
    for table, blocks in tables(grads):
        run("optim.cu", "unscale", (blocks,), (256,), (broken, table, *in_memory(factor, broken)))


def clip(grads: Arrays, max_norm: float) -> Array:
    """optim.cu, of `optim.clip`; the norm is an array without axes, so that the host need not wait for it."""
    xp, found = get_array_module(grads[0]), list(tables(grads))
    partial, norm = xp.empty(sum(blocks for _, blocks in found), np.float64), xp.empty((), np.float32)
    begun = 0
    for table, blocks in found:
        run("optim.cu", "squares", (blocks,), (256,), (partial[begun:], table), 256 * 8)
        begun += blocks
    for table, blocks in found:
        run("optim.cu", "clip", (blocks,), (256,), (partial, begun, norm, table, max_norm), 256 * 8)
    return norm


def sgd_steps(
    p: Arrays, g: Arrays, velocity: Arrays, lr: float | Array, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """optim.cu, of `optim.sgd_steps`; lr may be an array (lr, flag), where a flag other than 0 skips the step."""
    g = _contiguous(g)
    for table, blocks in tables(p, g, velocity):
        _run("sgd", blocks, (table, *in_memory(lr, p[0]), momentum, weight_decay, nesterov), p)


def adam_steps(
    p: Arrays, g: Arrays, m: Arrays, s: Arrays, steps: int | None, lr: float | Array, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """optim.cu, of `optim.adam_steps`; with steps None, lr is an array (lr, 1 - beta1^steps, 1 - beta2^steps, flag)."""
    g = _contiguous(g)
    corrections = (0.0, 0.0) if steps is None else (1 - beta1**steps, 1 - beta2**steps)
    for table, blocks in tables(p, g, m, s):
        numbers = (1 - beta1, 1 - beta2, eps, weight_decay, decoupled, *corrections)
        _run("adam", blocks, (table, *in_memory(lr, p[0]), *numbers), p)


def rmsprop_steps(
    p: Arrays, g: Arrays, s: Arrays, velocity: Arrays, lr: float | Array, momentum: float = 0.9, decay: float = 0.99,
    eps: float = 1e-8, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """optim.cu, of `optim.rmsprop_steps`; lr as in `sgd_steps`."""
    g = _contiguous(g)
    for table, blocks in tables(p, g, s, velocity):
        _run("rmsprop", blocks, (table, *in_memory(lr, p[0]), momentum, 1 - decay, eps, weight_decay), p)


def move_averages(averages: Arrays, arrays: Arrays, decay: float) -> None:
    """optim.cu, of `optim.move_averages`."""
    for table, blocks in tables(averages, arrays):
        _run("average", blocks, (table, decay, 1 - decay), averages)


def cast(arrays: Arrays, halves: Arrays) -> None:
    """cast.cu, of `amp.cast`."""
    for table, blocks in tables(arrays, halves):
        run("cast.cu", "cast", (blocks,), (256,), (table,), defines=storage(halves[0].dtype), like=arrays[0])


def _run(name: str, blocks: int, arguments: tuple[Any, ...], like: Arrays) -> None:
    run("optim.cu", name, (blocks,), (256,), arguments, like=like[0])


def _contiguous(arrays: Arrays) -> Arrays:
    return [a if a.flags.c_contiguous else get_array_module(a).ascontiguousarray(a) for a in arrays]
