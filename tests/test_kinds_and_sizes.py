"""Scores by kind of image, data sets as inputs of predict, and what doctor says of objects' sizes."""

import json

import numpy as np
import pytest
import scipy
from PIL import Image

from minunet.doctor import examine
from minunet.errors import UserError
from minunet.evaluate import evaluate, main
from minunet.predict.images import find_images


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def discs(side, radius, seed=0, shape=(128, 128)):
    """A mask of discs in a grid, and an image of them."""
    rows, columns = np.indices(shape)
    mask = ((rows % side - side // 2) ** 2 + (columns % side - side // 2) ** 2 < radius**2) * np.uint8(255)
    return (np.random.default_rng(seed).normal(50, 4, shape) + 0.5 * mask).clip(0, 255).astype(np.uint8), mask


def test_evaluation_by_kind(tmp_path, capsys):
    for i in range(4):
        image, mask = discs(32, 9, i, (64, 64))
        save(tmp_path / "data/imgs" / f"{i}.png", image if i else 255 - image)
        save(tmp_path / "data/masks" / f"{i}.png", mask)
        save(tmp_path / "pred" / f"{i}_mask.png", mask if i else mask[::-1, ::-1] * 0)
    found = evaluate(tmp_path / "pred", tmp_path / "data")
    assert set(found.groups.values()) == {"grey on dark", "grey on light"}
    assert found.by_group["grey on dark"]["dice"] == 1 and found.by_group["grey on light"]["dice"] == 0
    assert "grey on light was not learnt" in str(found)
    (tmp_path / "kinds.csv").write_text("masks/0.png,one\n1,two\n2,two\n3,two\n")
    flags = ["--pred", tmp_path / "pred", "--truth", tmp_path / "data/masks", "--groups", tmp_path / "kinds.csv"]
    for mode in ([], ["--classes"]):
        assert main([*map(str, flags), "--json", *mode]) == 0
        groups = json.loads(capsys.readouterr().out)["groups"]
        assert groups["two"]["dice_foreground" if mode else "dice"] == 1
    assert main(list(map(str, flags))) == 0 and "kind of image" in capsys.readouterr().out
    assert not evaluate(tmp_path / "pred", tmp_path / "data/masks").groups


def test_predict_takes_what_train_takes(tmp_path):
    image, mask = discs(32, 9)
    save(tmp_path / "a/imgs/x.png", image)
    save(tmp_path / "a/masks/x.png", mask)
    assert find_images([str(tmp_path / "a")]) == {"x": tmp_path / "a/imgs/x.png"}
    save(tmp_path / "b/stage1_train/n1/images/n1.png", image)
    save(tmp_path / "b/stage1_train/n1/masks/k.png", mask)
    assert list(find_images([str(tmp_path / "b")])) == ["n1"]
    for sequence in ("01", "02"):
        for t in range(2):
            save(tmp_path / "c" / sequence / f"t{t:03}.tif", image)
        save(tmp_path / "c" / f"{sequence}_GT/SEG/man_seg000.tif", (mask > 0).astype(np.uint16))
    found = find_images([str(tmp_path / "c"), str(tmp_path / "a/imgs")])
    assert list(found) == ["01_t000", "01_t001", "02_t000", "02_t001", "x"]
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        find_images([str(tmp_path / "d")])


def said(path, **options):
    return [(f.severity, f.text) for f in examine(path, **options) if f.name in ("object sizes", "partial truth")]


def test_doctor_compares_objects_with_crop_field_and_least_size(tmp_path):
    for i in range(3):
        image, mask = discs(64, 25, i)
        save(tmp_path / "large/imgs" / f"{i}.png", image)
        save(tmp_path / "large/masks" / f"{i}.png", mask)
        image, mask = discs(16, 2, i)
        save(tmp_path / "small/imgs" / f"{i}.png", image)
        save(tmp_path / "small/masks" / f"{i}.png", mask)
    assert said(tmp_path / "large")[0][0] == "ok" and "49 pixels" in said(tmp_path / "large")[0][1]
    assert "more than the patches of --crop 32" in said(tmp_path / "large", crop=32)[0][1]
    assert any("the network cannot see a whole one" in text for _, text in said(tmp_path / "large", depth=1))
    assert "fewer than 20 pixels" in said(tmp_path / "small")[0][1]


def test_doctor_sees_partial_truth(tmp_path):
    for i in range(3):
        image, mask = discs(32, 9, i)
        save(tmp_path / "whole/imgs" / f"{i}.png", image)
        save(tmp_path / "whole/masks" / f"{i}.png", mask)
        number = scipy.ndimage.label(mask)[0]
        save(tmp_path / "part/imgs" / f"{i}.png", image)
        save(tmp_path / "part/masks" / f"{i}.png", np.where(number < 5, mask, np.uint8(0)))
    assert len(said(tmp_path / "whole")) == 1
    assert "are only some outlined" in said(tmp_path / "part")[1][1]
