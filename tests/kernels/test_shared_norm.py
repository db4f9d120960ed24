"""The backward of a batch norm whose batch other processes have parts of: kernels against the plain op."""

import numpy as np
import pytest
from helpers.cpu_kernels import assert_close, fast, plain
from helpers.cuda_device import EPS, near

from minunet import ops
from minunet.kernels.cuda import launch_norm

SHAPE = (2, 5, 13, 6)


def doubled(*sums):
    """As if another process had the same part."""
    return [2 * np.asarray(s, np.float64) for s in sums]


def part(dtype):
    rng = np.random.default_rng(0)
    x, dy, gamma = rng.normal(3, 2, SHAPE), rng.normal(1, 1, SHAPE), rng.normal(size=SHAPE[-1])
    return [a.astype(dtype) for a in (x, dy, gamma)]


def test_doubling_changes_nothing():
    x, dy, gamma = part(np.float64)
    _, cache, _ = ops.batch_norm.plain(x, gamma, gamma)
    found = ops.shared_batch_norm_backward.plain(dy, cache, total=doubled)
    for a, b in zip(found, ops.batch_norm_backward.plain(dy, cache)):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("small_arrays_too")
def test_on_the_cpu():
    x, dy, gamma = part(np.float32)
    _, cache, _ = plain("batch_norm", x, gamma, gamma)
    uneven = lambda g, b, M: [3 * np.float64(g), b - 1.0, 7 * M]  # noqa: E731
    wanted = plain("shared_batch_norm_backward", dy, cache, total=uneven)
    for a, b in zip(fast("shared_batch_norm_backward", dy, cache, total=uneven), wanted):
        assert_close(a, b, x.size)


def test_on_a_gpu(cuda):
    """Half of the pixels here, and the other half, of which only sums are known, elsewhere."""
    x, dy, gamma = part(np.float64)
    _, cache, (mean, var) = ops.batch_norm.plain(x, gamma, gamma)
    dx, *_ = ops.batch_norm_backward.plain(dy, cache)
    rstd, others = 1 / np.sqrt(var + 1e-5), (dy[1].sum((0, 1)), (dy[1] * (x[1] - mean)).sum((0, 1)), x[1, ..., 0].size)

    def total(b, g, M):
        return [cuda.array(o, np.float64) + s for o, s in zip(others, (b, g, float(M)))]

    given = [cuda.array(a, np.float32) for a in (mean, rstd, gamma)]
    out = cuda.empty((1, *SHAPE[1:]), "float32")
    launch_norm.norm_back(
        cuda.array(dy[:1], "float32"), cuda.array(x[:1], "float32"), *given, None, out, False, True, total
    )  # fmt: skip
    near(out, dx[:1], EPS["exact"], 64)
