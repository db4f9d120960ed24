"""Files that are written whole or not at all.

A file is written under another name beside the old one, and then renamed over it. So a reader finds the old file or the new
one, never half of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all; UserError if that fails (no space, no permission), and the old file is kept."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except OSError as e:
        kept = f"; the earlier {path.name} is untouched" if path.exists() else ""
        raise UserError(
            f"cannot write {path}: {e.strerror or e}{kept}. Free some space or choose another folder"
        ) from e
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def beside(path: Path, keep: bool = True) -> Iterator[Path]:
    """A file or folder to write beside `path`, which replaces it when the block ends.

    Without `keep`, or if the block raises, it is deleted instead. UserError if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if keep and path.is_dir():
            shutil.rmtree(path)
        if keep:
            os.replace(part, path)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}. Free some space or choose another folder") from e
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
