"""A page's content, written as HTML and as Markdown.

Whatever a student wrote or caused (names, messages, lines of code) stands in `Code`, which neither format interprets; other
texts are ours or the teacher's, and are escaped all the same.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...cli import printable

MARK = "written by minunet grade"  # stands in the first lines of every page, so that a later run knows its own
SPAN = re.compile(r"`([^`]+)`")
SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")


@dataclass(frozen=True)
class Code:
    """A text as it is but for control characters, in letters of one width."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))


@dataclass(frozen=True)
class Bold:
    """A text that stands out."""

    text: str


@dataclass(frozen=True)
class Link:
    """A text that leads to another file."""

    text: Code | str
    to: str


Piece = str | Code | Bold | Link


class Block:
    """A part of a page."""


@dataclass(frozen=True)
class Heading(Block):
    """A heading; `points` stand at its right end."""

    level: int
    pieces: Sequence[Piece]
    points: str = ""


class Text(Block):
    """A paragraph; `kind` is for the style."""

    def __init__(self, *pieces: Piece, kind: str = "") -> None:
        self.pieces, self.kind = pieces, kind


@dataclass(frozen=True)
class Items(Block):
    """A list, each item of which is some paragraphs."""

    items: Sequence[Sequence[Text]]
    kind: str = ""


@dataclass(frozen=True)
class Table(Block):
    """Rows of cells below a head; from the second column on they are numbers or short."""

    head: Sequence[str]
    rows: Sequence[Sequence[Piece]]


@dataclass(frozen=True)
class Lines(Block):
    """Lines to be copied."""

    text: str


@dataclass(frozen=True)
class Picture(Block):
    """A picture, drawn in the page as HTML, and in a file beside the one in Markdown."""

    svg: str
    file: str
    about: str


# ---- HTML ------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --soft: #667080; --line: #d5d9de; --wrong: #a8321a; --right: #1f6f43; --card: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --soft: #9aa4b0; --line: #3a424c; --wrong: #f0906f; --right: #6fcf97; --card: #1d2228; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 48rem; padding: 1rem 1rem 3rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2rem 0 0.3rem; } h3 { font-size: 1rem; }
h1, h2, h3 { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; align-items: baseline; }
h1 code, h2 code { font: inherit; } .points { font-weight: 400; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 0.875em/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
p { margin: 0.25rem 0; overflow-wrap: anywhere; } .soft { color: var(--soft); font-size: 0.875rem; }
ul { margin: 0.5rem 0; padding-left: 1.2rem; } li { margin: 0.3rem 0; } ul.parts { list-style: none; padding: 0; }
ul.parts li { border-top: 1px solid var(--line); padding: 0.35rem 0; margin: 0; break-inside: avoid; }
.ok::before { content: "\\2713\\00a0"; color: var(--right); } .bad::before { content: "\\2717\\00a0"; color: var(--wrong); }
.todo::before { content: "\\25cb\\00a0"; color: var(--soft); }
.message { margin-left: 1.3rem; } .hint { margin: 0.25rem 0 0.25rem 1.3rem; padding: 0.3rem 0.6rem; background: var(--card);
  border-left: 3px solid var(--wrong); break-inside: avoid; }
pre { overflow-x: auto; background: var(--card); padding: 0.6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { font-size: 0.8rem; } svg { display: block; width: 100%; max-width: 34rem; height: auto; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid var(--line); }
th + th, td + td { text-align: right; } td + td { white-space: nowrap; } a { color: inherit; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; } * { print-color-adjust: exact; } h2, h3 { break-after: avoid; }
}
"""


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """A page that needs nothing beside it, and that no script or address in it can make do anything."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en">\n<!-- {MARK} -->\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(map(_html, blocks))
        + "\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        points = f'<span class="points">{html.escape(block.points)}</span>' if block.points else ""
        return f"<h{block.level}><span>{_html_pieces(block.pieces)}</span>{points}</h{block.level}>"
    if isinstance(block, Text):
        kind = f' class="{block.kind}"' if block.kind else ""
        return f"<p{kind}>{_html_pieces(block.pieces)}</p>"
    if isinstance(block, Items):
        items = "\n".join(f"<li>{''.join(map(_html, item))}</li>" for item in block.items)
        return f'<ul class="{block.kind}">\n{items}\n</ul>'
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.head)
        rows = ("".join(f"<td>{_html_pieces([cell])}</td>" for cell in row) for row in block.rows)
        return (
            f'<div class="table"><table>\n<tr>{head}</tr>\n'
            + "\n".join(f"<tr>{r}</tr>" for r in rows)
            + "\n</table></div>"
        )
    if isinstance(block, Lines):
        return f"<pre><code>{html.escape(block.text)}</code></pre>"
    assert isinstance(block, Picture)
    return block.svg


def _html_pieces(pieces: Sequence[Piece]) -> str:
    return "".join(map(_html_piece, pieces))


def _html_piece(piece: Piece) -> str:
    if isinstance(piece, Code):
        return f"<code>{html.escape(piece.text)}</code>"
    if isinstance(piece, Bold):
        return f"<b>{html.escape(piece.text)}</b>"
    if isinstance(piece, Link):
        return f'<a href="{html.escape(piece.to)}">{_html_piece(piece.text)}</a>'
    return SPAN.sub(r"<code>\1</code>", html.escape(piece))


# ---- Markdown --------------------------------------------------------------------------------------------------------


def as_markdown(blocks: Sequence[Block]) -> str:
    """The same as CommonMark with GitHub's tables."""
    return f"<!-- {MARK} -->\n\n" + "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_markdown_pieces(block.pieces)}" + (f": {block.points}" if block.points else "")
    if isinstance(block, Text):
        quote = "> " if block.kind == "hint" else ""
        return quote + SIGNS.get(block.kind, "") + _markdown_pieces(block.pieces)
    if isinstance(block, Items):
        return "\n".join("* " + "\n\n  ".join(map(_markdown, item)) for item in block.items)
    if isinstance(block, Table):
        rows = [block.head, ["---", *["---:"] * (len(block.head) - 1)]]
        cells = [[_markdown_pieces([cell]).replace("|", r"\|") for cell in row] for row in block.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in [*rows, *cells])
    if isinstance(block, Lines):
        fence = _ticks(block.text, 3)
        return f"{fence}text\n{block.text}\n{fence}"
    assert isinstance(block, Picture)
    return f"![{block.about}]({block.file})"


SIGNS = {"ok": "\u2713 ", "bad": "\u2717 ", "todo": "\u25cb "}


def _ticks(text: str, least: int) -> str:
    """More backticks than stand side by side in a text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _markdown_pieces(pieces: Sequence[Piece]) -> str:
    return "".join(map(_markdown_piece, pieces))


def _markdown_piece(piece: Piece) -> str:
    if isinstance(piece, Code):
        ticks = _ticks(piece.text, 1)
        space = " " * (len(ticks) > 1 or piece.text[:1] == " " or not piece.text.strip())
        return f"{ticks}{space}{piece.text}{space}{ticks}"
    if isinstance(piece, Bold):
        word = piece.text.strip()  # by CommonMark bold ends behind a letter or a sign, never behind a space
        before, _, after = piece.text.partition(word)
        return f"{before}**{_escaped(word)}**{after}"
    if isinstance(piece, Link):
        return f"[{_markdown_piece(piece.text)}]({piece.to})"
    parts = SPAN.split(piece)
    return "".join(f"`{part}`" if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)
