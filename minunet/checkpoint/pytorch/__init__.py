"""Checkpoints of PyTorch-UNet (github.com/milesial/Pytorch-UNet), read and written without PyTorch.

pickles.py     what a pickle describes, without running what it names
container.py   the files: the zip of PyTorch since 1.6, the chain of pickles before
layout.py      which key is which parameter, in every layout that there has been
load.py        from a file to a network
save.py        and back
"""

from .load import load_torch
from .save import save_torch

__all__ = ["load_torch", "save_torch"]
