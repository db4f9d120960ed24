"""What the tests of grading share."""

import pytest

from minunet.grade import cut
from minunet.grade.exercises import EXERCISES
from minunet.grade.process.runner import Limits

QUICK = Limits(call=5.0, total=20.0)
ALL = pytest.mark.parametrize("name", EXERCISES)


def momentum(body: str, head: str = "") -> str:
    """An answer to the shortest exercise: lines at the head of the file, and the function's body."""
    lines = "\n".join("    " + line for line in body.splitlines())
    signature = "def sgd_step(p, g, velocity, lr, momentum=0.9, nesterov=False, weight_decay=0.0):"
    return f"import numpy as np\n{head}\n{signature}\n{lines}\n"


RIGHT = """g = g + weight_decay * p
velocity *= momentum
velocity += g
p -= lr * (g + momentum * velocity if nesterov else velocity)"""


def whole_file(exercise, source):
    """A submission with what its exercise gives."""
    e = EXERCISES[exercise]
    given = "\n\n".join(cut.taken(*place) for place in e.given)
    return cut.imports(given + "Any", e.extras) + given + source
