"""Which location of a detector answers for which object, and objects' masks at the resolution of its prototypes."""

import numpy as np
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

from minunet.data.boxes import FARTHEST, RADIUS, assign, boxes_at, mask_in, places

STRIDES = (4, 8, 16)


def some_objects(seed, size=(45, 60), count=9):
    """Rectangles, some cut by others, with numbers that have gaps, and a part that does not count."""
    rng = np.random.default_rng(seed)
    numbers = np.zeros((2, *size), np.int32)
    for n in range(count):
        h, w = rng.integers(2, 40, 2)
        top, left = (rng.integers(0, m) for m in size)
        numbers[n % 2, top : top + h, left : left + w] = 3 * n + 2
    numbers[0, :6, :9] = -1
    return numbers


@given(st.integers(0, 2**16))
@examples(20)
def test_every_location_answers_as_the_rules_say(seed):
    """Written once more, location by location and object by object."""
    numbers = some_objects(seed)
    sizes = [tuple(-(-n // s) for n in numbers.shape[1:]) for s in STRIDES]
    found, (at, stride) = assign(numbers, sizes, STRIDES), places(sizes, STRIDES)
    level = np.repeat(np.arange(3), [h * w for h, w in sizes])
    owner = np.full(found.there.shape, -1)
    owner[found.image, found.location] = found.owner
    assert len({*zip(found.image, found.location)}) == len(found.location)
    for image in range(2):
        mine = [i for i, (n, _) in enumerate(found.objects) if n == image]
        assert {found.objects[i][1] for i in mine} == set(np.unique(numbers[image])) - {0, -1}
        for j, ((y, x), s) in enumerate(zip(at, stride)):
            able = []
            for i in mine:
                top, left, bottom, right = found.boxes[i]
                far = max(y - top, bottom - y, x - left, right - x)
                least = FARTHEST * s / 2 if level[j] else -1
                near = max(abs(y - (top + bottom) / 2), abs(x - (left + right) / 2)) < RADIUS * s
                if top < y < bottom and left < x < right and near and far > least and (far <= 8 * s or level[j] == 2):
                    able.append(i)
            area = {i: np.prod(found.boxes[i][2:] - found.boxes[i][:2]) for i in able}
            assert owner[image, j] in [i for i in able if area[i] == min(area.values())] or (
                owner[image, j] == -1 and not able
            )
            outside = y >= numbers.shape[1] or x >= numbers.shape[2]
            nothing = outside or numbers[image, int(y), int(x)] < 0
            assert found.there[image, j] == (1 if able else -1 if nothing else 0)


def test_boxes_from_distances_and_back():
    at, stride = places([(2, 3)], [8])
    found = boxes_at(np.array([[1.0, 2.0, 0.5, 0.25]] * 6), at, stride[:, None])
    assert found[4].tolist() == [12 - 2, 12 - 4, 12 + 16, 12 + 8]  # up, left, down, right of the place (12, 12)


def test_a_mask_is_the_share_of_pixels():
    numbers = np.zeros((5, 7), int)
    numbers[1:5, 2:7], numbers[3:, 4:] = 8, -1
    top, left, truth = mask_in(numbers, 8, np.array([1, 2, 5, 7]), 2)
    assert (top, left) == (0, 1)
    assert truth.tolist() == [
        [0.5, 0.5, 0.5],
        [1, 1, 1],
        [1, -1, -1],
    ]  # beyond the edge and what is unknown do not count


def test_an_empty_image():
    found = assign(np.zeros((1, 8, 8), int), [(2, 2)], [4])
    assert not len(found.location) and found.boxes.shape == (0, 4) and (found.there == 0).all()
