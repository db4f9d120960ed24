"""``minunet tune``: a search for the settings with which a training does best on the validation images, by Optuna.

    python -m minunet.train.tune --data DATA --minutes 60

command.py      the command and its flags
space.py        what is searched: settings and the values that each may take, by default or from a TOML file
study.py        the study that workers share: its storage, how it is made, joined and counted
lease.py        signs of life of a trial's worker, by which the trials of dead workers are found
trial.py        one trial: a training with settings that were proposed, followed epoch by epoch
worker.py       a process that runs trials until there are enough
search.py       what starts workers, follows them and goes on until the end
report.py       lines and tables of trials; the best one as a command and as config.toml
pictures.py     importance, parallel coordinates, history, and score against time
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"command": ["main"]})
