"""One simulated server: what the gateway's choice sees of it, its engine, and the adapters it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from slmfleet.gateway.balance import Server
from slmfleet.simulate.engine import Engine, Job


@dataclass(slots=True, eq=False)
class Call(Job):
    """One arrival on its way. Times are seconds since the first arrival of the trace."""

    index: int = 0
    specialist: int = 0
    name: str = ""
    arrived: float = 0.0
    timeout_seconds: float = inf
    waits_until: float = 0.0
    begun: float = 0.0
    waited: bool = False
    over: bool = False
    server: SimulatedServer | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class SimulatedServer(Server):
    """A server with its engine. `adapters`: what it holds, or is loading, with the time from which it can be used."""

    pod: str
    engine: Engine
    created_at: float
    ready: bool = False
    gone_at: float | None = None
    last_end: float = 0.0
    wakes_at: float = inf
    adapters: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    used_at: dict[str, float] = field(default_factory=dict)

    def begin(self, call: Call, now: float) -> None:
        """The call is sent to this server."""
        self.in_flight += 1
        self.calls[call.name] = self.calls.get(call.name, 0) + 1
        self.used_at[call.name] = now

    def end(self, call: Call, now: float) -> None:
        """It is answered, or given up."""
        self.in_flight -= 1
        self.calls[call.name] -= 1
        self.last_end = now

    def least_recent_idle(self) -> str | None:
        """The adapter that a load on demand drops: unused for longest, and of no call in flight."""
        idle = [name for name in self.adapters if not self.calls.get(name)]
        return min(idle, key=lambda name: (self.used_at.get(name, 0.0), name), default=None)

    def can_host(self, adapter: str, slots: int) -> bool:
        """Whether the adapter is there, or could be loaded without taking one from a call in flight."""
        return adapter in self.adapters or len(self.adapters) < slots or self.least_recent_idle() is not None
