"""Shadow: calls that somebody else answered are replayed to a revision, off the request path, and compared.

So a candidate's quality is known before a user meets it, and a stable revision's goes on to be known where a part of
the conversations is held back for the LLM. Bounded: a short queue and two at a time; what does not fit is counted as
skipped and judges nobody. Nor does a call whose own answer is not in the declared format judge a candidate, who would
be no worse for it; to a stable revision it is a miss, for then the task has outgrown the format that it serves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from slmfleet.gateway.arms import LLM, Arm, sampled
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.bodies import assemble, decode
from slmfleet.gateway.checks import canonical
from slmfleet.gateway.counters import Counters, ShadowCounter
from slmfleet.gateway.log import log
from slmfleet.gateway.specialist import Specialists
from slmfleet.gateway.table import CompiledRoute, Table
from slmfleet.wire.routes import OutputFormat, Revision
from slmfleet.wire.toolcalls import ToolCall, text_of

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
        output = replay.route.spec.output
        expected = answered_text(replay.response, replay.encoding, replay.streamed, output)
        if expected is None:
            counter.skipped += 1
            return
        if replay.route.check(expected) is not None:
            outgrown = replay.revision == replay.route.spec.stable
            counter.disagreed += outgrown
            counter.skipped += not outgrown
            return
        attempt = await self._specialists.attempt(replay.table, replay.route, replay.revision, replay.request)
        result = compare(attempt, expected, output)
        setattr(counter, result, getattr(counter, result) + 1)


def judged(route: CompiledRoute, conversation: str, arm: Arm) -> Revision | None:
    """The revision that a call of this conversation is replayed to, if any: a candidate within its sample, else the
    stable one where the conversation was held back for the LLM."""
    spec = route.spec
    if spec.candidate is not None:
        sample = arm != "candidate" and spec.shadow_percent > 0
        inside = sample and sampled(spec.salt + "/shadow/", conversation, spec.shadow_percent)
        return spec.candidate if inside else None
    return spec.stable if arm == LLM and spec.holdback_percent > 0 else None


def compare(attempt: Attempt, expected: str, output: OutputFormat) -> str:
    """agreed, disagreed, failed (no valid answer) or skipped (not tried)."""
    if attempt.result == "spilled":
        return "skipped"
    if attempt.answer is None or attempt.result == "invalid":
        return "failed"
    same = bool(canonical(output, attempt.answer.text) == canonical(output, expected))
    return "agreed" if same else "disagreed"


def answered_text(response: bytes, encoding: bytes | None, streamed: bool, output: OutputFormat) -> str | None:
    """The text of a chat answer, that of its tool calls where the output is such; None where it has none."""
    body = decode(response, encoding)
    if body is None:
        return None
    try:
        whole = assemble(body, "chat.completions") if streamed else orjson.loads(body)
        message = whole["choices"][0]["message"]
        content = _calls_text(message) if output.type == "tool" else message["content"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return content if isinstance(content, str) else None


def _calls_text(message: dict[str, Any]) -> str:
    functions = [call["function"] for call in message["tool_calls"]]
    return text_of([ToolCall(function["name"], orjson.loads(function["arguments"])) for function in functions])
