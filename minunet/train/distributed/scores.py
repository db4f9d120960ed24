"""What the ranks count on their shares of the validation images, put together: counts and sums, never means of means."""

from __future__ import annotations

from ...metrics import Confusion

Counted = tuple[float, int, list[Confusion]]


def added_up(parts: list[Counted]) -> Counted:
    """The sum of losses, of pixels, and of the counts at each threshold; a rank without an image has no counts."""
    losses, pixels, confusions = zip(*parts)
    counted: list[list[Confusion]] = [found for found in confusions if found]
    for others in counted[1:]:
        for total, other in zip(counted[0], others):
            total.counts += other.counts
    return sum(losses), sum(pixels), counted[0] if counted else []
