"""Training targets for instance separation, in place of the masks' plain classes.

Four ways to keep touching objects apart. The first two are made from the instance numbers before any augmentation:

* the *border* target: three classes instead of two: background, inside, and border, the outermost pixels of every object along
  its outline. The insides of two objects never touch, so each is the seed of one instance.
* the *weight map* of the U-Net paper (weightmap.py): touching objects are cut apart by a seam of background, and the pixels
  between near objects weigh more in the loss.
* star-convex polygons (stars.py): from every pixel of an object, how far its outline is in each of many directions. They are
  made after augmentation, by the loader.
* boxes and masks (boxes.py): every location of a detector's maps is told which object it is to find. That is made from the
  augmented object numbers, too, by the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from ..errors import Settings, UserError, setting
from .classes import ClassMap
from .image_set import ImageSet
from .objects import ObjectSize, Rays, measure_objects, object_depths
from .preprocess import TARGETS, Preprocessing
from .sample import Sample
from .weightmap import cached_separation, class_balance, cut_seams, separation

MEASURED = 500  # images whose objects are measured, at most
BORDER_CLASSES = ClassMap([[0, 0, 0], [0, 158, 115], [230, 159, 0]], ["background", "inside", "border"])


@dataclass(frozen=True)
class Target(Settings):
    """What the network is trained on, made from classes and instances.

    Attributes
    ----------
    kind : "classes", "border", "stardist" or "instances"
    border_width : float
        Width of the class border, in pixels.
    weight_map : bool
        Whether pixels are weighted as in the U-Net paper.
    balance : bool
        Whether the weight map balances the classes' frequencies, as the paper's does. Then a pixel is predicted as foreground
        as soon as foreground is likelier there than on average over the images, so predicted objects are larger than true ones.
    w0 : float
        The weight map's w0: the weight between touching objects. 0 needs no instances.
    sigma : float
        The weight map's sigma, in pixels.
    cache : str or None
        Folder that stores the separation of every image for later runs.
    rays : int
        Of the target "stardist": the rays of a polygon, a multiple of 4.
    """

    kind: str = setting("classes", choices=TARGETS)
    border_width: float = setting(2.0, least=1, most=64)
    weight_map: bool = False
    balance: bool = True
    w0: float = setting(10.0, least=0)
    sigma: float = setting(5.0, above=0, most=100)
    cache: str | None = None
    rays: int = setting(32, least=4, most=256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind in ("stardist", "instances") and self.weight_map:
            raise UserError(f"--weight-map is for classes: leave it out, --target {self.kind} has a loss of its own")

    @property
    def is_plain(self) -> bool:
        """Whether the target is the masks' classes, unweighted."""
        return self.kind == "classes" and not self.weight_map

    @property
    def needs_instances(self) -> bool:
        """Whether the target is made from instances; a weight map with w0 = 0, which only balances classes, is not."""
        return self.kind != "classes" or (self.weight_map and self.w0 > 0)


class TargetSet(ImageSet):
    """A data set whose samples have the labels, and the weights, of a target.

    Parameters
    ----------
    base : ImageSet
    target : Target
    train : list of int
        The images over which the weight map balances the classes.
    progress : bool
        Whether to show a bar while they are counted, on stderr if that is a terminal.

    Raises
    ------
    UserError
        If the target needs instances and the data set has none, or more than two classes.
    """

    def __init__(self, base: ImageSet, target: Target, train: list[int], progress: bool = False) -> None:
        super().__init__()
        self.base, self.target = base, target
        self.layout, self.path, self.names, self.sizes = base.layout, base.path, base.names, base.sizes
        self.channels, self.warnings, self.ordered = base.channels, base.warnings, base.ordered
        self.normalise, self.scale = base.normalise, base.scale
        self.classes = BORDER_CLASSES if target.kind == "border" else base.classes
        if target.kind != "classes" and base.classes.num_classes != 2:
            raise UserError(
                f"--target {target.kind} is for masks of two classes; these have {base.classes.num_classes}: "
                f"{base.classes.describe()}"
            )
        if target.needs_instances:
            self._instances(base[train[0]])
        size = self._measure(train) if target.kind in ("stardist", "instances") else None
        self.rays = Rays(target.rays, size.diameter / 2) if size and target.kind == "stardist" else None
        self.object_size = size
        self.class_weight = np.ones(self.classes.num_classes, np.float32) if target.weight_map else None
        if target.weight_map and target.balance:
            counts = np.zeros(self.classes.num_classes, np.int64)
            for i in tqdm(train, desc="counting classes", delay=2, leave=False, disable=None if progress else True):
                labels, valid = self._labels(base[i]), base[i].valid
                shown = labels.ravel() if valid is None else labels[valid]
                counts += np.bincount(shown.astype(np.intp), minlength=len(counts))
            self.class_weight = class_balance(counts)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the base, with this target; its classes are those of the masks."""
        return replace(self.base.preprocessing, target=self.target.kind, rays=self.rays)

    def _measure(self, train: list[int]) -> ObjectSize:
        """How large the objects in the training images are."""
        step = -(-len(train) // MEASURED)
        size = measure_objects(self._instances(self.base[i]) for i in train[::step])
        if size is None:
            raise UserError(f"--target {self.target.kind}: none of the masks to train on holds an object")
        return size

    def _read(self, index: int) -> Sample:
        sample = self.base[index]
        labels = self._labels(sample)
        weight = None if self.class_weight is None else self.class_weight[labels]
        if weight is not None and self.target.w0:
            # the separation counts outside of objects, and on the class border if there is one
            gap = labels != 1 if self.target.kind == "border" else labels == 0
            weight += np.float32(self.target.w0) * np.where(gap, self._separation(self._instances(sample)), 0)
        return Sample(sample.name, sample.image, labels, sample.instances, sample.valid, weight)

    def _labels(self, sample: Sample) -> np.ndarray:
        if self.target.kind == "border":
            return border_labels(self._instances(sample), self.target.border_width)
        if self.target.weight_map and self.target.needs_instances:
            return np.where(cut_seams(self._instances(sample)), np.uint8(0), sample.labels)
        return sample.labels

    def _separation(self, instances: np.ndarray) -> np.ndarray:
        if self.target.cache:
            return cached_separation(instances, self.target.sigma, self.target.cache)
        return separation(instances, self.target.sigma)

    def _instances(self, sample: Sample) -> np.ndarray:
        if sample.instances is None:
            of_target = self.target.kind != "classes"
            what = f"--target {self.target.kind}" if of_target else "--weight-map"
            alone = "" if of_target else "; --w0 0 balances the classes alone and does without"
            raise UserError(
                f"{what}: the mask of {sample.name}{f' in {self.path}' if self.path else ''} does not tell objects apart; give "
                f"label images (a number for every object) or a file for every object{alone}"
            )
        return sample.instances

    def describe(self) -> str:
        """The data set's report, and a line on the target."""
        lines, t = [self.base.describe()], self.target
        if t.kind == "border":
            lines.append(
                f"target      background, inside and border of objects, the border {t.border_width:g} pixels wide"
            )
        if self.rays:
            lines.append(
                f"target      star-convex polygons of {self.rays.count} rays, objects of {2 * self.rays.unit:.0f} pixels"
            )
        if t.kind == "instances" and self.object_size:
            lines.append(f"target      boxes and masks of objects of {self.object_size.diameter:.0f} pixels")
        if self.class_weight is not None:
            weights = ", ".join(f"{n} {w:.2f}" for n, w in zip(self.classes.names, self.class_weight))
            lines.append(f"weights     {weights}; between objects up to {t.w0:g} more (sigma {t.sigma:g} pixels)")
        return "\n".join(lines)


def border_labels(instances: np.ndarray, width: float = 2.0) -> np.ndarray:
    """The classes background 0, inside 1 and border 2, from instance numbers.

    The border is what lies within `width` pixels of an object's outline, but never more than half of the way to its deepest
    pixel: the smallest object keeps an inside, and one that is a pixel thin is nothing but inside. The image's edge is no
    outline of an object that it cuts off.

    Parameters
    ----------
    instances : (H, W) integer array, 0 for background
    width : float
        In pixels; the outermost ring of pixels is at distance 1.

    Returns
    -------
    (H, W) uint8 array

    Examples
    --------
    >>> border_labels(np.ones((1, 7), np.int32) * [0, 1, 1, 1, 1, 1, 0], width=1)
    array([[0, 2, 1, 1, 1, 2, 0]], dtype=uint8)
    """
    labels = np.zeros(instances.shape, np.uint8)
    for box, own, depth in object_depths(instances):
        border = depth <= min(width, depth.max() / 2)
        labels[box][own] = np.where(border[own], 2, 1)
    return labels
