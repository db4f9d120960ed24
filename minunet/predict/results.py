"""What a prediction did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageResult:
    """What was made of one image.

    Attributes
    ----------
    name : str
        What the names of its files begin with.
    source : path of the image
    pages : int
    files : paths of what was written
    objects : int or None
        How many there are on all pages, if they were told apart.
    notes : what a reader of the results should know
    """

    name: str
    source: Path
    pages: int
    files: list[Path] = field(default_factory=list)
    objects: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prediction:
    """What `predict_files` did: the images, and of those that failed the reasons by their paths."""

    images: list[ImageResult]
    failures: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        rows = [
            asdict(image) | {"source": str(image.source), "files": list(map(str, image.files))} for image in self.images
        ]
        failures = [{"source": source, "error": error} for source, error in self.failures.items()]
        return {"images": rows, "failures": failures}
