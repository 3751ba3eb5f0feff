"""When to stop: the loss on conversations kept from training no longer falls. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from slmtrain.job import Config

PATIENCE = 6  # measurements; a linear decay's last quarter often gives the best one, so not few
FEWEST_EXAMPLES = 1000  # below it, a twentieth of the examples is too few to judge by and too many to lose
MOST_VALIDATED = 256  # examples: a measurement costs as much as two or three steps of 32


def patience_of(config: Config, examples: int) -> int:
    """What was asked for; else PATIENCE, and 0 (never) where steps are given or examples are few."""
    if config.validation_share == 0:
        return 0
    if config.patience is not None:
        return config.patience
    return 0 if config.max_steps or examples < FEWEST_EXAMPLES else PATIENCE


def best_of(measured: Sequence[Sequence[float]]) -> int:
    """The step of the lowest loss among (step, loss); the earlier one of equals.

    >>> best_of([(5, 0.9), (10, 0.4), (15, 0.4)])
    10
    """
    return int(min(measured, key=lambda pair: pair[1])[0])


def is_over(measured: Sequence[Sequence[float]], patience: int) -> bool:
    """Whether the last `patience` measurements were all worse than the best one before them.

    >>> is_over([(5, 0.9), (10, 0.4), (15, 0.5), (20, 0.41)], 2), is_over([(5, 0.9), (10, 0.4), (15, 0.5)], 2)
    (True, False)
    """
    best = best_of(measured)
    return sum(1 for step, _ in measured if step > best) >= patience
