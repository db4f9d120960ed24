"""Training.

fit.py          `minunet.fit`: from images and masks to a trained network and its history
config.py       the settings of a training, and its state; checkpoints store both
trainer.py      the loop over epochs: validation, early stopping (`patience`), the best weights
step.py         one training step: forward, loss, backward, update; heads.py: the loss of networks with several heads, and
                how those of polygons begin; portions.py: gradients that are let go during the backward
parts.py        the parts of a network that learn more slowly, later, or not at all
run_folder.py   what a run writes: checkpoints and history.csv; and how it is resumed from them
checks.py       whether images suit a network, for `minunet.doctor`
detection.py    the loss of a network that finds objects one by one
beforehand.py   what is looked at before a run begins: whether settings and images suit each other, and space for checkpoints
lock.py         one process at a time trains in a folder
tuning.py       how probabilities become objects, chosen on the validation images
callbacks.py    what is called while a network trains: the user's functions, and the progress on the screen
amp.py          mixed precision; cuda_graph.py: a step recorded once and replayed
command.py      `minunet train`; arguments.py: its flags; config_file.py: flags in a TOML file;
                network.py: the network that they ask for
session.py      a run of the command; start.py: where it writes and what it starts from; signals.py: Ctrl-C and others;
                report.py: what it prints at the end; figures.py: curves and predictions as pictures
tune/           `minunet tune`: a search for the settings with which a training does best
distributed/    on several processes, by MPI

The learning-rate schedules are in optim.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"command": ["main"]})
