"""Checkpoints of PyTorch-UNet (github.com/milesial/Pytorch-UNet) and others, read and written without PyTorch.

pickles.py     what a pickle describes, found without running it; beside.py: what is often saved beside tensors
container.py   the files: a zip since PyTorch 1.6, a chain of pickles before
state.py       the network's tensors among a file's, under wrappers and prefixes of any depth
layout.py      which key is which parameter, in every version of PyTorch-UNet
names.py       which key is which parameter, where layers are named as in PyTorch; a file's tensors by key
encoder.py     weights of torchvision for the encoder of a network
classes.py     the classes of such a network
smp.py         networks of segmentation_models.pytorch
load.py        from a file to a network
save.py        from a network to a file
"""

from .load import load_torch
from .save import save_torch

__all__ = ["load_torch", "save_torch"]
