"""What a data set hands out, one image at a time, and what is done to every image before the network sees it.

A raw image is (H, W, C) in whatever type its file holds. `prepare` takes it to (h, w, channels) float32 in three steps
that training and prediction share: channels, then scale, then grey values. A checkpoint records the three settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

NORMALISATIONS = ("percentile", "range", "none", "255")


@dataclass
class Sample:
    """One image with its annotation.

    Data sets keep samples in memory and hand the same one out again, so its arrays must not be modified.

    Attributes
    ----------
    name : str
        The image's id in its data set.
    image : (H, W, C) float32 array, normalised
    labels : (H, W) uint8 array of class numbers, 0 to K - 1
    instances : (H, W) int32 array of object numbers with 0 for background, or None where objects are not told apart
    valid : (H, W) bool array, False where labels do not count (partly annotated frames), or None if all count
    weight : (H, W) float32 array, how much each pixel counts in the loss, or None if all count alike
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray | None = None
    valid: np.ndarray | None = None
    weight: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the sample's arrays take."""
        arrays = (self.image, self.labels, self.instances, self.valid, self.weight)
        return sum(a.nbytes for a in arrays if a is not None)


def prepare(raw: np.ndarray, channels: int, method: str = "percentile", scale: float = 1.0) -> np.ndarray:
    """Raw image (H, W, C) of any type to what the network takes: (h, w, channels) float32."""
    image = to_channels(raw, channels)
    if method == "range":  # before resizing, which loses the file's type
        image, method = normalise(image, "range"), "none"
    return normalise(resize_image(image, scale, bicubic=method == "255"), method)


@dataclass(frozen=True)
class Stretch:
    """Grey values x to (x - low) / (high - low), clipped at -1 and 2 if those are percentiles; a flat image to 0."""

    low: float
    high: float
    clip: bool

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """An image of any real type as float32, never the input itself."""
        if self.low == self.high:
            return np.zeros(image.shape, np.float32)
        scaled = image.astype(np.float32)
        scaled -= np.float32(self.low)
        scaled /= np.float32(self.high - self.low)
        return np.clip(scaled, -1, 2, out=scaled) if self.clip else scaled


def normalise(image: np.ndarray, method: str = "percentile") -> np.ndarray:
    """Bring grey values to about 0..1.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array of any real type
    method : "percentile", "range", "none" or "255"
        "percentile" maps the 0.5th and the 99.5th percentile, taken over all pixels and channels together so that
        colours keep their balance, to 0 and 1 and clips at -1 and 2. Where the two are equal (a few bright cells
        on black) the extremes stand in, and a flat image becomes zeros. "range" divides integers by the largest
        value of their type (1 for bool) and leaves floats as they are. "none" only converts. "255" divides by 255 if any
        value is above 1, as PyTorch-UNet does.

    Returns
    -------
    (H, W, C) float32 array, never the input itself
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if method == "percentile":
        step = sampling_step(image.shape)
        return percentile_stretch(image[::step, ::step], lambda: (image.min(), image.max()))(image)
    if method == "255":
        return Stretch(0, 255 if image.max() > 1 else 1, clip=False)(image)
    return fixed_stretch(image.dtype, method)(image)


def fixed_stretch(dtype: np.dtype, method: str) -> Stretch:
    """The stretch of `normalise` for "range" and "none", which do not look at the image."""
    if method not in NORMALISATIONS:
        raise UserError(f"normalise: {method!r} is unknown, choose one of {', '.join(NORMALISATIONS)}")
    top = np.iinfo(dtype).max if method == "range" and dtype.kind in "iu" else 1
    return Stretch(0, top, clip=False)


def sampling_step(size: tuple[int, ...]) -> int:
    """Every so many rows and columns `normalise` looks for percentiles: a quarter of a million pixels will do."""
    return max(1, int(np.sqrt(size[0] * size[1] / 250_000)))


def percentile_stretch(sampled: np.ndarray, extremes: Callable[[], tuple[float, float]]) -> Stretch:
    """The stretch of `normalise` for "percentile", from every so many pixels; the extremes of all are asked for if need be."""
    low, high = np.percentile(sampled.astype(np.uint8) if sampled.dtype == bool else sampled, (0.5, 99.5))
    if low == high:
        low, high = (float(value) for value in extremes())
    return Stretch(low, high, clip=True)


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Give an image the channels that the network takes.

    An alpha channel (the second of two, the fourth of four) is dropped. Colour becomes grey by its luminance, which is
    exactly R where R = G = B; grey becomes colour by repetition.

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
        If there is no such conversion, say from 5 channels to 3.
    """
    image = drop_alpha(image[..., None] if image.ndim == 2 else image)
    has = image.shape[-1]
    if has == channels:
        return image
    if (has, channels) == (3, 1):
        return luminance(image)
    if (has, channels) == (1, 3):
        return np.repeat(image, 3, axis=-1)
    raise UserError(f"an image of {has} channels cannot be given to a network for {channels}: convert the image")


def drop_alpha(image: np.ndarray) -> np.ndarray:
    """LA to L and RGBA to RGB, as a view; anything else as it is."""
    return image[..., :-1] if image.shape[-1] in (2, 4) else image


def is_grey(image: np.ndarray) -> bool:
    """Whether an image (H, W, C) holds no colour: one channel besides alpha, or R = G = B in every pixel."""
    image = drop_alpha(image)
    return image.shape[-1] == 1 or (
        image.shape[-1] == 3
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
    """Image (H, W, C) times scale, bilinear and averaging where it shrinks; float32 unless scale is 1.

    Bicubic as PyTorch-UNet does it: 8-bit images stay in 8 bits.
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
    """Labels (H, W) times scale: every new pixel takes the label under its centre."""
    if scale == 1:
        return labels
    (H, W), (h, w) = labels.shape, scaled_size(labels.shape, scale)
    rows = ((np.arange(h) + 0.5) * H / h).astype(np.intp)
    cols = ((np.arange(w) + 0.5) * W / w).astype(np.intp)
    return labels[rows[:, None], cols]


def true_labels(sample: Sample) -> np.ndarray:
    """A sample's labels (H, W) int64, -1 where they do not count."""
    labels = sample.labels.astype(np.int64)
    if sample.valid is not None:
        labels[~sample.valid] = -1
    return labels
