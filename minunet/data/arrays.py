"""Data sets of arrays that are in memory already, and several data sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from .classes import ClassMap, as_numbers
from .image_set import ImageSet
from .mask_kinds import find_classes
from .mask_scan import MaskScan, ignored_values
from .preprocess import is_grey, prepare, resize_labels, scaled_size
from .sample import Sample


class ArraySet(ImageSet):
    """Images and masks that are arrays.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, C) arrays, or one array (N, H, W) or (N, H, W, C)
        Grey, RGB or RGBA, of any real type. Sizes may differ.
    masks : sequence of (H, W) arrays of whole numbers or bool, or of (H, W, 3) colours, or one array of them
        Class numbers, 0 and 255, object numbers or colours; for how these are told apart, see `minunet/data/mask_kinds.py`.
    names : sequence of str, optional
        "image 0" and so on if not given.
    channels, normalise, scale, classes, ignore
        As in `open_dataset`.
    masks_are : "auto", "classes", "objects" or "binary"
        What the masks' values stand for: `masks` of `open_dataset`.

    Raises
    ------
    UserError
        If there are not as many masks as images, or one of them cannot be used; it is named.
    """

    layout = "arrays"

    def __init__(
        self, images: Any, masks: Any, names: Sequence[str] | None = None, channels: int | None = None,
        normalise: str = "percentile", scale: float = 1.0, classes: ClassMap | None = None,
        masks_are: str = "auto", ignore: Sequence[object] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self._images, self._masks = [np.asarray(a) for a in images], [np.asarray(a) for a in masks]
        n = len(self._images)
        if n != len(self._masks):
            raise UserError(f"{n} images and {len(self._masks)} masks: every image needs its mask")
        if not n:
            raise UserError("there are no images")
        self.names = [f"image {i}" for i in range(n)] if names is None else list(names)
        if len(self.names) != n:
            raise UserError(f"{n} images and {len(self.names)} names")
        self.normalise, self.scale = normalise, scale
        for name, image, mask in zip(self.names, self._images, self._masks):
            check_pair(name, image, mask)
        self._images = [a if a.ndim == 3 else a[..., None] for a in self._images]
        self._masks = [m.astype(np.uint8) if m.dtype == bool else m for m in self._masks]
        self.sizes = [scaled_size(image.shape[:2], scale) for image in self._images]
        self.reading, self.warnings = "", []
        self.channels = channels or self._find_channels()
        scan = MaskScan(ignored_values(ignore))
        if classes is None:
            for name, mask in zip(self.names, self._masks):
                scan.add(mask, f"the mask of {name}")
            classes, self.reading, notices = find_classes(scan, masks_are)
            self.warnings += notices
        self.classes = classes.ignoring(scan.ignore)

    def _find_channels(self) -> int:
        """1 or 3 for grey and colour; else as many as all images have."""
        has = {image.shape[-1] for image in self._images}
        if has == {4} and not all(np.ptp(image[..., 3]) == 0 for image in self._images):
            self.warnings.append(
                "4 channels: the fourth is taken for one, not for alpha; leave it out if that is wrong"
            )
        elif has <= {1, 3, 4}:
            return 1 if all(map(is_grey, self._images)) else 3
        if len(has) > 1:
            raise UserError(f"images of {' and '.join(map(str, sorted(has)))} channels do not go together")
        return has.pop()

    def _read(self, index: int) -> Sample:
        name, mask = self.names[index], self._masks[index]
        image = prepare(self._images[index], self.channels, self.normalise, self.scale)
        labels, valid = self.classes.encode(mask, f"the mask of {name}"), self.classes.counting(mask)
        objects = None
        if self.classes.rule == "instances":
            objects = as_numbers(mask) if valid is None else np.where(valid, as_numbers(mask), np.int32(0))
        maps = (None if m is None else resize_labels(m, self.scale) for m in (objects, valid))
        return Sample(name, image, resize_labels(labels, self.scale), *maps)

    def describe(self) -> str:
        """A report of some lines."""
        sizes = sorted({f"{w}x{h}" for h, w in self.sizes})
        return "\n".join(
            [
                f"arrays      {len(self)} images: {', '.join(sizes[:4])}{' and others' * (len(sizes) > 4)}",
                f"channels    {self.channels} to the network",
                f"masks       {self.classes.describe()}",
                *([f"read as     {self.reading}"] if self.reading else []),
                *(f"warning     {w}" for w in self.warnings),
            ]
        )


class JoinedSet(ImageSet):
    """Two data sets as one, the second's images after the first's.

    Raises
    ------
    UserError
        If their images were prepared in different ways, or their masks hold different classes.
    """

    def __init__(self, first: ImageSet, second: ImageSet) -> None:
        super().__init__()
        ours, theirs = first.preprocessing, second.preprocessing
        if ours != theirs:
            raise UserError(f"the data sets for training and validation differ: {ours} and {theirs}")
        self.first, self.second = first, second
        self.layout, self.path, self.ordered = first.layout, first.path, first.ordered
        self.names, self.sizes = first.names + second.names, first.sizes + second.sizes
        self.channels, self.classes = first.channels, first.classes
        self.normalise, self.scale = first.normalise, first.scale

    def __getitem__(self, index: int) -> Sample:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]

    def describe(self) -> str:
        """The reports of both."""
        return f"{self.first.describe()}\n{self.second.describe()}"


def check_pair(name: str, image: np.ndarray, mask: np.ndarray) -> None:
    """UserError if an image or a mask cannot be used, or the two do not fit together."""
    if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.kind not in "biuf":
        raise UserError(f"{name}: an image is (H, W) or (H, W, C) numbers, not {image.shape} of {image.dtype}")
    if image.dtype.kind == "f" and (np.isinf(image).any() or np.isnan(image).all()):
        raise UserError(f"{name}: holds NaN everywhere, or infinity: replace them by numbers")
    if mask.shape[:2] != image.shape[:2] or mask.shape[2:] not in ((), (3,)):
        raise UserError(
            f"{name}: its mask is {mask.shape}; for an image of {image.shape} it must be {image.shape[:2]}, or these with 3 "
            "colours"
        )
    if mask.dtype.kind not in "biu" or (mask.ndim == 3 and mask.dtype != np.uint8):
        raise UserError(
            f"{name}: its mask is of {mask.dtype}; give whole numbers (classes, 0 and 255, object numbers) or 8-bit colours"
        )
