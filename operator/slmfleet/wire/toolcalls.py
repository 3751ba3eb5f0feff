"""The one strict text of tool calls: what a specialist is trained to say, and what the gateway reads.

One call is a JSON object `{"name": …, "arguments": {…}}`, several are a list of them, and nothing else stands around.
Read as well: each call in `<tool_call>` tags, as the chat templates of many bases write it (Qwen's, Hermes').
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

_TAGGED = re.compile(r"\s*<tool_call>(.*?)</tool_call>", re.DOTALL)


class ToolCall(NamedTuple):
    """A tool's name and its arguments, an object."""

    name: str
    arguments: dict[str, Any]


def text_of(calls: Sequence[ToolCall]) -> str:
    """The strict text. Raises ValueError for no calls.

    >>> text_of([ToolCall("add", {"a": 1})])
    '{"name": "add", "arguments": {"a": 1}}'
    """
    if not calls:
        raise ValueError("no tool call")
    told = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return json.dumps(told[0] if len(told) == 1 else told, ensure_ascii=False)


def calls_of(text: str) -> list[ToolCall]:
    """The calls in their order. Raises ValueError for a text that is not strictly that."""
    text = text.strip()
    if text.startswith("<tool_call>"):
        pieces = _TAGGED.findall(text)
        if _TAGGED.sub("", text).strip():
            raise ValueError("text beside the tool calls")
        return [_call(_parsed(piece)) for piece in pieces]
    value = _parsed(text)
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("no tool call")
    return [_call(item) for item in items]


def _parsed(text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError("not JSON") from error


def _call(item: Any) -> ToolCall:
    if not isinstance(item, dict) or set(item) != {"name", "arguments"}:
        raise ValueError("not an object of name and arguments")
    name, arguments = item["name"], item["arguments"]
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("name is no text, or arguments are no object")
    return ToolCall(name, arguments)
