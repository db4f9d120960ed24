"""What is rare: class weights, patches that hold foreground, kinds of images, and new classes from old weights."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import minunet
from minunet.data import Batches, ClassMap
from minunet.data.arrays import ArraySet
from minunet.data.groups import look_of, read_groups
from minunet.errors import UserError
from minunet.metrics import Confusion
from minunet.models import UNetOptions
from minunet.train.command import main
from minunet.train.config import TrainingConfig
from minunet.train.report import told_groups
from minunet.train.step import TrainingStep

TINY = ["-e", "1", "--base-width", "2", "--depth", "1", "--crop", "16", "-b", "4"]


def rare(count=6, size=96):
    """Images of which the last two have a speck of class 1, and the last one of class 2."""
    images = [np.random.default_rng(i).integers(0, 99, (size, size)).astype(np.uint8) for i in range(count)]
    masks = [np.zeros((size, size), np.uint8) for _ in range(count)]
    masks[-2][5:8, 90:93], masks[-1][60:63, 20:23], masks[-1][1:3, 0:2] = 1, 1, 2
    return ArraySet(images, masks, masks_are="classes")


def test_patches_are_placed_where_foreground_is():
    data = rare()
    for augment in (True, False):
        batches = Batches(data, range(6), 4, crop=24, seed=3, augment=augment, foreground_share=1.0)
        seen = Counter(int(labels.max()) for _, b in batches.epoch(0) for labels in b)
        assert set(seen) == {1, 2} and 0.3 < seen[2] / seen.total() < 0.75
    half = Batches(data, range(6), 4, crop=24, seed=3, foreground_share=0.5)
    share = np.mean([labels.max() > 0 for _, b in half.epoch(0) for labels in b])
    assert 0.3 < share < 0.75
    plain, none = (
        Batches(data, range(6), 4, crop=24, seed=3),
        Batches(data, range(6), 4, crop=24, seed=3, foreground_share=0),
    )
    assert all(np.array_equal(a, b) for x, y in zip(plain.epoch(1), none.epoch(1)) for a, b in zip(x, y))
    with pytest.raises(UserError, match="foreground_share"):
        Batches(data, range(6), foreground_share=0.5)


def test_ignored_pixels_are_no_foreground():
    mask = np.zeros((40, 40), np.uint8)
    mask[:9, :9], mask[30:33, 30:33] = 7, 1
    data = ArraySet([np.zeros((40, 40), np.uint8)] * 2, [mask] * 2, ignore=[7])
    batches = Batches(data, [0, 1], 2, crop=16, foreground_share=1.0)
    assert all(labels.max() == 1 for _, b in batches.epoch(0) for labels in b)


def test_class_weights_weigh_the_loss():
    labels = np.array([[[0, 0, 1, 1]]])
    logits = np.zeros((1, 1, 4, 2), np.float32)
    logits[0, 0, :, 0] = (2, 2, 1, 1)
    p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum(-1, keepdims=True)
    own = -np.log(p[np.arange(4), labels[0, 0]])
    model = minunet.UNet(1, 2, base_width=2, depth=1)
    for weights in ((1.0, 1.0), (1.0, 9.0), (0.0, 2.0)):
        step = TrainingStep(model, TrainingConfig(loss="ce", class_weights=weights))
        each = np.array(weights)[labels[0, 0]]
        assert np.isclose(step.loss(logits, labels), (each * own).sum() / each.sum(), rtol=1e-6)
    data = rare()
    small = UNetOptions(base_width=2, depth=1)
    assert minunet.fit(data, epochs=1, crop=16, model=small, class_weights=[1, 5, 5]).finished
    for wrong in ([1, 2], [0, 0, 0], [1, 2, -1], "many"):
        with pytest.raises(UserError, match=r"class.weights"):
            minunet.fit(data, epochs=1, crop=16, model=small, class_weights=wrong)


# ---- kinds of images -------------------------------------------------------------------------------------------------


def two_kinds(count=8, odd=2):
    """Light cells on dark, and the last ones dark on light."""
    images, masks = [], []
    for i in range(count):
        mask = np.zeros((48, 48), np.uint8)
        mask[6 + i : 20 + i, 8:24] = 255
        image = np.random.default_rng(i).normal(40, 6, mask.shape) + 0.6 * mask
        images.append((image if i < count - odd else 255 - image).clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks


def test_looks_tell_kinds_and_rare_ones_give_as_many_patches():
    data = ArraySet(*two_kinds())
    assert data.groups == ["grey on dark"] * 6 + ["grey on light"] * 2
    batches = Batches(data, range(8), 4, crop=16, groups=data.groups)
    drawn = Counter(data.groups[i] for batch in batches.plan(0) for _, i in batch)
    assert drawn["grey on dark"] == drawn["grey on light"] and drawn.total() == 8 * 9
    assert {i for batch in batches.plan(0) for _, i in batch} == set(range(8))
    assert batches.plan(0) != batches.plan(1) and len(batches.plan(1)) == len(batches)
    pink = np.dstack([np.full((30, 30), v, np.float32) for v in (0.9, 0.6, 0.8)])
    assert look_of(pink) == "colour on light" and look_of(pink - pink + 0.2) == "grey on dark"


def test_kinds_from_a_file(tmp_path):
    file = tmp_path / "kinds.csv"
    file.write_text("image,kind\n# a comment\nimgs/a.png,phase contrast\r\n02\tDIC\n", encoding="utf-16")
    assert read_groups(file, ["a", "b", "02/t0", "02/t1"]) == ["phase contrast", "other", "DIC", "DIC"]
    file.write_text("a,one\nc,two\n")
    with pytest.raises(UserError, match=r"line 2: .*no image is called 'c'"):
        read_groups(file, ["a", "b"])
    file.write_text("a\nb,one\n")
    with pytest.raises(UserError, match="line 1"):
        read_groups(file, ["a", "b"])


def save(folder, images, masks):
    for i, pair in enumerate(zip(images, masks)):
        for name, pixels in zip(("imgs", "masks"), pair):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder)


def test_the_warning_names_the_flag_unless_it_was_given():
    truth = np.repeat([0, 1], 50).reshape(10, 10)
    right, wrong = Confusion(2), Confusion(2)
    right.add(truth, truth)
    wrong.add(truth, 1 - truth)
    dataset = SimpleNamespace(groups=["a", "b", "b"], classes=ClassMap.binary())
    for even in (False, True):
        (line,) = (line for line in told_groups(dataset, {0: right, 1: wrong}, even) if "warning" in line)
        assert "b is not learnt" in line and ("--even-groups" in line) != even
    assert not any("warning" in line for line in told_groups(dataset, {0: right, 1: right}))


def test_training_reports_and_warns_by_kind(tmp_path, capsys):
    data = save(tmp_path / "data", *two_kinds())
    (tmp_path / "held.txt").write_text("0\n7\n")
    flags = ["--data", data, *TINY, "--val-files", str(tmp_path / "held.txt")]
    assert main([*flags, "--out", str(tmp_path / "a"), "--even-groups"]) == 0
    said = capsys.readouterr().out
    assert "groups      6 grey on dark, 2 grey on light: as many patches of each" in said
    assert "grey on light" in said.split("Dice by kind")[1] and "(1 held out, 1 trained on)" in said
    (tmp_path / "kinds.csv").write_text("0,alpha\n7,alpha\n1,beta\n")
    assert main([*flags, "--out", str(tmp_path / "b"), "--groups", str(tmp_path / "kinds.csv")]) == 0
    said = capsys.readouterr().out
    assert "beta" in said and "none of its 1 images is held out" in said


# ---- new classes from old weights ------------------------------------------------------------------------------------


def test_new_classes_get_a_new_last_layer_and_all_else_is_kept(tmp_path, capsys):
    images, masks = two_kinds(4, 0)
    three = [np.where(m > 0, 1, 0).astype(np.uint8) for m in masks]
    for m in three:
        m[40:, :] = m[44:46, :9] = 2
        m[:3, 30:40] = 1
    old = ["--data", save(tmp_path / "two", images, masks), *TINY, "--out", str(tmp_path / "old")]
    assert main([*old, "--norm", "none"]) == 0
    before = minunet.load(tmp_path / "old/best.safetensors").state()
    flags = [
        "--data",
        save(tmp_path / "three", images, three),
        "-e",
        "1",
        "--crop",
        "16",
        "--masks",
        "classes",
        "-l",
        "1e-12",
    ]
    assert main([*flags, "-f", str(tmp_path / "old/best.safetensors"), "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "its last layer, of 2 outputs, is left out" in said and "all other weights are kept" in said
    after = minunet.load(tmp_path / "new/last.safetensors").state()
    assert after["head.b"].shape == (3,) and before["head.b"].shape == (2,)
    assert all(np.allclose(after[n], before[n], atol=1e-6) for n in before if not n.startswith("head."))
    again = [
        "--data",
        str(tmp_path / "three"),
        "-e",
        "1",
        "--crop",
        "16",
        "--masks",
        "binary",
        "--out",
        str(tmp_path / "kept"),
    ]
    assert main([*again, "-f", str(tmp_path / "old/best.safetensors")]) == 0
    assert "the last layer of" in capsys.readouterr().out
