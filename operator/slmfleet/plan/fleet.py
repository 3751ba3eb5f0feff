"""The fleet planner: how many servers a pool should have. (Which adapters each holds: `placement`.)

Pure: measured demand in, numbers out. Scales up at once, down only after the idle time; a scale to zero needs a whole
idle time without a single call. What it does not do: move adapters between pools, or buy nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from slmfleet.api.basemodel import PoolSpec

SHORTEST_PEAK_SECONDS = 20.0
LONGEST_PEAK_SECONDS = 300.0  # the HPA's default

@dataclass(frozen=True)
class Demand:
    """What the gateways saw of one pool.

    `mean_in_flight`: calls in flight, averaged over the last seconds. `peak_in_flight`: its largest recent mean, over
    the scale-down window (`peak_seconds`). `last_call`: when the newest call that wanted the pool arrived, as far as
    is known.
    `watched_since`: when counting began; before that nothing is known. `spilled`: calls that found it full in the
    last seconds. `adapters`: adapters that were called lately, each of which should have a place.
    """

    mean_in_flight: float = 0.0
    peak_in_flight: float = 0.0
    spilled: int = 0
    adapters: int = 0
    last_call: datetime | None = None
    watched_since: datetime | None = None


@dataclass(frozen=True)
class Scale:
    """Servers wanted, and why."""

    replicas: int
    reason: str


def replicas(spec: PoolSpec, current: int, demand: Demand, *, chosen: bool, held: bool, now: datetime) -> Scale:
    """Servers wanted now.

    `chosen`: a Specialist uses the base. `held`: a rollout is measuring there, so at least one server stays.
    """
    if not chosen:
        return Scale(0, "no Specialist uses this base")
    if spec.replicas is not None:
        return Scale(spec.replicas, "spec.pool.replicas is set: an autoscaler owns the number")
    idle = _idle(spec, current, demand, now)
    floor = max(spec.min_replicas, 1 if held else 0)
    if idle:
        why = "a rollout is under way" if held else f"no call for {spec.idle_seconds} s"
        return Scale(min(floor, spec.max_replicas), why)
    floor = max(1, floor, math.ceil(demand.adapters / spec.adapter_slots))
    wanted = max(floor, math.ceil(demand.mean_in_flight / spec.target_in_flight))
    if demand.spilled:  # turned away by busy servers: one more; by servers that are still starting: wait for them
        busy = demand.mean_in_flight >= spec.target_in_flight * current / 2 > 0
        wanted = max(wanted, current + busy)
    if wanted < current and _watched_seconds(demand, now) < peak_seconds(spec):
        return Scale(min(current, spec.max_replicas), "counting has just begun")
    if wanted < current:
        needed = max(floor, math.ceil(demand.peak_in_flight / spec.target_in_flight))
        wanted = min(current, needed)
    wanted = min(wanted, spec.max_replicas)
    if wanted == 1 and current == 0:
        return Scale(1, "a call came while the pool was at zero")
    if wanted == floor > math.ceil(demand.peak_in_flight / spec.target_in_flight) > 0 and demand.adapters:
        return Scale(wanted, f"{demand.adapters} adapters called lately, {spec.adapter_slots} slots a server")
    return Scale(wanted, f"{demand.mean_in_flight:.1f} calls in flight, {spec.target_in_flight:g} a server")


def peak_seconds(spec: PoolSpec) -> float:
    """How long a peak keeps its servers: the idle time, within bounds. A server takes long to come back."""
    return min(max(spec.idle_seconds, SHORTEST_PEAK_SECONDS), LONGEST_PEAK_SECONDS)


def _watched_seconds(demand: Demand, now: datetime) -> float:
    return (now - demand.watched_since).total_seconds() if demand.watched_since else 0.0


def _idle(spec: PoolSpec, current: int, demand: Demand, now: datetime) -> bool:
    """Whether no call came for the idle time. A running pool gets that time anew when watching began."""
    last = demand.last_call or (demand.watched_since if current else None)
    return last is None or (now - last).total_seconds() > spec.idle_seconds
