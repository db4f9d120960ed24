"""A tiny training on the stand-in for CuPy: a trainer and a batch."""

import numpy as np

from minunet.data import Preprocessing, SyntheticCells
from minunet.data.arrays import ArraySet
from minunet.models import UNetOptions, build
from minunet.train.config import TrainingConfig
from minunet.train.run_folder import RunFolder
from minunet.train.trainer import Trainer


def trainer(gpu, tmp_path, images=1, graph=False, network=None, **config):
    """A trainer of a tiny U-Net on generated cells: an image gives four patches, so that an epoch has batches of 3 and 1."""
    options = {"in_channels": 1, "num_classes": 2, "base_width": 4, "depth": 1, "seed": 0, **(network or {})}
    samples = list(SyntheticCells(images + 1, size=32, seed=0))
    middle = np.s_[8:24, 8:24]  # the emulator is slow
    cells = ArraySet([s.image[middle] for s in samples], [s.labels[middle] for s in samples])
    shape = {"epochs": 4, "batch_size": 3, "crop": 8, "augment": False, **config}
    tmp_path.mkdir(exist_ok=True)
    model = build(UNetOptions(**options))
    model.preprocessing = Preprocessing(options["in_channels"], cells.classes)
    return Trainer(
        model, cells, list(range(images)), [images], TrainingConfig(**shape), gpu, graph, [RunFolder(tmp_path)]
    )


def batch(gpu, weighted=False, seed=0, side=8):
    """Two random images, labels, and weights if asked."""
    rng = np.random.default_rng(seed)
    images, labels = rng.standard_normal((2, side, side, 1), np.float32), rng.integers(-1, 2, (2, side, side))
    return [gpu.asarray(a) for a in (images, labels, rng.random(labels.shape, np.float32))[: 2 + weighted]]
