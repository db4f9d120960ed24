"""What was measured: rows in a file, merged with those of an earlier run and completed by what follows from them.

A row is a contestant at a size, doing inference or training. Rows are comparable only on one machine, in one setting and with
the same versions of all libraries; a file holds the rows of one such combination.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import platform
import subprocess
import sys
from datetime import date
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from memory import MIB
from peers import CHANNELS, FAMILIES, Setting, family, network
from report import machine
from talk import WHATS, published_rows

import minunet
from minunet.atomic import write_atomically
from minunet.kernels.gpu import GpuStatus
from minunet.models.summary import Summary

Row = dict[str, Any]

COLUMNS = (
    "size", "what", "who", "seconds", "turns", "gflop_per_s", "times_ours",
    "peak_mib", "base_mib", "context_mib", "predicted_mib", "error_percent", "date",
)  # fmt: skip
"""`turns` is 0 for a layout of PyTorch that was left out as the slower one (`seconds` is then its best in the warm-up) and None
for what others published; `times_ours` is `seconds` by minunet's; `base_mib` the process before anything is built (0 on a GPU,
where the peak is that of the arrays, and `context_mib` what the GPU's context takes beside); `predicted_mib` the arrays as
`minunet.summary` has them, and `error_percent` how far predicted and base together are above the measured peak."""


def merge(earlier: list[Row], later: list[Row]) -> list[Row]:
    """All rows of both, but of a size and task that the later run has measured only the later rows."""
    anew = {(row["size"], row["what"]) for row in later}
    return [row for row in earlier if (row["size"], row["what"]) not in anew] + later


def better(rows: list[Row], size: int, what: str, name: str, key: str) -> float | None:
    """A contestant's value at a size: of PyTorch's layouts the lesser, unless it was left out; None if there is none."""
    found = [row for row in rows if (row["size"], row["what"], family(row["who"])) == (size, what, name)]
    found = [row for row in found if row.get("turns") != 0] or found
    return min((row[key] for row in found if row.get(key) is not None), default=None)


class Record:
    """The rows of a setting, in DIR/published_DEVICE.json and .csv; in mixed precision in published_DEVICE_fp16.json."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.path = folder / f"{'_'.join(['published', setting.device, *filter(None, [setting.amp])])}.json"
        self.head = {"machine": describe_machine(setting), "setting": setting.as_dict(), "versions": versions()}
        self.earlier: list[Row] = []
        self.measured: list[Row] = []
        self.stranger = False  # whether the file holds the rows of another combination
        if self.path.exists():
            held = json.loads(self.path.read_text())
            self.stranger = any(held[key] != value for key, value in self.head.items())
            self.earlier = [] if self.stranger else [row for row in held["rows"] if row["who"] != "published"]
        self._summaries: dict[int, Summary] = {}

    @functools.cached_property
    def _network(self) -> Any:
        return network(self.setting)

    def summary(self, size: int) -> Summary:
        """The costs of an image."""
        if size not in self._summaries:
            shape = (self.setting.batch, size, size, CHANNELS)
            self._summaries[size] = minunet.summary(self._network, shape)
        return self._summaries[size]

    def arrays(self, size: int, what: str) -> int:
        """Predicted bytes of the arrays at the worst moment."""
        costs = self.summary(size)
        return costs.inference_peak if what == "inference" else costs.training_peak(1)

    def flops(self, size: int, what: str) -> int:
        """Operations of direct convolution: those of an inference, and three times as many for a training step."""
        return self.summary(size).flops * (1 if what == "inference" else 3)

    def put(self, size: int, what: str, who: str, **values: Any) -> None:
        """Note values of a row, as they will be written: what follows from them does so after reading, too."""
        values = {name: tidy(value) for name, value in values.items()}
        key = {"size": size, "what": what, "who": who}
        for row in self.measured:
            if key.items() <= row.items():
                row.update(values)
                return
        self.measured.append({**key, "date": date.today().isoformat(), **values})

    def forget(self, size: int, what: str) -> None:
        """Drop what this run has of a case that it has not finished: then what an earlier one has measured stays."""
        self.measured = [row for row in self.measured if (row["size"], row["what"]) != (size, what)]

    def rows(self) -> list[Row]:
        """All rows, this run's and earlier ones, completed and in order; the published ones if they are of this setting."""
        rows = merge(self.earlier, self.measured)
        if (self.setting.base_width, self.setting.batch) == (64, 1):
            rows = rows + published_rows(self.setting.device)
        order = {who: i for i, who in enumerate(FAMILIES)}
        rows.sort(key=lambda row: (row["size"], WHATS.index(row["what"]), order[family(row["who"])], row["who"]))
        return [{name: tidy(self._complete(row, rows).get(name)) for name in COLUMNS} for row in rows]

    def _complete(self, row: Row, rows: list[Row]) -> Row:
        """A row with what follows from it."""
        row, size, what = dict(row), row["size"], row["what"]
        if row.get("seconds"):
            ours = better(rows, size, what, "minunet", "seconds")
            row["gflop_per_s"] = self.flops(size, what) / row["seconds"] / 1e9
            row["times_ours"] = row["seconds"] / ours if ours else None
        if row["who"] == "minunet" and row.get("peak_mib") and not self.setting.amp:
            row["predicted_mib"] = self.arrays(size, what) / MIB
            row["error_percent"] = 100 * ((row["predicted_mib"] + row["base_mib"]) / row["peak_mib"] - 1)
        return row

    def aside(self) -> Path:
        """A free name for the file of another combination."""
        names = (self.path.with_name(f"{self.path.stem}_{i}.json") for i in count(1))
        return next(path for path in names if not path.exists())

    def save(self) -> None:
        """Write both files, if this run has measured anything; the file of another combination is kept beside."""
        if not self.measured:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.stranger:
            self.path.replace(self.aside())
            self.stranger = False
        rows = self.rows()
        whole = {**self.head, "model_mib": tidy(self.summary(rows[0]["size"]).weight_bytes / MIB), "rows": rows}
        write_atomically(self.path, (json.dumps(whole, indent=1) + "\n").encode())
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path.with_suffix(".csv"), table.getvalue().encode())


def tidy(value: Any) -> Any:
    """Six digits of a float say more than any measurement knows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def describe_machine(s: Setting) -> str:
    """The processor, or the GPU and the processor beside it."""
    return f"{gpu_apart().reason}, {machine()}" if s.device == "cuda" else machine()


@functools.cache
def gpu_apart() -> GpuStatus:
    """`minunet.gpu_status()`, asked in another process: this one holds no context, which would count as contestants' memory."""
    ask = "import minunet; found = minunet.gpu_status(); print(int(found.usable), found.reason)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    if done.returncode:
        return GpuStatus(False, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    usable, _, reason = done.stdout.strip().partition(" ")
    return GpuStatus(usable == "1", reason)


def versions() -> dict[str, str]:
    """Versions of all that could matter, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in ("minunet", "numpy", "numba", "torch", "openvino", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
