"""A Python as there is one in a browser: without numba, SciPy, processes, threads, and what else needs compiling or a system.

`run` executes code in a process of its own in which these are hidden: to import them fails, to start a thread or a process too.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILED = (
    "numba",
    "llvmlite",
    "scipy",
    "skimage",
    "safetensors",
    "imagecodecs",
    "cupy",
    "torch",
    "onnx",
    "onnxruntime",
)
SYSTEM = ("multiprocessing", "_multiprocessing", "_posixsubprocess", "fcntl", "resource", "filelock")
HIDE = """
import _thread, importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def none(*args, **options):
    raise RuntimeError("can't start new thread")

for name in [name for name in sys.modules if name.partition(".")[0] in HIDDEN]:
    del sys.modules[name]
sys.meta_path.insert(0, Hidden())
_thread.start_new_thread = none
if hasattr(_thread, "start_joinable_thread"):
    _thread.start_joinable_thread = none
"""


def run(code, *arguments, hidden=COMPILED + SYSTEM, cwd=None, timeout=300):
    """Execute code where the modules `hidden` cannot be imported; `sys.argv[1:]` are the arguments."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MPLBACKEND": "agg",
    }
    command = [sys.executable, "-c", f"HIDDEN = {hidden!r}\n{HIDE}\n{code}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
