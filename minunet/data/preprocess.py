"""What is done to every image before the network sees it: channels, then size, then intensity.

A raw image is (H, W, C) in whatever type its file holds. `prepare` takes it to (h, w, channels) float32 in these three steps,
in training and in prediction alike. A checkpoint records the three settings as `Preprocessing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..array import Array, get_array_module
from ..errors import Settings, UserError, limits, setting, shown
from .classes import ClassMap
from .nodata import measured_pixels
from .objects import ObjectSize, Rays, Separation

NORMALISATIONS = ("percentile", "range", "none", "255")
TARGETS = ("classes", "border", "stardist", "instances")
PARTS: dict[str, type[Settings]] = {"objects": ObjectSize, "separation": Separation, "rays": Rays}
MAX_SCALE = 16


@dataclass(frozen=True)
class Preprocessing(Settings):
    """What a network knows of its images and classes; a checkpoint stores it under "data".

    It cannot be changed; ``dataclasses.replace(model.preprocessing, scale=0.5)`` makes another one.

    Attributes
    ----------
    channels : int
        Channels of the images that the network takes, see `minunet.data.to_channels`.
    classes : ClassMap
        Which value of a mask is which class.
    normalise : "percentile", "range", "none" or "255", see `minunet.data.normalise`
    scale : float
        Factor for the images' size.
    target : "classes", "border", "stardist" or "instances"
        What the outputs are: the masks' classes, background, inside and border of objects, star-convex polygons, or boxes and
        masks of objects, see minunet/data/targets.py.
    tta : int
        Over how many flips and rotations predictions are averaged by default (test-time augmentation).
    objects : ObjectSize, optional
        How large the objects were that the network was trained on.
    separation : Separation, optional
        How its output is divided into objects, if that was tuned.
    rays : Rays, optional
        Of the target "stardist": the polygons' rays.
    """

    channels: int = field(metadata=limits(least=1))
    classes: ClassMap
    normalise: str = setting("percentile", choices=NORMALISATIONS)
    scale: float = setting(1.0, above=0, most=MAX_SCALE)
    target: str = setting("classes", choices=TARGETS)
    tta: int = setting(1, least=1, most=8)
    objects: ObjectSize | None = None
    separation: Separation | None = None
    rays: Rays | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.classes, ClassMap):
            raise UserError(f"classes: a ClassMap is needed, not {type(self.classes).__name__}")
        if self.target != "classes" and self.classes.num_classes != 2:
            raise UserError(
                f"target: {self.target!r} is for masks of two classes, these have {self.classes.num_classes}"
            )
        if (self.target == "stardist") != (self.rays is not None):
            raise UserError(
                f"rays: {shown(self.rays)} with the target {self.target!r}: 'stardist' has rays, others have none"
            )
        for name, kind in PARTS.items():
            if not isinstance(getattr(self, name), kind | None):
                raise UserError(f"{name}: {shown(getattr(self, name))} is no {kind.__name__}")

    @property
    def one_by_one(self) -> bool:
        """Whether the network finds objects one by one, each as a whole, in place of classes of pixels."""
        return self.target in ("stardist", "instances")

    def outputs(self) -> tuple[int, ...]:
        """How many outputs the network may have: one for each class; for two classes a single one, a sigmoid, is allowed."""
        if self.rays:
            return (1 + self.rays.count,)
        if self.target == "instances":
            return (1,)
        K = 3 if self.target == "border" else self.classes.num_classes
        return (1, 2) if K == 2 else (K,)

    @classmethod
    def from_json(cls, stored: Any, source: str) -> Self:
        """The settings from a dictionary that `to_json` made; UserError, naming `source` and the field, if one is wrong."""
        if isinstance(stored, dict) and "classes" in stored:
            stored = {**stored, "classes": ClassMap.from_json(stored["classes"], f"{source}.classes")}
        for name, kind in PARTS.items():
            if isinstance(stored, dict) and stored.get(name) is not None:
                stored = {**stored, name: kind.from_json(stored[name], f"{source}.{name}")}
        return super().from_json(stored, source)


def prepare(raw: np.ndarray, channels: int, method: str = "percentile", scale: float = 1.0) -> np.ndarray:
    """Bring an image into the form that the network takes.

    Parameters
    ----------
    raw : (H, W) or (H, W, C) array of any real type, as `read_image` gives it
    channels : int
        What the network takes; see `to_channels`.
    method : "percentile", "range", "none" or "255"
        See `normalise`.
    scale : float
        Factor for the image's size.

    Returns
    -------
    (h, w, channels) float32 array, of the size `scaled_size`

    Raises
    ------
    UserError
        If the image's channels cannot become those of the network.

    Examples
    --------
    >>> raw = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    >>> prepared = prepare(raw, channels=3, scale=0.5)
    >>> prepared.shape, prepared.dtype
    ((20, 25, 3), dtype('float32'))
    """
    image = to_channels(raw, channels)
    if method == "range":  # before resizing, which changes the type of the file's numbers
        image, method = normalise(image, "range"), "none"
    return normalise(resize_image(image, scale, bicubic=method == "255"), method)


@dataclass(frozen=True)
class Stretch:
    """Maps intensity x to (x - low) / (high - low); with `clip` to -1 .. 2. Where low = high the image becomes 0."""

    low: float
    high: float
    clip: bool

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Stretch an image of any real type; a new float32 array."""
        if self.low == self.high:
            return np.zeros(image.shape, np.float32)
        scaled = image.astype(np.float32)
        with np.errstate(over="ignore"):  # of a border of -3.4e38
            scaled -= np.float32(self.low)
            scaled /= np.float32(self.high - self.low)
        scaled = np.clip(scaled, -1, 2, out=scaled) if self.clip else scaled
        if image.dtype.kind == "f":
            scaled[np.isnan(scaled)] = 0
        return scaled


def normalise(image: np.ndarray, method: str = "percentile") -> np.ndarray:
    """Bring intensity to about 0..1.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array of any real type
    method : "percentile", "range", "none" or "255"
        "percentile" maps the 0.5th and the 99.5th percentile to 0 and 1 and clips at -1 and 2. The percentiles are taken over
        all pixels and channels together, so that colours keep their balance, but without those that hold no data (NaN and
        constant borders, see `minunet/data/nodata.py`); NaN becomes 0. Where the two are equal (a few bright cells on
        black) the smallest and the largest value take their place, and a flat image becomes zeros. "range" divides integers
        by the largest value of their type (1 for bool) and leaves floats as they are. "none" only converts. "255" divides by
        255 if any value is above 1, as PyTorch-UNet does.

    Returns
    -------
    (H, W, C) float32 array, always a new one

    Raises
    ------
    UserError
        If there is no such method.

    Examples
    --------
    >>> normalise(np.array([[0, 51, 255]], np.uint8), "range")[..., 0]
    array([[0. , 0.2, 1. ]], dtype=float32)
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if method == "percentile":
        step = sampling_step(image.shape)
        return percentile_stretch(image[::step, ::step], lambda: (np.nanmin(image), np.nanmax(image)))(image)
    if method == "255":
        return Stretch(0, 255 if np.nanmax(image) > 1 else 1, clip=False)(image)
    return fixed_stretch(image.dtype, method)(image)


def fixed_stretch(dtype: np.dtype, method: str) -> Stretch:
    """The stretch of `normalise` for "range" and "none", which do not depend on the pixels."""
    if method not in NORMALISATIONS:
        raise UserError(f"normalise: {method!r} is unknown, choose one of {', '.join(NORMALISATIONS)}")
    top = np.iinfo(dtype).max if method == "range" and dtype.kind in "iu" else 1
    return Stretch(0, top, clip=False)


def sampling_step(size: tuple[int, ...]) -> int:
    """The step in rows and columns at which `normalise` samples pixels for percentiles: about 250,000 are enough."""
    return max(1, int(np.sqrt(size[0] * size[1] / 250_000)))


def percentile_stretch(sampled: np.ndarray, extremes: Callable[[], tuple[float, float]]) -> Stretch:
    """The stretch of `normalise` for "percentile", from sampled pixels (h, w, C); `extremes` is called only if needed."""
    pixels = measured_pixels(sampled.astype(np.uint8) if sampled.dtype == bool else sampled)
    low, high = np.percentile(pixels, (0.5, 99.5)) if pixels.size else (0, 0)
    if low == high:
        low, high = (float(value) for value in extremes())
    return Stretch(low, high, clip=True)


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Give an image the channels that the network takes.

    Of four channels, a network for fewer sees the first three: red, green and blue without alpha. Colour becomes grey by its
    luminance, which is exactly R where R = G = B; grey becomes colour by repetition.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array
    channels : int

    Returns
    -------
    (H, W, channels) array of the same type, possibly a view

    Raises
    ------
    UserError
        If there is no such conversion, say from 5 channels to 3, or from two, of which one may be alpha.

    Examples
    --------
    >>> rgba = np.full((4, 5, 4), 7, np.uint8)
    >>> to_channels(rgba, 1).shape, to_channels(rgba[..., 0], 3).shape
    ((4, 5, 1), (4, 5, 3))
    """
    image = image[..., None] if image.ndim == 2 else image
    has = image.shape[-1]
    if has == channels:
        return image
    if has == 4 and channels in (1, 3):
        image, has = image[..., :3], 3
    if has == channels:
        return image
    if (has, channels) == (3, 1):
        return luminance(image)
    if (has, channels) == (1, 3):
        return np.repeat(image, 3, axis=-1)
    one = "; if its second channel is alpha, leave that out" if has == 2 else ""
    raise UserError(f"an image of {has} channels cannot be given to a network for {channels}: convert the image{one}")


def is_grey(image: np.ndarray) -> bool:
    """Whether an image (H, W, C) holds no colour: one channel, or R = G = B in every pixel of RGB or RGBA."""
    return image.shape[-1] == 1 or (
        image.shape[-1] in (3, 4)
        and np.array_equal(image[..., 0], image[..., 1])
        and np.array_equal(image[..., 0], image[..., 2])
    )


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Colour (H, W, 3) to grey (H, W, 1) of the same type, with the weights of ITU-R BT.601."""
    if is_grey(rgb):
        return rgb[..., :1]
    grey = rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return (np.rint(grey) if rgb.dtype.kind in "iu" else grey).astype(rgb.dtype)[..., None]


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) times scale, rounded, at least one pixel each way."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_image(image: np.ndarray, scale: float, bicubic: bool = False) -> np.ndarray:
    """Resize an image (H, W, C) by `scale`, bilinearly, and averaging if it shrinks; float32 unless scale is 1.

    With `bicubic` as PyTorch-UNet does it: 8-bit images stay 8-bit.
    """
    if scale == 1:
        return image
    from PIL import Image

    h, w = scaled_size(image.shape[:2], scale)
    dtype = np.uint8 if bicubic and image.dtype == np.uint8 else np.float32
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c], dtype)) for c in range(image.shape[-1])]
    return np.stack([np.asarray(p.resize((w, h), how)) for p in planes], axis=-1)


def resize_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Resize labels (H, W) by `scale`: every new pixel takes the label under its centre."""
    if scale == 1:
        return labels
    (H, W), (h, w) = labels.shape, scaled_size(labels.shape, scale)
    rows = ((np.arange(h) + 0.5) * H / h).astype(np.intp)
    cols = ((np.arange(w) + 0.5) * W / w).astype(np.intp)
    return labels[rows[:, None], cols]


def mirrored(x: Array, margins: Sequence[tuple[int, int]]) -> Array:
    """Images (..., H, W, C), larger by these (before, after) rows and columns, where they are mirrored."""
    mode = "reflect" if min(x.shape[-3:-1]) > 1 else "symmetric"
    return get_array_module(x).pad(x, [(0, 0)] * (x.ndim - 3) + [*margins, (0, 0)], mode=mode)
