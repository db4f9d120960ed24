"""StarDist2D of its own package, trained on nuclei by TensorFlow; for bench/peers_accuracy.py."""

from __future__ import annotations

import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peer_training import Budget, Images
from pretrained import Segment

from minunet.atomic import write_atomically
from minunet.data import ImageSet


class StarDist:
    """StarDist2D of its own package; attributes as of `Smp`."""

    TITLE = "StarDist"
    PACKAGES = ("stardist", "tensorflow-cpu", "keras")
    RATE = 3e-4

    def __init__(self, out: Path, threads: int, **settings: Any) -> None:
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.keras.utils.set_random_seed(0)
        from stardist.models import Config2D, StarDist2D

        config = Config2D(
            axes="YXC",
            n_channel_in=3,
            n_rays=32,
            grid=(2, 2),
            train_learning_rate=self.RATE,
            train_reduce_lr=None,
            **settings,
        )
        self.out, self.net = out, StarDist2D(config, basedir=None)
        self.net.prepare_for_training()
        self.keras = self.net.keras_model
        self.keras.optimizer.build(self.keras.trainable_variables)
        self.minutes, self.steps, self.best = 0.0, 0, math.inf
        if (out / "state.npz").exists():
            self.minutes, self.steps, self.best = self.load("state.npz")

    def train(self, images: Images, budget: Budget) -> None:
        """Until the budget is spent, or somebody asks to stop."""
        from csbdeep.utils.tf import keras_import

        def begin(logs: Any) -> None:
            np.random.seed(self.steps + 1)  # noqa: NPY002 - StarDist draws from it, validation patches before this

        def before(batch: int, logs: Any) -> None:
            self.keras.optimizer.learning_rate = budget.rate(self.RATE)

        def after(batch: int, logs: Any) -> None:
            self.steps += 1
            self.keras.stop_training = budget.over

        def end(epoch: int, logs: Any) -> None:
            print(f"step {self.steps}: validation loss {logs['val_loss']:.4f}", flush=True)
            if logs["val_loss"] < self.best:
                self.best = logs["val_loss"]
                self.save("best.npz", budget.used)
            self.save("state.npz", budget.used)

        told = keras_import("callbacks", "LambdaCallback")(
            on_train_begin=begin, on_train_batch_begin=before, on_train_batch_end=after, on_epoch_end=end
        )
        train, validation = (labelled(images.dataset, part) for part in (images.train, images.validation))
        self.net.callbacks.append(told)
        augmenter = partial(augmented, np.random.default_rng([0, self.steps]))
        while not budget.over:
            self.net.train(*train, validation_data=validation, augmenter=augmenter, seed=0)

    def save(self, name: str, minutes: float) -> None:
        self.minutes = minutes
        arrays = [*self.keras.get_weights(), *(np.asarray(v) for v in self.keras.optimizer.variables)]
        file = io.BytesIO()
        np.savez(file, progress=np.array([minutes, self.steps, self.best]), **{str(i): a for i, a in enumerate(arrays)})
        write_atomically(self.out / name, file.getvalue())

    def load(self, name: str) -> tuple[float, int, float]:
        """Take weights and optimiser's state from a file; minutes, steps and the best loss then."""
        with np.load(self.out / name) as file:
            arrays = [file[str(i)] for i in range(len(file.files) - 1)]
            minutes, steps, best = file["progress"].tolist()
        count = len(self.keras.get_weights())
        self.keras.set_weights(arrays[:count])
        for variable, value in zip(self.keras.optimizer.variables, arrays[count:], strict=True):
            variable.assign(value)
        return minutes, int(steps), best

    def tune(self, images: Images) -> None:
        """Choose its two thresholds, by its own search."""
        self.load("best.npz")
        chosen = self.net.optimize_thresholds(*labelled(images.dataset, images.validation))
        write_atomically(self.out / "thresholds.json", json.dumps(chosen).encode())

    def segmenter(self) -> Segment:
        """Finds objects, once it is tuned."""
        self.load("best.npz")
        self.net.thresholds = json.loads((self.out / "thresholds.json").read_text())
        return lambda pixels: self.net.predict_instances(normalised(pixels))[0]


def normalised(pixels: np.ndarray) -> np.ndarray:
    """As its notebook does; the three colours together, so that they stay what they are."""
    from csbdeep.utils import normalize

    return normalize(pixels, 1, 99.8, axis=(0, 1, 2))


def labelled(dataset: ImageSet, indices: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images as StarDist takes them, and their objects' numbers, holes filled."""
    from stardist import fill_label_holes

    entries = dataset.entries
    images = [normalised(entries[i].read_image(3)) for i in indices]
    return images, [fill_label_holes(dataset[i].instances) for i in indices]


def augmented(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A patch (H, H, 3) and its labels flipped and turned at random, brighter or darker, with noise."""
    turns = int(rng.integers(4))
    x, y = np.rot90(x, turns), np.rot90(y, turns)
    if rng.random() < 0.5:
        x, y = x[::-1], y[::-1]
    x = x * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
    return x + 0.02 * rng.random() * rng.standard_normal(x.shape), y
