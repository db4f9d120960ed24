"""``python -m minunet.predict``: segment images with a trained network.

For every image X two files are written: X_mask.png, of the image's own size, 0 and 255 or the classes' colours; and
X_overlay.png, the image with its classes tinted and outlined. A stack of pages gives X_mask.tif.

With --instances the foreground is divided into objects: X_labels.tif numbers them, X_objects.csv lists their area (px),
centroid and bounding box (x, y in px from the top left) and mean intensity, and X_overlay.png shows their outlines.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..atomic import write_atomically
from ..checkpoint.load import load
from ..checkpoint.pytorch.container import is_torch_file
from ..cli import HelpFormatter, add_threads, number, run, typed, use_threads
from ..data import ClassMap, count_pages, read_image
from ..data.files.large import is_zarr
from ..errors import UserError
from ..kernels.device import select_device
from ..nn import Module
from . import overlay
from .images import find_images, keep_truth, show
from .inference import by_tiles, class_map, classify, collect, semantic, whole_probabilities
from .instance_files import save_labels, save_probabilities, save_rois, save_table
from .instances import MIN_SIZE, label_objects, output_names, target_of
from .out_of_core import is_streamed, note_blending, segment_streamed

EXAMPLES = """
examples:
  python -m minunet.predict -m runs/cells/best.safetensors -i cell.png -o out
  python -m minunet.predict -m best.safetensors -i plate1/ 'plate2/*.tif' -o out
  python -m minunet.predict -m runs/nuclei/best.safetensors -i nuclei/ -o out --instances
  python -m minunet.predict -m best.safetensors -i slide.tif plate.ome.zarr -o out --tta

TIFFs of more than 33 million pixels and OME-Zarr are read, segmented and written by tiles: X_mask.tif or X_mask.zarr.
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog=typed("predict"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    p.add_argument(
        "-m",
        "--model",
        required=True,
        nargs="+",
        metavar="FILE",
        help="checkpoint: a run's best.safetensors, or PyTorch-UNet's .pth; of several the probabilities are averaged",
    )
    p.add_argument(
        "-i", "--input", required=True, nargs="+", metavar="IMAGE", help="images, folders of images, or patterns"
    )
    p.add_argument("-o", "--output", default="predicted", metavar="DIR", help="folder for masks and overlays")
    p.add_argument("-v", "--viz", action="store_true", help="show every overlay in a window")
    p.add_argument("-n", "--no-save", action="store_true", help="write nothing")
    p.add_argument("-t", "--mask-threshold", type=number(float, 0, 1), default=0.5, metavar="P",
                   help="with two classes: probability from which on a pixel is foreground")  # fmt: skip
    p.add_argument("-s", "--scale", type=number(float, 0, 16, above=True),
                   help="factor for the images' size (default: that of the training)")  # fmt: skip
    p.add_argument(
        "--overlay", action=argparse.BooleanOptionalAction, default=True, help="write overlays beside the masks"
    )
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add_threads(p)
    p.add_argument("--tta", nargs="?", type=number(int, 1, 8), const=8, metavar="N",
                   help="average over N flips and rotations: 4 for the rotations, all 8 if N is not given, 1 for none "
                        "(default: as in training; 1 unless train was told --tta or --recipe paper)")  # fmt: skip
    g = p.add_argument_group("large images")
    g.add_argument("--tile", type=number(int, 0), metavar="PIXELS",
                   help="segment by tiles of this side; 0 for never (default: where memory is short)")  # fmt: skip
    g.add_argument("--overlap", type=number(int, 0), metavar="PIXELS",
                   help="what the network sees around a tile (default: what it needs)")  # fmt: skip
    g = p.add_argument_group("objects")
    g.add_argument("--instances", action="store_true", help="separate objects: X_labels.tif, X_objects.csv")
    g.add_argument("--rois", action="store_true", help="their outlines for ImageJ as X_rois.zip too")
    g.add_argument("--min-size", type=number(int, 0), default=MIN_SIZE, metavar="PIXELS",
                   help="objects of fewer pixels are dropped")  # fmt: skip
    g.add_argument("--split", action=argparse.BooleanOptionalAction, default=True,
                   help="divide foreground at its necks; without, objects are what is connected")  # fmt: skip
    g.add_argument("--probabilities", action="store_true", help="the classes' probabilities as X_probabilities.tif")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: predict(make_parser().parse_args(argv)))


def predict(args: argparse.Namespace) -> int:
    """Segment every image; those that cannot be read are named at the end, and the status is 2."""
    use_threads(args.threads)
    xp = select_device(args.device)
    model = load(*args.model).convert(xp.asarray)
    for file in filter(is_torch_file, args.model if args.scale is None else []):
        print(f"note: {file} does not tell the scale of its training; 1 is taken, PyTorch-UNet's default is -s 0.5")
    images = find_images(args.input)
    out = Path(args.output)
    if not args.no_save:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"cannot make the folder {out}: {e.strerror or e}; choose another --output") from e
    failed: list[str] = []
    for name, path in tqdm(images.items(), unit="image", disable=None if len(images) > 1 else True):
        try:
            if is_streamed(path, args.tile):
                stream_file(model, name, path, out, args)
                continue
            pages = list(segment_file(model, path, args))
        except UserError as e:  # this one cannot be read; the others can
            failed.append(str(e))
            continue
        masks = [(page.image, page.classes) for page in pages]
        if not args.no_save:
            objects = [(page.image, page.objects) for page in pages if page.objects is not None]
            if objects:
                keep_truth(out / f"{name}_labels.tif", path)
            save_pages(out, name, path, masks, class_map(model), args.overlay and not objects)
            if args.probabilities:
                maps = [page.probabilities for page in pages if page.probabilities is not None]
                save_probabilities(out / f"{name}_probabilities.tif", maps, output_names(model))
            if objects:
                save_objects(out, name, objects, args.overlay, args.rois)
        if args.viz:
            show([overlay.overlay(image, labels, class_map(model)) for image, labels in masks], path.name)
    written = len(images) - len(failed)
    if written and not args.no_save:
        print(f"{written} image{'s' * (written != 1)} segmented into {out}")
    if failed:
        raise UserError("\n       ".join(failed))
    return 0


class Page(NamedTuple):
    """What is made of one image; objects and probabilities only if they are to be written."""

    image: np.ndarray
    classes: np.ndarray
    objects: np.ndarray | None
    probabilities: np.ndarray | None


def segment_file(model: Module, path: Path, args: argparse.Namespace) -> Iterator[Page]:
    """Every page of a file, segmented."""
    pages = count_pages(path)
    for page in range(pages):
        image = read_image(path, page if pages > 1 else None)
        tiles = by_tiles(model, image, args.scale, args.tile, args.overlap, args.tta)
        if tiles and tiles.note:
            note_blending(path, tiles)
        p, objects = collect(tiles) if tiles else whole_probabilities(model, image, args.scale, args.tta), None
        if args.instances or args.rois:
            objects = label_objects(p, target_of(model), args.mask_threshold, args.min_size, args.split)
        yield Page(image, classify(semantic(model, p), args.mask_threshold), objects, p if args.probabilities else None)


def stream_file(model: Module, name: str, path: Path, out: Path, args: argparse.Namespace) -> None:
    """Segment a file that is too large for memory, every page of it, into files."""
    pages = 1 if is_zarr(path) else count_pages(path)
    for page in range(pages):
        base = out / (f"{name}_{page:03}" if pages > 1 else name)
        for what in ("mask.tif", "mask.zarr", "labels.tif", "labels.zarr"):
            keep_truth(Path(f"{base}_{what}"), path)
        number = page if pages > 1 else None
        picture = segment_streamed(model, path, number, None if args.no_save else base, args)
        if picture is not None and args.viz:
            show([picture], path.name)


def save_pages(
    out: Path, name: str, path: Path, pages: list[tuple[np.ndarray, np.ndarray]], classes: ClassMap, overlays: bool
) -> None:
    """Write a file's masks, one as PNG and several as a TIFF stack, and then its overlays."""
    masks = [classes.decode(labels) for _, labels in pages]
    target = out / f"{name}_mask.{'png' if len(masks) == 1 else 'tif'}"
    keep_truth(target, path)
    if len(masks) == 1:
        overlay.save_png(target, masks[0])
    else:
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.stack(masks), photometric="rgb" if masks[0].ndim == 3 else "minisblack")
        write_atomically(target, buffer.getvalue())
    for page, (image, labels) in enumerate(pages if overlays else []):
        number = f"_{page:03}" if len(pages) > 1 else ""
        overlay.save_png(out / f"{name}_overlay{number}.png", overlay.overlay(image, labels, classes))


def save_objects(out: Path, name: str, pages: list[tuple[np.ndarray, np.ndarray]], overlays: bool, rois: bool) -> None:
    """Write the objects of a file's pages (image, labels): label image, table, outlines, and then its overlays."""
    save_labels(out / f"{name}_labels.tif", [labels for _, labels in pages])
    save_table(out / f"{name}_objects.csv", pages)
    if rois:
        save_rois(out / f"{name}_rois.zip", [labels for _, labels in pages])
    for page, (image, labels) in enumerate(pages if overlays else []):
        number = f"_{page:03}" if len(pages) > 1 else ""
        overlay.save_png(out / f"{name}_overlay{number}.png", overlay.object_outlines(image, labels))
