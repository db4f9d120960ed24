"""Training.

command.py      `python -m minunet.train`; arguments.py: its flags
config.py       what shapes a training
trainer.py      the loop over epochs, its state, and what it leaves in the run folder
step.py         one step: forward, loss, backward, update
amp.py          mixed precision; cuda_graph.py: a step recorded once and replayed
figures.py      curves and predictions as pictures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"command": ["main"]})
