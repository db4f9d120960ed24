"""The checks of the CUDA convolutions against the plain ops in float64: the tests', and those that must catch planted bugs."""

from unittest import mock

import numpy as np

from minunet import ops
from minunet.kernels.cuda import launch, launch_conv, launch_norm

from .cuda_device import EPS, near, stored
from .cuda_map_checks import empty_half, in_half


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


def filters(cuda, w, dtype):
    return cuda.array(w.reshape(-1, *w.shape[2:]), dtype)


def convolution(cuda, rng, dtype, N, H, W, C, K, side=3, warpgroups=None, patch=True, **tiling):
    """Forward with bias and moments, data gradient and weight gradient."""
    multiplied = tiling | {"warpgroups": warpgroups, "patch": patch}
    x, w, b, dy = problem(rng, dtype, N, H, W, C, K, side)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, dw, _ = ops.conv2d_backward.plain(dy, cache)
    pad, e, mapped = side // 2, eps(cuda, dtype), {"dtype": dtype}
    on, weights, out = cuda.array(x, dtype), filters(cuda, w, dtype), cuda.empty(y.shape, dtype)
    tiles = launch_conv.conv(
        [on], weights, [out], side=side, pad=pad, bias=cuda.array(b, np.float32), moments=True, **multiplied
    )
    near(out, y, e, side**2 * C, **mapped)
    mean, var, _ = launch_norm.merge_moments(tiles)
    near(mean, y.mean((0, 1, 2)), e, side**2 * C)
    near(var, y.var((0, 1, 2)), 2 * e, side**2 * C)
    out = cuda.empty(dx.shape, dtype)
    launch_conv.conv(
        [cuda.array(dy, dtype)], weights, [out], side=side, pad=pad, flip=True, gradient=True, **multiplied
    )
    near(out, dx, e, side**2 * K, **mapped)
    out = cuda.empty((side**2, C, K))
    launch_conv.conv_weights([on], cuda.array(dy, dtype), out, side=side, pad=pad, **multiplied)
    near(out.reshape(dw.shape), dw, e, N * H * W)


def weights(cuda, rng, dtype, N, H, W, C, K, pad=1, **options):
    """The weight gradient of 3 x 3 taps alone, with any pad."""
    x = stored(rng.standard_normal((N, H, W, C)), dtype)
    y, cache = ops.conv2d.plain(x, rng.standard_normal((3, 3, C, K)), padding=pad)
    dy = stored(rng.standard_normal(y.shape), dtype)
    _, dw, _ = ops.conv2d_backward.plain(dy, cache)
    out = cuda.empty((9, C, K))
    launch_conv.conv_weights([cuda.array(x, dtype)], in_half(cuda, dy, dtype), out, side=3, pad=pad, **options)
    near(out.reshape(dw.shape), dw, eps(cuda, dtype), N * H * W)


def wgmma_is_trusted(cuda, gradient, patch):
    """As a GPU that has wgmma finds for itself, of wide tiles."""
    with mock.patch.object(launch_conv, "has_wgmma", lambda xp: True):
        assert launch_conv.wgmma_agrees.__wrapped__(cuda.xp, 0, np.dtype(np.float32), launch_conv.WIDE, gradient, patch)


def wgmma_is_trusted_with_weights(cuda):
    with mock.patch.object(launch_conv, "has_wgmma", lambda xp: True):
        assert launch_conv.weights_agree.__wrapped__(cuda.xp, 0, np.dtype(np.float32))


def halves_of_concatenations(exact_cuda, rng, C1, C2, K1, K2, columns, patch=True):
    """Two sources and two outputs, each a slice of a buffer with another width, whose other channels stay as they are."""
    N, H, W, C, K, margin, tiling = 1, 6, 7, C1 + C2, K1 + K2, 4, {"columns": columns}
    x, w, b, dy = problem(rng, "float32", N, H, W, C, K)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, dw, _ = ops.conv2d_backward.plain(dy, cache)

    def buffers(first, values):
        """Two of them, and filled if there are values."""
        found = []
        for half in (np.s_[..., :first], np.s_[..., first:]):
            found.append(np.full((*values.shape[:3], values[half].shape[3] + 2 * margin), np.nan, np.float32))
            found[-1][..., margin:-margin] = values[half]
        return [exact_cuda.array(wide) for wide in found]

    def inner(wide):
        return [a[..., margin:-margin] for a in wide]

    weights, e = filters(exact_cuda, w, "float32"), eps(exact_cuda, "float32")
    from_, to = buffers(C1, x), buffers(K1, np.full_like(y, np.nan))
    launch_conv.conv(
        inner(from_), weights, inner(to), side=3, pad=1, bias=exact_cuda.array(b, np.float32), patch=patch, **tiling
    )
    near(inner(to)[0], y[..., :K1], e, 9 * C)
    near(inner(to)[1], y[..., K1:], e, 9 * C)
    grads, found = buffers(K1, dy), buffers(C1, np.full_like(dx, np.nan))
    launch_conv.conv(
        inner(grads), weights, inner(found), side=3, pad=1, flip=True, gradient=True, patch=patch, **tiling
    )
    near(inner(found)[0], dx[..., :C1], e, 9 * K)
    near(inner(found)[1], dx[..., C1:], e, 9 * K)
    out = exact_cuda.empty((9, C, K))
    launch_conv.conv_weights(inner(from_), exact_cuda.array(dy, np.float32), out, side=3, pad=1, patch=patch, **tiling)
    near(out.reshape(dw.shape), dw, e, N * H * W)
    for wide in (*to, *found):
        assert all(bool(exact_cuda.xp.isnan(edge).all()) for edge in (wide[..., :margin], wide[..., -margin:]))


def scale_relu_and_accumulation(exact_cuda, rng, K):
    x, w, b, before = problem(rng, "float32", 1, 5, 4, 8, K)
    scale = rng.standard_normal(K).astype(np.float32)
    y, _ = ops.conv2d.plain(x, w * scale, b)
    out = exact_cuda.array(before, np.float32)
    launch_conv.conv(
        [exact_cuda.array(x, np.float32)], filters(exact_cuda, w, "float32"), [out], side=3, pad=1,
        bias=exact_cuda.array(b, np.float32), relu=True, accumulate=True, scale=exact_cuda.array(scale),
    )  # fmt: skip
    near(out, before + np.maximum(y, 0), eps(exact_cuda, "float32"), 72)


def transposed_convolution(exact_cuda, rng, dtype, shape):
    N, H, W, C, K = shape
    x, w, b, dy = problem(rng, dtype, N, H, W, C, K, side=2, up=2)
    y, cache = ops.conv_transpose2d.plain(x, w, b)
    dx, dw, _ = ops.conv_transpose2d_backward.plain(dy, cache)
    on, weights, e = exact_cuda.array(x, dtype), filters(exact_cuda, w, dtype), eps(exact_cuda, dtype)
    upstream = exact_cuda.array(dy, dtype)
    for splits in (1, 2):
        out = exact_cuda.empty(y.shape, dtype)
        launch_conv.conv([on], weights, [out], side=1, up=2, bias=exact_cuda.array(b, np.float32), splits=splits)
        near(out, y, e, C, dtype)
        out = exact_cuda.empty(x.shape, dtype)
        launch_conv.conv([upstream], weights, [out], side=2, stride=2, gradient=True, splits=splits)
        near(out, dx, e, 4 * K, dtype)
        out = exact_cuda.empty((4, C, K))
        launch_conv.conv_weights([upstream], on, out, side=2, stride=2, transposed=True, splits=splits)
        near(out.reshape(dw.shape), dw, e, N * H * W)


def head(cuda, rng, dtype, C, K):
    x, w, b, dy = problem(rng, dtype, 2, 5, 7, C, K, side=1)
    y, cache = ops.conv2d.plain(x, w, b)
    dx, dw, db = ops.conv2d_backward.plain(dy, cache)
    weights = cuda.array(w[0, 0], dtype)
    out = cuda.empty(y.shape)
    launch.head(in_half(cuda, x, dtype), weights, cuda.array(b, np.float32), out)
    near(out, y, EPS["exact"], C)
    out = empty_half(cuda, x.shape, dtype)
    found = launch.head_back(in_half(cuda, x, dtype), cuda.array(dy, np.float32), weights, out)
    near(out, dx, EPS["exact"], K, dtype)
    near(found[0], dw[0, 0], EPS["exact"], dy.size // K)
    near(found[1], db, EPS["exact"], dy.size // K)
