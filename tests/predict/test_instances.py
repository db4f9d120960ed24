"""Objects out of probabilities, and the files that ImageJ, napari and spreadsheets read."""

import csv
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage
from skimage.measure import regionprops_table

from minunet import UserError
from minunet.data.instance_labels import limit_numbers, renumber
from minunet.metrics.instances import ObjectCounts
from minunet.predict.instance_files import (
    add_rois,
    new_rois,
    object_polygons,
    save_labels,
    save_probabilities,
    save_table,
)
from minunet.predict.instances import label_objects
from minunet.predict.measure import Measurements, columns, measure
from minunet.predict.overlay import object_outlines


def discs(size, *circles):
    """Label image of discs (row, column, radius); where two overlap, a pixel is of the nearer one by radii."""
    y, x = np.mgrid[: size[0], : size[1]]
    depth = np.stack([np.hypot(y - r, x - c) / radius for r, c, radius in circles])
    return np.where(depth.min(0) < 1, 1 + depth.argmin(0), 0)


def certain(*masks):
    """Probabilities of background and of masks, 0.98 where they are."""
    foreground = 0.01 + 0.97 * np.stack(masks, -1)
    return np.concatenate([1 - foreground.sum(-1, keepdims=True), foreground], -1).astype(np.float32)


def same(a, b):
    """Whether two label images show the same objects, but for a few pixels at seams."""
    c = ObjectCounts()
    c.add(a, b)
    return c.truth == c.predicted == c.tp[-2]  # IoU above 0.9


snowman = discs((60, 90), (30, 20, 14), (30, 43, 12), (12, 75, 5), (20, 76, 5), (50, 70, 3))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_touching_discs_are_separated_at_any_size(scale):
    truth = snowman.repeat(scale, 0).repeat(scale, 1)
    assert same(truth, label_objects(certain(truth > 0)))
    together = label_objects(certain(truth > 0), split=False)
    assert together.max() == 3 and np.array_equal(together > 0, truth > 0)


def test_one_shape_stays_one():
    """An ellipse, a bent rod, a rough disc: nothing with a neck."""
    y, x = np.mgrid[:80, :80]
    rough = np.hypot(y - 40, x - 40) < 25 + 1.5 * np.sin(9 * np.arctan2(y - 40, x - 40))
    rod = (np.abs(np.hypot(y - 80, x - 40) - 60) < 7) & (y < 70)
    for shape in (np.hypot((y - 40) / 12, (x - 40) / 30) < 1, rod, rough):
        assert label_objects(certain(shape)).max() == 1


def test_borders_hold_objects_apart_that_have_no_neck():
    """Two halves of a rectangle: only the class for borders tells them apart; the border belongs to the objects."""
    truth = np.zeros((30, 50), int)
    truth[5:25, 5:25], truth[5:25, 25:45] = 1, 2
    inside = np.zeros(truth.shape, bool)
    for n in (1, 2):
        inside |= ndimage.binary_erosion(truth == n, np.ones((3, 3)))
    p = certain(inside, (truth > 0) & ~inside)
    assert np.array_equal(label_objects(p, "border"), truth)
    assert label_objects(certain(truth > 0)).max() == 1
    assert label_objects(p, "border", split=False).max() == 1


def test_objects_that_are_all_border_are_kept():
    border = np.zeros((20, 20), bool)
    border[3:8, 3:8] = True
    p = certain(np.zeros_like(border), border)
    assert np.array_equal(label_objects(p, "border"), border.astype(int))


def test_threshold_and_smallest_size():
    p = np.zeros((12, 12, 2))
    p[1:6, 1:6, 1], p[8:10, 8:10, 1] = 0.4, 0.9
    p[..., 0] = 1 - p[..., 1]
    assert label_objects(p).max() == 0  # the larger one is below 0.5, the other has 4 pixels
    assert label_objects(p, threshold=0.3).max() == 1
    assert label_objects(p, min_size=4).max() == 1 and label_objects(p, threshold=0.3, min_size=0).max() == 2
    with pytest.raises(ValueError, match="border"):
        label_objects(p, "border")


@given(
    arrays(np.float32, (9, 11, 3), elements=st.floats(0, 1, width=32)),
    st.booleans(),
    st.sampled_from(["classes", "border"]),
)
def test_objects_are_connected_and_cover_the_foreground(p, split, target):
    p = p / np.maximum(p.sum(-1, keepdims=True), 1e-3)
    labels = label_objects(p, target, min_size=0, split=split)
    assert np.array_equal(labels > 0, p[..., 1:].sum(-1) > 0.5) and labels.dtype == np.int32
    assert set(np.unique(labels)) <= set(range(labels.max() + 1)) and len(np.unique(labels[labels > 0])) == labels.max()
    large = label_objects(p, target, min_size=5, split=split)
    assert all(ndimage.label(labels == n)[1] == 1 for n in range(1, labels.max() + 1))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    assert np.array_equal(large > 0, sizes[labels] >= 5)


@pytest.mark.parametrize("fill", [0, 1])
def test_images_that_are_all_one(fill):
    labels = label_objects(certain(np.full((7, 9), fill)))
    assert (labels == fill).all()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_label_tiff(tmp_path):
    save_labels(tmp_path / "one_labels.tif", [snowman])
    with tifffile.TiffFile(tmp_path / "one_labels.tif") as f:
        assert f.is_imagej and f.series[0].axes == "YX" and f.pages[0].dtype == np.uint16
        assert (f.imagej_metadata["min"], f.imagej_metadata["max"]) == (0, 5)
        assert np.array_equal(f.asarray(), snowman)
    save_labels(tmp_path / "stack_labels.tif", [snowman, snowman[::-1], snowman * 0])
    with tifffile.TiffFile(tmp_path / "stack_labels.tif") as f:
        assert f.series[0].axes == "ZYX" and f.imagej_metadata["slices"] == 3 and len(f.pages) == 3
        assert np.array_equal(f.asarray()[1], snowman[::-1])


def test_label_tiff_of_many_objects(tmp_path):
    labels = np.arange(300 * 300).reshape(300, 300)
    assert save_labels(tmp_path / "many.tif", [labels]) == labels.max()
    pixels = tifffile.imread(tmp_path / "many.tif")
    assert pixels.dtype == np.uint32 and np.array_equal(pixels, labels)
    for most, dtype in ((65535, np.uint16), (65536, np.uint32)):
        save_labels(tmp_path / "most.tif", [np.minimum(labels, most)])
        assert (
            tifffile.imread(tmp_path / "most.tif").dtype == dtype
            and tifffile.imread(tmp_path / "most.tif").max() == most
        )


def test_pages_of_different_sizes_are_no_stack(tmp_path):
    with pytest.raises(UserError, match="different sizes"):
        save_labels(tmp_path / "x.tif", [snowman, snowman[1:]])


def test_probability_tiff(tmp_path, rng):
    p = rng.random((6, 7, 3), np.float32)
    save_probabilities(tmp_path / "p.tif", [p], ["background", "a", "b"])
    with tifffile.TiffFile(tmp_path / "p.tif") as f:
        assert f.series[0].axes == "CYX" and f.imagej_metadata["channels"] == 3
        assert f.imagej_metadata["Labels"] == ["background", "a", "b"]
        assert np.array_equal(f.asarray(), np.moveaxis(p, -1, 0)) and f.pages[0].dtype == np.float32
    save_probabilities(tmp_path / "p.tif", [p, p], ["background", "a", "b"])
    with tifffile.TiffFile(tmp_path / "p.tif") as f:
        assert f.series[0].axes == "ZCYX" and f.asarray().shape == (2, 3, 6, 7)


def test_measures_by_hand():
    labels = np.array([[0, 0, 5, 5], [0, 0, 5, 0], [2, 0, 0, 0]])
    image = np.arange(0, 24, 2).reshape(3, 4, 1)
    a, b = measure(labels, image).rows()
    assert list(a) == columns(1, False)
    assert list(a.values()) == [2, 1, 0, 2, 0, 2, 1, 1, 16]
    assert list(b.values()) == pytest.approx([5, 3, 7 / 3, 1 / 3, 2, 0, 2, 2, (4 + 6 + 12) / 3])
    colour = list(measure(labels, np.stack([labels, 2 * labels, 0 * labels], -1)).rows(page=3))[1]
    assert list(colour) == columns(3, True) and list(colour.values())[-3:] == [5, 10, 0] and colour["page"] == 3


@given(arrays(np.uint8, (9, 8), elements=st.integers(0, 4)), st.integers(1, 9), st.integers(1, 8))
def test_measures_of_blocks_are_those_of_the_whole(labels, height, width):
    """And those of scikit-image."""
    image = labels[..., None] * 7.5
    whole, parts = measure(labels, image), Measurements(int(labels.max()), 1)
    for r in range(0, 9, height):
        for c in range(0, 8, width):
            parts.add(labels[r : r + height, c : c + width], image[r : r + height, c : c + width], r, c)
    assert list(parts.rows()) == list(whole.rows())
    wanted = ("label", "area", "centroid", "bbox", "intensity_mean")
    found = regionprops_table(labels, image[..., 0], properties=wanted)
    rows = [[*row.values()] for row in whole.rows()]
    names = ("label", "area", "centroid-1", "centroid-0", "bbox-1", "bbox-0")
    assert [row[:6] for row in rows] == [pytest.approx([*values]) for values in zip(*(found[n] for n in names))]
    assert [row[8] for row in rows] == pytest.approx(found["intensity_mean"].tolist())


def test_table(tmp_path, rng):
    image = rng.integers(0, 60000, (*snowman.shape, 1)).astype(np.uint16)
    save_table(tmp_path / "a.csv", [measure(snowman, image)])
    with open(tmp_path / "a.csv") as f:
        rows = list(csv.DictReader(f))
    assert [int(r["object"]) for r in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        own = snowman == int(row["object"])
        y, x = np.nonzero(own)
        assert int(row["area_px"]) == own.sum() and float(row["mean_intensity"]) == pytest.approx(
            image[own].mean(), rel=1e-4
        )
        assert float(row["centroid_x_px"]) == pytest.approx(x.mean(), rel=1e-4)
        assert float(row["centroid_y_px"]) == pytest.approx(y.mean(), rel=1e-4)
        assert int(row["bbox_x_px"]) == x.min() and int(row["bbox_height_px"]) == np.ptp(y) + 1
    save_table(tmp_path / "b.csv", [measure(a, image) for a in (snowman, snowman * 0, (snowman > 0).astype(int))])
    with open(tmp_path / "b.csv") as f:
        rows = list(csv.DictReader(f))
    assert [(r["page"], r["object"]) for r in rows] == [("1", str(n)) for n in range(1, 6)] + [("3", "1")]
    save_table(tmp_path / "none.csv", [measure(snowman * 0, image)])
    assert (tmp_path / "none.csv").read_text().strip() == ",".join(columns(1, False))


def polygons(labels, height=100):
    """The outlines of a label image's objects by their numbers."""
    return dict(object_polygons(labels, measure(labels, labels[..., None]).boxes, height))


def save_rois(path, pages):
    with new_rois(path) as archive:
        for page, labels in enumerate(pages, start=1):
            add_rois(archive, polygons(labels).items(), page if len(pages) > 1 else None)


def filled(polygon, shape):
    """The pixels whose middle lies in a polygon in ImageJ's coordinates."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return Polygon(polygon).contains_points(np.stack([x.ravel(), y.ravel()], 1) + 0.5).reshape(shape)


@given(arrays(np.uint8, (8, 9), elements=st.integers(0, 3)))
def test_outlines_hold_their_objects(values):
    """4-connected pieces, at the image's edge too; holes are filled."""
    labels = np.where(values > 1, ndimage.label(values > 1)[0], 0)
    found = polygons(labels, 3)
    assert sorted(found) == list(range(1, labels.max() + 1))
    for number, polygon in found.items():
        whole = ndimage.binary_fill_holes(np.pad(labels == number, 1), np.ones((3, 3)))[1:-1, 1:-1]
        assert np.array_equal(filled(polygon, labels.shape), whole)


def test_rois(tmp_path):
    save_rois(tmp_path / "rois.zip", [snowman])
    rois = roifile.roiread(tmp_path / "rois.zip")
    assert [r.name for r in rois] == [f"{n:05}" for n in range(1, 6)]
    for number, roi in enumerate(rois, start=1):
        assert np.array_equal(filled(roi.coordinates(), snowman.shape), snowman == number)
        assert roi.position == 0  # of no page
    save_rois(tmp_path / "rois.zip", [snowman, snowman])
    rois = roifile.roiread(tmp_path / "rois.zip")
    assert [r.position for r in rois] == [1] * 5 + [2] * 5 and rois[5].name == "0002-00001"
    save_rois(tmp_path / "none.zip", [snowman * 0])
    assert zipfile.ZipFile(tmp_path / "none.zip").namelist() == []


def test_overlay_outlines_every_object():
    picture = object_outlines(np.zeros((*snowman.shape, 1)), snowman)
    lit = picture.any(-1)
    assert picture.dtype == np.uint8 and not lit[snowman == 0].any()
    for n in range(1, 6):
        own = snowman == n
        assert np.array_equal(lit & own, own & ~ndimage.binary_erosion(own))
    assert object_outlines(np.zeros((4, 4, 3)), np.ones((4, 4), int)).any(-1).sum() == 12  # along the image's edge


def test_renumbering_drops_small_objects():
    labels = np.array([[3, 3, 0, 9], [1, 1, 1, 9]])
    assert renumber(labels).tolist() == [[1, 1, 0, 2], [3, 3, 3, 2]]
    assert renumber(labels, 3).tolist() == [[0, 0, 0, 0], [1, 1, 1, 0]]
    few = np.minimum(labels, 8)
    assert limit_numbers(few) is few
    assert limit_numbers(labels).tolist() == renumber(labels).tolist()  # 9 is more than 8 pixels
