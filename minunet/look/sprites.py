"""Pictures of maps as data URIs: sheets of grey tiles, which the page colours, and photographs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np


def data_uri(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 pixels as a PNG inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def shrink(a: np.ndarray, side: int) -> np.ndarray:
    """A map (H, W) made smaller until no side is longer than `side`; each pixel is the mean of those that it covers."""
    from PIL import Image

    h, w = fitted(a.shape, side)
    a = np.ascontiguousarray(a, np.float32)
    return a if (h, w) == a.shape else np.asarray(Image.fromarray(a).resize((w, h), Image.Resampling.BOX))


def fitted(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(H, W) of a map after `shrink`."""
    factor = min(1.0, side / max(size[:2]))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def sheet(maps: np.ndarray, side: int, root: bool = False) -> dict[str, Any]:
    """Tiles one under the other, all on one scale.

    Parameters
    ----------
    maps : (H, W, n) array
    side : int
        Longest side of a tile, in pixels.
    root : bool
        Draw the square root, with the sign: for gradients, which are large in a few places.

    Returns
    -------
    dict
        `uri`; `tile`, [rows, columns] of one tile; `scale`, the magnitude drawn at full strength (the 99.5th percentile, so
        that a single pixel does not darken the others); `signed`, whether grey 128 stands for zero, rather than grey 0.
    """
    tiles = np.stack([shrink(maps[..., c], side) for c in range(maps.shape[-1])])
    magnitude = np.abs(tiles)
    scale = float(np.percentile(magnitude, 99.5)) or float(magnitude.max()) or 1.0
    strength = np.clip(tiles / scale, -1, 1)
    if root:
        strength = np.sign(strength) * np.sqrt(np.abs(strength))
    signed = root or bool((tiles < 0).any())
    grey = np.rint(128 + 127 * strength if signed else 255 * strength).astype(np.uint8)
    uri = data_uri(grey.reshape(-1, tiles.shape[2]))
    return {"uri": uri, "tile": list(tiles.shape[1:]), "scale": scale, "signed": signed}
