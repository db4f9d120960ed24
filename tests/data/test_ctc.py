"""The Cell Tracking Challenge's layout: LZW, 12 bits on an offset, numbers with gaps, and truth that is partial."""

import csv

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet.data import Batches, open_dataset, read_image, read_mask
from minunet.errors import UserError
from minunet.evaluate import main as evaluate
from minunet.predict.command import main as predict
from minunet.predict.inference import probabilities
from minunet.train.command import main as train

SIZE = (48, 60)
CENTRES = {3: (10, 12), 17: (12, 44), 200: (34, 14), 411: (36, 40)}  # cells by number: neither dense nor in order
GOLD = (3, 411)  # those that people outlined where gold is partial


def discs(numbers, radius=7, shift=0):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    made = np.zeros(SIZE, np.uint16)
    for n in numbers:
        row, column = CENTRES[n]
        made[(y - row) ** 2 + (x - column - shift) ** 2 <= radius**2] = n
    return made


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compression="tiff_lzw")
    return array


def frame(cells, rng):
    """12-bit light on an offset of 32768: cells brighter than the ground by 300 of 65536."""
    return (32768 + 300 + 300 * (cells > 0) + rng.integers(0, 80, SIZE)).astype(np.uint16)


def write(path, sequences=("01", "02"), frames=4, gold=(1,), silver=True, markers=True, digits=3):
    """A data set whose frames all show the four cells, moving; gold frames outline two of them."""
    rng = np.random.default_rng(0)
    for s in sequences:
        for t in range(frames):
            n = f"{t:0{digits}}"
            cells = discs(CENTRES, shift=t)
            save(path / s / f"t{n}.tif", frame(cells, rng))
            if silver:
                save(path / f"{s}_ST" / "SEG" / f"man_seg{n}.tif", discs(CENTRES, 6, t))
            if markers:
                save(path / f"{s}_GT" / "TRA" / f"man_track{n}.tif", discs(CENTRES, 2, t))
            if t in gold:
                save(path / f"{s}_GT" / "SEG" / f"man_seg{n}.tif", discs(GOLD, 7, t))
    return path


@pytest.mark.parametrize("digits", [3, 4])
def test_silver_stands_in_where_gold_is_partial(tmp_path, digits):
    ds = open_dataset(write(tmp_path, digits=digits))
    n = "t" + "0" * (digits - 1)
    assert ds.layout == "ctc" and ds.names == [f"{s}/{n}{t}" for s in ("01", "02") for t in range(4)]
    assert (ds.channels, ds.classes.names, ds.ordered) == (1, ["background", "cell"], True)
    for i, sample in enumerate(ds):
        assert np.array_equal(sample.instances, discs(CENTRES, 6, i % 4)) and sample.instances.dtype == np.int32
        assert np.array_equal(sample.labels, sample.instances > 0) and sample.valid is None
    assert "8 frames by silver truth" in ds.describe() and "ignored" not in ds.describe()


def test_gold_is_taken_where_it_is_complete(tmp_path):
    write(tmp_path)
    whole = save(tmp_path / "02_GT/SEG/man_seg002.tif", discs(CENTRES, 7, 2))
    ds = open_dataset(tmp_path)
    assert np.array_equal(ds[6].instances, whole) and ds[6].valid is None
    assert "1 frames by gold truth and 7 frames by silver truth" in ds.describe()
    assert len(open_dataset(tmp_path, truth="silver")) == 8 and len(open_dataset(tmp_path, truth="gold")) == 3


def test_cells_that_only_silver_outlines_do_not_count(tmp_path):
    ds = open_dataset(write(tmp_path, markers=False), truth="gold")
    assert ds.names == ["01/t001", "02/t001"]
    sample = ds[0]
    assert np.array_equal(sample.instances, discs(GOLD, 7, 1))
    assert np.array_equal(~sample.valid, discs(set(CENTRES) - set(GOLD), 6, 1) > 0)
    share = 100 * (~sample.valid).mean()
    assert f"{share:.2g} % of the pixels" in ds.describe() and "6 without are left out" in ds.describe()
    assert ds.foreground == pytest.approx((sample.instances > 0).sum() / sample.valid.sum())


def test_gold_cells_that_silver_lacks_do_not_count_either(tmp_path):
    write(tmp_path, markers=False)
    lacking = {3, 17}  # silver has not found these, of which gold has 3
    save(tmp_path / "01_ST/SEG/man_seg001.tif", discs(set(CENTRES) - lacking, 6, 1))
    sample = open_dataset(tmp_path, truth="silver")[1]
    assert np.array_equal(~sample.valid, discs([3], 7, 1) > 0)


def test_a_cell_that_only_its_marker_shows(tmp_path):
    """What is nearer to its marker than to any other does not count, unless it is labelled."""
    ds = open_dataset(write(tmp_path, silver=False), truth="gold")
    markers, gold = discs(CENTRES, 2, 1), discs(GOLD, 7, 1)
    points = np.argwhere(markers)
    pixels = np.argwhere(np.ones(SIZE, bool))
    distances = np.sqrt(((pixels[:, None] - points) ** 2).sum(-1))
    lacking = ~np.isin(markers[tuple(points.T)], GOLD)
    to_lacking, to_labelled = distances[:, lacking].min(1).reshape(SIZE), distances[:, ~lacking].min(1).reshape(SIZE)
    sample = ds[0]
    clear = np.abs(to_lacking - to_labelled) > 1e-9  # not on the line between two
    assert np.array_equal(sample.valid[clear], ((gold > 0) | (to_lacking > to_labelled))[clear])
    assert 0.3 < sample.valid.mean() < 0.8 and sample.valid[sample.labels > 0].all()


def test_a_marker_within_a_silver_outline_adds_nothing(tmp_path):
    sample = open_dataset(write(tmp_path), truth="gold")[0]
    assert np.array_equal(~sample.valid, discs(set(CENTRES) - set(GOLD), 6, 1) > 0)


def test_gold_of_which_nothing_is_known(tmp_path):
    write(tmp_path, silver=False, markers=False)
    with pytest.raises(UserError, match=r"only some of a frame's cells.*--truth-kind complete"):
        open_dataset(tmp_path)
    sample = open_dataset(tmp_path, truth="complete")[0]
    assert sample.valid is None and np.array_equal(sample.instances, discs(GOLD, 7, 1))
    save(tmp_path / "02_ST/SEG/man_seg001.tif", discs(CENTRES, 6, 1))
    first, second = open_dataset(tmp_path)
    assert np.array_equal(first.valid, first.labels > 0) and second.valid is None


def test_large_numbers(tmp_path):
    """The cells' numbers may be as large as their type allows."""
    write(tmp_path, ["01"])
    save(tmp_path / "01_ST/SEG/man_seg000.tif", np.where(discs(CENTRES), 65535, 0).astype(np.uint16))
    assert open_dataset(tmp_path)[0].instances.max() == 65535


def test_light_on_an_offset_keeps_its_contrast(tmp_path):
    sample = open_dataset(write(tmp_path))[0]
    inside, outside = (sample.image[..., 0][sample.labels == k].mean() for k in (1, 0))
    assert inside - outside > 0.5
    flat = open_dataset(tmp_path, normalise="range")[0]
    assert flat.image.std() < 0.01  # what dividing by the type's largest value leaves


@pytest.mark.parametrize("without", [False, True])
def test_lzw_with_and_without_imagecodecs(tmp_path, monkeypatch, without):
    written = save(tmp_path / "a.tif", frame(discs(CENTRES), np.random.default_rng(1)))
    if without:
        import tifffile

        def missing(*args, **kwargs):
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    else:
        pytest.importorskip("imagecodecs")
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.uint16 and np.array_equal(image[..., 0], written)


# ---- the split -------------------------------------------------------------------------------------------------------


def test_validation_is_a_block_or_a_sequence(tmp_path):
    ds = open_dataset(write(tmp_path))
    assert ds.split(25) == (list(range(6)), [6, 7])
    for name in ("02", "02/", f"{tmp_path}/02"):
        assert ds.split(names=[name]) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert ds.split(names=["01/t001", f"{tmp_path}/02/t000.tif"])[1] == [1, 4]
    with pytest.raises(UserError, match="no image is called '03'"):
        ds.split(names=["03"])


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_what_is_refused(tmp_path):
    def refuse(path, pattern, **options):
        with pytest.raises(UserError, match=pattern) as caught:
            open_dataset(path, **options)
        assert "\n" not in str(caught.value)

    path = write(tmp_path / "a", ["01"])
    refuse(path, "truth: 'bronze'", truth="bronze")
    save(path / "01_GT/SEG/man_seg009.tif", discs(GOLD))
    refuse(path, r"man_seg009\.tif.*no frame")
    path = write(tmp_path / "b", ["01"])
    save(path / "01/t0001.tif", frame(discs(GOLD), np.random.default_rng(0)))
    refuse(path, r"same frame")
    path = write(tmp_path / "c", ["01"])
    save(path / "01_ST/SEG/man_seg001.tif", np.zeros((10, 10), np.uint16))
    refuse(path, r"man_seg001\.tif is 10x10 .*t001\.tif is 60x48")
    path = write(tmp_path / "d", ["01"], gold=())
    refuse(path, "no frame has gold truth", truth="gold")
    (tmp_path / "e" / "imgs").mkdir(parents=True)
    (tmp_path / "e" / "masks").mkdir()
    for kind in ("imgs", "masks"):
        save(tmp_path / "e" / kind / "x.tif", np.zeros((9, 9), np.uint8))
    refuse(tmp_path / "e", "truth: 'gold' is for the layout ctc", truth="gold")


# ---- from end to end -------------------------------------------------------------------------------------------------


def test_labels_that_do_not_count_are_ignored_in_batches(tmp_path):
    ds = open_dataset(write(tmp_path), truth="gold")
    _, labels = Batches(ds, [0, 1], 2, augment=False).batch(0, 0)
    assert np.array_equal(labels[0] == -1, ~ds[0].valid) and np.array_equal(labels[0] == 1, ds[0].labels == 1)


def test_training_from_end_to_end_scores_what_counts(tmp_path):
    """Score and loss of a run are those over the pixels that count, and differ from those over all."""
    data, out = write(tmp_path / "data", frames=6, gold=range(6)), tmp_path / "run"
    save(data / "02_GT/SEG/man_seg000.tif", discs(CENTRES))  # counts everywhere: images do not weigh alike
    (tmp_path / "val.txt").write_text("02\n")
    flags = ["--base-width", "4", "--depth", "2", "--crop", "32", "-b", "4", "-e", "8", "-l", "0.02", "--no-augment"]
    flags += ["--loss", "ce", "--truth-kind", "gold", "--val-files", str(tmp_path / "val.txt"), "--out", str(out)]
    assert train(["--data", str(data), *flags]) == 0
    with open(out / "history.csv") as f:
        best = max(csv.DictReader(f), key=lambda row: float(row["val_dice"]))
    model, ds = minunet.load(out / "best.safetensors"), open_dataset(data, truth="gold")
    held = [sample for sample in ds if sample.name.startswith("02")]
    likely = np.stack([probabilities(model, read_image(data / f"{sample.name}.tif")) for sample in held])
    truth, found = np.stack([s.labels for s in held]), likely[..., 1] > 0.5
    log_p = np.log(np.where(truth == 1, likely[..., 1], likely[..., 0]))

    def dice(valid):
        return 2 * ((truth == 1) & found & valid).sum() / (((truth == 1) & valid).sum() + (found & valid).sum())

    everywhere = np.ones(truth.shape, bool)
    valid = np.stack([everywhere[0] if s.valid is None else s.valid for s in held])
    assert float(best["val_dice"]) == pytest.approx(dice(valid), abs=1e-4)
    assert float(best["val_loss"]) == pytest.approx(-log_p[valid].mean(), rel=1e-4)
    assert abs(dice(valid) - dice(everywhere)) > 0.02
    by_image = -np.mean([p[v].mean() for p, v in zip(log_p, valid)])
    assert abs(by_image + log_p[valid].mean()) > 1e-3 * by_image


@pytest.mark.slow
def test_from_training_to_the_challenges_score(tmp_path, capsys):
    """What the network finds in the second sequence is written, and scored against its gold truth as the challenge does."""
    data, run, out = write(tmp_path / "data", frames=3), tmp_path / "run", tmp_path / "found"
    (tmp_path / "val.txt").write_text("02\n")
    flags = ["--base-width", "4", "--depth", "2", "--crop", "32", "-b", "2", "-e", "40", "-l", "0.02", "--no-augment"]
    assert train(["--data", str(data), *flags, "--val-files", str(tmp_path / "val.txt"), "--out", str(run)]) == 0
    model = str(run / "best.safetensors")
    assert predict(["-m", model, "-i", str(data / "02"), "-o", str(out), "--instances", "--no-overlay"]) == 0
    found = [read_mask(out / f"t{t:03}_labels.tif") for t in range(3)]
    assert [labels.max() for labels in found] == [4, 4, 4]
    assert evaluate(["--pred", str(out), "--truth", str(data / "02_GT" / "SEG"), "--csv", str(tmp_path / "s.csv")]) == 0
    with open(tmp_path / "s.csv") as f:
        stated = float(next(csv.DictReader(f))["seg"])
    gold = discs(GOLD, 7, 1)
    scores = []
    for n in GOLD:
        overlap = np.bincount(found[1][gold == n], minlength=5)
        best = overlap[1:].argmax() + 1
        union = np.count_nonzero((gold == n) | (found[1] == best))
        scores.append(overlap[best] / union if 2 * overlap[best] > np.count_nonzero(gold == n) else 0)
    assert stated == pytest.approx(np.mean(scores), abs=1e-3) and stated > 0.6
