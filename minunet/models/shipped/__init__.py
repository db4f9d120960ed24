"""Networks that come with minunet, trained: NAME.safetensors beside NAME.toml, its card.

A command or `minunet.load` that is given NAME, where no file is called so, takes the network from here. NAME.safetensors is
a checkpoint of minunet's own format without the state of a training and with weights in half precision, as ``minunet export
--half`` writes it. NAME.toml says in short what a user should know, see `Card`:

    title = "Nuclei in fluorescence and stained tissue"
    data = "BBBC038 (CC0-1.0), 386 images"
    licence = "CC0-1.0"
    date = "2026-11-30"
    command = "python bench/NAME.py"
    hours = 1.5
    diameter = 19.5
    kinds = ["fluorescence", "purple tissue"]

    [scores]
    fluorescence = { precision = 0.65, precision_50 = 0.88 }
"""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import Settings, UserError, Values, limits, shown

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Card(Settings):
    """What a user should know of a network.

    Attributes
    ----------
    title, data : str
        What it finds, in a few words, and which images it was trained on.
    licence : str
        Of the weights.
    date, command : str
        When it was trained, and the command that trains it.
    hours : float
        How long that took.
    diameter : float
        Of the objects that it knows, in pixels.
    kinds : tuple of str
        The kinds of images that it knows.
    scores : dict of dicts of float
        For each kind of images the scores by name, on images that it has not seen.
    """

    title: str
    data: str
    licence: str
    date: str
    command: str
    hours: float = field(metadata=limits(least=0))
    diameter: float = field(metadata=limits(above=0))
    kinds: Values
    scores: dict[str, dict[str, float]]

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self.scores.values() if isinstance(self.scores, dict) else [None]
        if not all(isinstance(row, dict) and all(isinstance(v, int | float) for v in row.values()) for row in rows):
            raise UserError(f"scores: {shown(self.scores)} are not numbers by kind of images")


def names() -> list[str]:
    """The names of the networks that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def located(path: Path | str) -> Path:
    """A path itself, or, if there is no such file and a network is called so, that of the network."""
    path = Path(path)
    return FOLDER / f"{path}.safetensors" if not path.is_file() and str(path) in names() else path


def hint(path: Path | str) -> str:
    """What to say of a checkpoint that is not there: which networks could have been meant; "" if the folder holds none."""
    held = names()
    if not held or Path(path).name != str(path):
        return ""
    near = get_close_matches(str(path), held, 1)
    return f"did you mean {near[0]}? " if near else f"networks that come with minunet are {', '.join(held)}; "


def card(name: str) -> Card:
    """The card of a network; UserError if it is missing or damaged."""
    path = FOLDER / f"{name}.toml"
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(
            f"{path}, the card of the network {name}, cannot be read ({e}): install minunet again"
        ) from None
    if isinstance(told.get("date"), datetime.date):
        told["date"] = told["date"].isoformat()
    return Card.from_json(told, str(path))
