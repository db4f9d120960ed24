"""The page: the U, what its training came to, where an answer goes astray, and the table of the parts."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..exercises import EXERCISES
from .astray import says
from .network import MARGIN
from .parts import PARTS
from .picture import as_svg, coloured, data_uri, outline
from .report import Report, percent
from .side_by_side import three
from .training import History

CURVE = 460, 250, 40, 24  # width, height, and the room for numbers at the left and below
TINTS = ("#ffd166", "#f4f1de", "#9ef0d0", "#ff9f80", "#b8d8ff")


def page(report: Report) -> str:
    """The whole page, with its style and script and pictures inside."""
    folder = files(__package__) / "page"
    html = (folder / "page.html").read_text(encoding="utf-8")
    image = data_uri(coloured(report.judged.images[0][..., 0], "grey", 0, 1))
    frames = report.mine.frames if report.mine else []
    said = data_uri(coloured(frames[-1][1][0], "cell", 0, 1)) if frames else ""
    first = report.astray[0] if report.astray else None
    parts = {
        "/* style */": (folder / "page.css").read_text(encoding="utf-8"),
        "/* script */": (folder / "page.js").read_text(encoding="utf-8"),
        "<!-- lead -->": lead(report),
        "<!-- meter words -->": escape(f"{percent(report.share)} of the arithmetic is yours"),
        "<!-- meter -->": "".join(
            f'<i style="width:{100 * share:.3f}%" title="{escape(name)}: {percent(share)}"></i>'
            for name, share in report.shares.items() if name and share
        ),
        "<!-- measure -->": f"{percent(report.share)} of the arithmetic of a step of the training, counted in multiplications, "
        "additions and comparisons.",
        "<!-- joy -->": joy(report) if report.whole else "",
        "<!-- u -->": as_svg(report.answered, image, said, report.wrong, (first.function, first.path) if first else None),
        "<!-- legend -->": '<span class="key wrong"></span>goes astray <span class="key after"></span>wrong because of it'
        if report.astray else "",
        "<!-- look -->": look_section(report) if report.looked else "",
        "<!-- training -->": training_section(report) if report.mine else "",
        "<!-- parts -->": "".join(row(report, name) for name in PARTS),
        "<!-- notes -->": "".join(f"<p>{escape(note)}</p>" for note in report.notes),
        "/* data */": json.dumps(frames_json(report), allow_nan=False).replace("<", "\\u003c"),
    }  # fmt: skip
    for place, text in parts.items():
        html = html.replace(place, text)
    return html


def lead(report: Report) -> str:
    """The summary as HTML: how much of it in bold."""
    text = escape(report.summary())
    head, dot, rest = text.partition(": " if report.whole else ". ")
    return f"<b>{head}</b>{dot}{rest}"


def joy(report: Report) -> str:
    """What is said when everything is there."""
    confetti = "".join(
        f'<i style="--at:{3 + 97 * ((k * 61) % 100) / 100:.1f}%;--wait:{((k * 37) % 100) / 60:.2f}s;--tint:{TINTS[k % 5]}"></i>'
        for k in range(36)
    )
    dice = report.mine and f"It finds cells in images that it has never seen, with a Dice of {report.mine.dice:.2f}."
    written = "the convolutions and their gradients, pools and joints, the gradients of norms and losses, the wiring, the steps"
    return (
        f'<div id="joy">{confetti}<b>This U-Net is yours.</b><p>{dice or ""} Nothing in it is a black box to you any more: '
        f"you wrote {written}.</p></div>"
    )


# ---- the training ----------------------------------------------------------------------------------------------------


def frames_json(report: Report) -> dict[str, Any]:
    """What the slider shows: for each picture of the training a strip of predictions, its words, and its place on the curve."""
    if not report.mine:
        return {"frames": [], "points": []}
    losses, frames, points = report.mine.losses, [], []
    for step, p in report.mine.frames:
        strip = coloured(np.concatenate(list(p), axis=1), "cell", 0, 1)
        after = "before the training" if step == 0 else f"after step {step}: loss {losses[step - 1]:.3f}"
        frames.append({"uri": data_uri(strip), "words": after})
        x, y = curve_place(max(step, 1), losses[max(step, 1) - 1], report.mine)
        points.append({"x": round(x, 1), "y": round(y, 1)})
    return {"frames": frames, "points": points}


def curve_place(step: int, loss: float, history: History) -> tuple[float, float]:
    """Where a loss stands on the curve's picture."""
    wide, high, left, below = CURVE
    top = max(history.losses)
    x = left + (wide - left - 8) * (step - 1) / max(len(history.losses) - 1, 1)
    return x, 8 + (high - below - 8) * (1 - min(loss / top, 1.0))


def curve(report: Report) -> str:
    """The loss over the steps: the student's, and ours as a dashed line over it."""
    assert report.mine
    wide, high, left, below = CURVE
    lines, top = [], max(report.mine.losses)
    for kind, history in (("yours", report.mine), ("ours", report.ours)):
        if history:
            places = [curve_place(n, loss, report.mine) for n, loss in enumerate(history.losses, 1)]
            lines.append(f'<path class="{kind}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')
    y0 = high - below
    return (
        f'<svg id="curve" viewBox="0 0 {wide} {high}" role="img" aria-label="The loss, step by step">'
        f'<path class="axis" d="M{left} 8V{y0}H{wide - 8}" fill="none"/>'
        f'<text x="{left - 6}" y="14" text-anchor="end">{top:.2f}</text>'
        f'<text x="{left - 6}" y="{y0}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{high - 8}">1</text><text x="{wide - 8}" y="{high - 8}" text-anchor="end">'
        f'{len(report.mine.losses)} steps</text>{"".join(lines)}<circle id="mark" r="5"/></svg>'
    )


def training_section(report: Report) -> str:
    """The loss's curve and the pictures."""
    mine = report.mine
    assert mine
    n = len(mine.frames[0][1])
    middle = report.judged.images[:n, MARGIN:-MARGIN, MARGIN:-MARGIN, 0]
    images = data_uri(coloured(np.concatenate(list(middle), axis=1), "grey", 0, 1))
    rows = []
    for kind, uri in (("seen", images), ("said", "")):
        for i, labels in enumerate(report.judged.labels[:n]):
            H, W = labels.shape
            what = "image" if kind == "seen" else "what the network says"
            rows.append(
                f'<div class="shot {kind}" style="--i:{i}"><img src="{uri or images}" alt="{what} {i + 1}">'
                f'<svg viewBox="0 0 {W} {H}" aria-hidden="true"><path d="{outline(labels == 1)}"/></svg></div>'
            )
    same = (
        f"The dashed line is a training with our functions alone: {report.compared()}"
        if report.ours and report.answered
        else ""
    )
    return (
        f'<section id="training"><h2>It learns</h2><p>{len(mine.losses)} steps in {mine.seconds:.0f} seconds, on generated '
        f"cells. {same}</p>"
        f'<div id="run" style="--n:{n}"><div>{curve(report)}'
        f'<input id="frames" type="range" min="0" max="{len(mine.frames) - 1}" step="1" aria-label="Moment of the training">'
        f'<p class="note" id="now"></p></div><figure style="margin:0"><div id="gallery">{"".join(rows)}</div>'
        "<figcaption>Above images that it has not learned from, below how probable a cell is; the cells\u2019 true outlines in "
        f"orange. Dice in {len(report.judged.images)} such images: {mine.dice:.2f}.</figcaption></figure></div></section>"
    )


# ---- where it goes astray --------------------------------------------------------------------------------------------


def look_section(report: Report) -> str:
    """The first place at which an answer goes astray, as pictures; and the others, as sentences."""
    if not report.astray:
        return f'<section id="astray"><h2>Nothing goes astray</h2><p>{escape(report.unseen())}</p></section>'
    first, *others = report.astray
    title = f"Where your {'gradient' if first.backward else 'result'} first goes astray"
    more = "".join(
        f"<details><summary><code>{escape(report.files[a.exercise])}</code>, {escape(says(a))}</summary>{three(a)}</details>"
        for a in others
    )
    return (
        f'<section id="astray"><h2>{title}: <span class="place">{escape(first.path or "the weights")}</span></h2>'
        f"<p><code>{escape(report.files[first.exercise])}</code>, {escape(says(first))}</p>{three(first)}"
        + (f'<div id="others"><p class="note">Others, each judged by itself:</p>{more}</div>' if more else "")
        + (f'<p class="note">{escape(report.unseen())}</p>' if report.unseen() else "")
        + "</section>"
    )


# ---- the table -------------------------------------------------------------------------------------------------------


def row(report: Report, name: str) -> str:
    """A row of the table: an exercise, what it does, whose it is."""
    part, share = PARTS[name], report.shares.get(name, 0.0)
    file = Path(report.files.get(name, "")).name
    if name in report.answered:
        kind, whose = "mine", f"yours: {file}"
    elif name in report.failed:
        kind, whose = "failed", f"not right yet: {report.failed[name]}, {file}"
    elif name in report.left_out:
        kind, whose = "todo", f"right, but left out here: {report.left_out[name]}, {file}"
    else:
        kind, whose = "todo", f"ours: lesson {EXERCISES[name].lesson:02d}, {EXERCISES[name].minutes} minutes"
    took = f"{report.seconds[name]:.1f} s" if report.seconds.get(name) else ""
    words = f"{name}: {part.words}; {whose}"
    return (
        f'<tr class="{kind}" data-exercise="{name}" data-words="{escape(words)}"><td><code>{name}</code></td>'
        f"<td>{escape(part.words)}</td>"
        f'<td>{escape(whose)}</td><td class="number">{percent(share) if share else ""}</td><td class="number">{took}</td></tr>'
    )
