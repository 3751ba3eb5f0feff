"""How many rows one origin may give to a dataset. Pure arithmetic on the origins' sizes.

A share can hold where the other origins, and the rows that name none, can fill the rest: of k origins alone no share
below 1 / k does. By default nothing is spent on what a log of few origins cannot have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

USUAL_SHARE = 0.5
LEFT_SHARE = 1 / 3
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cap:
    """`share`: the one that is kept to, of 1; `limit`: rows of one origin at most."""

    share: float
    limit: int


def cap(sizes: Sequence[int], free: int, asked: float | None) -> Cap:
    """The cap on the rows of one origin. `sizes`: rows of each; `free`: rows that name none; `asked`: None by default.

    What is asked for is kept to where it can hold; else the least share that can:

    | sizes | asked | share | limit |
    |---|---|---|---|
    | 60, 20, 20 | 0.5 | 0.5 | 40 |
    | 95, 5 | 0.5 | 0.5 | 5 |
    | 40, 30, 20 | 0.1 | 1 / 3 | 20 |
    | 100 | 0.5 | 1 | 100 |

    By default it is a half, of three origins two thirds, of fewer none: equal parts of two would cost all that one has
    more than the other. Nor is there a cap by default that would leave less than a third of the rows.
    """
    if not sizes:
        return Cap(1.0, 0)
    if asked is not None:
        share = asked if free else max(asked, 1 / len(sizes))
        return Cap(share, _limit(sizes, free, share))
    share = min(1.0, max(USUAL_SHARE, 2 / len(sizes)))
    limit = _limit(sizes, free, share)
    if _left(sizes, free, limit) < LEFT_SHARE * (free + sum(sizes)):
        return Cap(1.0, max(sizes))
    return Cap(share, limit)


def _limit(sizes: Sequence[int], free: int, share: float) -> int:
    """The most rows of one origin, so that it is at most `share` of what is then left."""
    if share >= 1:
        return max(sizes)
    low, high = 0, max(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        fits = middle <= share * _left(sizes, free, middle) + _ROUNDING
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _left(sizes: Sequence[int], free: int, limit: int) -> int:
    return free + sum(min(size, limit) for size in sizes)
