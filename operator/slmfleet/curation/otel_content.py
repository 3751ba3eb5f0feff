"""What a GenAI span says, in the form of chat completions: messages, tools, choices.

Reads, newest first: messages as attributes (JSON text or structure), references to files of the upload hook of
opentelemetry-util-genai, the events `gen_ai.*.message` and `gen_ai.choice`, and the numbered attributes
`gen_ai.prompt.0.content` of OpenLLMetry. Reasoning and binary parts carry no text and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from slmfleet.curation.normal import Json, text_or_json

UPLOAD_BYTES = 64 << 20
# Only files that look like an upload hook's are opened: a log must not be able to name any file of this machine.
_UPLOADED = re.compile(r"[\w.-]+_(inputs|outputs|system_instruction|tool\.definitions)\.jsonl?$")
_NUMBERED = re.compile(r"^gen_ai\.(prompt|completion)\.(\d+)\.(?:message\.)?(.+)$")
_ROLE = {"gen_ai.system.message": "system", "gen_ai.user.message": "user", "gen_ai.assistant.message": "assistant",
         "gen_ai.tool.message": "tool"}  # fmt: skip
_FINISH = {"tool_call": "tool_calls"}


class NotReachable(Exception):
    """A reference to content that cannot be read here."""


@dataclass
class Content:
    """`choices` are those of a chat completion."""

    messages: list[Json] = field(default_factory=list)
    choices: list[Json] = field(default_factory=list)
    tools: list[Json] = field(default_factory=list)


def content_of(known: Json, events: list[Json], root: Path) -> Content:
    """All that was captured of a call. Raises NotReachable where it is in files that are not here."""
    system = _given(known, "gen_ai.system_instructions", root)
    asked = _given(known, "gen_ai.input.messages", root)
    answered = _given(known, "gen_ai.output.messages", root)
    content = Content(tools=_tools(_given(known, "gen_ai.tool.definitions", root)))
    if system:
        content.messages.append({"role": "system", "content": _text(system)})
    content.messages += [m for given in asked or [] for m in _messages(given)]
    content.choices += [c for n, given in enumerate(answered or []) if (c := _choice(n, given))]
    if not content.messages:
        _from_events(content, events)
    if not content.messages:
        _from_numbered(content, known)
    return content


def _given(known: Json, name: str, root: Path) -> list[Any] | None:
    """A list that is an attribute itself or in the file it refers to."""
    value = text_or_json(known.get(name))
    if value is None:
        reference = known.get(f"{name}_ref") or known.get(f"{name}.ref")
        value = _read(str(reference), root) if reference else None
    if isinstance(value, str):
        return [{"type": "text", "content": value}]
    return value if isinstance(value, list) else None


def _read(reference: str, root: Path) -> list[Any]:
    parts = urlsplit(reference)
    path = Path(unquote(parts.path))
    if not _UPLOADED.fullmatch(path.name):
        raise NotReachable("a reference to no file of an upload hook")
    here = [root / path.name, *(root / Path(*path.parts[-n:]) for n in (2, 3) if len(path.parts) > n)]
    for candidate in [*([path if path.is_absolute() else root / path] if parts.scheme in ("", "file") else []), *here]:
        if candidate.is_file():
            return _parsed(candidate)
    raise NotReachable("content in files that are not here")


def _parsed(path: Path) -> list[Any]:
    if path.stat().st_size > UPLOAD_BYTES:
        raise NotReachable("a file of content that is too large")
    try:
        values = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (OSError, orjson.JSONDecodeError) as error:
        raise NotReachable("a file of content that cannot be read") from error
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _messages(given: Any) -> list[Json]:
    """One message of the conventions is one here, but for answers of tools: each is one."""
    if not isinstance(given, dict):
        return []
    parts = [p for p in given.get("parts") or [] if isinstance(p, dict)]
    if not parts and isinstance(given.get("content"), str):
        parts = [{"type": "text", "content": given["content"]}]
    tools = [p for p in parts if p.get("type") == "tool_call_response"]
    made = [
        {"role": "tool", "tool_call_id": p.get("id"), "content": _as_text(p.get("response", p.get("result")))}
        for p in tools
    ]
    if len(tools) < len(parts) or not parts:
        made.append(_message(str(given.get("role") or "user"), [p for p in parts if p not in tools]))
    return made


def _message(role: str, parts: list[Json]) -> Json:
    message: Json = {"role": role, "content": _text(parts)}
    calls = [
        _call(p.get("id"), p.get("name"), p.get("arguments"))
        for p in parts
        if p.get("type") in ("tool_call", "server_tool_call")
    ]
    if calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = calls
    return message


def _choice(number: int, given: Any) -> Json | None:
    made = _messages(given)
    if not made:
        return None
    reason = given.get("finish_reason")
    return {"index": number, "message": made[-1], "finish_reason": _FINISH.get(reason, reason)}


def _call(name_id: Any, name: Any, arguments: Any) -> Json:
    return {
        "id": str(name_id or ""),
        "type": "function",
        "function": {"name": str(name or ""), "arguments": _as_text(arguments if arguments is not None else {})},
    }


def _text(parts: Iterable[Any]) -> str:
    texts = [p.get("content") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
    return "\n".join(t for t in texts if isinstance(t, str))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _tools(given: list[Any] | None) -> list[Json]:
    tools = []
    for tool in given or []:
        if isinstance(tool, dict):
            tool = {k: v for k, v in tool.items() if v is not None}
            inner = tool if "function" in tool else {"type": "function", "function": _without(tool, "type")}
            tools.append(inner)
    return tools


def _without(value: Json, name: str) -> Json:
    return {k: v for k, v in value.items() if k != name}


def _from_events(content: Content, events: list[Json]) -> None:
    """Events of conventions up to 1.36, in the order of time; in spans of other writers their body is attributes."""
    for event in events:
        name, body = str(event["name"]), event["body"] if isinstance(event["body"], dict) else {}
        if name in _ROLE:
            content.messages.append(_said(str(body.get("role") or _ROLE[name]), body))
        elif name == "gen_ai.choice":
            inner = text_or_json(body.get("message"))
            said = _said("assistant", inner if isinstance(inner, dict) else body)
            choice = {"index": body.get("index", 0), "message": said, "finish_reason": body.get("finish_reason")}
            content.choices.append(choice)
        elif name == "gen_ai.content.prompt":
            prompts = text_or_json(body.get("gen_ai.prompt"))
            content.messages += [m for m in prompts if isinstance(m, dict)] if isinstance(prompts, list) else []
        elif name == "gen_ai.content.completion":
            answers = text_or_json(body.get("gen_ai.completion"))
            for n, m in enumerate(answers if isinstance(answers, list) else []):
                content.choices.append({"index": n, "message": m, "finish_reason": None})


def _said(role: str, body: Json) -> Json:
    message: Json = {"role": role, "content": _as_text(body["content"]) if body.get("content") is not None else None}
    calls = text_or_json(body.get("tool_calls"))
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [c for c in calls if isinstance(c, dict)]
    if role == "tool":
        message["tool_call_id"] = body.get("id") or body.get("tool_call_id")
    return message


def _from_numbered(content: Content, known: Json) -> None:
    """`gen_ai.prompt.0.role`, `gen_ai.prompt.0.tool_calls.0.name`, and the same of completions."""
    found: dict[tuple[str, int], Json] = {}
    for key, value in known.items():
        match = _NUMBERED.match(key)
        if match:
            found.setdefault((match[1], int(match[2])), {})[match[3]] = value
    for (side, number), values in sorted(found.items()):
        message = _said(str(values.get("role") or ("user" if side == "prompt" else "assistant")), values)
        count = 0
        calls = []
        while f"tool_calls.{count}.name" in values:
            at = f"tool_calls.{count}"
            calls.append(_call(values.get(f"{at}.id"), values[f"{at}.name"], values.get(f"{at}.arguments")))
            count += 1
        if calls:
            message["tool_calls"] = calls
        if side == "prompt":
            content.messages.append(message)
        else:
            choice = {"index": number, "message": message, "finish_reason": values.get("finish_reason")}
            content.choices.append(choice)
    for number in range(512):
        at = f"llm.request.functions.{number}"
        if f"{at}.name" not in known:
            break
        function = {"name": known[f"{at}.name"], "description": known.get(f"{at}.description")}
        schema = text_or_json(known.get(f"{at}.parameters"))
        content.tools.append({"type": "function", "function": function | {"parameters": schema}})
