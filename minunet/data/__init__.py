"""Images with their masks: reading them, telling classes, making some up, and serving them in batches."""

from .classes import ClassMap
from .dataset import LAYOUTS, Dataset, ImageSet, open_dataset, read_names
from .files.images import count_pages, read_image, read_info, read_mask
from .files.large import open_large
from .layouts.ctc import TRUTHS
from .loader import Batches
from .sample import NORMALISATIONS, Sample, normalise, prepare, to_channels
from .split import split_indices
from .synthetic import SyntheticCells

__all__ = [
    "LAYOUTS",
    "NORMALISATIONS",
    "TRUTHS",
    "Batches",
    "ClassMap",
    "Dataset",
    "ImageSet",
    "Sample",
    "SyntheticCells",
    "count_pages",
    "normalise",
    "open_dataset",
    "open_large",
    "prepare",
    "read_image",
    "read_info",
    "read_mask",
    "read_names",
    "split_indices",
    "to_channels",
]
