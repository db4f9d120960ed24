"""Where a wrong answer first goes astray: its functions and ours on the same numbers, in the order in which a step runs.

A step of the training runs with our functions, and every call is noted. Then each of the student's gets what ours got there, so
that it is judged alone, and the first call that gives something else is the place: the first map on the way forward, or, of a
backward, the first layer whose outgoing gradient differs. What follows from it is found by a step with the wrong functions
plugged in: from there on, the gradients of all layers below are wrong as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UserError
from ...optim import SGD
from ..answers import unet_backward
from ..difference import KERNEL, describe
from .adapters import Functions
from .network import Call, OwnUNet, Plug, copied, loss_and_gradients
from .parts import owner
from .picture import make_drawing
from .training import BATCH, Cells, make_cells

TOLERANCE = 1e-9  # of the largest number: as in grading
NAMES = {  # of what a function gives, in its order
    "conv2d_backward": ("dx", "dw", "db"),
    "conv_transpose2d_backward": ("dx", "dw", "db"),
    "batch_norm_backward": ("dx", "dgamma", "dbeta"),
    "concat_backward": ("dskip", "dup"),
    "sgd_step": ("p", "", "velocity"),
}


@dataclass(eq=False)
class Astray:
    """The first place at which an answer gives something else than it should.

    Attributes
    ----------
    exercise, function : str
    path : str
        The layer: "decoder.0.conv2".
    what : str
        Which of the results: "dx"; "" if there is none.
    yours, ours : arrays or None
    error : str
        Why nothing came back, if nothing did.
    order : int
        When the call comes in a step; what is called before a step comes first, and what is called after it last.
    """

    exercise: str
    function: str
    path: str
    what: str
    yours: Any
    ours: Any
    error: str = ""
    order: int = -1

    @property
    def backward(self) -> bool:
        """Whether it is a gradient that goes astray."""
        return self.function.endswith("_backward")


def true_trail(width: int = 4) -> tuple[list[Call], Cells]:
    """Every call of one step with our functions, and the cells that it saw."""
    plug = Plug(trail=[])
    cells = make_cells(plug, BATCH)
    run_step(plug, cells, width)
    assert plug.trail is not None
    return plug.trail, cells


def run_step(plug: Plug, cells: Cells, width: int) -> None:
    """One step as in the middle of a training: at its beginning gammas are 1, biases and velocities 0, which hides much."""
    net, rng = OwnUNet(width), np.random.default_rng(0)
    optimizer = SGD(net, 0.1)
    for a in (*(p for p in net.named_params().values() if p.ndim == 1), *optimizer.state().values()):
        a += rng.uniform(-0.4, 0.4, a.shape)
    with plug.into(net):
        loss_and_gradients(net, plug, cells.images, cells.labels, cells.weight)
        with plug.at("step"):
            optimizer.step()


def first_differences(functions: dict[str, Functions], trail: list[Call], cells: Cells, width: int = 4) -> list[Astray]:
    """For each answer that gives something else than ours anywhere, the first place; in the order of a step.

    Parameters
    ----------
    functions : dict
        By exercise what its adapter gives.
    trail, cells
        As `true_trail` gives them.
    """
    found: dict[str, Astray] = {}
    caches: dict[tuple[str, str], Any] = {}  # the student's own, by forward and place
    for order, call in enumerate(trail):
        exercise = owner(call.name, call.path, functions)
        if exercise is None or exercise in found:
            continue
        astray = compare(exercise, functions[exercise], call, caches)
        if astray:
            astray.order = order
            found[exercise] = astray
    if "unet_backward" in functions:
        wiring = compare_wiring(functions["unet_backward"]["unet_backward"], trail, cells, width)
        if wiring:
            found["unet_backward"] = wiring
    return sorted(found.values(), key=lambda astray: astray.order)


def compare(exercise: str, functions: Functions, call: Call, caches: dict[tuple[str, str], Any]) -> Astray | None:
    """Run one call with the student's function; None if it gives what ours gave."""
    forward, args = call.name.removesuffix("_backward"), copied(call.args)
    is_pair = call.name != forward and forward in functions
    if is_pair:
        if (forward, call.path) not in caches:
            return None  # its forward has failed, and was noted
        args = (args[0], caches[forward, call.path])
    try:
        result = functions[call.name](*args, **call.options)
    except UserError as e:
        return Astray(exercise, call.name, call.path, "", None, None, getattr(e, "why", str(e)))
    if call.name == "sgd_step":
        result = args
    elif f"{call.name}_backward" in functions or call.name in ("conv2d", "softmax_cross_entropy"):
        caches[call.name, call.path] = result[1]
    for what, yours, ours in results(call, result):
        if differs(yours, ours):
            return Astray(exercise, call.name, call.path, what, yours, ours)
    return None


def results(call: Call, result: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, the student's and ours, of each thing that a function gives."""
    if call.name in NAMES:
        for what, yours, ours in zip(NAMES[call.name], result, call.result):
            if what and ours is not None:
                yield what, yours, ours
    elif call.name in ("class_balance", "separation") or call.name.endswith("_backward"):
        yield (
            ("the map" if call.name == "separation" else "the weights" if call.name == "class_balance" else "dx"),
            result,
            call.result,
        )
    else:
        yield "the loss" if call.name == "softmax_cross_entropy" else "y", result[0], call.result[0]


def differs(yours: Any, ours: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two arrays of one shape differ by more than rounding; the weights of pixels are float32."""
    tolerance = 1e-5 if getattr(ours, "dtype", None) == np.float32 else tolerance
    yours, ours = np.asarray(yours, np.float64), np.asarray(ours, np.float64)
    scale = float(np.abs(ours).max(initial=0.0)) or 1.0
    return not bool(np.abs(yours - ours).max(initial=0.0) <= tolerance * scale)


# ---- the wiring ------------------------------------------------------------------------------------------------------


def compare_wiring(wiring: Any, trail: list[Call], cells: Cells, width: int) -> Astray | None:
    """Which part first gets another gradient from the student's wiring than from ours; None if none does."""
    wanted, theirs = parts_called(unet_backward, cells, width), parts_called(wiring, cells, width)
    for (part, right), got in zip(wanted[0], [*theirs[0], *[("", None)] * len(wanted[0])]):
        order = first_call(trail, part)
        if got[0] != part:
            said = (
                f"it calls the backward of {got[0]} where {part} comes next"
                if got[0]
                else theirs[2] or f"it never calls the backward of {part}"
            )
            return Astray("unet_backward", "unet_backward", part, "", None, None, said, order)
        if np.shape(got[1]) != np.shape(right):
            said = f"it gives the backward of {part} a gradient of the shape {np.shape(got[1])}, not {np.shape(right)}"
            return Astray("unet_backward", "unet_backward", part, "", None, None, said, order)
        if differs(got[1], right):
            return Astray("unet_backward", "unet_backward", part, "dy", got[1], right, order=order)
    if theirs[1] is None or np.shape(theirs[1]) != np.shape(wanted[1]):
        said = theirs[2] or "it does not return the gradient of the image"
        return Astray("unet_backward", "unet_backward", "image", "", None, None, said, len(trail))
    if differs(theirs[1], wanted[1]):
        return Astray("unet_backward", "unet_backward", "image", "dx", theirs[1], wanted[1], order=len(trail))
    return None


def parts_called(wiring: Any, cells: Cells, width: int) -> tuple[list[tuple[str, Any]], Any, str]:
    """The parts whose backwards a wiring calls, each with the gradient that it gets; what it returns; why nothing."""
    called: list[tuple[str, Any]] = []

    def noting(dy: Any, back: Any, depth: int) -> Any:
        def noted(part: Any, dy: Any) -> Any:
            called.append((part, copied(dy)))
            return back(part, dy)

        return wiring(dy, noted, depth)

    plug = Plug({"unet_backward": {"unet_backward": noting}})
    net = OwnUNet(width)
    try:
        with plug.into(net):
            _, dx = loss_and_gradients(net, plug, cells.images, cells.labels, cells.weight)
    except UserError as e:
        return called, None, getattr(e, "why", str(e))
    return called, dx, ""


def first_call(trail: list[Call], part: str) -> int:
    """When a part's backward begins in a step."""
    calls = [n for n, c in enumerate(trail) if c.name.endswith("_backward") and (c.path + ".").startswith(part + ".")]
    return calls[0] if calls else len(trail)


# ---- what follows ----------------------------------------------------------------------------------------------------


def wrong_calls(
    functions: dict[str, Functions], trail: list[Call], cells: Cells, width: int = 4
) -> set[tuple[str, str]]:
    """The functions and places that give something else than ours, in a step with the student's functions plugged in.

    If a function gives no result, all that comes after it counts.
    """
    plug = Plug(functions, trail=[])
    with suppress(UserError):
        run_step(plug, cells, width)
    assert plug.trail is not None
    theirs = numbered(plug.trail)
    found = set()
    for (name, path, n), call in numbered(trail).items():
        same = theirs.get((name, path, n))
        if path and (same is None or any(differs(a, b) for a, b in zip(flat(same.result), flat(call.result)))):
            found.add((name, path))
    return found


def numbered(trail: list[Call]) -> dict[tuple[str, str, int], Call]:
    """Calls by function, place, and which of several there it is."""
    found: dict[tuple[str, str, int], Call] = {}
    for call in trail:
        n = sum((name, path) == (call.name, call.path) for name, path, _ in found)
        found[call.name, call.path, n] = call
    return found


def flat(value: Any) -> Iterator[np.ndarray]:
    """The arrays of a result, without caches: of a pair (y, cache) y alone."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], tuple):
        value = value[0]
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, (np.ndarray, float, np.floating)):
            yield np.asarray(part)


def says(astray: Astray) -> str:
    """A sentence that says where it is, and what is different."""
    if astray.error:
        return f"{place_of(astray)}: {astray.error}"
    if astray.exercise == "unet_backward" and astray.path != "image":
        return f"the wiring: the backward of {astray.path} gets a wrong gradient: {unlike(astray)}"
    return f"{place_of(astray)}: {astray.what} of {astray.function}: {unlike(astray)}"


def place_of(astray: Astray) -> str:
    """Where it is, in words."""
    places = {"": "before the training", "step": "in the first step", "loss": "in the loss", "crop": "where the margin is cut",
              "image": "at the image"}  # fmt: skip
    words = {box.path: box.words for box in make_drawing().boxes}
    return places.get(astray.path) or f"at {astray.path}" + (
        f", the {words[astray.path]}" if astray.path in words else ""
    )


def unlike(astray: Astray) -> str:
    """How the two arrays differ, in words."""
    yours, ours = np.asarray(astray.yours, np.float64), np.asarray(astray.ours, np.float64)
    if not differs(yours, ours, 1e-6):
        return "it is right to six digits only, as after a computation in float32: keep the dtype of the inputs"
    return describe(yours, ours, TOLERANCE, KERNEL if ours.ndim == 4 and astray.what == "dw" else ())
