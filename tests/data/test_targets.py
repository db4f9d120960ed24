"""Targets that keep objects apart: the border class, the weight map on its way into the loss, and the paper's recipe."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.datasets import draw_objects, make_data, make_objects
from helpers.tolerances import OP
from helpers.training import SMALL, refused, same_run, stop_after
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from scipy import ndimage

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import Batches, SyntheticCells
from minunet.data.augment import augment
from minunet.data.targets import Target, TargetSet, border_labels
from minunet.data.weightmap import class_balance, cut_seams, separation
from minunet.errors import UserError
from minunet.ops import named_loss
from minunet.predict.command import main as predict
from minunet.predict.inference import probabilities
from minunet.train.arguments import RECIPES, parse
from minunet.train.command import main as train
from minunet.train.session import make_model


def go(data, out, *flags):
    return train(["--data", str(data), "--out", str(out), *SMALL, "-e", "1", "-v", "25", *flags])


def metadata(path):
    with safe_open(path, framework="np") as f:
        return json.loads(f.metadata()["minunet"])


# ---- the border class ------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(0, 8), st.floats(1, 4))
def test_border_by_brute_force(seed, n, width):
    """A pixel is border if a pixel of another number is near, and if it is not in the deeper half of its object."""
    instances = draw_objects(seed, 22, 18, n)
    made = border_labels(instances, width)
    y, x = np.mgrid[:22, :18]
    depth = np.full(instances.shape, np.inf)
    for row, column in np.argwhere(instances > 0):
        other = instances != instances[row, column]
        if other.any():
            depth[row, column] = np.sqrt(((y - row) ** 2 + (x - column) ** 2)[other].min())
    for number in np.unique(instances[instances > 0]):
        own = instances == number
        expected = np.where(depth[own] <= min(width, depth[own].max() / 2), 2, 1)
        np.testing.assert_array_equal(made[own], expected)
    assert not made[instances == 0].any()


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(1, 9))
def test_every_object_keeps_an_inside_and_insides_never_touch(seed, n, width):
    instances = draw_objects(seed, 30, 30, n)
    inside = border_labels(instances, width) == 1
    assert set(np.unique(instances[inside])) == set(np.unique(instances)) - {0}
    thick = np.zeros(instances.shape, bool)
    for number in np.unique(instances[instances > 0]):
        depth = ndimage.distance_transform_edt(np.pad(instances == number, 1))[1:-1, 1:-1]
        thick |= (instances == number) & (depth.max() >= 2)  # objects that can have a border
    parts, _ = ndimage.label(inside & thick)
    for part in range(1, parts.max() + 1):
        assert len(np.unique(instances[parts == part])) == 1


def test_a_square_and_the_edge_of_the_image_by_hand():
    instances = np.zeros((7, 8), np.int32)
    instances[1:6, :5] = 3  # cut off by the left edge: no outline there
    expected = np.zeros((7, 8), int)
    expected[1:6, :5] = 2
    expected[2:5, :4] = 1
    np.testing.assert_array_equal(border_labels(instances, 1.0), expected)
    np.testing.assert_array_equal(border_labels(np.ones((4, 4), np.int32), 2.0), np.ones((4, 4)))
    np.testing.assert_array_equal(border_labels(np.array([[0, 7, 0]]), 2.0), [[0, 1, 0]])


# ---- data sets -------------------------------------------------------------------------------------------------------


def test_a_weighted_sample_is_the_papers():
    cells = SyntheticCells(6, 64, seed=1)
    train_on = [0, 2, 3]
    made = TargetSet(cells, Target(weight_map=True, w0=7.0, sigma=3.0), train_on)
    labels = [np.where(cut_seams(s.instances), 0, s.labels) for s in cells]
    balance = class_balance(np.bincount(np.concatenate([labels[i].ravel() for i in train_on])))
    for i in (0, 1):
        np.testing.assert_array_equal(made[i].labels, labels[i])
        background = labels[i] == 0
        expected = balance[labels[i]] + 7 * separation(cells[i].instances, 3.0) * background
        np.testing.assert_allclose(made[i].weight, expected, rtol=1e-5)
        assert made[i].weight[cut_seams(cells[i].instances)].min() > 6  # the seams weigh most
    assert made[0].image is cells[0].image and made.classes == cells.classes
    for words in ("background", "cell", "7 more", "sigma 3"):
        assert words in made.describe()


@pytest.mark.parametrize("kind", ["classes", "border"])
def test_without_balance_all_classes_weigh_1(kind):
    """Also those that the images do not hold, and what is left is the separation."""
    cells = SyntheticCells(3, 64, seed=1)
    made = TargetSet(cells, Target(kind, weight_map=True, balance=False, w0=7.0), [0])
    inside = made[1].labels == 1
    assert (made[1].weight[inside] == 1).all()
    np.testing.assert_allclose(
        made[1].weight[~inside], 1 + 7 * separation(cells[1].instances)[~inside], rtol=OP["float32"]
    )
    assert "background 1.00" in made.describe()
    flat = TargetSet(cells, Target(kind, weight_map=True, balance=False, w0=0.0), [0])
    assert (flat[1].weight == 1).all()


def test_a_border_may_be_weighted_too():
    cells = SyntheticCells(3, 64, seed=1)
    made = TargetSet(cells, Target("border", weight_map=True), [0, 1, 2])
    assert made.classes.names == ["background", "inside", "border"]
    sample = made[0]
    np.testing.assert_array_equal(sample.labels > 0, cells[0].labels > 0)  # nothing is cut off
    inside = sample.weight[sample.labels == 1]
    assert np.ptp(inside) == 0 and np.ptp(sample.weight[sample.labels == 2]) > 1


def test_labels_and_weights_move_with_the_image():
    """Image, labels and weights that tell the same go through every distortion together, and with context."""

    class Same(SyntheticCells):
        def _read(self, index):
            sample = super()._read(index)
            sample.weight = sample.labels * 2.0 + 1
            sample.image = sample.labels[..., None].astype(np.float32)
            return sample

    for augmented, crop, context in ((True, 32, 0), (True, 32, 6), (False, 32, 6), (True, None, 0), (False, None, 0)):
        batches = Batches(Same(4, 48), range(4), 2, crop, augmented, 0, context, intensity=False)
        for images, labels, weights in batches.epoch(0):
            np.testing.assert_array_equal(weights, labels * 2 + 1)
            assert np.abs(images[..., 0] - labels).max() <= 0.76


def test_the_same_seed_gives_the_patches_that_augment_gives():
    cells = SyntheticCells(1, 64)
    batches = Batches(cells, [0], 1, 32, True, 5)
    [[(k, i)], *_] = batches.plan(2)
    image, labels = augment(cells[i].image, cells[i].labels, np.random.default_rng([5, 2, 2, k]), 32)
    images, made = batches.batch(2, 0)
    np.testing.assert_array_equal(images[0], image)
    np.testing.assert_array_equal(made[0], labels)


def test_weights_reach_the_loss(tmp_path):
    """The loss of a step is that of the weighted op on the middle of labels and weights."""
    from minunet.models import UNetOptions, build
    from minunet.train.config import TrainingConfig
    from minunet.train.step import centre
    from minunet.train.trainer import Trainer

    cells = TargetSet(SyntheticCells(4, 64), Target(weight_map=True), [0, 1])
    model = build(UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=1, padding="valid"))
    trainer = Trainer(model, cells, [0, 1], [2, 3], TrainingConfig(epochs=1, crop=44, batch_size=2, loss="ce+dice"))
    images, labels, weights = trainer.batches.batch(0, 0)
    logits, _ = model.forward(images, train=True)
    size = logits.shape[1:3]
    forward, _ = named_loss("ce+dice", 2)
    expected, _ = forward(logits, centre(labels, size), weight=centre(weights, size))
    plain, _ = forward(logits, centre(labels, size))
    assert trainer.step(images, labels, weights) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(expected) - float(plain)) > 1e-3


# ---- from the command line -------------------------------------------------------------------------------------------


def test_a_border_is_learned_recorded_and_predicted_as_foreground(tmp_path, capsys):
    data = make_objects(tmp_path / "data")
    assert go(data, tmp_path / "run", "--target", "border", "-e", "6", "-l", "0.02") == 0
    said = capsys.readouterr().out
    for words in ("background, inside and border", "inside 0.", "border 0.", "inside and border of objects as one"):
        assert words in said
    best = tmp_path / "run" / "best.safetensors"
    model = minunet.load(best)
    assert model.preprocessing.target == "border" and model.architecture.num_classes == 3
    image = np.asarray(Image.open(data / "imgs" / "0.png"))
    mask = minunet.segment(model, image)
    truth = np.asarray(Image.open(data / "masks" / "0.png")) > 0
    assert set(np.unique(mask)) <= {0, 1} and minunet.metrics.dice(truth, mask) > 0.6
    assert predict(["-m", str(best), "-i", str(data / "imgs" / "0.png"), "-o", str(tmp_path / "p")]) == 0
    assert (np.asarray(Image.open(tmp_path / "p" / "0_mask.png")) == 255 * mask).all()


@pytest.mark.slow
def test_a_weighted_run_resumes_to_the_same_numbers_and_fills_its_cache(tmp_path):
    data, cache = make_objects(tmp_path / "data"), tmp_path / "cache"
    flags = ["-e", "2", "--weight-map", "--cache", str(cache), "--sigma", "3"]
    assert go(data, tmp_path / "whole", *flags) == 0
    assert len(list(cache.iterdir())) == 8
    stop_after(1, data, tmp_path / "cut", [*flags, "-v", "25"])
    assert train(["--resume", str(tmp_path / "cut" / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", tmp_path / "cut")
    # a column more, for the weights
    assert go(data, tmp_path / "plain") == 0
    wide, narrow = (np.asarray(Image.open(tmp_path / run / "predictions.png")).shape[1] for run in ("whole", "plain"))
    assert wide > 1.2 * narrow


@pytest.mark.parametrize("flag", [["--target", "border"], ["--weight-map"]])
def test_masks_that_do_not_number_objects_are_refused(tmp_path, capsys, flag):
    data = make_data(tmp_path / "data")
    refused(capsys, go(data, tmp_path / "run", *flag), flag[0], data, "tell objects apart")
    assert not (tmp_path / "run").exists()


def test_class_balance_alone_needs_no_objects(tmp_path):
    assert go(make_data(tmp_path / "data"), tmp_path / "run", "--weight-map", "--w0", "0") == 0


def test_border_refuses_more_than_two_classes(tmp_path, capsys):
    data = make_data(tmp_path / "data")
    for path in (data / "masks").iterdir():
        mask = np.asarray(Image.open(path)) // 255
        mask[:2, :2] = 2
        Image.fromarray(mask).save(path)
    refused(capsys, go(data, tmp_path / "run", "--target", "border"), "--target border", "two classes")


def test_starting_weights(tmp_path):
    cells = ["--base-width", "8", "--depth", "1", "--crop", "16", "-b", "99", "-e", "1", "-l", "1e-30"]
    data = make_data(tmp_path / "data", n=4)
    for init in ("he", "uniform"):
        assert train(["--data", str(data), "--out", str(tmp_path / init), *cells, "--init", init]) == 0
    he, uniform = (minunet.load(tmp_path / i / "last.safetensors").named_params() for i in ("he", "uniform"))
    N = 9 * 16
    w, u = he["bottom.conv2.w"], uniform["bottom.conv2.w"]
    assert w.std() == pytest.approx((2 / N) ** 0.5, rel=0.1) and np.abs(w).max() > 2.5 * w.std()
    assert np.abs(u).max() <= N**-0.5 and np.abs(u).max() > 0.95 * N**-0.5
    assert np.abs(uniform["up.0.w"]).max() <= 16**-0.5 and uniform["head.b"].any()


# ---- the recipe ------------------------------------------------------------------------------------------------------


def test_what_is_given_beside_a_recipe_wins():
    args, given = parse(["--recipe", "paper", "--momentum", "0.5", "-b", "8", "--no-weight-map"])
    assert (args.momentum, args.batch_size, args.weight_map) == (0.5, 8, False)  # though 8 is the default
    assert (args.optimizer, args.padding, args.dropout, args.interpolation) == ("sgd", "valid", 0.5, "cubic")
    assert given == {"recipe", "momentum", "batch_size", "weight_map"}
    plain, _ = parse([])
    assert all(hasattr(plain, name) for name in RECIPES["paper"])
    assert (plain.optimizer, plain.weight_map, plain.padding) == ("adam", False, "same")


def test_the_recipe_is_the_papers_network(tmp_path, capsys):
    """31,030,658 parameters for one channel and two classes, from 572 pixels to 388."""
    args, _ = parse(["--recipe", "paper"])
    model = minunet.UNet(1, 2, args.base_width, args.depth, norm=None, padding=args.padding, up=args.up)
    assert model.num_params() == 31_030_658 and model.output_size(args.crop) == 388


def test_the_recipe_trains_and_is_recorded(tmp_path, capsys):
    data = make_objects(tmp_path / "data", n=4)
    flags = ["--recipe", "paper", "--base-width", "2", "--depth", "2", "-e", "1", "-v", "25"]
    assert train(["--data", str(data), "--out", str(tmp_path / "run"), *flags]) == 0
    meta = metadata(tmp_path / "run" / "last.safetensors")
    assert meta["train"]["arguments"]["recipe"] == "paper" and meta["train"]["arguments"]["momentum"] == 0.99
    assert meta["options"]["padding"] == "valid" and meta["options"]["norm"] is None
    assert meta["train"]["config"]["crop"] == 104  # the tile whose output covers these images of 64 pixels
    assert train(["--resume", str(tmp_path / "run" / "last.safetensors"), "-e", "2"]) == 0


def test_the_recipe_s_predictions_average_over_rotations(tmp_path):
    """The checkpoint says so; 1 does without, and a network of another recipe does not."""
    image = np.random.default_rng(0).integers(0, 255, (60, 44)).astype(np.uint8)
    for recipe, turns in (("paper", 4), ("modern", 1)):
        args, given = parse(["--recipe", recipe, "--base-width", "2", "--depth", "1"])
        assert args.tta == turns
        model = make_model(args, given, SyntheticCells(4, size=32))
        save_checkpoint(tmp_path / recipe, model)
        model = minunet.load(tmp_path / recipe)
        asked = [probabilities(model, image, tta=n) for n in (None, 1, 4)]
        tiled = probabilities(model, image, tile=16)
        assert np.array_equal(asked[0], asked[2 if turns == 4 else 1]) and abs(asked[1] - asked[2]).max() > 1e-4
        assert abs(tiled - asked[0]).max() < 1e-5
    with pytest.raises(UserError, match="tta: 9 is out of range"):
        replace(model.preprocessing, tta=9)


def test_the_recipe_without_objects_balances_classes_and_says_so(tmp_path, capsys):
    data = make_data(tmp_path / "data", n=4)
    flags = ["--recipe", "paper", "--base-width", "2", "--depth", "1", "-e", "1", "-v", "25"]
    assert train(["--data", str(data), "--out", str(tmp_path / "run"), *flags]) == 0
    assert "only balances the classes" in capsys.readouterr().out
    assert train(["--resume", str(tmp_path / "run" / "last.safetensors"), "-e", "2"]) == 0
    assert "between objects up to 0" in capsys.readouterr().out
