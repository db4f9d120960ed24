"""Segmenting by tiles: the same probabilities as from the whole image at once, in the memory of one tile.

The network sees a *window*, of which the *tile* in the middle is kept:

      window  |--- overlap ---|======= tile =======|--- overlap ---|
      start, a multiple of 2^depth

Why the tile has the values of the whole image: An output pixel depends on pixels no farther away than `reach`. If the overlap
is at least as wide, the window's cut edges cannot change the tile. A window starts at a multiple of 2^depth, so that its pools
group the pixels as those of the whole image do. At the image's own edges the window ends, too, so that padding (zeros, or the
mirrored margin for which `Module.fit_size` asks) is the same. Unpadded convolutions give no output for their margin, so they
need no overlap.

Two layers depend on all of their map, so that windows never give the result of the whole image: group norm takes its statistics
from the map, and bilinear up-sampling with aligned corners stretches it. With these, or if the overlap is too small, tiles are
blended.

Grey values are normalised by statistics of the whole image. With ``tta`` every tile is predicted in several of the square's
eight symmetries, each window placed as if the whole image had been flipped or rotated, and the probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import lcm
from typing import Any

import numpy as np

from ..array import get_array_module, to_numpy
from ..data.files.windows import Windows, interpolate, interpolation
from ..kernels.device import free_memory
from ..models import Ensemble, receptive_field
from ..models.summary import summary
from ..models.trace import Trace, follow, input_channels
from ..nn import Module
from .maps import maps_of
from .stitching import in_common, within
from .tta import SYMMETRIES, Symmetry

Block = tuple[slice, slice, np.ndarray]  # rows, columns, and their probabilities (h, w, num_classes)

UNKNOWN = 4 << 30  # bytes that are taken to be free if the system does not say
OVERLAPS = 10  # a tile is so many overlaps wide, if memory allows: windows then hold 44 % more pixels than the image


# ---- what a network needs --------------------------------------------------------------------------------------------


def networks(model: Module) -> list[Module]:
    """An ensemble's members, which run one after another on the same window, or the one network."""
    return model.members if isinstance(model, Ensemble) else [model]


def stride(model: Module) -> int:
    """The step, in pixels, after which the grids of all maps repeat: 2^depth. Windows start at its multiples."""
    return lcm(*(receptive_field.stride(follow_large(m)) for m in networks(model)))


def reach(model: Module) -> int:
    """How many pixels away from an output pixel the image can still change it; 0 with unpadded convolutions."""
    if model.fit_size(4096) > 4096:
        return 0
    return max(receptive_field.reach(follow_large(m)) for m in networks(model))


def follow_large(model: Module) -> Trace:
    """The layers of one network as they run on an image much larger than their reach."""
    n = model.fit_size(4096)
    return follow(model, (1, n, n, input_channels(model)))


def why_not_equal(model: Module, overlap: int, size: tuple[int, ...] = ()) -> str:
    """Why tiles cannot have the values of the whole image, of `size` rows and columns; "" if they can."""
    for m in networks(model):
        whole = [follow(m, (1, *map(m.fit_size, size), input_channels(m)))] if size else []
        for trace in (follow_large(m), *whole):  # maps of odd sizes are resized otherwise than their parts
            if reason := receptive_field.why_not_local(trace):
                return reason
    if overlap < reach(model):
        return f"the overlap of {overlap} pixels is less than the {reach(model)} that the network sees"
    return ""


def default_overlap(model: Module) -> int:
    """The network's reach, rounded up to whole strides; for blended tiles half as much more, and at least 4 strides."""
    step, far = stride(model), reach(model)
    if why_not_equal(model, far):
        far = max(far * 3 // 2, 4 * step)
    return -(-far // step) * step


def whole_fits(model: Module, size: tuple[int, int]) -> bool:
    """Whether half of the free memory suffices for a prepared image of that size in one piece."""
    return needed(model, *size) <= spare_memory(model)


def best_tile(model: Module, spare: int | None = None) -> int:
    """Side of a tile: `OVERLAPS` overlaps, beyond which there is little to gain, or less if memory is short.

    `spare` is how many bytes a window may take; by default `spare_memory`.
    """
    step, overlap = stride(model), default_overlap(model)
    tile, spare = OVERLAPS * max(overlap, 4 * step), spare_memory(model) if spare is None else spare
    while tile > step and needed(model, tile + 2 * overlap, tile + 2 * overlap) > spare:
        tile = max(step, tile * 3 // 4 // step * step)
    return tile


def spare_memory(model: Module) -> int:
    """Half of the bytes that are free where the model computes."""
    return (free_memory(get_array_module(*model.named_params().values())) or UNKNOWN) // 2


def needed(model: Module, h: int, w: int) -> int:
    """Predicted bytes for one window: the network, the window as it is read, the logits, and two arrays of probabilities. (What
    kernels work in is there for windows of all sizes.)

    For an ensemble: the largest network, the weights of all, and one more array of probabilities.
    """
    shape = (1, model.fit_size(h), model.fit_size(w), input_channels(model))
    costs = [summary(m, shape) for m in networks(model)]
    network = max(c.inference_peak - c.weight_bytes - c.scratch for c in costs) + sum(c.weight_bytes for c in costs)
    maps = 3 + (len(costs) > 1)
    return network + 4 * h * w * (2 * input_channels(model) + maps * max(2, costs[0].rows[-1].output[-1]))


# ---- one axis --------------------------------------------------------------------------------------------------------


class Axis:
    """Where windows lie along one axis, rows or columns, of an image of n pixels; with the margin that the network needs."""

    def __init__(self, model: Module, n: int, output: int, step: int, overlap: int) -> None:
        self.model, self.n, self.step, self.overlap = model, n, step, overlap
        self.whole = model.fit_size(n)
        self.before = (self.whole - n) // 2  # mirrored pixels before the image
        self.shift = self.before - (self.whole - output) // 2  # the image's first pixel in the network's output

    def window(self, lo: int, hi: int) -> tuple[slice, slice]:
        """For the image's pixels lo to hi: the window, in pixels of the image, and where they lie in the window's output."""
        lo, hi = lo + self.shift, hi + self.shift
        last = (self.whole - self.model.fit_size(1)) // self.step * self.step
        start = max(0, min((lo - self.overlap) // self.step * self.step, last))
        end = -(-(hi + self.overlap) // self.step) * self.step
        length = min(self.model.fit_size(end - start), self.whole - start)
        return slice(start - self.before, start - self.before + length), slice(lo - start, hi - start)


def mirrored(part: slice, n: int, edge: bool) -> np.ndarray:
    """Indices into n pixels, mirrored beyond the ends; with ``edge`` the pixel at the end is repeated."""
    i = np.arange(part.start, part.stop)
    if edge:
        i %= 2 * n
        return np.minimum(i, 2 * n - 1 - i)
    i %= 2 * (n - 1)
    return np.minimum(i, 2 * (n - 1) - i)


# ---- the tiles -------------------------------------------------------------------------------------------------------


class Tiles:
    """An image in tiles; iterate to get each with its probabilities.

    Parameters
    ----------
    model : Module
    windows : Windows
        The prepared image.
    tile : int
        Rows and columns of a tile in pixels of the prepared image; rounded down to a multiple of the network's stride.
    overlap : int, optional
        Pixels of a window around its tile; by default as many as the network needs. Rounded up to a multiple of the stride.
    tta : int
        How many of the `SYMMETRIES` are averaged.

    Attributes
    ----------
    note : str
        Why tiles are blended, so that the result differs from that of the whole image; "" if it is the same.

    Yields
    ------
    rows, columns : slices of the image
        Together they cover it, without overlap.
    p : (h, w, num_classes) float32 array
    """

    def __init__(
        self, model: Module, windows: Windows, tile: int, overlap: int | None = None, tta: int = 1
    ) -> None:  # fmt: skip
        size = windows.image.shape[:2]
        self.model, self.windows, self.size = model, windows, (int(size[0]), int(size[1]))
        step = stride(model)
        overlap = default_overlap(model) if overlap is None else -(-overlap // step) * step
        self.note = why_not_equal(model, overlap, windows.size)
        self.tile = [max(1, round(max(step, tile // step * step) * n / m)) for n, m in zip(size, windows.size)]
        self.half = self._half(overlap) if self.note else 0  # of the width in which neighbours fade into each other
        whole = [model.fit_size(n) for n in windows.size]
        (_, *outputs, channels) = summary(networks(model)[0], (1, *whole, input_channels(model))).rows[-1].output
        self.axes = [Axis(model, n, o, step, overlap) for n, o in zip(windows.size, outputs)]
        self.num_classes = max(2, channels)
        self.symmetries = SYMMETRIES[:tta]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.parts(0)) * len(self.parts(1))

    def __iter__(self) -> Iterator[Block]:
        return self.blocks()

    def blocks(self, done: Callable[[], Any] = lambda: None) -> Iterator[Block]:
        """The same iterator, which also calls ``done`` after every tile; a block may hold several tiles."""
        if self.half:
            yield from self._blended(done)
            return
        for i, j in product(*(range(len(self.parts(axis))) for axis in (0, 1))):
            yield from self.group(slice(i, i + 1), slice(j, j + 1))
            done()

    def group(self, i: slice, j: slice) -> Iterator[Block]:
        """The tiles of some rows and columns of tiles, bit for bit as in `blocks`; blended ones come as one block.

        Of blended tiles those around the group are computed, too.
        """
        rows, columns = self.parts(0), self.parts(1)
        if not self.half:
            for part in product(rows[i], columns[j]):
                yield *part, self.probabilities(*part)
            return
        whole = slice(rows[i][0].start, rows[i][-1].stop), slice(columns[j][0].start, columns[j][-1].stop)
        total = np.zeros((*(s.stop - s.start for s in whole), self.num_classes), np.float32)
        for r, c in product(*(p[max(0, s.start - 1) : s.stop + 1] for p, s in ((rows, i), (columns, j)))):
            tall, wide, faded = self._faded(r, c)
            both = in_common(whole, (tall, wide))
            if all(s.start < s.stop for s in both):
                total[within(both, whole)] += faded[within(both, (tall, wide))]
        yield *whole, total

    def probabilities(self, rows: slice, columns: slice) -> np.ndarray:
        """The probabilities of any part of the image: (h, w, num_classes) float32."""
        (h, w), (H, W) = self.windows.size, self.size
        down = across = None
        part = rows, columns
        if (h, w) != (H, W):  # from the network's size back to the image's, as inference.resize does
            first_row, down = interpolation(h, H, rows, smooth=False)
            first_column, across = interpolation(w, W, columns, smooth=False)
            part = slice(first_row, first_row + down.shape[1]), slice(first_column, first_column + across.shape[1])
        p = np.zeros((rows.stop - rows.start, columns.stop - columns.start, self.num_classes), np.float32)
        for symmetry in self.symmetries:
            logits = self._logits(symmetry, *part)
            if down is not None and across is not None:
                logits = interpolate(logits, down, across)
            p += maps_of(self.model, logits, h / H)
        p /= len(self.symmetries)
        return p

    def _logits(self, symmetry: Symmetry, rows: slice, columns: slice) -> np.ndarray:
        """The network's output for a part of the prepared image, seen in one of the square's symmetries."""
        turned = symmetry.turn_part(rows, columns, self.windows.size)
        axes = self.axes[::-1] if symmetry.exchange else self.axes
        (window_r, kept_r), (window_c, kept_c) = (a.window(s.start, s.stop) for a, s in zip(axes, turned))
        edge = min(self.windows.size) == 1
        wanted = [mirrored(s, a.n, edge) for s, a in zip((window_r, window_c), axes)]
        needed = symmetry.indices_back(wanted[0], wanted[1], self.windows.size)
        first = [int(i.min()) for i in needed]
        block = self.windows(*(slice(f, int(i.max()) + 1) for f, i in zip(first, needed)))
        x = block[np.ix_(*(i - f for i, f in zip(needed, first)))]
        x = np.ascontiguousarray(x.swapaxes(0, 1) if symmetry.exchange else x)
        xp = get_array_module(*self.model.named_params().values())
        logits = symmetry.back(to_numpy(self.model(xp.asarray(x[None])))[0, kept_r, kept_c])
        rays = getattr(getattr(self.model, "preprocessing", None), "rays", None)
        return logits[..., [0, *(1 + symmetry.rays_back(rays.count))]] if rays else logits

    def _half(self, overlap: int) -> int:
        """Half the width of the blending: the overlap minus the reach, or half of a smaller overlap; at most half a tile."""
        spare = overlap - reach(self.model)
        return min(spare if spare > 0 else overlap // 2, min(self.tile) // 2)

    def parts(self, axis: int) -> list[slice]:
        """The rows, or the columns, of the image that the tiles keep."""
        n, tile = self.size[axis], self.tile[axis]
        return [slice(start, min(n, start + tile)) for start in range(0, n, tile)]

    def _blended(self, done: Callable[[], Any]) -> Iterator[Block]:
        """Yield bands of whole rows, in which tiles fade into their neighbours."""
        half, (H, W) = self.half, self.size
        carried = np.zeros((0, W, self.num_classes), np.float32)
        top = 0
        for rows in self.parts(0):
            band = np.zeros((min(H, rows.stop + half) - top, W, self.num_classes), np.float32)
            band[: len(carried)] = carried
            for columns in self.parts(1):
                tall, wide, faded = self._faded(rows, columns)
                band[tall.start - top :, wide] += faded
                done()
            complete = H if rows.stop == H else rows.stop - half
            yield slice(top, complete), slice(0, W), band[: complete - top]
            carried, top = band[complete - top :], complete

    def _faded(self, rows: slice, columns: slice) -> Block:
        """A tile with what of it lies in its neighbours: rows, columns, and its share of the probabilities there."""
        half, (H, W) = self.half, self.size
        tall = slice(max(0, rows.start - half), min(H, rows.stop + half))
        wide = slice(max(0, columns.start - half), min(W, columns.stop + half))
        weight = fade(rows, tall, half, H)[:, None, None] * fade(columns, wide, half, W)[None, :, None]
        return tall, wide, weight * self.probabilities(tall, wide)


def fade(part: slice, extended: slice, half: int, n: int) -> np.ndarray:
    """The weights of a tile over its extended part: they rise and fall at its borders, and those of neighbours sum to 1."""
    at = np.arange(extended.start, extended.stop) + 0.5
    rising = (at - part.start + half) / (2 * half) if part.start else np.ones(len(at))
    falling = (part.stop + half - at) / (2 * half) if part.stop < n else np.ones(len(at))
    return np.clip(np.minimum(rising, falling), 0, 1).astype(np.float32)
