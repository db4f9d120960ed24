"""Star-convex polygons to objects: suppression and drawing, kernels and plain functions alike, by tiles and whole."""

from functools import cache

import numpy as np
import pytest
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import points_in_poly

import minunet
from minunet.data import ClassMap, Preprocessing, SyntheticCells
from minunet.data.instance_labels import renumber
from minunet.data.objects import Rays, Separation
from minunet.data.stars import directions, star_targets
from minunet.errors import UserError
from minunet.metrics.instances import ObjectCounts
from minunet.models import Ensemble, UNet
from minunet.predict.inference import found_objects, make_tiles, probabilities
from minunet.predict.instances import label_objects, segment_objects
from minunet.predict.options import PredictionOptions
from minunet.predict.stars import LARGEST, Polygons, draw, find_objects, separate_stars, star_maps, suppress
from minunet.predict.stitching import census, numbering

HOW = Separation(threshold=0.5, nms=0.4)
WHOLE = slice(0, 60), slice(0, 70)


def some_polygons(seed, M, R=8, size=(60, 70), radius=9.0):
    """Random polygons, some beyond the image's edges, some of no pixel, the most probable one first."""
    rng = np.random.default_rng(seed)
    distances = np.abs(rng.normal(rng.uniform(0, radius, (M, 1)), 2, (M, R))) + 1e-3
    return Polygons(rng.uniform(0, size, (M, 2)).round(), distances, np.sort(rng.random(M))[::-1])


def mask_of(centre, distances, size=(60, 70)):
    """The pixels inside a polygon, by scikit-image."""
    sines, cosines = directions(len(distances))
    corners = np.stack([centre[0] + distances * sines, centre[1] + distances * cosines], 1)
    return points_in_poly(np.stack(np.mgrid[: size[0], : size[1]], -1).reshape(-1, 2), corners).reshape(size)


@examples(20)
@given(st.integers(0, 999), st.integers(0, 40), st.sampled_from([4, 8, 32]), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_the_kernels_and_the_plain_functions_agree(seed, M, R, share):
    polygons = some_polygons(seed, M, R)
    found = suppress(polygons, share)
    parts = [(slice(0, 31), slice(5, 70)), WHOLE]
    drawn = [draw(found, *part) for part in parts]
    with minunet.use("reference"):
        plain = suppress(polygons, share)
        for a, b in zip(found[1:4], plain[1:4]):
            np.testing.assert_array_equal(a, b)
        for a, part in zip(drawn, parts):
            np.testing.assert_array_equal(a, draw(plain, *part))
    np.testing.assert_array_equal(drawn[0], drawn[1][:31, 5:])


def test_overlaps_are_those_of_the_pixels():
    """Suppression by its definition: masks by scikit-image, the better one first."""
    polygons = some_polygons(1, 60, 16)._replace(centres=np.random.default_rng(2).uniform(15, 45, (60, 2)))
    masks, owner = [mask_of(c, d) for c, d in zip(*polygons[:2])], np.full(60, -1)
    for i in range(60):
        if owner[i] < 0 and masks[i].any():
            later = range(i, 60)
            shares = [(masks[i] & masks[j]).sum() / max(1, min(masks[i].sum(), masks[j].sum())) for j in later]
            owner[[j for j, s in zip(later, shares) if owner[j] < 0 and s > 0.4]] = i
    found = suppress(polygons, 0.4)
    groups = [set(found.members[a:b].tolist()) for a, b in zip(found.starts, found.starts[1:])]
    assert (
        groups == [set(np.flatnonzero(owner == i).tolist()) for i in np.unique(owner[owner >= 0])] and len(groups) > 5
    )


def test_a_single_polygon_is_its_pixels_and_the_better_one_is_on_top():
    polygons = some_polygons(4, 2, 16)._replace(
        centres=np.array([[30.0, 30.0], [30.0, 38.0]]), distances=np.full((2, 16), 7.3)
    )
    labels = draw(suppress(polygons, 0.9), *WHOLE)
    first, second = (mask_of(*p) for p in zip(*polygons[:2]))
    np.testing.assert_array_equal(labels, np.where(first, 1, np.where(second, 2, 0)))


def test_a_small_polygon_inside_of_a_large_one_is_suppressed_though_the_union_is_large():
    distances = np.stack([np.full(32, 20.0), np.full(32, 4.0)])
    nested = Polygons(np.array([[30.0, 30.0], [30.0, 38.0]]), distances, np.array([0.9, 0.8]))
    assert len(suppress(nested, 0.4).boxes) == 1


def test_the_polygons_of_an_object_vote():
    """Three polygons see a square whose one corner only the best of them leaves out."""
    square = np.zeros((60, 70), int)
    square[20:40, 20:40] = 1
    maps = star_targets(square, Rays(32, 1.0))[[30, 30, 31], [30, 31, 30]]
    maps[0, 1 + 4] = 2.0  # the ray to the corner
    three = Polygons(
        np.array([[30.0, 30.0], [30.0, 31.0], [31.0, 30.0]]), maps[:, 1:].astype(float), np.array([0.9, 0.8, 0.8])
    )
    alone = Polygons(*(a[:1] for a in three))
    missed = [int((square.astype(bool) & (draw(suppress(p, 0.4), *WHOLE) == 0)).sum()) for p in (alone, three)]
    assert missed[0] > 20 and missed[1] < 10


@pytest.mark.parametrize("cell", [1, 3])
def test_perfect_maps_give_the_objects_back(cell):
    counts = ObjectCounts()
    for sample in SyntheticCells(4, 96, seed=3):
        counts.add(sample.instances, separate_stars(star_targets(sample.instances, Rays(32, 1.0)), HOW, cell))
    assert counts.truth > 15 and counts.precision(50) > 0.97 and counts.precision(80) > 0.85 and counts.merged == 0


def test_numbers_come_in_the_order_of_the_first_pixels_and_small_objects_go():
    polygons = some_polygons(6, 12)
    objects = suppress(polygons, 0.1)
    labels = draw(objects, *WHOLE)
    blocks = [
        (slice(a, min(60, a + 17)), slice(b, min(70, b + 23))) for a in range(0, 60, 17) for b in range(0, 70, 23)
    ]
    counted = [census(draw(objects, *block), block) for block in blocks]
    table, count = numbering(len(objects.boxes), counted, 20)
    np.testing.assert_array_equal(table[labels], renumber(labels, 20))
    assert 1 < count == table.max() < len(objects.boxes)


def test_nothing_and_too_much(monkeypatch):
    maps = np.zeros((20, 30, 9), np.float32)
    assert not label_objects(maps, "stardist").any()
    maps[...] = 0.7
    with pytest.raises(UserError, match="--no-split"):
        label_objects(maps, "stardist", split=False)
    with pytest.raises(ValueError, match="stardist"):
        label_objects(maps[..., :3], "stardist")
    monkeypatch.setattr("minunet.predict.stars.MOST", 100)
    found = find_objects([(slice(0, 20), slice(0, 30), maps)], HOW, 1)
    assert len(found.polygons.scores) == 100 and found.dropped == 500


def test_distances_of_a_network_at_a_loss_are_limited():
    """They would ask for windows of any size."""
    logits = np.full((20, 30, 9), 3, np.float32)
    logits[10, 10:13, 1:] = [[1e9], [np.inf], [5]]
    maps = star_maps(logits, 4.0)
    assert maps[10, 10:13, 1].tolist() == [4 * LARGEST, 4 * LARGEST, 20]
    assert separate_stars(maps, HOW).any()


def test_polygons_everywhere():
    """As an untrained network may give them. (bench/stars.py measures half a million.)"""
    rng = np.random.default_rng(0)
    maps = rng.uniform(0.5, 1, (150, 200, 9)).astype(np.float32)
    maps[..., 1:] = rng.uniform(0, 6, (150, 200, 1)) * rng.uniform(0.8, 1.2, (150, 200, 8))
    assert len(find_objects([(slice(0, 150), slice(0, 200), maps)], HOW, 1).boxes) > 100


# ---- with a network --------------------------------------------------------------------------------------------------


@cache
def network(seed=0, unit=6.0, scale=1.0):
    """A network of polygons with drawn weights, and the running statistics of an image: objects that mean nothing."""
    model, rng = UNet(1, 9, base_width=4, depth=2, seed=seed), np.random.default_rng(seed)
    for m in [m for _, m in model.modules() if isinstance(m, minunet.nn.BatchNorm2d)]:
        m.momentum = 1
    model.forward(picture(128, 128)[None, ..., None].astype(np.float32) / 255, rng=rng)
    model.head.params["b"][1:] += 1
    model.preprocessing = Preprocessing(1, ClassMap.binary(), scale=scale, target="stardist", rays=Rays(8, unit))
    return model


def picture(H, W):
    rng = np.random.default_rng(0)
    return (rng.integers(0, 90, (H, W)) + np.kron(rng.integers(0, 160, (30, 30)), np.ones((6, 6)))[:H, :W]).astype(
        np.uint8
    )


@pytest.mark.parametrize(("tta", "scale"), [(1, 1.0), (8, 0.5)])
def test_tiles_give_the_objects_of_the_whole(tta, scale, monkeypatch):
    model, image = network(scale=scale), picture(110, 97)
    whole, tiled = (probabilities(model, image, tile=tile, tta=tta) for tile in (0, 24))
    assert whole.shape == (110, 97, 9) and abs(whole - tiled).max() < 1e-3 and abs(whole[..., 1:]).max() > 3
    found = []
    for tile, block in ((0, 2048), (24, 2048), (24, 40)):
        monkeypatch.setattr("minunet.predict.inference.BLOCK", block)
        options = PredictionOptions(tile=tile, tta=tta, threshold=0.5, min_size=1)
        objects, table, count, blocks = found_objects(model, make_tiles(model, image, options), options, (110, 97))
        assert count > 10
        labels = np.zeros((110, 97), int)
        for part in blocks:
            labels[part] = table[draw(objects, *part)]
        found.append(labels)
    counts = ObjectCounts()
    counts.add(found[0], found[1])
    assert counts.precision(80) > 0.85  # rounding may decide which of two equals is the better one
    np.testing.assert_array_equal(found[1], found[2])


def test_distances_grow_with_the_image():
    maps = [
        probabilities(network(scale=scale), picture(96, 96).repeat(n, 0).repeat(n, 1))
        for scale, n in ((1.0, 1), (0.5, 2))
    ]
    inner = maps[1][20:-20:2, 20:-20:2]
    assert np.median(inner[..., 1:]) == pytest.approx(2 * np.median(maps[0][..., 1:]), rel=0.3)


def test_masks_are_the_objects_and_thresholds_are_those_of_the_training():
    model, image = network(), picture(80, 70)
    labels = segment_objects(model, image, min_size=3)
    mask = minunet.segment(model, image)
    assert labels.max() > 5 and not (mask.astype(bool) & (labels == 0)).any()
    assert (minunet.segment(model, image, threshold=0.9) > 0).sum() < (mask > 0).sum()
    tiled = minunet.segment(model, image, tile=16, out=np.zeros((80, 70), np.uint8))
    assert (tiled != mask).mean() < 1e-2


def test_ensembles_average_probabilities_and_distances():
    members = [network(0, 6.0), network(1, 9.0)]
    ensemble = Ensemble(members)
    ensemble.preprocessing = members[0].preprocessing
    mean, *own = (probabilities(m, picture(60, 60)) for m in (ensemble, *members))
    np.testing.assert_allclose(mean, (own[0] + own[1]) / 2, atol=1e-3)
    with pytest.raises(ValueError, match="only if all are"):
        Ensemble([members[0], UNet(1, 2, base_width=2, depth=1)])
