"""What the talk published, and the law by which a cost grows with the image.

Source: a talk on U-Net, 14 December 2023. One image at a time; the hardware, the framework and the channels at both ends are
not stated. "FCNN model size is constant: 118 MB" are the 118.4 MiB of the 31 million parameters, so its GB are GiB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHATS = ("inference", "training")

SECONDS: dict[str, dict[str, dict[int, float]]] = {
    "cpu": {
        "inference": {256: 0.369, 512: 2.429, 576: 3.408, 1024: 13.780, 1280: 23.943},
        "training": {256: 1.320, 512: 9.094, 576: 12.201, 1024: 50.855, 1280: 93.930},
    },
    "cuda": {
        "inference": {256: 0.055, 512: 0.064, 576: 0.087, 1024: 0.184, 1472: 0.353, 1664: 0.449},
        "training": {256: 0.033, 512: 0.095, 576: 0.121, 1024: 0.404, 1472: 0.893, 1664: 1.208},
    },
}

GIBIBYTES: dict[str, dict[str, dict[int, float]]] = {
    "cpu": {"inference": {}, "training": {}},
    "cuda": {
        "inference": {256: 0.371, 512: 0.453, 576: 0.763, 1024: 1.551, 1472: 3.193, 1664: 3.512},
        "training": {256: 0.439, 512: 1.077, 576: 1.551, 1024: 5.594, 1472: 10.379, 1664: 12.206},
    },
}

UNFIT = {("published", "cuda", "inference", 256)}
"""Points that no growth is fitted through: this inference takes longer than the training step, so it was a warm-up."""


def published_rows(device: str) -> list[dict]:
    """The published table as rows of results: size, what, who, seconds and, for the GPU, peak_mib."""
    rows = []
    for what in WHATS:
        for size, seconds in SECONDS[device][what].items():
            row = {"size": size, "what": what, "who": "published", "seconds": seconds}
            if size in GIBIBYTES[device][what]:
                row["peak_mib"] = 1024 * GIBIBYTES[device][what][size]
            rows.append(row)
    return rows


@dataclass(frozen=True)
class Growth:
    """The law y = scale * megapixels^power."""

    scale: float
    power: float

    def __call__(self, size: float) -> float:
        return self.scale * megapixels(size) ** self.power


def megapixels(size: float) -> float:
    """Of an image with `size` rows and columns."""
    return size**2 / 1e6


def fit(points: dict[int, float]) -> Growth | None:
    """The growth that lies nearest to the points (size -> cost) in the logarithm; None through fewer than two."""
    if len(points) < 2:
        return None
    x = np.log([megapixels(size) for size in points])
    power, log_scale = np.polyfit(x, np.log(list(points.values())), 1)
    return Growth(float(np.exp(log_scale)), float(power))
