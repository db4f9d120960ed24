"""Kernels and plain ops agree in values or both raise, whatever they are called with; and no kernel leaves its arrays.

helpers/odd_arguments.py draws the calls, helpers/guards.py lays zones around the arrays.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers import guards
from helpers.cuda_device import CONDITIONS, PARAMS, device
from helpers.odd_arguments import FORWARDS, IN_PLACE, agree, calls, described, flat, op_of, outcome
from helpers.sizes import examples, unless_quick
from hypothesis import given

from minunet.kernels import cuda, shapes
from minunet.kernels.cpu.rules import CPU_KERNELS
from minunet.kernels.cuda.rules import CUDA_KERNELS

PLAIN = {
    "add_backward",
    "concat_backward",
    "global_avg_pool2d_backward",
    "max_unpool2d",
}  # without a kernel of their own
NAMES = [*(n for f in FORWARDS for n in (f, f"{f}_backward") if n not in PLAIN), *IN_PLACE]
BETWEEN = {"concat_backward"}  # computes nothing
SHARED = {"shared_batch_norm_backward"}  # takes a function; its loops are those of batch_norm_backward
LAZY = {"relu", "relu_backward"}  # on a GPU these only take lazy maps, which no user has
LISTS = {
    "unscale",
    "clip",
    "cast",
    "move_averages",
    "sgd_steps",
    "adam_steps",
    "rmsprop_steps",
}  # see test_cuda_many.py
LIMITS = {"float64": 1e-9, "float32": 1e-3, "float16": 3e-2}


@pytest.fixture(scope="module", autouse=True)
def guarded():
    with guards.around_kernels():
        yield


def test_every_kernel_has_its_sizes_compared():
    assert shapes.SHAPES.keys() == CPU_KERNELS.keys() | CUDA_KERNELS.keys() == {*NAMES, *BETWEEN, *SHARED, *LISTS}


def limit_of(args):
    """By the narrowest dtype."""
    kinds = {a.dtype.name for a in flat(args) if isinstance(a, np.ndarray)}
    return max((limit for kind, limit in LIMITS.items() if kind in kinds), default=1e-9)


@pytest.mark.usefixtures("small_arrays_too")
@pytest.mark.parametrize("name", [n for n in NAMES if n in CPU_KERNELS])
def test_on_the_cpu(name):
    op = op_of(name)

    @examples(120)
    @given(calls(["float32", *unless_quick("float64")], name))
    def check(args):
        found, wanted = outcome(op, args), outcome(op.plain, args)
        assert agree(found, wanted, limit_of(args)), (described(args), found, wanted)

    check()


@pytest.fixture(params=[PARAMS[CONDITIONS.index(("shuffled", False))]])
def emulated(request):
    with device(request.param, exact=True) as found:
        yield found


@pytest.mark.parametrize("name", [n for n in NAMES if n in CUDA_KERNELS.keys() - LAZY])
def test_on_a_gpu(emulated, name):
    """In the emulator, on NumPy arrays."""
    plain = op_of(name).plain

    @examples(60)
    @given(calls(["float16", "float32"], name))
    def check(args):
        kernel = cuda.kernel_for(name, *args)
        if kernel is None or (
            name in IN_PLACE and not all(a.flags.writeable for a in flat(args) if hasattr(a, "flags"))
        ):
            return  # CuPy cannot lock arrays
        found, wanted = outcome(kernel, args), outcome(plain, args)
        if wanted is ValueError and "labels" in FORWARDS.get(name, ()) and not isinstance(found, type):
            assert np.isnan(found[0])  # labels that are no classes: the host does not wait to say so
            return
        assert agree(found, wanted, limit_of(args)), (described(args), found, wanted)

    check()


def test_dice_of_one_channel_does_not_wait_for_the_gpu(gpu):
    """The plain op reads the labels' check back; with a step that is recorded as a graph that would be an error."""
    logits, labels = gpu.asarray(np.zeros((1, 2, 2, 1), np.float32)), gpu.asarray(np.ones((1, 2, 2), int))
    assert cuda.find_kernel("soft_dice", logits, labels, None, [1, 2]) is not None
    assert cuda.find_kernel("softmax_cross_entropy", logits, labels) is None
    assert cuda.find_kernel("soft_dice", logits, labels[:, 1:]) is None
