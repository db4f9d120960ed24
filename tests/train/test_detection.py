"""The detector from its loss to its files: trained, resumed, predicted, scored, exported, drawn."""

import csv

import numpy as np
import pytest
from helpers import pretend_cupy
from helpers.datasets import make_data, make_objects
from helpers.training import go, refused, same_run, stop_after
from roifile import roiread

import minunet
from minunet.evaluate import evaluate
from minunet.export import main as export
from minunet.gradcheck import check
from minunet.look.command import main as look
from minunet.models import OPTIONS, build
from minunet.predict.command import main as predict
from minunet.train.amp import MixedPrecision
from minunet.train.command import main as train
from minunet.train.detection import MOST_MASKS, detection_loss, detection_loss_backward, spread

TINY = [
    "--arch",
    "instance_net",
    "--arch-options",
    "encoder_width=0.125",
    "width=16",
    "tower=1",
    "prototypes=8",
    "--crop",
    "32",
]
SMALL = {"in_channels": 1, "encoder_width": 1 / 32, "width": 4, "tower": 1, "prototypes": 3}


def heads_and_numbers(seed=0, dtype=np.float64):
    cells, rng = minunet.data.SyntheticCells(2, size=48, seed=seed), np.random.default_rng(seed)
    numbers = np.stack([cells[i].instances for i in range(2)]).astype(np.int32)
    numbers[0, :7, :20] = -1
    shapes = [(2, n, n, 9) for n in (12, 6, 3, 2)] + [(2, 24, 24, 3)]
    heads = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    for y in heads[:-1]:
        y[..., 1:5] = np.exp(0.5 * y[..., 1:5])
    return heads, numbers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on touching cells that has learnt a little, and its data."""
    folder = tmp_path_factory.mktemp("boxes")
    data = make_objects(folder / "data", 8)
    more = ["--crop", "64", "-b", "2", "-e", "16", "-l", "0.003", "-v", "25", "--no-augment"]
    assert go(data, folder / "run", *TINY, *more) == 0
    return data, folder / "run"


def test_the_loss_has_the_gradient_that_it_says():
    heads, numbers = heads_and_numbers()
    ends = np.cumsum([y.size for y in heads])[:-1]

    def forward(x):
        return detection_loss([v.reshape(y.shape) for v, y in zip(np.split(x, ends), heads)], numbers)

    def backward(dloss, cache):
        return np.concatenate([d.ravel() for d in detection_loss_backward(dloss, cache)])

    flat = np.concatenate([y.ravel() for y in heads])
    assert check((forward, backward), flat, mode="projected", directions=4).ok
    # where nothing counts nothing is learnt: neither what is there, nor where
    d = detection_loss_backward(1.0, detection_loss(heads, numbers)[1])
    assert not d[0][0, 0, :4].any() and d[0][1].any() and not d[0][..., 1:][d[0][..., 5] == 0].any()


def test_nothing_to_find():
    heads, numbers = heads_and_numbers(dtype=np.float32)
    for empty, learns in ((np.zeros_like(numbers), True), (np.full_like(numbers, -1), False)):
        loss, cache = detection_loss(heads, empty)
        d = detection_loss_backward(1.0, cache)
        assert np.isfinite(loss) and loss.dtype == np.float32 and bool(loss > 0) == learns
        assert all(np.isfinite(y).all() and y.dtype == np.float32 for y in d) and d[0][..., 0].any() == learns
        assert not any(y.any() for y in [d[-1], *(y[..., 1:] for y in d[:-1])])


def test_masks_are_of_a_hundred_locations_at_most():
    chosen = spread(np.repeat([0, 2, 3], [7, 250, 100]))
    assert len(chosen) == 7 + 2 * MOST_MASKS and len(set(chosen)) == len(chosen)
    assert np.bincount(np.repeat([0, 2, 3], [7, 250, 100])[chosen]).tolist() == [7, 0, 100, 100]


def test_mixed_precision_on_the_stand_in(monkeypatch):
    cupy = pretend_cupy.install(monkeypatch)
    model = build("instance_net", **SMALL).convert(cupy.asarray)
    cells = minunet.data.SyntheticCells(2, size=64, seed=0)
    x = cupy.asarray(np.stack([cells[i].image for i in range(2)]))
    numbers = cupy.asarray(np.stack([cells[i].instances for i in range(2)]).astype(np.int32))
    found = []
    for network in (model, MixedPrecision(model, "fp16", scale=64.0)):
        network.zero_grad()
        heads, cache = network.forward(x, train=True)
        loss, inner = detection_loss(heads, numbers)
        network.backward(detection_loss_backward(1.0, inner), cache)
        found.append((float(loss), np.concatenate([g.get().ravel() for g in model.named_grads().values()])))
    (loss, exact), (half_loss, half) = found
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert np.linalg.norm(half - exact) < 0.3 * np.linalg.norm(exact)


@pytest.mark.slow
def test_it_learns_and_writes_what_it_finds(run, tmp_path, capsys):
    data, folder = run
    with open(folder / "history.csv") as f:
        rows = list(csv.DictReader(f))
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    model = minunet.load(folder / "best.safetensors")
    assert model.preprocessing.target == "instances" and model.preprocessing.separation is not None
    assert model.architecture.num_classes == 1
    best, sure = (
        str(folder / "last.safetensors"),
        ["--mask-threshold", "0.15", "--min-size", "9"],
    )  # it has not learnt much
    flags = ["-m", best, "-i", str(data / "imgs"), "--rois", *sure]
    assert predict([*flags, "-o", str(tmp_path / "out")]) == 0
    scores = evaluate(tmp_path / "out", data / "masks")
    assert len(scores.images) == 8 and scores.pooled["dice"] > 0.5
    labels = minunet.data.read_image(tmp_path / "out" / "0_labels.tif")[..., 0]
    mask = minunet.data.read_image(tmp_path / "out" / "0_mask.png")[..., 0]
    np.testing.assert_array_equal(mask > 0, labels > 0)
    assert len(roiread(tmp_path / "out" / "0_rois.zip")) == labels.max() > 0
    image = minunet.data.read_image(data / "imgs" / "0.png")
    model = minunet.load(best)
    np.testing.assert_array_equal(minunet.segment_objects(model, image, threshold=0.15, min_size=9), labels)
    strict = minunet.segment_objects(model, image, threshold=0.6)
    assert strict.max() < labels.max() and ((minunet.segment(model, image, threshold=0.6) > 0) == (strict > 0)).all()
    capsys.readouterr()
    for flag in ("--no-split", "--probabilities"):
        assert predict([*flags, "-o", str(tmp_path / "no"), flag]) == 2
        assert flag in capsys.readouterr().err
    assert predict(["-m", best, *flags[1:], "-o", str(tmp_path / "no")]) == 2
    assert "cannot be averaged" in capsys.readouterr().err


@pytest.mark.slow
def test_page_summary_and_onnx(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    data, folder = run
    best, image = str(folder / "best.safetensors"), str(data / "imgs" / "0.png")
    for more in ([], ["--mask", str(data / "masks" / "0.png")]):
        assert look(["-m", best, "-i", image, "-o", str(tmp_path / "x.html"), "--grid", "1", "-q", *more]) == 0
    assert "coefficient 7" in (tmp_path / "x.html").read_text(encoding="utf-8")
    assert export(["-m", best, "-o", str(tmp_path / "x.onnx"), "-q"]) == 0
    file = onnx.load(tmp_path / "x.onnx")
    assert "centre-ness" in file.doc_string and len(file.graph.output) == 5
    model = minunet.load(best)
    assert minunet.summary(model, (1, 64, 64, 1)).params == model.num_params()


@pytest.mark.slow
def test_a_run_resumes_to_the_same_numbers(tmp_path):
    data = make_objects(tmp_path / "data", 4)
    flags = [*TINY, "-e", "2", "-v", "25"]
    assert go(data, tmp_path / "whole", *flags) == 0
    stop_after(1, data, tmp_path / "cut", flags)
    assert train(["--resume", str(tmp_path / "cut" / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", tmp_path / "cut")
    assert 'target = "instances"' in (tmp_path / "whole" / "config.toml").read_text()


def test_in_python():
    cells = minunet.data.SyntheticCells(4, size=32)
    options = OPTIONS["instance_net"](encoder_width=1 / 32, width=4, tower=1, prototypes=3)
    fitted = minunet.fit(cells, epochs=1, model=options)
    assert fitted.model.preprocessing.target == "instances" and fitted.tuned is not None
    assert minunet.segment_objects(fitted.model, cells[0].image, nms=0.3).shape == (32, 32)
    target = minunet.data.targets.Target("instances")
    for wrong, words in (({"loss": "focal"}, "--loss focal"), ({"class_weights": (1, 2)}, "--class-weights"),
                         ({"target": minunet.data.targets.Target("border")}, "not border"),
                         ({"model": "unet", "target": target}, "--arch instance_net")):  # fmt: skip
        with pytest.raises(minunet.UserError, match=words):
            minunet.fit(cells, **{"epochs": 1, "model": options, **wrong})


def test_what_is_refused(tmp_path, capsys):
    data, objects = make_data(tmp_path / "data"), make_objects(tmp_path / "objects", 4)
    refused(capsys, go(data, tmp_path / "run", *TINY), "--target instances", "tell objects apart")
    refused(capsys, go(objects, tmp_path / "run", *TINY, "--target", "border"), "--target instances, not border")
    refused(
        capsys,
        go(objects, tmp_path / "run", "--target", "instances", "--arch", "unet"),
        "--arch instance_net, not unet",
    )
    refused(capsys, go(objects, tmp_path / "run", *TINY, "--classes", "2"), "--classes 2", "one kind")
    refused(capsys, go(objects, tmp_path / "run", *TINY, "--weight-map"), "--weight-map")
    assert not (tmp_path / "run").exists()
