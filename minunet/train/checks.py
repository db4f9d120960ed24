"""Whether images suit a network that is to be trained on them, or was: split, sizes, objects. For `minunet.doctor`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Preprocessing, read_names, split_indices
from ..data.checks import Survey, shortened
from ..data.files.images import SUFFIXES, read_image
from ..data.findings import Findings
from ..data.object_sizes import object_sizes
from ..data.objects import diameter
from ..errors import UserError
from ..models import UNetOptions, build
from ..nn import Module
from ..predict.instances import resampled
from ..predict.options import AUTO, PredictionOptions
from ..predict.separation import UNTUNED
from ..predict.tiles import reach

TINY = 0.05  # share of objects smaller than predict keeps, from which on it is said
TRIED = 6  # images without masks, in which objects are measured as the network finds them
UNLIKE = 1.6  # how much wider or narrower than those of the training objects may be before it is said


def examine_split(
    seen: Survey, ordered: bool, validation: float, seed: int, val_files: str | Path | None, findings: Findings
) -> list[int]:
    """Is there something to train on and something to validate on? Indices of what is held out."""
    try:
        listed = read_names(val_files) if val_files else None
        train, held = split_indices(seen.names, validation, seed, listed, ordered)
    except UserError as e:
        findings.trouble("empty validation set", str(e))
        return []
    if not held:
        findings.note(
            "no validation", "no image is held out: training on these images will say nothing of how good it is"
        )
        return []
    for name, part in (("training", train), ("validation", held)):
        if all(i in seen.plain for i in part):
            findings.trouble(
                f"empty {name} set", f"none of its {len(part)} masks shows more than one class: a score of it says nothing",
                "choose other images with --val-files, or another --seed",
                [seen.names[i] for i in part],
            )  # fmt: skip
    if len(held) < 3 and listed is None:
        findings.note(
            "small validation set", f"{len(held)} of {len(seen.names)} images: its score depends much on which",
            "hold out more: -v 20",
        )  # fmt: skip
    return held


def examine_sizes(model: Module | None, crop: int, depth: int, padding: str, seen: Survey, findings: Findings) -> None:
    """Can the network take the images and the training patches?"""
    network: Any = model or build(UNetOptions(base_width=1, depth=depth, padding=padding))
    if not model and crop:
        try:
            network.check_size(crop, crop)
        except ValueError as e:
            findings.trouble("sizes", f"patches of --crop {crop}: {e}", "give one of these sizes as --crop")
    least = network.least
    small = [name for name, size in seen.sizes.items() if min(size) < least]
    if small:
        findings.trouble(
            "sizes", f"{len(small)} images are smaller than {least} pixels, the least that the network takes "
            f"({shortened(small)}): most of what the network sees of them would be their mirror image",
            f"enlarge them with --scale {least / min(min(seen.sizes[n]) for n in small):.2g}, or train with a smaller --depth",
            small,
        )  # fmt: skip
    if not model and not crop:
        try:
            for size in set(seen.sizes.values()):
                network.check_size(*size)
        except ValueError as e:
            if not small:
                findings.trouble("sizes", f"--crop 0 trains on whole images: {e}", "train on patches: --crop 128")
    if len(set(seen.sizes.values())) > 1 and not model and not crop:
        findings.note("sizes", "images of several sizes share no batch with --crop 0", "train on patches: --crop 128")


def compare_sizes(known: Preprocessing, px: float, findings: Findings) -> None:
    """Are objects that are `px` pixels wide too small or too large for a network that was trained on others?"""
    if known.objects is None:
        return
    ratio = known.objects.diameter / (px * known.scale)
    if not 1 / UNLIKE < ratio < UNLIKE:
        times = f"too {'small' if ratio > 1 else 'large'} for the network: those of its training were"
        findings.note(
            "object sizes", f"objects of {px:.0f} pixels across (median) are {times} {ratio:.2g} times as wide",
            f"predict with --diameter {px:.0f} or auto, and train from it with --scale {known.scale * ratio:.2g}",
        )  # fmt: skip


def examine_images(model: Module, path: Path, axes: str | None, findings: Findings) -> bool:
    """Of a folder of images without masks: how large are the objects that the network finds? False if it is no such folder."""
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else []
    if not images:
        return False
    findings.note("names", f"{len(images)} images without masks: nothing but the size of objects is looked at")
    if model.preprocessing.objects is None:
        return True
    wide = []
    for image in images[:: -(-len(images) // TRIED)]:
        try:
            wide.append(resampled(model, read_image(image, axes=axes, nan=True), PredictionOptions(diameter=AUTO))[1])
        except (UserError, ValueError) as e:
            findings.trouble("images", str(e), files=[image.name])
    found = [px for px in wide if px is not None]
    if not found:
        findings.note("object sizes", f"in {len(wide)} images the network finds no object")
        return True
    before, px = findings.count_of("object sizes"), statistics.median(found)
    compare_sizes(model.preprocessing, px, findings)
    if findings.count_of("object sizes") == before:
        findings.ok(
            "object sizes", f"as the network finds them, {px:.0f} pixels across (median of {len(found)} images)"
        )
    return True


def examine_objects(
    model: Module | None, crop: int, depth: int, padding: str, seen: Survey, findings: Findings
) -> None:
    """Do the objects fit into the patches and into what the network sees? Are all of them outlined?"""
    found = object_sizes(seen)
    if found is None:
        return
    network: Any = model or build(UNetOptions(base_width=1, depth=depth, padding=padding))
    typical, large = (float(np.percentile(found.sides, p)) for p in (50, 95))
    before = findings.count_of("object sizes")
    field = 2 * reach(network) + 1
    if not model and crop and large > crop:
        findings.note(
            "object sizes", f"the largest objects are {large:.0f} pixels long, more than the patches of --crop {crop}: "
            "training never sees a whole one", f"train with a larger --crop, or with --scale {0.5 * crop / large:.2g}",
        )  # fmt: skip
    if padding == "same" and typical > field > 1:
        findings.note(
            "object sizes", f"objects are {typical:.0f} pixels long, but an output pixel depends on {field} pixels only: the "
            "network cannot see a whole one", f"train with a larger --depth, or with --scale {0.5 * field / typical:.2g}",
        )  # fmt: skip
    known: Preprocessing | None = model.preprocessing if model else None
    least = ((known and known.separation) or UNTUNED["classes"]).min_size
    small = float(np.mean(found.areas < least))
    if small > TINY:
        findings.note(
            "object sizes", f"{100 * small:.0f} % of the objects have fewer than {least} pixels: predict "
            "--instances drops such objects, unless tuned on smaller ones", "give predict a smaller --min-size, or --scale 2",
        )  # fmt: skip
    if known:
        compare_sizes(known, diameter(float(np.median(found.areas))), findings)
    if findings.count_of("object sizes") == before:
        findings.ok("object sizes", f"{len(found.areas)} objects measured, {typical:.0f} pixels long (median)")
    if found.marked:
        what = f"the truth of {len(found.marked)} images counts only in part ({shortened(found.marked)})"
        findings.note("partial truth", what, "nothing: what is not annotated counts neither in the loss nor in scores")
    if found.partial:
        findings.note(
            "partial truth", f"in {len(found.partial)} images as much outside of the objects looks like them as within "
            f"({shortened(found.partial)}): are only some outlined?", "training would learn that the others are background: "
            "outline all, leave these images out, or mark what is not annotated with a value and give it to --ignore",
            found.partial,
        )  # fmt: skip
