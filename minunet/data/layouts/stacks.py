"""Stacks of images with stacks of masks: every page becomes an entry of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from ..files.info import Pages, read_pages
from .source import Entry, Source, some


def with_pages(source: Source, axes: str | None = None) -> Source:
    """The source with an entry for each page of its stacks, and with notes on how its files were read.

    Pages of a stack are alike, so that the data set counts as ordered if most of its images are pages.

    Raises
    ------
    UserError
        If an image and its mask have different numbers of pages, or it is not clear whether pages are images or channels.
    """
    entries: list[Entry] = []
    seen, from_stacks, stacks = Counter[str](), 0, Counter[str]()
    unnamed: list[Path] = []
    for entry in source.entries:
        entry = replace(entry, axes=axes) if axes else entry
        pages = pages_of(entry)
        if pages is None or (pages.count == 1 and not pages.notes and not entry.stacked):
            entries.append(entry)
            continue
        seen.update(pages.notes)
        if not entry.stacked:
            entries.append(entry)
            continue
        check_mask_pages(entry, pages)
        if pages.count == 1:
            entries.append(entry)
            continue
        entries += [replace(entry, name=f"{entry.name}_{page:03}", page=page) for page in range(pages.count)]
        from_stacks += pages.count
        stacks[pages.page_axes or "pages"] += 1
        if not pages.named:
            unnamed.append(entry.image)
    notes = [f"stacks      {some([f'{n} of axis {a}' for a, n in stacks.items()])}: each page is an image"] * bool(
        stacks
    )
    if unnamed:
        notes.append(
            f"axes        {len(unnamed)} files do not name their axes ({some(p.name for p in unnamed)}): pages are taken for "
            f"images; --axes CYX takes them for channels"
        )
    notes += [f"pages       of {n} files: {text}" for text, n in seen.items()]
    ordered = source.ordered or 2 * from_stacks > len(entries)
    return replace(source, entries=entries, ordered=ordered, notes=[*source.notes, *notes])


def pages_of(entry: Entry) -> Pages | None:
    """What an image's file holds; None if its page is chosen already, or if it cannot be read, which is said later."""
    try:
        return read_pages(entry.image, entry.axes) if entry.page is None else None
    except UserError as e:
        if "--axes" in str(e):
            raise
        return None


def check_mask_pages(entry: Entry, pages: Pages) -> None:
    """UserError if the mask of an image has another number of pages."""
    if entry.read is not None:  # the layout reads the mask of a page
        return
    of_mask = read_pages(entry.mask, entry.axes, mask=True)
    if of_mask.count == pages.count:
        return
    if of_mask.count == 1 and not pages.named:
        raise UserError(
            f"{entry.image}: holds {pages.count} pages, its mask one; if the pages are channels of one image, give --axes CYX"
        )
    raise UserError(
        f"{entry.image} has {pages.count} images (axes {pages.axes}), its mask {entry.mask} has {of_mask.count} (axes "
        f"{of_mask.axes}); they must be as many, or --axes must say which axis counts channels"
    )
