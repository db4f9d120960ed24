"""One image of a data set with its annotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def true_labels(sample: Sample) -> np.ndarray:
    """A sample's labels as the loss and the scores take them: (H, W) int64, -1 where they do not count."""
    labels = sample.labels.astype(np.int64)
    if sample.valid is not None:
        labels[~sample.valid] = -1
    return labels
