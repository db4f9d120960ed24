"""Which layout a folder has, and the images and masks that lie in it."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..files.axes import check_axes
from . import coco, ctc, dsb2018, folder, isbi2012, nnunet
from .parts import divided, join_parts, part_folders
from .source import Source, some
from .stacks import with_pages

LAYOUTS = {
    module.NAME: module for module in (dsb2018, isbi2012, ctc, nnunet, coco, folder)
}  # in the order in which they are tried


def find_source(path: str | Path, layout: str = "auto", truth: str = "auto", axes: str | None = None) -> Source:
    """The images and masks of a folder, paired but not read; parameters and errors are those of `minunet.data.open_dataset`."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: {'is a file, a folder was expected' if path.exists() else 'no such folder'}")
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"layout: {layout!r} is unknown, choose one of auto, {', '.join(LAYOUTS)}")
    if truth not in ctc.TRUTHS:
        raise UserError(f"truth: {truth!r} is unknown, choose one of {', '.join(ctc.TRUTHS)}")
    if axes:
        check_axes(axes)
    found = divided(with_pages(_source(path, layout, truth), axes))
    if truth != "auto" and found.layout != ctc.NAME:
        raise UserError(
            f"truth: {truth!r} is for the layout {ctc.NAME}, but {path} has the layout {found.layout}; leave it out"
        )
    return found


def _source(path: Path, layout: str, truth: str) -> Source:
    """The files of a folder, or of its parts train/ and val/, by their layout."""
    name = layout if layout != "auto" else next((n for n, m in LAYOUTS.items() if m.recognise(path)), None)
    parts = part_folders(path) if name is None or not LAYOUTS[name].recognise(path) else {}
    if parts:
        return join_parts(path, parts, lambda part: _source(part, layout, truth))
    if name is None:
        found = sorted(p.name + "/" * p.is_dir() for p in path.iterdir() if not p.name.startswith("."))
        known = "; ".join(f"{n} ({m.EXPECTS})" for n, m in LAYOUTS.items())
        below = [p for p in sorted(path.iterdir()) if p.is_dir() and any(m.recognise(p) for m in LAYOUTS.values())]
        if below:
            raise UserError(f"{path}: no known layout, but {some(map(str, below))} below it has one: give that path")
        hint = "; images that are divided lie in train/ and val/, each with a layout of these"
        raise UserError(
            f"{path}: no known layout; it holds {some(found, 6) or 'nothing'}; known layouts: {known}{hint}"
        )
    return ctc.open_source(path, truth) if name == ctc.NAME else LAYOUTS[name].open_source(path)
