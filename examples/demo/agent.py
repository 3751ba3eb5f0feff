"""The agent: sends the demo's calls with the real `openai` client and writes down what came back.

    python -m demo.agent --url http://GATEWAY/v1 --traffic DIR --phase later --round 1 --out results.jsonl

Calls go out in their order, at the trace's pace sped up, never more than `--concurrency` at once; a conversation's next
call waits for its last answer. A tenth is streamed. Nothing is retried and nothing is hidden: whatever the client
raises is one line with `error`, and the last line printed counts them. SIGINT or SIGTERM stops sending, waits for the
answers under way and writes them.

It does not know which call belongs to which task: `task` is copied from calls.jsonl into the results, for the report.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import httpx
import openai

from demo.keys import request_key

CONVERSATION_HEADER = "x-conversation-id"
ROUTE_HEADER = "x-slmfleet-route"
STREAMED_SHARE = 0.1
NARROW = ("snips", "banking")


@dataclass
class Result:
    """One line of results.jsonl. Seconds are the client's; `sent_seconds` counts from the agent's first call."""

    id: str
    task: str
    phase: str
    round: int
    stage: str
    conversation: str
    sent_seconds: float = 0.0
    latency_seconds: float = 0.0
    first_token_seconds: float | None = None
    streamed: bool = False
    status: int | None = None
    route: str | None = None
    tier: str | None = None
    specialist: str | None = None
    revision: str | None = None
    arm: str | None = None
    rule: str | None = None
    escalated: str | None = None
    spilled: str | None = None
    answer: str | None = None
    label: str | None = None
    equals_recorded: bool | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


def parse_route(header: str | None) -> dict[str, str]:
    """`tier=specialist; specialist=intents; rule=fingerprint` as a dict."""
    parts = (part.partition("=") for part in (header or "").split(";"))
    return {key.strip(): value.strip() for key, _, value in parts if key.strip()}


def label_of(answer: str | None) -> str | None:
    """The intent that a strict JSON answer names, or None for anything else."""
    try:
        parsed = json.loads(answer or "")
    except ValueError:
        return None
    if not isinstance(parsed, dict) or set(parsed) != {"intent"} or not isinstance(parsed["intent"], str):
        return None
    return parsed["intent"]


def same_answer(task: str, answer: str, recorded: set[str]) -> bool:
    """A narrow task's answers are compared as values, free text as it is."""
    if task not in NARROW:
        return answer in recorded
    label = label_of(answer)
    return label is not None and label in {label_of(each) for each in recorded}


def is_streamed(identity: str) -> bool:
    """The same tenth of all calls in every run."""
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF < STREAMED_SHARE


@dataclass(frozen=True)
class Settings:
    """How the agent sends."""

    url: str
    stage: str = ""
    speedup: float = 50.0
    max_rate: float = math.inf  # calls a second
    concurrency: int = 64
    timeout_seconds: float = 180.0
    progress_seconds: float = 5.0
    api_key: str = "demo"


@dataclass
class Progress:
    """What the progress line says."""

    wanted: int
    sent: int = 0
    done: int = 0
    errors: int = 0
    tiers: Counter[str] = field(default_factory=Counter)
    agreed: int = 0
    compared: int = 0

    def add(self, result: Result) -> None:
        self.done += 1
        self.errors += result.error is not None
        self.tiers[result.tier or "?"] += 1
        if result.equals_recorded is not None and result.task in NARROW:
            self.compared += 1
            self.agreed += result.equals_recorded

    def line(self, seconds: float) -> str:
        tiers = ", ".join(f"{name} {count}" for name, count in sorted(self.tiers.items()))
        agreed = f", narrow answers as recorded {self.agreed / self.compared:.1%}" if self.compared else ""
        rate = f"{self.done / max(seconds, 1e-9):.0f} a second"
        return f"agent: {self.done} of {self.wanted} calls, {rate}, {tiers}{agreed}, errors {self.errors}"


class Agent:
    """Sends calls and writes a line for each. One run is one object."""

    def __init__(
        self, client: openai.AsyncOpenAI, settings: Settings, recorded: dict[str, set[str]], out: TextIO
    ) -> None:
        self.client = client
        self.settings = settings
        self.recorded = recorded
        self.out = out
        self.stop = asyncio.Event()
        self.progress = Progress(0)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._began = 0.0

    async def run(self, calls: list[dict[str, Any]], repeats: int = 1) -> Progress:
        """Send all calls `repeats` times; each time every conversation is a new one."""
        self.progress = Progress(len(calls) * repeats)
        self._began = time.monotonic()
        slots = asyncio.Semaphore(self.settings.concurrency)
        under_way: set[asyncio.Task[None]] = set()
        reporter = asyncio.create_task(self._report())
        try:
            for due, suffix, call in self._schedule(calls, repeats):
                await self._wait(due)
                await slots.acquire()
                if self.stop.is_set():
                    break
                task = asyncio.create_task(self._send(call, suffix, slots))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if under_way:
                await asyncio.wait(under_way)
        finally:
            reporter.cancel()
        print(self.progress.line(time.monotonic() - self._began), flush=True)
        return self.progress

    def _schedule(self, calls: list[dict[str, Any]], repeats: int) -> Iterator[tuple[float, str, dict[str, Any]]]:
        """(seconds since the start, suffix of the conversation, call)."""
        first = calls[0]["at_seconds"] if calls else 0.0
        gap = 1 / self.settings.max_rate
        due = before = 0.0
        for repeat in range(repeats):
            suffix = f"-r{repeat}" if repeat else ""
            for number, call in enumerate(calls):
                at = (call["at_seconds"] - first) / self.settings.speedup
                due += max(gap, at - before if number else gap)
                before = at
                yield due, suffix, call

    async def _wait(self, due: float) -> None:
        left = self._began + due - time.monotonic()
        if left <= 0 or self.stop.is_set():
            return
        try:
            await asyncio.wait_for(self.stop.wait(), left)
        except TimeoutError:
            pass

    async def _send(self, call: dict[str, Any], suffix: str, slots: asyncio.Semaphore) -> None:
        conversation = call["conversation"] + suffix
        try:
            async with self._turns[conversation]:
                result = await self._ask(call, conversation)
        finally:
            slots.release()
        self.out.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        self.out.flush()
        self.progress.add(result)

    async def _ask(self, call: dict[str, Any], conversation: str) -> Result:
        body = call["request"]
        result = Result(call["id"], call["task"], call["phase"], call["round"], self.settings.stage, conversation)
        result.streamed = is_streamed(call["id"])
        began = time.monotonic()
        result.sent_seconds = round(began - self._began, 3)
        self.progress.sent += 1
        try:
            await self._exchange(body, conversation, result, began)
        except openai.APIStatusError as error:
            result.status = error.status_code
            note_route(result, error.response.headers.get(ROUTE_HEADER))
            result.error = f"{type(error).__name__} {error.status_code}: {str(error.message)[:300]}"
        except Exception as error:  # whatever a client can see is what this demo counts
            result.error = f"{type(error).__name__}: {str(error)[:300]}"
        result.latency_seconds = round(time.monotonic() - began, 4)
        if result.error is None:
            self._judge(body, result)
        return result

    async def _exchange(self, body: dict[str, Any], conversation: str, result: Result, began: float) -> None:
        extra = {"stream": True, "stream_options": {"include_usage": True}} if result.streamed else {}
        raw = await self.client.chat.completions.with_raw_response.create(
            **body, **extra, extra_headers={CONVERSATION_HEADER: conversation}
        )
        result.status = raw.http_response.status_code
        note_route(result, raw.headers.get(ROUTE_HEADER))
        parsed = raw.parse()
        usage = None
        if not result.streamed:
            usage, result.answer = parsed.usage, parsed.choices[0].message.content
        else:
            said, finished = [], False
            async for chunk in parsed:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    if choice.delta.content and result.first_token_seconds is None:
                        result.first_token_seconds = round(time.monotonic() - began, 4)
                    said.append(choice.delta.content or "")
                    finished = finished or choice.finish_reason is not None
            result.answer = "".join(said)
            if not finished:
                result.error = "the stream ended without a finish reason"
        if usage is not None:
            result.input_tokens, result.output_tokens = usage.prompt_tokens, usage.completion_tokens

    def _judge(self, body: dict[str, Any], result: Result) -> None:
        if result.answer is None:
            result.error = "an answer without content"
            return
        result.label = label_of(result.answer) if result.task in NARROW else None
        known = self.recorded.get(request_key(body["messages"]))
        if known is not None:
            result.equals_recorded = same_answer(result.task, result.answer, known)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self.settings.progress_seconds)
            print(self.progress.line(time.monotonic() - self._began), flush=True)


def note_route(result: Result, header: str | None) -> None:
    """Copy what the gateway says of its decision."""
    route = parse_route(header)
    result.route = header
    for name in ("tier", "specialist", "revision", "arm", "rule", "escalated", "spilled"):
        setattr(result, name, route.get(name))


def read_recorded(path: Path) -> dict[str, set[str]]:
    """All recorded answers by request key."""
    recorded: dict[str, set[str]] = defaultdict(set)
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            recorded[row["key"]].add(row["content"])
    return dict(recorded)


def read_calls(
    path: Path, phase: str, rounds: list[int] | None = None, tasks: list[str] | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """The calls of a phase, in their order."""
    with path.open(encoding="utf-8") as file:
        rows = (json.loads(line) for line in file)
        chosen = [
            row for row in rows
            if row["phase"] == phase and (not rounds or row["round"] in rounds) and (not tasks or row["task"] in tasks)
        ]  # fmt: skip
    return chosen[:limit]


async def drive(
    settings: Settings, calls: list[dict[str, Any]], recorded: dict[str, set[str]], out: Path, repeats: int = 1
) -> Progress:
    """Send the calls and append a line for each to `out`."""
    connections = httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency)
    out.parent.mkdir(parents=True, exist_ok=True)
    async with openai.AsyncOpenAI(
        base_url=settings.url, api_key=settings.api_key, max_retries=0, timeout=settings.timeout_seconds,
        http_client=openai.DefaultAsyncHttpxClient(limits=connections, timeout=settings.timeout_seconds),
    ) as client:  # fmt: skip
        with out.open("a", encoding="utf-8") as file:
            agent = Agent(client, settings, recorded, file)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, agent.stop.set)
            return await agent.run(calls, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.agent", description=__doc__.split("\n\n")[0])
    parser.add_argument("--url", required=True, help="base URL of the gateway, with /v1")
    parser.add_argument("--traffic", type=Path, required=True, help="folder that demo.traffic wrote")
    parser.add_argument("--out", type=Path, required=True, help="results.jsonl; lines are appended")
    parser.add_argument("--phase", choices=("train", "later"), required=True)
    parser.add_argument("--round", type=int, action="append", help="only this round of `later`; may be repeated")
    parser.add_argument("--tasks", nargs="+", help="only calls of these tasks")
    parser.add_argument("--limit", type=int, help="only the first so many calls")
    parser.add_argument("--repeat", type=int, default=1, help="send them so often, every time in new conversations")
    parser.add_argument("--stage", default="", help="a word that is copied into every result, for the report")
    parser.add_argument("--speedup", type=float, default=Settings.speedup, help="of the trace's arrival times")
    parser.add_argument("--max-rate", type=float, default=math.inf, help="calls a second, at most")
    parser.add_argument("--concurrency", type=int, default=Settings.concurrency)
    given = parser.parse_args()
    calls = read_calls(given.traffic / "calls.jsonl", given.phase, given.round, given.tasks, given.limit)
    if not calls:
        sys.exit(f"agent: {given.traffic}/calls.jsonl has no such calls; look at manifest.json for what there is")
    settings = Settings(given.url, given.stage, given.speedup, given.max_rate, given.concurrency)
    recorded = read_recorded(given.traffic / "answers.jsonl")
    progress = asyncio.run(drive(settings, calls, recorded, given.out, given.repeat))
    sys.exit(1 if progress.errors else 0)


if __name__ == "__main__":
    main()
