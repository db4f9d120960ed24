"""What a person looks at after a search: which settings mattered, the trials side by side, one after another, and score against
time. All are drawn of any trials, also of few, failed and pruned ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..figures import FAINT, INK, new_figure, save_figure
from .space import SEARCHABLE, Space, dashed
from .study import best_of, counting, optuna

BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#bbbbbb"
SCORE = "validation score"
LEAST = 4  # complete trials from which importance can be told


def draw_all(folder: Path, study: Any, space: Space) -> None:
    """Write importance.png, parallel.png, history.png and pareto.png."""
    trials = counting(study.get_trials(deepcopy=False))
    importance(folder / "importance.png", study, trials)
    parallel(folder / "parallel.png", trials, space)
    history(folder / "history.png", trials)
    pareto(folder / "pareto.png", trials)


# ---- what they share -------------------------------------------------------------------------------------------------


def of_state(trials: Sequence[Any], state: str) -> list[Any]:
    """The trials in a state."""
    return [t for t in trials if t.state.name == state]


def reached(trial: Any) -> Any:
    """The best score of any epoch, also of a trial that ended early; None if none was validated."""
    best = trial.user_attrs.get("best")
    return trial.value if trial.state.name == "COMPLETE" else best


def floor_of(scores: Sequence[float]) -> float:
    """From which score on an axis shows: a few that are far below the others would press these together."""
    if not scores:
        return 0.0
    top, quarter = max(scores), float(np.percentile(scores, 25))
    lowest = max(min(scores), quarter - 1.5 * (top - quarter))
    return lowest if lowest < top else top - 0.05


def plain(axes: Any, **names: str) -> None:
    """Axes without a frame, with a faint grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set(**names)


def say_empty(axes: Any, text: str) -> None:
    """A sentence in place of what cannot be drawn yet."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=11)


# ---- the pictures ----------------------------------------------------------------------------------------------------


def importance(path: Path, study: Any, trials: Sequence[Any]) -> None:
    """How much each setting decides whether a trial is among the best, by PED-ANOVA, as bars.

    Source: Watanabe, Bansal and Hutter 2023, PED-ANOVA, arXiv:2304.10255.
    """
    complete = of_state(trials, "COMPLETE")
    found: dict[str, float] = {}
    if len(complete) >= LEAST and len({t.value for t in complete}) > 1:
        best = min(0.5, max(0.1, 5 / len(complete)))  # at least five trials are the best ones
        evaluator = optuna().importance.PedAnovaImportanceEvaluator(target_quantile=best)
        found = optuna().importance.get_param_importances(study, evaluator=evaluator)
    names = sorted(found, key=lambda name: found[name])
    figure = new_figure((7.5, 1.3 + 0.38 * max(len(names), 4)))
    axes = figure.subplots()
    plain(axes, title="which settings decide whether a trial is among the best")
    if not names:
        say_empty(axes, f"needs at least {LEAST} trials that came to their end; there are {len(complete)}")
        axes.set(xticks=[], yticks=[])
        save_figure(figure, path)
        return
    shares = [100 * found[name] for name in names]
    axes.barh(range(len(names)), shares, color=[BLUE if s == max(shares) else "#7fb3d5" for s in shares], height=0.65)
    for row, share in enumerate(shares):
        axes.text(share + 0.8, row, f"{share:.0f} %", va="center", color=INK, fontsize=9)
    axes.set(yticks=range(len(names)), yticklabels=[dashed(n) for n in names], xlim=(0, max(shares) * 1.12 + 1))
    axes.set_xlabel(f"importance, %, from {len(complete)} complete trials")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    save_figure(figure, path)


def history(path: Path, trials: Sequence[Any]) -> None:
    """Every trial's score in the order of their numbers, and the best so far."""
    figure = new_figure((9, 4.2))
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    plain(axes, xlabel="trial", ylabel=SCORE, title="the search, trial by trial")
    complete, pruned = of_state(trials, "COMPLETE"), [t for t in of_state(trials, "PRUNED") if reached(t) is not None]
    scores = [t.value for t in complete]
    low = floor_of(scores or [reached(t) for t in pruned])
    for group, style in ((pruned, {"color": GREY, "mfc": "white", "label": "ended early"}),
                         (complete, {"color": BLUE, "label": "complete"})):  # fmt: skip
        seen = [t for t in group if reached(t) >= low]
        axes.plot([t.number for t in seen], [reached(t) for t in seen], "o", ms=6, **style)
        below = [t for t in group if reached(t) < low]
        axes.plot([t.number for t in below], [low] * len(below), "v", ms=6, color=style["color"],
                  mfc=style.get("mfc", BLUE))  # fmt: skip
    failed = of_state(trials, "FAIL")
    if failed:
        axes.plot([t.number for t in failed], [low] * len(failed), "x", color=RED, ms=7, mew=1.8, label="failed")
    first = [t for t in complete if t.user_attrs.get("default")]
    if first and first[0].value >= low:
        axes.plot(first[0].number, first[0].value, "D", color=INK, mfc="white", ms=9, mew=1.6, label="the default")
    if complete:
        numbers = [t.number for t in complete] + [max(t.number for t in trials)]
        best = np.maximum.accumulate([*scores, -math.inf])
        axes.plot(numbers, best, drawstyle="steps-post", color=GREEN, lw=1.8, label="best so far", zorder=0)
        top = best_of(complete)
        axes.annotate(
            f"{top.value:.4f}", (top.number, top.value), (0, 8), textcoords="offset points", ha="center", color=INK
        )
        axes.set_ylim(low - 0.06 * (max(scores) - low), max(scores) + 0.12 * (max(scores) - low))
    elif not pruned and not failed:
        say_empty(axes, "no trial has ended yet")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if trials and (complete or pruned or failed):
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    save_figure(figure, path)


def pareto(path: Path, trials: Sequence[Any]) -> None:
    """Score against the time that a training takes, with the front of those that none beats in both."""
    figure = new_figure((8, 4.8))
    axes = figure.subplots()
    complete = [t for t in of_state(trials, "COMPLETE") if t.user_attrs.get("seconds")]
    unit, per = (
        ("minutes", 60) if complete and max(t.user_attrs["seconds"] for t in complete) >= 120 else ("seconds", 1)
    )
    plain(axes, xlabel=f"{unit} that the training took", ylabel=SCORE, title="score against time")
    if not complete:
        say_empty(axes, "no trial has come to its end yet")
        save_figure(figure, path)
        return
    low = floor_of([t.value for t in complete])
    best = front(complete)
    others = [t for t in complete if t not in best]
    axes.plot([t.user_attrs["seconds"] / per for t in others], [max(t.value, low) for t in others], "o", color=GREY, ms=6,
              label="complete trials")  # fmt: skip
    times, scores = [t.user_attrs["seconds"] / per for t in best], [t.value for t in best]
    axes.plot(times, scores, drawstyle="steps-post", color=BLUE, lw=1.4, alpha=0.6)
    axes.plot(times, scores, "o", color=BLUE, ms=8, label="none is better and faster (trial number)")
    for t, time, score in zip(best, times, scores):
        axes.annotate(
            str(t.number), (time, score), (0, 7), textcoords="offset points", ha="center", color=INK, fontsize=9
        )
    first = [t for t in complete if t.user_attrs.get("default")]
    if first:
        axes.plot(first[0].user_attrs["seconds"] / per, max(first[0].value, low), "D", color=INK, mfc="none", ms=11, mew=1.5,
                  label="the default")  # fmt: skip
    axes.set_ylim(low - 0.06 * (max(scores) - low), max(scores) + 0.12 * (max(scores) - low))
    axes.margins(x=0.08)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)


def front(trials: Sequence[Any]) -> list[Any]:
    """The trials that no other beats in score without taking more time, the fastest first."""
    kept: list[Any] = []
    for t in sorted(trials, key=lambda t: (t.user_attrs["seconds"], -t.value)):
        if not kept or t.value > kept[-1].value:
            kept.append(t)
    return kept


# ---- parallel coordinates --------------------------------------------------------------------------------------------


def parallel(path: Path, trials: Sequence[Any], space: Space) -> None:
    """Every trial as a line over an axis for each setting and one for the score; the best one stands out."""
    names = [name for name in SEARCHABLE if name in space]
    figure = new_figure((2.2 + 1.35 * len(names), 5))
    axes = figure.subplots()
    complete = of_state(trials, "COMPLETE")
    low, high = floor_of([t.value for t in complete]), max((t.value for t in complete), default=1.0)
    rulers = [Ruler(space[name], {t.params.get(name) for t in trials}) for name in names]
    best = best_of(complete)
    from matplotlib import colormaps

    for t in sorted(trials, key=lambda t: (t.state.name == "COMPLETE", t.value or -1.0)):
        if not t.params:
            continue
        heights = [ruler.height(t.params.get(name)) for name, ruler in zip(names, rulers)]
        is_complete = t.state.name == "COMPLETE"
        share = (max(t.value, low) - low) / (high - low) if is_complete and high > low else 1.0
        style = (
            {"color": colormaps["viridis_r"](share), "lw": 1.4, "alpha": 0.8}
            if is_complete
            else {"color": GREY, "lw": 0.8, "alpha": 0.5}
        )
        if t is best:
            style = {"color": RED, "lw": 2.6, "alpha": 1.0}
        xs = [*range(len(names)), *([len(names)] if is_complete else [])]
        axes.plot(xs, [*heights, *([share] if is_complete else [])], solid_joinstyle="round", **style)
    for x, (name, ruler) in enumerate(zip(names, rulers)):
        axis(axes, x, dashed(name), ruler.ticks)
    shown = [(f"{low + share * (high - low):.3f}", share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] if complete else []
    axis(axes, len(names), "score", shown)
    axes.set(xlim=(-0.35, len(names) + 0.55), ylim=(-0.16, 1.13), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    red = f"; red: the best, trial {best.number}" if best else ""
    title = f"{len(complete)} complete trials, coloured by score{red}; grey: ended early"
    axes.set_title(title, color=INK, fontsize=11)
    save_figure(figure, path)


def axis(axes: Any, x: float, name: str, ticks: Sequence[tuple[str, float]]) -> None:
    """One of the vertical axes."""
    axes.plot([x, x], [0, 1], color=INK, lw=0.9, zorder=3)
    axes.text(x, 1.07, name, ha="center", va="bottom", color=INK, fontsize=10, fontweight="bold")
    for text, height in ticks:
        axes.plot([x - 0.03, x + 0.03], [height, height], color=INK, lw=0.9, zorder=3)
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
        axes.text(x + 0.06, height, text, va="center", color=INK, fontsize=8, bbox=box, zorder=4)


class Ruler:
    """Where the values of a setting lie on its axis, from 0 to 1; one that was not drawn lies below, at "-"."""

    def __init__(self, values: Any, used: set[Any]) -> None:
        self.values = values
        self.ticks: list[tuple[str, float]] = []
        if isinstance(values, list):
            last = max(len(values) - 1, 1)
            self.ticks = [(told(value), i / last if len(values) > 1 else 0.5) for i, value in enumerate(values)]
        else:
            low, high = values["low"], values["high"]
            between = (
                [low, *(float(f"{v:.1g}") for v in np.geomspace(low, high, 5)[1:-1]), high]
                if values.get("log")
                else np.linspace(low, high, 5)
            )
            if isinstance(low, int) and isinstance(high, int):
                between = np.unique(np.round(between).astype(int)).tolist()
            self.ticks = [(told(v), self.height(v)) for v in between]
        if None in used:
            self.ticks.append(("-", self.height(None)))

    def height(self, value: Any) -> float:
        """The height of a value."""
        if value is None:
            return -0.1
        if isinstance(self.values, list):
            return self.values.index(value) / max(len(self.values) - 1, 1) if len(self.values) > 1 else 0.5
        scale = math.log if self.values.get("log") else float
        low, high = scale(self.values["low"]), scale(self.values["high"])
        return (scale(value) - low) / (high - low)


def told(value: Any) -> str:
    """A value in a few letters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
