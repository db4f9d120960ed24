"""What the values of masks stand for: classes, objects, or a foreground with noise; what does not count; palettes."""

import numpy as np
import pytest
import scipy
from PIL import Image

import minunet
from minunet.data import ClassMap, open_dataset
from minunet.data.arrays import ArraySet
from minunet.data.mask_kinds import find_classes
from minunet.data.mask_noise import is_nearly_binary
from minunet.data.mask_scan import MaskScan, find_regions, ignored_values
from minunet.errors import UserError
from minunet.evaluate import evaluate


def read(*masks, kind="auto", ignore=(), wanted=None):
    scan = MaskScan(ignore)
    for i, mask in enumerate(masks):
        scan.add(mask, f"{i}.png")
    return find_classes(scan, kind, wanted)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)


def folder(path, masks):
    for i, mask in enumerate(masks):
        size = mask.size[::-1] if isinstance(mask, Image.Image) else mask.shape[:2]
        save(path / "imgs" / f"{i}.png", np.random.default_rng(i).integers(0, 255, size).astype(np.uint8))
        save(path / "masks" / f"{i}.png", mask)
    return path


def ellipses(seed, count, size=(120, 120), numbers=None, fixed=None, dtype=np.uint8):
    """Ellipses apart from each other in cells of a grid: of random size and place, or both by `fixed`, another seed."""
    place, own = np.random.default_rng(seed if fixed is None else fixed), np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(len(numbers) if numbers else count)))
    step = size[0] // side
    cells = place.permutation(side * side)
    mask = np.zeros(size, dtype)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for k in range(count):
        number = numbers[k] if numbers else k + 1
        row, column = divmod(int(cells[(number - 1) % len(cells) if fixed is not None else k]), side)
        a, b = (
            place.uniform(0.2, 0.48, 2) * step
            if fixed is None
            else (0.2 + 0.28 * (number * 0.381 % 1)) * step * np.ones(2)
        )
        row, column = (row + 0.5) * step + own.uniform(-1, 1), (column + 0.5) * step + own.uniform(-1, 1)
        mask[((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 < 1] = number
    return mask


# ---- classes or objects ----------------------------------------------------------------------------------------------


def test_cells_that_are_numbered_from_1_are_objects_and_the_report_says_so(tmp_path):
    masks = [ellipses(i, n) for i, n in enumerate((2, 6, 4, 5))]
    data = open_dataset(folder(tmp_path, masks))
    assert data.classes.rule == "instances" and [s.instances.max() for s in data] == [2, 6, 4, 5]
    assert "--masks classes" in data.warnings[0] and "read as     objects" in data.describe()
    other = open_dataset(tmp_path, masks="classes")
    assert other.classes.values == list(range(7)) and other[1].instances is None
    assert np.array_equal(other[1].labels, masks[1])
    assert open_dataset(tmp_path, masks="binary")[1].labels.sum() == np.count_nonzero(masks[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_organs_in_one_piece_each_are_classes(dtype):
    """Ten organs; some are missing in some images; each has its own size and place."""
    present = [[n for n in range(1, 11) if (n * 7 + i) % 6 or n == 10] for i in range(6)]
    masks = [
        ellipses(i, len(p), numbers=p + [10] * (10 - len(p)), fixed=99, dtype=dtype) for i, p in enumerate(present)
    ]
    if dtype == np.uint8:
        found = read(*masks)
        assert found.classes.num_classes == 11 and "--masks objects" in found.notices[0]
    else:  # over 8 bits usually hold object numbers: nobody can tell
        with pytest.raises(UserError, match="--masks classes or --masks objects"):
            read(*masks)
    assert read(*masks, kind="objects").classes.rule == "instances"


def test_seventy_classes_in_pieces_are_classes():
    rng = np.random.default_rng(4)
    masks = [np.kron(rng.permutation(np.resize(np.arange(90), 400)).reshape(20, 20), np.ones((5, 5))) for _ in range(3)]
    found = read(*[m.astype(np.uint8) for m in masks])
    assert found.classes.num_classes == 90 and found.classes.rule == "exact" and "pieces" in found.why


def test_what_may_be_either_stops_and_asks(tmp_path):
    masks = [ellipses(i, 2) for i in range(4)]  # two classes, or mother and daughter
    with pytest.raises(UserError, match=r"--masks classes or --masks objects"):
        open_dataset(folder(tmp_path, masks))
    assert open_dataset(tmp_path, masks="objects").classes.rule == "instances"
    assert read(*masks, wanted="objects").classes.rule == "instances"
    assert read(*masks, wanted="classes").classes.num_classes == 3
    images = [np.zeros((*m.shape, 1), np.uint8) + m[..., None] for m in masks]
    with pytest.raises(UserError, match="--masks"):
        minunet.fit(images, masks, epochs=1)
    assert ArraySet(images, masks, masks_are="objects").classes.rule == "instances"
    with pytest.raises(UserError, match="'cells' is unknown"):
        open_dataset(tmp_path, masks="cells")


def test_many_numbers_are_objects_without_a_question():
    found = read(ellipses(1, 120, size=(240, 240)), ellipses(2, 100, size=(240, 240)))
    assert found.classes.rule == "instances" and not found.notices and "--masks classes" in found.why


def test_objects_by_colour():
    """An object a colour, as some programs draw them."""
    colours = np.random.default_rng(0).integers(40, 256, (300, 3)).astype(np.uint8)
    masks = [ellipses(i, 80, size=(200, 200)).astype(int) + 90 * i for i in range(3)]
    shown = [np.where((m > 90 * i)[..., None], colours[m % 300], np.uint8(0)) for i, m in enumerate(masks)]
    data = ArraySet([np.zeros((200, 200), np.uint8)] * 3, shown)
    assert data.classes.rule == "instances" and len(np.unique(data[0].instances)) == 81


def test_regions_are_counted_by_value():
    mask = np.array([[1, 1, 0, 2, 0], [0, 0, 0, 2, 0], [1, 1, 0, 3, 3], [1, 1, 0, 0, 0]])
    found = find_regions(mask)
    assert found.values.tolist() == [1, 2, 3] and found.pieces.tolist() == [2, 1, 1]
    assert np.allclose(found.area * mask.size, [6, 2, 2]) and np.isclose(found.row[1], 0.5 / 4)
    crumbs = np.zeros((20, 20), int)
    crumbs[:10], crumbs[15, 15] = 1, 1
    assert find_regions(crumbs).pieces.tolist() == [1]  # a stray pixel is no piece


# ---- a foreground with noise -----------------------------------------------------------------------------------------


def disc(size=80, top=255):
    rows, columns = np.mgrid[:size, :size]
    return np.where((rows - size / 2) ** 2 + (columns - size / 3) ** 2 < (size / 4) ** 2, top, 0)


def smoothed(top, dtype):
    return np.rint(scipy.ndimage.gaussian_filter(disc(top=top).astype(float), 1.2)).astype(dtype)


def off_by_one():
    return np.where(np.random.default_rng(3).random((80, 80)) < 0.3, disc() * 254 // 255, disc()).astype(np.uint8)


NOISY = {
    "off by one": off_by_one(), "smoothed": smoothed(255, np.uint8), "of 16 bits": smoothed(65535, np.uint16),
    "enlarged": np.asarray(Image.fromarray(disc(40).astype(np.uint8)).resize((80, 80), Image.Resampling.BILINEAR)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOISY)
def test_nearly_binary_masks_are_two_classes_wherever_they_are_read(tmp_path, name):
    mask = NOISY[name]
    found = read(mask, mask)
    half = (int(mask.max()) + 1) // 2
    assert found.classes.rule == "threshold" and found.classes.threshold == half and "nearly binary" in found.notices[0]
    assert np.array_equal(found.classes.encode(mask), mask >= half)
    again = ClassMap.from_json(found.classes.to_json(), "a file")
    assert again == found.classes
    for i in range(2):
        save(tmp_path / "truth" / f"{i}.png", mask)
        save(tmp_path / "pred" / f"{i}.png", np.where(mask >= half, 255, 0).astype(np.uint8))
    scores = evaluate(tmp_path / "pred", tmp_path / "truth")
    assert scores.pooled["true_objects"] == 2 and scores.pooled["dice"] == 1 and "nearly binary" in scores.notes[0]
    assert evaluate(tmp_path / "pred", tmp_path / "truth", classes=True).pooled["dice_foreground"] == 1
    assert open_dataset(folder(tmp_path / "data", [mask, mask])).classes.rule == "threshold"


def test_areas_between_black_and_white_are_no_noise():
    grey = np.kron(np.array([[0, 255, 128], [128, 0, 255]]), np.ones((9, 9))).astype(np.uint8)
    assert read(grey, grey).classes.values == [0, 128, 255]
    numbered = ellipses(5, 60, size=(240, 240))
    assert not is_nearly_binary(*counted(numbered))


def counted(mask):
    scan = MaskScan()
    scan.add(mask, "a")
    return scan.pixels(), scan.flat


def test_classes_with_noise_are_refused_with_the_flags_that_help():
    clean = np.kron(np.random.default_rng(1).integers(0, 3, (9, 9)), np.ones((8, 8))) * 100
    noisy = np.clip(clean + np.rint(np.random.default_rng(2).normal(0, 2, clean.shape)), 0, 255).astype(np.uint8)
    with pytest.raises(UserError, match=r"noise.*PNG|soft mask"):
        read(noisy)
    soft = np.rint(255 * np.exp(-((np.indices((70, 70)) - 35) ** 2).sum(0) / 500)).astype(np.uint8)
    with pytest.raises(UserError, match=r"soft mask.*--masks binary"):
        read(soft)
    assert read(soft, kind="binary").classes.threshold == 128


# ---- what does not count ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("void", "dtype"), [(255, np.uint8), (-1, np.int32), (65535, np.uint16)])
def test_ignored_values_count_nowhere(void, dtype):
    mask = np.kron(np.array([[0, 1, 2, 0], [2, 0, 1, 1]]), np.ones((8, 8))).astype(dtype)
    mask[:3] = void
    image = np.zeros(mask.shape, np.uint8)
    data = ArraySet([image] * 2, [mask] * 2, ignore=[void])
    assert data.classes.values == [0, 1, 2] and data.classes.ignore == [void]
    assert np.array_equal(data[0].valid, mask != void) and data[0].labels[:3].max() == 0
    assert np.array_equal(data[0].labels[3:], mask[3:])
    stored = ClassMap.from_json(data.preprocessing.to_json()["classes"], "a file")
    assert np.array_equal(stored.counting(mask), mask != void) and str(void) in stored.describe()
    if void > 0:
        assert f"--ignore {void}" in " ".join(read(mask).notices)
    else:
        with pytest.raises(UserError, match="--ignore -1"):
            read(mask)


def test_the_loss_and_the_scores_leave_ignored_pixels_out(tmp_path):
    """Whatever lies under the ignored value, training does not see it; evaluation neither."""
    masks = [np.where(disc(48) > 0, np.uint8(1), np.uint8(0)) for _ in range(4)]
    images = [
        np.random.default_rng(i).integers(0, 99, (48, 48)).astype(np.uint8) + 120 * m for i, m in enumerate(masks)
    ]
    for m in masks:
        m[:10] = 255
    tiny = minunet.models.UNetOptions(base_width=2, depth=1)
    one = minunet.fit(images, masks, epochs=1, crop=0, model=tiny, ignore=[255], augment=False)
    flipped = [m.copy() for m in masks]
    data = ArraySet(images, flipped, ignore=[255])
    two = minunet.fit(data, epochs=1, crop=0, model=tiny, augment=False)
    assert one.history[0]["train_loss"] == two.history[0]["train_loss"]
    assert one.model.preprocessing.classes.num_classes == 2
    save(tmp_path / "truth/a.png", masks[0])
    save(
        tmp_path / "pred/a.png", np.where(masks[0] == 255, 1, masks[0]).astype(np.uint8)
    )  # wrong only where it does not count
    for mode in (True, False):
        found = evaluate(tmp_path / "pred", tmp_path / "truth", classes=mode, ignore=[255], masks="auto")
        assert found.pooled["dice_foreground" if mode else "dice"] == 1


def test_values_to_ignore_are_checked():
    assert ignored_values([255, "-1", "224,224,192"]) == (255, -1, (224, 224, 192))
    for wrong in ("red", "1,2", "1,2,300", True):
        with pytest.raises(UserError, match="ignore"):
            ignored_values([wrong])


# ---- palettes --------------------------------------------------------------------------------------------------------


def indexed(numbers, colours):
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(np.array(colours, np.uint8).ravel().tolist())
    return image


COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)


def test_palettes_that_agree_keep_the_order_of_their_numbers(tmp_path):
    masks = [np.kron(np.random.default_rng(i).integers(0, 4, (6, 7)), np.ones((5, 5), int)) for i in range(3)]
    data = open_dataset(folder(tmp_path, [indexed(m, COLOURS) for m in masks]))
    assert data.classes.values == COLOURS.tolist() and all(np.array_equal(s.labels, m) for s, m in zip(data, masks))
    order = np.array([2, 0, 3, 1])  # the same pictures, stored in another way
    save(tmp_path / "masks/0.png", indexed(np.argsort(order)[masks[0]], COLOURS[order]))
    save(tmp_path / "masks/1.png", COLOURS[masks[1]])
    again = open_dataset(tmp_path, classes=data.classes)
    assert all(np.array_equal(s.labels, m) for s, m in zip(again, masks))
    mixed = open_dataset(tmp_path)
    assert mixed.classes.num_classes == 4 and "different orders" in " ".join(mixed.warnings)


def test_the_number_of_a_palette_is_ignored_by_its_colour(tmp_path):
    """As in Pascal VOC: numbers 0 to 20, and 255 of a cream colour around objects."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:4], colours[255] = COLOURS, (224, 224, 192)
    masks = [np.kron(np.random.default_rng(i).integers(0, 4, (6, 7)), np.ones((6, 6), int)) for i in range(3)]
    for m in masks:
        m[::6] = 255
    path = folder(tmp_path, [indexed(m, colours) for m in masks])
    assert "--ignore 255" in " ".join(open_dataset(path).warnings)
    data = open_dataset(path, ignore=[255])
    assert data.classes.values == COLOURS.tolist() and data.classes.ignore == [[224, 224, 192]]
    assert np.array_equal(data[0].valid, masks[0] != 255)


def test_one_bit_masks_go_with_others(tmp_path):
    on = disc(40) > 0
    folder(tmp_path, [np.where(on, np.uint8(255), np.uint8(0)), Image.fromarray(on)])
    data = open_dataset(tmp_path)
    assert data.classes.values == [0, 255] and np.array_equal(data[0].labels, data[1].labels) and data[1].labels.any()
    save(tmp_path / "masks/0.png", on.astype(np.uint8))
    data = open_dataset(tmp_path)
    assert data.classes.values == [0, 1] and np.array_equal(data[0].labels, data[1].labels)
