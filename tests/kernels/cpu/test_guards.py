"""What helpers/guards.py must catch: a read, a write and a vector too many, planted in kernels; and it finds none without."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from helpers import guards
from helpers.cpu_kernels import fast, numbers, plain
from helpers.fused_networks import assert_same, assert_same_in_float32, lively, run
from helpers.sizes import unless_quick
from numba import njit

from minunet.kernels.cpu import conv, launch, norm, pointwise, resample
from minunet.kernels.cuda import emulator
from minunet.models import UNet

pytestmark = pytest.mark.usefixtures("small_arrays_too")


def planted(patch, module, right, wrong, *names):
    """Put functions of a module that belong together, the last one a kernel, in its place with a mistake in one of them."""
    within = dict(vars(module))
    for name in names:
        real = getattr(module, name)
        real = real.py_func if hasattr(real, "py_func") else inspect.unwrap(real)
        source = inspect.getsource(real).split("\n", 1)[1]  # without the decorator
        exec(source.replace(right, wrong), within)
        within[name] = njit(within[name]) if name != names[-1] else launch.kernel(within[name], parallel=False)
    patch.setattr(module, names[-1], within[names[-1]])


def test_a_read(monkeypatch, request):
    """The next channel's beta: behind the last one lies a NaN."""
    x, c = numbers(np.random.default_rng(0), (1, 4, 4, 5), np.float32), np.zeros(5, np.float32)
    planted(monkeypatch, norm, "beta[c]", "beta[c + 1]", "norm_forward")
    if request.config.option.guards:  # then indices are checked, too
        with pytest.raises(IndexError):
            fast("batch_norm", x, c + 1, c)
        return
    with guards.around_kernels():
        found, *_ = fast("batch_norm", x, c + 1, c)
    assert np.isnan(found[..., -1]).all()
    assert not np.isnan(found[..., :-1]).any()


def test_a_write(monkeypatch, request):
    """Each number into the next place, too, where the next one overwrites it: the result is right."""
    x = numbers(np.random.default_rng(1), (1, 4, 4, 5), np.float32)
    planted(monkeypatch, resample, "to[c] = source[c]", "to[c + 1] = to[c] = source[c]", "nearest")
    error = IndexError if request.config.option.guards else guards.OutsideError
    caught = pytest.raises(error, match=r"index is out of bounds|nearest wrote 4 bytes from byte 1280 on")
    with caught, guards.around_kernels():
        fast("upsample_nearest", x, 2)


def test_a_vector_too_many(monkeypatch):
    """A whole vector at the channels' end, which adds zeros to what lies behind the last pixel."""
    x = numbers(np.random.default_rng(2), (1, 4, 4, 3), np.float32)
    y, cache = plain("max_pool2d", x)
    planted(monkeypatch, pointwise, "while c + width <= C", "while c < C", "gather_windows", "pool_back")
    with pytest.raises(guards.OutsideError, match="pool_back wrote"), guards.around_kernels():
        fast("max_pool2d_backward", y, cache)


@pytest.mark.skipif(bool(emulator.missing()), reason=str(emulator.missing()))
def test_a_map_that_is_the_half_of_another(monkeypatch):
    """A CUDA kernel that steps through a slice of channels as if it were the whole, and one that goes one number too far."""
    from minunet.kernels.cuda import launch as cuda_launch

    x, whole = np.ones((1, 4, 4, 4), np.float32), np.zeros((1, 8, 8, 8), np.float32)
    partial, sums = np.ones((3, 40), np.float32), np.zeros(40, np.float32)
    with guards.around_kernels():
        cuda_launch.bilinear(x, whole[..., :4], 2, True)
        assert (cuda_launch.merged_sums(partial) == 3).all()
        monkeypatch.setattr(cuda_launch, "step_of", lambda x: x.shape[3])
        with pytest.raises(guards.OutsideError, match="bilinear wrote"):
            cuda_launch.bilinear(x, whole[..., :4], 2, True)
        with pytest.raises(guards.OutsideError, match="merge_sums wrote"):
            cuda_launch.run("norm_merge.cu", "merge_sums", (2,), (32, 32), (partial, sums, None, None, 3, 41), 1024 * 8)
    assert not whole[..., 4:].any()


@pytest.mark.parametrize("winograd", [*unless_quick(False), True])
def test_a_network_whose_kernels_keep_to_their_arrays(monkeypatch, winograd):
    """All that kernels hand each other inside a network, forwards and backwards, on channels that leave a tail: direct ones
    in float64, and Winograd's."""
    model, x = lively(UNet(9, 2, base_width=9, depth=2)), numbers(np.random.default_rng(3), (2, 24, 20, 9), np.float64)
    monkeypatch.setattr(conv, "winograd_pays", lambda s, dtype, **limits: winograd and (s.KH, s.stride) == (3, 1))
    with guards.around_kernels():
        if winograd:
            assert_same_in_float32(model, x.shape)
        else:
            assert_same(run(model, x), run(model, x, forward="reference"), 1e-10)
