"""Answers' bytes made readable for the log: content codings undone, streams put together.

Runs in the capture thread and in shadow replays, never on a request's path. A stream becomes the object that the same
call without streaming would have returned.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import orjson

MAX_DECODED_BYTES = 64 << 20
_INPUT = re.compile(rb'"(?:prompt_tokens|input_tokens)"\s*:\s*(\d+)')
_OUTPUT = re.compile(rb'"(?:completion_tokens|output_tokens)"\s*:\s*(\d+)')
_USAGE = b'"usage"'
_TOKENS = b'_tokens"'
_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)+")


def decode(data: bytes, encoding: bytes | None) -> bytes | None:
    """Undo a content coding; None for one that is not known here, or broken, or absurdly large."""
    name = (encoding or b"identity").strip().lower()
    if name == b"identity":
        return data
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    for bits in (47, -15):  # zlib or gzip by its header; then raw deflate, which some servers send
        try:
            inflate = zlib.decompressobj(bits)
            decoded = inflate.decompress(data, MAX_DECODED_BYTES)
            return None if inflate.unconsumed_tail else decoded
        except zlib.error:
            continue
    return None


def token_counts(tail: bytes) -> tuple[int, int]:
    """Input and output tokens from the end of an answer, zeros where it does not say. Cheap: no parsing."""
    if _TOKENS not in tail:
        return 0, 0
    usage = tail[max(0, tail.rfind(_USAGE)) :]
    inputs, outputs = _INPUT.findall(usage), _OUTPUT.findall(usage)
    if not inputs and not outputs and len(usage) < len(tail):
        inputs, outputs = _INPUT.findall(tail), _OUTPUT.findall(tail)
    return int(inputs[-1]) if inputs else 0, int(outputs[-1]) if outputs else 0


def assemble(stream: bytes, api: str) -> Any:
    """The object that a call without streaming would have returned; None for a stream of another kind.

    Raises AttributeError, LookupError, TypeError or ValueError for fields of a kind that no API sends.
    """
    blocks = _EVENT_END.split(stream) if b"\r" in stream else stream.split(b"\n\n")  # the latter is far faster
    events = [event for event in map(_event_data, blocks) if event is not None]
    together = {"responses": _from_responses, "messages": _from_messages}.get(api, _from_chunks)
    return together(events)


def _event_data(block: bytes) -> Any:
    lines = block.splitlines() if b"\n" in block or b"\r" in block else (block,)
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    if not data or data == [b"[DONE]"]:
        return None
    try:
        return orjson.loads(b"\n".join(data))
    except orjson.JSONDecodeError:
        return None


def _from_responses(events: list[Any]) -> Any:
    for event in reversed(events):
        if isinstance(event, dict) and isinstance(event.get("response"), dict):
            return event["response"]
    return next((event for event in events if isinstance(event, dict) and "error" in event), None)


def _from_messages(events: list[Any]) -> Any:
    """Anthropic's: a message, its content blocks by number, and what became of them."""
    message: dict[str, Any] | None = None
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "message_start":
            message = _object(event, "message")
        elif kind == "content_block_start":
            blocks[event.get("index", len(blocks))] = _object(event, "content_block")
        elif kind == "content_block_delta":
            _add_to_block(blocks.setdefault(event.get("index", 0), {}), _object(event, "delta"))
        elif kind == "message_delta" and message is not None:
            message |= _object(event, "delta")
            message["usage"] = _object(message, "usage") | _object(event, "usage")
        elif kind == "error" and message is None:
            return event
    if message is None:
        return None
    message["content"] = [_whole_block(blocks[index]) for index in sorted(blocks)]
    return message


def _object(holder: dict[str, Any], key: str) -> dict[str, Any]:
    """A copy of what should be an object; a list of pairs is none, though `dict` would take it."""
    value = holder.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _add_to_block(block: dict[str, Any], delta: dict[str, Any]) -> None:
    kind = delta.get("type")
    for key, value in delta.items():
        if key == "partial_json":
            block["input"] = (block["input"] if isinstance(block.get("input"), str) else "") + value
        elif key == "citation":
            block["citations"] = [*(block.get("citations") or ()), value]
        elif key != "type" and isinstance(value, str) and kind != "signature_delta":
            block[key] = (block.get(key) or "") + value
        elif key != "type":
            block[key] = value


def _whole_block(block: dict[str, Any]) -> dict[str, Any]:
    """A block whose input came as JSON in pieces; one that was cut stays the text that it is."""
    if not isinstance(block.get("input"), str):
        return block
    try:
        return {**block, "input": orjson.loads(block["input"] or "{}")}
    except orjson.JSONDecodeError:
        return block


def _from_chunks(events: list[Any]) -> Any:
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        for key, value in event.items():
            if key == "choices":
                for choice in value or ():
                    _merge_choice(choices.setdefault(choice.get("index", 0), {}), choice)
            elif value is not None or key not in whole:
                whole[key] = value
    if not choices:
        return {"error": whole["error"]} if "error" in whole else None
    if isinstance(whole.get("object"), str):
        whole["object"] = whole["object"].removesuffix(".chunk")
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole


def _merge_choice(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        if key == "delta":
            _merge(choice.setdefault("message", {}), value or {})
        elif key == "text":
            choice["text"] = choice.get("text", "") + (value or "")
        elif key == "logprobs" and isinstance(value, dict):
            known = choice.get("logprobs") or {}
            _merge(known, value)
            choice["logprobs"] = known
        elif value is not None or key not in choice:
            choice[key] = value


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        known: Any = message.get(key)
        if key == "tool_calls" and isinstance(value, list):
            _merge_tool_calls(message.setdefault("tool_calls", []), value)
        elif key == "role" or known is None:
            if value is not None or key not in message:
                message[key] = value
        elif type(known) is type(value) and isinstance(value, str | list):
            message[key] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif value is not None:
            message[key] = value


def _merge_tool_calls(calls: list[Any], pieces: list[Any]) -> None:
    for piece in pieces:
        index = piece.get("index", len(calls))
        while len(calls) <= index < len(calls) + 128:
            calls.append({})
        call = calls[index]
        for key, value in piece.items():
            if key == "function" and isinstance(value, dict):
                _merge(call.setdefault("function", {}), value)
            elif key != "index" and value is not None:
                call[key] = value
