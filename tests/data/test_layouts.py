"""Layouts on disk, written into a temporary folder: what opens, what is refused, and how a set is split."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from minunet.data import LAYOUTS, ClassMap, image_set, open_dataset, read_names
from minunet.errors import UserError

RNG = np.random.default_rng(3)
SIZE = (20, 24)


def image(channels=1, dtype=np.uint8, size=SIZE):
    shape = size if channels == 1 else (*size, channels)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype)


def mask(values=(0, 255), dtype=np.uint8, size=SIZE):
    return RNG.choice(values, size).astype(dtype)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path, **options)
    return array


def folder(path, n=3, images="imgs", ending="png", suffix="", **of_mask):
    """A folder data set; returns its masks by name."""
    made = {}
    for i in range(n):
        save(path / images / f"{i}.{ending}", image())
        made[str(i)] = save(path / "masks" / f"{i}{suffix}.png", mask(**of_mask))
    return made


@pytest.mark.parametrize("images", ["imgs", "images"])
@pytest.mark.parametrize("suffix", ["", "_mask", "_masks"])
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "bmp"])
def test_two_folders(tmp_path, images, suffix, ending):
    made = folder(tmp_path, 12, images, ending, suffix)
    save(tmp_path / images / ".hidden.png", image())
    (tmp_path / images / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "masks" / ".DS_Store").write_bytes(b"x")
    ds = open_dataset(tmp_path)
    assert (ds.layout, len(ds), ds.channels, ds.classes.num_classes) == ("folder", 12, 1, 2)
    assert ds.names == [str(i) for i in range(12)] and ds.sizes == [SIZE] * 12  # 2 before 10
    for sample in ds:
        assert sample.image.shape == (*SIZE, 1) and sample.image.dtype == np.float32
        assert np.array_equal(sample.labels, made[sample.name] // 255) and sample.valid is None


@pytest.mark.parametrize("suffix", ["_mask", "_masks", "_cp_masks"])
def test_one_folder(tmp_path, suffix):
    for name in ("a2", "a10"):
        save(tmp_path / f"{name}.tif", image(dtype=np.uint16))
        made = save(tmp_path / f"{name}{suffix}.tif", mask((0, 1, 2)))
    ds = open_dataset(tmp_path)
    assert ds.names == ["a2", "a10"] and ds.classes.values == [0, 1, 2]
    assert np.array_equal(ds[1].labels, made)


def test_label_images_keep_their_instances(tmp_path):
    labels = np.kron(np.arange(12).reshape(3, 4) * 7, np.ones((6, 5), int)).astype(np.uint16)
    save(tmp_path / "a.tif", image(size=labels.shape))
    save(tmp_path / "a_masks.tif", labels)
    sample = open_dataset(tmp_path)[0]
    assert np.array_equal(sample.instances, labels) and sample.instances.dtype == np.int32
    assert np.array_equal(sample.labels, labels > 0)


def numbered(cells, size=(40, 48), side=6, gap=3):
    """A label image of so many square cells, numbered from 1."""
    labels = np.zeros(size, np.uint16)
    for i in range(cells):
        row, column = divmod(i, size[1] // (side + gap))
        labels[row * (side + gap) :, column * (side + gap) :][:side, :side] = i + 1
    return labels


@pytest.mark.parametrize(("cells", "dtype"), [((4, 3), np.uint16), ((12, 9, 15), np.uint8), ((5,), np.uint16)])
def test_few_objects_are_told_from_classes(tmp_path, cells, dtype):
    """Numbers that are one piece each, and differ from mask to mask: objects. In several pieces: classes."""
    for i, n in enumerate(cells):
        save(tmp_path / "a" / "images" / f"{i}.tif", image(size=(40, 48)))
        save(tmp_path / "a" / "masks" / f"{i}.tif", numbered(n).astype(dtype))
        save(tmp_path / "b" / "images" / f"{i}.tif", image(size=(40, 48)))
        save(tmp_path / "b" / "masks" / f"{i}.tif", np.where(numbered(20), numbered(20) % n + 1, 0).astype(dtype))
    ds = open_dataset(tmp_path / "a")
    assert ds.classes.rule == "instances" and [s.instances.max() for s in ds] == list(cells)
    assert open_dataset(tmp_path / "b").classes.values == list(range(max(cells) + 1))


def test_the_same_regions_in_every_mask_are_classes(tmp_path):
    """Organs, say: each is one piece, but all masks hold the same ones."""
    for i in range(3):
        save(tmp_path / f"{i}.tif", image(size=(40, 48)))
        save(tmp_path / f"{i}_mask.tif", numbered(4))
    assert open_dataset(tmp_path).classes.values == [0, 1, 2, 3, 4]


def test_what_cellpose_leaves(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}_img.png", image(size=(40, 48)))
        save(tmp_path / f"{name}_cp_masks.tif", numbered(20 if name == "a" else 17))
        save(tmp_path / f"{name}_img_flows.tif", image(size=(40, 48)))
        (tmp_path / f"{name}_seg.npy").write_bytes(b"x")
    ds = open_dataset(tmp_path)
    assert ds.names == ["a", "b"] and ds.classes.rule == "instances" and ds[1].instances.max() == 17
    save(tmp_path / "a.png", image(size=(40, 48)))
    refuse(tmp_path, r"a\.png.*a_img\.png share a name")


@pytest.mark.parametrize(("kinds", "channels"), [((1, "L", "grey"), 1), ((1, "RGB"), 3), (("grey", "RGBA"), 3)])
def test_channels_are_found_and_may_be_mixed(tmp_path, kinds, channels):
    for i, kind in enumerate(kinds):
        grey = image()
        raw = {1: grey, "L": np.dstack([grey, grey]), "grey": np.dstack([grey] * 3), "RGB": image(3), "RGBA": image(4)}
        save(tmp_path / "imgs" / f"{i}.png", raw[kind])
        save(tmp_path / "masks" / f"{i}.png", mask())
    ds = open_dataset(tmp_path)
    assert ds.channels == channels and {s.image.shape for s in ds} == {(*SIZE, channels)}
    assert open_dataset(tmp_path, channels=4 - channels)[0].image.shape == (*SIZE, 4 - channels)


def test_scale_and_settings(tmp_path):
    folder(tmp_path)
    ds = open_dataset(tmp_path, scale=0.5, normalise="range")
    assert ds.sizes == [(10, 12)] * 3
    assert ds[0].image.shape == (10, 12, 1) and ds[0].labels.shape == (10, 12) and ds[0].image.max() <= 1
    for wrong in ({"scale": 0}, {"normalise": "zscore"}, {"layout": "coco"}, {"channels": 5}):
        with pytest.raises(UserError):
            open_dataset(tmp_path, **wrong)


def test_masks_are_read_once_and_samples_kept(tmp_path, monkeypatch):
    folder(tmp_path)
    ds = open_dataset(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    free = ds._free
    assert ds[0] is ds[0] and ds[-3] is ds[0]
    assert ds._free == free + 20 * 24 * (1 - 1 - 4)  # the mask made room for labels and image
    with pytest.raises(IndexError):
        ds[3]


def test_a_full_memory_only_costs_time(tmp_path, monkeypatch):
    monkeypatch.setattr(image_set, "MEMORY", 0)
    made = folder(tmp_path)
    ds = open_dataset(tmp_path)
    assert ds[0] is not ds[0] and np.array_equal(ds[0].labels, made["0"] // 255)


@pytest.mark.parametrize("inner", ["stage1_train", ""])
def test_dsb2018(tmp_path, inner):
    for name, size in (("b1", SIZE), ("b0", (16, 30))):
        save(tmp_path / inner / name / "images" / f"{name}.png", np.dstack([image(size=size)] * 3 + [image(size=size)]))
        first, second = np.zeros((2, *size), np.uint8)
        first[2:5, 3:9], second[4:8, 8:12] = 255, 255  # one pixel in both
        save(tmp_path / inner / name / "masks" / "mask1.png", first)
        save(tmp_path / inner / name / "masks" / "0f.png", second)
    save(tmp_path / inner / "__MACOSX" / "b0" / "._b0.png", image())
    ds = open_dataset(tmp_path)
    assert (ds.layout, ds.names, ds.sizes) == ("dsb2018", ["b0", "b1"], [(16, 30), SIZE])
    assert ds.channels == 1 and ds.classes.names == ["background", "nucleus"] and not ds.ordered
    assert ds[0].instances[5, 9] == 1 and ds[0].instances[2, 3] == 2 and ds[0].instances[4, 8] == 2
    assert np.array_equal(ds[1].labels, ds[1].instances > 0)


@pytest.mark.parametrize("place", [".", "train", "membrane/train", "data/membrane/train"])
@pytest.mark.parametrize("images", ["image", "imgs"])
def test_isbi2012_sections(tmp_path, place, images):
    for i in range(11):
        save(tmp_path / place / images / f"{i}.png", image())
        made = save(tmp_path / place / "label" / f"{i}.png", mask())
    ds = open_dataset(tmp_path)
    assert (ds.layout, ds.names[-1], ds.classes.names) == ("isbi2012", "10", ["membrane", "cell"])
    assert np.array_equal(ds[10].labels, made // 255)
    assert ds.split(20) == (list(range(9)), [9, 10])  # a block, since neighbours are alike


def test_isbi2012_stacks(tmp_path):
    volume, labels = image(size=(4, *SIZE)), mask(size=(4, *SIZE))
    tifffile.imwrite(tmp_path / "train-volume.tif", volume, photometric="minisblack")
    tifffile.imwrite(tmp_path / "train-labels.tif", labels, photometric="minisblack")
    ds = open_dataset(tmp_path)
    assert (ds.layout, ds.names) == ("isbi2012", ["0", "1", "2", "3"])
    assert np.array_equal(ds[2].labels, labels[2] // 255)
    assert np.corrcoef(ds[2].image.ravel(), volume[2].ravel())[0, 1] > 0.999
    labels[2] = 255
    labels[2, 10], labels[2, :10, 7] = 0, 0  # two membranes: three cells
    tifffile.imwrite(tmp_path / "train-labels.tif", labels, photometric="minisblack")
    cells = open_dataset(tmp_path)[2].instances
    assert len({cells[0, 0], cells[0, -1], cells[-1, 0]}) == 3 and np.array_equal(cells > 0, labels[2] > 0)
    tifffile.imwrite(tmp_path / "train-labels.tif", labels[:3], photometric="minisblack")
    with pytest.raises(UserError, match=r"4 pages.*3"):
        open_dataset(tmp_path)


# ---- what is refused -------------------------------------------------------------------------------------------------


def refuse(path, pattern, **options):
    with pytest.raises(UserError, match=pattern) as caught:
        open_dataset(path, **options)
    assert "\n" not in str(caught.value)


def test_images_and_masks_must_pair(tmp_path):
    folder(tmp_path, 6)
    for i in range(4):
        (tmp_path / "masks" / f"{i}.png").unlink()
    save(tmp_path / "masks" / "stranger.png", mask())
    refuse(tmp_path, r"4 images without a mask \(0.png, 1.png, 2.png and 1 more\) and 1 masks .*stranger.png")


def test_doubles(tmp_path):
    folder(tmp_path)
    save(tmp_path / "masks" / "1_mask.png", mask())
    refuse(tmp_path, r"1\.png has two masks")
    save(tmp_path / "imgs" / "2.tif", image())
    refuse(tmp_path, r"2\.png.*2\.tif.*share a name|2\.tif.*2\.png.*share a name")


def test_sizes_must_agree(tmp_path):
    folder(tmp_path)
    save(tmp_path / "masks" / "1.png", mask(size=(24, 20)))
    refuse(tmp_path, r"masks/1\.png is 20x24 .*imgs/1\.png is 24x20")
    save(tmp_path / "dsb/x/images/x.png", image())
    save(tmp_path / "dsb/x/masks/m.png", mask(size=(9, 9)))
    refuse(tmp_path / "dsb", r"m\.png is 9x9 .*x\.png is 24x20")


def test_incomplete_layouts(tmp_path):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "masks").mkdir()
    refuse(tmp_path, "no images")
    save(tmp_path / "dsb/x/images/x.png", image())
    refuse(tmp_path / "dsb", r"without a folder masks/ \(x\)")
    save(tmp_path / "isbi/image/0.png", image())
    save(tmp_path / "isbi/label/1.png", mask())
    refuse(tmp_path / "isbi", r"stand alone: .*0\.png.*1\.png")


def test_what_is_no_data_set(tmp_path):
    refuse(tmp_path / "gone", "gone: no such folder")
    (tmp_path / "notes.txt").write_text("x")
    refuse(tmp_path / "notes.txt", r"notes\.txt: is a file")
    refuse(tmp_path, r"notes\.txt.*dsb2018.*isbi2012.*folder")
    for layout in LAYOUTS:
        refuse(tmp_path, str(tmp_path), layout=layout)


def test_damaged_files_and_unexpected_values_are_found_on_opening(tmp_path):
    folder(tmp_path)
    save(tmp_path / "masks" / "1.png", mask((0, 7)))
    refuse(tmp_path, r"masks/1\.png: mask value 7", classes=ClassMap.binary())
    (tmp_path / "masks" / "2.png").write_text("oops")
    refuse(tmp_path, r"masks/2\.png: not an image")
    folder(tmp_path)
    (tmp_path / "imgs" / "0.png").write_bytes(b"")
    refuse(tmp_path, r"imgs/0\.png: the file is empty")


# ---- the report ------------------------------------------------------------------------------------------------------


def test_report(tmp_path):
    folder(tmp_path, 5, values=(0, 1))
    save(tmp_path / "imgs" / "0.png", image(3))
    text = open_dataset(tmp_path).describe()
    for part in ("folder layout", "images      5: all 24x20", "3 to the network", "4 of 8-bit grey, 1 of 8-bit RGB"):
        assert part in text
    assert "0 -> background, 1 -> foreground" in text and "warning" not in text


@pytest.mark.parametrize("classes", [None, ClassMap.binary()])
def test_no_foreground_is_a_warning(tmp_path, classes):
    folder(tmp_path, values=(0,))
    ds = open_dataset(tmp_path, classes=classes)
    assert len(ds.warnings) == 1 and "no foreground" in ds.warnings[0] and "no foreground" in ds.describe()
    assert ds.foreground == 0 and not ds[0].labels.any()


@pytest.mark.parametrize("classes", [None, ClassMap.binary()])
def test_foregrounds_share(tmp_path, classes):
    made = folder(tmp_path)
    ds = open_dataset(tmp_path, classes=classes)
    assert ds.foreground == np.mean([m > 0 for m in made.values()]) and not ds.warnings


def test_jpeg_masks_are_noticed(tmp_path):
    for i in range(2):
        save(tmp_path / "imgs" / f"{i}.png", image(size=(84, 84)))
        blocks = np.kron(mask(size=(4, 4)), np.ones((21, 21), np.uint8))  # JPEG's own blocks are 8 pixels wide
        save(tmp_path / "masks" / f"{i}.jpg", blocks, quality=60)
    ds = open_dataset(tmp_path)
    assert ds.classes.rule == "threshold" and "JPEG" in ds.warnings[0]
    assert (ds[1].labels == blocks // 255).mean() > 0.97


# ---- the split -------------------------------------------------------------------------------------------------------


def test_split_by_percent(tmp_path):
    folder(tmp_path, 10)
    ds = open_dataset(tmp_path)
    train, held = ds.split(30, seed=4)
    assert len(held) == 3 and sorted(train + held) == list(range(10)) and (train, held) == ds.split(30, seed=4)
    assert len({tuple(ds.split(30, seed=s)[1]) for s in range(8)}) > 4
    assert len(ds.split(0.1)[1]) == 1 and len(ds.split(99.9)[0]) == 1
    assert ds.split(0) == (list(range(10)), [])  # trains on all
    for percent in (-3, 100):
        with pytest.raises(UserError, match="percent"):
            ds.split(percent)


def test_split_by_names(tmp_path):
    folder(tmp_path, 5)
    ds = open_dataset(tmp_path)
    (tmp_path / "val.txt").write_text("# held out\n\n3\n  imgs/1.png \nC:\\data\\0.tif\n3\n", encoding="utf-8-sig")
    assert ds.split(names=read_names(tmp_path / "val.txt")) == ([2, 4], [0, 1, 3])
    with pytest.raises(UserError, match=r"'9', 'x\.png'; the images are called 0, 1, 2 and 2 more"):
        ds.split(names=["9", "1", "x.png"])
    with pytest.raises(UserError, match="left to train"):
        ds.split(names=ds.names)
    (tmp_path / "val.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match=r"val\.txt: lists no names"):
        read_names(tmp_path / "val.txt")
    with pytest.raises(UserError, match=r"gone\.txt"):
        read_names(tmp_path / "gone.txt")


def test_one_image_cannot_be_split(tmp_path):
    folder(tmp_path, 1)
    with pytest.raises(UserError, match="two are needed"):
        open_dataset(tmp_path).split()
