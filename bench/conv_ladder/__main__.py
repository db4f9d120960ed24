"""The climb from seven loops to Winograd: measure every rung of the ladder.

    python bench/conv_ladder [RUNG ...] [--size 64] [--channels 64] [--seconds 20] [--out FOLDER] [--table]

Each file NN_idea.py of this folder is a rung: one idea more than the file before it, and the same `conv(x, w)`, a 3x3
convolution of an NHWC map, "same" padding, stride 1, float32. Read them in order: each opens with what was slow before, what
changes, and what speed to expect; then look here whether it came so.

GFLOP/s are those of direct convolution, 2*9*C*K operations an output pixel, also for those who need fewer. The measure of the
machine is what BLAS reaches with a product of 2048 x 2048 matrices. Contestants take turns and medians count, since other
programs disturb; a rung that is too slow for the whole map is timed on a smaller one, and its time is extrapolated ("~").
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))  # where the benches' report is

from picture import draw  # noqa: E402
from report import RESULTS, ROOT, machine, save, write_between  # noqa: E402

import minunet.kernels.cpu.launch  # noqa: E402, F401  (chooses numba's threads as minunet has them)

PAGE = "docs/learning.md"
SLOW = 0.3
"""Seconds that one call may take; beyond, the map is made smaller."""

PAUSE, TURN = 0.15, 0.05
"""Seconds before a turn, and of a turn."""


def load_rungs() -> dict[str, ModuleType]:
    """The rungs in order, by number: "01" to "11". Their names start with a digit, so `import` cannot name them."""
    rungs = {}
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        spec = importlib.util.spec_from_file_location("rung_" + path.stem, path)
        assert spec and spec.loader
        rungs[path.stem[:2]] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return rungs


def title(rung: ModuleType) -> tuple[str, str]:
    """A rung's name and idea, from the first line of its file: "name: idea."."""
    name, idea = (rung.__doc__ or "").splitlines()[0].rstrip(".").split(": ", 1)
    return name, idea


def prepare(conv: Callable, size: int, w: np.ndarray) -> tuple[Callable[[], Any], float]:
    """A call to time, and the share of the whole map's pixels that it covers: all, or as many as are done in time."""
    rng, n = np.random.default_rng(0), min(4, size)
    while True:
        call = functools.partial(conv, rng.standard_normal((1, n, n, w.shape[2]), np.float32), w)
        call()  # compiles at the first time
        began = time.perf_counter()
        call()
        seconds, larger = time.perf_counter() - began, min(2 * n, size)
        if n == size or seconds * (larger / n) ** 2 > SLOW:
            return call, (n / size) ** 2
        n = larger


def torch_conv(size: int, w: np.ndarray) -> Callable[[], Any] | None:
    """PyTorch's convolution, channels last; None if it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    x = np.random.default_rng(0).standard_normal((1, size, size, w.shape[2]), np.float32)
    tx = torch.from_numpy(x).permute(0, 3, 1, 2)
    tw = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(tx, tw, padding=1)

    return run


def sgemm() -> tuple[Callable[[], Any], float]:
    """A large matrix product by BLAS, and its GFLOP."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    return lambda: a @ a, 2e-9 * 2048**3


def take_turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median seconds of each call, in turns until the time is up, at least three each; slow ones have no more than that.

    A turn is a pause, a call that does not count, and then calls for TURN seconds: caches are full of another's numbers, and
    threads of BLAS wait for more work at full speed for a tenth of a second before they sleep.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    began, turns, past = time.perf_counter(), 0, 0.0
    with tqdm(total=round(seconds), unit="s", desc="measuring", leave=False) as bar:
        while past < seconds or turns < 3:
            for name, call in calls.items():
                if turns >= 3 and statistics.median(times[name]) > TURN:
                    continue
                time.sleep(PAUSE)
                call()
                start = before = time.perf_counter()
                while before - start < TURN:
                    call()
                    now = time.perf_counter()
                    times[name].append(now - before)
                    before = now
            turns, past = turns + 1, time.perf_counter() - began
            bar.update(min(int(past), bar.total) - bar.n)
    return {name: statistics.median(its) for name, its in times.items()}


def measure(rungs: dict[str, ModuleType], size: int, channels: int, seconds: float) -> dict[str, Any]:
    """Time the rungs: for each its time on the whole map, its speed, and the gains."""
    w = np.random.default_rng(1).standard_normal((3, 3, channels, channels), np.float32)
    gflop = 2e-9 * 9 * channels**2 * size**2
    calls, shares = {}, {}
    product, product_gflop = sgemm()
    calls["sgemm"] = product
    for number, rung in tqdm(rungs.items(), desc="compiling", leave=False):
        calls[number], shares[number] = prepare(rung.conv, size, w)
    if run := torch_conv(size, w):
        run()
        calls["torch"] = run
    t = take_turns(calls, seconds)
    blas = product_gflop / t["sgemm"]
    rows: list[dict[str, Any]] = []
    for number, rung in rungs.items():
        s = t[number] / shares[number]
        before, first = (rows[-1]["ms"], rows[0]["ms"]) if rows else (1e3 * s, 1e3 * s)
        name, idea = title(rung)
        rows.append({
            "rung": number, "name": name, "idea": idea, "ms": 1e3 * s, "gflops": gflop / s, "of_blas": gflop / s / blas,
            "over_previous": before / (1e3 * s), "over_first": first / (1e3 * s), "extrapolated": shares[number] < 1,
        })  # fmt: skip
    setting = f"{size}x{size} map, {channels} to {channels} channels, 3x3, float32"
    torch_ms = 1e3 * t["torch"] if "torch" in t else None
    return {"setting": setting, "gflop": gflop, "blas_gflops": blas, "torch_ms": torch_ms, "rungs": rows}


def table(result: dict[str, Any]) -> str:
    """The result, measured now or read from its file, as a Markdown table that also reads well in a terminal."""
    head = ("rung", "ms", "GFLOP/s", "of BLAS", "gain", "in all")
    lines = []
    for r in result["rungs"]:
        ms = ("~" if r["extrapolated"] else "") + figure(r["ms"])
        gains = f"{r['over_previous']:.1f}x", f"{r['over_first']:,.0f}x"
        lines.append((f"{r['rung']} {r['name']}", ms, figure(r["gflops"]), f"{100 * r['of_blas']:.3g} %", *gains))
    lines[0] = (*lines[0][:4], "", "")
    if result["torch_ms"]:
        speed = 1e3 * result["gflop"] / result["torch_ms"]
        share = f"{100 * speed / result['blas_gflops']:.3g} %"
        over = f"{result['rungs'][0]['ms'] / result['torch_ms']:,.0f}x"
        lines.append(("PyTorch, for comparison", figure(result["torch_ms"]), figure(speed), share, "", over))
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rows = [head, tuple("-" * n if i == 0 else "-" * (n - 1) + ":" for i, n in enumerate(widths)), *lines]
    text = "\n".join(
        "| " + " | ".join(f"{c:{'<' if i == 0 else '>'}{widths[i]}}" for i, c in enumerate(r)) + " |" for r in rows
    )
    blas = f"BLAS, on a large matrix product: {result['blas_gflops']:.0f} GFLOP/s"
    return f"{text}\n\n{result['setting']}; {blas}; medians in turns; {result.get('machine') or machine()}."


def figure(n: float) -> str:
    """Three digits of a number that may be small or large: 0.00612, 27.5, 49,300."""
    return f"{n:.3g}" if n < 1000 else f"{float(f'{n:.3g}'):,.0f}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rungs", nargs="*", metavar="RUNG", help="numbers of the rungs to measure, such as 06; default all")
    p.add_argument("--size", type=int, default=64, help="rows and columns of the map")
    p.add_argument("--channels", type=int, default=64, help="channels in and out")
    p.add_argument("--seconds", type=float, default=20, help="time for all measurements together")
    p.add_argument("--out", type=Path, help="folder for conv_ladder.json and .png (default bench/results and docs)")
    p.add_argument("--table", action="store_true", help=f"write the table into {PAGE}")
    args = p.parse_args()
    rungs = load_rungs()
    if unknown := sorted(set(args.rungs) - set(rungs)):
        p.error(f"there is no rung {unknown[0]}, only {min(rungs)} to {max(rungs)}")
    chosen = {number: rung for number, rung in rungs.items() if not args.rungs or number in args.rungs}
    result = measure(chosen, args.size, args.channels, args.seconds)
    text = table(result)
    print(text)
    if args.out or not args.rungs:  # a part of the ladder does not replace the whole one's results
        save("conv_ladder", result, args.out or RESULTS)
        draw(result, machine(), (args.out or ROOT / "docs") / "conv_ladder.png")
    if args.table:
        write_between("ladder", text, PAGE)


if __name__ == "__main__":
    main()
