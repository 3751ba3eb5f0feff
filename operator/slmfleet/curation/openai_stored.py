"""OpenAI's stored completions (`store: true`), as its API lists them, one object or one page a line or document.

Shapes: https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/list and, of one's
messages, .../completions/{id}/messages. A stored chat completion does not hold what was asked: it is joined with its
messages, whose ids are the completion's with a number behind. Completions that a script has joined already
(`messages`), and responses with their `input`, are read as they are. Not covered: items of a stored response listed
apart (they do not name their response).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slmfleet.curation.normal import Aside, Element, Json, Part, Whole, conversation_of, origin_of, record_of, time_of

# What a stored object repeats of its request; the rest of it is the answer's.
_ASKED = (
    "model", "tools", "tool_choice", "response_format", "temperature", "top_p", "presence_penalty",
    "frequency_penalty", "seed", "max_tokens", "max_completion_tokens", "instructions", "text", "reasoning_effort",
)  # fmt: skip
_NAMES = ("conversation_id", "conversation", "session_id", "thread_id")


def elements(value: Json) -> Iterator[Element]:
    """Records, or parts of them."""
    if value.get("object") == "list":
        for item in value.get("data") or []:
            yield from elements(item) if isinstance(item, dict) else [Aside("openai: not an object")]
        return
    if value.get("object") == "response":
        yield _of_response(value)
    elif value.get("object") == "chat.completion":
        said = value.get("messages")
        yield _record(value, said) if isinstance(said, list) and said else Part("openai", str(value.get("id")), value)
    elif "role" in value and isinstance(value.get("id"), str):
        yield Part("openai", value["id"].rpartition("-")[0], value)
    else:
        yield Aside("openai: neither a stored completion nor a message of one")


def joined(key: str, bodies: list[Json]) -> Element:
    """A completion with its messages."""
    stored = [b for b in bodies if b.get("object") == "chat.completion"]
    said = {b["id"]: b for b in bodies if b.get("object") != "chat.completion"}
    if not stored:
        return Aside("openai: messages without their completion")
    if not said:
        return Aside("openai: a completion without its messages")
    ordered = sorted(said.values(), key=_place)
    return _record(stored[-1], [_message(m) for m in ordered])


def _place(message: Json) -> tuple[int, str]:
    number = str(message["id"]).rpartition("-")[2]
    return (int(number) if number.isdecimal() else 0, str(message["id"]))


def _message(stored: Json) -> Json:
    kept = {k: v for k, v in stored.items() if k not in ("id", "object", "content_parts") and v is not None}
    if stored.get("content_parts"):
        kept["content"] = stored["content_parts"]
    return kept


def _record(value: Json, said: list[Any]) -> Whole | Aside:
    request = {k: value[k] for k in _ASKED if value.get(k) is not None} | {"messages": said}
    answer = {k: v for k, v in value.items() if k not in ("messages", "metadata", "input_user", *_ASKED[1:])}
    return _made(value, "chat.completions", request, answer, value.get("created"))


def _of_response(value: Json) -> Whole | Aside:
    said = value.get("input") or value.get("input_items")
    if isinstance(said, dict):
        said = said.get("data")
    if not said:
        return Aside("openai: a response without its input")
    request = {k: value[k] for k in _ASKED if value.get(k) is not None} | {"input": said}
    answer = {k: v for k, v in value.items() if k not in ("input", "input_items")}
    return _made(value, "responses", request, answer, value.get("created_at"))


def _made(value: Json, api: str, request: Json, answer: Json, created: Any) -> Whole | Aside:
    time = time_of(created)
    if time is None:
        return Aside("openai: no time of creation")
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    named = next((str(metadata[k]) for k in _NAMES if metadata.get(k)), None)
    return record_of(
        {
            "id": str(value.get("id") or ""),
            "time": time,
            "conversation": named or conversation_of(request),
            "origin": origin_of(value.get("input_user") or value.get("user")),
            "api": api,
            "request": request,
            "response": answer,
        },
        "openai",
    )
