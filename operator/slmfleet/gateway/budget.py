"""How much retrying the traffic may cost: a tenth on top of it, so that a failing server never meets a storm of ours.

A few retries are free in every window, for quiet hours in which a tenth of the calls is none at all. It bounds what
this process adds; what its callers send again is theirs.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_SECONDS = 10.0
SHARE = 0.1
FREE = 3


class RetryBudget:
    """Counts calls and retries of the current window. `clock` is monotonic seconds."""

    __slots__ = ("_calls", "_clock", "_retries", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._calls = 0
        self._retries = 0

    def call(self) -> None:
        """A first try, which is what retries are measured by."""
        self._calls += 1

    def spend(self) -> bool:
        """Whether one more retry is within the budget; it then counts."""
        now = self._clock()
        if now - self._since >= WINDOW_SECONDS:
            self._since, self._calls, self._retries = now, 0, 0
        if self._retries >= max(FREE, int(self._calls * SHARE)):
            return False
        self._retries += 1
        return True
