"""What students hand in that is wrong: written independently of the grader's known mistakes, in the many styles of students.

Each is (exercise, source, words that the hint for the mistake must hold).
"""

SUBMISSIONS = {
    "filter_image, flipped": ("filter_image", '''
def filter_image(x, w, stride=1):
    k = w[::-1, ::-1]
    rows = range(0, x.shape[0] - w.shape[0] + 1, stride)
    columns = range(0, x.shape[1] - w.shape[1] + 1, stride)
    return np.array([[np.sum(x[r:r + w.shape[0], c:c + w.shape[1]] * k) for c in columns] for r in rows])
''', "flipped"),
    "filter_image, every loop, swapped": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    y = np.zeros(((H - KH) // stride + 1, (W - KW) // stride + 1))
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            for i in range(KH):
                for j in range(KW):
                    for k in range(C):
                        y[r, c] += x[r * stride + i, c * stride + j, k] * w[j, i, k]
    return y
''', "swapped"),
    "filter_image, no stride": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    y = np.zeros(((H - KH) // stride + 1, (W - KW) // stride + 1))
    for i in range(KH):
        for j in range(KW):
            y = y + np.tensordot(x[i:i + y.shape[0], j:j + y.shape[1]], w[i, j], 1)
    return y
''', "stride"),
    "filter_image, the size without stride": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, _ = x.shape
    KH, KW, _ = w.shape
    OH, OW = H - KH + 1, W - KW + 1
    y = np.zeros((OH, OW))
    for r in range(OH):
        for c in range(OW):
            y[r, c] = (x[r * stride : r * stride + KH, c * stride : c * stride + KW] * w).sum()
    return y
''', "do not know the stride"),
    "filter_image, the lesson's own": ("filter_image", '''
def filter_image(image, w, stride=1):
    (H, W), (KH, KW) = image.shape, w.shape
    y = np.empty((H - KH + 1, W - KW + 1), image.dtype)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            y[row, column] = (image[row : row + KH, column : column + KW] * w).sum()
    return y
''', "third axis"),
    "filter_image, zeros around": ("filter_image", '''
def filter_image(x, w, stride=1):
    KH, KW, C = w.shape
    p, q = KH // 2, KW // 2
    padded = np.zeros((x.shape[0] + 2 * p, x.shape[1] + 2 * q, C))
    padded[p : p + x.shape[0], q : q + x.shape[1]] = x
    v = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), (0, 1))[::stride, ::stride]
    return np.einsum("hwcij,ijc->hw", v, w)
''', "there is no padding"),
    "filter_image, a y like x": ("filter_image", '''
def filter_image(x, w, stride=1):
    y = np.zeros(x.shape[:2])
    for r in range((x.shape[0] - w.shape[0]) // stride + 1):
        for c in range((x.shape[1] - w.shape[1]) // stride + 1):
            y[r, c] = (x[r * stride :][: w.shape[0], c * stride :][:, : w.shape[1]] * w).sum()
    return y
''', "there is no padding"),
    "filter_image, no stride at all": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    y = np.zeros((H - KH + 1, W - KW + 1))
    for r in range(H - KH + 1):
        for c in range(W - KW + 1):
            y[r, c] = np.sum(x[r:r + KH, c:c + KW] * w)
    return y
''', "not used at all"),
    "filter_image, one assignment": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    y = np.zeros(((H - KH) // stride + 1, (W - KW) // stride + 1))
    for r in range(y.shape[0]):
        for c in range(y.shape[1]):
            for i in range(KH):
                for j in range(KW):
                    y[r, c] = x[r * stride + i, c * stride + j] @ w[i, j]
    return y
''', "+= instead of ="),
    "filter_image, steps of the stride": ("filter_image", '''
def filter_image(x, w, stride=1):
    H, W, C = x.shape
    KH, KW, _ = w.shape
    y = np.zeros(((H - KH) // stride + 1, (W - KW) // stride + 1))
    for h in range(0, H - KH + 1, stride):
        for v in range(0, W - KW + 1, stride):
            y[h, v] = np.sum(x[h:h + KH, v:v + KW] * w)
    return y
''', "no gaps"),
    "filter_image, rounded": ("filter_image", '''
def filter_image(x, w, stride=1):
    KH, KW, C = w.shape
    OH, OW = (x.shape[0] - KH + 1) // stride, (x.shape[1] - KW + 1) // stride
    return np.array([[(x[r * stride : r * stride + KH, c * stride : c * stride + KW] * w).sum() for c in range(OW)]
                     for r in range(OH)])
''', "divide first"),
    "filter_image, channels apart": ("filter_image", '''
def filter_image(x, w, stride=1):
    KH, KW, C = w.shape
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (0, 1))[::stride, ::stride]
    return np.einsum("hwcij,ijc->hwc", v, w)
''', "sum over the channels is missing"),
    "conv_forward, b may be None": ("conv_forward", '''
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    KH, KW, C, K = w.shape
    pads = resolve_padding(padding, x.shape[1:3], (KH, KW), stride, dilation)
    OH, OW = output_size(x.shape[1:3], (KH, KW), pads, stride, dilation)
    x = pad_spatial(x, pads)
    y = np.zeros((len(x), OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            for i in range(KH):
                for j in range(KW):
                    y[:, r, c] += x[:, r * stride + i * dilation, c * stride + j * dilation] @ w[i, j]
    return y + b, None
''', "b is None"),
    "conv_forward, the bias for every channel": ("conv_forward", '''
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    KH, KW, C, K = w.shape
    pads = resolve_padding(padding, x.shape[1:3], (KH, KW), stride, dilation)
    OH, OW = output_size(x.shape[1:3], (KH, KW), pads, stride, dilation)
    x = pad_spatial(x, pads)
    b = np.zeros(K) if b is None else b
    y = np.zeros((len(x), OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            for i in range(KH):
                for j in range(KW):
                    for k in range(C):
                        seen = x[:, r * stride + i * dilation, c * stride + j * dilation, k]
                        y[:, r, c] += seen[:, None] * w[i, j, k] + b
    return y, None
''', "once for every tap"),
    "conv_backward, a new array": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, stride, pads, dilation, groups = cache
    OH, OW = dy.shape[1:3]
    xp = pad_spatial(x, pads)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.einsum("nhwc,nhwk->ck", window(xp, i, j, OH, OW, stride, dilation), dy)
            part = window(dxp, i, j, OH, OW, stride, dilation)
            part = part + dy @ w[i, j].T
    dx = dxp[:, pads[0][0] : pads[0][0] + x.shape[1], pads[1][0] : pads[1][0] + x.shape[2]]
    return dx, dw, dy.sum((0, 1, 2)) if has_bias else None
''', "makes a new array"),
    "conv_backward, cut from the end": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, stride, pads, dilation, groups = cache
    OH, OW = dy.shape[1:3]
    xp = pad_spatial(x, pads)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.einsum("nhwc,nhwk->ck", window(xp, i, j, OH, OW, stride, dilation), dy)
            d = window(dxp, i, j, OH, OW, stride, dilation)
            d += dy @ w[i, j].T
    (top, bottom), (left, right) = pads
    return dxp[:, top:-bottom, left:-right], dw, dy.sum((0, 1, 2)) if has_bias else None
''', "-0 is 0"),
    "conv_forward, seven loops, flipped": ("conv_forward", '''
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            for i in range(KH):
                for j in range(KW):
                    y[:, r, c] += x[:, r * stride + i * dilation, c * stride + j * dilation] @ w[KH - i - 1, KW - j - 1]
    return (y if b is None else y + b), None
''', "flipped"),
    "conv_forward, patches without stride": ("conv_forward", '''
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            patch = x[:, r : r + dilation * (KH - 1) + 1 : dilation, c : c + dilation * (KW - 1) + 1 : dilation]
            y[:, r, c] = np.tensordot(patch, w, 3)
    return (y if b is None else y + b), None
''', "stride"),
    "conv_forward, no bias": ("conv_forward", '''
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    OH, OW = output_size(x.shape[1:3], w.shape[:2], pads, stride, dilation)
    x = pad_spatial(x, pads)
    rows, cols = stride * np.arange(OH), stride * np.arange(OW)
    return sum(
        x[:, rows[:, None] + i * dilation, cols + j * dilation] @ w[i, j] for i in range(w.shape[0]) for j in range(w.shape[1])
    ), None
''', "bias"),
    "im2col, channels before taps": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    N, H, W, C = x.shape
    out = []
    for n in range(N):
        for r in range(0, H - KH + 1, stride):
            for c in range(0, W - KW + 1, stride):
                out.append(x[n, r : r + KH, c : c + KW].transpose(2, 0, 1).ravel())
    return np.array(out)
def conv2d_im2col(x, w, stride=1):
    OH, OW = (x.shape[1] - w.shape[0]) // stride + 1, (x.shape[2] - w.shape[1]) // stride + 1
    return (im2col(x, *w.shape[:2], stride) @ w.reshape(-1, w.shape[3])).reshape(len(x), OH, OW, -1)
''', "channel should run fastest"),
    "im2col, place by place": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    rows = []
    for r in range(0, x.shape[1] - KH + 1, stride):
        for c in range(0, x.shape[2] - KW + 1, stride):
            rows.append(x[:, r : r + KH, c : c + KW].reshape(len(x), -1))
    return np.concatenate(rows)
def conv2d_im2col(x, w, stride=1):
    OH, OW = (x.shape[1] - w.shape[0]) // stride + 1, (x.shape[2] - w.shape[1]) // stride + 1
    return (im2col(x, *w.shape[:2], stride) @ w.reshape(-1, w.shape[3])).reshape(len(x), OH, OW, -1)
''', "vary slowest"),
    "im2col, patches as columns": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::stride, ::stride]
    return v.transpose(4, 5, 3, 0, 1, 2).reshape(KH * KW * x.shape[3], -1)
def conv2d_im2col(x, w, stride=1):
    raise NotImplementedError
''', "transposed"),
    "conv_backward, dw without stride": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    xp = pad_spatial(x, pads)
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    N, OH, OW, K = dy.shape
    for r in range(OH):
        for c in range(OW):
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    dxp[:, r * s + i * d, c * s + j * d] += dy[:, r, c] @ w[i, j].T
                    dw[i, j] += xp[:, r + i * d, c + j * d].T @ dy[:, r, c]
    (t, _), (l, _) = pads
    return dxp[:, t : t + x.shape[1], l : l + x.shape[2]], dw, dy.sum(axis=(0, 1, 2))
''', "but for the stride"),
    "conv_backward, as a convolution with the kernel as it is": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    xp = pad_spatial(x, pads)
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    KH, KW = w.shape[:2]
    for i in range(KH):
        for j in range(KW):
            dw[i, j] = np.einsum("nhwc,nhwk->ck", window(xp, i, j, *dy.shape[1:3], s, d), dy)
            window(dxp, i, j, *dy.shape[1:3], s, d)[...] += np.einsum("nhwk,ck->nhwc", dy, w[KH - 1 - i, KW - 1 - j])
    (t, b), (l, r) = pads
    return dxp[:, t : dxp.shape[1] - b, l : dxp.shape[2] - r], dw, dy.sum((0, 1, 2))
''', "wrong side"),
    "conv_backward, dw averaged, db of the last image": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    xp = pad_spatial(x, pads)
    dw = np.zeros(w.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.mean([window(xp, i, j, *dy.shape[1:3], s, d)[n].reshape(-1, x.shape[3]).T
                                @ dy[n].reshape(-1, dy.shape[3]) for n in range(len(x))], axis=0)
    return None, dw, None
''', "mean over the images"),
    "gradient_check, forward difference": ("gradient_check", '''
def numerical_gradient(f, x, dy, h=1e-5):
    g = np.zeros(x.shape)
    base = np.sum(f(x) * dy)
    for k in range(x.size):
        e = np.zeros(x.size)
        e[k] = h
        g.flat[k] = (np.sum(f(x + e.reshape(x.shape)) * dy) - base) / h
    return g
def is_gradient(f, backward, x):
    dy = np.random.randn(*f(x).shape)
    a, b = numerical_gradient(f, x, dy), backward(dy, x)
    return bool(np.max(np.abs(a - b)) < 5e-4 * np.max(np.abs(a)))
''', "one-sided"),
    "gradient_check, upstream of ones": ("gradient_check", '''
def numerical_gradient(f, x, dy, h=1e-5):
    g = np.zeros_like(x)
    for k in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[k] = h
        g[k] = ((f(x + e) - f(x - e)) * dy).sum() / (2 * h)
    return g
def is_gradient(f, backward, x):
    dy = np.ones_like(f(x))
    a, b = numerical_gradient(f, x, dy), backward(dy, x)
    return bool(np.allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max()))
''', "dy = 1 is blind"),
    "conv_transpose, stamps overwrite": ("conv_transpose", '''
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1)
    (t, bo), (l, r) = pads
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    y = np.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K))
    for i in range(KH):
        for j in range(KW):
            y[:, i : i + (H - 1) * stride + 1 : stride, j : j + (W - 1) * stride + 1 : stride] = x @ w[i, j]
    y = y[:, t : y.shape[1] - bo, l : y.shape[2] - r]
    return (y if b is None else y + b), (x, w, b, stride, pads)
def conv_transpose2d_backward(dy, cache):
    raise NotImplementedError
''', "overwrites"),
    "conv_transpose, dw averaged": ("conv_transpose", '''
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    return np.zeros((1, 1, 1, 1)), (stride, resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1), w, x)
def conv_transpose2d_backward(dy, cache):
    s, pads, w, x = cache
    dy_ = pad_spatial(dy, pads)
    H, W = x.shape[1:3]
    dx, dw = 0, np.zeros(w.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            seen = window(dy_, i, j, H, W, s)
            dx = dx + seen @ w[i, j].T
            dw[i, j] = np.einsum("nhwc,nhwk->ck", x, seen) / x.shape[0]
    return dx, dw, dy.sum((0, 1, 2))
''', "mean over the images"),
    "max_pool, the gradient to all that are equal": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), s)
    y = np.empty((len(x), OH, OW, x.shape[3]))
    for r in range(OH):
        for c in range(OW):
            y[:, r, c] = x[:, r * s : r * s + size, c * s : c * s + size].max((1, 2))
    return y, (x, y, size, s)
def max_pool2d_backward(dy, cache):
    x, y, size, s = cache
    dx = np.zeros(x.shape)
    for r in range(dy.shape[1]):
        for c in range(dy.shape[2]):
            patch = x[:, r * s : r * s + size, c * s : c * s + size]
            won = patch == y[:, r, c][:, None, None]
            dx[:, r * s : r * s + size, c * s : c * s + size] += won * dy[:, r, c][:, None, None]
    return dx
''', "every one of the tied"),
    "max_pool, the mean's backward": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), s)
    v = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::s, ::s]
    return v.max((-1, -2)), (x.shape, size, s)
def max_pool2d_backward(dy, cache):
    shape, size, s = cache
    dx = np.zeros(shape)
    for r in range(dy.shape[1]):
        for c in range(dy.shape[2]):
            dx[:, r * s : r * s + size, c * s : c * s + size] += dy[:, r : r + 1, c : c + 1] / size / size
    return dx
''', "mean-pooling"),
    "bilinear, conventions mixed up": ("bilinear", '''
def matrix(n, m, align):
    a = np.zeros((m, n))
    for r in range(m):
        p = min(max((r + 0.5) * n / m - 0.5, 0), n - 1) if align else r * (n - 1) / (m - 1)
        k = min(int(p), n - 1)
        a[r, k] += 1 - (p - k)
        a[r, min(k + 1, n - 1)] += p - k
    return a
def upsample_bilinear(x, scale=2, align_corners=True):
    A, B = (matrix(n, n * scale, align_corners) for n in x.shape[1:3])
    return np.einsum("ri,sj,nijc->nrsc", A, B, x), (A, B)
def upsample_bilinear_backward(dy, cache):
    A, B = cache
    return np.einsum("ri,sj,nrsc->nijc", A, B, dy)
''', "conventions for the corners are swapped"),
    "bilinear, no half pixel": ("bilinear", '''
def matrix(n, m, align):
    p = np.arange(m) * (n - 1) / (m - 1) if align else np.clip(np.arange(m) * n / m, 0, n - 1)
    return np.maximum(0, 1 - np.abs(p[:, None] - np.arange(n)))
def upsample_bilinear(x, scale=2, align_corners=True):
    A, B = (matrix(n, n * scale, align_corners) for n in x.shape[1:3])
    return np.einsum("ri,sj,nijc->nrsc", A, B, x), (A, B)
def upsample_bilinear_backward(dy, cache):
    return np.einsum("ri,sj,nrsc->nijc", *cache, dy)
''', "half pixel"),
    "crop_concat, put back upside down": ("crop_concat", '''
def crop(x, margins):
    (t, b), (l, r) = margins
    return x[:, t : x.shape[1] - b, l : x.shape[2] - r], (margins, x.shape)
def crop_backward(dy, cache):
    ((t, b), (l, r)), shape = cache
    dx = np.zeros(shape)
    dx[:, b : b + dy.shape[1], r : r + dy.shape[2]] = dy
    return dx
def concat(arrays):
    return np.concatenate(arrays, -1), [a.shape[-1] for a in arrays]
def concat_backward(dy, cache):
    return tuple(np.split(dy, np.cumsum(cache)[:-1], -1))
''', "put back at the wrong place"),
    "crop_concat, first channels for all": ("crop_concat", '''
def crop(x, margins):
    raise NotImplementedError
def crop_backward(dy, cache):
    raise NotImplementedError
def concat(arrays):
    return np.concatenate(arrays, -1), [a.shape[-1] for a in arrays]
def concat_backward(dy, cache):
    return tuple([dy[:, :, :, 0:n] for n in cache])
''', "first channels"),
    "batch_norm, a constant mean": ("batch_norm", '''
def batch_norm_backward(dy, cache):
    x, gamma, mean, rstd, from_batch = cache
    xhat = (x - mean) * rstd
    g = dy * gamma
    if not from_batch:
        return g * rstd, (dy * xhat).sum((0, 1, 2)), dy.sum((0, 1, 2))
    return rstd * (g - xhat * (g * xhat).mean((0, 1, 2))), (dy * xhat).sum((0, 1, 2)), dy.sum((0, 1, 2))
''', "-mean(g)"),
    "batch_norm, as if the statistics were given": ("batch_norm", '''
def batch_norm_backward(dy, cache):
    x, gamma, mean, rstd, from_batch = cache
    return dy * gamma * rstd, np.einsum("nhwc,nhwc->c", dy, (x - mean) * rstd), np.einsum("nhwc->c", dy)
''', "for constants"),
    "cross_entropy, overflows": ("cross_entropy", '''
def softmax_cross_entropy(logits, labels, weight=None, class_weight=None, ignore=-1):
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    t = one_hot(labels, p)
    return -(share * np.log((p * t).sum(-1) + (share == 0))).sum(), (p, t, share)
def softmax_cross_entropy_backward(dloss, cache):
    p, t, share = cache
    return dloss * share[..., None] * (p - t)
''', "overflows"),
    "cross_entropy, wrong sign": ("cross_entropy", '''
def softmax_cross_entropy(logits, labels, weight=None, class_weight=None, ignore=-1):
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    z = logits - logits.max(-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    t = one_hot(labels, z)
    return -(share[..., None] * logp * t).sum(), (np.exp(logp), t, share)
def softmax_cross_entropy_backward(dloss, cache):
    p, t, share = cache
    return dloss * share[..., None] * (t - p)
''', "sign"),
    "dice, the denominator as a constant": ("dice", '''
def soft_dice_backward(dloss, cache):
    p, labels, seen, shares, D, union, K = cache
    g = -dloss * 2 * one_hot(labels, p) * seen[..., None] * shares / union
    return p * (g - (g * p).sum(-1)[..., None])
''', "quotient rule"),
    "dice, stops at the probabilities": ("dice", '''
def soft_dice_backward(dloss, cache):
    p, labels, seen, shares, D, union, K = cache
    t = one_hot(labels, p)
    return dloss * seen[..., None] * (D - 2 * t) / union * shares
''', "through the softmax"),
    "unet_backward, no skip": ("unet_backward", '''
def unet_backward(dy, back, depth):
    g = back("head", dy)
    for l in range(depth):
        g = back("decoder." + str(l), g)
        skip, g = back("join." + str(l), g)
        g = back("up." + str(l), g)
    g = back("bottom", g)
    for l in range(depth - 1, -1, -1):
        g = back("encoder." + str(l), back("pool." + str(l), g))
    return g
''', "forgotten"),
    "unet_backward, the mean of both": ("unet_backward", '''
def unet_backward(dy, back, depth):
    g, skips = back("head", dy), {}
    for l in range(depth):
        skips[l], g = back(f"join.{l}", back(f"decoder.{l}", g))
        g = back(f"up.{l}", g)
    g = back("bottom", g)
    for l in reversed(range(depth)):
        g = back(f"encoder.{l}", np.mean([back(f"pool.{l}", g), skips[l]], axis=0))
    return g
''', "averaged"),
    "momentum, a new array": ("momentum", '''
def sgd_step(p, g, velocity, lr, momentum=0.9, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    velocity *= momentum
    velocity += g
    step = g + momentum * velocity if nesterov else velocity
    p = p - lr * step
    return p
''', "not changed in place"),
    "momentum, an average": ("momentum", '''
def sgd_step(p, g, velocity, lr, momentum=0.9, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    velocity[:] = momentum * velocity + (1 - momentum) * g
    p -= lr * (g + momentum * velocity if nesterov else velocity)
''', "running mean"),
    "weight_map, squared apart": ("weight_map", '''
from scipy.ndimage import distance_transform_edt as edt
def class_balance(counts):
    return np.array([min(c for c in counts if c) / c if c else 0 for c in counts])
def separation(instances, sigma=5.0):
    ds = [edt(instances != n) for n in np.unique(instances) if n]
    if len(ds) < 2:
        return np.zeros(instances.shape)
    d1, d2 = np.sort(ds, axis=0)[:2]
    return np.exp(-(d1**2 + d2**2) / (2 * sigma**2))
''', "squared before they are added"),
    "weight_map, the largest class is 1": ("weight_map", '''
def class_balance(counts):
    return np.where(counts > 0, counts.max() / np.maximum(counts, 1), 0)
def separation(instances, sigma=5.0):
    raise NotImplementedError
''', "most frequent class"),
    "winograd, B": ("winograd", '''
B, Gm, A = np.array(BT), np.array(G), np.array(AT)
def transform_input(d):
    return np.stack([B.T @ d[..., c] @ B for c in range(d.shape[2])], -1)
def transform_filter(g):
    return np.tensordot(Gm, np.tensordot(Gm, g, (1, 1)), (1, 1))
def multiply_points(v, u):
    return (v[..., None] * u).sum(2)
def transform_output(m):
    return np.stack([A @ m[..., k] @ A.T for k in range(m.shape[2])], -1)
''', "B stands where B^T"),
    "winograd, the mean over channels": ("winograd", '''
def transform_input(d):
    raise NotImplementedError
def transform_filter(g):
    raise NotImplementedError
def multiply_points(v, u):
    return (v[:, :, :, None] * u).mean(axis=2)
def transform_output(m):
    raise NotImplementedError
''', "mean over the channels"),
}  # fmt: skip
