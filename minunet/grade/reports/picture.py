"""The class at a look: of every part, how many have it right, and how many were told what is wrong."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

ROW, BAR, LEFT, RIGHT, WIDTH = 20, 12, 130, 60, 400
KINDS = (
    ("right", "#3f86b8"),
    ("wrong, with a hint", "#eba63f"),
    ("wrong, without", "#9d2f1b"),
    ("not written", "#dcdcdc"),
)


@dataclass(frozen=True)
class Bar:
    """A part of an exercise, and how many submissions are of each of the `KINDS`."""

    exercise: str
    part: str
    counts: tuple[int, int, int, int]


def draw(bars: Sequence[Bar]) -> str:
    """The picture as SVG: a bar for each part, below its exercise's name, as long as it has answers."""
    most = max((sum(bar.counts) for bar in bars), default=1)
    shapes, y = legend(), 2 * ROW + 8
    for n, bar in enumerate(bars):
        if not n or bar.exercise != bars[n - 1].exercise:
            shapes.append(text(8, y + BAR + 6, bar.exercise, weight=600))
            y += ROW + 4
        shapes.append(text(LEFT - 8, y + BAR - 2, bar.part, anchor="end"))
        x = float(LEFT)
        for (kind, colour), count in zip(KINDS, bar.counts):
            width = count / most * (WIDTH - LEFT - RIGHT)
            if count:
                about = f"<title>{html.escape(f'{bar.exercise}, {bar.part}: {count} {kind}')}</title>"
                place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"'
                shapes.append(f'<rect {place} fill="{colour}">{about}</rect>')
            x += width
        wrong = sum(bar.counts[1:3])
        shapes.append(text(WIDTH - 8, y + BAR - 2, f"{wrong} wrong" if wrong else "", anchor="end"))
        y += ROW
    size = f'viewBox="0 0 {WIDTH} {y + 8}" width="{WIDTH}" height="{y + 8}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{y + 8}" fill="#ffffff"/>\n' + "\n".join(shapes) + "\n</svg>"
    )


def legend() -> list[str]:
    """What the colours say, in two lines."""
    shapes = []
    for n, (kind, colour) in enumerate(KINDS):
        x, y = 8 + n % 2 * 180, 6 + n // 2 * ROW
        shapes += [f'<rect x="{x}" y="{y}" width="{BAR}" height="{BAR}" fill="{colour}"/>', text(x + 18, y + 10, kind)]
    return shapes


def text(x: float, y: float, words: str, anchor: str = "start", weight: int = 400) -> str:
    """Some words in the picture."""
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#20262e"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{html.escape(words)}</text>'
