"""The results as Markdown, for the terminal and for pages of docs."""

from __future__ import annotations

from memory import in_words
from peers import FAMILIES, Setting
from record import Row, better
from talk import WHATS

TITLES = {"inference": "inference", "training": "training step"}


def in_seconds(t: float) -> str:
    """Three digits: 24.6 ms, 0.246 s, 93.9 s, 312 s."""
    if t < 0.1:
        return f"{1000 * t:#.3g} ms"
    return f"{t:.0f} s" if t >= 100 else f"{t:#.3g} s"


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sizes_of(rows: list[Row], what: str) -> list[int]:
    """All sizes of a task, published ones too."""
    return sorted({row["size"] for row in rows if row["what"] == what})


def time_table(rows: list[Row], what: str) -> str:
    """A row a size, a column a contestant; in brackets how many times our time it is."""
    sizes = sizes_of(rows, what)
    names = [name for name in FAMILIES if any(better(rows, size, what, name, "seconds") for size in sizes)]
    names.sort(key=lambda name: name == "minunet")  # ours last, beside its arithmetic
    body = []
    for size in sizes:
        ours = better(rows, size, what, "minunet", "seconds")
        cells = [f"{size}x{size}"]
        for name in names:
            t = better(rows, size, what, name, "seconds")
            ratio = f" ({t / ours:.{1 if t > 10 * ours else 2}f})" if t and ours and name != "minunet" else ""
            cells.append(f"{in_seconds(t)}{ratio}" if t else "")
        rate = better(rows, size, what, "minunet", "gflop_per_s")
        body.append([*cells, f"{rate:.0f}" if rate else ""])
    return table([TITLES[what], *names, "GFLOP/s"], body)


def memory_table(rows: list[Row]) -> str:
    """A row a size; for either task a column a contestant. Empty if nothing was measured."""
    columns = [
        (what, name)
        for what in WHATS
        for name in FAMILIES
        if any(better(rows, size, what, name, "peak_mib") for size in sizes_of(rows, what))
    ]
    body = []
    for size in sorted({row["size"] for row in rows if row["peak_mib"]}):
        peaks = [better(rows, size, what, name, "peak_mib") for what, name in columns]
        body.append([f"{size}x{size}", *(in_words(peak) if peak else "" for peak in peaks)])
    return table(["peak memory", *(f"{what}, {name}" for what, name in columns)], body) if body else ""


def prediction_table(rows: list[Row]) -> str:
    """Our arrays as `minunet.summary` predicts them, and the process without them, beside what was measured."""
    body = [
        [
            f"{row['size']}x{row['size']}, {TITLES[row['what']]}",
            f"{in_words(row['predicted_mib'])} + {in_words(row['base_mib'])}",
            in_words(row["predicted_mib"] + row["base_mib"]),
            in_words(row["peak_mib"]),
            f"{row['error_percent']:+.0f} %",
        ]
        for row in rows
        if row["predicted_mib"]
    ]
    return (
        table(["minunet", "arrays predicted + base measured", "together", "peak measured", "error"], body)
        if body
        else ""
    )


def caption(rows: list[Row], setting: Setting, machine: str, model_mib: float) -> str:
    """What the figures are of."""
    turns = [row["turns"] for row in rows if row["who"] == "minunet" and row["turns"]]
    number = f"{min(turns)}" if min(turns) == max(turns) else f"{min(turns)} to {max(turns)}"
    context = max((row["context_mib"] or 0 for row in rows), default=0)
    memory = (
        "of a process" if setting.device == "cpu" else f"of arrays on the GPU, beside {in_words(context)} of context"
    )
    parts = [
        f"{setting.describe()}; medians of {number} alternating turns, in brackets how many times minunet's time",
        "GFLOP/s count the operations of direct convolution, minunet's",
        f"peak memory is that {memory}; the model takes {model_mib:.1f} MiB of it",
    ]
    if any(row["who"] == "published" for row in rows):
        parts.append("*published*: a talk on U-Net of 14 December 2023, its hardware and framework not stated")
    if any(row["who"].startswith("PyTorch ") for row in rows):
        parts.append("*PyTorch*: the better of its two memory layouts")
    return "; ".join([*parts, machine]) + "."


def for_page(rows: list[Row], setting: Setting, machine: str, model_mib: float, picture: str) -> str:
    """What stands in docs/speed.md or docs/gpu.md: the picture, the tables, what they are of."""
    parts = [f"![Time and memory against the size of the image]({picture})"]
    parts += [time_table(rows, what) for what in WHATS if sizes_of(rows, what)]
    parts += [memory_table(rows), caption(rows, setting, machine, model_mib)]
    return "\n\n".join(part for part in parts if part)
