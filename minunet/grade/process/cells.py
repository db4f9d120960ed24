"""The code of a notebook, and of it what some functions need: plots, trials, magics and the grader's own cell are left out.

A notebook is made to try things in, so not all of it is an answer. Of its cells' statements those are run that bind a name
which the functions use, directly or through others; of a name that is bound twice, what came last. What changes a value in
place (`TABLE[0] = 1`, `LIST.append(1)`) belongs to it.

This file is loaded by the student's process, where there is no minunet.
"""

import ast
import dis
import json
import re
from types import CodeType
from typing import Any

MAGIC = re.compile(r"^([ \t]*)(?:[%!].*|\?{1,2}[\w.]+[ \t]*|[\w.]+\?{1,2}[ \t]*)$", re.M)  # a line that is no Python
GIVEN = re.compile(r"^([ \t]*[\w., \t]+=)[ \t]*[%!].*$", re.M)  # one that takes what a magic gives
PASSING = ("%%time", "%%timeit", "%%capture", "%%prun")  # magics of a whole cell that run it as Python
FILE = "<submission>"  # as in `child`: Python looks for a file of this name when it shows a line of an error
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WHOLE = (*DEFINITIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)  # bind a name for certain


def code_cells(text: str) -> list[str]:
    """The code cells of a notebook's file (nbformat 4). ValueError, with the rest of "not a notebook: ...", if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"it holds no JSON ({str(e)[:100]})") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it has no list of cells; open it in Jupyter and save it in the format of today")
    found = []
    for number, cell in enumerate(cells, 1):
        source = cell.get("source") if isinstance(cell, dict) else None
        lines: list[Any] = source if isinstance(source, list) else [source]
        if not all(isinstance(line, str) for line in lines):
            raise ValueError(f"its cell {number} has no text")
        if cell.get("cell_type") == "code":
            found.append("".join(lines))
    return found


def parsed(code: str) -> ast.Module:
    """A cell as Python, without its magics, line by line as it stands there. SyntaxError, or what a hard text raises."""
    try:
        return ast.parse(code, FILE)
    except SyntaxError:
        head, _, rest = code.lstrip().partition("\n")
        if head.startswith("%%"):
            code = "\n" * (code.count("\n") - rest.count("\n")) + rest if head.split()[0] in PASSING else ""
        return ast.parse(MAGIC.sub(r"\1pass", GIVEN.sub(r"\1 None", code)), FILE)


class Statement:
    """A statement: the names that it binds, touches, and reads, now or when the function that it defines is called."""

    def __init__(self, node: ast.stmt) -> None:
        self.node = node
        self.now, self.later, self.binds, self.touches = set[str](), set[str](), set[str](), set[str]()
        code = compile(ast.Module([node], []), FILE, "exec", dont_inherit=True)
        self.note(code, self.now)
        for inner in inner_codes(code):
            for names in [self.later] if isinstance(node, DEFINITIONS) else [self.now, self.later]:
                self.note(inner, names)
        if not isinstance(node, (*DEFINITIONS, ast.ClassDef)):
            self.touches = set(filter(None, map(touched, ast.walk(node))))
        self.imports = isinstance(node, (ast.Import, ast.ImportFrom))
        self.always = isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")

    def note(self, code: CodeType, reads: set[str]) -> None:
        """Note the global names that a piece of code uses."""
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_NAME", "LOAD_GLOBAL", "DELETE_NAME"):
                reads.add(step.argval)
            elif step.opname == "STORE_GLOBAL" or (step.opname == "STORE_NAME" and code.co_name == "<module>"):
                self.binds.add(step.argval)

    def renews(self, name: str) -> bool:
        """Whether it binds a name for certain, and without its value before."""
        return isinstance(self.node, WHOLE) and name in self.binds and name not in self.now | self.touches


def inner_codes(code: CodeType) -> list[CodeType]:
    """The code of the functions, classes and comprehensions in a piece of code, and of those in them."""
    return [c for inner in code.co_consts if isinstance(inner, CodeType) for c in (inner, *inner_codes(inner))]


def touched(node: ast.AST) -> str:
    """The name whose value a part of a statement may change in place: `a[0] = 1`, `a.b = 1`, `a.append(1)`."""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        place: ast.AST = node
        while isinstance(place, (ast.Subscript, ast.Attribute)):
            place = place.value
        return place.id if isinstance(place, ast.Name) else ""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        return call.func.value.id
    return ""


def needed(statements: list[Statement], functions: tuple[str, ...]) -> list[Statement]:
    """The statements that functions need, in order."""
    changing: dict[str, list[int]] = {}
    modules = {name for s in statements if s.imports for name in s.binds}
    for i, s in enumerate(statements):
        for name in s.binds | (s.touches - modules):  # `np.testing.assert_equal(...)` does not change np
            changing.setdefault(name, []).append(i)
    chosen = {i for i, s in enumerate(statements) if s.always}
    wanted, seen = [(name, len(statements)) for name in functions], set()
    while wanted:
        name, end = wanted.pop()
        if (name, end) in seen:
            continue
        seen.add((name, end))
        uses = [i for i in changing.get(name, []) if i < end]
        first = max((i for i in uses if statements[i].renews(name)), default=0)
        for i in uses:
            if i >= first and i not in chosen:
                chosen.add(i)
                wanted += [(n, i) for n in statements[i].now] + [(n, len(statements)) for n in statements[i].later]
    return [statements[i] for i in sorted(chosen)]


class Notebook:
    """A notebook's code.

    Parameters
    ----------
    text : str
        The content of its file.

    Attributes
    ----------
    lines : list of str
        Those of all code cells, one after the other; errors name them by their numbers.
    statements : list of Statement
        Those of the cells that are Python.
    broken : list of str
        Why the others are not.
    """

    def __init__(self, text: str) -> None:
        self.lines: list[str] = []
        self.starts: list[int] = []
        self.statements: list[Statement] = []
        self.broken: list[str] = []
        for number, code in enumerate(code_cells(text), 1):
            self.starts.append(len(self.lines))
            before = 0
            try:
                module, before = parsed(code), len(self.lines)
                self.statements += [Statement(node) for node in ast.increment_lineno(module, before).body]
            except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
                line = e.lineno if isinstance(e, SyntaxError) else None
                what = f"{e.args[0]} in line {line - before}" if line else type(e).__name__
                self.broken.append(f"{what} of code cell {number}")
            self.lines += [line + "\n" for line in code.split("\n")]

    def place(self, line: int) -> str:
        """Where a line stands: "3 of code cell 2"."""
        number = max((n for n, start in enumerate(self.starts) if start < line), default=0)
        return f"{line - self.starts[number]} of code cell {number + 1}"

    def needed(self, functions: tuple[str, ...]) -> list[ast.stmt]:
        """The statements that these functions need, what begins with `from __future__` first."""
        found = [s.node for s in needed(self.statements, functions)]
        return sorted(found, key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__"))
