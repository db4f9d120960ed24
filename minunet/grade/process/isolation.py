"""How a student's process is kept from everything else: by what the operating system offers, or by Python's audit hook alone.

bubblewrap         namespaces of its own (bwrap(1)): there is no other process, no network, and of the disk only Python's
                   library, NumPy and the system's libraries, read-only; it dies with the grader, with all that it started.
                   Inside, Landlock and seccomp as below, where the kernel has them
landlock+seccomp   the process itself gives up all other files and all calls that a computation does not need (`confine`)
hook only          the audit hook (`guard`), which names what it refuses, and which is a fence, no wall; with "auto" also what
                   there is of Landlock or seccomp, if there is only one

docs/teaching.md says exactly what each of them stops.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from ...errors import UserError
from .confine import BOTH

LEVELS = ("bubblewrap", BOTH, "hook only")
CHOICES = ("auto", "require", "bubblewrap", BOTH, "hook")
CHILD = Path(__file__).with_name("child.py")
FILES = tuple(
    CHILD.with_name(f"{name}.py") for name in ("cells", "child", "confine", "guard", "wire")
)  # all that the process needs
LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")  # the system's
KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

known: dict[str, bool] = {}  # which levels were tried, and whether they work here


def levels(isolation: str) -> list[str]:
    """The levels to try, the strongest first, for a choice of ``--isolation``."""
    wanted = {"auto": LEVELS, "require": LEVELS[:2], "hook": LEVELS[2:]}.get(isolation, (isolation,))
    return [level for level in wanted if known.get(level, True)]


def none_works(isolation: str) -> UserError:
    """What to say if no level that is wanted works."""
    return UserError(
        f"--isolation {isolation}: this system offers none that works here. Install bubblewrap, or use Linux 5.13 or later "
        "with Landlock; --isolation hook grades without, see docs/teaching.md"
    )


def command(level: str, bare: bool, memory: int, cpu: int, extras: tuple[str, ...]) -> list[str] | None:
    """The command line of a student's process; None if this system has nothing of this level.

    Unless it is to be `bare`, the process gives up what it can at every level, if only by one of Landlock and seccomp.
    """
    numpy = importlib.util.find_spec("numpy")
    assert numpy is not None and numpy.origin is not None
    site = Path(numpy.origin).parents[1]
    python = os.path.realpath(sys.executable) if os.name == "posix" else sys.executable
    if level != LEVELS[2] and sys.platform != "linux":
        return None
    rest = [str(site), str(memory), str(cpu), "hook" if bare else "all", *extras]
    if level != LEVELS[0]:
        return [python, "-I", "-S", "-B", str(CHILD), *rest]
    wrapped = bubblewrap(python, site, ("numpy", "numpy.libs", *extras, *(f"{name}.libs" for name in extras)))
    return wrapped and [*wrapped, python, "-I", "-S", "-B", "/grader/child.py", *rest]


def environment() -> dict[str, str]:
    """The student's process's: one thread, and what Python and NumPy need to start."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    return {k: v for k, v in os.environ.items() if k in KEPT} | one


def bubblewrap(python: str, site: Path, packages: tuple[str, ...]) -> list[str] | None:
    """The command that lays out what the process will see, in this order; None without bubblewrap."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return None
    library = Path(sysconfig.get_path("stdlib"))
    compiled_library = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    roots = [*LIBRARIES, compiled_library, str(library), os.path.join(sys.base_prefix, "lib"), python]
    seen = [arg for root in dict.fromkeys(roots) for arg in shown(root)]
    hidden = [arg for root in dict.fromkeys(roots) for folder in packages_in(root) for arg in ("--tmpfs", folder)]
    read_only = [arg for folder in ("/", *hidden[1::2]) for arg in ("--remount-ro", folder)]
    numpy = [
        arg for name in packages if (site / name).is_dir() for arg in ("--ro-bind", str(site / name), str(site / name))
    ]
    compiled = [Path(importlib.util.cache_from_source(str(file))) for file in FILES]  # which saves time
    own = [
        arg
        for file in (*FILES, *compiled)
        for arg in ("--ro-bind-try", str(file), f"/grader/{file.relative_to(CHILD.parent)}")
    ]
    devices = [arg for path in (os.devnull, "/dev/urandom") for arg in ("--dev-bind", path, path)]
    loader = [arg for path in ("/etc/ld.so.cache", "/etc/alternatives") for arg in ("--ro-bind-try", path, path)]
    return [
        bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", *seen, *loader, *hidden, *numpy, *own, *devices,
        *read_only, "--chdir", "/",
    ]  # fmt: skip


def shown(path: str) -> list[str]:
    """The arguments that show a file or folder; a link, such as /lib often is, as the same link."""
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path] if os.path.exists(path) else []


def packages_in(root: str) -> list[str]:
    """The folders in one that is shown which must not be: packages that were installed there, and minunet itself."""
    top = Path(root)
    if top.is_symlink() or not top.is_dir():
        return []
    found = [*top.glob("python3*/*-packages"), *top.glob("*-packages")]
    package = CHILD.parents[2]
    return [str(p) for p in found if p.is_dir()] + [str(package)] * package.is_relative_to(top)
