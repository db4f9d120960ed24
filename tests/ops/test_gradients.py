"""Every op's backward, over awkward shapes: gradient checks in float64, adjoint identities in both precisions."""

import numpy as np
import pytest
from helpers.sizes import examples
from helpers.tolerances import OP
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minunet import ops
from minunet.gradcheck import check, draw
from minunet.gradcheck.cases import CASES

sizes = st.integers(1, 7)
channels = st.integers(1, 4)
seeds = st.integers(0, 2**16)
FEW = examples(15)


def drawn(shape, seed, xp):
    return xp.asarray(draw(shape, np.random.default_rng(seed)))


def linear_both_ways(pair, args, names, xp, **options):
    """The adjoint identity in float64 (to 1e-12) and float32 (to 1e-5)."""
    for dtype in (np.float64, np.float32):
        check(
            pair, *[a.astype(dtype) if hasattr(a, "astype") else a for a in args], mode="adjoint", wrt=names, **options
        )


@FEW
@given(
    N=st.integers(1, 2), H=sizes, W=sizes, C=channels, K=channels, KH=st.integers(1, 4), KW=st.integers(1, 3),
    stride=st.integers(1, 3), dilation=st.integers(1, 2), groups=st.integers(1, 2), bias=st.booleans(), seed=seeds,
    padding=st.sampled_from(["same", "valid", 1, (2, 0), ((0, 1), (2, 1))]),
)  # fmt: skip
@example(1, 5, 5, 1, 1, 3, 3, 2, 1, 1, True, 0, "same")
@example(2, 1, 1, 3, 2, 3, 3, 1, 2, 1, True, 0, "same")
@example(1, 6, 3, 2, 4, 3, 3, 1, 1, 2, False, 0, "same")
def test_conv2d(xp, N, H, W, C, K, KH, KW, stride, dilation, groups, bias, seed, padding):
    x = drawn((N, H, W, C * groups), seed, xp)
    w = drawn((KH, KW, C, K * groups), seed + 1, xp)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    try:
        ops.conv2d(x, w, **options)
    except ValueError:
        assume(False)  # the filter does not fit
    pair = (ops.conv2d, ops.conv2d_backward)
    check(pair, x, w, drawn(K * groups, seed + 2, xp) if bias else None, **options)
    linear_both_ways(pair, (x, w), ("x", "w"), xp, **options)


@FEW
@given(
    N=st.integers(1, 2), H=sizes, W=sizes, C=channels, KH=st.integers(1, 4), KW=st.integers(1, 3), stride=st.integers(1, 3),
    dilation=st.integers(1, 3), bias=st.booleans(), seed=seeds,
    padding=st.sampled_from(["same", "valid", 1, (2, 0), ((0, 1), (2, 1))]),
)  # fmt: skip
@example(1, 5, 5, 1, 3, 3, 2, 1, True, 0, 1)
@example(2, 2, 3, 2, 3, 3, 1, 3, False, 0, "same")  # only the middle tap meets the image
def test_depthwise_conv2d(xp, N, H, W, C, KH, KW, stride, dilation, bias, seed, padding):
    x, w = drawn((N, H, W, C), seed, xp), drawn((KH, KW, C), seed + 1, xp)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    try:
        ops.depthwise_conv2d(x, w, **options)
    except ValueError:
        assume(False)  # the filter does not fit
    pair = (ops.depthwise_conv2d, ops.depthwise_conv2d_backward)
    check(pair, x, w, drawn(C, seed + 2, xp) if bias else None, **options)
    linear_both_ways(pair, (x, w), ("x", "w"), xp, **options)


def test_depthwise_names_the_channels(xp):
    with pytest.raises(ValueError, match="x has 3 channels, w takes 2"):
        ops.depthwise_conv2d(xp.ones((1, 4, 4, 3)), xp.ones((3, 3, 2)))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_depthwise_sums_half_precision_in_float32(xp, dtype):
    """dw has a term for every pixel: 4096 ones and more are not counted in float16."""
    x = xp.ones((1, 70, 70, 2), dtype)
    y, cache = ops.depthwise_conv2d(x, xp.ones((1, 1, 2), dtype), xp.zeros(2, dtype))
    dx, dw, db = ops.depthwise_conv2d_backward(xp.ones_like(y), cache)
    assert dx.dtype == y.dtype == dw.dtype == dtype
    assert dw.tolist() == [[[4900, 4900]]] and db.tolist() == [4900, 4900]


@FEW
@given(
    st.integers(1, 2), sizes, sizes, channels, channels, st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), seeds
)
@example(2, 3, 5, 4, 2, 2, 2, 0, 0)
def test_conv_transpose2d(xp, N, H, W, C, K, size, stride, padding, seed):
    assume((H - 1) * stride + size > 2 * padding and (W - 1) * stride + size > 2 * padding)
    x, w = drawn((N, H, W, C), seed, xp), drawn((size, size, C, K), seed + 1, xp)
    pair = (ops.conv_transpose2d, ops.conv_transpose2d_backward)
    check(pair, x, w, drawn(K, seed + 2, xp), stride=stride, padding=padding)
    linear_both_ways(pair, (x, w), ("x", "w"), xp, stride=stride, padding=padding)


def test_transposed_convolution_is_the_transpose(xp, rng):
    """<conv(x), y> = <x, conv_transpose(y)> for the same filters, with input and output channels exchanged."""
    x, y = rng.standard_normal((2, 9, 7, 3)), rng.standard_normal((2, 5, 4, 2))
    w = rng.standard_normal((3, 3, 3, 2))
    left = (ops.conv2d(xp.asarray(x), xp.asarray(w), stride=2, padding=1)[0] * xp.asarray(y)).sum()
    back, _ = ops.conv_transpose2d(xp.asarray(y), xp.asarray(w.transpose(0, 1, 3, 2)), stride=2, padding=1)
    np.testing.assert_allclose(float(left), float((xp.asarray(x) * back).sum()), rtol=OP["float64"])


@FEW
@given(st.integers(1, 2), sizes, sizes, channels, st.integers(1, 3), st.integers(1, 3), seeds)
def test_pools(xp, N, H, W, C, size, stride, seed):
    assume(min(H, W) >= size)
    x = drawn((N, H, W, C), seed, xp)
    check((ops.max_pool2d, ops.max_pool2d_backward), x, size=size, stride=stride)
    check((ops.avg_pool2d, ops.avg_pool2d_backward), x, size=size, stride=stride)
    linear_both_ways((ops.avg_pool2d, ops.avg_pool2d_backward), (x,), ("x",), xp, size=size, stride=stride)


@FEW
@given(
    st.integers(1, 2),
    sizes,
    sizes,
    channels,
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 2),
    st.booleans(),
    seeds,
)
@example(1, 5, 4, 2, 3, 2, 1, False, 0)
@example(1, 3, 3, 1, 8, 8, 0, True, 0)
def test_padded_pools(xp, N, H, W, C, size, stride, padding, ceil_mode, seed):
    assume(padding <= size // 2 and (ceil_mode or min(H, W) + 2 * padding >= size))
    x, how = drawn((N, H, W, C), seed, xp), {"padding": padding, "ceil_mode": ceil_mode}
    pair = (ops.max_pool2d_padded, ops.max_pool2d_padded_backward)
    check(pair, x, size=size, stride=stride, **how)
    if padding == 0 and not ceil_mode:
        assert (ops.max_pool2d_padded(x, size, stride, **how)[0] == ops.max_pool2d(x, size, stride)[0]).all()


def test_a_window_of_nothing_but_padding_is_refused(xp):
    with pytest.raises(ValueError, match="at most half of the window, 1"):
        ops.max_pool2d_padded(xp.ones((1, 4, 4, 1)), 3, 2, 2)


@FEW
@given(st.integers(1, 2), sizes, sizes, channels, st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), seeds)
def test_unpooling(xp, N, OH, OW, C, size, below, right, seed):
    H, W = OH * size + below % size, OW * size + right % size
    x = drawn((N, H, W, C), seed, xp)
    y, (winner, *_) = ops.max_pool2d(x, size)
    pair = (ops.max_unpool2d, ops.max_unpool2d_backward)
    check(pair, y, winner, output_size=(H, W), size=size)
    linear_both_ways(pair, (y, winner), ("x",), xp, output_size=(H, W), size=size)
    back, cache = ops.max_unpool2d(y, winner, (H, W), size)
    assert ((back == x) | (back == 0)).all() and (ops.max_unpool2d_backward(back, cache) == y).all()
    with pytest.raises(ValueError, match=f"to {H + size} x {W} pixels"):
        ops.max_unpool2d(y, winner, (H + size, W), size)


def test_a_tie_goes_to_the_first(xp):
    x = xp.ones((1, 2, 2, 1))
    _, cache = ops.max_pool2d(x)
    dx = ops.max_pool2d_backward(xp.full((1, 1, 1, 1), 3.0), cache)
    assert dx[0, :, :, 0].tolist() == [[3, 0], [0, 0]]


@FEW
@given(st.integers(1, 2), sizes, sizes, channels, st.integers(1, 3), st.booleans(), seeds)
def test_upsampling(xp, N, H, W, C, scale, corners, seed):
    x = drawn((N, H, W, C), seed, xp)
    nearest, bilinear = (getattr(ops, f"upsample_{k}") for k in ("nearest", "bilinear"))
    check((nearest, ops.upsample_nearest_backward), x, scale=scale)
    check((bilinear, ops.upsample_bilinear_backward), x, scale=scale, align_corners=corners)
    linear_both_ways((nearest, ops.upsample_nearest_backward), (x,), ("x",), xp, scale=scale)
    linear_both_ways((bilinear, ops.upsample_bilinear_backward), (x,), ("x",), xp, scale=scale, align_corners=corners)


@FEW
@given(st.integers(1, 2), sizes, sizes, channels, st.integers(1, 15), st.integers(1, 15), st.booleans(), seeds)
@example(1, 1, 7, 2, 9, 3, False, 0)
@example(1, 7, 4, 1, 1, 12, True, 0)
def test_resizing(xp, N, H, W, C, OH, OW, corners, seed):
    x = drawn((N, H, W, C), seed, xp)
    for pair, how in (
        ((ops.resize_nearest, ops.resize_nearest_backward), {}),
        ((ops.resize_bilinear, ops.resize_bilinear_backward), {"align_corners": corners}),
    ):
        check(pair, x, size=(OH, OW), **how)
        linear_both_ways(pair, (x,), ("x",), xp, size=(OH, OW), **how)
        if OH % H == 0 and OH // H * W == OW:
            y = getattr(ops, pair[0].__name__.replace("resize", "upsample"))(x, OH // H, **how)[0]
            assert float(abs(pair[0](x, (OH, OW), **how)[0] - y).max()) < 1e-12


def test_bilinear_keeps_constants_and_ramps(xp):
    """Weights sum to 1; with align_corners a straight line stays one."""
    ramp = xp.arange(5.0)[None, :, None, None] * xp.ones((1, 1, 3, 1))
    y, _ = ops.upsample_bilinear(ramp, 2, align_corners=True)
    np.testing.assert_allclose(y[0, :, 0, 0].tolist(), np.linspace(0, 4, 10), atol=1e-14)
    for corners in (True, False):
        y, _ = ops.upsample_bilinear(xp.ones((1, 3, 4, 2)), 3, corners)
        assert abs(y - 1).max() < 1e-14


margins = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


@FEW
@given(st.integers(1, 2), st.integers(5, 7), st.integers(5, 7), channels, margins, seeds)
def test_pad_and_crop_undo_each_other(xp, N, H, W, C, m, seed):
    x = drawn((N, H, W, C), seed, xp)
    linear_both_ways((ops.pad, ops.pad_backward), (x,), ("x",), xp, margins=m)
    linear_both_ways((ops.crop, ops.crop_backward), (x,), ("x",), xp, margins=m)
    assert (ops.crop(ops.pad(x, m)[0], m)[0] == x).all()


def test_cropping_everything_is_an_error(xp):
    with pytest.raises(ValueError, match="leave nothing"):
        ops.crop(xp.ones((1, 3, 3, 1)), ((2, 1), (0, 0)))


@FEW
@given(sizes, sizes, st.lists(channels, min_size=1, max_size=4), seeds)
def test_concat(xp, H, W, widths, seed):
    arrays = [drawn((2, H, W, C), seed + i, xp) for i, C in enumerate(widths)]
    y, cache = ops.concat(arrays)
    for a, back in zip(arrays, ops.concat_backward(y, cache)):
        assert (a == back).all()


@FEW
@given(st.integers(1, 2), sizes, sizes, channels, st.tuples(*[st.booleans()] * 4), seeds)
@example(2, 3, 4, 2, (False, True, True, False), 0)
@example(2, 3, 4, 2, (False, False, False, True), 0)
def test_gates_and_sums(xp, N, H, W, C, one, seed):
    x = drawn((N, H, W, C), seed, xp)
    a = drawn(tuple(1 if single else n for single, n in zip(one, x.shape)), seed + 1, xp)
    check((ops.gate, ops.gate_backward), x, a)
    linear_both_ways((ops.gate, ops.gate_backward), (x, a), ("x", "a"), xp)
    y, cache = ops.add([x, x + 1, x])
    assert float(abs(y - 3 * x - 1).max()) < 1e-12 and all((d == y).all() for d in ops.add_backward(y, cache))
    pair = (ops.global_avg_pool2d, ops.global_avg_pool2d_backward)
    check(pair, x)
    linear_both_ways(pair, (x,), ("x",), xp)


def test_maps_that_do_not_fit_each_other_are_refused(xp):
    with pytest.raises(ValueError, match=r"one shape, not \(1, 2, 2, 3\), \(1, 2, 2, 1\)"):
        ops.add([xp.ones((1, 2, 2, 3)), xp.ones((1, 2, 2, 1))])
    for shape in ((1, 2, 1, 3), (3,), (1, 1, 3, 3)):
        x, a = xp.ones((1, 1, 2, 3)), xp.ones(shape)
        with pytest.raises(ValueError, match="does not fit a map"):
            ops.gate(x, a)


def test_a_mean_of_many_float32_numbers_keeps_its_digits(xp):
    x = xp.full((1, 600, 700, 2), 0.1, np.float32)
    assert float(abs(ops.global_avg_pool2d(x)[0] - x[0, 0, 0]).max()) < 1e-8


@FEW
@given(st.integers(1, 3), sizes, sizes, channels, seeds)
def test_batch_norm(xp, N, H, W, C, seed):
    x, gamma, beta = drawn((N, H, W, C), seed, xp), drawn(C, seed + 1, xp), drawn(C, seed + 2, xp)
    pair = (ops.batch_norm, ops.batch_norm_backward)
    if N * H * W > 2:  # with two values a channel y is +-gamma whatever x is, and differences are all rounding
        check(pair, x, gamma, beta)
    check(pair, x, gamma, beta, mean=drawn(C, seed + 3, xp), var=abs(drawn(C, seed + 4, xp)) + 0.5)


@FEW
@given(st.integers(1, 2), st.integers(2, 6), st.integers(2, 6), st.integers(1, 3), st.integers(1, 3), seeds)
def test_group_norm(xp, N, H, W, per_group, groups, seed):
    C = per_group * groups
    x, gamma, beta = drawn((N, H, W, C), seed, xp), drawn(C, seed + 1, xp), drawn(C, seed + 2, xp)
    check((ops.group_norm, ops.group_norm_backward), x, gamma, beta, groups=groups)


def test_statistics_do_not_cancel_in_float32(xp, rng):
    """A mean of 10,000 and a spread of 1: E[x^2] - mean^2 would have no correct digit."""
    x = xp.asarray((1e4 + rng.standard_normal((2, 40, 40, 2))).astype(np.float32))
    y, _, (_, var) = ops.batch_norm(x, xp.ones(2, np.float32), xp.zeros(2, np.float32))
    np.testing.assert_allclose(var.tolist(), x.astype(np.float64).var((0, 1, 2)).tolist(), rtol=1e-4)
    assert abs(float(y.std()) - 1) < 1e-3


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), seeds)
def test_activations(xp, shape, seed):
    x = drawn(tuple(shape), seed, xp)
    check((ops.relu, ops.relu_backward), x)
    check((ops.leaky_relu, ops.leaky_relu_backward), x, slope=0.2)
    check((ops.relu6, ops.relu6_backward), 6 * x)
    check((ops.sigmoid, ops.sigmoid_backward), x)
    check((ops.tanh, ops.tanh_backward), x)
    check((ops.softmax, ops.softmax_backward), x)


def test_large_logits_do_not_overflow(xp):
    x = xp.asarray([[[[-1e4, 0.0, 1e4]]]])
    assert ops.softmax(x)[0].tolist() == [[[[0, 0, 1]]]]
    assert ops.sigmoid(x)[0].tolist() == [[[[0, 0.5, 1]]]]
    loss, _ = ops.softmax_cross_entropy(x, xp.zeros((1, 1, 1), int))
    assert float(loss) == 2e4
    loss, _ = ops.bce_with_logits(xp.full((1, 1, 1, 1), -1e4), xp.ones((1, 1, 1), int))
    assert float(loss) == 1e4


def test_dropout(xp):
    x = xp.ones((4, 50, 50, 2))
    y, cache = ops.dropout(x, 0.3, np.random.default_rng(0))
    assert sorted(set(y.ravel().tolist())) == [0, 1 / 0.7]
    assert abs(float(y.mean()) - 1) < 0.02
    assert (ops.dropout_backward(x, cache) == y).all()
    with pytest.raises(ValueError, match="rate"):
        ops.dropout(x, 1.0, np.random.default_rng(0))


LOSSES = ["softmax_cross_entropy", "bce_with_logits", "soft_dice", "focal"]


@FEW
@given(
    st.sampled_from(LOSSES), st.integers(1, 2), sizes, sizes, st.integers(1, 4), st.booleans(), st.booleans(),
    st.booleans(), seeds,
)  # fmt: skip
def test_losses(xp, name, N, H, W, K, weighted, class_weighted, ignoring, seed):
    K = {"softmax_cross_entropy": max(K, 2), "bce_with_logits": 1}.get(name, K)
    rng = np.random.default_rng(seed)
    labels = xp.asarray(rng.integers(-1 if ignoring else 0, max(K, 2), (N, H, W)))
    weight = xp.asarray(rng.uniform(0.1, 2, (N, H, W))) if weighted else None
    class_weight = xp.asarray(rng.uniform(0.1, 2, max(K, 2))) if class_weighted else None
    pair = (getattr(ops, name), getattr(ops, f"{name}_backward"))
    check(pair, drawn((N, H, W, K), seed, xp), labels, weight, class_weight, wrt=["logits"])


@FEW
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.floats(0, 1), st.sampled_from([0.0, 0.5, 2.0, 3.0]), seeds
)
def test_focal_loss_of_independent_classes(xp, shape, alpha, gamma, seed):
    rng = np.random.default_rng(seed)
    targets = xp.asarray(rng.integers(-1, 2, tuple(shape)))
    pair = (ops.sigmoid_focal, ops.sigmoid_focal_backward)
    check(pair, 5 * drawn(tuple(shape), seed, xp), targets, alpha=alpha, gamma=gamma, wrt=["logits"])


@FEW
@given(st.integers(1, 6), st.floats(0, 12), st.booleans(), seeds)
def test_giou(xp, n, apart, weighted, seed):
    """Boxes that meet, lie within each other, or are far apart."""
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0, 4, (n, 2)) for _ in range(2))
    boxes, targets = (
        xp.asarray(np.concatenate([c, c + rng.uniform(0.5, 6, (n, 2))], -1)) for c in (a, b + np.array([0, apart]))
    )
    weight = xp.asarray(rng.uniform(0.1, 2, n)) if weighted else None
    check((ops.giou, ops.giou_backward), boxes, targets, weight, wrt=["boxes"])


@FEW
@given(sizes, sizes, st.integers(1, 3), st.integers(0, 3), seeds)
def test_masks_of_prototypes(xp, H, W, k, M, seed):
    """Boxes of all sizes, several rows of coefficients for one object, none at all."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(2):
        (top, bottom), (left, right) = (sorted(rng.choice(n + 1, 2, replace=False)) for n in (H, W))
        truth = xp.asarray(rng.integers(-1, 2, (bottom - top, right - left)))
        crops.append(ops.Crop(int(rng.integers(2)), int(top), int(left), truth))
    owner = rng.integers(0, 2, M)
    forward = lambda prototypes, coefficients: ops.prototype_masks(prototypes, coefficients, owner, crops)  # noqa: E731
    P, C = drawn((2, H, W, k), seed, xp), drawn((M, k), seed + 1, xp)
    check((forward, ops.prototype_masks_backward), P, C, wrt=["prototypes", "coefficients"] if M else ["prototypes"])
    with pytest.raises(ValueError, match="lies outside"):
        ops.prototype_masks(P, xp.ones((1, k)), [0], [ops.Crop(0, 1, 0, xp.ones((H, 1)))])
    with pytest.raises(ValueError, match="rows, one for each owner"):
        ops.prototype_masks(P, xp.ones((1, k)), [0, 0], crops)


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans(), seeds)
def test_cross_entropy_of_shares_and_exponential(xp, shape, weighted, seed):
    rng = np.random.default_rng(seed)
    weight = xp.asarray(rng.uniform(0, 2, tuple(shape))) if weighted else None
    x, targets = 3 * drawn(tuple(shape), seed, xp), xp.asarray(rng.random(tuple(shape)))
    check((ops.sigmoid_bce, ops.sigmoid_bce_backward), x, targets, weight, wrt=["logits"])
    check((ops.scaled_exp, ops.scaled_exp_backward), x, xp.asarray([0.7]))
    with pytest.raises(ValueError, match="they must agree"):
        ops.sigmoid_bce(x, targets[..., None])


def test_losses_of_detectors_at_their_ends(xp):
    """Sure and wrong, nothing to find, equal boxes, boxes turned inside out: finite, and 0 where it should be."""
    loss, cache = ops.sigmoid_focal(xp.asarray([-1e4, 1e4, 1e4]), xp.asarray([1, 1, 0]))
    assert float(loss) == 0.25e4 / 2 + 0.75e4 / 2
    assert ops.sigmoid_focal_backward(1.0, cache).tolist() == [-0.125, 0, 0.375]
    loss, cache = ops.sigmoid_focal(xp.asarray([-3.0, 2.0]), xp.asarray([0, -1]))
    assert 0 < float(loss) < 1e-3 and ops.sigmoid_focal_backward(1.0, cache)[1] == 0
    box = xp.asarray([[1.0, 2.0, 5.0, 4.0]])
    loss, cache = ops.giou(box, box)
    assert float(loss) == 0 and not ops.giou_backward(1.0, cache).any()
    loss, cache = ops.giou(box, box, xp.zeros(1))
    assert float(loss) == 0 and not ops.giou_backward(1.0, cache).any()
    loss, cache = ops.giou(xp.asarray([[5.0, 4.0, 1.0, 2.0]]), box)
    assert 1 <= float(loss) <= 2 and bool(np.isfinite(ops.giou_backward(1.0, cache).tolist()).all())
    for wrong in (xp.ones((1, 3)), xp.ones((2, 4))):
        with pytest.raises(ValueError, match=r"\(..., 4\)"):
            ops.giou(wrong, box)
    with pytest.raises(ValueError, match="they must agree"):
        ops.sigmoid_focal(xp.ones(3), xp.ones(2, int))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_learn_from_gives_zero(xp, name):
    K = 1 if name == "bce_with_logits" else 3
    logits, labels = xp.ones((1, 2, 2, K)), xp.full((1, 2, 2), -1)
    loss, cache = getattr(ops, name)(logits, labels)
    assert float(loss) == 0
    assert not getattr(ops, f"{name}_backward")(1.0, cache).any()


@FEW
@given(st.integers(1, 2), sizes, sizes, st.integers(1, 4), st.booleans(), st.booleans(), seeds)
def test_star_loss(xp, N, H, W, R, weighted, ignoring, seed):
    rng = np.random.default_rng(seed)
    target = np.abs(rng.standard_normal((N, H, W, 1 + R)))
    target[..., 0] = rng.choice([-1.0, 0.0, 0.6, 1.0][1 - ignoring :], (N, H, W))
    weight = xp.asarray(rng.uniform(0.1, 2, (N, H, W))) if weighted else None
    pair = (ops.star_loss, ops.star_loss_backward)
    check(pair, drawn(target.shape, seed, xp), xp.asarray(target), weight, outside=0.2, wrt=["logits"])


def test_stars_of_nothing_give_zero_and_wrong_shapes_are_named(xp):
    logits = xp.ones((1, 2, 2, 5))
    for p, expected in ((-1.0, 0.0), (0.0, np.log(1 + np.e) + 1e-4)):
        loss, cache = ops.star_loss(logits, xp.full((1, 2, 2, 5), p))
        assert float(loss) == pytest.approx(expected)
        assert bool(ops.star_loss_backward(1.0, cache).any()) == (p == 0)
    for wrong in (xp.ones((1, 2, 2, 4)), xp.ones((1, 2, 3, 5))):
        with pytest.raises(ValueError, match=r"both have 1 \+ R channels"):
            ops.star_loss(logits, wrong)


def test_a_label_that_is_no_class_is_named(xp):
    with pytest.raises(ValueError, match="label 255"):
        ops.softmax_cross_entropy(xp.zeros((1, 1, 2, 2)), xp.asarray([[[0, 255]]]))


def test_losses_name_the_channels_that_they_need(xp):
    labels = xp.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match="two channels"):
        ops.softmax_cross_entropy(xp.zeros((1, 2, 2, 1)), labels)
    with pytest.raises(ValueError, match="one channel"):
        ops.bce_with_logits(xp.zeros((1, 2, 2, 2)), labels)


def test_focal_without_discount_is_cross_entropy(xp, rng):
    logits, labels = xp.asarray(rng.standard_normal((2, 3, 4, 3))), xp.asarray(rng.integers(0, 3, (2, 3, 4)))
    a, ca = ops.focal(logits, labels, gamma=0.0)
    b, cb = ops.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(float(a), float(b), rtol=OP["float64"])
    d = ops.focal_backward(1.0, ca) - ops.softmax_cross_entropy_backward(1.0, cb)
    assert float(abs(d).max()) < 1e-14


NETWORKS = [c for c in CASES if c.name.startswith("UNet")]


@pytest.mark.parametrize("case", [c for c in CASES if c not in NETWORKS], ids=lambda c: c.name)
def test_shipped_cases(case):
    """What ``python -m minunet.gradcheck`` runs."""
    assert case.run().ok
    if case.linear and not isinstance(case.options.get("mode"), str):
        assert case.run(mode="adjoint", wrt=case.linear).ok


@pytest.mark.slow
@pytest.mark.drawn(ci=0)
@pytest.mark.parametrize("case", NETWORKS, ids=lambda c: c.name)
def test_shipped_networks(case):
    """The whole networks among it, with every parameter; .ci/run checks all of them by the command."""
    assert case.run().ok
