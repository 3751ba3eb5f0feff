"""How well what was found, or what a specialist took, matches what was sent. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """`good` of `n`, with Wilson's 95 % interval (E. B. Wilson, 1927)."""

    good: int
    n: int

    @property
    def value(self) -> float | None:
        return self.good / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.good, self.n)


def wilson(good: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion; (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    p = good / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest value that `percent` of them do not exceed."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, math.ceil(percent / 100 * len(ordered)) - 1))]


@dataclass(frozen=True)
class TaskScore:
    """One task that was sent, and the group (cluster or specialist) that most of it went to.

    Purity: share of the group's calls that are of the task. Missed: the task's calls that are not in the group.
    Foreign: calls of anything else that are in the group.
    """

    task: str
    group: str | None
    sent: int
    taken: Share
    purity: Share
    foreign: Share
    fragments: int  # further groups whose calls are mostly of this task

    @property
    def missed(self) -> Share:
        return Share(self.taken.n - self.taken.good, self.taken.n)


def score(pairs: Iterable[tuple[str, str | None]], tasks: Iterable[str]) -> list[TaskScore]:
    """From (true task, group or None) of every call. A group belongs to the task that most of its calls are of."""
    counts: Counter[tuple[str, str | None]] = Counter(pairs)
    sent: Counter[str] = Counter()
    members: Counter[str] = Counter()
    for (task, group), calls in counts.items():
        sent[task] += calls
        if group is not None:
            members[group] += calls
    owner = {group: max(sorted(sent), key=lambda task, g=group: counts[task, g]) for group in members}
    return [_score(task, counts, sent, members, owner) for task in tasks]


def _score(
    task: str, counts: Counter[tuple[str, str | None]], sent: Counter[str], members: Counter[str], owner: dict[str, str]
) -> TaskScore:
    own = sorted((g for g, of in owner.items() if of == task), key=lambda g: (-counts[task, g], g))
    others = sum(sent.values()) - sent[task]
    if not own:
        return TaskScore(task, None, sent[task], Share(0, sent[task]), Share(0, 0), Share(0, others), 0)
    group = own[0]
    hits = counts[task, group]
    return TaskScore(
        task,
        group,
        sent[task],
        Share(hits, sent[task]),
        Share(hits, members[group]),
        Share(members[group] - hits, others),
        len(own) - 1,
    )
