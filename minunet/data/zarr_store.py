"""A zarr store that looks at chunks before they are decompressed.

Blosc's and Zstandard's chunks begin with the size that they will have, and the decompressors take that much memory at once:
Blosc up to 2 GiB for 100 bytes of a damaged file. Of a shard that is read as a whole only the first chunk is looked at.
"""

from __future__ import annotations

from typing import Any

from zarr.storage import LocalStore, WrapperStore

from ..errors import UserError

ZSTD = 0xFD2FB528
FRAME_SIZES = (1, 2, 4, 8)  # bytes of a Zstandard frame's content size, by the two upper bits of its descriptor


class CheckedStore(WrapperStore[LocalStore]):
    """The files under a path; after `expect`, chunks that claim to be too large are refused."""

    most: int | None = None
    blosc = False

    def expect(self, array: Any) -> None:
        """From here on chunks of this array are read: of its chunks' size, or somewhat more if they are filtered."""
        chunk = array.dtype.itemsize
        for n in array.shards or array.chunks:
            chunk *= n
        self.most = 8 * chunk + (1 << 20)
        self.blosc = any("blosc" in type(codec).__name__.lower() for codec in array.compressors)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        if found is not None and self.most is not None:
            claimed = claimed_size(found[:20].to_bytes(), self.blosc)
            if claimed > self.most:
                raise UserError(f"{self._store.root / key}: claims {claimed:,} bytes; it is damaged, copy it again")
        return found


def claimed_size(head: bytes, blosc: bool) -> int:
    """Bytes that compressed data say they will have, from their first 20; 0 if they do not say."""
    if int.from_bytes(head[:4], "little") == ZSTD and len(head) > 5:
        descriptor = head[4]
        single = descriptor >> 5 & 1
        start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
        size = FRAME_SIZES[descriptor >> 6] if descriptor >> 6 or single else 0
        return int.from_bytes(head[start : start + size], "little")
    size = int.from_bytes(head[4:8], "little") if blosc else 0
    return size if size < 1 << 31 else 0  # what is larger Blosc refuses; a shard's index may look like that
