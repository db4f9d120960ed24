"""The bench of the family: measured once each, at a tiny size; widths, lists and tables. No timings."""

import json
import sys
from pathlib import Path

import pytest

from minunet.data import read_names
from minunet.models import outline

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import family  # noqa: E402
import report  # noqa: E402


def test_the_lists_of_images_share_none():
    chosen, held = read_names(family.CHOOSE), read_names(family.HELD)
    assert len(held) == 24 and len(set(chosen)) == 19 and not set(chosen) & set(held)


@pytest.mark.parametrize("name", family.MOST_USED)
def test_a_width_for_so_many_parameters(name):
    options = family.width_for(name)
    if options:
        parameters = outline(name, in_channels=family.CHANNELS, num_classes=3, **options).num_params()
        assert abs(parameters / family.PARAMETERS - 1) <= family.WITHIN


@pytest.mark.slow
@pytest.mark.parametrize("what", family.TASKS)
def test_both_are_measured(what, monkeypatch, name="unet_plus_plus"):
    """In training with all heads."""
    pytest.importorskip("torch")
    monkeypatch.setattr(family, "SIZE", 64)
    monkeypatch.setattr(family, "REPEATS", 1)
    build = family.build
    monkeypatch.setattr(family, "build", lambda name, **options: build(name, **{"base_width": 2} | options))
    kind = family.OPTIONS[name]
    monkeypatch.setitem(family.OPTIONS, name, lambda **options: kind(base_width=2, **options))
    assert set(family.child("time", name, what, 1)) >= {"minunet"}
    peaks = iter([100 * family.MIB, 130 * family.MIB])
    monkeypatch.setattr(family, "process_peak", lambda: next(peaks))
    assert family.child("memory", name, what, 1, "minunet") == 30  # beyond what its libraries take


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path, monkeypatch, capsys):
    measured = []
    seconds = {"minunet": 1.0, "contiguous_format": 3.0, "channels_last": 2.0}

    def measure(name, threads):
        measured.append(name)
        mib = {"minunet": 50.0, "channels_last": 100.0}
        row = {"kind": "costs", "name": name, "threads": threads, "parameters": 31e6, "gflop": 96.0}
        return row | {"inference": seconds, "training": seconds, "inference_mib": mib, "training_mib": mib}

    monkeypatch.setattr(family, "measure", measure)
    out = tmp_path / "family.jsonl"
    for _ in range(2):
        assert family.main(["--only", "unet", "--results", str(out)]) == 0
    assert measured == ["unet"] and len(out.read_text().splitlines()) == 1
    scores = {"dice": 0.9, "mean_precision": 0.6, "precision_50": 0.8, "merged": 3}
    scores |= {"cpu_minutes": 5.0, "parameters": 1.9e6, "threads": 2}
    for seed, dice in enumerate((0.88, 0.92)):
        family.add(out, {"kind": "scores", "name": "unet", "seed": seed, **scores, "dice": dice})
    (tmp_path / "docs").mkdir()
    page = tmp_path / family.PAGE
    page.write_text("<!-- costs -->\nold\n<!-- /costs -->\n\n<!-- scores -->\n<!-- /scores -->\nend\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    assert family.main(["--results", str(out), "--table"]) == 0
    costs, scored = page.read_text().split("<!-- /costs -->")
    assert "| unet | 31.00 M | 96 | 1.00 s | 2.00 | 1.00 s | 2.00 | 0.50 | 0.50 |" in costs and "old" not in costs
    assert (
        "| unet | 1.90 M | 0.900 (0.880 to 0.920) | 0.600 (0.600 to 0.600) | 0.800 (0.800 to 0.800) | 3 (3 to 3) | 5 | 2 |"
        in scored
    )
    assert scored.endswith("<!-- /scores -->\nend\n") and scored.count(", 2 threads)") == 1
    assert all("machine" in json.loads(line) for line in out.read_text().splitlines())
