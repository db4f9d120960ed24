"""The table of a talk on U-Net measured again: time and memory of minunet, and of its peers, beside the published ones.

Time: all contestants in one process, in turns, so that whatever else the machine does meets them alike; medians. Memory: the
peak of a process that does nothing else. What is measured is kept in DIR/published_DEVICE.json and .csv after every size, and
joined with what an earlier run on this machine and in this setting has measured; Ctrl-C loses nothing but the case at hand.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from child import MEMORY_STEPS, WARM_UP, attend
from memory import MIB, free, in_words
from peers import FAMILIES, NEEDS, PEERS, Setting, can, family
from plots import draw
from record import Record, gpu_apart
from report import RESULTS, ROOT, write_between
from tables import caption, for_page, in_seconds, memory_table, prediction_table, sizes_of, time_table
from talk import SECONDS, WHATS
from tqdm import tqdm

from minunet.cli import HelpFormatter, number, run
from minunet.errors import UserError
from minunet.train.amp import KINDS

EXAMPLES = """
examples:
  python bench/published.py --peer torch --peer openvino             the CPU's five sizes, beside both
  python bench/published.py --peer torch --sizes 256 512             two of them, a few minutes
  python bench/published.py --device cuda --peer graph --peer torch  a GPU, replayed as a CUDA graph beside plainly
  python bench/published.py --sizes --table                          measure nothing: write the page from what there is
"""


class Bench:
    """Measures a setting's cases one after the other, with a bar that knows what is still to come.

    Parameters
    ----------
    record : Record
        Where results go.
    whos : list of str
        The contestants.
    repeats, seconds : int, float
        Most turns of a case, and the time after which fewer do.
    """

    def __init__(self, record: Record, whos: list[str], repeats: int, seconds: float) -> None:
        self.record, self.setting, self.whos = record, record.setting, whos
        self.repeats, self.seconds = repeats, seconds
        self.base: dict[str, int] = {}  # bytes of a process without arrays, or of the GPU's context
        self.free: int | None = None
        self.later = 0.0  # work of the cases to come

    def run(self, sizes: list[int]) -> None:
        """Measure all sizes, the small ones first."""
        cases = [(size, what) for size in sorted(sizes) for what in WHATS]
        self.later = sum(self.work(size, what) for size, what in cases)
        bar_format = "{l_bar}{bar}| {elapsed}, {remaining} left"
        every_call = {"miniters": 0, "mininterval": 0}
        with tqdm(total=self.later, bar_format=bar_format, smoothing=0.05, leave=False, **every_call) as self.bar:
            self.prepare()
            for size, what in cases:
                self.later -= self.work(size, what)
                self.bar.set_description(f"{size}x{size} {what}")
                try:
                    if self.fits(size, what):
                        self.time(size, what)
                        self.memory(size, what)
                except KeyboardInterrupt:
                    self.record.forget(size, what)
                    raise
                finally:
                    self.record.save()

    def prepare(self) -> None:
        """Compile our kernels, and measure the processes without arrays."""
        self.bar.set_description("compiling kernels")
        why = attend("warm_up", self.setting, lambda message: None)
        if why:
            self.tell(f"warm-up: {why}")
        self.bar.set_description("empty processes")
        for name in self.families(self.whos) if self.setting.device == "cpu" else ["minunet"]:
            found: dict[str, int] = {}
            attend("base", self.setting, found.update, who=name)
            self.base[name], self.free = found.get("peak", 0), found.get("free")

    def time(self, size: int, what: str) -> None:
        """Time the contestants of a case in turns.

        On a GPU who reads where nothing is takes the others along, as nothing works in its process any more: then they start
        again without the first one that was lost.
        """
        whos = [who for who in self.whos if can(who, self.setting, what)]
        lost, broken = self.take_turns(size, what, whos)
        while self.setting.device == "cuda" and lost and (len(lost) > 1 or broken) and len(whos) > 1:
            whos.remove(lost[0])
            lost, broken = self.take_turns(size, what, whos)

    def take_turns(self, size: int, what: str, whos: list[str]) -> tuple[list[str], bool]:
        """Time these contestants; returns those that were lost, in order, and whether their process broke off."""
        lost: list[str] = []
        tried: dict[str, list[float]] = {who: [] for who in whos}
        counted: dict[str, list[float]] = {who: [] for who in whos}
        dropped: list[str] = []

        def hear(m: dict[str, Any]) -> None:
            if "lost" in m:
                lost.append(m["lost"])
                self.tell(f"{size}x{size} {what}: {m['lost']} left out: {m['reason']}")
            elif "dropped" in m:
                dropped.append(m["dropped"])
            elif "ready" in m:
                self.begin()
            else:
                tried[m["who"]].append(m["seconds"])
                if m["counts"]:
                    counted[m["who"]].append(m["seconds"])
                after = MEMORY_STEPS * len(self.families(whos))
                self.advance(size, what, m["left"] + after)

        given = {"size": size, "what": what, "whos": whos, "repeats": self.repeats, "seconds": self.seconds}
        try:
            why = attend("time", self.setting, hear, **given)
            if why:
                self.tell(f"{size}x{size} {what} not timed to the end: {why}")
        finally:
            timed = {who: times for who, times in counted.items() if times}
            for who, times in timed.items():
                self.record.put(size, what, who, seconds=statistics.median(times), turns=len(times))
            for who in dropped if timed else []:  # the slower layout: what it took in the warm-up
                if who not in timed:
                    self.record.put(size, what, who, seconds=min(tried[who]), turns=0)
        said = [f"{who} {in_seconds(statistics.median(times))}" for who, times in timed.items()]
        self.tell(f"{size}x{size} {what}: {', '.join(said) or 'nothing timed'}")
        return lost, bool(why)

    def memory(self, size: int, what: str) -> None:
        """The peak of each contestant that was timed, of PyTorch's layouts the faster one."""
        rows = [row for row in self.record.measured if (row["size"], row["what"]) == (size, what)]
        rows.sort(key=lambda row: (row["turns"] > 0, -row["seconds"]))  # of a family's rows the last counts
        timed = {family(row["who"]): row["who"] for row in rows}
        for i, (name, who) in enumerate(timed.items()):
            after = MEMORY_STEPS * (len(timed) - 1 - i)

            def hear(m: dict[str, Any], name: str = name, who: str = who, after: int = after) -> None:
                if "peak" in m:
                    self.record.put(size, what, who, peak_mib=m["peak"] / MIB, **self.beside(name))
                elif "ready" in m:
                    self.begin()
                else:
                    self.advance(size, what, m["left"] + after)

            why = attend("memory", self.setting, hear, size=size, what=what, who=who)
            if why:
                self.tell(f"{size}x{size} {what}: memory of {who} not measured: {why}")

    def beside(self, name: str) -> dict[str, float]:
        """What is not arrays: a process's peak has its base in it, that of a GPU's arrays has not the context."""
        if self.setting.device == "cpu":
            return {"base_mib": self.base[name] / MIB}
        return {"base_mib": 0.0, "context_mib": self.base["minunet"] / MIB}

    # ---- what is to come ---------------------------------------------------------------------------------------------

    def families(self, whos: list[str]) -> list[str]:
        """Contestants whose memory is measured: PyTorch's layouts are one."""
        return list(dict.fromkeys(map(family, whos)))

    def fits(self, size: int, what: str) -> bool:
        """Whether a case fits in memory, by our own prediction; if not, say so."""
        there = free() if self.setting.device == "cpu" else self.free
        others = len([who for who in self.whos if can(who, self.setting, what)]) - 1
        weights = self.record.summary(size).weight_bytes
        arrays = self.record.arrays(size, what)
        if self.setting.device == "cuda":  # whose libraries keep what they have had; PyTorch has up to twice as much
            between = 2 * arrays
        else:
            between = arrays if what == "inference" else 3 * weights
        need = arrays + others * between + sum(self.base.values())
        if there is None or need < there:
            return True
        self.tell(
            f"{size}x{size} {what} skipped: it needs about {in_words(need / MIB)}, {in_words(there / MIB)} are free"
        )
        return False

    def work(self, size: int, what: str) -> float:
        """Operations of all calls of a case, if none drops out."""
        whos = [who for who in self.whos if can(who, self.setting, what)]
        calls = (WARM_UP + self.repeats) * len(whos) + MEMORY_STEPS * len(self.families(whos))
        return calls * self.record.flops(size, what)

    def begin(self) -> None:
        """A process has started: how long that took, or compiling before it, tells nothing of the calls to come."""
        self.bar.last_print_t = time.time()  # from where the bar reckons its rate

    def advance(self, size: int, what: str, left: int) -> None:
        """One call is done; so many of this case are left."""
        self.bar.update(self.record.flops(size, what))
        self.bar.total = self.bar.n + left * self.record.flops(size, what) + self.later

    def tell(self, line: str) -> None:
        """A line above the bar."""
        self.bar.write(line)


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(
        prog="python bench/published.py", description=__doc__, formatter_class=HelpFormatter, epilog=EXAMPLES
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    p.add_argument("--sizes", type=number(int, 16), nargs="*", metavar="N", help="rows and columns of the image (default: "
                   "the published sizes; without a number nothing is measured)")  # fmt: skip
    p.add_argument("--peer", choices=list(PEERS), action="append", default=[], help="measure it too; may be repeated")
    p.add_argument("--repeats", type=number(int, 1), default=9, metavar="N", help="most turns that count")
    p.add_argument("--seconds", type=number(float, 0), default=60.0, metavar="S", help="time for a case's turns, after "
                   "which fewer do, three at least")  # fmt: skip
    p.add_argument("--base-width", type=number(int, 1), default=64, metavar="N", help="channels of the first level")
    p.add_argument("--batch", type=number(int, 1), default=1, metavar="N", help="images at a time")
    p.add_argument("--amp", choices=KINDS, help="mixed precision, on a GPU")
    p.add_argument("--norm", choices=["batch", "none"], default="batch", help="normalisation after convolutions")
    p.add_argument("--threads", type=number(int, 1), default=cores, metavar="N", help="threads of each contestant")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    p.add_argument(
        "--table", action="store_true", help="write the tables and the picture into docs/speed.md or docs/gpu.md"
    )
    return p


def setting_of(args: argparse.Namespace) -> Setting:
    """What the flags say of the setting; UserError if it cannot be."""
    if args.amp and args.device == "cpu":
        raise UserError("--amp is for --device cuda: on the CPU everything is computed in float32")
    norm = None if args.norm == "none" else args.norm
    return Setting(args.device, args.base_width, args.batch, norm, args.threads, args.amp)


def contestants(peers: list[str]) -> list[str]:
    """minunet and those peers that are installed; of each other one a line that says what to install."""
    whos = ["minunet"]
    for peer in dict.fromkeys(peers):
        missing = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
        if missing:
            print(f"--peer {peer} left out: not installed: pip install {' '.join(missing)}")
        else:
            whos += PEERS[peer]
    return sorted(whos, key=lambda who: list(FAMILIES).index(family(who)) - len(FAMILIES) * (who == "minunet"))


def present(record: Record, page: bool) -> None:
    """Print the tables and draw the picture; if asked, put both into their page."""
    rows = record.rows()
    if not any(row["who"] == "minunet" and row["turns"] for row in rows):
        print("nothing was measured")
        return
    machine = record.head["machine"]
    about = record.setting, machine, record.summary(rows[0]["size"]).weight_bytes / MIB
    parts = [time_table(rows, what) for what in WHATS if sizes_of(rows, what)]
    parts += [memory_table(rows), prediction_table(rows), caption(rows, *about)]
    print("\n" + "\n\n".join(part for part in parts if part))
    draw(record.path.with_suffix(".png"), rows, record.setting, machine)
    if page:
        name = record.path.stem
        marker = "published" if name == "published_cpu" else name.replace("_", "-")
        draw(ROOT / "docs" / f"{name}.png", rows, record.setting, machine)
        text = for_page(rows, *about, f"{name}.png")
        write_between(marker, text, f"docs/{'speed' if record.setting.device == 'cpu' else 'gpu'}.md")


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with Ctrl-C ignored
    args = make_parser().parse_args()
    if args.device == "cuda" and not gpu_apart():
        raise UserError(f"--device cuda: {gpu_apart().reason}")
    setting = setting_of(args)
    record = Record(args.out, setting)
    sizes = list(SECONDS[args.device]["inference"]) if args.sizes is None else args.sizes
    bench = Bench(record, contestants(args.peer), args.repeats, args.seconds)
    if record.stranger and sizes:
        print(f"{record.path} is of another machine or setting: it will be kept as {record.aside().name}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 and sizes:
        print(f"other programs are running (load {load:.1f}): times will be longer, and ratios less sure")
    status = 0
    try:
        if sizes:
            bench.run(sorted(set(sizes)))
    except KeyboardInterrupt:
        print("interrupted: what was measured is kept")
        status = 130
    present(record, args.table)
    return status


if __name__ == "__main__":
    raise SystemExit(run(main))
