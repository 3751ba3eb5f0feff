"""A specialist's text as OpenAI answers: one `chat.completion`, or the same as a stream of server-sent events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a specialist said."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }


def completion(answer: Answer, *, call_id: str, created: int, model: str) -> bytes:
    """The `chat.completion` object."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
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
    """The same answer as `chat.completion.chunk` events: role, content, finish, usage where asked for, [DONE]."""
    frame: dict[str, Any] = {
        "id": f"chatcmpl-{call_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
    }
    extra: dict[str, Any] = {"usage": None} if include_usage else {}
    chunks = [
        {**frame, "choices": [_delta({"role": "assistant", "content": ""})], **extra},
        {**frame, "choices": [_delta({"content": answer.text})], **extra},
        {**frame, "choices": [_delta({}, answer.finish_reason)], **extra},
    ]
    if include_usage:
        chunks.append({**frame, "choices": [], "usage": answer.usage})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def wants_usage(request: dict[str, Any]) -> bool:
    """Whether the caller asked for usage at the end of its stream."""
    options = request.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
