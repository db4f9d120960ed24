"""Kernels: fast versions of the plain ops of :mod:`minunet.ops`, with the same results.

cpu/        for NumPy arrays, compiled by numba
cuda/       for CuPy arrays, in CUDA C++
shapes.py   which sizes must agree before a kernel is entered; shapes_maps.py: for sums, gates, pools and resampling;
            shapes_training.py: for losses and optimisers
gpu.py      whether there is a GPU, and what it lacks; device.py: which device computes, and its memory
threads.py  how many threads compute

`cpu/rules.py` and `cuda/rules.py` say which kernel runs for which op and arguments; `ops/dispatch.py` asks them.
"""

from ..ops.dispatch import register
from . import cpu, cuda
from . import shapes_maps as shapes_maps
from . import shapes_training as shapes_training

register(cuda)  # asked first; the CPU gets all arrays that are not on a GPU
register(cpu)
