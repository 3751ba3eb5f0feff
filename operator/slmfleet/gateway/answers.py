"""A specialist's text as OpenAI answers: one `chat.completion`, or the same as a stream of server-sent events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from slmfleet.wire.toolcalls import ToolCall

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a specialist said. `calls`: the same as tool calls, where it is valid as such."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    calls: Sequence[ToolCall] = ()

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }


def completion(answer: Answer, *, call_id: str, created: int, model: str) -> bytes:
    """The `chat.completion` object."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.calls:
        message |= {"content": None, "tool_calls": _tool_calls(answer.calls, call_id)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
    return orjson.dumps(
        {
            "id": f"chatcmpl-{call_id}",
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": answer.usage,
        }
    )


def events(answer: Answer, *, call_id: str, created: int, model: str, include_usage: bool) -> bytes:
    """The same answer as `chat.completion.chunk` events: role, content or tool calls, finish, usage where asked for,
    [DONE]. A tool call is two chunks, as OpenAI sends it: its id and name, then its arguments."""
    frame: dict[str, Any] = {
        "id": f"chatcmpl-{call_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
    }
    extra: dict[str, Any] = {"usage": None} if include_usage else {}
    deltas = _call_deltas(answer.calls, call_id) if answer.calls else _text_deltas(answer.text)
    chunks = [{**frame, "choices": [_delta(delta)], **extra} for delta in deltas]
    chunks.append({**frame, "choices": [_delta({}, _finish_reason(answer))], **extra})
    if include_usage:
        chunks.append({**frame, "choices": [], "usage": answer.usage})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def wants_usage(request: dict[str, Any]) -> bool:
    """Whether the caller asked for usage at the end of its stream."""
    options = request.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _text_deltas(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": ""}, {"content": text}]


def _call_deltas(calls: Sequence[ToolCall], call_id: str) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for index, call in enumerate(_tool_calls(calls, call_id)):
        function = call["function"]
        begun = {**call, "index": index, "function": {**function, "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]})
    return deltas


def _tool_calls(calls: Sequence[ToolCall], call_id: str) -> list[dict[str, Any]]:
    """As OpenAI's API has them. Its ids have at most 40 characters, and go back to the LLM with the tool's answer."""
    return [
        {
            "id": f"call_{blake2b(f'{call_id}/{index}'.encode(), digest_size=12).hexdigest()}",
            "type": "function",
            "function": {"name": call.name, "arguments": _compact(call.arguments)},
        }
        for index, call in enumerate(calls)
    ]


def _compact(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))  # whose integers may be of any size


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.calls else answer.finish_reason


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
