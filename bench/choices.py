"""Does the rule choose the faster algorithm? Direct and Winograd's convolution over a grid of shapes.

    python bench/choices.py [--seconds 0.3] [--cpu] [--table]

For each 3x3 convolution of the grid, and for both of its kinds of passes (to a map: forward and data gradient; to the filters:
the weight gradient):

    time all candidates, in turns; the least time counts
    loss = time of the one that `conv.winograd_pays` chooses / least time of all - 1

and prints the shapes where the choice loses more than 5 %. The grid has few and odd numbers of channels, where the two
are close. The input comes with a norm and a ReLU still to be applied, the gradient with a norm's backward, as in a network.
--cpu counts processor time, for a machine that does other things too (on one thread: NUMBA_NUM_THREADS=1); --table writes the
figures into bench/results/choices.json and docs/speed.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import machine, save, write_between
from tqdm import tqdm

from minunet.kernels.cpu import conv, direct_pieces, winograd
from minunet.kernels.cpu.direct import ConvGeometry, by_group
from minunet.kernels.cpu.epilogues import Output
from minunet.kernels.cpu.lazy_maps import LazyAffine, NormGradient

CHANNELS = (
    (3, 16), (4, 8), (8, 8), (8, 16), (16, 8), (12, 12), (16, 16), (16, 24), (24, 24), (24, 16), (32, 16), (16, 32), (32, 32),
    (48, 48), (64, 64),
)  # fmt: skip
MAPS = ((8, 128), (1, 128), (8, 16), (1, 8))
"""Images and their side."""
TOLERATED = 0.05
Candidates = dict[str, Callable[[], Any]]


def candidates(s: ConvGeometry) -> dict[str, Candidates]:
    """Of each pass, the functions that can do it."""
    rng = np.random.default_rng(0)
    raw, dy, beside = (
        rng.standard_normal(shape, np.float32)
        for shape in ((s.N, s.H, s.W, s.C), (s.N, s.OH, s.OW, s.K), (s.N, s.OH, s.OW, s.K))
    )
    ones, many = np.ones((3, s.C), np.float32), np.ones((3, s.K), np.float32)
    x, w = LazyAffine(raw, ones, relu=True), rng.standard_normal((3, 3, s.C, s.K), np.float32)
    gradient, y = NormGradient(dy, beside, many), np.empty_like(dy)
    return {
        "to a map": {
            "direct": lambda: direct_pieces.convolution(x, w, lambda w: by_group(w, 1), None, y, s),
            "Winograd": lambda: winograd.convolution(x, w, None, [Output(y)], s.top, s.left),
        },
        "to the filters": {
            "direct": lambda: direct_pieces.weight_gradient(x, gradient, s),
            "Winograd": lambda: winograd.weight_gradient(x, gradient, s.top, s.left),
        },
    }


def least(calls: Candidates, seconds: float, clock: Callable[[], float]) -> dict[str, float]:
    """Least milliseconds of each, in turns, three at least after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end, turn = time.perf_counter() + seconds, 0
    while turn < 4 or time.perf_counter() < end:
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                times[name].append(1e3 * (clock() - start))
        turn += 1
    return {name: min(taken) for name, taken in times.items()}


def measure(seconds: float, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """A row for every shape and pass."""
    rows = []
    for (N, H), (C, K) in tqdm([(m, c) for m in MAPS for c in CHANNELS], leave=False):
        s = ConvGeometry(N, H, H, C, H, H, K, 3, 3, 1, 1, 1, 1, 1)
        for name, calls in candidates(s).items():
            pays = conv.winograd_pays(s, np.dtype(np.float32), weights=name == "to the filters")
            chosen = "Winograd" if pays else "direct"
            ms = least(calls, seconds, clock)
            loss = ms[chosen] / min(ms.values()) - 1
            rows.append({"map": (N, H, H), "C": C, "K": K, "pass": name, "ms": ms, "chosen": chosen, "loss": loss})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The shapes where the choice loses more than is tolerated, as Markdown."""
    bad = sorted((row for row in rows if row["loss"] > TOLERATED), key=lambda row: -row["loss"])
    good = f"{len(rows) - len(bad)}"
    lines = [f"Of {len(rows)} passes the choice is the faster one, or within {100 * TOLERATED:.0f} % of it, in {good}."]
    if bad:
        lines += ["", "| map | channels | pass | direct | Winograd | chosen | loss |", "|" + " --- |" * 7]
    for row in bad:
        ms = row["ms"]
        lines.append(
            f"| {'x'.join(map(str, row['map']))} | {row['C']} to {row['K']} | {row['pass']} | {ms['direct']:.3g} ms | "
            f"{ms['Winograd']:.3g} ms | {row['chosen']} | {100 * row['loss']:.0f} % |"
        )
    return "\n".join([*lines, "", f"Least times; {machine()}."])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=0.3, help="time for each pass of each shape")
    p.add_argument("--cpu", action="store_true", help="count processor time")
    p.add_argument("--table", action="store_true", help="write bench/results/choices.json and docs/speed.md")
    args = p.parse_args()
    rows = measure(args.seconds, time.process_time if args.cpu else time.perf_counter)
    text = table(rows) + (" Processor time." if args.cpu else "")
    print(text)
    if args.table:
        save("choices", {"rows": rows, "processor time": args.cpu})
        write_between("choices", text, "docs/speed.md")


if __name__ == "__main__":
    main()
