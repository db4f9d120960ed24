"""bench/layers.py runs, and times the layers that the network has."""

import importlib
from pathlib import Path

import pytest

from minunet.models import UNet
from minunet.nn import Conv2d, ConvTranspose2d

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("layers")


def test_its_layers_are_the_networks(bench):
    """All convolutions of a U-Net, by path, with their channels; then pools, loss and optimiser."""
    found = {layer.name: (layer.shape[3], layer.K) for layer in bench.layers(8, 1, 64) if layer.shape}
    net = UNet(3, 2, base_width=8)
    for path, m in net.modules():
        if isinstance(m, (Conv2d, ConvTranspose2d)):
            assert found.pop(path) == m.params["w"].shape[2:], path
    assert sorted(found) == ["loss", "pool.0", "pool.1", "pool.2", "pool.3"]


@pytest.mark.parametrize("flags", [[], ["--slowest", "--plain", "--batch", "2"]], ids=["plainly", "with flags"])
def test_it_runs(bench, monkeypatch, capsys, flags):
    monkeypatch.setattr("sys.argv", ["layers.py", "--size", "32", "--base-width", "4", "--seconds", "0", *flags])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:] if line and not line.startswith("milliseconds")}
    assert len(rows) == 18 + 4 + 4 + 3 + 1  # convolutions, pools, ups; head, loss, optimiser; the sum
    shares = [float(line.split(" %")[0].split()[-1]) for name, line in rows.items() if name != "sum"]
    assert sum(shares) == pytest.approx(100, abs=2)  # each is rounded
    assert not flags or shares == sorted(shares, reverse=True)
