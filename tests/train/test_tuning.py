"""Post-processing that is measured on the training images, tuned on the validation images, and stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.datasets import make_objects
from helpers.training import go
from safetensors import safe_open

import minunet
from minunet.data.objects import ObjectSize, Separation, measure_objects
from minunet.data.targets import border_labels
from minunet.errors import UserError
from minunet.metrics.instances import ObjectCounts
from minunet.predict.instances import label_objects, separate
from minunet.predict.options import PredictionOptions
from minunet.predict.separation import UNTUNED, reach_of, separation_of
from minunet.train import tuning
from minunet.train.fit import Fitted
from minunet.train.report import told_objects
from minunet.train.tuning import Example, Tuned, start, tune


def squares(side, apart, n=4):
    """Squares in rows and columns, so many pixels apart."""
    labels = np.zeros(((side + apart) * n,) * 2, np.int32)
    for i in range(n * n):
        row, column = (side + apart) * (i // n), (side + apart) * (i % n)
        labels[row : row + side, column : column + side] = i + 1
    return labels


def test_objects_are_measured():
    assert measure_objects([np.zeros((4, 4), int)]) is None
    labels = np.zeros((50, 60), int)
    labels[:10, :10], labels[20:30, :10], labels[40, :2], labels[0:50, 40:42] = 7, 9, 2**20, 3
    assert measure_objects([labels]) == ObjectSize(2 * np.sqrt(100 / np.pi), 2, 50)


def test_noise_is_tuned_away_and_what_is_right_stays():
    """Large cells with flecks of false border and of false foreground; and the same without."""
    truth = np.pad(squares(40, 0, 3), 20)
    size, p = measure_objects([truth]), np.eye(3, dtype=np.float32)[border_labels(truth)]
    clean = tune([Example(p, truth, None)], "border", size)
    assert clean.separation == start("border", size) and clean.before == clean.after == 1
    rng = np.random.default_rng(0)
    noisy = p.copy()
    noisy[(rng.random(truth.shape) < 0.1) & (p[..., 1] > 0)] = (0, 0.4, 0.6)
    noisy[2:9, 2:9] = noisy[2:9, 30:36] = noisy[-9:-2, 2:9] = (
        0.45,
        0.55,
        0,
    )  # 49 pixels, more than are dropped untuned
    found = tune([Example(noisy, truth, None)], "border", size)
    assert found.before < found.after == 1 and found.images == 1
    assert found.separation.min_size > 49 or found.separation.threshold > 0.55
    counts = ObjectCounts()
    labels = separate(noisy, "border", found.separation)
    counts.add(truth, np.where(np.bincount(labels.ravel())[labels] >= found.separation.min_size, labels, 0))
    assert counts.mean_precision() == found.after


def test_without_images_nothing_is_tuned():
    """But what is dropped follows the objects' size: nothing that is as large as a true one, and crumbs of large ones."""
    for target in ("classes", "border"):
        for least, dropped in ((12, 12), (40, 20), (900, 225)):
            separation = tune([], target, ObjectSize(50.0, least, 80)).separation
            assert separation == replace(UNTUNED[target], min_size=dropped)


def test_networks_that_nobody_tuned_are_taken_to_miss_borders(run):
    """As of checkpoints from before the tuning: on nuclei a smaller neck merges twice as many."""
    model = minunet.load(run / "best.safetensors")
    model.preprocessing = replace(model.preprocessing, separation=None, objects=None)
    assert separation_of(model) == Separation(0.5, 0.8, 1.0, 20)
    y, x = np.mgrid[:60, :100]
    pair = (np.hypot(y - 30, x - 30) < 20) | (np.hypot(y - 30, x - 66) < 20)  # with no border between them
    p = np.eye(3, dtype=np.float32)[border_labels(pair.astype(int))]
    assert separate(p, "border", separation_of(model)).max() == 2 and label_objects(p, "border").max() == 1


def test_a_window_of_many_images_is_tuned_on(run, tmp_path):
    dataset = minunet.data.open_dataset(make_objects(tmp_path / "more", 6))
    model = minunet.load(run / "best.safetensors")
    found = list(tuning.examples(model, dataset, [0, 1, 2, 3, 4, 5], 16, pixels=3 * 16 * 16))
    assert len(found) == 3 and {e.p.shape for e in found} == {(16, 16, 3)}
    H, W = dataset.sizes[2]
    top, left = (H - 16) // 2, (W - 16) // 2
    assert ((found[1].truth > 0) == (dataset[2].instances[top : top + 16, left : left + 16] > 0)).all()
    (whole, *_) = tuning.examples(model, dataset, [4], 10_000)
    assert np.array_equal(whole.truth, dataset[4].instances) and whole.p.shape == (H, W, 3)


@pytest.fixture
def run(tmp_path):
    """A run on touching cells with numbers."""
    data = make_objects(tmp_path / "data", 5)
    more = ["--target", "border", "-v", "40", "-e", "1", "--crop", "16", "--base-width", "2", "--depth", "1"]
    assert go(data, tmp_path / "run", *more) == 0
    return tmp_path / "run"


def test_a_run_stores_what_it_measured_and_tuned(run):
    best, last = (minunet.load(run / f"{name}.safetensors") for name in ("best", "last"))
    known = best.preprocessing
    assert known.separation == last.preprocessing.separation and known.objects == last.preprocessing.objects
    assert 10 < known.objects.diameter < 30 and known.separation is not None
    with safe_open(run / "last.safetensors", "np") as f:
        stored = json.loads(f.metadata()["minunet"])
    assert Separation.from_json(stored["data"]["separation"], "") == known.separation
    assert stored["train"]["state"]["epoch"] == 1  # the run can go on
    said = told_objects(Fitted(best, [], True, Tuned(Separation(0.4, 0.7, 1.5, 30), 0.1234, 0.5678, 3)))
    assert (
        "--mask-threshold 0.4 --neck 0.7 --smooth 1.5 --min-size 30" in said and "on 3 of the validation images" in said
    )
    assert "precision 0.568, untuned 0.123" in said and told_objects(Fitted(best, [], True)) == ""


def test_flags_override_what_is_stored_and_lengths_follow_the_scale(run):
    model = minunet.load(run / "best.safetensors")
    model.preprocessing = minunet.data.Preprocessing(
        1, model.preprocessing.classes, scale=0.5, target="border",
        objects=ObjectSize(30.0, 100, 70), separation=Separation(0.6, 0.7, 1.5, 50),
    )  # fmt: skip
    assert separation_of(model) == Separation(0.6, 0.7, 3.0, 200)
    assert separation_of(model, PredictionOptions(scale=1.0)) == Separation(0.6, 0.7, 1.5, 50)
    options = PredictionOptions(threshold=0.3, neck=0.2, smooth=0.0, min_size=7)
    assert separation_of(model, options) == Separation(0.3, 0.2, 0.0, 7)
    assert reach_of(model, separation_of(model)) == 2 * 70 + 4 * 3  # what a block sees around itself


def test_damaged_values_are_refused():
    with pytest.raises(UserError, match="separation: neck: 2"):
        minunet.data.Preprocessing.from_json(
            {"channels": 1, "classes": minunet.data.ClassMap.binary().to_json(), "separation": {"neck": 2}}, "data"
        )
