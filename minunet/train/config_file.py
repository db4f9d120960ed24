"""TOML files of settings: reading one with every value checked, and writing one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import Field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..cli import printable
from ..errors import UserError, shown, why_not

COMMAND_LINE_ONLY = ("out", "resume", "quiet")  # these say where a run is and what it prints, not how it trains


def read_config(path: str | Path, known: Mapping[str, Field[Any]]) -> dict[str, Any]:
    """The values in a file, by the names of fields. A key is a flag without its leading dashes: ``learning-rate = 0.01``.

    Raises
    ------
    UserError
        If the file cannot be read, or, naming it and the key, if a key is unknown or its value is out of range.
    """
    found = read_toml("--config", path)
    flags = {name.replace("_", "-"): name for name in known if name not in COMMAND_LINE_ONLY}
    values = {}
    for key, value in found.items():
        if key not in flags:
            near = get_close_matches(key.replace("_", "-"), flags, 1)
            raise UserError(
                f"--config {path}: {shown(key)} is no setting{f'; did you mean {near[0]}?' if near else ''}"
            )
        problem = why_not(known[flags[key]], value)
        if problem:
            raise UserError(f"--config {path}: {key} = {problem}")
        values[flags[key]] = value
    return values


def read_toml(flag: str, path: str | Path) -> dict[str, Any]:
    """What a TOML file holds; UserError, naming the flag and the file, if it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise UserError(f"{flag} {path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:  # also of what is no UTF-8
        raise UserError(f"{flag} {path}: is no TOML ({e})") from None


def toml(title: str, groups: list[tuple[str, dict[str, Any]]]) -> str:
    """The text of a TOML file: a title, and groups of values, each under a comment. None, which TOML lacks, is left out."""
    lines = [title]
    for name, values in groups:
        told = {key: value for key, value in values.items() if value is not None and value != ()}
        if told:
            lines += ["", f"# {name}", *(_line(key, value) for key, value in told.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: bool | float | str | tuple) -> str:
    """A key and its value; a path that is no UTF-8, which TOML cannot hold, only as a comment."""
    if isinstance(value, str) and not value.isascii() and value != value.encode("utf-8", "replace").decode():
        return f"# {key} = {printable(value)}   is no UTF-8, and cannot stand here: give --{key} beside --config"
    return f"{key} = {_value(value)}"


def _value(value: bool | float | str | tuple) -> str:
    """A value as TOML writes it. A JSON string is valid TOML, except that TOML wants the character DEL escaped."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)
