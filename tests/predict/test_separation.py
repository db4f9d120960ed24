"""Objects out of perfect probabilities: whatever their size and shape, none falls into crumbs, and none is lost."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from minunet.data.instance_labels import renumber
from minunet.data.objects import Separation
from minunet.metrics.instances import ObjectCounts
from minunet.predict.instances import label_objects, separate
from minunet.predict.stitching import Stitching, label_block, lay_blocks

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import objects  # noqa: E402


def scored(truth, found):
    counts = ObjectCounts()
    counts.add(truth, found)
    return counts


@pytest.mark.parametrize("kind", objects.KINDS)
@pytest.mark.parametrize(("size", "side"), [(10, 96), (30, 160), (90, 300), (200, 450)])
def test_perfect_probabilities_give_the_objects_back(kind, size, side):
    truth = objects.draw_cells(kind, size, seed=5, side=side)
    found = label_objects(objects.perfect(truth), "border")
    counts = scored(truth, found)
    assert counts.truth >= 4 and counts.precision(50) >= objects.BAR
    assert not found[truth == 0].any()


def test_what_is_behind_a_neck_of_border_is_no_object():
    """A cell with a knob: the neck is so narrow that it is all border, and the knob's inside a few pixels."""
    truth = np.zeros((40, 60), int)
    truth[5:35, 5:35], truth[18:21, 35:40], truth[17:22, 40:45] = 1, 1, 1
    p = objects.perfect(truth)
    assert ndimage.label(p[..., 1])[1] == 2
    assert label_objects(p, "border").max() == 1
    truth[truth == 0] = 0
    truth[10:30, 40:58] = np.where(truth[10:30, 40:58], 1, 2)  # now a cell of its own lies there, and touches the knob
    truth[17:22, 38:45] = 2
    assert scored(truth, label_objects(objects.perfect(truth), "border")).tp[0] == 2


def test_a_neck_splits_what_the_network_did_not_tell_apart():
    """Two discs without a border between them: the neck decides, and its share says how narrow is narrow."""
    y, x = np.mgrid[:60, :100]
    pair = (np.hypot(y - 30, x - 30) < 20) | (np.hypot(y - 30, x - 64) < 20)  # the neck is 21 wide, about half
    p = objects.perfect(pair.astype(int))
    assert label_objects(p, "border").max() == label_objects(p, "border", neck=0.4).max() == 1
    assert label_objects(p, "border", neck=0.7).max() == 2
    plain = np.stack([~pair, pair], -1).astype(np.float32)
    assert label_objects(plain).max() == 2 and label_objects(plain, neck=0.4).max() == 1


def test_smoothing_closes_false_borders():
    """Flecks of border within a large cell, of which each makes a dent in the height."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :120]
    p = objects.perfect((np.hypot(y - 60, x - 60) < 50).astype(int))
    flecks = rng.random(p.shape[:2]) < 0.03
    p[flecks & (p[..., 1] > 0)] = (0, 0.3, 0.7)
    count = [label_objects(p, "border", neck=0.8, smooth=s).max() for s in (0.0, 6.0)]
    assert count[0] > 10 and count[1] == 1


@pytest.mark.parametrize("smooth", [0.0, 2.0])
def test_blocks_give_the_objects_of_the_whole(smooth):
    """With a halo as wide as the largest object and the smoothing reach: cells that fill the image."""
    truth = objects.draw_cells("confluent", 24, seed=2, side=150)
    how = Separation(0.5, 0.5, smooth, 60)
    extent = max(s.stop - s.start for box in ndimage.find_objects(truth) if box for s in box)
    blocks, stitching = lay_blocks(truth.shape, 75, min(75, extent + round(4 * smooth))), Stitching()
    p, labels = objects.perfect(truth), np.zeros(truth.shape, int)
    for index, block in blocks.items():
        labels[block.core], found = label_block(block, p[block.seen], lambda seen: separate(seen, "border", how))
        stitching.add(index, found)
    tables, count = stitching.merge(how.min_size)
    for index, block in blocks.items():
        labels[block.core] = tables[index][labels[block.core]]
    whole = renumber(separate(p, "border", how), how.min_size)
    assert count == whole.max() > 15 and np.array_equal(labels, whole)


def test_sizes_scale_with_the_image():
    truth = objects.draw_cells("elongated", 30, seed=1, side=120)
    how = Separation(0.5, 0.3, 1.5, 40)
    double = how.magnified(2)
    assert (double.smooth, double.min_size, double.neck) == (3.0, 160, 0.3)
    p = objects.perfect(truth, width=4)
    found, larger = (renumber(separate(q, "border", h), h.min_size)
                     for q, h in ((p, how), (p.repeat(2, 0).repeat(2, 1), double)))  # fmt: skip
    assert scored(found.repeat(2, 0).repeat(2, 1), larger).precision(75) == 1
