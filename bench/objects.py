"""Do objects come out whole if the network makes no mistake? Perfect probabilities through `minunet.label_objects`.

    python bench/objects.py [--data DATA] [--images N]

A label image is turned into the border target, and that into probabilities of 0 and 1: what a perfect network would answer.
What is lost on the way back to objects is the fault of the separation. Generated cells are round, elongated, angular or fill
the image, and 10 to 200 pixels large; DATA holds dsb2018, dsb2018_more and stardist_example. The bar is a precision of 0.97 at
IoU 0.5, pooled over the objects of a row. Results are written to bench/results/objects.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy
from report import RESULTS, save
from tqdm import tqdm

import minunet
from minunet.data import open_dataset, read_mask
from minunet.data.targets import border_labels
from minunet.metrics.instances import ObjectCounts

BAR = 0.97
KINDS = ("round", "elongated", "angular", "confluent")
SIZES = (10, 20, 40, 80, 140, 200)  # diameters, in pixels
ANGLES = np.linspace(0, 2 * np.pi, 256, endpoint=False)


# ---- cells -----------------------------------------------------------------------------------------------------------


def draw_cells(kind: str, diameter: float, seed: int, side: int | None = None) -> np.ndarray:
    """A label image (side, side) int32 of cells, of which most touch others.

    Parameters
    ----------
    kind : one of KINDS
    diameter : float
        Of a disc of the same area, in pixels, about.
    seed : int
    side : int, optional
        7 diameters if not given, and at least 96 pixels.
    """
    from skimage.draw import polygon

    rng = np.random.default_rng([seed, round(diameter), KINDS.index(kind)])
    side = side or max(96, round(7 * diameter))
    labels = np.zeros((side, side), np.int32)
    if kind == "confluent":
        return whole_pieces(fill(rng, diameter, side))
    for number in range(1, round((side / diameter) ** 2) + 1):
        rows, columns = polygon(*(outline(kind, rng) * diameter / 2 * rng.uniform(0.75, 1.25)).T)
        for row, column in rng.integers(0, side, (30, 2)):
            inside = (rows + row >= 0) & (rows + row < side) & (columns + column >= 0) & (columns + column < side)
            own = rows[inside] + row, columns[inside] + column
            if inside.any() and np.mean(labels[own] > 0) < 0.06:  # a little, if any, lies in other cells, and is theirs
                labels[own] = np.where(labels[own], labels[own], number)
                break
    return whole_pieces(labels)


def outline(kind: str, rng: np.random.Generator) -> np.ndarray:
    """The outline of a cell as large as a disc of radius 1, (n, 2)."""
    if kind == "angular":  # polygons of 3 to 6 corners
        n = rng.integers(3, 7)
        angles = (np.arange(n) + rng.uniform(-0.3, 0.3, n)) * 2 * np.pi / n + rng.uniform(0, 2 * np.pi)
        radii = rng.uniform(0.8, 1.5, n)
        return np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)
    longer = rng.uniform(2, 5) if kind == "elongated" else 1.0
    turn = rng.uniform(0, np.pi)
    radii = 1 / np.sqrt(np.cos(ANGLES - turn) ** 2 / longer + np.sin(ANGLES - turn) ** 2 * longer)
    waves = [rng.normal(0, 0.08 / k) * np.cos(k * ANGLES + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)]
    radii *= 1 + np.sum(waves, axis=0)
    return np.stack([radii * np.sin(ANGLES), radii * np.cos(ANGLES)], axis=1)


def fill(rng: np.random.Generator, diameter: float, side: int) -> np.ndarray:
    """Cells without gaps between them, but for a few that are missing: (side, side) int32."""
    centres = rng.uniform(0, side, (max(3, round((side / diameter) ** 2)), 2))
    bent = [scipy.ndimage.gaussian_filter(rng.standard_normal((side, side)), diameter / 5) for _ in range(2)]
    where = np.mgrid[:side, :side] + np.stack([b / b.std() * diameter / 10 for b in bent])
    nearest = scipy.spatial.cKDTree(centres).query(np.moveaxis(where, 0, -1))[1]
    return np.where(rng.random(len(centres)) < 0.15, 0, np.arange(1, len(centres) + 1))[nearest].astype(np.int32)


def whole_pieces(labels: np.ndarray, least: int = 20) -> np.ndarray:
    """The largest piece of every object; objects whose largest piece has fewer pixels are dropped."""
    kept = np.zeros_like(labels)
    for number, box in enumerate(scipy.ndimage.find_objects(labels), start=1):
        if box is not None:
            pieces, _ = scipy.ndimage.label(labels[box] == number)
            areas = np.bincount(pieces.ravel())[1:]
            if areas.max() >= least:
                kept[box][pieces == 1 + areas.argmax()] = number
    return kept


# ---- what is measured ------------------------------------------------------------------------------------------------


def perfect(labels: np.ndarray, width: float = 2.0) -> np.ndarray:
    """The probabilities (H, W, 3) of a network that has learnt the border target without a mistake."""
    return np.eye(3, dtype=np.float32)[border_labels(labels, width)]


def sets(data: Path | None, images: int) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Names of sets of label images, and the label images."""
    for kind in KINDS:
        for size in SIZES:
            yield f"{kind}, {size} pixels", (draw_cells(kind, size, seed) for seed in range(2))
    for name in ("dsb2018", "dsb2018_more") if data else ():
        yield name, every(data / name, images)
    if data:
        yield "stardist_example", iter([read_mask(data / "stardist_example" / "mask2d.tif").astype(np.int32)])


def every(path: Path, images: int) -> Iterator[np.ndarray]:
    """The label images of about so many images of a data set, evenly chosen."""
    dataset = open_dataset(path)
    for i in range(0, len(dataset), max(1, len(dataset) // images)):
        labels = dataset[i].instances
        assert labels is not None
        yield labels


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of data sets (default: generated cells only)")
    parser.add_argument("--images", type=int, default=1000, help="of each data set, about")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for objects.json")
    args = parser.parse_args(argv)
    rows = {}
    print(f"{'':<24}{'objects':>8}{'found':>8}{'precision at IoU 0.5':>24}{'merged':>8}{'split':>8}")
    for name, pictures in tqdm(sets(args.data, args.images), unit="set", leave=False, disable=None):
        counts = ObjectCounts()
        for labels in pictures:
            counts.add(labels, minunet.label_objects(perfect(labels), "border"))
        rows[name] = {
            "objects": counts.truth, "found": counts.predicted, "precision_50": round(counts.precision(), 4),
            "merged": counts.merged, "split": counts.split,
        }  # fmt: skip
        below = " below the bar" * (counts.precision() < BAR)
        tqdm.write(f"{name:<24}{counts.truth:>8}{counts.predicted:>8}{counts.precision():>24.4f}"
                   f"{counts.merged:>8}{counts.split:>8}{below}")  # fmt: skip
        save("objects", {"bar": BAR, "images": args.images, "sets": rows}, args.results)


if __name__ == "__main__":
    main()
