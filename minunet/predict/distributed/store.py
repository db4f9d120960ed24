"""What the tasks of one image share on the disk: results that grow, and records of what is done.

.X.parts/                  beside the results of an image X; deleted when they are complete
    job.json               what was asked for: a later run goes on only if it asks for the same
    mask.zarr, ...         results, of their full size from the start
    done/segment-0-3.npz   what a task has returned: there once its shard is whole, and not before
    objects/, tables.npz   what later tasks need of earlier ones' results
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import beside, write_atomically
from ...errors import UserError
from ..writers import FileOutputs, ZarrWriter, make_zarr
from .plan import Grid

Place = tuple[int, int]  # row and column of a shard, or of a block
Arrays = dict[str, np.ndarray]


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays by names into one .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load_arrays(path: Path) -> Arrays:
    """What `save_arrays` has written."""
    with np.load(path) as held:
        return dict(held)


class Records:
    """What tasks have returned, by their names and places."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / "done"

    def path(self, name: str, place: Place) -> Path:
        """The file of a task."""
        return self.folder / f"{name}-{place[0]}-{place[1]}.npz"

    def get(self, name: str, place: Place) -> Arrays | None:
        """What a task has returned; None if it is not done."""
        try:
            return load_arrays(self.path(name, place))
        except FileNotFoundError:
            return None

    def put(self, name: str, place: Place, found: Arrays) -> None:
        """Note that a task is done."""
        save_arrays(self.path(name, place), found)


@contextmanager
def work_folder(path: Path, job: str) -> Iterator[None]:
    """A folder for the results of an image while they grow: that of an earlier run of the same job, or an empty one.

    It stays there if the block raises, and is deleted at its end. UserError if another process works there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0, thread_local=False)
    try:
        with lock:
            stated = path / "job.json"
            if not stated.exists() or stated.read_text(encoding="utf-8") != job:
                shutil.rmtree(path, ignore_errors=True)
                (path / "done").mkdir(parents=True)
                write_atomically(stated, job.encode())
            yield
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                os.unlink(lock.lock_file)
    except Timeout:
        raise UserError(
            f"{path.parent}: another process writes the same results there; wait for it, or choose another --output"
        ) from None
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; choose another --output") from e


class SharedOutputs(FileOutputs):
    """Results in the work folder, moved to where they belong at the end. Its `new` is that of `FileOutputs`.

    Parameters
    ----------
    final : FileOutputs
        Where they belong.
    folder : Path
    grid : Grid
        How zarrs are divided into shards unless `new` is told otherwise.
    """

    def __init__(self, final: FileOutputs, folder: Path, grid: Grid) -> None:
        super().__init__(final.base, final.pixel)
        self.files, self.folder, self.grid = final.files, folder, grid
        self.kept: list[str] = []

    def place(self, what: str) -> Path:
        """Where a result belongs."""
        return self.base.with_name(f"{self.base.name}_{what}.zarr")

    @contextmanager
    def new(
        self, image: Any, what: str, dtype: Any, planes: int = 1, samples: int = 1, keep: bool = True,
        grid: Grid | None = None,
    ) -> Iterator[ZarrWriter]:  # fmt: skip
        """A result, as an earlier run has left it or all 0."""
        path, (chunk, shard), planes = self.folder / f"{what}.zarr", grid or self.grid, planes * samples
        if not path.exists():
            with beside(path) as part:
                make_zarr(part, self.place(what).stem, image.shape[:2], dtype, planes, self.pixel, chunk, shard)
        yield open_result(self.folder, what)
        if keep:
            self.kept.append(what)

    def finish(self) -> None:
        """Move the results to where they belong."""
        for what in self.kept:
            for left in (self.folder / f"{what}.zarr").rglob("*.partial"):  # zarr's, of a worker that was killed
                left.unlink(missing_ok=True)
            os.replace(self.folder / f"{what}.zarr", self.place(what))
            self.files.append(self.place(what))


class ShardWriter(ZarrWriter):
    """Whole shards of a zarr, each written by one task."""

    def __init__(self, path: Path) -> None:
        import zarr

        array = zarr.open_array(str(path), mode="r+")
        super().__init__(array, array.shape[0] if array.ndim == 3 else 1)
        self.path = path

    def __setitem__(self, part: tuple[slice, slice], values: np.ndarray) -> None:
        """Write a shard; one that a killed worker has left torn is replaced.

        Zarr reads a shard at the image's end before it writes it, as the image covers only a part of it.
        """
        try:
            super().__setitem__(part, values)
        except OSError:
            raise
        except Exception:
            row, column = (s.start // n for s, n in zip(part, self.array.shards[-2:]))
            for plane in [f"{p}/" for p in range(self.planes)] if self.planes > 1 else [""]:
                (self.path / f"c/{plane}{row}/{column}").unlink(missing_ok=True)
            super().__setitem__(part, values)


def open_result(folder: str | Path, what: str) -> ShardWriter:
    """A result that `SharedOutputs` has made, to be read and written."""
    return ShardWriter(Path(folder) / f"{what}.zarr" / "0")
