"""Answers of exercises that no op of the package has in this form.

A filter, im2col, a small gradient checker, the wiring of the U-Net's backward, one Winograd tile, an attention gate, unpooling,
the pyramid's image pooling, suppression of boxes, and rays of star-convex polygons. Like the ops, they are cut into exercises,
and the checks or the tests compare them with the package's own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array import Array
from ..kernels.cpu.winograd_matrices import AT, BT, G


def filter_image(x: Array, w: Array, stride: int = 1) -> Array:
    """Filter an image x (H, W, C) with w (KH, KW, C), wherever it fits whole: (OH, OW), OH = (H - KH) // stride + 1."""
    (H, W, _), (KH, KW, _) = x.shape, w.shape
    y = np.empty(((H - KH) // stride + 1, (W - KW) // stride + 1), x.dtype)
    for row, column in np.ndindex(*y.shape):
        top, left = row * stride, column * stride
        y[row, column] = (x[top : top + KH, left : left + KW] * w).sum()
    return y


def im2col(x: Array, KH: int, KW: int, stride: int = 1) -> Array:
    """Every output pixel's patch as a row of a matrix; no padding.

    x (N, H, W, C) to (N*OH*OW, KH*KW*C), with OH = (H - KH) // stride + 1 and OW alike. Rows in the order of (n, h, w), the
    numbers of a row in the order of (i, j, c).
    """
    N, H, W, C = x.shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    rows = np.empty((N, OH, OW, KH, KW, C), x.dtype)
    for i in range(KH):
        for j in range(KW):
            rows[:, :, :, i, j] = x[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]
    return rows.reshape(N * OH * OW, KH * KW * C)


def conv2d_im2col(x: Array, w: Array, stride: int = 1) -> Array:
    """The convolution without padding, as one matrix product: x (N, H, W, C), w (KH, KW, C, K) to (N, OH, OW, K)."""
    (N, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    return (im2col(x, KH, KW, stride) @ w.reshape(KH * KW * C, K)).reshape(N, OH, OW, K)


def numerical_gradient(f: Callable[[Array], Array], x: Array, dy: Array, h: float = 1e-5) -> Array:
    """The gradient of L(x) = sum of f(x) * dy by central differences of the step h, in the shape of x.

    f takes an array of x's shape and gives one of dy's. x must be unchanged at the end.
    """
    dx = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        probe = x.copy()
        probe[index] = x[index] + h
        above = (f(probe) * dy).sum()
        probe[index] = x[index] - h
        below = (f(probe) * dy).sum()
        dx[index] = (above - below) / (2 * h)
    return dx


def is_gradient(f: Callable[[Array], Array], backward: Callable[[Array, Array], Array], x: Array) -> bool:
    """Whether backward(dy, x) is the gradient of the sum of f(x) * dy: everywhere, and for whatever dy.

    It must see an error of 0.1 % of the gradient's largest element in a single place, however small the gradient is, and one
    that hides where dy = 1; and it must let right ones pass.
    """
    dy = np.random.default_rng(0).standard_normal(f(x).shape)
    dx, wanted = backward(dy, x), numerical_gradient(f, x, dy)
    scale = np.abs(wanted).max()
    return bool(np.abs(dx - wanted).max() <= 1e-5 * scale)


def unet_backward(dy: Array, back: Callable[[str, Any], Any], depth: int) -> Array:
    """The gradient of a U-Net's image from that of its output.

    back(part, dy) is the backward of one part: it takes the gradient of what the part gave, notes the gradients of its
    parameters, and returns the gradient of what it took; each may be called once. The parts, in the order of the forward:

        encoder.0  pool.0  encoder.1  pool.1 ...  bottom  ...  up.1  join.1  decoder.1  up.0  join.0  decoder.0  head

    encoder.l feeds both pool.l and the skip; join.l puts the skip and what comes from up.l together, and its backward returns
    two gradients, (dskip, dup).
    """
    dskips = []
    dx = back("head", dy)
    for level in range(depth):
        dx = back(f"decoder.{level}", dx)
        dskip, dx = back(f"join.{level}", dx)
        dskips.append(dskip)
        dx = back(f"up.{level}", dx)
    dx = back("bottom", dx)
    for level in reversed(range(depth)):
        dx = back(f"pool.{level}", dx)
        dx = dx + dskips.pop()
        dx = back(f"encoder.{level}", dx)
    return dx


def both_axes(matrix: Sequence[Sequence[float]], a: Array) -> Array:
    """matrix @ a @ matrix^T over the first two axes of a (n, n, ...), for every index of the others."""
    m = np.array(matrix)
    return np.einsum("pi,qj,ij...->pq...", m, m, a)


def transform_input(d: Array) -> Array:
    """B^T d B for a tile of 6x6 pixels, for every channel: (6, 6, C) to (6, 6, C)."""
    return both_axes(BT, d)


def transform_filter(g: Array) -> Array:
    """G g G^T for 3x3 filters: (3, 3, C, K) to (6, 6, C, K)."""
    return both_axes(G, g)


def multiply_points(v: Array, u: Array) -> Array:
    """Multiply point by point and sum over the channels: v (6, 6, C), u (6, 6, C, K) to (6, 6, K)."""
    return np.einsum("pqc,pqck->pqk", v, u)


def transform_output(m: Array) -> Array:
    """A^T m A: the 4x4 outputs of the tile, (6, 6, K) to (4, 4, K)."""
    return both_axes(AT, m)


# ---- variants of the U-Net, and other networks -----------------------------------------------------------------------


def attention_gate(
    skip: Array, signal: Array, theta: Array, phi: Array, bias: Array, psi: Array
) -> tuple[Array, tuple]:
    """Weigh every pixel of a skip by a number from 0 to 1, which is made of the skip and of a signal of the same size.

        z = ReLU(skip @ theta + signal @ phi + bias)        a = sigmoid(z @ psi)        y = skip * a

    skip (N, H, W, C), signal (N, H, W, G), theta (C, M), phi (G, M), bias (M,), psi (M, 1) to (y, cache), y (N, H, W, C); a is
    (N, H, W, 1), one number for all channels of a pixel.
    """
    z = np.maximum(skip @ theta + signal @ phi + bias, 0)
    a = 1 / (1 + np.exp(-(z @ psi)))
    return skip * a, (skip, signal, theta, phi, psi, z, a)


def attention_gate_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Gradients of `attention_gate`: dy (N, H, W, C) to (dskip, dsignal, dtheta, dphi, dbias, dpsi), in the arrays' shapes."""
    skip, signal, theta, phi, psi, z, a = cache
    da = (dy * skip).sum(-1, keepdims=True)
    dscore = da * a * (1 - a)
    dz = (dscore @ psi.T) * (z > 0)
    dskip = dy * a + dz @ theta.T
    dsignal = dz @ phi.T
    dtheta = np.einsum("nhwc,nhwm->cm", skip, dz)
    dphi = np.einsum("nhwg,nhwm->gm", signal, dz)
    dpsi = np.einsum("nhwm,nhwk->mk", z, dscore)
    return dskip, dsignal, dtheta, dphi, dz.sum((0, 1, 2)), dpsi


def unpool(x: Array, winner: Array, output_size: tuple[int, int], size: int = 2) -> tuple[Array, tuple]:
    """Put every value where the winner of its window was, and zeros elsewhere: x (N, OH, OW, C) to (y, cache), y (N, H, W, C).

    winner (N, OH, OW, C) uint8 has the winners' numbers: i*size + j for the pixel in row i and column j of its size x size
    window. output_size is (H, W), of the map that was pooled; rows and columns that filled no window were dropped by the pool.
    """
    (N, OH, OW, C), (H, W) = x.shape, output_size
    y = np.zeros((N, H, W, C), x.dtype)
    for n in range(size * size):
        i, j = divmod(n, size)
        y[:, i : OH * size : size, j : OW * size : size] = x * (winner == n)
    return y, (winner, size)


def unpool_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `unpool`: dy (N, H, W, C) to dx (N, OH, OW, C); the winners have none."""
    winner, size = cache
    OH, OW = winner.shape[1:3]
    dx = np.zeros(winner.shape, dy.dtype)
    for n in range(size * size):
        i, j = divmod(n, size)
        dx += dy[:, i : OH * size : size, j : OW * size : size] * (winner == n)
    return dx


def image_pooling(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """What the whole map says: the mean over its pixels, a 1x1 convolution, ReLU, and back to the size of the map.

    x (N, H, W, C), w (C, K), b (K,) to (y, cache), y (N, H, W, K): the same at all pixels of an image.
    """
    N, H, W, _ = x.shape
    mean = x.mean((1, 2))
    z = np.maximum(mean @ w + b, 0)
    y = np.broadcast_to(z[:, None, None], (N, H, W, len(b))).copy()
    return y, (x.shape, mean, w, z)


def image_pooling_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of `image_pooling`: dy (N, H, W, K) to (dx, dw, db), in the shapes of x, w and b."""
    shape, mean, w, z = cache
    dz = dy.sum((1, 2)) * (z > 0)
    dmean = dz @ w.T
    dx = np.broadcast_to(dmean[:, None, None] / (shape[1] * shape[2]), shape).copy()
    return dx, mean.T @ dz, dz.sum(0)


# ---- objects ---------------------------------------------------------------------------------------------------------


def box_iou(boxes: Array, others: Array) -> Array:
    """Intersection over union of every box with every other: (n, 4) and (m, 4) to (n, m).

    A box is a row of top, left, bottom, right. These are places, not numbers of pixels: its height is bottom - top.
    """
    begin = np.maximum(boxes[:, None, :2], others[None, :, :2])
    end = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.maximum(end - begin, 0).prod(-1)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others))
    return intersection / (area[:, None] + other_area - intersection)


def suppress_boxes(boxes: Array, scores: Array, threshold: float = 0.5) -> Array:
    """Greedy non-maximum suppression: the numbers of the boxes that are kept, the best first, as an array of integers.

    boxes (n, 4), scores (n,). From the best score to the worst, a box is kept unless its IoU with one that has been kept is
    larger than the threshold.
    """
    iou = box_iou(boxes, boxes)
    kept: list[int] = []
    for number in np.argsort(-scores):
        if all(iou[number, other] <= threshold for other in kept):
            kept.append(int(number))
    return np.array(kept, int)


def star_distances(numbers: Array, count: int) -> Array:
    """From every pixel of an object, how far its outline is along `count` rays: numbers (H, W) to (H, W, count).

    numbers has 0 for the background and another number for every object. Distances are in pixels, 0 in the background.
    """
    (H, W), distances = numbers.shape, np.zeros((*numbers.shape, count))
    for k in range(count):
        down, right = float(np.sin(2 * np.pi * k / count)), float(np.cos(2 * np.pi * k / count))
        for row, column in np.argwhere(numbers).tolist():
            n, r, c = 0, row, column
            while 0 <= r < H and 0 <= c < W and numbers[r, c] == numbers[row, column]:
                n += 1
                r, c = int((row + n * down + 0.5) // 1), int((column + n * right + 0.5) // 1)
            distances[row, column, k] = n - 1 + 0.5 / max(abs(down), abs(right))
    return distances
