"""A server of OpenAI's and Anthropic's APIs on loopback, for clients that expect the real ones.

What it answers follows from the request alone: tools are called, a JSON schema is kept to, `n` choices are given. A
model named `status-…` is an error as the API sends it, headers and all, and a stream of the model `breaks` is cut off.
It stands in for the LLM and for nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from tests.unit.gateway.gateway_fakes import STREAM_HEAD, FakeServer, Heard, chunk, event, whole

KEY = "sk-caller"
BREAKS = "breaks"
TEXT = '{"intent": "PlayMusic"}'
VECTOR = [0.5, -0.25, 0.125]
USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
LIMITS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
_CONTEXT = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."
ERRORS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "status-401": (
        "401 Unauthorized",
        {"message": "Incorrect API key provided.", "type": "invalid_request_error", "code": "invalid_api_key"},
        {},
    ),
    "status-404": (
        "404 Not Found",
        {"message": "The model does not exist.", "type": "invalid_request_error", "code": "model_not_found"},
        {},
    ),
    "status-429": (
        "429 Too Many Requests",
        {"message": "Rate limit reached.", "type": "requests", "code": "rate_limit_exceeded"},
        {"retry-after": "1", "retry-after-ms": "20", **LIMITS},
    ),
    "status-500": (
        "500 Internal Server Error",
        {"message": "The server had an error.", "type": "server_error", "code": None},
        {"x-should-retry": "false"},
    ),
    "status-context": (
        "400 Bad Request",
        {"message": _CONTEXT, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"},
        {},
    ),
}


class FakeApi(FakeServer):
    """The LLM. With `key` set, a request without it is a 401."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        extra = f"x-request-id: req-{self._turn}\r\nopenai-processing-ms: 7\r\n"
        path = heard.target.partition("?")[0]
        if heard.header("authorization") != f"Bearer {KEY}" and heard.header("x-api-key") != KEY:
            writer.write(_error("status-401", extra, path))
            return
        if heard.method == "GET":
            writer.write(_models(path, extra))
            return
        request = heard.json
        if request.get("model") in ERRORS:
            writer.write(_error(request["model"], extra, path))
            return
        answer = _PATHS.get(path)
        if answer is None:
            writer.write(_error("status-404", extra, path))
            return
        if not request.get("stream"):
            writer.write(whole(json.dumps(answer(request)).encode(), extra=extra))
            return
        writer.write(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + extra.encode() + b"\r\n"))
        for number, piece in enumerate(_STREAMS[path](request)):
            if number == 2 and request["model"] == BREAKS:
                writer.close()
                return
            writer.write(chunk(piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


def _error(model: str, extra: str, path: str) -> bytes:
    status, error, headers = ERRORS[model]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    content: dict[str, Any] = {"error": {"param": None, **error}}
    if path == "/v1/messages":
        content = {"type": "error", "error": {"type": error["type"], "message": error["message"]}, "request_id": "r"}
    return whole(json.dumps(content).encode(), status=status, extra=extra + lines)


def _models(path: str, extra: str) -> bytes:
    names = ("big", "embedder")
    models = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in names]
    if path == "/v1/models":
        return whole(json.dumps({"object": "list", "data": models}).encode(), extra=extra)
    found = next((model for model in models if path == f"/v1/models/{model['id']}"), None)
    return _error("status-404", extra, path) if found is None else whole(json.dumps(found).encode(), extra=extra)


# --- chat ---


def _calls(request: dict[str, Any]) -> list[dict[str, Any]]:
    """One call of each tool, or of the first one where the caller wants no parallel calls."""
    tools = [tool["function"] for tool in request.get("tools", ())]
    if any(message["role"] == "tool" for message in request["messages"]):
        return []
    if request.get("parallel_tool_calls") is False:
        tools = tools[:1]
    return [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": tool["name"], "arguments": json.dumps({"city": f"Town {index}"})},
        }
        for index, tool in enumerate(tools)
    ]


def _chat(request: dict[str, Any]) -> dict[str, Any]:
    calls = _calls(request)
    message = {"role": "assistant", "content": None if calls else TEXT, "refusal": None, "annotations": []}
    if calls:
        message["tool_calls"] = calls
    logprobs = None
    if request.get("logprobs"):
        logprobs = {"content": [{"token": "{", "logprob": -0.5, "bytes": [123], "top_logprobs": []}], "refusal": None}
    reason = "tool_calls" if calls else "stop"
    choices = [
        {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}
        for index in range(request.get("n") or 1)
    ]
    return {**_frame(request, "chat.completion"), "choices": choices, "usage": USAGE}


def _chat_stream(request: dict[str, Any]) -> Iterator[bytes]:
    frame = _frame(request, "chat.completion.chunk")
    with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    more = {"usage": None} if with_usage else {}

    def piece(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event({**frame, "choices": [choice], **more})

    calls = _calls(request)
    for index in range(request.get("n") or 1):
        yield piece(index, {"role": "assistant", "content": None if calls else ""})
        for number, call in enumerate(calls):
            arguments = call["function"]["arguments"]
            name = {"name": call["function"]["name"], "arguments": ""}
            yield piece(index, {"tool_calls": [{"index": number, **call, "function": name}]})
            for part in (arguments[:5], arguments[5:]):
                yield piece(index, {"tool_calls": [{"index": number, "function": {"arguments": part}}]})
        if not calls:
            for part in (TEXT[:7], TEXT[7:]):
                yield piece(index, {"content": part})
        yield piece(index, {}, "tool_calls" if calls else "stop")
    if with_usage:
        yield event({**frame, "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def _frame(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-9",
        "object": kind,
        "created": 1_700_000_000,
        "model": request["model"],
        "system_fingerprint": f"seed {request.get('seed')}",
    }


# --- completions, embeddings ---


def _completion(request: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "text": " Paris.", "logprobs": None, "finish_reason": "stop"}
    return {**_frame(request, "text_completion"), "choices": [choice], "usage": USAGE}


def _completion_stream(request: dict[str, Any]) -> Iterator[bytes]:
    for text, reason in ((" Par", None), ("is.", "stop")):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        yield event({**_frame(request, "text_completion"), "choices": [choice]})
    yield b"data: [DONE]\n\n"


def _embeddings(request: dict[str, Any]) -> dict[str, Any]:
    count = len(request["input"]) if isinstance(request["input"], list) else 1
    vector: Any = VECTOR
    if request.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


# --- responses ---


def _response(request: dict[str, Any]) -> dict[str, Any]:
    tools = [tool for tool in request.get("tools") or () if tool["type"] == "function"]
    output: list[dict[str, Any]] = [
        {
            "type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index}", "name": tool["name"],
            "arguments": json.dumps({"city": f"Town {index}"}), "status": "completed",
        }
        for index, tool in enumerate(tools)
    ]  # fmt: skip
    if not output:
        content = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
        message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [content]}
        output.append(message)
    usage = {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 16,
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": request["model"], "output": output,
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": request.get("tools") or [],
        "top_p": 1.0, "text": request.get("text") or {"format": {"type": "text"}}, "usage": usage,
    }  # fmt: skip


def _response_stream(request: dict[str, Any]) -> Iterator[bytes]:
    whole_response = _response(request)
    begun = {**whole_response, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(whole_response["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "function_call":
            start = {**item, "arguments": "", "status": "in_progress"}
            pieces = [
                {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]},
                {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]},
            ]
        else:
            start = {**item, "content": [], "status": "in_progress"}
            text, place = item["content"][0], {**place, "content_index": 0}
            pieces = [
                {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
                {"type": "response.output_text.delta", **place, "delta": TEXT[:7], "logprobs": []},
                {"type": "response.output_text.delta", **place, "delta": TEXT[7:], "logprobs": []},
                {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
                {"type": "response.content_part.done", **place, "part": text},
            ]
        events.append({"type": "response.output_item.added", "output_index": index, "item": start})
        events += [*pieces, {"type": "response.output_item.done", "output_index": index, "item": item}]
    events.append({"type": "response.completed", "response": whole_response})
    for number, content in enumerate(events):
        yield f"event: {content['type']}\n".encode() + event({**content, "sequence_number": number})


# --- Anthropic's messages ---


def _message(request: dict[str, Any]) -> dict[str, Any]:
    tools = request.get("tools") or ()
    content: list[dict[str, Any]] = [
        {"type": "tool_use", "id": f"toolu_{index}", "name": tool["name"], "input": {"city": f"Town {index}"}}
        for index, tool in enumerate(tools)
    ]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"],
        "content": [{"type": "text", "text": "It plays."}, *content],
        "stop_reason": "tool_use" if content else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 6},
    }  # fmt: skip


def _message_stream(request: dict[str, Any]) -> Iterator[bytes]:
    message = _message(request)
    start = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 12, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, kind, texts = {"type": "text", "text": ""}, "text", ("It ", "plays.")
        else:
            arguments = json.dumps(block["input"])
            empty, kind, texts = {**block, "input": {}}, "partial_json", ("", arguments[:4], arguments[4:])
        delta = "text_delta" if kind == "text" else "input_json_delta"
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": delta, kind: text}} for text in texts
        ]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": {"output_tokens": 6}}, {"type": "message_stop"}]
    for content in events:
        yield f"event: {content['type']}\n".encode() + event(content)


_PATHS = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embeddings,
    "/v1/responses": _response,
    "/v1/messages": _message,
    "/v1/messages/count_tokens": lambda request: {"input_tokens": 12},
}
_STREAMS = {
    "/v1/chat/completions": _chat_stream,
    "/v1/completions": _completion_stream,
    "/v1/responses": _response_stream,
    "/v1/messages": _message_stream,
}
