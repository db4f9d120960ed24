"""The report on a finished run: pictures, the best epoch's scores, and what to do next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import quoted
from ..data import ImageSet
from ..data.sample import true_labels
from ..metrics import Confusion
from ..nn import Module
from ..predict import overlay
from ..predict.inference import outputs_of, predict_logits, predicted_classes
from . import figures
from .fit import Fitted

POOR = 0.6  # share of the best kind's Dice below which a kind of image is not learnt
EXAMPLES, TRUTH = (
    "examples",
    "truth",
)  # folders of a run on generated cells: images that it has not seen, and their masks
FILES = "history.csv, curves.png, predictions.png, best.safetensors, last.safetensors, config.toml"


def report(
    fitted: Fitted, dataset: ImageSet, validation: list[int], out: Path, generated: bool = False, quiet: bool = False,
    even: bool = False,
) -> None:  # fmt: skip
    """Write the pictures into the run's folder; unless `quiet`, print the best epoch's scores and what to do next.

    `even` is whether --even-groups was given.
    """
    figures.curves(out / "curves.png", fitted.history)
    pictured = validation or list(range(min(len(dataset), 4)))  # of training images, if none are held out
    scored = {i: score(fitted.model, dataset, i)[0] for i in pictured}
    figures.predictions(out / "predictions.png", worst_and_best(fitted.model, dataset, scored), dataset.classes)
    objects = trained_on_objects(dataset)
    if generated:
        save_examples(out, dataset, pictured, objects)
    if quiet:
        return
    if validation:
        tell_scores(fitted.best, dataset, scored, even)
    else:
        print(
            f"\ntrained on all {len(dataset)} images: none were held out, so there is no score, the weights are those of the "
            "last epoch, and prediction uses its default thresholds; predictions.png shows training images"
        )
    print(told_objects(fitted), end="")
    print(f"\nin {out}: {FILES}{', examples, truth' if generated else ''}")
    for line in told_next(out, generated, objects):
        print(line)


def told_next(out: Path, generated: bool, objects: bool) -> list[str]:
    """The commands to go on with: predict, and evaluate where the truth of what is predicted is known."""
    predicted, flag = quoted(out / "predicted"), " --instances" * objects
    images = quoted(out / EXAMPLES) if generated else "IMAGE..."
    lines = [f"next: python -m minunet.predict -m {quoted(out / 'best.safetensors')} -i {images} -o {predicted}{flag}"]
    if generated:
        lines.append(f"then: python -m minunet.evaluate --pred {predicted} --truth {quoted(out / TRUTH)}")
    return lines


def trained_on_objects(dataset: ImageSet) -> bool:
    """Whether the masks number objects, or the target tells them apart."""
    target = getattr(dataset, "target", None)
    return bool(dataset.classes.rule == "instances" or (target and target.needs_instances))


def tell_scores(best: dict[str, Any], dataset: ImageSet, scored: dict[int, Confusion], even: bool = False) -> None:
    """Print the scores of the best epoch; `even` is whether patches of all kinds of image were as many."""
    print(f"\nbest epoch {best['epoch']} on {len(scored)} validation images, pooled over all pixels:")
    if dataset.preprocessing.one_by_one:
        print("  (of what lies in objects, at the best of some thresholds; the best epoch is that of the least loss)")
    elif "val_score" in best:
        print(
            "  (of the foreground, inside and border of objects as one; the best epoch is that of the classes' mean Dice)"
        )
    print(f"  Dice {best['val_dice']:.4f}   IoU {best['val_iou']:.4f}   pixel accuracy {best['val_accuracy']:.4f}")
    scores = {name: best[f"dice_{name}"] for name in dataset.classes.names}
    print("  Dice by class: " + ", ".join(f"{n} {'none' if d is None else f'{d:.4f}'}" for n, d in scores.items()))
    for line in told_groups(dataset, scored, even):
        print(line)
    if best.get("dice_all_foreground") is not None and "val_score" not in best:
        print(f"  Dice of all foreground as one class: {best['dice_all_foreground']:.4f}")


def told_objects(fitted: Fitted) -> str:
    """How large the objects are, and how they will be told apart; an empty text if the masks do not tell them apart."""
    known = fitted.model.preprocessing
    if fitted.tuned is None or known.objects is None:
        return ""
    how, tuned = fitted.tuned.separation, fitted.tuned
    chosen = (
        f"as chosen on {tuned.images} of the validation images: precision {tuned.after:.3f}, untuned {tuned.before:.3f}"
    )
    flags = f"--neck {how.neck:g} --smooth {how.smooth:g}" if not known.one_by_one else f"--nms {how.nms:g}"
    return (
        f"  objects of {known.objects.diameter:.0f} pixels, told apart by --mask-threshold {how.threshold:g} "
        f"{flags} --min-size {how.min_size},\n"
        f"  {chosen if tuned.images else 'untuned'} (to report how good they are, score others)\n"
    )


def save_examples(out: Path, dataset: ImageSet, validation: list[int], objects: bool) -> None:
    """Some of the validation images as files to predict on, and their masks, to evaluate with: white, or objects' numbers."""
    for name in (EXAMPLES, TRUTH):
        (out / name).mkdir(exist_ok=True)
    for i in validation[:3]:
        sample, name = dataset[i], dataset.names[i]
        overlay.save_png(out / EXAMPLES / f"{name}.png", overlay.to_rgb(sample.image)[..., 0])
        assert sample.instances is not None  # generated cells have numbers
        mask = (
            sample.instances.astype(np.uint16) if objects else np.where(sample.instances > 0, 255, 0).astype(np.uint8)
        )
        overlay.save_png(out / TRUTH / f"{name}_{'labels' if objects else 'mask'}.png", mask)


def score(model: Module, dataset: ImageSet, index: int) -> tuple[Confusion, np.ndarray, np.ndarray]:
    """The counts of an image's pixels, its truth and its prediction (H, W)."""
    sample = dataset[index]
    truth = true_labels(sample)
    prediction = predicted_classes(model, outputs_of(predict_logits(model, sample.image[None]), sample.labels.shape))
    confusion = Confusion(dataset.classes.num_classes)
    confusion.add(truth, prediction)
    return confusion, truth, prediction


def worst_and_best(
    model: Module, dataset: ImageSet, scored: dict[int, Confusion], most: int = 4
) -> list[dict[str, Any]]:
    """The worst and the best of the validation images, worst first, for the picture of predictions."""
    ordered = sorted(scored, key=lambda i: (scored[i].mean_dice(), i))
    chosen = ordered if len(ordered) <= most else ordered[: most // 2] + ordered[-(most // 2) :]
    cases = []
    for i in chosen:
        confusion, truth, prediction = score(model, dataset, i)
        cases.append(
            {"name": dataset.names[i], "score": confusion.mean_dice(), "image": dataset[i].image, "truth": truth,
             "prediction": prediction, "weight": dataset[i].weight}
        )  # fmt: skip
    return cases


def told_groups(dataset: ImageSet, scored: dict[int, Confusion], even: bool = False) -> list[str]:
    """The validation scores of every kind of image, if there are several; with a warning where one is not learnt."""
    kinds = dataset.groups
    if len(set(kinds)) < 2:
        return []
    counts: dict[str, Confusion] = {}
    for i, confusion in scored.items():
        total = counts.setdefault(kinds[i], Confusion(dataset.classes.num_classes))
        total.counts += confusion.counts
    lines = ["  Dice by kind of image:"]
    best = max((c.mean_dice() for c in counts.values()), default=0)
    for kind, images in Counter(kinds).most_common():
        trained = images - sum(kinds[i] == kind for i in scored)
        if kind not in counts:
            lines.append(f"    {kind:<20} none of its {images} images is held out, so nobody knows")
            continue
        dice = counts[kind].mean_dice()
        lines.append(f"    {kind:<20} {dice:.4f}   ({images - trained} held out, {trained} trained on)")
        if dice < POOR * best:
            advice = "train longer, or with more images of it" if even else (
                "train longer, with more images of it, or with --even-groups"
            )  # fmt: skip
            lines.append(f"    warning: {kind} is not learnt: {advice}")
    return lines
