"""Which server a call is sent to: the gateway's own choice, and what others do.

The choices of others skip a full server, which is more than a plain proxy can do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from slmfleet.gateway.balance import Placement, pick
from slmfleet.simulate.server import SimulatedServer

Found = SimulatedServer | Literal["cold", "full"]


@dataclass
class Choice:
    """State of one pool's choice. `slots`: adapters a server holds. `max_in_flight`: calls a server takes."""

    rng: random.Random
    max_in_flight: int
    slots: int
    servers: list[SimulatedServer] = field(default_factory=list)
    placements: list[Placement] = field(default_factory=list)
    _turn: int = 0

    def seen(self, servers: Sequence[SimulatedServer], now: float) -> None:
        """A new table reaches the gateway: these servers answer, with the adapters that they have by now."""
        self.servers = list(servers)
        self.placements = [
            Placement(server, frozenset(name for name, at in server.adapters.items() if at <= now))
            for server in servers
        ]

    def two_choices(self, adapter: str, now: float) -> Found:
        """What the gateway does."""
        found = pick(self.placements, adapter, self.max_in_flight, now, self.rng)
        assert isinstance(found, SimulatedServer | str)
        return found

    def round_robin(self, adapter: str, now: float) -> Found:
        """The next server in turn that has room."""
        for _ in self.servers:
            self._turn += 1
            server = self.servers[self._turn % len(self.servers)]
            if self._has_room(server, adapter, now):
                return server
        return "full" if self.servers else "cold"

    def least_loaded(self, adapter: str, now: float) -> Found:
        """The server with the fewest calls in flight; ties by chance."""
        fitting = [server for server in self.servers if self._has_room(server, adapter, now)]
        if not fitting:
            return "full" if self.servers else "cold"
        least = min(server.in_flight for server in fitting)
        return self.rng.choice([server for server in fitting if server.in_flight == least])

    def resident_first(self, adapter: str, now: float) -> Found:
        """What the gateway does, and where it would turn the call away, the least loaded server."""
        holders = [Placement(server, frozenset((adapter,))) for server in self.servers if adapter in server.adapters]
        found = pick(holders, adapter, self.max_in_flight, now, self.rng)
        assert isinstance(found, SimulatedServer | str)
        return self.least_loaded(adapter, now) if isinstance(found, str) else found

    def own(self, adapter: str, now: float) -> Found:
        """The server that has this adapter and no other."""
        for server in self.servers:
            if adapter in server.adapters:
                return server if self._has_room(server, adapter, now) else "full"
        return "cold"

    def _has_room(self, server: SimulatedServer, adapter: str, now: float) -> bool:
        return (server.in_flight < self.max_in_flight and server.ejected_until <= now
                and server.can_host(adapter, self.slots))


CHOICES: dict[str, Callable[[Choice, str, float], Found]] = {
    "two-choices": Choice.two_choices,
    "round-robin": Choice.round_robin,
    "least-loaded": Choice.least_loaded,
    "resident-first": Choice.resident_first,
    "own": Choice.own,
}
