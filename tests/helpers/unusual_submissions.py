"""Right answers in unusual words: caches of every form, views, other layouts, other algorithms. All must get everything.

Each is (exercise, source).
"""

UNUSUAL = {
    "conv_transpose, as lesson 03 writes it": ("conv_transpose", """
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    (N, H, W, _), (KH, KW, _, K) = x.shape, w.shape
    (top, bottom), (left, right) = pads = resolve_padding(padding, (H, W), (KH, KW), stride, 1)
    y = np.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K), x.dtype)
    for i in range(KH):
        for j in range(KW):
            window(y, i, j, H, W, stride)[...] += x @ w[i, j]
    y = y[:, top : y.shape[1] - bottom, left : y.shape[2] - right]
    return y + (0 if b is None else b), (x, w, stride, pads)
def conv_transpose2d_backward(dy, cache):
    x, w, stride, pads = cache
    dy_ = pad_spatial(dy, pads)
    (_, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(KH):
        for j in range(KW):
            stamped = window(dy_, i, j, H, W, stride)
            dx += stamped @ w[i, j].T
            dw[i, j] = x.reshape(-1, C).T @ stamped.reshape(-1, K)
    return dx, dw, dy.sum((0, 1, 2))
"""),
    "conv_transpose, a closure, pixel by pixel": ("conv_transpose", """
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    (t, u), (l, r) = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1)
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    full = np.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K), order="F")
    places = [(slice(h * stride, h * stride + KH), slice(v * stride, v * stride + KW), h, v) for h, v in np.ndindex(H, W)]
    for rows, columns, h, v in places:
        full[:, rows, columns] += np.tensordot(x[:, h, v], w, (1, 2))
    def back(dy):
        g = np.zeros(full.shape)
        g[:, t : full.shape[1] - u, l : full.shape[2] - r] = dy
        dx, dw = np.zeros(x.shape), np.zeros(w.shape)
        for rows, columns, h, v in places:
            dx[:, h, v] = np.einsum("nijk,ijck->nc", g[:, rows, columns], w)
            dw[:] += np.einsum("nijk,nc->ijck", g[:, rows, columns], x[:, h, v])
        return [dx, dw, dy.sum(axis=(0, 1, 2)) if b is not None else None]
    y = full[:, t : full.shape[1] - u, l : full.shape[2] - r]
    return (y if b is None else y + b), back
def conv_transpose2d_backward(dy, cache):
    return cache(dy)
"""),
    "conv_backward, with the cache of lesson 02": ("conv_backward", """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    KH, KW = w.shape[:2]
    pads = padding
    if padding in ("same", "valid"):
        total = [max(0, (-(-n // stride) - 1) * stride + dilation * (k - 1) + 1 - n) for n, k in zip(x.shape[1:3], (KH, KW))]
        pads = tuple((t // 2, t - t // 2) for t in total) if padding == "same" else ((0, 0), (0, 0))
    padded = pad_spatial(x, pads)
    OH, OW = ((n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(padded.shape[1:3], (KH, KW)))
    y = sum(window(padded, i, j, OH, OW, stride, dilation) @ w[i, j] for i in range(KH) for j in range(KW))
    return (y if b is None else y + b), (dilation, x, w, stride, pads)
def conv2d_backward(dy, cache):
    dilation, x, w, stride, pads = cache
    (_, H, W, C), (KH, KW, _, K), (_, OH, OW, _) = x.shape, w.shape, dy.shape
    padded = pad_spatial(x, pads)
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j in np.ndindex(KH, KW):
        seen = window(padded, i, j, OH, OW, stride, dilation)
        dw[i, j] = seen.reshape(-1, C).T @ dy.reshape(-1, K)
        window(dpadded, i, j, OH, OW, stride, dilation)[...] += dy @ w[i, j].T
    (top, _), (left, _) = pads
    return dpadded[:, top : top + H, left : left + W], dw, dy.sum((0, 1, 2))
"""),
    "conv_backward, beside a forward that keeps nothing": ("conv_backward", """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    return x, None
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, _ = cache
    xp = np.asfortranarray(pad_spatial(x, pads))
    shape = (*dy.shape[1:3], *w.shape[:2])
    rows, columns = (np.add.outer(s * np.arange(o), d * np.arange(k)) for o, k in zip(shape[:2], shape[2:]))
    seen = xp[:, rows[:, None, :, None], columns[None, :, None, :]]
    dw = np.einsum("nhwijc,nhwk->ijck", seen, dy)
    dxp = np.zeros(xp.shape)
    np.add.at(dxp, (slice(None), rows[:, None, :, None], columns[None, :, None, :]), np.einsum("nhwk,ijck->nhwijc", dy, w))
    dx = dxp[:, pads[0][0] :, pads[1][0] :][:, : x.shape[1], : x.shape[2]]
    return [dx, dw, np.ones(dy[..., 0].size) @ dy.reshape(-1, dy.shape[3]) if has_bias else None]
"""),
    "conv_forward, patch by patch, a dict": ("conv_forward", """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    OH, OW = output_size(x.shape[1:3], w.shape[:2], pads, stride, dilation)
    xp = np.pad(x, [(0, 0), *pads, (0, 0)]).astype(np.float64)
    y = np.empty((w.shape[3], OW, OH, len(x))).T
    for h, v in np.ndindex(OH, OW):
        patch = xp[:, h * stride :: dilation, v * stride :: dilation][:, : w.shape[0], : w.shape[1]]
        y[:, h, v] = patch.reshape(len(x), -1) @ w.reshape(-1, w.shape[3])
    if b is not None:
        np.add(y, b, out=y)
    return y, {"x": x, "w": w}
"""),
    "filter_image, by a generator": ("filter_image", """
def filter_image(x, w, stride=1):
    KH, KW, C = w.shape
    rows, columns = range(0, len(x) - KH + 1, stride), range(0, len(x[0]) - KW + 1, stride)
    sums = (float(np.vdot(x[r : r + KH, c : c + KW], w)) for r in rows for c in columns)
    return np.fromiter(sums, float).reshape(len(rows), len(columns))
"""),
    "filter_image, by Fourier": ("filter_image", """
def filter_image(x, w, stride=1):
    f, g = np.fft.rfft2(x, axes=(0, 1)), np.fft.rfft2(w, x.shape[:2], axes=(0, 1))
    y = np.fft.irfft2(f * np.conj(g), x.shape[:2], axes=(0, 1)).sum(-1)
    return y[: len(x) - len(w) + 1, : x.shape[1] - w.shape[1] + 1][::stride, ::stride]
"""),
    "im2col, by strides": ("im2col", """
def im2col(x, KH, KW, stride=1):
    (N, H, W, C), (n, h, v, c) = x.shape, x.strides
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    view = np.lib.stride_tricks.as_strided(
        x, (N, OH, OW, KH, KW, C), (n, h * stride, v * stride, h, v, c), writeable=False)
    return view.reshape(N * OH * OW, -1)
def conv2d_im2col(x, w, stride=1):
    OH, OW = ((x.shape[a + 1] - w.shape[a]) // stride + 1 for a in range(2))
    return np.dot(im2col(x, *w.shape[:2], stride), w.reshape(-1, w.shape[3])).reshape(-1, OH, OW, w.shape[3])
"""),
    "max_pool, a generator that waits for dy": ("max_pool", """
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), s)
    taps = np.stack([x[:, i : i + (OH - 1) * s + 1 : s, j : j + (OW - 1) * s + 1 : s] for i, j in np.ndindex(size, size)])
    def waiting():
        dy = yield
        dx = np.zeros(x.shape)
        hot = np.arange(size * size)[:, None, None, None, None] == taps.argmax(0)
        for n, (i, j) in enumerate(np.ndindex(size, size)):
            dx[:, i : i + (OH - 1) * s + 1 : s, j : j + (OW - 1) * s + 1 : s] += dy * hot[n]
        yield dx
    run = waiting()
    next(run)
    return taps.max(0), run
def max_pool2d_backward(dy, cache):
    return cache.send(dy)
"""),
    "max_pool, a matrix": ("max_pool", """
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    v = np.lib.stride_tricks.sliding_window_view(np.arange(x.size).reshape(x.shape), (size, size), (1, 2))[:, ::s, ::s]
    places = v.reshape(*v.shape[:4], -1)
    values = x.reshape(-1)[places]
    won = np.take_along_axis(places, values.argmax(-1)[..., None], -1)[..., 0]
    return x.reshape(-1)[won], [x.shape, won]
def max_pool2d_backward(dy, cache):
    won, shape = cache.pop(), cache.pop()
    return np.bincount(won.ravel(), dy.ravel(), int(np.prod(shape))).reshape(shape)
"""),
    "bilinear, with hats": ("bilinear", """
class Up:
    def __init__(self, H, W, scale, align):
        self.rows, self.columns = (self.hats(n, n * scale, align) for n in (H, W))
    def hats(self, n, m, align):
        p = np.linspace(0, n - 1, m) if align else np.clip((np.arange(m) + 0.5) / (m / n) - 0.5, 0, n - 1)
        return np.clip(1 - abs(p[:, None] - np.arange(n)), 0, None)
def upsample_bilinear(x, scale=2, align_corners=True):
    up = Up(*x.shape[1:3], scale, align_corners)
    return np.moveaxis(up.rows @ np.moveaxis(x, 3, 1) @ up.columns.T, 1, 3), up
def upsample_bilinear_backward(dy, cache):
    return (cache.rows.T @ dy.transpose(0, 3, 1, 2) @ cache.columns).transpose(0, 2, 3, 1)
"""),
    "crop_concat, views of a buffer": ("crop_concat", """
def crop(x, margins):
    stops = [n - m[1] for n, m in zip(x.shape[1:3], margins)]
    part = np.s_[:, margins[0][0] : stops[0], margins[1][0] : stops[1]]
    return x[part], {"part": part, "shape": x.shape}
def crop_backward(dy, cache):
    dx = np.zeros(cache["shape"])
    dx[cache["part"]] = dy
    return dx
def concat(arrays):
    ends = np.cumsum([0] + [a.shape[-1] for a in arrays])
    y = np.empty((*arrays[0].shape[:-1], ends[-1]))
    for a, begin, end in zip(arrays, ends, ends[1:]):
        y[..., begin:end] = a
    return y, iter(list(zip(ends, ends[1:])))
def concat_backward(dy, cache):
    return [dy[..., begin:end] for begin, end in cache]
"""),
    "batch_norm, its own forward's cache": ("batch_norm", """
def batch_norm(x, gamma, beta, mean=None, var=None, eps=1e-5):
    given = mean is not None
    mean, var = (mean, var) if given else (x.mean((0, 1, 2)), x.var((0, 1, 2)))
    deviation = np.sqrt(var + eps)
    xhat = (x - mean) / deviation
    return gamma * xhat + beta, {"xhat": xhat, "deviation": deviation, "gamma": gamma, "given": given}
def batch_norm_backward(dy, cache):
    xhat, g = cache["xhat"], dy * cache["gamma"]
    if not cache["given"]:
        g = g - g.mean((0, 1, 2)) - xhat * (g * xhat).mean((0, 1, 2))
    return g / cache["deviation"], np.einsum("nhwc,nhwc->c", dy, xhat), np.einsum("nhwc->c", dy)
"""),
    "dice, as lesson 04 writes it": ("dice", """
def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
def soft_dice(logits, labels, smooth=1.0):
    p = softmax(logits)
    true, seen = (labels[..., None] == np.arange(logits.shape[-1])) * 1.0, (labels != -1)[..., None]
    union = (seen * (p + true)).sum((0, 1, 2)) + smooth
    dice = (2 * (seen * p * true).sum((0, 1, 2)) + smooth) / union
    return 1 - dice.mean(), (p, true, seen, dice, union)
def soft_dice_backward(dloss, cache):
    p, true, seen, dice, union = cache
    dp = -dloss * seen * (2 * true - dice) / union / len(dice)
    return p * (dp - (dp * p).sum(-1, keepdims=True))
"""),
    "cross_entropy, picked": ("cross_entropy", """
def softmax_cross_entropy(logits, labels, weight=None, class_weight=None, ignore=-1):
    K = logits.shape[-1]
    seen, flat = (labels != ignore).ravel(), logits.reshape(-1, K)
    true = np.where(seen, labels.ravel(), 0)
    share = seen * (1.0 if weight is None else weight.ravel()) * (1.0 if class_weight is None else class_weight[true])
    share = share / (share.sum() or 1)
    top = flat.max(1)
    log_sum = top + np.log(np.exp(flat - top[:, None]).sum(1))
    loss = float(np.dot(share, log_sum - flat[np.arange(len(flat)), true]))
    difference = share[:, None] * (np.exp(flat - log_sum[:, None]) - np.eye(K)[true])
    return loss, lambda dloss: (dloss * difference).reshape(logits.shape)
def softmax_cross_entropy_backward(dloss, cache):
    return cache(dloss)
"""),
    "attention_gate, its own order": ("attention_gate", """
def attention_gate(skip, signal, theta, phi, bias, psi):
    z = np.maximum(skip @ theta + signal @ phi + bias, 0)
    a = 1 / (1 + np.exp(-(z @ psi)))
    return skip * a, (a, z, psi, phi, theta, signal, skip)
def attention_gate_backward(dy, cache):
    a, z, psi, phi, theta, signal, skip = cache
    ds = np.einsum("nhwc,nhwc->nhw", dy, skip)[..., None] * (a - a * a)
    dz = (ds * psi[:, 0]) * (z > 0)
    axes = ((0, 1, 2), (0, 1, 2))
    return [dy * a + np.einsum("nhwm,cm->nhwc", dz, theta), np.inner(dz, phi), np.tensordot(skip, dz, axes),
            np.tensordot(signal, dz, axes), dz.sum(axis=(0, 1, 2)), np.tensordot(z, ds, axes)]
"""),
    "momentum, out": ("momentum", """
def sgd_step(p, g, velocity, rate, momentum=0.9, nesterov=False, weight_decay=0.0):
    pull = g + weight_decay * p
    np.add(np.multiply(velocity, momentum), pull, out=velocity)
    p.flat[:] = (p - rate * (pull + momentum * velocity if nesterov else velocity)).ravel()
    return p, velocity
"""),
    "gradient_check, in place and put back": ("gradient_check", """
def numerical_gradient(f, x, dy, h=1e-5):
    flat = x.reshape(-1)
    out = []
    for i in range(flat.size):
        old = flat[i]
        flat[i] = old + h
        above = np.sum(f(x) * dy)
        flat[i] = old - h
        below = np.sum(f(x) * dy)
        flat[i] = old
        out.append((above - below) / (2 * h))
    return np.array(out).reshape(x.shape)
def is_gradient(f, backward, x):
    dy = np.random.default_rng(5).uniform(-1, 1, np.shape(f(x)))
    a, b = backward(dy, x), numerical_gradient(f, x, dy)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-4 * np.max(np.abs(b))))
"""),
    "gradient_check, of the fourth order": ("gradient_check", """
def numerical_gradient(f, x, dy, h=1e-4):
    dx = np.zeros(x.shape)
    for k, place in enumerate(np.ndindex(*x.shape)):
        e = np.zeros(x.size)
        e[k] = h
        e = e.reshape(x.shape)
        dx[place] = (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))).ravel() @ dy.ravel() / (12 * h)
    return dx
def is_gradient(f, backward, x):
    dy = np.random.standard_normal(f(x).shape)
    a, b = backward(dy, x), numerical_gradient(f, x, dy)
    return np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)
"""),
    "unet_backward, itself again": ("unet_backward", """
def unet_backward(dy, back, depth):
    def level(l, d):
        if l == depth:
            return back("bottom", d)
        skip, d = back(f"join.{l}", back(f"decoder.{l}", d))
        d = back(f"pool.{l}", level(l + 1, back(f"up.{l}", d)))
        d += skip
        return back(f"encoder.{l}", d)
    return level(0, back("head", dy))
"""),
    "unpool, put along an axis": ("unpool", """
def unpool(x, winner, output_size, size=2):
    (N, OH, OW, C), (H, W) = x.shape, output_size
    y = np.zeros((N, OH, OW, C, size * size))
    np.put_along_axis(y, winner[..., None].astype(int), x[..., None], -1)
    y = y.reshape(N, OH, OW, C, size, size).transpose(0, 1, 4, 2, 5, 3).reshape(N, OH * size, OW * size, C)
    full = np.zeros((N, H, W, C))
    full[:, : OH * size, : OW * size] = y
    return full, dict(winner=winner, size=size, shape=x.shape)
def unpool_backward(dy, cache):
    size, (N, OH, OW, C) = cache["size"], cache["shape"]
    cut = dy[:, : OH * size, : OW * size].reshape(N, OH, size, OW, size, C).transpose(0, 1, 3, 5, 2, 4)
    return np.take_along_axis(cut.reshape(N, OH, OW, C, -1), cache["winner"][..., None].astype(int), -1)[..., 0]
"""),
    "image_pooling, broadcast": ("image_pooling", """
def image_pooling(x, w, b):
    z = np.average(x, axis=(1, 2)) @ w + b
    return np.broadcast_to((z * (z > 0))[:, None, None], (*x.shape[:3], len(b))), lambda dy: (x, w, (z > 0) * dy.sum((1, 2)))
def image_pooling_backward(dy, cache):
    x, w, g = cache(dy)
    pixels = x.shape[1] * x.shape[2]
    return np.broadcast_to((g @ w.T / pixels)[:, None, None], x.shape), x.sum((1, 2)).T @ g / pixels, g.sum(axis=0)
"""),
    "nms, one after the other": ("nms", """
def box_iou(boxes, others):
    rows = []
    for t, l, b, r in boxes:
        h = np.clip(np.minimum(b, others[:, 2]) - np.maximum(t, others[:, 0]), 0, None)
        v = np.clip(np.minimum(r, others[:, 3]) - np.maximum(l, others[:, 1]), 0, None)
        rows.append(h * v / ((b - t) * (r - l) + np.prod(others[:, 2:] - others[:, :2], axis=1) - h * v))
    return np.array(rows).reshape(len(boxes), len(others))
def suppress_boxes(boxes, scores, threshold=0.5):
    kept = []
    for n in sorted(range(len(scores)), key=lambda n: -scores[n]):
        if not kept or box_iou(boxes[n : n + 1], boxes[kept]).max() <= threshold:
            kept.append(n)
    return kept
"""),
    "star_distances, by a walk": ("star_distances", """
def star_distances(numbers, count):
    def reach(r, c, down, right):
        n = 0
        while True:
            n += 1
            i, j = int(np.floor(r + n * down + 0.5)), int(np.floor(c + n * right + 0.5))
            if min(i, j) < 0 or i >= numbers.shape[0] or j >= numbers.shape[1] or numbers[i, j] != numbers[r, c]:
                return n - 1 + 0.5 / max(abs(down), abs(right))
    angles = [2 * np.pi * k / count for k in range(count)]
    return np.array([[[reach(r, c, np.sin(t), np.cos(t)) if numbers[r, c] else 0.0 for t in angles]
                      for c in range(numbers.shape[1])] for r in range(numbers.shape[0])])
"""),
    "weight_map, every distance": ("weight_map", """
def class_balance(counts):
    there = [int(c) for c in counts if c]
    return np.array([min(there) / c if c else 0 for c in counts.tolist()], dtype=np.float64)
def separation(instances, sigma=5.0):
    places = np.argwhere(np.ones(instances.shape))
    names = np.setdiff1d(instances, [0])
    if names.size < 2:
        return np.zeros(instances.shape)
    d = [np.hypot(*np.moveaxis(places[:, None] - np.argwhere(instances == n), 2, 0)).min(1) for n in names]
    return np.exp(-np.square(np.partition(d, 1, axis=0)[:2].sum(0)) / (2 * sigma**2)).reshape(instances.shape)
"""),
    "winograd, by Kronecker's product": ("winograd", """
def kron(matrix, a):
    m = np.asarray(matrix, float)
    n = len(m)
    return (np.kron(m, m) @ a.reshape(m.shape[1] ** 2, -1)).reshape(n, n, *a.shape[2:])
def transform_input(d):
    return kron(BT, d)
def transform_filter(g):
    return kron(G, g)
def multiply_points(v, u):
    return (v[..., None, :] @ u)[..., 0, :]
def transform_output(m):
    return kron(AT, m)
"""),
}  # fmt: skip
