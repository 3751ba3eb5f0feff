"""Which server of a pool answers: two random choices, the one with fewer calls in flight, then the faster one.

In-flight counts are the gateway's own, since Triton's queue figures mean nothing for decoupled models. A server that
fails at the connection level is left alone for a while (it would look idle, and so attract everything), and so is one
that answers several calls in a row with errors: an error is fast, so it would attract everything, too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import exp
from typing import Literal

from slmfleet.gateway.origin import Origin

DECAY_SECONDS = 10.0
FADED_SECONDS = 100.0
EJECT_SECONDS = 0.5
EJECT_SECONDS_MAX = 15.0
ERRORS_IN_A_ROW = 5
STEP = 1.1


@dataclass(slots=True, eq=False)
class Server:
    """One Triton server. Lives over table changes, so its counts stay true."""

    origin: Origin
    in_flight: int = 0
    latency: float = 0.0
    typical: float = 0.0
    observed_at: float = 0.0
    failures: int = 0
    errors: int = 0
    ejected_until: float = 0.0
    by_adapter: dict[str, tuple[float, float]] = field(default_factory=dict)

    def observe(self, seconds: float, now: float, adapter: str | None = None) -> None:
        """Peak EWMA: up at once, down slowly (Finagle's). `typical` goes towards the median, step by step."""
        self.latency = _peak_ewma(self.latency, self.observed_at, seconds, now)
        self.observed_at = now
        self.failures = self.errors = 0
        self.typical = (self.typical * STEP if seconds > self.typical else self.typical / STEP) or seconds
        if adapter is None:
            return
        if adapter not in self.by_adapter:
            self.by_adapter = {name: seen for name, seen in self.by_adapter.items() if now - seen[1] < FADED_SECONDS}
        latency, at = self.by_adapter.get(adapter, (0.0, now))
        self.by_adapter[adapter] = (_peak_ewma(latency, at, seconds, now), now)

    def expected_seconds(self, now: float, adapter: str | None = None) -> float:
        """What a call is likely to take; it fades, so that a slow moment is not held against it for ever.

        With an adapter: by its own answers. Others' long answers do not make a short one late.
        """
        latency, at = (self.latency, self.observed_at) if adapter is None else self.by_adapter.get(adapter, (0.0, now))
        return latency * exp(-(now - at) / DECAY_SECONDS)

    def usual_seconds(self, now: float) -> float:
        """What most calls take; it fades, too."""
        return self.typical * exp(-(now - self.observed_at) / DECAY_SECONDS)

    def outlasted(self, seconds: float, now: float) -> None:
        """A call was given up after so long: another server was faster. It says nothing of failures."""
        if seconds > self.expected_seconds(now):
            self.latency, self.observed_at = seconds, now

    def failed(self, now: float) -> None:
        """It did not answer: leave it alone, longer with every failure in a row.

        Calls that were already under way fail together: one failure as long as it is left alone anyway.
        """
        if self.ejected_until > now:
            return
        self.ejected_until = now + min(EJECT_SECONDS * 2**self.failures, EJECT_SECONDS_MAX)
        self.failures = min(self.failures + 1, 10)

    def erred(self, now: float) -> None:
        """It answered with an error (429, 5xx, nonsense): one may be the call's own fault, a row of them is not.

        After it was left alone, one more error is enough (its first answer is a probe).
        """
        self.errors += 1
        if self.failures or self.errors >= ERRORS_IN_A_ROW:
            self.failed(now)


@dataclass(frozen=True, slots=True)
class Placement:
    """A server of a pool and the adapters that answer there."""

    server: Server
    adapters: frozenset[str]


def _peak_ewma(latency: float, at: float, seconds: float, now: float) -> float:
    weight = 0.0 if seconds > latency else exp(-(now - at) / DECAY_SECONDS)
    return latency * weight + seconds * (1 - weight)


def share_of(max_in_flight: int, processes: int) -> int:
    """A process's part of a bound that is the whole gateway's; at least one call, or it could never be used."""
    return -(-max_in_flight // processes)


def pick(
    placements: list[Placement], adapter: str, max_in_flight: int, now: float, rng: random.Random
) -> Server | Literal["cold", "full"]:
    """The server to ask, or why there is none: `cold` (the adapter is nowhere) or `full`."""
    resident = [place.server for place in placements if adapter in place.adapters]
    healthy = [server for server in resident if server.ejected_until <= now]
    if not healthy:
        return "cold"
    if len(healthy) > 2:
        pair = rng.sample(healthy, 2)
        if min(server.in_flight for server in pair) < max_in_flight:
            healthy = pair
    server = min(healthy, key=lambda server: (server.in_flight, server.latency))
    return server if server.in_flight < max_in_flight else "full"


def faster_than(
    first: Server, waited_seconds: float, placements: list[Placement], adapter: str, max_in_flight: int, now: float
) -> Server | None:
    """Another server with a free slot that mostly answers sooner than one that has already taken so long."""
    expected = max(first.usual_seconds(now), waited_seconds)
    others = [
        place.server
        for place in placements
        if place.server is not first
        and adapter in place.adapters
        and place.server.ejected_until <= now
        and place.server.in_flight < max_in_flight
        and place.server.usual_seconds(now) < expected
    ]
    return min(others, key=lambda server: (server.in_flight, server.usual_seconds(now)), default=None)
