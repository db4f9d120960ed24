"""Studies as a search leaves them, without a training: for tests of tables and pictures."""

import math
import random

import optuna

from minunet.train.arguments import parse
from minunet.train.tune.space import default_space, default_values, draw
from minunet.train.tune.study import ALIVE, REASON

ENDS = ("COMPLETE", "PRUNED", "FAIL")


def space_of(*flags):
    """The default space of some flags, their arguments, and which were typed."""
    args, given = parse(["--data", "x", *flags])
    return default_space(args, given), args, given


def score(params):
    """How good settings are, in a world where three of them matter."""
    rate = abs(math.log10(params["learning_rate"]) + 2.7)
    found = 0.9 - 0.08 * rate**2 - 0.03 * (params["loss"] == "focal") + 0.004 * math.log2(params["base_width"] / 16)
    return found - 0.3 * (params["optimizer"] == "sgd" and params["learning_rate"] < 1e-3)


def study_of(trials, failed=0.1, pruned=0.3, seed=0, default=True):
    """A study of so many trials, of which shares failed and were pruned."""
    space, args, given = space_of()
    draws = random.Random(seed)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    if trials and default:
        study.enqueue_trial(default_values(space, args, given), user_attrs={"default": True})
    for i in range(trials):
        trial = study.ask()
        params = draw(trial, space, args)
        seconds = 10 * params["base_width"] ** 1.3 * (0.8 + 0.4 * draws.random()) / params["batch_size"] ** 0.2
        trial.set_user_attr(ALIVE, {"began": 100.0 * i, "time": 100.0 * i + seconds, "machine": "", "process": 0})
        luck, found = draws.random() if i else 1.0, score(params) + 0.004 * draws.gauss(0, 1)
        if luck < failed:
            trial.set_user_attr(REASON, "the loss became nan in epoch 1, step 3")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        early = luck < failed + pruned
        told = {"best": found - 0.05 * early, "seconds": seconds * (0.4 if early else 1), "epochs": 2 if early else 5}
        told |= {"best_epoch": told["epochs"], "parameters": 1000 * params["base_width"]}
        for name, value in told.items():
            trial.set_user_attr(name, value)
        if early:
            trial.report(told["best"], 2)
            trial.set_user_attr(REASON, "pruned")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, found)
    return study, space
