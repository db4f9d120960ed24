"""Training.

fit.py          `minunet.fit`: from images and masks to a trained network and its history
config.py       how to train, and where a training stands; both are kept in checkpoints
trainer.py      the loop over epochs; step.py: forward, loss, backward, update
run_folder.py   checkpoints and history.csv, and going on from them
callbacks.py    what is called while a network trains: the user's functions, and the progress on the screen
amp.py          mixed precision; cuda_graph.py: a step recorded once and replayed
command.py      `minunet train`; arguments.py: its flags; config_file.py: them as a TOML file
session.py      a run of the command; report.py: what it tells at the end; figures.py: curves and predictions as pictures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"command": ["main"]})
