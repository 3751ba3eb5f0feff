"""The servers of one pool over time: how many there are, and which adapters each holds.

Mirrors what the operator does with a pool (`controllers/basemodel.py`): look, plan, then move adapters one after
another, during which it plans nothing else; gateways see the new places when all moves are done.
"""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from slmfleet.gateway.counters import PoolCounter
from slmfleet.gateway.origin import Origin
from slmfleet.plan.placement import RecentCalls, placement
from slmfleet.plan.pool import DRAIN_SECONDS
from slmfleet.simulate.choosing import Choice
from slmfleet.simulate.clock import Clock
from slmfleet.simulate.engine import Engine
from slmfleet.simulate.fleetfile import Adapter, PoolFile, rates
from slmfleet.simulate.outcomes import PoolUse
from slmfleet.simulate.scaling import EPOCH, TICK_SECONDS, Hpa, Planner
from slmfleet.simulate.server import SimulatedServer
from slmfleet.simulate.systems import System


class Servers:
    """`choice` is told of every new table, `counter` is what the operator looks at, `use` is what was used."""

    def __init__(
        self, pool: PoolFile, adapters: Mapping[str, Adapter], system: System, clock: Clock, rng: random.Random
    ) -> None:
        self.pool, self.adapters, self.system = pool, adapters, system
        self.choice = Choice(rng, pool.pool.max_in_flight, pool.pool.adapter_slots)
        self.counter = PoolCounter()
        self.use = PoolUse(pool.name)
        self.on_demand = system.place == "on-demand"
        self._clock, self._rng = clock, rng
        self._rates = rates(pool.service)
        self._calls = RecentCalls()
        self._arrivals: Counter[str] = Counter()
        scaler = {"planner": Planner, "hpa": Hpa, "fixed": None}[system.scale]
        self._autoscaler = scaler(pool) if scaler else None
        self._servers: list[SimulatedServer] = []
        self._gone: list[SimulatedServer] = []
        self._moving = False

    def arrived(self, adapter: str) -> None:
        """A call that wants this adapter came, whatever becomes of it."""
        self.counter.arrivals += 1
        self._arrivals[adapter] += 1

    def start(self) -> None:
        """The pool as it is before the first call: its fewest servers, warm, with their adapters."""
        if self._autoscaler is None:
            for name in self.adapters:
                self._create(0.0).adapters[name] = 0.0
        else:
            for _ in range(self._autoscaler.floor()):
                self._create(0.0)
            self._clock.at(TICK_SECONDS, self._tick, None)
            if self._autoscaler.every_seconds != TICK_SECONDS:
                self._clock.at(self._autoscaler.every_seconds, self._rescale, None)
        for server in self._servers:
            server.ready = True
        if self.system.place == "planner":
            self._place_at_once()
        self._seen(0.0)

    def _tick(self, _: None, now: float) -> None:
        """One look of the operator: servers by the planner, then adapters to their places."""
        self._clock.at(now + TICK_SECONDS, self._tick, None)
        if isinstance(self._autoscaler, Planner):
            self._autoscaler.look(self.counter, now)
        for name, calls in self._arrivals.items():
            self._calls.add(name, calls, EPOCH + timedelta(seconds=now))
        self._arrivals.clear()
        self._plan(now)

    def _plan(self, now: float) -> None:
        if self._moving:
            return
        if isinstance(self._autoscaler, Planner):
            self._scale(now)
        if self.system.place == "planner":
            self._move(now)

    def _rescale(self, _: None, now: float) -> None:
        """One period of an autoscaler that is not the operator."""
        assert self._autoscaler is not None
        self._clock.at(now + self._autoscaler.every_seconds, self._rescale, None)
        self._autoscaler.look(self.counter, now)
        self._scale(now)

    def _scale(self, now: float) -> None:
        assert self._autoscaler is not None
        current = len(self._servers)
        ready = sum(server.ready for server in self._servers)
        calls = {} if self.on_demand else self._calls.seen(EPOCH + timedelta(seconds=now))
        wanted = self._autoscaler.wanted(current, ready, calls, now)
        if wanted == current:
            return
        self.use.scalings += 1
        for _ in range(wanted - current):
            self._clock.at(now + self.pool.service.cold_start_seconds, self._ready, self._create(now))
        first_to_go = sorted(self._servers, key=lambda server: (server.ready, -server.created_at))
        for server in first_to_go[: max(0, current - wanted)]:
            self._remove(server, now)
        self._seen(now)

    def _create(self, now: float) -> SimulatedServer:
        """A pod with a name by chance, as a Deployment gives it."""
        pod = self.pool.name + "-" + "".join(self._rng.choices(string.ascii_lowercase + string.digits, k=5))
        engine = Engine(self.pool.service.prefill_tokens_per_second, self._rates)
        server = SimulatedServer(Origin(pod, 8000, False), pod=pod, engine=engine, created_at=now)
        self._servers.append(server)
        self.use.most_servers = max(self.use.most_servers, len(self._servers))
        self.use.servers += 1
        return server

    def _ready(self, server: SimulatedServer, now: float) -> None:
        if server.gone_at is not None:
            return
        server.ready = True
        if self.on_demand:
            self._seen(now)  # else the operator's next look finds it

    def _remove(self, server: SimulatedServer, now: float) -> None:
        """It gets no more calls, ends those it has, and is paid for until then."""
        server.gone_at = now
        self._servers.remove(server)
        self._gone.append(server)

    def _seen(self, now: float) -> None:
        self.choice.seen([server for server in self._servers if server.ready], now)

    def close(self) -> PoolUse:
        """All calls are over: what was used until now."""
        for server in self._servers:
            self.use.replica_seconds += self._clock.now - server.created_at
        for server in self._gone:
            assert server.gone_at is not None
            until = max(server.gone_at + DRAIN_SECONDS, server.last_end)
            self.use.replica_seconds += min(until, self._clock.now) - server.created_at
        self.use.busy_seconds = sum(server.engine.busy_seconds for server in (*self._servers, *self._gone))
        return self.use

    def _places(self) -> dict[str, tuple[str, ...]]:
        names = [server.pod for server in self._servers if server.ready]
        held = {server.pod: server.adapters for server in self._servers if server.ready}
        calls = self._calls.seen(EPOCH + timedelta(seconds=self._clock.now))
        return placement(list(self.adapters), names, self.pool.pool.adapter_slots, held=held, calls=calls)

    def _place_at_once(self) -> None:
        for pod, names in self._places().items():
            next(server for server in self._servers if server.pod == pod).adapters.update(dict.fromkeys(names, 0.0))

    def _move(self, now: float) -> None:
        """Unloads at once, then loads one after another."""
        places = self._places()
        loads: list[tuple[SimulatedServer, str]] = []
        for server in self._servers:
            here = places.get(server.pod, ())
            for name in [name for name in server.adapters if name not in here]:
                self._unload(server, name)
            loads += [(server, name) for name in here if name not in server.adapters]
        if loads:
            self._moving = True
            self._clock.at(now + self.pool.service.adapter_load_seconds, self._loaded, (loads, 0))
        self._seen(now)

    def _loaded(self, work: tuple[list[tuple[SimulatedServer, str]], int], now: float) -> None:
        loads, done = work
        server, name = loads[done]
        if server.gone_at is None:
            server.adapters[name] = now
            self.use.loads[name] += 1
        if done + 1 < len(loads):
            self._clock.at(now + self.pool.service.adapter_load_seconds, self._loaded, (loads, done + 1))
            return
        self._moving = False
        self._seen(now)
        self._plan(now)

    def _unload(self, server: SimulatedServer, name: str) -> None:
        del server.adapters[name]
        self.use.evictions[name] += 1

    def usable_at(self, server: SimulatedServer, name: str, now: float) -> float:
        """When the server can run this adapter. One that loads on demand drops its least recently used to make room."""
        if not self.on_demand:
            return now
        if name not in server.adapters:
            if len(server.adapters) >= self.pool.pool.adapter_slots:
                oldest = server.least_recent_idle()
                assert oldest is not None, "a server without room was chosen"
                self._unload(server, oldest)
            server.adapters[name] = now + self.pool.service.adapter_load_seconds
            self.use.loads[name] += 1
        return server.adapters[name]
