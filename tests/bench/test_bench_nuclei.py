"""The lists of images for the nuclei network, and the bench that trains it."""

import doctest
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import minunet
from minunet.data import read_names

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import nuclei_card  # noqa: E402
import nuclei_lists  # noqa: E402
import pretrained  # noqa: E402

LISTS = {name: read_names(BENCH / "splits" / f"nuclei_{name}.txt") for name in nuclei_lists.TITLES}


def test_no_image_is_in_two_lists():
    images = [i for ids in LISTS.values() for i in ids]
    assert len(images) == len(set(images)) == 120 + 484
    assert set(read_names(BENCH / "splits" / "dsb2018_val.txt")) <= set(LISTS["test"])
    assert abs(len(LISTS["test"]) - 604 / 5) < 2 and abs(len(LISTS["validation"]) - 482 / 5) < 2


def test_every_kind_is_in_every_list():
    assert not doctest.testmod(nuclei_lists).failed
    kinds = {f"{kind}{n}": (kind, "8x8") for kind, count in (("a", 40), ("b", 12)) for n in range(count)}
    parts = nuclei_lists.divide(kinds, ["a3", "a4"])
    assert {name: (sum(i[0] == "a" for i in ids), sum(i[0] == "b" for i in ids)) for name, ids in parts.items()} == {
        "train": (26, 8), "validation": (6, 2), "test": (8, 2),
    }  # fmt: skip
    assert {"a3", "a4"} <= set(parts["test"])


def test_what_is_counted_of_an_image_and_of_kinds():
    truth, found = np.zeros((12, 12), np.int32), np.zeros((12, 12), np.int32)
    truth[1:5, 1:5], truth[1:5, 6:10], truth[7:11, 1:5] = 1, 2, 3
    found[1:5, 1:10], found[7:11, 1:5] = 1, 2  # two in one, and one that is right
    row = pretrained.counted(truth, found)
    assert row["objects"] == 3 and row["merged"] == 1 and row["in_merged"] == 2 and row["split"] == 0
    assert row["precision_50"] == 1 / 4
    rows = [
        {"image": "a", "kind": "fluorescence", **row},
        {"image": "b", "kind": "brightfield", **row, "precision_50": 0.75},
    ]
    scores = nuclei_card.by_kind(rows)
    assert (
        scores["all"]["precision_50"] == 0.5 and scores["all"]["objects"] == 6 and set(scores) < set(nuclei_card.TITLES)
    )
    assert "| fluorescence | 1 | 3 | 0.250 | 0.250 | 66.7 % | 0 |" in nuclei_card.table(scores)
    assert pretrained.picture(np.zeros((12, 12, 3), np.uint8), truth, found).shape == (12, 28, 3)


def test_the_cards(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("epoch,seconds\n1,1800\n2,1800\n")
    model = minunet.models.build("unet", in_channels=3, num_classes=3, base_width=2, depth=1)
    size = minunet.data.objects.ObjectSize(20.0, 9, 40)
    model.preprocessing = minunet.data.Preprocessing(3, minunet.data.ClassMap.binary(), target="border", objects=size)
    row = {"mean_precision": 0.5, "precision_50": 0.9, "objects": 5, "merged": 1, "in_merged": 2, "split": 0}
    test = [{"image": f"{n:064}", "kind": "fluorescence", **row} for n in range(3)]
    scores = nuclei_card.by_kind(test)
    short = tomllib.loads(nuclei_card.short_card(model, tmp_path, scores))
    assert short["hours"] == 1 and short["scores"]["fluorescence"] == {"precision": 0.5, "precision_50": 0.9}
    text = nuclei_card.page(model, tmp_path, {"test": scores, "validation": scores}, test, 1, 2_000_000, ["python x"])
    assert "mean precision of fluorescence is 0.500, meant to be 0.65" in text and "40.0 % of the nuclei" in text
    assert text.count("](nuclei_") == 2 and "CC0-1.0" in text


def test_two_targets_are_trained_for_the_same_minutes_and_scored_once(tmp_path, monkeypatch, capsys):
    import stars

    made = []

    def compare(target, seed, minutes, data, out, threads):
        made.append((target, seed))
        row = {"target": target, "asked": minutes, "seed": seed, "epochs": 2, "minutes": 1.0, "threads": 1}
        return row | {"mean_precision": 0.5, "precision_50": 0.7 + seed / 10, "merged": 3, "split": 1}

    monkeypatch.setattr(stars, "compare", compare)
    flags = [str(tmp_path), "--minutes", "1", "--results", str(tmp_path / "x.jsonl")]
    for seeds in ("1", "2", "2"):
        assert stars.main([*flags, "--seeds", seeds]) == 0
    assert made == [("border", 0), ("stardist", 0), ("border", 1), ("stardist", 1)]
    assert "| stardist | 0.500 | 0.750 | 3 | 1 | 1.0 | 2 |" in capsys.readouterr().out
