"""The base of all layers and networks, and the two shortest ways to make one: `Apply` and `Sequential`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..array import Array, get_array_module
from ..ops.lazy import fusion_scope
from .description import Description

Cache = Any
"""What forward saves for backward: a tuple in layers, the list of the children's caches in composites; None without `keep`."""


class Module:
    """Base of all layers and networks: a tree of named children with parameters at its leaves.

    A network of minunet keeps the options that it was built from as `architecture` (`minunet.models.NetworkOptions`). One that
    was trained also has `preprocessing` (`minunet.data.Preprocessing`): how its images were prepared, and its classes.
    """

    architecture: Any  # not typed: their classes are in folders above this one
    preprocessing: Any
    told_of_gradients: Callable[[list[str]], object] | None = None
    """Called with the names of parameters whose gradients have been added to, by what uses or sends these during a backward."""

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.children: dict[str, Module] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self.children[name] = value
        elif isinstance(value, list) and value and all(isinstance(v, Module) for v in value):
            self.children.update({f"{name}.{i}": v for i, v in enumerate(value)})
        super().__setattr__(name, value)

    def __call__(self, x: Any) -> Any:
        return self.forward(x, train=False, keep=False)[0]

    def forward(
        self, x: Any, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Any, Cache]:
        """Return the output and, if `keep`, the cache that `backward` needs.

        x and the output are a map (N, H, W, C), or a tuple of maps where a layer takes or gives several.
        """
        raise NotImplementedError

    def backward(self, dy: Any, cache: Cache) -> Any:
        """Add the parameters' gradients to `grads` and return the input's."""
        raise NotImplementedError

    def describe(self, *inputs: Any, **none: Any) -> Description:
        """The description of this layer for inputs of these shapes; composites need none."""
        raise NotImplementedError

    def describes_itself(self) -> bool:
        """Whether `describe` belongs to this layer's forward; one inherited from a base with another forward does not."""
        order = type(self).__mro__
        said, computed = (next(c for c in order if name in vars(c)) for name in ("describe", "forward"))
        return said is not Module and issubclass(said, computed)

    def check_size(self, H: int, W: int) -> None:
        """ValueError, saying which sizes fit, if images of H x W pixels do not; a layer takes any size."""

    def fit_size(self, n: int) -> int:
        """The smallest number of rows or columns, at least n, that fits and whose output has at least n."""
        return n

    def output_size(self, n: int) -> int:
        """Rows or columns of the output, for n that fit; the same number unless convolutions are unpadded."""
        return n

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module of the tree with its dotted path, this one ("") first."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def named_params(self) -> dict[str, Array]:
        """All parameters by dotted path, such as "encoder.0.conv1.w"."""
        return self._named("params")

    def named_grads(self) -> dict[str, Array]:
        """All gradients so far, by the path of their parameter; none before the first backward."""
        return self._named("grads")

    def named_buffers(self) -> dict[str, Array]:
        """All arrays that are stored but not learned (running statistics), by dotted path."""
        return self._named("buffers")

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for _, m in self.modules():
            m.grads.clear()

    def num_params(self) -> int:
        """Number of learned values."""
        return sum(p.size for p in self.named_params().values())

    def state(self) -> dict[str, Array]:
        """Parameters and buffers by dotted path: what a checkpoint stores. The arrays themselves, not copies."""
        return self.named_params() | self.named_buffers()

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy values in, in place.

        Raises
        ------
        ValueError
            If a path is missing, is not in this model, or has another shape. The first is named, and nothing is changed.
        """
        own = self.state()
        for path in sorted(own.keys() | state.keys()):
            if path not in state or path not in own:
                raise ValueError(f"{path} is {'missing' if path in own else 'not a parameter of this model'}")
            if own[path].shape != state[path].shape:
                raise ValueError(f"{path} has shape {state[path].shape}, this model's has {own[path].shape}")
        for path, array in own.items():
            array[...] = get_array_module(array).asarray(state[path])

    def convert(self, convert: Any) -> Module:
        """Replace every array a by convert(a), in place: ``m.convert(cupy.asarray)``, ``m.convert(np.float64)``."""
        for _, m in self.modules():
            for arrays in (m.params, m.buffers):
                arrays.update({name: convert(a) for name, a in arrays.items()})
            m.grads.clear()
        return self

    def accumulate(self, **grads: Array | None) -> None:
        """Add to this module's gradients, by name; None is ignored (a parameter that the module does not have)."""
        added = {name: g for name, g in grads.items() if g is not None}
        for name, g in added.items():
            self.grads[name] = self.grads[name] + g if name in self.grads else g
        if self.told_of_gradients:
            self.told_of_gradients(list(added))

    def _named(self, kind: str) -> dict[str, Array]:
        return {
            f"{path}.{name}" if path else name: a for path, m in self.modules() for name, a in getattr(m, kind).items()
        }


class Apply(Module):
    """A pair of ops without parameters as a module: ``Apply(ops.relu, ops.relu_backward)``."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.pair, self.options = (forward, backward), options

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = self.pair[0](x, **self.options)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return self.pair[1](dy, cache)


class Sequential(Module):
    """Named modules one after the other: ``Sequential(conv=Conv2d(3, 8), relu=ReLU())``."""

    def __init__(self, **layers: Module) -> None:
        super().__init__()
        self.children.update(layers)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        caches = []
        for m in self.children.values():
            x, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
        return x, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        for m in reversed(self.children.values()):
            dy = m.backward(dy, take(cache))
        return dy


def take(cache: list | None) -> Any:
    """Pop the last child's cache off a composite's cache; RuntimeError if there is none."""
    if cache is None:
        raise RuntimeError("forward ran with keep=False and kept no cache: run it with keep=True before backward")
    if not cache:
        raise RuntimeError("this cache was used up by an earlier backward: run forward again")
    return cache.pop()
