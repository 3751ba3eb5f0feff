"""Time that only a test moves: an event loop that jumps to the next timer, and servers that answer by a plan.

What is measured here are seconds of that clock: the same on every machine.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gateway_fakes import TEMPLATE

from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.counters import Counters
from slmfleet.gateway.headers import Headers
from slmfleet.gateway.specialist import Specialists
from slmfleet.gateway.table import Table, compile_table
from slmfleet.gateway.upstream import Client, Origin, Sink, Timeouts, UpstreamError
from slmfleet.wire.routes import RouteTable

T = TypeVar("T")
ANSWER = b'{"text_output": "PlayMusic", "finish_reason": "stop", "num_input_tokens": 9, "num_output_tokens": 4}'


class _Jumping(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose waits take no time."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


@contextmanager
def virtual() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        loop.close()


class Planned(Client):
    """A client without sockets: `seconds(port)` says how long the next answer of a server takes (None: it fails)."""

    def __init__(self, loop: VirtualLoop, seconds: Callable[[int], float | None]) -> None:
        super().__init__(loop)
        self.seconds = seconds
        self.asked: list[int] = []
        self.left = 0

    async def send(
        self,
        origin: Origin,
        payload: bytes,
        sink: Sink,
        timeouts: Timeouts,
        *,
        no_body: bool = False,
        again: bool = False,
    ) -> None:
        self.asked.append(origin.port)
        if not again:
            self.budget.call()
        took = self.seconds(origin.port)
        try:
            await asyncio.sleep(min(took or 0.0, timeouts.total))
        except asyncio.CancelledError:
            self.left += 1
            raise
        if took is None:
            raise UpstreamError("closed", "planned")
        if took > timeouts.total:
            raise UpstreamError("timeout", "planned")
        sink.on_head(200, Headers(), len(ANSWER), None)  # type: ignore[arg-type]
        sink.on_data(ANSWER)


class Pool:
    """A specialist on a pool of servers (told apart by port), asked through the gateway's own first tier."""

    def __init__(
        self, loop: VirtualLoop, seconds: Callable[[int], float | None], *, servers: int = 2, percent: float = 5.0,
        max_in_flight: int = 32, timeout: float = 10.0,
    ) -> None:  # fmt: skip
        self.loop = loop
        self.client = Planned(loop, seconds)
        self.counters = Counters("virtual", loop.time)
        self.tier = Specialists(self.client, self.counters, loop.time, random.Random(1))
        self.table = _table(servers, percent, max_in_flight, timeout)

    async def call(self) -> Attempt:
        route = self.table.by_name["intents"]
        assert route.spec.stable is not None
        request = {"messages": [{"role": "user", "content": "play"}]}
        return await self.tier.attempt(self.table, route, route.spec.stable, request, waits=True)

    async def calls(self, count: int, every_seconds: float) -> list[Attempt]:
        """Calls that come at a steady rate, whether or not those before have their answers."""
        tasks = []
        for _ in range(count):
            tasks.append(self.loop.create_task(self.call()))
            await asyncio.sleep(every_seconds)
        return [await task for task in tasks]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @property
    def in_flight(self) -> int:
        servers = [place.server.in_flight for place in self.table.pools["tiny"].placements]
        return sum(servers) + self.counters.pool("tiny").in_flight + len(self.tier._slots["tiny"].taken)


def _table(servers: int, percent: float, max_in_flight: int, timeout: float) -> Table:
    endpoints = [{"url": f"http://127.0.0.1:{port}", "adapters": ["intents-1"]} for port in range(1, servers + 1)]
    spec = {
        "router": "default/agents",
        "llm": {"url": "http://127.0.0.1:9/v1"},
        "hedge_percent": percent,
        "pools": [
            {"name": "tiny", "chat_template": TEMPLATE, "max_in_flight": max_in_flight, "endpoints": endpoints}
        ],
        "specialists": [
            {
                "name": "intents", "cluster": "intents", "timeout_seconds": timeout,
                "stable": {"name": "rev1", "adapter": "intents-1", "pool": "tiny"},
            }
        ],
    }  # fmt: skip
    return compile_table(RouteTable.model_validate(spec), {}, None, None)
