"""The CUDA convolutions against the plain ops in float64, emulated in every order, and on a GPU if there is one."""

import numpy as np
import pytest
from helpers.cuda_device import EPS, near, stored

from minunet import ops
from minunet.kernels.cuda import build, emulator, launch, launch_norm
from minunet.kernels.cuda.start import has_wgmma

SHAPES = [  # N, H, W, C, K: chunks of 16 bytes or not, tiles filled or not, more than one tile of pixels and of channels
    (1, 9, 7, 16, 20),
    (2, 5, 6, 40, 72),
    (1, 8, 8, 3, 5),
    (1, 13, 11, 1, 8),
    (1, 1, 1, 8, 4),
    (1, 2, 3, 37, 2),
]


def problem(rng, dtype, N, H, W, C, K, side=3, up=1):
    """x, w, b and dy, as a map of dtype holds them."""
    x = rng.standard_normal((N, H, W, C))
    w = rng.standard_normal((side, side, C, K)) / side / C**0.5
    dy = rng.standard_normal((N, H * up, W * up, K))
    b = rng.standard_normal(K).astype(np.float32).astype(float)
    return stored(x, dtype), stored(w, dtype), b, stored(dy, dtype)


def eps(cuda, dtype):
    """Of the products: float16 and bfloat16 are multiplied exactly."""
    exact = dtype != "float32" or cuda.exact
    return EPS["exact"] if exact else EPS[dtype]


def needs_wgmma(cuda):
    if cuda.xp is not np and not has_wgmma(cuda.xp):
        pytest.skip("only GPUs of compute capability 9.0 have wgmma")


def filters(cuda, w, dtype):
    return cuda.array(w.reshape(-1, *w.shape[2:]), dtype)


def check_all(cuda, rng, dtype, N, H, W, C, K, side=3, warpgroups=None, **tiling):
    """Forward with bias and moments, data gradient and weight gradient."""
    multiplied = tiling | {"warpgroups": warpgroups}
    x, w, b, dy = problem(rng, dtype, N, H, W, C, K, side)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, dw, _ = ops.conv2d_backward.plain(dy, cache)
    pad, e, mapped = side // 2, eps(cuda, dtype), {"dtype": dtype}
    on, weights, out = cuda.array(x, dtype), filters(cuda, w, dtype), cuda.empty(y.shape, dtype)
    tiles = launch.conv(
        [on], weights, [out], side=side, pad=pad, bias=cuda.array(b, np.float32), moments=True, **multiplied
    )
    near(out, y, e, side**2 * C, **mapped)
    mean, var, _ = launch_norm.merge_moments(tiles, N * H * W, launch.BM)
    near(mean, y.mean((0, 1, 2)), e, side**2 * C)
    near(var, y.var((0, 1, 2)), 2 * e, side**2 * C)
    out = cuda.empty(dx.shape, dtype)
    launch.conv([cuda.array(dy, dtype)], weights, [out], side=side, pad=pad, flip=True, gradient=True, **multiplied)
    near(out, dx, e, side**2 * K, **mapped)
    out = cuda.empty((side**2, C, K))
    launch.conv_weights([on], cuda.array(dy, dtype), out, side=side, pad=pad, **tiling)
    near(out.reshape(dw.shape), dw, e, N * H * W)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients(exact_cuda, rng, shape):
    check_all(exact_cuda, rng, "float32", *shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
def test_numbers_of_tensor_cores(cuda, rng, dtype, shape):
    check_all(cuda, rng, dtype, *shape)


@pytest.mark.parametrize("side", [1, 5, 17])
def test_other_sizes_of_filters(exact_cuda, rng, side):
    check_all(exact_cuda, rng, "float32", 1, 6, 5, 16, 12, side=side)


@pytest.mark.parametrize("columns", [launch.BN, launch.WIDE])
@pytest.mark.parametrize("shape", [(1, 9, 7, 16, 20), (2, 5, 6, 72, 136), (3, 2, 1, 40, 72)], ids=str)
def test_tiles_of_both_widths(exact_cuda, rng, shape, columns):
    check_all(exact_cuda, rng, "float32", *shape, columns=columns)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("splits", [None, 3])
def test_wide_tiles_of_tensor_cores(cuda, rng, dtype, splits):
    check_all(cuda, rng, dtype, 2, 7, 5, 72, 136, columns=launch.WIDE, splits=splits)


@pytest.mark.parametrize("columns", [launch.BN, launch.WIDE])
@pytest.mark.parametrize("shape", [(1, 9, 7, 16, 20), (2, 9, 8, 72, 136), (3, 2, 1, 40, 72)], ids=str)
def test_products_by_warpgroups(exact_cuda, rng, shape, columns):
    needs_wgmma(exact_cuda)
    check_all(exact_cuda, rng, "float32", *shape, columns=columns, warpgroups=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("columns, splits", [(launch.BN, None), (launch.WIDE, 3)])
def test_numbers_of_warpgroups(cuda, rng, dtype, columns, splits):
    needs_wgmma(cuda)
    check_all(cuda, rng, dtype, 2, 7, 5, 72, 136, columns=columns, splits=splits, warpgroups=True)


@pytest.mark.parametrize("variant", [(np.dtype("f4"), launch.BN, False), (np.dtype("f2"), launch.WIDE, True)], ids=str)
@pytest.mark.parametrize("right", [True, False])
def test_wgmma_is_not_trusted_unseen(monkeypatch, right, variant):
    """Before it is used on a GPU it must agree with mma.sync there; else one line says so, and mma.sync goes on."""
    if reason := emulator.missing():
        pytest.skip(reason)
    agrees = launch.wgmma_agrees.__wrapped__  # what is kept are answers
    assert not agrees(np, 0, *variant)
    monkeypatch.setattr(launch, "has_wgmma", lambda xp: True)
    header = (build.FOLDER / "prim.cuh").read_text()
    with build.sources({} if right else {"prim.cuh": header.replace("(8 * 128 / 16)", "(8 * 64 / 16)")}):
        if right:
            assert agrees(np, 0, *variant)
        else:
            with pytest.warns(UserWarning, match="goes on with mma.sync"):
                assert not agrees(np, 0, *variant)


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2]], ids=str)
def test_sums_shared_among_blocks(exact_cuda, rng, shape):
    check_all(exact_cuda, rng, "float32", *shape, splits=3)


@pytest.mark.parametrize("size", [256, 512, 1024, 1664])
@pytest.mark.parametrize("level", range(5))
def test_splits_keep_all_processors_at_work(size, level):
    """In the 31 M-parameter network, on 132 multiprocessors: the busiest has not much more than its share of the steps."""
    P, C, processors = (size >> level) ** 2, 64 << level, 132
    side = launch.WIDE if C >= launch.WIDE else launch.BN
    of_conv = -(-P // launch.BM) * C // side, 9 * C * 4 // 128
    of_weights = 9 * (C // side) ** 2, P // 32
    for tiles, steps in (of_conv, of_weights):
        splits = launch.choose_splits(tiles, steps, processors)
        busiest = -(-tiles * splits // processors) * -(-steps // splits)
        few = tiles * steps < 100 * processors  # then it takes longer to add them up
        assert (
            1 <= splits <= min(steps, launch.MOST_SPLITS)
            and busiest <= (2 if few else 1.15) * tiles * steps / processors
        )
    assert launch.choose_splits(1, 1, processors) == launch.choose_splits(10_000, 1000, processors) == 1
    assert launch.choose_splits(1, 0, processors) == 1


def test_moments_do_not_cancel(exact_cuda, rng):
    """A mean of 1000 standard deviations leaves the variance as it is."""
    x, w, b, _ = problem(rng, "float32", 1, 19, 20, 4, 8)
    b += 1000
    y, _ = ops.conv2d.plain(x, w, b)
    out = exact_cuda.empty(y.shape)
    tiles = launch.conv(
        [exact_cuda.array(x, "float32")], filters(exact_cuda, w, "float32"), [out], side=3, pad=1,
        bias=exact_cuda.array(b, np.float32), moments=True,
    )  # fmt: skip
    mean, var, _ = launch_norm.merge_moments(tiles, 19 * 20, launch.BM)
    limit = 1e-3 if exact_cuda.xp is not np else 1e-4  # a GPU rounds the products to TF32
    np.testing.assert_allclose(var.get() if hasattr(var, "get") else var, y.var((0, 1, 2)), rtol=limit)


@pytest.mark.parametrize("columns", [None, launch.WIDE])
@pytest.mark.parametrize("C1, C2, K1, K2", [(16, 40, 12, 20), (5, 3, 7, 2), (72, 64, 64, 68)])
def test_halves_of_concatenations(exact_cuda, rng, C1, C2, K1, K2, columns):
    """Two sources and two outputs, all of them slices of wider buffers, whose other channels stay as they are."""
    N, H, W, C, K, margin, tiling = 1, 6, 7, C1 + C2, K1 + K2, 4, {"columns": columns}
    x, w, b, dy = problem(rng, "float32", N, H, W, C, K)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, dw, _ = ops.conv2d_backward.plain(dy, cache)

    def halves(of, first):
        return of[..., margin : margin + first], of[..., margin + first : -margin]

    def buffer(channels, values=None):
        wide = np.full((N, H, W, channels + 2 * margin), np.nan, np.float32)
        if values is not None:
            wide[..., margin:-margin] = values
        return exact_cuda.array(wide)

    weights, e = filters(exact_cuda, w, "float32"), eps(exact_cuda, "float32")
    from_, to = buffer(C, x), buffer(K)
    launch.conv(
        halves(from_, C1), weights, halves(to, K1), side=3, pad=1, bias=exact_cuda.array(b, np.float32), **tiling
    )
    near(to[..., margin:-margin], y, e, 9 * C)
    grads, found = buffer(K, dy), buffer(C)
    launch.conv(halves(grads, K1), weights, halves(found, C1), side=3, pad=1, flip=True, gradient=True, **tiling)
    near(found[..., margin:-margin], dx, e, 9 * K)
    out = exact_cuda.empty((9, C, K))
    launch.conv_weights(halves(from_, C1), exact_cuda.array(dy, np.float32), out, side=3, pad=1, **tiling)
    near(out.reshape(dw.shape), dw, e, N * H * W)
    for wide in (to, found):
        assert all(bool(exact_cuda.xp.isnan(edge).all()) for edge in (wide[..., :margin], wide[..., -margin:]))


@pytest.mark.parametrize("K", [12, 5])
def test_scale_relu_and_accumulation(exact_cuda, rng, K):
    x, w, b, before = problem(rng, "float32", 1, 5, 4, 8, K)
    scale = rng.standard_normal(K).astype(np.float32)
    y, _ = ops.conv2d.plain(x, w * scale, b)
    out = exact_cuda.array(before, np.float32)
    launch.conv(
        [exact_cuda.array(x, np.float32)], filters(exact_cuda, w, "float32"), [out], side=3, pad=1,
        bias=exact_cuda.array(b, np.float32), relu=True, accumulate=True, scale=exact_cuda.array(scale),
    )  # fmt: skip
    near(out, before + np.maximum(y, 0), eps(exact_cuda, "float32"), 72)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 16, 8), (1, 4, 3, 6, 3)], ids=str)
def test_transposed_convolution(exact_cuda, rng, dtype, shape):
    N, H, W, C, K = shape
    x, w, b, dy = problem(rng, dtype, N, H, W, C, K, side=2, up=2)
    y, cache = ops.conv_transpose2d.plain(x, w, b)
    dx, dw, _ = ops.conv_transpose2d_backward.plain(dy, cache)
    on, weights, e = exact_cuda.array(x, dtype), filters(exact_cuda, w, dtype), eps(exact_cuda, dtype)
    upstream = exact_cuda.array(dy, dtype)
    for splits in (1, 2):
        out = exact_cuda.empty(y.shape, dtype)
        launch.conv([on], weights, [out], side=1, up=2, bias=exact_cuda.array(b, np.float32), splits=splits)
        near(out, y, e, C, dtype)
        out = exact_cuda.empty(x.shape, dtype)
        launch.conv([upstream], weights, [out], side=2, stride=2, gradient=True, splits=splits)
        near(out, dx, e, 4 * K, dtype)
        out = exact_cuda.empty((4, C, K))
        launch.conv_weights([upstream], on, out, side=2, stride=2, transposed=True, splits=splits)
        near(out.reshape(dw.shape), dw, e, N * H * W)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("C, K", [(64, 2), (7, 8), (140, 3)])
def test_head(cuda, rng, dtype, C, K):
    x, w, b, dy = problem(rng, "float32", 2, 5, 7, C, K, side=1)
    x = stored(x, dtype)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, _, _ = ops.conv2d_backward.plain(dy, cache)
    weights = cuda.array(w[0, 0], np.float32)
    out = cuda.empty(y.shape)
    launch.head(cuda.array(x, dtype), weights, cuda.array(b, np.float32), out)
    near(out, y, EPS["exact"], C)
    out = cuda.empty(x.shape, dtype)
    launch.head_back(cuda.array(dy, np.float32), weights, out)
    near(out, dx, EPS["exact"], K, dtype)
