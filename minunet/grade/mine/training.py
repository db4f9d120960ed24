"""The training of the network on generated cells: slow, as the student's functions run one by one, but true."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import ops, optim
from ...data.synthetic import SyntheticCells
from ...errors import UserError
from ..process.callbacks import Callback
from .adapters import Functions
from .hand import Failed, Hand
from .network import MARGIN, SIZE, OwnUNet, Plug, loss_and_gradients, probabilities

IMAGES, JUDGED, SHOWN, BATCH = (
    40,
    12,
    4,
    4,
)  # to learn from, to judge by, those of the latter that are shown, and in a step
W0, SIGMA = 1.0, 3.0  # of the weight map: the paper's are 10 and 5 pixels, for images that are larger
LR, LEAST = 0.1, 8  # learning rate at first; steps that are made however long they take
FRAMES = 10  # pictures of what the network says, from before the training to after it
MIDDLE = np.s_[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


@dataclass
class Cells:
    """Images with their labels and the weights of their pixels."""

    images: np.ndarray
    labels: np.ndarray
    weight: np.ndarray


@dataclass
class History:
    """What came of a training.

    Attributes
    ----------
    losses : list of float
    frames : list of (step, (SHOWN, H, W) array)
        What the network said of the images that are shown, before the training, during it and after it.
    dice : float
        How well cells are found at the end, in all images to judge by.
    seconds : float
    """

    losses: list[float] = field(default_factory=list)
    frames: list[tuple[int, np.ndarray]] = field(default_factory=list)
    dice: float = 0.0
    seconds: float = 0.0


def make_cells(plug: Plug, n: int = IMAGES, first: int = JUDGED) -> Cells:
    """Generated cells, from image number `first` on; the weights of their pixels are the student's or ours."""
    samples = SyntheticCells(first + n, size=SIZE, seed=1)
    chosen = [samples[i] for i in range(first, first + n)]
    labels = np.stack([s.labels for s in chosen]).astype(np.int64)
    balance = plug.run("class_balance", np.bincount(labels.ravel(), minlength=2))
    apart = np.stack([plug.run("separation", s.instances, sigma=SIGMA) for s in chosen])
    weight = np.asarray(balance, np.float64)[labels] + W0 * apart * (labels == 0)
    return Cells(np.stack([s.image for s in chosen]).astype(np.float64), labels[MIDDLE], weight[MIDDLE])


def train(
    plug: Plug, hands: Sequence[Hand], cells: Cells, judged: Cells, steps: int, quiet: bool = False, width: int = 4
) -> History:
    """Train a new network, with momentum and a learning rate that falls along half a cosine.

    Parameters
    ----------
    plug : Plug
    hands : sequence of Hand
        The student's, which are told what they are called for, and forget their caches after each step.
    cells, judged : Cells
        To learn from, and to judge by.
    steps : int
    quiet : bool
        Show no progress.

    Raises
    ------
    UserError
        If a function of the student's gives no result, or the loss is not finite; it says in which step.
    """
    net, history, begun = OwnUNet(width), History(), time.perf_counter()
    optimizer, rng = optim.SGD(net, LR), np.random.default_rng(0)
    moments = {round(k * steps / FRAMES) for k in range(1, FRAMES + 1)}
    with plug.into(net), tqdm(total=steps, desc="training", unit="step", disable=quiet or None, leave=False) as bar:
        look(net, plug, hands, judged.images[:SHOWN], history, 0)
        for step in range(1, steps + 1):
            tell(hands, f"step {step} of the training")
            batch = rng.choice(len(cells.images), BATCH, replace=False)
            loss, _ = loss_and_gradients(net, plug, cells.images[batch], cells.labels[batch], cells.weight[batch])
            if not np.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} in step {step} of the training: see what minunet grade says of the losses"
                )
            optimizer.lr = LR * (1 + np.cos(np.pi * (step - 1) / steps)) / 2
            optimizer.step()
            tell(hands)
            history.losses.append(loss)
            if step in moments:
                look(net, plug, hands, judged.images[:SHOWN], history, step)
            bar.set_postfix_str(f"loss {loss:.3f}")
            bar.update()
        tell(hands, "the last predictions")
        history.dice = score(probabilities(net, plug, judged.images), judged.labels)
        tell(hands)
    history.seconds = time.perf_counter() - begun
    return history


@dataclass
class Trial:
    """What can be trained with: answers that work in this network, and what the student's gradient checker says of the layers.

    Attributes
    ----------
    plug : Plug
    hands : list of Hand
        Those whose functions run.
    cells : Cells
        To learn from.
    steps : int
        That the training may have.
    checks : dict
        As `checked` gives them; empty without a checker.
    left_out : dict
        By exercise why an answer does not work here, though it is right: its arrays are larger than in grading, and it may take
        too long for them.
    """

    plug: Plug
    hands: list[Hand]
    cells: Cells
    steps: int
    checks: dict[str, bool]
    left_out: dict[str, str]


def tried(
    hands: dict[str, Hand], functions: dict[str, Functions], steps: int, budget: float, quiet: bool = True
) -> Trial:
    """Try a step with the answers to exercises, and leave out one after another whatever gives no result in it."""
    left_out: dict[str, str] = {}
    while True:
        own = [hand for name, hand in hands.items() if name not in left_out]
        plug = Plug({name: functions[name] for name in hands if name not in left_out})
        try:
            cells = make_cells(plug)
            possible = affordable(plug, own, cells, steps, budget, quiet)
            checks = checked(plug, own) if "gradient_check" in plug.functions else {}
            return Trial(plug, own, cells, possible, checks, left_out)
        except Failed as e:
            left_out[e.exercise] = e.why


def affordable(plug: Plug, hands: Sequence[Hand], cells: Cells, steps: int, budget: float, quiet: bool = True) -> int:
    """How many steps take about `budget` seconds, from `LEAST` to `steps`; one is tried, when all processes run."""
    net, batch = OwnUNet(), np.s_[:BATCH]
    tell(hands, "a trial before the training")
    with plug.into(net):
        for _ in tqdm(range(2), desc="trying your code", unit="step", disable=quiet or None, leave=False):
            begun = time.perf_counter()
            loss_and_gradients(net, plug, cells.images[batch], cells.labels[batch], cells.weight[batch])
            optim.SGD(net, LR).step()
    tell(hands)
    each = time.perf_counter() - begun
    return max(
        int(min(steps, budget / each - FRAMES / 2)), min(steps, LEAST)
    )  # a prediction takes about half of a step


def look(net: OwnUNet, plug: Plug, hands: Sequence[Hand], images: np.ndarray, history: History, step: int) -> None:
    """Note what the network says of images."""
    tell(hands, f"a prediction after step {step}")
    history.frames.append((step, probabilities(net, plug, images)))
    tell(hands)


def tell(hands: Sequence[Hand], when: str = "") -> None:
    """Say what the next calls are for; with nothing to say, what was kept for the last ones is forgotten."""
    for hand in hands:
        hand.when = when
        if not when:
            hand.forget()


def score(p: np.ndarray, labels: np.ndarray) -> float:
    """Dice of the pixels that are more likely a cell's than not."""
    found, true = p > 0.5, labels == 1
    return float(2 * (found & true).sum() / max(int(found.sum() + true.sum()), 1))


# ---- the student's gradient checker ----------------------------------------------------------------------------------


def checked(plug: Plug, hands: Sequence[Hand]) -> dict[str, bool]:
    """What the student's gradient checker says of layers, whoever wrote them: by their words whether the gradient is right."""
    tell(hands, "the check of gradients before the training")
    rng = np.random.default_rng(1)
    x, w, gamma = rng.standard_normal((1, 4, 4, 2)), rng.standard_normal((3, 3, 2, 2)), rng.uniform(0.5, 2, 2)
    layers = {
        "convolution": (lambda x: ops.conv2d(x, w), lambda dy, cache: ops.conv2d_backward(dy, cache)[0]),
        "batch norm": (
            lambda x: ops.batch_norm(x, gamma, gamma)[:2], lambda dy, cache: ops.batch_norm_backward(dy, cache)[0],
        ),
        "max-pool": (ops.max_pool2d, ops.max_pool2d_backward),
        "transposed convolution": (
            lambda x: ops.conv_transpose2d(x, w[:2, :2]), lambda dy, cache: ops.conv_transpose2d_backward(dy, cache)[0],
        ),
        "bilinear up-step": (ops.upsample_bilinear, ops.upsample_bilinear_backward),
    }  # fmt: skip
    said = {}
    with plug.into(OwnUNet()):
        for words, (forward, backward) in layers.items():
            said[words] = plug.run("is_gradient", *as_functions(forward, backward, x), x)
    tell(hands)
    return said


def as_functions(forward: Any, backward: Any, x: np.ndarray) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A pair as the exercise on the checker has it: f(x), and backward(dy, x)."""

    def f(x: np.ndarray) -> Any:
        return forward(x)[0]

    return Callback(f, x.shape), Callback(lambda dy, x: backward(dy, forward(x)[1]), f(x).shape, x.shape)
