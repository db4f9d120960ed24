"""The grader: what it grants, what it refuses, and what a student's file cannot do to it."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.grading import ALL, QUICK, RIGHT, momentum

from minunet.errors import UserError
from minunet.grade import cut
from minunet.grade.command import main
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade, judge
from minunet.grade.make import contents
from minunet.grade.process import wire
from minunet.grade.process.calls import Forbidden, Trouble
from minunet.grade.process.runner import Limits, Local, Student
from minunet.grade.report import as_csv, gradescope, table
from minunet.grade.submissions import grade_file, grade_submission, submissions

ROOT = Path(__file__).resolve().parents[2]


def score(source: str, name: str = "momentum", seed: int = 5) -> float:
    return grade(EXERCISES[name], source, "answer.py", seed, QUICK).score


# ---- the files -------------------------------------------------------------------------------------------------------


def test_there_are_enough_exercises():
    assert len(EXERCISES) >= 14
    assert sum(len(e.wrongs) for e in EXERCISES.values()) >= 30
    assert all(len(e.wrongs) >= 2 for e in EXERCISES.values())


def test_files_are_what_the_sources_give():
    folder = ROOT / "tutorials" / "exercises"
    if not folder.exists():
        pytest.skip("the package is not in its repository")
    made = contents()
    for name, text in made.items():
        assert (folder / name).read_text() == text, f"{name}: run python -m minunet.grade --make-exercises {folder}"
    assert {p.name for p in folder.iterdir() if p.is_file()} == set(made)


@ALL
def test_file_shows_nothing_of_the_solution(name):
    e = EXERCISES[name]
    code = e.text.split('"""', 2)[2]
    for place in e.write:
        for line in cut.solution(*place):
            unpacks = line.endswith("= cache")
            assert unpacks or len(line) < 15 or line not in code, line
    for _, hidden in e.hidden:
        assert not re.search(rf"\b{hidden}\(", code), hidden


@ALL
def test_exercise_needs_only_earlier_lessons(name):
    e = EXERCISES[name]
    assert all(EXERCISES[n].lesson <= e.lesson for n in e.needs)
    order = list(EXERCISES)
    assert all(order.index(n) < order.index(name) for n in e.needs)
    asked = {f: other for other in EXERCISES.values() for f in other.functions}
    code = e.text.split('"""', 2)[2]  # what is given in the file calls nothing of another exercise
    assert not [f for f, other in asked.items() if other is not e and re.search(rf"\b{f}\(", code)]
    assert all(int(n) <= e.lesson for n in re.findall(r"[Ll]esson (\d+)", e.text))


def test_functions_belong_to_one_exercise_each():
    names = [f for e in EXERCISES.values() for f in e.functions]
    assert len(names) == len(set(names))


# ---- fair ------------------------------------------------------------------------------------------------------------


@ALL
def test_untouched_file_scores_nothing(name):
    found = grade(EXERCISES[name], EXERCISES[name].text, "stub.py", limits=QUICK)
    assert found.score == 0
    assert all(p.message.startswith("not written yet") for p in found.parts)
    assert "todo" in table(found) and "WRONG" not in table(found)


@pytest.mark.drawn(quick=6)
@ALL
def test_reference_scores_everything(name):
    for seed in (None, 0):
        found = grade(EXERCISES[name], EXERCISES[name].reference, "right.py", seed, QUICK)
        assert found.score == POINTS, table(found)


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_reference_is_right_for_other_numbers(name, seed):
    assert all(p.ok for p in judge(EXERCISES[name], Local(EXERCISES[name].reference, name), 100 + seed))


def test_answer_of_another_style_scores_everything():
    assert score(momentum(RIGHT)) == POINTS


def test_partial_credit():
    half = momentum("velocity[...] = momentum * velocity + g\np[...] = p - lr * velocity")
    found = grade(EXERCISES["momentum"], half, "half.py", 3, QUICK)
    assert {p.name: p.ok for p in found.parts} == {
        "p": True, "velocity": True, "g unchanged": True, "nesterov": False, "weight decay": False,
    }  # fmt: skip
    assert found.score == pytest.approx(POINTS * 3 / 5)


def test_gradients_count_by_themselves():
    only_db = "def conv2d_backward(dy, cache):\n    return None, None, dy.sum((0, 1, 2))\n"
    parts = grade(EXERCISES["conv_backward"], only_db, "db.py", 1, QUICK).parts
    assert [p.name for p in parts if p.ok] == ["db"]


@pytest.mark.drawn(quick=3)
@pytest.mark.parametrize(
    "value", ["np.zeros_like(dy)", "dy * np.nan", "dy * np.inf", "1.0", "None", "'right'", "(dy,) * 3"]
)
def test_nonsense_scores_nothing(value):
    source = f"import numpy as np\ndef conv2d_backward(dy, cache):\n    v = {value}\n    return v, v, v\n"
    assert score(source, "conv_backward") == 0


def test_seed_decides_shapes_and_numbers():
    text = EXERCISES["im2col"].reference.replace(
        "return rows.reshape", "raise ValueError(repr(x.flat[0]))\n    return rows"
    )
    said = [
        [p.message for p in grade(EXERCISES["im2col"], text, "a.py", seed, QUICK).parts]
        for seed in (1, 1, 2, None, None)
    ]
    assert said[0] == said[1] != said[2]
    assert said[3] != said[4]


class Told:
    """A checker that answers right, and keeps what it answered."""

    def __init__(self):
        self.right, self.said = Local(EXERCISES["gradient_check"].reference, "right"), []

    def call(self, function, *args, **how):
        result = self.right.call(function, *args, **how)
        if function == "is_gradient":
            self.said.append(result)
        return result


def test_answers_of_the_checker_cannot_be_known_before():
    orders = set()
    for seed in range(3):
        told = Told()
        parts = judge(EXERCISES["gradient_check"], told, seed)
        assert all(p.ok for p in parts)
        orders.add(tuple(told.said))
    assert len(orders) == 3
    for (
        answers
    ) in orders:  # none of them is worth much for other numbers: every part needs a right answer of both kinds
        source = f"ANSWERS = iter({answers})\ndef is_gradient(f, backward, x):\n    return next(ANSWERS)\n"
        parts = judge(EXERCISES["gradient_check"], Local(source, "told"), 7)
        assert sum(p.ok for p in parts) <= 4, parts


@pytest.mark.parametrize("kind", [True, False])
def test_every_part_of_the_checker_asks_for_both_answers(kind):
    told, e = Told(), EXERCISES["gradient_check"]
    last = len(e.checks) - 1
    [(_, marks)] = e.run_check(last, told, 1)
    assert {m.part for m in marks if bool(m.output) is kind} == set(e.checks[last][0])


def test_a_file_without_the_function_is_not_given_ours():
    found = grade(EXERCISES["momentum"], "import numpy as np\n", "empty.py", 1, QUICK)
    assert found.score == 0
    assert found.parts[0].message.startswith("the file defines no sgd_step")


def test_our_answer_is_never_run_for_the_students(monkeypatch):
    """With the package's op broken on purpose, the student's right answer must not become wrong with it in its own process."""
    e = EXERCISES["im2col"]
    monkeypatch.setitem(e.__dict__, "reference", "raise RuntimeError('the answer was run')\n")
    monkeypatch.setattr(e, "wrongs", [])
    assert grade(e, e.text.replace("raise NotImplementedError", "return None"), "a.py", 1, QUICK).score == 0


# ---- the student's process -------------------------------------------------------------------------------------------

SLOW = """
import numpy as np
import time
def conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
    time.sleep(0.6)
"""


def test_when_the_time_is_used_up_the_rest_is_not_run():
    found = grade(EXERCISES["conv_forward"], SLOW, "slow.py", 1, Limits(call=0.5, total=1.0))
    messages = [p.message for p in found.parts]
    assert "it took longer than 0.5 seconds" in messages[0]
    assert messages[-1].startswith("not run: the 1 seconds for all parts are used up")


def test_a_forgotten_return_is_said():
    forgotten = "def filter_image(x, w, stride=1):\n    y = 1\n"
    printed = table(grade(EXERCISES["filter_image"], forgotten, "a.py", 1, QUICK))
    assert printed.count("is a `return` missing?") == 4 and "todo" not in printed


def test_the_same_error_is_printed_once():
    broken = SLOW.replace("time.sleep(0.6)", "return undefined, None")
    printed = table(grade(EXERCISES["conv_forward"], broken, "a.py", 1, QUICK)).splitlines()
    assert sum("NameError: name 'undefined' is not defined in line 5" in line for line in printed) == 1
    assert sum("the same error (" in line for line in printed) == 6
    assert any(line.endswith("the same error (stride 2, padding valid)") for line in printed)


def test_errors_that_differ_are_all_printed():
    broken = SLOW.replace("time.sleep(0.6)", "return x + w[99], None")
    printed = table(grade(EXERCISES["conv_forward"], broken, "a.py", 1, QUICK))
    assert "with size 1" in printed and "with size 3" in printed


TAMPERED = {
    "stub": "raise NotImplementedError",
    "exit": "import sys; sys.exit(0)",
    "hard exit": "import os; os._exit(0)",
    "patched comparisons": (
        "np.testing.assert_allclose = np.allclose = np.isclose = lambda *a, **k: True\nnp.array_equal = lambda *a: True"
    ),
    "an array that equals all": (
        "class A(np.ndarray):\n    def __eq__(self, o): return True\n    def __array_ufunc__(self, *a, **k): return 0.0\n"
        "return np.zeros(3).view(A)"
    ),
    "print": "print('ok'); print('{\"ok\": true}')",
    "write to the pipes": (
        "import os\nfor fd in range(1, 12):\n    try:\n        os.write(fd, b'ok' * 50)\n    except OSError:\n        pass"
    ),
    "close the pipes": "import os\nos.closerange(0, 20)",
    "forever": "while True: pass",
    "memory": "a = [bytearray(1 << 28) for _ in range(1000)]",
    "deep": "def f(): f()\nf()",
    "huge": "return np.zeros(1 << 26)",
    "object": "return np.array([object()])",
    "pickle": "class P:\n    def __reduce__(self): return (print, ('run',))\nreturn P()",
    "nested": "a = []\na.append(a)\nreturn a",
    "forged answer": (
        "import sys\nf = sys._getframe()\nwhile f:\n    if 'send' in f.f_locals:\n"
        "        f.f_locals['send'](('result', None, [[p * 0, g, velocity * 0, lr], {}], 0))\n    f = f.f_back"
    ),
    "garbage as answer": (
        "import sys\nf = sys._getframe()\nwhile f:\n    w = f.f_locals.get('wire')\n    if w:\n"
        "        w.pack = lambda m: b'\\xff' * 4096\n    f = f.f_back"
    ),
}


@pytest.mark.drawn(quick=6)
@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_gains_nothing(how):
    found = grade(
        EXERCISES["momentum"], momentum(TAMPERED[how]), "answer.py", 1, Limits(call=1.0, total=4.0, memory=1 << 30)
    )
    # "g unchanged" is true of whoever leaves g alone, and may be had
    assert [p.name for p in found.parts if p.ok] in ([], ["g unchanged"])


@pytest.mark.parametrize("given, says", [("(dy, dy)", "not a tuple"), ("dy[:, 1:]", "takes an array of the shape")])
def test_parts_of_the_network_say_what_they_take(given, says):
    text = f"def unet_backward(dy, back, depth):\n    return back('head', {given})\n"
    parts = judge(EXERCISES["unet_backward"], Local(text, "a"), 1)
    assert all("the backward of 'head': it takes an array" in p.message and says in p.message for p in parts)


def test_large_outputs_are_not_kept():
    """They would stay until the exercise is over, 64 MB each."""
    e = EXERCISES["momentum"]
    returns = {"p": np.zeros(1 << 18), "small": np.zeros(9)}
    for name, array in returns.items():
        impl = SimpleNamespace(call=lambda *args, a=array, **how: (None, [a, a, a]))
        runs = e.run_check(0, impl, 1)
        kept = [m.output for _, marks in runs for m in marks]
        assert len(kept) > 5 and all((a is None) == (name == "p") for a in kept)
        assert not any(m.ok for _, marks in runs for m in marks)


def test_one_process_serves_many_calls_and_prints_do_not_disturb():
    source = "count = 0\ndef f(x):\n    global count\n    count += 1\n    print('x' * 100_000)\n    return x * count\n"
    with Student(source, "a.py") as student:
        assert [float(student.call("f", np.ones(1))[0]) for _ in range(3)] == [1, 2, 3]


def test_after_a_crash_the_next_check_gets_a_new_process():
    source = "import os\ndef f(x):\n    os._exit(1)\ndef g(x):\n    return x\n"
    with Student(source, "a.py") as student:
        with pytest.raises(Trouble, match="ended before it answered"):
            student.call("f", np.ones(1))
        assert student.call("g", np.ones(2)).shape == (2,)


def test_forbidden_wins_over_right_parts():
    late = RIGHT + "\nif nesterov:\n    open('/etc/passwd')"
    assert score(momentum(late)) == 0


def test_errors_name_the_students_line():
    found = grade(EXERCISES["momentum"], momentum("return p.nothing"), "answer.py", 1, QUICK)
    assert "AttributeError" in found.parts[0].message and "return p.nothing" in found.parts[0].message
    found = grade(EXERCISES["momentum"], "def sgd_step(:\n", "answer.py", 1, QUICK)
    assert "invalid syntax in line 1" in found.parts[0].message


# ---- messages --------------------------------------------------------------------------------------------------------


def reader(data):
    """The function that `unpack` reads with."""
    from io import BytesIO

    return BytesIO(data).read


def test_messages_come_back_as_they_went(rng):
    sent = {"a": [rng.standard_normal((2, 0, 3)), np.float32(2), np.array(True)], "b": (None, "x", 1, 0.5, False, [[]])}
    got = wire.unpack(reader(wire.pack(sent)))
    assert got["b"] == (None, "x", 1, 0.5, False, [[]])
    for a, b in zip(sent["a"], got["a"]):
        assert b.dtype == np.asarray(a).dtype and b.shape == np.shape(a) and (a == b).all()


@pytest.mark.parametrize(
    "text",
    ['{"array": ["O", [1], 0]}', '{"array": ["<f8", [1000000], 0]}', '{"array": ["<f8", [-1], 0]}', '{"array": 3}', "{}", "[",
     '{"array": ["<f8", [268435456, 268435456, 268435456], 0]}', "[" * 100_000, '{"array": ["<f8", [1], -8]}'],
)  # fmt: skip
def test_a_forged_message_is_refused(text):
    head = len(text).to_bytes(8, "little") + (8).to_bytes(8, "little")
    with pytest.raises(wire.Garbled):
        wire.unpack(reader(head + text.encode() + bytes(8)))


def test_a_message_of_impossible_size_is_refused():
    with pytest.raises(wire.Garbled):
        wire.unpack(reader(b"\xff" * 64))


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_command_line(tmp_path, capsys):
    file = tmp_path / "my_step.py"
    file.write_text(momentum(RIGHT.replace("p -=", "p +=")))
    out = tmp_path / "results.json"
    assert main([str(file), "--seed", "1"]) == 1
    assert (
        main([str(file), "--seed", "1", "--gradescope", str(out)]) == 0
    )  # the grader worked, whatever the student did
    printed = capsys.readouterr().out
    assert "likely: p moves along the gradient, uphill" in printed and "of 10 points" in printed
    results = json.loads(out.read_text())
    assert "python -m minunet.grade my_step.py -e momentum --seed 1" in results["output"]
    assert results["score"] == pytest.approx(sum(t["score"] for t in results["tests"]))
    assert sum(t["max_score"] for t in results["tests"]) == pytest.approx(POINTS, abs=1e-3)
    assert {t["status"] for t in results["tests"]} == {"passed", "failed"}
    known = {"name", "number", "score", "max_score", "status", "output", "output_format", "visibility"}
    assert all(set(t) == known for t in results["tests"])
    file.write_text(momentum(RIGHT))
    assert main([str(file)]) == 0


@pytest.mark.parametrize(
    "args, says",
    [
        (["nowhere.py"], "cannot read"),
        ([], "which file"),
        (["x.py", "-e", "conv"], "no exercise 'conv'"),
        (["x.py", "--csv", "nowhere/grades.csv"], "cannot write nowhere/grades.csv"),
        (["x.py", "--gradescope", "."], "cannot write ."),
        (["x.py", "--feedback", "pages"], "give the folder, not a file"),
        (["x.py", "--hints", "nowhere.toml"], "--hints nowhere.toml: No such file"),
        ([".", ".."], "one folder of submissions"),
        (["x.py", "--autograder", "a.zip"], "leave out x.py"),
    ],
)
def test_mistakes_in_the_command_are_one_line(args, says, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "content, says",
    [
        (b"x = 1\n", "defines no function of an exercise"),
        (b"def sgd_step(p:\n", "is not Python: '\\(' was never closed in line 1"),
        (b"def sgd_step(p): pass\0\n", "is not Python"),
        ("# \xfc\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_files_that_cannot_be_graded(tmp_path, capsys, content, says):
    (tmp_path / "a.py").write_bytes(content)
    with pytest.raises(UserError, match=says):
        grade_file(tmp_path / "a.py")
    out = tmp_path / "results.json"
    assert main([str(tmp_path / "a.py"), "--gradescope", str(out)]) == 0
    results = json.loads(out.read_text())  # Gradescope shows the student what the terminal shows
    assert results["score"] == 0 and f"note: {results['output']}\n" == capsys.readouterr().err


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "a.py").write_text(momentum(RIGHT), encoding="utf-8-sig")
    assert [g.score for g in grade_file(tmp_path / "a.py", limits=QUICK)] == [POINTS]


def test_a_file_that_cannot_be_loaded_is_loaded_once(monkeypatch):
    starts = []
    real = subprocess.Popen
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: starts.append(a) or real(*a, **k))
    found = grade(EXERCISES["momentum"], momentum(RIGHT, "undefined"), "answer.py", 1, QUICK)
    assert len(starts) == 1
    assert all("NameError: name 'undefined'" in p.message for p in found.parts)


def test_a_hint_is_printed_once(tmp_path):
    printed = table(grade(EXERCISES["momentum"], momentum(RIGHT.replace("p -=", "p +=")), "a.py", 1, QUICK))
    assert printed.count("uphill") == 1 and printed.count("likely: the same") == 2


def test_folder_of_submissions(tmp_path, capsys):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "step.py").write_text(momentum(RIGHT))
    (tmp_path / "ada" / "columns.py").write_text(EXERCISES["im2col"].reference)
    (tmp_path / "=bob.py").write_text(momentum("import minunet"))
    (tmp_path / "eve.py").write_text(momentum(RIGHT.replace("p -=", "p +=")))
    (tmp_path / "notes.txt").write_text("not a submission")
    (tmp_path / "mallory").mkdir()
    (tmp_path / "mallory" / "step.docx").write_text("the wrong file")
    (tmp_path / "__pycache__").mkdir()
    out = tmp_path / "grades.csv"
    assert main([str(tmp_path), "--csv", str(out), "--seed", "1", "--quiet"]) == 0 and capsys.readouterr().out == ""
    rows = {row["submission"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert set(rows) == {"ada", "'=bob.py", "eve.py", "mallory"}
    assert float(rows["ada"]["score (of 20)"]) == 2 * POINTS and rows["eve.py"]["im2col (of 10)"] == ""
    assert float(rows["'=bob.py"]["score (of 20)"]) == 0 and "minunet" in rows["'=bob.py"]["forbidden"]
    assert "uphill" in rows["eve.py"]["notes"]
    assert float(rows["mallory"]["score (of 20)"]) == 0 and "no Python file" in rows["mallory"]["notes"]


def test_better_of_two_files_counts(tmp_path):
    (tmp_path / "a.py").write_text(momentum("pass"))
    (tmp_path / "b.py").write_text(momentum(RIGHT))
    grades, notes = grade_submission([tmp_path / "a.py", tmp_path / "b.py"], None, 1, QUICK)
    assert [g.score for g in grades] == [POINTS] and not notes


def test_pytest_plugin(tmp_path):
    file = tmp_path / "my_step.py"
    file.write_text("import os; os.getcwd()\n" + momentum(RIGHT.replace("p -=", "p +=")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--impl", str(file), "--impl-seed", "1"]
    if "minunet.grade.pytest_plugin" not in _entry_points():
        command[3:3] = ["-p", "minunet.grade.pytest_plugin"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 failed" not in done.stdout and "2 passed" in done.stdout and "3 failed" in done.stdout
    assert "likely: p moves along the gradient, uphill" in done.stdout


def _entry_points() -> set[str]:
    from importlib.metadata import entry_points

    return {e.value for e in entry_points(group="pytest11")}


def test_gradescope_of_a_forbidden_file():
    found = grade(EXERCISES["momentum"], momentum("import minunet"), "a.py", 1, QUICK)
    results = json.loads(gradescope([found]))
    assert results["score"] == 0 and "imports minunet" in results["output"]
    assert as_csv({"a": ([found], [])}).splitlines()[1].startswith("a,0.00,0.00,")


def test_submissions_need_python_files(tmp_path):
    with pytest.raises(UserError, match="holds no Python file"):
        submissions(tmp_path)


def test_forbidden_is_raised_before_anything_runs():
    with (
        Student("ran = 1 / 0\ndef f():\n    import torch\n", "a.py") as student,
        pytest.raises(Forbidden, match="line 3 imports"),
    ):
        student.call("f")
