"""Arguments for every op that has a kernel: legal ones, and such as do not fit together.

`calls` draws an op, legal arguments (for a backward those of its plain forward's cache), and then changes some of what stands
in them, however deep: an array's shape, dtype or order, a stride, a number of a shape in a cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minunet import ops, optim
from minunet.ops.norm import running_average

FORWARDS = {
    "conv2d": ("x", "w", "b?", "stride", "padding", "dilation", "groups"),
    "depthwise_conv2d": ("x", "depthwise", "c?", "stride", "padding", "dilation"),
    "conv_transpose2d": ("x", "stamp", "b?", 2, 0),
    "max_pool2d": ("x", 2, None),
    "avg_pool2d": ("x", 3, 2),
    "upsample_nearest": ("x", 2),
    "upsample_bilinear": ("x", 3, True),
    "batch_norm": ("x", "c", "c", "c?", "c?", 1e-5),
    "group_norm": ("x", "c", "c", 2, 1e-5),
    "relu": ("x",),
    "leaky_relu": ("x", 0.1),
    "relu6": ("x",),
    "sigmoid": ("x",),
    "add": (("x", "x"),),
    "concat": (("x", "x", "x"),),
    "gate": ("x", "gate"),
    "global_avg_pool2d": ("x",),
    "max_pool2d_padded": ("x", 3, 2, 1, True),
    "max_unpool2d": ("x", "winners", "twice"),
    "resize_nearest": ("x", (5, 7)),
    "resize_bilinear": ("x", (7, 2), False),
    "softmax": ("x",),
    "softmax_cross_entropy": ("x", "labels", "weight?", "classes?", -1),
    "soft_dice": ("x", "labels", "weight?", "classes?", -1, 1.0),
    "star_loss": ("x", "x", "weight?", 0.5, 1e-3),
}
IN_PLACE = {
    "sgd_step": ("p", "p", "p", 0.1, 0.9, True, 0.01),
    "adam_step": ("p", "p", "p", "p", 3, 0.1, 0.9, 0.99, 1e-3, 0.01, True),
    "rmsprop_step": ("p", "p", "p", "p", 0.1, 0.9, 0.99, 1e-3, 0.01),
    "running_average": ("c", "c", "c", "c", 7, 0.1),
}
NUMBERS = (0, 1, 2, 3, -1, 17, 2.0, True, None, np.int64(2), np.float64(0.5), "same", (1, 0))


def op_of(name: str) -> Any:
    """The op of a name, wherever it is."""
    return {"running_average": running_average}.get(name) or getattr(ops, name, None) or getattr(optim, name)


@st.composite
def calls(draw: Any, dtypes: list[str], name: str) -> tuple:
    """Arguments for an op, with none, one or two changes."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    args = legal(draw, rng, name, np.dtype(draw(st.sampled_from(dtypes))))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(list(leaves(args))))
        args = changed(args, place, lambda old: tried(draw(st.sampled_from(others(old))), old))
    return args


def legal(draw: Any, rng: np.random.Generator, name: str, dtype: np.dtype) -> tuple:
    """Arguments that fit together."""
    forward = name.removesuffix("_backward")
    N, H, W, C = (draw(st.integers(*limits)) for limits in ((1, 2), (3, 6), (3, 6), (1, 5)))
    C, K, groups = 2 * C, 2 * draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2]))
    sizes = {
        "x": (N, H, W, C), "w": (3, 3, C // groups, K), "depthwise": (3, 2, C), "stamp": (2, 2, C, K), "b": (K,),
        "c": (C,), "p": (3, C, 4), "weight": (N, H, W), "classes": (C,),
        "gate": draw(st.sampled_from([(N, 1, 1, C), (N, H, W, 1), (N, H, W, C), (1, 1, W, 1)])),
    }  # fmt: skip
    options = {"stride": draw(st.sampled_from([1, 1, 2])), "padding": draw(st.sampled_from(["same", "valid", 1])),
               "dilation": 1, "groups": groups, "twice": (2 * H, 2 * W + 1)}  # fmt: skip
    given = draw(st.booleans())

    def make(what: Any) -> Any:
        if isinstance(what, tuple):
            return tuple(make(part) for part in what)
        if not isinstance(what, str):
            return what
        if what == "winners":
            return rng.integers(0, 4, (N, H, W, C)).astype(np.uint8)
        if what == "labels":
            return rng.integers(-1, C, (N, H, W))
        if what in options:
            return options[what]
        if what.endswith("?") and not given:
            return None
        a = rng.standard_normal(sizes[what.removesuffix("?")])
        return (a if what == "x" else a**2 + 0.1).astype(dtype)

    args = tuple(make(what) for what in {**FORWARDS, **IN_PLACE}[forward])
    if forward == name:
        return args
    y, cache, *_ = op_of(forward).plain(*args)
    return (rng.standard_normal(y.shape).astype(dtype) if y.shape else 0.7, cache)


def leaves(args: Any, place: tuple[int, ...] = ()) -> Any:
    """Where something stands in nested tuples."""
    for n, a in enumerate(args):
        if isinstance(a, tuple):
            yield from leaves(a, (*place, n))
        else:
            yield (*place, n)


def changed(args: tuple, place: tuple[int, ...], change: Any) -> tuple:
    """The arguments with what stands at a place replaced."""
    n, *deeper = place
    new = changed(args[n], tuple(deeper), change) if deeper else change(args[n])
    return (*args[:n], new, *args[n + 1 :])


def tried(change: Any, old: Any) -> Any:
    """What a change gives; the old value where that cannot be changed so."""
    try:
        return change()
    except (IndexError, OverflowError, TypeError, ValueError):
        return old


def others(old: Any) -> list[Any]:
    """Functions that give something in the place of a number or an array."""
    if not isinstance(old, np.ndarray):
        return [lambda n=n: n for n in NUMBERS]
    orders = [
        lambda: np.asfortranarray(old),
        lambda: np.repeat(old, 2, -1)[..., ::2],
        lambda: old[::-1].copy()[::-1],
        lambda: old[..., ::-1].copy()[..., ::-1],
        lambda: (
            np.frombuffer(b"\0" + old.tobytes(), np.uint8)[1:].view(old.dtype).reshape(old.shape)
        ),  # locked, not aligned
    ]
    kinds = [lambda d=d: old.astype(d) for d in ("f2", "f4", "f8", ">f4", "i8", "i4", "u1", "u8", "?", "O")]
    shapes = [
        lambda: old[None],
        lambda: old.reshape(-1),
        lambda: old[0],
        lambda: old.T,
        lambda: old[..., :0],
        lambda: old[:0],
        lambda: old[..., :1],
        lambda: old[:1],
        lambda: np.broadcast_to(old[..., :1], old.shape),
        lambda: np.asarray(old.ravel()[0]),
    ]
    for axis in range(old.ndim):
        shapes.append(lambda axis=axis: np.concatenate([old, old], axis))
        shapes.append(lambda axis=axis: np.concatenate([old, old.take([0], axis)], axis))
        shapes.append(lambda axis=axis: old.take(range(old.shape[axis] - 1), axis))
    return [*orders, *kinds, *shapes, lambda: None, old.tolist]


def outcome(op: Any, args: tuple) -> Any:
    """What an op returns or leaves in its arguments, as a list of arrays; or the type of its error."""
    args = copied(args)
    try:
        with np.errstate(all="ignore"):
            result = op(*args)
    except AssertionError:
        raise
    except Exception as e:
        return type(e)
    return list(arrays_in(args if result is None else result))


def copied(args: Any) -> Any:
    """Fresh arrays of the same order, so that what is changed in place is not changed twice."""
    if isinstance(args, tuple):
        return tuple(copied(a) for a in args)
    if not isinstance(args, np.ndarray) or not args.flags.writeable:
        return args
    if args.flags.c_contiguous:
        return args.copy()
    whole = np.empty((*args.shape[:-1], 2 * args.shape[-1]), args.dtype)  # any order but a contiguous one
    whole[..., ::2] = args
    return whole[..., ::2]


def arrays_in(result: Any) -> Any:
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from arrays_in(part)
    elif isinstance(result, (np.ndarray, np.generic, float, int)) and not isinstance(result, bool):
        yield np.asarray(result)


def flat(args: Any) -> Any:
    """What stands in nested tuples."""
    for a in args:
        yield from flat(a) if isinstance(a, tuple) else [a]


def described(args: Any) -> Any:
    """Dtypes, shapes and strides in the place of arrays."""
    if isinstance(args, tuple):
        return tuple(described(a) for a in args)
    return f"{args.dtype}{args.shape}{args.strides}" if isinstance(args, np.ndarray) else args


def agree(found: Any, wanted: Any, limit: float) -> bool:
    """Both errors, or numbers of the same shapes that differ by at most `limit` times the largest."""
    if isinstance(found, type) or isinstance(wanted, type):
        return isinstance(found, type) and isinstance(wanted, type)
    if [a.shape for a in found] != [a.shape for a in wanted]:
        return False
    for a, b in zip(found, wanted):
        if a.dtype == object or b.dtype == object:
            continue
        a, b = (v.astype(np.float64) for v in (a, b))
        scale = np.abs(b[np.isfinite(b)]).max(initial=1)
        if not np.allclose(a, b, rtol=limit, atol=limit * scale, equal_nan=True):
            return False
    return True
