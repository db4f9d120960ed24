"""A process that runs trials until there are enough of them, or time is up."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ...cli import use_threads
from ...errors import UserError, out_of_memory
from ..signals import StopOnSignal
from .lease import Pulse
from .space import Space, draw
from .study import (
    REASON,
    Settings,
    agree,
    check_images,
    counting,
    digest,
    give_back,
    hopeless,
    open_storage,
    optuna,
    pruner,
    sampler,
    spent,
    stored_settings,
)
from .trial import Job, Outcome, prepare, run_trial

POLL = 1.0  # seconds between two looks at whether a trial is to be had
LONG = 300  # letters of a reason


class Limits(NamedTuple):
    """How much is searched in all: trials, and minutes in which some worker is at a trial; None for any number."""

    trials: int | None
    minutes: float | None


def work(
    typed: Settings, limits: Limits, folder: Path, url: str | None, name: str, worker: str
) -> int:  # fmt: skip
    """Run trials of a study that is there; returns the exit status, 130 if a signal ended it."""
    storage = open_storage(url, folder)
    study = optuna().load_study(study_name=name, storage=storage)
    stored = stored_settings(study, name)
    assert stored is not None  # who started this worker made the study
    settings = agree(typed, stored, False, name)
    use_threads(settings.args.threads, quiet=True)
    stopper = StopOnSignal()
    with stopper.installed():
        try:
            job = prepare(settings.args, settings.given)
            check_images(study, digest(job.dataset, job.split))
            study.sampler = sampler(job.args.seed, worker, len(study.trials))
            study.pruner = pruner(job.args.epochs)
            Worker(study, storage, job, settings.space, limits, stopper).run()
        except KeyboardInterrupt:
            pass
    return 130 if stopper.stopping else 0


class Worker:
    """Runs trials of a study, one after the other."""

    def __init__(
        self, study: Any, storage: Any, job: Job, space: Space, limits: Limits, stopper: StopOnSignal
    ) -> None:  # fmt: skip
        self.study, self.storage, self.job, self.space = study, storage, job, space
        self.limits, self.stopper, self.orphan = limits, stopper, False

    def trials(self) -> list[Any]:
        """All trials so far."""
        found: list[Any] = self.study.get_trials(deepcopy=False)
        return found

    def run(self) -> None:
        """Run trials until there are enough, time is up, a signal comes, or the process that started this one is gone."""
        while not (self.stopper.stopping or self.orphan):
            found = self.trials()
            now = self.next_step(found)
            if now == "end":
                return
            if now == "wait":
                time.sleep(POLL)
                continue
            trial = self.study.ask()
            try:
                self.one(trial)
            except BaseException:
                self.give_back(trial, "stopped")
                raise

    def left(self, trials: list[Any]) -> float:
        """Seconds that are left."""
        minutes = self.limits.minutes
        return float("inf") if minutes is None else 60 * minutes - spent(trials, time.time())

    def next_step(self, trials: list[Any]) -> str:
        """ "try", "wait" in case a worker dies whose trial is to be run again, or "end"."""
        if self.left(trials) <= 0 or hopeless(trials):
            return "end"
        states = [t.state.name for t in counting(trials)]
        if self.limits.trials is None or len(states) < self.limits.trials or "WAITING" in states:
            return "try"
        return "wait" if "RUNNING" in states else "end"

    def is_surplus(self, trial: Any) -> bool:
        """Whether this trial is beyond the number that there are to be, as several workers asked at the same time."""
        if self.limits.trials is None:
            return False
        return sum(t.number < trial.number for t in counting(self.trials())) >= self.limits.trials

    def give_back(self, trial: Any, why: str) -> None:
        """End a trial that this worker does not finish."""
        give_back(self.study, self.storage, self.storage.get_trial(trial._trial_id), why)

    def one(self, trial: Any) -> None:
        """Run a trial, and tell how it ended."""
        errors = optuna().exceptions
        if self.is_surplus(trial):
            self.give_back(trial, "surplus")
            return
        try:
            with Pulse(trial, self.when_orphaned):
                outcome = self.outcome(trial)
            if outcome.why == "stopped":
                self.give_back(trial, "stopped")
            elif outcome.score is not None:
                self.study.tell(trial, outcome.score)
            else:
                trial.set_user_attr(REASON, outcome.why)
                self.study.tell(trial, state=optuna().trial.TrialState.PRUNED)
        except errors.UpdateFinishedTrialError:
            pass  # this process was silent for so long that another took the trial away
        except Exception as e:
            self.fail(trial, e)

    def outcome(self, trial: Any) -> Outcome:
        """Draw settings and train with them, unless a trial of the same settings says what would come out."""
        chosen = draw(trial, self.space, self.job.args)
        others = [t for t in counting(self.trials()) if t.number < trial.number and t.params == trial.params]
        same = next((t for t in others if t.state.name in ("COMPLETE", "PRUNED", "RUNNING")), None)
        if same is not None:
            for key in ("epochs", "seconds", "best_epoch", "dice", "best", "precision", "parameters"):
                if key in same.user_attrs:
                    trial.set_user_attr(key, same.user_attrs[key])
            return Outcome(same.value if same.state.name == "COMPLETE" else None, f"as trial {same.number}")
        ends = time.monotonic() + self.left(self.trials())
        return run_trial(self.job, trial, chosen, ends, self.stopper, lambda: self.orphan)

    def when_orphaned(self) -> None:
        """The process that started this one is gone: end after the current step."""
        self.orphan = True

    def fail(self, trial: Any, error: Exception) -> None:
        """Record a trial's failure; show where it happened unless it is one that is expected of settings."""
        if isinstance(error, UserError):
            reason = str(error)
        elif out_of_memory(error):
            reason = "out of memory"
        else:
            traceback.print_exception(error)
            reason = f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())
        trial.set_user_attr(REASON, reason if len(reason) <= LONG else reason[: LONG - 3] + "...")
        self.study.tell(trial, state=optuna().trial.TrialState.FAIL)
