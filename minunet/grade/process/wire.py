"""How the grader and a student's process talk: one message is a line of JSON and the bytes of its arrays.

    8 bytes   length of the JSON, 8 bytes   length of the arrays' bytes, JSON, bytes

In the JSON an array stands as {"array": [dtype, shape, place]}, a tuple as a list, a list as {"list": ...}, a dict as
{"dict": ...}. Nothing is ever unpickled or evaluated: what comes back is numbers and strings, and no more than `JSON`, `BYTES`
and `DEEPEST` allow. This file is also loaded by the student's process, where there is no minunet: it imports NumPy alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

KINDS = ("<f8", "<f4", "<i8", "<i4", "<i2", "|i1", "|u1", "<u2", "<u4", "<u8", "|b1")
JSON, BYTES = 1 << 20, 1 << 26  # at most, of one message: what stands between numbers, and numbers
DEEPEST = 20  # lists within lists
WHOLE = 1 << 63  # no whole number is larger


class Garbled(Exception):
    """What came over the pipe is no message."""


def pack(content: Any) -> bytes:
    """A message of None, bools, numbers, strings, arrays, and lists, tuples and dicts of them; TypeError for others."""
    arrays: list[bytes] = []
    text = json.dumps(_plain(content, arrays, 0)).encode()
    body = b"".join(arrays)
    if len(text) > JSON or len(body) > BYTES:
        raise ValueError(f"{len(text) + len(body):,} bytes")
    return len(text).to_bytes(8, "little") + len(body).to_bytes(8, "little") + text + body


def unpack(read: Callable[[int], bytes]) -> Any:
    """The next message; `read(n)` gives exactly n bytes. Garbled if it is none."""
    head = read(16)
    lengths = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
    if lengths[0] > JSON or lengths[1] > BYTES:
        raise Garbled(f"a message of {sum(lengths)} bytes")
    text, body = read(lengths[0]), read(lengths[1])
    try:
        content, used = _restore(json.loads(text), body, 0, 0)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError, AttributeError) as e:
        raise Garbled(f"{type(e).__name__}: {e}") from None
    if used != len(body):
        raise Garbled("bytes of no array")
    return content


def size(a: Any) -> int:
    """How many bytes of memory the content of a message takes, about."""
    if isinstance(a, np.ndarray):
        return int(a.nbytes)
    if isinstance(a, str):
        return len(a)
    return 8 + sum(map(size, a.values() if isinstance(a, dict) else a)) if isinstance(a, (tuple, list, dict)) else 8


def copied(a: Any, spread: bool = False) -> Any:
    """The content of a message with copies of its arrays; all else as it is.

    With `spread` the numbers of an array do not lie next to each other, as in a part of a larger one: between them are others.
    """
    if isinstance(a, (tuple, list)):
        return type(a)(copied(v, spread) for v in a)
    if isinstance(a, dict):
        return {k: copied(v, spread) for k, v in a.items()}
    if not isinstance(a, np.ndarray):
        return a
    if not spread or not a.ndim:
        return a.copy()
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan if a.dtype.kind == "f" else 1, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _plain(a: Any, arrays: list[bytes], depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError(f"lists within lists, more than {DEEPEST} deep")
    if isinstance(a, (bool, str, type(None))):
        return a
    if isinstance(a, (int, float)) and not isinstance(a, np.generic):
        if not -WHOLE < (a if isinstance(a, int) else 0) < WHOLE:
            raise ValueError("a whole number of more than 64 bits")
        return a
    if isinstance(a, dict):
        return {"dict": {str(k): _plain(v, arrays, depth + 1) for k, v in a.items()}}
    if isinstance(a, (list, tuple)):
        plain = [_plain(v, arrays, depth + 1) for v in a]
        return plain if isinstance(a, tuple) else {"list": plain}
    if isinstance(a, (np.ndarray, np.generic)):
        a = np.asarray(a)
        kind = a.dtype.newbyteorder("<").str
        if kind not in KINDS:
            raise TypeError(f"an array of {a.dtype}: make it float64, or int64 where its numbers are whole")
        place = sum(map(len, arrays))
        arrays.append(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes())
        return {"array": [kind, list(a.shape), place]}
    raise TypeError(f"a {type(a).__name__}, which is neither an array nor a number")


def _restore(a: Any, body: bytes, used: int, depth: int) -> tuple[Any, int]:
    """What a part of the JSON stands for, and how many of the bytes are used up by then: no two arrays share any."""
    if depth > DEEPEST or (isinstance(a, int) and not -WHOLE < a < WHOLE):
        raise ValueError("too deep or too large")
    found: Any = []
    if isinstance(a, list):
        for v in a:
            v, used = _restore(v, body, used, depth + 1)
            found.append(v)
        return tuple(found), used
    if not isinstance(a, dict):
        return a, used
    if "list" in a:
        if not isinstance(a["list"], list):
            raise ValueError("a list that is none")
        found, used = _restore(a["list"], body, used, depth)
        return list(found), used
    if "dict" in a:
        values, used = _restore(list(a["dict"].values()), body, used, depth)
        return dict(zip(a["dict"], values)), used
    kind, shape, place = a["array"]
    if kind not in KINDS or len(shape) > 8 or not all(type(n) is int and 0 <= n <= BYTES for n in (*shape, place)):
        raise ValueError("an array that is none")
    count = 1
    for n in shape:
        count *= n
    if place != used or place + count * np.dtype(kind).itemsize > len(body):
        raise ValueError("an array larger than its bytes")
    return np.frombuffer(body, kind, count, place).reshape(shape).copy(), used + count * np.dtype(kind).itemsize
