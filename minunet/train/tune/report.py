"""What a search tells: a line for every trial, a table of all, and the best one as a command and as config.toml."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...atomic import write_atomically
from ...cli import csv_text, printable, quoted, typed
from ..arguments import FIELDS, Arguments
from ..callbacks import format_seconds
from ..session import config_toml
from .pictures import draw_all, reached, told
from .space import OF_LOADED, SEARCHABLE, Space, dashed
from .study import ALIVE, REASON, best_of, counting, ended, spent
from .trial import Job, with_settings
from .worker import Limits

EVERY = 300.0  # seconds between two drawings of the pictures
NUMBERS = {
    "score": "value", "best_epoch": "best_epoch", "epochs": "epochs", "seconds": "seconds", "dice": "dice",
    "object_precision": "precision", "parameters": "parameters", "default": "default",
}  # fmt: skip
"""Columns of trials.csv, and where they come from."""
OF_RUN = ("out", "resume", "quiet", "recipe")  # no part of the command that trains with the best settings
FILES = "trials.csv, importance.png, parallel.png, history.png, pareto.png, best.txt, config.toml, study.journal"


class Report:
    """What is printed, and written into the run's folder."""

    def __init__(
        self, study: Any, job: Job, space: Space, limits: Limits, folder: Path, workers: int, quiet: bool
    ) -> None:  # fmt: skip
        self.study, self.job, self.space, self.limits = study, job, space, limits
        self.folder, self.workers, self.quiet = folder, workers, quiet
        self.names = [name for name in SEARCHABLE if name in space]
        self.told: set[int] = set()
        self.bar: Any = None
        self.drawn = time.monotonic()

    # ---- on the screen -----------------------------------------------------------------------------------------------

    def introduce(self, made: bool) -> None:
        """Say what is searched, and write the table's head; of a search that goes on, also what there is."""
        trials = self.study.get_trials(deepcopy=False)
        print(
            "search      " + "\n            ".join(f"{dashed(n):<17}{values_told(self.space[n])}" for n in self.names)
        )
        print(f"run folder  {self.folder}")
        if not made:
            best = best_of(trials)
            so_far = f", the best score is {best.value:.4f} (trial {best.number})" if best else ""
            print(f"goes on     {len(ended(trials))} trials have ended{so_far}")
        self.told = {t.number for t in ended(trials)}
        total = self.limits.trials
        self.bar = tqdm(total=total, initial=len(self.told), unit="trial", disable=None, dynamic_ncols=True)
        self.say(f"\n{'trial':>5}    score  epochs  seconds     left")

    def say(self, line: str) -> None:
        """A line on stdout, above the bar."""
        if not self.quiet:
            tqdm.write(printable(line, "\n"))

    def update(self) -> bool:
        """Tell the trials that have ended since; whether there are any."""
        trials = self.study.get_trials(deepcopy=False)
        new = [t for t in ended(trials) if t.number not in self.told]
        for t in new:
            before = best_of([o for o in trials if o.number in self.told])
            self.told.add(t.number)
            self.say(self.line(t, before, trials))
        if new:
            self.write_table(trials)
            if self.bar is not None:
                self.bar.update(len(new))
        if new and time.monotonic() - self.drawn > EVERY:
            self.write_all()
        return bool(new)

    def line(self, t: Any, before: Any, trials: list[Any]) -> str:
        """A trial in a line."""
        known, score = t.user_attrs, reached(t)
        epochs = f"{known.get('epochs', 0)}/{self.job.args.epochs}"
        head = f"{t.number:>5}  {'-' if score is None else f'{score:.4f}':>7}  {epochs:>6}  {known.get('seconds', 0.0):>7.1f}"
        note = "default: " if known.get("default") else ""
        if t.state.name == "COMPLETE" and (before is None or t.value > before.value):
            note = f"best  {note}"
        if t.state.name == "PRUNED":
            note = f"{ENDED.get(known.get(REASON), known.get(REASON))}  {note}"
        if t.state.name == "FAIL":
            note = f"failed: {known.get(REASON, '')}  {note}"
        return f"{head}  {self.left(trials):>7}  {note}{settings_told(t.params, self.names)}"

    def left(self, trials: list[Any]) -> str:
        """The time to the end: by the time that a trial took so far, or that is left of --minutes."""
        found, guesses = ended(trials), []
        signs = [t.user_attrs[ALIVE] for t in found if ALIVE in t.user_attrs]
        if self.limits.trials is not None and signs:
            mean = sum(s["time"] - s["began"] for s in signs) / len(signs)
            running = sum(t.state.name == "RUNNING" for t in trials)
            guesses.append(max(0, self.limits.trials - len(found)) * mean / max(self.workers, running))
        if self.limits.minutes is not None:
            guesses.append(max(0.0, 60 * self.limits.minutes - spent(trials, time.time())))
        return format_seconds(min(guesses)) if guesses else "?"

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def conclude(self) -> None:
        """The best trials, and the command that trains with the best settings."""
        trials = counting(self.study.get_trials(deepcopy=False))
        best = sorted((t for t in trials if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
        if not best:
            return
        default = [t for t in best if t.user_attrs.get("default") and t not in best[:5]]
        print(f"\nthe best of {len(ended(trials))} trials, by the score of the validation images:")
        for t in best[:5] + default:
            name = "default: " if t.user_attrs.get("default") else ""
            print(f"{t.number:>5}  {t.value:.4f}  {name}{settings_told(t.params, self.names)}")
        print("(who reports how good it is scores other images: neither trained on nor searched with)")
        print(f"\nin {self.folder}: {FILES}")
        print(f"next: {self.command(best[0])}")

    # ---- in the folder -----------------------------------------------------------------------------------------------

    def write_table(self, trials: list[Any]) -> None:
        """Write trials.csv, a row for each trial that ended."""
        head = ["trial", "state", *NUMBERS, *map(dashed, self.names), "reason"]
        rows = []
        for t in sorted(ended(trials), key=lambda t: t.number):
            values = {"value": reached(t), **{k: v for k, v in t.user_attrs.items() if k != "value"}}
            rows.append(
                [t.number, STATES[t.state.name], *(values.get(key) for key in NUMBERS.values()),
                 *(t.params.get(name) for name in self.names), t.user_attrs.get(REASON)]
            )  # fmt: skip
        write_atomically(self.folder / "trials.csv", csv_text([head, *rows]).encode())

    def write_all(self) -> None:
        """Write the table, the pictures and the best settings."""
        trials = self.study.get_trials(deepcopy=False)
        self.write_table(trials)
        draw_all(self.folder, self.study, self.space)
        best = best_of(trials)
        if best:
            write_atomically(self.folder / "best.txt", f"{self.command(best)}\n".encode(errors="surrogateescape"))
            text = config_toml(*with_settings(self.job, best.params))
            write_atomically(self.folder / "config.toml", text.encode())
        self.drawn = time.monotonic()

    def command(self, trial: Any) -> str:
        """The command that trains with a trial's settings."""
        words = train_flags(*with_settings(self.job, trial.params))
        return " ".join([typed("train"), *map(quoted, words)])


ENDED = {"pruned": "pruned", "time": "time is up"}
STATES = {"COMPLETE": "complete", "PRUNED": "ended early", "FAIL": "failed"}


def values_told(values: Any) -> str:
    """The values that a setting may take."""
    if isinstance(values, list):
        return ", ".join(map(told, values))
    return f"{told(values['low'])} to {told(values['high'])}" + (", in equal factors" if values.get("log") else "")


def settings_told(params: dict[str, Any], names: list[str]) -> str:
    """The settings of a trial: texts as they are, numbers behind their names."""
    found = [(name, params[name]) for name in names if name in params]
    return ", ".join(v if isinstance(v, str) else f"{dashed(name)} {told(v)}" for name, v in found)


def train_flags(args: Arguments, given: set[str]) -> list[str]:
    """The flags of `minunet train` that give these arguments: those that were typed or chosen, and what is not the default."""
    words: list[str] = []
    usual = Arguments()
    for name in FIELDS:
        value = getattr(args, name)
        of_file = args.load and name in OF_LOADED and name not in given
        if name in OF_RUN or of_file or value is None or (name not in given and value == getattr(usual, name)):
            continue
        flag = f"--{dashed(name)}"
        if isinstance(value, bool):
            can_be_no = getattr(usual, name) or name == "weight_map"
            words += [flag] if value else [f"--no-{dashed(name)}"] if can_be_no else []
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)] if value else []
        else:
            words += [flag, str(value)]
    return words
