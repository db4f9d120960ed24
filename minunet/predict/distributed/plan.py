"""How an image is divided into shards, and how much memory a worker needs for one.

A shard of the mask is a group of whole tiles. The tiles are those of one process, so every pixel comes from the same window,
with the same bits. Shards do not share chunks: no two tasks write into one file. Objects are separated in blocks that are not
shards of the mask, but those of one process, too; a block is a shard of the labels.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

from ...models.summary import summary
from ...nn import Module
from ..tiles import needed, networks
from ..writers import CHUNK

SHARD = 2048  # pixels: about the side of a shard
OBJECTS = 125  # bytes for a pixel, while objects are separated: heights, seeds, regions and the watershed's queue
LIBRARIES = 48 << 20  # bytes that they take which separate objects
KEPT = 128 << 20  # bytes that stay with the process when arrays are gone (measured: 50 to 130 MiB)
DRAWN = 40  # the same where objects are found one by one, and drawn


class Grid(NamedTuple):
    """Rows and columns of a zarr's chunks, and of its shards, which are files of whole chunks."""

    chunk: tuple[int, int]
    shard: tuple[int, int]


def tiles_in_shard(tile: int) -> int:
    """How many tiles of that side, in pixels, are a side of a shard."""
    return max(1, round(SHARD / tile))


def tile_grid(tiles: Any) -> Grid:
    """The shards of what is written tile by tile, from an image's `Tiles`."""
    rows, columns = tiles.tile
    k = tiles_in_shard(max(rows, columns))
    return Grid((rows, columns), (k * rows, k * columns))


def block_grid(side: int) -> Grid:
    """The shards of what is written block by block."""
    chunk = CHUNK if side % CHUNK == 0 else side
    return Grid((chunk, chunk), (side, side))


def shards(counts: tuple[int, int], k: int) -> dict[tuple[int, int], tuple[slice, slice]]:
    """The rows and columns of tiles of each shard, if there are so many and a shard has k x k.

    >>> shards((3, 2), 2)[1, 0]
    (slice(2, 3, None), slice(0, 2, None))
    """
    axes = [[slice(first, min(n, first + k)) for first in range(0, n, k)] for n in counts]
    return {(i, j): (axes[0][i], axes[1][j]) for i, j in product(*(range(len(a)) for a in axes))}


def shard_part(tiles: Any, i: slice, j: slice) -> tuple[slice, slice]:
    """The rows and columns of the image that the tiles i, j of a shard keep."""
    rows, columns = tiles.parts(0)[i], tiles.parts(1)[j]
    return slice(rows[0].start, rows[-1].stop), slice(columns[0].start, columns[-1].stop)


def predicted_memory(
    model: Module, window: tuple[int, int], shard: tuple[int, int], planes: int, block: int, separating: int
) -> int:  # fmt: skip
    """Bytes that a worker needs for its tasks, beside those that it has once the network is loaded.

    Parameters
    ----------
    model : Module
    window, shard : (rows, columns) of the largest
    planes : int
        Maps that are written as float32, such as probabilities.
    block : int
        Pixels of a block and its halo, in which objects are separated; 0 for none.
    separating : int
        Bytes for each of these pixels.
    """
    weights = sum(summary(m, (1, m.fit_size(64), m.fit_size(64), channels(m))).weight_bytes for m in networks(model))
    pixels = shard[0] * shard[1]
    held = pixels * (3 * 4 * planes + 4)  # maps, by planes, and in the zarr's bytes
    network = needed(model, *window) - weights + held
    return KEPT + max(network, block * (separating + 4 * planes) + LIBRARIES * (block > 0))


def channels(model: Module) -> int:
    """Of the images that a network takes."""
    from ...models.trace import input_channels

    return input_channels(model)
