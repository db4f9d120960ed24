"""``minunet gradcheck``: check every op and model and print a table."""

from __future__ import annotations

import argparse

from ..cli import add_threads, run, typed, use_threads


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    parser = argparse.ArgumentParser(prog=typed("gradcheck"), description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only what has NAME in its name (default: all)")
    parser.add_argument("--bugs", action="store_true", help="also plant the known bugs, each of which must be caught")
    parser.add_argument("--reference", action="store_true", help="check the plain ops, without the fast kernels")
    parser.add_argument("--seed", type=int, default=0, help="for inputs and upstream gradients (default: 0)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every argument of every check")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute (default: cpu)")
    add_threads(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the table; exit status 1 if a gradient is wrong or a planted bug goes unnoticed."""
    return run(lambda: check_all(make_parser().parse_args(argv)))


def check_all(args: argparse.Namespace) -> int:
    """Check what the flags say."""
    from ..kernels.device import select_device
    from ..ops.dispatch import use
    from .bugs import BUGS
    from .cases import CASES

    use_threads(args.threads)
    xp = select_device(args.device)
    bad = 0
    with use("reference" if args.reference else "fast"):
        print(f"{'gradient of':<32}{'arguments':>10}{'checked':>9}{'rejected':>9}{'error':>10}")
        for case in [c for c in CASES if all(n in c.name for n in args.names)]:
            report = case.run(seed=args.seed, xp=xp, raises=False)
            bad += not report.ok
            checked, rejected = sum(r.checked for r in report.rows), sum(r.rejected for r in report.rows)
            error = max(r.error for r in report.rows)
            verdict = "ok" if report.ok else "WRONG"
            print(f"{case.name:<32}{len(report.rows):>10}{checked:>9}{rejected:>9}{error:>10.1e}  {verdict}")
            if args.verbose or not report.ok:
                print(report)
        for bug in BUGS if args.bugs else []:
            caught = not bug.run(seed=args.seed, raises=False).ok
            bad += not caught
            print(f"{'caught' if caught else 'MISSED'}  {bug.name}: {bug.story}")
    print("all gradients are right" if not bad else f"{bad} wrong")
    return 1 if bad else 0
