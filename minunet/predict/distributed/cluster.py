"""The workers that segment an image: those of a Dask scheduler, or processes of this machine.

What can go wrong with them is looked for before work begins: no scheduler, no worker, a worker without minunet, with another
version, or without the image.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ... import __version__
from ...data.files.large import is_zarr
from ...errors import UserError, extra
from ...kernels.gpu import GIB
from ...kernels.threads import own_cores
from ...nn import Module
from ..options import PredictionOptions
from ..pipeline import OneProcess
from ..progress import Progress
from ..tiles import best_tile
from ..writers import FileOutputs
from .job import Job
from .local import local_cluster
from .page import SharedPage, digest
from .store import Arrays, Place
from .tasks import STEPS, do

ANSWER = 10  # seconds that a scheduler has to answer
PATIENCE = 120  # seconds without a single worker, after which the prediction ends
USED = 0.8  # of a worker's memory limit: at more Dask pauses it


class Worker(NamedTuple):
    """What a worker tells of itself."""

    host: str
    version: str
    free: int
    limit: int
    resident: int


class Cluster(OneProcess):
    """Workers that run tasks."""

    def __init__(self, client: Any, name: str, flag: str) -> None:
        self.client, self.name, self.flag = client, name, flag
        self.workers: dict[str, Worker] = {}
        self.told = 0  # bytes that a worker was predicted to have at most, for the last image

    # ---- who is there ------------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Wait for a worker, and ask all what they are; UserError if there is none, or one that cannot work."""
        with suppress(TimeoutError):
            self.client.wait_for_workers(1, timeout=PATIENCE)
        answers = self.client.run(asking(), __version__, on_error="return")
        if not answers:
            raise UserError(f"{self.name} has no workers: start some, as `dask worker ADDRESS --nthreads 1` does")
        for address, answer in answers.items():
            if not isinstance(answer, dict):
                raise UserError(f"the worker {address} cannot be asked: {answer}")
            if answer["version"] != __version__:
                found = answer["version"] or f"no minunet ({answer['why']})"
                raise UserError(
                    f"the worker {address} has {found}, and here is minunet {__version__}: install the same"
                )
            answer.pop("why")
            self.workers[address] = Worker(**answer)

    def equip(self, models: list[str], model: Module, device: str, threads: int | None) -> None:
        """Have all workers load the network, also those that join later."""
        from .plugin import NetworkPlugin

        paths = [str(Path(m).absolute()) for m in models if Path(m).exists()]
        self.check_paths(paths)
        whole = [str(Path(m).absolute()) if Path(m).exists() else m for m in models]
        self.client.register_plugin(NetworkPlugin(whole, digest(model), device, threads))
        self.meet()  # their memory, now with the network

    def check_paths(self, paths: list[str]) -> None:
        """UserError if a worker does not see a file or folder."""
        for path in paths:
            for address, there in self.client.run(os.path.exists, path).items():
                if not there:
                    raise UserError(
                        f"the worker {address} does not see {path}: it has to be on a disk that all machines share"
                    )

    def _each(self) -> int:
        """Bytes that the worker with the least memory can have beside what it has now."""
        hosts = [w.host for w in self.workers.values()]
        shares = [w.free // hosts.count(w.host) for w in self.workers.values()]
        limits = [int(USED * w.limit) - w.resident for w in self.workers.values() if w.limit]
        return max(1, min(shares + limits))

    # ---- as OneProcess -----------------------------------------------------------------------------------------------

    def check(self, path: Path) -> None:
        if not is_zarr(path):
            raise UserError(
                f"{path}: with {self.flag} images are OME-Zarr, which many processes read and write; convert it"
            )
        self.check_paths([str(path.absolute())])

    def tile(self, model: Module) -> int:
        return best_tile(model, self._each() // 2)

    def page(
        self, model: Module, image: Any, outputs: Any, options: PredictionOptions, progress: Progress
    ) -> SharedPage:  # fmt: skip
        assert isinstance(outputs, FileOutputs)  # as `check` has seen
        return SharedPage(self, model, image, outputs, options, progress)

    # ---- as Crew -----------------------------------------------------------------------------------------------------

    def explain(self, page: SharedPage) -> str:
        self.check_paths([str(Path(page.job.folder).parent)])
        need, there = page.memory(), self._each()
        if need > there:
            raise UserError(
                f"a worker needs {need / GIB:.2f} GiB more for a shard, and {there / GIB:.2f} GiB are free for each: use fewer "
                "workers on a machine, or a smaller --tile"
            )
        self.told = max(w.resident for w in self.workers.values()) + need
        workers = f"{len(self.workers)} worker{'s' * (len(self.workers) > 1)}"
        return f"{len(page.shards)} shards for {workers}, each with {self.told / GIB:.2f} GiB of memory at most"

    def run(self, job: Job, name: str, places: list[Place], done: Callable[[], None]) -> dict[Place, Arrays]:
        """Run tasks, as many at a time as there are workers: then one that dies takes only its own with it."""
        waiting, found, finished = deque(places), {}, queue.SimpleQueue()  # type: ignore[var-annotated]
        running: dict[str, tuple[Place, Any]] = {}
        roll = Roll(self.client)
        try:
            while waiting or running:
                while waiting and len(running) < roll.count():
                    place = waiting.popleft()
                    key = f"{name}-{place[0]}-{place[1]}-{os.urandom(4).hex()}"
                    future = self.client.submit(do, job, name, place, key=key, pure=False)
                    running[key] = place, future
                    future.add_done_callback(finished.put)
                try:
                    future = finished.get(timeout=1)
                except queue.Empty:
                    if roll.alone() > PATIENCE:
                        raise UserError(f"{self.name} has no workers any more; {GO_ON}") from None
                    continue
                place, _ = running.pop(future.key)
                found[place] = self._result(job, name, place, future)
                done()
        finally:
            with suppress(Exception):
                self.client.cancel([future for _, future in running.values()], force=True)
        return found

    def _result(self, job: Job, name: str, place: Place, future: Any) -> Arrays:
        """What a task has returned; UserError saying what became of it."""
        from distributed.scheduler import KilledWorker

        where = f"{job.image}: {STEPS[name]} of row {place[0]}, column {place[1]}"
        try:
            result: Arrays = future.result(timeout=ANSWER * 6)
            return result
        except UserError:
            raise
        except KilledWorker as e:
            raise UserError(
                f"{where} has ended {e.allowed_failures + 1} workers, most likely for lack of memory; use a smaller --tile or "
                f"fewer workers; {GO_ON}"
            ) from None
        except MemoryError:
            raise UserError(f"{where} ran out of memory; use a smaller --tile or fewer workers; {GO_ON}") from None
        except (OSError, RuntimeError, ValueError) as e:
            if future.cancelled() or isinstance(e, OSError):
                raise UserError(f"{where} was lost ({str(e) or type(e).__name__}); {GO_ON}") from e
            raise


GO_ON = "the same command goes on from where it was"


class Roll:
    """How many workers there are, asked at most once a second."""

    def __init__(self, client: Any) -> None:
        self.client, self.asked, self.number, self.seen = client, 0.0, 0, time.monotonic()

    def count(self) -> int:
        """The workers there are."""
        now = time.monotonic()
        if now - self.asked >= 1:
            with suppress(OSError):
                self.number = len(self.client.nthreads())
            self.asked = now
            self.seen = now if self.number else self.seen
        return self.number

    def alone(self) -> float:
        """Seconds since there was a worker."""
        self.count()
        return time.monotonic() - self.seen


def asking() -> Callable[..., dict[str, Any]]:
    """A function that tells what a worker is. It is sent by value, so that it runs where there is no minunet."""

    def ask(expected: str, dask_worker: Any = None) -> dict[str, Any]:
        import importlib
        import socket

        import psutil

        version, why = "", ""
        try:
            version = importlib.import_module("minunet").__version__
        except Exception as e:
            why = f"{type(e).__name__}: {e}"
        limit = getattr(dask_worker.memory_manager, "memory_limit", None)
        return {
            "host": socket.gethostname(), "version": version, "why": why, "free": psutil.virtual_memory().available,
            "limit": int(limit or 0), "resident": psutil.Process().memory_info().rss,
        }  # fmt: skip

    return ask


@contextmanager
def joined(
    model: Module, models: list[str], address: str | None = None, workers: int | None = None, device: str = "auto",
    threads: int | None = None,
) -> Iterator[Cluster]:  # fmt: skip
    """A cluster: of the scheduler at an address, or of so many workers on this machine.

    Parameters
    ----------
    model : Module
        The network as it is loaded here.
    models : list of str
        What it was loaded from, for the workers.
    address : str, optional
        Such as "tcp://10.0.0.1:8786".
    workers : int, optional
        Processes of this machine, if there is no address.
    device, threads : as the flags of the command, of each worker

    Raises
    ------
    UserError
        If Dask is not installed, nobody answers, or a worker cannot work.
    """
    flag = f"--dask {address}" if address else f"--workers {workers}"
    try:
        from distributed import Client
    except ImportError as e:
        raise UserError(f"{flag}: needs Dask: {extra('dask')}") from e
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if address is None:
            threads = threads or max(1, len(own_cores()) // (workers or 1))
            address = stack.enter_context(local_cluster(workers or 1, threads)).scheduler_address
        try:
            client = stack.enter_context(Client(address, timeout=ANSWER, set_as_default=False))
        except (OSError, ValueError) as e:
            said = f" ({str(e).splitlines()[0]})" if str(e) else ""
            raise UserError(
                f"{flag}: no scheduler answers there{said}; give the address that `dask scheduler` prints"
            ) from e
        cluster = Cluster(client, flag.replace("--dask", "the scheduler"), flag)
        cluster.meet()
        cluster.equip(models, model, device, threads)
        yield cluster
