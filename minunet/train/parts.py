"""The parts of a network that learn more slowly than the others, later, or not at all.

A part is what the paths of its parameters begin with: "encoder" is encoder.0.conv1.w and all others there. A frozen part is not
updated, and its batch norms use their running statistics, which do not move: it computes as in inference. "norms" are the batch
norms of the encoder alone: their statistics are those of the training that the encoder comes from, which are better than those
of two or three images, and their scale and shift stay, too.

An encoder that has learned elsewhere is worth the more the less it is changed: a decoder that starts at random sends large and
useless gradients into it at first. So it is frozen for a few epochs, or has a smaller learning rate (`encoder_lr`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError, shown
from ..nn import BatchNorm2d, Module
from ..optim import Optimizer
from .config import TrainingConfig

ENCODER, NORMS = "encoder", "norms"
ALWAYS = 1 << 62


class Parts:
    """Freezes and thaws the parts of a network, and gives the encoder its learning rate.

    Parameters
    ----------
    networks : sequence of Module
        The network, and its copy in half precision if there is one.
    optimizer : Optimizer
    config : TrainingConfig

    Raises
    ------
    UserError
        If the network has no such part, or no part would learn.
    """

    def __init__(self, networks: Sequence[Module], optimizer: Optimizer, config: TrainingConfig) -> None:
        self.networks, self.optimizer = networks, optimizer
        self.epochs = parse(config.freeze)
        check(networks[0], self.epochs, config)
        if config.encoder_lr:
            rate = config.encoder_lr / config.learning_rate
            optimizer.rates = dict.fromkeys(paths_of(networks[0], ENCODER), rate)

    def begin(self, epoch: int, thawed: dict[str, int]) -> None:
        """Freeze what is frozen in this epoch, counted from 0.

        Parts that no longer are are added to `thawed`, with the number of steps until then.
        """
        self.freeze({part for part, epochs in self.epochs.items() if epoch < epochs})
        for part, epochs in self.epochs.items():
            if epoch >= epochs:
                thawed.setdefault(part, self.optimizer.steps)
        self.optimizer.began = {path: n for part, n in thawed.items() for path in paths_of(self.networks[0], part)}

    def freeze(self, parts: set[str]) -> None:
        """Freeze these parts, and no others."""
        for network in self.networks:
            inside = {path for part in parts for path, _ in members(network, part)}
            for path, m in network.modules():
                if hasattr(m, "frozen"):
                    m.frozen = path in inside
        self.optimizer.frozen = {path for part in parts for path in paths_of(self.networks[0], part)}


def members(model: Module, part: str) -> list[tuple[str, Module]]:
    """The modules of a part, with their paths."""
    inside = ENCODER if part == NORMS else part
    found = [(path, m) for path, m in model.modules() if f"{path}.".startswith(f"{inside}.")]
    return [(path, m) for path, m in found if isinstance(m, BatchNorm2d)] if part == NORMS else found


def paths_of(model: Module, part: str) -> list[str]:
    """The paths of a part's parameters."""
    return [f"{path}.{name}" for path, m in members(model, part) for name in m.params]


def parse(freeze: Sequence[int | str]) -> dict[str, int]:
    """For how many epochs each part is frozen; UserError if a text is not PART or PART:EPOCHS."""
    epochs: dict[str, int] = {}
    for text in map(str, freeze):
        part, colon, number = text.partition(":")
        if not part or (colon and not (number.isascii() and number.isdigit())) or part in epochs:
            raise UserError(f"--freeze {shown(text)}: write each part once, as encoder, or encoder:3 for 3 epochs")
        epochs[part] = int(number) if colon else ALWAYS
    return epochs


def check(model: Module, epochs: dict[str, int], config: TrainingConfig) -> None:
    """UserError if the model lacks a part, or if none of its parameters would ever learn."""
    parts = list(dict.fromkeys(path.partition(".")[0] for path in model.named_params()))
    known = [*parts, *([NORMS] if members(model, NORMS) else [])]
    for part in epochs:
        if part not in known:
            raise UserError(f"--freeze {shown(part)}: the network has no such part; it has {', '.join(known)}")
    if config.encoder_lr and ENCODER not in parts:
        raise UserError(f"--encoder-lr: the network has no part named {ENCODER}; leave it out, and set --learning-rate")
    if all(epochs.get(part, 0) >= config.epochs for part in parts):
        raise UserError(f"--freeze {' '.join(parts)}: nothing is left to learn; leave one of them out")
