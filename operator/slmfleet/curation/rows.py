"""A call as an example: the conversation in TRL's form, its answer, and what of it is new at its step.

TRL's conversational form: https://huggingface.co/docs/trl/dataset_formats . Arguments of tool calls are objects there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from slmfleet.curation.calls import Call
from slmfleet.curation.language import UNDETERMINED, language_of
from slmfleet.curation.redact import mapped
from slmfleet.recognise.frame import text_of

Row = dict[str, Any]
NEW_WORDS = 10
_INSTRUCTIONS = ("system", "developer")


def messages_of(call: Call) -> list[Row]:
    """What was asked, system prompt first."""
    request = call.record.request
    given = request.get("messages") if isinstance(request, dict) else None
    if isinstance(given, list) and given and not request.get("system"):
        return [_with_objects(m) for m in given if isinstance(m, dict)]
    messages = [{"role": "system", "content": call.frame.system}] if call.frame.system else []
    listed = given or (request.get("input") if isinstance(request, dict) else None)
    if isinstance(listed, list):
        plain = [_item(m) for m in listed if isinstance(m, dict)]
        return messages + [m for m in plain if m["role"] not in _INSTRUCTIONS]
    return [*messages, {"role": "user", "content": call.frame.user}]


def answer_of(call: Call, repaired: str | None = None) -> Row:
    """What was answered, mended where its format was."""
    if not call.tool_calls:
        return {"role": "assistant", "content": call.answer.strip() if repaired is None else repaired}
    calls = [{"type": "function", "function": {"name": n, "arguments": _object(a)}} for n, a in call.tool_calls]
    return {"role": "assistant", "content": call.answer or "", "tool_calls": calls}


def row_of(call: Call, repaired: str | None, change: Callable[[str], str]) -> Row:
    """A line of a dataset, every text of it changed. `language` where it can be told: the gate judges each apart."""
    request = call.record.request
    row: Row = {
        "id": call.id,
        "conversation": call.conversation,
        "time": call.record.time.isoformat().replace("+00:00", "Z"),
        "messages": [
            {k: v if k in ("role", "type") else mapped(v, change) for k, v in m.items()}
            for m in [*messages_of(call), answer_of(call, repaired)]
        ],
    }
    if isinstance(request, dict) and request.get("tools"):
        row["tools"] = mapped(request["tools"], change)
    if (language := language_of(call.frame.user)) != UNDETERMINED:
        row["language"] = language
    return row


def new_text(messages: list[Row]) -> str:
    """What makes a step the same question as another: what came after the answer before it. Step k of a tool loop
    repeats steps 1 to k-1, so the whole of it says little; where the new part is short, what led to it counts too."""
    said = [m for m in messages if m.get("role") not in _INSTRUCTIONS]
    texts: list[str] = []
    words = 0
    for message in reversed(said):
        if message.get("role") == "assistant" and words >= NEW_WORDS:
            break
        text = text_of(message.get("content")) or _called(message)
        texts.append(text)
        words += len(text.split())
    return "\n".join(reversed(texts))


def _called(message: Row) -> str:
    return json.dumps(message["tool_calls"], sort_keys=True) if message.get("tool_calls") else ""


def _item(item: Row) -> Row:
    """An item of the Responses API or a message of Anthropic's."""
    if item.get("type") == "function_call":
        function = {"name": item.get("name"), "arguments": _object(item.get("arguments") or "{}")}
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    if item.get("type") == "function_call_output":
        output = item.get("output")
        return {"role": "tool", "content": output if isinstance(output, str) else json.dumps(output)}
    return {"role": item.get("role", "user"), "content": text_of(item.get("content"))}


def _with_objects(message: Row) -> Row:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    made = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            call = call | {"function": function | {"arguments": _object(function.get("arguments"))}}
        made.append(call)
    return message | {"tool_calls": made}


def _object(arguments: Any) -> Any:
    """Arguments as an object; text that is none stays text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments
