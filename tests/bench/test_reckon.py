"""The reckoned ceilings: what is counted for them is what the kernels do in the emulator; the page says what comes of it."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from minunet.kernels.cuda import emulator, launch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def reckon(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("reckon")


needs_compiler = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("columns", [launch.BN, launch.WIDE])
def test_a_convolution_s_counts_are_the_emulator_s(reckon, columns):
    """Of one tile without a border, nine taps of a step each."""
    x, w, y = (np.zeros(s, np.float32) for s in ((1, 10, 18, 32), (9, 32, columns), (1, 8, 16, columns)))
    with emulator.conditions(exact=True):  # as most tests compile it
        launch.conv([x], w, [y], side=3, columns=columns, warpgroups=True)
        found = emulator.counts("conv.cu", ("WIDE", "WARPGROUPS") if columns == launch.WIDE else ("WARPGROUPS",))
    step = reckon.conv_step(columns, 4)
    assert found == (9 * step.fetched, 9 * step.operations / 2)


@pytest.mark.slow
@needs_compiler
def test_a_weight_gradient_s_counts_are_the_emulator_s(reckon):
    """Of one tile of channels at nine taps, four steps each."""
    x, dy, dw = (np.zeros(s, np.float32) for s in ((1, 10, 18, 64), (1, 8, 16, 64), (9, 64, 64)))
    with emulator.conditions(exact=True):
        launch.conv_weights([x], dy, dw, side=3, splits=1)
        found = emulator.counts("conv_weights.cu", ())
    step = reckon.weights_step(launch.BN, 4)
    assert found == (9 * 4 * step.fetched, 9 * 4 * step.operations / 2)


def test_todays_ceilings(reckon):
    """As independent counting had them: 21 to 25 % of the peak for 64 channels, 17 to 37 % for the others, all bound by L2."""
    for size in (512, 1664):
        for _, C, found in reckon.levels(reckon.H200, size):
            for ceiling in (*found["conv"], *found["weights"]):
                assert ceiling.bound == "L2" and 0.17 < ceiling.share < 0.37
            assert all(0.21 < c.share < 0.25 for c in found["conv"]) == (C == 64)


def test_the_page_is_up_to_date(reckon):
    """python bench/cuda_kernels.py --reckon writes it."""
    assert reckon.table() in (ROOT / reckon.PAGE).read_text()
