"""How large a pixel is: what ImageJ, OME and a TIFF's resolution tell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MICRONS = ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers", "micrometres", "\\u00b5m")
OTHER_UNITS = {
    "nm": "nm", "nanometer": "nm", "nanometre": "nm", "mm": "mm", "millimeter": "mm", "millimetre": "mm", "cm": "cm",
    "centimeter": "cm", "centimetre": "cm", "m": "m", "meter": "m", "metre": "m", "pm": "pm", "å": "A", "angstrom": "A",
    "inch": "inch", "in": "inch",
}  # fmt: skip
MICRONS_IN = {"um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6, "A": 1e-4, "inch": 25400.0}
PRINT = 2540  # dots per inch up to which a resolution is that of a printer or a camera's habit, not of a microscope
LARGEST, SMALLEST = 1e9, 1e-9


@dataclass(frozen=True)
class PixelSize:
    """Width and height of a pixel, and the distance between slices (or None), in a unit."""

    x: float
    y: float
    unit: str
    z: float | None = None

    def in_microns(self) -> tuple[float, float]:
        """Width and height in micrometres."""
        factor = MICRONS_IN[self.unit]
        return factor * self.x, factor * self.y


def tidy_unit(text: str) -> str | None:
    """A unit's usual letters in ASCII: um, nm, mm; None if it is no unit of length."""
    text = text.strip().lower()
    return "um" if text in MICRONS else OTHER_UNITS.get(text)


def tiff_pixel_size(tiff: Any) -> PixelSize | None:
    """The pixel size that a TIFF tells; None if it tells none, or only the resolution of a print."""
    try:
        if tiff.is_ome:
            return ome_pixel_size(tiff.ome_metadata or "")
        across, down = (_ratio(tiff.pages[0].tags.get(tag)) for tag in (282, 283))
        if not (across and down):
            return None
        if tiff.is_imagej:
            known = tiff.imagej_metadata or {}
            unit, spacing = tidy_unit(str(known.get("unit", ""))), known.get("spacing")
            z = float(spacing) if isinstance(spacing, int | float) and 0 < spacing < LARGEST else None
            return _plausible(PixelSize(1 / across, 1 / down, unit, z)) if unit else None
        kind = int(getattr(tiff.pages[0].tags.get(296), "value", 2))
        per_micron = {2: 25400.0, 3: 10000.0}.get(kind)
        if per_micron is None or across * (1 if kind == 2 else 2.54) <= PRINT:
            return None
        return _plausible(PixelSize(per_micron / across, per_micron / down, "um"))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def ome_pixel_size(text: str) -> PixelSize | None:
    """The pixel size in OME's XML, whose unit is the micrometre if none is told."""
    found: dict[str, tuple[float, str]] = {}
    for axis in "XYZ":
        size = re.search(rf'PhysicalSize{axis}="([^"]+)"', text)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', text)
        if size:
            found[axis] = float(size[1]), (tidy_unit(unit[1]) or "") if unit else "um"
    if "X" not in found or "Y" not in found or found["X"][1] != found["Y"][1] or not found["X"][1]:
        return None
    (x, known), y = found["X"], found["Y"][0]
    z = found["Z"][0] if found.get("Z", (0, None))[1] == known else None
    return _plausible(PixelSize(x, y, known, z))


def _plausible(size: PixelSize) -> PixelSize | None:
    return size if all(SMALLEST < n < LARGEST for n in (size.x, size.y)) else None


def _ratio(tag: Any) -> float | None:
    """A rational tag's value; None if there is none."""
    value = getattr(tag, "value", None)
    if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
        return None
    return float(value[0]) / float(value[1])
