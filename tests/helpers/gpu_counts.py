"""What a training step on a GPU starts, and the most memory that it takes, counted on the stand-in for CuPy.

Kernels are left out, so nothing is computed: only starts and allocations count. `bench/gpu_counts.py` writes the counts down.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from helpers import pretend_cupy, pretend_gpu
from helpers.pretend_cupy import ndarray

from minunet.kernels.cuda import start
from minunet.models import UNet
from minunet.train.config import TrainingConfig
from minunet.train.step import TrainingStep


@dataclass
class Counts:
    """Starts by name, those of CuPy's own kernels as "cupy NAME", and bytes, of which the parameters' arrays are a part."""

    starts: Counter[str]
    most: int

    @property
    def total(self) -> int:
        return sum(self.starts.values())

    @property
    def of_cupy(self) -> int:
        return sum(n for name, n in self.starts.items() if name.startswith("cupy "))


class Meter:
    """Counts while it is in use."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.used = self.most = 0

    def reset(self) -> None:
        self.starts.clear()
        self.most = self.used

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        meter, plain, setitem = self, pretend_cupy._run, ndarray.__setitem__

        class Block(pretend_gpu.Block):
            def __init__(self, pool: Any, key: tuple, raw: np.ndarray) -> None:
                super().__init__(pool, key, raw)
                meter.used += raw.nbytes
                meter.most = max(meter.most, meter.used)

            def __del__(self) -> None:
                meter.used -= self.raw.nbytes

        def run(function: Any, args: tuple, kwargs: dict, in_place: bool = False, name: str = "") -> Any:
            made = meter.used
            result = plain(function, args, kwargs, in_place, name)
            if in_place or kwargs.get("out") is not None or (meter.used > made and name != "__getitem__"):
                meter.starts[f"cupy {name or getattr(function, '__name__', '?')}"] += 1
            return result

        def write(self: ndarray, index: Any, value: Any) -> None:
            meter.starts["cupy copy"] += 1
            setitem(self, index, value)

        def view(self: ndarray, index: Any) -> ndarray:  # CuPy's is a view even of one number
            return ndarray(self._values[(*index, ...) if isinstance(index, tuple) else (index, ...)])

        def begin(kernel: Any, grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
            meter.starts[kernel.place[1]] += 1

        def malloc(size: int) -> Block:
            return Block(pretend_gpu.default_pool, (), np.empty(-(-max(size, 1) // 512) * 512, np.uint8))

        patch = mock.patch.object
        with (
            patch(pretend_gpu, "_allocator", malloc), patch(pretend_cupy, "_run", run), patch(pretend_cupy, "empty", empty),
            patch(ndarray, "__setitem__", write), patch(ndarray, "__getitem__", view),
            patch(pretend_gpu.Kernel, "__call__", begin),
            patch(start, "_properties", lambda xp, device: (132, "81", 228 << 10)),
            patch(TrainingStep, "_on_host", lambda *args: 0.0), np.errstate(all="ignore"),
        ):  # fmt: skip
            yield


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Without what the stand-in fills it with: the arrays are large."""
    return ndarray(pretend_gpu.allocate(shape, dtype))


def counts(gpu: Any, size: int, batch: int = 1, base_width: int = 64, **config: Any) -> Counts:
    """Of a step of the U-Net with 3 channels and 2 classes, as it is from the third on; `gpu` is the stand-in with kernels."""
    meter = Meter()
    with meter.running():
        model = UNet(3, 2, base_width=base_width).convert(gpu.asarray)
        step = TrainingStep(model, TrainingConfig(**config), gpu)
        images = gpu.asarray(np.zeros((batch, size, size, 3), np.float32))
        labels = gpu.asarray(np.zeros((batch, size, size), np.int64))
        for number in range(3):
            meter.reset()
            step(number, 1e-3, images, labels)
        return Counts(Counter(meter.starts), meter.most)
