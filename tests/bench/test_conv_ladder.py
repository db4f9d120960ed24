"""The ladder of bench/conv_ladder: every rung gives the plain convolution's answer, and the comparison catches wrong ones."""

import functools
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from minunet import ops

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "conv_ladder"
FILES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
SMALL = [(2, 7, 9, 19, 21), (2, 5, 3, 1, 1)]
MORE = [(1, 8, 16, 3, 70), (2, 13, 11, 67, 37)]
LARGE = [(2, 49, 47, 24, 19)]
"""N, H, W, C, K: odd sizes, channels that fill no vector; several panels and slices; a map that minunet gives to Winograd."""

CASES = [(path, shape) for path in FILES for shape in SMALL + MORE * (path != FILES[0]) + LARGE * (path in FILES[-4:])]
EPS = np.finfo(np.float32).eps
FACTORS = {"10": 1.0, "11": 3.0}
"""Winograd's transforms add errors of their own, those of larger tiles more; a direct sum's factor is 1."""


@functools.cache
def load(path):
    spec = importlib.util.spec_from_file_location("rung_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(N, H, W, C, K):
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, H, W, C), np.float32), rng.standard_normal((3, 3, C, K), np.float32)


def error(y, x, w):
    """Largest error over the largest value, in units of eps * sqrt(9C)."""
    exact = ops.conv2d.plain(x.astype(float), w.astype(float))[0]
    assert y.shape == exact.shape and y.dtype == np.float32
    return np.abs(y - exact).max() / np.abs(exact).max() / (EPS * np.sqrt(9 * x.shape[-1]))


@pytest.mark.drawn(quick=2, ci=20)
@pytest.mark.parametrize("path, shape", CASES, ids=lambda case: getattr(case, "stem", str(case)))
def test_a_rung_convolves(path, shape):
    x, w = draw(*shape)
    before = x.copy(), w.copy()
    y = load(path).conv(x, w)
    assert error(y, x, w) < FACTORS.get(path.stem[:2], 1.0)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


@pytest.mark.parametrize(
    "mistake", ["turned filter", "swapped taps", "shifted by a pixel", "a lost channel", "no border"]
)
def test_a_wrong_convolution_is_caught(mistake):
    x, w = draw(*SMALL[0])
    wrong = {
        "turned filter": lambda: ops.conv2d.plain(x, w[::-1, ::-1])[0],
        "swapped taps": lambda: ops.conv2d.plain(x, w.swapaxes(0, 1))[0],
        "shifted by a pixel": lambda: ops.conv2d.plain(x, w, padding=((1, 1), (0, 2)))[0],
        "a lost channel": lambda: ops.conv2d.plain(x[..., :-1], w[:, :, :-1])[0],
        "no border": lambda: np.pad(ops.conv2d.plain(x, w, padding="valid")[0], ((0, 0), (1, 1), (1, 1), (0, 0))),
    }[mistake]()
    assert error(wrong, x, w) > 100 * max(FACTORS.values())


def test_the_ladder_has_no_gap():
    """Numbers from 1 on, and each file's first line is "Name: idea.", which the bench prints and draws."""
    assert [path.stem[:2] for path in FILES] == [f"{n:02}" for n in range(1, len(FILES) + 1)]
    for path in FILES:
        assert re.match(r'"""[^:\n]+: [^\n]+\.\n\n', path.read_text()), path.name
