"""The student's process: runs the student's file, and answers calls with arrays. It holds no answers and no checks.

Started as a script of its own, ``python -I -S -B child.py SITE MEMORY CPU ISOLATION [scipy]``, where SITE is the folder that
NumPy lies in. It imports NumPy (and SciPy where the exercise allows it), gives up what it does not need (see `confine`; with
ISOLATION "hook" only memory and time), installs the audit hook (see `guard`), and says so: all that is before it has seen a
letter of the student's file. Beside this file it needs cells.py, confine.py, guard.py and wire.py, and nothing else of minunet.

The student's prints go to stderr, of which the grader shows the end, so that stdout belongs to the messages. A student's
code that writes messages of its own only answers in its own name: right and wrong are told apart on the other side.
"""

import ast
import builtins
import contextlib
import importlib.util
import io
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

FILE = "<submission>"  # what Python calls the student's file; it looks for it when it shows a line, and finds none


def main() -> None:
    site, memory, cpu, isolation, *extras = sys.argv[1:]
    here = os.path.dirname(os.path.abspath(__file__))
    python = [p for p in sys.path if p != here and os.path.isdir(p)]
    sys.path[:] = [here, *python, site]
    import cells  # type: ignore[import-not-found]
    import confine  # type: ignore[import-not-found]
    import guard  # type: ignore[import-not-found]
    import wire  # type: ignore[import-not-found]

    load_libraries(extras)
    libraries = [os.path.join(site, name) for name in ("numpy", "numpy.libs", *(extras and ("scipy", "scipy.libs")))]
    sys.path[:] = python
    read, send = messages(wire)
    if isolation == "hook":
        confine.limit(int(memory), int(cpu))
        confined = ""
    else:
        confined = confine.confine(int(memory), int(cpu), libraries, python)
    own = ("cells", "child", "confine", "guard", "wire")
    guard.guard(libraries, [FILE, *(os.path.join(here, f"{name}.py") for name in own)])
    for name in own:
        sys.modules.pop(name, None)
    send(("ready", confined))
    Server(read, send, guard.ANSWERS, cells.Notebook, wire.copied).serve()


def load_libraries(extras: list[str]) -> None:
    """Import what the student's code may use and what it cannot load later, when the system's libraries are out of reach."""
    for name in ("bz2", "decimal", "hashlib", "lzma", "zlib"):
        with contextlib.suppress(ImportError):  # a Python may be built without one
            __import__(name)
    import numpy as np
    import numpy.testing

    np.lib.stride_tricks  # noqa: B018  what NumPy imports only when asked is asked for now
    np.random.default_rng(0), np.linalg.norm(np.zeros(2)), np.fft.fft(np.zeros(2)), str(np.zeros((2, 2)))
    if "scipy" in extras:
        import scipy.ndimage
        import scipy.spatial  # noqa: F401
    importlib.util.find_spec("no module has this name")  # Python has listed its folders now


def messages(wire: Any) -> tuple[Callable[[], list], Callable[[object], None]]:
    """How to take a message and how to send one: by what was stdin and stdout, which now are nothing and stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True, errors="replace")

    def exactly(n: int) -> bytes:
        data = requests.read(n)
        if len(data) < n:
            os._exit(0)
        return data

    def read() -> list:
        return list(wire.unpack(exactly))

    def send(message: object) -> None:
        answers.write(wire.pack(message))
        answers.flush()

    return read, send


class Server:
    """The student's file, and the answers to what is asked of it."""

    def __init__(
        self,
        read: Callable[[], list],
        send: Callable[[object], None],
        answers: tuple[str, ...],
        notebook: Any,
        copied: Callable[..., Any],
    ) -> None:
        self.read, self.send, self.answers, self.notebook, self.copied = read, send, answers, notebook, copied
        self.namespace: dict[str, Any] = {}
        self.kept: list[tuple[Any, list]] = []  # caches, and what their forwards were given and gave
        self.cells: Any = None  # of a notebook

    def serve(self) -> None:
        """Answer for as long as somebody asks."""
        while True:
            self.respond(self.read())

    def respond(self, message: list) -> None:
        """Send the answer to a message."""
        try:
            self.send(self.answer(message))
        except TypeError as e:
            self.send(("error", f"it returned {e}"))
        except (ValueError, RecursionError, MemoryError) as e:
            self.send(("error", f"it returned too much: {e}"[:500]))

    def answer(self, message: list) -> tuple:
        """The answer to a message."""
        tasks: dict[str, Callable[..., tuple]] = {
            "source": self.take,
            "load": self.load,
            "call": self.call,
            "forget": self.forget,
        }
        try:
            return tasks[message[0]](*message[1:])
        except NotImplementedError:
            return ("unwritten", "")
        except BaseException as e:
            return ("error", explain(e, self.cells))

    def take(self, content: Any, name: str) -> tuple:
        """Take the file's text; say which functions it defines, what it is not, what it must not import. Nothing runs."""
        source = bytes(content).decode()
        self.source, self.name, self.cells = source, name, None
        linecache.cache[FILE] = (len(source), None, source.splitlines(True), FILE)
        if name.lower().endswith(".ipynb"):
            return self.take_notebook()
        try:
            nodes = list(ast.walk(ast.parse(source, FILE)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
            what = f"{e.msg} in line {e.lineno}" if isinstance(e, SyntaxError) and e.lineno else str(e)
            return ("outline", (), f"not Python: {what or type(e).__name__}", "")
        return ("outline", functions_in(nodes), "", self.refuse(nodes))

    def take_notebook(self) -> tuple:
        """The same of a notebook; what it must not import is asked again of what is run of it."""
        try:
            self.cells = self.notebook(self.source)
        except (ValueError, RecursionError, MemoryError) as e:
            return ("outline", (), f"not a notebook: {e or type(e).__name__}", "")
        linecache.cache[FILE] = (0, None, self.cells.lines, FILE)
        functions = functions_in(node for top in self.cells.statements for node in ast.walk(top.node))
        return (
            "outline",
            functions,
            f"not Python: {self.cells.broken[0]}" if self.cells.broken and not functions else "",
            "",
        )

    def refuse(self, nodes: Iterable[ast.AST]) -> str:
        """What a file must not import, or nothing."""
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for imported in names:
                if imported.partition(".")[0] in self.answers:
                    return f"line {self.place(getattr(node, 'lineno', 1))} imports {imported}, which holds the answer"
        return ""

    def place(self, line: int) -> str:
        """A line's number, and in a notebook its cell's."""
        return self.cells.place(line) if self.cells else str(line)

    def load(self, functions: tuple[str, ...]) -> tuple:
        """Run the file; of a notebook what these functions need."""
        self.namespace |= {"__name__": "submission", "__file__": self.name, "__builtins__": builtins}
        code: Any = self.source
        if self.cells:
            body = self.cells.needed(functions)
            refused = self.refuse(node for top in body for node in ast.walk(top))
            if refused:
                return ("refused", refused)
            code = ast.Module(body, [])
        exec(compile(code, FILE, "exec", dont_inherit=True), self.namespace)
        return ("loaded", "")

    def call(self, function: str, sent: tuple, options: dict, functions: tuple, keep: int, spread: bool) -> tuple:
        """Call a function of it; what it was given is sent back as it is after the call."""
        if function not in self.namespace:
            if self.cells and self.cells.broken:
                return ("error", f"the notebook defines no {function}: {'; '.join(self.cells.broken[:3])}")
            return ("missing", "")
        sent, options = (self.copied(a, spread) for a in (sent, options)) if spread else (sent, options)
        held = [self.kept[a["kept"]][1] if isinstance(a, dict) else a for a in sent]
        args = [self.kept[a["kept"]][0] if isinstance(a, dict) else a for a in sent]
        args = [self.remote(a) if isinstance(a, str) and a in functions else a for a in args]
        result = self.namespace[function](*args, **options)
        if keep:  # a pair's forward: the cache stays here
            result, cache = pair(function, result, keep)
            self.kept.append((cache, [held, options, result]))
        return ("result", result, [held, options], len(self.kept) - 1)

    def forget(self) -> tuple:
        """Drop the caches that were kept: a training makes many."""
        self.kept.clear()
        return ("forgotten", "")

    def remote(self, key: str) -> Callable[..., Any]:
        """A function of the grader's."""

        def f(*args: Any) -> Any:
            self.send(("call", key, args))
            kind, value = self.read()
            if kind == "failed":
                raise ValueError(value)
            return value

        return f


def functions_in(nodes: Iterable[ast.AST]) -> list[str]:
    """The names of the functions that are defined there."""
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef)]


def pair(function: str, result: Any, most: int) -> tuple[Any, Any]:
    """The output and the cache among at most so many things that a forward returned."""
    if not isinstance(result, (tuple, list)) or not 2 <= len(result) <= most:
        raise TypeError(f"{function} must return (y, cache)")
    return result[0], result[1]


def explain(e: BaseException, cells: Any = None) -> str:
    """The error and the student's line that raised it, in one line."""
    where = [n for frame, n in traceback.walk_tb(e.__traceback__) if frame.f_code.co_filename == FILE]
    if isinstance(e, SyntaxError):
        return f"{e.msg} in line {e.lineno}"
    text = str(e).splitlines()[0][:300] if str(e) else ""
    number = where and (cells.place(where[-1]) if cells else where[-1])
    line = f" in line {number}: {linecache.getline(FILE, where[-1]).strip()}" if where else ""
    return f"{type(e).__name__}: {text}{line}"


if __name__ == "__main__":
    main()
