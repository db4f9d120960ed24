"""The bench of whole epochs: PyTorch's loss is ours, and waiting is what it says."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minunet.data import SyntheticCells
from minunet.ops import named_loss

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import default_job  # noqa: E402


def test_the_loss_is_the_same(rng):
    torch = pytest.importorskip("torch")
    logits, labels = rng.standard_normal((2, 7, 5, 3)), rng.integers(-1, 3, (2, 7, 5))
    forward, backward = named_loss("ce+dice", 3)
    loss, cache = forward(logits, labels)
    z = torch.tensor(logits).permute(0, 3, 1, 2).requires_grad_(True)
    theirs = default_job.torch_loss(z, torch.tensor(labels))
    theirs.backward()
    np.testing.assert_allclose(float(theirs.detach()), loss, rtol=1e-12)
    np.testing.assert_allclose(z.grad.permute(0, 2, 3, 1).numpy(), backward(1.0, cache), atol=1e-14)


@pytest.mark.parametrize("slow", ["the loader", "the step"])
def test_what_counts_as_waiting(slow, monkeypatch):
    batches = default_job.Watched(SyntheticCells(6, size=32), range(6), 1, 32)
    make = default_job.Watched._make

    def late(self, *given):
        time.sleep(0.02)
        return make(self, *given)

    if slow == "the loader":
        monkeypatch.setattr(default_job.Watched, "_make", late)
    found = default_job.turn(lambda *_: time.sleep(0.05 * (slow == "the step")), batches, 0, 5)
    assert found["batches"] == 5
    assert found["waits"] > 0.8 if slow == "the loader" else found["waits"] < 0.5
    assert found["loader"] < 0.8  # sleeping is no work


def test_rows_are_kept_and_summed(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.jsonl"
    turns = iter(range(100))
    monkeypatch.setattr(
        default_job, "turn", lambda *_: {"batches": 2, "seconds": 1.0 + next(turns), "waits": 0.01, "loader": 0.1}
    )
    monkeypatch.setattr(
        default_job, "opened", lambda job, *_: (default_job.Arguments(base_width=2), SyntheticCells(4), [0, 1, 2])
    )
    monkeypatch.setattr(sys, "argv", ["", "--jobs", "zarr", "--turns", "2", "--out", str(out)])
    for _ in range(2):  # the second finds both turns there
        default_job.main()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [(row["job"], row["who"]) for row in rows] == [("zarr", "minunet")] * 2
    assert "| zarr | 1 | 3.50 s |  | 1.0 % | 10 % |" in capsys.readouterr().out
