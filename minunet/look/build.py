"""What the page is told, as JSON, and the page itself: one file with everything in it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np

from ..data import ClassMap
from ..predict import overlay
from .nodes import Node
from .sprites import data_uri, fitted, sheet, shrink

LIMIT = 15_000_000  # bytes of the page
SIDES = (128, 96, 64, 48, 32, 16)  # of the maps' tiles, the largest that keeps the page below the limit
SCRIPTS = ("colours.js", "words.js", "diagram.js", "panel.js", "field.js", "play.js")


def norm(a: np.ndarray) -> float:
    """The length of an array as a vector."""
    return float(np.linalg.norm(a.astype(np.float64).ravel()))


def joint_norm(arrays: list[np.ndarray]) -> float:
    """The length of arrays as one vector."""
    return sum(norm(a) ** 2 for a in arrays) ** 0.5


def node_json(node: Node, side: int, grads: dict[str, np.ndarray]) -> dict[str, Any]:
    """A node as the page gets it, with tiles of that side; `grads` are the parameters' gradients by their paths."""
    m = node.calls[0].module if node.calls else None
    params = {f"{c.path}.{n}": p for c in node.calls for n, p in c.module.params.items()}
    forward, backward = node.seconds
    return {
        "kind": node.kind,
        "title": node.title,
        "path": ", ".join(c.path for c in node.calls if c.module.params or len(node.calls) == 1),
        "level": node.level,
        "side": node.side,
        "sources": node.sources,
        "shape": list(node.value.shape[1:]),
        "bytes": node.value.nbytes,
        "filter": list(m.params["w"].shape) if m is not None and "w" in m.params else None,
        "params": sum(p.size for p in params.values()),
        "forward_ms": 1e3 * forward,
        "backward_ms": 1e3 * backward,
        "range": [float(node.value.min()), float(node.value.max())],
        "gradient_norm": norm(node.gradient),
        "params_norm": joint_norm(list(params.values())),
        "params_gradient_norm": joint_norm([grads[path] for path in params]),
        "handed": {kind: norm(d) for kind, d in node.handed.items()},
        "shown": node.shown,
        "value": sheet(node.value[0][..., node.shown], side),
        "gradient": sheet(node.gradient[0][..., node.shown], side, root=True),
    }


def field_json(
    pixels: list[tuple[int, int]], boxes: list[Any], gradients: list[np.ndarray], labels: np.ndarray, logits: np.ndarray,
    side: int,
) -> dict[str, Any]:  # fmt: skip
    """The grid of output pixels as the page gets it: for each its receptive field, its logit and that logit's gradient."""
    strengths = [np.sqrt(np.square(g, dtype=np.float64).sum(-1)) for g in gradients]  # over the image's channels
    tiles = []
    for strength in strengths:
        tile = shrink(strength, side)
        tiles.append(np.rint(255 * np.sqrt(tile / (tile.max() or 1))).astype(np.uint8))
    return {
        "pixels": [list(p) for p in pixels],
        "boxes": [[int(n) for ends in box for n in ends] for box in boxes],  # top, bottom, left, right, all included
        "labels": [int(labels[p]) for p in pixels],
        "logits": [float(logits[p][min(int(labels[p]), logits.shape[-1] - 1)]) for p in pixels],
        "squares": [half_square(s, box) for s, box in zip(strengths, boxes)],
        "tile": list(fitted(strengths[0].shape, side)),
        "uri": data_uri(np.concatenate(tiles)),
    }


def half_square(strength: np.ndarray, box: Any, share: float = 0.5) -> int:
    """Side, in pixels, of the square around the centre of mass of `strength` that holds this share of its sum."""
    total = strength.sum()
    if not total:
        return 0
    rows, columns = (np.arange(n) for n in strength.shape)
    middle = [round(float((strength.sum(1 - axis) * n).sum() / total)) for axis, n in enumerate((rows, columns))]
    distance = np.maximum(np.abs(rows - middle[0])[:, None], np.abs(columns - middle[1])[None])
    within = np.cumsum(np.bincount(distance.ravel(), strength.ravel()))
    return int(2 * np.searchsorted(within, share * total) + 1)


def pictures(x: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, classes: ClassMap) -> dict[str, str]:
    """The image, and its middle, which the logits cover, with predicted and with true classes over it."""
    H, W = labels.shape
    top, left = (x.shape[0] - H) // 2, (x.shape[1] - W) // 2
    middle = x[top : top + H, left : left + W]
    shown = {"image": data_uri(overlay.to_rgb(x)), "prediction": data_uri(overlay.overlay(middle, labels, classes))}
    if truth is not None:
        shown["truth"] = data_uri(overlay.overlay(middle, np.maximum(truth, 0), classes))
    return shown


def page(data: dict[str, Any]) -> str:
    """The whole page with its style, its scripts and its data inside."""
    folder = files(__package__) / "page"

    def text(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    facts = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    html = text("page.html").replace("/* style */", text("page.css"))
    html = html.replace("/* script */", "\n".join(text(name) for name in SCRIPTS))
    return html.replace("/* data */", facts)
