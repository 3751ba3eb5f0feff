"""Demand of one pool, from what the gateways counted: means over short windows. The operator's board and the simulator
use the same windows, so that what is simulated is what runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slmfleet.plan.fleet import LONGEST_PEAK_SECONDS, SHORTEST_PEAK_SECONDS, Demand

MEAN_SECONDS = 4.0
_WINDOW = timedelta(seconds=MEAN_SECONDS)


@dataclass
class PoolLoad:
    """Increments of one pool's counters in the last seconds, and the means that no later mean has reached."""

    _steps: deque[tuple[datetime, float, int]] = field(default_factory=deque)
    _peaks: deque[tuple[datetime, float]] = field(default_factory=deque)
    last_call: datetime | None = None

    def add(self, now: datetime, in_flight_seconds: float, spilled: int) -> None:
        """One increment of one gateway's counters; `now` never goes back."""
        self._steps.append((now, in_flight_seconds, spilled))
        while now - self._steps[0][0] >= _WINDOW:
            self._steps.popleft()
        mean = sum(load for _, load, _ in self._steps) / MEAN_SECONDS
        while self._peaks and self._peaks[-1][1] <= mean:
            self._peaks.pop()
        self._peaks.append((now, mean))
        while now - self._peaks[0][0] > timedelta(seconds=LONGEST_PEAK_SECONDS):
            self._peaks.popleft()

    def demand(self, now: datetime, watched_since: datetime, peak_seconds: float = SHORTEST_PEAK_SECONDS) -> Demand:
        """Load over the last seconds, all gateways together; its peak over `peak_seconds`."""
        recent = [(load, spilled) for at, load, spilled in self._steps if now - at < _WINDOW]
        window = timedelta(seconds=peak_seconds)
        return Demand(mean_in_flight=sum(load for load, _ in recent) / MEAN_SECONDS,
                      peak_in_flight=next((mean for at, mean in self._peaks if now - at <= window), 0.0),
                      spilled=sum(spilled for _, spilled in recent), last_call=self.last_call,
                      watched_since=watched_since)
