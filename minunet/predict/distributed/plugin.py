"""What a worker does when it joins: it loads the network, and computes on its share of the cores.

The module needs Dask; only `cluster` imports it, and workers do.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from distributed.diagnostics.plugin import WorkerPlugin

from ...checkpoint.load import load
from ...data.files.large_zarr import import_zarr
from ...errors import UserError
from ...kernels.device import select_device
from ...kernels.threads import set_threads
from ...models.trace import input_channels
from ..inference import predict_logits
from .page import digest
from .tasks import use_model


class NetworkPlugin(WorkerPlugin):
    """Loads the network, once a worker.

    Parameters
    ----------
    models : list of str
        As `minunet.load` takes them, with absolute paths.
    weights : str
        Their `digest`, so that no worker has others under the same names.
    device : str
        As --device.
    threads : int, optional
        To compute on; by default as many as the worker has in Dask's eyes.
    """

    name = "minunet"

    def __init__(self, models: list[str], weights: str, device: str, threads: int | None) -> None:
        self.models, self.weights, self.device, self.threads = models, weights, device, threads

    def setup(self, worker: Any) -> None:
        """Called by Dask in every worker, in those that join later, too."""
        threads = self.threads or worker.state.nthreads
        os.environ["NUMBA_NUM_THREADS"] = os.environ.get("NUMBA_NUM_THREADS", str(threads))  # before numba is loaded
        set_threads(threads)
        model = load(*self.models)
        if digest(model) != self.weights:
            raise UserError(f"{', '.join(self.models)}: the worker {worker.address} has other weights under that name")
        use_model(model.convert(select_device(self.device).asarray))
        import_zarr("workers")  # which takes 200 MB, and is to be counted before work begins
        n = max(model.fit_size(64), 64)
        predict_logits(model, np.zeros((1, n, n, input_channels(model)), np.float32))  # loads the kernels
