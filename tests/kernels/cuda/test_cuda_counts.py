"""How much a training step on a GPU starts, CuPy's own kernels included, and how much memory it takes: it does not creep up."""

import importlib
from pathlib import Path

import pytest
from helpers.gpu_counts import counts

FIRST = {"optimizer": "sgd", "loss": "ce"}  # of the published table


def test_a_default_step_has_few_starts(gpu):
    """`minunet train` as it is: patches of 128 x 128, batches of 8, 16 channels, Adam, cross-entropy and soft Dice."""
    found = counts(gpu, 128, batch=8, base_width=16)
    assert found.total < 240 and found.of_cupy < 3
    assert found.starts["adam"] == found.starts["head_loss"] == found.starts["head_loss_back"] == 1
    alone = {
        "running_average",
        "head",
        "head_back",
        "cross_entropy",
        "cross_entropy_back",
        "soft_dice",
        "soft_dice_back",
    }
    assert not alone & set(found.starts)


@pytest.mark.parametrize("config, most", [({}, 245), ({"clip": 1.0}, 245), ({"amp": "fp16"}, 250)], ids=str)
def test_starts_of_other_steps(gpu, config, most):
    """Of the 31 M-parameter network at its smallest size, where a GPU waits for its starts most of all."""
    found = counts(gpu, 64, **FIRST, **config)
    assert found.total < most and found.starts["sgd"] == (1 if config else 4)


@pytest.mark.parametrize("config", [{}, {"amp": "fp16"}], ids=str)
def test_memory_is_below_the_published(gpu, config):
    """At 256 x 256, where parameters, gradients and velocities are most of it; halves of weights are let go in time."""
    assert counts(gpu, 256, **FIRST, **config).most < 0.439 * 2**30


def test_the_table_in_the_docs(monkeypatch):
    """Its script has a row for each of its lines."""
    root = Path(__file__).resolve().parents[3]
    monkeypatch.syspath_prepend(str(root / "bench"))
    rows = importlib.import_module("gpu_counts").rows(few=True)
    text = (root / "docs/gpu.md").read_text()
    assert len(rows) == 2 and all(row.count("|") == 7 and row.split(" | ")[0] in text for row in rows)
