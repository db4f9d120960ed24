"""``minunet look``: one page that shows a trained U-Net as it ran on an image.

The page shows every map of the U, forward, and then backward the gradient of a loss: the cross-entropy with the mask
(--mask), or, without one, with the network's own prediction, whose gradient shows where the network is not sure. A click on
an output pixel shows which input pixels it depends on. It needs no connection and nothing beside it.

The network sees the middle of the image, at most --size rows and columns of it, prepared as in training. What is too small
for it is mirrored outwards, as minunet.predict does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..atomic import write_atomically
from ..cli import HelpFormatter, add_quiet, add_threads, number, run, typed, use_threads
from ..errors import UserError

EXAMPLES = """
examples:
  %(prog)s -m runs/cells/best.safetensors -i cell.png -o look.html
  %(prog)s -m best.safetensors -i cell.png --mask cell_mask.png --size 384
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(prog=typed("look"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__)
    p.add_argument("-m", "--model", required=True, metavar="FILE",
                   help="checkpoint: a run's best.safetensors, or nuclei")  # fmt: skip
    p.add_argument("-i", "--input", required=True, metavar="IMAGE", help="image")
    p.add_argument("-o", "--output", default="look.html", metavar="FILE", help="page to write")
    p.add_argument(
        "--mask", metavar="FILE", help="the image's true mask: the gradients are those of the loss against it"
    )
    p.add_argument("--size", type=number(int, 1, 1024), default=256, metavar="PIXELS",
                   help="most rows and columns that the network sees, from the image's middle")  # fmt: skip
    p.add_argument("-s", "--scale", type=number(float, 0, 16, above=True),
                   help="factor for the image's size (default: that of the training)")  # fmt: skip
    p.add_argument("--grid", type=number(int, 1, 16), default=8, metavar="N", help="N x N output pixels to click on")
    add_threads(p)
    add_quiet(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: look(make_parser().parse_args(argv)))


def look(args: argparse.Namespace) -> int:
    """Run the network on the image and write the page."""
    from ..checkpoint.load import load
    from ..data import prepare, read_image
    from .inputs import cut_middle, read_labels
    from .show import show

    use_threads(args.threads, args.quiet)
    model = load(args.model)
    output = Path(args.output)
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: give the page a name, such as {output / 'look.html'}")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it first")
    image = read_image(args.input)
    known = model.preprocessing
    scale = args.scale or known.scale
    prepared = prepare(image, known.channels, known.normalise, scale)
    labels = args.mask and read_labels(model, args.mask, image.shape[:2], scale)
    x, labels = cut_middle(model, prepared, labels, args.size)
    about = {
        "model": Path(args.model).name,
        "image": Path(args.input).name,
        "mask": args.mask and Path(args.mask).name,
        "whole": list(prepared.shape[:2]),
        "params": model.num_params(),
    }
    write_atomically(output, show(model, x, labels, args.grid, about, args.quiet).encode())
    if not args.quiet:
        print(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0
