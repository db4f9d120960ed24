"""Arrays that ``numpy.save`` wrote; never a pickle, which could run code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .axes import UNNAMED, Division, divide, guess_axes
from .limits import PathLike

SIGNATURE = b"\x93NUMPY"


@dataclass(frozen=True)
class NpyPlan:
    """The images in a file; `named` says whether the axes are certain."""

    division: Division
    dtype: np.dtype
    named: bool

    def read(self, path: PathLike, page: int | None) -> np.ndarray:
        """An image (H, W) or (H, W, C)."""
        count = self.division.count
        if page is None and count > 1:
            raise UserError(f"{path}: a stack of {count} pages, one image was expected; save its pages as single files")
        if not 0 <= (page or 0) < count:
            raise UserError(f"{path}: has no page {page}, its pages are 0 to {count - 1}")
        return np.array(self.division.take(_open(path), page or 0))


def is_npy(path: PathLike) -> bool:
    """Whether a file begins as those of `numpy.save` do."""
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def npy_plan(path: PathLike, axes: str | None = None, mask: bool = False) -> NpyPlan:
    """Divide an array into images."""
    array = _open(path)
    letters = axes if axes and len(axes) == array.ndim and not mask else guess_axes(array.shape)
    division = divide(letters, array.shape, path, axes, mask)
    return NpyPlan(division, array.dtype, bool(axes) or not set(division.page_axes) & set(UNNAMED))


def _open(path: PathLike) -> np.memmap:
    """The array, mapped into memory: a header that claims more than the file holds is an error."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as e:
        if "Python objects" in str(e) or "pickle" in str(e):
            raise UserError(
                f"{path}: holds Python objects, which are not read; save the array alone with numpy.save"
            ) from None
        raise
    if not array.size:
        raise UserError(f"{path}: an array of shape {array.shape} is no image")
    return array
