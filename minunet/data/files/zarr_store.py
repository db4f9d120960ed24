"""A zarr store that checks chunks before they are decompressed.

Chunks of Blosc, LZ4 and Zstandard begin with the size of the decompressed data, and the decompressors allocate that much memory
at once: Blosc up to 2 GiB for 100 bytes of a damaged file. A Blosc chunk also holds its compressed length, which numcodecs does
not check: if a file is cut off, it reads the memory behind the chunk, which can crash the process (numcodecs, issue 228).
Chunks of deflate, bzip2 and LZMA do not say how large they become. Where one could become very large, it is first decompressed
piece by piece, to count.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import math
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from zarr.abc.store import SuffixByteRequest
from zarr.storage import LocalStore, WrapperStore

from ...errors import UserError

ZSTD = 0xFD2FB528
FRAME_SIZES = (1, 2, 4, 8)  # bytes of a Zstandard frame's content size, by the two upper bits of its descriptor
BLOSC_HEAD = 16  # bytes
PATIENCE = 5.0  # seconds
FREE = 1 << 28  # bytes to which a chunk may grow unchecked
PIECE = 1 << 20  # bytes at once
# of codecs that do not say their size: the most bytes from one byte, and what decompresses piece by piece
GROWING: dict[str, tuple[int, Callable[[], Any]]] = {
    "gzip": (1032, lambda: zlib.decompressobj(31)), "zlib": (1032, zlib.decompressobj),
    "bz2": (20_000, bz2.BZ2Decompressor), "lzma": (10_000, lzma.LZMADecompressor),
}  # fmt: skip
NO_CHUNK = (1 << 64) - 1  # where a shard's index has no chunk


class CheckedStore(WrapperStore[LocalStore]):
    """The files under a path; after `expect`, chunks that claim to be larger than they can be are refused."""

    most: int | None = None
    codec = ""
    sums = 0  # bytes of check sums behind a chunk
    shard: ShardIndex | None = None
    loop: asyncio.AbstractEventLoop | None = None  # zarr's, in a thread of its own of this process:
    process = 0

    def expect(self, array: Any) -> None:
        """Note the size of the array's chunks, and check every chunk that is read from here on."""
        chunk = array.dtype.itemsize
        for n in array.shards or array.chunks:
            chunk *= n
        self.most = 8 * chunk + (1 << 20)
        codecs = [type(codec).__name__.removesuffix("Codec").lower() for codec in array.compressors]
        while codecs and codecs[-1] == "crc32c":
            codecs.pop()
            self.sums += 4
        self.codec = codecs[-1] if codecs else ""
        if array.shards:
            self.shard = ShardIndex(array, self._store.root)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """If reading fails, wait for the chunks being read at the same time: Python would complain of unfinished tasks."""
        try:
            yield
        except Exception:
            here = self.process == os.getpid()  # in a process forked since, that loop does not run
            if self.loop is not None and here:
                asyncio.run_coroutine_threadsafe(others_end(), self.loop).result()
            raise

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.loop, self.process = asyncio.get_running_loop(), os.getpid()
        found = await super().get(key, prototype, byte_range)
        if found is not None and self.most is not None:
            for chunk in [found] if self.shard is None else self.shard.chunks(found, byte_range):
                self._check(chunk[:20].to_bytes(), len(chunk) - self.sums, key)
                growth = GROWING.get(self.codec, (0, None))[0]
                if growth * len(chunk) > FREE and grows_beyond(self.most, self.codec, chunk.to_bytes()):
                    raise UserError(
                        f"{self._store.root / key}: a chunk becomes too large; it is damaged, copy it again"
                    )
        return found

    def _check(self, head: bytes, size: int, key: str) -> None:
        path = self._store.root / key
        if size <= 0:  # zarr would take it for blank
            raise UserError(f"{path}: is empty, or its index points behind its end; it is damaged, copy it again")
        if self.codec == "blosc" and (size < BLOSC_HEAD or size < int.from_bytes(head[12:16], "little")):
            raise UserError(f"{path}: a chunk of {size:,} bytes lacks its end; it is cut off or damaged, copy it again")
        at = {"blosc": 4, "lz4": 0}.get(self.codec)
        claimed = 0 if at is None else int.from_bytes(head[at : at + 4], "little")
        if self.codec == "zstd":
            claimed = zstd_size(head)
        if claimed > (self.most or 0):
            raise UserError(f"{path}: claims {claimed:,} bytes; it is damaged, copy it again")


def grows_beyond(most: int, codec: str, data: bytes) -> bool:
    """Whether a chunk of deflate, bzip2 or LZMA has more than so many bytes when it is decompressed; False if it is damaged."""
    seen = 0
    with suppress(zlib.error, OSError, EOFError, lzma.LZMAError):
        while data and seen <= most:  # several streams may follow each other
            stream = GROWING[codec][1]()
            while not stream.eof and seen <= most:
                found = stream.decompress(data, PIECE)
                data = getattr(stream, "unconsumed_tail", b"")  # the others keep it themselves
                seen += len(found)
                if not found:
                    return False  # it is cut off
            data = stream.unused_data
    return seen > most


async def others_end() -> None:
    """Wait for all other tasks, at most PATIENCE seconds, and retrieve their errors."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        for task in (await asyncio.wait(others, timeout=PATIENCE))[0]:
            task.cancelled() or task.exception()


class ShardIndex:
    """The index of a shard, a file of many chunks: (offset, length) of every chunk, at the file's start or end."""

    def __init__(self, array: Any, path: Any):
        described = array.metadata.to_dict()["codecs"][0]["configuration"]
        steps = [codec["name"] for codec in described["index_codecs"]]
        ends = described["index_codecs"][0].get("configuration", {}).get("endian")
        nested = any(codec["name"] == "sharding_indexed" for codec in described["codecs"])
        self.known = steps in (["bytes"], ["bytes", "crc32c"]) and ends == "little" and not nested
        if not self.known and "'blosc'" in str(described):
            raise UserError(
                f"{path}: Blosc in shards within shards, or with an index unlike zarr's default, cannot be checked "
                "before it is read; rewrite it without"
            )
        self.at_start = described["index_location"] == "start"
        self.numbers = 16 * math.prod(n // m for n, m in zip(array.shards, array.chunks))  # bytes
        self.size = self.numbers + 4 * (len(steps) - 1)

    def chunks(self, found: Any, byte_range: Any) -> list:
        """The chunks in what was read, which is a whole shard, one of its chunks, or its index alone."""
        if not self.known:
            return []
        if byte_range is not None:
            is_index = byte_range.start == 0 if self.at_start else isinstance(byte_range, SuffixByteRequest)
            return [] if is_index else [found]
        if len(found) < self.size:
            return [found]  # too short for its index: `_check` refuses it
        first = 0 if self.at_start else len(found) - self.size
        index = np.frombuffer(found[first : first + self.numbers].to_bytes(), "<u8").reshape(-1, 2).tolist()
        return [found[offset : offset + n] for offset, n in index if offset != NO_CHUNK]


def zstd_size(head: bytes) -> int:
    """The decompressed size in a Zstandard frame's header (its first 20 bytes); 0 if it is no frame or does not say."""
    if int.from_bytes(head[:4], "little") != ZSTD or len(head) < 6:
        return 0
    descriptor = head[4]
    single = descriptor >> 5 & 1
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    size = FRAME_SIZES[descriptor >> 6] if descriptor >> 6 or single else 0
    return int.from_bytes(head[start : start + size], "little")
