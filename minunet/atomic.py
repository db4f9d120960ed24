"""Files that are written whole or not at all.

A file is written under another name beside the old one, and then renamed over it. So a reader finds the old file or the new
one, never half of one. What a process that was killed has left of such files is deleted by the next one that writes there.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from .errors import UserError

PART = re.compile(
    r"\..*\.([0-9a-f]{8})-(\d+)-\d+\.part", re.DOTALL
)  # a half-written file: whose host and process it is
LONGEST = 255  # bytes of a file's name

_numbers = count()
_writing: set[Path] = set()  # what this process is writing now
_tidied: set[Path] = set()  # folders in which this process has deleted what others left


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all; UserError if that fails (no space, no permission), and the old file is kept."""
    with beside(Path(path)) as part, open(part, "wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())


def check_writable(path: Path | str) -> None:
    """UserError if a file could not be written there: tried before work is done for it, not after."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        part.unlink()
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}. Choose another place") from e


@contextmanager
def beside(path: Path, keep: bool = True) -> Iterator[Path]:
    """A file or folder to write beside `path`, which replaces it when the block ends.

    Without `keep`, or if the block raises, it is deleted instead. UserError if it cannot be written; the old one is kept.
    """
    if path.parent not in _tidied:
        _tidied.add(path.parent)
        remove_orphans(path.parent)
    part, old = beside_name(path), beside_name(path)
    _writing.update((part, old))
    try:
        yield part
        if keep and part.is_dir() and path.is_dir():
            os.replace(path, old)  # a folder does not replace one that holds something
        if keep:
            os.replace(part, path)
    except OSError as e:
        with suppress(OSError):
            if old.exists():
                os.replace(old, path)
        kept = f"; the earlier {path.name} is untouched" if os.path.exists(path) else ""
        raise UserError(
            f"cannot write {path}: {e.strerror or e}{kept}. Free some space or choose another folder"
        ) from e
    finally:
        for made in (part, old):
            remove(made)
            _writing.discard(made)


def beside_name(path: Path) -> Path:
    """A new hidden name beside `path`, which tells this host and process."""
    ending = f".{host_mark()}-{os.getpid()}-{next(_numbers)}.part"
    name = os.fsencode(path.name)[: LONGEST - len(ending) - 1]
    return path.with_name(f".{name.decode('utf-8', 'ignore')}{ending}")


def remove_orphans(folder: Path) -> None:
    """Delete what processes of this host that no longer live have left half-written in a folder."""
    with suppress(OSError):
        for name in os.listdir(folder):
            found = PART.fullmatch(name)
            if found and found[1] == host_mark() and not is_writing(int(found[2]), folder / name):
                remove(folder / name)


def is_writing(process: int, part: Path) -> bool:
    """Whether a process of this host may still be writing a file."""
    if process == os.getpid():  # or an earlier one of that number, as in containers, where numbers are few
        return part in _writing
    return is_alive(process)


def is_alive(process: int) -> bool:
    """Whether there may be a process of that number on this host."""
    if os.name == "nt":  # where `os.kill` ends a process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


def remove(path: Path) -> None:
    """Delete a file or a folder as far as that is possible; an error here would hide the one that matters."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@cache
def host() -> str:
    """This machine's name."""
    import platform

    return platform.node() or "this machine"


def host_mark() -> str:
    """Eight digits that stand for this machine's name."""
    return f"{zlib.crc32(host().encode('utf-8', 'replace')):08x}"
