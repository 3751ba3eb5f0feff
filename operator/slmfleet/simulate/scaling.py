"""How many servers a pool should have: the operator's planner on the gateway's counters, and the HPA's rule.

The planner is the real one, fed through the windows that the operator's board uses, once a second as there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from slmfleet.gateway.counters import PoolCounter
from slmfleet.plan import fleet
from slmfleet.plan.demand import PoolLoad
from slmfleet.plan.placement import LATELY
from slmfleet.simulate.fleetfile import PoolFile, utilisation_target

TICK_SECONDS = 1.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WATCHED_BEFORE = timedelta(hours=1)


class Planner:
    """The fleet planner on one pool's counters. The operator has watched for an hour when the trace begins."""

    every_seconds = TICK_SECONDS

    def __init__(self, pool: PoolFile) -> None:
        self._pool = pool.pool
        self._load = PoolLoad()
        self._seconds, self._spilled, self._arrivals = 0.0, 0, 0

    def look(self, counter: PoolCounter, now: float) -> None:
        """The operator's board asks the gateway."""
        at, seconds = EPOCH + timedelta(seconds=now), counter.in_flight_seconds(now)
        self._load.add(at, seconds - self._seconds, counter.spilled - self._spilled)
        if counter.arrivals > self._arrivals:
            self._load.last_call = at
        self._seconds, self._spilled, self._arrivals = seconds, counter.spilled, counter.arrivals

    def wanted(self, current: int, ready: int, calls: Mapping[str, float], now: float) -> int:
        """Servers wanted now. `current`: those wanted so far. `calls`: recent ones by adapter."""
        at = EPOCH + timedelta(seconds=now)
        lately = sum(called >= LATELY for called in calls.values())
        demand = replace(self._load.demand(at, EPOCH - WATCHED_BEFORE, fleet.peak_seconds(self._pool)), adapters=lately)
        return fleet.replicas(self._pool, current, demand, chosen=True, held=False, now=at).replicas

    def floor(self) -> int:
        """Servers before the first call."""
        return self._pool.min_replicas if self._pool.replicas is None else self._pool.replicas


class Hpa:
    """The HorizontalPodAutoscaler's algorithm and defaults (Kubernetes documentation, "Horizontal Pod Autoscaling").

    Every 15 s: desired = ceil(ready x measured / target), none within a tolerance of 10 %; up by at most 100 % or 4
    servers, down only to the highest wish of the last 300 s; never below one. Measured is the share of slots in use.
    """

    every_seconds = 15.0
    tolerance = 0.1
    stabilisation_seconds = 300.0

    def __init__(self, pool: PoolFile) -> None:
        self._pool = pool.pool
        self._slots = min(pool.service.slots, pool.pool.max_in_flight)
        self._target = utilisation_target(pool)
        self._wishes: deque[tuple[float, int]] = deque()
        self._seconds, self._at, self._mean = 0.0, 0.0, 0.0

    def look(self, counter: PoolCounter, now: float) -> None:
        """The metrics of the last period."""
        seconds = counter.in_flight_seconds(now)
        if now > self._at:
            self._mean = (seconds - self._seconds) / (now - self._at)
        self._seconds, self._at = seconds, now

    def wanted(self, current: int, ready: int, calls: Mapping[str, float], now: float) -> int:
        """Servers wanted now. It knows nothing of adapters."""
        wish = current
        if ready:
            ratio = self._mean / (ready * self._slots) / self._target
            wish = ready if abs(ratio - 1) <= self.tolerance else math.ceil(ready * ratio)
        self._wishes.append((now, wish))
        while now - self._wishes[0][0] > self.stabilisation_seconds:
            self._wishes.popleft()
        if wish > current:
            wish = min(wish, max(2 * current, current + 4))
        elif wish < current:
            wish = min(current, max(wished for _, wished in self._wishes))
        return max(self.floor(), min(wish, self._pool.max_replicas))

    def floor(self) -> int:
        """It cannot scale from zero."""
        return max(1, self._pool.min_replicas)
