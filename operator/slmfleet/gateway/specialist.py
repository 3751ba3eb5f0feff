"""The first tier: one try of a specialist's revision on its pool. It answers, or says why the next tier must.

Never raises for a failure of the specialist: that is a value, and the caller of the gateway never sees it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from slmfleet.gateway import hedge
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.balance import Server, faster_than, pick, share_of
from slmfleet.gateway.counters import Counters, PoolCounter
from slmfleet.gateway.deadline import of_a_try
from slmfleet.gateway.generate import Question, judge, payload
from slmfleet.gateway.headers import Header
from slmfleet.gateway.relay import Collect
from slmfleet.gateway.render import plain_messages
from slmfleet.gateway.samples import majority
from slmfleet.gateway.slots import Slots
from slmfleet.gateway.table import CompiledPool, CompiledRoute, Table
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError
from slmfleet.wire.routes import Revision

CONNECT_SECONDS = 1.0
ANSWER_BYTES = 4 << 20


class Specialists:
    """Tries revisions on their pools."""

    def __init__(
        self,
        client: Client,
        counters: Counters,
        clock: Callable[[], float],
        rng: random.Random,
        processes: int = 1,
    ) -> None:
        self._client = client
        self._processes = processes
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._slots: dict[str, Slots] = {}
        self._hedges = hedge.Hedges()
        self._lookout = hedge.Lookout()

    async def attempt(
        self,
        table: Table,
        route: CompiledRoute,
        revision: Revision,
        request: dict[str, Any],
        headers: Sequence[Header] = (),
        *,
        deadline: float | None = None,
        waits: bool = False,
    ) -> Attempt:
        """One try, within the route's timeout and half of what is left of the caller's patience.

        `headers`: what the server gets beside its own. `deadline`: when the caller gives up, on this object's clock.
        `waits`: somebody waits for the answer, so it may wait for a slot where the pool has a queue, and be hedged.
        """
        pool = table.pools[revision.pool]
        counter = self._counters.pool(revision.pool)
        counter.arrivals += 1
        name, slots = route.spec.name, self._slots.setdefault(revision.pool, Slots())
        seconds = of_a_try(route.spec.timeout_seconds, deadline, self._clock())
        server = await self._server(pool, slots, name, revision.adapter, seconds, waits)
        if isinstance(server, str):
            counter.spilled += 1
            return Attempt("spilled", server)
        try:
            prompt = pool.render(plain_messages(request["messages"]))
        except Exception as error:  # a template may raise for messages it does not like
            return Attempt("error", f"chat template: {type(error).__name__}")
        seconds = of_a_try(route.spec.timeout_seconds, deadline, self._clock())
        question = Question(pool, route, revision, request, prompt, headers)
        slots.take(name)
        try:
            if route.spec.samples > 1:
                attempt = await self._ask_several(question, server, counter, seconds)
            elif waits and table.spec.hedge_percent and len(pool.placements) > 1:
                attempt = await self._ask_hedged(question, server, counter, seconds, table.spec.hedge_percent)
            else:
                attempt = await self._ask(question, server, counter, seconds)
        finally:
            slots.give_back(name)
        if attempt.result == "spilled":
            counter.spilled += 1
        return attempt

    async def _server(
        self, pool: CompiledPool, slots: Slots, name: str, adapter: str, seconds: float, waits: bool
    ) -> Server | Literal["cold", "full", "share", "deadline"]:
        """A server with a slot for this specialist, or why there is none in time."""
        limit = share_of(pool.spec.max_in_flight, self._processes)
        bound = limit * len(pool.placements)
        until = self._clock() + (min(pool.spec.queue_seconds, seconds) if waits else 0.0)
        waited = False
        while True:
            now = self._clock()
            found: Server | Literal["cold", "full", "share"]
            found = pick(pool.placements, adapter, limit, now, self._rng)
            if isinstance(found, Server) and (waited or not slots.awaits(name)):
                if slots.admits(name, bound, now):
                    return "deadline" if found.expected_seconds(now, adapter) >= seconds else found
                found = "share"
            if found == "cold":
                return found
            slots.refused(name, now)
            if waited:
                slots.pass_on(name)
            if now >= until or slots.waiting >= bound or not await slots.wait(name, until - now):
                return "share" if found == "share" else "full"
            waited = True

    async def _ask_several(
        self, question: Question, server: Server, counter: PoolCounter, limit: float
    ) -> Attempt:
        """Samples that are asked at once and vote; each counts as a call in flight."""
        spec = question.route.spec
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._ask(question, server, counter, limit, seed)) for seed in range(spec.samples)
            ]
        return majority([task.result() for task in asked], spec.output)

    async def _ask_hedged(
        self, question: Question, server: Server, counter: PoolCounter, limit: float, percent: float
    ) -> Attempt:
        """One answer; another server is asked, too, where this one is late and that is likely to pay."""
        adapter, begun = question.revision.adapter, self._clock()
        delay = self._hedges.delay(adapter, percent)
        first = self._ask(question, server, counter, limit)
        if delay is None or delay >= limit:
            attempt = await first
        else:
            race = hedge.Race(lambda: self._second(question, server, counter, begun, limit), self._clock, self._lookout)
            attempt = await race.run(first, delay)
        if attempt.answer is not None or attempt.result == "timeout":
            self._hedges.took(adapter, attempt.latency_seconds)
        if attempt.hedge == "won":
            server.outlasted(attempt.latency_seconds, self._clock())
            counter.hedges_won += 1
        return attempt

    def _second(
        self, question: Question, first: Server, counter: PoolCounter, begun: float, limit: float
    ) -> Coroutine[Any, Any, Attempt] | None:
        """What asks another server, where one is free and likely to be faster, and both budgets allow it."""
        pool, name, now = question.pool, question.route.spec.name, self._clock()
        most = share_of(pool.spec.max_in_flight, self._processes)
        other = faster_than(first, now - begun, pool.placements, question.revision.adapter, most, now)
        slots, left = self._slots[pool.spec.name], limit - (now - begun)
        if other is None or slots.waiting or not slots.admits(name, most * len(pool.placements), now) or left <= 0:
            return None
        if not self._hedges.spend() or not self._client.budget.spend():
            return None
        counter.hedges += 1
        return self._ask_again(question, other, counter, left, slots)

    async def _ask_again(
        self, question: Question, server: Server, counter: PoolCounter, limit: float, slots: Slots
    ) -> Attempt:
        name = question.route.spec.name
        slots.take(name)
        try:
            return await self._ask(question, server, counter, limit, again=True)
        finally:
            slots.give_back(name)

    async def _ask(
        self,
        question: Question,
        server: Server,
        counter: PoolCounter,
        limit: float,
        seed: int = 0,
        *,
        again: bool = False,
    ) -> Attempt:
        begun = self._clock()
        answer = Collect(ANSWER_BYTES)
        timeouts = Timeouts(min(CONNECT_SECONDS, limit), limit, limit)
        counter.change(+1, begun)
        server.in_flight += 1
        try:
            await self._client.send(server.origin, payload(question, server, seed), answer, timeouts, again=again)
        except UpstreamError as error:
            # too short to blame the server
            hurried = limit < min(CONNECT_SECONDS, question.route.spec.timeout_seconds)
            if error.stage != "busy" and not hurried:
                server.failed(self._clock())
            return Attempt("timeout" if error.stage == "timeout" else "error", error.stage, None, self._clock() - begun)
        finally:
            server.in_flight -= 1
            counter.change(-1, self._clock())
        now = self._clock()
        attempt = judge(answer, question.route, question.request, now - begun)
        if attempt.server_erred:
            server.erred(now)
        if attempt.answer is not None:
            server.observe(now - begun, now, question.revision.adapter)
        return attempt
