"""Layouts and annotations of other programs: what is read, what is left out and named, which split is given."""

import base64
import io
import json
import pickle
import unicodedata
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from minunet.data import open_dataset
from minunet.data.layouts.seg_npy import read_seg
from minunet.data.layouts.shapes import ellipse, polygon, run_lengths, unpack_counts
from minunet.errors import UserError

SIZE = (24, 30)
RNG = np.random.default_rng(11)


def grey(seed=0):
    return np.random.default_rng(seed).integers(0, 200, SIZE, np.uint8)


def box(top, left, height, width, value=255):
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + height, left : left + width] = value
    return mask


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pairs(path, names, images="images", masks="masks", ending=""):
    for i, name in enumerate(names):
        save(path / images / f"{name}.png", grey(i))
        save(path / masks / f"{name}{ending}.png", box(2 + i % 5, 3, 9, 8))
    return path


@pytest.mark.parametrize(("images", "masks", "ending"), [
    ("image", "label", "_segmentation"), ("Images", "labels", ""), ("img", "gt", "_gt"), ("imgs", "Mask", "-mask"),
    ("JPEGImages", "SegmentationClass", ""), ("image", "label", ""),
])  # fmt: skip
def test_other_names_of_folders_and_masks(tmp_path, images, masks, ending):
    data = open_dataset(pairs(tmp_path, ["p", "q"], images, masks, ending))
    assert data.layout == "folder" and data.names == ["p", "q"] and (data[1].labels == (box(3, 3, 9, 8) > 0)).all()


def test_own_classes_in_the_folders_of_isbi(tmp_path):
    for i in range(3):
        save(tmp_path / "image" / f"{i}.png", grey(i))
        save(tmp_path / "label" / f"{i}.png", box(2, 3, 9, 8, 1) + box(14, 3, 4, 8, 2))
    data = open_dataset(tmp_path)
    assert data.layout == "folder" and data.classes.num_classes == 3
    for i in range(3):
        save(tmp_path / "label" / f"{i}.png", 255 - box(0, 5, 24, 1))
    data = open_dataset(tmp_path)
    assert data.layout == "isbi2012" and "--layout folder takes them as any masks" in data.describe()
    assert open_dataset(tmp_path, "folder").layout == "folder"


def test_folders_below_are_read_and_other_files_named(tmp_path):
    pairs(tmp_path, ["a", "p1/a", "p2/b"])
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "images" / "raw.czi").write_bytes(b"x")
    (tmp_path / "masks" / "notes.txt").write_text("x")
    save(tmp_path / "more" / "c.png", grey())
    data = open_dataset(tmp_path)
    assert data.names == ["a", "p1/a", "p2/b"]
    told = data.describe()
    for text in ("1 of formats that are not read (raw.czi); export", "1 files that are no images (Thumbs.db)",
                 "among the masks 1 files that are no images (notes.txt)", "1 images outside of images/ (c.png)"):  # fmt: skip
        assert f"left out    {text}" in told
    (tmp_path / "masks" / "p1" / "a.png").rename(tmp_path / "masks" / "p1" / "z.png")
    with pytest.raises(UserError, match=r"1 images without a mask \(a\.png\) and 1 masks without an image \(z\.png\)"):
        open_dataset(tmp_path)


def test_a_zarr_among_the_images_is_one_thing_that_is_left_out(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    pairs(tmp_path, ["a", "b"])
    zarr.create_array(str(tmp_path / "images" / "film.zarr"), shape=(20, 30), dtype="u1")[...] = 1
    data = open_dataset(tmp_path)
    assert data.names == ["a", "b"]
    assert data.left_out == ["1 zarr images (film.zarr), which predict reads; export them as TIFF"]


def test_a_layout_one_folder_below_is_pointed_at(tmp_path):
    """As nnU-Net's raw folder holds Dataset001_Cells/imagesTr."""
    pairs(tmp_path / "Dataset001_Cells", ["a", "b"])
    with pytest.raises(UserError, match="Dataset001_Cells below it has one: give that path"):
        open_dataset(tmp_path)


def test_names_composed_and_decomposed_are_the_same(tmp_path):
    for i, name in enumerate(("zellen_ü", "crème")):
        save(tmp_path / "images" / f"{unicodedata.normalize('NFC', name)}.png", grey(i))
        save(tmp_path / "masks" / f"{unicodedata.normalize('NFD', name)}.png", box(2, 3, 4, 5))
    assert open_dataset(tmp_path).names == [unicodedata.normalize("NFC", n) for n in ("crème", "zellen_ü")]


def test_a_given_division_is_kept(tmp_path):
    pairs(tmp_path / "train", ["a", "b", "c"])
    pairs(tmp_path / "val", ["d", "e"])
    pairs(tmp_path / "test", ["f"])
    data = open_dataset(tmp_path)
    assert data.names == ["train/a", "train/b", "train/c", "val/d", "val/e"]
    assert (
        data.split() == ([0, 1, 2], [3, 4]) and len(data.split(40)[1]) == 2 and data.split(names=["train/a"])[1] == [0]
    )
    assert (
        "left out    test/, which is for testing" in data.describe()
        and "the data set holds val/ out" in data.describe()
    )


def test_a_division_inside_of_images_and_masks(tmp_path):
    data = open_dataset(pairs(tmp_path, ["train/a", "train/b", "valid/a", "test/c"]))
    assert data.names == ["train/a", "train/b", "valid/a"] and data.split() == ([0, 1], [2])
    assert "1 images in test/, which is for testing (c.png)" in data.describe()


def test_stardist_has_no_validation(tmp_path):
    for part in ("train", "test"):
        for i in range(4):
            save(tmp_path / part / "images" / f"{i}.png", grey(i))
            (tmp_path / part / "masks").mkdir(exist_ok=True)
            numbers = sum(box(7 * (k // 4), 7 * (k % 4), 5, 5, k + 1 + i).astype(np.uint16) for k in range(12))
            tifffile.imwrite(tmp_path / part / "masks" / f"{i}.tif", numbers)
    data = open_dataset(tmp_path)
    assert len(data) == 4 and data.classes.rule == "instances" and data.held_out is None and len(data.split()[1]) == 1


def test_nnunet(tmp_path):
    for case in ("k_001", "k_002"):
        for channel in range(2):
            save(tmp_path / "imagesTr" / f"{case}_{channel:04}.png", grey(channel))
        save(tmp_path / "labelsTr" / f"{case}.png", box(2, 3, 9, 8, 1) + box(14, 3, 4, 8, 2) + box(20, 20, 3, 3, 3))
    save(tmp_path / "imagesTs" / "k_003_0000.png", grey())
    labels = {"background": 0, "cell": 1, "membrane": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "a", "1": "b"}, "labels": labels}))
    data = open_dataset(tmp_path)
    assert (data.layout, data.names, data.channels) == ("nnunet", ["k_001", "k_002"], 2)
    assert data.classes.names == ["background", "cell", "membrane"] and data[0].image.shape == (*SIZE, 2)
    assert (~data[0].valid == (box(20, 20, 3, 3) > 0)).all() and data[0].labels[15, 4] == 2
    assert "imagesTs/, which is for testing" in data.describe()
    (tmp_path / "imagesTr" / "k_002_0001.png").unlink()
    with pytest.raises(UserError, match=r"1 cases lack channels that others have \(k_002\)"):
        open_dataset(tmp_path)


def test_masks_as_arrays(tmp_path):
    for i in range(2):
        for part, array in (("images", grey(i)), ("masks", box(2, 3, 9, 8, 1))):
            (tmp_path / part).mkdir(exist_ok=True)
            np.save(tmp_path / part / f"{i}.npy", array)
    assert (open_dataset(tmp_path)[0].labels == box(2, 3, 9, 8, 1)).all()


# ---- annotations -----------------------------------------------------------------------------------------------------


def test_cellpose(tmp_path):
    numbers = (box(2, 3, 9, 8, 1) + box(14, 3, 4, 8, 2)).astype(np.uint16)
    for i in range(2):
        save(tmp_path / f"{i}.png", grey(i))
        content = {
            "masks": numbers,
            "outlines": numbers * 0,
            "filename": "x",
            "est_diam": np.float64(3),
            "flows": [np.zeros(3)],
        }
        np.save(tmp_path / f"{i}_seg.npy", content, allow_pickle=True)
    data = open_dataset(tmp_path)
    assert data.names == ["0", "1"] and data.classes.rule == "instances" and (data[1].instances == numbers).all()
    assert (data[0].labels == (numbers > 0)).all()


def test_a_seg_file_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    np.save(tmp_path / "a.npy", np.array({"masks": Evil()}, object), allow_pickle=True)
    with pytest.raises(UserError, match=r"builtins\.exec, which was not run"):
        read_seg(tmp_path / "a.npy")
    assert not (tmp_path / "ran").exists()
    np.save(tmp_path / "b.npy", np.array({"masks": np.array([{}], object)}, object), allow_pickle=True)
    head = (tmp_path / "b.npy").read_bytes()
    for data in (head, head[:-9], b"\x93NUMPY", pickle.dumps(3)):
        (tmp_path / "b.npy").write_bytes(data)
        with pytest.raises(UserError, match=r"b\.npy"):
            read_seg(tmp_path / "b.npy")


def labelme(shapes):
    return json.dumps({"version": "5", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes})


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


def test_labelme(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3), 1, np.uint8)).save(buffer, "PNG")
    shapes = [
        shape("cell", [[3, 2], [11, 2], [11, 11], [3, 11]], group_id=4),
        shape("cell", [[20, 2], [24, 6]], "rectangle", group_id=4),
        shape("debris", [[15.0, 18.0], [18.0, 18.0]], "circle"), shape("debris", [[1, 1]], "point"),
        shape("__ignore__", [[24, 20], [30, 24]], "rectangle"),
        shape("cell", [[2, 20], [5, 22]], "mask", mask=base64.b64encode(buffer.getvalue()).decode()),
    ]  # fmt: skip
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", grey())
        (tmp_path / f"{name}.json").write_text(labelme(shapes if name == "a" else shapes[:1]))
    data = open_dataset(tmp_path)
    assert data.names == ["a", "b"] and data.classes.names == ["background", "cell", "debris"]
    a = data[0]
    both = (box(2, 3, 9, 8) + box(2, 20, 4, 4)) > 0
    assert (
        (a.labels == 1).sum() == both.sum() + 6
        and (a.labels[both] == 1).all()
        and len(np.unique(a.instances[both])) == 1
    )
    assert (
        (a.labels[20:22, 2:5] == 1).all()
        and a.labels[18, 15] == 2
        and (a.labels == 2).sum() == ellipse(12, 15, 6, 6, SIZE).sum()
    )
    assert (~a.valid == (box(20, 24, 4, 6) > 0)).all() and data[1].valid is None
    assert "1 outlines without an area (1 point)" in data.describe()
    (tmp_path / "a.json").write_text(labelme([shape("cell", "here")]))
    with pytest.raises(UserError, match=r"a\.json: a shape of kind polygon is damaged"):
        open_dataset(tmp_path)


def test_rois_of_imagej_come_back(tmp_path):
    """Outlines that predict --rois writes give the objects that they were drawn around."""
    from minunet.predict.instance_files import add_rois, new_rois, object_polygons

    numbers = (box(2, 3, 9, 8, 1) + box(14, 3, 4, 8, 2) + box(4, 20, 6, 2, 3)).astype(np.int32)
    boxes = np.array([[3, 2, 11, 11], [3, 14, 11, 18], [20, 4, 22, 10]])
    for i in range(2):
        save(tmp_path / "images" / f"{i}.png", grey(i))
        (tmp_path / "masks").mkdir(exist_ok=True)
        with new_rois(tmp_path / "masks" / f"{i}_rois.zip") as archive:
            add_rois(archive, object_polygons(numbers, boxes, 99))
    data = open_dataset(tmp_path)
    assert data.names == ["0", "1"] and (data[1].instances == numbers).all() and (data[0].labels == (numbers > 0)).all()
    with zipfile.ZipFile(tmp_path / "masks" / "1_rois.zip", "w") as archive:
        archive.writestr("a.roi", b"nothing")
    with pytest.raises(UserError, match=r"1_rois\.zip: no ROIs of ImageJ"):
        open_dataset(tmp_path)


def coco(images, annotations, names=("cell",)):
    return json.dumps({
        "images": [{"id": i, "file_name": n, "height": SIZE[0], "width": SIZE[1]} for i, n in enumerate(images)],
        "categories": [{"id": 10 + k, "name": n} for k, n in enumerate(names)] + [{"id": 99, "name": "unused"}],
        "annotations": [{"id": k, **a} for k, a in enumerate(annotations)],
    })  # fmt: skip


def runs(mask):
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]]).astype(int)))
    return {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], ends])).tolist()}


def test_coco(tmp_path):
    for i in range(3):
        save(tmp_path / "train" / f"{i}.png", grey(i))
    save(tmp_path / "val" / "0.png", grey(5))
    square = {
        "category_id": 10,
        "iscrowd": 0,
        "segmentation": [[3, 2, 11, 2, 11, 11, 3, 11], [20, 2, 24, 2, 24, 6, 20, 6]],
    }
    inner = {"category_id": 11, "iscrowd": 0, "segmentation": [[5, 4, 7, 4, 7, 6, 5, 6]]}
    crowd = {"category_id": 10, "iscrowd": 1, "segmentation": runs(box(20, 24, 4, 6) > 0)}
    train = [
        {**inner, "image_id": 0},
        {**square, "image_id": 0},
        {**crowd, "image_id": 1},
        {**square, "image_id": 1, "segmentation": []},
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(
        coco(["0.png", "1.png", "2.png"], train, ("cell", "core"))
    )
    (tmp_path / "annotations" / "instances_val2017.json").write_text(
        coco(["0.png"], [{**square, "image_id": 0}], ("cell", "core"))
    )
    data = open_dataset(tmp_path)
    assert (
        data.layout == "coco"
        and data.names == ["train/0", "train/1", "train/2", "val/0"]
        and data.split() == ([0, 1, 2], [3])
    )
    assert data.classes.names == ["background", "cell", "core"]
    assert data[0].labels[5, 6] == 2 and data[0].labels[3, 4] == 1 and data[0].instances.max() == 2
    assert (data[0].labels > 0).sum() == 9 * 8 + 16
    assert (~data[1].valid == (box(20, 24, 4, 6) > 0)).all() and not data[2].labels.any()
    told = data.describe()
    assert (
        "1 images have no annotation, and show nothing" in told
        and "1 annotations without an outline are left out" in told
    )
    (tmp_path / "train" / "2.png").unlink()
    with pytest.raises(UserError, match=r"1 of its images are not below .* \(2\.png\)"):
        open_dataset(tmp_path)


def test_roboflow_has_a_file_in_every_part(tmp_path):
    for part in ("train", "valid"):
        for i in range(2):
            save(tmp_path / part / f"{part}{i}.jpg", grey(i))
        one = {"category_id": 10, "image_id": 0, "segmentation": [[3, 2, 11, 2, 11, 11, 3, 11]]}
        (tmp_path / part / "_annotations.coco.json").write_text(
            coco([f"{part}0.jpg", f"{part}1.jpg"], [one, {**one, "image_id": 1}])
        )
    data = open_dataset(tmp_path)
    assert data.names == ["train/train0", "train/train1", "valid/valid0", "valid/valid1"] and data.split() == (
        [0, 1],
        [2, 3],
    )
    assert data.classes.rule == "instances" and data.classes.names[1] == "cell" and data[0].instances.max() == 1


def test_run_lengths():
    mask = RNG.random(SIZE) > 0.5
    assert (run_lengths(runs(mask), SIZE, "a") == mask).all()
    assert unpack_counts("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]  # an example of COCO's own code
    for counts in ([5], "~~", [-1, 721], None):
        with pytest.raises(UserError, match="a: "):
            run_lengths({"size": list(SIZE), "counts": counts}, SIZE, "a")


def test_outlines_take_pixels_by_their_middles():
    assert (polygon([(3, 2), (11, 2), (11, 11), (3, 11)], SIZE) == (box(2, 3, 9, 8) > 0)).all()
    assert (polygon([(3.4, 2.4), (11.4, 2.4), (11.4, 11.4), (3.4, 11.4)], SIZE) == (box(2, 3, 9, 8) > 0)).all()
    assert not polygon([(1, 1), (5, 5)], SIZE).any() and not polygon([(np.nan, 1), (5, 5), (2, 9)], SIZE).any()
    y, x = np.mgrid[:24, :30] + 0.5
    assert (ellipse(4, 3, 12, 8, SIZE) == (((x - 10) / 6) ** 2 + ((y - 7) / 4) ** 2 <= 1)).all()


def test_annotations_are_truth_in_evaluate(tmp_path):
    """Images with annotations beside them are no label images."""
    from minunet.evaluate import evaluate

    numbers = (box(2, 3, 9, 8, 1) + box(14, 3, 4, 8, 2)).astype(np.uint16)
    for name in ("a", "b"):
        save(tmp_path / "seg" / f"{name}.png", grey())
        np.save(tmp_path / "seg" / f"{name}_seg.npy", {"masks": numbers}, allow_pickle=True)
        save(tmp_path / "coco" / f"{name}.png", grey())
        (tmp_path / "pred").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "pred" / f"{name}_labels.tif", numbers)
    square = {"category_id": 10, "segmentation": [[3, 2, 11, 2, 11, 11, 3, 11]]}
    other = {"category_id": 10, "segmentation": [[3, 14, 11, 14, 11, 18, 3, 18]]}
    (tmp_path / "coco" / "all.json").write_text(
        coco(["a.png", "b.png"], [{**shape, "image_id": i} for i in range(2) for shape in (square, other)])
    )
    for truth in ("seg", "coco"):
        assert evaluate(tmp_path / "pred", tmp_path / truth).mean["mean_precision"] == 1
