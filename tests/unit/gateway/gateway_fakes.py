"""Fakes at our seams: an OpenAI-compatible server, a Triton endpoint, a classifier; and a raw HTTP caller.

Hand-written on asyncio streams, so that a test decides about every byte.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmfleet.gateway.server import Gateway
from slmfleet.store.segments import read_directory

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string"}},
    "required": ["intent"],
    "additionalProperties": False,
}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "big",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"intent": "PlayMusic"}', "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
}


@dataclass
class Heard:
    """One request that a fake got."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]


class FakeServer:
    """A keep-alive HTTP/1.1 server whose reply is a function."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.reply: Reply = self.default
        self.closed = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while heard := await read_request(reader):
                self.heard.append(heard)
                answer = asyncio.ensure_future(self.reply(heard, writer))
                gone = asyncio.ensure_future(reader.read(1)) if reader.at_eof() is False else None
                await asyncio.wait([task for task in (answer, gone) if task], return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    answer.cancel()
                    self.closed += 1
                    return
                answer.result()
                if gone is not None:
                    gone.cancel()
                    await asyncio.wait([gone])
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            self.closed += 1
        finally:
            writer.close()
            self._tasks.discard(task)


async def read_request(reader: asyncio.StreamReader) -> Heard | None:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = [(name, value.strip()) for name, _, value in (text.partition(":") for text in lines)]
    heard = Heard(method, target, headers, b"")
    length = int(heard.header("content-length") or 0)
    heard.body = await reader.readexactly(length) if length else b""
    return heard


def whole(body: bytes, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chat_events(text: str) -> list[bytes]:
    frame = {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 2, "model": "big"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in text)]
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    chunks.append({**frame, "choices": [], "usage": usage})
    return [event(content) for content in chunks] + [b"data: [DONE]\n\n"]


class FakeLlm(FakeServer):
    """OpenAI's chat completions and models."""

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.target == "/v1/models":
            writer.write(whole(json.dumps({"object": "list", "data": [{"id": "big", "object": "model"}]}).encode()))
            return
        if b'"stream":true' in heard.body.replace(b" ", b""):
            writer.write(STREAM_HEAD + b"".join(chunk(data) for data in chat_events("hello")) + b"0\r\n\r\n")
            return
        writer.write(whole(json.dumps(COMPLETION).encode(), extra="x-request-id: req-1\r\n"))


class FakeTriton(FakeServer):
    """Triton's generate endpoint; `text` is what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.text = '{"intent":"PlayMusic"}'

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        content = {"text_output": self.text, "finish_reason": ["stop"], "num_input_tokens": 9, "num_output_tokens": 4}
        writer.write(whole(json.dumps({"model_name": "slm", **content}).encode()))


@dataclass
class FakeDecision:
    label: str | None
    score: float = 0.9
    runner_up: str | None = "other"
    threshold: float = 0.8
    rule: str = "classifier"


class FakeClassifier:
    """Calls whose last message speaks of music are `intents`."""

    def classify(self, request: dict[str, Any]) -> FakeDecision:
        text = str(request["messages"][-1]["content"])
        return FakeDecision("intents") if "music" in text else FakeDecision(None, 0.1, rule="abstain: low score")


def classifier_from(path: Path, digest: str) -> FakeClassifier:
    if not path.exists():
        raise ValueError("no such file")
    return FakeClassifier()


def fingerprint(request: dict[str, Any]) -> str:
    return "frame:" + str(request["messages"][0].get("content"))


def table(llm: str, triton: str, recipient: str, **changes: Any) -> dict[str, Any]:
    """A table whose specialist `intents` is stable at 100 %."""
    route = {
        "name": "intents",
        "cluster": "intents",
        "fingerprints": ["frame:Name the intent."],
        "output": {"type": "json", "json_schema": SCHEMA},
        "stable": {"name": "rev1", "adapter": "intents-1", "pool": "tiny"},
        "timeout_seconds": 1.0,
        "salt": "s",
    }
    pool = {
        "name": "tiny",
        "chat_template": TEMPLATE,
        "bos_token": "<s>",
        "max_in_flight": 2,
        "endpoints": [{"url": triton, "adapters": ["intents-1", "intents-2"]}],
    }
    return {
        "version": 1,
        "router": "default/agents",
        "llm": {"url": f"{llm}/v1", "timeout_seconds": 5},
        "capture": {"enabled": True, "recipients": [recipient], "segment_seconds": 0.2},
        "pools": [pool],
        "specialists": [{**route, **changes}],
    }


@dataclass
class Rig:
    """A running gateway and what stands around it."""

    folder: Path
    identity: Any
    llm: FakeLlm
    triton: FakeTriton
    gateway: Gateway = field(init=False)
    stopped: bool = False
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def table_path(self) -> Path:
        return self.folder / "table.json"

    @property
    def url(self) -> str:
        return f"http://{self.gateway.address}"

    def write(self, content: dict[str, Any]) -> None:
        self.content = content
        temporary = self.folder / "table.tmp"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.table_path)

    async def change(self, **route: Any) -> None:
        """Write a new table with the route changed and wait until it is in use."""
        content = json.loads(json.dumps(self.content))
        content["version"] += 1
        content["specialists"][0].update(route)
        await self.use(content)

    async def use(self, content: dict[str, Any]) -> None:
        self.write(content)
        await self.gateway.watcher.look()
        assert self.gateway.counters.table_version == content["version"], self.gateway.counters.table_problem

    async def post(self, body: Any, path: str = "/v1/chat/completions", headers: str = "") -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\n{headers}content-length: {len(data)}\r\n\r\n"
        return await self.raw(head.encode() + data)

    async def get(self, path: str, *, admin: bool = False) -> Answer:
        return await self.raw(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode(), admin=admin)

    async def raw(self, data: bytes, *, admin: bool = False) -> Answer:
        caller = await self.connect(admin=admin)
        caller.send(data)
        async with asyncio.timeout(60):
            answer = await caller.answer()
        caller.close()
        return answer

    async def connect(self, *, admin: bool = False) -> Caller:
        host, _, port = (self.gateway.admin_address if admin else self.gateway.address).rpartition(":")
        return Caller(*await asyncio.open_connection(host, int(port)))

    async def records(self) -> list[dict[str, Any]]:
        """Stop the gateway and read the log with the private key."""
        self.stopped = True
        await self.gateway.stop()
        reader = read_directory(self.folder / "store" / "usage", [str(self.identity)])
        found = [json.loads(record) for record in reader]
        assert reader.broken == []
        return found

    @property
    def signals(self) -> Any:
        return self.gateway.counters.signals()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def route(self) -> dict[str, str]:
        pairs = (part.split("=", 1) for part in self.headers["x-slmfleet-route"].split("; "))
        return dict(pairs)


@dataclass
class Caller:
    """A raw HTTP/1.1 caller."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    async def head(self) -> Answer:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = text.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in lines)}
        return Answer(int(line.split(" ")[1]), headers, b"")

    async def chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n")), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def answer(self) -> Answer:
        answer = await self.head()
        if "content-length" in answer.headers:
            answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
        elif answer.headers.get("transfer-encoding") == "chunked":
            while piece := await self.chunk():
                answer.body += piece
        elif answer.headers.get("connection") == "close":
            answer.body = await self.reader.read()
        return answer


def chat(text: str, **more: Any) -> dict[str, Any]:
    """A chat call."""
    return {"model": "big", "messages": [{"role": "user", "content": text}], **more}


def task(text: str = "play some music", **more: Any) -> dict[str, Any]:
    """A chat call whose frame is the specialist's."""
    system = {"role": "system", "content": "Name the intent."}
    return {"model": "big", "messages": [system, {"role": "user", "content": text}], **more}


async def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something that the gateway does on its own time."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
