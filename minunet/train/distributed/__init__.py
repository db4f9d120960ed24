"""Training on several processes, on one machine or many: each has a share of every batch, and together they train as one would.

world.py       what step, trainer and loader ask: a process by itself, or several; dropout.py: masks of a rank's patches
mpi.py         processes of MPI, and how this one finds out that it is one of them; nccl.py: sums on GPUs
gradients.py   gradients are added up in buckets while the backward goes on
batch_norm.py  statistics of the whole batch; losses.py: losses of the whole batch; scores.py: counts of validation images
join.py        all of this around a training step

How to start it, and what to expect: docs/scale.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"mpi": ["launched"]})
