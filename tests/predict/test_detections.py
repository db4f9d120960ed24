"""From a detector's outputs to objects: suppression, masks, drawing, by windows and in turned images."""

import numpy as np
import pytest
from helpers.family import make
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet.data.boxes import assign, boxes_at, places
from minunet.data.objects import Separation
from minunet.errors import UserError
from minunet.metrics.instances import ObjectCounts
from minunet.models import Ensemble
from minunet.models.instance_net import STRIDES
from minunet.nn import Module
from minunet.predict.detections import Seen, find_detections, iou, separate_detections, suppress, turned_heads
from minunet.predict.inference import make_tiles, predicted_at, probabilities
from minunet.predict.options import PredictionOptions
from minunet.predict.tta import SYMMETRIES

HOW = Separation(threshold=0.3, min_size=1, nms=0.5)
FAR = 9.0  # a logit that is sure


def perfect(numbers, k=12):
    """What a perfect detector gives for object numbers (H, W): every object has a prototype of its own."""
    sizes = [tuple(-(-n // s) for n in numbers.shape) for s in STRIDES]
    found, (at, stride) = assign(numbers[None], sizes, STRIDES), places(sizes, STRIDES)
    assert len(found.objects) <= k
    flat = np.full((len(at), 6 + k), -FAR, np.float32)
    flat[:, 1:] = 0
    own = found.boxes[found.owner]
    here, s = at[found.location], stride[found.location]
    sides = np.stack(
        [own[:, 3] - here[:, 1], own[:, 2] - here[:, 0], here[:, 1] - own[:, 1], here[:, 0] - own[:, 0]], 1
    )
    flat[found.location, 0], flat[found.location, 5] = FAR, FAR
    flat[found.location, 1:5] = sides / s[:, None]
    np.testing.assert_allclose(boxes_at(flat[found.location, 1:5], here, s[:, None]), own, atol=1e-4)
    flat[found.location, 6:] = -1
    flat[found.location, 6 + found.owner] = 1
    h, w = (2 * n for n in sizes[0])
    whole = np.zeros((2 * h, 2 * w), numbers.dtype)
    whole[: numbers.shape[0], : numbers.shape[1]] = numbers
    prototypes = np.zeros((h, w, k), np.float32)
    for i, (_, number) in enumerate(found.objects):
        prototypes[..., i] = 2 * FAR * (whole == number).reshape(h, 2, w, 2).mean((1, 3))
    prototypes -= prototypes.sum(-1, keepdims=True) / 2 - FAR / 2  # outside of an object its logit is negative
    ends = np.cumsum([h * w for h, w in sizes])[:-1]
    return [y.reshape(*size, -1) for y, size in zip(np.split(flat, ends), sizes)] + [prototypes]


def discs(size=(90, 110)):
    """Discs of several sizes, some of which touch."""
    y, x = np.indices(size)
    numbers = np.zeros(size, np.int32)
    for n, (row, column, r) in enumerate(
        [(14, 15, 9), (14, 33, 9), (50, 30, 20), (60, 80, 14), (30, 95, 6), (85, 5, 8)], 1
    ):
        numbers[(y - row) ** 2 + (x - column) ** 2 <= r * r] = n
    return numbers


def precision(truth, found):
    counts = ObjectCounts()
    counts.add(truth, found)
    return counts.mean_precision()


def test_a_perfect_detector_finds_all_objects():
    numbers = discs()
    found = separate_detections(Seen(perfect(numbers), numbers.shape), HOW)
    assert found.max() == numbers.max() and precision(numbers, found) > 0.85  # outlines are of half the resolution
    assert not separate_detections(Seen(perfect(numbers), numbers.shape), Separation(threshold=1.0)).any()
    assert separate_detections(Seen(perfect(0 * numbers), numbers.shape), HOW).sum() == 0


@given(st.integers(0, 2**16), st.floats(0.1, 0.9))
@examples(20)
def test_suppression_is_the_plain_one(seed, share):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (60, 2))
    edges, scores = np.concatenate([corner, corner + rng.uniform(0, 15, (60, 2))], 1), rng.random(60)
    kept, left = [], list(np.argsort(-scores))
    while left:
        kept.append(left.pop(0))
        left = [j for j in left if iou(edges[kept[-1]], edges[[j]])[0] <= share]
    assert suppress(edges, scores, share).tolist() == kept
    assert not len(suppress(edges[:0], scores[:0], share))


def test_the_better_one_is_on_top_and_parts_fit_together():
    numbers = discs()
    whole = slice(0, 90), slice(0, 110)
    found = find_detections([(*whole, [Seen(perfect(numbers), numbers.shape)])], HOW)
    both = found._replace(
        scores=np.array([0.9, 0.8]), edges=found.edges[:2], boxes=np.array([[0, 0, 4, 4], [2, 2, 6, 6]]),
        masks=[np.ones((4, 4), bool)] * 2,
    )  # fmt: skip
    labels = both.draw(slice(0, 6), slice(0, 6))
    assert (labels[:4, :4] == 1).all() and (labels[4:, 2:] == 2).all() and not labels[4:, :2].any()
    pieces = [np.hstack([found.draw(rows, columns) for columns in (slice(0, 37), slice(37, 110))])
              for rows in (slice(0, 41), slice(41, 90))]  # fmt: skip
    np.testing.assert_array_equal(np.vstack(pieces), found.draw(*whole))


class Perfect(Module):
    """A detector that is told the truth: it reads the objects' numbers off the image."""

    finds_objects = True

    def __init__(self):
        super().__init__()
        self.preprocessing = minunet.data.Preprocessing(
            1, minunet.data.ClassMap.binary(), normalise="none", target="instances"
        )
        self.params["w"] = np.zeros((1, 1, 1, 1), np.float32)

    def fit_size(self, n):
        return max(n, 32)

    def forward(self, x, train=True, rng=None, keep=True):
        return [y[None] for y in perfect(np.rint(x[0, ..., 0]).astype(np.int32))], None


@pytest.mark.parametrize(
    "options", [{}, {"tile": 32, "overlap": 64}, {"tta": 8}, {"tile": 64, "tta": 3}, {"scale": 2.0}], ids=str
)
def test_windows_and_turned_images_find_the_same(options):
    numbers = discs()
    image = numbers.repeat(1, 0)
    if "scale" in options:  # the network sees numbers of half as large objects twice as large
        numbers, options = numbers[::2, ::2], {"scale": 1.0}
        image = numbers
    tiles = make_tiles(Perfect(), image.astype(np.float32), PredictionOptions(**{"tile": 0, **options}))
    assert bool(tiles.note) == (options.get("tile", 0) > 0) and len(tiles) == len(list(tiles))
    found = find_detections(tiles, HOW).draw(slice(0, image.shape[0]), slice(0, image.shape[1]))
    assert found.max() == len(np.unique(image)) - 1 and precision(image, found) > 0.8


def test_objects_are_found_in_a_resized_image():
    """The network sees the image twice as large; objects come out in the image's own pixels."""
    numbers = discs((45, 55))
    views = [Seen(perfect(numbers.repeat(2, 0).repeat(2, 1)), numbers.shape, factor=(0.5, 0.5))]
    found = find_detections([(slice(0, 45), slice(0, 55), views)], HOW).draw(slice(0, 45), slice(0, 55))
    assert precision(numbers, found) > 0.85


def test_turning_back_is_exact():
    """On an image of whole strides the outputs of a turned view, turned back, lie where those of the image do."""
    numbers = discs((96, 128))
    image, model = numbers[..., None].astype(np.float32), Perfect()
    expected = separate_detections(Seen(turned_heads(model, image, SYMMETRIES[0]), numbers.shape), HOW)
    for symmetry in SYMMETRIES[1:]:
        found = separate_detections(Seen(turned_heads(model, image, symmetry), numbers.shape), HOW)
        assert (found > 0).sum() == pytest.approx((expected > 0).sum(), rel=0.02) and found.max() == expected.max()
        assert precision(expected, found) > 0.9


def test_a_training_s_scores_by_threshold():
    numbers = discs()
    seen = Seen(perfect(numbers), numbers.shape)
    assert [p.shape for p in predicted_at(Perfect(), seen)] == [numbers.shape] * 5


def test_what_cannot_be():
    model = make("instance_net")
    with pytest.raises(UserError, match="no map of probabilities"):
        probabilities(model, np.zeros((40, 40, 2)))
    with pytest.raises(ValueError, match="cannot be averaged"):
        Ensemble([model, model])
    with pytest.raises(ValueError, match="infinity"):
        minunet.segment(model, np.full((40, 40, 2), np.inf))
    image = np.random.default_rng(0).random((70, 83, 2))
    assert minunet.segment_objects(model, image, threshold=0.0).shape == (70, 83)
