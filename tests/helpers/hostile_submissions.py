"""Submissions that try to get points, to read or change what is not theirs, or to stop the grading of others.

In the texts MARK stands for a path that must not come to be, VICTIM for another's file, PACKAGE for where minunet lies, HERE
for the submission's own folder.
"""

import os
import shutil
import socket
import sysconfig
from pathlib import Path

from minunet.grade.process import isolation

HEAD = "def sgd_step(p, g, velocity, lr, momentum=0.9, nesterov=False, weight_decay=0.0):"
RIGHT = f"""
{HEAD}
    g = g + weight_decay * p
    velocity *= momentum
    velocity += g
    p -= lr * (g + momentum * velocity if nesterov else velocity)
"""
WRONG = RIGHT.replace("p -=", "p +=")
CHECKER = "def is_gradient(f, backward, x):\n    {}\ndef numerical_gradient(f, x, dy, h=1e-5):\n    {}\n"
FRAMES = """
import sys
def frames():
    f = sys._getframe()
    while f:
        yield f.f_locals
        f = f.f_back
"""

BEFORE = {  # what stands before a right answer, and runs when the file is loaded
    "the finder's cells": """
import sys
f = sys.meta_path[0].find_spec
for c in f.__closure__ or (): c.cell_contents = lambda *a, **k: None
f.__defaults__ = (None, None, lambda *a: None)
sys.meta_path.pop(0)
open(MARK, "w")
""",
    "the hook by __str__": """
class X(str):
    def __str__(self):
        for scope in frames(): scope.clear()
        return "json"
for event in ("import", "open", "os.listdir"): sys.audit(event, X("a"), X("b"), X("c"))
open(MARK, "w")
""",
    "posix anew": """
import sys, importlib.machinery as m, importlib.util as u
posix = m.BuiltinImporter.create_module(u.spec_from_loader("posix", m.BuiltinImporter))
posix.mkdir(MARK)
""",
    "posix by importing": "import sys\ndel sys.modules['posix']\nimport posix\nposix.mkdir(MARK)\n",
    "mknod": "import os\nos.mknod(MARK)\n",
    "mkfifo": "import posix\nposix.mkfifo(MARK)\n",
    "a library beside it": """
import importlib.machinery as m, importlib.util as u
for name in ("evil", "x._ctypes"):
    l = m.ExtensionFileLoader(name, HERE + "/evil.so")
    l.create_module(u.spec_from_loader(name, l))
""",
    "ctypes of NumPy": """
import numpy as np
ctypes = next(v for m in (getattr(np, "_core", None), getattr(np, "core", None)) if m for v in vars(m._internal).values()
              if getattr(v, "__name__", "") == "ctypes")
ctypes.CDLL(None).mkdir(MARK.encode(), 0o700)
""",
    "a grandchild": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n",
    "a grandchild by a library": "import sys\ndel sys.modules['subprocess']\nimport subprocess\nsubprocess.Popen(['true'])\n",
    "a signal to the grader": "import os\nos.kill(os.getppid(), 9)\n",
    "a signal by pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)\n",
    "a signal to all": "import os\nos.kill(-1, 9)\n",
    "another's file": "exec(open(VICTIM).read())\n",
    "a listing of nothing": "import os\nraise ValueError(os.listdir(), os.listdir('..'))\n",
    "minunet": "import importlib\nimportlib.import_module('minu' + 'net')\n",
    "minunet by its path": "import sys\nsys.meta_path.pop(0)\nsys.path.insert(0, PACKAGE)\n__import__('minun' + 'et')\n",
    "the grader's memory": "import os\nopen('/proc/%d/mem' % os.getppid(), 'r+b')\n",
    "a connection": "import socket\nsocket.create_connection(('127.0.0.1', 80))\n",
}

SENT = {  # the body of sgd_step
    "forged points": r"""
    for scope in frames():
        if "send" in scope: scope["send"](("error", "x\n  10.0 of 10 points   (5 of 5 parts, 0.4 s)\x1b[2K"))""",
    "a surrogate": r"""
    for scope in frames():
        if "send" in scope: scope["send"](("result", "\ud800", ["\udfff"] * 3))
    raise ValueError("\ud800\x1b]0;owned\x07")""",
    "250 MB of JSON": """
    import os
    for fd in range(3, 20):
        try: os.write(fd, (250 << 20).to_bytes(8, "little") + bytes(8) + b"[" * (1 << 15))
        except OSError: pass
    while True: pass""",
    "brackets": """
    import os
    for fd in range(3, 20):
        try: os.write(fd, (1 << 15).to_bytes(8, "little") + bytes(8) + b"[" * (1 << 15))
        except OSError: pass""",
    "one array a thousand times": """
    import os
    text = b"[" + b",".join([b'{"array": ["|u1", [60000], 0]}'] * 1000) + b"]"
    for fd in range(3, 20):
        try: os.write(fd, len(text).to_bytes(8, "little") + (60000).to_bytes(8, "little") + text + bytes(60000))
        except OSError: pass""",
    "a whole number of 4000 digits": "\n    return 10 ** 4000",
    "an error that cannot be shown": """
    class E(BaseException):
        def __str__(self): raise E
    raise E""",
    "prints without end": "\n    while True: print('x' * 10**6)",
    "memory": "\n    kept = [bytearray(1 << 28) for _ in range(1000)]",
    "the end of the process": "\n    import os\n    os._exit(0)",
    "closed files": "\n    import os\n    os.closerange(0, 99)",
    "threads": "\n    import threading\n    while True: threading.Thread(target=threading.Event().wait).start()",
}

TEXTS = {  # of a whole file
    "never ends": "while True: pass\n" + RIGHT,
    "12 MB": "x = 1\n" * 2_000_000 + RIGHT,
    "deep brackets": "(" * 100_000 + RIGHT,
    "deep minus": "x = " + "-" * 200_000 + "1\n" + RIGHT,
    "deep attributes": "x = a" + ".a" * 100_000 + RIGHT,
    "control characters": "#" + "\x01" * 250_000 + "\nx = (\n",
    "no UTF-8": b"# \xff\xfe\n" + RIGHT.encode(),
    "zeros": bytes(1000) + RIGHT.encode(),
    "callbacks without end": CHECKER.format("while True: f(x)", "while True: f(x)"),
    "huge callbacks": CHECKER.format("import numpy as np; f(np.zeros((1 << 20, 1, 1, 1)))", "return f([x] * 100_000)"),
}

FILES = {  # made by a function of the file's path, and of another's
    "a pipe": lambda path, other: os.mkfifo(path),
    "a link": lambda path, other: path.symlink_to(other),
    "a link to a folder": lambda path, other: path.with_suffix("").symlink_to(other.parent),
    "another name": lambda path, other: os.link(other, path),
    "a link to minunet": lambda path, other: path.symlink_to(Path(isolation.__file__).parents[2] / "optim.py"),
    "a link to nothing": lambda path, other: path.symlink_to("nowhere"),
    "a device": lambda path, other: path.symlink_to("/dev/zero"),
    "a folder": lambda path, other: path.mkdir(),
    "a socket": lambda path, other: _socket(path),
    "a deep folder": lambda path, other: _deep(path),
    "no Python": lambda path, other: path.with_suffix(".docx").write_text("the wrong file"),
}
KINDS = (*BEFORE, *SENT, *TEXTS, *FILES)


def write_hostile(kind: str, folder: Path, mark: Path, victim: Path) -> None:
    """Write a submission of a kind into a folder of its own."""
    folder.mkdir(parents=True)
    if kind in FILES:
        FILES[kind](folder / "x.py", victim)
        return
    text = TEXTS.get(kind) or FRAMES + (f"{HEAD}{SENT[kind]}\n" if kind in SENT else BEFORE[kind] + RIGHT)
    if isinstance(text, str):
        for word, path in {
            "MARK": mark,
            "VICTIM": victim,
            "PACKAGE": Path(isolation.__file__).parents[3],
            "HERE": folder,
        }.items():
            text = text.replace(word, repr(str(path)))
        text = text.encode()
    (folder / "a.py").write_bytes(text)
    if kind == "a library beside it":
        for library in Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("_ctypes.*"):
            shutil.copy(library, folder / "evil.so")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def _deep(path: Path) -> None:
    """Folders in folders, deeper than anybody means to look."""
    for _ in range(700):
        path = path.with_name("d") / "x.py"
        path.parent.mkdir()
