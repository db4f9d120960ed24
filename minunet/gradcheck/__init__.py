"""Gradient checks: is this backward right? For tests, lessons and graders.

    from minunet.gradcheck import check, draw

    rng = np.random.default_rng(0)
    x, w = draw((2, 7, 5, 3), rng), draw((3, 3, 3, 4), rng)
    check((conv2d, conv2d_backward), x, w, stride=2)         # a pair; raises GradientError with a report if it is wrong
    check(model, x)                                          # a module or a whole network, with every parameter

check.py    the checker: full, projected and adjoint checks; subjects.py: what it runs; report.py: its result
command.py  `minunet gradcheck`
cases.py    the cases to check: every op and model
planting.py how a bug is planted; bugs.py, bugs_losses.py, bugs_maps.py, bugs_networks.py: planted bugs, which must be caught

``python -m minunet.gradcheck`` checks every op and model of the package and prints the table.
"""

from .check import check, draw
from .report import ArgumentCheck, GradientError, GradientReport

__all__ = ["ArgumentCheck", "GradientError", "GradientReport", "check", "draw"]
