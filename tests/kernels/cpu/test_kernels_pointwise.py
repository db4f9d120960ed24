"""The kernels of losses, activations, group norm, resampling, mean-pools and optimisers against their plain twins.

Bounds as in helpers/cpu_kernels.py: eps * sqrt(terms) of the largest value, times a few.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cpu_kernels import (
    assert_close,
    channel_counts,
    check_untouched,
    dtypes,
    fast,
    images,
    locked,
    numbers,
    plain,
    relaxed,
    scattered,
)  # fmt: skip
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops, optim
from minunet.ops import dispatch

pytestmark = pytest.mark.usefixtures("small_arrays_too")


def classes_below(rng, K, shape, ignore, dtype):
    """Labels 0 to K - 1, and some to ignore."""
    return np.where(rng.random(shape) < 0.2, ignore, rng.integers(0, K, shape)).astype(dtype)


# ---- losses ----------------------------------------------------------------------------------------------------------


@relaxed
@given(images, st.integers(2, 9), st.booleans(), st.booleans(), st.sampled_from([(-1, np.int64), (-1, np.int8),
       (255, np.uint8), (0, np.int32)]), st.sampled_from(["softmax_cross_entropy", "soft_dice"]), dtypes)  # fmt: skip
def test_losses(shape, K, weighted, class_weighted, labelling, name, dtype):
    rng = np.random.default_rng(0)
    ignore, kind = labelling
    logits = 3 * numbers(rng, (*shape[:3], K), dtype)
    labels = classes_below(rng, K, shape[:3], ignore, kind)
    options = {
        "weight": rng.random(labels.shape) if weighted else None,
        "class_weight": rng.random(K).tolist() if class_weighted else None,
        "ignore": ignore,
    }
    loss, cache = plain(name, logits, labels, **options)
    found, its = check_untouched(lambda: fast(name, logits, labels, **options), logits, labels)
    assert_close(found, loss, labels.size, scale=1)
    assert len(its) == len(cache)
    for f, e in zip(its, cache):
        if isinstance(e, np.ndarray) and e.dtype == dtype:
            assert_close(f, e, labels.size, scale=labels.size if e.shape == (K,) else 0)
        else:
            np.testing.assert_array_equal(f, e)
    expected = plain(name + "_backward", 0.7, cache)
    for c in (cache, its):
        assert_close(fast(name + "_backward", 0.7, c), expected, labels.size)
        assert_close(plain(name + "_backward", 0.7, c), expected, labels.size)


def test_losses_of_large_logits_and_of_nothing():
    logits = np.array([[[[1e4, -1e4], [-1e4, 1e4], [3.0, 3.0]]]], np.float32)
    labels = np.array([[[0, 0, 1]]])
    loss, cache = fast("softmax_cross_entropy", logits, labels)
    np.testing.assert_allclose(loss, (0 + 2e4 + np.log(2)) / 3, rtol=OP["float32"])
    assert np.isfinite(fast("softmax_cross_entropy_backward", 1.0, cache)).all()
    for name in ("softmax_cross_entropy", "soft_dice"):
        loss, cache = fast(name, logits, np.full_like(labels, -1))
        assert loss == plain(name, logits, np.full_like(labels, -1))[0]
        assert not fast(name + "_backward", 1.0, cache).any()


def test_a_nan_among_the_logits_shows_in_the_loss():
    logits, labels = np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2), int)
    logits[0, 1, 1, 2] = np.nan
    assert np.isnan(fast("softmax_cross_entropy", logits, labels)[0])
    assert np.isnan(fast("soft_dice", logits, labels)[0])


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "soft_dice"])
@pytest.mark.parametrize("wrong", [2, -2])
def test_a_label_that_is_no_class(name, wrong):
    labels = np.array([[[0, wrong, 1]]])
    with pytest.raises(ValueError, match=f"label {wrong} is neither"):
        fast(name, np.zeros((1, 1, 3, 2), np.float32), labels)


@pytest.mark.parametrize(("channels", "labels", "weight"), [
    (1, np.zeros((1, 2, 2), int), None), (2, np.zeros((1, 2, 3), int), None), (2, np.zeros((1, 2, 2)), None),
    (2, np.zeros((1, 2, 2), int), np.ones((2, 2))),
])  # fmt: skip
def test_losses_left_to_the_plain_op(channels, labels, weight):
    logits = np.zeros((1, 2, 2, channels), np.float32)
    for name in ("softmax_cross_entropy", "soft_dice"):
        assert dispatch.find_kernel(name, logits, labels, weight) is None


def test_soft_dice_of_one_channel_goes_on_with_the_kernel():
    rng = np.random.default_rng(1)
    logits, labels = numbers(rng, (2, 5, 6, 1), np.float32), rng.integers(-1, 2, (2, 5, 6))
    _, cache = ops.soft_dice(logits, labels)
    assert_close(fast("soft_dice_backward", 0.7, cache), plain("soft_dice_backward", 0.7, cache), 60)


@relaxed
@given(images, st.integers(1, 9), st.booleans(), dtypes)
def test_star_loss(shape, R, weighted, dtype):
    rng = np.random.default_rng(3)
    logits, target = (3 * numbers(rng, (*shape[:3], 1 + R), dtype) for _ in range(2))
    target[..., 0] = rng.choice([-1, 0, 0.3, 1], shape[:3])
    weight = rng.random(shape[:3]) if weighted else None
    loss, cache = plain("star_loss", logits, target, weight)
    found, its = check_untouched(lambda: fast("star_loss", logits, target, weight), logits, target)
    assert_close(found, loss, target[..., 0].size, scale=4)
    expected = plain("star_loss_backward", 0.7, cache)
    for c in (cache, its):
        assert_close(fast("star_loss_backward", 0.7, c), expected, target[..., 0].size)
        assert_close(plain("star_loss_backward", 0.7, c), expected, target[..., 0].size)


# ---- activations and group norm --------------------------------------------------------------------------------------


@relaxed
@given(images, st.sampled_from([0.01, 0.0, 1.5, -2]), dtypes)
def test_leaky_relu(shape, slope, dtype):
    rng = np.random.default_rng(2)
    x, dy = numbers(rng, shape, dtype).round(1), numbers(rng, shape, dtype)
    expected, cache = plain("leaky_relu", x, slope)
    found, its = check_untouched(lambda: fast("leaky_relu", x, slope), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(its[0], cache[0])
    assert its[1] == slope
    np.testing.assert_array_equal(fast("leaky_relu_backward", dy, its), plain("leaky_relu_backward", dy, cache))


@relaxed
@given(images, dtypes)
def test_softmax(shape, dtype):
    rng = np.random.default_rng(3)
    x, dy = 4 * numbers(rng, shape, dtype), numbers(rng, shape, dtype)
    expected, cache = plain("softmax", x)
    found, its = check_untouched(lambda: fast("softmax", x), x)
    assert_close(found, expected, shape[3])
    assert its[0] is found
    assert_close(fast("softmax_backward", dy, cache), plain("softmax_backward", dy, cache), shape[3], scale=1)


@relaxed
@given(images, st.sampled_from([1, 2, 5]), st.sampled_from([0.0, 3.0, -1000.0]), dtypes)
def test_group_norm(shape, width, centre, dtype):
    rng = np.random.default_rng(4)
    shape, groups = (*shape[:3], shape[3] * width), shape[3]
    x = numbers(rng, shape, dtype) + dtype(centre)
    gamma, beta, dy = numbers(rng, shape[3], dtype), numbers(rng, shape[3], dtype), numbers(rng, shape, dtype)
    expected, cache = plain("group_norm", x, gamma, beta, groups)
    found, its = check_untouched(lambda: fast("group_norm", x, gamma, beta, groups), x)
    assert its[0] is x
    assert [c.shape for c in its] == [c.shape for c in cache]
    size, steep = x[0].size // groups, abs(gamma).max() * cache[3].max()
    assert_close(found, expected, size, scale=abs(x).max() * steep)
    found = check_untouched(lambda: fast("group_norm_backward", dy, cache), dy, x)
    expected = plain("group_norm_backward", dy, cache)
    xhat = abs((x.reshape(shape[0], -1, groups, width) - cache[2]) * cache[3]).max()
    assert_close(found[0], expected[0], size, scale=abs(dy).max() * steep * max(1, xhat**2))
    assert_close(found[1], expected[1], x.size, scale=abs(dy).max() * xhat)
    assert_close(found[2], expected[2], x.size, scale=abs(dy).max())


def test_variance_of_a_group_does_not_cancel():
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((2, 64, 64, 6)) * 0.1 + 1000).astype(np.float32)
    x[:, 0, 0] = 0  # what is subtracted first is of no help
    x[:, 0, 0, ::2] = 2000
    _, (_, _, _, rstd) = fast("group_norm", x, np.ones(6, np.float32), np.zeros(6, np.float32), 2, 0.0)
    exact = x.astype(np.float64).reshape(2, -1, 2, 3).var((1, 3), keepdims=True)
    np.testing.assert_allclose(rstd, exact**-0.5, rtol=1e-4)


# ---- resampling ------------------------------------------------------------------------------------------------------


@relaxed
@given(images, st.integers(1, 5), st.sampled_from(["nearest", "align", "areas"]), dtypes)
def test_upsampling(shape, scale, how, dtype):
    rng = np.random.default_rng(6)
    name = "upsample_nearest" if how == "nearest" else "upsample_bilinear"
    options = () if how == "nearest" else (how == "align",)
    x = numbers(rng, shape, dtype)
    expected, cache = plain(name, x, scale, *options)
    found, its = check_untouched(lambda: fast(name, x, scale, *options), x)
    assert its == cache
    assert_close(found, expected, 4)
    dy = numbers(rng, found.shape, dtype)
    found = check_untouched(lambda: fast(name + "_backward", dy, cache), dy)
    assert_close(found, plain(name + "_backward", dy, cache), 4 * scale**2)


@relaxed
@given(images, st.integers(1, 4), st.sampled_from([None, 1, 2, 3]), dtypes)
def test_avg_pool2d(shape, size, stride, dtype):
    shape = (shape[0], max(shape[1], size), max(shape[2], size), shape[3])
    rng = np.random.default_rng(7)
    x = numbers(rng, shape, dtype)
    expected, cache = plain("avg_pool2d", x, size, stride)
    found, its = check_untouched(lambda: fast("avg_pool2d", x, size, stride), x)
    assert its == cache
    assert_close(found, expected, size * size)
    dy = numbers(rng, found.shape, dtype)
    assert_close(fast("avg_pool2d_backward", dy, its), plain("avg_pool2d_backward", dy, cache), size * size)


# ---- optimisers ------------------------------------------------------------------------------------------------------

STEPS = [
    ("sgd_step", 1, (), {}), ("sgd_step", 1, (), {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
    ("adam_step", 2, (3,), {}), ("adam_step", 2, (1,), {"weight_decay": 0.1, "beta1": 0.5}),
    ("adam_step", 2, (9,), {"weight_decay": 0.1, "decoupled": True, "eps": 1e-3}),
    ("rmsprop_step", 2, (), {}), ("rmsprop_step", 2, (), {"momentum": 0.0, "decay": 0.5, "weight_decay": 0.1}),
]  # fmt: skip


@relaxed
@given(st.sampled_from(STEPS), st.tuples(st.integers(1, 5), st.integers(1, 70), channel_counts), dtypes)
def test_steps(step, shape, dtype):
    """In place, and to the last bits what the plain rule gives."""
    name, slots, more, options = step
    rng = np.random.default_rng(8)
    g = numbers(rng, shape, dtype)
    start = [numbers(rng, shape, dtype), *(numbers(rng, shape, dtype) ** 2 for _ in range(slots))]
    expected = [a.copy() for a in start]
    assert plain(name, expected[0], g, *expected[1:], *more, 0.1, **options) is None
    for gradient in (g, scattered(g), locked(g)):
        found = [a.copy() for a in start]
        call = lambda g=gradient, a=found: fast(name, a[0], g, *a[1:], *more, 0.1, **options)  # noqa: E731
        assert check_untouched(call, gradient) is None
        for f, e in zip(found, expected):
            assert_close(f, e)


def test_arrays_that_cannot_be_changed_in_one_pass_are_left_to_the_plain_rule():
    a = np.ones((4, 6), np.float32)
    assert dispatch.find_kernel("sgd_step", a, a.copy(), a.copy(), 0.1) is not None
    for p, g, v in (
        (scattered(a), a, a),
        (a, a, scattered(a)),
        (a, a, np.ones(6, np.float32)),
        (a, a[:2], a),
        (a, a, a.astype("d")),
    ):
        assert dispatch.find_kernel("sgd_step", p, g, v, 0.1) is None


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_optimizers_learn_the_same_with_and_without_kernels(name):
    from minunet.nn import Conv2d

    results = []
    for mode in ("reference", "fast"):
        rng = np.random.default_rng(9)
        with dispatch.use(mode):
            m = Conv2d(20, 30, rng=np.random.default_rng(0))
            optimizer = optim.OPTIMIZERS[name](m, 0.01, weight_decay=0.1)
            for _ in range(4):
                for path, p in m.params.items():
                    m.grads[path] = numbers(rng, p.shape, np.float32)
                optimizer.step()
        results.append({**m.params, **optimizer.state()})
    for path, a in results[0].items():
        assert_close(results[1][path], a, 4)
