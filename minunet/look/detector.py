"""A detector (`minunet.models.instance_net`) as a network with one map, which the page can draw.

The map is the output of the finest level, each location repeated for the pixels that it stands for: an object's logit,
distances, centre-ness and coefficients. The loss is of all outputs; what comes back to the others is handed to them beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array
from ..data.boxes import DISTANCES
from ..models.instance_net import STRIDES
from ..nn import Cache, Module, UpsampleNearest, take
from ..predict.detections import separate_detections
from ..predict.inference import outputs_of
from ..predict.separation import UNTUNED
from ..train.detection import detection_loss, detection_loss_backward

STRIDE = STRIDES[0]


class AsMap(Module):
    """A detector that gives its finest level, for images whose sides are multiples of 4.

    Attributes
    ----------
    outputs : list of arrays
        All that it gave at the last forward.
    names : list of str
        Of the map's channels.
    """

    def __init__(self, net: Module) -> None:
        super().__init__()
        self.children = dict(net.children)
        self.detector = [net]  # no child of its own: layers keep their paths
        self.architecture, self.preprocessing = net.architecture, net.preprocessing
        self.enlarge = UpsampleNearest(STRIDE)
        self.outputs: list[Any] = []
        self.others: list[Any] | None = None  # gradients of the other outputs, for the next backward
        k = net.architecture.prototypes
        self.names = [
            *self.preprocessing.classes.names[1:],
            *DISTANCES,
            "centre-ness",
            *(f"coefficient {i}" for i in range(k)),
        ]

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        self.outputs, inner = self.detector[0].forward(x, train, rng, keep)
        y, cache = self.enlarge.forward(self.outputs[0], train, rng, keep)
        return y, [inner, cache] if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        finest = self.enlarge.backward(dy, take(cache))
        others, self.others = self.others, None
        others = others or [np.zeros_like(y) for y in self.outputs[1:]]
        dx: Array = self.detector[0].backward([finest, *others], take(cache))
        return dx

    def loss(self, objects: np.ndarray | None, y: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss of all outputs with objects' numbers (H, W), or without any with the predicted ones; its gradient for y."""
        if objects is None:
            objects = separate_detections(outputs_of(self.outputs, y.shape[1:3]), UNTUNED["instances"])
        value, cache = detection_loss(self.outputs, objects[None])
        finest, *self.others = detection_loss_backward(1.0, cache)
        return float(value), finest.repeat(STRIDE, 1).repeat(STRIDE, 2) / STRIDE**2  # the map's pixels together have it

    def cut(self, a: np.ndarray) -> np.ndarray:
        """An image or its labels with sides of multiples of 4."""
        h, w = (n // STRIDE * STRIDE for n in a.shape[:2])
        return np.ascontiguousarray(a[:h, :w])
