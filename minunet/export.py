"""``python -m minunet.export``: a trained network as a file for other programs.

The ending of --output says which: .onnx for ONNX Runtime, OpenVINO, ImageJ and others; .pth for PyTorch-UNet; .safetensors for
minunet itself, from a .pth of PyTorch-UNet.

An ONNX file takes `image`, float32 (N, channels, H, W), of any size that the network takes, normalised as in training, and
gives `logits`, (N, classes, H, W). How to normalise is in its documentation, and in JSON in its metadata's entry "minunet".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .atomic import write_atomically
from .checkpoint.file import save_checkpoint
from .checkpoint.load import load
from .cli import HelpFormatter, run
from .errors import UserError

EXAMPLES = """
examples:
  python -m minunet.export -m runs/cells/best.safetensors -o model.onnx
  python -m minunet.export -m checkpoint_epoch5.pth -o model.safetensors
  python -m minunet.export -m best.safetensors -o model.pth --any-width
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m minunet.export", formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    p.add_argument("-m", "--model", required=True, metavar="FILE", help="checkpoint: ours, or PyTorch-UNet's .pth")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="what to write: .onnx, .pth or .safetensors")
    p.add_argument("--any-width", action="store_true",
                   help="for .pth: also if PyTorch-UNet would have to be edited to take it")  # fmt: skip
    p.add_argument("--mask-values", action="store_true",
                   help="for .pth: with the key that PyTorch-UNet's train.py -f expects")  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return run(lambda: export(args))


def export(args: argparse.Namespace) -> int:
    """Load, and write what the ending of --output says."""
    out, kind = Path(args.output), Path(args.output).suffix.lower()
    if kind not in (".onnx", ".pth", ".safetensors"):
        raise UserError(f"--output {out}: its ending must be .onnx, .pth or .safetensors")
    if kind != ".pth" and (args.any_width or args.mask_values):
        raise UserError(f"--any-width and --mask-values are for .pth files; leave them out for {out}")
    model = load(args.model)
    if out.exists() and out.samefile(args.model):
        raise UserError(f"--output {out} is the checkpoint itself: choose another name")
    if kind == ".pth":
        from .checkpoint.pytorch import save_torch

        save_torch(model, out, args.mask_values, args.any_width)
    elif kind == ".onnx":
        from .checkpoint.onnx import to_onnx

        write_atomically(out, to_onnx(model))
    else:
        save_checkpoint(out, model, model.data, {})
    data = model.data
    print(f"{out}: {model.num_params():,} parameters, {data['channels']} channels, {data['normalise']} normalisation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
