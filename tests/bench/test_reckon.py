"""The reckoned ceilings: what is counted for them is what the kernels do in the emulator; the page says what comes of it."""

import importlib
from pathlib import Path

import pytest

from minunet.kernels.cuda import build, emulator, launch_conv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def reckon(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("reckon")


COUNTED = [
    ("conv", "float32", launch_conv.BN, True),
    ("conv_patch", "float32", launch_conv.BN, False),
    ("conv_patch", "float32", launch_conv.BN, True),
    ("conv_weights", "float32", launch_conv.BN, False),
    ("conv_patch_weights", "float32", launch_conv.BN, True),
]


@pytest.mark.slow
@pytest.mark.drawn(ci=2)
@pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")
@pytest.mark.parametrize("kernel", COUNTED, ids=str)
def test_the_file_has_what_the_emulator_counts(reckon, kernel):
    """python bench/cuda_kernels.py --reckon writes it."""
    found = reckon.cuda_counts.count(*kernel)
    assert reckon.cuda_counts.find(reckon.cuda_counts.read(), *kernel).items() >= found.items()


@pytest.mark.slow
@pytest.mark.skipif(build.nvrtc_missing() is not None, reason=build.nvrtc_missing() or "")
def test_the_file_has_what_the_machine_code_says(reckon):
    """Within what another release of the compiler may make of it."""
    row = reckon.cuda_counts.find(reckon.cuda_counts.read(), *COUNTED[1])
    found = reckon.cuda_counts.machine_code(row)
    assert abs(found["registers"] - row["registers"]) < 32
    assert 0.7 < found["instructions"] / row["instructions"] < 1.4


@pytest.mark.parametrize("wgmma", [False, True])
@pytest.mark.parametrize("columns", [launch_conv.BN, launch_conv.WIDE])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_a_patch_fetches(reckon, dtype, columns, wgmma):
    """Each pixel of the tile and of its border once, and weights for nine taps; and no bank is asked twice in a turn."""
    without, patch = (
        reckon.cuda_counts.find(reckon.cuda_counts.read(), kernel, dtype, columns, wgmma)
        for kernel in ("conv", "conv_patch")
    )
    tall = patch["pixels"] // 16
    assert without["copied"] == 128 * 9 * (128 + columns)
    assert patch["copied"] == 128 * ((tall + 2) * 18 + 9 * columns)
    for row in (without, patch):
        assert row["products"] == row["pixels"] * columns * 9 * 128 // reckon.ITEMSIZE[dtype]
        assert row["turns"] * 128 == row["read"]


@pytest.mark.parametrize("wgmma", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_a_weight_gradient_fetches(reckon, dtype, wgmma):
    """By a patch each pixel of x and its strip's border once, and each of dy."""
    row = reckon.cuda_counts.find(reckon.cuda_counts.read(), "conv_patch_weights", dtype, launch_conv.BN, wgmma)
    item, across = reckon.ITEMSIZE[dtype], launch_conv.STRIP // reckon.ITEMSIZE[dtype]
    assert row["pixels"] == launch_conv.ROWS * across
    assert row["copied"] == launch_conv.ROWS * (2 * across + 2) * launch_conv.BN * item
    assert row["products"] == 9 * row["pixels"] * launch_conv.BN**2
    times = (
        3 + 2 + 9 if wgmma else 2 * 3 + 4
    )  # x for each column of taps; dy to turn it, and for each tap; or by more warps
    assert row["read"] == times * row["pixels"] * launch_conv.BN * item and row["turns"] * 128 == row["read"]
    assert reckon.cuda_counts.blocks(row, 100 << 10) == 1  # it fits everywhere


@pytest.mark.parametrize("columns", [launch_conv.BN, launch_conv.WIDE])
def test_blocks_that_fit_a_multiprocessor(reckon, columns):
    """Two of mma.sync with 164 KB, and two narrow ones with 100 KB, where without a patch there was one."""
    rows = reckon.cuda_counts.read()
    for dtype in reckon.ITEMSIZE:
        row = reckon.cuda_counts.find(rows, "conv_patch", dtype, columns, False)
        assert reckon.cuda_counts.blocks(row, 164 << 10) >= 2
        small = reckon.cuda_counts.blocks(row, 100 << 10)
        assert small == (2 if columns == launch_conv.BN else 1)


def test_the_ceilings(reckon):
    """Without a patch as independent counting had them, 21 to 25 % of the peak for 64 channels and 30 to 37 % for the others,
    bound by L2; and with it twice to five times as much."""
    for size in (512, 1664):
        for _, C, found in reckon.levels(reckon.H200, reckon.cuda_counts.read(), size):
            for ceiling in (*found["conv"], *found["conv_weights"]):
                assert ceiling.bound == "L2" and 0.17 < ceiling.share < 0.37
            assert all(0.21 < c.share < 0.25 for c in found["conv"]) == (C == 64)
            assert all(0.8 < c.share < 1 for c in found["conv_patch"])
            for ceiling in found["conv_patch_weights"]:
                assert ceiling.bound == "products" and 0.85 < ceiling.share < 1


def test_the_page_is_up_to_date(reckon):
    """python bench/cuda_kernels.py --reckon writes it."""
    assert reckon.table(reckon.cuda_counts.read()) in (ROOT / reckon.PAGE).read_text()
