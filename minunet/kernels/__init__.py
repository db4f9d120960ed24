"""The speed: kernels that stand in for the plain ops of :mod:`minunet.ops`, with the same answer.

cpu/        for NumPy arrays, compiled by numba
cuda/       for CuPy arrays, in CUDA C++
device.py   is there a GPU, and how much memory is free
threads.py  how many threads compute

Which kernel stands in for which op, and for which arguments, `cpu/rules.py` and `cuda/rules.py` say; how an op asks,
`ops/dispatch.py`.
"""

from ..ops.dispatch import register
from . import cpu, cuda

register(cuda)  # asked first: what is not on a GPU is the CPU's
register(cpu)
