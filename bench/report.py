"""What the benches share: the machine in words, and writing results into files and texts."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Any

from minunet.kernels.threads import own_cores

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"


def machine() -> str:
    """Processor, cores that may be used, and vector instructions: "Intel Xeon, 2 cores, AVX-512"."""
    name, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        found = re.search(r"model name\s*: (.*)", text)
        name = re.sub(r"\((R|TM)\)| Processor| CPU", "", found[1]).strip() if found else name
        flags = next((v for f, v in (("avx512f", ", AVX-512"), ("avx2", ", AVX2")) if f in text), "")
    cores = len(own_cores())
    return f"{name}, {cores} core{'s' * (cores != 1)}{flags}"


def save(name: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write a result with the machine's description to bench/results/NAME.json, or into another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")


def write_between(marker: str, text: str, file: str) -> None:
    """Replace what stands in a text of the repository between <!-- MARKER --> and <!-- /MARKER -->."""
    path = ROOT / file
    before = path.read_text()
    pattern = rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)"
    if not re.search(pattern, before, re.S):
        raise SystemExit(f"{file} has no <!-- {marker} --> ... <!-- /{marker} -->")
    path.write_text(re.sub(pattern, lambda m: m[1] + text.rstrip() + "\n" + m[2], before, flags=re.S))
