"""bench/choices.py finds where the choice of an algorithm loses."""

import importlib
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("choices")


@pytest.mark.slow
def test_it_runs(bench, monkeypatch):
    monkeypatch.setattr(bench, "CHANNELS", ((16, 16),))
    monkeypatch.setattr(bench, "MAPS", ((1, 16),))
    rows = bench.measure(0, time.perf_counter)
    assert [(row["pass"], row["chosen"]) for row in rows] == [("to a map", "Winograd"), ("to the filters", "Winograd")]
    assert all(row["loss"] == row["ms"]["Winograd"] / min(row["ms"].values()) - 1 for row in rows)


def test_what_loses_more_than_tolerated_is_listed(bench):
    row = {"map": (1, 8, 8), "C": 8, "K": 8, "pass": "to a map", "ms": {"direct": 1.0, "Winograd": 1.04}, "loss": 0.04}
    bad = {**row, "C": 12, "ms": {"direct": 1.0, "Winograd": 1.5}, "chosen": "Winograd", "loss": 0.5}
    text = bench.table([row, bad])
    assert "Of 2 passes" in text and "in 1." in text
    assert "| 12 to 8 |" in text and "| 50 % |" in text and "| 8 to 8 |" not in text
