"""Our docstrings as reStructuredText: what is laid out by hand stays as it is. A Sphinx extension."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

SECTION = re.compile(r"-{3,}$")


def convert(lines: list[str]) -> list[str]:
    """Derivations, tables and commands, indented or aligned by spaces, become literal blocks; the rest is text."""
    out: list[str] = []
    for empty, group in groupby(lines, key=lambda line: not line.strip()):
        block = list(group)
        if empty or block[0].lstrip().startswith(">>>"):
            out += block
        elif is_list(block):
            out += map(escape, block)
        elif any(line.startswith(" ") or re.search(r"\S {3,}\S", line) for line in block):
            texts = []
            while block and not block[0].startswith(" ") and not re.search(r"\S {3,}\S", block[0]):
                texts.append(escape(block.pop(0)))
            if texts and len(texts[-1]) < 40 and block:  # a heading of the list under it
                texts = [f"**{line}**" if len(texts) == 1 else line for line in texts]
            out += [*texts, "", ".. code-block:: text", "", *("   " + line for line in block), ""]
        else:
            out += [re.sub("::$", ":", escape(line)) for line in block]
    return out


def is_list(block: list[str]) -> bool:
    """Whether all lines are items, or indented under one."""
    return bool(re.match(r"(\*|-|\d+\.) ", block[0])) and all(re.match(r"(\*|-|\d+\.) |  ", line) for line in block)


def escape(line: str) -> str:
    """Take their meaning from |, trailing _ and backslashes outside of `...`."""
    parts = re.split(r"(`+[^`]*`+)", line)
    parts[::2] = [re.sub(r"([\\|]|_(?!\w)|\*(?=\w+[,)])|\*\*(?=\w+\b(?!\*)))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """The text before the first section of a docstring is converted; of the sections only what would be misread."""
    ends = [i - 1 for i, line in enumerate(lines) if i and SECTION.match(line.strip()) and lines[i - 1].strip()]
    head = ends[0] if ends else len(lines)
    lines[:] = [*convert(lines[:head]), *map(escape, lines[head:])]


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=100)  # before numpydoc's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
