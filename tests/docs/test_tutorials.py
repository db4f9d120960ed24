"""The lessons: each runs in a process of its own, has the parts that a lesson has, and becomes a notebook."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from minunet.errors import UserError
from minunet.grade.exercises import EXERCISES

FOLDER = Path(__file__).resolve().parents[2] / "tutorials"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))

spec = importlib.util.spec_from_file_location("tutorials_build", FOLDER / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param


@pytest.mark.drawn(quick=1)
def test_a_lesson_runs(lesson, run_lesson):
    left, problem = run_lesson(lesson)
    assert not problem, problem
    assert len(list(left.glob("*.png"))) >= 3


def text(lesson):
    """The markdown cells, one string."""
    cells = re.split(r"^# %%", lesson.read_text(), flags=re.M)
    return "".join(
        re.sub("^# ?", "", c.removeprefix(" [markdown]\n"), flags=re.M) for c in cells if "[markdown]" in c[:12]
    )


def test_lessons_have_no_gap():
    assert [path.stem[:2] for path in LESSONS] == [f"{n:02}" for n in range(1, len(LESSONS) + 1)]


def test_a_lesson_has_its_parts(lesson):
    """A title with the file's number, what one will be able to do, three to five exercises at the end, a check for each."""
    words = text(lesson)
    assert words.startswith(f"# {lesson.stem[:2]} ")
    assert "**You will be able to**" in words.split("\n## ")[0]
    exercises = words.split("\n## ")[-1]
    assert exercises.startswith("Exercises\n")
    items = re.findall(r"^(\d)\. (.*?)(?=^\d\. |\Z)", exercises, flags=re.M | re.S)
    assert [int(n) for n, _ in items] == list(range(1, len(items) + 1)) and 3 <= len(items) <= 5
    assert all("*Check:*" in item for _, item in items)
    code = lesson.read_text()
    assert "assert" in code and "plt.show()" in code


def test_a_lesson_asks_questions_with_answers_folded_away(lesson):
    """Two or three, each with one answer; the empty lines are what lets the text between the marks be Markdown."""
    questions = re.search(r"\n## Questions\n(.*?)\n## Exercises\n", text(lesson), re.S)[1]
    folded = r"\*\*{}\.\*\* [^<]+?\n\n<details>\n<summary>Answer</summary>\n\n[^<]+?\n\n</details>\n"
    count = questions.count("<details>")
    assert 2 <= count <= 3
    assert re.fullmatch(r"\s*[^<*]+" + r"\s*".join(folded.format(n + 1) for n in range(count)) + r"\s*", questions)


def test_what_a_lesson_names_exists(lesson):
    """Paths of the repository in `...`, and other lessons."""
    for path in re.findall(r"`((?:minunet|bench|tutorials|docs)/[\w/.]*)`", text(lesson)):
        assert (FOLDER.parent / path).exists(), path


def test_a_lesson_names_its_graded_exercises(lesson):
    """All that belong to it, by the command, and none that belongs to a later one."""
    named = set(re.findall(r"`python -m minunet\.grade (?:tutorials/exercises/)?(\w+)\.py`", text(lesson)))
    number = int(lesson.stem[:2])
    assert {name for name, e in EXERCISES.items() if e.lesson == number} <= named
    assert all(EXERCISES[name].lesson <= number for name in named)


@pytest.mark.parametrize(
    "code, says",
    [
        ("assert 1 + 1 == 3", "AssertionError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning"),
        ("import matplotlib.pyplot as plt; plt.figure()", "never shown"),
        ("raise SystemExit(3)", "exit status 3"),
        ("while True: pass", "stopped after 5 seconds"),
    ],
)
def test_a_broken_lesson_fails(code, says, tmp_path):
    lesson = tmp_path / "99_broken.py"
    lesson.write_text(code)
    _, problem = build.run(lesson, tmp_path / "pictures", limit=5 if "while" in code else 60)
    assert says in problem


def test_the_command_fails_with_a_lesson(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "execute.py").write_text((FOLDER / "execute.py").read_text())
    (tmp_path / "01_good.py").write_text("import matplotlib.pyplot as plt\nplt.figure()\nplt.show()\n")
    (tmp_path / "02_bad.py").write_text("assert False, 'on purpose'")
    assert build.main(["--run", "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert re.search("01_good .* ok; pictures in .*01_good\n02_bad .* FAILED\n", out) and "on purpose" in err
    assert (tmp_path / "out/tutorials/01_good/01.png").exists()
    assert build.main(["--run", "01", "--out", str(tmp_path / "out")]) == 0


def test_what_a_run_leaves(tmp_path):
    """The cells in order, each with what it printed and drew, in order; tracebacks count lines as the file does."""
    lesson = tmp_path / "98_cells.py"
    lesson.write_text(
        "# %% [markdown]\n# # 98 Cells\n#\n# * `a`: $x$\n# %%\nimport matplotlib.pyplot as plt\nprint('one')\n"
        "plt.figure()\nplt.show()\nprint('two')\nprint('three')\n# %%\nquiet = 1\n"
    )
    left = tmp_path / "left"
    assert build.run(lesson, left)[1] == ""
    text, loud, quiet = json.loads((left / "lesson.json").read_text())
    assert text == {"kind": "markdown", "text": "# 98 Cells\n\n* `a`: $x$", "outputs": []}
    assert loud["text"].startswith("import") and loud["text"].endswith("print('three')")
    assert loud["outputs"] == [{"text": "one\n"}, {"picture": "01.png"}, {"text": "two\nthree\n"}]
    assert quiet == {"kind": "code", "text": "quiet = 1", "outputs": []}
    lesson.write_text(lesson.read_text().replace("quiet = 1", "quiet = 1 / 0"))
    assert "line 13, in <module>" in build.run(lesson, left)[1]
    assert not (left / "lesson.json").exists()  # nothing is left of the run before


def test_a_lesson_by_its_number():
    assert [path.name[:2] for path in build.find_lessons(["1"])] == ["01"]
    assert [path.name[:2] for path in build.find_lessons(["12", "03"])] == ["03", "12"]


def test_an_unknown_lesson():
    with pytest.raises(UserError, match="no lesson begins with '77'"):
        build.find_lessons(["77"])


def test_a_notebook(lesson, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason='needs pip install ".[tutorials]"')
    pytest.importorskip("jupytext", reason='needs pip install ".[tutorials]"')
    path = build.write_notebook(lesson, tmp_path)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith(f"# {lesson.stem[:2]} ")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    compile(code, path.name, "exec")
    assert code.count("plt.show()") == lesson.read_text().count("plt.show()")
    before = path.read_bytes()
    assert build.write_notebook(lesson, tmp_path).read_bytes() == before


def test_without_jupytext(lesson, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(UserError, match=r"\[tutorials\]"):
        build.write_notebook(lesson, tmp_path)
