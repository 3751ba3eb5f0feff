"""One pool under one system on one trace: a discrete-event simulation. Same inputs and seed, same result, bit by bit.

Mirrors, step by step, what the gateway does with a call (`gateway/specialist.py`: choose, wait for a slot, try within
a timeout, else the next tier). What the operator does with the pool is in `servers`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from slmfleet.gateway.slots import Slots
from slmfleet.simulate.choosing import CHOICES, Found
from slmfleet.simulate.clock import Clock
from slmfleet.simulate.fleetfile import Adapter, PoolFile
from slmfleet.simulate.outcomes import Outcomes, PoolUse
from slmfleet.simulate.server import Call, SimulatedServer
from slmfleet.simulate.servers import Servers
from slmfleet.simulate.systems import System
from slmfleet.simulate.trace import Trace


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

    def __post_init__(self) -> None:
        rng = random.Random(f"{self.seed}/{self.pool.name}/{self.system.name}")
        self._clock = Clock()
        self._servers = Servers(self.pool, self.adapters, self.system, self._clock, rng)
        self._counter = self._servers.counter
        self._choice = self._servers.choice
        self._choose = CHOICES[self.system.choose]
        self._fair = self.system.choose in ("two-choices", "resident-first")
        self._slots = Slots()
        self._turns: dict[int, _Turn] = {}
        self._open = 0

    def simulate(self, trace: Trace, progress: Callable[[int], None] = lambda calls: None) -> PoolUse:
        """All calls of this pool's specialists, until the last is over."""
        self._servers.start()
        mine = [name in self.adapters for name in trace.specialists]
        for index, at in enumerate(trace.times):
            if not mine[trace.specialist[index]]:
                continue
            self._clock.run_to(at)
            self._arrive(trace, index, at)
            if not index % 10_000:
                progress(index)
        while self._open:
            self._clock.step()
        return self._servers.close()

    def _arrive(self, trace: Trace, index: int, now: float) -> None:
        specialist = trace.specialist[index]
        name = trace.specialists[specialist]
        timeout = self.adapters[name].timeout_seconds
        call = Call(trace.input_tokens[index], trace.output_tokens[index], index=index, specialist=specialist,
                    name=name, arrived=now, timeout_seconds=timeout,
                    waits_until=now + min(self.pool.pool.queue_seconds, timeout))
        self._servers.arrived(name)
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
        self._clock.at(call.waits_until, self._waited_enough, (turn, why))

    def turn_came(self, call: Call) -> None:
        """A slot may be free for it: it tries again, after what happens now."""
        del self._turns[call.index]
        call.waited = True
        self._clock.at(self._clock.now, self._try, call)

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
        usable = self._servers.usable_at(server, call.name, now)
        self._clock.at(now + call.timeout_seconds, self._time_out, call)
        if usable > now:
            self._clock.at(usable, self._enter, call)
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
            self._clock.at(due, self._work, server)

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
