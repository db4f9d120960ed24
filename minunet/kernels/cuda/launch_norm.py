"""Starting the kernels of norm.cu: moments and sums over channels, norms both ways, ReLU.

As in launch.py, there is one function for each kernel, the same for CuPy arrays (the GPU) and NumPy arrays (the emulator).
Statistics are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...array import Array, get_array_module
from .launch import merged_sums
from .start import Moments, elementwise, in_pieces, pixels, run, step_of, storage

TILE = 256
"""Pixels of a tile of norm.cu."""


def moments(x: Array, images: int = 1) -> Moments:
    """norm.cu: moments of tiles of TILE pixels of a map; no tile has pixels of two images."""
    P, C = pixels(x) // images, x.shape[3]
    tiles = -(-P // TILE)
    partial = get_array_module(x).empty((images * tiles, 2, C), np.float32)
    run("norm.cu", "moments", (tiles, -(-C // 32), images), (32, 8), (x, partial, P, C, step_of(x)), 256 * 4,
        storage(x.dtype))  # fmt: skip
    return Moments(partial, 1, P, 1, TILE)


def merge_moments(
    of: Moments, eps: float = 1e-5, into: Array | None = None, running: tuple[Array, Array] | None = None,
    momentum: float = 0.0, unbiased: float = 1.0,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """norm_merge.cu: mean, biased variance and 1 / sqrt(variance + eps), (C,), of all pixels.

    With `into` (3, C) they are written there. With `running`, a mean and a variance, these are moved as by `running_average`.
    """
    tiles, _, C = of.partial.shape
    mean, var, rstd = get_array_module(of.partial).empty((3, C), np.float32) if into is None else into
    P = tiles // of.tiles_of_image() * of.H * of.W
    run("norm_merge.cu", "merge_moments", (-(-C // 32),), (32, 32),
        (of.partial, mean, var, rstd, tiles, P, C, *of[1:], eps, *(running or (None, None)), momentum, unbiased),
        1024 * 8)  # fmt: skip
    return mean, var, rstd


def merge_group_moments(of: Moments, images: int, groups: int, eps: float = 1e-5) -> tuple[Array, Array]:
    """norm_merge.cu: mean and 1 / sqrt(variance + eps) of each channel's group, (images, C); no tile lies in two images."""
    tiles, _, C = of.partial.shape
    if tiles != images * of.tiles_of_image():  # whole tiles of all images' pixels, one after another
        of = of._replace(W=of.W // images)
    mean, rstd = get_array_module(of.partial).empty((2, images, C), np.float32)
    run("norm_merge.cu", "merge_group_moments", (groups, images), (32, 8),
        (of.partial, mean, rstd, tiles // images, C, C // groups, *of[1:], eps), 256 * 8)  # fmt: skip
    return mean, rstd


def channel_sums(x: Array) -> Array:
    """norm.cu: the sums of a map's channels over all pixels, (C,) float32."""
    P, C = pixels(x), x.shape[3]
    partial = get_array_module(x).empty((-(-P // TILE), C), np.float32)
    run("norm.cu", "channel_sums", (len(partial), -(-C // 32)), (32, 8), (x, partial, P, C, step_of(x)), 256 * 4,
        storage(x.dtype))  # fmt: skip
    return merged_sums(partial)


def fold_norm(
    mean: Array, var: Array, gamma: Array, beta: Array, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """norm_merge.cu: scale and shift, to which a norm of given statistics reduces after a convolution, and rstd; (C,) float32.

    The convolution's bias, if it has one, is in the shift: y = sum * scale + shift.
    """
    scale, shift, rstd = get_array_module(mean).empty((3, mean.size), np.float32)
    run("norm_merge.cu", "fold_norm", (-(-mean.size // 256),), (256,),
        (mean, var, gamma, beta, bias, scale, shift, rstd, mean.size, eps))  # fmt: skip
    return scale, shift, rstd


def running_average(
    mean: Array, var: Array, batch_mean: Array, batch_var: Array, momentum: float, unbiased: float
) -> None:
    """norm_merge.cu: one step of the running statistics mean and var (C,), float32, in place; the variance times `unbiased`."""
    run("norm_merge.cu", "running_average", (-(-mean.size // 256),), (256,),
        (mean, var, batch_mean, batch_var, mean.size, momentum, unbiased))  # fmt: skip


def norm(x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array, y: Array, relu: bool) -> None:
    """norm.cu: the map y from the map x; mean and rstd (C,), or (N, C) each image's own, the rest (C,), float32."""
    P, C, wide = pixels(x), x.shape[3], in_pieces(4, x, y)
    grid, block = elementwise(P, C, wide)
    run("norm.cu", "norm_apply", grid, block,
        (x, mean, rstd, gamma, beta, y, P, P * C // mean.size, C, step_of(x), step_of(y), relu, wide),
        defines=storage(x.dtype))  # fmt: skip


def norm_back(
    dy: Array, x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array | None, dx: Array, relu: bool,
    from_batch: bool = True, total: Callable[..., Sequence[Array]] | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """norm.cu: the map dx, and dbeta and dgamma, (C,) float32.

    dx may be dy itself; without `relu` no beta is needed. `total`, if other processes have parts of the batch, is that of
    `ops.shared_batch_norm_backward`.
    """
    xp, C, M, statistics = get_array_module(x), x.shape[3], pixels(x), (mean, rstd, gamma, beta)
    dgamma = xp.empty(C, np.float32)
    partial = _sums_of_tiles(dy, x, statistics, relu, dgamma if M <= TILE else None)
    sums = whole = partial[0] if len(partial) == 1 else merged_sums(partial, rstd, dgamma)
    if total:
        b, g, of_all = total(sums[:C], sums[C:], M)
        whole = (xp.concatenate([b, g]) * (M / of_all)).astype(np.float32)  # the kernel divides them by M
    _norm_dx(dy, x, statistics, whole if from_batch else None, dx, relu, M, False)
    return sums[:C], dgamma


def group_norm_back(
    dy: Array, x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array | None, dx: Array, groups: int, relu: bool
) -> tuple[Array, Array]:  # fmt: skip
    """norm.cu: the map dx, and dbeta and dgamma, (C,) float32; mean and rstd (N, C), the rest as for `norm_back`."""
    (N, H, W, C), statistics = x.shape, (mean, rstd, gamma, beta)
    partial = _sums_of_tiles(dy, x, statistics, relu)
    sums, totals = get_array_module(x).empty((2, N, 2 * C), np.float32)
    run("norm_merge.cu", "merge_group_sums", (groups, N), (32, 8),
        (partial, rstd, gamma, sums, totals, len(partial) // N, C, C // groups), 256 * 8)  # fmt: skip
    _norm_dx(dy, x, statistics, totals, dx, relu, H * W * C // groups, True)
    of_batch = merged_sums(sums)
    return of_batch[:C], of_batch[C:]


def _sums_of_tiles(dy: Array, x: Array, statistics: tuple, relu: bool, dgamma: Array | None = None) -> Array:
    """norm.cu: the sums of `norm_back` over tiles of TILE pixels, (images * tiles, 2 * C); of a single one dgamma, too."""
    C = x.shape[3]
    images = statistics[0].size // C
    P = pixels(x) // images
    tiles = -(-P // TILE)
    partial = get_array_module(x).empty((images * tiles, 2 * C), np.float32)
    run("norm.cu", "norm_sums", (tiles, -(-C // 32), images), (32, 8),
        (x, dy, *statistics, partial, dgamma, P, C, step_of(x), step_of(dy), relu), 256 * 4, storage(x.dtype))  # fmt: skip
    return partial


def _norm_dx(
    dy: Array, x: Array, statistics: tuple, sums: Array | None, dx: Array, relu: bool, M: int, grouped: bool
) -> None:
    """norm.cu: the map dx, given the sums over sets of M numbers."""
    P, C, wide = pixels(x), x.shape[3], in_pieces(4, x, dy, dx)
    grid, block = elementwise(P, C, wide)
    run("norm.cu", "norm_back", grid, block,
        (x, dy, *statistics, sums, dx, M, grouped, P, P * C // statistics[0].size, C, step_of(x), step_of(dy), step_of(dx),
         relu, wide), defines=storage(x.dtype))  # fmt: skip


def relu(x: Array, dy: Array | None, y: Array) -> None:
    """norm.cu: y = max(x, 0); with dy, y = dy where x > 0, else 0. All maps; y may be x or dy."""
    maps = [x, y] if dy is None else [x, dy, y]
    P, C, wide = pixels(x), x.shape[3], in_pieces(4, *maps)
    grid, block = elementwise(P, C, wide)
    run("norm.cu", "relu", grid, block,
        (x, dy, y, P, C, step_of(x), 0 if dy is None else step_of(dy), step_of(y), wide), defines=storage(x.dtype))  # fmt: skip
