"""Images and masks that tests train on, as folders and as arrays."""

import numpy as np
from PIL import Image

from minunet.data import SyntheticCells


def make_data(folder, n=8, size=(21, 26)):
    """Bright discs on a dark ground, as imgs/ and masks/."""
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    for i in range(n):
        cy, cx = rng.uniform(6, 15, 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < 30
        Image.fromarray((40 + 150 * disc + rng.integers(0, 30, size)).astype(np.uint8)).save(
            folder / "imgs" / f"{i}.png"
        )
        Image.fromarray((255 * disc).astype(np.uint8)).save(folder / "masks" / f"{i}_mask.png")
    return folder


def make_objects(folder, n=8):
    """Touching discs with their numbers, as a folder of images and label images."""
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    cells = SyntheticCells(n, 64, seed=2)
    for i, sample in enumerate(cells):
        grey = (255 * np.clip(sample.image[..., 0], 0, 1)).astype(np.uint8)
        Image.fromarray(grey).save(folder / "imgs" / f"{i}.png")
        numbers = np.where(sample.instances > 0, 10 * sample.instances + i, 0)
        Image.fromarray(numbers.astype(np.uint16)).save(folder / "masks" / f"{i}.png")
    return folder


def draw_objects(seed, H, W, n):
    """Up to n random rectangles, later ones over earlier ones, with gaps in their numbers."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((H, W), np.int32)
    for number in rng.permutation(3 * n)[:n] + 1:
        top, left = rng.integers(0, H), rng.integers(0, W)
        instances[top : top + rng.integers(1, 7), left : left + rng.integers(1, 7)] = number
    return instances
