"""One pool under one system on one trace: a discrete-event simulation. Same inputs and seed, same result, bit by bit.

Mirrors, step by step, what the gateway does with a call (`gateway/specialist.py`: choose, wait for a slot, try within
a timeout, else the next tier) and what the operator does with a pool (`controllers/basemodel.py`: look, plan, then move
adapters one after another, during which it plans nothing else; the gateways see them when all moves are done).
"""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from math import inf
from typing import Any

from slmfleet.gateway.counters import PoolCounter
from slmfleet.gateway.origin import Origin
from slmfleet.gateway.slots import Slots
from slmfleet.plan.placement import RecentCalls, placement
from slmfleet.plan.pool import DRAIN_SECONDS
from slmfleet.simulate.choosing import CHOICES, Choice, Found
from slmfleet.simulate.engine import Engine
from slmfleet.simulate.fleetfile import Adapter, PoolFile, rates
from slmfleet.simulate.outcomes import Outcomes, PoolUse
from slmfleet.simulate.scaling import EPOCH, TICK_SECONDS, Hpa, Planner
from slmfleet.simulate.server import Call, SimulatedServer
from slmfleet.simulate.systems import System
from slmfleet.simulate.trace import Trace

Event = tuple[float, int, Callable[[Any, float], None], Any]


@dataclass(eq=False)
class _Turn:
    """A call in the line for a slot; its turn is an event at the same instant."""

    run: PoolRun
    call: Call

    def set_result(self, result: None, /) -> None:
        self.run.turn_came(self.call)


@dataclass
class PoolRun:
    """`adapters`: this pool's, by specialist. `outcomes` gets every call of them."""

    pool: PoolFile
    adapters: Mapping[str, Adapter]
    system: System
    outcomes: Outcomes
    seed: int
    use: PoolUse = field(init=False)

    def __post_init__(self) -> None:
        service, spec = self.pool.service, self.pool.pool
        self._rng = random.Random(f"{self.seed}/{self.pool.name}/{self.system.name}")
        self._choice = Choice(self._rng, spec.max_in_flight, spec.adapter_slots)
        self._choose = CHOICES[self.system.choose]
        self._fair = self.system.choose in ("two-choices", "resident-first")
        self._on_demand = self.system.place == "on-demand"
        self._rates = rates(service)
        self._slots = Slots()
        self._counter = PoolCounter()
        self._calls = RecentCalls()
        self._arrived: Counter[str] = Counter()
        self._scaler = {"planner": Planner, "hpa": Hpa, "fixed": None}[self.system.scale]
        self._autoscaler = self._scaler(self.pool) if self._scaler else None
        self._servers: list[SimulatedServer] = []
        self._gone: list[SimulatedServer] = []
        self._events: list[Event] = []
        self._turns: dict[int, _Turn] = {}
        self._count = 0
        self._open = 0
        self._now = 0.0
        self._moving = False
        self.use = PoolUse(self.pool.name)

    # --- the clock ------------------------------------------------------------------------------------------------

    def simulate(self, trace: Trace, progress: Callable[[int], None] = lambda calls: None) -> None:
        """All calls of this pool's specialists, until the last is over."""
        self._start()
        events, mine = self._events, [name in self.adapters for name in trace.specialists]
        for index, at in enumerate(trace.times):
            if not mine[trace.specialist[index]]:
                continue
            while events and events[0][0] <= at:
                self._next()
            self._now = at
            self._arrive(trace, index, at)
            if not index % 10_000:
                progress(index)
        while self._open:
            self._next()
        self._close()

    def _next(self) -> None:
        now, _, act, what = heappop(self._events)
        self._now = now
        act(what, now)

    def _at(self, when: float, act: Callable[[Any, float], None], what: Any) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, act, what))

    # --- a call ---------------------------------------------------------------------------------------------------

    def _arrive(self, trace: Trace, index: int, now: float) -> None:
        specialist = trace.specialist[index]
        name = trace.specialists[specialist]
        timeout = self.adapters[name].timeout_seconds
        call = Call(trace.input_tokens[index], trace.output_tokens[index], index=index, specialist=specialist,
                    name=name, arrived=now, timeout_seconds=timeout,
                    waits_until=now + min(self.pool.pool.queue_seconds, timeout))
        self._counter.arrivals += 1
        self._arrived[name] += 1
        self._open += 1
        self._try(call, now)

    def _try(self, call: Call, now: float) -> None:
        found: Found = self._choose(self._choice, call.name, now)
        slots, why = self._slots, found if isinstance(found, str) else "share"
        bound = self._choice.max_in_flight * len(self._choice.placements)
        if isinstance(found, SimulatedServer) and self._admits(call, bound, now):
            if found.expected_seconds(now, call.name) >= call.timeout_seconds:
                self._spill(call, "deadline", now)
                return
            self._begin(call, found, now)
            return
        if why == "cold":
            self._spill(call, why, now)
            return
        slots.refused(call.name, now)
        if call.waited:
            slots.pass_on(call.name)
        if now >= call.waits_until or slots.waiting >= bound:
            self._spill(call, why, now)
            return
        self._wait(call, why, now)

    def _admits(self, call: Call, bound: int, now: float) -> bool:
        """Calls of the specialist that wait go first; then fair shares, where the system has them."""
        if not call.waited and self._slots.awaits(call.name):
            return False
        return not self._fair or self._slots.admits(call.name, bound, now)

    def _wait(self, call: Call, why: str, now: float) -> None:
        turn = self._turns[call.index] = _Turn(self, call)
        self._slots.line_up(call.name, turn)
        self._at(call.waits_until, self._waited_enough, (turn, why))

    def turn_came(self, call: Call) -> None:
        """A slot may be free for it: it tries again, after what happens now."""
        del self._turns[call.index]
        call.waited = True
        self._at(self._now, self._try, call)

    def _waited_enough(self, waiting: tuple[_Turn, str], now: float) -> None:
        turn, why = waiting
        if self._turns.get(turn.call.index) is not turn:
            return
        del self._turns[turn.call.index]
        self._slots.leave(turn.call.name, turn)
        self._spill(turn.call, why, now)

    def _begin(self, call: Call, server: SimulatedServer, now: float) -> None:
        call.begun, call.server = now, server
        self._slots.take(call.name)
        self._counter.change(+1, now)
        server.begin(call, now)
        usable = self._usable_at(server, call.name, now) if self._on_demand else now
        self._at(now + call.timeout_seconds, self._time_out, call)
        if usable > now:
            self._at(usable, self._enter, call)
            return
        self._enter(call, now)

    def _enter(self, call: Call, now: float) -> None:
        if call.over or call.server is None:
            return
        call.server.engine.add(call, now)
        self._watch(call.server)

    def _watch(self, server: SimulatedServer) -> None:
        due = server.engine.due()
        if due < server.wakes_at:
            server.wakes_at = due
            self._at(due, self._work, server)

    def _work(self, server: SimulatedServer, now: float) -> None:
        if now != server.wakes_at:
            return  # an earlier look was asked for since
        server.wakes_at = inf
        while server.engine.due() <= now:
            for job in server.engine.step(now):
                assert isinstance(job, Call)
                self._answered(job, server, now)
        self._watch(server)

    def _answered(self, call: Call, server: SimulatedServer, now: float) -> None:
        self._leave(call, server, now)
        server.observe(now - call.begun, now, call.name)
        self.outcomes.served(call.index, call.first_token_at - call.arrived, now - call.arrived)
        self._slots.give_back(call.name)

    def _time_out(self, call: Call, now: float) -> None:
        if call.over or call.server is None:
            return
        server = call.server
        server.engine.cancel(call, now)
        self._watch(server)
        self._leave(call, server, now)
        server.failed(now)
        self._spill(call, "timeout", now)
        self._slots.give_back(call.name)

    def _leave(self, call: Call, server: SimulatedServer, now: float) -> None:
        call.over = True
        server.end(call, now)
        self._counter.change(-1, now)
        self._open -= 1

    def _spill(self, call: Call, why: str, now: float) -> None:
        if not call.over:  # it was never begun
            self._open -= 1
            self._counter.spilled += 1
        self.outcomes.turned_away(call.index, why, call.output_tokens, now - call.arrived)

    # --- the pool -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The pool as it is before the first call: its fewest servers, warm, with their adapters."""
        if self._autoscaler is None:
            for name in self.adapters:
                self._create(0.0).adapters[name] = 0.0
        else:
            for _ in range(self._autoscaler.floor()):
                self._create(0.0)
            self._at(TICK_SECONDS, self._tick, None)
            if self._autoscaler.every_seconds != TICK_SECONDS:
                self._at(self._autoscaler.every_seconds, self._rescale, None)
        for server in self._servers:
            server.ready = True
        if self.system.place == "planner":
            self._place_at_once()
        self._seen(0.0)

    def _tick(self, _: None, now: float) -> None:
        """One look of the operator: servers by the planner, then adapters to their places."""
        self._at(now + TICK_SECONDS, self._tick, None)
        if isinstance(self._autoscaler, Planner):
            self._autoscaler.look(self._counter, now)
        for name, calls in self._arrived.items():
            self._calls.add(name, calls, EPOCH + timedelta(seconds=now))
        self._arrived.clear()
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
        self._at(now + self._autoscaler.every_seconds, self._rescale, None)
        self._autoscaler.look(self._counter, now)
        self._scale(now)

    def _scale(self, now: float) -> None:
        assert self._autoscaler is not None
        current = len(self._servers)
        ready = sum(server.ready for server in self._servers)
        calls = {} if self._on_demand else self._calls.seen(EPOCH + timedelta(seconds=now))
        wanted = self._autoscaler.wanted(current, ready, calls, now)
        if wanted == current:
            return
        self.use.scalings += 1
        for _ in range(wanted - current):
            self._at(now + self.pool.service.cold_start_seconds, self._ready, self._create(now))
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
        if self._on_demand:
            self._seen(now)  # else the operator's next look finds it

    def _remove(self, server: SimulatedServer, now: float) -> None:
        """It gets no more calls, ends those it has, and is paid for until then."""
        server.gone_at = now
        self._servers.remove(server)
        self._gone.append(server)

    def _seen(self, now: float) -> None:
        self._choice.seen([server for server in self._servers if server.ready], now)

    def _close(self) -> None:
        for server in self._servers:
            self.use.replica_seconds += self._now - server.created_at
        for server in self._gone:
            assert server.gone_at is not None
            until = max(server.gone_at + DRAIN_SECONDS, server.last_end)
            self.use.replica_seconds += min(until, self._now) - server.created_at
        self.use.busy_seconds = sum(server.engine.busy_seconds for server in (*self._servers, *self._gone))

    # --- adapters -------------------------------------------------------------------------------------------------

    def _places(self) -> dict[str, tuple[str, ...]]:
        names = [server.pod for server in self._servers if server.ready]
        held = {server.pod: server.adapters for server in self._servers if server.ready}
        calls = self._calls.seen(EPOCH + timedelta(seconds=self._now))
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
            self._at(now + self.pool.service.adapter_load_seconds, self._loaded, (loads, 0))
        self._seen(now)

    def _loaded(self, work: tuple[list[tuple[SimulatedServer, str]], int], now: float) -> None:
        loads, done = work
        server, name = loads[done]
        if server.gone_at is None:
            server.adapters[name] = now
            self.use.loads[name] += 1
        if done + 1 < len(loads):
            self._at(now + self.pool.service.adapter_load_seconds, self._loaded, (loads, done + 1))
            return
        self._moving = False
        self._seen(now)
        self._plan(now)

    def _unload(self, server: SimulatedServer, name: str) -> None:
        del server.adapters[name]
        self.use.evictions[name] += 1

    def _usable_at(self, server: SimulatedServer, name: str, now: float) -> float:
        """When a server that loads on demand can run this adapter; makes room by dropping its least recently used."""
        if name not in server.adapters:
            if len(server.adapters) >= self.pool.pool.adapter_slots:
                oldest = server.least_recent_idle()
                assert oldest is not None, "a server without room was chosen"
                self._unload(server, oldest)
            server.adapters[name] = now + self.pool.service.adapter_load_seconds
            self.use.loads[name] += 1
        return server.adapters[name]
