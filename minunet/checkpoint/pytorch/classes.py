"""The classes of a network from a file, from its mask values if it has some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...data import ClassMap
from ...data.classes import MAX_CLASSES
from ...errors import UserError


def classes_of_values(mask_values: Any, num_classes: int, path: Path | str) -> tuple[ClassMap, bool]:
    """The classes, and whether they come from `mask_values`, which must have a grey value or a colour for each class.

    Otherwise two classes have the values 0 and 255, and more classes have their numbers as values.
    """
    names = ["background", "foreground"] if num_classes == 2 else [f"class {i}" for i in range(num_classes)]
    told = isinstance(mask_values, list) and len(mask_values) == num_classes
    told = told and (all(_below(1 << 16, v) for v in mask_values) or all(_is_colour(v) for v in mask_values))
    numbered = [0, 255] if num_classes == 2 else list(range(num_classes))
    try:
        return ClassMap(list(mask_values) if told else numbered, names), told
    except ValueError as e:
        raise UserError(f"{path} is refused: {e}; minunet takes 1 to {MAX_CLASSES} classes") from None


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_below(256, v) for v in value)


def _below(limit: int, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit
