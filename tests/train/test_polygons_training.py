"""Networks of star-convex polygons, from the command line and from Python: trained, resumed, predicted, scored, exported."""

import csv
import json

import numpy as np
import pytest
from helpers.datasets import make_data, make_objects
from helpers.training import go, refused, same_run, stop_after
from PIL import Image
from roifile import roiread

import minunet
from minunet.evaluate import evaluate
from minunet.export import main as export
from minunet.look.command import main as look
from minunet.models import UNet
from minunet.predict.command import main as predict
from minunet.train.arguments import parse
from minunet.train.command import main as train
from minunet.train.config import TrainingConfig
from minunet.train.fit import network_for
from minunet.train.heads import begin_with_circles
from minunet.train.network import suited_to_target
from minunet.train.step import TrainingStep

STARS = ["--target", "stardist", "--rays", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on touching cells that has learnt a little, and its data."""
    folder = tmp_path_factory.mktemp("stars")
    data = make_objects(folder / "data", 8)
    more = ["--arch", "unet", "--base-width", "4", "--crop", "32", "-b", "1", "-e", "20", "-l", "0.01", "-v", "25"]
    assert go(data, folder / "run", *STARS, *more) == 0
    return data, folder / "run"


@pytest.mark.slow
def test_what_a_run_learns_and_stores(run, capsys):
    _, folder = run
    model = minunet.load(folder / "best.safetensors")
    known = model.preprocessing
    assert known.rays.count == 8 and 5 < known.rays.unit < 15 and model.architecture.num_classes == 9
    with open(folder / "history.csv") as f:
        dice = [float(row["val_dice"]) for row in csv.DictReader(f)]
    assert max(dice) > 0.6 and known.separation is not None
    assert 'target = "stardist"' in (folder / "config.toml").read_text()


@pytest.mark.slow
def test_objects_are_predicted_written_and_scored(run, tmp_path, capsys):
    data, folder = run
    flags = ["-m", str(folder / "best.safetensors"), "-i", str(data / "imgs"), "--rois", "--probabilities"]
    assert predict([*flags, "-o", str(tmp_path / "out"), "--mask-threshold", "0.1"]) == 0  # it has not learnt much
    scores = evaluate(tmp_path / "out", data / "masks")
    assert len(scores.images) == 8 and scores.pooled["predicted_objects"] > 8 and scores.pooled["dice"] > 0.5
    labels = minunet.data.read_image(tmp_path / "out" / "0_labels.tif")[..., 0]
    mask = np.asarray(Image.open(tmp_path / "out" / "0_mask.png"))
    np.testing.assert_array_equal(mask > 0, labels > 0)
    assert len(roiread(tmp_path / "out" / "0_rois.zip")) == labels.max()
    assert minunet.data.read_image(tmp_path / "out" / "0_probabilities.tif").shape == (64, 64, 1)
    image = np.asarray(Image.open(data / "imgs" / "0.png"))
    model = minunet.load(folder / "best.safetensors")
    np.testing.assert_array_equal(minunet.segment_objects(model, image, threshold=0.1), labels)
    np.testing.assert_array_equal(minunet.segment(model, image, threshold=0.1), mask // 255)
    assert predict([*flags, "-o", str(tmp_path / "strict"), "--mask-threshold", "1"]) == 0
    assert not minunet.data.read_image(tmp_path / "strict" / "0_labels.tif").any()
    assert predict([*flags, "-o", str(tmp_path / "no"), "--no-split"]) == 2
    assert "--no-split" in capsys.readouterr().err


@pytest.mark.slow
def test_page_summary_and_onnx(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    data, folder = run
    best, image = str(folder / "best.safetensors"), str(data / "imgs" / "0.png")
    for more in ([], ["--mask", str(data / "masks" / "0.png")]):
        assert look(["-m", best, "-i", image, "-o", str(tmp_path / "x.html"), "--grid", "2", "-q", *more]) == 0
    assert "distance 7" in (tmp_path / "x.html").read_text()
    assert export(["-m", best, "-o", str(tmp_path / "x.onnx"), "-q"]) == 0
    file = onnx.load(tmp_path / "x.onnx")
    assert "along 8 rays" in file.doc_string
    assert json.loads(file.metadata_props[0].value)["data"]["rays"]["count"] == 8
    assert minunet.summary(minunet.load(best), (1, 64, 64, 1)).params == minunet.load(best).num_params()


@pytest.mark.slow
def test_a_run_resumes_to_the_same_numbers(tmp_path):
    data = make_objects(tmp_path / "data", 4)
    flags = [*STARS, "-e", "2", "-v", "25"]
    assert go(data, tmp_path / "whole", *flags) == 0
    stop_after(1, data, tmp_path / "cut", flags)
    assert train(["--resume", str(tmp_path / "cut" / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", tmp_path / "cut")
    assert train(["--config", str(tmp_path / "whole" / "config.toml"), "--out", str(tmp_path / "again")]) == 0
    same_run(tmp_path / "whole", tmp_path / "again")
    # other weights to start from: all but the last layer
    assert (
        go(data, tmp_path / "border", "--target", "border", "-e", "1", "-f", str(tmp_path / "cut/last.safetensors"))
        == 0
    )


def test_polygons_in_python(tmp_path):
    cells = minunet.data.SyntheticCells(4, size=32)
    target = minunet.data.targets.Target("stardist", rays=4)
    fitted = minunet.fit(
        cells, epochs=1, crop=16, model=minunet.models.UNetOptions(base_width=2, depth=1), target=target
    )
    assert fitted.tuned is not None and fitted.tuned.separation == fitted.model.preprocessing.separation
    assert minunet.segment_objects(fitted.model, cells[0].image, nms=0.3).shape == (32, 32)
    for wrong, words in (({"loss": "focal"}, "--loss focal"), ({"class_weights": (1, 2)}, "--class-weights")):
        with pytest.raises(minunet.UserError, match=words):
            minunet.fit(cells, epochs=1, crop=16, target=target, **wrong)


@pytest.mark.slow
def test_stardist_s_network_is_for_polygons_unless_told(tmp_path):
    data = make_objects(tmp_path / "data", 4)
    flags = ["--arch", "stardist", "--arch-options", "features=4", "-e", "1", "-v", "25"]
    for more, rays in (([], 32), (["--rays", "4"], 4), (["--target", "border"], None)):
        folder = tmp_path / str(rays)
        assert go(data, folder, *flags, *more) == 0
        known = minunet.load(folder / "last.safetensors").preprocessing
        assert (known.rays and known.rays.count) == rays
    assert train(["--resume", str(tmp_path / "4" / "last.safetensors"), "-e", "2"]) == 0


def test_polygons_have_their_network_unless_another_is_asked_for():
    for typed, arch, options, rate in (
        ([], "stardist", ("grid=2", "norm=batch"), 3e-3),
        (["--norm", "group", "-l", "0.01", "--base-width", "8"], "stardist", ("grid=2",), 0.01),
        (["--arch", "unet"], "unet", (), 1e-3),
        (["--up", "bilinear"], "unet", (), 1e-3),
        (["--recipe", "paper"], "unet", (), 1e-3),
        (["-f", "x.safetensors"], "unet", (), 1e-3),
    ):
        args = suited_to_target(*parse(["--target", "stardist", *typed]))
        assert (args.arch, args.arch_options, args.learning_rate) == (arch, options, rate)
    assert suited_to_target(*parse(["--arch", "stardist"])).target == "stardist"
    assert suited_to_target(*parse([])).arch == "unet"
    cells = minunet.data.SyntheticCells(2, size=32)
    data = minunet.data.targets.TargetSet(cells, minunet.data.targets.Target("stardist", rays=4), [0])
    options = network_for(None, data, TrainingConfig()).architecture
    assert (options.name, options.grid, options.norm, options.base_width) == ("stardist", 2, "batch", 16)
    assert network_for("unet", data, TrainingConfig()).architecture.name == "unet"


def test_a_network_begins_with_circles():
    """Whatever its features are: of the typical radius, and a few percent more or less; of several heads in each."""
    rays = minunet.data.objects.Rays(8, 7.0)
    known = minunet.data.Preprocessing(1, minunet.data.ClassMap.binary(), target="stardist", rays=rays)
    for name, options in (("unet", {"base_width": 8}), ("nnunet", {"base_width": 4, "stages": 4})):
        model = minunet.models.build(name, in_channels=1, num_classes=9, **options)
        model.preprocessing = known
        begin_with_circles(model)
        y = model.forward(np.random.default_rng(0).random((2, 64, 64, 1), np.float32))[0]
        for head in y if isinstance(y, list) else [y]:
            assert abs(head[..., 1:] - 1).mean() < 0.2 < head[..., 0].std()


def test_what_is_refused(tmp_path, capsys):
    data = make_data(tmp_path / "data")
    refused(capsys, go(data, tmp_path / "run", *STARS), "--target stardist", "tell objects apart")
    refused(capsys, go(data, tmp_path / "run", *STARS, "--classes", "2"), "--target stardist")
    objects = make_objects(tmp_path / "objects", 4)
    refused(capsys, go(objects, tmp_path / "run", *STARS, "--classes", "2"), "--classes 2", "9 outputs")
    refused(capsys, go(objects, tmp_path / "run", *STARS, "--weight-map"), "--weight-map")
    refused(capsys, go(objects, tmp_path / "run", "--target", "stardist", "--rays", "6"), "multiple of 4")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_is_said_to_be_so():
    from minunet.train.step import NotFinite

    model = UNet(1, 5, base_width=2, depth=1)
    model.preprocessing = minunet.data.Preprocessing(
        1, minunet.data.ClassMap.binary(), target="stardist", rays=minunet.data.objects.Rays(4)
    )
    step = TrainingStep(model, TrainingConfig())
    with pytest.raises(NotFinite):
        step.loss(np.full((1, 8, 8, 5), np.nan, np.float32), np.ones((1, 8, 8, 5), np.float32))
