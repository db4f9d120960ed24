"""The page of the benches: tables and pictures from bench/results, made by the benches' own code."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pages import Pages

BENCH = Path(__file__).resolve().parents[2] / "bench"
RESULTS = BENCH / "results"


def write(pages: Pages) -> None:
    """The page, with a section for every kind of result that there is."""
    sys.path.append(str(BENCH))
    parts = ["# Measurements", "Each table is made from a file of `bench/results` by the script that measured it."]
    for section in (published, ladder, layers, accuracy, ablation):
        parts += section(pages)
    files = sorted(RESULTS.glob("*.json"))
    parts += ["## All results", *(f"* [{file.name}]({pages.address(file)})" for file in files)]
    pages.write("benches", pages.text("\n\n".join(parts), "."))


def load(name: str) -> Any:
    """A result, or None if it was not measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def script(name: str) -> ModuleType:
    """A bench as a module."""
    path = BENCH / name
    sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location("bench_" + path.parent.name + path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published(pages: Pages) -> list[str]:
    """Times and memory by the size of the image, on each device that was measured."""
    from peers import Setting
    from plots import draw
    from tables import for_page, prediction_table

    parts = []
    for path in sorted(RESULTS.glob("published_c*.json")):
        held = load(path.stem)
        about = Setting(**held["setting"]), held["machine"]
        picture = pages.folder / "pictures" / f"{path.stem}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw(picture, held["rows"], *about)
        device = "a CPU" if about[0].device == "cpu" else "a GPU"
        parts += [f"## By the size of the image, on {device}", "The command is `python bench/published.py`."]
        parts += [for_page(held["rows"], *about, held["model_mib"], f"/pictures/{picture.name}")]
        parts += ["Memory, as `minunet.summary` predicts it and as it was:", prediction_table(held["rows"])]
    return parts


def ladder(pages: Pages) -> list[str]:
    """The conv ladder."""
    result = load("conv_ladder")
    if not result:
        return []
    module = script("conv_ladder/__main__.py")
    module.draw(result, result["machine"], pages.folder / "pictures" / "conv_ladder.png")
    picture = "![The speed of each rung, from seven loops to Winograd](/pictures/conv_ladder.png)"
    head = "From seven loops to Winograd, an idea a rung; the rungs are in [`bench/conv_ladder`](bench/conv_ladder)."
    return ["## The conv ladder", head, picture, module.table(result)]


def layers(pages: Pages) -> list[str]:
    """The layers of the U-Net."""
    from pages import fence

    result = load("layers")
    if not result:
        return []
    text = fence(script("layers.py").table(result["layers"]), "text")
    caption = f"Milliseconds; {result['setting']}; medians in turns; {result['machine']}. (`python bench/layers.py`)"
    return ["## Layer by layer", text, caption]


def accuracy(pages: Pages) -> list[str]:
    """How good the trained networks are."""
    found = {path.stem.removeprefix("accuracy_"): load(path.stem) for path in sorted(RESULTS.glob("accuracy_*.json"))}
    if not found:
        return []
    machine = "; ".join(dict.fromkeys(result["machine"] for result in found.values()))
    return ["## Accuracy", script("accuracy.py").table(found, machine)]


def ablation(pages: Pages) -> list[str]:
    """What each part of the recipe is worth."""
    result = load("ablation")
    if not result:
        return []
    return ["## Ablation", script("ablation.py").table(result["variants"], result["epochs"], result["machine"])]
