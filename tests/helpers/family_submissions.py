"""What students hand in for the exercises of lessons 13 and 14, in styles unlike ours.

`WRONG` is as in `wrong_submissions`: (exercise, source, words that the hint for the mistake must hold). `RIGHT` are unusual
answers that must get everything: (exercise, source).
"""

WRONG = {
    "attention_gate, the skip once": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    rows = lambda t: t.reshape(-1, t.shape[-1])
    ds = rows(np.sum(dy * skip, axis=3, keepdims=True)) * rows(a - a**2)
    dz = np.where(rows(z) > 0, ds * psi[:, 0], 0)
    return (a * dy, (dz @ phi.T).reshape(signal.shape), rows(skip).T @ dz, rows(signal).T @ dz,
            dz.sum(0), rows(z).T @ ds)
''', "made of the skip, too"),
    "attention_gate, a mean over channels": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    da = np.average(dy * skip, axis=-1)[..., None]
    g = np.tensordot(da * a * (1 - a), psi, (3, 1)) * np.sign(z)
    return (dy * a + np.tensordot(g, theta, (3, 1)), np.tensordot(g, phi, (3, 1)), np.tensordot(skip, g, ((0, 1, 2),) * 2),
            np.tensordot(signal, g, ((0, 1, 2),) * 2), g.sum(0).sum(0).sum(0), (z * da * a * (1 - a)).sum((0, 1, 2))[:, None])
''', "not their mean"),
    "attention_gate, no sigmoid": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    dpre = np.einsum("nhwc,nhwc,mo->nhwm", dy, skip, psi)
    dpre[z == 0] = 0
    return dy * a + dpre @ theta.transpose(), dpre @ phi.transpose(), None, None, dpre.sum(axis=(0, 1, 2)), None
''', "a * (1 - a), is missing"),
    "attention_gate, the ReLU forgotten": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    dscore = np.sum(skip * dy, -1)[..., None] * (a * (1 - a))
    dz = dscore * psi.ravel()
    dskip = a * dy + np.einsum("nhwm,cm->nhwc", dz, theta)
    return dskip, np.einsum("nhwm,gm->nhwg", dz, phi), None, None, dz.sum((0, 1, 2)), None
''', "ReLU is skipped"),
    "unpool, the whole window": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    big = np.repeat(np.repeat(x, size, 1), size, 2)
    N, h, w, C = big.shape
    y = np.zeros((N, *output_size, C))
    y[:, :h, :w] = big
    return y, (winner, size)
def unpool_backward(dy, cache):
    raise NotImplementedError
''', "nearest up-sampling"),
    "unpool, columns first": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for n, r, c, k in np.ndindex(*x.shape):
        column, row = divmod(int(winner[n, r, c, k]), size)
        y[n, r * size + row, c * size + column, k] = x[n, r, c, k]
    return y, (winner, size)
def unpool_backward(dy, cache):
    winner, size = cache
    dx = np.zeros(winner.shape)
    for n, r, c, k in np.ndindex(*dx.shape):
        column, row = divmod(int(winner[n, r, c, k]), size)
        dx[n, r, c, k] = dy[n, r * size + row, c * size + column, k]
    return dx
''', "read as j*size + i"),
    "unpool, a pool for the backward": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for n, r, c, k in np.ndindex(*x.shape):
        i, j = divmod(int(winner[n, r, c, k]), size)
        y[n, r * size + i, c * size + j, k] = x[n, r, c, k]
    return y, (x.shape, size)
def unpool_backward(dy, cache):
    (N, OH, OW, C), s = cache
    return dy[:, : OH * s, : OW * s].reshape(N, OH, s, OW, s, C).max((2, 4))
''', "winners of the forward do"),
    "unpool, two by two": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    y = np.zeros((len(x), *output_size, x.shape[3]))
    y[:, 0 : 2 * x.shape[1] : 2, 0 : 2 * x.shape[2] : 2] = x * (winner == 0)
    y[:, 0 : 2 * x.shape[1] : 2, 1 : 2 * x.shape[2] : 2] = x * (winner == 1)
    y[:, 1 : 2 * x.shape[1] : 2, 0 : 2 * x.shape[2] : 2] = x * (winner == 2)
    y[:, 1 : 2 * x.shape[1] : 2, 1 : 2 * x.shape[2] : 2] = x * (winner == 3)
    return y, winner
def unpool_backward(dy, cache):
    raise NotImplementedError
''', "2 x 2 whatever"),
    "image_pooling, a mean backwards": ("image_pooling", '''
def image_pooling(x, w, b):
    m = np.einsum("nhwc->nc", x) / (x.shape[1] * x.shape[2])
    z = m @ w + b
    y = np.zeros((*x.shape[:3], len(b))) + np.where(z > 0, z, 0).reshape(len(x), 1, 1, -1)
    return y, (x.shape, m, w, z > 0)
def image_pooling_backward(dy, cache):
    shape, m, w, on = cache
    g = dy.reshape(len(dy), -1, dy.shape[3]).mean(1) * on
    dx = np.empty(shape)
    dx[:] = (g @ w.T / (shape[1] * shape[2]))[:, None, None, :]
    return dx, m.T @ g, g.sum(axis=0)
''', "not its mean"),
    "image_pooling, everything to each": ("image_pooling", '''
def image_pooling(x, w, b):
    m = x.mean(2).mean(1)
    z = np.clip(m @ w + b, 0, None)
    return np.tile(z[:, None, None], (1, *x.shape[1:3], 1)), (x, w, m, z)
def image_pooling_backward(dy, cache):
    x, w, m, z = cache
    g = np.einsum("nhwk->nk", dy)
    g[z == 0] = 0
    return np.tile((g @ w.T)[:, None, None], (1, *x.shape[1:3], 1)), m.T @ g, g.sum(0)
''', "each is one of H * W"),
    "image_pooling, no ReLU backwards": ("image_pooling", '''
def image_pooling(x, w, b):
    m = x.mean((1, 2))
    y = np.ones((*x.shape[:3], 1)) * np.maximum(0, m @ w + b)[:, None, None, :]
    return y, (x, w, m)
def image_pooling_backward(dy, cache):
    x, w, m = cache
    g = dy.sum(1).sum(1)
    return np.ones(x.shape) * (g @ w.T)[:, None, None, :] / x[0, ..., 0].size, np.einsum("nc,nk->ck", m, g), g.sum(0)
''', "ReLU is skipped"),
    "nms, suppressed boxes suppress": ("nms", '''
def box_iou(a, b):
    h = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    w = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    i = h.clip(0) * w.clip(0)
    area = lambda t: (t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1])
    return i / (area(a)[:, None] + area(b)[None] - i)
def suppress_boxes(boxes, scores, threshold=0.5):
    order = np.argsort(scores)[::-1]
    above = np.triu(box_iou(boxes[order], boxes[order]), 1)
    return order[above.max(0, initial=0) <= threshold]
''', "still suppresses others"),
    "nms, ranks": ("nms", '''
def box_iou(a, b):
    y = np.zeros((len(a), len(b)))
    for i, (t, l, u, r) in enumerate(a):
        for j, (t2, l2, u2, r2) in enumerate(b):
            h, w = min(u, u2) - max(t, t2), min(r, r2) - max(l, l2)
            if h > 0 and w > 0:
                y[i, j] = h * w / ((u - t) * (r - l) + (u2 - t2) * (r2 - l2) - h * w)
    return y
def suppress_boxes(boxes, scores, threshold=0.5):
    boxes = boxes[np.argsort(-scores)]
    left, kept = list(range(len(boxes))), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [n for n in left if box_iou(boxes[[best]], boxes[[n]])[0, 0] <= threshold]
    return np.array(kept, int)
''', "numbers the sorted boxes"),
    "nms, a product of two negatives": ("nms", '''
def box_iou(a, b):
    y = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            sides = np.minimum(a[i, 2:], b[j, 2:]) - np.maximum(a[i, :2], b[j, :2])
            meet = sides[0] * sides[1]
            y[i, j] = meet / (np.prod(a[i, 2:] - a[i, :2]) + np.prod(b[j, 2:] - b[j, :2]) - meet)
    return y
def suppress_boxes(boxes, scores, threshold=0.5):
    raise NotImplementedError
''', "a positive product"),
    "nms, the smaller area": ("nms", '''
def box_iou(a, b):
    h = np.minimum.outer(a[:, 2], b[:, 2]) - np.maximum.outer(a[:, 0], b[:, 0])
    w = np.minimum.outer(a[:, 3], b[:, 3]) - np.maximum.outer(a[:, 1], b[:, 1])
    area = lambda t: (t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1])
    return np.maximum(h, 0) * np.maximum(w, 0) / np.minimum.outer(area(a), area(b))
def suppress_boxes(boxes, scores, threshold=0.5):
    raise NotImplementedError
''', "divided by the smaller area"),
    "star_distances, upwards": ("star_distances", '''
def star_distances(numbers, count):
    H, W = numbers.shape
    out = np.zeros((H, W, count))
    for r in range(H):
        for c in range(W):
            if numbers[r, c] == 0:
                continue
            for k in range(count):
                angle = k * 2 * np.pi / count
                dr, dc = -np.sin(angle), np.cos(angle)
                for n in range(1, H + W):
                    y, x = int(np.floor(r + n * dr + 0.5)), int(np.floor(c + n * dc + 0.5))
                    if not (0 <= y < H and 0 <= x < W) or numbers[y, x] != numbers[r, c]:
                        break
                out[r, c, k] = n - 1 + 0.5 / max(abs(dr), abs(dc))
    return out
''', "the other way round"),
    "star_distances, to the background": ("star_distances", '''
def star_distances(numbers, count):
    ring = np.pad(numbers, 1) > 0
    angles = 2 * np.pi * np.arange(count) / count
    out = np.zeros((*numbers.shape, count))
    for k, (s, c) in enumerate(zip(np.sin(angles), np.cos(angles))):
        for row, column in zip(*np.nonzero(numbers)):
            n = 1
            while ring[int(np.floor(row + 1.5 + n * s)), int(np.floor(column + 1.5 + n * c))]:
                n = n + 1
            out[row, column, k] = n - 1 + 0.5 / max(abs(s), abs(c))
    return out
''', "through a touching object"),
    "star_distances, half a step": ("star_distances", '''
def star_distances(numbers, count):
    framed = np.pad(numbers, 1)
    out = np.zeros((*numbers.shape, count))
    for row, column in zip(*np.nonzero(numbers)):
        for k in range(count):
            s, c = np.sin(2 * np.pi * k / count), np.cos(2 * np.pi * k / count)
            n = 0
            while framed[round(row + 1 + n * s), round(column + 1 + n * c)] == numbers[row, column]:
                n += 1
            out[row, column, k] = n - 0.5
    return out
''', "longer than half a step"),
}  # fmt: skip

RIGHT = {
    "attention_gate, by matrices of a row a pixel": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    rows = lambda t: t.reshape(-1, t.shape[-1])
    X, S, Z, A, G = map(rows, (skip, signal, z, a, dy))
    score = np.einsum("pc,pc->p", G, X)[:, None] * (A - A * A)
    step = np.where(Z > 0, score * psi.T, 0.0)
    back = lambda t, like: t.reshape(like.shape)
    return (back(G * A + step @ theta.T, skip), back(step @ phi.T, signal), X.T @ step, S.T @ step,
            step.sum(0), Z.T @ score)
'''),
    "attention_gate, pixel by pixel": ("attention_gate", '''
def attention_gate_backward(dy, cache):
    skip, signal, theta, phi, psi, z, a = cache
    grads = [np.zeros(np.shape(t)) for t in (skip, signal, theta, phi, psi[:, 0], psi)]
    for at in np.ndindex(*dy.shape[:3]):
        score = np.dot(dy[at], skip[at]) * a[at] * (1 - a[at])
        step = psi[:, 0] * score * np.sign(z[at])
        for grad, share in zip(grads[2:], (np.outer(skip[at], step), np.outer(signal[at], step), step, np.outer(z[at], score))):
            grad += share
        grads[0][at] = a[at] * dy[at] + theta @ step
        grads[1][at] = phi @ step
    return tuple(grads)
'''),
    "unpool, by flat places": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    N, OH, OW, C = x.shape
    n, r, c, k = np.indices(x.shape)
    w = winner.astype(int)
    places = np.ravel_multi_index((n, r * size + w // size, c * size + w % size, k), (N, *output_size, C))
    y = np.zeros((N, *output_size, C))
    y.flat[places.ravel()] = x.ravel()
    return y, places
def unpool_backward(dy, cache):
    return dy.reshape(-1)[cache]
'''),
    "unpool, by one-hot windows": ("unpool", '''
def unpool(x, winner, output_size, size=2):
    (N, OH, OW, C), (H, W) = x.shape, output_size
    hot = winner[..., None] == np.arange(size**2)
    full = (x[..., None] * hot).reshape(N, OH, OW, C, size, size).transpose(0, 1, 4, 2, 5, 3)
    full = full.reshape(N, OH * size, OW * size, C)
    return np.pad(full, ((0, 0), (0, H - OH * size), (0, W - OW * size), (0, 0))), hot
def unpool_backward(dy, cache):
    N, OH, OW, C, S = cache.shape
    s = int(np.sqrt(S))
    cut = dy[:, : OH * s, : OW * s].reshape(N, OH, s, OW, s, C).transpose(0, 1, 3, 5, 2, 4).reshape(cache.shape)
    return np.sum(cut, axis=-1, where=cache)
'''),
    "image_pooling, the convolution before the mean": ("image_pooling", '''
def image_pooling(x, w, b):
    every = x @ w
    z = every.mean(axis=(1, 2), keepdims=True) + b
    return np.where(z > 0, z, 0) + 0 * every, (x, w, z)
def image_pooling_backward(dy, cache):
    x, w, z = cache
    g = np.ones_like(dy) * np.where(z > 0, dy.mean((1, 2), keepdims=True), 0)
    return np.einsum("nhwk,ck->nhwc", g, w), np.einsum("nhwc,nhwk->ck", x, g), np.einsum("nhwk->k", g)
'''),
    "nms, until nobody is left": ("nms", '''
def box_iou(a, b):
    y = np.zeros((len(a), len(b)))
    for i, j in np.ndindex(y.shape):
        h = max(0.0, min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]))
        w = max(0.0, min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]))
        one, two = ((t[2] - t[0]) * (t[3] - t[1]) for t in (a[i], b[j]))
        y[i, j] = h * w / (one + two - h * w)
    return y
def suppress_boxes(boxes, scores, threshold=0.5):
    left, kept = list(range(len(scores))), []
    while left:
        best = max(left, key=lambda n: scores[n])
        kept.append(best)
        left = [n for n in left if n != best and box_iou(boxes[[n]], boxes[[best]])[0, 0] <= threshold]
    return kept
'''),
    "nms, a mask of the dead": ("nms", '''
def box_iou(a, b):
    low, high = np.maximum(a[:, None], b)[..., :2], np.minimum(a[:, None], b)[..., 2:]
    meet = np.prod(np.where(high > low, high - low, 0), -1)
    size = lambda t: np.prod(t[:, 2:] - t[:, :2], -1)
    return meet / (np.add.outer(size(a), size(b)) - meet)
def suppress_boxes(boxes, scores, threshold=0.5):
    order = np.argsort(scores)[::-1]
    iou, dead = box_iou(boxes[order], boxes[order]), np.zeros(len(order), bool)
    for n in range(len(order)):
        if not dead[n]:
            dead[n + 1 :] |= iou[n, n + 1 :] > threshold
    return order[~dead]
'''),
    "star_distances, all pixels at once, in float32": ("star_distances", '''
def star_distances(numbers, count):
    H, W = numbers.shape
    rows, columns = np.indices((H, W))
    out = np.zeros((H, W, count), np.float32)
    for k, angle in enumerate(np.linspace(0, 2 * np.pi, count, endpoint=False)):
        s, c = np.sin(angle), np.cos(angle)
        going, n = numbers != 0, 0
        while going.any():
            n += 1
            y, x = np.floor(rows + n * s + 0.5).astype(int), np.floor(columns + n * c + 0.5).astype(int)
            there = (y >= 0) & (y < H) & (x >= 0) & (x < W)
            same = there & (numbers[y.clip(0, H - 1), x.clip(0, W - 1)] == numbers)
            out[going & ~same, k] = n - 1 + 0.5 / np.max(np.abs((s, c)))
            going &= same
    return out
'''),
    "star_distances, with a frame": ("star_distances", '''
def star_distances(numbers, count):
    framed = np.pad(numbers, 1, constant_values=-1)
    out = np.zeros((*numbers.shape, count))
    for k in range(count):
        step = np.exp(2j * np.pi * k / count)
        for row, column in zip(*np.nonzero(numbers)):
            n = 1
            while framed[round(row + 1 + n * step.imag), round(column + 1 + n * step.real)] == numbers[row, column]:
                n += 1
            out[row, column, k] = n - 1 + 0.5 / max(abs(step.imag), abs(step.real))
    return out
'''),
}  # fmt: skip
