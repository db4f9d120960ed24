"""What `predict_files` returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageResult:
    """The result for one image.

    Attributes
    ----------
    name : str
        The names of its files begin with this.
    source : path of the image
    pages : int
    files : paths of what was written
    objects : int or None
        Number of objects on all pages; None if they were not separated.
    notes : list of str
        What a reader of the results should know.
    diameter : float or None
        How wide objects were taken to be, in pixels, by the option of this name; of pages the median; None without it.
    """

    name: str
    source: Path
    pages: int
    files: list[Path] = field(default_factory=list)
    objects: int | None = None
    notes: list[str] = field(default_factory=list)
    diameter: float | None = None


@dataclass(frozen=True)
class Prediction:
    """The results of all images; for images that failed, the error messages by path; and notes on what was left out."""

    images: list[ImageResult]
    failures: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        rows = [
            asdict(image) | {"source": str(image.source), "files": list(map(str, image.files))} for image in self.images
        ]
        failures = [{"source": source, "error": error} for source, error in self.failures.items()]
        return {"images": rows, "failures": failures, "notes": self.notes}
