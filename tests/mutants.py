"""Mutate every answer of the grader's exercises, and see that every mutant loses points.

    python tests/mutants.py                        all mutants, with up to 50 seeds each
    python tests/mutants.py conv_forward nms       those of some exercises
    python tests/mutants.py --count 100 --draw 7   100 drawn ones

A mutant is an answer with one small change (tests/helpers/mutate.py): it must get less than full points with one of the seeds.
One that never does is either the same function in other words, and stands with its reason in tests/grade/survivors.toml, or
shows what the grader does not ask. What is printed: the survivors without a reason; those that had to wait for a seed, and are
caught by luck; reasons that are no longer needed. The exit status is 1 if a survivor has no reason.
"""

import argparse
import random
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from helpers.mutate import Mutant, mutants

from minunet.grade.exercise import Exercise
from minunet.grade.exercises import EXERCISES
from minunet.grade.process.runner import Local
from minunet.ops.dispatch import use

SURVIVORS = Path(__file__).parent / "grade" / "survivors.toml"

BESIDE = ("taps", "pad_spatial", "limit_numbers", "renumber")  # for more than exercises ask: groups, huge numbers


class Endless(BaseException):
    """A mutant runs too long; not an Exception, which a mutant, or `Local`, would catch."""


def all_mutants(exercise: Exercise) -> Iterator[Mutant]:
    """Those of the functions that students write, and of what these call and students do not get."""
    functions = tuple(name for _, name in (*exercise.write, *exercise.hidden) if name not in BESIDE)
    yield from mutants(exercise.reference, functions)


def survives(exercise: Exercise, text: str, seed: int, seconds: float = 5.0) -> bool:
    """Whether a text gets full points with a seed, in so many seconds of CPU time."""

    def stop(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        with use("reference"), np.errstate(all="ignore"):
            impl = Local(text, exercise.name)
            return all(
                marks and all(m.ok for m in marks)
                for number in range(len(exercise.checks))
                for _, marks in exercise.run_check(number, impl, seed)
            )
    except (Endless, Exception):
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def reasons() -> dict[str, str]:
    """Why a mutant may survive, by "exercise: key"."""
    entries = tomllib.loads(SURVIVORS.read_text())["equivalent"] if SURVIVORS.exists() else []
    return {f"{e['exercise']}: {key}": e["reason"] for e in entries for key in e["mutants"]}


def first_loss(exercise: Exercise, text: str, seeds: int) -> int | None:
    """The first seed with which a text loses points."""
    return next((seed for seed in range(seeds) if not survives(exercise, text, seed)), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="by default all")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--count", type=int, help="so many drawn ones that have no reason to survive")
    parser.add_argument("--draw", type=int, default=0)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    known = reasons()
    chosen = [
        (name, mutant) for name in args.exercises or EXERCISES for mutant in all_mutants(EXERCISES[name])
    ]  # fmt: skip
    if args.count:
        chosen = [c for c in chosen if f"{c[0]}: {c[1].key}" not in known]
        chosen = random.Random(args.draw).sample(chosen, min(args.count, len(chosen)))
    begun, unexplained, luck = time.process_time(), [], []
    for name, mutant in chosen:
        seed = first_loss(EXERCISES[name], mutant.text, args.seeds)
        what = f"{name}: {mutant.key}"
        if seed is None and what not in known:
            unexplained.append(what)
            print("survives:", what, flush=True)
        elif seed is not None and what in known:
            print("needs no reason:", what, flush=True)
        elif seed:
            luck.append(what)
            print(f"survives {seed} of the seeds:", what, flush=True)
    seconds = time.process_time() - begun
    killed = len(chosen) - len(unexplained) - len([w for n, m in chosen if (w := f"{n}: {m.key}") in known])
    print(f"{len(chosen)} mutants, {killed} lose points, {len(luck)} of them not with every seed; {len(unexplained)} survive "
          f"without a reason; {seconds:.0f} s")  # fmt: skip
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
