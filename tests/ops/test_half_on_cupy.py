"""Ops in half precision on the stand-in for CuPy, whose loops are CuPy's: a map keeps its dtype, or the next kernel is lost."""

import inspect

import numpy as np
import pytest
from helpers import cupy_loops, pretend_cupy
from helpers.family import MEMBERS, make

from minunet.array import get_array_module
from minunet.gradcheck.cases import CASES
from minunet.kernels import cuda
from minunet.train.amp import MixedPrecision, half_dtype

FULL = {"gamma", "beta", "mean", "var", "scale"}
"""What stays float32 in mixed precision: norms, and numbers that are learned."""

OF_MAPS = [c for c in CASES if isinstance(c.target, tuple) and "wrt" not in c.options and c.name != "prototype_masks"]
"""The ops of which networks are made; losses get float32."""


@pytest.fixture
def cupy(monkeypatch):
    return pretend_cupy.install(monkeypatch)


@pytest.fixture(params=["fp16", "bf16"])
def half(request):
    if request.param == "bf16":
        pytest.importorskip("ml_dtypes")
    return half_dtype(request.param)


def on_gpu(cupy, name, a, half):
    """An argument as mixed precision has it."""
    if isinstance(a, np.ndarray) and a.dtype == np.float64:
        return cupy.asarray(a.astype(np.float32 if name in FULL else half))
    return cupy.asarray(a) if isinstance(a, np.ndarray) else a


def both_ways(cupy, case, half):
    """The results of an op and of its backward, but for caches."""
    forward, backward = case.target
    names, inputs = list(inspect.signature(forward).parameters), case.inputs(np.random.default_rng(0))
    options = {k: v for k, v in case.options.items() if k not in ("mode", "directions")}
    arguments = [on_gpu(cupy, name, a, half) for name, a in zip(names, inputs)]
    y, cache, *_ = forward(*arguments, **{k: on_gpu(cupy, k, v, half) for k, v in options.items()})
    grads = backward(cupy.ones_like(y), cache)
    return y, grads if isinstance(grads, (tuple, list)) else (grads,)


@pytest.mark.parametrize("case", OF_MAPS, ids=lambda c: c.name)
def test_maps_keep_their_dtype(cupy, case, half):
    y, grads = both_ways(cupy, case, half)
    assert y.dtype == half and grads[0].dtype == half
    assert all(g is None or g.dtype in (half, np.float32) for g in grads)


@pytest.mark.drawn(quick=2, ci=8)
@pytest.mark.parametrize("name", MEMBERS)
def test_networks_hand_on_halves(cupy, name, half, monkeypatch):
    """What one layer gives, and the next asks a kernel for, is a half; so are the gradients on their way back."""
    asked = set()

    def kernel_for(name, x, *args, **options):
        asked.update((name, a.dtype) for a in (x if isinstance(x, (list, tuple)) else [x]))

    monkeypatch.setattr(cuda, "find_kernel", kernel_for)
    model = make(name).convert(cupy.asarray)
    network, side = MixedPrecision(model, "fp16" if half == np.float16 else "bf16"), model.fit_size(8)
    x = cupy.asarray(np.random.default_rng(0).standard_normal((2, side, side, 2), np.float32))
    y, cache = network.forward(x, train=True, rng=np.random.default_rng(0))
    network.backward([cupy.ones_like(a) for a in y] if isinstance(y, list) else cupy.ones_like(y), cache)
    in_full = {(op, np.dtype(np.float32)) for op in ("cast", "unscale", "running_average")}
    assert len(asked) > 8 and {a for a in asked if a[1] != half} <= in_full


def test_a_where_of_halves_is_noticed(cupy):
    """As CuPy has it: float16 stays, bfloat16 becomes float32. The test above is not blind."""
    case = next(c for c in OF_MAPS if c.name == "leaky_relu")
    _, backward = case.target

    def forward(x, slope):
        mask = x > 0
        return get_array_module(x).where(mask, x, slope * x), (mask, slope)

    case = type(case)(case.name, (forward, backward), case.inputs, case.options)
    assert both_ways(cupy, case, np.dtype(np.float16))[0].dtype == np.float16
    pytest.importorskip("ml_dtypes")
    assert both_ways(cupy, case, half_dtype("bf16"))[0].dtype == np.float32


@pytest.mark.parametrize(
    "name, arguments, result",
    [
        ("multiply", (np.zeros(2, bool), np.zeros(2, "e")), "e"),
        ("multiply", (2.5, np.zeros(2, "e")), "e"),
        ("multiply", (np.float32(2.5), np.zeros(2, "e")), "f"),
        ("multiply", (np.zeros(2, "l"), np.zeros(2, "e")), "d"),
        ("divide", (np.zeros(2, "i"), 2), "d"),
        ("where", (np.zeros(2, "l"), 1, np.zeros(2, "f")), "f"),
        ("sum", (np.zeros(2, bool),), "l"),
        ("greater", (np.zeros(2, "e"), 0), "?"),
    ],
)
def test_loops_are_chosen_as_by_cupy(name, arguments, result):
    assert cupy_loops.result(name, arguments) == np.dtype(result)
    with pytest.raises(TypeError, match="no loop"):
        cupy_loops.result("invert", (np.zeros(2, "f"),))


def test_the_table_is_cupys():
    """CuPy has all of its loops, in this order; a later one may have more."""
    pytest.importorskip("cupy")
    found = cupy_loops.installed()
    for name, loops in cupy_loops.LOOPS.items():
        assert loops == [loop for loop in found[name] if loop in loops], name
