"""The audit hook in a student's process: it names what it stops, and is out of reach of what it watches."""

from pathlib import Path

import numpy as np
import pytest
from helpers.grading import QUICK, RIGHT, momentum

from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import grade
from minunet.grade.report import table

ROOT = Path(__file__).resolve().parents[2]

FOUND_OUT = {
    "import": ("import minunet", ""),
    "import from": ("from torch.nn.functional import conv2d as c", ""),
    "import within": ("", "from minunet import optim"),
    "importlib": ("import importlib", "importlib.import_module('min' + 'unet')"),
    "__import__": ("", "__import__('min' + 'unet.optim')"),
    "exec of a string": ("", "exec('import tor' + 'ch')"),
    "path": (
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(Path(np.__file__).parents[1])!r}]\n"
        "sys.meta_path[:] = sys.meta_path[1:]",
        "import scipy",
    ),
    "source text": ("", f"open({str(ROOT / 'minunet' / 'optim.py')!r}).read()"),
    "source text by numpy": ("", f"np.fromfile({str(ROOT / 'minunet' / 'optim.py')!r}, 'u1')"),
    "source text by os": ("import os", f"os.open({str(ROOT / 'minunet' / 'optim.py')!r}, 0)"),
    "source text by dots": ("", f"open(np.__path__[0] + '/../../../../../..{ROOT / 'minunet' / 'optim.py'}').read()"),
    "a listing": ("import os", f"os.listdir({str(ROOT)!r})"),
    "memory of the grader": ("import os", "open(f'/proc/{os.getppid()}/mem', 'rb')"),
    "fork": ("import os", "os.fork()"),
    "another process": ("import os", "os.system('true')"),
    "subprocess": ("import subprocess", "subprocess.run(['true'])"),
    "kill": ("import os", "os.kill(os.getppid(), 9)"),
    "C": ("import ctypes", "ctypes.CDLL(None)"),
    "C by numpy": ("", "np.ctypeslib.load_library('libc.so.6', '/lib')"),
    "objects": ("import gc", "gc.get_objects()"),
    "a socket": ("import socket", "socket.socket()"),
    "another interpreter": ("import _xxsubinterpreters as i", "i.create()"),
    "write": ("", "open('answer', 'w')"),
    "a listing of nothing": ("import os", "os.listdir()"),
    "a scan of nothing": ("import os", "os.scandir()"),
    "mknod": ("import os", "os.mknod('made')"),
    "mkfifo by posix": ("import posix", "posix.mkfifo('made')"),
    "a signal by pidfd": ("import os, signal", "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)"),
    "a signal handler": ("import signal", "signal.signal(signal.SIGALRM, print)"),
    "a module made anew": ("import sys, importlib.machinery as m", "m.BuiltinImporter.create_module(sys.__spec__)"),
    "a library beside the file": (
        "import importlib.machinery as m, importlib.util as u",
        "l = m.ExtensionFileLoader('e', '/tmp/e.so'); l.create_module(u.spec_from_loader('e', l))",
    ),
    "C by another name": (
        "import importlib.machinery as m, importlib.util as u, math, _bz2",
        "l = m.ExtensionFileLoader('e._ctypes', _bz2.__file__); l.create_module(u.spec_from_loader('e._ctypes', l))",
    ),
    "a text of one's own": ("", "class S(str): pass\n    open(S('/etc/passwd'))"),
    "an event with an object": (
        "import sys\nclass X:\n    def __str__(self): return sys._getframe().f_back.f_locals.clear() or 'json'",
        "sys.audit('import', X(), None)",
    ),
    "the finder's cells": (
        "import sys\nf = sys.meta_path[0].find_spec\nfor c in f.__closure__ or ():\n    c.cell_contents = lambda *a: None\n"
        "f.__defaults__ = (None, None, lambda *a: None)",
        "open('/etc/passwd')",
    ),
    "the hook's frame": (
        "import sys\ndef deep():\n    try:\n        deep()\n    except RecursionError as e:\n        t = e.__traceback__\n"
        "        while t:\n            if 'leave' in t.tb_frame.f_locals: t.tb_frame.f_locals['leave'] = print\n"
        "            t = t.tb_next\n        raise\ntry:\n    deep()\nexcept RecursionError:\n    pass",
        "open('/etc/passwd')",
    ),
    "stderr closed": ("import os\nos.close(2)", "open('/etc/passwd')"),
    "patched tools": (
        "import builtins, os, posixpath\nbuiltins.any = lambda *a: False\nposixpath.realpath = lambda p: p\n"
        "os._exit = lambda n: None\nos.write = lambda *a: None",
        "open('/etc/passwd').read()",
    ),
}


@pytest.mark.drawn(quick=10)
@pytest.mark.parametrize("how", FOUND_OUT)
def test_reaching_for_answers_is_found_out(how):
    """By the audit hook alone, which names it; tests/grade/test_isolation.py has what holds without it."""
    head, line = FOUND_OUT[how]
    # a right answer, so that points could be had; what fails is caught, so that it cannot be the error that costs them
    tried = f"try:\n    {line or 'pass'}\nexcept Exception:\n    pass\n{RIGHT}"
    found = grade(EXERCISES["momentum"], momentum(tried, head), "answer.py", 1, QUICK, "hook")
    assert found.forbidden and found.isolation == "hook only"
    assert found.score == 0
    assert "no points" in table(found)
