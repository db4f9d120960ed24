"""The lists of images for the nuclei network, and the bench that trains it."""

import doctest
import sys
from pathlib import Path

import pytest

from minunet.data import read_names

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import nuclei_lists  # noqa: E402

LISTS = {name: read_names(BENCH / "splits" / f"nuclei_{name}.txt") for name in nuclei_lists.TITLES}


def test_no_image_is_in_two_lists():
    images = [i for ids in LISTS.values() for i in ids]
    assert len(images) == len(set(images)) == 120 + 484
    assert set(read_names(BENCH / "splits" / "dsb2018_val.txt")) <= set(LISTS["test"])
    assert abs(len(LISTS["test"]) - 604 / 5) < 2 and abs(len(LISTS["validation"]) - 482 / 5) < 2


def test_every_kind_is_in_every_list():
    assert not doctest.testmod(nuclei_lists).failed
    kinds = {f"{kind}{n}": (kind, "8x8") for kind, count in (("a", 40), ("b", 12)) for n in range(count)}
    parts = nuclei_lists.divide(kinds, ["a3", "a4"])
    assert {name: (sum(i[0] == "a" for i in ids), sum(i[0] == "b" for i in ids)) for name, ids in parts.items()} == {
        "train": (26, 8), "validation": (6, 2), "test": (8, 2),
    }  # fmt: skip
    assert {"a3", "a4"} <= set(parts["test"])
