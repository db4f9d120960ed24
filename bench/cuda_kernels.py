"""Time the CUDA kernels one by one on a GPU, at the sizes of the 31 M-parameter network.

    python bench/cuda_kernels.py [FILE...] [--size 1024] [--dtype float16] [--ways]
    python bench/cuda_kernels.py --host
    python bench/cuda_kernels.py --reckon

FILE is the name of a kernel's file without .cu. For each kernel: the median time on the GPU, arithmetic and memory traffic per
second (what the algorithm needs at least, so repeated reads do not count). With --ways convolutions are also timed by each of
their tiles and instructions, so that one sees whether the right one is chosen.

--host needs no GPU. It tells how long our Python takes to start the kernels of an inference and of a training step, which is
what small images wait for unless steps are replayed as a CUDA graph; CuPy's own part comes on top.

--reckon needs none either: it counts how fast the convolutions can be at most, and writes that into docs/gpu.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import cuda_counts
import numpy as np
import peers
import reckon
from report import write_between
from talk import WHATS

from minunet import cli
from minunet.errors import UserError
from minunet.kernels import cuda
from minunet.kernels.cuda import build, emulator, launch, launch_conv, launch_many, launch_norm
from minunet.kernels.cuda.start import has_wgmma
from minunet.kernels.device import select_device
from minunet.ops import dispatch

CALLS = 20
Case = tuple[str, str, float, float, Callable[[], Any]]  # file, what, operations, bytes, start


def cases(
    xp: Any, size: int, base: int = 64, dtype: str = "float32", depth: int = 4, ways: bool = False
) -> Iterator[Case]:
    """The kernels' calls for images of size x size pixels, level by level; with `ways` convolutions in several ways."""

    noise = np.random.default_rng(0).standard_normal(1 << 20)  # ones would draw less power, and run faster

    def new(*shape: int, kind: str = dtype) -> Any:
        whole = np.issubdtype(np.dtype(kind), np.integer)  # winners and labels: 1 is both
        return xp.ones(shape, kind) if whole else xp.asarray(np.resize(noise.astype(kind), shape))

    item = np.dtype(dtype).itemsize
    for level in range(depth + 1):
        n, C = size >> level, base << level
        x, y, w, P = new(1, n, n, C), new(1, n, n, C), new(9, C, C), n * n
        same, where, work = {"side": 3, "pad": 1}, f"{n} x {n} x {C}", 18.0 * P * C * C
        traffic = (2 * P * C + 9 * C * C) * item
        for what, options in (("", {"moments": True}), (" data", {"flip": True, "gradient": True})):
            for by, way in ways_of_conv(xp) if ways else [("", {})]:
                start = partial(launch_conv.conv, [x], w, [y], **same, **options, **way)
                file = "conv_patch" if way.get("patch", True) else "conv"
                yield file, f"3x3{what} {where}{by}", work, traffic, start
        dw = new(9, C, C, kind="float32")
        for by, way in ways_of_weights(xp) if ways else [("", {})]:
            start = partial(launch_conv.conv_weights, [x], y, dw, **same, **way)
            file = "conv_patch_weights" if way.get("patch", True) else "conv_weights"
            yield file, f"3x3 {where}{by}", work, traffic, start
    n, C, P = size, base, size * size
    x, y, low, winner = (
        new(1, n, n, C),
        new(1, n, n, C),
        new(1, n // 2, n // 2, C),
        new(1, n // 2, n // 2, C, kind="uint8"),
    )
    statistics, where, map_bytes = [new(C, kind="float32") for _ in range(4)], f"{n} x {n} x {C}", P * C * item
    up, wide = new(4, 2 * C, C), new(1, n // 2, n // 2, 2 * C)
    yield (
        "conv",
        f"2x2 transposed {where}",
        4.0 * P * C * C,
        1.5 * map_bytes,
        partial(launch_conv.conv, [wide], up, [y], side=1, up=2),
    )
    for channels in (1, 3):
        first, image = new(9, channels, C), new(1, n, n, channels)
        work = 18.0 * P * channels * C
        yield (
            "conv",
            f"3x3 from {channels}",
            work,
            map_bytes,
            partial(launch_conv.conv, [image], first, [y], side=3, pad=1),
        )
    yield "norm", f"moments {where}", 0, map_bytes, partial(launch_norm.moments, x)
    tiles = launch_norm.moments(x)
    yield "norm_merge", f"moments {where}", 0, 4.0 * tiles.partial.size, partial(launch_norm.merge_moments, tiles)
    yield "norm", f"norm + ReLU {where}", 0, 2 * map_bytes, partial(launch_norm.norm, x, *statistics, y, True)
    yield "norm", f"backward {where}", 0, 5 * map_bytes, partial(launch_norm.norm_back, y, x, *statistics, y, True)
    of_image = [a.reshape(1, C) for a in statistics[:2]]
    group_back = partial(launch_norm.group_norm_back, y, x, *of_image, *statistics[2:], y, min(C, 32), True)
    yield "norm", f"group norm backward {where}", 0, 5 * map_bytes, group_back
    yield "pool", f"forward {where}", 0, 1.25 * map_bytes, partial(launch.max_pool, x, low, winner, 2, 2)
    yield "pool", f"backward {where}", 0, 1.25 * map_bytes, partial(launch.max_pool_back, low, winner, x, 2, 2)
    yield "resample", f"forward {where}", 0, 1.25 * map_bytes, partial(launch.bilinear, low, y, 2, True)
    yield "resample", f"backward {where}", 0, 1.25 * map_bytes, partial(launch.bilinear_back, y, low, 2, True)
    logits, weight, labels = new(1, n, n, 2, kind="float32"), new(C, 2), new(1, n, n, kind="int32")
    yield "head", f"forward {where}", 4.0 * P * C, map_bytes, partial(launch.head, x, weight, None, logits)
    yield "head", f"backward {where}", 8.0 * P * C, 2 * map_bytes, partial(launch.head_back, x, logits, weight, y)
    truth, result = launch.Truth(labels, None, None, -1), new(10, kind="float32")
    yield (
        "head",
        f"with losses {where}",
        4.0 * P * C,
        map_bytes,
        partial(launch.head_loss, x, weight, None, logits, truth, 1.0),
    )
    back = partial(
        launch.head_loss_back, x, logits, truth, result, result[4:].reshape(3, 2), None, (1.0, 1.0), weight, y
    )
    yield "head", f"with losses, backward {where}", 8.0 * P * C, 2 * map_bytes, back
    yield (
        "loss",
        f"cross-entropy {n} x {n} x 2",
        0,
        24.0 * P,
        partial(launch.cross_entropy, logits, labels, None, None, -1),
    )
    dice = partial(launch.soft_dice, logits, labels, None, None, -1, 1.0)
    yield "loss", f"soft Dice {n} x {n} x 2", 0, 24.0 * P, dice
    p, g, m, s = (new(31_000_000 if n >= 64 else 1000, kind="float32") for _ in range(4))
    p, g, m, s = ([a[: p.size // 2], a[p.size // 2 :]] for a in (p, g, m, s))
    bytes_ = 4.0 * sum(a.size for a in p)
    yield "optim", "sgd", 0, 5 * bytes_, partial(launch_many.sgd_steps, p, g, m, 0.1)
    yield "optim", "adam", 0, 7 * bytes_, partial(launch_many.adam_steps, p, g, m, s, 3, 0.1)
    yield "optim", "rmsprop", 0, 7 * bytes_, partial(launch_many.rmsprop_steps, p, g, s, m, 0.1)
    yield "optim", "clip", 0, 3 * bytes_, partial(launch_many.clip, g, 1.0)
    yield "optim", "average", 0, 3 * bytes_, partial(launch_many.move_averages, m, p, 0.99)
    broken, halves = new(1, kind="float32"), [a.astype(np.float16) for a in p]
    yield "optim", "unscale", 0, 2 * bytes_, partial(launch_many.unscale, g, 0.5, broken)
    yield "cast", "to float16", 0, 1.5 * bytes_, partial(launch_many.cast, p, halves)


def ways_of_conv(xp: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and options: as it is chosen, then with a patch and without, by tiles of both widths and either instruction."""
    yield "", {}
    for warpgroups in (False, True) if xp is np or has_wgmma(xp) else (False,):
        for columns in (launch_conv.BN, launch_conv.WIDE):
            for patch in (True, False):
                name = f", {columns} wide, {'wgmma' if warpgroups else 'mma.sync'}{'' if patch else ', no patch'}"
                yield name, {"columns": columns, "warpgroups": warpgroups, "patch": patch}


def ways_of_weights(xp: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of a weight gradient; wgmma takes it with a patch only."""
    yield "", {}
    for warpgroups in (False, True) if xp is np or has_wgmma(xp) else (False,):
        yield f", {'wgmma' if warpgroups else 'mma.sync'}", {"warpgroups": warpgroups}
    for columns in (launch_conv.BN, launch_conv.WIDE):
        yield f", {columns} wide, no patch", {"columns": columns, "patch": False}


def host() -> Iterator[tuple[str, int, float]]:
    """Of an inference and a training step: what it is, kernels started, and seconds of Python; the kernels are left out."""
    started: list[str] = []

    def left_out(file: str, name: str, defines: tuple[str, ...]) -> Callable[..., None]:
        return lambda *launch: started.append(name)

    with (
        np.errstate(all="ignore"),
        mock.patch.object(dispatch, "find_kernel", cuda.kernel_for),
        mock.patch.object(emulator, "function", left_out),
        mock.patch.object(launch_conv, "multiprocessors", lambda xp: 132),
    ):
        for what in WHATS:
            call = peers.minunet(peers.Setting(), 64, what)
            times = []
            for _ in range(33):
                started.clear()
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            yield what, len(started), float(np.median(times[3:]))


def seconds_of(start: Callable[[], Any], what: str, benchmark: Callable[..., Any]) -> float:
    """Median time of a kernel; many calls between two events, as Python takes as long for a call as a GPU for a small map."""

    def calls() -> None:
        for _ in range(CALLS):
            start()

    times = benchmark(calls, name=what, n_repeat=10, n_warmup=2).gpu_times
    return float(np.median(times)) / CALLS


def main(argv: list[str] | None = None) -> int:
    names = [f.removesuffix(".cu") for f in build.kernel_files()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.HelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"only the kernels of these: {', '.join(names)}")
    parser.add_argument("--size", type=cli.number(int, 64), default=1024, metavar="N", help="rows and columns")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16"], help="what maps are stored as")
    parser.add_argument("--ways", action="store_true", help="convolutions in all ways, not only as it is chosen")
    parser.add_argument("--host", action="store_true", help="time Python's part instead, which needs no GPU")
    parser.add_argument(
        "--reckon", action="store_true", help=f"count the convolutions' ceilings, and write {reckon.PAGE}"
    )
    options = parser.parse_args(argv)
    if options.reckon:
        cuda_counts.write()
        text = reckon.table(cuda_counts.read())
        print(text)
        write_between("ceilings", text, reckon.PAGE)
        return 0
    if options.host:
        for what, starts, seconds in host():
            print(
                f"{what}: {starts} kernels started in {1e3 * seconds:.2f} ms, {1e6 * seconds / starts:.1f} microseconds each"
            )
        return 0
    for name in set(options.files) - set(names):
        raise UserError(f"{name}: no such kernels; there are {', '.join(names)}")
    xp = select_device("cuda")
    from cupyx.profiler import benchmark

    print(f"{'microseconds':<56}{'time':>10}{'GFLOP/s':>12}{'GB/s':>10}")
    for file, what, work, traffic, start in cases(xp, options.size, dtype=options.dtype, ways=options.ways):
        if not options.files or file in options.files:
            seconds = seconds_of(start, what, benchmark)
            speed = f"{work / seconds / 1e9:>12.0f}{traffic / seconds / 1e9:>10.0f}"
            print(f"{file + ', ' + what:<56}{1e6 * seconds:>10.1f}{speed}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
