"""Images with their masks: reading files and data sets, finding classes, synthetic cells, augmentation, and batches.

files/            reading image files: PNG, TIFF of 1 to 16 bits or float, JPEG, OME-Zarr
layouts/          which file is the mask of which image
public/           public data sets, downloaded and checked
dataset.py        a data set on disk: `open_dataset`; arrays.py: in memory; image_set.py: the base of all data sets
mask_kinds.py     what the values of masks stand for, from what mask_scan.py counts of them; mask_noise.py: noisy ones;
                  mask_regions.py: classes or objects, by their connected pieces
classes.py        from mask values to class numbers and back, and their colours
sample.py         one image with its annotation; preprocess.py: channels, size and intensity as the network takes them
groups.py         kinds of images: by colour and brightness, or as a file says
nodata.py         pixels without data: NaN and constant borders
split.py          which images are held out for validation
loader.py         batches of patches; augment.py: random distortions
objects.py        how large objects are, and how a network's output is divided into them
targets.py        training targets for touching objects; weightmap.py: the U-Net paper's weight map
stars.py          star-convex polygons as a target: rays and probabilities
boxes.py          boxes as a target: which location of a detector answers for which object
label_images.py   instances on disk: label images, masks, stacks; rle.py: run-length encoding, Kaggle's format
instance_labels.py   numbering instances in an array without gaps
checks.py         common problems of images and masks, for `minunet.doctor`; findings.py: what it finds
object_sizes.py   how large objects are, and whether all are outlined, for `minunet.doctor`
synthetic.py      generated cells; filters.py: how they are blurred
command.py        `minunet data fetch NAME`
"""

from .classes import ClassMap
from .dataset import Dataset, open_dataset
from .files.images import read_image, read_mask
from .files.info import count_pages, read_info
from .files.large import open_large
from .image_set import ImageSet
from .layouts.ctc import TRUTHS
from .layouts.find import LAYOUTS
from .loader import Batches
from .preprocess import NORMALISATIONS, TARGETS, Preprocessing, normalise, prepare, to_channels
from .sample import Sample
from .split import read_names, split_indices
from .synthetic import SyntheticCells

__all__ = [
    "LAYOUTS",
    "NORMALISATIONS",
    "TARGETS",
    "TRUTHS",
    "Batches",
    "ClassMap",
    "Dataset",
    "ImageSet",
    "Preprocessing",
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
