"""A Python as there is one in a browser: without numba, SciPy, processes, threads, and what else needs compiling or a system.

`run` executes code in a process of its own in which these are hidden: to import them fails, to start a thread too, and Python's
own library starts no processes on such a platform.
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
SYSTEM = ("multiprocessing", "_multiprocessing", "fcntl", "resource", "filelock")
HIDE = """
import sys, sysconfig
sysconfig.get_config_vars()  # of the real platform
sys.platform = "emscripten"  # as a browser's Python calls it; before anything else is imported, which may ask
import _thread, importlib.abc, subprocess

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def no_thread(*args, **options):
    raise RuntimeError("can't start new thread")

for name in [name for name in sys.modules if name.partition(".")[0] in HIDDEN]:
    del sys.modules[name]
sys.meta_path.insert(0, Hidden())
for name in ("start_new_thread", "start_joinable_thread"):
    setattr(_thread, name, no_thread)
"""


def run(code, *arguments, hidden=COMPILED + SYSTEM, cwd=None, timeout=300):
    """Execute code where the modules `hidden` cannot be imported; `sys.argv[1:]` are the arguments."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MPLBACKEND": "agg",
    }
    command = [sys.executable, "-c", f"HIDDEN = {hidden!r}\n{HIDE}\n{code}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
