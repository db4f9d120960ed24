"""What the operating system keeps from a student's process, with the audit hook left out: at each level, one by one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.grading import QUICK

from minunet.errors import UserError
from minunet.grade.command import main
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade
from minunet.grade.process import confine, isolation
from minunet.grade.process.calls import Forbidden
from minunet.grade.process.runner import Student, obituary

SITE = Path(np.__file__).parents[1]
SOURCE = "def f(x):\n    return 2 * x\n"


def works(level):
    """Whether a level works here; tried once."""
    if level not in isolation.known:
        try:
            with Student(SOURCE, "a.py", isolation=level) as student:
                student.start()
        except UserError:
            isolation.known[level] = False
    return isolation.known[level]


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has Landlock, seccomp and bubblewrap")
needs_bubblewrap = pytest.mark.skipif(not works("bubblewrap"), reason="no bubblewrap here, or it is not allowed")
LEVELS = [pytest.param("bubblewrap", marks=needs_bubblewrap), pytest.param("landlock+seccomp", marks=needs_linux)]

CONFINED = f"""
import json, os, signal, socket, sys, threading
here = {str(Path(confine.__file__).parent)!r}
if sys.argv[1] != "bubblewrap":
    python = [p for p in sys.path if os.path.isdir(p)]
    sys.path.insert(0, here)
    import confine
    in_force = confine.confine(1 << 30, 5, [{str(SITE / "numpy")!r}], python)
    assert in_force == sys.argv[1], in_force
"""


def confined(level, code, *args):
    """Run code at a level, without the hook."""
    python = os.path.realpath(sys.executable)
    wrapped = isolation.bubblewrap(python, SITE, ("numpy",)) if level == "bubblewrap" else []
    command = [*wrapped, python, "-I", "-S", "-B", "-c", CONFINED + code, level, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")


READ = """
def outcome(f, *args):
    try:
        return repr(f(*args))[:200]
    except OSError as e:
        return type(e).__name__

print(json.dumps({path: outcome(os.listdir if path.endswith("/") else lambda p: open(p, "rb").read(9), path)
                  for path in sys.argv[2:]}))
"""


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_but_python_and_numpy_can_be_read(level, tmp_path):
    (tmp_path / "other.py").write_text("another submission")
    os.symlink(tmp_path / "other.py", tmp_path / "link.py")
    secret = [
        Path(isolation.__file__).parents[1] / "answers.py", Path(isolation.__file__).parents[2] / "optim.py", "/etc/passwd",
        tmp_path / "other.py", tmp_path / "link.py", f"{tmp_path}/", "/proc/", f"{SITE}/scipy/__init__.py",
        f"/proc/{os.getpid()}/environ", f"/proc/{os.getpid()}/mem", f"/proc/{os.getpid()}/maps", "/dev/kmsg", "/dev/tty",
        f"{SITE}/scipy/",
    ]  # fmt: skip
    done = confined(level, READ, *secret, f"{SITE}/numpy/__init__.py", os.__file__)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop(f"{SITE}/numpy/__init__.py")[0] == found.pop(os.__file__)[0] == "b"
    assert set(found.values()) <= {"FileNotFoundError", "PermissionError"}, found


def test_bubblewrap_shows_no_other_folders():
    if not works("bubblewrap"):
        pytest.skip("no bubblewrap here, or it is not allowed")
    code = "print(json.dumps([os.listdir('/'), os.listdir('/grader'), os.listdir(sys.argv[2]), os.listdir('/dev')]))"
    top, own, site, devices = json.loads(confined("bubblewrap", code, SITE).stdout)
    way = {
        Path(path).parts[1] for path in (SITE, sys.base_prefix, sys.executable)
    }  # to Python and NumPy, wherever they are
    assert not {"proc", "sys", "tmp", "home", "run", "var", "bin"} - way & set(top)
    assert {name for name in own if not name.startswith("__")} == {
        "cells.py",
        "child.py",
        "confine.py",
        "guard.py",
        "wire.py",
    }
    assert set(site) == {"numpy"} | ({"numpy.libs"} & set(site)) and set(devices) == {"null", "urandom"}


FATAL = {  # each ends the process at once, or fails
    "a file": "open(sys.argv[2] + '/made', 'w')",
    "a file by flags": "os.open(sys.argv[2] + '/made', os.O_CREAT | os.O_RDWR)",
    "a nameless file": "os.open(sys.argv[2], os.O_TMPFILE | os.O_RDWR)",
    "a folder": "os.mkdir(sys.argv[2] + '/made')",
    "a pipe with a name": "os.mkfifo(sys.argv[2] + '/made')",
    "a device": "os.mknod(sys.argv[2] + '/made')",
    "a link": "os.symlink('/etc', sys.argv[2] + '/made')",
    "a hard link": "os.link(sys.argv[2] + '/mine', sys.argv[2] + '/made')",
    "a renaming": "os.rename(sys.argv[2] + '/mine', sys.argv[2] + '/made')",
    "a deletion": "os.remove(sys.argv[2] + '/mine')",
    "permissions": "os.chmod(sys.argv[2] + '/mine', 0o777)",
    "an emptied file": "os.truncate(sys.argv[2] + '/mine', 0)",
    "times": "os.utime(sys.argv[2] + '/mine', (1, 1))",
    "a signal": "os.kill(int(sys.argv[3]), signal.SIGTERM)",
    "a signal to all": "os.kill(-1, signal.SIGTERM)",
    "a signal by pidfd": "signal.pidfd_send_signal(os.pidfd_open(int(sys.argv[3])), signal.SIGTERM)",
    "the memory of another": "open(f'/proc/{sys.argv[3]}/mem', 'r+b')",
}


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_can_be_changed(level, tmp_path):
    (tmp_path / "mine").write_text("as it was")
    before = (tmp_path / "mine").stat()
    with subprocess.Popen(["sleep", "60"]) as other:
        for name, code in FATAL.items():
            done = confined(level, f"{code}\nprint('done')", tmp_path, other.pid)
            assert "done" not in done.stdout and done.returncode != 0, name
            after = (tmp_path / "mine").stat()
            assert other.poll() is None and os.listdir(tmp_path) == ["mine"], name
            assert (after.st_mode, after.st_mtime, after.st_size) == (
                before.st_mode,
                before.st_mtime,
                before.st_size,
            ), name
        other.kill()


APART = {
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "network": "socket.create_connection(('127.0.0.1', int(sys.argv[2])))",
    "a socket of the system": "socket.socket(socket.AF_UNIX).connect('/run/systemd/journal/socket')",
    "an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[3])",
}


@pytest.mark.parametrize("how", APART)
@pytest.mark.parametrize("level", LEVELS[1:])
def test_no_process_and_no_connection(level, how, tmp_path):
    import socket

    name = f"minunet{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        done = confined(level, f"{APART[how]}\nprint('done')", server.getsockname()[1], name)
    assert "done" not in done.stdout and done.returncode == -31, done.stderr  # SIGSYS


@needs_bubblewrap
def test_bubblewrap_has_no_network_and_takes_its_processes_with_it(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        done = confined("bubblewrap", f"{APART['network']}\nprint('done')", server.getsockname()[1])
    assert "done" not in done.stdout and done.returncode == 1
    mark = f"left{os.getpid()}"
    code = "if os.fork() == 0:\n    os.setsid()\n    os.closerange(0, 9)\n    import time\n    time.sleep(60)"
    assert confined("bubblewrap", code, mark).returncode == 0
    time.sleep(0.2)
    running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _contains(p, mark)]
    assert not running


def _contains(path, text):
    try:
        return text.encode() in path.read_bytes()
    except OSError:  # it has ended
        return False


@needs_linux
def test_threads_and_the_library_still_work():
    code = """
seen = []
threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(3)]
for t in threads: t.start()
for t in threads: t.join()
import statistics, fractions, random, decimal, dataclasses, typing, datetime
import resource
try: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
except (OSError, ValueError): seen.append("limits stay")
print(sorted(map(str, seen)), os.isatty(1), os.cpu_count() > 0, len(os.urandom(3)))
sys.stdout.flush()
os.abort()
"""
    done = confined("landlock+seccomp", code)
    assert done.stdout == "['0', '1', '2', 'limits stay'] False True 3\n", done.stderr
    assert done.returncode == -6, done.stderr  # abort signals oneself, which is allowed


@pytest.mark.parametrize("choice, level", [("hook", "hook only"), ("landlock+seccomp",) * 2, ("bubblewrap",) * 2])
def test_the_report_says_which_isolation_was_in_force(choice, level, tmp_path, capsys):
    if not works(level):
        pytest.skip("only Linux has Landlock, seccomp and bubblewrap, which may not be allowed here")
    e = EXERCISES["momentum"]
    found = grade(e, e.reference, "a.py", 1, QUICK, choice)
    assert found.isolation == level and found.score == POINTS
    (tmp_path / "a.py").write_text(e.reference)
    assert main([str(tmp_path / "a.py"), "--isolation", choice]) == 0
    assert f"isolation: {level}\n" in capsys.readouterr().out


def test_require_refuses_to_grade_without(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(isolation, "known", {"bubblewrap": False, "landlock+seccomp": False})
    (tmp_path / "a.py").write_text("def sgd_step(): pass")
    for path in (tmp_path / "a.py", tmp_path):
        assert main([str(path), "--isolation", "require"]) == 2
        assert "this system offers none that works here" in capsys.readouterr().err
    with Student(SOURCE, "a.py") as student:  # auto takes what there is
        assert student.call("f", np.ones(1)) == 2 and student.level == "hook only"


@pytest.mark.skipif(sys.platform == "win32", reason="it takes a shell")
def test_a_level_that_starts_the_second_time_is_taken(monkeypatch, tmp_path, capsys):
    real, fails_once = isolation.command, 'test -e "$0" && exec "$@"; touch "$0"'
    shell = ["/bin/sh", "-c", fails_once, str(tmp_path / "tried")]
    monkeypatch.setattr(isolation, "known", {})
    monkeypatch.setattr(isolation, "command", lambda level, *how: [*shell, *real("hook only", *how)])
    with Student(SOURCE, "a.py") as student:
        assert student.call("f", np.ones(1)) == 2 and student.level == "bubblewrap"
    assert isolation.known == {"bubblewrap": True} and capsys.readouterr().err == ""


def test_starts_after_a_death_cost_time():
    with Student("import os\ndef f(x):\n    os._exit(1)\n", "a.py", isolation="hook") as student:
        student.start()
        assert student.spent == 0
        student.end()
        student.start()
        assert student.spent > 0


def test_a_level_that_does_not_start_is_not_taken(monkeypatch, capsys):
    monkeypatch.setattr(isolation, "known", {})
    monkeypatch.setattr(isolation, "bubblewrap", lambda *_: ["/bin/false"])
    with Student(SOURCE, "a.py") as student:
        assert student.call("f", np.ones(1)) == 2 and student.level != "bubblewrap"
    assert isolation.known["bubblewrap"] is False
    assert "warning: isolation by bubblewrap did not start" in capsys.readouterr().err
    with Student(SOURCE, "a.py", isolation="bubblewrap") as student, pytest.raises(UserError):
        student.call("f", np.ones(1))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_what_the_system_stopped_costs_all_points():
    for status in (-31, 128 + 31):  # SIGSYS, and as bubblewrap passes it on
        assert isinstance(obituary(status, "", EOFError(), ""), Forbidden)
    assert not isinstance(obituary(-9, "", EOFError(), ""), Forbidden)
