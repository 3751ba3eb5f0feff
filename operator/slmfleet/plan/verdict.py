"""The sequential verdict: promote, roll back, or not yet; valid however often it is looked at.

Each side is an e-process: a bet against its hypothesis whose wealth grows only if the hypothesis is wrong. By Ville's
inequality the wealth of a true hypothesis ever reaches 1/alpha with probability at most alpha, at any time and for any
stopping rule. A mixture over a grid of bets needs no tuning. (Ville 1939; Waudby-Smith and Ramdas, "Estimating means
of bounded random variables by betting", JRSS B 2024.)

Covered: peeking, stopping early, waiting as long as traffic is thin. Not covered: calls that are not exchangeable
(that is why the unit is the conversation), and a quality that changes while the test runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["promote", "rollback", "continue"]
GRID = 40


def share_verdict(good: int, bad: int, least: float, alpha: float) -> Verdict:
    """Is the share of good ones above `least` (promote) or below it (roll back)? Each at level alpha.

    >>> share_verdict(60, 0, 0.9, 0.05), share_verdict(3, 6, 0.9, 0.05), share_verdict(9, 1, 0.9, 0.05)
    ('promote', 'rollback', 'continue')
    """
    least = min(max(least, 1e-6), 1 - 1e-6)
    wall = math.log(1 / alpha)
    if _log_wealth(good, bad, least, above=False) >= wall:
        return "rollback"
    if _log_wealth(good, bad, least, above=True) >= wall:
        return "promote"
    return "continue"


def _log_wealth(good: int, bad: int, null: float, *, above: bool) -> float:
    """Log wealth of a uniform mixture of alternatives on one side of `null`.

    For an alternative p above the null the likelihood ratio is a supermartingale under every share at or below it.
    """
    width = 1 - null if above else null
    logs = []
    for i in range(GRID):
        step = width * (i + 0.5) / GRID
        p = null + step if above else null - step
        logs.append(good * math.log(p / null) + bad * math.log((1 - p) / (1 - null)))
    return _log_mean_exp(logs)


def _log_mean_exp(logs: list[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


@dataclass(frozen=True)
class Outcome:
    """Result of `difference_verdict`. `interval` is a confidence sequence at 1 - alpha, in differences."""

    verdict: Verdict
    after: int
    estimate: float
    interval: tuple[float, float]
    lines: int


BETS = tuple((i + 0.5) / 20 for i in range(20))
LEAST_STAKE = 1e-6
BISECTIONS = 16


def difference_verdict(differences: Iterable[float], margin: float, alpha: float) -> Outcome:
    """Candidate minus baseline, in arrival order, each in [-1, 1].

    `promote` rejects "worse by the margin or more", `rollback` rejects "worse by less than the margin".
    Raises ValueError for a difference outside [-1, 1].
    """
    wall = math.log(1 / alpha)
    up, down = [0.0] * len(BETS), [0.0] * len(BETS)
    verdict: Verdict = "continue"
    seen: list[float] = []
    after = 0
    for value in differences:
        if not -1 <= value <= 1:
            raise ValueError(f"difference {value} is outside [-1, 1]")
        seen.append(value)
        if verdict != "continue":
            continue
        _bet(up, value + margin, 1 - margin)
        _bet(down, -(value + margin), 1 + margin)
        after = len(seen)
        if _log_mean_exp(up) >= wall:
            verdict = "promote"
        elif _log_mean_exp(down) >= wall:
            verdict = "rollback"
    if verdict == "continue":
        after = len(seen)
    mean = sum(seen) / len(seen) if seen else 0.0
    return Outcome(verdict, after, mean, _confidence_interval(seen, alpha), len(seen))


def _bet(wealth: list[float], gain: float, worst: float) -> None:
    """One round: every bet stakes a fraction of its wealth on a positive mean of `gain`, which is at least -worst."""
    for i, fraction in enumerate(BETS):
        wealth[i] += math.log1p(fraction / max(worst, LEAST_STAKE) * gain * (1 - 1e-9))


def _confidence_interval(seen: list[float], alpha: float) -> tuple[float, float]:
    """All means that neither bet at alpha/2 can reject; bisected, since rejection is monotone in the mean."""
    if not seen:
        return (-1.0, 1.0)
    counts: dict[float, int] = {}
    for value in seen:
        counts[value] = counts.get(value, 0) + 1
    wall = math.log(2 / alpha)

    def rejected(mean: float, *, above: bool) -> bool:
        worst = 1 + mean if above else 1 - mean
        if worst <= 0:
            return any(value != mean for value in counts)
        sign = 1 if above else -1
        logs = [sum(n * math.log1p(bet / worst * sign * (value - mean) * (1 - 1e-9)) for value, n in counts.items())
                for bet in BETS]
        return _log_mean_exp(logs) >= wall

    middle = sum(seen) / len(seen)  # never rejected: no bet wins on the mean itself
    return (_edge(-1.0, middle, lambda mean: rejected(mean, above=True)),
            _edge(1.0, middle, lambda mean: rejected(mean, above=False)))


def _edge(outer: float, inner: float, rejected: Callable[[float], bool]) -> float:
    """Where rejection begins between a mean that holds and the end of the range; errs to the outside."""
    if not rejected(outer):
        return outer
    for _ in range(BISECTIONS):
        between = (outer + inner) / 2
        if rejected(between):
            outer = between
        else:
            inner = between
    return outer
