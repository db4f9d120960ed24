"""A network as an ONNX file, which other programs run.

As in `models.summary`, the model's own forward is followed with stand-ins for its leaves; here each adds the nodes that do the
same in ONNX. So there is no second description of the wiring that could drift.

ONNX has images and maps as (N, C, H, W), so the input is `image`, float32 (N, channels, H, W), and the output `logits`,
(N, classes, H, W). N, H and W are free, within what the network takes. Grey values come in normalised as in training and the
logits go out as they are: a description of both is in the file's documentation and metadata.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..array import to_numpy
from ..errors import UserError
from ..models.blocks import Join
from ..models.summary import RULES, stand_ins
from ..nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    GroupNorm,
    LeakyReLU,
    MaxPool2d,
    Module,
    ReLU,
    UpsampleBilinear,
    UpsampleNearest,
)
from ..ops.conv import resolve_padding

OPSET, IR_VERSION = 17, 8  # of 2022: what reads ONNX reads these

GREY_VALUES = {
    "percentile": "the 0.5th and 99.5th percentile of each image, over all channels, mapped to 0 and 1, clipped at -1 and 2",
    "range": "integers divided by the largest value of their type",
    "none": "as they are in the image's file",
    "255": "divided by 255 if any is above 1",
}


@dataclass
class Map:
    """A map on its way through the network: its name in the graph, and its shape (N, H, W, C) for an image to try with."""

    name: str
    shape: tuple[int, ...]


class Graph:
    """The nodes and constants so far."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; returns its name."""
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        """Add an array, float32 unless it is of whole numbers; returns its name."""
        a = to_numpy(values) if hasattr(values, "dtype") else np.array(values)
        a = np.ascontiguousarray(a, np.int64 if a.dtype.kind == "i" else np.float32)
        self.constants[name] = self.onnx.numpy_helper.from_array(a, name)
        return name


def to_onnx(model: Module) -> bytes:
    """The bytes of an ONNX file that computes ``model(x)``, for images of any size that the network takes.

    Parameters
    ----------
    model : Module
        A network in inference mode: norms use their running statistics, dropout does nothing.

    Returns
    -------
    bytes
        Input `image` float32 (N, channels, H, W), output `logits` float32 (N, classes, OH, OW). Its metadata has an entry
        "minunet" with architecture and data as in our checkpoints.

    Raises
    ------
    UserError
        If the package onnx is missing.
    ValueError
        If the network has layers for which there is no rule here.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("writing ONNX files needs the package onnx: pip install 'minunet[onnx]'") from None
    for name, m in model.modules():
        if not m.children and type(m) not in EMIT:
            raise ValueError(f"{name} is a {type(m).__name__}, for which ONNX export has no rule")
    channels = next(p for path, p in model.named_params().items() if path.endswith(".w")).shape[2]
    side = model.fit_size(65)  # odd where that is possible, so that joints have something to pad
    graph = Graph(onnx)
    image: Any = Map("image", (1, side, side, channels))
    with stand_ins(model, EMIT, lambda name, m: _stand_in(graph, name, m)):
        y: Any = model.forward(image, train=False, keep=False)[0]
    graph.add("Identity", "logits", y.name)
    same = y.shape[1:3] == image.shape[1:3]
    value, FLOAT = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "minunet",
            [value("image", FLOAT, ["N", channels, "H", "W"])],
            [value("logits", FLOAT, ["N", y.shape[3], *(("H", "W") if same else ("OH", "OW"))])],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="minunet",
        doc_string=describe(model, channels, y.shape[3]),
    )  # fmt: skip
    known = {**getattr(model, "origin", {}), "data": getattr(model, "data", None)}
    onnx.helper.set_model_props(proto, {"minunet": json.dumps(known)})
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def describe(model: Module, channels: int, outputs: int) -> str:
    """What goes in and comes out, for whoever runs the file."""
    data = getattr(model, "data", None) or {}
    values = GREY_VALUES.get(data.get("normalise", ""), "as in training")
    names = ", ".join(data["classes"]["names"]) if data else "as in training"
    end = "sigmoid: the probability of class 1" if outputs == 1 else "softmax over axis 1: the classes' probabilities"
    return (
        f"image: float32 (N, {channels}, H, W), grey values {values}. "
        f"logits: float32 (N, {outputs}, H, W); {end}. Classes: {names}."
    )


def _stand_in(graph: Graph, name: str, m: Module) -> Any:
    def forward(x: Any, *mode: Any, **named: Any) -> tuple[Map, None]:
        inputs = x if isinstance(x, tuple) else (x,)
        shape = RULES[type(m)](m, *(i.shape for i in inputs))[0]
        return Map(EMIT[type(m)](graph, f"{name}#{len(graph.nodes)}", m, *inputs), shape), None

    return forward


# ---- the rules: a module and what goes into it, to the name of what comes out -----------------------------------------


def _weights(g: Graph, name: str, m: Conv2d | ConvTranspose2d, order: tuple[int, ...]) -> list[str]:
    weights = [g.constant(f"{name}.w", to_numpy(m.params["w"]).transpose(order))]
    return weights + ([g.constant(f"{name}.b", m.params["b"])] if "b" in m.params else [])


def _conv(g: Graph, name: str, m: Conv2d, x: Map) -> str:
    stride, padding, dilation = (m.options[k] for k in ("stride", "padding", "dilation"))
    if padding == "same" and stride > 1:
        pads: dict[str, Any] = {"auto_pad": "SAME_UPPER"}
    else:  # the same for all sizes
        (KH, KW), size = m.params["w"].shape[:2], (x.shape[1], x.shape[2])
        (top, bottom), (left, right) = resolve_padding(padding, size, (KH, KW), stride, dilation)
        pads = {"pads": [top, left, bottom, right]}
    return g.add("Conv", name, x.name, *_weights(g, name, m, (3, 2, 0, 1)), strides=[stride, stride],
                 dilations=[dilation, dilation], group=m.options["groups"], **pads)  # fmt: skip


def _conv_transpose(g: Graph, name: str, m: ConvTranspose2d, x: Map) -> str:
    stride, (KH, KW), size = m.options["stride"], m.params["w"].shape[:2], (x.shape[1], x.shape[2])
    (top, bottom), (left, right) = resolve_padding(m.options["padding"], size, (KH, KW), stride, 1)
    return g.add("ConvTranspose", name, x.name, *_weights(g, name, m, (2, 3, 0, 1)), strides=[stride, stride],
                 pads=[top, left, bottom, right])  # fmt: skip


def _batch_norm(g: Graph, name: str, m: BatchNorm2d, x: Map) -> str:
    arrays = {**m.params, **m.buffers}
    constants = [g.constant(f"{name}.{key}", arrays[key]) for key in ("gamma", "beta", "mean", "var")]
    return g.add("BatchNormalization", name, x.name, *constants, epsilon=m.eps)


def _group_norm(g: Graph, name: str, m: GroupNorm, x: Map) -> str:
    """An instance norm of groups laid out as long channels: ONNX's own group norm is younger than OPSET."""
    grouped = g.add("Reshape", f"{name}.groups", x.name, g.constant(f"{name}.as_groups", [0, m.groups, -1]))
    ones, zeros = (g.constant(f"{name}.{n}s", np.full(m.groups, n, np.float32)) for n in (1, 0))
    normal = g.add("InstanceNormalization", f"{name}.normal", grouped, ones, zeros, epsilon=m.eps)
    back = g.add("Reshape", f"{name}.back", normal, g.add("Shape", f"{name}.shape", x.name))
    gamma, beta = (g.constant(f"{name}.{key}", to_numpy(m.params[key])[:, None, None]) for key in ("gamma", "beta"))
    return g.add("Add", name, g.add("Mul", f"{name}.scaled", back, gamma), beta)


def _pool(g: Graph, name: str, m: MaxPool2d | AvgPool2d, x: Map) -> str:
    size = m.options["size"]
    stride = m.options["stride"] or size
    kind = "MaxPool" if isinstance(m, MaxPool2d) else "AveragePool"
    return g.add(kind, name, x.name, kernel_shape=[size, size], strides=[stride, stride])


def _upsample(g: Graph, name: str, m: UpsampleBilinear | UpsampleNearest, x: Map) -> str:
    scales = g.constant(f"{name}.scales", np.array([1, 1, m.options["scale"], m.options["scale"]], np.float32))
    if isinstance(m, UpsampleNearest):
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = m.options["align_corners"]
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
    return g.add("Resize", name, x.name, "", scales, **how)


def _join(g: Graph, name: str, m: Join, skip: Map, up: Map) -> str:
    """As `blocks.Join`: zeros around the map from below if it lacks at most a pixel, else the skip's middle."""
    pads = max(s - u for s, u in zip(skip.shape[1:3], up.shape[1:3])) <= 1
    sizes = [g.add("Shape", f"{name}.{n}", m.name, start=2, end=4) for n, m in (("skip_size", skip), ("up_size", up))]
    lack = g.add("Sub", f"{name}.lack", *sizes)
    before = g.add("Div", f"{name}.before", lack, g.constant(f"{name}.2", [2]))
    if pads:
        after, none = g.add("Sub", f"{name}.after", lack, before), g.constant(f"{name}.none", [0, 0])
        margins = g.add("Concat", f"{name}.margins", none, before, none, after, axis=0)
        joined = [skip.name, g.add("Pad", f"{name}.padded", up.name, margins)]
    else:
        after, axes = g.add("Add", f"{name}.after", before, sizes[1]), g.constant(f"{name}.axes", [2, 3])
        joined = [g.add("Slice", f"{name}.cropped", skip.name, before, after, axes), up.name]
    return g.add("Concat", name, *joined, axis=1)


EMIT: dict[type[Module], Any] = {
    Conv2d: _conv,
    ConvTranspose2d: _conv_transpose,
    BatchNorm2d: _batch_norm,
    GroupNorm: _group_norm,
    ReLU: lambda g, name, m, x: g.add("Relu", name, x.name),
    LeakyReLU: lambda g, name, m, x: g.add("LeakyRelu", name, x.name, alpha=m.options["slope"]),
    MaxPool2d: _pool,
    AvgPool2d: _pool,
    UpsampleBilinear: _upsample,
    UpsampleNearest: _upsample,
    Join: _join,
    Dropout: lambda g, name, m, x: x.name,
}
