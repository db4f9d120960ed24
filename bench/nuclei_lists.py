"""Which images of the nuclei train, validate and test the network that ships: bench/splits/nuclei_*.txt.

    python bench/nuclei_lists.py DATA

DATA holds dsb2018 and dsb2018_more, each with an index.csv that tells every image's kind and size. Of each kind and size, which
tell the microscope, a fifth tests, rounded, and a fifth of the others validates; in the order of their ids, evenly spread. The
images of dsb2018_val.txt, on which docs/accuracy.md scores, are all in the test. The lists are in the repository, and only
somebody who has other images needs to make them again.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from minunet.data import read_names

SPLITS = Path(__file__).parent / "splits"
FOLDERS = ("dsb2018", "dsb2018_more")
SHARE = 5  # one of so many
TITLES = {
    "train": "train the network that ships",
    "validation": "choose everything about it: target, settings, when to stop, thresholds",
    "test": "are scored once for each table, and never looked at otherwise",
}


def kinds(data: Path) -> dict[str, tuple[str, str]]:
    """Every image's kind and its size, by its id, in the order of ids: ("fluorescence", "256x256")."""
    found = {}
    for folder in FOLDERS:
        with open(data / folder / "index.csv", newline="") as file:
            for row in csv.DictReader(file):
                found[row["image_id"]] = row["kind"], f"{row['width']}x{row['height']}"
    return dict(sorted(found.items()))


def divide(strata: dict[str, tuple[str, str]], tested: Iterable[str]) -> dict[str, list[str]]:
    """The three lists of ids; `tested` are in the test whatever falls out.

    Examples
    --------
    >>> parts = divide({f"{n:02}": ("fluorescence", "8x8") for n in range(25)}, ["07"])
    >>> {name: len(ids) for name, ids in parts.items()}
    {'train': 16, 'validation': 4, 'test': 5}
    >>> parts["test"]
    ['03', '07', '10', '16', '22']
    """
    members, fixed = defaultdict(list), set(tested)
    for image, stratum in strata.items():
        members[stratum].append(image)
    parts: dict[str, list[str]] = {name: [] for name in TITLES}
    for images in members.values():
        here = [i for i in images if i in fixed]
        rest = [i for i in images if i not in fixed]
        test = here + evenly_taken(rest, max(0, round(len(images) / SHARE) - len(here)))
        rest = [i for i in images if i not in test]
        validation = evenly_taken(rest, round(len(rest) / SHARE))
        parts["test"] += test
        parts["validation"] += validation
        parts["train"] += [i for i in rest if i not in validation]
    return {name: sorted(ids) for name, ids in parts.items()}


def evenly_taken(images: Sequence[str], count: int) -> list[str]:
    """So many of the images, evenly spread, from the middles of equal parts."""
    return [images[int((k + 0.5) * len(images) / count)] for k in range(count)]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    strata = kinds(Path(sys.argv[1]))
    for name, ids in divide(strata, read_names(SPLITS / "dsb2018_val.txt")).items():
        counts: dict[str, int] = defaultdict(int)
        for i in ids:
            counts[strata[i][0]] += 1
        told = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(counts.items()))
        head = f"# Images of dsb2018 and dsb2018_more that {TITLES[name]}: {told}.\n# Made by bench/nuclei_lists.py.\n"
        (SPLITS / f"nuclei_{name}.txt").write_text(head + "\n".join(ids) + "\n")
        print(f"nuclei_{name}.txt: {len(ids)} images, {told}")


if __name__ == "__main__":
    main()
