"""Submissions that once fooled the grader, or could: right but for one kind of input, or right in numbers alone.

Each is (exercise, source). None of them may ever get everything.
"""

STEP = """
def sgd_step(p, g, velocity, rate, momentum=0.9, nesterov=False, weight_decay=0.0):
"""

CONV_BACK = """
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    N, H, W, C = x.shape
    padded = pad_spatial(x, pads)
    dpadded, dw = np.zeros(padded.shape), np.zeros(w.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.einsum("nhwc,nhwk->ck", window(padded, i, j, *dy.shape[1:3], s, d), dy)
            window(dpadded, i, j, *dy.shape[1:3], s, d)[...] += dy @ w[i, j].T
    (top, _), (left, _) = pads
    dx, db = dpadded[:, top : top + H, left : left + W], dy.sum((0, 1, 2))
"""

POOL = """
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    v = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::s, ::s]
    best = v.reshape(*v.shape[:4], -1).argmax(-1)
    y = v.max((-1, -2))
    return y, [best, x.shape, size, s, y, x]
"""
POOL_BACK = """
def max_pool2d_backward(dy, cache):
    best, shape, size, s, y, x = cache
    dx = np.zeros(shape)
    for n, r, c, k in np.ndindex(*dy.shape):
        i, j = divmod(best[n, r, c, k], size)
        dx[n, r * s + i, c * s + j, k] += dy[n, r, c, k]
"""

MARGINS = """
def crop(x, margins):
    (t, b), (l, r) = margins
    return x[:, t : x.shape[1] - b, l : x.shape[2] - r], (x.shape, t, l)
def crop_backward(dy, cache):
    shape, t, l = cache
    dx = np.zeros(shape)
    dx[:, t : t + dy.shape[1], l : l + dy.shape[2]] = dy
    return dx
"""
CONCAT = """
def concat(arrays):
    return np.concatenate(arrays, -1), [a.shape[-1] for a in arrays]
"""
SPLIT = """
def concat_backward(dy, cache):
    return tuple(np.split(dy, np.cumsum(cache)[:-1], -1))
"""

NUMERIC = """
def numerical_gradient(f, x, dy, h=1e-5):
    dx = np.zeros(x.shape)
    for k in np.ndindex(*x.shape):
        e = np.zeros(x.shape)
        e[k] = h
        dx[k] = ((f(x + e) - f(x - e)) * dy).sum() / (2 * h)
    return dx
def is_gradient(f, backward, x):
    dy = np.random.default_rng(3).standard_normal(f(x).shape)
    a, b = numerical_gradient(f, x, dy), backward(dy, x)
"""

ENTROPY = """
def softmax_cross_entropy(logits, labels, weight=None, class_weight=None, ignore=-1):
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    z = logits - logits.max(-1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    t = one_hot(labels, p)
    return -(share * ((z - np.log(np.exp(z).sum(-1, keepdims=True))) * t).sum(-1)).sum(), (p, t, share)
def softmax_cross_entropy_backward(dloss, cache):
    p, t, share = cache
    return dloss * share[..., None] * (p - t)
"""

FILTER = """
def filter_image(x, w, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (0, 1))[::stride, ::stride]
    y = np.einsum("hwcij,ijc->hw", v, w)
"""

NORM = """
def batch_norm_backward(dy, cache):
    x, gamma, mean, rstd, from_batch = cache
    axes, xhat = (0, 1, 2), (x - mean) * rstd
    dgamma, dbeta, g = (dy * xhat).sum(axes), dy.sum(axes), dy * gamma
    dx = rstd * (g - g.mean(axes) - xhat * (g * xhat).mean(axes)) if from_batch else rstd * g
"""

BILINEAR = """
def matrix(n, m, align):
    p = np.arange(m) * (n - 1) / (m - 1) if align else np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(0, 1 - np.abs(p[:, None] - np.arange(n)))
"""

CHECKER = NUMERIC + "    return bool(abs(a - b).max() <= 1e-5 * abs(a).max())\n"

CONV = """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    OH, OW = output_size(x.shape[1:3], w.shape[:2], pads, stride, dilation)
    x, y, d = pad_spatial(x, pads), 0 if b is None else b, dilation
    for i, j in np.ndindex(*w.shape[:2]):
        y = y + x[:, i * d :: stride, j * d :: stride][:, :OH, :OW] @ w[i, j]
    return y, None
"""

TRANSPOSED = """
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    (t, u), (l, r) = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1)
    N, H, W, C = x.shape
    full = np.zeros((N, (H - 1) * stride + w.shape[0], (W - 1) * stride + w.shape[1], w.shape[3]))
    for i, j in np.ndindex(*w.shape[:2]):
        window(full, i, j, H, W, stride)[...] += x @ w[i, j]
    y = full[:, t : full.shape[1] - u, l : full.shape[2] - r]
    return (y if b is None else y + b), (w, x, stride, ((t, u), (l, r)))
def conv_transpose2d_backward(dy, cache):
    w, x, stride, pads = cache
    dyp, (H, W) = pad_spatial(dy, pads), x.shape[1:3]
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for i, j in np.ndindex(*w.shape[:2]):
        dx += window(dyp, i, j, H, W, stride) @ w[i, j].T
        dw[i, j] = np.einsum("nhwc,nhwk->ck", x, window(dyp, i, j, H, W, stride))
    return dx, dw, dy.sum((0, 1, 2))
"""

UPSAMPLE = (
    BILINEAR
    + """
def upsample_bilinear(x, scale=2, align_corners=True):
    A, B = (matrix(n, n * scale, align_corners) for n in x.shape[1:3])
    return np.einsum("ri,sj,nijc->nrsc", A, B, x), (A, B)
def upsample_bilinear_backward(dy, cache):
    return np.einsum("ri,sj,nrsc->nijc", *cache, dy)
"""
)

TILE = """
def across_k(k, i, width):
    return k * width + 4 * ((i // 4) ^ (2 * (k % 4))) + i % 4
def bank_turns(places):
    return int(np.bincount(np.unique(places) % 32).max())
g, t = np.divmod(np.arange(32), 4)
def load_a(tile, width, m, k):
    return np.stack([tile[across_k(k + t + c, m + g + r, width)] for c in (0, 4) for r in (0, 8)], -1)
def load_b(tile, width, n, k):
    return np.stack([tile[across_k(k + t + c, n + g, width)] for c in (0, 4)], -1)
def store_c(sums):
    c = np.zeros((16, 8))
    for j in range(4):
        c[g + 8 * (j // 2), 2 * t + j % 2] = sums[:, j]
    return c
"""

RATES = """
def learning_rate(step, total, lr, warmup=0):
    return lr * (step + 1) / warmup if step < warmup else lr / 2 * (
        1 + np.cos(np.pi * min((step - warmup) / (total - warmup), 1)))
def range_rates(low, high, steps):
    return np.geomspace(low, high, steps)
def suggest_rate(rates, losses):
    v = np.pad(np.where(np.isfinite(losses), losses, np.inf), 2, mode="edge")
    return rates[np.convolve(v, np.ones(5), "valid").argmin()] / 5
"""

UNPOOL = """
def places(winner, size):
    N, OH, OW, C = winner.shape
    n, h, w, c = np.ogrid[:N, :OH, :OW, :C]
    return n, h * size + winner // size, w * size + winner % size, c
def unpool(x, winner, output_size, size=2):
    y = np.zeros((len(x), *output_size, x.shape[3]))
    y[places(winner, size)] = x
    return y, (winner, size)
def unpool_backward(dy, cache):
    return dy[places(*cache)]
"""

WIRED = """
def unet_backward(dy, back, depth):
    d, skips = back("head", dy), []
    for l in range(depth):
        skip, d = back(f"join.{l}", back(f"decoder.{l}", d))
        skips.append(skip)
        d = back(f"up.{l}", d)
    d = back("bottom", d)
    for l in range(depth)[::-1]:
        d = back(f"encoder.{l}", back(f"pool.{l}", d) + skips[l])
    return d
"""

FOOLING = {
    "momentum, the velocity without the decay": ("momentum", STEP + """
    velocity *= momentum
    velocity += g
    p -= rate * ((g + momentum * velocity if nesterov else velocity) + weight_decay * p)
"""),
    "momentum, g with the decay": ("momentum", STEP + """
    g += weight_decay * p
    velocity *= momentum
    velocity += g
    p -= rate * (g + momentum * velocity if nesterov else velocity)
"""),
    "momentum, no decay in nesterov's g": ("momentum", STEP + """
    velocity *= momentum
    velocity += g + weight_decay * p
    p -= rate * (g + momentum * velocity if nesterov else velocity)
"""),
    "momentum, always 0.9": ("momentum", STEP + """
    g = g + weight_decay * p
    velocity[...] = 0.9 * velocity + g
    p -= rate * (g + momentum * velocity if nesterov else velocity)
"""),
    "gradient_check, sums": ("gradient_check", NUMERIC + "    return bool(abs(a.sum() - b.sum()) <= 1e-5 * abs(a).sum())\n"),
    "gradient_check, means": ("gradient_check", NUMERIC + "    return bool(abs(a.mean() - b.mean()) <= 1e-6 * abs(a).max())\n"),
    "gradient_check, mean of the differences": (
        "gradient_check", NUMERIC + "    return bool(abs((a - b).mean()) <= 1e-7 * abs(a).max())\n"),
    "gradient_check, mean of the errors": (
        "gradient_check",
        NUMERIC + "    return bool(abs(a - b).mean() <= 5e-5 * abs(a).mean())\n"),
    "gradient_check, norms": (
        "gradient_check",
        NUMERIC + "    return bool(abs(np.sqrt((a**2).sum()) - np.sqrt((b**2).sum())) <= 1e-6 * abs(a).max())\n"),
    "gradient_check, largest ones": (
        "gradient_check", NUMERIC + "    return bool(abs(abs(a).max() - abs(b).max()) <= 1e-6 * abs(a).max())\n"),
    "gradient_check, sorted": (
        "gradient_check",
        NUMERIC + "    return bool(abs(np.sort(a.ravel()) - np.sort(b.ravel())).max() <= 1e-6 * abs(a).max())\n"),
    "gradient_check, the angle": (
        "gradient_check", NUMERIC + "    return bool((a * b).sum() >= 0.99999 * np.sqrt((a**2).sum() * (b**2).sum()))\n"),
    "gradient_check, a quotient": ("gradient_check", NUMERIC + "    return bool(abs(b / a - 1).max() < 1e-5)\n"),
    "gradient_check, a quotient without its holes": (
        "gradient_check", NUMERIC + "    return not (abs(a - b) / (abs(a) + abs(b)) > 1e-4).any()\n"),
    "gradient_check, allclose": ("gradient_check", NUMERIC + "    return np.allclose(a, b)\n"),
    "gradient_check, allclose the other way": ("gradient_check", NUMERIC + "    return bool(np.allclose(b, a, 1e-3))\n"),
    "gradient_check, the first elements": (
        "gradient_check", NUMERIC + "    return bool(abs(a - b).ravel()[:5].max() <= 1e-5 * abs(a).max())\n"),
    "gradient_check, dy like x": ("gradient_check", NUMERIC.replace("f(x).shape", "x.shape")
        + "    return bool(abs(a - b).max() <= 1e-5 * abs(a).max())\n"),
    "gradient_check, dy of ones": ("gradient_check", NUMERIC.replace(
        "np.random.default_rng(3).standard_normal(f(x).shape)", "np.ones(f(x).shape)")
        + "    return bool(abs(a - b).max() <= 1e-5 * abs(a).max())\n"),
    "gradient_check, in single precision": ("gradient_check", NUMERIC.replace("np.zeros(x.shape)\n    for",
        "np.zeros(x.shape, np.float32)\n    for") + "    return bool(abs(a - b).max() <= 1e-5 * abs(a).max())\n"),
    "gradient_check, ones and zeros": (
        "gradient_check", NUMERIC + "    return int(abs(a - b).max() <= 1e-5 * abs(a).max())\n"),
    "crop_concat, one more": ("crop_concat", MARGINS + CONCAT + """
def concat_backward(dy, cache):
    return tuple(np.split(dy, np.cumsum(cache), -1))
"""),
    "crop_concat, equal parts": ("crop_concat", MARGINS + CONCAT + """
def concat_backward(dy, cache):
    return np.array_split(dy, len(cache), -1)
"""),
    "crop_concat, to minus nothing": ("crop_concat", MARGINS.replace(
        "t : x.shape[1] - b, l : x.shape[2] - r", "t:-b, l:-r") + CONCAT + SPLIT),
    "crop_concat, nothing below": ("crop_concat", MARGINS.replace(
        "t : x.shape[1] - b", "t : -b or None").replace("l : x.shape[2] - r", "l:-r") + CONCAT + SPLIT),
    "crop_concat, the arrays are emptied": ("crop_concat", MARGINS + CONCAT.replace(
        "    return", "    arrays = list(arrays)\n    y = np.concatenate(arrays, -1); arrays[0][...] = 0\n    return"
    ).replace("np.concatenate(arrays, -1), [", "y, [") + SPLIT),
    "conv_backward, dy is emptied": ("conv_backward", CONV_BACK + "    dy[...] = 0\n    return dx, dw, db\n"),
    "conv_backward, x is padded in place": ("conv_backward", CONV_BACK + "    x[:, 0] = 0\n    return dx, dw, db\n"),
    "conv_backward, w is turned": (
        "conv_backward", CONV_BACK + "    w[...] = w[::-1, ::-1].copy()\n    return dx, dw, db\n"),
    "conv_backward, four gradients": ("conv_backward", CONV_BACK + "    return dx, dw, db, None\n"),
    "conv_backward, in single precision": (
        "conv_backward", CONV_BACK + "    return dx, dw.astype(np.float32), db\n"),
    "conv_backward, square kernels": ("conv_backward", CONV_BACK.replace("range(w.shape[1])", "range(w.shape[0])")
        + "    return dx, dw, db\n"),
    "conv_backward, pads above are pads on the left": (
        "conv_backward", CONV_BACK.replace("left : left + W", "top : top + W") + "    return dx, dw, db\n"),
    "conv_backward, squeezed": ("conv_backward", CONV_BACK + "    return dx.squeeze(), dw, db\n"),
    "max_pool, dy is emptied": ("max_pool", POOL + POOL_BACK + "    dy[...] = 0\n    return dx\n"),
    "max_pool, y is emptied": ("max_pool", POOL + POOL_BACK + "    y *= 0\n    return dx\n"),
    "max_pool, x is used up": ("max_pool", POOL + POOL_BACK + "    x[...] = dx\n    return x\n"),
    "max_pool, the last call's": ("max_pool", POOL.replace(
        "    return y, [", "    LAST[:] = [").replace("y, x]", "y, x]\n    return y, None") + "LAST = []\n"
        + POOL_BACK.replace("= cache", "= LAST") + "    return dx\n"),
    "max_pool, one more": ("max_pool", POOL.replace("y, x]", "y, x], best") + POOL_BACK + "    return dx\n"),
    "max_pool, a pair": ("max_pool", POOL + POOL_BACK + "    return dx, None\n"),
    "max_pool, padded with zeros": ("max_pool", POOL.replace("    v = ", "    x = np.maximum(x, -9 * (x < -9) - 9)\n    v = ")
        + POOL_BACK + "    return np.maximum(dx, dx.min() / 2)\n"),
    "max_pool, as many columns as rows": ("max_pool", POOL.replace(
        "[:, ::s, ::s]", "[:, ::s, ::s][:, :, : (x.shape[1] - size) // s + 1]") + POOL_BACK + "    return dx\n"),
    "cross_entropy, logits are shifted in place": ("cross_entropy", ENTROPY.replace(
        "    z = logits - logits.max(-1, keepdims=True)", "    logits -= logits.max(-1, keepdims=True)\n    z = logits")),
    "cross_entropy, weights are shared in place": ("cross_entropy", ENTROPY.replace(
        "    z =", "    if weight is not None: weight /= 2\n    z =", 1)),
    "cross_entropy, ignored is -1": ("cross_entropy", ENTROPY.replace("class_weight, ignore)\n", "class_weight, -1)\n")),
    "cross_entropy, divided by nothing": ("cross_entropy", ENTROPY.replace(
        "    z =", "    share = share / share.sum()\n    z =", 1)),
    "cross_entropy, three classes": ("cross_entropy", ENTROPY.replace("(p - t)", "(p - t)[..., :3]")),
    "filter_image, as many columns as rows": (
        "filter_image", FILTER + "    n = min(y.shape)\n    y[n:] = y[:, n:] = 0\n    return y\n"),
    "filter_image, rows of lists": ("filter_image", FILTER + "    return [list(map(float, row)) for row in y]\n"),
    "filter_image, whole numbers": ("filter_image", FILTER + "    return y.astype(int)\n"),
    "filter_image, in single precision": ("filter_image", FILTER + "    return y.astype(np.float32)\n"),
    "filter_image, packed": ("filter_image", FILTER + "    return (y,)\n"),
    "filter_image, by memory": ("filter_image", """
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    shape = (H - KH) // stride + 1, (W - KW) // stride + 1, KH, KW, C
    n = x.itemsize
    v = np.lib.stride_tricks.as_strided(x, shape, (stride * W * C * n, stride * C * n, W * C * n, C * n, n))
    return (v * w).sum((2, 3, 4))
"""),
    "im2col, one channel more": ("im2col", """
def im2col(x, KH, KW, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::stride, ::stride]
    rows = v.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KH * KW * x.shape[3])
    x[0, 0, 0, 0] += 1
    return rows
def conv2d_im2col(x, w, stride=1):
    KH, KW, C, K = w.shape
    rows = im2col(x.copy(), KH, KW, stride) @ w.reshape(-1, K)
    return rows.reshape(len(x), (x.shape[1] - KH) // stride + 1, -1, K)
"""),
    "batch_norm, dy times gamma in place": ("batch_norm", NORM + "    dy *= gamma\n    return dx, dgamma, dbeta\n"),
    "batch_norm, a fourth": ("batch_norm", NORM + "    return dx, dgamma, dbeta, xhat\n"),
    "batch_norm, x in place": ("batch_norm", NORM + "    x -= mean\n    return dx, dgamma, dbeta\n"),
    "batch_norm, two of them": ("batch_norm", NORM + "    return dx, dgamma\n"),
    "bilinear, the last call's": ("bilinear", BILINEAR + """
def upsample_bilinear(x, scale=2, align_corners=True):
    global A, B
    A, B = (matrix(n, n * scale, align_corners) for n in x.shape[1:3])
    return np.einsum("ri,sj,nijc->nrsc", A, B, x), None
def upsample_bilinear_backward(dy, cache):
    return np.einsum("ri,sj,nrsc->nijc", A, B, dy)
"""),
    "bilinear, twice as large": ("bilinear", BILINEAR + """
def upsample_bilinear(x, scale=2, align_corners=True):
    A, B = (matrix(n, n * 2, align_corners) for n in x.shape[1:3])
    return np.einsum("ri,sj,nijc->nrsc", A, B, x), (A, B)
def upsample_bilinear_backward(dy, cache):
    return np.einsum("ri,sj,nrsc->nijc", *cache, dy)
"""),
    "conv_transpose, w is turned": ("conv_transpose", TRANSPOSED.replace("    return dx", "    w *= -1\n    return dx")),
    "conv_transpose, one pad where dy is square": ("conv_transpose", TRANSPOSED.replace("(dy, pads)",
        "(dy, (pads[0], pads[0]) if dy.shape[1] == dy.shape[2] else pads)")),
    "unpool, winners are counted down": ("unpool", """
def unpool(x, winner, output_size, size=2):
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for n, r, c, k in np.ndindex(*x.shape):
        i, j = divmod(int(winner[n, r, c, k]), size)
        y[n, r * size + i, c * size + j, k] = x[n, r, c, k]
    return y, (winner, size)
def unpool_backward(dy, cache):
    winner, size = cache
    dx = np.zeros(winner.shape)
    for n, r, c, k in np.ndindex(*dx.shape):
        i, j = divmod(int(winner[n, r, c, k]), size)
        dx[n, r, c, k] = dy[n, r * size + i, c * size + j, k]
    winner[...] = 0
    return dx
"""),
    "attention_gate, the mask in place": ("attention_gate", """
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    ds = (dy * skip).sum(-1, keepdims=True) * a * (1 - a)
    dpsi = np.einsum("nhwm,nhwk->mk", z, ds)
    dz = np.where(z > 0, ds @ psi.T, 0)
    result = (dy * a + dz @ theta.T, dz @ phi.T, np.einsum("nhwc,nhwm->cm", skip, dz),
              np.einsum("nhwg,nhwm->gm", signal, dz), dz.sum((0, 1, 2)), dpsi)
    z[...] = z > 0
    return result
"""),
    "nms, boxes are sorted in place": ("nms", """
def box_iou(a, b):
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    meet = np.clip(sides, 0, None).prod(-1)
    return meet / (np.prod(a[:, 2:] - a[:, :2], 1)[:, None] + np.prod(b[:, 2:] - b[:, :2], 1) - meet)
def suppress_boxes(boxes, scores, threshold=0.5):
    order = np.argsort(-scores)
    boxes[...] = boxes[order]
    iou, kept = box_iou(boxes, boxes), []
    for n in range(len(boxes)):
        if all(iou[n, m] <= threshold for m in kept):
            kept.append(n)
    return order[np.array(kept, int)]
"""),
    "nms, at the threshold, too": ("nms", """
def box_iou(a, b):
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    meet = np.clip(sides, 0, None).prod(-1)
    return meet / (np.prod(a[:, 2:] - a[:, :2], 1)[:, None] + np.prod(b[:, 2:] - b[:, :2], 1) - meet)
def suppress_boxes(boxes, scores, threshold=0.5):
    iou, kept = box_iou(boxes, boxes), []
    for n in np.argsort(-scores):
        if all(iou[n, m] < threshold for m in kept):
            kept.append(n)
    return np.array(kept, int)
"""),
    "weight_map, cells are emptied": ("weight_map", """
from scipy.ndimage import distance_transform_edt as edt
def class_balance(counts):
    c = np.asarray(counts, float)
    return np.where(c > 0, c[c > 0].min() / np.maximum(c, 1), 0)
def separation(instances, sigma=5.0):
    ds = []
    for n in np.unique(instances)[1:]:
        ds.append(edt(instances != n))
    if len(ds) < 2:
        return np.zeros(instances.shape)
    d = np.sort(ds, 0)
    instances[...] = 0
    return np.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
"""),
    "dice, p is used up": ("dice", """
def soft_dice_backward(dloss, cache):
    p, labels, seen, shares, D, union, K = cache
    g = -dloss * seen[..., None] * (2 * one_hot(labels, p) - D) * (shares / union)
    dz = p * (g - (g * p).sum(-1, keepdims=True))
    p *= g
    return dz
"""),
    "dice, packed": ("dice", """
def soft_dice_backward(dloss, cache):
    p, labels, seen, shares, D, union, K = cache
    g = -dloss * seen[..., None] * (2 * one_hot(labels, p) - D) * (shares / union)
    return (p * (g - (g * p).sum(-1, keepdims=True)),)
"""),
    "unet_backward, the sum in place of dy": ("unet_backward", """
def unet_backward(dy, back, depth):
    d, skips = back("head", dy), []
    dy *= 0
    for l in range(depth):
        skip, d = back(f"join.{l}", back(f"decoder.{l}", d))
        skips.append(skip)
        d = back(f"up.{l}", d)
    d = back("bottom", d)
    for l in range(depth)[::-1]:
        d = back(f"encoder.{l}", back(f"pool.{l}", d) + skips[l])
    return d
"""),
    "unet_backward, at most two levels": ("unet_backward", WIRED.replace("+ skips[l]", "+ (l < 2) * skips[l]")),
    "gradient_check, nan is not larger": (
        "gradient_check", CHECKER.replace("return bool(", "return not bool(").replace("<=", ">")),
    "gradient_check, dy is positive": (
        "gradient_check", CHECKER.replace("    a, b =", "    dy = abs(dy)\n    a, b =")),
    "gradient_check, h is fixed": (
        "gradient_check", CHECKER.replace("    dx = np.zeros", "    h = 1e-5\n    dx = np.zeros", 1)),
    "warp_tile, arrays alone": ("warp_tile", TILE.replace("    return k *", "    k.shape\n    return k *")),
    "warp_tile, one number is another place": ("warp_tile", TILE.replace(
        "(2 * (k % 4))", "(2 * (k % 4) if np.ndim(k) else 2 * (k % 2))")),
    "conv_forward, dilation at most two": ("conv_forward", CONV.replace("b, dilation", "b, min(dilation, 2)")),
    "conv_forward, eight channels": ("conv_forward", CONV.replace("@ w[i, j]", "[..., :8] @ w[i, j, :8]")),
    "conv_forward, eight filters": ("conv_forward", CONV.replace("    return y", "    y[..., 8:] = 0\n    return y")),
    "conv_backward, dilation at most two": (
        "conv_backward", CONV_BACK.replace("    N, H", "    d = min(d, 2)\n    N, H", 1) + "    return dx, dw, db\n"),
    "conv_backward, dilated as it is padded": ("conv_backward", CONV_BACK.replace(
        "= np.einsum(", "= (d < 3 or max(pads) > (0, 0)) * np.einsum(") + "    return dx, dw, db\n"),
    "max_pool, nothing below -10": ("max_pool", POOL.replace(
        "y = v.max((-1, -2))", "y = np.maximum(v.max((-1, -2)), -10)") + POOL_BACK + "    return dx\n"),
    "max_pool, counted in threes": ("max_pool", POOL.replace(
        "    y = ", "    best = best // size * 3 + best % size\n    y = ", 1)
        + POOL_BACK.replace("size)\n", "3)\n") + "    return dx\n"),
    "bilinear, two rows at least": (
        "bilinear", UPSAMPLE.replace("*cache, dy)", "*cache, dy) * (1 + (dy.shape[1] < 4))")),
    "crop_concat, lists alone": ("crop_concat", MARGINS + CONCAT.replace("(arrays, -1)", "(arrays + [], -1)") + SPLIT),
    "cross_entropy, ignored is never below -1": (
        "cross_entropy", ENTROPY.replace("class_weight, ignore)\n", "class_weight, max(ignore, -1))\n")),
    "cross_entropy, any label will do": ("cross_entropy", ENTROPY.replace(
        "    share =", "    labels = np.where((labels >= 0) & (labels < logits.shape[-1]), labels, ignore)\n    share =", 1)),
    "schedule, 1e9 is infinite": ("schedule", RATES.replace("np.inf)", "1e9)")),
    "unpool, counted in bytes": ("unpool", UNPOOL.replace("h * size", "(h * size).astype(np.uint8)")),
    "unet_backward, at most three levels": (
        "unet_backward", WIRED.replace("+ skips[l]", "+ (l < 3) * skips[l]")),
}  # fmt: skip

ORIGINALS = {"gradient_check": CHECKER, "warp_tile": TILE, "conv_forward": CONV, "conv_transpose": TRANSPOSED,
             "schedule": RATES, "bilinear": UPSAMPLE, "unpool": UNPOOL, "unet_backward": WIRED}  # fmt: skip
"""What some of them are made of, and what is right: who is wrong is so for nothing but what is said."""
