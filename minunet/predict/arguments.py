"""The flags of ``python -m minunet.predict``."""

from __future__ import annotations

import argparse

from ..cli import HelpFormatter, add_quiet, add_threads, number, typed
from ..data.objects import SMOOTH
from ..data.preprocess import MAX_SCALE
from .options import AUTO, DEFAULTS, PredictionOptions

DESCRIPTION = """Segment images with a trained network.

For every image X two files are written: X_mask.png, of the image's own size, 0 and 255 or the classes' colours; and
X_overlay.png, the image with its classes tinted and outlined. A stack of pages gives X_mask.tif. With -o result.png, or .tif,
only that file is written, the mask of a single image.

With --instances the foreground is divided into objects: X_labels.tif numbers them, X_objects.csv lists their area (px),
centroid and bounding box (x, y in px from the top left) and mean intensity, and X_overlay.png shows their outlines.
"""

EXAMPLES = """
examples:
  %(prog)s -m runs/cells/best.safetensors -i cell.png -o out
  %(prog)s -m nuclei -i nuclei/ -o out --instances          without training
  %(prog)s -m best.safetensors -i plate1/ 'plate2/*.tif' -o out
  %(prog)s -m runs/nuclei/best.safetensors -i nuclei/ -o out --instances
  %(prog)s -m best.safetensors -i large_cells/ -o out --instances --diameter auto
  %(prog)s -m best.safetensors -i slide.tif plate.ome.zarr -o out --tta

TIFFs of more than 33 million pixels and OME-Zarr are read, segmented and written by tiles: X_mask.tif or X_mask.zarr.
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog=typed("predict"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=DESCRIPTION
    )
    p.add_argument("-m", "--model", required=True, nargs="+", metavar="FILE",
                   help="checkpoint: a run's best.safetensors, or one of PyTorch-UNet's or "
                        "segmentation_models.pytorch's, or nuclei, the network that comes with minunet; the probabilities "
                        "of several are averaged")  # fmt: skip
    p.add_argument("-i", "--input", required=True, nargs="+", metavar="IMAGE",
                   help="images, folders of images, patterns, or a data set as minunet.train takes it")  # fmt: skip
    p.add_argument("-o", "--output", default="predicted", metavar="PATH",
                   help="folder for masks and overlays; or, for one image, the mask's file, such as result.png")  # fmt: skip
    p.add_argument("--as", dest="masks_as", choices=["colours", "numbers"], default=DEFAULTS.masks_as,
                   help="what masks hold: colours of classes (0 and 255 for two), or the classes' numbers from 0")  # fmt: skip
    p.add_argument("--pixel-size", type=number(float, 0, above=True), metavar="MICROMETRES",
                   help="width and height of a pixel (default: as the images' files tell)")  # fmt: skip
    p.add_argument("--axes", metavar="LETTERS",
                   help="the axes of TIFF, .npy and zarr images where they do not tell, or tell wrong: Y rows, X columns, "
                        "C channels, any other letter images, such as ZYX, CYX, TCYX or YXC")  # fmt: skip
    p.add_argument("-v", "--viz", action="store_true", help="show every overlay in a window")
    p.add_argument("-n", "--no-save", action="store_true", help="write nothing")
    p.add_argument("-t", "--mask-threshold", type=number(float, 0, 1), metavar="P",
                   help="with two classes: probability above which a pixel is foreground, or, after --target stardist, has a "
                        "polygon (default: 0.5; for objects as the checkpoint says)")  # fmt: skip
    p.add_argument("-s", "--scale", type=number(float, 0, MAX_SCALE, above=True),
                   help="factor for the images' size (default: that of the training)")  # fmt: skip
    p.add_argument("--diameter", type=pixels_or_auto, metavar="PIXELS",
                   help="how wide objects are, in place of --scale: images are resized so that the network sees objects as "
                        "large as those that it was trained on; auto: measured in each image")  # fmt: skip
    p.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True,
                   help="write overlays beside the masks")  # fmt: skip
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add_threads(p)
    p.add_argument("--tta", nargs="?", type=number(int, 1, 8), const=8, metavar="N",
                   help="average over N flips and rotations: 4 for the rotations, 8 (if N is left out) for all, 1 for none "
                        "(default: as the checkpoint says: 1, or what train --tta or --recipe paper set)")  # fmt: skip
    add_quiet(p)
    p.add_argument("--json", action="store_true", help="print what was written as one JSON object, and nothing else")
    add_large_images(p.add_argument_group("large images"))
    add_objects(p.add_argument_group("objects"))
    add_many(p.add_argument_group("many processes and machines (OME-Zarr alone)"))
    return p


def pixels_or_auto(text: str) -> float | str:
    """An argparse type: a number above 0, or "auto"."""
    return text if text == AUTO else number(float, 0, above=True)(text)


def add_large_images(g: argparse._ArgumentGroup) -> None:
    """Flags for tiles."""
    g.add_argument("--tile", type=number(int, 0), metavar="PIXELS",
                   help="segment by tiles of this side; 0 for no tiles (default: tiles if memory is short)")  # fmt: skip
    g.add_argument("--overlap", type=number(int, 0), metavar="PIXELS",
                   help="how much the network sees around a tile (default: as much as it needs)")  # fmt: skip


def add_objects(g: argparse._ArgumentGroup) -> None:
    """Flags for separate objects."""
    g.add_argument("--instances", action="store_true", help="separate objects: X_labels.tif, X_objects.csv")
    g.add_argument("--rois", action="store_true", help="separate objects, with outlines for ImageJ: X_rois.zip")
    tuned = "default: as the checkpoint says, where the training tuned it; else"
    g.add_argument("--min-size", type=number(int, 0), metavar="PIXELS",
                   help=f"objects of fewer pixels are dropped ({tuned} 20)")  # fmt: skip
    g.add_argument("--neck", type=number(float, 0, 1), metavar="SHARE",
                   help="split objects at necks narrower than this share of their width: less splits less, 0 only at "
                        f"borders ({tuned} 0.9, and 0.8 after --target border)")  # fmt: skip
    g.add_argument("--smooth", type=number(float, 0, SMOOTH), metavar="PIXELS",
                   help=f"sigma by which outlines are smoothed before necks are looked for ({tuned} 1)")  # fmt: skip
    g.add_argument("--nms", type=number(float, 0, 1), metavar="SHARE",
                   help="after --target stardist: of two polygons that share more than this of the smaller one, the less "
                        f"probable one is dropped ({tuned} 0.4)")  # fmt: skip
    g.add_argument("--split", action=argparse.BooleanOptionalAction, default=True,
                   help="split foreground at narrow necks; without it, objects are connected regions")  # fmt: skip
    g.add_argument("--probabilities", action="store_true", help="the classes' probabilities as X_probabilities.tif")


def add_many(g: argparse._ArgumentGroup) -> None:
    """Flags for many processes."""
    which = g.add_mutually_exclusive_group()
    which.add_argument("--workers", type=number(int, 1), metavar="N",
                       help="segment by N processes of this machine, each on --threads (default: cores over N)")  # fmt: skip
    which.add_argument("--dask", metavar="ADDRESS",
                       help="segment by the workers of a Dask scheduler, such as tcp://10.0.0.1:8786; all of them see the "
                            "same files. A run that was stopped goes on when it is started again")  # fmt: skip


def options_of(args: argparse.Namespace) -> PredictionOptions:
    """The options that the flags ask for."""
    return PredictionOptions(
        threshold=args.mask_threshold, scale=args.scale, diameter=args.diameter,
        tile=args.tile, overlap=args.overlap, tta=args.tta,
        instances=args.instances, min_size=args.min_size, split=args.split, neck=args.neck, smooth=args.smooth, nms=args.nms,
        rois=args.rois,
        probabilities=args.probabilities, overlays=args.overlay,
        axes=args.axes, masks_as=args.masks_as, pixel_size=args.pixel_size,
    )  # fmt: skip
