"""Reading a pickle without running it.

A pickle is a program for a small stack machine. It is dangerous because some instructions import any object by name and call
it. Here `pickletools` of the standard library splits the bytes into instructions, and the machine below knows only those that
describe tensors in dictionaries. Names are looked up in `NAMES`, where a few stand for harmless functions of this file, and of
beside.py, for what is often saved beside tensors: nothing is ever imported, and any other name or instruction is refused.

A tensor is only described: the key of its storage, its offset there, its shape and its strides. These are checked against each
other here, and against the bytes in the file by container.py, before memory of their size is allocated.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from . import beside
from .beside import Beside, Kind, NumberType

MAX_INSTRUCTIONS = 200_000  # a file of PyTorch-UNet has 5,000
MAX_DIMENSIONS = 8
DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool",
}  # fmt: skip
ITEMSIZES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}


class Refused(Exception):
    """The pickle is damaged, or wants something that a file of tensors does not need; the message says what."""


@dataclass(frozen=True)
class Dtype:
    """The type of a storage's numbers, by NumPy's name or "bfloat16"."""

    name: str

    @property
    def itemsize(self) -> int:
        return ITEMSIZES.get(self.name, 1)


@dataclass(frozen=True)
class Storage:
    """Numbers in the file: their key and count."""

    key: str
    dtype: Dtype
    size: int


@dataclass(frozen=True)
class Tensor:
    """A tensor as a pickle describes it; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


# ---- what names stand for --------------------------------------------------------------------------------------------


def _ordered_dict() -> dict:
    """collections.OrderedDict()."""
    return {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor(storage, offset, shape, strides) and its later versions."""
    _checked(storage, Storage, "a storage")
    for name, sizes in (("shape", shape), ("strides", strides)):
        _checked(sizes, tuple, f"a tensor's {name}")
        if len(sizes) > MAX_DIMENSIONS or len(sizes) != len(shape):
            raise Refused(f"a tensor has {len(sizes)} {name}, which do not fit its {len(shape)} dimensions")
        for n in sizes:
            _count(n, f"a number in a tensor's {name}")
    tensor = Tensor(storage, _count(offset, "a tensor's offset"), shape, strides)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides)) if tensor.size else -1
    if last >= storage.size or tensor.size > storage.size:
        raise Refused(f"a tensor reaches beyond the {storage.size} numbers of its storage {ascii(storage.key)[:40]}")
    return tensor


def _parameter(tensor: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)."""
    return _checked(tensor, Tensor, "a parameter")


def _size(sizes: Any = ()) -> tuple:
    """torch.Size(sizes)."""
    if len(_checked(sizes, (tuple, list), "a torch.Size")) > MAX_DIMENSIONS:
        raise Refused(f"a torch.Size has {len(sizes)} dimensions")
    return tuple(sizes)


NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    **{("torch", storage): Dtype(dtype) for storage, dtype in DTYPES.items()},
    **beside.NAMES,
}
CALLABLE: tuple[Callable[..., Any], ...] = (_ordered_dict, _tensor, _parameter, _size, *beside.CALLABLE)


def _look_up(module: Any, name: Any) -> Any:
    """The entry of `NAMES` for a name; Refused, with the name, if there is none."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise Refused("it imports something that has no name")
    if (module, name) not in NAMES:
        asked = ascii(f"{module}.{name}")[1:-1][:100]
        raise Refused(
            f"it asks for {asked}, which is no part of a file of tensors, and was not run. If it is a whole model or a "
            "training's state, from somebody you trust, save model.state_dict() alone with PyTorch"
        )
    return NAMES[module, name]


def _storage(reference: Any) -> Storage:
    """A persistent id: ("storage", type, key, device, size), in old files followed by None."""
    _checked(reference, tuple, "a reference")
    if not reference or not isinstance(reference[0], str) or reference[0] != "storage" or len(reference) not in (5, 6):
        raise Refused("it refers to something that is no storage of numbers; save model.state_dict() alone")
    _, dtype, key, _, size, *view = reference
    _checked(dtype, Dtype, "a storage's type")
    if view and view[0] is not None:
        raise Refused("it has views of storages, as PyTorch wrote them before 0.4: save it again with a newer one")
    return Storage(_checked(key, str, "a storage's key"), dtype, _count(size, "a storage's size"))


def _checked(value: Any, kind: Any, what: str) -> Any:
    """The value if it is of that type, else Refused; the message does not show the value, which may be nested without end."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused(f"{what} is of the wrong kind ({type(value).__name__})")
    return value


def _count(value: Any, what: str) -> int:
    """The value if it is a whole number from 0 to 2^63 - 1."""
    if not 0 <= _checked(value, int, what) < 1 << 63:
        raise Refused(f"{what} is {'negative' if value < 0 else 'absurdly large'}")
    return value  # type: ignore[no-any-return]


# ---- the machine -----------------------------------------------------------------------------------------------------

CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": lambda: Beside("set"),
}  # fmt: skip
VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES",
}  # fmt: skip


def read_pickle(file: BinaryIO) -> Any:
    """Read what the pickle at the file's current position describes; the position is then behind it.

    Raises
    ------
    Refused
        If it does more than describe dictionaries, lists, tuples, numbers, texts and tensors.
    Exception
        Nearly any, if it is damaged.
    """
    machine = _Machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd escapes in texts of the oldest protocol, which is refused later
        for n, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            if n == MAX_INSTRUCTIONS:
                raise Refused(f"it has more than {MAX_INSTRUCTIONS:,} instructions, far too many for tensors")
            if instruction.name == "STOP":
                break
            machine.step(instruction.name, argument)
    (result,) = machine.stack
    return result


class _Machine:
    """The stack, the stacks put aside at marks, and the memo (objects by number)."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.waiting: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            pass
        elif name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in NEW:
            stack.append(NEW[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.waiting.append(stack)
            self.stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS", "ADDITEMS"):
            self.stack = self.waiting.pop()
            self._fill(name, stack)
        elif name in ("APPEND", "SETITEM", "TUPLE1", "TUPLE2", "TUPLE3"):
            n = {"APPEND": 1, "TUPLE1": 1, "TUPLE3": 3}.get(name, 2)
            self._fill(name, [stack.pop() for _ in range(n)][::-1])
        elif name in ("GLOBAL", "INST"):
            found = _look_up(*argument.split(" ", 1))
            if name == "INST":
                raise Refused("it makes objects of classes, which a file of tensors does not need")
            stack.append(found)
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_look_up(module, attribute))
        elif name == "REDUCE":
            arguments, function = _checked(stack.pop(), tuple, "a call's arguments"), stack.pop()
            if isinstance(function, Kind):
                stack.append(Beside(function.name))
            elif any(function is known for known in CALLABLE):
                stack.append(function(*arguments))
            else:
                raise Refused("it calls something that is no function")
        elif name == "NEWOBJ" and isinstance(stack[-2], Kind):
            stack.pop()
            stack.append(Beside(stack.pop().name))
        elif name == "BUILD":  # an OrderedDict's attributes are the versions of PyTorch's modules
            state = stack.pop()
            if isinstance(_checked(stack[-1], (dict, Beside, NumberType), "what attributes are given to"), NumberType):
                stack[-1].build(state)
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        else:
            raise Refused(f"it uses the instruction {name}, which a file of tensors does not need")

    def _fill(self, name: str, items: list[Any]) -> None:
        """Make a tuple of items, or add them to the list or the dictionary on top of the stack."""
        if name.startswith("TUPLE"):
            self.stack.append(tuple(items))
        elif isinstance(self.stack[-1], Beside):
            pass
        elif name.startswith("APPEND"):
            _checked(self.stack[-1], list, "what is appended to").extend(items)
        elif name == "ADDITEMS":
            raise Refused("it adds to a set that is none")
        else:
            target = _checked(self.stack[-1], dict, "what items are set in")
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_checked(key, (str, int), "a dictionary's key")] = value
