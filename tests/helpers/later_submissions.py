"""What students hand in for the exercises of lessons 09 to 12, in styles unlike ours.

`WRONG` is as in `wrong_submissions`: (exercise, source, words that the hint for the mistake must hold). `RIGHT` are unusual
answers that must get everything: (exercise, source).
"""

LOADS = """
def bank_turns(places):
    banks = [set() for _ in range(32)]
    for p in places:
        banks[p & 31].add(int(p))
    return max(map(len, banks))
def load_b(tile, width, n, k):
    return np.array([[tile[across_k(k + l % 4 + 4 * j, n + l // 4, width)] for j in range(2)] for l in range(32)])
def store_c(sums):
    return sums.reshape(8, 4, 2, 2).transpose(2, 0, 1, 3).reshape(16, 8)
"""

WRONG = {
    "warp_tile, plain rows": ("warp_tile", LOADS + """
def across_k(k, i, width):
    return width * k + i
def load_a(tile, width, m, k):
    at = lambda l, j: across_k(k + l % 4 + 4 * (j >> 1), m + l // 4 + 8 * (j & 1), width)
    return np.array([[tile[at(l, j)] for j in range(4)] for l in range(32)])
""", "not permuted"),
    "warp_tile, registers in rows": ("warp_tile", LOADS + """
def across_k(k, i, width):
    return k * width + (i ^ ((k & 3) << 3))
def load_a(tile, width, m, k):
    lanes = np.arange(32)
    rows = m + lanes // 4
    return np.column_stack([tile[across_k(k + lanes % 4 + c, rows + r, width)] for r in (0, 8) for c in (0, 4)])
""", "second and the third number"),
    "warp_tile, every lane waits": ("warp_tile", """
def across_k(k, i, width):
    return k * width + (i ^ ((k & 3) << 3))
def bank_turns(places):
    count = {}
    for p in places.tolist():
        count[p % 32] = count.get(p % 32, 0) + 1
    return max(count.values())
def load_a(tile, width, m, k):
    raise NotImplementedError
def load_b(tile, width, n, k):
    raise NotImplementedError
def store_c(sums):
    raise NotImplementedError
""", "counts more than once"),
    "unet_cost, no norms": ("unet_cost", """
def unet_parameters(C, K, width, depth):
    conv = lambda c, k: 3 * 3 * c * k
    w = [width << l for l in range(depth + 1)]
    down = sum(conv(c, k) + conv(k, k) for c, k in zip([C] + w, w))
    up = sum(2 * 2 * b * k + k + conv(2 * k, k) + conv(k, k) for b, k in zip(w[1:], w))
    return down + up + w[0] * K + K
def unet_operations(shape, K, width, depth):
    raise NotImplementedError
def unet_kept(shape, K, width, depth):
    raise NotImplementedError
""", "the norms' parameters are missing"),
    "unet_cost, products alone": ("unet_cost", """
def unet_parameters(C, K, width, depth):
    raise NotImplementedError
def unet_operations(shape, K, width, depth):
    N, H, W, C = shape
    def at(l, h, w, c):
        k = width * 2**l
        products = 9 * (c * k + k * k) * h * w
        if l < depth:
            products += at(l + 1, h // 2, w // 2, k) + 8 * k * k * (h // 2) * (w // 2) + 27 * k * k * h * w
        return products
    return N * (at(0, H, W, C) + width * K * H * W)
def unet_kept(shape, K, width, depth):
    raise NotImplementedError
""", "multiplications alone"),
    "unet_cost, masks as floats": ("unet_cost", """
def unet_parameters(C, K, width, depth):
    raise NotImplementedError
def unet_operations(shape, K, width, depth):
    raise NotImplementedError
def unet_kept(shape, K, width, depth):
    N, H, W, C = shape
    floats, winners = width * H * W, 0
    for l in range(depth + 1):
        k, p = width << l, (H >> l) * (W >> l)
        floats += p * ((k >> 1 if l else C) + 5 * k)
        if l < depth:
            q = (H >> l + 1) * (W >> l + 1)
            floats += 7 * k * p + 2 * k * q
            winners += k * q
    return N * (4 * floats + winners)
""", "one byte a number, not four"),
    "schedule, begins with nothing": ("schedule", """
def learning_rate(step, total, lr, warmup=0):
    if warmup > step:
        return step / warmup * lr
    angle = np.pi * np.clip((step - warmup) / (total - warmup), 0, 1)
    return lr * np.cos(angle / 2) ** 2
def range_rates(low, high, steps):
    return np.geomspace(low, high, steps)
def suggest_rate(rates, losses):
    raise NotImplementedError
""", "a step that does nothing"),
    "schedule, one cosine for all": ("schedule", """
def learning_rate(step, total, lr, warmup=0):
    if step + 1 <= warmup:
        return lr / warmup * (1 + step)
    return 0.0 if step >= total else lr / 2 + lr / 2 * np.cos(np.pi * step / total)
def range_rates(low, high, steps):
    return np.logspace(np.log10(low), np.log10(high), steps)
def suggest_rate(rates, losses):
    raise NotImplementedError
""", "begins in step 0"),
    "schedule, by one lucky batch": ("schedule", """
def learning_rate(step, total, lr, warmup=0):
    raise NotImplementedError
def range_rates(low, high, steps):
    raise NotImplementedError
def suggest_rate(rates, losses):
    best = min((loss, rate) for loss, rate in zip(losses.tolist(), rates.tolist()) if abs(loss) < 1e9)
    return best[1] * 0.2
""", "a lucky batch decides"),
    "tape, the last one wins": ("tape", """
def walk_order(lines, end):
    uses, order, done = {}, [], set()
    by = {l[2]: i for i, l in enumerate(lines)}
    def visit(v):
        if v in by and v not in done:
            done.add(v)
            for w in lines[by[v]][1]:
                visit(w)
            order.insert(0, by[v])
    visit(end)
    return order
def walk_back(lines, values, end, dend):
    grads = np.zeros(values.shape)
    grads[end] = dend
    for i in walk_order(lines, end):
        op, ins, out = lines[i]
        for v, g in zip(ins, local_gradients(op, grads[out], *values[list(ins)])):
            grads[v] = g
    return grads
""", "overwrites the others"),
    "tape, nearest first": ("tape", """
def walk_order(lines, end):
    from collections import deque
    by, queue, order = {l[2]: i for i, l in enumerate(lines)}, deque([end]), []
    while queue:
        v = queue.popleft()
        if v in by and by[v] not in order:
            order.append(by[v])
            queue += lines[by[v]][1]
    return order
def walk_back(lines, values, end, dend):
    raise NotImplementedError
""", "nearest to the end"),
    "tape, added in place": ("tape", """
def walk_order(lines, end):
    by, order = {l[2]: i for i, l in enumerate(lines)}, []
    def visit(v):
        if v in by and by[v] not in order:
            for w in lines[by[v]][1]:
                visit(w)
            order.append(by[v])
    visit(end)
    return order[::-1]
def walk_back(lines, values, end, dend):
    grads = [None] * len(values)
    grads[end] = dend
    for i in walk_order(lines, end):
        op, ins, out = lines[i]
        for v, g in zip(ins, local_gradients(op, grads[out], *[values[j] for j in ins])):
            if grads[v] is None:
                grads[v] = g
            else:
                np.add(grads[v], g, out=grads[v])
    return np.array([np.zeros(dend.shape) if g is None else g for g in grads])
""", "added in place"),
}  # fmt: skip

RIGHT = {
    "warp_tile, bit by bit": ("warp_tile", LOADS + """
def across_k(k, i, width):
    return k * width + (i ^ ((k & 3) << 3))
def load_a(tile, width, m, k):
    wide = np.empty((8, 16))
    for r, c in np.ndindex(16, 8):
        wide[c, r] = tile[across_k(k + c, m + r, width)]
    return wide.reshape(2, 4, 2, 8).transpose(3, 1, 0, 2).reshape(32, 4)
"""),
    "warp_tile, lane by lane": ("warp_tile", """
def across_k(k, i, width):
    c, rest = np.divmod(i, 4)
    return width * k + 4 * np.bitwise_xor(c, 2 * np.mod(k, 4)) + rest
def bank_turns(places):
    return np.array(max(len({p for p in places.tolist() if p % 32 == bank}) for bank in range(32)))
def load_a(tile, width, m, k):
    out = np.zeros((32, 4))
    for lane in range(32):
        for j in range(4):
            out[lane, j] = tile[across_k(k + lane % 4 + 4 * (j // 2), m + lane // 4 + 8 * (j % 2), width)]
    return out
def load_b(tile, width, n, k):
    rows, columns = np.meshgrid(np.arange(8), np.arange(8))
    b = tile[across_k(k + rows, n + columns, width)]
    return np.dstack([b[:, :4], b[:, 4:]]).reshape(32, 2)
def store_c(sums):
    c = np.zeros((16, 8))
    for lane, (p, q, r, s) in enumerate(sums):
        c[lane // 4, lane % 4 * 2 :][:2] = p, q
        c[lane // 4 + 8, lane % 4 * 2 :][:2] = r, s
    return c
"""),
    "unet_cost, down and up at once": ("unet_cost", """
def unet_parameters(C, K, width, depth):
    def at(l, c):
        k = width * 2**l
        here = 9 * k * (c + k) + 4 * k
        return here if l == depth else here + at(l + 1, k) + 8 * k * k + k + 27 * k * k + 4 * k
    return np.int64(at(0, C) + (width + 1) * K)
def unet_operations(shape, K, width, depth):
    N, H, W, C = shape
    def at(l, h, w, c):
        k = width * 2**l
        products = 9 * (c * k + k * k) * h * w
        if l < depth:
            products += at(l + 1, h // 2, w // 2, k) + 8 * k * k * (h // 2) * (w // 2) + 27 * k * k * h * w
        return products
    return 2 * N * (at(0, H, W, C) + width * K * H * W)
def unet_kept(shape, K, width, depth):
    N, H, W, C = shape
    floats, bytes_ = width * H * W, 0
    for l in range(depth + 1):
        k, p = width << l, (H >> l) * (W >> l)
        floats += p * ((k >> 1 if l else C) + 3 * k)
        bytes_ += 2 * k * p
        if l < depth:
            q = (H >> l + 1) * (W >> l + 1)
            floats += 5 * k * p + 2 * k * q
            bytes_ += 2 * k * p + k * q
    return float(N * (4 * floats + bytes_))
"""),
    "unet_cost, a list of layers": ("unet_cost", """
def layers(shape, K, width, depth):
    N, H, W, C = shape
    found, skips = [], []
    def block(c, k, h, w):
        for i in (c, k):
            found.append(("conv", i, k, h, w, 9))
            found.extend([("norm", k, k, h, w, 0), ("relu", k, k, h, w, 0)])
    for l in range(depth):
        block(C, width * 2**l, H, W)
        C = width * 2**l
        skips.append((C, H, W))
        H, W = H // 2, W // 2
        found.append(("pool", C, C, H, W, 0))
    block(C, width * 2**depth, H, W)
    C = width * 2**depth
    while skips:
        k, h, w = skips.pop()
        found.append(("up", C, k, H, W, 4))
        block(2 * k, k, h, w)
        C, H, W = k, h, w
    found.append(("head", C, K, H, W, 1))
    return N, found
def unet_parameters(C, K, width, depth):
    _, found = layers((1, 2**depth, 2**depth, C), K, width, depth)
    return sum(taps * c * k + {"norm": 2 * k, "up": k, "head": k}.get(kind, 0) for kind, c, k, _, _, taps in found)
def unet_operations(shape, K, width, depth):
    N, found = layers(shape, K, width, depth)
    return N * sum(2 * taps * c * k * h * w for _, c, k, h, w, taps in found)
def unet_kept(shape, K, width, depth):
    N, found = layers(shape, K, width, depth)
    return N * sum(c * h * w * (1 if kind in ("relu", "pool") else 4) for kind, c, k, h, w, _ in found)
"""),
    "schedule, by lists": ("schedule", """
def learning_rate(step, total, lr, warmup=0):
    rates = [lr * n / warmup for n in range(1, warmup + 1)]
    rest = total - warmup
    rates += [lr * np.sin(np.pi / 2 * (1 - n / rest)) ** 2 for n in range(rest)]
    return rates[step] if step < total else 0
def range_rates(low, high, steps):
    rates = [low]
    while len(rates) < steps:
        rates.append(rates[-1] * (high / low) ** (1 / (steps - 1)))
    return rates
def suggest_rate(rates, losses):
    n, best = len(losses), (np.inf, 0)
    losses = [x if abs(x) < np.inf else np.inf for x in losses]
    for i in range(n):
        best = min(best, (sum(losses[min(max(i + d, 0), n - 1)] for d in range(-2, 3)), i))
    return rates[best[1]] / 5
"""),
    "schedule, by arrays": ("schedule", """
def learning_rate(step, total, lr, warmup=0):
    rise = (step + 1) / max(warmup, 1)
    fall = 0.5 + 0.5 * np.cos(np.pi * np.minimum(step - warmup, total - warmup) / (total - warmup))
    return np.where(step < warmup, rise, fall) * lr
def range_rates(low, high, steps):
    return np.exp(np.linspace(np.log(low), np.log(high), steps))
def suggest_rate(rates, losses):
    big = np.where(np.isfinite(losses), losses, 1e30)
    big = np.concatenate([[big[0]] * 2, big, [big[-1]] * 2])
    return 0.2 * rates[np.argmin(np.convolve(big, np.ones(5) / 5, "valid"))]
"""),
    "tape, depth first, turned round": ("tape", """
def walk_order(lines, end):
    by, order, seen = {l[2]: i for i, l in enumerate(lines)}, [], set()
    def visit(v):
        if v in by and v not in seen:
            seen.add(v)
            for w in reversed(lines[by[v]][1]):
                visit(w)
            order.append(by[v])
    visit(end)
    return np.array(order[::-1])
def walk_back(lines, values, end, dend):
    grads = np.zeros_like(values)
    grads[end] += dend
    for i in walk_order(lines, end):
        op, ins, out = lines[i]
        np.add.at(grads, list(ins), local_gradients(op, grads[out].copy(), *values[list(ins)]))
    return grads
"""),
    "tape, again and again until nobody waits": ("tape", """
def walk_order(lines, end):
    need = {end}
    for _ in lines:
        need |= {v for _, ins, out in lines if out in need for v in ins}
    left = [i for i, (_, _, out) in enumerate(lines) if out in need]
    order = []
    while left:
        free = next(i for i in left if not any(lines[i][2] in lines[j][1] for j in left))
        order.append(free)
        left.remove(free)
    return tuple(order)
def walk_back(lines, values, end, dend):
    arrived = {v: [] for v in range(len(values))}
    arrived[end].append(dend)
    total = lambda v: sum(arrived[v], np.zeros_like(dend))
    for i in walk_order(lines, end):
        op, ins, out = lines[i]
        for v, g in zip(ins, local_gradients(op, total(out), *[values[v] for v in ins])):
            arrived[v].append(g)
    return np.array([total(v) for v in range(len(values))])
"""),
}  # fmt: skip
