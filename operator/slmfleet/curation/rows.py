"""A call as an example: the conversation in TRL's form, its answer, and what of it is new at its step.

TRL's conversational form: https://huggingface.co/docs/trl/dataset_formats . Arguments of tool calls are objects there.
"""

from __future__ import annotations

import json
from typing import Any

from slmfleet.curation.calls import Call
from slmfleet.curation.contents import Change, changed
from slmfleet.curation.language import UNDETERMINED, language_of
from slmfleet.recognise.frame import text_of

Row = dict[str, Any]
NEW_WORDS = 10
INSTRUCTIONS = ("system", "developer")
_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking")


def messages_of(call: Call) -> list[Row]:
    """What was asked, system prompt first; of the Responses API and of Anthropic's, in the form of chat completions."""
    request = call.record.request
    given = request.get("messages") if isinstance(request, dict) else None
    if isinstance(given, list) and given and not request.get("system") and not _foreign(given):
        return [_with_objects(m) for m in given if isinstance(m, dict)]
    messages = [{"role": "system", "content": call.frame.system}] if call.frame.system else []
    listed = given or (request.get("input") if isinstance(request, dict) else None)
    if isinstance(listed, list):
        plain = [row for m in listed if isinstance(m, dict) for row in _items(m)]
        return messages + [m for m in plain if m["role"] not in INSTRUCTIONS]
    return [*messages, {"role": "user", "content": call.frame.user}]


def answer_of(call: Call, repaired: str | None = None) -> Row:
    """What was answered, mended where its format was."""
    if not call.tool_calls:
        return {"role": "assistant", "content": call.answer.strip() if repaired is None else repaired}
    calls = [{"type": "function", "function": {"name": n, "arguments": _object(a)}} for n, a in call.tool_calls]
    return {"role": "assistant", "content": call.answer or "", "tool_calls": calls}


def row_of(call: Call, messages: list[Row], text: Change, form: Change) -> Row:
    """A line of a dataset; `messages`: prompt and answer. `text` is done to what was written, `form` to the rest.
    `language` where it can be told: the gate judges each apart."""
    row: Row = {
        "id": call.id,
        "conversation": call.conversation,
        "time": call.record.time.isoformat().replace("+00:00", "Z"),
        "messages": changed(messages, text, form),
    }
    tools = tools_of(call)
    if tools:
        row["tools"] = changed(tools, text, form, "tools")
    if (language := language_of(call.frame.user)) != UNDETERMINED:
        row["language"] = language
    return row


def new_text(messages: list[Row]) -> str:
    """What makes a step the same question as another: what came after the answer before it. Step k of a tool loop
    repeats steps 1 to k-1, so the whole of it says little; where the new part is short, what led to it counts too."""
    said = [m for m in messages if m.get("role") not in INSTRUCTIONS]
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


def tools_of(call: Call) -> list[Any]:
    """What could be called, each as `{"type": "function", "function": …}` whichever API it was sent to."""
    request = call.record.request
    given = request.get("tools") if isinstance(request, dict) else None
    made = []
    for tool in given if isinstance(given, list) else []:
        if isinstance(tool, dict) and "function" not in tool and isinstance(tool.get("name"), str):
            schema = tool.get("parameters") or tool.get("input_schema") or {}
            function = {"name": tool["name"], "description": tool.get("description") or "", "parameters": schema}
            tool = {"type": "function", "function": function}
        made.append(tool)
    return made


def other_than_text(messages: list[Row]) -> bool:
    """Whether something was shown or played, which no text can stand for."""
    return any(
        isinstance(part, dict) and not isinstance(part.get("text"), str)
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def broken_calls(messages: list[Row]) -> bool:
    """Whether a tool's call in the history has arguments that are no object."""
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
                return True
    return False


def _foreign(messages: list[Any]) -> bool:
    """Anthropic's blocks, which chat completions do not know."""
    parts = (p for m in messages if isinstance(m, dict) and isinstance(m.get("content"), list) for p in m["content"])
    return any(isinstance(p, dict) and p.get("type") in ("tool_use", "tool_result") for p in parts)


def _items(item: Row) -> list[Row]:
    """An item of the Responses API or a message of Anthropic's, as the messages it is."""
    if item.get("type") == "function_call":
        return [_called_by([(item.get("name"), item.get("arguments") or "{}")], "")]
    if item.get("type") == "function_call_output":
        return [{"role": "tool", "content": _plain(item.get("output"))}]
    if item.get("type") == "reasoning":
        return []
    content = item.get("content")
    if not isinstance(content, list):
        return [{"role": item.get("role", "user"), "content": text_of(content)}]
    made: list[Row] = [
        {"role": "tool", "content": _plain(p.get("content")), **({"is_error": True} if p.get("is_error") else {})}
        for p in content
        if isinstance(p, dict) and p.get("type") == "tool_result"
    ]
    called = [(p.get("name"), p.get("input")) for p in content if isinstance(p, dict) and p.get("type") == "tool_use"]
    rest = [p for p in content if not isinstance(p, dict) or p.get("type") not in _BLOCKS]
    if called:
        return [*made, _called_by(called, text_of(rest))]
    if rest:
        shown = any(isinstance(p, dict) and not isinstance(p.get("text"), str) for p in rest)
        made.append({"role": item.get("role", "user"), "content": rest if shown else text_of(rest)})
    return made


def _called_by(called: list[tuple[Any, Any]], text: str) -> Row:
    calls = [{"type": "function", "function": {"name": str(n), "arguments": _object(a)}} for n, a in called]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _plain(value: Any) -> str:
    """What a tool answered, as text."""
    if isinstance(value, str):
        return value
    return text_of(value) if isinstance(value, list) else json.dumps(value)


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
