"""A prepared image that is read by windows: equal to `prepare` of the whole image, which is never held in memory.

The image is anything with a shape, a dtype and ``image[rows, columns]``: an array, a memory map, a zarr array, or what
`open_large` opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ..nodata import known_pixels
from ..preprocess import Stretch, fixed_stretch, percentile_stretch, sampling_step, scaled_size, to_channels

SIDE = 2048  # rows and columns that are read at once to look at all pixels


class Windows:
    """`prepare` by windows: ``windows(rows, columns)`` equals ``prepare(whole, ...)[rows, columns]`` to float32's precision.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array, or what reads like one
    channels, method, scale : as in `prepare`
        The percentiles are those of the whole image, from the same pixels that `normalise` samples.
    stretch : Stretch, optional
        That of the whole image, if it is known already: then nothing is read for it.

    Attributes
    ----------
    size : (h, w) of the prepared image
    stretch : Stretch

    Raises
    ------
    ValueError
        If a window holds infinity.
    """

    def __init__(
        self, image: Any, channels: int, method: str = "percentile", scale: float = 1.0, stretch: Stretch | None = None
    ) -> None:  # fmt: skip
        self.image, self.channels = image, channels
        self.size = scaled_size(image.shape[:2], scale)
        self.resized, self.cubic = scale != 1, method == "255"
        if stretch is not None:
            self.stretch = stretch
        elif method == "percentile":
            self.stretch = self._percentiles()
        elif method == "255":
            self.stretch = Stretch(
                0, 255 if any(np.nanmax(block, initial=0) > 1 for _, block in self._blocks(1)) else 1, clip=False
            )
        else:
            self.stretch = fixed_stretch(image.dtype, method)

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        """(h, w, channels) float32."""
        return self.stretch(self._scaled(rows, columns))

    def _scaled(self, rows: slice, columns: slice) -> np.ndarray:
        """The window before its intensity is stretched; float32 if the image is resized, else of the file's type."""
        if not self.resized:
            return self._read(rows, columns)
        H, W = self.image.shape[:2]
        first_row, down = interpolation(H, self.size[0], rows, smooth=True, cubic=self.cubic)
        first_column, across = interpolation(W, self.size[1], columns, smooth=True, cubic=self.cubic)
        block = self._read(
            slice(first_row, first_row + down.shape[1]), slice(first_column, first_column + across.shape[1])
        )
        if not (self.cubic and block.dtype == np.uint8):
            return interpolate(block.astype(np.float32), down, across)
        for axis, weights in (("kw,hwc->hkc", across), ("rh,hwc->rwc", down)):  # as Pillow: in 8 bits after either axis
            block = np.einsum(axis, weights.astype(np.float32), block.astype(np.float32), optimize=True)
            block = np.clip(np.floor(block + 0.5), 0, 255)
        return block

    def _read(self, rows: slice, columns: slice) -> np.ndarray:
        block = np.asarray(self.image[rows, columns])
        if block.dtype.kind == "f" and np.isinf(block).any():
            raise ValueError("the image holds infinity: replace it by numbers")
        return to_channels(block, self.channels)

    def _blocks(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """The whole image in blocks, each with its first column; first rows and columns are multiples of step."""
        side = step * -(-SIDE // step)
        h, w = self.size
        for r, c in product(range(0, h, side), range(0, w, side)):
            yield c, self._scaled(slice(r, min(h, r + side)), slice(c, min(w, c + side)))

    def _percentiles(self) -> Any:
        step = sampling_step(self.size)
        rows: list[list[np.ndarray]] = []
        for c, block in self._blocks(step):
            if c == 0:
                rows.append([])
            rows[-1].append(block[::step, ::step])
        sampled = np.concatenate([np.concatenate(row, axis=1) for row in rows])
        return percentile_stretch(sampled, self._extremes)

    def _extremes(self) -> tuple[float, float]:
        found = [(block.min(), block.max()) for _, whole in self._blocks(1) if (block := known_pixels(whole)).size]
        return min(low for low, _ in found), max(high for _, high in found)


def interpolation(size: int, new_size: int, part: slice, smooth: bool, cubic: bool = False) -> tuple[int, np.ndarray]:
    """The part of a linear or cubic interpolation along one axis that makes some of the new pixels.

    Pixels are areas (align_corners=False); beyond an end its pixel is repeated. With ``smooth`` an axis that shrinks is
    averaged over the width of a new pixel, with a triangle as Pillow's BILINEAR does, or with its cubic as BICUBIC does.

    Parameters
    ----------
    size, new_size : int
        Pixels along the whole axis, before and after.
    part : slice
        Of the new pixels.
    smooth, cubic : bool

    Returns
    -------
    first : int
        The first old pixel that is needed.
    weights : (new pixels, old pixels) float64 array
    """
    ratio = size / new_size
    width = max(ratio, 1.0) if smooth else 1.0
    reach = 2 * width if cubic else width
    centres = (np.arange(part.start, part.stop) + 0.5) * ratio - 0.5
    first, last = max(0, int(np.ceil(centres[0] - reach))), min(size - 1, int(np.floor(centres[-1] + reach)))
    distances = np.abs(np.arange(first, last + 1) - centres[:, None]) / width
    weights = keys(distances) if cubic else np.maximum(0, 1 - distances)
    return first, weights / weights.sum(1, keepdims=True)


def keys(t: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel of Keys (1981) with a = -1/2, for distances t >= 0."""
    return np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))


def interpolate(block: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Rows and columns of a block (h, w, C) by the weights of `interpolation`; of the block's dtype."""
    down, across = down.astype(block.dtype), across.astype(block.dtype)
    return np.einsum("rh,hwc,kw->rkc", down, block, across, optimize=True)
