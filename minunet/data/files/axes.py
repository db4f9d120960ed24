"""Which numbers of a file are one image: the axes of its array, by the file's own description or as the user says.

Axes are tifffile's letters: Y rows, X columns, S samples (red, green, blue), C channels; all others count images: T time, Z
slices, and so on. Q and I stand for an axis that the file does not name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .limits import PathLike

UNNAMED = "QI"
CHANNELS = "CS"
LETTERS = "TZCYXSPRQIVHAFLMEGKUOBNDJW"  # that tifffile and the flag --axes know
NARROW = 16  # columns up to which a last axis without a name may be that of channels


@dataclass(frozen=True)
class Division:
    """An array divided into images.

    Attributes
    ----------
    axes : str
        One letter for each dimension.
    shape : tuple of int
    channels : str
        Which letters are channels: of masks only S, since colours are the only channels that a mask has.

    Examples
    --------
    >>> divided = Division("TCYX", (5, 2, 40, 60))
    >>> divided.count, divided.size, divided.bands
    (5, (40, 60), 2)
    >>> divided.take(np.zeros((5, 2, 40, 60)), 3).shape
    (40, 60, 2)
    """

    axes: str
    shape: tuple[int, ...]
    channels: str = CHANNELS

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    @property
    def bands(self) -> int:
        return math.prod(n for a, n in zip(self.axes, self.shape) if a in self.channels)

    @property
    def page_axes(self) -> str:
        """The letters of the axes that count images."""
        return "".join(a for a in self.axes if a not in "YX" and a not in self.channels)

    @property
    def page_shape(self) -> tuple[int, ...]:
        return tuple(n for a, n in zip(self.axes, self.shape) if a in self.page_axes)

    @property
    def count(self) -> int:
        """Number of images."""
        return math.prod(self.page_shape)

    def index(self, page: int) -> tuple[int | slice, ...]:
        """What selects an image from the array."""
        numbers = iter(int(i) for i in np.unravel_index(page, self.page_shape)) if self.page_shape else iter(())
        return tuple(next(numbers) if a in self.page_axes else slice(None) for a in self.axes)

    def take(self, array: np.ndarray, page: int) -> np.ndarray:
        """An image of the array: (H, W), or (H, W, C) if there is an axis of channels."""
        return self.arranged(np.asarray(array[self.index(page)]))

    def arranged(self, part: np.ndarray) -> np.ndarray:
        """What `index` selects, or a window of it, with rows and columns first, as `take` returns it."""
        left = [a for a in self.axes if a not in self.page_axes]
        bands = [a for a in left if a not in "YX"]
        part = part.transpose([left.index(a) for a in ("Y", "X", *bands)])
        return part.reshape(*part.shape[:2], -1) if bands else part


def divide(
    axes: str, shape: tuple[int, ...], path: PathLike, wanted: str | None = None, mask: bool = False
) -> Division:
    """Divide an array by what its file says, or by `wanted`, which is what the user says.

    For a mask, `wanted` is that of its image: without C and S if that fits better, since a mask has no channels.

    Raises
    ------
    UserError
        If the axes do not fit the shape, or rows or columns are missing, or it looks as if the last axis were that of channels.
    """
    channels = "S" if mask else CHANNELS
    if wanted and axes.endswith("YXS") and wanted[-1] not in CHANNELS:  # a TIFF's samples are channels for certain
        wanted = f"{wanted}S" if len(shape) > 3 else None
    if wanted and len(shape) > 2:
        fits = [wanted, "".join(a for a in wanted if a not in CHANNELS)][:: -1 if mask else 1]
        known = next((a for a in fits if len(a) == len(shape)), None)
        if known is None and not mask:
            raise UserError(
                f"{path}: --axes {wanted} has {len(wanted)} letters, the file has {len(shape)} axes, {axes} of "
                f"{lengths(shape)}; give one letter for each"
            )
        axes = known or axes
    elif looks_channel_last(axes, shape):
        *rows, last = shape
        raise UserError(
            f"{path}: {rows[0]} pages of {last}x{rows[1]} pixels, or one image of {last} channels? The file does not say: give "
            f"--axes YXC if the last axis counts channels, --axes ZYX if these are pages"
        )
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(axes) != len(shape):
        raise UserError(f"{path}: an array of axes {axes} and shape {shape} is no image; give --axes, such as ZYX")
    return Division(axes, tuple(shape), channels)


def check_axes(text: str) -> None:
    """UserError if a text is not what --axes takes."""
    if text.count("Y") != 1 or text.count("X") != 1 or len(set(text)) != len(text) or set(text) - set(LETTERS):
        raise UserError(
            f"axes: {text!r} is not one letter for each axis of the files; Y are rows, X columns, C channels, T and Z "
            f"images, such as ZYX, CYX or YXC"
        )


def looks_channel_last(axes: str, shape: tuple[int, ...]) -> bool:
    """Whether "pages" may be rows: a few columns, many rows, and more pages than columns."""
    if len(shape) != 3 or axes[0] not in UNNAMED or axes[1:] != "YX":
        return False
    pages, rows, columns = shape
    return 1 < columns <= NARROW and min(pages, rows) >= 2 * columns and min(pages, rows) > NARROW


def lengths(shape: tuple[int, ...]) -> str:
    """A shape as people write it: 5x64x64."""
    return "x".join(map(str, shape))


def guess_axes(shape: tuple[int, ...]) -> str:
    """The axes of an array without any description: colours if the last axis has 3 or 4, else pages.

    Examples
    --------
    >>> guess_axes((40, 60)), guess_axes((40, 60, 3)), guess_axes((9, 40, 60))
    ('YX', 'YXS', 'QYX')
    """
    n = len(shape)
    if n == 3 and shape[-1] in (3, 4) and min(shape[:2]) > 4:
        return "YXS"
    if n == 4 and shape[-1] in (3, 4) and min(shape[1:3]) > 4:
        return "QYXS"
    return {2: "YX", 3: "QYX"}.get(n, "?" * n)
