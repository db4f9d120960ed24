"""The README's first page: run command one's training, keep what it prints, and draw two images that it has not seen.

python bench/first_run.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from report import ROOT, machine, write_between

import minunet
from minunet.data import SyntheticCells
from minunet.metrics import dice
from minunet.nn import Module
from minunet.predict.inference import classify, predict_logits
from minunet.train import figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minunet.train"]
        said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        model = minunet.load(next(Path(folder).glob("runs/*/best.safetensors")))
    print(said)
    write_between("output", f"```text\n{said.strip()}\n```\n\n({machine()}.)", "README.md")
    draw(model, ROOT / "docs" / "segmentation.png")


def draw(model: Module, path: Path) -> None:
    """Draw two images that the network has not seen: the run's own cells are those of seed 0."""
    cells = SyntheticCells(2, size=192, seed=77)
    cases = []
    for sample in cells:
        truth, prediction = sample.labels.astype(int), classify(predict_logits(model, sample.image[None])[0])
        case = {"name": sample.name, "image": sample.image, "truth": truth, "prediction": prediction}
        cases.append({**case, "score": dice(truth, prediction)})
    figures.predictions(path, cases, cells.classes)


if __name__ == "__main__":
    main()
