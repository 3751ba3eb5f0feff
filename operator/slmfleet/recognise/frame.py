"""The frame of a call: what an application sends with every call of a task, with the variables taken out.

Reads the bodies of chat completions, completions, responses and Anthropic messages. A body in an unknown shape gives
an empty frame, never an exception: recognition must not fail a request.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from slmfleet.recognise.memory import Memory

TEMPLATE_CHARACTERS = 20_000
REMEMBERED_BYTES = 2 << 20
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*"
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_VARIABLE = re.compile(
    r"https?://\S+"
    r"|[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|\"[^\"\n]{0,200}\"|“[^”\n]{0,200}”|`[^`\n]{0,200}`|(?<![a-z0-9])'[^'\n]{1,200}'(?![a-z0-9])"
    rf"|\b{_DAY}\b|\b{_MONTH}\.?\s+\d+\w*(?:,?\s+\d{{4}})?|\b\d+\s+{_MONTH}\b"
    r"|[+-]?\w*\d[\w]*(?:[-.:,/_+]\w*\d\w*)*"
)
_SPACE = re.compile(r"\s+")
# Where a prompt can be cut and its parts be looked at alone: no variable reaches over the end of a line, except a date
# between a number and what stands beside it.
_LINE_END = re.compile(r"\n(?<=[^\d\s]\n)\s*(?=[^\d\s])")


class Frame(NamedTuple):
    """One request, taken apart. Lengths are in characters."""

    system: str = ""
    user: str = ""
    messages: int = 0
    input_characters: int = 0
    tools: tuple[str, ...] = ()
    response_format: str = ""

    @property
    def is_empty(self) -> bool:
        """Nothing that could tell one application from another."""
        return not (self.system.strip() or self.tools or self.response_format)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p if isinstance(p, str) else p.get("text", "") for p in content if isinstance(p, str | dict)]
        return "\n".join(p for p in parts if isinstance(p, str))
    return ""


def frame_of(request: Any) -> Frame:
    """Take a request body apart."""
    if not isinstance(request, dict):
        return Frame()
    system, said = _system_texts(request), []
    user, count, size = "", 0, 0
    for message in _messages(request):
        text = text_of(message.get("content"))
        size += len(text)
        if message.get("role") in ("system", "developer"):
            system.append(text)
            continue
        count += 1
        if message.get("role") in ("user", None):
            said.append(text)
    if said:
        user = said[-1]
    system_text = "\n".join(system)
    return Frame(system_text, user, count, size, _tool_names(request), _response_format(request))


def _system_texts(request: dict[str, Any]) -> list[str]:
    texts = [text_of(request[key]) for key in ("system", "instructions") if key in request]
    return [t for t in texts if t]


def _messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    for key in ("messages", "input", "prompt"):
        value = request.get(key)
        if isinstance(value, str):
            return [{"role": "user", "content": value}]
        if isinstance(value, list) and value:
            return [m if isinstance(m, dict) else {"role": "user", "content": str(m)} for m in value]
    return []


def _tool_names(request: dict[str, Any]) -> tuple[str, ...]:
    if "tools" not in request and "functions" not in request:
        return ()
    names = []
    for key in ("tools", "functions"):
        listed = request.get(key)
        for tool in listed if isinstance(listed, list) else []:
            if not isinstance(tool, dict):
                continue
            inner = tool.get("function")
            name = (inner if isinstance(inner, dict) else tool).get("name") or tool.get("type")
            if isinstance(name, str):
                names.append(name)
    return tuple(sorted(set(names)))


def _response_format(request: dict[str, Any]) -> str:
    given = request.get("response_format")
    if not isinstance(given, dict):
        outer = request.get("text")
        given = outer.get("format") if isinstance(outer, dict) else None
    if not isinstance(given, dict):
        return ""
    schema = given.get("json_schema")
    name = (schema if isinstance(schema, dict) else given).get("name") or ""
    kind = given.get("type") or ""
    return f"{kind}:{name}" if name else str(kind)


def template_of(text: str) -> str:
    """A prompt without its variables: numbers, dates, ids, quoted strings, addresses."""
    lines = _LINE_END.split(text[:TEMPLATE_CHARACTERS].lower())
    return " ".join(part for part in map(_line_template, lines) if part)


def frame_fingerprint(request: dict[str, Any]) -> str:
    """`sha256:<hex>` of the call's frame: system template, tool names, response format."""
    return fingerprint_of(frame_of(request))


def fingerprint_of(frame: Frame) -> str:
    """The same, of a frame already taken apart."""
    return _fingerprint((frame.system[:TEMPLATE_CHARACTERS], ",".join(frame.tools), frame.response_format))


def _of_line(line: str) -> str:
    return _SPACE.sub(" ", _VARIABLE.sub("§", line)).strip()


def _of_parts(parts: tuple[str, ...]) -> str:
    system, tools, response_format = parts
    text = "\x1f".join((template_of(system), tools, response_format))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# A fleet has few prompts, and in one that differs from call to call most lines do not.
_line_template = Memory[str](_of_line, REMEMBERED_BYTES)
_fingerprint = Memory[tuple[str, ...]](_of_parts, REMEMBERED_BYTES)
