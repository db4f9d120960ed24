"""Synthetic fluorescence microscopy: cells to train on if no data set is at hand.

The images have what makes real ones difficult: cells touch, differ in brightness and texture, and some are out of focus; the
illumination is uneven, out-of-focus light glows between the cells, and there are few photons. No single threshold separates
these cells from their background; a small U-Net does.
"""

from __future__ import annotations

import numpy as np

from . import filters
from .classes import ClassMap
from .image_set import ImageSet
from .preprocess import normalise
from .sample import Sample

RADII = 6.5, 12.5  # pixels, before a cell is stretched
SECTORS = 128  # directions in which an outline is drawn


class SyntheticCells(ImageSet):
    """A data set of generated images; sample number i depends on (seed, i) alone.

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Side of the images in pixels, at least 32. Cells are about 13 to 30 pixels wide at any size.
    seed : int
    channels : int
        1, or 3 for stains of different strength.

    Examples
    --------
    >>> sample = SyntheticCells(3, size=64)[0]
    >>> sample.image.shape, sample.labels.shape, int(sample.labels.max())
    ((64, 64, 1), (64, 64), 1)
    """

    layout = "synthetic"

    def __init__(self, n: int, size: int = 128, seed: int = 0, channels: int = 1) -> None:
        super().__init__()
        if n < 1 or size < 32 or channels < 1:
            raise ValueError(f"{n} images of size {size} (32 or more) with {channels} channels")
        self.size, self.seed, self.channels = size, seed, channels
        self.names = [f"cells-{i}" for i in range(n)]
        self.sizes = [(size, size)] * n
        self.classes = ClassMap.binary("background", "cell")

    def _read(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        instances, depth = draw_cells(rng, self.size)
        light = expose(rng, instances, depth, self.channels)
        return Sample(self.names[index], normalise(light), (instances > 0).astype(np.uint8), instances)

    def describe(self) -> str:
        """A report of two lines."""
        return (
            f"synthetic cells, seed {self.seed}\n"
            f"images      {len(self)}: all {self.size}x{self.size}, {self.channels} channels\n"
            f"masks       {self.classes.describe()}"
        )


# ---- where cells are -------------------------------------------------------------------------------------------------


def draw_cells(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells that touch but do not overlap.

    A pixel under several outlines belongs to the cell in which it lies deepest, which gives touching cells the straight
    seams that they have.

    Returns
    -------
    instances : (size, size) int32 array, cells from 1
    depth : (size, size) float32 array, distance from the cell's centre as a share of its radius there; 1 outside
    """
    centres, radii = place_cells(rng, size)
    outline = draw_outlines(rng, radii)
    reach = int(outline.max()) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    sector = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * (SECTORS - 1)).astype(np.intp)
    depths = np.hypot(y, x).astype(np.float32) / outline[:, sector]
    depth = np.ones((size + 2 * reach,) * 2, np.float32)  # with a margin for cells that reach out of the image
    instances = np.zeros(depth.shape, np.int32)
    for number, ((row, column), own) in enumerate(zip(centres, depths), start=1):
        window = np.s_[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        deeper = own < depth[window]
        np.copyto(depth[window], own, where=deeper)
        instances[window][deeper] = number
    inside = np.s_[reach : reach + size, reach : reach + size]
    return instances[inside], depth[inside]


def place_cells(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) in whole pixels and mean radii (n,); two of three cells touch an earlier one."""
    wanted = max(2, round(rng.uniform(0.5, 1.5) * (size / 30) ** 2))
    centres, radii = rng.uniform(0, size, (1, 2)), rng.uniform(*RADII, 1)
    for radius in rng.uniform(*RADII, 2 * wanted):
        if rng.random() < 2 / 3:
            beside = rng.integers(len(radii))
            angle, apart = rng.uniform(0, 2 * np.pi), 0.95 * (radius + radii[beside])
            centre = centres[beside] + apart * np.array([np.sin(angle), np.cos(angle)])
        else:
            centre = rng.uniform(0, size, 2)
        free = np.hypot(*(centres - centre).T) > 0.9 * (radii + radius)
        if free.all() and (centre >= 0).all() and (centre < size).all() and len(radii) < wanted:
            centres, radii = np.vstack([centres, centre]), np.append(radii, radius)
    return centres.astype(np.intp), radii


def draw_outlines(rng: np.random.Generator, radii: np.ndarray) -> np.ndarray:
    """Radii of the cells in every direction, (n, SECTORS): ellipses that wobble in their 2nd to 5th harmonic."""
    n, theta = len(radii), np.linspace(0, 2 * np.pi, SECTORS)
    stretch, turn = rng.uniform(1, 1.35, (n, 1)), rng.uniform(0, np.pi, (n, 1))
    harmonics = np.arange(2, 6)
    wobble = rng.normal(0, 0.12, (n, 4)) / harmonics
    phase = rng.uniform(0, 2 * np.pi, (n, 4, 1))
    wave = np.einsum("nk,nkt->nt", wobble, np.cos(harmonics[:, None] * theta + phase))
    ellipse = radii[:, None] / np.hypot(np.cos(theta - turn) / stretch, np.sin(theta - turn) * stretch)
    return (ellipse * (1 + wave)).astype(np.float32)


# ---- how the camera sees them ----------------------------------------------------------------------------------------


def expose(rng: np.random.Generator, instances: np.ndarray, depth: np.ndarray, channels: int) -> np.ndarray:
    """The image of cells: (size, size, channels) float32 light with photon and camera noise."""
    size, n = len(depth), int(instances.max())
    brightness = np.concatenate([[0], rng.lognormal(0, 0.35, n)]).astype(np.float32)
    sharp = np.concatenate([[False], rng.random(n) < 0.8])
    texture = filters.gaussian(rng.standard_normal((size, size), dtype=np.float32), 1.5, truncate=2)
    cells = brightness[instances] * (1 - 0.4 * depth**2) * (1 + 1.2 * texture)
    in_focus = np.where(sharp[instances], cells, 0)
    seen = filters.gaussian(in_focus, 0.7, truncate=3)
    seen += filters.gaussian(cells - in_focus, 1.6, truncate=2)
    glow = filters.mean(filters.mean(cells, 17), 17)  # about a Gaussian of 7 pixels
    light = (0.25 + seen + 0.4 * glow + haze(rng, size)) * illumination(rng, size)
    photons, tint = rng.uniform(60, 250), rng.uniform(0.5, 1, channels) if channels > 1 else np.ones(1)
    light = light[..., None] * tint.astype(np.float32)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    return light + np.sqrt(light / np.float32(photons) + np.float32(4e-4)) * noise


def haze(rng: np.random.Generator, size: int) -> np.ndarray:
    """Light of what lies far out of focus: a few wide bumps, (size, size) float32."""
    n = max(3, size * size // 4000)
    centre, width = rng.uniform(0, size, (2, n, 1)), rng.uniform(12, 28, (n, 1))
    rows, columns = np.exp(-0.5 * ((np.arange(size) - centre) / width) ** 2)
    return ((rng.uniform(0, 0.7, (n, 1)) * rows).T @ columns).astype(np.float32)


def illumination(rng: np.random.Generator, size: int) -> np.ndarray:
    """How bright the lamp is, (size, size) float32: falling off to one side and from somewhere near the middle."""
    axis = np.linspace(-1, 1, size)
    angle, slope, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8), rng.uniform(0, 0.5)
    rows = np.exp(slope * np.sin(angle) * axis - fall * axis**2)  # the exponential of a sum: an outer product
    columns = np.exp(slope * np.cos(angle) * axis - fall * axis**2)
    return np.outer(rows, columns).astype(np.float32)
