"""The machine behind tests/pretend_cupy.py: memory pools, streams that run late, graphs, and kernels in the emulator.

Whatever the stand-in does to arrays is *work* for the current stream, which does it

* at once, on the default stream;
* when it is waited for, on any other: who forgets to wait finds NaN;
* never, while it is captured: then it goes into the graph, and is done at each launch, on the very memory that it was
  captured with.

Memory comes from pools that hand out again what was given back, each stream's to that stream, as CuPy's do; what a pool
frees goes to whoever asks next. Waits of the host, and uploads, are noted in `waits` and `uploads`.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minunet.kernels.cuda import emulator

waits: list[str] = []
"""What the host has waited for the GPU for, in order: "float", "get", "boolean index", ..."""

uploads: list[tuple] = []
"""The shapes of what was copied from the host's arrays, in order."""


# ---- memory ----------------------------------------------------------------------------------------------------------

freed: dict[int, list[np.ndarray]] = {}  # by size: what cudaFree was given and cudaMalloc finds


class Block:
    """Memory of a pool, which gets it back when the last array in it is gone."""

    def __init__(self, pool: MemoryPool, key: tuple, raw: np.ndarray) -> None:
        self.pool, self.key, self.raw = pool, key, raw
        self.__array_interface__ = raw.__array_interface__

    def __del__(self) -> None:
        self.pool.free.setdefault(self.key, []).append(self.raw)


class MemoryPool:
    """CuPy's: each stream has free blocks of its own."""

    def __init__(self) -> None:
        self.free: dict[tuple, list[np.ndarray]] = {}
        self.held = 0

    def malloc(self, size: int) -> Block:
        size = -(-max(size, 1) // 512) * 512
        key = (id(_current), size)
        if known := self.free.get(key):
            return Block(self, key, known.pop())
        known, self.held = freed.get(size), self.held + size
        return Block(self, key, known.pop() if known else np.full(size, 255, np.uint8))

    def free_bytes(self) -> int:
        return sum(size * len(blocks) for (_, size), blocks in self.free.items())

    def total_bytes(self) -> int:
        return self.held

    def free_all_blocks(self) -> None:
        self.held -= self.free_bytes()
        for (_, size), blocks in self.free.items():
            freed.setdefault(size, []).extend(blocks)
        self.free.clear()


default_pool = MemoryPool()
_allocator = default_pool.malloc


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Any:
    global _allocator
    before, _allocator = _allocator, allocator
    try:
        yield
    finally:
        _allocator = before


def allocate(shape: Any, dtype: Any) -> np.ndarray:
    """An array in the memory of the current allocator's pool."""
    dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.asarray(_allocator(size))[:size].view(dtype).reshape(shape)


def by_address(values: Any) -> Any:
    """Arguments with arrays that do not keep their blocks from the pool: what a GPU that does its work later knows of them."""
    if isinstance(values, dict):
        return {name: by_address(v) for name, v in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)(by_address(v) for v in values)
    block = values
    while isinstance(block, np.ndarray):
        block = block.base
    if not isinstance(block, Block):
        return values
    offset = values.ctypes.data - block.raw.ctypes.data
    return np.ndarray(values.shape, values.dtype, block.raw, offset, values.strides)


# ---- streams and graphs ----------------------------------------------------------------------------------------------


class Stream:
    """A queue of work, done when it is waited for; `late=False` does it at once."""

    def __init__(self, non_blocking: bool = False, late: bool = True) -> None:
        self.late, self.waiting = late, []
        self.graph: Graph | None = None  # while it is captured
        self.ptr = id(self)

    def do(self, function: Any, *args: Any) -> None:
        """Take on a call of a function."""
        if not self.late:
            function(*args)
            return
        todo = self.waiting if self.graph is None else self.graph.work
        todo.append(functools.partial(function, *by_address(args)))

    def synchronize(self) -> None:
        if self.graph is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        while self.waiting:
            self.waiting.pop(0)()

    def record(self) -> Event:
        return Event(self)

    def wait_event(self, event: Event) -> None:
        event.synchronize()

    def is_capturing(self) -> bool:
        return self.graph is not None

    def begin_capture(self) -> None:
        if not self.late:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.graph = Graph()

    def end_capture(self) -> Graph:
        graph, self.graph = self.graph, None
        return graph

    def __enter__(self) -> Stream:
        global _current
        self._before, _current = _current, self
        return self

    def __exit__(self, *exc: object) -> None:
        global _current
        _current = self._before


class Event:
    """The work that was on a stream when it was recorded."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        self.stream.synchronize()


class Graph:
    """What was captured: functions that are done again at each launch."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def launch(self, stream: Stream | None = None) -> None:
        (stream or _current).do(self.run)

    def run(self) -> None:
        for work in self.work:
            work()


_current = default_stream = Stream(late=False)


def current() -> Stream:
    """The stream that work is for."""
    return _current


def wait(what: str) -> None:
    """The host waits for the current stream, to read something."""
    waits.append(what)
    if _current.is_capturing():
        raise RuntimeError(f"{what}: the host cannot wait while the stream is capturing")
    _current.synchronize()


def upload(shape: tuple) -> None:
    """The host sends an array. In a graph that would be sent again at each launch, from memory that is long somebody else's."""
    uploads.append(shape)
    if _current.is_capturing():
        raise RuntimeError("an upload while the stream is capturing")


# ---- kernels ---------------------------------------------------------------------------------------------------------


class Kernel:
    """A kernel of a .cu file, run in the emulator; as strict as CuPy's about its arguments."""

    def __init__(self, file: str, defines: tuple[str, ...], name: str) -> None:
        self.place, self.max_dynamic_shared_size_bytes = (file, name, defines), 48 << 10
        self.preferred_shared_memory_carveout = -1

    def __call__(self, grid: tuple, block: tuple, arguments: tuple, shared_mem: int = 0) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        for a in arguments:  # what is on the host goes by value, if it is one number or one struct
            assert type(a) is not np.ndarray or a.size == 1, "CuPy takes no array of the host for a kernel"
        values = tuple(None if type(a) is np.uint64 and a == 0 else getattr(a, "_values", a) for a in arguments)
        _current.do(self.run, grid, block, values, shared_mem)

    def run(self, *launch: Any) -> None:
        emulator.function(*self.place)(*launch)


class RawModule:
    """Of a "cubin" whose path only says what it was to be compiled from."""

    def __init__(self, path: str) -> None:
        self.source, *self.defines = Path(path).name.split("+")

    def get_function(self, name: str) -> Kernel:
        return Kernel(self.source, tuple(self.defines), name)


def pretended_cubin(file: str, defines: tuple[str, ...], capability: int) -> Path:
    """In place of `build.cached_cubin`."""
    return Path("+".join([file, *defines]))


device = SimpleNamespace(
    compute_capability="81",
    attributes={"MultiProcessorCount": 2, "MaxSharedMemoryPerMultiprocessor": 100 << 10},
    synchronize=lambda: wait("device"),
    use=lambda: None,
)
NUMBER = 99
"""Of an architecture and a number that no GPU has, so that nothing that is kept for it is mistaken for a real one's."""
