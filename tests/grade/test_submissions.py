"""Submissions that are no ordinary files, that send no answers, or that do not end: each is its own row, with a sentence."""

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.grading import QUICK
from helpers.hostile_submissions import CHECKER, FILES, RIGHT, TEXTS

from minunet.errors import UserError
from minunet.grade.command import main
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade
from minunet.grade.process import wire
from minunet.grade.process.callbacks import UNFIT, Callback, call_back
from minunet.grade.process.calls import Trouble
from minunet.grade.process.pipes import Late, Pipes
from minunet.grade.process.runner import Limits, Student
from minunet.grade.report import as_csv
from minunet.grade.submissions import ENTRIES, LARGEST, grade_submission, hard_links, python_files, read, submissions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.mark.parametrize(
    "kind, says",
    [
        ("a pipe", "a device, a pipe or a socket"),
        ("a socket", "a device, a pipe or a socket"),
        ("a link", "is a link to another file"),
        ("a link to minunet", "is a link to another file"),
        ("a link to nothing", "is a link to another file"),
        ("a device", "is a link to another file"),
        ("a folder", "is a folder"),
    ],
)
def test_what_is_no_file_is_not_read(kind, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    (tmp_path / "ada.py").write_text(RIGHT)
    FILES[kind](tmp_path / "x.py", tmp_path / "ada.py")
    with pytest.raises(UserError, match=says):
        read(tmp_path / "x.py")


def test_a_device_is_not_read():
    with pytest.raises(UserError, match="a device, a pipe or a socket"):
        read(Path("/dev/zero"))


def test_large_files_are_not_read(tmp_path):
    (tmp_path / "a.py").write_bytes(b"#" * LARGEST)
    assert len(read(tmp_path / "a.py")) == LARGEST
    (tmp_path / "a.py").write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(UserError, match="shorten it"):
        read(tmp_path / "a.py")


def test_folders_are_walked_without_following_links(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "a.py").write_text(RIGHT)
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "all").symlink_to(tmp_path / "ada")
    (tmp_path / "eve").symlink_to(tmp_path / "ada")
    (tmp_path / ".#ada.py").symlink_to("user@host.1")  # what Emacs leaves
    found = submissions(tmp_path)
    assert found == {"ada": [tmp_path / "ada" / "a.py"], "bob": [], "eve": [tmp_path / "eve"]}
    grades, notes = grade_submission(found["eve"], None, 1, QUICK)
    assert not grades and "is a link" in notes[0]


def test_a_folder_may_be_deep_or_full(tmp_path):
    top = place = tmp_path / "deep"
    for _ in range(1200):  # deeper than Python calls functions
        place.mkdir()
        place = place / "d"
    (place.parent / "a.py").write_text(RIGHT)
    try:
        assert [p.name for p in python_files(str(top))] == ["a.py"]
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # Python's own way cannot
    for n in range(30):
        (tmp_path / f"{n}.py").touch()
    assert len(python_files(str(tmp_path))) == 30 < ENTRIES


def test_a_folder_too_deep_for_a_path_is_said(tmp_path):
    (tmp_path / "deep").mkdir()
    place = os.open(tmp_path / "deep", os.O_RDONLY)
    for _ in range(21):  # by steps, as no path is that long
        os.mkdir("d" * 200, dir_fd=place)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    try:
        (tmp_path / "deep" / "a.py").write_text(RIGHT)
        grades, notes = grade_submission(python_files(str(tmp_path / "deep")), None, 1, QUICK)
        assert [g.score for g in grades] == [POINTS]
        assert len(notes) == 1 and "File name too long" in notes[0] and len(notes[0]) < 1000
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


def test_rows_are_one_line_each_and_no_two_are_called_alike():
    names = ["a\nb,10.00.py", "\udcfc.py", "\udcfd.py", "\udcfe.py", "\ufffd.py"]
    rows = list(csv.DictReader(io.StringIO(as_csv({name: ([], [f"of {name}"]) for name in names}))))
    assert len({row["submission"] for row in rows}) == len(names)
    assert [row["submission"] for row in rows[:3]] == ["a\\nb,10.00.py", "\ufffd.py", "\\udcfd.py"]
    assert not any(set("\n\r") & set(cell) for row in rows for cell in row.values())


@pytest.mark.parametrize("name, row", [("__eve__", True), ("__pycache__", False), ("__MACOSX", False), (".git", False)])
def test_folders_whose_names_begin_with_underscores_have_rows(name, row, tmp_path):
    for folder in (name, "ada"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").touch()
    assert list(submissions(tmp_path)) == sorted([name] * row + ["ada"])


def test_hard_links_cost_nobody_else(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "a.py").write_text(RIGHT)
    (tmp_path / "bob").mkdir()
    os.link(tmp_path / "ada" / "a.py", tmp_path / "bob" / "x.py")
    os.utime(tmp_path / "bob", (1, 1))  # as who would frame the other does
    links = hard_links(submissions(tmp_path))
    for path in (tmp_path / "ada" / "a.py", tmp_path / "bob" / "x.py"):
        grades, notes = grade_submission([path], None, 1, QUICK, links=links)
        assert [g.score for g in grades] == [POINTS] and "is the same file as" in notes[0]


@pytest.mark.parametrize("kind", ["deep brackets", "deep minus", "deep attributes", "control characters", "zeros"])
def test_texts_that_are_hard_to_parse(kind, tmp_path):
    text = TEXTS[kind]
    (tmp_path / "a.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    grades, notes = grade_submission([tmp_path / "a.py"], None, 1, QUICK)
    assert not any(g.score for g in grades) and (notes or grades)


def test_rows_are_written_at_once(tmp_path, monkeypatch):
    for name in ("ada", "bob", "eve"):
        (tmp_path / f"{name}.py").write_text(RIGHT)
    out, rows = tmp_path / "grades.csv", []

    def graded(files, *_, **__):
        rows.append(list(csv.DictReader(io.StringIO(out.read_text()))) if out.exists() else [])
        if files[0].name == "eve.py":
            raise KeyboardInterrupt
        return [], [f"of {files[0].name}"]

    monkeypatch.setattr("minunet.grade.files.grade_submission", graded)
    assert main([str(tmp_path), "--csv", str(out), "--quiet"]) == 130
    assert [[row["submission"] for row in table] for table in rows] == [[], ["ada.py"], ["ada.py", "bob.py"]]


def test_whatever_is_raised_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(RIGHT)
    for error in (RecursionError("deep"), MemoryError(), OverflowError("large"), KeyError("x")):
        monkeypatch.setattr("minunet.grade.grading.judge", lambda *_, e=error: (_ for _ in ()).throw(e))
        grades, notes = grade_submission([tmp_path / "a.py"], None, 1, QUICK)
        assert not grades and f"cannot be graded: {type(error).__name__}" in notes[0]


def test_a_submission_that_takes_long_is_left(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(RIGHT)
    _, notes = grade_submission(sorted(tmp_path.iterdir()), None, 1, Limits(call=1.0, total=1e-3))
    assert any("1 Python files were left out" in note for note in notes)


# ---- messages --------------------------------------------------------------------------------------------------------


def message(text, body=b""):
    """A message as a student's process might forge it."""
    return io.BytesIO(len(text).to_bytes(8, "little") + len(body).to_bytes(8, "little") + text + body).read


@pytest.mark.parametrize(
    "text, body",
    [
        (b"[" + b",".join([b'{"array": ["|u1", [8], 0]}'] * 9) + b"]", bytes(8)),  # the same bytes again and again
        (b'["x"]', bytes(8)),  # bytes of nothing
        (b"[" * 30 + b"]" * 30, b""),
        (b'{"dict": 3}', b""),
        (b"1" * 4000, b""),
        (b'"\xff"', b""),
        (b'{"array": ["|u1", ["8"], 0]}', bytes(8)),
    ],
)
def test_more_than_the_bytes_hold_is_refused(text, body):
    with pytest.raises(wire.Garbled):
        wire.unpack(message(text, body))


def test_large_messages_are_refused_before_they_are_read():
    for head in ((wire.JSON + 1, 0), (0, wire.BYTES + 1)):
        given = io.BytesIO(b"".join(n.to_bytes(8, "little") for n in head))
        with pytest.raises(wire.Garbled, match="a message of"):
            wire.unpack(given.read)


@pytest.mark.parametrize("value", ["10 ** 4000", "np.zeros(1 << 24)", "[[]] * 300_000", "[" * 23 + "]" * 23])
def test_an_answer_that_is_too_much_is_a_sentence(value):
    with Student(f"import numpy as np\ndef f(x):\n    return {value}\n", "a.py") as student:
        with pytest.raises(Trouble, match="it returned too much"):
            student.call("f", np.ones(1))
        assert student.pipes is not None  # and the next call is answered


def test_what_is_called_back_with_is_bounded():
    calls = []
    for args in ((np.zeros(9000),), ((np.zeros(9000), 1),), ((1,) * 9000,), ({"x": np.zeros(9000)},)):
        kind, said = call_back({"f": calls.append}, ("call", "f", args), 1 << 16)
        assert kind == "failed" and "are allowed" in said
    assert not calls and call_back({"f": len}, ("call", "f", (np.zeros(4),)), 1 << 16) == ("value", 4)


AHEAD = """
import os
def g(f):
    text = b'["call", "function 0", []]'
    for fd in range(3, 20):
        try:
            os.write(fd, 50 * (len(text).to_bytes(8, "little") + bytes(8) + text))
        except OSError:
            pass
    while True:
        pass
"""


@pytest.mark.parametrize("bytes_each, seconds_each, most", [(8, 0.1, 11), (1 << 20, 0.0, 2)])
def test_calls_sent_ahead_end_in_time_and_do_not_pile_up(bytes_each, seconds_each, most):
    """Neither are they answered after the time, nor is an answer made while one waits to be read."""
    calls = []

    def f():
        calls.append(1)
        time.sleep(seconds_each)
        return np.zeros(bytes_each // 8)

    with Student(AHEAD, "a.py", limits=Limits(1.0, 5.0)) as student:
        with pytest.raises(Trouble, match="took longer than 1 seconds"):
            student.call("g", f)
        assert student.pipes is None
    assert len(calls) <= most


def test_what_is_handed_back_is_bounded():
    calls = []
    source = "def g(f):\n    while True:\n        f()\n"
    with (
        Student(source, "a.py", limits=Limits(called_for=1 << 12)) as student,
        pytest.raises(Trouble, match="gave it more than 4,096 bytes"),
    ):
        student.call("g", lambda: calls.append(1) or np.zeros(100))
    assert len(calls) == 5


def test_after_the_time_nothing_more_is_taken():
    own = pipes("import os\nwhile True: os.write(1, bytes(1 << 12))")
    own.read(1, time.monotonic() + 10)
    time.sleep(0.2)
    taken = own.taken
    with pytest.raises(Late):
        own.read(1 << 50, time.monotonic() - 1)
    assert own.taken == taken
    own.end()


def test_a_process_that_closed_its_ears_gets_nothing_more():
    own = pipes("import os, time\nos.close(0)\nos.write(1, b'x')\ntime.sleep(20)")
    own.read(1, time.monotonic() + 10)
    for _ in range(9):
        own.send(bytes(1 << 10), time.monotonic() + 10)
    assert own.leaving.qsize() <= 1
    own.end()


@pytest.mark.parametrize(
    "args",
    [(), (np.ones((9, 1)),), (np.ones((9, 1)), np.ones((1, 9))), (1.0, 1.0), (np.ones((2, 3)),) * 3,
     (np.ones((2, 3), complex), np.ones((2, 3)))],
)  # fmt: skip
def test_what_is_called_back_takes_only_what_was_handed_out(args):
    """Arrays that broadcast would make results of any size, and the errors of two functions would tell them apart."""
    called = []
    said = set()
    for function in (lambda dy, x: called.append(1), lambda a, b, c: called.append(2)):
        said.add(call_back({"f": Callback(function, (2, 3), (2, 3))}, ("call", "f", args), 1 << 16))
    assert not called and len(said) == 1 and said.pop()[0] == "failed"


def test_errors_of_ours_are_not_told():
    def dented(dy, x):
        raise ValueError("dented")

    x = np.ones((2, 3))
    assert call_back({"f": Callback(dented, x.shape, x.shape)}, ("call", "f", (x, x)), 1 << 16) == ("failed", UNFIT)
    ours = Callback(lambda x: x / 2, x.shape)
    kind, value = call_back({"f": ours}, ("call", "f", (x.astype(int),)), 1 << 16)
    assert kind == "value" and (value == 0.5).all()


def test_the_checker_cannot_ask_for_names_or_for_gigabytes():
    for tried in (
        "backward()",
        "backward(np.ones((99, 1, 1, 1)), np.ones((1, 99, 1, 1)))",
        "f(np.ones((99, 1, 1, 1)))",
    ):
        found = grade(
            EXERCISES["gradient_check"], "import numpy as np\n" + CHECKER.format(tried, "return x"), "a.py", 1, QUICK
        )
        said = {p.message for p in found.parts if p.name not in ("differences", "upstream", "x unchanged")}
        assert all(message.startswith("ValueError: it") for message in said), said


def test_callbacks_without_end_end():
    found = grade(
        EXERCISES["gradient_check"], CHECKER.format("while True: f(x)", "return x"), "a.py", 1, Limits(1.0, 2.0)
    )
    assert found.score < POINTS and found.seconds < 30


# ---- processes -------------------------------------------------------------------------------------------------------


def pipes(code):
    """A process that runs code, and our end of its pipes."""
    return Pipes([sys.executable, "-I", "-S", "-c", code], dict(os.environ))


def test_a_grandchild_that_holds_the_pipes_holds_nobody_up():
    """With the audit hook alone, past which a process may be started that leaves its group."""
    own = pipes("import os, time\nif os.fork() == 0:\n    os.setsid()\nos.write(1, b'x')\ntime.sleep(20)")
    begun = time.monotonic()
    try:
        assert own.read(1, begun + 10) == b"x"
        own.send(bytes(1 << 22), begun + 10)  # nobody reads it
        with pytest.raises(Late):
            own.read(2, time.monotonic() + 0.2)
    finally:
        assert own.end() == -9
    assert time.monotonic() - begun < 15


def test_a_flood_is_not_kept(monkeypatch):
    monkeypatch.setattr(wire, "BYTES", 1 << 17)
    monkeypatch.setattr(wire, "JSON", 1 << 17)
    own = pipes("import os\nwhile True:\n    os.write(1, bytes(1 << 16))\n    os.write(2, bytes(1 << 16))")
    own.read(1, time.monotonic() + 10)
    time.sleep(0.3)
    assert own.came <= 1 << 20 and len(own.tail) <= 4096
    own.end()


def test_an_end_by_itself_keeps_its_status():
    own = pipes("import os\nos.write(2, b'why')\nos._exit(77)")
    with pytest.raises(EOFError):
        own.read(1, time.monotonic() + 10)
    assert own.end(dying=True) == 77 and own.tail == b"why"
