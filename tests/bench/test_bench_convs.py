"""bench/convs.py runs."""

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("convs")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--only", "1x1", "--plain"], ["--only", "depthwise"]], ids=["1x1", "depthwise"])
def test_it_runs(bench, monkeypatch, capsys, flags):
    monkeypatch.setattr(bench, "CONVS", [bench.Conv("net", 32, 6, 4, 1, 2), bench.Conv("net", 16, 5, 0)])
    monkeypatch.setattr("sys.argv", ["convs.py", "--size", "64", "--seconds", "0", *flags])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:-2]] == [["net", "1x1/2" if "1x1" in flags else "3x3"]]


def test_our_better_ratio_is_against_their_faster_layout(bench):
    ms = {"ours": (2.0, 4.0), "torch nhwc": (3.0, 9.0), "torch nchw": (1.0, 17.0)}
    assert bench.ratios(ms) == (0.5, 2.0)


def test_padding_keeps_the_size(bench):
    pytest.importorskip("torch")
    for conv in (bench.Conv("net", 8, 3, 4, 7, 2), bench.Conv("net", 4, 2, 0, 3, 1, 2)):
        forward, _ = bench.ours(conv, 1, 64)
        theirs, _ = bench.theirs(conv, 1, 64, "torch nhwc")
        assert abs(forward()[0].transpose(0, 3, 1, 2) - theirs().detach().numpy()).max() < 1e-4
