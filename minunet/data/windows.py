"""A prepared image that is read by windows: what `prepare` gives for the whole image, without ever holding the whole.

The image is anything with a shape, a dtype and ``image[rows, columns]``: an array, a memory map, a zarr array, or what
`open_large` opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from .sample import Stretch, fixed_stretch, percentile_stretch, sampling_step, scaled_size, to_channels

SIDE = 2048  # rows and columns that are read at once to look at all pixels


class Windows:
    """`prepare` by windows: ``windows(rows, columns)`` equals ``prepare(whole, ...)[rows, columns]`` to float32's precision.

    Except where 8-bit images are resized for networks of PyTorch-UNet (method "255"): Pillow rounds to grey levels then, and a
    value at the edge of two may fall to the other side.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array, or what reads like one
    channels, method, scale : as in `prepare`
        The percentiles are taken over the whole image, from the very pixels that `normalise` looks at.

    Attributes
    ----------
    size : (h, w) of the prepared image

    Raises
    ------
    ValueError
        If a window holds NaN or infinity.
    """

    def __init__(self, image: Any, channels: int, method: str = "percentile", scale: float = 1.0) -> None:
        self.image, self.channels = image, channels
        self.size = scaled_size(image.shape[:2], scale)
        self.resized, self.bicubic = scale != 1, method == "255"
        if method == "percentile":
            self.stretch = self._percentiles()
        elif method == "255":
            self.stretch = Stretch(0, 255 if self._extremes()[1] > 1 else 1, clip=False)
        else:
            self.stretch = fixed_stretch(image.dtype, method)

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        """(h, w, channels) float32."""
        return self.stretch(self._scaled(rows, columns))

    def _scaled(self, rows: slice, columns: slice) -> np.ndarray:
        """The window before grey values are stretched; float32 if the image's size is changed, else of the file's type."""
        if not self.resized:
            return self._read(rows, columns)
        H, W = self.image.shape[:2]
        how = bicubic if self.bicubic else bilinear
        first_row, down = interpolation(H, self.size[0], rows, how)
        first_column, across = interpolation(W, self.size[1], columns, how)
        block = self._read(
            slice(first_row, first_row + down.shape[1]), slice(first_column, first_column + across.shape[1])
        )
        if self.bicubic and block.dtype == np.uint8:  # as Pillow, which rounds after the columns and after the rows
            block = to_bytes(interpolate(block.astype(np.float32), np.eye(len(block)), across))
            return to_bytes(interpolate(block.astype(np.float32), down, np.eye(block.shape[1])))
        return interpolate(block.astype(np.float32), down, across)

    def _read(self, rows: slice, columns: slice) -> np.ndarray:
        block = np.asarray(self.image[rows, columns])
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise ValueError("the image holds NaN or infinity: replace them by numbers")
        return to_channels(block, self.channels)

    def _blocks(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """All of the image once, in blocks, with their first column; first rows and columns are multiples of step."""
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
        found = [(block.min(), block.max()) for _, block in self._blocks(1)]
        return min(low for low, _ in found), max(high for _, high in found)


def bilinear(x: np.ndarray) -> np.ndarray:
    """The triangle of linear interpolation."""
    return np.maximum(0, 1 - abs(x))


def bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -1/2, as Pillow has it: zero from 2 on."""
    x = abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def interpolation(
    size: int, new_size: int, part: slice, kernel: Callable[[np.ndarray], np.ndarray], smooth: bool = True
) -> tuple[int, np.ndarray]:  # fmt: skip
    """The part of an interpolation along one axis that makes some of the new pixels.

    Pixels are areas (align_corners=False). With ``smooth`` the kernel of an axis that shrinks is as much wider as its pixels
    become, as Pillow has it; else values are taken where the new pixels' centres are.

    Parameters
    ----------
    size, new_size : int
        Pixels along the whole axis, before and after.
    part : slice
        Of the new pixels.
    kernel : `bilinear` or `bicubic`
    smooth : bool

    Returns
    -------
    first : int
        The first old pixel that is needed.
    weights : (new pixels, old pixels) float64 array
    """
    ratio = size / new_size
    wide = max(ratio, 1.0) if smooth else 1.0
    reach = wide * (2 if kernel is bicubic else 1)
    centres = (np.arange(part.start, part.stop) + 0.5) * ratio - 0.5
    first, last = max(0, int(np.ceil(centres[0] - reach))), min(size - 1, int(np.floor(centres[-1] + reach)))
    weights = kernel((np.arange(first, last + 1) - centres[:, None]) / wide)
    return first, weights / weights.sum(1, keepdims=True)


def to_bytes(block: np.ndarray) -> np.ndarray:
    """Rounded to 8 bits."""
    return np.clip(np.floor(block + 0.5), 0, 255).astype(np.uint8)


def interpolate(block: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Rows and columns of a block (h, w, C) by the weights of `interpolation`; of the block's dtype."""
    down, across = down.astype(block.dtype), across.astype(block.dtype)
    return np.einsum("rh,hwc,kw->rkc", down, block, across, optimize=True)
