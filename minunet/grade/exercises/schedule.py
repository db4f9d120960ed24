"""The exercise on the learning rate: warm-up and cosine, and the range test."""

from __future__ import annotations

import numpy as np

from .. import later_answers as answers
from ..exercise import Exercise
from ..sheet import Sheet

PLAIN = "grade/later_answers.py"

schedule = Exercise(
    "schedule",
    "The learning rate, step by step",
    lesson=11,
    minutes=30,
    task="""Write the schedule by which many networks are trained, a warm-up and then half a cosine, and the range test that
finds its largest rate. Steps are counted from 0.""",
    write=((PLAIN, "learning_rate"), (PLAIN, "range_rates"), (PLAIN, "suggest_rate")),
)


@schedule.check("warm-up", "cosine", "the end", "no warm-up")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    warmup, lr = int(rng.integers(4, 9)), float(rng.uniform(0.01, 0.5))
    total = warmup + int(rng.integers(8, 20))
    steps = {
        "warm-up": (0, 1, warmup // 2, warmup - 1),
        "cosine": (warmup, warmup + 1, (warmup + total) // 2, total - 1),
        "the end": (total, total + 3, 2 * total + warmup),
    }
    for part, of_part in steps.items():
        for step in of_part:
            got = sheet.call("learning_rate", step, total, lr, warmup=warmup)
            asked = f"step {step} of {total}, warm-up {warmup}, rate {lr:.3g}"
            _same(sheet, part, asked, got, answers.learning_rate(step, total, lr, warmup), lr)
    for step in (0, 1, total // 2, total - 1):
        got = sheet.call("learning_rate", step, total, lr)
        _same(
            sheet,
            "no warm-up",
            f"step {step} of {total}, rate {lr:.3g}",
            got,
            answers.learning_rate(step, total, lr),
            lr,
        )


def _same(sheet: Sheet, part: str, asked: str, got: object, wanted: float, lr: float) -> None:
    """Up to rounding of the largest rate: at the end 0 is wanted, and a cosine gives it only nearly."""
    sheet.same(part, asked, got, wanted, 1e-9 * lr / (wanted or 1.0))


@schedule.check("range")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    low, high, steps = 10.0 ** rng.uniform(-6, -4), 10.0 ** rng.uniform(-1, 1), int(rng.integers(5, 30))
    got = sheet.call("range_rates", low, high, steps)
    if isinstance(got, (tuple, list)):
        got = np.array(got)  # a list of numbers will do
    error = np.asarray(got) / answers.range_rates(low, high, steps) if np.shape(got) == (steps,) else got
    sheet.same(
        "range", f"{low:.3g} to {high:.3g} in {steps} steps, each divided by the right one", error, np.ones(steps)
    )


def _losses(rng: np.random.Generator, count: int, turn: int) -> np.ndarray:
    """Losses that fall, and rise from a step on; the lowest of all is a lucky one on the way."""
    n = np.arange(count)
    losses = np.where(n <= turn, 2 - n / turn, 1 + 0.3 * (n - turn)) + rng.uniform(0, 0.05, count)
    losses[turn // 2] = 0.4  # alone among larger ones: smoothing takes it out
    return losses


@schedule.check("suggested", "at the ends", "not finite")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    count = int(rng.integers(30, 50))
    turn = int(rng.integers(14, count - 10))
    rates, losses = answers.range_rates(1e-5, float(rng.uniform(1, 5)), count), _losses(rng, count, turn)
    end = rng.uniform(0, 0.3, count) + np.linspace(3, 1, count)  # falls to the last
    begin = rng.uniform(0, 0.3, count) + np.linspace(1, 3, count)
    shallow = 1 + np.abs(np.arange(count) - turn) / (5 * count)
    exploded = losses.copy()
    exploded[-6:] = [np.inf, np.nan, -np.inf, np.nan, np.inf, np.nan]
    for part, asked, given in (
        ("suggested", f"lowest at step {turn}, but for a lucky one", losses),
        ("at the ends", "losses that fall to the last", end),
        ("at the ends", "losses that rise from the first", begin),
        ("at the ends", f"a shallow valley, lowest at step {turn}", shallow),
        ("not finite", "the last losses are inf, -inf and nan", exploded),
        ("not finite", "the last losses are inf, -inf and nan, the others very large", 1e15 * exploded),
    ):
        got, wanted = sheet.call("suggest_rate", rates, given), answers.suggest_rate(rates, given)
        sheet.same(part, asked, got, wanted)


_RISE, _FALL, _SHARE = (
    "lr * (step + 1) / warmup",
    "lr * (1 + np.cos(np.pi * t)) / 2",
    "min((step - warmup) / (total - warmup), 1.0)",
)
_RATES, _MEAN = (
    "low * (high / low) ** (np.arange(steps) / (steps - 1))",
    "np.mean([padded[i : i + len(losses)] for i in range(5)], axis=0)",
)
_FINITE = "np.where(np.isfinite(losses), losses, np.inf)"
schedule.wrong(
    "from_zero",
    "the warm-up begins with 0, a step that does nothing: step 0 has lr / warmup",
    (_RISE, "lr * step / warmup"),
)
schedule.wrong("no_warm_up", "there is no warm-up", ("if step < warmup:", "if False:"))
schedule.wrong("constant_warm_up", "the rate does not rise during the warm-up", (_RISE, "lr"))
schedule.wrong(
    "one_step_too_long",
    "the warm-up is a step too long: steps 0 to warmup - 1",
    ("if step < warmup:", "if step <= warmup:"),
)
schedule.wrong(
    "cosine_from_step_0",
    "the cosine begins in step 0: after the warm-up it begins anew, with its largest rate in step `warmup`",
    (_SHARE, "min(step / total, 1.0)"),
)
schedule.wrong(
    "cosine_too_late", "the cosine is too slow: it ends in step `total`, so it has total - warmup steps",
    (_SHARE, "min((step - warmup) / total, 1.0)"),
)  # fmt: skip
schedule.wrong("both_at_once", "the rise goes into the cosine, too: a warm-up first, then a cosine from lr",
               (_FALL, "lr * min((step + 1) / max(warmup, 1), 1.0) * (1 + np.cos(np.pi * min(step / total, 1.0))) / 2"),
               ("if step < warmup:", "if False:"))  # fmt: skip
schedule.wrong("a_line", "the rate falls along a line: it is half a cosine", (_FALL, "lr * (1 - t)"))
schedule.wrong(
    "quarter_cosine",
    "this is a quarter of a cosine: half of one goes from 1 to -1",
    (_FALL, "lr * np.cos(np.pi * t / 2)"),
)
schedule.wrong(
    "not_halved",
    "the rate is twice as large as it should be: 1 + cos goes from 2 to 0",
    (_FALL, "lr * (1 + np.cos(np.pi * t))"),
)
schedule.wrong(
    "below_zero", "the cosine goes below 0: (1 + cos) / 2 goes from 1 to 0", (_FALL, "lr * np.cos(np.pi * t)")
)
schedule.wrong(
    "whole_cosine",
    "this is a whole cosine, which rises again: half of one ends at 0",
    (_FALL, "lr * (1 + np.cos(2 * np.pi * t)) / 2"),
)
schedule.wrong(
    "rises_again", "after step `total` the rate rises again: it stays 0", (_SHARE, "(step - warmup) / (total - warmup)")
)
schedule.wrong(
    "total_less_one", "0 is reached a step too early: in step `total`, not in total - 1",
    (_SHARE, "min((step - warmup) / (total - 1 - warmup), 1.0)"),
)  # fmt: skip
schedule.wrong(
    "a_line_of_rates",
    "the rates rise evenly: each should be the one before times the same factor",
    (_RATES, "np.linspace(low, high, steps)"),
)
schedule.wrong(
    "without_the_last",
    "the last rate is not `high`: of n rates there are n - 1 factors",
    (_RATES, _RATES.replace("(steps - 1)", "steps")),
)
schedule.wrong(
    "without_the_first",
    "the first rate is not `low`",
    (_RATES, "low * (high / low) ** ((np.arange(steps) + 1) / steps)"),
)
schedule.wrong("the_turn_itself", "this is the rate where the loss is lowest: a fifth of it is safe", ("/ 5)", ")"))
schedule.wrong("not_smoothed", "the losses are not smoothed: a lucky batch decides", (_MEAN, "losses"))
schedule.wrong(
    "three_neighbours", "the mean is over three: a loss, the two before and the two after it are five",
    (_MEAN, "np.mean([padded[i : i + len(losses)] for i in range(1, 4)], axis=0)"),
)  # fmt: skip
schedule.wrong(
    "only_the_past", "the mean is over what came before alone: it lags, take two on each side",
    ("np.pad(losses, 2, mode=\"edge\")", "np.pad(losses, (4, 0), mode=\"edge\")"),
)  # fmt: skip
schedule.wrong("zeros_at_the_ends", "at the ends zeros are taken in, which make them low: repeat the first and the last",
               ("np.pad(losses, 2, mode=\"edge\")", "np.pad(losses, 2)"))  # fmt: skip
schedule.wrong("ends_cut_off", "the ends are cut off, and places are two too small: repeat the first and the last loss",
               ("np.pad(losses, 2, mode=\"edge\")", "losses"),
               ("padded[i : i + len(losses)]", "padded[i : i + len(losses) - 4]"))  # fmt: skip
schedule.wrong("not_finite_is_lowest", "a loss that is not finite is taken for the lowest: NumPy's argmin finds nan, and -inf",
               (_FINITE, "losses"))  # fmt: skip
schedule.wrong(
    "steepest", "this is where the loss falls fastest: asked for is a fifth of the rate at which it is lowest",
    ("rates[smooth.argmin()] / 5", "rates[np.diff(np.minimum(smooth, 1e9)).argmin()]"),
)  # fmt: skip
