"""What the values of masks stand for: classes, objects, or a foreground with noise. Told by the user, or found in the masks.

Masks come as 0/1, as 0/255, as class numbers with or without gaps, as colours, as object numbers, and each of them with the
noise of JPEG or of smoothed edges. `find_classes` tries these rules in this order; training, evaluation and doctor share it.

1. Two values: background and foreground.
2. Values close to 0 and to the largest one only, such as 254 beside 255, or else between them only pixels that never fill a 2x2
   square: a foreground with noise or smoothed edges. It is thresholded at half of the largest value, with a notice.
3. No value fills 2x2 squares: a photograph or a soft mask. Most do not: classes with noise. Both are errors, unless there are
   only 8 values above 0 or fewer, all small.
4. More than 256 values: object numbers.
5. Values of which most lie in several pieces in a mask: classes.
6. Values in one piece each. If size or place of a value agree between masks, as those of organs do, they are classes. If not,
   and the masks hold 1 to n with different n, or different numbers, or more than 64 (8 in over 8 bits): objects.
7. What no rule decides is an error that asks for --masks.

In colour masks every colour is a value. Palettes are understood by their colours. If all masks have palettes that agree,
classes are in the order of the palette, else sorted by (red, green, blue), so that black comes first.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..errors import UserError
from .classes import MAX_CLASSES, ClassMap, unpack_colour
from .mask_noise import BRIGHT, SOFT, is_nearly_binary, refuse_noise, softness
from .mask_regions import MANY_WIDE, consistency, objecthood, pieces
from .mask_scan import MASK_KINDS, MaskScan

MANY = 64  # values above which one-piece values are objects; of masks in over 8 bits MANY_WIDE
ONE, SEVERAL = 1.15, 1.3  # mean number of pieces of a value: of objects at most, and of classes at least
RARE = 1e-4  # share of all pixels below which a class is suspect
VOID = (255, 65535)  # values that mark what does not count in well-known data sets
MOST_BESIDE_VOID = 63


class Reading(NamedTuple):
    """How masks are read: their classes, why so (empty if nobody could read them otherwise), and notices for the report."""

    classes: ClassMap
    why: str
    notices: list[str]


def find_classes(scan: MaskScan, kind: str = "auto", wanted: str | None = None) -> Reading:
    """The classes of masks that were counted.

    Parameters
    ----------
    scan : MaskScan
    kind : "auto", "classes", "objects" or "binary"
        What the values stand for; "auto" goes by the rules at the head of this file.
    wanted : "classes", "objects" or None
        What is to be scored. It decides where rules 6 and 7 alone would not be sure.

    Raises
    ------
    UserError
        If the values fit no rule, contradict each other, or can be read in two ways.
    """
    if kind not in MASK_KINDS:
        raise UserError(f"masks: {kind!r} is unknown, choose one of {', '.join(MASK_KINDS)}")
    pixels = scan.pixels()
    below = [v for v in pixels if v < 0]
    if below and kind != "classes":
        raise UserError(
            f"the masks hold {min(below)}, which is neither background nor an object: if it marks what does not count, give "
            f"--ignore {min(below)}; if it is a class, give --masks classes"
        )
    if kind == "objects":
        return Reading(_instances(scan), "objects, as --masks says", [])
    if kind == "binary":
        return _binary(scan, pixels)
    if kind == "classes":
        return Reading(*_classes(scan, pixels, "classes, as --masks says"))
    return _guess(scan, pixels, wanted)


def _guess(scan: MaskScan, pixels: Counter, wanted: str | None) -> Reading:
    """What nobody has said."""
    top = max(pixels, default=0)
    if len(pixels) <= 2 or sum(v > 0 for v in pixels) < 2:
        return Reading(*_classes(scan, pixels, ""))
    if not scan.colour and is_nearly_binary(pixels, scan.flat):
        return _binary(scan, pixels)
    refuse_noise(scan, pixels)
    others = [v for v in pixels if v > 0 and v != void_value(scan, pixels)]
    if len(others) < 2:
        return Reading(*_classes(scan, pixels, ""))
    if len(pixels) > MAX_CLASSES:
        return Reading(_instances(scan), f"objects: {len(pixels)} different values are too many for classes", [])
    several = pieces(scan.regions, others)
    numbers = f"values up to {top}" if not scan.colour else f"{len(pixels)} colours"
    if several >= SEVERAL and wanted == "objects":
        raise UserError(
            f"the masks hold {numbers}, each in {several:.1f} pieces on average, as classes are: give --classes to score "
            "classes, --masks binary to score the pieces of all, or --masks objects if every value is an object"
        )
    if several >= SEVERAL:
        why = f"classes, since values lie in {several:.1f} pieces on average; --masks objects takes each for an object"
        return Reading(*_classes(scan, pixels, why))
    if wanted == "objects":
        return Reading(_instances(scan), "objects", [])
    many = len(others) > (MANY_WIDE if scan.wide else MANY)
    if wanted == "classes" and not many:
        return Reading(*_classes(scan, pixels, "classes"))
    agree = consistency(scan.regions, others) if several <= ONE else None
    differ = objecthood(scan.regions, others) if several <= ONE else 0
    if agree and (differ > 1 or (differ and scan.wide)):
        agree = None  # objects that hardly move, as in frames of a film
        differ = 2
    if agree and not differ and not (many and scan.wide):
        why = f"classes, since each of the {numbers} lies in one piece of like size or place in all masks"
        classes, _, notices = _classes(scan, pixels, why)
        return Reading(classes, why, [f"read as {why}; if they number objects, give --masks objects", *notices])
    few = scan.wide and len(others) > 2
    if not agree and (many or few or differ > 1 or (agree is False and (differ or len(others) > MANY_WIDE))):
        why = f"objects, since each of the {numbers} is one piece" + (", and masks hold other ones" if differ else "")
        notice = f"read as {why}; if they are classes, give --masks classes"
        return Reading(_instances(scan), f"{why}; --masks classes reads classes", [] if many else [notice])
    raise UserError(
        f"the masks hold {numbers}, mostly in one piece each: these may be {len(others)} classes, or the numbers of "
        "objects; give --masks classes or --masks objects (or --masks binary to train on all as one foreground)"
    )


def _binary(scan: MaskScan, pixels: Counter) -> Reading:
    """Foreground and background by a threshold."""
    if len(pixels) <= 2:
        return Reading(*_classes(scan, pixels, ""))
    top = max(pixels)
    noisy = not scan.colour and top >= BRIGHT and (is_nearly_binary(pixels, scan.flat) or softness(scan, pixels) < SOFT)
    white = top if noisy else 1
    classes = ClassMap([0, white], ["background", "foreground"], "threshold", _ignore(scan, colour=bool(scan.colour)))
    what = (
        "JPEG, which blurs values"
        if scan.jpeg
        else f"nearly binary: {len(pixels)} values, close to 0 and {top} or at edges"
    )
    notices = [
        f"the masks are {what}; thresholded at {classes.threshold}; --masks classes takes every value for a class"
    ]
    why = f"background and foreground, from {classes.threshold} on"
    return Reading(classes, why, notices if noisy else [])


# ---- class maps ------------------------------------------------------------------------------------------------------


def void_value(scan: MaskScan, pixels: Counter) -> int | None:
    """The value that looks like one that does not count: 255 (65535) beside small numbers, as in Pascal VOC and Cityscapes."""
    if scan.colour:
        if scan.unindexed or len(scan.indices) < 3 or not _palettes_agree(scan):
            return None
        highest, *others = sorted(scan.indices, reverse=True)
        return next(iter(scan.indices[highest])) if highest in VOID and others[0] <= MOST_BESIDE_VOID else None
    highest, *others = sorted(pixels, reverse=True)
    return highest if highest in VOID and len(others) > 1 and others[0] <= MOST_BESIDE_VOID else None


def _ignore(scan: MaskScan, colour: bool) -> list:
    """The values of a class map that do not count."""
    if colour:
        return [list(unpack_colour(key)) for key in sorted(scan.ignored) if key >= 0]
    return [value for value in scan.ignore if isinstance(value, int)]


def _instances(scan: MaskScan) -> ClassMap:
    return ClassMap([0, 255], ["background", "foreground"], "instances", _ignore(scan, bool(scan.colour)))


def _classes(scan: MaskScan, pixels: Counter, why: str) -> tuple[ClassMap, str, list[str]]:
    """Every value a class, with notices on values that may be none."""
    if len(pixels) > MAX_CLASSES:
        what = "colours" if scan.colour else "values"
        raise UserError(f"the masks hold {len(pixels)} different {what}; at most {MAX_CLASSES} classes are possible")
    if scan.colour:
        return _colour_classes(scan, pixels, why)
    one, full = scan.seen.get(frozenset({1})), scan.seen.get(frozenset({255}))
    if set(pixels) <= {0, 1, 255} and one and full and frozenset({1, 255}) not in scan.seen and not why:
        raise UserError(f"foreground is 1 in {one} but 255 in {full}; save all masks alike, or give --masks binary")
    values, notices = sorted(pixels), _doubts(scan, pixels)
    if not values or values == [0]:  # a class map needs two; the report says so when a class has no pixels
        values = [0, 255]
    elif len(values) == 1:
        values = [0, *values]
    if scan.wide and len(values) > 2 and "--masks says" not in why:
        notices.insert(0, f"{len(values)} values in masks of over 8 bits are taken as classes; if they number objects, give "
                       "--masks objects")  # fmt: skip
    return ClassMap(values, _names(len(values)), "exact", _ignore(scan, False)), why, notices


def _colour_classes(scan: MaskScan, pixels: Counter, why: str) -> tuple[ClassMap, str, list[str]]:
    keys, notices = sorted(k for k in pixels if pixels[k]), _doubts(scan, pixels)
    if scan.indices and _palettes_agree(scan):
        place = {next(iter(colours)): index for index, colours in scan.indices.items()}
        if set(keys) <= set(place):
            keys.sort(key=place.__getitem__)
    elif scan.indices:
        notices.append(
            "the palettes of the masks list colours in different orders: classes are told by colour, not by number"
        )
    if len(keys) == 1:  # one colour everywhere: a class map needs two
        keys = [0, *keys]
    colours = [list(unpack_colour(k)) for k in keys]
    return ClassMap(colours, _names(len(keys)), "exact", _ignore(scan, True)), why, notices


def _palettes_agree(scan: MaskScan) -> bool:
    """Whether every number has one colour in all palettes, and every colour one number."""
    colours = [colour for found in scan.indices.values() for colour in found]
    return len(colours) == len(set(colours)) == len(scan.indices)


def _doubts(scan: MaskScan, pixels: Counter) -> list[str]:
    """Notices on values that may be no classes."""
    total, notices = pixels.total(), []
    void = void_value(scan, pixels)
    if void is not None:
        number = max(scan.indices) if scan.colour else void
        notices.append(
            f"{number} stands beside values up to {MOST_BESIDE_VOID} and is taken as a class; if it marks what does not count, "
            f"as in Pascal VOC and Cityscapes, give --ignore {number}; if it is the foreground, with noise, --masks binary"
        )
    edges = [v for v in sorted(pixels) if v > 0 and scan.flat[v] < SOFT * pixels[v] and pixels[v] > RARE * total]
    if not scan.colour and max(pixels, default=0) >= BRIGHT and 0 < len(edges) < len(pixels) - 1 and len(pixels) > 2:
        notices.append(
            f"of the values {', '.join(map(str, edges[:4]))} hardly two pixels lie side by side: if these are smoothed edges, "
            "give --masks binary"
        )
    return notices + [
        f"value {unpack_colour(v) if scan.colour else v} covers only {pixels[v]} of {total} pixels: is it a class, or did a "
        "stray pixel slip in?"
        for v in sorted(pixels)
        if len(pixels) > 2 and 0 < pixels[v] < RARE * total
    ]  # fmt: skip


def _names(count: int) -> list[str]:
    return ["background", "foreground"] if count == 2 else [f"class {i}" for i in range(count)]
