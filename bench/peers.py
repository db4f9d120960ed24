"""The contestants: one network, built by minunet, PyTorch and OpenVINO, as functions that do one inference or training step.

A training step is forward, softmax cross-entropy, backward, and SGD with momentum. All compute in float32, or all in mixed
precision, on as many threads, with weights of their own: time and memory do not depend on the numbers.

    python bench/peers.py SETTING FILE      write PyTorch's network as an OpenVINO model (SETTING is JSON)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import minunet as mn
from minunet.kernels.device import select_device
from minunet.models import UNet
from minunet.ops.lazy import fusion_scope
from minunet.optim import SGD
from minunet.train.amp import MixedPrecision

CHANNELS, CLASSES, DEPTH = 3, 2, 4
RATE, MOMENTUM = 1e-3, 0.9
Runner = Callable[[], None]


@dataclass(frozen=True)
class Setting:
    """What is the same for all contestants and sizes."""

    device: str = "cpu"
    base_width: int = 64
    batch: int = 1
    norm: str | None = "batch"
    threads: int = 1
    amp: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Its fields; `amp` only if there is one."""
        return {name: value for name, value in asdict(self).items() if name != "amp" or value}

    def describe(self) -> str:
        """The setting in words, for captions."""
        norm = "BatchNorm" if self.norm else "no norm"
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        products = " with products in TF32" if self.device == "cuda" else ""
        numbers = f"mixed precision ({self.amp})" if self.amp else f"float32{products}"
        return f"batch {self.batch}, base width {self.base_width}, {norm}, {numbers}{threads}"


def network(s: Setting) -> UNet:
    """Our network of a setting."""
    return UNet(CHANNELS, CLASSES, base_width=s.base_width, depth=DEPTH, norm=s.norm)


def images(s: Setting, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images (N, H, W, C) and their labels (N, H, W)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((s.batch, size, size, CHANNELS), np.float32)
    return x, rng.integers(0, CLASSES, x.shape[:3])


# ---- minunet ---------------------------------------------------------------------------------------------------------


def minunet(s: Setting, size: int, what: str, graph: bool = False) -> Runner:
    """One inference, or one training step, with minunet; as a CUDA graph if asked."""
    xp: Any = select_device(s.device)
    x, labels = map(xp.asarray, images(s, size))
    net = network(s).convert(xp.asarray)
    mixed = MixedPrecision(net, s.amp) if s.amp else None
    run: Any = mixed or net
    finish = (lambda: None) if xp is np else xp.cuda.Device().synchronize

    def forward(x: Any) -> Any:
        return run.forward(x, train=False, keep=False)[0]

    if what == "inference":
        replay_forward = as_graph(forward, xp) if graph else forward

        def infer() -> None:
            replay_forward(x)
            finish()

        return infer
    optimizer = SGD(net, RATE, momentum=MOMENTUM)
    portions = None if xp is np or mixed else import_module("minunet.train.portions").Portions(net, optimizer)

    @fusion_scope  # as in training
    def update(x: Any, labels: Any) -> Any:
        run.zero_grad()
        logits, cache = run.forward(x)
        loss, loss_cache = mn.ops.softmax_cross_entropy(logits, labels)
        with portions.used() if portions else nullcontext():
            run.backward(mn.ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
        if graph or not (mixed and mixed.overflowed):
            optimizer.apply()
        return loss

    if graph:
        held = optimizer.hold()
        if mixed:
            mixed.hold(held[-1:])
    replay = as_graph(update, xp) if graph else update

    def step() -> None:
        optimizer.advance()
        if graph and mixed:
            mixed.advance()
        replay(x, labels)
        if graph and mixed:
            mixed.look()
        finish()

    return step


def as_graph(function: Callable[..., Any], xp: Any) -> Callable[..., Any]:
    """A function of arrays on the GPU, recorded and replayed; RuntimeError if it cannot be."""
    from minunet.train.cuda_graph import RecordedStep

    recorded = RecordedStep(function, xp)

    def run(*arrays: Any) -> Any:
        y = recorded(*arrays)
        if recorded.refused:
            raise RuntimeError("it cannot be recorded as a graph")
        return y

    return run


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def torch_unet(s: Setting, channels: int = CHANNELS, classes: int = CLASSES) -> Any:
    """The same network from PyTorch's layers."""
    from torch import cat, nn

    def block(i: int, o: int) -> nn.Module:
        layers: list[nn.Module] = []
        for a, b in ((i, o), (o, o)):
            norm = [nn.BatchNorm2d(b)] if s.norm else []
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=not s.norm), *norm, nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            w = [s.base_width * 2**i for i in range(DEPTH + 1)]
            self.down = nn.ModuleList(block(i, o) for i, o in zip([channels, *w], w))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * o, o, 2, 2) for o in w[:DEPTH])
            self.dec = nn.ModuleList(block(2 * o, o) for o in w[:DEPTH])
            self.head, self.pool = nn.Conv2d(w[0], classes, 1), nn.MaxPool2d(2)

        def forward(self, x):
            skips = []
            for block in self.down[:-1]:
                x = block(x)
                skips.append(x)
                x = self.pool(x)
            x = self.down[-1](x)
            for i in reversed(range(DEPTH)):
                x = self.dec[i](cat([skips.pop(), self.up[i](x)], 1))
            return self.head(x)

    return Net()


def pytorch(s: Setting, size: int, what: str, layout: str, compiled: bool = False) -> Runner:
    """One inference, or one training step, with PyTorch in a memory format, eager or compiled."""
    import torch

    torch.set_num_threads(s.threads)
    torch.backends.cudnn.benchmark = True  # let it choose its algorithms by measuring, in the warm-up
    # on a GPU float32 means the same for both: our kernels round factors of a product to TF32, as cuDNN does by default
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = s.device == "cuda"
    form = getattr(torch, layout)
    x, labels = (torch.as_tensor(a, device=s.device) for a in images(s, size))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=form)
    net = torch_unet(s).to(device=s.device, memory_format=form).train(what == "training")
    run = torch.compile(net) if compiled else net
    finish = torch.cuda.synchronize if s.device == "cuda" else lambda: None
    half = torch.bfloat16 if s.amp == "bf16" else torch.float16
    casting = partial(torch.autocast, s.device, dtype=half, enabled=s.amp is not None)

    def infer() -> None:
        with torch.inference_mode(), casting():
            run(x)
        finish()

    if what == "inference":
        return infer
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM)

    scaler = torch.amp.GradScaler(s.device, enabled=s.amp == "fp16")

    def step() -> None:
        optimizer.zero_grad()
        with casting():
            loss = torch.nn.functional.cross_entropy(run(x), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        finish()

    return step


# ---- OpenVINO --------------------------------------------------------------------------------------------------------


def openvino(s: Setting, size: int, what: str) -> Runner:
    """One inference with OpenVINO."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/unet.xml"  # written by another process: neither PyTorch nor the conversion is to count here
        subprocess.run([sys.executable, __file__, json.dumps(asdict(s)), file], check=True)
        core = ov.Core()
        model = core.read_model(file)
        model.reshape([s.batch, CHANNELS, size, size])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": s.threads, "PERFORMANCE_HINT": "LATENCY"}
        request = core.compile_model(model, "CPU", options).create_infer_request()
    x = np.ascontiguousarray(np.moveaxis(images(s, size)[0], -1, 1))
    return lambda: request.infer([x], share_inputs=True, share_outputs=True)


def export(s: Setting, file: str) -> None:
    """Write PyTorch's network as an OpenVINO model, its weights kept in float32."""
    import openvino as ov
    import torch

    side = 2 ** (DEPTH + 1)
    model = ov.convert_model(torch_unet(s).eval(), example_input=torch.zeros(s.batch, CHANNELS, side, side))
    ov.save_model(model, file, compress_to_fp16=False)


# ---- who there is ----------------------------------------------------------------------------------------------------

BUILD: dict[str, Callable[[Setting, int, str], Runner]] = {
    "minunet": minunet,
    "minunet graph": partial(minunet, graph=True),
    "PyTorch NCHW": partial(pytorch, layout="contiguous_format"),
    "PyTorch channels_last": partial(pytorch, layout="channels_last"),
    "PyTorch compiled": partial(pytorch, layout="channels_last", compiled=True),
    "OpenVINO": openvino,
}
LAYOUTS = ("PyTorch NCHW", "PyTorch channels_last")

PEERS = {
    "graph": ("minunet graph",),
    "torch": LAYOUTS,
    "torch-compile": ("PyTorch compiled",),
    "openvino": ("OpenVINO",),
}
NEEDS = {"graph": (), "torch": ("torch",), "torch-compile": ("torch",), "openvino": ("openvino", "torch")}
MODULES = {
    "minunet": "minunet.kernels",
    "minunet graph": "minunet.kernels",
    "PyTorch": "torch",
    "PyTorch compiled": "torch",
    "OpenVINO": "openvino",
}
FAMILIES = ("published", *MODULES)


def family(who: str) -> str:
    """PyTorch's two layouts are one contestant, of which the better counts."""
    return "PyTorch" if who in LAYOUTS else who


def can(who: str, s: Setting, what: str) -> bool:
    """Whether a contestant does this at all: OpenVINO infers only, and only on the CPU; graphs are for a GPU."""
    if who == "minunet graph":
        return s.device == "cuda"
    return who != "OpenVINO" or (what == "inference" and s.device == "cpu")


if __name__ == "__main__":
    export(Setting(**json.loads(sys.argv[1])), sys.argv[2])
