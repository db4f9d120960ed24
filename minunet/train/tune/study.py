"""The study that all workers share: where it is kept, how it is made and joined, which of its trials count.

It is made once. Whoever comes later, or again, finds it and goes on with the settings that it was made with; other settings are
refused. A trial counts unless its worker went away or it was one too many; in place of a trial whose worker went away the same
settings wait to be tried again.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...data import ImageSet
from ...errors import UserError, extra
from ..arguments import Arguments, from_checkpoint, whole_paths
from .lease import ALIVE, BEAT, Watch, machine
from .space import Space, dashed

JOURNAL = "study.journal"
SETTINGS = "minunet"  # the attribute of a study: how it was made
GONE = "gone"  # the attribute of a trial that does not count: why
DEATHS = "deaths"  # the attribute of a trial: how many workers have died of it before
MOST_DEATHS = 3  # then it is the trial's fault, such as too little memory, and it has failed
REASON = "reason"  # the attribute of a trial that failed or was pruned: why
JOINING = 30.0  # seconds to wait for whoever is making the study
LOCAL = ("data", "val_files", "groups", "cache", "device", "graph", "threads", "quiet", "out", "resume")
"""What may be different on each machine; the images themselves must be the same."""


def optuna() -> Any:
    """Optuna, which says nothing by itself; UserError that names the extra if it is not installed."""
    try:
        import optuna
    except ImportError as e:
        raise UserError(f"minunet tune needs Optuna ({e}): {extra('tune')}") from e
    import warnings

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


# ---- where it is kept ------------------------------------------------------------------------------------------------


def open_storage(url: str | None, folder: Path) -> Any:
    """Optuna's storage: a journal in the run's folder, or a journal at a path, a database or Redis by its URL.

    UserError if it cannot be opened, without the URL's password.
    """
    storages = optuna().storages
    try:
        if url is None or "://" not in url:
            return storages.JournalStorage(journal(Path(url) if url else folder / JOURNAL))
        if url.startswith("redis"):
            return storages.JournalStorage(storages.journal.JournalRedisBackend(url))
        waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        return patiently(lambda: storages.RDBStorage(url, engine_kwargs=waits))
    except ImportError as e:
        raise UserError(f"--storage {without_password(url)}: needs a package that is not installed ({e})") from e
    except Exception as e:  # each database has errors of its own
        said = " ".join(str(e.__cause__ or e).split())[:200]
        raise UserError(f"--storage {without_password(url)}: cannot be opened ({said})") from e


def journal(path: Path) -> Any:
    """A journal in a file, which several machines may share; what a killed process has left half-written at its end is cut."""
    parts = optuna().storages.journal
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = parts.JournalFileOpenLock(str(path))
    if path.exists() and path.stat().st_size:
        lock.acquire()
        try:
            with open(path, "rb+") as file:
                text = file.read()
                if not text.endswith(b"\n"):
                    file.truncate(text.rfind(b"\n") + 1)
        finally:
            lock.release()
    return parts.JournalFileBackend(str(path), lock_obj=lock)


def patiently(make: Any, tries: int = 5) -> Any:
    """What `make` makes; tried again if another process makes the same tables at this moment, which one of the two survives."""
    for _ in range(tries - 1):
        try:
            return make()
        except Exception as e:
            if "exist" not in str(e.__cause__ or e).lower() and "unique" not in str(e.__cause__ or e).lower():
                raise
            time.sleep(1)
    return make()


def without_password(url: str | None) -> str:
    """A storage as it may be shown."""
    head, at, tail = (url or JOURNAL).rpartition("@")
    scheme, _, login = head.partition("://")
    return f"{scheme}://{login.partition(':')[0]}:***@{tail}" if at and ":" in login else url or JOURNAL


# ---- made and joined -------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """What all trials of a study have in common: arguments and which were typed, and what is searched."""

    args: Arguments
    given: set[str]
    space: Space


def stored_settings(study: Any, name: str) -> Settings | None:
    """The settings with which a study was made; None if it is only just being made. UserError if it is no search of ours."""
    ends = time.monotonic() + JOINING
    while SETTINGS not in (found := study.user_attrs) and time.monotonic() < ends:
        if study.get_trials(deepcopy=False):
            raise UserError(f"the study {name} is not one of minunet tune: give another --name or --storage")
        time.sleep(0.2)
    known = found.get(SETTINGS)
    if known is None:
        return None
    args = from_checkpoint(known["arguments"], f"the study {name}")
    return Settings(args, set(known["given"]), known["space"])


def agree(typed: Settings, stored: Settings, space_typed: bool, where: str) -> Settings:
    """The study's settings with those that may differ from machine to machine; UserError, naming them, if others do."""
    local = {name: getattr(typed.args, name) for name in LOCAL if name in typed.given}
    values, known = whole_paths(typed.args).to_json(), stored.args.to_json()
    other = sorted(name for name in typed.given - set(LOCAL) if values[name] != known[name])
    other += ["space"] if space_typed and typed.space != stored.space else []
    if other:
        named = ", ".join(f"--{dashed(name)}" for name in other)
        raise UserError(
            f"{where} holds a search with another {named}, and goes on with the flags that it began with: leave these out, or "
            f"choose another --out or --name"
        )
    both = Arguments(**{**known, **local})
    return Settings(both, stored.given | (typed.given & set(LOCAL)), stored.space)


def store_settings(study: Any, settings: Settings, images: str, first: dict[str, Any] | None) -> None:
    """Write into a new study how it was made, and let its first trial be the default."""
    if first is not None:
        study.enqueue_trial(first, user_attrs={"default": True}, skip_if_exists=True)
    told = {name: v for name, v in whole_paths(settings.args).to_json().items() if name not in ("out", "resume")}
    study.set_user_attr("images", images)
    study.set_user_attr(
        SETTINGS, {"arguments": told, "given": sorted(settings.given - {"out"}), "space": settings.space}
    )


def digest(dataset: ImageSet, split: Sequence[Sequence[int]]) -> str:
    """A mark of the images and of which of them are held out, by their names."""
    names = [[dataset.names[i] for i in part] for part in split]
    return f"{len(names[0])} and {len(names[1])} images, {zlib.crc32(repr(names).encode('utf-8', 'replace')):08x}"


def check_images(study: Any, found: str) -> None:
    """UserError if the images are not those of the study."""
    known = study.user_attrs.get("images", found)
    if known != found:
        raise UserError(
            f"--data: to train and validate there are {found}, the search began with {known} (their names' mark): give the "
            f"same images, or choose another --out or --name"
        )


def sampler(seed: int, worker: str, trials: int) -> Any:
    """Optuna's TPE with a seed of the worker's own, which supposes that running trials will turn out badly, so that workers do
    not propose alike. `trials` is how many there are: a worker that is started again does not begin with the same ones."""
    mixed = zlib.crc32(f"{seed} {worker} {trials}".encode())
    return optuna().samplers.TPESampler(n_startup_trials=8, constant_liar=True, seed=mixed)


def pruner(epochs: int) -> Any:
    """The median rule: a trial ends whose best score so far is below the median of the others' at the same epoch.

    Searches here have ten to a hundred trials. Successive halving and Hyperband divide so few over brackets of which most see
    a handful, and expect that the order after one epoch tells that of the last, which a learning rate that falls to 0 over the
    epochs contradicts. The median asks for nothing but some trials to compare with; a quarter of the epochs is never judged.
    """
    return optuna().pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=max(1, epochs // 4), n_min_trials=3)


# ---- which trials count ----------------------------------------------------------------------------------------------


def counting(trials: Sequence[Any]) -> list[Any]:
    """The trials that count: all but those that failed as their worker went away, or were one too many."""
    return [t for t in trials if not (t.state.name == "FAIL" and GONE in t.user_attrs)]


def ended(trials: Sequence[Any]) -> list[Any]:
    """The trials that count and came to an end, in the order in which they ended."""
    return sorted((t for t in counting(trials) if t.state.is_finished()), key=lambda t: (t.datetime_complete, t.number))


def hopeless(trials: Sequence[Any], few: int = 5) -> str | None:
    """Why all trials failed, if a few have ended and none in another way."""
    found = ended(trials)
    failed = len(found) >= few and all(t.state.name == "FAIL" for t in found)
    return str(found[-1].user_attrs.get(REASON, "for no known reason")) if failed else None


def best_of(trials: Sequence[Any]) -> Any:
    """The trial with the best score, of several the first; None if none came to its end."""
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    return max(complete, key=lambda t: (t.value, -t.number), default=None)


def spent(trials: Sequence[Any], now: float) -> float:
    """Seconds in which some worker was at a trial, until the time `now`: the search's age without its interruptions."""
    spans = []
    for t in trials:
        sign = t.user_attrs.get(ALIVE)
        if sign:  # a trial whose worker went away ended with its last sign of life, not when that was noticed
            end = min(now, sign["time"] + 3 * BEAT) if t.state.name == "RUNNING" else sign["time"]
            spans.append((sign["began"], end))
    total, until = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def give_back(study: Any, storage: Any, trial: Any, why: str) -> bool:
    """End a running trial whose worker goes away or is gone, and let the same settings wait to be tried again.

    Exactly one of several processes that try this does it, and returns True. Where `why` is "killed" for the third time, the
    trial has failed.
    """
    errors, states = optuna().exceptions, optuna().trial.TrialState
    number, deaths = trial._trial_id, trial.user_attrs.get(DEATHS, 0) + (why == "killed")
    hopeless = deaths >= MOST_DEATHS
    try:
        more = {REASON: f"{deaths} workers were killed at it, perhaps for memory"} if hopeless else {GONE: why}
        for key, value in more.items():
            storage.set_trial_user_attr(trial._trial_id, key, value)
        if not storage.set_trial_state_values(number, state=states.FAIL):
            return False
    except errors.UpdateFinishedTrialError:
        return False
    if not hopeless and why != "surplus":
        settings = trial.system_attrs.get("fixed_params", {}) | trial.params
        kept = {"default": True} if trial.user_attrs.get("default") else {}
        study.enqueue_trial(settings, user_attrs={DEATHS: deaths, "again": trial.number, **kept})
    return True


def reap(study: Any, storage: Any, watch: Watch) -> list[int]:
    """Give back the trials of workers that are gone; their numbers."""
    running = [t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]
    return [t.number for t in running if watch.is_lost(t) and give_back(study, storage, t, "killed")]


def who(index: int, joined: bool) -> str:
    """A worker's name, from which its seed comes: its number, and for one that joins or comes back where it is."""
    return f"{index} {machine()} {os.getpid()}" if joined else str(index)
