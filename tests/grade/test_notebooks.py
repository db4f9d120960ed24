"""Exercises as notebooks: how they are made, what of a notebook is graded, and grading in the notebook itself."""

import ast
import json
import re
import sys
from types import SimpleNamespace

import pytest
from helpers.grading import ALL, QUICK, RIGHT, momentum
from helpers.notebooks import filled, of_cells

from minunet.errors import UserError
from minunet.grade import here
from minunet.grade.command import main
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade_source
from minunet.grade.notebook import notebook
from minunet.grade.process.cells import Notebook
from minunet.grade.submissions import LARGEST_NOTEBOOK, grade_file, grade_submission, python_files, read, submissions

STEP = momentum(RIGHT)


# ---- the files -------------------------------------------------------------------------------------------------------


@ALL
def test_a_notebook_has_a_cell_for_each_function_and_one_that_grades(name):
    e, content = EXERCISES[name], json.loads(notebook(EXERCISES[name]))
    task, given, *functions, grading = content["cells"]
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert task["cell_type"] == "markdown" and "".join(task["source"]).startswith(f"# {e.title}\n")
    assert all(
        c["cell_type"] == "code" and c["outputs"] == [] and c["execution_count"] is None for c in content["cells"][1:]
    )
    for function, cell in zip(e.functions, functions, strict=True):
        assert "".join(cell["source"]).startswith(f"def {function}(")
    assert f'here(globals(), "{name}")' in "".join(grading["source"])
    ids = [c["id"] for c in content["cells"]]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w-]{1,64}", i) for i in ids)
    code = "".join("".join([*c["source"], "\n\n"]) for c in content["cells"][1:-1])
    plain = [line for line in code.splitlines() if line.strip() and "SOLUTION" not in line]
    assert plain == [
        line for line in e.text.split('"""\n', 1)[1].splitlines() if line.strip() and not line.startswith("# ----")
    ]


@ALL
def test_a_notebook_is_one_for_nbgrader(name):
    """Its rules for metadata of version 3, https://nbgrader.readthedocs.io/en/stable/contributor_guide/metadata.html."""
    known = {"schema_version", "grade", "locked", "solution", "task", "grade_id", "points", "checksum", "cell_type"}
    cells, ids = json.loads(notebook(EXERCISES[name]))["cells"], set()
    for cell in cells:
        about = cell["metadata"]["nbgrader"]
        assert set(about) <= known and about["schema_version"] == 3
        assert all(isinstance(about[key], bool) for key in ("grade", "locked", "solution", "task"))
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", about["grade_id"]) and about["grade_id"] not in ids
        ids.add(about["grade_id"])
        assert ("points" in about) == about["grade"] and not (about["grade"] and about["solution"])
        assert cell["cell_type"] == "code" or not (about["grade"] or about["solution"])
        text = "".join(cell["source"])
        assert text.count("### BEGIN SOLUTION\n") == text.count("### END SOLUTION") == about["solution"]
    assert sum(c["metadata"]["nbgrader"].get("points", 0) for c in cells) == POINTS


def test_nbformat_takes_them():
    nbformat = pytest.importorskip("nbformat", reason='needs pip install ".[tutorials]"')
    for e in EXERCISES.values():
        nbformat.validate(nbformat.reads(notebook(e), as_version=4))


# ---- graded ----------------------------------------------------------------------------------------------------------


@pytest.mark.drawn(quick=1, ci=4)
@ALL
def test_a_right_notebook_gets_everything_and_an_untouched_one_nothing(name, tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text(notebook(EXERCISES[name]))
    [found] = grade_file(path, limits=QUICK)
    assert found.score == 0 and all(p.message.startswith("not written yet") for p in found.parts)
    path.write_text(filled(name))
    [found] = grade_file(path, limits=QUICK)
    assert found.exercise.name == name and found.score == POINTS, found.parts


TRIALS = {
    "a plot": "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])",
    "a library with answers": "import torch\nprint(torch.ones(3))",
    "the grader": 'from minunet.grade import here\nhere(globals(), "momentum")',
    "an error": "1 / 0",
    "a file": "open('notes.txt', 'w').write('x')",
    "a shell": "!ls\nfiles = !ls\n%time 1 + 1\nsgd_step?",
    "another language": "%%bash\nls -l | wc",
    "no Python": "this is no Python",
    "a return": "return 3",
    "an await": "await asyncio.sleep(1)",
    "a check": "p = np.ones(3)\nsgd_step(p, p, p, 0.1)\nassert p.sum() == 0, 'on purpose'",
}


@pytest.mark.parametrize("before", [True, False])
def test_trials_do_not_matter(before, tmp_path):
    cells = [*TRIALS.values(), STEP] if before else [STEP, *TRIALS.values()]
    (tmp_path / "a.ipynb").write_text(of_cells(*cells))
    [found] = grade_file(tmp_path / "a.ipynb", limits=QUICK)
    assert found.score == POINTS, found.parts


def picked(*cells, function="f"):
    """What is run of a notebook of these cells for a function."""
    return [ast.unparse(node) for node in Notebook(of_cells(*cells)).needed((function,))]


BRANCHES = "try:\n    import numba\nexcept ImportError:\n    numba = None", "if numba:\n    k = 1\nelse:\n    k = 2"
PICKED = {
    "what it reads, and what that reads": (
        ["import math", "two = 2", "four = two * 2", "b = 5", "def g(x):\n    return x * four", "def f(x):\n    return g(x)"],
        ["two = 2", "four = two * 2", "def g(x):\n    return x * four", "def f(x):\n    return g(x)"],
    ),
    "the last of two": (
        ["def f(x):\n    return torch.ones(x)", "import torch", "def f(x):\n    return x"], ["def f(x):\n    return x"],
    ),
    "both, where the second needs the first": (["a = [1]", "a = a + [2]", "def f():\n    return a"],
                                               ["a = [1]", "a = a + [2]", "def f():\n    return a"]),
    "the value of then": (["w = 2", "b = 3 * w", "w = 7", "def f():\n    return b"],
                          ["w = 2", "b = 3 * w", "def f():\n    return b"]),
    "changes in place": (
        ["t = [0]", "t[0] = 1", "t.append(2)", "t += [3]", "u = 4", "u.append(3)", "def f():\n    return t"],
        ["t = [0]", "t[0] = 1", "t.append(2)", "t += [3]", "def f():\n    return t"],
    ),
    "no checks by a library's functions": (
        ["import numpy as np", "np.testing.assert_equal(f(1), 2)", "def f(x):\n    return np.abs(x)"],
        ["import numpy as np", "def f(x):\n    return np.abs(x)"],
    ),
    "decorators and defaults": (
        ["import functools", "n = 3", "@functools.cache\ndef f(x=n):\n    return x"],
        ["import functools", "n = 3", "@functools.cache\ndef f(x=n):\n    return x"],
    ),
    "names of its own are not the notebook's": (
        ["x = open(1)", "y = x", "def f(x):\n    y = [x for x in range(3)]\n    return y"],
        ["def f(x):\n    y = [x for x in range(3)]\n    return y"],
    ),
    "branches": (
        [*BRANCHES, "n = 3", "def f():\n    return k"], [*BRANCHES, "def f():\n    return k"],
    ),
    "what must stand first": (["x = 1", "from __future__ import annotations", "def f():\n    return x"],
                              ["from __future__ import annotations", "x = 1", "def f():\n    return x"]),
    "a method": (["class A:\n    b = 1", "c = 2", "def f():\n    return A().b"],
                 ["class A:\n    b = 1", "def f():\n    return A().b"]),
}  # fmt: skip


@pytest.mark.parametrize("what", PICKED)
def test_of_a_notebook_is_run_what_the_function_needs(what):
    cells, wanted = PICKED[what]
    assert picked(*cells) == wanted


def test_errors_name_the_cell(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(of_cells("x = 1", momentum("g = undefined\np -= g")))
    assert "in line 4 of code cell 2: g = undefined" in grade_file(path, limits=QUICK)[0].parts[0].message
    forward, backward = (
        "def unpool(x, winner, output_size, size=2):\n    return (x,",
        "def unpool_backward(dy, cache):\n    return dy",
    )
    path.write_text(of_cells("x = 1", backward, forward))
    messages = [p.message for p in grade_file(path, limits=QUICK)[0].parts]
    assert any("defines no unpool: '(' was never closed in line 2 of code cell 3" in m for m in messages), messages


def test_what_the_functions_import_is_still_refused(tmp_path):
    (tmp_path / "a.ipynb").write_text(of_cells("x = 1", momentum("return torch.ones(1)", "import torch")))
    [found] = grade_file(tmp_path / "a.ipynb", limits=QUICK)
    assert found.score == 0 and found.forbidden == "line 2 of code cell 2 imports torch, which holds the answer"


@pytest.mark.drawn(quick=2)
@pytest.mark.parametrize(
    "content, says",
    [
        ("", "is not a notebook: it holds no JSON"),
        ("def sgd_step(): pass", "is not a notebook: it holds no JSON"),
        ("[" * 100_000, "is not a notebook"),
        ("[]", "is not a notebook: it has no list of cells"),
        ('{"worksheets": [], "nbformat": 3}', "it has no list of cells; open it in Jupyter and save it"),
        ('{"cells": [{"cell_type": "code"}]}', "its cell 1 has no text"),
        ('{"cells": [3]}', "its cell 1 has no text"),
        ('{"cells": [{"cell_type": "code", "source": [3]}]}', "its cell 1 has no text"),
        ('{"cells": []}', "defines no function of an exercise"),
        (
            of_cells("def sgd_step(p:"),
            "is not Python: '\\(' was never closed in line 1 of code cell 1; mend that first",
        ),
    ],
)
def test_what_is_no_notebook_is_said(content, says, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        grade_file(path, limits=QUICK)


def test_gradescope_says_what_is_no_notebook(tmp_path):
    path, out = tmp_path / "a.ipynb", tmp_path / "results.json"
    path.write_text("{")
    assert main([str(path), "--gradescope", str(out)]) == 0
    results = json.loads(out.read_text())
    assert results["score"] == 0 and "is not a notebook" in results["output"]


def test_a_notebook_may_hold_pictures_but_not_any_number(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(STEP + "#" * (LARGEST_NOTEBOOK - len(STEP)))
    assert len(read(path)) == LARGEST_NOTEBOOK
    path.write_text("#" * (LARGEST_NOTEBOOK + 1))
    with pytest.raises(UserError, match="clear its outputs"):
        read(path)


def test_notebooks_in_a_folder(tmp_path, capsys):
    for name in ("ada", "bob", "bob/.ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "ada" / "mine.ipynb").write_text(of_cells(STEP))
    (tmp_path / "bob" / "mine.ipynb").write_text(of_cells(momentum("pass")))
    (tmp_path / "bob/.ipynb_checkpoints/mine-checkpoint.ipynb").write_text(of_cells(STEP))
    (tmp_path / "eve.ipynb").write_text("{")
    assert set(submissions(tmp_path)) == {"ada", "bob", "eve.ipynb"}
    assert [p.name for p in python_files(str(tmp_path / "bob"))] == ["mine.ipynb"]
    assert main([str(tmp_path), "--quiet"]) == 0
    rows = dict(line.split(",", 1) for line in capsys.readouterr().out.splitlines())
    assert (
        rows["ada"].startswith("10.00,")
        and not rows["bob"].startswith("10.00,")
        and "is not a notebook" in rows["eve.ipynb"]
    )
    grades, _ = grade_submission([tmp_path / "ada" / "mine.ipynb"], None, 1, QUICK)
    assert [g.score for g in grades] == [POINTS]


# ---- in the notebook itself ------------------------------------------------------------------------------------------


def ran(*cells):
    """The namespace of a notebook in which these cells have run."""
    return {"In": ["", *cells]}


def test_here_grades_what_has_run(capsys):
    """The newest version of what ran, whatever was tried before."""
    wrong = momentum(RIGHT.replace("p -=", "p +="))
    assert 0 < here(ran(wrong, "def sgd_step(:", "1 / 0"), "momentum", seed=1) < POINTS
    said = capsys.readouterr()
    assert "likely: p moves along the gradient, uphill" in said.out and said.err == ""
    assert here(ran(momentum("return torch.ones(1)", "import torch"), wrong, STEP, "here(globals())")) == POINTS
    assert here(ran(momentum("return undefined")), seed=1) == 0
    assert "in line 4 of cell [1]: return undefined" in capsys.readouterr().out


@pytest.mark.parametrize(
    "namespace, names, says",
    [
        (ran("x = 1"), (), "defines no function of an exercise"),
        (ran(STEP), ("conv",), "there is no exercise 'conv'"),
        ({}, (), "there is no text of the functions here"),
    ],
)
def test_here_says_what_is_wrong(namespace, names, says, capsys):
    assert here(namespace, *names) == 0
    assert says in capsys.readouterr().out


def test_here_takes_cells_as_they_were_typed():
    typed = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=["", f"%%time\n{STEP}"]))
    parsed = ran(f"get_ipython().run_cell_magic('time', '', {STEP!r})")
    assert here(parsed | {"get_ipython": lambda: typed}, seed=1) == POINTS


def test_here_in_a_script(tmp_path):
    (tmp_path / "a.py").write_text(STEP)
    assert here({"__file__": str(tmp_path / "a.py")}, seed=1) == POINTS


@pytest.fixture
def alone(monkeypatch):
    """As in a browser: no process can be started."""
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a process was started"))
    monkeypatch.setattr(sys, "platform", "emscripten")


@pytest.mark.drawn(quick=1, ci=4)
@ALL
def test_without_processes_it_is_graded_here(name, alone, capsys):
    codes = ["".join(c["source"]) for c in json.loads(filled(name))["cells"] if c["cell_type"] == "code"]
    if EXERCISES[name].extras:
        pytest.importorskip("scipy")
    assert here(ran(*codes), name) == POINTS, capsys.readouterr().out
    assert "graded in this notebook's own process, without isolation" in capsys.readouterr().out


@pytest.mark.slow
def test_without_processes_the_verdicts_are_the_same(monkeypatch, tmp_path):
    texts = [
        momentum(RIGHT.replace("p -=", "p +=")), momentum("raise NotImplementedError"), momentum("return [p, 'x']"),
        momentum("return undefined"), momentum("return object()"), "x = 1 / 0\n" + STEP, momentum("import torch"),
    ]  # fmt: skip

    def verdicts():
        found = [grade_source(tmp_path / "a.py", text, ["momentum"], 3, QUICK)[0] for text in texts]
        return [(g.forbidden, [(p.name, p.ok, p.message, p.hint) for p in g.parts]) for g in found]

    apart = verdicts()
    monkeypatch.setattr(sys, "platform", "emscripten")
    assert verdicts() == apart


def test_without_processes_inputs_are_copies(alone, tmp_path):
    """What a student's code does to its inputs is not done to the grader's."""
    text = momentum(f"h = g.copy()\ng *= 0\ng = h\n{RIGHT}")
    [found] = grade_source(tmp_path / "a.py", text, ["momentum"], 3, QUICK)
    assert {p.name for p in found.parts if not p.ok} == {"g unchanged"}
