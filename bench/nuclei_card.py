"""The card of the nuclei network: its scores by kind of image, in short beside its weights, and as a page with pictures."""

from __future__ import annotations

import csv
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import RESULTS, machine

from minunet.nn import Module

Row = dict[str, Any]
TITLES = {
    "all": "all",
    "fluorescence": "fluorescence",
    "stained_tissue": "purple-stained tissue",
    "brightfield": "brightfield",
}
PEERS = RESULTS / "nuclei_peers.jsonl"  # written by peers_accuracy.py
BARS = {("mean_precision", "all"): 0.60, ("mean_precision", "fluorescence"): 0.65, ("precision_50", "all"): 0.82,
        ("precision_50", "fluorescence"): 0.88}  # fmt: skip


def by_kind(rows: list[Row]) -> dict[str, Row]:
    """Means over the images, and sums of the counts, of all and of every kind."""
    found = {}
    for kind in TITLES:
        own = [r for r in rows if kind in ("all", r["kind"])]
        if own:
            means = {m: statistics.fmean(r[m] for r in own) for m in ("precision_50", "mean_precision")}
            sums = {s: sum(r[s] for r in own) for s in ("objects", "merged", "in_merged", "split")}
            found[kind] = {"images": len(own), **means, **sums}
    return found


def table(scores: dict[str, Row], name: str = "", peers: Sequence[Row] = ()) -> str:
    """Markdown; with the scores of peers, rows of nuclei_peers.jsonl, under those of the network of this name."""
    networks = [(name, scores), *((titled(peer), peer) for peer in peers)]
    columns = ["kind of image", *["network"] * bool(peers), "images", "nuclei"]
    columns += ["precision, mean of IoU 0.5 to 0.95", "at IoU 0.5", "nuclei merged", "split pairs"]
    texts = 1 + bool(peers)
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * texts}{' ---: |' * (len(columns) - texts)}"]
    for kind in scores:
        for network, s in ((title, found[kind]) for title, found in networks if kind in found):
            merged = f"{100 * s['in_merged'] / max(s['objects'], 1):.1f} %"
            cells = [TITLES[kind], *[network] * bool(peers), s["images"], s["objects"]]
            cells += [f"{s['mean_precision']:.3f}", f"{s['precision_50']:.3f}", merged, s["split"]]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def titled(peer: Row) -> str:
    """A peer's name and its CPU minutes."""
    return f"{peer['title']}, {peer['minutes']:.0f} CPU minutes"


def tested_peers() -> list[Row]:
    """The last scores on the test images of every peer."""
    rows = [json.loads(line) for line in PEERS.read_text().splitlines()] if PEERS.exists() else []
    return list({row["peer"]: row for row in rows if row["list"] == "test"}.values())


def told_peers(peers: Sequence[Row]) -> list[str]:
    """What the peers are, for a page."""
    if not peers:
        return []
    each = [f"{p['title']} ({', '.join(f'{n} {v}' for n, v in p['versions'].items())}; {p['machine']})" for p in peers]
    return [
        f"Beside it stand {' and '.join(each)}, trained on the same images by `bench/peers_accuracy.py`, which says how. This "
        "network's CPU minutes are its hours times the cores that it used.",
        "",
    ]


def seconds_of_epochs(run: Path) -> list[float]:
    """What every finished epoch of a run took, with its validation."""
    if not (run / "history.csv").exists():
        return []
    with open(run / "history.csv") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def epochs_done(out: Path) -> int:
    """How many epochs the training has finished, before its cooldown."""
    return len(seconds_of_epochs(out / "run"))


def cooldown(out: Path) -> Path:
    """The folder of the cooldown after so many epochs."""
    return out / f"cooldown-{epochs_done(out)}"


def hours(out: Path) -> float:
    """That the training took, and its cooldown."""
    return sum(seconds_of_epochs(out / "run") + seconds_of_epochs(cooldown(out))) / 3600


def failures(rows: list[Row]) -> list[Row]:
    """The worst image of every kind, and the second worst of the two large kinds."""
    worst = sorted(rows, key=lambda r: r["mean_precision"])
    most = {"fluorescence": 2, "stained_tissue": 2, "brightfield": 1}
    return [r for kind, n in most.items() for r in [w for w in worst if w["kind"] == kind][:n]]


def short_card(model: Module, out: Path, scores: dict[str, Row]) -> str:
    """The card as `minunet.models.shipped` reads it."""
    size = model.preprocessing.objects
    lines = [
        'title = "Nuclei in fluorescence, purple-stained tissue and brightfield"',
        'data = "2018 Data Science Bowl, BBBC038 (CC0-1.0): 386 images to train, 96 to choose, 122 to test"',
        'licence = "CC0-1.0"',
        f'date = "{time.strftime("%Y-%m-%d")}"',
        'command = "python bench/pretrained.py DATA"',
        f"hours = {hours(out):.1f}",
        f"diameter = {size.diameter:.1f}",
        f"kinds = {json.dumps([TITLES[k] for k in scores if k != 'all'])}",
        "",
        "[scores]",
    ]
    for kind, s in scores.items():
        values = f"precision = {s['mean_precision']:.3f}, precision_50 = {s['precision_50']:.3f}"
        lines.append(f"{json.dumps(TITLES[kind])} = {{ {values} }}")
    return "\n".join(lines) + "\n"


def missed(scores: dict[str, Row]) -> str:
    """What the network was meant to reach, and does not."""
    names = {"mean_precision": "mean precision", "precision_50": "precision at IoU 0.5"}
    told = [
        f"{names[m]} of {TITLES[kind]} is {scores[kind][m]:.3f}, meant to be {bar:.2f}"
        for (m, kind), bar in BARS.items() if scores[kind][m] < bar
    ]  # fmt: skip
    share = scores["fluorescence"]["in_merged"] / max(scores["fluorescence"]["objects"], 1)
    told += [f"{100 * share:.1f} % of the nuclei in fluorescence are merged, meant to be at most 3 %"] * (share > 0.03)
    return (
        "It misses what it was meant to reach: " + "; ".join(told) + "."
        if told
        else "It reaches what it was meant to reach."
    )


def page(
    model: Module,
    out: Path,
    scored: dict[str, dict[str, Row]],
    test: list[Row],
    threads: int | None,
    size: int,
    commands: list[str],
) -> str:
    """The page in docs/models; `size` is the file's in bytes, `commands` train."""
    known, cooled, peers = model.preprocessing, len(seconds_of_epochs(cooldown(out))), tested_peers()
    name = f"nuclei, {60 * hours(out) * (threads or os.cpu_count() or 1):.0f} CPU minutes"
    pictures = [
        f"![{TITLES[r['kind']]}, precision at IoU 0.5 {r['precision_50']:.2f}: truth left, found right]"
        f"(nuclei_{r['image'][:12]}.png)\n\n{TITLES[r['kind']]}: precision at IoU 0.5 {r['precision_50']:.2f}, "
        f"{r['objects']} nuclei, {r['merged']} merged and {r['split']} split pairs"
        for r in failures(test)
    ]
    return "\n".join(
        [
            "# nuclei: a network that finds nuclei",
            "",
            "```sh",
            "python -m minunet.predict -m nuclei -i IMAGES -o OUT --instances",
            "```",
            "",
            "| | |",
            "| --- | --- |",
            "| Finds | nuclei in fluorescence, in purple-stained tissue (H&E) and in brightfield |",
            f"| Network | `{known.target}` target, {model.architecture.name}, {model.num_params():,} parameters, "
            f"{size / 1e6:.1f} MB on disk (weights in half precision) |",
            "| Images | 8 or 16 bit, grey or RGB; it has learnt nuclei of about "
            f"{known.objects.diameter:.0f} pixels across |",
            "| Data | 2018 Data Science Bowl, stage 1 (BBBC038v1, CC0; Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7), "
            "with corrected masks: 386 images to train, 96 to choose, 122 to test, by `bench/splits/nuclei_*.txt` |",
            "| Licence of the weights | CC0-1.0 |",
            f"| Training | {epochs_done(out)} epochs, and {cooled} of cooldown; {hours(out):.1f} hours, {machine()}, "
            f"{threads or 'all'} of them used |",
            "",
            "The command is `python bench/pretrained.py DATA`, which runs, and at last with `--cooldown`:",
            "",
            "```sh\n" + "\n".join(commands) + "\n```",
            "",
            "## Scores",
            "",
            "On the test images, which neither trained it nor chose anything about it; means over images. Merged: the share of "
            "nuclei that lie in one object with another one.",
            "",
            table(scored["test"], name, peers),
            "",
            *told_peers(peers),
            missed(scored["test"]),
            "",
            "The images of the data set come in series, and images of one series are on both sides of the division; on images "
            "of another laboratory it will be worse. On the validation images, by which epoch and thresholds were chosen:",
            "",
            table(scored["validation"]),
            "",
            "## Where it fails",
            "",
            "The worst test images of each kind: the truth in yellow on the left, what was found in blue on the right.",
            "",
            *[line for p in pictures for line in (p, "")],
        ]
    )
