"""The arguments of ``minunet train``: from flags, and a TOML file of them, to one checked and frozen `Arguments`.

Nothing here loads more than --help needs. So the choices of a flag are written out as words; the tests check that each word
exists where it is used.
"""

from __future__ import annotations

import argparse
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..cli import HelpFormatter, add_quiet, add_threads, number, typed
from ..errors import LISTS, Values, setting
from .config import ARCHITECTURE_NAMES, ENCODER_NAMES, TrainingConfig
from .config_file import COMMAND_LINE_ONLY, read_config

DESCRIPTION = """Train a U-Net on generated cells, or on your own images.

Everything goes into a run folder: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors, and
config.toml, with which --config repeats the run.
"""

# the values that --recipe gives to flags; a flag that is typed overrides it
RECIPES: dict[str, dict[str, Any]] = {
    "modern": {},  # the defaults
    # arXiv:1505.04597, which states no learning rate, schedule or dropout rate; the dropout is that of the authors' release
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
  %(prog)s                                    generated cells, about a minute
  %(prog)s --data DSB2018 -e 30 --crop 256    your images; the layout is recognised
  %(prog)s --resume runs/cells/last.safetensors
  %(prog)s --data DSB2018 --out RUN --resume auto   in a batch job: begins, or goes on
  %(prog)s --data MINE -f nuclei              start from learned weights, minunet's or your own
  %(prog)s --data MINE --encoder resnet34 --encoder-weights imagenet   an encoder that others have trained
  %(prog)s --data DSB2018 --target border     touching objects are to be told apart
  %(prog)s --data DSB2018 --recipe paper --base-width 16   as published, but narrower

layouts of --data:
  folder     imgs/ (or images/, image/) and masks/ (or labels/, label/), masks named like the image or with _mask, _masks,
             _segmentation ...; masks may be images, LabelMe's .json, ImageJ's ROI .zip or Cellpose's _seg.npy
  dsb2018    stage1_train/<id>/images and <id>/masks, one nucleus a file
  isbi2012   image/ and label/ PNG slices, or train-volume.tif and train-labels.tif
  ctc        01/, 02/ beside 01_GT/SEG or 01_ST/SEG (Cell Tracking Challenge)
  nnunet     imagesTr/ and labelsTr/ (nnU-Net; PNG and TIFF)
  coco       images and one JSON file of COCO annotations
  train/ and val/, each with one of these, divide the data set; test/ is left out
"""


@dataclass(frozen=True)
class Arguments(TrainingConfig):
    """All arguments of ``minunet train``, under the names of the flags; None where the data decide."""

    recipe: str = setting("modern", choices=("modern", "paper"))

    data: str | None = None
    layout: str = setting("auto", choices=("auto", "dsb2018", "isbi2012", "ctc", "nnunet", "coco", "folder"))
    truth_kind: str = setting("auto", choices=("auto", "gold", "silver", "complete"))
    validation: float = setting(10.0, least=0, most=90)
    val_files: str | None = None
    groups: str | None = None
    scale: float = setting(1.0, above=0, most=16)
    masks: str = setting("auto", choices=("auto", "classes", "objects", "binary"))
    ignore: Values = ()
    classes: int | None = setting(None, least=1, most=256)
    channels: int | None = setting(None, least=1)
    axes: str | None = None
    normalise: str = setting("percentile", choices=("percentile", "range", "none", "255"))

    target: str = setting("classes", choices=("classes", "border", "stardist", "instances"))
    rays: int = setting(32, least=4, most=256)
    border_width: float = setting(2.0, least=1, most=64)
    weight_map: bool = False
    balance: bool = True
    w0: float = setting(10.0, least=0)
    sigma: float = setting(5.0, above=0, most=100)
    cache: str | None = None

    arch: str = setting("unet", choices=ARCHITECTURE_NAMES)
    arch_options: Values = ()
    encoder: str | None = setting(None, choices=(*ENCODER_NAMES, None))
    encoder_weights: str | None = None
    base_width: int = setting(16, least=1)
    depth: int = setting(4, least=1, most=8)
    up: str = setting("transpose", choices=("transpose", "bilinear", "nearest"))
    norm: str = setting("batch", choices=("batch", "group", "none"))
    padding: str = setting("same", choices=("same", "valid"))
    dropout: float = setting(0.0, least=0, most=0.95)
    load: str | None = None
    init: str = setting("he", choices=("he", "uniform"))

    tta: int = setting(1, least=1, most=8)

    out: str | None = None
    resume: str | None = None
    device: str = setting("auto", choices=("auto", "cpu", "cuda"))
    graph: bool = False
    threads: int | None = setting(None, least=1)
    quiet: bool = False


FIELDS: dict[str, Field[Any]] = {f.name: f for f in fields(Arguments)}
FEW_EPOCHS = 5  # on generated cells
NETWORK = (
    "arch",
    "arch_options",
    "encoder",
    "base_width",
    "depth",
    "up",
    "norm",
    "padding",
)  # with --load from the checkpoint
FORMER = {"truth": "truth_kind"}  # arguments that had another name in earlier versions
AUTO = "auto"  # as the value of --resume
TITLE = "# minunet train --config config.toml repeats this run"  # the first line of a run's config.toml
NOT_KEPT = (*COMMAND_LINE_ONLY, "load", "encoder_weights", "device", "graph", "threads")  # not stored in checkpoints


def add(group: Any, *flags: str, **more: Any) -> None:
    """Add a flag whose default, type, range and choices are those of the field of `Arguments` with its name."""
    name = next(flag for flag in flags if flag.startswith("--"))[2:].replace("-", "_")
    f, kind = FIELDS[name], str(FIELDS[name].type).removesuffix(" | None")
    more.setdefault("default", f.default)
    if f.metadata.get("choices"):
        more["choices"] = [choice for choice in f.metadata["choices"] if choice is not None]
    elif kind == "bool":
        more["action"] = argparse.BooleanOptionalAction if f.default or name == "weight_map" else "store_true"
    elif kind in LISTS:
        more |= {"nargs": "+", "type": whole_or_text if kind == "Values" else number(float, f.metadata["least"])}
    elif kind in ("int", "float"):
        least, above, most = (f.metadata[limit] for limit in ("least", "above", "most"))
        more["type"] = number(int if kind == "int" else float, max(least, above), most, above > least)
    group.add_argument(*flags, **more)


def whole_or_text(text: str) -> int | str:
    """An argparse type: a whole number, or the text itself."""
    try:
        return int(text)
    except ValueError:
        return text


def make_parser() -> argparse.ArgumentParser:
    """The flags, in the order in which people need them."""
    p = argparse.ArgumentParser(
        prog=typed("train"),
        usage="%(prog)s [--data PATH] [flags]",
        formatter_class=HelpFormatter,
        epilog=EXAMPLES,
        description=DESCRIPTION,
    )
    add(p, "--recipe",
        help="paper: network, training, augmentation and weight map as Ronneberger et al. published them in 2015; "
             "flags given beside it override it")  # fmt: skip
    g = p.add_argument_group("data")
    add(g, "--data", metavar="PATH", help="folder of images and masks (default: generated cells)")
    add(g, "--layout", help="how --data is laid out")
    add(g, "--truth-kind",
        help="of layout ctc: gold, silver, gold frames in which every cell is outlined (complete), or auto: gold where it is "
             "complete, else silver")  # fmt: skip
    add(
        g,
        "-v",
        "--validation",
        metavar="PERCENT",
        help="share of the images held out for validation; 0 trains on all of them",
    )
    add(g, "--val-files", metavar="FILE",
        help="text file that lists the images (or folders, such as 02) to validate on, one on each line")  # fmt: skip
    add(g, "-s", "--scale", help="factor for the images' size")
    add(g, "--masks",
        help="what the values of masks stand for: classes, numbered objects, or a foreground with noise; auto: the report "
             "says which, and why")  # fmt: skip
    add(g, "--ignore", metavar="VALUE",
        help="values of masks that do not count, in the loss or in scores: 255, -1, or a colour 224,224,192")  # fmt: skip
    add(g, "-c", "--classes", metavar="N",
        help="output channels; 1 means a sigmoid (default: as many as the masks have values)")  # fmt: skip
    add(g, "--channels", metavar="N",
        help="image channels (default: 1 if all are grey, 3 if they are RGB, 2 or 4 if all have so many)")  # fmt: skip
    add(g, "--axes", metavar="LETTERS",
        help="the axes of TIFF and .npy images where they do not tell, or tell wrong: Y rows, X columns, C channels, any other "
             "letter images, such as ZYX, CYX or YXC")  # fmt: skip
    add(g, "--normalise", help="how grey values are normalised")
    add(g, "--crop", metavar="PIXELS", help="side of the training patches; 0 trains on whole images")
    add(g, "--foreground-share", metavar="SHARE",
        help="share of the patches that are placed to hold foreground, every class as often as the others")  # fmt: skip
    add(g, "--groups", metavar="FILE",
        help="lines of an image's name, a comma and its kind: scores are also reported by kind (default: by colour and "
             "brightness, where images differ)")  # fmt: skip
    add(g, "--even-groups", help="take as many patches of every kind of image, so that rare kinds are learnt")

    g = p.add_argument_group("augmentation")
    add(g, "--augment", help="flip, rotate, deform and relight the patches")
    add(g, "--bent", metavar="SHARE", help="share of patches that are rotated by any angle, scaled and deformed")
    add(g, "--zoom", metavar="FACTOR", help="such patches are magnified by 1/FACTOR to FACTOR")
    add(g, "--elastic", metavar="PIXELS", help="standard deviation of the displacements on a 3x3 grid, at most crop/32")
    add(g, "--interpolation", help="how images are interpolated; the paper's is cubic")
    add(g, "--invert", metavar="SHARE", help="share of patches in which light becomes dark, and dark light")
    add(g, "--recolour", metavar="SHARE", help="share of patches whose colours are mixed: any stain")

    g = p.add_argument_group("objects that touch (masks must number objects)")
    add(g, "--target",
        help="border: learn inside and border of objects as two classes; stardist: learn star-convex polygons, which suit "
             "round objects such as nuclei, with a loss of their own; instances: boxes and masks, which --arch instance_net "
             "learns and no other")  # fmt: skip
    add(g, "--rays", metavar="N", help="rays of a polygon, a multiple of 4")
    add(g, "--border-width", metavar="PIXELS", help="width of the class border; small objects get a narrower one")
    add(g, "--weight-map",
        help="the paper's weight map: balance classes, cut touching objects apart, and weight the gaps between")  # fmt: skip
    add(g, "--balance", help="whether the weight map balances classes; without it, objects keep their size")
    add(g, "--w0", metavar="WEIGHT", help="the weight map's w0: the weight added in narrow gaps between objects")
    add(g, "--sigma", metavar="PIXELS", help="the weight map's sigma: how wide a gap gets that weight")
    add(g, "--cache", metavar="DIR", help="folder that keeps the maps of the gaps for later runs")

    g = p.add_argument_group("network")
    add(g, "--arch", metavar="NAME",
        help="architecture; minunet models lists them (default: unet, or stardist where that is the target)")  # fmt: skip
    add(g, "--arch-options", metavar="NAME=VALUE",
        help="options of the architecture for which there is no flag; minunet models NAME lists them")  # fmt: skip
    add(g, "--encoder", help="classification network as the encoder; alone it means --arch encoder_unet")
    add(g, "--encoder-weights", metavar="FILE",
        help="weights that it starts from: a file of torchvision's, or imagenet: the official one, downloaded")  # fmt: skip
    add(g, "--base-width", metavar="N", help="channels of the first level; the U-Net paper's is 64")
    add(g, "--depth", metavar="N", default=None, help="number of poolings (default: the architecture's)")
    add(g, "--up", help="how maps are up-sampled")
    g.add_argument("--bilinear", action="store_const", dest="up", const="bilinear", help="the same as --up bilinear")
    add(g, "--norm", help="normalisation after convolutions")
    add(g, "--padding", help="valid: the paper's unpadded convolutions")
    add(g, "--dropout", metavar="RATE", help="dropout rate at the end of the contracting path")
    add(g, "-f", "--load", metavar="FILE",
        help="checkpoint to start from: its network, target and weights; ours, PyTorch-UNet's or "
             "segmentation_models.pytorch's, or nuclei. Unless --lr and --freeze say otherwise, the learning rate is a third, "
             "the encoder is frozen for a fifth of the epochs, its norms throughout")  # fmt: skip
    add(g, "--init", help="how weights start: N(0, sqrt(2/N)), the paper's, or U(-sqrt(1/N), sqrt(1/N)), PyTorch's")

    g = p.add_argument_group("training")
    add(g, "-e", "--epochs", default=None,
        help=f"passes over the images (default: {TrainingConfig.epochs}; {FEW_EPOCHS} on generated cells)")  # fmt: skip
    add(g, "--patience", metavar="N", default=None,
        help="stop when the validation score has not improved for N epochs (default: never)")  # fmt: skip
    add(g, "-b", "--batch-size", metavar="N", help="patches in a step")
    add(g, "-l", "--learning-rate", "--lr", metavar="RATE", help="learning rate at the start")
    add(g, "--encoder-lr", metavar="RATE",
        help="learning rate at the start of the network's encoder (default: that of the other parts); a tenth of theirs or "
             "less suits an encoder that has learned already")  # fmt: skip
    add(g, "--freeze", metavar="PART",
        help="parts of the network that do not learn, such as encoder, or encoder:3 for the first 3 epochs; norms: the "
             "encoder's batch norms alone, which suits small batches")  # fmt: skip
    add(g, "--loss", help="what is minimised")
    add(g, "--class-weights", metavar="WEIGHT",
        help="how much pixels of each class count in the loss, in the order of the classes (default: all alike)")  # fmt: skip
    add(g, "--optimizer", help="how weights are updated")
    add(g, "--momentum", help="momentum of sgd and rmsprop")
    add(g, "--weight-decay", help="pull of the weights towards 0")
    add(g, "--schedule", help="how the learning rate changes during training")
    add(g, "--clip", metavar="NORM", help="limit of the gradients' joint 2-norm (default: no limit)")
    add(g, "--ema", metavar="DECAY",
        help="validate and keep a moving average of the weights, over about 1 / (1 - DECAY) steps; 0.995 goes well with "
             "--schedule constant (default: none)")  # fmt: skip
    add(g, "--seed", help="seed of weights, split, patches and dropout")
    add(g, "--amp", nargs="?", const="fp16",
        help="mixed precision on a GPU (fp16 if no kind is given); on the CPU everything stays float32")  # fmt: skip
    add(g, "--sync-batch-norm",
        help="on several ranks (mpiexec): batch norms see the whole batch, as with one process; without, each rank's norms see "
             "its own patches, which is faster and another result")  # fmt: skip
    add(g, "--tta", metavar="N",
        help="predict will average over N flips and rotations unless its own flag says otherwise; 4: the four "
             "rotations. Validation does not average")  # fmt: skip

    g = p.add_argument_group("run")
    add(g, "--out", metavar="DIR", help="run folder (default: a new one under runs/)")
    add(g, "--resume", metavar="FILE",
        help="last.safetensors of a run to continue, with that run's flags; auto: begin a run in "
             "--out, or go on with the one that is there, for jobs that are started again and again")  # fmt: skip
    add(g, "--device", help="where to compute")
    add(g, "--graph",
        help="on a GPU, record a step as a CUDA graph and replay it; the numbers stay the same, and nobody has "
             "measured whether it is faster")  # fmt: skip
    add_threads(g)
    g.add_argument("--config", metavar="FILE",
                   help="TOML file of values for flags, such as the config.toml of a run; flags that are typed "
                        "override it")  # fmt: skip
    add_quiet(g)
    return p


def parse(argv: list[str] | None) -> tuple[Arguments, set[str]]:
    """The arguments, and the names of those that were typed or are in the file of --config.

    What was typed overrides the file, and the file overrides the recipe.

    Raises
    ------
    UserError
        If the file cannot be read, or a key in it is unknown or its value out of range.
    """
    parser = make_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return complete_arguments(vars(parser.parse_args(argv)))


def complete_arguments(entered: dict[str, Any]) -> tuple[Arguments, set[str]]:
    """What `parse` returns, of flags that were typed: the values of --config, --recipe and the data are added."""
    path = entered.pop("config", None)
    given = (read_config(path, FIELDS) if path else {}) | entered
    values = RECIPES[given.get("recipe", "modern")] | given
    if values.get("encoder") and not {"arch", "load", "resume"} & values.keys():
        values["arch"] = "encoder_unet"
    if values.get("epochs") is None and values.get("data") is None:
        values["epochs"] = FEW_EPOCHS
    return Arguments(**values), set(given)


def kept(args: Arguments) -> dict[str, Any]:
    """The arguments that checkpoints store, with absolute paths, so that --resume works from any folder."""
    return {name: value for name, value in whole_paths(args).to_json().items() if name not in NOT_KEPT}


def whole_paths(args: Arguments) -> Arguments:
    """The same arguments with absolute paths; the name of a network that comes with minunet stays."""
    names = [name for name in ("data", "val_files", "groups", "cache", "load") if getattr(args, name)]
    if args.load and not any(Path(args.load, *inside).is_file() for inside in ((), ("model.safetensors",))):
        names.remove("load")
    names += ["encoder_weights"] if args.encoder_weights not in (None, "imagenet") else []
    whole: dict[str, Any] = {name: str(Path(getattr(args, name)).resolve()) for name in names}
    return replace(args, **whole)


def from_checkpoint(stored: Any, path: Path | str) -> Arguments:
    """The arguments from what `kept` stored; UserError, naming file and argument, if a value is not allowed."""
    if isinstance(stored, dict):  # "network", of earlier versions, is in the checkpoint's own description, too
        stored = {FORMER.get(name, name): value for name, value in stored.items() if name != "network"}
    return Arguments.from_json(stored, f"{path}: train.arguments")
