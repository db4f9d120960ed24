"""Memory for the kernels: arrays from recycled memory, and scratch to work in.

The system clears every page of fresh memory, which costs as much as a pass over it; here pages are used again.
"""

from __future__ import annotations

import bisect
import itertools
import math
import threading
from collections import deque
from typing import Any

import numpy as np

LINE = 64
"""Bytes of a cache line, and of the largest vector."""


PAGE, CHUNK = 1 << 12, 1 << 32
"""Bytes: what recycled memory is cut into multiples of, and the least that is asked of the system at once: several of the
largest maps, lest each gets a chunk of its own and leaves a gap there that nothing fits into."""


RECYCLED = 1 << 18
"""Bytes from which on memory is recycled; less than that the system hands out without clearing pages."""


_scratch: dict[tuple[str, np.dtype], np.ndarray] = {}


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory to work in, for one use inside one `alone` block; its contents are whatever was there before.

    A fresh large array costs more than the arithmetic done in it, because the system clears every page of it at the first
    touch. So each name (and dtype) keeps its memory from call to call; it grows to the largest that was asked for. Arrays
    that are returned to a caller must never come from here.
    """
    size, key = math.prod(shape), (name, np.dtype(dtype))
    held = _scratch.get(key)
    if held is None or held.size < size:
        held = _scratch[key] = _aligned(size * np.dtype(dtype).itemsize).view(dtype)
    return held[:size].reshape(shape)


def empty(shape: tuple[int, ...], dtype: Any, lasting: bool = False) -> np.ndarray:
    """np.empty from recycled memory, starting on a cache line: a vector across two lines takes twice as long to read.

    What outlives a backward pass, as the parameters' gradients do, is `lasting` and lies apart, so that it does not stand in
    the way of the next pass's maps.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = _recyclers[lasting].take(size) if size >= RECYCLED else _aligned(size)
    return memory.view(dtype).reshape(shape)


def release_memory() -> None:
    """Give all memory that is kept for the next arrays back to the system."""
    for recycler in _recyclers:
        recycler.release()
    _scratch.clear()


def _aligned(size: int) -> np.ndarray:
    """So many bytes that start on a cache line."""
    room = np.empty(size + LINE, np.uint8)
    start = -room.__array_interface__["data"][0] % LINE
    return room[start : start + size]


class Recycler:
    """Hands out memory for large arrays, and takes it back for the next ones when the last array on it is gone.

    The system clears every page of fresh memory, which costs as much as a pass over it. The arrays of one training step
    are as large as those of the last one, so after the first step all memory is recycled.

    Memory comes in chunks of at least CHUNK bytes, of which only what was once used takes up physical memory. A request is
    cut from the first gap that is large enough; neighbouring gaps are merged. So the low addresses are used again and again
    and what is held stays close to what was in use at the worst moment.
    """

    def __init__(self) -> None:
        self.chunks: dict[int, np.ndarray] = {}
        self.gaps: list[tuple[int, int, int]] = []  # (chunk, start, end), in order
        self.returned: deque[tuple[int, int, int]] = deque()  # the same, not sorted in yet
        self.serial = itertools.count()
        self.lock = threading.Lock()

    def take(self, size: int) -> np.ndarray:
        """So many bytes."""
        with self.lock:
            self._sort_in()
            room = -(-size // PAGE) * PAGE
            found = next((n for n, (_, start, end) in enumerate(self.gaps) if end - start >= room), None)
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
            return np.asarray(_Block(self, self.chunks[chunk][start : start + size], (chunk, start, start + room)))

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
    """Memory on loan. It is the base of the arrays on it: NumPy keeps it as long as there is any view of them."""

    def __init__(self, home: Recycler, memory: np.ndarray, place: tuple[int, int, int]) -> None:
        self.home, self.memory, self.place = home, memory, place
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:  # at any moment, by the garbage collector too, hence without the lock
        self.home.returned.append(self.place)


_recyclers = Recycler(), Recycler()


def renew_locks() -> None:
    """Fresh locks for a forked process: the old ones may be held by threads that do not exist there."""
    for recycler in _recyclers:
        recycler.lock = threading.Lock()
