"""Prediction by many processes: how much faster two workers are than one, and whether they take the memory that was told.

    python bench/scale_prediction.py                   16,384 x 16,384, 16 wide: about 8 minutes on two cores with AVX-512
    python bench/scale_prediction.py --size 4096       a sixteenth of that
    python bench/scale_prediction.py -m nuclei --instances --size 8192
    python bench/scale_prediction.py --table           write the table of what has been measured into docs/scale.md

Workers have one thread each. The time is that of the image, from its percentiles to the last file; to start the workers, and to
load the network and its kernels in them, takes `start` seconds more. The peak is the largest resident set of any worker.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from memory import GIB
from report import RESULTS, machine, write_between
from tiles import cells

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.models import UNetOptions, build
from minunet.predict import PredictionOptions, predict_files
from minunet.predict.distributed.cluster import joined
from minunet.predict.writers import new_zarr

PAGE, ROWS = "docs/scale.md", RESULTS / "scale_prediction.jsonl"
WARM = 1100  # pixels: the side of a first image, for which kernels are loaded
BAR = 1.7


def write_image(path: Path, side: int) -> None:
    """A grey OME-Zarr full of generated cells."""
    pixels = cells(side, side)
    with new_zarr(path, (side, side), pixels.dtype) as writer:
        for top in range(0, side, 1024):
            writer[slice(top, min(side, top + 1024)), slice(0, side)] = pixels[top : top + 1024]


def untrained(path: Path) -> str:
    """A checkpoint of a U-Net, 16 wide; what it finds does not matter."""
    model = build(UNetOptions(base_width=16, seed=0))
    model.preprocessing = Preprocessing(1, ClassMap.binary())
    save_checkpoint(path, model)
    return str(path)


def worker_peak() -> int:
    """The largest resident set of this process, in bytes."""
    import re
    from pathlib import Path

    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def measure(model: str, folder: Path, workers: int, options: PredictionOptions) -> dict[str, Any]:
    """Time and memory of the large image in a folder, with so many workers."""
    network, began = minunet.load(model), time.perf_counter()
    with joined(network, [model], workers=workers, device="cpu", threads=1) as cluster:
        predict_files(network, folder / "warm.zarr", folder / f"warm {workers}", options, by=cluster)
        start, began = time.perf_counter() - began, time.perf_counter()
        made = predict_files(network, folder / "large.zarr", folder / f"large {workers}", options, by=cluster)
        seconds = time.perf_counter() - began
        if made.failures:
            raise SystemExit(str(made.failures))
        peak = max(cluster.client.run(worker_peak).values())
        told = cluster.told
    return {"workers": workers, "seconds": round(seconds, 2), "start": round(start, 2),
            "peak_gib": round(peak / GIB, 3), "told_gib": round(told / GIB, 3)}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The last run of each image and network, as Markdown."""
    last = {(r["size"], r["network"], r["instances"]): r["run"] for r in rows}
    rows = [r for r in rows if r["run"] in last.values()]
    head = "| image | network | workers | seconds | times one | memory of a worker, GiB | told | machine, date |"
    lines = [head, "| --- " * 8 + "|"]
    for row in rows:
        one = next((r for r in rows if r["run"] == row["run"] and r["workers"] == 1), None)
        times = f"{one['seconds'] / row['seconds']:.2f}" if one else ""
        network = row["network"] + (", objects" if row["instances"] else "")
        lines.append(
            f"| {row['size']:,} x {row['size']:,} | {network} | {row['workers']} | {row['seconds']:.0f} | {times} | "
            f"{row['peak_gib']:.2f} | {row['told_gib']:.2f} ({100 * (row['told_gib'] / row['peak_gib'] - 1):+.0f} %) | "
            f"{row['machine']}, {row['date']} |"
        )
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", help="checkpoint; by default an untrained U-Net, 16 wide")
    p.add_argument("--size", type=int, default=16384, help="rows and columns of the image")
    p.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="how many, one run for each number")
    p.add_argument("--tile", type=int, help="side of the tiles")
    p.add_argument("--instances", action="store_true", help="its objects, too")
    p.add_argument("--no-record", action="store_true", help=f"do not add rows to {ROWS.name}")
    p.add_argument("--table", action="store_true", help=f"only write the table into {PAGE}")
    args = p.parse_args()
    if args.table:
        write_between("scale-prediction", table(list(map(json.loads, ROWS.read_text().splitlines()))), PAGE)
        return
    print(machine(), flush=True)
    run = time.strftime("%Y-%m-%dT%H:%M:%S")
    options = PredictionOptions(tile=args.tile, instances=args.instances, overlays=False)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "warm.zarr", WARM)
        write_image(folder / "large.zarr", args.size)
        model = args.model or untrained(folder / "network")
        for workers in args.workers:
            rows.append({
                "run": run, "date": date.today().isoformat(), "machine": machine(), "size": args.size,
                "network": args.model or "U-Net, 16 wide", "instances": args.instances,
                **measure(model, folder, workers, options),
            })  # fmt: skip
            print(rows[-1], flush=True)
            if not args.no_record:
                with open(ROWS, "a") as f:
                    f.write(json.dumps(rows[-1]) + "\n")
    if {1, 2} <= set(args.workers):
        times = rows[0]["seconds"] / rows[args.workers.index(2)]["seconds"]
        print(f"two workers: {times:.2f} times one; the bar is {BAR}: {'reached' if times >= BAR else 'missed'}")


if __name__ == "__main__":
    main()
