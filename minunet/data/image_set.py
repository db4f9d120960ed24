"""The base of all data sets: length, samples kept in memory, the split into training and validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .classes import ClassMap
from .groups import look_of
from .preprocess import Preprocessing
from .sample import Sample
from .split import split_indices

MEMORY = 2 * 1024**3  # bytes of samples that a data set keeps


class ImageSet:
    """Base of all data sets: a sequence of samples, of which as many are kept in memory as fit.

    A subclass sets the attributes below and defines `_read` and `describe`.

    Attributes
    ----------
    layout, path : str and Path (or None)
    names : list of str
    sizes : list of (H, W)
        Sizes of the samples' images.
    channels : int
        Channels of the samples' images.
    classes : ClassMap
        Classes of the samples' labels.
    normalise, scale : str and float
        How images are prepared, see `minunet.data.prepare`.
    warnings : list of str
        What the user should look at.
    ordered : bool
        Whether neighbours are alike, like sections of a volume or frames of a film; see `split`.
    held_out : list of str or None
        The names of the images that the data set itself holds out for validation.
    """

    layout: str
    path: Path | None = None
    names: list[str]
    sizes: list[tuple[int, int]]
    channels: int
    classes: ClassMap
    normalise: str = "percentile"
    scale: float = 1.0
    warnings: list[str]
    ordered: bool = False
    held_out: list[str] | None = None

    def __init__(self) -> None:
        self.warnings = []
        self._kept: dict[int, Sample] = {}
        self._free = MEMORY
        self._groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        sample = self._kept.get(index)
        if sample is None:
            sample = self._read(index)
            if sample.nbytes <= self._free:
                self._free -= sample.nbytes
                self._kept[index] = sample
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def _read(self, index: int) -> Sample:
        """Make the sample with this index; every data set has to define it."""
        raise NotImplementedError

    @property
    def groups(self) -> list[str]:
        """The kind of every image: by colour and brightness, unless other kinds were set, as from `read_groups`."""
        if self._groups is None:
            self._groups = [look_of(sample.image) for sample in self]
        return self._groups

    @groups.setter
    def groups(self, kinds: list[str]) -> None:
        if len(kinds) != len(self):
            raise ValueError(f"{len(kinds)} kinds for {len(self)} images")
        self._groups = list(kinds)

    def describe(self) -> str:
        """A report of some lines: what was found."""
        raise NotImplementedError

    @property
    def preprocessing(self) -> Preprocessing:
        """How these images are prepared, and what their classes are; a network that is trained on them keeps this."""
        return Preprocessing(self.channels, self.classes, self.normalise, self.scale)

    def split(
        self, percent: float = 10.0, seed: int = 0, names: Sequence[str] | None = None
    ) -> tuple[list[int], list[int]]:
        """Indices to train on and to validate on, see `split_indices`; in an ordered data set, the last images validate.

        A data set that is divided already, into train/ and val/, keeps its division unless there are names or another percent.
        """
        if names is None and self.held_out and percent == 10:
            names = self.held_out
        return split_indices(self.names, percent, seed, names, self.ordered)
