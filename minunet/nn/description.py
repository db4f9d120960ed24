"""The description of a layer: its output's shape, cost, how far it looks, its ONNX node, and more.

To train, a layer needs only forward and backward. Code that needs to know more about it (`summary`, tiles, `minunet.look`, the
ONNX export, CUDA graphs) calls its method `describe`, with the shape of its input, and refuses it by name if it has none:

    def describe(self, x: Shape) -> Description:
        onnx = lambda graph, x: graph.node("Relu", x)
        return Description(output=x, reads=PIXEL, keeps_bytes=prod(x), words="ReLU", onnx=onnx)

A layer with several inputs gets their shapes one after the other. Modules that only pass maps from one layer to the next
(`Sequential`, `UNet`) need no description: their own forward is followed (`models/trace.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import UserError

Shape = tuple[int, ...]


class NotDescribed(UserError):
    """A layer has no description, or its description lacks what is needed."""


class Graph(Protocol):
    """An ONNX graph, to which a layer adds its nodes. Maps are (N, C, H, W) there, and are referred to by name."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of ONNX's operator `kind`; returns the name of its output."""

    def several(self, count: int, kind: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with so many outputs; returns their names."""

    def constant(self, name: str, values: Any) -> str:
        """Add an array, float32 unless it holds integers; returns its name in the graph."""


@dataclass(frozen=True)
class Window:
    """Which rows (or columns) of the input an output row reads.

    Output row i reads the rows from (i * down + first) / up, rounded up, to (i * down + last) / up, rounded down, as far as
    they lie in the map; with `whole`, it reads all rows.

    >>> Window(down=2, first=-1, last=1)  # a 3x3 convolution with stride 2 and a pixel of padding: 2i - 1 to 2i + 1
    Window(down=2, up=1, first=-1, last=1, whole=False)
    >>> Window(up=2, first=-1)  # the nearest neighbour of twice the size: (i - 1) / 2 to i / 2, which holds one row
    Window(down=1, up=2, first=-1, last=0, whole=False)
    """

    down: int = 1
    up: int = 1
    first: int = 0
    last: int = 0
    whole: bool = False


PIXEL = Window()
"""Reads only the pixel at the same place."""

NOTHING = Window(down=0, first=1, last=0)
"""Reads no pixel of an input: only its size counts."""

ALL = Window(whole=True)
"""Reads all of the map, as its mean does."""

Reads = Window | tuple[Window, Window]  # of rows and columns alike, or of rows and of columns
Picture = Literal["conv", "act", "pool", "up", "join", "layer"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """The description of a layer, for inputs of given shapes.

    Attributes
    ----------
    output : shape (N, H, W, C), or a list of them
        Shape of the map that forward returns, or of each of them.
    numbers : int
        How many of several outputs, the last ones, are no maps but whole numbers, a byte each: a pool's winners.
    reads : Window, (Window, Window) or a list of these
        How far an output pixel looks in inference: one window for rows and columns alike, or a pair (rows, columns); for
        several inputs, a list of these.
    flops : int
        Multiplications and additions of one forward; 0 if there are only a few for each number.
    depends_on_size : bool
        Whether cutting the map to a part changes the result even far from the cut, farther than `reads` reaches.
    depends_on_batch : bool
        Whether in training the result for one image depends on the others.
    keeps_input, keeps_output : bool or tuple of bools
        Whether the cache holds the input, and whether it holds the output; where there are several and it holds some of them, a
        tuple says which.
    view : bool
        Whether the output is the first input itself, or a view of it, and takes no memory of its own.
    keeps_bytes : int
        Further bytes in the cache: a mask, a pool's winners.
    work : (int, int)
        How many numbers (of the maps' dtype) the plain op needs for a while besides input and output: in forward, in backward.
    fused : "conv", "norm", "act" or "concat", optional
        The layer's part where kernels fuse layers (`ops/lazy.py`). A "conv" stores its raw output. A "norm", and an "act" after
        one of these two, store nothing: they are computed while the next layer reads. A "concat" stands for its inputs side by
        side, and stores only those that must first be padded or cropped to the output's size.
    reads_fused : bool
        Whether the layer's kernel reads such maps, for which there is no array; else they are computed and stored for it first.
    words : str
        The layer's name in plain words, "batch norm". None stands for the name of its class; "" for a layer that is not shown.
    picture : str
        How `minunet.look` draws it: as a convolution, an activation or norm, a pool, an up-step, the joint of a skip connection
        (with the inputs skip and map from below), or just as a layer.
    onnx : function, optional
        ``onnx(graph, *inputs)`` adds its nodes to a `Graph`, and returns the name of its output (a list, if it has several).
    unrecordable : str
        Why a CUDA graph cannot record the layer, in words that continue a sentence after its name; "" if it can, that is, if
        the layer neither reads from the GPU nor draws or sends numbers on the host while it runs.
    """

    output: Shape | list[Shape]
    reads: Reads | list[Reads]
    numbers: int = 0
    flops: int = 0
    depends_on_size: bool = False
    depends_on_batch: bool = False
    keeps_input: bool | tuple[bool, ...] = False
    keeps_output: bool | tuple[bool, ...] = False
    view: bool = False
    keeps_bytes: int = 0
    work: tuple[int, int] = (0, 0)
    fused: Literal["conv", "norm", "act", "concat"] | None = None
    reads_fused: bool = False
    words: str | None = None
    picture: Picture = "layer"
    onnx: Callable[..., Any] | None = None
    unrecordable: str = "has not been tried in a CUDA graph"

    @property
    def outputs(self) -> list[Shape]:
        """The shapes of all outputs as a list; most layers have one."""
        return self.output if isinstance(self.output, list) else [self.output]

    def kept(self, inputs: list[Any], outputs: list[Any]) -> list[Any]:
        """Those of these inputs and outputs that the cache holds."""
        pairs = ((inputs, self.keeps_input), (outputs, self.keeps_output))
        return [m for maps, said in pairs for m, held in zip(maps, as_many(said, maps)) if held]

    def window(self, i: int, axis: int) -> Window:
        """What an output pixel reads of input i, along rows (axis 0) or columns (axis 1)."""
        reads = self.reads[i] if isinstance(self.reads, list) else self.reads
        return reads[axis] if isinstance(reads, tuple) else reads


def as_many(said: bool | tuple[bool, ...], maps: list[Any]) -> tuple[bool, ...]:
    """What is said of each of these maps, from one answer for all or from one for each."""
    return (said,) * len(maps) if isinstance(said, bool) else said
