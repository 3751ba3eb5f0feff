"""Which server of a pool answers: two random choices, the one with fewer calls in flight, then the faster one.

In-flight counts are the gateway's own, since Triton's queue figures mean nothing for decoupled models. A server that
fails at the connection level is left alone for a while (it would look idle, and so attract everything).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp
from typing import Literal

from slmfleet.gateway.upstream import Origin

DECAY_SECONDS = 10.0
EJECT_SECONDS = 0.5
EJECT_SECONDS_MAX = 15.0


@dataclass(slots=True, eq=False)
class Server:
    """One Triton server. Lives over table changes, so its counts stay true."""

    origin: Origin
    in_flight: int = 0
    latency: float = 0.0
    observed_at: float = 0.0
    failures: int = 0
    ejected_until: float = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """Peak EWMA: up at once, down slowly (Finagle's)."""
        weight = 0.0 if seconds > self.latency else exp(-(now - self.observed_at) / DECAY_SECONDS)
        self.latency = self.latency * weight + seconds * (1 - weight)
        self.observed_at = now
        self.failures = 0

    def failed(self, now: float) -> None:
        """Leave it alone, longer with every failure in a row."""
        self.ejected_until = now + min(EJECT_SECONDS * 2**self.failures, EJECT_SECONDS_MAX)
        self.failures = min(self.failures + 1, 10)


@dataclass(frozen=True, slots=True)
class Placement:
    """A server of a pool and the adapters that answer there."""

    server: Server
    adapters: frozenset[str]


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
