"""The exercise on the paper's weight map."""

from __future__ import annotations

import numpy as np

from ...data import weightmap
from ..exercise import Exercise
from ..sheet import Sheet

MAP = "data/weightmap.py"
LABELS = "data/instance_labels.py"

weight_map = Exercise(
    "weight_map",
    "The paper's weight map",
    lesson=7,
    minutes=60,
    extras=("scipy",),
    task="""Write `class_balance` and `separation`, the two terms of the U-Net paper's map of weights,

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)),

where d1 and d2 are the distances from x to the nearest and to the second nearest cell: to a cell's nearest pixel, 0
in it.
The rarest class that occurs has w_c = 1. `instances` has a number for every cell, not without gaps, and 0 for the
background;
scipy.ndimage.distance_transform_edt measures distances to the nearest zero.""",
    write=((MAP, "class_balance"), (MAP, "separation")),
    hidden=((MAP, "REACH"), (MAP, "nearest_two"), (LABELS, "renumber"), (LABELS, "limit_numbers")),
)


@weight_map.check("class balance")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    counts = rng.permutation(np.array([0, 7, 90, 800]) + rng.integers(1, 6, 4))
    if sheet.time == 2:
        counts[counts.argmin()] = 1
    for absent in (None, int(counts.argmin()), int(counts.argmax())):
        some = counts.copy()
        some[absent] = some[absent] if absent is None else 0
        asked, wanted = f"counts {some.tolist()}", weightmap.class_balance(some)
        sheet.same("class balance", asked, sheet.call("class_balance", some), wanted, 1e-6)


@weight_map.check("separation", "inside the cells", "sigma")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    instances = np.zeros((22, 27), np.int64)
    for number, (r, c) in zip(rng.permutation((1, 4, 5, 9)), ((3, 4), (4, 15), (13, 6), (14, 17))):
        r, c = r + int(rng.integers(2)), c + int(rng.integers(3))
        instances[r : r + 6, c : c + int(rng.integers(5, 9))] = number
    instances[15:19, 24:] = 12  # touches another one, and the image's edge
    instances = instances.T if sheet.time == 1 else instances
    for part, sigma in (("separation", None), ("sigma", 2.5)):
        wanted = weightmap.separation(instances, sigma or 5.0)
        got = sheet.call("separation", instances, **({"sigma": sigma} if sigma else {}))
        if part == "separation":
            outside = instances == 0
            inside = got[~outside] if np.shape(got) == wanted.shape else got
            sheet.same("inside the cells", "sigma 5", inside, wanted[~outside], 1e-5)
            got, wanted = (got[outside] if np.shape(got) == wanted.shape else got), wanted[outside]
        sheet.same(part, f"sigma {sigma or 5}", got, wanted, 1e-5)


@weight_map.check("one cell", times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    instances = np.zeros((9, 12), np.int64)
    sheet.same("one cell", "no cell has no gap", sheet.call("separation", instances), np.zeros((9, 12)), 1e-5)
    instances[2:5, 3:7] = int(rng.integers(1, 9))
    sheet.same("one cell", "a single cell has no gap", sheet.call("separation", instances), np.zeros((9, 12)), 1e-5)


_MAP = "return np.exp(-((near + second) ** 2) / np.float32(2 * sigma**2))"
weight_map.wrong(
    "squares_apart",
    "the distances are squared before they are added: it is (d1 + d2)^2, not d1^2 + d2^2",
    (_MAP, _MAP.replace("((near + second) ** 2)", "(near**2 + second**2)")),
)
weight_map.wrong(
    "one_distance", "d1 twice: d2 is the distance to the second nearest cell", (_MAP, _MAP.replace("second", "near"))
)
weight_map.wrong("factor_two", "the 2 of 2 sigma^2 is missing", (_MAP, _MAP.replace("2 * sigma**2", "sigma**2")))
weight_map.wrong("sigma_not_squared", "sigma is not squared", (_MAP, _MAP.replace("2 * sigma**2", "2 * sigma")))
weight_map.wrong(
    "sign", "the exponent's sign is wrong: weights grow with the distance", (_MAP, _MAP.replace("exp(-(", "exp(+("))
)
weight_map.wrong(
    "balance_to_the_largest",
    "class_balance gives the most frequent class 1: the rarest should have it",
    ("counts[counts > 0].min(initial=counts.max())", "counts.max()"),
)
weight_map.wrong(
    "balance_counts_the_absent",
    "a class that does not occur is taken for the rarest: leave zeros out",
    ("counts[counts > 0].min(initial=counts.max())", "max(counts.min(), 1)"),
)
