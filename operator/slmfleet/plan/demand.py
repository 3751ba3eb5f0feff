"""Demand of one pool, from what the gateways counted: means over short windows. The operator's board and the simulator
use the same windows, so that what is simulated is what runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slmfleet.plan.fleet import PEAK_SECONDS, Demand

MEAN_SECONDS = 4.0


@dataclass
class PoolLoad:
    """Recent increments of one pool: (when, call-seconds, spilled)."""

    steps: deque[tuple[datetime, float, int]] = field(default_factory=deque)
    last_call: datetime | None = None

    def add(self, now: datetime, in_flight_seconds: float, spilled: int) -> None:
        """One increment of one gateway's counters; `forget` drops it after the scale-down window."""
        self.steps.append((now, in_flight_seconds, spilled))

    def forget(self, now: datetime) -> None:
        """Drop what is older than the scale-down window."""
        while self.steps and now - self.steps[0][0] > timedelta(seconds=PEAK_SECONDS):
            self.steps.popleft()

    def demand(self, now: datetime, watched_since: datetime) -> Demand:
        """Load over the last seconds, all gateways together."""
        window = timedelta(seconds=MEAN_SECONDS)
        return Demand(mean_in_flight=self._mean(now), peak_in_flight=self._peak(),
                      spilled=sum(spilled for at, _, spilled in self.steps if now - at < window),
                      last_call=self.last_call, watched_since=watched_since)

    def _mean(self, end: datetime) -> float:
        """Mean calls in flight: call-seconds over the window. Several gateways add up."""
        window = timedelta(seconds=MEAN_SECONDS)
        return sum(load for at, load, _ in self.steps if timedelta(0) <= end - at < window) / MEAN_SECONDS

    def _peak(self) -> float:
        """Largest mean over a mean's window within the scale-down window. Steps are in order of time."""
        window, best = timedelta(seconds=MEAN_SECONDS), 0.0
        recent: deque[tuple[datetime, float]] = deque()
        for at, load, _ in self.steps:
            recent.append((at, load))
            while at - recent[0][0] >= window:
                recent.popleft()
            best = max(best, sum(load for _, load in recent))
        return best / MEAN_SECONDS
