"""How long a caller waits, as it says itself, and how much of that one tier may use.

There is no standard for it. `x-request-timeout` (seconds) is for callers that want to say it; the OpenAI clients say it
unasked, Python's as `x-stainless-read-timeout`, Node's as `x-stainless-timeout` (both in seconds, 600 by default). All
mean the wait for an answer's first byte. A value that is no positive number says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

HEADERS = (b"x-request-timeout", b"x-stainless-read-timeout", b"x-stainless-timeout")
SHARE_OF_A_TRY = 0.5


def patience_seconds(headers: Mapping[bytes, bytes]) -> float | None:
    """What the caller says; names in lower case."""
    for name in HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value)
        except ValueError:
            continue
        if isfinite(seconds) and seconds > 0:
            return seconds
    return None


def of_a_try(limit_seconds: float, deadline: float | None, now: float) -> float:
    """Seconds that a tier before the last may take: half of what is left, so that the next can still answer in time."""
    return limit_seconds if deadline is None else min(limit_seconds, max((deadline - now) * SHARE_OF_A_TRY, 0.0))


def of_the_last(limit_seconds: float, deadline: float | None, now: float) -> float:
    """Seconds that the last tier may take."""
    return limit_seconds if deadline is None else min(limit_seconds, max(deadline - now, 0.001))
