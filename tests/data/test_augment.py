"""Augmentation: image and labels move together, and as far as they say."""

import numpy as np
import pytest
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minunet.data.augment import (
    augment,
    change_intensity,
    crop_patch,
    elastic_field,
    flip_and_turn,
    mirror,
    patch_grid,
    recoloured,
    spline_basis,
    warp,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(shape, seed=0):
    """A smooth image around 0.5 and its labels."""
    field = ndimage.gaussian_filter(rng(seed).standard_normal(shape), 5)
    labels = (field > 0).astype(np.int64)
    return (field / field.std()).astype(np.float32)[..., None], labels


@pytest.mark.parametrize("crop", [48, None])
@pytest.mark.parametrize("shape", [(90, 70), (64, 64), (30, 40)])
def test_labels_stay_on_the_image(crop, shape):
    field, labels = smooth(shape)
    for seed in range(6):
        image, moved = augment(field, labels, rng(seed), crop, intensity=False)
        assert image.shape[:2] == moved.shape == ((crop, crop) if crop else shape)
        assert image.dtype == np.float32 and moved.dtype == np.int64
        clear = np.abs(image[..., 0]) > 0.3  # away from the border between the labels
        assert clear.mean() > 0.4 and np.array_equal((image[..., 0] > 0)[clear], moved[clear] > 0)


def test_an_image_equal_to_its_labels_stays_so():
    _, labels = smooth((80, 80))
    image, moved = augment(labels[..., None].astype(np.float32), labels, rng(1), 64, intensity=False)
    flat = (image[..., 0] == 0) | (image[..., 0] == 1)
    assert flat.mean() > 0.6 and np.array_equal(image[..., 0][flat], moved[flat])
    assert np.abs(image[..., 0] - moved).max() <= 0.75 + 1e-5  # the nearest of four pixels weighs a quarter at least


def test_the_same_state_gives_the_same_patch_and_another_one_another():
    field, labels = smooth((60, 60))
    first, again, other = (augment(field, labels, rng(s), 32)[0] for s in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@given(st.integers(0, 10**6), st.integers(8, 96))
def test_grid_scales_within_its_range_and_keeps_its_centre_inside(seed, crop):
    grid = patch_grid((100, 60), rng(seed), crop, 0.0, (0.8, 1.25))
    steps = np.hypot(*(grid[:, 1:, 0] - grid[:, :-1, 0])), np.hypot(*(grid[:, 0, 1:] - grid[:, 0, :-1]))
    assert np.ptp(np.concatenate(steps)) < 1e-9 and 1 / 1.25 - 1e-9 <= steps[0][0] <= 1 / 0.8 + 1e-9
    centre = grid.mean((1, 2))
    for c, size in zip(centre, (100, 60)):
        room = max(size - crop, 0) / 2
        assert abs(c - (size - 1) / 2) <= room + 1e-9


def test_turns_and_mirror_images_both_occur():
    signs, angles = set(), []
    for seed in range(60):
        grid = patch_grid((50, 50), rng(seed), 20, 0.0, (1, 1))
        down, across = grid[:, 1, 0] - grid[:, 0, 0], grid[:, 0, 1] - grid[:, 0, 0]
        signs.add(round(down[0] * across[1] - down[1] * across[0]))
        angles.append(np.arctan2(down[1], down[0]))
    assert signs == {-1, 1} and np.histogram(angles, 6, (-np.pi, np.pi))[0].min() > 2


def test_elastic_field_has_its_spread_and_passes_through_its_grid():
    b = spline_basis(65)
    assert np.allclose(b[[0, 32, 64]], np.eye(3), atol=OP["float64"]) and np.allclose(b.sum(1), 1)
    fields = np.stack([elastic_field(rng(s), 65, 3.0) for s in range(300)])
    assert abs(fields[:, :, ::32, ::32].std() - 3) < 0.15
    # the field is smooth, and the displacement is capped where the grid could fold
    assert np.abs(np.diff(fields, axis=2)).max() < 0.8
    grid = patch_grid((500, 500), rng(0), 32, 100.0, (1, 1))
    assert np.abs(grid - patch_grid((500, 500), rng(0), 32, 0.0, (1, 1))).max() < 6


@given(st.integers(-50, 50), st.integers(1, 9))
def test_mirror_is_scipys(index, size):
    line = np.arange(size, dtype=float)
    expected = ndimage.map_coordinates(line, [[index]], order=1, mode="mirror")[0]
    assert mirror(np.array([index]), size)[0] == round(expected)


def test_warp_by_the_identity_and_beyond_the_border():
    image, labels = rng().random((7, 9, 2), np.float32), rng().integers(0, 4, (7, 9))
    grid = np.mgrid[-3:10, -4:13].astype(float)
    moved, moved_labels = warp(image, labels, grid)
    assert np.allclose(moved, np.pad(image, ((3, 3), (4, 4), (0, 0)), mode="reflect"), atol=OP["float32"])
    assert np.array_equal(moved_labels, np.pad(labels, ((3, 3), (4, 4)), mode="reflect"))


@given(st.integers(0, 10**6), st.sampled_from([(40, 33), (9, 70), (3, 3)]))
def test_cubic_interpolation_is_scipys_on_the_whole_image(seed, shape):
    """Only the patch's surroundings are filtered, which must not show; grids reach beyond the image, too."""
    image = rng(seed).random((*shape, 2), np.float32)
    grid = patch_grid(shape, rng(seed), 14, 3.0, (0.8, 1.25), context=4)
    made, _ = warp(image, image[..., 0], grid, "cubic")
    whole = np.pad(image, ((60, 60), (60, 60), (0, 0)), mode="reflect").astype(float)
    expected = [ndimage.map_coordinates(whole[..., c], grid + 60, order=3, mode="mirror") for c in range(2)]
    np.testing.assert_allclose(made, np.stack(expected, -1), atol=3e-6)
    assert np.abs(made - warp(image, image[..., 0], grid)[0]).max() > 0.02


def test_context_lets_the_middle_of_a_patch_reach_every_corner():
    image = np.arange(25, dtype=np.float32).reshape(5, 5, 1)
    for context in (1, 4):
        crop = 3 + 2 * context
        patches = [crop_patch(image, image[..., 0], rng(s), crop, context)[1] for s in range(200)]
        middles = [p[context:-context, context:-context] for p in patches]
        assert {m[0, 0] for m in middles} == {0, 1, 2, 5, 6, 7, 10, 11, 12}
        assert all((np.diff(m) == 1).all() for m in middles)  # it is not mirrored, what is around it may be
    centres = np.array([patch_grid((50, 70), rng(s), 30, 0, (1, 1), 10).mean((1, 2)) for s in range(300)])
    assert (centres.min(0) < 6).all() and (centres.min(0) >= 4.5).all() and (centres.max(0) > [43, 63]).all()


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_plain_patches_are_cut_out_or_mirrored_out(seed, H, W, crop):
    image = np.arange(H * W, dtype=np.float32).reshape(H, W, 1)
    patch, labels = crop_patch(image, image[..., 0].astype(int), rng(seed), crop)
    assert patch.shape == (crop, crop, 1) and np.array_equal(patch[..., 0], labels)
    if crop <= min(H, W):
        assert (np.diff(labels, axis=1) == 1).all() and (np.diff(labels, axis=0) == W).all()
    else:  # the image lies whole in the patch along every side that is smaller
        assert len(np.unique(labels // W)) == min(H, crop) and len(np.unique(labels % W)) == min(W, crop)


def test_plain_patches_reach_every_corner():
    image = np.arange(25, dtype=np.float32).reshape(5, 5, 1)
    corners = {crop_patch(image, image[..., 0], rng(s), 3)[1][0, 0] for s in range(200)}
    assert corners == {0, 1, 2, 5, 6, 7, 10, 11, 12}


def test_all_symmetries_occur_and_only_squares_turn():
    square, oblong = np.arange(9).reshape(3, 3), np.arange(6).reshape(2, 3)
    seen = {flip_and_turn(square[..., None], square, rng(s))[1].tobytes() for s in range(100)}
    assert len(seen) == 8
    moved = [flip_and_turn(oblong[..., None], oblong, rng(s)) for s in range(60)]
    assert {m.shape for _, m in moved} == {(2, 3)} and len({m.tobytes() for _, m in moved}) == 4
    assert all(np.array_equal(image[..., 0], labels) for image, labels in moved)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_values_change_moderately_and_leave_the_input_alone(channels):
    image = np.repeat(np.linspace(-0.2, 1.2, 48 * 48, dtype=np.float32).reshape(48, 48, 1), channels, -1)
    before = image.copy()
    changed = np.stack([change_intensity(image, rng(s)) for s in range(150)])
    assert changed.dtype == np.float32 and np.isfinite(changed).all() and np.array_equal(image, before)
    means = changed.mean((1, 2, 3))
    assert 0.05 < means.std() < 0.3 and abs(means.mean() - 0.5) < 0.1
    correlation = [np.corrcoef(c[..., 0].ravel(), image[..., 0].ravel())[0, 1] for c in changed]
    assert min(correlation) > 0.95
    if channels == 3:
        assert (changed[..., 0] != changed[..., 1]).any()


def test_a_share_of_the_patches_is_not_resampled():
    """With p_elastic=0 every pixel is one of the image's, and the patch turned back lies in it; with 1 pixels are mixed."""
    image = np.arange(400, dtype=np.float32).reshape(20, 20, 1)
    labels = np.arange(400).reshape(20, 20)
    for seed in range(8):
        plain, plain_labels = augment(image, labels, np.random.default_rng(seed), 9, intensity=False, p_elastic=0)
        assert (plain[..., 0] == plain_labels).all()
        steps = {abs(int(d)) for d in np.diff(plain_labels, axis=0).ravel()}
        assert steps in ({1}, {20})
        mixed, _ = augment(image, labels, np.random.default_rng(seed), 9, intensity=False, p_elastic=1)
        assert (mixed != np.rint(mixed)).mean() > 0.5


def test_colours_are_mixed_and_light_becomes_dark():
    """Grey stays grey, means stay within the range, every draw gives another colour, and shares of 0 change no number."""
    colour = np.random.default_rng(0).random((6, 5, 3), dtype=np.float32)
    grey = np.repeat(colour[..., :1], 3, axis=-1)
    mixed = np.stack([recoloured(colour, rng(s)) for s in range(20)])
    assert mixed.dtype == np.float32 and len(np.unique(mixed[:, 0, 0, 0])) == 20
    assert (mixed <= colour.max(-1, keepdims=True) + 1e-6).all() and (
        mixed >= colour.min(-1, keepdims=True) - 1e-6
    ).all()
    np.testing.assert_allclose(recoloured(grey, rng(1)), grey, atol=1e-6)
    assert (recoloured(grey[..., :1], rng(1)) == grey[..., :1]).all()
    labels, plain = np.zeros((6, 5), int), {"intensity": False, "p_elastic": 0.0, "crop": 5}
    for seed in range(4):
        before = augment(colour, labels, np.random.default_rng(seed), **plain)[0]
        np.testing.assert_array_equal(
            augment(colour, labels, np.random.default_rng(seed), invert=1, **plain)[0], 1 - before
        )
        changed = augment(colour, labels, np.random.default_rng(seed), recolour=1, **plain)[0]
        assert abs(changed - before).max() > 0.05
        same = augment(colour, labels, np.random.default_rng(seed), invert=0, recolour=0, **plain)[0]
        np.testing.assert_array_equal(same, before)
