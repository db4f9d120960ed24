"""The ablation, end to end on a few made-up images: scores, resuming, the table."""

import json
import sys
from pathlib import Path

import pytest
from helpers.datasets import make_objects

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import ablation  # noqa: E402

from minunet.train.arguments import parse  # noqa: E402

SMALL = ["--base-width", "2", "--depth", "2", "--crop", "16"]


@pytest.mark.parametrize("variant", ablation.VARIANTS.values(), ids=ablation.VARIANTS)
def test_every_variant_is_a_command(variant):
    parse(variant.flags)


@pytest.mark.slow
def test_two_variants_are_trained_scored_and_kept(tmp_path, capsys, monkeypatch):
    data = make_objects(tmp_path / "data")
    flags = ["--data", str(data), "--epochs", "1", "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results"),
             "--only", "cross-entropy", "border-class", *SMALL]  # fmt: skip
    ablation.main(flags)
    table = capsys.readouterr().out
    assert "| cross-entropy |" in table and "| border-class |" in table and "the 2 images, with" in table
    kept = json.loads((tmp_path / "results" / "ablation.json").read_text())["variants"]
    assert kept["border-class"]["flags"] == ["--loss", "ce", "--target", "border", *SMALL]
    assert all(0 <= r[c] <= 1 for r in kept.values() for c in ("dice", "precision", "precision_50"))

    monkeypatch.setattr(ablation, "train", lambda *_: pytest.fail("it was trained again"))
    ablation.main(flags)
    assert capsys.readouterr().out.endswith(table[table.index("| variant") :])
    monkeypatch.undo()
    monkeypatch.setattr(ablation.subprocess, "run", lambda *_, **__: pytest.fail("it was trained again"))
    ablation.main([*flags, "--only", "rotations-averaged"])  # the same weights, seen otherwise
    assert "| rotations-averaged |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="other flags"):
        ablation.main([*flags, "--no-augment"])


@pytest.mark.slow
def test_an_interrupted_variant_goes_on(tmp_path, monkeypatch):
    data, out = make_objects(tmp_path / "data"), tmp_path / "runs" / "cross-entropy"
    last = ablation.train("cross-entropy", data, 1, SMALL, out)
    ablation.train("cross-entropy", data, 2, SMALL, out)
    rows = (out / "history.csv").read_text().splitlines()
    assert last.exists() and len(rows) == 3
