"""The report on a finished run: pictures, the best epoch's scores, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..array import to_numpy
from ..data import ImageSet
from ..data.sample import true_labels
from ..metrics import Confusion
from ..nn import Module
from ..ops import class_probabilities
from ..predict import overlay
from ..predict.inference import classify, predict_logits
from . import figures
from .fit import Fitted

FILES = "history.csv, curves.png, predictions.png, best.safetensors, last.safetensors, config.toml"


def report(
    fitted: Fitted, dataset: ImageSet, validation: list[int], out: Path, generated: bool = False, quiet: bool = False
) -> None:
    """Write the pictures into the run's folder; unless `quiet`, print the best epoch's scores and what to do next."""
    figures.curves(out / "curves.png", fitted.history)
    figures.predictions(out / "predictions.png", worst_and_best(fitted.model, dataset, validation), dataset.classes)
    examples = save_examples(out / "examples", dataset, validation) if generated else None
    if quiet:
        return
    best = fitted.best
    print(f"\nbest epoch {best['epoch']} on {len(validation)} validation images, pooled over all pixels:")
    print(f"  Dice {best['val_dice']:.4f}   IoU {best['val_iou']:.4f}   pixel accuracy {best['val_accuracy']:.4f}")
    scores = {name: best[f"dice_{name}"] for name in dataset.classes.names}
    print("  Dice by class: " + ", ".join(f"{n} {'none' if d is None else f'{d:.4f}'}" for n, d in scores.items()))
    if best.get("dice_all_foreground") is not None:
        print(f"  Dice of all foreground as one class: {best['dice_all_foreground']:.4f}")
    print(f"\nin {out}: {FILES}")
    print(
        f"next: python -m minunet.predict -m {out / 'best.safetensors'} -i {examples or 'IMAGE...'} -o {out / 'predicted'}"
    )


def save_examples(folder: Path, dataset: ImageSet, validation: list[int]) -> Path:
    """Some of the validation images as files, to predict on."""
    folder.mkdir(exist_ok=True)
    for i in validation[:3]:
        overlay.save_png(folder / f"{dataset.names[i]}.png", overlay.to_rgb(dataset[i].image)[..., 0])
    return folder


def worst_and_best(model: Module, dataset: ImageSet, validation: list[int], most: int = 4) -> list[dict[str, Any]]:
    """The worst and the best of the validation images, worst first, for the picture of predictions."""
    scored = []
    for i in validation:
        sample = dataset[i]
        truth = true_labels(sample)
        p = class_probabilities(predict_logits(model, sample.image[None]))[0]
        prediction = to_numpy(classify(p))
        confusion = Confusion(dataset.classes.num_classes)
        confusion.add(truth, prediction)
        scored.append((confusion.mean_dice(), i, truth, prediction))
    scored.sort(key=lambda s: s[:2])
    chosen = scored if len(scored) <= most else scored[: most // 2] + scored[-(most // 2) :]
    return [
        {"name": dataset.names[i], "score": score, "image": dataset[i].image, "truth": truth, "prediction": prediction,
         "weight": dataset[i].weight}
        for score, i, truth, prediction in chosen
    ]  # fmt: skip
