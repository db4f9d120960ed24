"""What a layer says of itself, and all that is known of it elsewhere.

A layer is a forward and a backward. Whoever has to know more about it (`summary`, tiles, `minunet.look`, the ONNX export, the
CUDA graphs) asks its method `describe`, and refuses it by name if it has none. For given shapes of what it takes it says

    def describe(self, x: Shape) -> Description:
        onnx = lambda graph, x: graph.node("Relu", x)
        return Description(output=x, reads=PIXEL, keeps_bytes=prod(x), words="ReLU", onnx=onnx)

A layer that takes several maps gets their shapes one after the other. Modules that only hand maps from one layer to the next
(`Sequential`, `UNet`) need no description: their own forward is followed (`models/trace.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import UserError

Shape = tuple[int, ...]


class NotDescribed(UserError):
    """A layer does not say of itself what has to be known of it."""


class Graph(Protocol):
    """An ONNX graph as a layer sees it while its nodes are added. Maps are (N, C, H, W) there, and known by their names."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of ONNX's operator `kind`; returns the name of its output."""

    def constant(self, name: str, values: Any) -> str:
        """Add an array, float32 unless it holds integers; returns its name in the graph."""


@dataclass(frozen=True)
class Window:
    """Which rows (or columns) of the input an output row reads.

    Output row i reads the rows from (i * down + first) / up to (i * down + last) / up, rounded inwards, as far as there are
    such; or, with `whole`, all rows.

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
"""Only the pixel at the same place."""

ALL = Window(whole=True)
"""All of the map, as a mean over it does."""

Reads = Window | tuple[Window, Window]  # of rows and columns alike, or of rows and of columns
Picture = Literal["conv", "act", "pool", "up", "join", "layer"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What there is to know of a layer that takes maps of given shapes.

    Attributes
    ----------
    output : shape (N, H, W, C), or a list of them
        Of the map, or of the maps, that forward returns.
    reads : Window, (Window, Window) or a list of these
        How far an output pixel looks in inference: by rows and columns, or for (rows, columns); a list has one for each input.
    flops : int
        Multiplications and additions of one forward. Where they are less than a few for each number they count as 0.
    depends_on_size : bool
        Whether, of a part of the map, its result is another in the middle of the part, too, although it does not look that far.
    depends_on_batch : bool
        Whether in training the result for one image depends on the others.
    keeps_input, keeps_output : bool
        Whether the cache holds the arrays that go in, and those that come out.
    keeps_bytes : int
        Bytes that it holds beside these: a mask, a pool's winners.
    work : (int, int)
        Numbers (of the maps' dtype) that the plain op needs for a while beside input and output: in forward, in backward.
    fused : "conv", "norm", "act" or "concat", optional
        The part that it has where kernels fuse layers (`ops/lazy.py`). A "conv" stores its output raw; a "norm", and an "act"
        after one of these two, store nothing: they are computed while the next layer reads; a "concat" stands for its inputs
        side by side, and stores those that it first has to bring to the output's size.
    words : str
        Its name in plain words, "batch norm". Without them it is that of its class; "" to be passed over in silence.
    picture : str
        How `minunet.look` draws it: as a convolution, an activation or norm, a pool, an up-step, the joint of a skip connection
        (which takes the skip and the map from below), or just as a layer.
    onnx : function, optional
        ``onnx(graph, *inputs)`` adds its nodes to a `Graph`, and returns the name of its output (a list, if it has several).
    unrecordable : str
        Why a CUDA graph cannot record it, in words that go on after its name; "" if it can: then it neither reads nor sends
        anything on the host while it runs.
    """

    output: Shape | list[Shape]
    reads: Reads | list[Reads]
    flops: int = 0
    depends_on_size: bool = False
    depends_on_batch: bool = False
    keeps_input: bool = False
    keeps_output: bool = False
    keeps_bytes: int = 0
    work: tuple[int, int] = (0, 0)
    fused: Literal["conv", "norm", "act", "concat"] | None = None
    words: str | None = None
    picture: Picture = "layer"
    onnx: Callable[..., Any] | None = None
    unrecordable: str = "has not been tried in a CUDA graph"

    @property
    def outputs(self) -> list[Shape]:
        """The shapes of all outputs, of which most layers have one."""
        return self.output if isinstance(self.output, list) else [self.output]

    def window(self, i: int, axis: int) -> Window:
        """What an output pixel reads of input i by rows (axis 0) or columns (axis 1)."""
        reads = self.reads[i] if isinstance(self.reads, list) else self.reads
        return reads[axis] if isinstance(reads, tuple) else reads
