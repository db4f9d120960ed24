"""The README's picture: train on generated cells as command one does, and draw two validation images.

    python bench/picture.py [RUN]

RUN is the folder of a finished run on generated cells; without it one is made first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from report import ROOT

import minunet
from minunet import draw
from minunet.data import SyntheticCells
from minunet.metrics import dice
from minunet.train import main as train

CELLS = 128, 21  # two of the images that the run never saw


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "run"
        if len(sys.argv) == 1:
            train(["--out", str(run)])
        model = minunet.load(run / "best.safetensors")
        cells = SyntheticCells(4, size=192, seed=77)
        cases = []
        for i in (0, 1):
            truth = cells[i].labels.astype(int)
            prediction = minunet.inference.classify(minunet.inference.predict_logits(model, cells[i].image[None])[0])
            cases.append(
                {"name": cells.names[i], "score": dice(truth, prediction), "image": cells[i].image, "truth": truth,
                 "prediction": prediction}
            )  # fmt: skip
    (ROOT / "docs").mkdir(exist_ok=True)
    draw.predictions(ROOT / "docs" / "segmentation.png", cases, cells.classes)


if __name__ == "__main__":
    main()
