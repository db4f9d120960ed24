"""The reference: a page for every public module, from its docstrings."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import minunet

if TYPE_CHECKING:
    from pages import Pages

ROOT = Path(minunet.__file__).resolve().parents[1]
PRIVATE = ("__main__", "pytest_plugin", "exercises")  # commands, and what teachers do not look up here


@functools.cache
def modules(only: tuple[str, ...] = ()) -> list[str]:
    """All public modules and packages, packages before what is in them; or `only` these and what is in them."""
    found = [m.name for m in pkgutil.walk_packages(minunet.__path__, "minunet.")]
    public = [name for name in found if not set(name.split(".")) & set(PRIVATE)]
    return ["minunet", *(name for name in public if not only or f"{name}.".startswith(tuple(f"{o}." for o in only)))]


def module_of(path: str) -> str:
    """The module in a file or folder of the repository: "minunet/ops/conv.py" holds "minunet.ops.conv"."""
    return path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")


def file_of(name: str) -> Path:
    """Where a module's text is."""
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def first_line(name: str) -> str:
    """What a module is for, in a line."""
    text = ast.get_docstring(ast.parse(file_of(name).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def write(pages: Pages, names: list[str]) -> None:
    """The pages of modules, and the one that lists them."""
    packages = [name for name in names if file_of(name).name == "__init__.py"]
    for name in names:
        title = f"{name}\n{'=' * len(name)}\n\n"
        inside = [other for other in names if other.rpartition(".")[0] == name and name != "minunet"]
        body = f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n"  # what a package takes from elsewhere is there
        pages.write(f"reference/{name}.rst", title + body + exported(name) * (name in packages) + listing(inside))
    lines = ["# Reference", "", "From the docstrings. Images and maps are NHWC, filters HWIO.", ""]
    for package in packages:  # each before those in it
        lines += ["##" + "#" * (package.count(".") > 1) + f" [{package}]({package}.rst)", "", first_line(package), ""]
        inside = [n for n in names if n.rpartition(".")[0] == package and n not in packages]
        lines += [f"[{name}]({name}.rst)\n: {first_line(name)}\n" for name in inside]
    top = ["minunet", *(n for n in names if n.count(".") == 1)]
    pages.write("reference/index", "\n".join([*lines, "```{toctree}", ":hidden:", "", *top, "```"]) + "\n")


def exported(package: str) -> str:
    """The names that a package offers, as links to where they are documented."""
    module = importlib.import_module(package)
    links = []
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            links.append(f":py:mod:`{value.__name__}`")
        elif getattr(value, "__module__", package) != package:
            links.append(f":py:obj:`{name} <{value.__module__}.{name}>`")
    return f"\nTo be had from ``{package}``: {', '.join(links)}.\n" if links else ""


def listing(names: list[str]) -> str:
    """The modules of a package: a table of contents, and what each is for."""
    if not names:
        return ""
    toc = "\n.. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names)
    return toc + "\n" + "".join(f":doc:`{name}`\n   {first_line(name)}\n\n" for name in names)
