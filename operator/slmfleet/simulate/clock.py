"""Simulated time: events in order of time, and of their making within one instant."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """`now`: seconds since the first arrival of the trace."""

    __slots__ = ("_count", "_events", "now")

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._count = 0
        self.now = 0.0

    def at(self, when: float, act: Callable[[Any, float], None], what: Any) -> None:
        """Call `act(what, when)` when it is time."""
        self._count += 1
        heappush(self._events, (when, self._count, act, what))

    def run_to(self, when: float) -> None:
        """What is due until then, and that instant included; then it is then."""
        events = self._events
        while events and events[0][0] <= when:
            self.step()
        self.now = when

    def step(self) -> None:
        """The next event."""
        self.now, _, act, what = heappop(self._events)
        act(what, self.now)
