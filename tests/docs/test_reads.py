"""The page "What minunet reads" says what the readers say, and names every layout, ending and flag."""

import importlib.util
import sys
from pathlib import Path

import pytest

from minunet.data import LAYOUTS
from minunet.data.files.images import SUFFIXES

FILE = Path(__file__).resolve().parents[2] / "docs" / "website" / "reads.py"
if not FILE.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)


def test_the_page_names_what_is_read():
    spec = importlib.util.spec_from_file_location("reads", FILE)
    reads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reads)
    text = reads.page()
    assert text.startswith("# What minunet reads\n") and "reads" not in sys.modules
    for name, module in LAYOUTS.items():
        assert f"| `{name}` |" in text and " ".join(module.__doc__.split("\n\n")[0].split()) in text
    for word in (
        *SUFFIXES,
        "--axes",
        "--channels",
        "--masks",
        "--ignore",
        "--pixel-size",
        "--truth-kind",
        "--normalise",
    ):
        assert f"`{word}`" in text, word
    for _, modules, flags in reads.SECTIONS.values():
        assert all(f"**{name.rpartition('.')[2]}**" in text for name in modules)
        assert all(f"* `{flag}` of " in text for flag in flags), flags
