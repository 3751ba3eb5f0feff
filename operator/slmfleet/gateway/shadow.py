"""Shadow: calls that somebody else answered are replayed to a candidate, off the request path, and compared.

So a candidate's quality is known before a user meets it. Bounded: a short queue and two at a time; what does not fit
is counted as skipped and judges nobody, as does a call whose own answer is not in the declared format.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from slmfleet.gateway.arms import sampled
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.bodies import assemble, decode
from slmfleet.gateway.checks import canonical
from slmfleet.gateway.counters import Counters, ShadowCounter
from slmfleet.gateway.log import log
from slmfleet.gateway.specialist import Specialists
from slmfleet.gateway.table import CompiledRoute, Table
from slmfleet.wire.routes import OutputFormat, Revision

QUEUE = 64
CONCURRENCY = 2


@dataclass(frozen=True, slots=True)
class Replay:
    """A call to replay, with the answer the caller got: raw, since reading it waits until after the request."""

    table: Table
    route: CompiledRoute
    revision: Revision
    request: dict[str, Any]
    response: bytes
    encoding: bytes | None
    streamed: bool


class Shadow:
    """The queue of replays and its workers."""

    def __init__(self, specialists: Specialists, counters: Counters) -> None:
        self._specialists = specialists
        self._counters = counters
        self._queue: asyncio.Queue[Replay] = asyncio.Queue(QUEUE)
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._work()) for _ in range(CONCURRENCY)]

    def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def offer(self, replay: Replay) -> None:
        """Queue a replay, or count it as skipped."""
        try:
            self._queue.put_nowait(replay)
        except asyncio.QueueFull:
            self._counter(replay).skipped += 1

    def _counter(self, replay: Replay) -> ShadowCounter:
        return self._counters.shadow(replay.route.spec.name, replay.revision.name)

    async def _work(self) -> None:
        while True:
            replay = await self._queue.get()
            try:
                await self._replay(replay)
            except Exception as error:
                self._counter(replay).skipped += 1
                log("error", "ShadowFailed", error=type(error).__name__)

    async def _replay(self, replay: Replay) -> None:
        counter = self._counter(replay)
        expected = answered_text(replay.response, replay.encoding, replay.streamed)
        if expected is None or replay.route.check(expected) is not None:
            counter.skipped += 1
            return
        attempt = await self._specialists.attempt(replay.table, replay.route, replay.revision, replay.request)
        result = compare(attempt, expected, replay.route.spec.output)
        setattr(counter, result, getattr(counter, result) + 1)


def wanted(route: CompiledRoute, conversation: str) -> bool:
    """Whether a conversation is in the candidate's shadow sample."""
    spec = route.spec
    return (
        spec.candidate is not None
        and spec.shadow_percent > 0
        and sampled(spec.salt + "/shadow/", conversation, spec.shadow_percent)
    )


def compare(attempt: Attempt, expected: str, output: OutputFormat) -> str:
    """agreed, disagreed, failed (no valid answer) or skipped (not tried)."""
    if attempt.result == "spilled":
        return "skipped"
    if attempt.answer is None or attempt.result == "invalid":
        return "failed"
    same = bool(canonical(output, attempt.answer.text) == canonical(output, expected))
    return "agreed" if same else "disagreed"


def answered_text(response: bytes, encoding: bytes | None, streamed: bool) -> str | None:
    """The text of a chat answer, or None where it has none (a tool call, an error, an unknown coding)."""
    body = decode(response, encoding)
    if body is None:
        return None
    try:
        whole = assemble(body, "chat.completions") if streamed else orjson.loads(body)
        content = whole["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None
