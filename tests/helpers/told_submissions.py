"""What students hand in that is wrong in ways for which the first difference is as good as a hint, each in its author's style.

As in `wrong_submissions`: (exercise, source, words); the words must be in the hint or in the message of a part that fails.
"""

CONV = """
def conv2d_backward(dy, cache):
    x, w, has_bias, s, ((t, b), (l, r)), d, _ = cache
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    xp = np.pad(x, ((0, 0), (t, b), (l, r), (0, 0)))
    rows = np.arange(dy.shape[1]) * s
    cols = np.arange(dy.shape[2]) * s
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    for i in range(KH):
        for j in range(KW):
            at = np.ix_(range(N), rows + i * d, cols + j * d)
            dw[i, j] = np.einsum("nhwc,nhwk->ck", xp[at], dy)
            dxp[at] += np.einsum("nhwk,ck->nhwc", dy, w[i, j])
    return dxp[:, t:t + H, l:l + W], dw, np.einsum("nhwk->k", dy) if has_bias else None
"""
CHANNELS_FIRST = """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    N, C, H, W = x.shape
    KH, KW, C, K = w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r, c in np.ndindex(OH, OW):
        seen = xp[:, r*stride:r*stride+dilation*(KH-1)+1:dilation, c*stride:c*stride+dilation*(KW-1)+1:dilation]
        y[:, r, c] = np.tensordot(seen, w, axes=([1, 2, 3], [0, 1, 2]))
    return (y if b is None else y + b), None
"""
NORM = """
def batch_norm_backward(dy, cache):
    x, gamma, mean, rstd, from_batch = cache
    rows = lambda a: np.asarray(a).reshape(-1, x.shape[-1])
    X, G = (rows(x) - rows(mean)) * rows(rstd), rows(dy)
    dgamma, dbeta = np.einsum("mc,mc->c", X, G), G.sum(0)
    g = G * rows(gamma)
    if from_batch:
        g = g - g.mean(0) - X * (g * X).mean(0)
    return (g * rows(rstd)).reshape(x.shape), dgamma, dbeta
"""
POOL = """
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), s)
    y = np.array([[[a[r*s:r*s+size, c*s:c*s+size].max((0, 1)) for c in range(OW)] for r in range(OH)] for a in x])
    return y, (x, size, s)
def max_pool2d_backward(dy, cache):
    x, size, s = cache
    dx = np.zeros(x.shape)
    for n, r, c, k in np.ndindex(*dy.shape):
        best = x[n, r*s:r*s+size, c*s:c*s+size, k].argmax()
        dx[n, r*s + best // size, c*s + best % size, k] += dy[n, r, c, k]
    return dx
"""
ENTROPY = """
def softmax_cross_entropy(logits, labels, weight=None, class_weight=None, ignore=-1):
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    e = np.exp(logits - np.max(logits, axis=3)[..., None])
    p = e / np.sum(e, axis=3)[..., None]
    n, h, w = np.nonzero(share)
    log = logits[n, h, w, labels[n, h, w]] - logits.max(3)[n, h, w] - np.log(e.sum(3))[n, h, w]
    return -np.dot(share[n, h, w], log), (p, labels, share)
def softmax_cross_entropy_backward(dloss, cache):
    p, labels, share = cache
    g = p - one_hot(labels, p)
    return dloss * g * share[..., np.newaxis]
"""
CROP = """
def crop(x, margins):
    (t, b), (l, r) = margins
    N, H, W, C = x.shape
    return x[:, t:H - b, l:W - r].copy(), (x.shape, t, l)
def crop_backward(dy, cache):
    shape, t, l = cache
    out = np.zeros(shape)
    out[:, t:t + dy.shape[1], l:l + dy.shape[2], :] = dy
    return out
def concat(arrays):
    return np.concatenate(list(arrays), -1), [a.shape[-1] for a in arrays]
def concat_backward(dy, cache):
    return tuple(np.split(dy, np.cumsum(cache)[:-1], -1))
"""
UNET = """
def unet_backward(dy, back, depth):
    g, skips = back("head", dy), [None] * depth
    for k in range(depth):
        skips[k], g = back(f"join.{k}", back(f"decoder.{k}", g))
        g = back(f"up.{k}", g)
    g = back("bottom", g)
    for k in range(depth)[::-1]:
        g = back(f"encoder.{k}", back(f"pool.{k}", g) + skips[k])
    return g
"""
WINOGRAD = """
B, D, A = np.array(BT), np.array(G), np.array(AT)
def transform_input(d):
    return np.moveaxis(B @ np.moveaxis(d, 2, 0) @ B.T, 0, 2)
def transform_filter(g):
    return np.transpose(D @ np.transpose(g, (2, 3, 0, 1)) @ D.T, (2, 3, 0, 1))
def multiply_points(v, u):
    return (v[..., None] * u).sum(axis=2)
def transform_output(m):
    return np.tensordot(A, np.tensordot(A, m, (1, 1)), (1, 1))
"""
BILINEAR = """
def weights(n, m, align):
    M = np.zeros((m, n))
    for r in range(m):
        at = r * (n - 1) / (m - 1) if align and m > 1 else min(max((r + .5) * n / m - .5, 0), n - 1) if not align else 0
        lo = min(int(at), n - 1)
        M[r, lo] += 1 - (at - lo)
        M[r, min(lo + 1, n - 1)] += at - lo
    return M
def upsample_bilinear(x, scale=2, align_corners=True):
    N, H, W, C = x.shape
    R, S = weights(H, H * scale, align_corners), weights(W, W * scale, align_corners)
    return np.einsum("rh,nhwc,sw->nrsc", R, x, S), (R, S)
def upsample_bilinear_backward(dy, cache):
    R, S = cache
    return np.einsum("rh,nrsc,sw->nhwc", R, dy, S)
"""
MOMENTUM = """
def sgd_step(p, g, velocity, lr, momentum=0.9, nesterov=False, weight_decay=0.0):
    full = g + weight_decay * p
    np.multiply(velocity, momentum, out=velocity)
    np.add(velocity, full, out=velocity)
    step = full + momentum * velocity if nesterov else velocity
    np.subtract(p, lr * step, out=p)
"""
ALL = {
    "conv_backward": CONV, "batch_norm": NORM, "max_pool": POOL, "cross_entropy": ENTROPY, "crop_concat": CROP,
    "unet_backward": UNET, "winograd": WINOGRAD, "bilinear": BILINEAR, "momentum": MOMENTUM,
}  # fmt: skip
"""Right answers; what is handed in are they, changed."""

CHANGES = {
    "db over the batch": ("conv_backward", 'np.einsum("nhwk->k", dy)', "dy.sum(axis=0)", "take it over those, too"),
    "db, all of it": ("conv_backward", 'np.einsum("nhwk->k", dy)', "np.sum(dy)", "sum of all the right numbers"),
    "db, a column": ("conv_backward", 'np.einsum("nhwk->k", dy)', "dy.sum((0, 1, 2))[:, None]", "axes of size 1 are left"),
    "dw, a mean over images": ("conv_backward", "xp[at], dy)", "xp[at], dy) / N", "a mean over the images"),
    "dw, a mean over places": (
        "conv_backward", "xp[at], dy)", "xp[at], dy) / (dy.shape[1] * dy.shape[2])", "times too small"),
    "dw, added twice": ("conv_backward", "xp[at], dy)", "xp[at], 2 * dy)", "it is 2 times too large"),
    "dx, =": ("conv_backward", "dxp[at] +=", "dxp[at] =", "+=, not ="),
    "dx, a half": ("conv_backward", "dxp[:, t:t + H, l:l + W]", "dxp[:, t:t + H, l:l + W] / 2", "it is 2 times too small"),
    "dx, float32": ("conv_backward", "dxp[:, t:t + H, l:l + W]", "np.float32(dxp[:, t:t + H, l:l + W])", "it is float32"),
    "dx, the last row": ("conv_backward", "t:t + H,", "t:t + H - 1,", "without the last row"),
    "dw and dx": (
        "conv_backward", "dxp[:, t:t + H, l:l + W], dw,", "dw, dxp[:, t:t + H, l:l + W],", "this is dw, where dx should be"),
    "M is N": (
        "batch_norm", "g - g.mean(0) - X * (g * X).mean(0)", "g - g.sum(0) / len(x) - X * (g * X).sum(0) / len(x)", "N*H*W"),
    "M - 1": ("batch_norm", "(g * X).mean(0)", "(g * X).sum(0) / (len(g) - 1)", "M - 1"),
    "over images alone": (
        "batch_norm", "g = g - g.mean(0) - X * (g * X).mean(0)",
        "a, z = g.reshape(x.shape), X.reshape(x.shape); g = rows(a - a.mean(0) - z * (a * z).mean(0))", "the images alone"),
    "over pixels alone": (
        "batch_norm", "g = g - g.mean(0) - X * (g * X).mean(0)",
        "a, z = g.reshape(x.shape), X.reshape(x.shape); "
        "g = rows(a - a.mean((1, 2), keepdims=True) - z * (a * z).mean((1, 2), keepdims=True))", "pixels alone"),
    "half of the variance": ("batch_norm", "X * (g * X).mean(0)", "X * (g * X).mean(0) / 2", "half as large"),
    "twice the variance": ("batch_norm", "X * (g * X).mean(0)", "2 * X * (g * X).mean(0)", "twice as large"),
    "gradients in another order": ("batch_norm", "dgamma, dbeta\n", "dbeta, dgamma\n", "this is dbeta, where dgamma should be"),
    "dgamma, a mean": ("batch_norm", '"mc,mc->c", X, G)', '"mc,mc->c", X, G) / len(G)', "times too small"),
    "dbeta with an axis": ("batch_norm", "G.sum(0)", "G.sum(0, keepdims=True)", "axes of size 1 are left"),
    "windows, =": ("max_pool", "k] += dy", "k] = dy", "+= instead of ="),
    "windows, no stride": ("max_pool", "s = stride or size", "s = size", "the stride is ignored"),
    "a list of lists": ("max_pool", "return y, (x", "return y.tolist(), (x", "a list came back"),
    "a smallest": ("max_pool", ".max((0, 1))", ".min((0, 1))", "the first at [0, 0, 0, 0]"),
    "log with a small number": (
        "cross_entropy", "log = logits[n, h, w, labels[n, h, w]] - logits.max(3)[n, h, w] - np.log(e.sum(3))[n, h, w]",
        "log = np.log(p[n, h, w, labels[n, h, w]] + 1e-10)", "a small number"),
    "a mean of shares": ("cross_entropy", "-np.dot(share[n, h, w], log)", "-(share[n, h, w] * log).mean()", "times too small"),
    "a minus lost": ("cross_entropy", "-np.dot(", "np.dot(", "the sign is wrong"),
    "minus nothing": ("crop_concat", "x[:, t:H - b, l:W - r]", "x[:, t:-b, l:-r]", "-0 is 0"),
    "into a corner": ("crop_concat", "t:t + dy.shape[1], l:l + dy.shape[2]", ":dy.shape[1], :dy.shape[2]", "upper left corner"),
    "equal parts": (
        "crop_concat", "np.split(dy, np.cumsum(cache)[:-1], -1)", "np.array_split(dy, len(cache), -1)", "equal parts"),
    "one too many": ("crop_concat", "np.cumsum(cache)[:-1]", "np.cumsum(cache)", "arrays came back, not"),
    "the skip below the pool": (
        "unet_backward", 'back(f"pool.{k}", g) + skips[k]', 'back(f"pool.{k}", g + skips[k])', "before the backward of pool"),
    "levels reversed": ("unet_backward", "+ skips[k]", "+ skips[depth - 1 - k]", "in the wrong order"),
    "no skip": ("unet_backward", " + skips[k]", "", "forgotten"),
    "not the first axes": ("winograd", "np.moveaxis(B @ np.moveaxis(d, 2, 0) @ B.T, 0, 2)", "B @ np.moveaxis(d, 2, 0) @ B.T",
                           "it is right after .transpose(1, 2, 0)"),
    "not over the channels": ("winograd", ".sum(axis=2)", "", "its sum over axis 2 is right"),
    "transposed": ("winograd", "np.tensordot(A, m, (1, 1)), (1, 1))", "np.tensordot(A, m, (1, 0)), (1, 1))", "transposed"),
    "B on both sides": ("winograd", "d, 2, 0) @ B.T, 0, 2", "d, 2, 0) @ B, 0, 2", "the right factor is not transposed"),
    "not clamped": ("bilinear", "min(max((r + .5) * n / m - .5, 0), n - 1)", "(r + .5) * n / m - .5", "not clamped"),
    "a transposed image": ("bilinear", '->nrsc", R, x, S)', '->nsrc", R, x, S)', "rows and columns are exchanged"),
    "halved backwards": ("bilinear", "nhwc\", R, dy, S)", "nhwc\", R, dy, S) / 2", "it is 2 times too small"),
    "decay alone": (
        "momentum", "full = g + weight_decay * p", "full = g; p -= lr * weight_decay * p", "weight decay changes p by itself"),
    "p as it was": ("momentum", "lr * step, out=p)", "lr * step)", "is not changed in place"),
}  # fmt: skip


def changed(name: str) -> tuple[str, str, str]:
    """A submission: exercise, source, words."""
    exercise, right, instead, words = CHANGES[name]
    if right not in ALL[exercise]:
        raise ValueError(f"{name}: {right}")
    return exercise, "\n" + ALL[exercise].replace(right, instead), words


SUBMISSIONS = {name: changed(name) for name in CHANGES}

# Overwrites, and walks in an order of its own.
LAST_GRADIENT = """
def walk_order(lines, end):
    maker = {output: n for n, (_, _, output) in enumerate(lines)}
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        value, done = stack.pop()
        n = maker.get(value)
        if n is not None and done:
            order.append(n)
        elif n is not None and n not in seen:
            seen.add(n)
            stack.append((value, True))
            stack.extend((used, False) for used in lines[n][1])
    return order[::-1]
def walk_back(lines, values, end, dend):
    grads = np.zeros(values.shape)
    grads[end] = dend
    for n in walk_order(lines, end):
        op, inputs, output = lines[n]
        for used, grad in zip(inputs, local_gradients(op, grads[output], *[values[k] for k in inputs])):
            grads[used] = grad
    return grads
"""
