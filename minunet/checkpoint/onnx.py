"""A network as an ONNX file, for other programs to run.

Every layer's description adds the nodes that compute the same in ONNX (`nn/description.py`), in the order in which the model's
own forward calls the layers (`models/trace.py`).

In ONNX images and maps are (N, C, H, W). So the input is `image`, float32 (N, channels, H, W), and the output is `logits`,
(N, classes, H, W). N, H and W are free, as far as the network takes such sizes. Grey values must be normalised as in training,
and the output is logits, not probabilities; the file's documentation and metadata describe both.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..array import to_numpy
from ..errors import UserError, extra
from ..models.instance_net import STRIDES
from ..models.trace import Step, follow, input_channels
from ..nn import Module, NotDescribed
from .file import description

OPSET, IR_VERSION = 17, 8  # of 2022, so that programs in use can read them

GREY_VALUES = {
    "percentile": "the 0.5th and 99.5th percentile of each image, over all channels, mapped to 0 and 1, clipped at -1 and 2",
    "range": "integers divided by the largest value of their type",
    "none": "as they are in the image's file",
    "255": "divided by 255 if any is above 1",
}


class Graph:
    """The nodes and constants so far; the `nn.description.Graph` to which layers add theirs."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.layer = ""

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of ONNX's operator `kind`; returns the name of its output, which is unique."""
        output = output or f"{self.layer}.{kind}#{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def several(self, count: int, kind: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with so many outputs; returns their names, which are unique."""
        name = f"{self.layer}.{kind}#{len(self.nodes)}"
        outputs = [f"{name}.{n}" for n in range(count)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def constant(self, name: str, values: Any) -> str:
        """Add an array, float32 unless it holds integers; returns its name in the graph, which is unique."""
        a = to_numpy(values) if hasattr(values, "dtype") else np.array(values)
        a = np.ascontiguousarray(a, np.int64 if a.dtype.kind == "i" else np.float32)
        name = f"{self.layer}.{name}#{len(self.constants)}"
        self.constants[name] = self.onnx.numpy_helper.from_array(a, name)
        return name

    def add(self, step: Step, inputs: list[str]) -> list[str]:
        """Add a layer's nodes; returns the names of its outputs."""
        if step.description.onnx is None:
            raise NotDescribed(
                f"{step.name} does not say what it is in ONNX: give its description an `onnx` (see CONTRIBUTING.md)"
            )
        self.layer = step.path
        outputs = step.description.onnx(self, *inputs)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def to_onnx(model: Module) -> bytes:
    """The bytes of an ONNX file that computes ``model(x)``, for images of any size that the network takes.

    Parameters
    ----------
    model : Module
        A network in inference mode: norms use their running statistics, dropout does nothing.

    Returns
    -------
    bytes
        Input `image` float32 (N, channels, H, W), output `logits` float32 (N, classes, OH, OW); of a detector several outputs,
        see `output_names`. Its metadata has an entry "minunet" with architecture and data as in our checkpoints.

    Raises
    ------
    UserError
        If the package onnx is missing.
    NotDescribed
        If a layer does not describe itself, or its description has no `onnx`.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(f"writing ONNX files needs the package onnx: {extra('onnx')}") from None
    channels = input_channels(model)
    side = model.fit_size(65)  # odd if possible, so that the joints of skips have something to pad
    trace, graph = follow(model, (1, side, side, channels)), Graph(onnx)
    names = {trace.image: "image"}
    for step in trace.steps:
        outputs = graph.add(step, [names[x] for x in step.inputs])
        names.update(zip(step.outputs, outputs, strict=True))
    image, y = trace.image, trace.output
    called = output_names(len(trace.outputs))
    for name, each in zip(called, trace.outputs):
        graph.node("Identity", names[each], output=name)
    same = y.shape[1:3] == image.shape[1:3]
    value, FLOAT = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    sides = [("H", "W") if same else (f"OH{n}", f"OW{n}") if n else ("OH", "OW") for n in range(len(called))]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "minunet",
            [value("image", FLOAT, ["N", channels, "H", "W"])],
            [value(n, FLOAT, ["N", each.shape[3], *hw]) for n, each, hw in zip(called, trace.outputs, sides)],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="minunet",
        doc_string=documentation(model, channels, y.shape[3]),
    )  # fmt: skip
    known = description(model) if hasattr(model, "preprocessing") else {}
    onnx.helper.set_model_props(proto, {"minunet": json.dumps(known)})
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def output_names(count: int) -> list[str]:
    """What the outputs are called: logits; of a detector the levels by their stride, and the prototypes."""
    return ["logits"] if count == 1 else [*(f"stride_{s}" for s in STRIDES), "prototypes"]


def documentation(model: Module, channels: int, outputs: int) -> str:
    """The file's documentation: what goes in and what comes out."""
    known = getattr(model, "preprocessing", None)
    values = GREY_VALUES[known.normalise] if known else "as in training"
    names = ", ".join(known.classes.names) if known else "as in training"
    end = "sigmoid: the probability of class 1" if outputs == 1 else "softmax over axis 1: the classes' probabilities"
    if known and known.rays:
        R, unit = known.rays.count, known.rays.unit
        end = (
            f"sigmoid of the first: the probability of an object; the others times {unit:g}: the distances in pixels to its "
            f"outline along {R} rays, ray k at the angle 2 pi k / {R} from the columns towards the rows"
        )
    if getattr(model, "finds_objects", False):
        return (
            f"image: float32 (N, {channels}, H, W), grey values {values}. stride_S, one for each level: float32 "
            "(N, channels, H/S, W/S), rounded up; the pixel (i, j) is the location (S i + S/2, S j + S/2) of the image. Its "
            "channels: the logits of the classes; the distances right, down, left and up to the sides of the object's box, "
            "in S pixels; the logit of the centre-ness; k coefficients. prototypes: float32 (N, k, h, w), twice as large as "
            "the first level; a mask is the sigmoid of their sum, each times its coefficient, within the box. "
            f"Classes: {names}."
        )
    return (
        f"image: float32 (N, {channels}, H, W), grey values {values}. "
        f"logits: float32 (N, {outputs}, H, W); {end}. Classes: {names}."
    )
