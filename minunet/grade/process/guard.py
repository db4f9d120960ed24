"""The audit hook in the student's process (PEP 578): it ends the process, and says what was done that must not be.

A friendly fence, which names what was forbidden; the wall is the operating system's, see `confine` and `isolation`. Python
cannot remove a hook. This one holds all that it needs as the default values of its arguments: no cell, no global name and no
attribute leads there, it calls no method of an object that the student made, and it raises nothing.
"""

import os
import sys
from collections.abc import Iterable
from types import FunctionType
from typing import Any

FORBIDDEN = 77  # the status of the process that was ended
ANSWERS = (
    "autograd", "chainer", "cupy", "cv2", "jax", "jaxlib", "keras", "minunet", "mlx", "mxnet", "numba", "onnx", "onnxruntime",
    "openvino", "paddle", "skimage", "tensorflow", "theano", "tinygrad", "torch",
)  # fmt: skip
TOOLS = (  # ways to other processes, to other interpreters (which no hook watches), and to files past Python's open
    "_ctypes", "_dbm", "_gdbm", "_interpreters", "_posixshmem", "_posixsubprocess", "_remote_debugging", "_socket", "_testcapi",
    "_testinternalcapi", "_tkinter", "_xxsubinterpreters", "ctypes", "multiprocessing", "readline", "socket", "subprocess",
    "tkinter",
)  # fmt: skip
DENIED = (  # audit events, by how they begin
    "_winapi.", "code.__new__", "cpython.PyInterpreterState_New", "ctypes.", "fcntl.", "ftplib.", "gc.", "glob.", "http.",
    "minunet.call", "mmap.", "msvcrt.", "os.chdir", "os.chmod", "os.chown", "os.exec", "os.fchdir", "os.fork", "os.kill",
    "os.link", "os.lockf", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename", "os.rmdir", "os.setxattr", "os.spawn",
    "os.startfile", "os.symlink", "os.system", "os.truncate", "os.utime", "pdb.", "pty.", "resource.", "shutil.", "signal.",
    "socket.", "sqlite3.", "subprocess.", "sys._current_", "sys.addaudithook", "sys.monitoring.", "sys.remote_exec",
    "sys.setprofile", "sys.settrace", "syslog.", "tempfile.", "urllib.", "webbrowser.", "winreg.",
)  # fmt: skip
QUIET = {  # what raises no event: taken out of its module, and replaced by what raises one
    "os": (
        "chroot", "copy_file_range", "eventfd", "initgroups", "login_tty", "memfd_create", "mkfifo", "mknod", "openpty",
        "pidfd_open", "pipe", "pipe2", "posix_openpt", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "sendfile",
        "setegid", "seteuid", "setgid", "setgroups", "setns", "setpgid", "setpgrp", "setpriority", "setregid", "setresgid",
        "setresuid", "setreuid", "setsid", "setuid", "splice", "tcsetpgrp", "timerfd_create", "unshare",
    ),
    "signal": ("alarm", "pidfd_send_signal", "raise_signal", "set_wakeup_fd", "setitimer", "siginterrupt", "signal"),
    "_imp": ("create_builtin",),  # modules made anew would have it all again
}  # fmt: skip
SILENT = (  # so do these, of `TOOLS` that NumPy has loaded and holds
    "CFUNCTYPE", "PYFUNCTYPE", "_CFuncPtr", "_FuncPtr", "_fork_exec", "_memmove_addr", "_memset_addr", "_string_at", "cast",
    "fork_exec", "memmove", "memset", "pythonapi", "string_at", "wstring_at",
)  # fmt: skip
OF = {"os": ("posix", "nt"), "signal": ("_signal",), "_imp": ()}  # where a module has its functions from


def guard(libraries: Iterable[str], harmless: Iterable[str]) -> None:
    """Take the tools away and install the hook.

    Parameters
    ----------
    libraries : paths
        Folders whose files may be read, beside Python's own library.
    harmless : paths
        Files that may be read.
    """
    for name in sys.builtin_module_names:
        if name not in TOOLS:
            __import__(name)  # none is made later
    for name in TOOLS:  # what NumPy has loaded already
        if name in sys.modules:
            for function in SILENT:
                vars(sys.modules[name]).pop(function, None)
            sys.modules[name] = None  # type: ignore[assignment]
    for module, functions in QUIET.items():
        for place in filter(None, map(sys.modules.get, (module, *OF[module]))):
            for name in functions:
                if hasattr(place, name):
                    setattr(place, name, refused(f"{module}.{name}"))
    sys.meta_path.insert(0, Finder)
    bound = known(tuple(libraries), (os.devnull, "/dev/urandom", *harmless)), type, str, int, os.write, os._exit
    sys.addaudithook(FunctionType(hook.__code__, {}, "hook", bound))  # which nobody else holds


def refused(name: str) -> Any:
    """Stands for a function that the student's code must not call."""
    return lambda *args, **options: sys.audit("minunet.call", name)


class Finder:
    """Imports that go through importlib raise no event."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None, audit: Any = sys.audit) -> None:
        """Raise one."""
        audit("import", name, None, None, None, None)


def known(libraries: tuple[str, ...], harmless: tuple[str, ...]) -> tuple[Any, ...]:
    """What the hook compares with. Paths are compared as text, without following links: the student can make none."""
    sep = os.sep
    python = os.path.dirname(os.__file__)
    return (
        frozenset((*ANSWERS, *TOOLS)), frozenset(TOOLS), DENIED, frozenset(harmless), sep, os.altsep or sep,
        tuple(sep + name + sep for name in ("site-packages", "dist-packages")),
        tuple(p + sep for library in libraries for p in (library, os.path.realpath(library))),
        tuple(p + sep for p in (python, os.path.realpath(python))),
        os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, FORBIDDEN,
    )  # fmt: skip


def hook(event: str, args: Any, known: Any, type: Any, str: Any, int: Any, write: Any, leave: Any) -> None:
    """End the process if an event is forbidden. All but the event is bound to it by `guard`."""
    answers, tools, denied, harmless, sep, other_sep, packages, own, python, writes, status = known
    place: Any = ""  # a path, where the event has one
    if event == "open":
        place, mode, flags = args
        why = "it reads the file "
        if (type(mode) is str and not {*mode}.isdisjoint("wax+")) or (type(flags) is int and flags & writes):
            why, own, python, harmless = "it writes the file ", (), (), ()
    elif event == "import":
        name, place = args[0], args[1]
        why = "it loads the library "
        if type(name) is not str:
            why, place = "it imports what has no name", ""
        elif name.partition(".")[0] in answers or name.rpartition(".")[2] in tools:
            why, place = "it imports " + name, ""
        elif place is None:
            return
    elif event == "os.listdir" or event == "os.scandir":
        place, why = args[0], "it looks into the folder "
    elif event.startswith(denied):
        why = "it calls " + (args[0] if event == "minunet.call" and type(args[0]) is str else event)
    else:
        return
    if type(place) is not str:
        why += "that no text names"
    elif place:
        path = place.replace(other_sep, sep) + sep
        if place in harmless or (path.startswith(own) and sep + ".." + sep not in path):
            return
        if path.startswith(python) and not (packages[0] in path or packages[1] in path or sep + ".." + sep in path):
            return
        why += place[:300]
    try:
        write(2, b"\nforbidden: " + why.encode("utf-8", "replace") + b"\n")
    finally:
        leave(status)
