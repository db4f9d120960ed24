"""Segmenting by tiles: is it the same as the whole image, and what does an image of 16,384 x 16,384 pixels take?

python bench/tiles.py                          trains a small network on generated cells first (about a minute)
python bench/tiles.py -m best.safetensors      with a network for grey images
python bench/tiles.py --side 4096 --instances  a smaller image, and its objects

Every run is a process of its own, whose peak memory the system tells (the largest resident set). Time and memory are those of
the whole command, from the start of Python to the last file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from report import ROOT, machine

import minunet
from minunet.data import SyntheticCells
from minunet.models import build
from minunet.predict.inference import probabilities

SIZE = 3000, 2345  # where tiles are compared with the whole


def cells(height: int, width: int) -> np.ndarray:
    """A grey image full of generated cells: 64 pieces of 512 x 512 over and over, uint8."""
    pieces = [
        np.clip(s.image[..., 0] * 160 + 40, 0, 255).astype(np.uint8) for s in SyntheticCells(64, size=512, seed=5)
    ]
    image = np.empty((height, width), np.uint8)
    for i, r in enumerate(range(0, height, 512)):
        for j, c in enumerate(range(0, width, 512)):
            place = image[r : r + 512, c : c + 512]
            place[...] = pieces[(11 * i + j) % len(pieces)][: place.shape[0], : place.shape[1]]
    return image


def compare(path: str) -> None:
    """The largest difference of the probabilities, for the network and for one with unpadded convolutions."""
    image = cells(*SIZE)
    same = minunet.load(path)
    unpadded = build(replace(same.architecture, padding="valid"))  # with the weights of the other
    unpadded.load_state(same.state())
    unpadded.preprocessing = same.preprocessing
    for name, model in (("same", same), ("valid", unpadded)):
        whole = probabilities(model, image, tile=0)
        apart = abs(probabilities(model, image, tile=512) - whole)
        print(f"{name:<6} {SIZE[0]} x {SIZE[1]}, tiles of 512: probabilities differ by at most {apart.max():.1e}, "
              f"on the mean by {apart.mean():.1e}; their spread is {whole[..., 1].std():.2f}", flush=True)  # fmt: skip


def measure(name: str, *command: str) -> None:
    """Run a command; print its time and its peak memory."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "minunet.predict", *command], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds, peak = time.perf_counter() - began, usage.ru_maxrss * 1024
    print(f"{name}: {seconds:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of processor time), peak {peak / 1e9:.2f} GB, "
          f"status {os.waitstatus_to_exitcode(status)}", flush=True)  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", help="checkpoint")
    p.add_argument("--side", type=int, default=16384, help="of the large image")
    p.add_argument("--no-compare", action="store_true", help="only the large image")
    p.add_argument("--instances", action="store_true", help="its objects, too")
    args = p.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if not args.model:
            run = [sys.executable, "-m", "minunet.train", "-e", "2", "--out", f"{folder}/run"]
            subprocess.run(run, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
            args.model = f"{folder}/run/best.safetensors"
        if not args.no_compare:
            compare(args.model)
        image = cells(args.side, args.side)
        path = Path(folder) / "large.tif"
        tifffile.imwrite(path, image, tile=(512, 512), compression="zlib")
        del image
        flags = ["-m", args.model, "-i", str(path), "-o", f"{folder}/out"]
        size = f"{args.side} x {args.side}"
        measure(f"{size} to a mask", *flags)
        if args.instances:
            measure(f"{size} to a mask and objects", *flags, "--instances")


if __name__ == "__main__":
    main()
