"""``python -m minunet NAME``, the same as ``python -m minunet.NAME``."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:] = sys.argv[1:] or ["-h"]
    runpy.run_module(f"minunet.{sys.argv[0]}", run_name="__main__", alter_sys=True)
