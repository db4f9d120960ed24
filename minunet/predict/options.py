"""What is asked of a prediction."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.preprocess import MAX_SCALE
from ..errors import Settings, setting


@dataclass(frozen=True)
class PredictionOptions(Settings):
    """How images are segmented, and what is made of them; None stands for what the network's training said, or for what fits.

    Attributes
    ----------
    threshold : float from 0 to 1
        With two classes: the probability from which on a pixel is foreground.
    scale : float, optional
        Factor for the images' size before the network sees them.
    tile : int, optional
        Side of the tiles in pixels; 0 for images as a whole, None for tiles where the whole would not fit into memory.
    overlap : int, optional
        What the network sees around a tile, in pixels; as much as it needs if None.
    tta : int from 1 to 8, optional
        Of how many flips and rotations the probabilities are averaged (test-time augmentation).
    instances : bool
        Separate objects: label images and tables.
    min_size : int
        Objects of fewer pixels are dropped.
    split : bool
        Whether foreground is split at its necks; if not, objects are what is connected.
    rois : bool
        Outlines of objects for ImageJ, and with them what `instances` asks for.
    probabilities : bool
        The classes' probabilities as files.
    overlays : bool
        Pictures of the results.

    Raises
    ------
    UserError
        Naming the option that is out of range.
    """

    threshold: float = setting(0.5, least=0, most=1)
    scale: float | None = setting(None, above=0, most=MAX_SCALE)
    tile: int | None = setting(None, least=0)
    overlap: int | None = setting(None, least=0)
    tta: int | None = setting(None, least=1, most=8)
    instances: bool = False
    min_size: int = setting(20, least=0)
    split: bool = True
    rois: bool = False
    probabilities: bool = False
    overlays: bool = True

    @property
    def needs_instances(self) -> bool:
        """Whether objects have to be told apart."""
        return self.instances or self.rois


DEFAULTS = PredictionOptions()
