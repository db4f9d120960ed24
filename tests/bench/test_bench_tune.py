"""The bench of the search: nothing is measured twice, equal time for both settings, and the table. No trainings."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import report  # noqa: E402
import tune  # noqa: E402

FOUND = {
    "kind": "search", "minutes": 20, "epochs": 4, "trials": {"complete": 9, "ended early": 5, "failed": 1}, "threads": 2,
    "default": {"score": 0.81, "epoch_seconds": 10.0}, "found": {"score": 0.83, "epoch_seconds": 20.0},
    "settings": "python -m minunet.train --loss dice",
}  # fmt: skip


def test_both_train_for_the_same_time_and_only_once(tmp_path, monkeypatch):
    made = []

    def score(name, seed, epochs, args, data, out):
        made.append((name, seed, epochs))
        precision = {"default": 0.5, "found": 0.6}[name] + 0.01 * seed
        row = {"kind": "scores", "name": name, "seed": seed, "epochs": epochs, "mean_precision": precision}
        return row | {"dice": 0.9, "precision_50": 0.7, "merged": 3, "cpu_minutes": 8.0, "threads": 2, "images": 24}

    monkeypatch.setattr(tune, "search", lambda *_: FOUND)
    monkeypatch.setattr(tune, "score", score)
    results = ["--results", str(tmp_path / "tune.jsonl")]
    for _ in range(2):
        assert tune.main(["--data", str(tmp_path), *results]) == 0
    assert sorted(made) == sorted([(n, s, e) for n, e in (("default", 30), ("found", 15)) for s in range(3)])
    (tmp_path / "docs").mkdir()
    page = tmp_path / tune.PAGE
    page.write_text("<!-- tuned -->\n<!-- /tuned -->\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    assert tune.main(["--table", *results]) == 0
    text = page.read_text()
    assert "| default | 0.8100 | 0.510 (0.500 to 0.520) |" in text and "| 30 | 8 |" in text
    assert (
        "gains +0.100 of mean precision, more than the 0.020" in text and "9 complete, 5 ended early, 1 failed" in text
    )
