"""Stands in for the LLM in the demo: an OpenAI-protocol server that gives each prompt its recorded answer.

    python -m demo.replay_llm --answers DIR/answers.jsonl --port 8000

It is no model. It looks the messages up by their digest and answers as it was answered when they were recorded, with
the delay of a large model: 300 to 600 ms to the first token, then 15 ms a token, drawn by the prompt's digest, so the
same prompt always takes as long. Where several answers were recorded for one prompt it gives them in turn. A prompt it
has no answer for is a 404 that names the digest. Tokens are estimated (a token is 4 bytes of UTF-8, and 4 more tokens a
message). Every answer says `"system_fingerprint": "replay"`.

Covered: /v1/chat/completions with and without streaming, /v1/models, /healthz, /stats; a switched-off LLM
(`--down-file`) and one that fails now and then (`--fail-rate`). Not covered: sampling, tools, other endpoints, HTTP/2,
TLS, request bodies above 8 MiB. Any OpenAI-compatible URL takes its place in a Router.

One asyncio process, HTTP by hand on httptools, so that it runs in the slim image.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools

from demo.keys import prompt_tokens, request_key, tokens

BANNER = "replay LLM: recorded answers with a large model's delay; it stands in for an LLM in this demo and is none"
FIRST_TOKEN_SECONDS = (0.3, 0.6)
TOKEN_SECONDS = 0.015
BODY_LIMIT_BYTES = 8 << 20
FINGERPRINT = "replay"


@dataclass
class Problem(Exception):
    """An answer in OpenAI's error shape."""

    status: int
    message: str
    type: str
    code: str | None = None

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()


@dataclass
class Stats:
    """What came in since the start."""

    calls: int = 0
    streamed: int = 0
    unknown: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


class Recordings:
    """Answers by request key. Several of one key are given in turn."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self._answers = answers
        self._next: dict[str, int] = defaultdict(int)

    @classmethod
    def read(cls, path: Path) -> Recordings:
        answers: dict[str, list[str]] = defaultdict(list)
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                answers[row["key"]].append(row["content"])
        return cls(dict(answers))

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, key: str) -> str | None:
        known = self._answers.get(key)
        if known is None:
            return None
        turn = self._next[key]
        self._next[key] = turn + 1
        return known[turn % len(known)]


@dataclass(frozen=True)
class Settings:
    """How the stand-in behaves."""

    latency_scale: float = 1.0
    fail_rate: float = 0.0
    down_file: Path | None = None
    model: str = "demo-llm"


@dataclass
class Request:
    """One HTTP request as it is read."""

    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    method: str = ""
    keep_alive: bool = True


class Reading:
    """httptools' callbacks for one connection; finished requests wait in `ready`."""

    def __init__(self) -> None:
        self.ready: list[Request] = []
        self._now = Request()
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._now = Request()

    def on_url(self, url: bytes) -> None:
        self._now.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        self._now.method = self.parser.get_method().decode()
        self._now.keep_alive = self.parser.should_keep_alive()
        self.ready.append(self._now)

    @property
    def size(self) -> int:
        return len(self._now.body)


def first_token_seconds(key: str) -> float:
    """Between 300 and 600 ms, always the same for one prompt."""
    low, high = FIRST_TOKEN_SECONDS
    return low + (high - low) * int(key[:8], 16) / 0xFFFFFFFF


class Server:
    """The routes. One object a process; connections share it."""

    def __init__(self, recordings: Recordings, settings: Settings, seed: int = 0) -> None:
        self.recordings = recordings
        self.settings = settings
        self.stats = Stats()
        self._draw = random.Random(seed)

    # Connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the caller went away, which is its right
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = Reading()
        while data := await reader.read(1 << 16):
            try:
                reading.parser.feed_data(data)
            except httptools.HttpParserError as error:
                problem = Problem(400, f"not an HTTP request: {error}", "invalid_request_error")
                await send(writer, problem.status, problem.body(), keep_alive=False)
                return
            if reading.size > BODY_LIMIT_BYTES:
                problem = Problem(413, "the body is larger than 8 MiB", "invalid_request_error")
                await send(writer, problem.status, problem.body(), keep_alive=False)
                return
            while reading.ready:
                request = reading.ready.pop(0)
                await self._respond(request, writer)
                if not request.keep_alive:
                    return

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            if request.target.split("?")[0] == "/v1/chat/completions" and request.method == "POST":
                await self._chat(request, writer)
                return
            await send(writer, 200, self._page(request), request.keep_alive)
        except Problem as problem:
            await send(writer, problem.status, problem.body(), request.keep_alive)

    def _page(self, request: Request) -> bytes:
        target = request.target.split("?")[0]
        if target == "/v1/models":
            model = {"id": self.settings.model, "object": "model", "created": 0, "owned_by": FINGERPRINT}
            return json.dumps({"object": "list", "data": [model]}).encode()
        if target in ("/", "/healthz"):
            return json.dumps({"status": "ok", "about": BANNER, "answers": len(self.recordings)}).encode()
        if target == "/stats":
            return json.dumps(vars(self.stats)).encode()
        raise Problem(404, f"{request.method} {target} is not served here; {BANNER}", "invalid_request_error")

    # Chat

    async def _chat(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.stats.calls += 1
        self._refuse_when_down()
        body = parse_body(bytes(request.body))
        key = request_key(body["messages"])
        answer = self.recordings.answer(key)
        if answer is None:
            self.stats.unknown += 1
            raise Problem(
                404, f"no answer was recorded for the prompt {key}; the replay LLM knows the demo's only",
                "invalid_request_error", "recording_not_found",
            )  # fmt: skip
        usage = {"prompt_tokens": prompt_tokens(body["messages"]), "completion_tokens": tokens(answer)}
        usage["total_tokens"] = sum(usage.values())
        self.stats.prompt_tokens += usage["prompt_tokens"]
        self.stats.completion_tokens += usage["completion_tokens"]
        self.stats.in_flight += 1
        self.stats.most_in_flight = max(self.stats.most_in_flight, self.stats.in_flight)
        try:
            frame = {
                "id": f"chatcmpl-replay-{key[:16]}", "created": int(time.time()),
                "model": body.get("model") or self.settings.model, "system_fingerprint": FINGERPRINT,
            }  # fmt: skip
            if body.get("stream"):
                await self._stream(writer, body, key, answer, frame, usage, request.keep_alive)
                return
            await self._sleep(first_token_seconds(key) + TOKEN_SECONDS * usage["completion_tokens"])
            message = {"role": "assistant", "content": answer, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            whole = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
            await send(writer, 200, json.dumps(whole, ensure_ascii=False).encode(), request.keep_alive)
        finally:
            self.stats.in_flight -= 1

    def _refuse_when_down(self) -> None:
        if self.settings.down_file and self.settings.down_file.exists():
            self.stats.refused += 1
            raise Problem(503, "the LLM is switched off for a test", "server_error", "unavailable")
        if self.settings.fail_rate and self._draw.random() < self.settings.fail_rate:
            self.stats.refused += 1
            raise Problem(503, "the LLM fails now and then, for a test", "server_error", "overloaded")

    async def _stream(
        self, writer: asyncio.StreamWriter, body: dict[str, Any], key: str, answer: str, frame: dict[str, Any],
        usage: dict[str, int], keep_alive: bool,
    ) -> None:  # fmt: skip
        self.stats.streamed += 1
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        writer.write(head(200, "text/event-stream", None, keep_alive))
        async for delta, finish in self._deltas(key, answer):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            chunk = {**frame, "object": "chat.completion.chunk", "choices": [choice]}
            await event(writer, {**chunk, "usage": None} if with_usage else chunk)
        if with_usage:
            await event(writer, {**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        writer.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async def _deltas(self, key: str, answer: str) -> AsyncIterator[tuple[dict[str, str], str | None]]:
        """Pieces of an answer at the pace of a large model."""
        await self._sleep(first_token_seconds(key))
        yield {"role": "assistant", "content": ""}, None
        for piece in pieces(answer):
            await self._sleep(TOKEN_SECONDS * tokens(piece))
            yield {"content": piece}, None
        yield {}, "stop"

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.settings.latency_scale)


def parse_body(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}", "invalid_request_error") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("messages"), list):
        raise Problem(400, "the body needs `messages`, a list", "invalid_request_error")
    return parsed


def pieces(text: str) -> list[str]:
    """Words with the space before them; a long text in at most some hundred pieces, as an LLM that batches sends it."""
    size = max(1, len(text) // 400)
    words = text.replace("\n", "\n\0").replace(" ", "\0 ").split("\0")
    words = [word for word in words if word]
    return ["".join(words[start : start + size]) for start in range(0, len(words), size)]


# HTTP

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large", 503: "Service Unavailable"}


def head(status: int, content_type: str, length: int | None, keep_alive: bool) -> bytes:
    """Status line and headers; without a length the body is chunked."""
    body = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\n{body}\r\n"
        f"connection: {'keep-alive' if keep_alive else 'close'}\r\nx-replay: recorded\r\n\r\n"
    ).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def send(writer: asyncio.StreamWriter, status: int, body: bytes, keep_alive: bool) -> None:
    writer.write(head(status, "application/json", len(body), keep_alive) + body)
    await writer.drain()


async def event(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    writer.write(chunked(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"))
    await writer.drain()


async def start(server: Server, host: str, port: int) -> asyncio.Server:
    """Listen; port 0 takes a free one."""
    return await asyncio.start_server(server.serve, host, port, backlog=1024)


async def run(server: Server, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    listening = await start(server, host, port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = listening.sockets[0].getsockname()
    print(f"{BANNER}\n{len(server.recordings)} prompts known, listening on {address[0]}:{address[1]}", flush=True)
    async with listening:
        await stop.wait()
    print(f"stopped after {server.stats.calls} calls, {server.stats.unknown} of them unknown", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.replay_llm", description=__doc__.split("\n\n")[0])
    parser.add_argument("--answers", type=Path, required=True, help="answers.jsonl of demo.traffic")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--latency-scale", type=float, default=1.0, help="0.1 is ten times as fast; 0 answers at once")
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of calls answered 503")
    parser.add_argument("--down-file", type=Path, help="while this file exists every call is answered 503")
    parser.add_argument("--seed", type=int, default=0, help="of the failures")
    given = parser.parse_args()
    settings = Settings(given.latency_scale, given.fail_rate, given.down_file)
    server = Server(Recordings.read(given.answers), settings, given.seed)
    asyncio.run(run(server, given.host, given.port))


if __name__ == "__main__":
    main()
