"""All exercises, in the order of the lessons."""

from . import (  # noqa: F401  they register themselves
    exercises_boxes,
    exercises_conv,
    exercises_family,
    exercises_filter,
    exercises_gradients,
    exercises_loss,
    exercises_maps,
    exercises_network,
    exercises_shapes,
    exercises_stars,
    exercises_unpool,
    exercises_weights,
)
from .exercise import EXERCISES as _found

EXERCISES = dict(sorted(_found.items(), key=lambda item: item[1].lesson))
