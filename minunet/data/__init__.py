"""Images with their masks: reading them, telling classes, making some up, and serving them in batches.

files/            files of images: PNG, TIFF, JPEG, OME-Zarr
layouts/          which file is the mask of which image
public/           public data sets, downloaded and checked
dataset.py        a data set on disk: `open_dataset`; split.py: which images validate
classes.py        from what a mask file holds to class numbers, and back; their colours
sample.py         one image with its mask; its grey values normalised
loader.py         batches of patches; augment.py: random distortions
targets.py        what the network learns in place of plain classes: borders; weightmap.py: the U-Net paper's weight map
label_images.py   instances on disk: label images, masks, stacks; rle.py: Kaggle's run lengths
instance_labels.py   instances in an array: numbered anew without gaps
checks.py         the known troubles of images and masks, for `minunet.doctor`
synthetic.py      made-up cells
command.py        `minunet data fetch NAME`
"""

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
