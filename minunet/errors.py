"""Mistakes that the user can correct: the exception for them, and settings whose values are checked."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, Field, asdict, field, fields
from numbers import Integral, Real
from typing import Any, Self

Numbers = tuple[float, ...]
Values = tuple[int | str, ...]
KINDS: dict[str, Any] = {
    "int": Integral, "float": Real, "str": str, "bool": bool, "Numbers": Real, "Values": (Integral, str),
}  # fmt: skip
WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "Numbers": "a number",
    "Values": "a whole number or a text",
}  # fmt: skip
LISTS = ("Numbers", "Values")


class UserError(Exception):
    """Something outside the program is wrong: a file, a flag, a device.

    The message names the file or flag, the value found and what to do. The command lines print it as one line and
    exit with status 2; in a notebook it is an ordinary exception.
    """


def extra(name: str) -> str:
    """How to install what an extra of pyproject.toml asks for: from a clone, as the name on the public index is not ours."""
    return f"pip install '.[{name}]' in a clone of minunet"


def limits(
    *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf, choices: tuple[str | None, ...] = ()
) -> dict[str, Any]:
    """The metadata of a field of `Settings`: what it may be, from `least` (or above `above`) to `most`, or one of `choices`."""
    return {"least": least, "above": above, "most": most, "choices": choices}


def setting(default: Any, **allowed: Any) -> Any:
    """A field of `Settings` with a default, and with `limits`."""
    return field(default=default, metadata=limits(**allowed))


class Settings:
    """Base of frozen dataclasses whose values come from people and files.

    A field that is annotated as int, float, str or bool (or one of them and None), or as `Numbers` or `Values`, tuples of
    these, is checked when an instance is made, against its type and against the limits of `setting`. NumPy's numbers become
    Python's, lists become tuples.

    Raises
    ------
    UserError
        Naming the field, the value found, and what it may be.
    """

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value = getattr(self, f.name)
            problem = why_not(f, value)
            if problem:
                raise UserError(f"{f.name}: {problem}")
            kind = str(f.type).removesuffix(" | None")
            if kind in LISTS:
                object.__setattr__(self, f.name, tuple(float(v) if kind == "Numbers" else v for v in value))
            elif value is not None and kind in ("int", "float"):
                object.__setattr__(self, f.name, int(value) if kind == "int" else float(value))

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_json(cls, stored: Any, source: str) -> Self:
        """The settings from a dictionary that `to_json` made; missing fields get their defaults.

        Raises
        ------
        UserError
            Naming `source`, such as "best.safetensors: options", and the field.
        """
        if not isinstance(stored, dict):
            raise UserError(f"{source}: {shown(stored)} is no table of settings")
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        for name in stored:
            if name not in known:
                raise UserError(f"{source}: {shown(name)} is unknown; known are {', '.join(known)}")
        for name, f in known.items():
            if name not in stored and f.default is MISSING and f.default_factory is MISSING:
                raise UserError(f"{source}: {name} is missing")
        try:
            return cls(**stored)
        except UserError as e:
            raise UserError(f"{source}: {e}") from None


def why_not(f: Field[Any], value: Any) -> str | None:
    """What is wrong with a value for a field of `Settings`; None if nothing is."""
    kind, _, optional = str(f.type).partition(" | ")
    allowed = f.metadata
    if allowed.get("choices"):
        return (
            None if isinstance(value, str | None) and value in allowed["choices"]
            else f"{shown(value)} is unknown, choose one of {', '.join(map(str, allowed['choices']))}"
        )  # fmt: skip
    if kind not in KINDS or (value is None and optional == "None"):
        return None
    if kind in LISTS:
        if not isinstance(value, list | tuple):
            return f"{shown(value)} is not a list"
        return next((problem for v in value if (problem := why_not_one(kind, v, allowed))), None)
    return why_not_one(kind, value, allowed)


def why_not_one(kind: str, value: Any, allowed: Any) -> str | None:
    """What is wrong with a value, or with one of a list, of the type `kind` and with the limits `allowed`."""
    if not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
        return f"{shown(value)} is not {WORDS[kind]}"
    if isinstance(value, str) and "\0" in value:
        return f"{shown(value)} has a zero character in it, which no path has"
    if isinstance(value, str) and not is_encodable(value):
        return f"{shown(value)} has half a character in it, which no path has"
    if kind == "str" and not value:
        return "'' is empty, and names no file or folder: leave it out"
    if kind in ("int", "float", "Numbers") and "least" in allowed:
        return out_of_range(value, allowed["least"], allowed["above"], allowed["most"])
    return None


def is_encodable(text: str) -> bool:
    """Whether a text can be a file's name: halves of characters stand for bytes that are no UTF-8, if for anything."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def out_of_range(value: float, least: float, above: float, most: float) -> str | None:
    """Say that a number is below `least`, not above `above`, above `most`, or not finite; None if it is within."""
    if least <= value <= most and value > above and abs(value) < (2**63 if isinstance(value, Integral) else math.inf):
        return None
    ends = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
    ends += [f"at most {most:g}"] * (most < math.inf)
    return f"{shown(value)} is out of range: it must be {' and '.join(ends) or 'finite'}"


def shown(value: Any, most: int = 60) -> str:
    """A value as Python writes it, without control characters, and cut where it is long."""
    text = ascii(value)
    return text if len(text) <= most else text[: most - 3] + "..."


FULL = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full: NumPy's or CuPy's MemoryError, or one of CUDA's own.

    What is not from CuPy's pool, such as kernels' code, CUDA graphs and cuBLAS's workspace, raises CUDARuntimeError,
    CUDADriverError or CUBLASError, all of them RuntimeErrors.
    """
    full = isinstance(error, RuntimeError) and any(sign in str(error) for sign in FULL)
    return full or isinstance(error, MemoryError)
