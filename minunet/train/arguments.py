"""The flags of ``python -m minunet.train``."""

from __future__ import annotations

import argparse
from typing import Any

from ..cli import HelpFormatter, add_threads, number, typed
from ..data import LAYOUTS, NORMALISATIONS, TRUTHS
from ..data.targets import TARGETS, Target
from ..models import ARCHITECTURES
from ..optim import OPTIMIZERS, Schedule
from .amp import KINDS
from .config import Config

DESCRIPTION = """Train a U-Net on generated cells, or on your own images.

Everything goes into a run folder: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors.
"""

# what --recipe stands for; a flag that is given beside it wins
RECIPES: dict[str, dict[str, Any]] = {
    "modern": {},  # the defaults
    # arXiv:1505.04597; no learning rate, schedule or dropout rate is stated there. Dropout is that of the authors' release
    "paper": {
        "base_width": 64, "depth": 4, "up": "transpose", "norm": "none", "padding": "valid", "dropout": 0.5, "init": "he",
        "crop": 572, "batch_size": 1, "bent": 1.0, "zoom": 1.0, "elastic": 10.0, "interpolation": "cubic",
        "optimizer": "sgd", "momentum": 0.99, "learning_rate": 1e-3, "schedule": "constant", "loss": "ce",
        "target": "classes", "weight_map": True, "balance": True, "w0": 10.0, "sigma": 5.0,
        "tta": 4,  # the paper averages over 7 rotations, of which 4 keep the pixels
    },
}  # fmt: skip

EXAMPLES = """
examples:
  python -m minunet.train                                    generated cells, about a minute
  python -m minunet.train --data DSB2018 -e 30 --crop 256    your images; the layout is recognised
  python -m minunet.train --resume runs/cells/last.safetensors
  python -m minunet.train --data MINE -f runs/cells/best.safetensors   start from learned weights
  python -m minunet.train --data DSB2018 --target border     touching objects are to be told apart
  python -m minunet.train --data DSB2018 --recipe paper --base-width 16   as published, but narrower

layouts of --data:
  folder     imgs/ (or images/) and masks/, masks named like the image or with _mask or _masks
  dsb2018    stage1_train/<id>/images and <id>/masks, one nucleus a file
  isbi2012   image/ and label/ PNG slices, or train-volume.tif and train-labels.tif
  ctc        01/, 02/ beside 01_GT/SEG or 01_ST/SEG (Cell Tracking Challenge)
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags, in the order in which people need them."""
    d, t = Config(), Target()
    p = argparse.ArgumentParser(
        prog=typed("train"),
        usage="%(prog)s [--data PATH] [flags]",
        formatter_class=HelpFormatter,
        epilog=EXAMPLES,
        description=DESCRIPTION,
    )
    p.add_argument("--recipe", choices=sorted(RECIPES), default="modern",
                   help="paper: network, training, augmentation and weight map as Ronneberger et al. published them in 2015; "
                        "flags given beside it win")  # fmt: skip
    g = p.add_argument_group("data")
    g.add_argument("--data", metavar="PATH", help="folder of images and masks (default: generated cells)")
    g.add_argument("--layout", choices=["auto", *LAYOUTS], default="auto", help="how --data is laid out")
    g.add_argument("--truth", choices=TRUTHS, default="auto",
                   help="of layout ctc: gold, silver, or gold frames in which every cell is outlined")  # fmt: skip
    g.add_argument("-v", "--validation", type=number(float, 0, 90), default=10.0, metavar="PERCENT",
                   help="share of the images held out to validate")  # fmt: skip
    g.add_argument(
        "--val-files",
        metavar="FILE",
        help="text file that lists the images (or folders: 02) to validate on, one a line",
    )
    g.add_argument(
        "-s", "--scale", type=number(float, 0, 16, above=True), default=1.0, help="factor for the images' size"
    )
    g.add_argument("-c", "--classes", type=number(int, 1, 64), metavar="N",
                   help="output channels; 1 means a sigmoid (default: as many as the masks have values)")  # fmt: skip
    g.add_argument(
        "--channels", type=number(int, 1), metavar="N", help="image channels (default: 1 if all are grey, else 3)"
    )
    g.add_argument("--normalise", choices=NORMALISATIONS, default="percentile", help="what is done to grey values")
    g.add_argument("--crop", type=number(int, 0), default=d.crop, metavar="PIXELS",
                   help="side of the training patches; 0 trains on whole images")  # fmt: skip

    g = p.add_argument_group("augmentation")
    g.add_argument("--augment", action=argparse.BooleanOptionalAction, default=d.augment,
                   help="flip, rotate, deform and relight the patches")  # fmt: skip
    g.add_argument("--bent", type=number(float, 0, 1), default=d.bent, metavar="SHARE",
                   help="share of the patches that are turned by any angle, scaled and deformed")  # fmt: skip
    g.add_argument("--zoom", type=number(float, 1, 4), default=d.zoom, metavar="FACTOR",
                   help="these are magnified by 1/FACTOR to FACTOR")  # fmt: skip
    g.add_argument("--elastic", type=number(float, 0), default=d.elastic, metavar="PIXELS",
                   help="standard deviation of the displacements on a 3x3 grid, at most crop/32")  # fmt: skip
    g.add_argument("--interpolation", choices=["linear", "cubic"], default=d.interpolation,
                   help="how images are read between pixels; the paper's is cubic")  # fmt: skip

    g = p.add_argument_group("objects that touch (masks must number objects)")
    g.add_argument("--target", choices=TARGETS, default=t.kind,
                   help="border: learn inside and border of objects as two classes")  # fmt: skip
    g.add_argument("--border-width", type=number(float, 1, 64), default=t.border_width, metavar="PIXELS",
                   help="of the class border; small objects get a narrower one")  # fmt: skip
    g.add_argument("--weight-map", action=argparse.BooleanOptionalAction, default=t.weight_map,
                   help="the paper's: balance classes, cut touching objects apart, and stress what lies between")  # fmt: skip
    g.add_argument("--balance", action=argparse.BooleanOptionalAction, default=t.balance,
                   help="whether the weight map balances classes; without, objects keep their size")  # fmt: skip
    g.add_argument("--w0", type=number(float, 0), default=t.w0, metavar="WEIGHT", help="the weight between objects")
    g.add_argument("--sigma", type=number(float, 0, 100, above=True), default=t.sigma, metavar="PIXELS",
                   help="how near objects must be for that")  # fmt: skip
    g.add_argument("--cache", metavar="DIR", help="keep the maps of what lies between objects here, for later runs")

    g = p.add_argument_group("network")
    g.add_argument("--arch", choices=sorted(ARCHITECTURES), default="unet", help="architecture")
    g.add_argument(
        "--base-width",
        type=number(int, 1),
        default=16,
        metavar="N",
        help="channels of the first level; the paper's is 64",
    )
    g.add_argument("--depth", type=number(int, 1, 8), default=4, metavar="N", help="number of poolings")
    g.add_argument(
        "--up", choices=["transpose", "bilinear", "nearest"], default="transpose", help="how maps grow again"
    )
    g.add_argument("--bilinear", action="store_const", dest="up", const="bilinear", help="the same as --up bilinear")
    g.add_argument(
        "--norm", choices=["batch", "group", "none"], default="batch", help="normalisation after convolutions"
    )
    g.add_argument(
        "--padding", choices=["same", "valid"], default="same", help="valid: the paper's unpadded convolutions"
    )
    g.add_argument(
        "--dropout", type=number(float, 0, 0.95), default=0.0, metavar="RATE", help="at the end of the contracting path"
    )
    g.add_argument(
        "-f", "--load", metavar="FILE", help="checkpoint to start from: its network and weights; ours or PyTorch-UNet's"
    )
    g.add_argument("--init", choices=["he", "uniform"], default="he",
                   help="how weights start: N(0, sqrt(2/N)), the paper's, or U(-sqrt(1/N), sqrt(1/N)), PyTorch's")  # fmt: skip

    g = p.add_argument_group("training")
    g.add_argument(
        "-e",
        "--epochs",
        type=number(int, 1),
        help=f"passes over the images (default: {d.epochs}; 5 on generated cells)",
    )
    g.add_argument("-b", "--batch-size", type=number(int, 1), default=d.batch_size, metavar="N", help="patches a step")
    g.add_argument("-l", "--learning-rate", "--lr", type=number(float, 0, above=True), default=d.learning_rate, metavar="RATE",
                   help="learning rate at the start")  # fmt: skip
    g.add_argument(
        "--loss", choices=["ce", "bce", "dice", "ce+dice", "focal"], default=d.loss, help="what is minimised"
    )
    g.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default=d.optimizer, help="how weights are updated")
    g.add_argument("--momentum", type=number(float, 0, 1), default=d.momentum, help="of sgd and rmsprop")
    g.add_argument(
        "--weight-decay", type=number(float, 0), default=d.weight_decay, help="pull of the weights towards 0"
    )
    g.add_argument("--schedule", choices=Schedule.names, default=d.schedule, help="the learning rate over time")
    g.add_argument(
        "--clip", type=number(float, 0), default=d.clip, metavar="NORM", help="longest gradient (default: no limit)"
    )
    g.add_argument("--ema", type=number(float, 0, 0.99999), default=d.ema, metavar="DECAY",
                   help="validate and keep a moving average of the weights over some 1 / (1 - DECAY) steps, such as 0.995; "
                        "then --schedule constant does well (default: none)")  # fmt: skip
    g.add_argument("--seed", type=number(int, 0), default=d.seed, help="of weights, split, patches and dropout")
    g.add_argument("--amp", nargs="?", choices=KINDS, const="fp16",
                   help="mixed precision on a GPU, fp16 if not said; on the CPU everything stays float32")  # fmt: skip

    g.add_argument("--tta", type=number(int, 1, 8), default=1, metavar="N",
                   help="predict will average over N flips and rotations unless told otherwise, 4 for the rotations; "
                        "validation does not")  # fmt: skip

    g = p.add_argument_group("run")
    g.add_argument("--out", metavar="DIR", help="run folder (default: a new one under runs/)")
    g.add_argument("--resume", metavar="FILE", help="last.safetensors of a run to continue, with that run's flags")
    g.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    g.add_argument("--graph", action="store_true", help="on a GPU, record a step as a CUDA graph and replay it; the "
                   "numbers stay the same, and nobody has measured whether it is faster")  # fmt: skip
    add_threads(g)
    return p


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, set[str]]:
    """The flags' values, with those of the recipe where none was given, and the names of those that were given."""
    args = make_parser().parse_args(argv)
    silent = make_parser()
    for action in silent._actions:
        action.default = argparse.SUPPRESS
    given = set(vars(silent.parse_args(argv)))
    vars(args).update({name: value for name, value in RECIPES[args.recipe].items() if name not in given})
    return args, given
