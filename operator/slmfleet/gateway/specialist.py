"""The first tier: one try of a specialist's revision on its pool. It answers, or says why the next tier must.

Never raises for a failure of the specialist: that is a value, and the caller of the gateway never sees it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import orjson

from slmfleet.gateway.answers import Answer
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.balance import Server, pick, share_of
from slmfleet.gateway.counters import Counters, PoolCounter
from slmfleet.gateway.deadline import of_a_try
from slmfleet.gateway.headers import Header, block
from slmfleet.gateway.relay import Collect
from slmfleet.gateway.render import plain_messages
from slmfleet.gateway.samples import majority
from slmfleet.gateway.slots import Slots
from slmfleet.gateway.table import CompiledPool, CompiledRoute, Table
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError
from slmfleet.wire.routes import Revision

CONNECT_SECONDS = 1.0
ANSWER_BYTES = 4 << 20
SAMPLE_TEMPERATURE = 0.7


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
        `waits`: for a slot, where the pool has a queue.
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
        slots.take(name)
        try:
            samples = [
                _payload(server, pool, route, _sampling(route, revision, request, seed), prompt, headers)
                for seed in range(route.spec.samples)
            ]
            attempt = await self._ask_all(server, counter, samples, route, revision.adapter, seconds)
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

    async def _ask_all(
        self, server: Server, counter: PoolCounter, samples: list[bytes], route: CompiledRoute, adapter: str,
        limit: float,
    ) -> Attempt:
        """Mostly one sample. Several are asked at once and vote; each counts as a call in flight."""
        if len(samples) == 1:
            return await self._ask(server, counter, samples[0], route, adapter, limit)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask(server, counter, each, route, adapter, limit)) for each in samples]
        return majority([task.result() for task in asked], route.spec.output)

    async def _ask(
        self, server: Server, counter: PoolCounter, payload: bytes, route: CompiledRoute, adapter: str, limit: float
    ) -> Attempt:
        begun = self._clock()
        answer = Collect(ANSWER_BYTES)
        counter.change(+1, begun)
        server.in_flight += 1
        try:
            await self._client.send(server.origin, payload, answer, Timeouts(min(CONNECT_SECONDS, limit), limit, limit))
        except UpstreamError as error:
            hurried = limit < min(CONNECT_SECONDS, route.spec.timeout_seconds)  # too short to blame the server
            if error.stage != "busy" and not hurried:
                server.failed(self._clock())
            return Attempt("timeout" if error.stage == "timeout" else "error", error.stage, None, self._clock() - begun)
        finally:
            server.in_flight -= 1
            counter.change(-1, self._clock())
        now = self._clock()
        attempt = judge(answer, route, now - begun)
        if attempt.server_erred:
            server.erred(now)
        if attempt.answer is not None:
            server.observe(now - begun, now, adapter)
        return attempt


def judge(collected: Collect, route: CompiledRoute, seconds: float) -> Attempt:
    """What a Triton answer is worth."""
    body = collected.body()
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Attempt("error", f"status {collected.status}, not JSON", None, seconds, server_erred=True)
    if collected.status != 200 or not isinstance(content, dict) or "error" in content:
        reason = str(content.get("error", "")) if isinstance(content, dict) else ""
        if reason.startswith("AdapterNotLoaded"):
            return Attempt("spilled", "cold", None, seconds)
        erred = collected.status >= 500 or collected.status == 429
        return Attempt("error", f"status {collected.status}", None, seconds, body, server_erred=erred)
    answer = _answer(content, route)
    if answer is None:
        return Attempt("error", "no text_output", None, seconds, body)
    problem = route.check(answer.text)
    if problem is None and answer.finish_reason == "length" and route.spec.output.type != "text":
        problem = "cut at max_tokens"
    if problem is not None:
        return Attempt("invalid", problem, answer, seconds)
    if _unsure(content, route, answer):
        return Attempt("low_confidence", "mean log-probability", answer, seconds)
    return Attempt("served", "", answer, seconds)


def token_limit(route: CompiledRoute, request: dict[str, Any]) -> int:
    """The caller's own limit, at most the route's."""
    wanted = request.get("max_completion_tokens") or request.get("max_tokens")
    return min(wanted, route.spec.max_tokens) if isinstance(wanted, int) and wanted > 0 else route.spec.max_tokens


def _sampling(route: CompiledRoute, revision: Revision, request: dict[str, Any], seed: int) -> dict[str, Any]:
    """The most likely answer; of several samples, different ones that are the same every time."""
    sampling: dict[str, Any] = {
        "lora_name": revision.adapter,
        "max_tokens": token_limit(route, request),
        "temperature": 0,
    }
    if route.spec.samples > 1:
        sampling |= {"temperature": SAMPLE_TEMPERATURE, "seed": seed}
    if request.get("stop"):
        sampling["stop"] = request["stop"]
    return sampling


def _payload(
    server: Server,
    pool: CompiledPool,
    route: CompiledRoute,
    sampling: dict[str, Any],
    prompt: str,
    headers: Sequence[Header],
) -> bytes:
    content = {
        "text_input": prompt,
        "stream": False,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
        "return_finish_reason": True,
        "sampling_parameters": orjson.dumps(sampling).decode(),
    }
    if route.spec.min_logprob is not None:
        content["return_cumulative_logprob"] = True
    body = orjson.dumps(content)
    head = (
        f"POST /v2/models/{pool.spec.model}/generate HTTP/1.1\r\nhost: {server.origin.host_header.decode()}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    return head.encode() + block(headers) + b"\r\n" + body


def _answer(content: dict[str, Any], route: CompiledRoute) -> Answer | None:
    text, reason = _first(content.get("text_output")), _first(content.get("finish_reason"))
    if not isinstance(text, str):
        return None
    return Answer(
        text if route.spec.output.type == "text" else text.strip(),
        reason if reason in ("stop", "length") else "stop",
        _count(content.get("num_input_tokens")),
        _count(content.get("num_output_tokens")),
    )


def _unsure(content: dict[str, Any], route: CompiledRoute, answer: Answer) -> bool:
    """Our runtime gives the mean; vLLM's backend the sum, over the answer's tokens."""
    floor = route.spec.min_logprob
    mean, total = _first(content.get("mean_logprob")), _first(content.get("cumulative_logprob"))
    if floor is None:
        return False
    if isinstance(mean, int | float):
        return mean < floor
    return isinstance(total, int | float) and total / max(answer.output_tokens, 1) < floor


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _count(value: Any) -> int:
    first = _first(value)
    return first if isinstance(first, int) else 0
