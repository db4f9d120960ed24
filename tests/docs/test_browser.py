"""What runs in a browser: the package, lessons 01 to 05 and grading, without numba, SciPy, threads and processes."""

from pathlib import Path

import pytest
from helpers.browser import COMPILED, SYSTEM, run

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "tutorials").glob("0[1-5]_*.py"))

LESSON = """
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {*HIDDEN} & {name.partition(".")[0] for name in sys.modules if sys.modules[name]}
"""


@pytest.mark.slow
def test_the_package_imports_trains_and_checks_gradients():
    """All that needs no file: layers, a training step by step and by `fit`, the gradient checker, the summary."""
    done = run(
        """
import numpy as np
import minunet
from minunet import data, gradcheck, grade, models, nn, ops, optim
from minunet.gradcheck import check, draw
from minunet.grade import exercises, grading

rng = np.random.default_rng(0)
check((ops.conv2d, ops.conv2d_backward), draw((1, 5, 6, 2), rng), draw((3, 3, 2, 3), rng), stride=2)
y, cache = ops.conv2d(rng.standard_normal((2, 64, 64, 16)), rng.standard_normal((3, 3, 16, 16)))
assert y.shape == (2, 64, 64, 16)
images = [np.where(rng.random((32, 32)) < 0.5, 200, 20).astype(np.uint8) for _ in range(4)]
fitted = minunet.fit(images, [np.where(a > 100, 255, 0).astype(np.uint8) for a in images], epochs=2,
                     augment=False, model=minunet.models.UNetOptions(base_width=2, depth=1))
assert len(fitted.history) == 2 and minunet.segment(fitted.model, images[0]).shape == (32, 32)
assert len(minunet.data.SyntheticCells(2, size=32)[1].image) == 32
print(minunet.summary(minunet.UNet(3, 2), (1, 64, 64, 3)))
""",
        hidden=(*COMPILED, *SYSTEM, "matplotlib", "subprocess"),
    )
    assert done.returncode == 0, done.stderr
    assert "parameters" in done.stdout


def test_an_exercise_is_graded_in_the_notebooks_process():
    """By the cell that the notebooks have, which says that nothing isolates it there."""
    done = run(
        """
from minunet.grade import here
from minunet.grade.exercises import EXERCISES

exercise = EXERCISES["filter_image"]
assert here({"In": ["", exercise.reference]}, "filter_image", seed=1) == 10
assert here({"In": ["", exercise.text]}, "filter_image", seed=1) == 0
""",
        hidden=(*COMPILED, *SYSTEM, "matplotlib", "subprocess"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("without isolation") == 2 and "10.0" in done.stdout


@pytest.mark.slow
@pytest.mark.drawn(quick=1, ci=1)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs(lesson, tmp_path):
    done = run(LESSON, ROOT / "tutorials" / "execute.py", lesson, tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.png"))) >= 3
