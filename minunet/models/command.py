"""``minunet models``: the networks that ``train --arch`` takes, with what they cost.

Parameters are counted, and multiplications and additions of convolutions on one image, without taking memory for weights. The
widths are those of the papers; ``train`` begins with a base width of 16.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..cli import HelpFormatter, number, run, typed

EXAMPLES = """
examples:
  %(prog)s
  %(prog)s unet               its options, too
  %(prog)s unet base_width=16 depth=3 --size 512
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog=typed("models"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    p.add_argument("name", nargs="?", metavar="NAME", help="an architecture, or a trained network (default: all)")
    p.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="options of that architecture")
    p.add_argument("--size", type=number(int, 1, 65536), default=256, metavar="PIXELS", help="side of the image")
    p.add_argument("--channels", type=number(int, 1), default=3, metavar="N", help="channels of the image")
    p.add_argument("--classes", type=number(int, 1), default=2, metavar="N", help="output channels")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: show(make_parser().parse_args(argv)))


def show(args: argparse.Namespace) -> int:
    """Print the networks as a table, or as JSON."""
    from . import OPTIONS, options_of, shipped

    held = shipped.names()
    if args.name in held and args.name not in OPTIONS:
        print(json.dumps(trained(args.name)) if args.json else "\n".join(told(args.name)))
        return 0
    names = [args.name] if args.name else list(OPTIONS)
    chosen = options_of(args.name).from_texts(args.options) if args.name else {}
    rows = [costs(name, args.size, in_channels=args.channels, num_classes=args.classes, **chosen) for name in names]
    if args.json:
        head = {"size": args.size, "channels": args.channels, "classes": args.classes, "networks": rows}
        print(json.dumps(head if args.name else head | {"trained": list(map(trained, held))}))
        return 0
    width = max(len("network"), *map(len, names))
    print(f"{'network':<{width}}{'parameters':>13}{'GFLOP':>9}  what")
    for row in rows:
        gflop = "" if row["gflop"] is None else f"{row['gflop']:.1f}"
        print(f"{row['name']:<{width}}{row['parameters']:>13,}{gflop:>9}  {row['what']}")
    size = f"an image of {args.size} x {args.size} x {args.channels}"
    print(f"\nGFLOP: 10^9 multiplications and additions of one forward on {size}, to {args.classes} outputs")
    if args.name:
        print("\n" + "\n".join(f"  {name} = {value}" for name, value in rows[0]["options"].items()))
    else:
        print(f"{typed('models')} NAME lists the options of a network")
    if held and not args.name:
        print("\ntrained; NAME is what -m and -f take, for the path of a checkpoint")
        print("\n\n".join("\n".join(told(name)) for name in held))
    return 0


def trained(name: str) -> dict[str, Any]:
    """The card of a network that comes with minunet, with its name."""
    from . import shipped

    return {"name": name, **shipped.card(name).to_json()}


def told(name: str) -> list[str]:
    """The lines that show such a card."""
    card = trained(name)
    lines = [f"{card.pop('name')}: {card.pop('title')}"]
    scores = card.pop("scores")
    card["diameter"] = f"{card['diameter']:g} pixels"
    card["kinds"] = ", ".join(map(str, card["kinds"]))
    lines += [f"  {key:<10}{value}" for key, value in card.items()]
    for kind, row in scores.items():
        lines.append(f"  {'scores' if kind == next(iter(scores)) else '':<10}{kind}: " + ", ".join(
            f"{measure} {value:.3g}" for measure, value in row.items()))  # fmt: skip
    return lines


def costs(name: str, size: int = 256, **options: Any) -> dict[str, Any]:
    """A network's name, first line of docs, options, parameters, and 10^9 operations on one image; None if it is too small."""
    from . import outline
    from .summary import summary

    model = outline(name, **options)
    chosen = model.architecture
    fits = model.fit_size(size) == size
    flops = summary(model, (1, size, size, chosen.in_channels)).flops if fits else None
    return {
        "name": name,
        "what": (sys.modules[type(model).__module__].__doc__ or "").strip().split("\n")[0].rstrip("."),
        "parameters": model.num_params(),
        "gflop": None if flops is None else flops / 1e9,
        "options": {option: getattr(chosen, option) for option in chosen.own()},
    }
