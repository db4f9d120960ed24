"""Training steps on the stand-in for CuPy with the kernels emulated: where the host waits, and wrong labels all the same."""

import numpy as np
import pytest
from helpers import pretend_gpu
from helpers.gpu_training import batch, trainer

from minunet.kernels.cuda import emulator
from minunet.ops import softmax_cross_entropy

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")


@pytest.mark.parametrize(
    "config, waits",
    [
        ({"loss": "ce"}, ["float"]),
        ({"loss": "ce+dice", "optimizer": "sgd"}, ["float"]),
        ({"loss": "ce", "optimizer": "rmsprop"}, ["float"]),
        ({"loss": "ce", "clip": 1.0}, ["float"]),
        ({"loss": "ce+dice", "amp": "fp16"}, ["bool", "float"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_host_waits_for_the_loss_alone(gpu, tmp_path, config, waits, norm):
    """Once a step, at its end; and where something is decided on the host. Nothing is uploaded."""
    here, arrays = trainer(gpu, tmp_path, network={"norm": norm}, **config), batch(gpu, weighted=True)
    pretend_gpu.waits.clear()
    pretend_gpu.uploads.clear()
    here.step(*arrays)
    assert pretend_gpu.waits == waits and not pretend_gpu.uploads


@pytest.mark.parametrize("loss", ["ce", "ce+dice", "dice"])
@pytest.mark.parametrize("label", [2, -2])
def test_a_wrong_label_is_named(gpu, tmp_path, loss, label):
    """The error is the plain op's, though nobody waits for it within the step."""
    here, (images, labels) = trainer(gpu, tmp_path, loss=loss), batch(gpu)
    labels[1, 3, 4] = label
    with pytest.raises(ValueError, match=rf"^label {label} is neither a class \(0 to 1\) nor ignore \(-1\)$"):
        here.step(images, labels)
    with pytest.raises(ValueError, match="neither a class"):  # and on the CPU before anything is changed
        trainer(np, tmp_path, loss=loss).step(images.get(), labels.get())


def test_the_loss_of_a_wrong_label_is_not_a_number(gpu):
    labels = gpu.asarray(np.full((1, 3, 3), 5))
    loss, _ = softmax_cross_entropy(gpu.asarray(np.zeros((1, 3, 3, 2), np.float32)), labels)
    assert not pretend_gpu.waits and np.isnan(loss.get())


def test_waits_are_noticed(gpu):
    """The counting above is not blind."""
    a = gpu.asarray(np.arange(3.0))
    bool(a.any()), float(a[0]), a.get(), a[a > 1], a.nonzero(), gpu.where(a > 1)
    assert pretend_gpu.waits == ["bool", "float", "get", "boolean index", "nonzero", "where"]
    assert pretend_gpu.uploads == [(3,)]
