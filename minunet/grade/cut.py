"""Exercises cut out of the package's own sources: functions that are given stay, those to be written become stubs.

A function is taken as its text is in the source, without the decorator that looks for kernels. Its stub keeps the signature,
the docstring (or another where that one gives the answer away), and the line that unpacks the cache.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

TYPES = ("Callable", "Iterator", "Sequence")  # of collections.abc


def imports(code: str, extras: tuple[str, ...] = ()) -> str:
    """The lines at the head of a file that `code` needs."""
    abc = [name for name in TYPES if re.search(rf"\b{name}\b", code)]
    lines = ["from __future__ import annotations", ""]
    lines += [f"from collections.abc import {', '.join(abc)}"] * bool(abc)
    lines += ["from typing import Any"] * bool(re.search(r"\bAny\b", code))
    lines += [""] * (lines[-1] != "") + ["import numpy as np"]
    lines += ["import scipy  # noqa: F401"] * ("scipy" in extras)
    return "\n".join([*lines, "", "Array = np.ndarray", "", ""])


@cache
def _parsed(file: str) -> tuple[str, dict[str, ast.stmt]]:
    """A source's text, and its functions and assignments by name."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return text, found


def taken(file: str, name: str) -> str:
    """The text of a function or constant of minunet/FILE, for NumPy arrays and without kernels."""
    text, found = _parsed(file)
    node = found[name]
    assert node.end_lineno is not None
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]  # lineno is that of def: decorators stand above
    code = "\n".join(lines)
    code = re.sub(
        r"\n+    Examples\n    -{8}\n.*?(?=    \"{3}$)", "\n", code, flags=re.S | re.M
    )  # which import the answers
    return re.sub(r"get_array_module\([^()]*\)", "np", code) + "\n"


def stub(file: str, name: str, docstring: str | None = None, unpack: bool = True) -> str:
    """The function without its body: signature, docstring, with `unpack` the line that unpacks the cache."""
    source = taken(file, name)
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
    lines, first, rest = source.splitlines(), node.body[0], node.body[1:]
    if docstring is None:
        kept = lines[: first.end_lineno]
    else:
        kept = [*lines[: first.lineno - 1], f'    """{docstring}"""']
    if unpack and rest and isinstance(rest[0], ast.Assign) and getattr(rest[0].value, "id", "") == "cache":
        kept.append(lines[rest[0].lineno - 1].split("  #")[0])
    return "\n".join([*kept, "    raise NotImplementedError"]) + "\n"


def solution(file: str, name: str) -> list[str]:
    """The lines of a function's body behind its docstring, stripped: what a stub must not show."""
    source = taken(file, name)
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    first = node.body[0].end_lineno
    return [line.strip() for line in source.splitlines()[first:] if line.strip()]


def quoted(file: str, start: str, end: str) -> str:
    """The text of minunet/FILE from the line that begins with `start` to the one that holds `end`."""
    lines = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(start))
    last = next(i for i in range(first, len(lines)) if end in lines[i])
    return "\n".join(lines[first : last + 1])
