"""The student's process: runs the student's file, and answers calls with arrays. It holds no answers and no checks.

Started by `runner` as a script of its own, ``python -I -S -B child.py SITE MEMORY CPU [scipy]``, where SITE is the folder
that NumPy lies in. It imports NumPy (and SciPy where the exercise allows it), takes the limits on memory and time upon itself,
and then installs an audit hook (PEP 578). Python cannot remove one again; it ends the process, with status FORBIDDEN, when
the student's code reads a file outside of Python's library and NumPy, writes one, imports a library that holds the answers,
starts a process, opens a socket or reaches for C.

The student's prints go to stderr, of which the grader shows the end, so that stdout belongs to the messages. A student's
code that writes messages of its own only answers in its own name: right and wrong are told apart on the other side.
"""

import builtins
import contextlib
import io
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

FORBIDDEN = 77
ANSWERS = (
    "autograd", "chainer", "cupy", "cv2", "jax", "jaxlib", "keras", "minunet", "mlx", "mxnet", "numba", "onnx", "onnxruntime",
    "openvino", "paddle", "skimage", "tensorflow", "theano", "tinygrad", "torch",
)  # fmt: skip
TOOLS = (  # ways to other processes, to other interpreters (which no hook watches), and to files past Python's open
    "_ctypes", "_dbm", "_gdbm", "_interpreters", "_posixsubprocess", "_socket", "_testcapi", "_testinternalcapi", "_tkinter",
    "_xxsubinterpreters", "ctypes", "multiprocessing", "readline", "socket", "subprocess", "tkinter",
)  # fmt: skip
DENIED = (  # audit events, by how they begin
    "_winapi.", "code.__new__", "ctypes.", "ftplib.", "gc.", "glob.", "http.", "mmap.", "msvcrt.", "os.chdir", "os.chmod",
    "os.chown", "os.exec", "os.fchdir", "os.fork", "os.kill", "os.link", "os.lockf", "os.mkdir", "os.posix_spawn", "os.remove",
    "os.rename", "os.rmdir", "os.setxattr", "os.spawn", "os.startfile", "os.symlink", "os.system", "os.truncate", "os.utime",
    "pdb.", "pty.", "resource.", "shutil.", "signal.pthread_kill", "socket.", "sqlite3.", "subprocess.", "sys.addaudithook",
    "sys.remote_exec", "sys.setprofile", "sys.settrace", "syslog.", "tempfile.", "urllib.", "webbrowser.", "winreg.",
)  # fmt: skip


def main() -> None:
    site, memory, cpu, *extras = sys.argv[1:]
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    sys.path.append(site)
    import numpy as np
    import numpy.testing
    import wire  # type: ignore[import-not-found]

    np.lib.stride_tricks  # noqa: B018  what NumPy imports only when asked is asked for now
    np.random.default_rng(0), np.linalg.norm(np.zeros(2)), np.fft.fft(np.zeros(2)), str(np.zeros((2, 2)))
    if "scipy" in extras:
        import scipy.ndimage
        import scipy.spatial  # noqa: F401
    for name in TOOLS:  # what NumPy has loaded already
        if name in sys.modules:
            vars(sys.modules[name]).pop("fork_exec", None)  # which raises no event
            vars(sys.modules[name]).pop("_fork_exec", None)
            sys.modules[name] = None  # type: ignore[assignment]
    libraries = [os.path.join(site, name) for name in ("numpy", "numpy.libs", *(extras and ("scipy", "scipy.libs")))]
    sys.path[:] = [p for p in sys.path if p not in (here, site)]

    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True, errors="replace")

    def read(n: int) -> bytes:
        data = requests.read(n)
        if len(data) < n:
            os._exit(0)
        return data

    def send(message: object) -> None:
        answers.write(wire.pack(message))
        answers.flush()

    limit(int(memory), int(cpu))
    _, source, name = wire.unpack(read)
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    guard(libraries, (name, os.path.join(here, "child.py"), os.path.join(here, "wire.py")))
    serve(source, name, read, send, wire, np)


def serve(
    source: str,
    name: str,
    read: Callable[[int], bytes],
    send: Callable[[object], None],
    wire: ModuleType,
    np: ModuleType,
) -> None:
    """Run the student's file, then answer calls until there are no more."""
    namespace: dict[str, Any] = {"__name__": "submission", "__file__": name, "__builtins__": builtins}
    kept: list = []

    def answered(function: Callable[..., tuple], *args: Any) -> tuple:
        try:
            return function(*args)
        except NotImplementedError:
            return ("unwritten", "")
        except BaseException as e:
            return ("error", explain(e, name))

    def remote(key: str) -> Callable[..., Any]:  # a function of the grader's
        def f(*args: Any) -> Any:
            send(("call", key, args))
            _, kind, value = wire.unpack(read)
            if kind == "failed":
                raise ValueError(value)
            return value

        return f

    def load() -> tuple:
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
        return ("loaded", "")

    def call(function: str, sent: tuple, options: dict, functions: tuple, keep: bool, after: bool) -> tuple:
        args = [kept[a["kept"]] if isinstance(a, dict) else a for a in sent]
        args = [remote(a) if isinstance(a, str) and a in functions else a for a in args]
        if function not in namespace:
            return ("missing", "")
        result = namespace[function](*args, **options)
        if keep:  # a pair's forward: the cache stays here
            if not isinstance(result, tuple) or len(result) < 2:
                raise TypeError(f"{function} must return (y, cache)")
            result, cache = result[:2]
            kept.append(cache)
        return ("result", result, [None if callable(a) else a for a in args] if after else None)

    send(answered(load))
    while True:
        _, *request = wire.unpack(read)
        answer = answered(call, *request)
        try:
            send(answer)
        except (TypeError, ValueError, RecursionError) as e:
            send(("error", f"it returned {e}, which is neither an array nor a number"))


def explain(e: BaseException, name: str) -> str:
    """The error and the student's line that raised it, in one line."""
    where = [n for frame, n in traceback.walk_tb(e.__traceback__) if frame.f_code.co_filename == name]
    if isinstance(e, SyntaxError):
        return f"{e.msg} in line {e.lineno}"
    text = str(e).splitlines()[0][:300] if str(e) else ""
    line = f" in line {where[-1]}: {linecache.getline(name, where[-1]).strip()}" if where else ""
    return f"{type(e).__name__}: {text}{line}"


def limit(memory: int, cpu: int) -> None:
    """Memory in bytes, time in seconds of CPU; no files, no core dumps. On systems without `resource` only time is limited."""
    with contextlib.suppress(ImportError):
        import resource

        for what, n in (("AS", memory), ("CPU", cpu), ("FSIZE", 0), ("CORE", 0)):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (n, n))


def guard(libraries: Iterable[str], harmless: Iterable[str]) -> None:
    """Install the audit hook. All that it needs is bound here and built in, so that nothing the student patches changes it.

    Paths are compared as text, without following links: the student can make none.
    """
    sep = os.sep
    folders = [os.path.dirname(os.__file__), *(os.path.realpath(p) for p in (os.path.dirname(os.__file__), *libraries))]
    readable, own = tuple(p + sep for p in (*folders, *libraries)), tuple(p + sep for p in libraries)
    packages = (sep + "site-packages" + sep, sep + "dist-packages" + sep)
    answers, denied, harmless = frozenset((*ANSWERS, *TOOLS)), DENIED, (os.devnull, "/dev/urandom", *harmless)
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    write, leave, status, kind, text, number, any_ = os.write, os._exit, FORBIDDEN, type, str, int, any

    def allowed(path: Any) -> bool:
        if path is None or (kind(path) is text and path in harmless):
            return True
        if kind(path) is not text or sep + ".." + sep in path + sep:
            return False
        return (path + sep).startswith(own) or (
            (path + sep).startswith(readable) and not any_(p in path + sep for p in packages)
        )

    def end(why: str) -> None:
        write(2, b"\nforbidden: " + why.encode("utf-8", "replace") + b"\n")
        leave(status)

    def hook(event: str, args: Any) -> None:
        if event == "open":
            path, mode, flags = args
            if (kind(mode) is text and any_(c in mode for c in "wax+")) or (kind(flags) is number and flags & writes):
                end("it writes the file " + text(path))
            elif not allowed(path):
                end("it reads the file " + text(path))
        elif event == "import":
            if text(args[0]).partition(".")[0] in answers:
                end("it imports " + text(args[0]))
        elif event in ("os.listdir", "os.scandir"):
            if not allowed(args[0]):
                end("it looks into the folder " + text(args[0]))
        elif event.startswith(denied):
            end("it calls " + event)

    class Finder:  # imports that go through importlib raise no event
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            if name.partition(".")[0] in answers:
                end("it imports " + name)

    sys.meta_path.insert(0, Finder)
    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
