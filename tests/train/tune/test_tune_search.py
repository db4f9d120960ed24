"""Whole searches on a tiny data set: two workers, one killed, stopped and started again; mistakes that end it."""

import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

optuna = pytest.importorskip("optuna", reason="needs the extra tune")

from minunet.data import SyntheticCells  # noqa: E402
from minunet.train.arguments import parse  # noqa: E402
from minunet.train.tune import study as studies  # noqa: E402
from minunet.train.tune.command import main  # noqa: E402

SPACE = """
learning-rate = {low = 1e-3, high = 1e-1, log = true}
batch-size = [2, 4]
depth = [1, 2]
"""
FLAGS = ["-v", "25", "--crop", "16", "--base-width", "2", "--threads", "2", "--device", "cpu"]


@pytest.fixture
def cells(tmp_path):
    """Eight images of 32 x 32 pixels with masks."""
    made = SyntheticCells(8, size=32)
    for folder in ("imgs", "masks"):
        (tmp_path / "cells" / folder).mkdir(parents=True)
    for i in range(8):
        image, labels = made[i].image[..., 0], made[i].labels
        image = np.uint8(255 * (image - image.min()) / np.ptp(image))
        Image.fromarray(image).save(tmp_path / "cells" / "imgs" / f"{i}.png")
        Image.fromarray(np.uint8(255 * (labels > 0))).save(tmp_path / "cells" / "masks" / f"{i}.png")
    return tmp_path / "cells"


def command(cells, out, *more):
    space = cells / "space.toml"
    space.write_text(SPACE)
    flags = ["--data", str(cells), *FLAGS, "--space", str(space), "--out", str(out), *more]
    return [sys.executable, "-m", "minunet.train.tune", *flags]


def trials_in(out):
    """The trials so far, of a study that may only just be made."""
    if not (out / studies.JOURNAL).exists():
        return []
    try:
        base = studies.open_storage(None, out)
        return studies.optuna().load_study(study_name="minunet", storage=base).get_trials(deepcopy=False)
    except KeyError:
        return []


def wait_for(found, seconds=240):
    ends = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return answer


@pytest.mark.slow
def test_two_workers_one_killed_then_stopped_and_started_again(cells, tmp_path):
    """No trial is lost, none is run twice, and the killed worker's settings are run again."""
    out = tmp_path / "run"
    long = command(cells, out, "-e", "400", "--trials", "5", "--workers", "2")
    process = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    running = wait_for(
        lambda: [t for t in trials_in(out) if t.state.name == "RUNNING" and "alive" in t.user_attrs and t.params]
    )
    victim = running[0]
    os.kill(victim.user_attrs["alive"]["process"], signal.SIGKILL)
    wait_for(lambda: any(t.user_attrs.get("again") == victim.number for t in trials_in(out)))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=240)
    assert (
        process.returncode == 130
        and "was killed (signal 9); its trial is run again" in said
        and "stopped; to go on" in said
    )
    assert not [t for t in trials_in(out) if t.state.name == "RUNNING"]

    base = studies.open_storage(None, out)  # from here on with short trials
    study = studies.optuna().load_study(study_name="minunet", storage=base)
    known = study.user_attrs[studies.SETTINGS]
    study.set_user_attr(studies.SETTINGS, {**known, "arguments": {**known["arguments"], "epochs": 2}})
    again = [sys.executable, "-m", "minunet.train.tune", "--out", str(out), "--trials", "5", "--workers", "2"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trials = trials_in(out)
    counted = studies.counting(trials)
    assert len(counted) == 5 and all(t.state.is_finished() for t in counted)
    chain = [victim.number]
    while follower := [t for t in trials if t.user_attrs.get("again") == chain[-1]]:
        assert len(follower) == 1 and follower[0].params == victim.params
        chain.append(follower[0].number)
    assert len(chain) > 1 and trials[chain[-1]] in counted
    assert "goes on" in done.stdout
    best = studies.best_of(trials)
    words = shlex.split((out / "best.txt").read_text())
    args, _ = parse(words[words.index("minunet.train") + 1 :])
    assert {name: getattr(args, name) for name in best.params} == best.params and best.user_attrs[
        "epochs"
    ] == args.epochs


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--data nowhere", "nowhere"),
        ("--data CELLS -v 0", "hold some out"),
        ("--data CELLS --crop 16 --padding valid", "--crop 16"),
        ("--data CELLS --resume auto", "--resume is of minunet train"),
        ("--data CELLS --recipe paper", "--recipe paper fixes all"),
        ("--data CELLS --space nothing.toml", "--space nothing.toml"),
        ("--data CELLS --storage sqlite:////no/such/x.db", "cannot be opened"),
    ],
)
def test_a_mistake_that_would_fail_every_trial_ends_it_at_once(flags, says, cells, tmp_path, capsys):
    words = flags.replace("CELLS", str(cells)).split()
    assert main([*words, "--out", str(tmp_path / "run"), "-q"]) == 2
    err = capsys.readouterr().err
    assert says in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_training_is_refused(cells, tmp_path, capsys):
    (tmp_path / "history.csv").touch()
    assert main(["--data", str(cells), "--out", str(tmp_path)]) == 2
    assert "holds a run already" in capsys.readouterr().err
