"""A network learns the same with the kernels as with the plain ops, though rounding errors make their paths part."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import minunet
from minunet import metrics, ops, optim
from minunet.data.synthetic import SyntheticCells
from minunet.models import UNet

pytestmark = pytest.mark.slow
STEPS, BATCH, CROP = 200, 4, 48


def samples(n, seed):
    data = [SyntheticCells(n, size=64, seed=seed)[i] for i in range(n)]
    return np.stack([d.image for d in data]), np.stack([d.labels for d in data]).astype(np.int64)


def learn(mode):
    """The validation Dice of a small U-Net after a few hundred steps, and the loss of its first step."""
    (images, labels), (others, truth) = samples(24, seed=0), samples(8, seed=1)
    model, rng = UNet(1, 2, base_width=4, depth=2, seed=0), np.random.default_rng(0)
    step, first = optim.Adam(model, 5e-3), None
    with minunet.use(mode):
        for n in range(STEPS):
            step.lr = 5e-3 * (1 - n / STEPS)
            chosen, (r, c) = rng.choice(len(images), BATCH, replace=False), rng.integers(0, 64 - CROP, 2)
            part = (chosen, slice(r, r + CROP), slice(c, c + CROP))
            y, cache = model.forward(images[part], rng=rng)
            loss, its = ops.softmax_cross_entropy(y, labels[part])
            model.backward(ops.softmax_cross_entropy_backward(1.0, its), cache)
            step.step()
            model.zero_grad()
            first = loss if first is None else first
        return metrics.dice(truth, model(others).argmax(-1)), first


def test_the_same_dice():
    (fast, start), (plain, its_start) = learn("fast"), learn("reference")
    assert abs(start - its_start) < 1e-5
    assert plain > 0.8
    assert abs(fast - plain) < 0.02


COMPILED = """
import numpy as np
from minunet import ops, optim
from minunet.kernels.cpu import warm_up
from minunet.kernels.cpu import launch
from minunet.models import UNet

def compiled():
    return {k.py_func.__name__: len(k.signatures) for k in launch._kernels}

warm_up.warm_up(np.float32)
before, model = compiled(), UNet(3, 2, base_width=16, depth=2)
y, cache = model.forward(np.ones((2, 64, 64, 3), np.float32))
loss, its = ops.softmax_cross_entropy(y, np.zeros((2, 64, 64), int))
model.backward(ops.softmax_cross_entropy_backward(1.0, its), cache)
optim.Adam(model, 1e-3).step()
model(np.ones((2, 64, 64, 3), np.float32))
print({name: n for name, n in compiled().items() if n != before.get(name, 0)})
"""


def test_after_warming_up_nothing_is_compiled():
    """Not even what happens only inside a network."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=1200)
    assert done.stdout == "{}\n", done.stderr
