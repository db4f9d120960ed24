"""From a network and an image to the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.objects import Rays
from ..data.stars import star_targets
from ..data.targets import BORDER_CLASSES
from ..errors import UserError
from ..models.receptive_field import receptive_field
from ..models.trace import follow
from ..nn import Module
from ..ops import named_loss, star_loss, star_loss_backward
from ..ops.dispatch import are_fast
from ..predict.inference import class_map, outputs_of, predicted_classes
from ..predict.instances import output_names, target_of
from ..predict.maps import maps_of
from ..predict.separation import UNTUNED
from ..predict.stars import cell_of, separate_stars
from . import build
from .detector import AsMap
from .field import grid, pixel_gradients
from .nodes import make_nodes
from .record import record

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def classes_of(logits: np.ndarray) -> np.ndarray:
    """Class numbers (H, W) of logits (H, W, K); one channel tells two classes by its sign."""
    return (logits[..., 0] > 0).astype(np.int64) if logits.shape[-1] == 1 else logits.argmax(-1)


def cross_entropy(labels: np.ndarray | None) -> Loss:
    """The mean cross-entropy with labels (H, W), or without any with the predicted classes, and its gradient."""

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        forward, backward = named_loss("ce", logits.shape[-1])
        value, cache = forward(logits, classes_of(logits[0])[None] if labels is None else labels[None])
        return value, backward(1.0, cache)

    return loss


def polygon_loss(model: Module, objects: np.ndarray | None) -> Loss:
    """The loss of polygons with objects' numbers (H, W), or without any with the predicted objects, and its gradient."""
    rays: Rays = model.preprocessing.rays

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        numbers = objects
        if numbers is None:
            numbers = separate_stars(maps_of(model, logits)[0], UNTUNED["stardist"], cell_of(rays, 1.0))
        value, cache = star_loss(logits, star_targets(numbers, rays)[None])
        return value, star_loss_backward(1.0, cache)

    return loss


def show(
    model: Module, x: np.ndarray, labels: np.ndarray | None, n: int, about: dict[str, Any], quiet: bool = True
) -> str:
    """Run a network on an image and make the page.

    Parameters
    ----------
    model : UNet from `minunet.load`
    x : (H, W, C) float32 array
        Prepared, of a size that the network takes.
    labels : (OH, OW) int64 array or None
        True classes of the logits' pixels (for one that finds objects one by one, their numbers), -1 where they do not count.
    n : int
        n x n output pixels can be clicked on.
    about : dict
        What the page says of its origin: model, image, mask, whole (size of the image), params.
    quiet : bool
        Show no progress.

    Returns
    -------
    str
        HTML, at most `build.LIMIT` bytes.

    Raises
    ------
    NotDescribed
        If a layer does not describe itself.
    UserError
        If the page would be larger even with small pictures of the maps.
    """
    one_by_one = model.preprocessing.one_by_one
    detector = AsMap(model) if getattr(model, "finds_objects", False) else None
    if detector:
        model, x, labels = detector, detector.cut(x), labels if labels is None else detector.cut(labels)
        loss: Loss = partial(detector.loss, labels)
    else:
        loss = polygon_loss(model, labels) if one_by_one else cross_entropy(labels)
    trace = follow(model, x[None].shape)
    for step in trace.steps:
        if len(step.outputs) - step.description.numbers > 1:
            raise UserError(f"{step.name} gives several maps at once: the page draws layers that give one")
    with tqdm(total=2 + n * n, desc="running the network", unit="pass", disable=quiet or None, leave=False) as bar:
        calls, value = record(model, x[None], loss)
        check_finite({f"{what} of {call.path}": a for call in calls
                      for what, a in (("output", call.output), ("gradient", call.gradient))})  # fmt: skip
        nodes = make_nodes(calls)
        grads = {path: g.copy() for path, g in model.named_grads().items()}
        bar.update()
        seconds = time_whole(model, x[None], loss) if are_fast() else None
        bar.update()
        bar.set_description("output pixels")
        logits = calls[-1].output[0]
        seen = outputs_of(detector.outputs, logits.shape) if detector else logits
        said = predicted_classes(model, seen).astype(np.int64) if one_by_one else classes_of(logits)
        pixels = list(product(grid(said.shape[0], n), grid(said.shape[1], n)))
        boxes = [receptive_field(trace, pixel) for pixel in pixels]
        channel = np.zeros_like(said) if one_by_one or logits.shape[-1] == 1 else said
        gradients = {}
        for i, dx in pixel_gradients(model, x[None], pixels, boxes, channel):
            gradients[i] = dx
            bar.update()
    check_finite({f"gradient of output pixel {pixels[i]}": a for i, a in gradients.items()})
    classes = BORDER_CLASSES if target_of(model) == "border" else class_map(model)
    facts = about | {
        "logit_names": detector.names if detector else names_of(model, logits.shape[-1]),
        "size": list(x.shape),
        "loss": float(value),
        "kernels_ms": seconds and [1e3 * s for s in seconds],
        "pictures": build.pictures(x, said, np.minimum(labels, 1) if one_by_one and labels is not None else labels, classes),
    }  # fmt: skip
    for side in build.SIDES:
        facts["nodes"] = [build.node_json(node, side, grads) for node in nodes]
        facts["field"] = build.field_json(
            pixels, boxes, [gradients[i] for i in range(len(pixels))], channel if one_by_one else said, logits, 2 * side
        )
        page = build.page(facts)
        if len(page.encode()) <= build.LIMIT:
            return page
    raise UserError(f"the page would have more than {build.LIMIT / 1e6:g} MB: choose a smaller --size or --grid")


def names_of(model: Module, outputs: int) -> list[str]:
    """The names of so many outputs."""
    if model.preprocessing.rays:
        return output_names(model) + [f"distance {k}" for k in range(outputs - 1)]
    return output_names(model)[-outputs:]


def check_finite(arrays: dict[str, np.ndarray]) -> None:
    """UserError, naming the first one, if numbers are not finite."""
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise UserError(
                f"the {name} is not finite on this image: the network's weights are too large, its training went wrong; use "
                f"an earlier checkpoint"
            )


def time_whole(model: Module, x: np.ndarray, loss: Loss, runs: int = 3) -> tuple[float, float]:
    """Seconds of the whole forward and backward with the kernels: the minimum of some runs, after one that compiles them."""
    times = []
    for _ in range(1 + runs):
        start = perf_counter()
        logits, cache = model.forward(x, train=False)
        between = perf_counter()
        dlogits = loss(logits)[1]
        again = perf_counter()
        model.backward(dlogits, cache)
        times.append((between - start, perf_counter() - again))
    forward, backward = np.min(times[1:], axis=0)
    return float(forward), float(backward)
