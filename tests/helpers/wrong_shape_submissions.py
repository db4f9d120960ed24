"""More that students hand in: what raises because shapes do not fit, each mistake in its author's own style.

As in `wrong_submissions`: (exercise, source, words that the hint for the mistake must hold). Every one must get its hint.
"""

CONV = """
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
"""
RETURN = """    return (y if b is None else y + b), None
"""

SUBMISSIONS = {
    "conv_forward, a size without dilation": ("conv_forward", CONV.replace("pads, stride, dilation)", "pads, stride)") + '''
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            for i in range(KH):
                for j in range(KW):
                    y[:, r, c] += np.dot(xp[:, r * stride + i * dilation, c * stride + j * dilation], w[i, j])
''' + RETURN, "output_size"),
    "conv_forward, w the other way round": ("conv_forward", CONV + '''
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            for i in range(KH):
                for j in range(KW):
                    y[:, r, c] += xp[:, r * stride + i * dilation, c * stride + j * dilation] @ w[j, i]
''' + RETURN, "swapped"),
    "im2col, the product as it comes": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::stride, ::stride]
    return v.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KH * KW * x.shape[3])
def conv2d_im2col(x, w, stride=1):
    KH, KW, C, K = w.shape
    return im2col(x, KH, KW, stride).dot(w.reshape(-1, K))
''', "give it back its shape"),
    "conv_backward, T of four axes": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, stride, pads, dilation, groups = cache
    OH, OW = dy.shape[1:3]
    xp = pad_spatial(x, pads)
    dw = np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = window(xp, i, j, OH, OW, stride, dilation).T @ dy
    return None, dw, dy.sum((0, 1, 2))
''', "turns round all axes"),
    "conv_forward, slices of OH rows": ("conv_forward", CONV + '''
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for i in range(KH):
        for j in range(KW):
            a, c = i * dilation, j * dilation
            y = y + np.einsum("nhwc,ck->nhwk", xp[:, a : OH + a : stride, c : OW + c : stride], w[i, j])
''' + RETURN, "does not know the stride"),
    "conv_forward, slices of OH rows, as matrices": ("conv_forward", CONV + '''
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for i in range(KH):
        for j in range(KW):
            a, c = i * dilation, j * dilation
            rows = xp[:, a : a + OH : stride, c : c + OW : stride].reshape(-1, C)
            y += (rows @ w[i, j]).reshape(N, OH, OW, K)
''' + RETURN, "does not know the stride"),
    "conv_forward, one row short": ("conv_forward", CONV + '''
    xp = np.pad(x, ((0, 0), pads[0], pads[1], (0, 0)))
    y = np.zeros((N, OH, OW, K))
    for n in range(N):
        for i in range(KH):
            for j in range(KW):
                top, left = i * dilation, j * dilation
                bottom, right = top + stride * (OH - 1), left + stride * (OW - 1)
                y[n] += np.dot(xp[n, top:bottom:stride, left:right:stride], w[i, j])
''' + RETURN, "one row and column too early"),
    "conv_forward, the end stays": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    y = 0
    for i in range(KH):
        for j in range(KW):
            y = y + x[:, dilation * i : stride * OH : stride, dilation * j : stride * OW : stride] @ w[i, j]
''' + RETURN, "does not move with its beginning"),
    "conv_forward, to the last row": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for k in range(K):
        for i in range(KH):
            for j in range(KW):
                y[..., k] += (x[:, i * dilation :: stride, j * dilation :: stride] * w[i, j, :, k]).sum(-1)
''' + RETURN, "ends too late"),
    "conv_forward, one row long": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for i in range(KH):
        for j in range(KW):
            I, J = i * dilation, j * dilation
            y[:] += np.tensordot(x[:, I : I + OH * stride + 1 : stride, J : J + OW * stride + 1 : stride], w[i, j], 1)
''' + RETURN, "ends too late"),
    "conv_forward, pads and reads the other": ("conv_forward", CONV + '''
    padded = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for i in range(KH):
        for j in range(KW):
            i0, j0 = i * dilation, j * dilation
            y += x[:, i0 : i0 + stride * OH : stride, j0 : j0 + stride * OW : stride] @ w[i, j]
''' + RETURN, "without its padding"),
    "conv_forward, pads and reads the other, pixel by pixel": ("conv_forward", CONV + '''
    pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for n in range(N):
        for i in range(KH):
            for j in range(KW):
                for r in range(OH):
                    for c in range(OW):
                        y[n, r, c] += x[n][r * stride + i * dilation][c * stride + j * dilation] @ w[i, j]
''' + RETURN, "without its padding"),
    "conv_forward, pads and reads the other, patches": ("conv_forward", CONV + '''
    xp = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for n in range(N):
        for r in range(OH):
            for c in range(OW):
                patch = x[n, r * stride :, c * stride :][: KH * dilation : dilation, : KW * dilation : dilation]
                for k in range(K):
                    y[n, r, c, k] = np.sum(patch * w[:, :, :, k])
''' + RETURN, "without its padding"),
    "conv_forward, patches of KH rows": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for r in range(OH):
        for c in range(OW):
            h, v = r * stride, c * stride
            y[:, r, c] = np.tensordot(x[:, h : h + KH : dilation, v : v + KW : dilation], w, ((1, 2, 3), (0, 1, 2)))
''' + RETURN, "does not know the dilation"),
    "conv_forward, stride for dilation": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    y = np.zeros((N, OH, OW, K))
    for i in range(KH):
        for j in range(KW):
            top, left = i * stride, j * stride
            y += x[:, top : top + OH * dilation : dilation, left : left + OW * dilation : dilation] @ w[i, j]
''' + RETURN, "stride and dilation are swapped"),
    "conv_forward, the filter's matrix transposed": ("conv_forward", CONV + '''
    x = pad_spatial(x, pads)
    rows, cols = stride * np.arange(OH), stride * np.arange(OW)
    y = np.zeros((N, OH, OW, K))
    for i, j in np.ndindex(KH, KW):
        y += np.dot(x[:, rows + i * dilation][:, :, cols + j * dilation], w[i, j].transpose())
''' + RETURN, "w[i, j] is transposed"),
    "im2col, slices of OH rows": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    N, H, W, C = x.shape
    OH, OW = 1 + (H - KH) // stride, 1 + (W - KW) // stride
    cols = np.zeros((KH, KW, N, OH, OW, C))
    for i in range(KH):
        for j in range(KW):
            cols[i, j] = x[:, i : i + OH : stride, j : j + OW : stride]
    return cols.transpose(2, 3, 4, 0, 1, 5).reshape(N * OH * OW, -1)
def conv2d_im2col(x, w, stride=1):
    KH, KW, C, K = w.shape
    OH, OW = 1 + (x.shape[1] - KH) // stride, 1 + (x.shape[2] - KW) // stride
    return (im2col(x, KH, KW, stride) @ w.reshape(-1, K)).reshape(-1, OH, OW, K)
''', "does not know the stride"),
    "im2col, the stride stops half-way": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::stride, ::stride]
    return v.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KH * KW * x.shape[3])
def conv2d_im2col(x, w, stride=1):
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    y = im2col(x, KH, KW).dot(w.reshape(-1, K))
    return y.reshape(N, (H - KH) // stride + 1, (W - KW) // stride + 1, K)
''', "hand the stride on"),
    "im2col, filters as rows": ("im2col", '''
def im2col(x, KH, KW, stride=1):
    v = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::stride, ::stride]
    return v.transpose(0, 1, 2, 4, 5, 3).reshape(-1, KH * KW * x.shape[3])
def conv2d_im2col(x, w, stride=1):
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    y = np.dot(im2col(x, KH, KW, stride), w.reshape(K, -1))
    return y.reshape(N, (H - KH) // stride + 1, (W - KW) // stride + 1, K)
''', "a filter should be a column"),
    "conv_backward, dw of x as it came": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    N, OH, OW, K = dy.shape
    dw = np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.einsum("nijc,nijk->ck", window(x, i, j, OH, OW, s, d), dy)
    return None, dw, dy.sum(axis=(0, 1, 2))
''', "dw: x is read without its padding"),
    "conv_backward, dw of x as it came, as matrices": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    N, OH, OW, K = dy.shape
    dw, flat = np.zeros_like(w), dy.reshape(-1, K)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dw[i, j] = np.dot(as_rows(window(x, i, j, OH, OW, s, d)).T, flat)
    return None, dw, dy.sum(axis=(0, 1, 2))
''', "dw: x is read without its padding"),
    "conv_backward, dx as large as x": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    dx = np.zeros(x.shape)
    KH, KW = w.shape[:2]
    N, OH, OW, K = dy.shape
    for i in range(KH):
        for j in range(KW):
            dx[:, i * d : i * d + OH * s : s, j * d : j * d + OW * s : s] += dy @ w[i, j].T
    return dx, None, np.sum(dy, (0, 1, 2))
''', "an array of x's size"),
    "conv_backward, the window's last two arguments": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    xp = pad_spatial(x, pads)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            window(dxp, i, j, dy.shape[1], dy.shape[2], d, s)[...] += dy @ w[i, j].T
            dw[i, j] = as_rows(window(xp, i, j, dy.shape[1], dy.shape[2], d, s)).T @ as_rows(dy)
    (t, _), (l, _) = pads
    return dxp[:, t : t + x.shape[1], l : l + x.shape[2]], dw, dy.sum((0, 1, 2))
''', "stride and dilation are swapped"),
    "conv_backward, w as it is": ("conv_backward", '''
def conv2d_backward(dy, cache):
    x, w, has_bias, s, pads, d, groups = cache
    xp = pad_spatial(x, pads)
    dxp = np.zeros_like(xp)
    for i, j in np.ndindex(*w.shape[:2]):
        window(dxp, i, j, dy.shape[1], dy.shape[2], s, d)[...] += np.dot(dy, w[i, j])
    (t, _), (l, _) = pads
    return dxp[:, t : t + x.shape[1], l : l + x.shape[2]], None, dy.sum((0, 1, 2))
''', "w[i, j] must be transposed"),
    "conv_transpose, s times as large": ("conv_transpose", '''
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    (t, bo), (l, r) = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1)
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    y = np.zeros((N, H * stride, W * stride, K))
    for n in range(N):
        for h in range(H):
            for v in range(W):
                y[n, h * stride : h * stride + KH, v * stride : v * stride + KW] += np.tensordot(x[n, h, v], w, (0, 2))
    y = y[:, t : y.shape[1] - bo, l : y.shape[2] - r]
    return (y if b is None else y + b), None
def conv_transpose2d_backward(dy, cache):
    raise NotImplementedError
''', "stamps overlap"),
    "conv_transpose, stamps on H rows": ("conv_transpose", '''
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    (t, bo), (l, r) = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, 1)
    N, H, W, C = x.shape
    KH, KW, _, K = w.shape
    y = np.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K))
    for i in range(KH):
        for j in range(KW):
            y[:, i : i + H : stride, j : j + W : stride] += np.einsum("nhwc,ck->nhwk", x, w[i, j])
    y = y[:, t : y.shape[1] - bo, l : y.shape[2] - r]
    return (y if b is None else y + b), None
def conv_transpose2d_backward(dy, cache):
    raise NotImplementedError
''', "does not know the stride"),
    "conv_transpose, dy as it came": ("conv_transpose", '''
def conv_transpose2d(x, w, b=None, stride=2, padding=0):
    return np.zeros((1, 1, 1, 1)), (w, x, stride)
def conv_transpose2d_backward(dy, cache):
    w, x, s = cache
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            seen = window(dy, i, j, x.shape[1], x.shape[2], s)
            dw[i, j] = as_rows(x).T @ as_rows(seen)
            dx += seen @ w[i, j].T
    return dx, dw, dy.sum((0, 1, 2))
''', "dy is read without its padding"),
    "max_pool, reshaped": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    N, H, W, C = x.shape
    y = x.reshape(N, H // size, size, W // size, size, C).max(axis=(2, 4))
    return y, (x, y, size)
def max_pool2d_backward(dy, cache):
    raise NotImplementedError
''', "cannot be reshaped to whole windows"),
    "max_pool, repeated": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), s)
    y = np.max([x[:, i : i + OH * s : s, j : j + OW * s : s] for i in range(size) for j in range(size)], axis=0)
    return y, (x, y, size)
def max_pool2d_backward(dy, cache):
    x, y, size = cache
    tile = np.ones((1, size, size, 1))
    return (x == np.kron(y, tile)) * np.kron(dy, tile)
''', "repeated size times"),
    "max_pool, to the last row": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    s = size if stride is None else stride
    OH, OW = (x.shape[1] - size) // s + 1, (x.shape[2] - size) // s + 1
    y = np.full((x.shape[0], OH, OW, x.shape[3]), -1e9)
    for i in range(size):
        for j in range(size):
            y = np.maximum(y, x[:, i::s, j::s, :])
    return y, None
def max_pool2d_backward(dy, cache):
    raise NotImplementedError
''', "ends too late"),
    "max_pool, OH rows of dx": ("max_pool", '''
def max_pool2d(x, size=2, stride=None):
    s = size if stride is None else stride
    OH, OW = (x.shape[1] - size) // s + 1, (x.shape[2] - size) // s + 1
    seen = np.stack([x[:, i : i + OH * s : s, j : j + OW * s : s] for i in range(size) for j in range(size)])
    return seen.max(0), (seen.argmax(0), x.shape, size, s)
def max_pool2d_backward(dy, cache):
    best, shape, size, s = cache
    dx = np.zeros(shape)
    N, OH, OW, C = dy.shape
    for n in range(size * size):
        i, j = n // size, n % size
        dx[:, i : i + OH : s, j : j + OW : s] += np.where(best == n, dy, 0)
    return dx
''', "does not know the stride"),
}  # fmt: skip
