"""What the trainings of bench/peers_accuracy.py share: the images, and the CPU minutes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nuclei_lists import SPLITS
from pretrained import groups, linked

from minunet.data import ImageSet, open_dataset, read_names


class Images(NamedTuple):
    """What a training sees: the images, which of them train and which choose, and a file of their kinds."""

    dataset: ImageSet
    train: list[int]
    validation: list[int]
    kinds: Path


def opened(data: Path, out: Path) -> Images:
    images = open_dataset(linked(data, out, ("train", "validation")), channels=3)
    parts = images.split(names=read_names(SPLITS / "nuclei_validation.txt"))
    return Images(images, *parts, groups(data, out))


def cpu_minutes() -> float:
    """Of this process so far, and of its children that have ended."""
    return sum(os.times()[:4]) / 60


class Budget:
    """What a training may use and has used, in CPU minutes, those of earlier parts included; and whether it is to stop."""

    def __init__(self, minutes: float, before: float) -> None:
        self.minutes, self.asked = minutes, False
        self._began = cpu_minutes() - before

    @property
    def used(self) -> float:
        return cpu_minutes() - self._began

    @property
    def spent(self) -> bool:
        return self.used >= self.minutes

    @property
    def over(self) -> bool:
        """Whether to stop, because nothing is left or a signal asks for it."""
        return self.asked or self.spent

    def rate(self, start: float) -> float:
        """The learning rate now."""
        return start * (1 + math.cos(math.pi * min(1.0, self.used / self.minutes))) / 2

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block in which signals only ask."""

        def ask(*_: Any) -> None:
            self.asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
