"""Kill trainings wherever they write, start them again, and compare with a training that nothing disturbed.

    python tests/kills.py --kills 200
    python tests/kills.py --kills 200 --only 17     one of them again, with what it printed

Every trial starts ``minunet train --resume auto`` in an empty folder, kills it (SIGKILL) at a point, and then starts the same
command again until it ends; every second trial is killed twice. Points are before every call that changes a file or folder of
the run, in the middle of every file's content, and around every fsync. The trials are spread over them; 200 reach them all. At
the end weights, state of the optimiser, history and the files that there are must be those of the undisturbed run.

A trial is a process forked from this one, where all is imported. So it computes with the plain ops, which start no threads.
"""

import argparse
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from helpers.datasets import make_data
from helpers.training import SMALL, history
from safetensors.numpy import load_file

import minunet
from minunet import atomic
from minunet.train import figures, report, session  # noqa: F401  # imported here, once for all trials
from minunet.train.command import main as train

FLAGS = (["-e", "3", "--schedule", "plateau"], ["-e", "2", "--ema", "0.9", "--optimizer", "sgd", "--dropout", "0.2"])
SECONDS = 300  # until a trial counts as one that hangs
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


class Points:
    """Counts the points at which the process writes below a folder, and kills it at one of them."""

    def __init__(self, folder: Path, fatal: int | None) -> None:
        self.folder, self.fatal, self.seen = str(folder), fatal, 0

    def reached(self) -> None:
        self.seen += 1
        if self.seen == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on; this cannot be undone."""
        plain_open, plain_fsync = open, os.fsync

        def audit(event, args):
            writes = event in CHANGES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR))
            if writes and isinstance(args[0], str | bytes) and os.fsdecode(args[0]).startswith(self.folder):
                self.reached()

        def fsync(number):
            self.reached()
            plain_fsync(number)
            self.reached()

        def open_in_halves(path, mode):
            file = plain_open(path, mode)
            plain_write = file.write

            class Halves:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def __getattr__(self, name):
                    return getattr(file, name)

                def write(_, content):
                    plain_write(content[: len(content) // 2])
                    file.flush()
                    self.reached()
                    plain_write(content[len(content) // 2 :])

            return Halves()

        sys.addaudithook(audit)
        os.fsync = fsync
        atomic.open = open_in_halves
        for name in ("curves", "predictions"):  # drawing takes longer than the whole training
            setattr(figures, name, lambda path, *_: atomic.write_atomically(path, b"a picture"))


def start(data: Path, out: Path, flags: list[str], fatal: int | None) -> tuple[int, int]:
    """Train in a process of its own: its exit status, negative for a signal, and the points that it reached."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        with suppress(BaseException):
            signal.alarm(SECONDS)
            log = os.open(out.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            points = Points(out, fatal)
            points.watch()
            status = train(
                ["--data", str(data), "--out", str(out), *SMALL, "-v", "25", "-q", *flags, "--resume", "auto"]
            )
            sys.stdout.flush()
            os.write(theirs, str(points.seen).encode())
            os._exit(status)
        os._exit(70)
    os.close(theirs)
    _, status = os.waitpid(process, 0)
    seen = int(os.read(ours, 20) or fatal or 0)
    os.close(ours)
    return os.waitstatus_to_exitcode(status), seen


def outcome(out: Path) -> dict:
    """What a run has left, to be compared: files, history without times, all arrays."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history(out)]
    arrays = {
        f"{kind} {name}": a.tobytes()
        for kind in ("best", "last")
        for name, a in load_file(out / f"{kind}.safetensors").items()
    }
    return {"files": sorted(p.name for p in out.iterdir()), "history": rows, "arrays": arrays}


def trial(number: int, kills: int, data: Path, folder: Path, whole: list[tuple[dict, int]]) -> str:
    """What is wrong after a training of a trial was killed and went on; "" if nothing is."""
    rng = np.random.default_rng(number)
    kind = number % len(FLAGS)
    expected, points = whole[kind]
    share = (number // len(FLAGS) + 0.5) / (kills // len(FLAGS) + 1)
    fatal = [1 + int(share * points)] + [int(rng.integers(1, points))] * (number // len(FLAGS) % 2)
    for point in [*fatal, None]:
        status, seen = start(data, folder / "run", FLAGS[kind], point)
        killed = status == -signal.SIGKILL
        if status != 0 and not (killed and point):
            return f"{FLAGS[kind]}, killed at {fatal}: exit status {status} after {seen} points"
    found = outcome(folder / "run")
    wrong = [part for part in expected if found[part] != expected[part]]
    return f"{FLAGS[kind]}, killed at {fatal}: other {', '.join(wrong)}" if wrong else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="trials")
    parser.add_argument("--only", type=int, help="this trial alone")
    args = parser.parse_args()
    failed, numbers = 0, range(args.kills) if args.only is None else [args.only]
    with tempfile.TemporaryDirectory() as name, minunet.use("reference"):
        data, whole = make_data(Path(name) / "data", n=4), []
        train(["--data", str(data), "--out", f"{name}/first", *SMALL, "-q", "-e", "1"])  # loads what every trial needs
        for kind, flags in enumerate(FLAGS):
            (out := Path(name) / f"whole{kind}").mkdir()
            status, points = start(data, out / "run", flags, None)
            assert status == 0, (out / "log").read_text()
            whole.append((outcome(out / "run"), points))
        for number in numbers:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                problem = trial(number, args.kills, data, Path(folder), whole)
                if problem:
                    failed += 1
                    print(f"trial {number}: {problem}", flush=True)
                elif number % 20 == 19:
                    print(f"{number + 1 - failed} of {number + 1}", flush=True)
                if problem or args.only is not None:
                    print((Path(folder) / "log").read_text())
    points = ", ".join(str(points) for _, points in whole)
    print(
        f"{len(numbers) - failed} of {len(numbers)} trials ended as if nothing had happened; points of a run: {points}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
