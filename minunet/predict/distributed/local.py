"""The workers of this machine: Dask's processes, how they are started, and how they end.

Dask is imported where workers are started, so that a prediction without it needs none.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

ENDING = 30  # seconds that Dask has to end its workers
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # Ctrl-C is for the process that was started
DEATHS = 3  # of the workers that computed one task, after which it counts as what kills them


@contextmanager
def local_cluster(workers: int, threads: int) -> Iterator[Any]:
    """Dask's workers on this machine, each a process with so many threads to compute on."""
    import dask
    from distributed import LocalCluster
    from distributed.deploy.spec import close_clusters

    names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    env = {f"{name}_NUM_THREADS": str(threads) for name in names}
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,  # its number is that of deaths survived
        "distributed.nanny.pre-spawn-environ": env,
        "distributed.worker.memory.terminate": False,
    }
    # no memory limit: our kernels keep their memory for the next tile, and Dask would pause a worker for that
    with dask.config.set(settings), ExitStack() as stack:
        try:
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
                scheduler_kwargs={"dashboard_address": ":0"},  # its small HTTP server takes any port that is free
                silence_logs=logging.CRITICAL, preload=[DEAF],
            )  # fmt: skip
        except KeyboardInterrupt:
            # when Python ends Dask would fail to close what is not there yet; workers end by themselves
            atexit.unregister(close_clusters)
            raise
        stack.callback(end, cluster)
        yield cluster


def end(cluster: Any) -> None:
    """End the workers on this machine; kill them if Dask does not come to an end, as happens when its own thread is gone."""
    import psutil

    try:
        cluster.close(timeout=ENDING)
    except TimeoutError:
        for worker in cluster.workers.values():
            with suppress(psutil.Error):
                if worker.pid:
                    psutil.Process(worker.pid).kill()
