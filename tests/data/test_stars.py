"""Star-convex polygons as a target: rays and probabilities from object numbers, and how they reach the loss."""

import numpy as np
import pytest
from helpers.datasets import draw_objects
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import minunet
from minunet.data import Batches, ClassMap, Preprocessing, SyntheticCells
from minunet.data.augment import augment
from minunet.data.objects import Rays
from minunet.data.sample import Sample
from minunet.data.stars import object_numbers, star_targets, true_target
from minunet.data.targets import Target, TargetSet
from minunet.errors import UserError
from minunet.predict.tta import SYMMETRIES


def ray_lengths(numbers, count):
    """In pixels, everywhere."""
    return star_targets(numbers, Rays(count, 1.0))[..., 1:]


@examples(30)
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 30), st.sampled_from([4, 8, 32]))
def test_the_kernel_and_the_plain_rays_agree(seed, H, W, R):
    numbers = draw_objects(seed, H, W, 6)
    numbers[np.random.default_rng(seed).random((H, W)) < 0.1] = -1
    found = ray_lengths(numbers, R)
    with minunet.use("reference"):
        np.testing.assert_array_equal(found, ray_lengths(numbers, R))
    assert ((found > 0) == (numbers > 0)[..., None]).all()


def test_rays_end_half_a_pixel_before_another_number_and_at_the_image_s_edge():
    numbers = np.zeros((9, 12), int)
    numbers[2:7, 3:8], numbers[2:7, 8:] = 1, 2  # touching, and cut off by the image's edge
    lengths = ray_lengths(numbers, 8)
    np.testing.assert_array_equal(lengths[4, 5, ::2], [2.5, 2.5, 2.5, 2.5])
    assert lengths[4, 5, 1] == pytest.approx(3 + 0.5 * 2**0.5)  # the fourth step leaves the object
    np.testing.assert_array_equal(lengths[4, 9, ::2], [2.5, 2.5, 1.5, 2.5])


def test_rays_of_a_disc_are_its_radius():
    y, x = np.mgrid[:81, :81] - 40
    lengths = ray_lengths((np.hypot(y, x) < 30.5).astype(int), 32)
    assert abs(lengths[40, 40] - 30.5).max() < 1


def test_the_probability_is_the_depth_of_each_object():
    numbers = draw_objects(3, 40, 50, 12)
    target = star_targets(np.where(np.arange(50) < 4, -1, numbers), Rays(4, 2.0))
    assert (target[:, :4, 0] == -1).all() and not target[:, :4, 1:].any()
    for number in set(np.unique(numbers[:, 6:])) - {0}:
        own = np.pad(numbers[:, 4:] == number, 1, mode="edge")[
            :, 1:
        ]  # the image's edge is no outline, what is invalid is one
        own = np.pad(own, ((0, 0), (1, 0)))
        depth = ndimage.distance_transform_edt(own)[1:-1, 1:-1]
        inside = numbers[:, 4:] == number
        np.testing.assert_allclose(target[:, 4:, 0][inside], (depth / depth.max())[inside], rtol=1e-6)
    np.testing.assert_array_equal(2 * target[..., 1:], star_targets(object_minus(numbers), Rays(4, 1.0))[..., 1:])


def object_minus(numbers):
    return np.where(np.arange(50) < 4, -1, numbers)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_turned_objects_have_turned_rays(symmetry):
    numbers, rays = draw_objects(5, 23, 31, 9), Rays(32, 1.0)
    turned = symmetry.back(star_targets(np.ascontiguousarray(symmetry.turn(numbers)), rays))
    np.testing.assert_allclose(turned[..., [0, *(1 + symmetry.rays_back(32))]], star_targets(numbers, rays), rtol=1e-6)


def test_batches_hold_the_target_of_what_augmentation_gives():
    cells = TargetSet(SyntheticCells(2, 64), Target("stardist", rays=8), [0])
    batches, rays = Batches(cells, [0, 1], 1, 32, True, 5), cells.preprocessing.rays
    [[(k, i)], *_] = batches.plan(2)
    rng = np.random.default_rng([5, 2, 2, k])
    image, numbers = augment(cells[i].image, object_numbers(cells[i]), rng, 32)
    images, targets = batches.batch(2, 0)
    np.testing.assert_array_equal(images[0], image)
    np.testing.assert_array_equal(targets[0], star_targets(numbers, rays))
    whole = Batches(cells, [0], 1, None, False).batch(0, 0)[1]
    np.testing.assert_array_equal(whole[0], true_target(cells[0], rays))


def test_the_unit_is_the_radius_of_the_objects_trained_on():
    cells = TargetSet(SyntheticCells(4, 64), Target("stardist"), [0, 2])
    areas = [n for i in (0, 2) for n in np.bincount(cells[i].instances.ravel())[1:] if n]
    rays = cells.preprocessing.rays
    assert rays.count == 32 and rays.unit == pytest.approx((np.percentile(areas, 50, method="lower") / np.pi) ** 0.5)
    assert cells.preprocessing.outputs() == (33,) and "polygons of 32 rays" in cells.describe()
    stored = cells.preprocessing.to_json()
    assert Preprocessing.from_json(stored, "data") == cells.preprocessing


def test_what_does_not_count_is_minus_one():
    sample = Sample("x", np.zeros((4, 4, 1)), np.ones((4, 4), np.uint8), np.ones((4, 4), int), np.eye(4, dtype=bool))
    assert (object_numbers(sample) == np.where(np.eye(4), 1, -1)).all()


def test_what_is_refused():
    with pytest.raises(UserError, match="multiple of 4: give 8 or 12"):
        Rays(10)
    with pytest.raises(UserError, match="--weight-map"):
        Target("stardist", weight_map=True)
    with pytest.raises(UserError, match="two classes"):
        Preprocessing(1, ClassMap([[0], [1], [2]], ["a", "b", "c"]), target="stardist", rays=Rays())
    for wrong in ({"target": "stardist"}, {"rays": Rays()}):
        with pytest.raises(UserError, match="'stardist' has rays, others have none"):
            Preprocessing(1, ClassMap.binary(), **wrong)
