"""Concatenations that are made: of maps of any kind, against NumPy's."""

import numpy as np
from helpers import guards
from helpers.lazy_maps import ONE, lazy_map, memory_of
from helpers.sizes import examples, unless_quick
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet import nn, ops
from minunet.kernels.cpu import concat as cpu_concat
from minunet.ops.dispatch import find_kernel
from minunet.ops.lazy import LazyConcat, fusion_scope

sides, widths = st.integers(1, 9), st.one_of(st.integers(1, 20), st.sampled_from([32, 33]))


@examples(40)
@given(st.lists(st.tuples(st.sampled_from([*ONE, "pair"]), widths), min_size=2, max_size=5), st.integers(1, 2), sides, sides,
       st.sampled_from([np.float32, *unless_quick(np.float64)]), st.booleans())  # fmt: skip
def test_any_number_of_any_kind(parts, N, H, W, dtype, within):
    rng, maps, values = np.random.default_rng(0), [], []
    for kind, C in parts:
        halves = [lazy_map("norm, relu", rng, (N, H, W, C), dtype), lazy_map("array", rng, (N, H, W, 3), dtype)]
        one = halves if kind == "pair" else [lazy_map(kind, rng, (N, H, W, C), dtype)]
        maps.append(LazyConcat(*(m for m, _ in one)) if kind == "pair" else one[0][0])
        values.append(np.concatenate([value for _, value in one], axis=-1))
    before = [a.copy() for m in maps if not isinstance(m, LazyConcat) for a in memory_of(m)]
    with guards.around_kernels():
        made = fusion_scope(cpu_concat.concat) if within else cpu_concat.concat
        y, cache = made(maps)
    exact = np.concatenate(values, axis=-1)
    np.testing.assert_allclose(np.asarray(y), exact, rtol=OP[y.dtype.name], atol=OP[y.dtype.name] * abs(exact).max())
    assert y.dtype == dtype and cache == tuple(m.shape[-1] for m in maps)
    after = [a for m in maps if not isinstance(m, LazyConcat) for a in memory_of(m)]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_what_takes_the_kernel(rng):
    large = [rng.standard_normal((1, 40, 40, C)).astype(np.float32) for C in (3, 8, 5)]
    for n in (2, 3):
        assert find_kernel("concat", large[:n]) is cpu_concat.concat
        y, cache = ops.concat(large[:n])
        np.testing.assert_array_equal(y, np.concatenate(large[:n], axis=-1))
        assert all((a == b).all() for a, b in zip(ops.concat_backward(y, cache), large))
    small = [a[:, :4] for a in large]
    for maps in (small, [large[0], large[1].astype(np.float64)], [large[0], large[1][:, 1:], large[2]], large[:1]):
        assert find_kernel("concat", maps) is None
    assert nn.Concat()(tuple(large)).shape == (1, 40, 40, 16)
