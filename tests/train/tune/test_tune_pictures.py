"""The pictures and tables of searches with many, few, failed and no trials: there, not blank, and not alike."""

import csv

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("optuna", reason="needs the extra tune")

from helpers.searches import study_of

from minunet.train.arguments import parse
from minunet.train.tune import pictures, report
from minunet.train.tune.trial import Job
from minunet.train.tune.worker import Limits

NAMES = ("history", "importance", "parallel", "pareto")
CASES = {"many": (24, {}), "one": (1, {"failed": 0.0, "pruned": 0.0}), "failed": (6, {"failed": 1.0, "default": False}),
         "none": (0, {})}  # fmt: skip


@pytest.mark.drawn(quick=2)
@pytest.mark.parametrize("case", CASES)
def test_every_picture_is_drawn(case, tmp_path):
    trials, more = CASES[case]
    study, space = study_of(trials, **more)
    pictures.draw_all(tmp_path, study, space)
    for name in NAMES:
        with Image.open(tmp_path / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        ink = float(np.mean(pixels < 200))
        assert min(pixels.shape) > 300 and 0.0005 < ink < 0.5, name


def test_the_front_is_what_none_beats():
    study, _ = study_of(24)
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    found = pictures.front(complete)
    for t in complete:
        beaten = any(o.value >= t.value and o.user_attrs["seconds"] < t.user_attrs["seconds"] for o in complete)
        beaten |= any(o.value > t.value and o.user_attrs["seconds"] <= t.user_attrs["seconds"] for o in complete)
        assert (t in found) == (not beaten)


def test_a_score_far_below_does_not_press_the_others_together():
    scores = [0.1, 0.85, 0.86, 0.87, 0.88, 0.9]
    assert 0.7 < pictures.floor_of(scores) < 0.86
    assert pictures.floor_of([0.5]) < 0.5 and pictures.floor_of([]) == 0


def test_the_table_and_the_best_command(tmp_path, capsys):
    study, space = study_of(20)
    args, given = parse(["--data", str(tmp_path / "a b"), "-e", "5"])
    made = report.Report(study, Job(args, given, None, ([0], [1]), None), space, Limits(20, None), tmp_path, 1, False)
    assert made.update() and not made.update()
    made.write_all()
    made.conclude()
    out = capsys.readouterr().out
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and {row["state"] for row in rows} == {"complete", "ended early", "failed"}
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["score"]))
    assert float(best["score"]) == pytest.approx(study.best_value, rel=1e-5)
    assert out.count("\n") >= 30 and "default: unet" in out and (tmp_path / "best.txt").read_text() in out
    again, _ = parse(["--config", str(tmp_path / "config.toml")])
    assert {name: getattr(again, name) for name in study.best_params} == study.best_params and again.epochs == 5
