"""The files that `torch.save` writes, and what is where in them.

Since PyTorch 1.6 they are zips without compression: NAME/data.pkl describes the tensors, NAME/data/KEY holds the bytes of a
storage, and NAME/byteorder, if it exists, says "little" or "big". Before, they were chains of pickles (a magic number, the
version, the system's byte order and sizes, the description, the storages' keys), followed by the storages in that order, each
as its count of numbers in eight bytes and the numbers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import UserError
from .pickles import Dtype, Refused, Storage, Tensor, read_pickle

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
MAX_PICKLE = 1 << 26


class TorchFile:
    """An open file: `content` describes the tensors, and `read` makes arrays of them.

    `unread` counts the bytes of the file that are not yet read as storages, `unclaimed` those that are not yet used by tensors.
    In a file that `torch.save` wrote, neither falls below 0. So a damaged file cannot claim more memory than its own size.
    """

    content: Any

    def __init__(self, file: BinaryIO) -> None:
        self.size = self.unread = self.unclaimed = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.order = "<"
        self.arrays: dict[tuple[str, Dtype], np.ndarray] = {}

    def read(self, tensor: Tensor) -> np.ndarray:
        """A tensor's values as a read-only array of its shape; bfloat16 becomes float32.

        Raises
        ------
        Refused
            If the file is too short for it, or all arrays together would be larger than the file.
        """
        storage, itemsize = tensor.storage, tensor.storage.dtype.itemsize
        key = storage.key, storage.dtype
        self.unclaimed -= tensor.size * itemsize
        self.unread -= storage.size * itemsize * (key not in self.arrays)
        if min(self.unclaimed, self.unread) < 0:
            raise Refused(f"its tensors together claim more than the {self.size:,} bytes of the file")
        if key not in self.arrays:
            self.arrays[key] = _numbers(self.bytes_of(storage), storage.dtype, self.order)
        numbers = self.arrays[key]
        strides = [s * numbers.itemsize for s in tensor.strides]
        if len(numbers) != storage.size:
            raise Refused(f"the storage {ascii(storage.key)[:40]} is described with two sizes")
        at = tensor.offset if tensor.size else 0
        return np.lib.stride_tricks.as_strided(numbers[at:], tensor.shape, strides, writeable=False)

    def bytes_of(self, storage: Storage) -> bytes | memoryview:
        """A storage's bytes; Refused if the file holds fewer or more."""
        raise NotImplementedError


class ZipFile(TorchFile):
    """The zip of PyTorch since 1.6."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.zip = zipfile.ZipFile(file)
        pickles = [n for n in self.zip.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused(f"it is a zip with {len(pickles)} files named data.pkl, one was expected")
        self.folder = pickles[0].removesuffix("data.pkl")
        if f"{self.folder}byteorder" in self.zip.namelist():
            order = self._entry("byteorder", 16).strip()
            if order not in (b"little", b"big"):
                raise Refused("its byte order is neither little nor big")
            self.order = "<" if order == b"little" else ">"
        self.content = read_pickle(io.BytesIO(self._entry("data.pkl", MAX_PICKLE)))

    def bytes_of(self, storage: Storage) -> bytes:
        return self._entry(f"data/{storage.key}", self.size, storage.size * storage.dtype.itemsize)

    def _entry(self, name: str, most: int, expected: int | None = None) -> bytes:
        """An entry's bytes; Refused before they are read if they are compressed, or not as many as expected."""
        try:
            entry = self.zip.getinfo(self.folder + name)
        except KeyError:
            raise Refused(f"it lacks {ascii(name)[1:-1][:60]}, which its description of the tensors names") from None
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Refused("it is compressed, which torch.save does not do: save it again with PyTorch")
        if entry.compress_size != entry.file_size:  # zipfile reads the one, and the other is checked below
            raise Refused(
                f"its entry {ascii(name)[1:-1][:60]} is stored in {entry.compress_size:,} bytes but holds others"
            )
        if entry.file_size > min(most, self.size) or expected not in (None, entry.file_size):
            claim = f"{expected:,}" if expected is not None else f"at most {most:,}"
            raise Refused(f"its entry {ascii(name)[1:-1][:60]} has {entry.file_size:,} bytes, expected were {claim}")
        if entry.CRC == 0:  # written after torch.serialization.set_crc32_options(False): there is nothing to check
            entry.CRC = None  # type: ignore[assignment]
        return self.zip.read(entry)


class PickleFile(TorchFile):
    """The chain of pickles before PyTorch 1.6."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        whole = io.BytesIO(file.read())
        magic, version = read_pickle(whole), read_pickle(whole)
        if not isinstance(magic, int) or magic != MAGIC:
            raise Refused("it is a pickle, but not of torch.save")
        if not isinstance(version, int) or version != 1001:
            raise Refused("it is of a version of torch.save that is not known")
        system = read_pickle(whole)
        if isinstance(system, dict) and system.get("little_endian") is False:
            self.order = ">"
        self.content = read_pickle(whole)
        self.keys, self.whole = read_pickle(whole), whole
        if not isinstance(self.keys, list) or not all(isinstance(key, str) for key in self.keys):
            raise Refused("its list of storages is damaged")
        self.start = whole.tell()
        self.places = self._places()

    def _places(self) -> dict[str, tuple[int, int]]:
        """For each storage the position of its numbers in the file, and their count."""
        sizes = {storage.key: storage.dtype.itemsize for storage in _storages(self.content)}
        places, at = {}, self.start
        view = self.whole.getbuffer()
        for key in self.keys:
            count = int(np.frombuffer(view[at : at + 8], f"{self.order}i8")[0])
            if key not in sizes or count < 0 or at + 8 + count * sizes[key] > self.size:
                raise Refused(f"it is cut short: {count:,} numbers of storage {ascii(key)[:40]} are not in it")
            places[key] = at + 8, count
            at += 8 + count * sizes[key]
        return places

    def bytes_of(self, storage: Storage) -> memoryview:
        at, count = self.places.get(storage.key, (0, -1))
        if count != storage.size:
            raise Refused(f"storage {ascii(storage.key)[:40]} has {count:,} numbers, {storage.size:,} are described")
        return self.whole.getbuffer()[at : at + count * storage.dtype.itemsize]


def _storages(content: Any) -> Iterator[Storage]:
    """The storages of all tensors in nested dictionaries, lists and tuples; each container is visited once."""
    waiting, seen = [content], set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, Tensor):
            yield found.storage
        elif isinstance(found, (dict, list, tuple)) and id(found) not in seen:
            seen.add(id(found))
            waiting.extend(found.values() if isinstance(found, dict) else found)


def _numbers(raw: bytes | memoryview, dtype: Dtype, order: str) -> np.ndarray:
    """A storage's bytes as numbers; bfloat16, the upper half of a float32, as float32."""
    if dtype.name != "bfloat16":
        return np.frombuffer(raw, f"{order}{np.dtype(dtype.name).str[1:]}")
    return (np.frombuffer(raw, f"{order}u2").astype(np.uint32) << 16).view(np.float32)


def is_torch_file(path: Path | str) -> bool:
    """Whether a file begins like those of `torch.save`, or is named .pth or .pt; a safetensors file has a brace in byte 8."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError:
        return False  # the reader's error will say why it cannot be read
    pickled = head[:1] == b"\x80" and head[8:] != b"{"
    return head[:4] == ZIP or pickled or Path(path).suffix.lower() in (".pth", ".pt")


@contextmanager
def open_torch(path: Path | str) -> Iterator[TorchFile]:
    """Open a file of `torch.save`; any error, also one that comes up while it is open, becomes a UserError of one line."""
    try:
        opened = open(path, "rb")  # noqa: SIM115
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}") from e
    try:
        with opened as file:
            yield ZipFile(file) if file.read(4) == ZIP else PickleFile(file)
    except UserError:
        raise
    except Refused as e:
        raise UserError(f"{path} is refused: {e}") from None
    except Exception as e:  # on mangled bytes zipfile and pickletools raise nearly anything
        reason = "".join(c if c.isprintable() else " " for c in str(e))[:120] or type(e).__name__
        raise UserError(
            f"{path} is cut short, damaged, or not from torch.save at all ({reason}); use another copy of it"
        ) from None
