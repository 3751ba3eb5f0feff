"""The routing classifier's gate: whether the one that a discovery run trained takes over from the one in use.

Judged on the latest conversations, which neither has learned from in that run. It is refused where it surely (95 %)
takes more foreign calls than the Router tolerates, or where it is clearly worse than the one in use on the same calls:
the two intervals of a rate do not meet. The old one stays, and the next run tries again.

Not covered: held-out calls that the one in use saw when it was trained itself make it look better than it is, so where
little is new the old one rather stays.
"""

from __future__ import annotations

from slmfleet.plan.interval import bounds
from slmfleet.wire.discovery import ClassifierRates, ClassifierResult


def path(digest: str) -> str:
    """Where gateways read it, below the store's prefix."""
    return f"router/{digest.removeprefix('sha256:')}/classifier.npz"


def refusal(found: ClassifierResult, tolerated: float) -> str | None:
    """Why it is not used, or None. `tolerated`: share of foreign calls that may be taken, 0 to 1."""
    lower, _ = bounds(found.foreign_rate, found.foreign_calls)
    if lower > tolerated:
        return (f"it takes {found.foreign_rate:.2%} of {found.foreign_calls:,} foreign held-out calls, surely more "
                f"than {lower:.2%}; {tolerated:.2%} is tolerated")
    if found.in_use is None:
        return None
    if found.foreign_rate > tolerated and _clearly_more(found, found.in_use, "foreign_rate", "foreign_calls"):
        return (f"it takes {found.foreign_rate:.2%} of {found.foreign_calls:,} foreign held-out calls, the one in use "
                f"{found.in_use.foreign_rate:.2%}; {tolerated:.2%} is tolerated")
    if _clearly_more(found, found.in_use, "missed_rate", "members"):
        return (f"it misses {found.missed_rate:.2%} of {found.members:,} held-out calls of the tasks, the one in use "
                f"{found.in_use.missed_rate:.2%}")
    return None


def _clearly_more(found: ClassifierResult, in_use: ClassifierRates, rate: str, count: str) -> bool:
    lower, _ = bounds(getattr(found, rate), getattr(found, count))
    _, upper = bounds(getattr(in_use, rate), getattr(in_use, count))
    return lower > upper


def figures(found: ClassifierResult, tolerated: float) -> str:
    """Its rates on held-out traffic, for people."""
    return (f"takes {found.foreign_rate:.2%} of {found.foreign_calls:,} foreign held-out calls ({tolerated:.2%} "
            f"tolerated), misses {found.missed_rate:.2%} of {found.members:,} of the tasks'")
