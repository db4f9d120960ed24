"""``predict --instances`` and ``python -m minunet.evaluate`` as a user meets them: files, names, reports, mistakes."""

import csv
import json
import os
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.data.classes import palette
from minunet.data.label_images import match_names
from minunet.data.rle import decode, read_submission
from minunet.evaluate import evaluate as run
from minunet.evaluate import main as evaluate
from minunet.models import UNetOptions, build
from minunet.predict import instances as objects
from minunet.predict.command import main as predict
from minunet.predict.instance_files import save_probabilities

truth = np.zeros((12, 16), np.uint16)
truth[1:6, 1:6], truth[1:6, 6:11], truth[8:11, 3:9] = 1, 2, 7
merged = np.where(truth == 2, 1, truth)


def save(path, labels):
    path.parent.mkdir(exist_ok=True, parents=True)
    tifffile.imwrite(path, labels) if path.suffix == ".tif" else Image.fromarray(labels).save(path)


def scores(path):
    with open(path) as f:
        return {row["image"]: row for row in csv.DictReader(f)}


def score(tmp_path, *flags, pred="pred", truth="truth"):
    """The rows of the CSV of a run that must succeed."""
    table = tmp_path / "scores.csv"
    assert (
        evaluate(["--pred", str(tmp_path / pred), "--truth", str(tmp_path / truth), "--csv", str(table), *flags]) == 0
    )
    return scores(table)


def refused(capsys, flags, *words):
    assert evaluate([str(f) for f in flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "Traceback" not in err and err.count("\n") == 1
    for word in words:
        assert str(word) in err


@pytest.fixture
def folders(tmp_path):
    """Two images of which the second is right, and the first merges two objects."""
    save(tmp_path / "truth" / "a_masks.tif", truth)
    save(tmp_path / "truth" / "b10_masks.tif", truth)
    save(tmp_path / "pred" / "a_labels.tif", merged)
    save(tmp_path / "pred" / "b10_labels.tif", truth)
    return tmp_path


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_scores_of_two_images(folders, capsys):
    rows = score(folders)
    said = capsys.readouterr().out
    a, b = rows["a"], rows["b10"]
    assert (a["true_objects"], a["predicted_objects"], a["merged"], a["split"]) == ("3", "2", "1", "0")
    assert float(a["dice"]) == 1 and float(a["pixel_error"]) == 0
    assert float(a["precision_50"]) == pytest.approx(1 / 4, abs=1e-5)  # of the pair with IoU 1/2 none is found
    assert float(a["seg"]) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3, abs=1e-5)
    assert float(b["mean_precision"]) == float(b["seg"]) == float(b["panoptic_quality"]) == 1
    assert "2 images, 6 true objects, 5 predicted" in said
    # pooled 4 / 7, the mean of images (1/4 + 1) / 2, which is the usual one
    line = next(line for line in said.splitlines() if line.startswith("precision at IoU 0.50"))
    assert line.split()[-2:] == ["0.5714", "0.6250*"]
    assert next(line for line in said.splitlines() if line.startswith("merged pairs")).split()[-2:] == ["1", "0.50"]


def test_masks_count_by_their_regions(tmp_path):
    """A 0/255 mask of touching objects is one region of them; one value in a label image is one object, in two pieces too."""
    save(tmp_path / "truth" / "a_labels.tif", np.where(truth > 1, 5, 0).astype(np.uint16))
    save(tmp_path / "pred" / "a_mask.png", np.where(truth > 0, 255, 0).astype(np.uint8))
    row = score(tmp_path)["a"]
    assert (row["true_objects"], row["predicted_objects"]) == ("1", "2")


def test_labels_are_preferred_and_pictures_ignored(folders):
    for name in ("a_mask.png", "a_overlay.png", "a_probabilities.tif", "a.png"):
        save(folders / "pred" / name, np.zeros((3, 3), np.uint8))
    assert set(score(folders)) == {"a", "b10"}


def test_stacks_are_scored_page_by_page(tmp_path):
    save(tmp_path / "truth" / "s.tif", np.stack([truth, truth]))
    save(tmp_path / "pred" / "s_labels.tif", np.stack([truth, merged]))
    rows = score(tmp_path)
    assert [rows[n]["merged"] for n in ("s_000", "s_001")] == ["0", "1"]
    (tmp_path / "pred" / "s_labels.tif").rename(tmp_path / "other.tif")  # one file against one file: in order
    rows = score(tmp_path, pred="other.tif", truth="truth/s.tif")
    assert [row["merged"] for row in rows.values()] == ["0", "1"]


def test_partly_annotated_truth(folders):
    """Only object 7 is outlined: what is found beside it is not invented."""
    save(folders / "truth" / "a_masks.tif", np.where(truth == 7, truth, 0))
    assert float(score(folders)["a"]["precision_50"]) == 1 / 2
    assert float(score(folders, "--partial")["a"]["precision_50"]) == 1


def test_empty_images(folders, capsys):
    save(folders / "truth" / "b10_masks.tif", truth * 0)
    save(folders / "pred" / "b10_labels.tif", truth * 0)
    row = score(folders)["b10"]
    assert (row["dice"], row["mean_precision"], row["seg"], row["adapted_rand_error"]) == ("1", "1", "", "")
    assert "nan" not in capsys.readouterr().out


def test_data_sets_are_truth(tmp_path):
    folder = tmp_path / "dsb" / "stage1_train" / "a1"
    save(folder / "images" / "a1.png", np.zeros((12, 16, 4), np.uint8))
    for n in (1, 2, 7):
        save(folder / "masks" / f"{n}.png", np.where(truth == n, 255, 0).astype(np.uint8))
    save(tmp_path / "pred" / "a1_labels.tif", truth)
    for flags in ([], ["--layout", "dsb2018"]):
        assert float(score(tmp_path, *flags, truth="dsb")["a1"]["mean_precision"]) == 1


def test_frames_of_the_cell_tracking_challenge(tmp_path):
    save(tmp_path / "01_GT" / "SEG" / "man_seg012.tif", truth)
    save(tmp_path / "pred" / "t012_labels.tif", merged)
    assert score(tmp_path, truth="01_GT/SEG")["t012"]["merged"] == "1"
    save(tmp_path / "01_RES" / "mask012.tif", truth)
    assert score(tmp_path, pred="01_RES", truth="01_GT/SEG")["t012"]["seg"] == "1"


def test_cells_that_gold_truth_lacks_are_not_invented(tmp_path):
    """Markers show three cells, gold truth outlines two: the third one's surroundings do not count."""
    save(tmp_path / "ctc" / "01" / "t000.tif", np.zeros(truth.shape, np.uint8))
    save(tmp_path / "ctc" / "01_GT" / "SEG" / "man_seg000.tif", np.where(truth < 7, truth, 0))
    save(tmp_path / "ctc" / "01_GT" / "TRA" / "man_track000.tif", truth)
    save(tmp_path / "pred" / "t000_labels.tif", truth)
    row = score(tmp_path, truth="ctc")["01/t000"]
    assert (row["true_objects"], row["predicted_objects"], row["precision_95"], row["pixel_error"]) == (
        "2",
        "2",
        "1",
        "0",
    )


def write_challenge(tmp_path, silver):
    """A frame with three cells, of which gold truth outlines one; and a prediction of all three."""
    save(tmp_path / "ctc" / "01" / "t000.tif", np.zeros(truth.shape, np.uint8))
    save(tmp_path / "ctc" / "01" / "t001.tif", np.zeros(truth.shape, np.uint8))
    save(tmp_path / "ctc" / "01_GT" / "SEG" / "man_seg000.tif", np.where(truth == 7, truth, 0))
    if silver:
        for n in (0, 1):
            save(tmp_path / "ctc" / "01_ST" / "SEG" / f"man_seg00{n}.tif", np.roll(truth, 1, 1))
    save(tmp_path / "pred" / "t000_labels.tif", truth)
    save(tmp_path / "pred" / "t001_labels.tif", truth)


def test_gold_truth_is_scored_unless_another_is_named(tmp_path, capsys):
    write_challenge(tmp_path, silver=True)
    rows = score(tmp_path, truth="ctc")
    assert rows.keys() == {"01/t000"} and rows["01/t000"]["seg"] == rows["01/t000"]["precision_95"] == "1"
    said = capsys.readouterr().out
    assert (
        "note: truth: 1 frames by gold truth, 1 without are left out" in said
        and "1 of 1 images are only partly" in said
    )
    assert rows == score(tmp_path, "--truth-kind", "gold", truth="ctc")
    silver = score(tmp_path, "--truth-kind", "silver", truth="ctc")
    assert silver.keys() == {"01/t000", "01/t001"} and 0.5 < float(silver["01/t000"]["seg"]) < 1
    assert "2 frames by silver truth" in capsys.readouterr().out
    assert float(score(tmp_path, "--truth-kind", "complete", truth="ctc")["01/t000"]["precision_50"]) == pytest.approx(
        1 / 3
    )
    assert silver == score(tmp_path, "--truth-kind", "auto", truth="ctc")


def test_gold_truth_of_which_nothing_is_known_is_scored_partly(tmp_path, capsys):
    write_challenge(tmp_path, silver=False)
    refused(capsys, ["--pred", tmp_path / "pred", "--truth", tmp_path / "ctc"], "--truth-kind complete", "--partial")
    assert score(tmp_path, "--partial", truth="ctc")["01/t000"]["precision_95"] == "1"
    refused(capsys, ["--pred", tmp_path / "pred", "--truth", tmp_path / "pred", "--truth-kind", "gold"], "leave it out")


@pytest.mark.parametrize("silver", [True, False])
def test_partial_truth_that_is_given_as_files_is_noticed(tmp_path, capsys, silver):
    """By the silver truth beside it, else by what was found: the cell that is outlined, and others where nothing is."""
    write_challenge(tmp_path, silver)
    row = score(tmp_path, truth="ctc/01_GT/SEG")["t000"]
    assert float(row["precision_50"]) == pytest.approx(1 / 3) and float(row["dice"]) < 0.6
    said = capsys.readouterr().out
    assert said.count("--partial") == 1 + silver and ("(01/t000) it outlines only some of the cells" in said) == silver
    assert score(tmp_path, "--partial", truth="ctc/01_GT/SEG")["t000"]["precision_50"] == "1"
    assert "note: in" not in capsys.readouterr().out
    assert json.loads(json.dumps(run(tmp_path / "pred", tmp_path / "ctc/01_GT/SEG").to_json()))["notes"]


def test_names_are_paired():
    assert match_names(["01/t0", "02/t1"], ["t1", "t0"])[0] == {"01/t0": "t0", "02/t1": "t1"}
    assert match_names(["01/t0", "02/t0"], ["01/t0", "02/t0", "x"]) == ({"01/t0": "01/t0", "02/t0": "02/t0"}, ["x"])
    with pytest.raises(minunet.UserError, match="t0 may be that of 01/t0 or 02/t0"):
        match_names(["01/t0", "02/t0"], ["t0"])


def test_a_function_first(folders, capsys):
    """It prints nothing; its report is what the command prints, and as JSON one object with null for no score."""
    save(folders / "truth" / "b10_masks.tif", truth * 0)
    save(folders / "pred" / "b10_labels.tif", truth * 0)
    save(folders / "pred" / "c_labels.tif", truth)
    found = minunet.evaluate.evaluate(folders / "pred", folders / "truth")
    assert capsys.readouterr() == ("", "") and found.left_out == ["c"] and list(found.images) == ["a", "b10"]
    assert found.mean["precision_50"] == pytest.approx((1 / 4 + 1) / 2) and found.pooled["merged"] == 1
    flags = ["--pred", str(folders / "pred"), "--truth", str(folders / "truth")]
    assert evaluate(flags) == 0
    assert str(found) in capsys.readouterr().out
    assert evaluate([*flags, "--json", "--csv", str(folders / "scores.csv")]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert err == "" and said == found.to_json() and said["images"]["b10"]["seg"] is None
    assert float(scores(folders / "scores.csv")["a"]["dice"]) == pytest.approx(said["images"]["a"]["dice"])
    assert evaluate([*flags[:2], "--submission", str(folders / "s.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["submission"]["objects"] == 5
    assert evaluate([*flags, "--quiet"]) == 0
    assert "note" not in capsys.readouterr().out
    with pytest.raises(minunet.UserError, match="--partial is of objects"):
        minunet.evaluate.evaluate(*flags[1::2], partial=True, classes=True)


# ---- submissions -----------------------------------------------------------------------------------------------------


def test_submission_holds_what_was_predicted(folders, capsys):
    path = folders / "sub.csv"
    assert evaluate(["--pred", str(folders / "pred"), "--submission", str(path)]) == 0
    assert "5 objects in 2 images" in capsys.readouterr().out
    images = read_submission(path)
    assert list(images) == ["a", "b10"]
    assert np.array_equal(decode(images["a"], truth.shape) > 0, merged > 0)
    assert [row["merged"] for row in score(folders, pred="sub.csv").values()] == ["1", "0"]  # and can be scored itself


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_formulas_or_no_utf_8(folders):
    """Scores escape what a spreadsheet would run; a submission, which Kaggle reads, does not; both are UTF-8."""
    for folder in ("pred", "truth"):
        for file in sorted((folders / folder).iterdir())[:1]:
            os.rename(file, os.fsencode(folders / folder) + b"/=m\xfc" + os.fsencode(file.suffix))
    assert "'=m\ufffd" in score(folders)
    assert evaluate(["--pred", str(folders / "pred"), "--submission", str(folders / "s.csv"), "-q"]) == 0
    assert "\n=m\ufffd," in (folders / "s.csv").read_text()


def test_bad_submissions(folders, capsys):
    path = folders / "sub.csv"
    path.write_text("ImageId,EncodedPixels\na,1 5\na,3 1\nb10,\n")
    refused(capsys, ["--pred", path, "--truth", folders / "truth"], "sub.csv", "a: object 2 overlaps")
    refused(capsys, ["--pred", path, "--submission", folders / "again.csv"], "sub.csv", "truth")
    path.write_text("Image\n")
    refused(capsys, ["--pred", path, "--truth", folders / "truth"], "ImageId, EncodedPixels")


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_missing_and_surplus_files(folders, capsys):
    save(folders / "pred" / "c_labels.tif", truth)
    score(folders)
    assert "note: 1 predictions are of no image with a truth, and are left out: c" in capsys.readouterr().out
    (folders / "pred" / "a_labels.tif").unlink()
    refused(capsys, ["--pred", folders / "pred", "--truth", folders / "truth"], "1 of 2 images have no prediction: a")
    (folders / "held.txt").write_text("images/b10.png\n")
    assert set(score(folders, "--val-files", str(folders / "held.txt"))) == {"b10"}
    (folders / "held.txt").write_text("z\n")
    refused(
        capsys, ["--pred", folders / "pred", "--truth", folders / "truth", "--val-files", folders / "held.txt"], "z"
    )


@pytest.mark.parametrize("labels, words", [
    (np.zeros((3, 3), np.uint8), "3x3 pixels, but the truth of that name is 16x12"),
    (np.eye(12, 16)[..., None].repeat(3, -1).astype(np.uint8) * [1, 2, 3], "in colour"),
    (-truth.astype(np.int16), "0 and above"),
    (truth.astype(np.float32) / 3, "fractions"),
])  # fmt: skip
def test_files_that_are_no_labels(folders, capsys, labels, words):
    save(folders / "pred" / "a_labels.tif", labels.astype(np.uint8) if labels.ndim == 3 else labels)
    refused(capsys, ["--pred", folders / "pred", "--truth", folders / "truth"], "a_labels.tif", words)


@pytest.mark.parametrize(
    "name, top, dtype",
    [("a.png", 255, np.uint8), ("a.png", 40, np.uint8), ("a.tif", 4000, np.uint16), ("a.jpg", 255, np.uint8),
     ("a_labels.png", 200, np.uint8), ("a_labels.tif", 60_000, np.uint16)],
)  # fmt: skip
@pytest.mark.parametrize("flags", [(), ("--classes",)])
def test_images_are_no_truth(tmp_path, capsys, name, top, dtype, flags):
    """Photographs of cells, whatever their depth, brightness and name."""
    image = minunet.data.SyntheticCells(1, size=64)[0].image[..., 0]
    save(tmp_path / "truth" / name, ((image - image.min()) / np.ptp(image) * top).astype(dtype))
    save(tmp_path / "pred" / "a_mask.png", np.zeros((64, 64), np.uint8))
    refused(capsys, ["--pred", tmp_path / "pred", "--truth", tmp_path / "truth", *flags], "truth")


def test_objects_of_one_pixel_are_truth(tmp_path):
    spots = np.zeros((48, 48), np.uint16)
    spots[::4, ::4] = 1 + np.arange(144).reshape(12, 12)
    save(tmp_path / "truth" / "a_labels.tif", spots)
    save(tmp_path / "pred" / "a_labels.tif", spots)
    assert float(score(tmp_path)["a"]["mean_precision"]) == 1


def test_wrong_flags(folders, capsys):
    refused(capsys, ["--pred", folders / "pred"], "--truth", "--submission")
    refused(capsys, ["--pred", folders / "none", "--truth", folders / "truth"], folders / "none")
    refused(capsys, ["--pred", folders / "pred", "--truth", folders / "none"], folders / "none")
    (folders / "empty").mkdir()
    refused(capsys, ["--pred", folders / "empty", "--truth", folders / "truth"], folders / "empty")
    save(folders / "pred" / "a_labels.png", truth)
    refused(capsys, ["--pred", folders / "pred", "--truth", folders / "truth"], "a_labels.png", "a_labels.tif")


def test_help_defines_every_score(capsys):
    with pytest.raises(SystemExit):
        evaluate(["--help"])
    said = capsys.readouterr().out
    for word in (
        "2 TP / (2 TP + FP + FN)",
        "TP / (TP + FP + FN)",
        "SEG",
        "PQ",
        "F = 2 * joint",
        "simple",
        "nothing was predicted",
        "pooled",
    ):
        assert word in said


# ---- prediction ------------------------------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path):
    """A network whose foreground is where an image is bright."""
    model = build(UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=1, norm=None))
    for p in model.named_params().values():
        p[...] = 0
    p = model.named_params()
    for name in ("encoder.0.conv1.w", "encoder.0.conv2.w"):
        p[name][1, 1, 0, 0] = 1
    decoder = next(n for n in p if n.startswith("decoder.0.conv1") and n.endswith(".w"))
    kept = p[decoder].shape[2]
    p[decoder][1, 1, :kept, 0] = 1
    p[decoder.replace("conv1", "conv2")][1, 1, 0, 0] = 1
    p["head.w"][0, 0, 0, 1], p["head.b"][1] = 40, -20
    model.preprocessing = Preprocessing(1, ClassMap.binary(), "range")
    save_checkpoint(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors"


def go(network, *flags):
    return predict(["-m", str(network), *map(str, flags)])


def test_predict_instances(network, tmp_path):
    image, out = np.where(truth > 0, 250, 10).astype(np.uint8), tmp_path / "out"
    save(tmp_path / "in" / "a.png", image)
    assert go(network, "-i", tmp_path / "in", "-o", out, "--rois", "--probabilities", "--min-size", "5") == 0
    ends = ("labels.tif", "objects.csv", "overlay.png", "mask.png", "rois.zip", "probabilities.tif")
    assert {p.name for p in out.iterdir()} == {f"a_{end}" for end in ends}
    labels = tifffile.imread(out / "a_labels.tif")
    assert labels.dtype == np.uint16 and np.array_equal(labels > 0, truth > 0)
    with open(out / "a_objects.csv") as f:
        rows = list(csv.DictReader(f))
    assert [int(r["object"]) for r in rows] == list(range(1, labels.max() + 1))
    assert sum(int(r["area_px"]) for r in rows) == (truth > 0).sum() and float(rows[0]["mean_intensity"]) == 250
    assert len(zipfile.ZipFile(out / "a_rois.zip").namelist()) == labels.max()
    p = tifffile.imread(out / "a_probabilities.tif")
    assert p.shape == (2, *truth.shape) and np.array_equal(p[1] > 0.5, labels > 0)
    picture = np.asarray(Image.open(out / "a_overlay.png"))
    assert picture.shape == (*truth.shape, 3) and np.ptp(picture, axis=-1)[labels == 0].max() == 0
    model = minunet.load(network)
    assert np.array_equal(minunet.segment_objects(model, image, min_size=5), labels)
    # what was written is not taken for images the next time
    assert go(network, "-i", out, "-n") == 2


def test_predict_instances_of_a_stack(network, tmp_path):
    pages = np.stack([np.where(truth > 0, 250, 10), np.full_like(truth, 10)]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack")
    assert go(network, "-i", tmp_path / "s.tif", "-o", tmp_path / "out", "--instances", "--probabilities") == 0
    assert tifffile.imread(tmp_path / "out" / "s_labels.tif").shape == pages.shape
    assert tifffile.imread(tmp_path / "out" / "s_probabilities.tif").shape == (2, 2, 12, 16)
    with open(tmp_path / "out" / "s_objects.csv") as f:
        assert {row["page"] for row in csv.DictReader(f)} == {"1"}
    assert (tmp_path / "out" / "s_overlay_001.png").exists()


def test_true_labels_are_not_overwritten(network, tmp_path, capsys):
    save(tmp_path / "a.png", np.zeros((12, 16), np.uint8))
    save(tmp_path / "a_labels.tif", truth)
    assert go(network, "-i", tmp_path / "a.png", "-o", tmp_path, "--instances") == 2
    assert "a_labels.tif" in capsys.readouterr().err
    assert np.array_equal(tifffile.imread(tmp_path / "a_labels.tif"), truth)
    assert not (tmp_path / "a_mask.png").exists()


def test_the_networks_target_is_followed(network):
    model = minunet.load(network)
    assert objects.target_of(model) == "classes" and objects.output_names(model) == ["background", "foreground"]
    model.preprocessing = replace(model.preprocessing, target="border")
    assert objects.output_names(model) == ["background", "inside", "border"]


# ---- classes ---------------------------------------------------------------------------------------------------------

# two images of 8 pixels: counts of the truth's classes (rows) by the predicted ones, by hand
#   a: 0 0 0 1 1 2 2 2 as 0 0 1 1 2 2 2 0      b: 0 0 0 0 0 0 1 1 as 0 0 0 0 0 0 1 0; of class 2 there is nothing
IN_A, AS_A = [[0, 0, 0, 1], [1, 2, 2, 2]], [[0, 0, 1, 1], [2, 2, 2, 0]]
IN_B, AS_B = [[0, 0, 0, 0], [0, 0, 1, 1]], [[0, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("shown", ["values", "colours"])
def test_scores_of_three_classes(tmp_path, capsys, shown):
    values = np.array([0, 5, 9], np.uint8)
    shade = values if shown == "values" else palette(3)  # as predict writes classes
    for name, truth, predicted in (("a", IN_A, AS_A), ("b", IN_B, AS_B)):
        save(tmp_path / "truth" / f"{name}.png", values[np.array(truth)])
        save(tmp_path / "pred" / f"{name}_mask.png", shade[np.array(predicted)])
    rows = score(tmp_path, "--classes")
    said = capsys.readouterr().out
    in_a = {"dice_class 0": 4 / 6, "dice_class 1": 2 / 4, "dice_class 2": 4 / 6,
            "iou_class 0": 2 / 4, "iou_class 1": 1 / 3, "iou_class 2": 2 / 4,
            "dice_foreground": (1 / 2 + 2 / 3) / 2, "iou_foreground": (1 / 3 + 1 / 2) / 2, "accuracy": 5 / 8}  # fmt: skip
    assert {k: float(v) for k, v in rows["a"].items() if k != "image"} == pytest.approx(in_a, abs=1e-5)
    assert rows["b"]["dice_class 2"] == rows["b"]["iou_class 2"] == ""  # neither there nor predicted
    assert float(rows["b"]["dice_foreground"]) == pytest.approx(2 / 3, abs=1e-5)
    table = {line.split("  ")[0]: line.split()[-4:] for line in said.splitlines()}
    # pooled: class 0 TP 8 FP 2 FN 1, class 1 TP 2 FP 1 FN 2, class 2 TP 2 FP 1 FN 1
    assert table["class 0"] == ["0.8421", f"{(4 / 6 + 12 / 13) / 2:.4f}", "0.7273", f"{(2 / 4 + 6 / 7) / 2:.4f}"]
    assert table["class 1"] == ["0.5714", f"{(1 / 2 + 2 / 3) / 2:.4f}", "0.4000", f"{(1 / 3 + 1 / 2) / 2:.4f}"]
    assert table["class 2"] == ["0.6667", "0.6667", "0.5000", "0.5000"]  # of image a alone
    assert table["foreground"][0] == f"{(4 / 7 + 2 / 3) / 2:.4f}"
    assert "accuracy 0.7500, mean of images 0.7500" in said


def test_nothing_to_find_in_any_class(tmp_path, capsys):
    save(tmp_path / "truth" / "a.png", np.array(IN_A, np.uint8))
    save(tmp_path / "pred" / "a_mask.png", np.array(IN_A, np.uint8))
    for name in ("truth/b.png", "pred/b_mask.png"):
        save(tmp_path / name, np.zeros((4, 4), np.uint8))
    row = score(tmp_path, "--classes")["b"]
    assert row["dice_foreground"] == row["accuracy"] == "1" and row["dice_class 1"] == ""


def test_classes_of_a_data_set(tmp_path, capsys):
    """What training and prediction call the classes, evaluation does too; what does not fit is said."""
    for name, labels in (("a", IN_A), ("b", IN_B)):
        save(tmp_path / "data/imgs" / f"{name}.png", 60 * np.array(labels, np.uint8))
        save(tmp_path / "data/masks" / f"{name}.png", np.array(labels, np.uint8))
        save(tmp_path / "pred" / f"{name}_mask.png", palette(3)[np.array(labels)])
    row = score(tmp_path, "--classes", truth="data")["a"]
    found = minunet.evaluate.evaluate(tmp_path / "pred", tmp_path / "data", classes=True)
    assert (
        found.to_json()["scored"] == "classes" and found.mean["dice_foreground"] == 1 and found.classes.num_classes == 3
    )
    assert row["dice_foreground"] == row["iou_class 2"] == "1"
    flags = ["--pred", tmp_path / "pred", "--truth", tmp_path / "data", "--classes"]
    refused(capsys, [*flags, "--submission", tmp_path / "s.csv"], "--submission", "leave out --classes")
    save(tmp_path / "pred/b_mask.png", np.full((2, 4), 77, np.uint8))
    refused(capsys, flags, "b", "77", "none of the classes")
    save(tmp_path / "pred/b_mask.png", np.zeros((5, 4), np.uint8))
    refused(capsys, flags, "4x5", "4x2")
    save(tmp_path / "cells/a.tif", np.kron(np.arange(100).reshape(10, 10), np.ones((2, 2))).astype(np.uint16))
    save(tmp_path / "one/a_mask.png", np.zeros((20, 20), np.uint8))
    refused(capsys, ["--pred", tmp_path / "one", "--truth", tmp_path / "cells", "--classes"], "number objects")


# ---- the threshold of the ISBI challenge ------------------------------------------------------------------------------


def sections(tmp_path):
    """Three sections of two cells; at 0.5 a gap in the membrane merges them, at 0.7 it is closed, at 0.9 a part is lost."""
    cells = np.zeros((20, 40), np.uint8)
    cells[2:18, 2:19] = cells[2:18, 21:38] = 255
    p = np.where(cells, 0.92, 0.05)
    p[8:10, 19:21] = 0.58  # the gap
    p[2:18, 2:8] = 0.75  # a part
    (tmp_path / "pred").mkdir()
    for name in "abc":
        save(tmp_path / "data" / "imgs" / f"{name}.png", cells)
        save(tmp_path / "data" / "masks" / f"{name}.png", cells)
        save_probabilities(
            tmp_path / "pred" / f"{name}_probabilities.tif", [np.stack([1 - p, p], -1)], ["membrane", "cell"]
        )
        save(tmp_path / "pred" / f"{name}_mask.png", np.where(p > 0.5, 255, 0).astype(np.uint8))
    (tmp_path / "choose.txt").write_text("a\nb\n")
    return tmp_path


def test_adapted_rand_at_the_threshold_that_is_best_on_others(tmp_path, capsys):
    flags = ["--choose-threshold", str(sections(tmp_path) / "choose.txt")]
    rows = score(tmp_path, *flags, truth="data")
    assert (
        rows.keys() == {"c"} and float(rows["c"]["adapted_rand_error"]) > 0.3
    )  # the usual score stays that of the masks
    said = capsys.readouterr().out
    assert (
        f"{float(rows['c']['adapted_rand_error']):.4f} at 0.50, 0.0000 at 0.60, which is best on 2 other images" in said
    )
    assert "none" not in said.splitlines()[-1] and "left out" not in said
    assert evaluate(["--pred", str(tmp_path / "pred"), "--truth", str(tmp_path / "data"), *flags, "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)["chosen"]
    assert chosen["threshold"] == 0.6 and chosen["images"] == 2 and chosen["error"] == chosen["error_there"] == 0
    assert chosen["error_at_half"] == pytest.approx(float(rows["c"]["adapted_rand_error"]), abs=1e-5)


def test_what_choosing_a_threshold_needs(tmp_path, capsys):
    choose = sections(tmp_path) / "choose.txt"
    flags = ["--pred", tmp_path / "pred", "--truth", tmp_path / "data", "--choose-threshold", choose]
    refused(capsys, [*flags, "--val-files", choose], "a is among the images that are scored")
    (tmp_path / "pred" / "b_probabilities.tif").unlink()
    refused(capsys, flags, "b_probabilities.tif", "predict these images with --probabilities")
    refused(capsys, [*flags, "--classes"], "--choose-threshold is of objects")
