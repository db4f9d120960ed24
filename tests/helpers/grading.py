"""What the tests of grading share."""

import pytest

from minunet.grade.collection import EXERCISES
from minunet.grade.runner import Limits

QUICK = Limits(call=5.0, total=20.0)
ALL = pytest.mark.parametrize("name", EXERCISES)
