"""The command line: every command by every name, and what all of them share."""

import ast
import csv
import importlib
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minunet
from minunet import cli
from minunet.__main__ import COMMANDS, main
from minunet.data import LAYOUTS
from minunet.errors import UserError

ROOT = Path(minunet.__file__).resolve().parents[1]
HEAVY = "numba scipy.ndimage scipy.sparse scipy.interpolate matplotlib skimage tifffile safetensors PIL cupy zarr pooch optuna"


def python(*args, **options):
    """What a Python of its own says."""
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120, **options)


def helped(*args):
    """The help that a command prints, without line ends: where lines break depends on the command's name."""
    run = python(*args, "--help")
    assert run.returncode == 0 and not run.stderr
    return " ".join(run.stdout.split())


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.drawn(quick=3)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_two_names_for_python(name):
    module = f"minunet.{COMMANDS[name][0].removesuffix('.command')}"
    one, other = helped("-m", "minunet", name), helped("-m", module)
    assert one.startswith(f"usage: python -m minunet {name} ") and other.startswith(f"usage: python -m {module} ")
    assert one.replace(f"python -m minunet {name}", f"python -m {module}") == other


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_by_the_script(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/minunet"])
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: minunet {name} ")


def test_scripts_of_their_own(monkeypatch, capsys):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"minunet", "minunet-train", "minunet-predict", "minunet-evaluate"}
    for script, entry in scripts.items():
        module, function = entry.split(":")
        monkeypatch.setattr(sys, "argv", [f"C:\\bin\\{script}.exe" if os.name == "nt" else f"/usr/bin/{script}"])
        with pytest.raises(SystemExit, match="0"):
            getattr(importlib.import_module(module), function)(["--help"])
        assert capsys.readouterr().out.startswith(f"usage: {script} ")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_the_list_of_commands(argv, capsys):
    try:
        assert main(argv) == 0
    except SystemExit as e:
        assert e.code == 0
    out = capsys.readouterr().out
    for name, (_, what) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", out, re.MULTILINE)


def test_version():
    for names in (["-m", "minunet"], ["-c", "import sys; from minunet.__main__ import main; sys.exit(main())"]):
        run = python(*names, "--version")
        assert (run.returncode, run.stdout, run.stderr) == (0, f"minunet {minunet.__version__}\n", "")


@pytest.mark.parametrize(("wrong", "right"), [("trian", "train"), ("evalute", "evaluate"), ("doktor", "doctor")])
def test_an_unknown_command(wrong, right, capsys):
    assert main([wrong, "--data", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"error: there is no command {wrong!r}: did you mean {right}?\n"


def test_an_unknown_command_that_is_near_none(capsys):
    assert main(["frobnicate"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(name in err for name in COMMANDS)


# ---- what is loaded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_load_nothing_heavy(name):
    program = (
        f"import sys; from minunet.{COMMANDS[name][0]} import make_parser; make_parser().format_help()\n"
        f"print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    run = python("-c", program)
    assert ast.literal_eval(run.stdout) == [], run.stderr


def test_the_list_and_importing_minunet_load_not_even_numpy():
    program = "import sys, minunet, minunet.__main__ as m; m.make_parser(); print('numpy' in sys.modules)"
    assert python("-c", program).stdout == "False\n"


def test_every_name_of_the_package_is_there():
    assert all(getattr(minunet, name) is not None for name in [*minunet.__all__, "__version__"])
    assert set(minunet.__all__) <= set(dir(minunet))


# ---- completion ------------------------------------------------------------------------------------------------------

TYPE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p minunet | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The completion for bash, as a file."""
    file = tmp_path_factory.mktemp("completion") / "minunet.bash"
    file.write_text(python("-m", "minunet", "--print-completion", "bash").stdout)
    return file


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_for_a_shell(shell, capsys):
    assert main(["--print-completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in [*COMMANDS, "learning-rate" if shell == "tcsh" else "--learning-rate", "fetch"])


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["d"], {"doctor", "data"}),
        (["train", "--layo"], {"--layout"}),
        (["train", "--layout", ""], {"auto", *LAYOUTS}),
        (["train", "--data", ""], {"images", "cell.png"}),
        (["train", "--out", ""], {"images"}),
        (["predict", "-m", "a", "-i", "c"], {"cell.png"}),
        (["evaluate", "--tr"], {"--truth", "--truth-kind"}),
        (["doctor", "i"], {"images"}),
        (["data", "fetch", "dsb"], {"dsb2018"}),
    ],
)
def test_completion_in_bash(script, words, answer, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "cell.png").touch()
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    run = ["bash", "-c", TYPE, "bash", str(script), "minunet", *words]
    told = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert set(told.split()) == answer


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--help", "train --help", "grade --list", "gradcheck leaky"])
def test_nobody_reads_stdout(command, unbuffered):
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    run = [sys.executable, "-m", "minunet", *command.split()]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    # argparse does not say that it could not write, unless the help fits into the buffer
    assert err == "" and process.wait(60) in ({0, 141} if command.endswith("--help") else {141})


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (UserError("--data x: no such folder"), 2, "error: --data x: no such folder\n"),
        (MemoryError(), 2, "error: out of memory: use a smaller --batch-size, --crop, --base-width or --scale\n"),
        (
            RuntimeError("cudaErrorMemoryAllocation: out of memory"),  # CuPy's, of what is not from its pool
            2,
            "error: out of memory: use a smaller --batch-size, --crop, --base-width or --scale\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_are_one_line_and_a_status(error, status, says, capsys):
    def body():
        raise error

    assert cli.run(body) == status and capsys.readouterr() == ("", says)


def test_other_errors_are_bugs_and_pass():
    def unknown():
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="IllegalAddress"):
        cli.run(unknown)


# ---- what is printed and written -------------------------------------------------------------------------------------


def test_control_characters_do_not_reach_a_terminal(capsys):
    """Not by print, by an error, by tqdm's lines; tqdm's own moves do, on stderr only."""
    from tqdm import tqdm

    def body():
        print("a\x1b[2K\r\x07b\u202ec\x9b", "m\udcfc\tn")
        tqdm.write("\x1b]0;x")
        sys.stderr.write("\r 50%\x1b[A\x1b[31m")
        raise UserError("x\n10 of 10\x1b")

    assert cli.run(body) == 2
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2K\\r\\x07b\\u202ec\\x9b m\ufffd\tn\n\\x1b]0;x\n"
    assert err == "\r 50%\x1b[A\\x1b[31merror: x\\n10 of 10\\x1b\n"


def test_text_that_a_terminal_cannot_show(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.run(lambda: print("中 ü \udcfc") or 0) == 0
    assert out.buffer.getvalue() == b"? \xfc ?\n" and sys.stdout is out


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed_or_full(closed, tmp_path):
    run = f"{sys.executable} -m minunet grade --list {closed}"
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    full = closed == ">/dev/full"
    assert done.returncode == (2 if full else 0) and ("error: stdout: No space" in done.stderr) == full


def test_who_outlives_readers_goes_on(capfd, monkeypatch):
    readers, writer = os.pipe()
    os.close(readers)
    monkeypatch.setattr(sys, "stdout", open(writer, "w", buffering=1))  # noqa: SIM115
    done = []

    def body():
        cli.outlive_readers()
        for line in range(3):
            print(line, flush=True)
            done.append(line)
        return 0

    assert cli.run(body) == 0 and done == [0, 1, 2]
    sys.stdout.close()
    assert capfd.readouterr().err == "note: stdout cannot be written (Broken pipe), going on without it\n"


def test_an_error_of_the_disk_is_a_sentence(capsys, tmp_path):
    assert cli.run(lambda: open(tmp_path / "no" / "x")) == 2  # noqa: SIM115
    assert capsys.readouterr().err == f"error: {tmp_path / 'no' / 'x'}: No such file or directory\n"


def test_cells_of_a_csv():
    rows = [
        ["=1+1", "+a", "-a", "@a", "\tx", "a=b", "m\udcfc", "\x1b"],
        [-1.5, 2, None, math.nan, True, 'a"b', "a\nb", "-"],
    ]
    assert list(csv.reader(io.StringIO(cli.csv_text(rows)))) == [
        ["'=1+1", "'+a", "'-a", "'@a", "'\tx", "a=b", "m\ufffd", "\\x1b"],
        ["-1.5", "2", "", "", "True", 'a"b', "a\nb", "'-"],
    ]
    assert cli.csv_text([["=x"]], formulas=True) == "=x\n"
