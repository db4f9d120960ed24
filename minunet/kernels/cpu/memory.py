"""Memory for the kernels: recycled memory for arrays, and scratch memory to work in.

The system clears every page of fresh memory, which costs as much as a pass over it. Recycled pages need no clearing.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import math
import threading
from collections import deque
from typing import Any

import numpy as np

LINE = 64
"""Bytes of a cache line, and of the largest vector."""


PAGE, CHUNK = 1 << 12, 1 << 32
"""Bytes. Recycled memory is cut into multiples of PAGE. The system is asked for at least CHUNK at once, enough for several of
the largest maps: if each had a chunk of its own, it would leave a gap there that fits no other map."""


RECYCLED = 1 << 18
"""Least bytes for which memory is recycled; smaller pieces the system gives without clearing pages."""


_scratch: dict[tuple[str, np.dtype], np.ndarray] = {}
_views: dict[tuple[str, tuple[int, ...], Any], np.ndarray] = {}  # arrays that `scratch` has given, by its arguments


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to work in, valid inside one `alone` block; it holds arbitrary values.

    A fresh large array costs more than the arithmetic done in it, because the system clears every page when it is first used.
    So each name (and dtype) keeps its memory from call to call, as much as was ever asked for. Never return such an array to a
    caller.
    """
    given = _views.get((name, shape, dtype))
    if given is not None:  # the small steps below take longer than a small kernel
        return given
    size, key = math.prod(shape), (name, np.dtype(dtype))
    held = _scratch.get(key)
    if len(_views) >= 1 << 12:
        _views.clear()
    if held is None or held.size < size:
        _views.clear()  # views of the old array would keep it
        held = _scratch[key] = _aligned(size * np.dtype(dtype).itemsize).view(dtype)
    given = _views[name, shape, dtype] = held[:size].reshape(shape)
    return given


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Like np.empty, from recycled memory, and starting on a cache line: vectors across two lines are read half as fast."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    return _recycler.take(size).array(shape, dtype) if size >= RECYCLED else _aligned(size).view(dtype).reshape(shape)


def release_memory() -> None:
    """Give all memory that no array uses back to the system."""
    _recycler.release()
    _views.clear()
    _scratch.clear()


def _aligned(size: int) -> np.ndarray:
    """An array of `size` bytes that starts on a cache line."""
    room = np.empty(size + LINE, np.uint8)
    start = -address(room) % LINE
    return room[start : start + size]


def address(a: np.ndarray) -> int:
    """Where the first number of a writable array lies, as `a.__array_interface__` says, in a third of the time."""
    first: Any = a[(0,) * a.ndim + (...,)]  # as an array of its own, which is contiguous even if a is not
    return ctypes.addressof(ctypes.c_char.from_buffer(first))


class Recycler:
    """Gives memory to large arrays, and takes it back for later ones when the last array that uses it is deleted.

    The arrays of one training step are as large as those of the step before, so after the first step all memory is recycled.
    The parameters' gradients come to lie where maps have been: in a backward they grow as the maps become fewer.

    Memory comes in chunks of at least CHUNK bytes; a part that was never used takes no physical memory. A request is cut from
    the smallest gap that is large enough, and neighbouring gaps are merged. What was never used is the largest gap, so memory
    is used again and again, and the physical memory stays close to what was in use at the worst moment.
    """

    def __init__(self) -> None:
        self.chunks: dict[int, np.ndarray] = {}
        self.gaps: list[tuple[int, int, int]] = []  # (chunk, start, end), in order
        self.returned: deque[tuple[int, int, int]] = deque()  # the same, not sorted in yet
        self.serial = itertools.count()
        self.lock = threading.Lock()

    def take(self, size: int) -> _Block:
        """So many bytes."""
        with self.lock:
            self._sort_in()
            room = -(-size // PAGE) * PAGE
            found, least = None, math.inf
            for n, (_, start, end) in enumerate(self.gaps):
                if room <= end - start < least:
                    found, least = n, end - start
            if found is None:
                self._drop_empty()
                chunk = next(self.serial)
                try:
                    self.chunks[chunk] = _aligned(max(room, CHUNK))  # what is not touched takes no physical memory
                except MemoryError:  # but it may count against a limit
                    self.chunks[chunk] = _aligned(room)
                found = len(self.gaps)
                self.gaps.append((chunk, 0, self.chunks[chunk].size))
            chunk, start, end = self.gaps[found]
            self.gaps[found : found + 1] = [(chunk, start + room, end)] if start + room < end else []
            return _Block(self, address(self.chunks[chunk]) + start, (chunk, start, start + room))

    def release(self) -> None:
        """Give chunks that are not in use back to the system."""
        with self.lock:
            self._sort_in()
            self._drop_empty()

    def _sort_in(self) -> None:
        while self.returned:
            chunk, start, end = self.returned.popleft()
            n = bisect.bisect_left(self.gaps, (chunk, start, end))
            if n < len(self.gaps) and self.gaps[n][:2] == (chunk, end):
                end = self.gaps.pop(n)[2]
            if n and self.gaps[n - 1][::2] == (chunk, start):
                n, start = n - 1, self.gaps.pop(n - 1)[1]
            self.gaps.insert(n, (chunk, start, end))

    def _drop_empty(self) -> None:
        empty = {chunk for chunk, start, end in self.gaps if end - start == self.chunks[chunk].size}
        self.gaps = [gap for gap in self.gaps if gap[0] not in empty]
        for chunk in empty:
            del self.chunks[chunk]


class _Block:
    """A piece of recycled memory. NumPy keeps it alive, as the base of the array on it, as long as there is a view of that."""

    def __init__(self, home: Recycler, start: int, place: tuple[int, int, int]) -> None:
        self.home, self.start, self.place = home, start, place

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array on it."""
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (self.start, False)}
        return np.asarray(self)

    def __del__(self) -> None:  # the garbage collector may call this at any moment, so it must not take the lock
        self.home.returned.append(self.place)


_recycler = Recycler()


def renew_lock() -> None:
    """A fresh lock for a forked process: the old one may be held by a thread that does not exist there."""
    _recycler.lock = threading.Lock()
