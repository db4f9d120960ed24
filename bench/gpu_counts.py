"""Count what a training step starts on a GPU, and the memory that it takes at most; write the table into docs/gpu.md.

    python bench/gpu_counts.py

No GPU is needed: the step runs on the tests' stand-in for CuPy, without its kernels.
"""

from __future__ import annotations

import argparse
import sys

import pytest
from report import ROOT, write_between
from talk import GIBIBYTES

sys.path.insert(0, str(ROOT / "tests"))
from helpers import pretend_cupy
from helpers.gpu_counts import counts

FIRST = {"optimizer": "sgd", "loss": "ce"}
CASES = [
    ("the default: 16 channels, 8 patches, Adam, ce+dice", 128, {"batch": 8, "base_width": 16}),
    ("64 channels, 1 image, SGD, ce", 64, FIRST),
    ("the same", 256, FIRST),
    ("with `--clip`", 256, FIRST | {"clip": 1.0}),
    ("with `--amp fp16`", 256, FIRST | {"amp": "fp16"}),
    ("without either", 512, FIRST),
]
HEAD = """\
Starts of a training step, those of CuPy's own kernels among them, and the most memory that it takes in GiB (parameters and the
optimiser's state included, CUDA's own share not), **counted and not measured**, by `bench/gpu_counts.py`.

| step | image | starts | CuPy's own | memory | published |
| :-- | --: | --: | --: | --: | --: |
"""
TAIL = """
Parameters are updated by one start of a kernel, or by four or five of it during the backward where that lets gradients go
early, so that their memory serves again. With `--clip` and `--amp` all gradients must be known before the first parameter
changes. That costs up to 4 bytes for each parameter, 118 MiB of the network with 64 channels, but only where images are so
small that gradients are most of the memory: hence the figure of `--clip` at 256. `--amp` has maps of half the size, and keeps
the weights a second time, in halves, but a layer's only until its gradients are there.
"""


def rows(few: bool = False) -> list[str]:
    """The table's rows; with `few` the first two."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        gpu = pretend_cupy.install(patch, kernels=True)
        for what, size, options in CASES[: 2 if few else None]:
            counted = counts(gpu, size, **options)
            known = GIBIBYTES["cuda"]["training"].get(size) if options.get("base_width", 64) == 64 else None
            numbers = f"{counted.total} | {counted.of_cupy} | {counted.most / 2**30:.3f}"
            found.append(f"| {what} | {size} | {numbers} | {known or ''} |")
    return found


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    text = HEAD + "\n".join(rows()) + "\n" + TAIL
    print(text)
    write_between("counts", text, "docs/gpu.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
