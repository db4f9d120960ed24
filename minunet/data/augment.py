"""Random distortions of an image and its labels together: the reason why a U-Net learns from 30 images.

Rotation, scaling, mirroring and elastic deformation are one resampling. For every pixel of the patch, `patch_grid` gives the
coordinates in the image that it is read from, by linear or cubic interpolation; labels are read from the nearest pixel. So
the image is interpolated once only, and nothing but the patch is computed. With probability 1 - `p_elastic` a patch is not
resampled, but only mirrored and rotated by multiples of 90 degrees. Beyond their borders, image and labels are continued by
mirroring (without repeating the border). Then the intensity changes: gain, offset, gamma, noise, and at times blur; if
wanted, colours are mixed, and light and dark change places.

Source: Ronneberger, Fischer and Brox, "U-Net", arXiv:1505.04597, section 3.1: "smooth deformations using random
displacement vectors on a coarse 3 by 3 grid", per-pixel displacements "by bicubic interpolation"; they drew them with a
standard deviation of 10 pixels for patches of 572.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Patch = tuple[np.ndarray, np.ndarray]  # image (h, w, C) and labels (h, w)
MARGIN = 12  # pixels around a patch for cubic splines


def augment(
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    crop: int | None = None,
    elastic: float = 4.0,
    scales: tuple[float, float] = (0.8, 1.25),
    intensity: bool = True,
    p_elastic: float = 0.5,
    interpolation: str = "linear",
    context: int = 0,
    at: tuple[int, int] | None = None,
    invert: float = 0.0,
    recolour: float = 0.0,
) -> Patch:
    """A random distortion of an image and its labels.

    Parameters
    ----------
    image : (H, W, C) float32 array, normalised to about 0..1
    labels : (H, W) integer array
    rng : numpy.random.Generator
        The same state gives the same result.
    crop : int or None
        Side of the square patch to make. None keeps the image's shape, with flips, and rotations by 90 degrees if it is square.
    elastic : float
        Standard deviation of the displacements in pixels; never more than crop / 32, beyond which the grid could fold.
    scales : (float, float)
        Range of the magnification.
    intensity : bool
        Whether intensity changes, too, see `change_intensity`.
    p_elastic : float
        Probability that a patch is rotated by any angle, scaled and deformed. The others are only mirrored and rotated by
        multiples of 90 degrees: interpolation blurs, and the network must also see details of a pixel or two sharply.
    interpolation : "linear" or "cubic"
        How the image of a distorted patch is interpolated; cubic keeps it sharper and takes longer.
    context : int
        Width of the margin of a patch that the network sees but gives no output for (unpadded convolutions). Only the inner
        part has to lie within the image; the margin may lie in its mirrored surroundings (the paper's overlap-tile).
    at : (row, column) or None
        A pixel of the image that the inner part of the patch is to show.
    invert : float
        Probability that light becomes dark, see `inverted`.
    recolour : float
        Probability that the channels are mixed, see `recoloured`; nothing happens to grey.

    Returns
    -------
    image : (crop, crop, C) or (H, W, C) float32 array
    labels : (crop, crop) or (H, W) array of the labels' type

    Examples
    --------
    >>> image, labels = np.zeros((60, 80, 1), np.float32), np.zeros((60, 80), np.uint8)
    >>> patch, patch_labels = augment(image, labels, np.random.default_rng(0), crop=32)
    >>> patch.shape, patch_labels.shape
    ((32, 32, 1), (32, 32))
    """
    if crop and rng.random() < p_elastic:
        grid = patch_grid(labels.shape, rng, crop, elastic, scales, context, at)
        image, labels = warp(image, labels, grid, interpolation)
    else:
        image, labels = crop_patch(image, labels, rng, crop, context, at) if crop else (image, labels)
        image, labels = flip_and_turn(image, labels, rng)
    if recolour and rng.random() < recolour:
        image = recoloured(image, rng)
    if invert and rng.random() < invert:
        image = inverted(image)
    return (change_intensity(image, rng) if intensity else image), labels


def crop_patch(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator, crop: int, context: int = 0,
    at: tuple[int, int] | None = None,
) -> Patch:  # fmt: skip
    """A random square patch, (crop, crop, C) and (crop, crop), undistorted; smaller images are extended by mirroring.

    With `at`, a row and a column, its inner part shows that pixel.
    """
    index, inner = [], crop - 2 * context
    for axis, size in enumerate(labels.shape):
        least, most = (0, size - inner) if at is None else (max(0, at[axis] - inner + 1), min(size - inner, at[axis]))
        first = rng.integers(least, most + 1) if size >= inner else -rng.integers(0, inner - size + 1)
        first -= context
        index.append(mirror(np.arange(first, first + crop), size))
    rows, columns = index[0][:, None], index[1]
    return image[rows, columns], labels[rows, columns]


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Indices beyond 0..size-1 folded back inside: -1 is 1, size is size - 2; SciPy's mode "mirror"."""
    if size == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


def flip_and_turn(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Patch:
    """One of the eight symmetries of the square at random; one of four flips where height and width differ."""
    down, across, turn = rng.integers(0, 2, 3)
    rows, columns = (-1 if down else 1), (-1 if across else 1)
    image, labels = image[::rows, ::columns], labels[::rows, ::columns]
    if turn and labels.shape[0] == labels.shape[1]:
        image, labels = image.swapaxes(0, 1), labels.swapaxes(0, 1)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


# ---- where each pixel comes from -------------------------------------------------------------------------------------


def patch_grid(
    shape: tuple[int, ...], rng: np.random.Generator, crop: int, elastic: float, scales: tuple[float, float],
    context: int = 0, at: tuple[int, int] | None = None,
) -> np.ndarray:  # fmt: skip
    """Source coordinates of a random patch: (2, crop, crop) float array of rows and columns in an image of `shape`.

    The patch's centre is drawn so that the patch without its `context` would lie within the image if it were neither turned nor
    scaled. With `at`, a row and a column, it is drawn near that pixel, and may lie nearer to the image's edge.
    """
    angle = rng.uniform(0, 2 * np.pi)
    step = 1 / np.exp(rng.uniform(*np.log(scales)))  # source pixels per patch pixel
    flip = rng.choice((-1, 1))
    turn = step * np.array([[np.cos(angle), -np.sin(angle)], [flip * np.sin(angle), flip * np.cos(angle)]])
    axis = np.arange(crop) - (crop - 1) / 2
    grid = turn[:, 0, None, None] * axis[:, None] + turn[:, 1, None, None] * axis
    for i, size in enumerate(shape):
        inner = crop - 2 * context
        room = max(size - inner, 0) / 2
        centre = (size - 1) / 2 + rng.uniform(-room, room)
        if at is not None:
            centre = at[i] + (centre - (size - 1) / 2) / max(room, 1) * inner / 4
        grid[i] += centre
    return grid + elastic_field(rng, crop, min(elastic, crop / 32))


def elastic_field(rng: np.random.Generator, crop: int, std: float) -> np.ndarray:
    """Displacements (2, crop, crop): normal ones on a 3 by 3 grid over the patch, interpolated bicubically."""
    b = spline_basis(crop)
    return b @ rng.normal(0, std, (2, 3, 3)) @ b.T


@lru_cache(maxsize=8)
def spline_basis(size: int, knots: int = 3) -> np.ndarray:
    """(size, knots) matrix that interpolates values at evenly spaced knots by a natural cubic spline."""
    import scipy

    return scipy.interpolate.CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")(
        np.linspace(0, knots - 1, size)
    )


def warp(image: np.ndarray, labels: np.ndarray, grid: np.ndarray, interpolation: str = "linear") -> Patch:
    """Read image (linearly, or by cubic splines) and labels (nearest pixel) at source coordinates (2, h, w)."""
    import scipy

    if interpolation == "cubic":
        # a spline's coefficients depend on all pixels, but by less than 1e-6 on those farther than MARGIN: leave these out
        first = np.floor(grid.min((1, 2))).astype(np.intp) - MARGIN
        last = np.ceil(grid.max((1, 2))).astype(np.intp) + MARGIN
        near = [mirror(np.arange(a, b + 1), size) for a, b, size in zip(first, last, labels.shape)]
        part, place, order = image[near[0][:, None], near[1]], grid - first[:, None, None], 3
    else:
        part, place, order = image, grid, 1
    planes = [
        scipy.ndimage.map_coordinates(part[..., c], place, order=order, mode="mirror") for c in range(image.shape[-1])
    ]
    nearest = np.rint(grid).astype(np.intp)
    rows, columns = (mirror(index, size) for index, size in zip(nearest, labels.shape))
    return np.stack(planes, axis=-1), labels[rows, columns]


# ---- intensity --------------------------------------------------------------------------------------------------------


def change_intensity(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and gamma, each a little; add slight noise to half of the images and blur a fifth.

    Parameters
    ----------
    image : (h, w, C) float32 array, normalised to about 0..1
        Of several channels each has its own gain and offset, as stains do: a third as large as those in common.
    rng : numpy.random.Generator

    Returns
    -------
    (h, w, C) float32 array
    """
    import scipy

    C = image.shape[-1]
    gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, C) * (C > 1)).astype(np.float32)
    offset = (rng.normal(0, 0.06) + rng.normal(0, 0.02, C) * (C > 1)).astype(np.float32)
    gamma = np.exp(rng.uniform(-0.4, 0.4))
    blur, noise = rng.random() < 0.2, rng.random() < 0.5
    image = np.copysign(np.abs(image) ** np.float32(gamma), image)
    image = (image - 0.5) * gain + (0.5 + offset)
    if blur:
        image = scipy.ndimage.gaussian_filter(image, (*2 * [rng.uniform(0.4, 1.2)], 0), truncate=2.5)
    if noise:
        image += np.float32(rng.uniform(0, 0.06)) * rng.standard_normal(image.shape, dtype=np.float32)
    return image


def inverted(image: np.ndarray) -> np.ndarray:
    """Light where it was dark: what is light on dark becomes dark on light.

    >>> inverted(np.array([[[0.0, 0.25, 1.0]]])).tolist()
    [[[1.0, 0.75, 0.0]]]
    """
    return 1 - image


def recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colours of the same brightness range: every channel becomes a random mean of all channels.

    The shares in a mean are drawn uniformly from those that sum to 1 (Dirichlet's distribution with 1 everywhere). So grey
    stays grey, and what was told apart by colour mostly still is, by other colours.

    Parameters
    ----------
    image : (h, w, C) float32 array
    rng : numpy.random.Generator

    Returns
    -------
    (h, w, C) float32 array
    """
    C = image.shape[-1]
    return image if C == 1 else image @ rng.dirichlet(np.ones(C), C).T.astype(np.float32)
