# %% [markdown]
# # 12 A tape: autograd is not magic
#
# **You will be able to**
#
# * write reverse-mode autograd in sixty lines, over the same forward/backward pairs as before;
# * build the U-Net of lesson 05 on it without writing a backward, and show that all its gradients are the same;
# * say why gradients are added and never overwritten, why the order of the tape is right, and what a second walk needs;
# * say what a tape costs in memory, and trade memory for time by computing twice.
#
# You need lessons 01 to 05. This lesson adds no calculus. It adds bookkeeping.

# %%
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.gradcheck import check

minunet.use("reference")
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"

# %% [markdown]
# ## What lesson 05 did by hand
#
# You wrote two functions, line by line. The second was the first from the end to the beginning: caches came off a stack,
# what was joined was split, what was used twice was added. Nothing in that needed thought. So let the forward write it down
# while it runs:
#
# * give each array a **number**;
# * for each op note a line: *(its backward, the numbers of its inputs, the number of its output, its cache)*.
#
# The list of lines is called a **tape** (or a Wengert list, 1964). To get gradients, read it backwards. That is all that
# autograd is.


# %%
class Value:
    """An array with a number on a tape."""

    def __init__(self, array, tape, number):
        self.array, self.tape, self.number = array, tape, number

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return multiply(self, other)


class Tape:
    """What was computed: a line is (backward, numbers of the inputs, number of the output, cache)."""

    def __init__(self):
        self.lines, self.count = [], 0

    def watch(self, array):
        """Give an array a number."""
        self.count += 1
        return Value(array, self, self.count)

    def gradients(self, end, dend=1.0):
        """Walk back from the value `end`; the gradients of what no line has made, by number. It uses the tape up."""
        if not self.lines:
            raise RuntimeError("this tape is used up: its caches are gone; run the forward again")
        grads = {end.number: dend}
        while self.lines:
            backward, inputs, output, cache = self.lines.pop()
            if output not in grads:
                continue  # `end` does not depend on it
            found = backward(grads.pop(output), cache)
            for number, grad in zip(inputs, found if isinstance(found, tuple) else (found,)):
                if number is not None:
                    self.collect(grads, number, grad)
        return grads

    def collect(self, grads, number, grad):
        """One more gradient of a value: what is used twice gets the sum."""
        grads[number] = grads[number] + grad if number in grads else grad


def taped(forward, backward):
    """A pair as one function: of values, and then it writes a line; or of arrays, and then it does not."""

    def op(*inputs, **options):
        y, cache, *_ = forward(*(v.array if isinstance(v, Value) else v for v in inputs), **options)
        tape = next((v.tape for v in inputs if isinstance(v, Value)), None)
        if tape is None:
            return y
        output = tape.watch(y)
        numbers = tuple(v.number if isinstance(v, Value) else None for v in inputs)
        tape.lines.append((backward, numbers, output.number, cache))
        return output

    return op


add = taped(lambda a, b: (a + b, ()), lambda dy, cache: (dy, dy))
multiply = taped(lambda a, b: (a * b, (a, b)), lambda dy, cache: (dy * cache[1], dy * cache[0]))

# %% [markdown]
# ## A tape of three lines
#
# $L = (x w + b) \, x$, with $x = 3$, $w = 2$, $b = 1$. By hand: $dL/dx = 2 x w + b = 13$, $dL/dw = x^2 = 9$ and
# $dL/db = x = 3$.


# %%
class Told(Tape):
    """A tape that remembers each gradient as it arrives, for the picture."""

    def __init__(self):
        super().__init__()
        self.arrivals = []

    def collect(self, grads, number, grad):
        self.arrivals.append((number, grad))
        super().collect(grads, number, grad)


tape = Told()
x, w, b = tape.watch(3.0), tape.watch(2.0), tape.watch(1.0)
L = (x * w + b) * x
lines = [(inputs, output) for _, inputs, output, _ in tape.lines]
assert L.array == 21 and lines == [((1, 2), 4), ((4, 3), 5), ((5, 1), 6)]
for (inputs, output), op in zip(lines, ("multiply", "add", "multiply")):
    print(f"{output} = {op}{inputs}")
grads = tape.gradients(L)
assert grads == {x.number: 13, w.number: 9, b.number: 3}

# %%
names = {1: "x = 3", 2: "w = 2", 3: "b = 1", 4: "x w = 6", 5: "x w + b = 7", 6: "L = 21"}
places = {1: (0, 2.2), 2: (0, 1.1), 3: (0, 0), 4: (2.3, 1.6), 5: (4.6, 0.9), 6: (6.9, 1.6)}
figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")


def curved(start, end, colour, bend, lift):
    """An arrow of the graph, from box to box."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 36, "shrinkB": 36}
    style["connectionstyle"] = f"arc3,rad={bend}"
    ax.annotate("", (end[0], end[1] + lift), (start[0], start[1] + lift), arrowprops=style)


arrivals = iter(tape.arrivals)
for inputs, output in reversed(lines):
    for number in inputs:
        grad = next(arrivals)[1]
        start, end = places[number], places[output]
        bend = 0.3 if (number, output) == (1, 6) else 0.0
        curved(start, end, BLUE, -bend, 0.06)
        curved(end, start, ORANGE, bend, -0.06)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + (0.67 if bend else -0.23))
        ax.text(*middle, f"{grad:g}", color=ORANGE, fontsize=11, ha="center", va="center", weight="bold")
for number, (column, row) in places.items():
    colour = RED if number == 6 else "#555555"
    box = {"boxstyle": "round", "fc": "white", "ec": colour}
    ax.text(column, row, names[number], ha="center", va="center", fontsize=10, color=colour, bbox=box)
    ax.text(column, row + 0.22, str(number), fontsize=8, color=GREY, ha="center")
both = [grad for number, grad in tape.arrivals if number == 1]
words = f"dx = {both[0]:g} + {both[1]:g} = {grads[1]:g}"
ax.text(-0.1, 1.72, words, color=ORANGE, ha="center", fontsize=10, weight="bold")
ax.set(xlim=(-1, 7.5), ylim=(-0.4, 3.4))
ax.set_title("the tape as a graph: values forwards (blue), gradients backwards (orange)", fontsize=10)
ax.axis("off")
plt.show()

# %% [markdown]
# Two arrows reach $x$ on the way back, 7 and then 6, since two lines used it. The sum is what lesson 03 called the backward
# of a fork.
#
# **Why is the order right?** A line may only be walked when the gradient of its output is complete: when all lines that
# used the output have been walked. Those lines were written *after* it, as one cannot use what is not there yet. So the
# tape's order from the end is always a good one. No sorting is needed; the run itself has sorted.
#
# ## Two bugs, and who sees them
#
# **Overwriting** instead of adding: the classic. Where each value is used once, nothing is wrong.


# %%
class Overwriting(Tape):
    """A tape with a bug: the last gradient to arrive wins."""

    def collect(self, grads, number, grad):
        grads[number] = grad


tape = Overwriting()
x, w, b = tape.watch(3.0), tape.watch(2.0), tape.watch(1.0)
assert tape.gradients((x * w + b) * x) == {x.number: 6, w.number: 9, b.number: 3}  # 6, not 13: the 7 is lost

# %% [markdown]
# **Adding in place** is subtler. `grads[number] += grad` looks the same and saves an array. For floats it *is* the same.
# But the backward of `add` hands *one* array to both inputs, and `+=` then changes the gradient of the other one, too.


# %%
class InPlace(Tape):
    """A tape with a bug: it writes into arrays that are not its own."""

    def collect(self, grads, number, grad):
        if number in grads:
            grads[number] += grad
        else:
            grads[number] = grad


def gradients_of_two(Kind):
    """da and db of L = sum(a * a + (a + b)): 2 a + 1 and 1."""
    tape = Kind()
    a, b = tape.watch(np.array([3.0, 5.0])), tape.watch(np.array([1.0, 1.0]))
    grads = tape.gradients(a * a + (a + b), np.ones(2))
    return grads[a.number].tolist(), grads[b.number].tolist()


assert gradients_of_two(Tape) == ([7, 11], [1, 1])
assert gradients_of_two(InPlace) != ([7, 11], [1, 1])
print("right: ", *gradients_of_two(Tape), "  in place:", *gradients_of_two(InPlace))

# %% [markdown]
# minunet's own `UNet.backward` does write `dx += dskips.pop()`. It may: it knows that `dx` came out of the pool's backward
# a line before, and is nobody else's. A tape does not know where an array came from.
#
# ## The U-Net, without its backward
#
# Each pair becomes one function by `taped`. A pair may be made of pairs: `join` is the one of lesson 05. Then write the
# forward, and nothing else. The functions lie in a box `o`, as we shall exchange them later.


# %%
def join(skip, up):
    """Bring up to the skip's size and stack them, the skip first."""
    lack = [s - u for s, u in zip(skip.shape[1:3], up.shape[1:3])]
    up, pad_cache = ops.pad(up, tuple((n // 2, n - n // 2) for n in lack))
    y, concat_cache = ops.concat([skip, up])
    return y, (pad_cache, concat_cache)


def join_backward(dy, cache):
    """To (dskip, dup)."""
    pad_cache, concat_cache = cache
    dskip, dup = ops.concat_backward(dy, concat_cache)
    return dskip, ops.pad_backward(dup, pad_cache)


ours = SimpleNamespace(
    conv=taped(ops.conv2d, ops.conv2d_backward),
    norm=taped(ops.batch_norm, ops.batch_norm_backward),
    relu=taped(ops.relu, ops.relu_backward),
    pool=taped(ops.max_pool2d, ops.max_pool2d_backward),
    up=taped(ops.conv_transpose2d, ops.conv_transpose2d_backward),
    join=taped(join, join_backward),
)
cross_entropy = taped(ops.softmax_cross_entropy, ops.softmax_cross_entropy_backward)


def double_conv(x, p, name, o):
    """Twice convolution, norm, ReLU."""
    for n in ("1", "2"):
        x = o.conv(x, p[f"{name}.conv{n}.w"])
        x = o.norm(x, p[f"{name}.norm{n}.gamma"], p[f"{name}.norm{n}.beta"])
        x = o.relu(x)
    return x


def unet(x, p, depth, o, block=double_conv):
    """Images (N, H, W, C) to logits (N, H, W, K)."""
    skips = []
    for level in range(depth):
        x = block(x, p, f"encoder.{level}", o)
        skips.append(x)
        x = o.pool(x)
    x = block(x, p, "bottom", o)
    for level in reversed(range(depth)):
        x = o.up(x, p[f"up.{level}.w"], p[f"up.{level}.b"])
        x = o.join(skips.pop(), x)
        x = block(x, p, f"decoder.{level}", o)
    return o.conv(x, p["head.w"], p["head.b"])


# %% [markdown]
# Given values, it writes a tape. Given plain arrays, it computes the same and writes nothing: that is inference. (PyTorch
# calls it `no_grad`.)


# %%
def gradients(Kind, x, p, dy, depth=2, o=ours, block=double_conv):
    """Logits, dx, and the parameters' gradients by name, by a tape of this kind."""
    tape = Kind()
    x, p = tape.watch(x), {name: tape.watch(a) for name, a in p.items()}
    y = unet(x, p, depth, o, block)
    grads = tape.gradients(y, dy)
    return y.array, grads[x.number], {name: grads[v.number] for name, v in p.items()}


model = minunet.UNet(1, 2, base_width=4, depth=2, seed=1).convert(lambda a: a.astype(np.float64))
p = model.named_params()
rng = np.random.default_rng(0)
x, dy = rng.standard_normal((2, 13, 10, 1)), rng.standard_normal((2, 13, 10, 2))
y, dx, grads = gradients(Tape, x, p, dy)
assert np.array_equal(unet(x, p, 2, ours), y)

y_, cache = model.forward(x)
dx_ = model.backward(dy, cache)
by_hand = model.named_grads()
assert grads.keys() == by_hand.keys()
for name, found, wanted in [("y", y, y_), ("dx", dx, dx_), *((n, grads[n], by_hand[n]) for n in by_hand)]:
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12 * abs(wanted).max(), err_msg=name)
print(f"{len(grads)} gradients are those of UNet.backward")

# %% [markdown]
# A whole taped network is again a pair: the tape is its cache. So `check` takes it, and `taped` would, too.


# %%
def as_pair(f):
    """A function of values as a pair (forward, backward) of arrays."""

    def forward(*arrays):
        tape = Tape()
        values = [tape.watch(a) for a in arrays]
        y = f(*values)
        return y.array, (tape.lines, tape, y, [v.number for v in values])

    def backward(dy, cache):
        _, tape, y, numbers = cache
        grads = tape.gradients(y, dy)
        return tuple(grads[n] for n in numbers)

    return forward, backward


pair = as_pair(lambda x, *params: unet(x, dict(zip(p, params)), 2, ours))
report = check(pair, x, *p.values(), mode="projected", h=1e-6, name="the U-Net on a tape")
assert report.ok and len(report.rows) == 1 + len(p)
print(
    f"{len(report.rows)} arguments, the worst error {max(row.error for row in report.rows):.1e} of the gradient's size"
)

# %% [markdown]
# ## Look at the tape
#
# Each dot is a line, in the order of writing. An arc above joins the line that made a value to a line that uses it. Below,
# gradients go back the same ways. Almost every value is used by the next line. The outputs of the encoders are used twice,
# and long arcs jump to the joins: **the skips, found by nobody, only written down.**

# %%
tape = Tape()
values = {name: tape.watch(a) for name, a in p.items()}
labels = rng.integers(0, 2, x.shape[:3])
loss = cross_entropy(unet(tape.watch(x), values, 2, ours), labels)
name_of = {v.number: name for name, v in values.items()}
made_by = {output: k for k, (_, _, output, _) in enumerate(tape.lines)}
arcs = [(made_by[i], k) for k, (_, inputs, _, _) in enumerate(tape.lines) for i in inputs if i in made_by]
uses = [sum(start == k for start, _ in arcs) for k in range(len(tape.lines))]
skips = [(start, end) for start, end in arcs if end - start > 1]
assert len(tape.lines) == 5 * 6 + 2 + 2 + 2 + 1 + 1 and len(skips) == 2 and sorted(uses)[-3:] == [1, 2, 2]
assert [u for u in uses if u == 0] == [0]  # only the loss is used by nobody

figure, ax = plt.subplots(figsize=(13, 5.2), layout="constrained")
half = np.linspace(0, np.pi, 60)
for start, end in arcs:
    colour = ORANGE if (start, end) in skips else GREY
    middle, r = (start + end) / 2, (end - start) / 2
    for side in (1, -1):
        height = side * (0.2 * r if colour == ORANGE else 0.3)
        ax.plot(middle - r * np.cos(half), height * np.sin(half), color=colour, lw=1.8 if colour == ORANGE else 1)
        if colour == ORANGE:
            ax.plot(middle, height, ">" if side == 1 else "<", color=colour, ms=9)
part, parts = "", {}
for k, (backward, inputs, _, _) in enumerate(tape.lines):
    word = backward.__name__.removesuffix("_backward")
    named = next((name_of[i] for i in inputs if i in name_of), part)  # a ReLU belongs to the norm before it
    part = (
        word if word in ("max_pool2d", "join", "softmax_cross_entropy") else named.split(".conv")[0].split(".norm")[0]
    )
    parts.setdefault(part, []).append(k)
    colour = {"e": BLUE, "b": PINK, "d": GREEN, "s": RED}.get(part[0], "#555555")
    ax.plot(k, 0, "o", color=colour, ms=7)
    ax.text(k, -2.75, word, rotation=90, ha="center", va="top", fontsize=7.5, color=colour)
    if uses[k] == 2:
        ax.text(k - 0.55, -0.55, "+", color=ORANGE, ha="center", va="center", fontsize=18, weight="bold")
for part, its in parts.items():
    if len(its) == 6:
        ax.text(np.mean(its), 0.5, part, ha="center", fontsize=8)
last = len(tape.lines) - 1
for at, start, end, words in (
    (2.9, 0, last, "forward: values, written from left to right"),
    (-5.0, last, 0, "backward: gradients, read from right to left; they add at +"),
):
    ax.annotate("", (end, at), (start, at), arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.2})
    ax.text(last / 2, at + 0.12, words, ha="center", fontsize=10)
ax.set(xlim=(-0.8, last + 0.8), ylim=(-5.2, 3.4))
ax.axis("off")
plt.show()

# %% [markdown]
# ## The overwriting tape on the U-Net
#
# Which gradients are wrong if the tape overwrites? The last to arrive wins. Going back, the join comes first and the pool
# later; so the skip's share is lost. You know this fingerprint from lesson 05: all right from the loss down to the bottom,
# all wrong in the encoders. And `InPlace`? On this network it is right, as no two values that wait here are handed the
# same memory. A tape that is right on one network is not yet a right tape.


# %%
def wrong_ones(Kind):
    """Which parameters' gradients are wrong on this kind of tape."""
    found = gradients(Kind, x, p, dy)[2]
    return {n for n in p if abs(found[n] - by_hand[n]).max() > 1e-6 * abs(by_hand[n]).max()}


assert wrong_ones(Overwriting) == {name for name in p if name.startswith("encoder")}
assert wrong_ones(InPlace) == wrong_ones(Tape) == set()

# %% [markdown]
# ## What it costs
#
# **Time**: a few lines of Python for each op. Measure it on an op that does nothing.

# %%
began = time.perf_counter()
tape = Tape()
value = tape.watch(0.0)
for _ in range(10_000):
    value = value + value
tape.gradients(value, 0.0)
each = (time.perf_counter() - began) / 10_000
print(f"{1e6 * each:.1f} microseconds an op, there and back")

# %% [markdown]
# Beside a convolution that is little. Frameworks do this part in C++, and it still shows in networks of many small ops.
#
# **Memory** is the real price. The tape holds each cache until its line has been walked. Count the bytes of all arrays in
# it, each once, parameters left out, after each line is written and after each is read.


# %%
def arrays_in(thing):
    """All arrays in nested tuples and lists; of a view the array that owns the memory."""
    if isinstance(thing, np.ndarray):
        while isinstance(thing.base, np.ndarray):
            thing = thing.base
        yield thing
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from arrays_in(part)


def count_bytes(thing, p):
    """Bytes of the arrays in it, each once, parameters left out."""
    found = {id(a): a.nbytes for a in arrays_in(thing)}
    return sum(n for i, n in found.items() if i not in {id(a) for a in p.values()})


class Weighed(list):
    """A tape's lines that note down after each change how much they keep alive."""

    def __init__(self, p):
        super().__init__()
        self.p, self.bytes, self.also = p, [], []

    def append(self, line):
        super().append(line)
        self.bytes.append(count_bytes([self, self.also], self.p))

    def pop(self):
        line = super().pop()
        self.bytes.append(count_bytes([self, self.also], self.p))
        return line


sample = SyntheticCells(1, size=96, seed=3)[0]
image, truth = sample.image[None], sample.labels[None].astype(int)
model = minunet.UNet(1, 2, base_width=8, depth=3, seed=0)
p = model.named_params()


def weigh(Kind=Tape, block=double_conv):
    """Bytes kept, line by line there and back, and the gradients."""
    tape = Kind()
    tape.lines = lines = Weighed(p)
    values = {name: tape.watch(a) for name, a in p.items()}
    lines.also = getattr(tape, "kept", [])
    loss = cross_entropy(unet(image, values, 3, ours, block), truth)
    grads = tape.gradients(loss)
    return lines.bytes, {name: grads[v.number] for name, v in values.items()}


class Hoarding(Tape):
    """A tape that keeps each value, as if lines held values and not their numbers."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def watch(self, array):
        if isinstance(array, np.ndarray):
            self.kept.append(array)
        return super().watch(array)


plain, wanted = weigh()
hoarded, _ = weigh(Hoarding)
logits, caches = model.forward(image)
_, loss_cache = ops.softmax_cross_entropy(logits, truth)
assert max(plain) == count_bytes([caches, loss_cache], p)  # the same arrays as by hand, not one more
assert plain[-1] == 0 and max(hoarded) > 1.2 * max(plain)
print(f"by hand and on the tape {max(plain) / 2**20:.1f} MiB, with every value {max(hoarded) / 2**20:.1f} MiB")

# %% [markdown]
# The tape keeps what the hand-written network keeps, to the byte, because its lines hold *numbers*, not values: an output
# that no cache wants (a norm's, say, of which the ReLU keeps a mask) is freed at once. That is why PyTorch's graph holds
# "saved tensors" and not results.
#
# ## Less memory for more time
#
# A tape is data, so one may play with it. Let a whole block be *one* line, whose cache is only its input. Its backward
# runs the block again, now on a small tape of its own, and walks that. This is **checkpointing** (recomputation).


# %%
def recomputed(x, p, name, o):
    """`double_conv` as one line: nothing inside is kept, its backward computes it a second time."""
    names = [n for n in p if n.startswith(f"{name}.")]

    def again(x, *params):
        return double_conv(x, dict(zip(names, params)), name, o)

    def forward(*arrays):
        return again(*arrays), arrays  # arrays, not values: no tape is written

    def backward(dy, cache):
        forward, backward = as_pair(again)
        return backward(dy, forward(*cache)[1])

    return taped(forward, backward)(x, *(p[n] for n in names))


sparing, found = weigh(block=recomputed)
for name in wanted:
    assert np.array_equal(found[name], wanted[name]), name  # the same numbers, to the last bit
assert max(sparing) < 0.5 * max(plain)

figure, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
for label, bytes_, colour in (
    ("every value kept", hoarded, GREY),
    ("the tape", plain, BLUE),
    ("blocks computed twice", sparing, GREEN),
):
    at = np.linspace(0, 2, len(bytes_))
    ax.step(at, np.array(bytes_) / 2**20, where="mid", color=colour, lw=2, label=label)
    ax.text(1.0, max(bytes_) / 2**20 + 0.15, f"{max(bytes_) / 2**20:.1f} MiB", ha="center", color=colour, fontsize=9)
ax.axvline(1, color=RED, lw=1, ls="--")
ax.set(xticks=[0.5, 1, 1.5], xlim=(0, 2), ylim=(0, max(hoarded) / 2**20 * 1.12), ylabel="kept alive, MiB")
ax.set_xticklabels(["forward", "loss", "backward"])
ax.legend(frameon=False, fontsize=9, loc="upper left")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The steps are high where the maps are large, at both ends. What the encoders keep is written first and read last, so it
# lies there all the time. (What a block computes a second time is kept for a moment, too; the green line leaves it out.)
# Nearly all of the forward is computed twice. A step was one forward and a backward of twice its work: it takes about a
# third more arithmetic.
#
# ## A second walk
#
# The walk pops, so memory falls as it goes, and each cache is used once. A second walk has nothing to read. PyTorch says
# *Trying to backward through the graph a second time*. It means exactly this.

# %%
try:
    tape.gradients(value)  # of the adds above, walked already
except RuntimeError as error:
    print(error)
else:
    raise AssertionError("a used tape was walked again")

# %% [markdown]
# ## The same page on PyTorch
#
# `unet` calls six functions from a box and knows nothing about tapes. Put PyTorch's into the box, and its autograd writes
# its own tape under the same page. (Channels come first there, so filters are turned.)

# %%
try:
    import torch
except ImportError:
    torch = None
    print("PyTorch is not installed; this cell is skipped")

if torch:
    F = torch.nn.functional

    def torch_join(skip, up):
        """As above, channels first."""
        rows, columns = (s - u for s, u in zip(skip.shape[2:], up.shape[2:]))
        up = F.pad(up, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return torch.cat([skip, up], 1)

    theirs = SimpleNamespace(
        conv=lambda x, w, b=None: F.conv2d(x, w.permute(3, 2, 0, 1), b, padding="same"),
        norm=lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True),
        relu=F.relu,
        pool=lambda x: F.max_pool2d(x, 2),
        up=lambda x, w, b: F.conv_transpose2d(x, w.permute(2, 3, 0, 1), b, stride=2),
        join=torch_join,
    )
    exact = {name: a.astype(np.float64) for name, a in p.items()}
    x, dy = rng.standard_normal((2, 21, 18, 1)), rng.standard_normal((2, 21, 18, 2))
    y, dx, grads = gradients(Tape, x, exact, dy, depth=3)
    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in exact.items()}
    x_ = torch.tensor(x, requires_grad=True)
    y_ = unet(x_.permute(0, 3, 1, 2), tensors, 3, theirs).permute(0, 2, 3, 1)
    y_.backward(torch.tensor(dy))
    for name, a, t in [("y", y, y_), ("dx", dx, x_.grad), *((n, grads[n], tensors[n].grad) for n in grads)]:
        t = t.detach().numpy()
        np.testing.assert_allclose(a, t, rtol=1e-7, atol=1e-9 * abs(t).max(), err_msg=name)
    print(f"{len(grads)} gradients agree with PyTorch {torch.__version__.split('+')[0]}")

# %% [markdown]
# ## What frameworks do more
#
# * **In-place changes.** If you change an array that a cache still needs, our tape gives wrong gradients and does not
#   notice. PyTorch keeps a version number in each tensor and refuses.
# * **Gradients of gradients.** Our backwards work on arrays. If they worked on values, the walk would write a second tape.
#   That is what JAX and `create_graph=True` do.
# * **Fusing.** A tape shows what follows what. Compilers merge its lines (norm and ReLU into the convolution's store), plan
#   the memory, and drop what nobody reads. minunet does some of it by hand, in `minunet/kernels/cpu/lazy_maps.py`.
# * **Devices.** A GPU's work is only *started* by a line; Python runs ahead and writes while the GPU computes.
# * **Many more pairs**, each with its derivation, its kernels and its tests. That is most of the work. You have written a
#   dozen.
#
# Why then has minunet no tape? Because one sees more without. `UNet.backward` shows in ten lines when each cache dies and
# where gradients meet, may add in place, and can be read. For a zoo of networks a tape pays; for one network, a page does.
#
# ## Questions
#
# Answer first, then unfold.
#
# **1.** $y = x \cdot x + x$ at $x = 3$. How many lines are on the tape, and which gradients arrive at $x$, in which
# order?
#
# <details>
# <summary>Answer</summary>
#
# Two: the product and the sum. The sum is walked first and hands 1 to $x$; then the product hands 3 to its first input
# and 3 to its second, which both are $x$. Together 7, which is $2x + 1$. One line may hand to the same value twice.
#
# </details>
#
# **2.** A chain of 100 layers with equal maps. You keep only every $k$-th map, and in the backward compute one stretch
# of $k$ again at a time. How many maps are alive at most, for which $k$ are they fewest, and what does it cost?
#
# <details>
# <summary>Answer</summary>
#
# $100 / k$ that were kept and $k$ of the stretch: 20 for $k = 10$, in place of 100. In general $2 \sqrt n$. It costs
# one more forward, about a third more of a step's time.
#
# </details>
#
# **3.** An op of your tape returns its input itself, not a copy (a dropout with rate 0, say), and a later line changes
# its output in place. What goes wrong, and where does it show?
#
# <details>
# <summary>Answer</summary>
#
# The input changes with it. If a cache of an earlier line holds that array, that line's backward computes with numbers
# that are no longer those of the forward: a wrong gradient far from the mistake, and no error. A version number in each
# array would notice; finite differences do.
#
# </details>
#
# ## Exercises
#
# Graded: copy the file, write what it leaves open, and run its line with your copy's name.
#
# * `python -m minunet.grade tutorials/exercises/tape.py`: walk back a graph whose lines come in any order, and add up its
#   gradients
#
# On your own, each with a check:
#
# 1. **Without a tape again.** Write the U-Net's backward from the page above, without looking at lesson 05. *Check:* it is
#    lesson 05's graded exercise, `unet_backward.py`.
# 2. **A residual block.** Write `x + double_conv(x, ...)` with the operator `+` and as many channels out as in. How many
#    lines does it write, and which value is used twice? *Check:* `check(as_pair(...), ...)` passes with `Tape`; count in
#    `tape.lines`.
# 3. **A pair of your own.** Tape `ops.sigmoid` and `ops.sigmoid_backward`, and write $x \, \sigma(x)$ (SiLU) with it. You
#    wrote no backward for it; derive one on paper. *Check:* `check(as_pair(silu), draw((3, 4), rng))`, and your formula.
# 4. **Without the order.** Write `gradients` as a recursion from the end: for each line that made a value, call yourself on
#    its inputs at once, whether or not the gradient is complete. It is right, but count the calls for `value = value +
#    value`, repeated $n$ times. *Check:* your count is $2^{n+1} - 1$ where the tape reads $n$ lines.
# 5. **Frozen encoders.** Only the decoder is to learn: pass the image and the parameters of encoders and bottom as arrays,
#    the rest as values. Which lines are not written, and why not? Then pass the image as a value again. What does the walk
#    compute now that nobody wants? *Check:* at first `len(tape.lines)` falls by 6 for each block and 1 for each pool, and
#    the decoders' gradients stay the same; then it is as long as before.
