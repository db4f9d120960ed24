"""From the calls of layers to the nodes that the page draws: image, convolution, norm + ReLU, pool, up-step, joint, head."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2

import numpy as np

from .record import Call


@dataclass(eq=False)
class Node:
    """One map of the U, the layers that made it, and the gradient that came back to it.

    Attributes
    ----------
    kind : "image", "head", or the picture that the layer's description asks for
        "act" is for norm, ReLU and dropout together.
    title : str
        What the layers are, in words.
    level : int
        How many times the image was halved: 0 for its own resolution.
    side : "down" or "up"
    value, gradient : (1, H, W, C) arrays
        The map, and the loss's gradient with respect to it.
    calls : list of Call
        The layers that made the map from those of `sources`; none for the image.
    sources : list of int
        Numbers of the nodes whose maps these layers took.
    handed : dict
        What the readers of the map handed back, by their kind; the gradient is the sum of all.
    shown : list of int
        Channels to draw, the most telling first.
    """

    kind: str
    title: str
    level: int
    side: str
    value: np.ndarray
    gradient: np.ndarray
    calls: list[Call] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    handed: dict[str, np.ndarray] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> tuple[float, float]:
        """What forward and backward of its layers took."""
        return sum(c.seconds for c in self.calls), sum(c.backward_seconds for c in self.calls)


def make_nodes(calls: list[Call], most: int = 16) -> list[Node]:
    """Gather a U-Net's calls into nodes, in the order of the forward, each with up to `most` channels to draw."""
    x, dx = calls[0].inputs[0], calls[0].handed[0]
    nodes = [Node("image", "image", 0, "down", x, dx)]
    made_by = {id(x): 0}
    side = "down"
    for call in calls:
        kind = "head" if call is calls[-1] else call.description.picture
        sources = [made_by[id(a)] for a in call.inputs]
        if kind == "act" and nodes[-1].kind == "act" and sources == [len(nodes) - 1]:
            node = nodes[-1]
            node.calls.append(call)
            node.value, node.gradient = call.output, call.gradient
        else:
            level = nodes[sources[0]].level + halvings(call)
            side = {"up": "up", "pool": "down"}.get(kind, side)
            for handed, dinput in ((nodes[s].handed, d) for s, d in zip(sources, call.handed)):
                handed[kind] = handed[kind] + dinput if kind in handed else dinput
            nodes.append(Node(kind, "", level, side, call.output, call.gradient, [call], sources))
        made_by.update({id(a): len(nodes) - 1 for a in (call.output, call.numbers) if a is not None})
    for node in nodes[1:]:
        node.title = title(node)
    choose_channels(nodes, most)
    return nodes


def halvings(call: Call) -> int:
    """How many times a layer halves the map that it takes first; negative if it doubles it."""
    window = call.description.window(0, 0)
    return 0 if window.whole else round(log2(window.down / window.up))


def title(node: Node) -> str:
    """What its layers are, in words."""
    words = [type(c.module).__name__ if c.description.words is None else c.description.words for c in node.calls]
    return " + ".join(word for word in words if word) or type(node.calls[0].module).__name__


def choose_channels(nodes: list[Node], most: int) -> None:
    """Draw the channels that vary most after a ReLU, and the same ones where layers leave channels apart.

    So a channel can be followed from its convolution through the pool and over the skip.
    """
    for i, node in enumerate(nodes):
        C = node.value.shape[-1]
        if node.kind in ("image", "head"):
            node.shown = list(range(min(C, most)))
        elif node.kind == "pool" or (node.kind == "up" and not node.calls[0].module.params):
            node.shown = nodes[node.sources[0]].shown
        elif node.kind == "join":
            *skips, up = (nodes[s] for s in node.sources)
            first = getattr(node.calls[0].module, "up_first", False)
            node.shown = choose_side_by_side([up, *skips] if first else [*skips, up], most)
        else:
            judged = nodes[i + 1] if node.kind == "conv" and nodes[i + 1].kind == "act" else node
            node.shown = np.argsort(-judged.value.std((0, 1, 2)), kind="stable")[:most].tolist()


def choose_side_by_side(sources: list[Node], most: int) -> list[int]:
    """Channels of a concatenation: of every source those that it shows, as far as there is room for its part."""
    shown: list[int] = []
    start = 0
    for k, source in enumerate(sources):
        left, later = most - len(shown), sum(len(s.shown) for s in sources[k + 1 :])
        shown += [start + c for c in source.shown[: max(left - later, left // (len(sources) - k))]]
        start += source.value.shape[-1]
    return shown
