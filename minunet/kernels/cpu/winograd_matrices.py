"""The matrices of Winograd's F(4x4, 3x3), which winograd_transforms.py derives; here they need no numba.

BT (6, 6), G (6, 3) and AT (4, 6), and the same as products of matrices with few operations.
"""

from __future__ import annotations

from typing import Any

BT = (
    (1, -3 / 2, -2, 3 / 2, 1, 0),
    (0, -1, 1 / 2, 5 / 2, 1, 0),
    (0, 1, -5 / 2, 1 / 2, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 1 / 2, -1, -1 / 2, 1, 0),
    (0, 1, -3 / 2, -2, 3 / 2, 1),
)
G = (
    (1, 0, 0),
    (1 / 3, 1 / 3, 1 / 3),
    (-1 / 3, 1 / 3, -1 / 3),
    (-16 / 15, -8 / 15, -4 / 15),
    (1 / 15, -2 / 15, 4 / 15),
    (0, 0, 1),
)
AT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 1 / 2, -2, 0),
    (0, 1, 1, 1 / 4, 4, 0),
    (0, 1, -1, 1 / 8, -8, 1),
)

# The same as products of matrices, so that common terms are computed once: 14 operations a column for B^T instead of 20, 12 for
# A^T instead of 14. With t_n = x_(n+2) - x_n the rows of B^T x are  t_2 + 3/2 t_1 - t_0,  a + b,  a - b,  t_2 + 2 t_1,
# t_2 - t_1 / 2  and  t_3 + 3/2 t_2 - t_1,  where a = t_2 + 3/2 x_3 and b = t_1 + 3/2 x_2. Those of A^T share x_1 + x_2 and
# x_1 - x_2.
SUM_AND_DIFFERENCE = (  # of the second and the third
    (1, 0, 0, 0, 0, 0),
    (0, 1, 1, 0, 0, 0),
    (0, 1, -1, 0, 0, 0),
    (0, 0, 0, 1, 0, 0),
    (0, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 1),
)
BT_STEPS = (
    SUM_AND_DIFFERENCE,
    (
        (-1, 3 / 2, 1, 0, 0, 0),
        (0, 0, 1, 0, 0, 3 / 2),
        (0, 1, 0, 0, 3 / 2, 0),
        (0, 2, 1, 0, 0, 0),
        (0, -1 / 2, 1, 0, 0, 0),
        (0, -1, 3 / 2, 1, 0, 0),
    ),
    (
        (-1, 0, 1, 0, 0, 0),
        (0, -1, 0, 1, 0, 0),
        (0, 0, -1, 0, 1, 0),
        (0, 0, 0, -1, 0, 1),
        (0, 0, 1, 0, 0, 0),
        (0, 0, 0, 1, 0, 0),
    ),
)
AT_STEPS = (
    ((1, 1, 0, 1, 1, 0), (0, 0, 1, 1 / 2, -2, 0), (0, 1, 0, 1 / 4, 4, 0), (0, 0, 1, 1 / 8, -8, 1)),
    SUM_AND_DIFFERENCE,
)


def transposed(steps: Any) -> Any:
    """The transpose of a product: that of its factors, in reverse."""
    return [tuple(zip(*matrix)) for matrix in reversed(steps)]
