"""How the grader and a student's process talk: one message is a line of JSON and the bytes of its arrays.

    8 bytes   length of the JSON, 8 bytes   length of the arrays' bytes, JSON, bytes

In the JSON an array stands as {"array": [dtype, shape, place]}, a tuple or list as a list, {"function": name} for a
function of the other side. Nothing is ever unpickled or evaluated: what comes back is numbers, and as many bytes as they
need. This file is also loaded by the student's process, where there is no minunet: it imports NumPy alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

KINDS = ("<f8", "<f4", "<i8", "<i4", "<i2", "|i1", "|u1", "<u2", "<u4", "<u8", "|b1")
MOST = 1 << 28  # bytes of one message


class Garbled(Exception):
    """What came over the pipe is no message."""


def pack(content: Any) -> bytes:
    """A message of None, bools, numbers, strings, arrays, and lists, tuples and dicts of them; TypeError for others."""
    arrays: list[bytes] = []
    text = json.dumps(_plain(content, arrays)).encode()
    body = b"".join(arrays)
    return len(text).to_bytes(8, "little") + len(body).to_bytes(8, "little") + text + body


def unpack(read: Callable[[int], bytes]) -> Any:
    """The next message; `read(n)` gives exactly n bytes. Garbled if it is none."""
    head = read(16)
    lengths = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
    if sum(lengths) > MOST:
        raise Garbled(f"a message of {sum(lengths)} bytes")
    text, body = read(lengths[0]), read(lengths[1])
    try:
        return _restore(json.loads(text), body)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as e:
        raise Garbled(f"{type(e).__name__}: {e}") from None


def _plain(a: Any, arrays: list[bytes]) -> Any:
    if isinstance(a, (bool, str, type(None))):
        return a
    if isinstance(a, (int, float)) and not isinstance(a, np.generic):
        return a
    if isinstance(a, dict):
        return {"dict": {str(k): _plain(v, arrays) for k, v in a.items()}}
    if isinstance(a, (list, tuple)):
        return [_plain(v, arrays) for v in a]
    if isinstance(a, (np.ndarray, np.generic)):
        a = np.asarray(a)
        kind = a.dtype.newbyteorder("<").str
        if kind not in KINDS:
            raise TypeError(f"an array of {a.dtype}")
        place = sum(map(len, arrays))
        arrays.append(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes())
        return {"array": [kind, list(a.shape), place]}
    raise TypeError(f"a {type(a).__name__}")


def _restore(a: Any, body: bytes) -> Any:
    if isinstance(a, list):
        return tuple(_restore(v, body) for v in a)
    if not isinstance(a, dict):
        return a
    if "dict" in a:
        return {k: _restore(v, body) for k, v in a["dict"].items()}
    kind, shape, place = a["array"]
    if kind not in KINDS or len(shape) > 8 or not all(type(n) is int and 0 <= n <= MOST for n in (*shape, place)):
        raise ValueError("an array that is none")
    count = 1
    for n in shape:
        count *= n
    if place + count * np.dtype(kind).itemsize > len(body):
        raise ValueError("an array larger than its bytes")
    return np.frombuffer(body, kind, count, place).reshape(shape).copy()
