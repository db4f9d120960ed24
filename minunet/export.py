"""``minunet export``: a trained network as a file for other programs.

The ending of --output chooses the format: .onnx for ONNX Runtime, OpenVINO, ImageJ and others; .pth for PyTorch-UNet;
.safetensors for minunet itself, from a .pth of PyTorch-UNet, or from a run's checkpoint without the state of the training.

The input of an ONNX file is `image`, float32 (N, channels, H, W), of any size that the network takes, normalised as in
training; the output is `logits`, (N, classes, H, W). The file's documentation says how to normalise; its metadata's entry
"minunet" says it in JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .atomic import write_atomically
from .cli import HelpFormatter, add_quiet, run, typed
from .errors import UserError

EXAMPLES = """
examples:
  %(prog)s -m runs/cells/best.safetensors -o model.onnx
  %(prog)s -m checkpoint_epoch5.pth -o model.safetensors
  %(prog)s -m best.safetensors -o model.pth --any-width
  %(prog)s -m best.safetensors -o small.safetensors --half
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog=typed("export"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    p.add_argument("-m", "--model", required=True, metavar="FILE",
                   help="checkpoint: ours, PyTorch-UNet's .pth, or nuclei")  # fmt: skip
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="what to write: .onnx, .pth or .safetensors")
    p.add_argument("--any-width", action="store_true",
                   help="for .pth: also write networks that only an edited PyTorch-UNet can load")  # fmt: skip
    p.add_argument("--mask-values", action="store_true",
                   help="for .pth: with the key that PyTorch-UNet's train.py -f expects")  # fmt: skip
    p.add_argument("--half", action="store_true",
                   help="for .safetensors: weights in half precision, so that the file is half as large")  # fmt: skip
    add_quiet(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: export(make_parser().parse_args(argv)))


def export(args: argparse.Namespace) -> int:
    """Load, and write what the ending of --output says."""
    from .checkpoint.load import load
    from .models import shipped

    out, kind = Path(args.output), Path(args.output).suffix.lower()
    if kind not in (".onnx", ".pth", ".safetensors"):
        raise UserError(f"--output {out}: its ending must be .onnx, .pth or .safetensors")
    if kind != ".pth" and (args.any_width or args.mask_values):
        raise UserError(f"--any-width and --mask-values are for .pth files; leave them out for {out}")
    if kind != ".safetensors" and args.half:
        raise UserError(f"--half is for .safetensors files; leave it out for {out}")
    model = load(args.model)
    if out.exists() and out.samefile(shipped.located(args.model)):
        raise UserError(f"--output {out} is the checkpoint itself: choose another name")
    if kind == ".pth":
        from .checkpoint.pytorch import save_torch

        save_torch(model, out, args.mask_values, args.any_width)
    elif kind == ".onnx":
        from .checkpoint.onnx import to_onnx

        write_atomically(out, to_onnx(model))
    else:
        from .checkpoint.file import save_checkpoint

        save_checkpoint(out, model, half=args.half)
    known = model.preprocessing
    if not args.quiet:
        print(f"{out}: {model.num_params():,} parameters, {known.channels} channels, {known.normalise} normalisation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
