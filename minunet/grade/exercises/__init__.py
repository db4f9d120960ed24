"""The exercises of the course, in the order of the lessons; a file each for what belongs together.

filter.py, conv.py, gradients.py, maps.py, shapes.py, loss.py, network.py, weights.py: the U-Net's own, lessons 01 to 08
tile.py, cost.py, schedule.py, tape.py: lessons 09 to 12
backwards.py: right and wrong backwards, on which a student's gradient checker (network.py) is tried
slips.py, slips_network.py: more known mistakes in these
family.py, unpool.py, boxes.py, stars.py: those of the lessons on other networks
"""

from ..exercise import EXERCISES as _found
from . import (  # noqa: F401  they register themselves
    boxes,
    conv,
    cost,
    family,
    filter,
    gradients,
    loss,
    maps,
    network,
    schedule,
    shapes,
    slips,
    slips_network,
    stars,
    tape,
    tile,
    unpool,
    weights,
)

EXERCISES = dict(sorted(_found.items(), key=lambda item: item[1].lesson))
