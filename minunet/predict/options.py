"""The options of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..data.objects import SMOOTH
from ..data.preprocess import MAX_SCALE
from ..errors import Settings, UserError, setting, shown

AUTO = "auto"  # as a diameter: measure it
Diameter = float | str | None  # in pixels, or AUTO


@dataclass(frozen=True)
class PredictionOptions(Settings):
    """How images are segmented, and which results are made.

    Attributes
    ----------
    threshold : float from 0 to 1, optional
        With two classes: a pixel is foreground if its probability of foreground is above this. None for 0.5, and for objects
        what their training found best.
    scale : float, optional
        Factor by which images are resized for the network; None for that of the training.
    diameter : float or "auto", optional
        How wide objects are in the images, in pixels: in place of `scale`, images are resized so that the network sees the
        objects as large as those that it was trained on. "auto" measures it in each image, see `minunet/predict/diameter.py`.
    tile : int, optional
        Side of the tiles in pixels; 0 for no tiles, None for tiles if the whole image does not fit into memory.
    overlap : int, optional
        How many pixels the network sees around a tile; None for as many as it needs.
    tta : int from 1 to 8, optional
        Over how many flips and rotations the probabilities are averaged (test-time augmentation); None as in training.
    instances : bool
        Whether to separate objects, and to write label images and tables.
    min_size, neck, smooth, nms : int, float, float and float, optional
        How objects are told apart, see `minunet.predict.instances`; None for what their training found best.
    split : bool
        Whether foreground is split at narrow necks; if not, objects are connected regions.
    rois : bool
        Whether to write the outlines of objects for ImageJ; implies `instances`.
    probabilities : bool
        Whether to write the classes' probabilities.
    overlays : bool
        Whether to write pictures of the results.
    masks_as : "colours" or "numbers"
        What masks of several classes hold: the colours of the classes (two classes: 0 and 255), or the classes' numbers from 0.
    pixel_size : float, optional
        Width and height of a pixel in micrometres, instead of what the files tell.
    axes : str, optional
        The axes of the images' arrays, such as "CYX", instead of those that TIFFs tell; see `minunet/data/files/axes.py`.

    Raises
    ------
    UserError
        Naming the option that is out of range.
    """

    threshold: float | None = setting(None, least=0, most=1)
    scale: float | None = setting(None, above=0, most=MAX_SCALE)
    diameter: Diameter = None
    tile: int | None = setting(None, least=0)
    overlap: int | None = setting(None, least=0)
    tta: int | None = setting(None, least=1, most=8)
    instances: bool = False
    min_size: int | None = setting(None, least=0)
    neck: float | None = setting(None, least=0, most=1)
    smooth: float | None = setting(None, least=0, most=SMOOTH)
    nms: float | None = setting(None, least=0, most=1)
    split: bool = True
    rois: bool = False
    probabilities: bool = False
    overlays: bool = True
    masks_as: str = setting("colours", choices=("colours", "numbers"))
    pixel_size: float | None = setting(None, above=0)
    axes: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        px = self.diameter
        if px is not None and px != AUTO and (isinstance(px, str | bool) or not 0 < px < math.inf):
            raise UserError(f"diameter: {shown(px)} is no number of pixels, and not {AUTO!r}")
        if px is not None and self.scale is not None:
            raise UserError(f"scale {self.scale:g} and diameter {px} both say how images are resized: leave one out")

    @property
    def mask_threshold(self) -> float:
        """The threshold of masks."""
        return 0.5 if self.threshold is None else self.threshold

    @property
    def needs_instances(self) -> bool:
        """Whether objects have to be separated."""
        return self.instances or self.rois


DEFAULTS = PredictionOptions()
