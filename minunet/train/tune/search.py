"""What starts the workers on this machine and follows the search to its end.

It trains nothing itself: a worker may be killed, as the system does when memory is full, and another takes its place. It
prints a line for every trial that ends, whoever ran it, and writes tables and pictures into the run's folder.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import check_writable
from ...cli import outlive_readers, quoted
from ...errors import UserError
from ...kernels.device import device_name, select_device
from ...kernels.threads import own_cores
from ..arguments import Arguments
from ..session import compile_kernels, told_split
from ..signals import StopOnSignal
from ..start import folder_of
from .lease import Watch
from .report import Report
from .space import default_space, default_values, read_space
from .study import (
    JOURNAL,
    LOCAL,
    Settings,
    agree,
    best_of,
    check_images,
    digest,
    hopeless,
    open_storage,
    optuna,
    reap,
    store_settings,
    stored_settings,
    who,
    without_password,
)
from .trial import Job, network, prepare
from .worker import Limits, work

POLL = 0.5  # seconds
PATIENCE = 60.0  # seconds in which workers that are told to stop finish their step
MOST_RESTARTS = 5  # of workers that died, in a row, without a trial that ended


def search(
    args: Arguments, given: set[str], trials: int | None, minutes: float | None, workers: int | None, storage: str | None,
    name: str | None, space: str | None, worker: str | None,
) -> int:  # fmt: skip
    """Search, or be one of the workers; returns the exit status."""
    optuna()
    name, limits = name or "minunet", Limits(trials, minutes)
    typed = Settings(args, given, read_space(space, given) if space else {})
    if worker is not None:
        return work(typed, limits, Path(args.out or "."), storage, name, worker)
    outlive_readers()
    folder = folder_of(args)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        check_writable(folder.path / JOURNAL)
        folder.check_unused()
        study, base, job, made = begin(typed, bool(space), folder.path, storage, name)
        return Search(study, base, job, made, limits, folder.path, storage, name, workers or 1, args.quiet).run()
    finally:
        with suppress(OSError):
            folder.path.rmdir()  # if nothing was written


def begin(typed: Settings, space_typed: bool, folder: Path, url: str | None, name: str) -> tuple[Any, Any, Job, bool]:
    """The study, found or made, its storage, what its trials have in common, and whether it was made now.

    Everything that would let every trial fail is a UserError here.
    """
    where = f"{folder if url is None else without_password(url)}" + ("" if url is None else f", study {name}")
    if url is not None or (folder / JOURNAL).exists():
        base = open_storage(url, folder)
        joined = join(typed, space_typed, base, name, where)
        if joined:
            return *joined, False
    job = prepare(typed.args, typed.given)
    network(job, {})
    base = open_storage(url, folder)
    settings = typed._replace(space=typed.space or default_space(job.args, job.given))
    if not settings.space:
        raise UserError("nothing is left to search: leave out a flag that fixes a setting, or give a --space")
    if "encoder" in settings.space and not {"arch", "encoder"} & (typed.given | settings.space.keys() - {"encoder"}):
        raise UserError("--space: encoder is of other networks than the U-Net: give --arch encoder_unet, too")
    try:
        study = optuna().create_study(study_name=name, storage=base, direction="maximize")
    except optuna().exceptions.DuplicatedStudyError:  # another made it in this moment
        joined = join(typed, space_typed, base, name, where)
        assert joined is not None
        return *joined, False
    first = default_values(settings.space, job.args, job.given)
    store_settings(study, settings, digest(job.dataset, job.split), first)
    return study, base, job, True


def join(typed: Settings, space_typed: bool, base: Any, name: str, where: str) -> tuple[Any, Any, Job] | None:
    """A study that is there already; None if there is none."""
    try:
        study = optuna().load_study(study_name=name, storage=base)
    except KeyError:
        return None
    stored = stored_settings(study, name)
    if stored is None:
        raise UserError(f"{where}: the search there was begun but never made: choose another --out or --name")
    settings = agree(typed, stored, space_typed, where)
    job = prepare(settings.args, settings.given)
    check_images(study, digest(job.dataset, job.split))
    return study, base, job


class Search:
    """A search on this machine: its workers, its progress, its reports."""

    def __init__(
        self, study: Any, base: Any, job: Job, made: bool, limits: Limits, folder: Path, url: str | None, name: str,
        workers: int, quiet: bool,
    ) -> None:  # fmt: skip
        self.study, self.base, self.job, self.made, self.limits = study, base, job, made, limits
        self.folder, self.url, self.name, self.quiet = folder, url, name, quiet
        self.count, self.watch = workers, Watch()
        self.space = stored_settings(study, name).space  # type: ignore[union-attr]
        self.report = Report(study, job, self.space, limits, folder, workers, quiet)
        self.processes: dict[int, subprocess.Popen] = {}
        self.died = 0

    def run(self) -> int:
        """Search to the end; returns the exit status."""
        self.introduce()
        if select_device(self.job.args.device) is np and not self.quiet:
            compile_kernels()
        stop = Stop()
        status = 0
        with stop.installed():
            try:
                self.processes = {i: self.start(i) for i in range(self.count)}
                while self.processes and not stop.asked and status == 0:
                    time.sleep(POLL)
                    status = self.look()
            finally:
                self.end_workers()
                self.report.close()
        return self.finish(status, stop.asked)

    def introduce(self) -> None:
        """Say what is searched on which images."""
        if self.quiet:
            return
        args, dataset = self.job.args, self.job.dataset
        print(dataset.describe())
        print(told_split(dataset, *self.job.split))
        print(f"device      {device_name(select_device(args.device), args.device)}")
        if self.url and self.url.startswith("sqlite"):
            print(
                "note: SQLite is for one machine, and never for a network disk: the journal, the default, suits better"
            )
        self.report.introduce(self.made)

    def start(self, index: int) -> subprocess.Popen:
        """Start a worker."""
        given, args = self.job.given, self.job.args
        threads = max(1, (args.threads or len(own_cores())) // self.count)
        told: list[object] = ["--worker", who(index, not self.made or self.died > 0), "--out", self.folder]
        told += ["--name", self.name, "--threads", threads, *(["--storage", self.url] if self.url else [])]
        for limit in ("trials", "minutes"):
            value = getattr(self.limits, limit)
            told += [] if value is None else [f"--{limit}", value]
        for flag in set(LOCAL) & given - {"threads", "out", "quiet"}:
            value = getattr(args, flag)
            told += [f"--{flag.replace('_', '-')}", *([] if value is True else [value])]
        command = [sys.executable, "-m", "minunet.train.tune", *map(str, told)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # Ctrl-C is for this process

    def look(self) -> int:
        """Give back the trials of dead workers, tell what is new, start workers anew; 2 if a worker found a mistake."""
        ends = {i: code for i, p in self.processes.items() if (code := p.poll()) is not None}
        reap(self.study, self.base, self.watch)
        if self.report.update():
            self.died = 0
        for i, code in ends.items():
            del self.processes[i]
            if code == 2:
                return 2
            if code not in (0, 130):
                self.died += 1
                how = f"was killed (signal {-code})" if code < 0 else f"ended with status {code}"
                if self.died > MOST_RESTARTS:
                    raise UserError(
                        f"worker {i} {how}, as others before, and no trial came to an end: see what it printed"
                    )
                self.report.say(f"note: worker {i} {how}; its trial is run again, by another")
                self.processes[i] = self.start(i)
        return 0

    def end_workers(self) -> None:
        """Ask the workers that are there to stop, and end those that do not."""
        for process in self.processes.values():
            process.terminate()
        ends = time.monotonic() + PATIENCE
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, ends - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
        reap(self.study, self.base, self.watch)

    def finish(self, status: int, stopped: bool) -> int:
        """Write and say what came out; returns the exit status."""
        trials = self.study.get_trials(deepcopy=False)
        self.report.update()
        self.report.write_all()
        if status:
            return status
        if why := hopeless(trials):
            raise UserError(f"all of the first trials failed, the last one so: {why}")
        if not self.quiet:
            self.report.conclude()
        if stopped:
            if not self.quiet:
                print(f"\nstopped; to go on, give the same command with --out {quoted(self.folder)}")
            return 130
        if best_of(trials) is None:
            raise UserError("no trial came to its last epoch: give more --minutes or --trials, or fewer --epochs")
        return 0


class Stop(StopOnSignal):
    """The signals that end a training, here only remembered: the workers are asked to stop, and finish their step."""

    asked = False

    def on_signal(self, number: int, _: Any) -> None:
        """Remember; a second Ctrl-C ends at once."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
