"""Checks a TIFF's LZW data before they are decoded: imagecodecs does not, and damaged data crash the process (2026.3.6, too).

LZW as in TIFF (revision 6.0, section 13): codes of 9 to 12 bits, the most significant bit first. 256 clears the table, 257 is
the end, any other code stands for a string of bytes. Each code but the first after a clear adds a string to the table, so a
code is valid if it is at most one more than the last one added.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CLEAR, END, TABLE = 256, 257, 4096


@njit(cache=True, nogil=True)
def is_sound(data: np.ndarray) -> bool:
    """Whether LZW data, a 1-D uint8 array, begin with a clear code and every code is in the table when it is used."""
    if len(data) < 2 or data[0] != 128 or data[1] > 127:
        return False
    width, added, after_clear = 9, END, False
    held, bits = np.int64(0), 0  # bits that were read but not used yet
    for byte in data:
        held, bits = np.int64(held << 8 | np.int64(byte)), bits + 8
        if bits < width:
            continue
        bits -= width
        code = held >> bits
        held = np.int64(held & (1 << bits) - 1)
        if code == END:
            return True
        if code == CLEAR:
            width, added, after_clear = 9, END, True
            continue
        if after_clear:  # a byte by itself
            if code > 255:
                return False
            after_clear = False
            continue
        added += 1
        if code > added or added >= TABLE:
            return False
        if added + 2 >= 1 << width and width < 12:  # TIFF widens one code early
            width += 1
    return True
