"""Servers that fail in one way each, and a caller that reads strictly what it got."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway_fakes import STREAM_HEAD, Answer, FakeServer, Heard, Reply, chunk, event

FAULTS = ("refused", "reset", "hang", "slow", "cut", "bad_json", "429", "5xx")
INTENT = '{"intent": "PlayMusic"}'
LIMITED = b'{"error": {"message": "slow down", "type": "rate_limit", "param": null, "code": "rate_limit_exceeded"}}'
BROKEN = b'{"error": {"message": "boom", "type": "server_error", "param": null, "code": null}}'


@dataclass
class Script:
    """A healthy answer in pieces: its head, then at least two pieces of its body."""

    head: bytes
    pieces: list[bytes]


Speak = Callable[[Heard], Script]


PLAY = {
    "type": "function",
    "function": {"name": "play", "parameters": {"type": "object", "properties": {"what": {"type": "integer"}}}},
}


def chat_model(model: str) -> Speak:
    """A chat model that calls a tool, each time with an id of its own, wherever it has one."""
    numbers = itertools.count()

    def speak(heard: Heard) -> Script:
        tool = {"id": f"call_{model}_{next(numbers)}", "type": "function"} if heard.json.get("tools") else None
        frame = {"id": "chatcmpl-3", "created": 3, "model": model}
        if not heard.json.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": INTENT}
            if tool:
                message["tool_calls"] = [{**tool, "function": {"name": "play", "arguments": '{"what": 1}'}}]
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({**frame, "object": "chat.completion", "choices": [choice]}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            return Script(head, [body[:40], body[40:]])
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": INTENT}]
        if tool:
            deltas.append({"tool_calls": [{"index": 0, **tool, "function": {"name": "play", "arguments": '{"what"'}}]})
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]})
        events = [
            event({**frame, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})
            for delta in [*deltas, {}]
        ]
        return Script(STREAM_HEAD, [*(chunk(data) for data in events), chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"])

    return speak


def triton_speaks(heard: Heard) -> Script:
    """Triton's `generate` with a valid answer."""
    body = json.dumps(
        {"text_output": INTENT, "finish_reason": ["stop"], "num_input_tokens": 9, "num_output_tokens": 4}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return Script(head, [body[:10], body[10:]])


def healthy(speak: Speak) -> Reply:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        script = speak(heard)
        writer.write(script.head + b"".join(script.pieces))

    return reply


def failing(fault: str, speak: Speak, delay_seconds: float) -> Reply:
    """A reply with one of FAULTS (`refused` is not a reply: stop the server)."""

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        script = speak(heard)
        if fault == "reset":
            reset(writer)
        elif fault == "hang":
            await asyncio.Event().wait()
        elif fault == "slow":
            writer.write(script.head)
            await asyncio.sleep(delay_seconds)
            writer.write(b"".join(script.pieces))
        elif fault == "cut":
            half = len(script.pieces[1]) // 2
            writer.write(script.head + script.pieces[0] + script.pieces[1][:half])
            await writer.drain()
            writer.close()
        elif fault == "bad_json":
            writer.write(_nonsense(heard))
        else:
            status, body = (b"429 Too Many Requests", LIMITED) if fault == "429" else (b"503 Overloaded", BROKEN)
            head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
            writer.write(head + body)

    return reply


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def break_it(server: FakeServer, fault: str, speak: Speak, delay_seconds: float = 30.0) -> None:
    """From now on, fail."""
    if fault == "refused":
        await server.stop()
        return
    server.reply = failing(fault, speak, delay_seconds)


def read_strictly(answer: Answer) -> dict[str, Any]:
    """What a caller makes of an answer: its object, or `{"error": …}`. Fails on a frame that is broken or missing."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        parsed = json.loads(answer.body)
        assert isinstance(parsed, dict)
        return parsed
    assert answer.body.endswith(b"\n\n"), answer.body[-80:]
    payloads = []
    for block in answer.body.removesuffix(b"\n\n").split(b"\n\n"):
        name, _, data = block.partition(b": ")
        assert (name, data.count(b"\n")) == (b"data", 0), block
        payloads.append(data)
    last = payloads.pop()
    chunks = [json.loads(data) for data in payloads]
    if last != b"[DONE]":
        error = json.loads(last)
        assert set(error) == {"error"}, "a stream ends with [DONE] or with an error, never in silence"
        return {**error, "chunks": chunks}
    return {"chunks": chunks}


def tool_call_ids(content: dict[str, Any]) -> list[str]:
    """The tool calls of an answer, streamed or not."""
    messages = [choice["message"] for choice in content.get("choices", [])]
    messages += [choice["delta"] for piece in content.get("chunks", []) for choice in piece.get("choices", [])]
    return [call["id"] for message in messages for call in message.get("tool_calls", []) if "id" in call]


def _nonsense(heard: Heard) -> bytes:
    if heard.json.get("stream"):
        return STREAM_HEAD + chunk(b'data: {"choices": [\n\n') + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    body = b'{"choices": ['
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
