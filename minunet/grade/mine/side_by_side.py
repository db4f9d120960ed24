"""A student's array, ours and their difference, as pictures beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from .astray import Astray
from .picture import coloured, data_uri


def three(astray: Astray) -> str:
    """The student's map, ours and their difference side by side; nothing if there are none to draw."""
    if astray.yours is None or np.ndim(astray.ours) < 1:
        return ""
    drawn = as_maps(np.asarray(astray.yours, float), np.asarray(astray.ours, float))
    difference = np.abs(drawn.yours - drawn.ours)
    scales = {name: typical(a) for name, a in (("yours", drawn.yours), ("ours", drawn.ours))}
    if scales["ours"] and 1 / 3 < scales["yours"] / scales["ours"] < 3:
        scales["yours"] = scales["ours"]
    signed = bool((drawn.ours < 0).any() or (drawn.yours < 0).any())
    figures = []
    for name, a in (("yours", drawn.yours), ("ours", drawn.ours), ("the difference", difference)):
        what = (
            f"here {a[drawn.place]:.4g}" if name in scales else f"here {difference[drawn.place]:.4g}, which is the most"
        )
        if name == "yours" and scales["yours"] != scales["ours"]:
            what += f", and up to {scales['yours']:.2g}, where ours go up to {scales['ours']:.2g}: drawn on a scale of its own"
        high = scales.get(name) or float(np.abs(a).max())
        ramp = "error" if name not in scales else "signed" if signed else "cell"
        uri = data_uri(coloured(np.kron(a, np.ones((drawn.zoom,) * 2)), ramp, -high if ramp == "signed" else 0.0, high))
        figures.append(
            f'<figure><div class="map"><img src="{uri}" alt="{name}">{ring(drawn.place, a.shape)}</div>'
            f"<figcaption><b>{name}</b>, {what}</figcaption></figure>"
        )
    return f'<div class="three">{"".join(figures)}</div><p class="note">{escape(drawn.words)}</p>'


def typical(a: np.ndarray) -> float:
    """How large numbers go, but for a few."""
    return float(np.percentile(np.abs(a), 99.5)) or float(np.abs(a).max())


def ring(place: tuple[int, int], shape: tuple[int, ...]) -> str:
    """A ring around a pixel of a map, or a frame around one of a small map."""
    (row, column), (H, W) = place, shape
    mark = f'<rect x="{column}" y="{row}" width="1" height="1"/>'
    if max(H, W) > 14:
        mark = f'<circle cx="{column + 0.5}" cy="{row + 0.5}" r="{max(H, W) / 16:.2f}"/>'
    return f'<svg viewBox="0 0 {W} {H}" preserveAspectRatio="none" aria-hidden="true">{mark}</svg>'


@dataclass
class Drawn:
    """Two maps (H, W), the place of their largest difference, and what is drawn, in words.

    `zoom` is how many pixels a number gets.
    """

    yours: np.ndarray
    ours: np.ndarray
    place: tuple[int, int]
    words: str
    zoom: int = 1


def as_maps(yours: np.ndarray, ours: np.ndarray) -> Drawn:
    """What is drawn of two arrays of one shape: of images the one in which the difference is largest, and of it that channel.

    Filters lie side by side, in rows and columns of their channels; of other arrays everything is drawn.
    """
    difference = np.abs(yours - ours)
    worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), ours.shape))
    if ours.ndim == 4 and ours.shape[0] == ours.shape[1] <= 3:
        KH, KW, C, K = ours.shape
        i, j, c, k = worst
        words = f"{C} x {K} filters of {KH} x {KW}: input channels downwards, output channels to the right"
        if C > K:  # rather wide than high
            yours, ours = (a.transpose(3, 0, 2, 1).reshape(K * KH, C * KW) for a in (yours, ours))
            words = f"{C} x {K} filters of {KH} x {KW}: output channels downwards, input channels to the right"
            return Drawn(yours, ours, (k * KH + i, c * KW + j), words, 4)
        yours, ours = (a.transpose(2, 0, 3, 1).reshape(C * KH, K * KW) for a in (yours, ours))
        return Drawn(yours, ours, (c * KH + i, k * KW + j), words, 4)
    if ours.ndim == 4:
        n, row, column, c = worst
        return Drawn(
            yours[n, ..., c], ours[n, ..., c], (row, column), f"image {n}, channel {c}: row {row}, column {column}"
        )
    if ours.ndim == 3:
        n, row, column = worst
        return Drawn(yours[n], ours[n], (row, column), f"image {n}: row {row}, column {column}")
    if ours.ndim == 2:
        return Drawn(yours, ours, (worst[0], worst[1]), f"row {worst[0]}, column {worst[1]}")
    words = f"number {worst[0]} of {ours.size}, one a channel or class"
    return Drawn(yours.reshape(1, -1), ours.reshape(1, -1), (0, worst[0]), words, 8)
