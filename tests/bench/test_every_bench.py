"""Every bench finds what it imports and calls of the package, and the README's first picture is drawn."""

import importlib
import sys
from pathlib import Path

import pytest
from PIL import Image

from minunet.models import UNet

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_it_can_be_imported(name):
    assert importlib.import_module(name).__doc__


def test_the_first_picture(tmp_path):
    importlib.import_module("first_run").draw(UNet(1, 2, base_width=2, depth=2), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500
