"""Bounds of a measured share."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.95)


def bounds(share: float, count: int) -> tuple[float, float]:
    """Lower and upper bound of a share of `count`, each at 95 %: Wilson's (E. B. Wilson, JASA 1927). No count: 0, 1.

    >>> [round(x, 3) for x in bounds(0.1, 100)], bounds(0.0, 0)
    ([0.061, 0.161], (0.0, 1.0))
    """
    if not count:
        return 0.0, 1.0
    z2 = _Z * _Z
    middle = share + z2 / (2 * count)
    spread = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, (middle - spread) / (1 + z2 / count)), min(1.0, (middle + spread) / (1 + z2 / count))
