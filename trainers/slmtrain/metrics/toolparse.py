"""Tool calls in the text of an answer, in the forms that models write them.

Covered: OpenAI's `tool_calls`; JSON objects or lists with `name` and `arguments` (or `parameters`), bare, fenced, in
`<tool_call>` tags or after Mistral's and Llama's marks; BFCL's `[{"tool": {"argument": value}}]`; Python calls, alone
or in a list (positional arguments take the schema's order). Not covered: calls in the middle of prose without tags.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from slmtrain.metrics.reference import Call, as_json

_TAGS = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_MARKS = re.compile(r"^\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>|<functioncall>)\s*")
_FENCE = re.compile(r"^\s*```[\w-]*\n(.*?)\n?```\s*$", re.DOTALL)
_LONGEST = 100_000  # characters; Python's parser is not fed more
Parameters = Mapping[str, Mapping[str, Any]]


def parse_calls(text: str, parameters: Parameters | None = None) -> list[Call] | None:
    """The calls of an answer in their order; None where it is no tool call, or a broken one.

    >>> parse_calls('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    [Call(name='add', arguments={'a': 1})]
    >>> parse_calls("[math.add(a=1)]")
    [Call(name='math.add', arguments={'a': 1})]
    >>> parse_calls("I cannot help with that.") is None
    True
    """
    tagged = _TAGS.findall(text)
    if tagged:
        return _all(_from_one(part, parameters) for part in tagged)
    return _from_one(text, parameters)


def _all(parts: Iterable[list[Call] | None]) -> list[Call] | None:
    """One list of all the calls, or None where one part is broken."""
    found: list[Call] = []
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def _from_one(text: str, parameters: Parameters | None) -> list[Call] | None:
    text = _MARKS.sub("", text)
    fenced = _FENCE.match(text)
    text = (fenced[1] if fenced else text).strip()
    value = as_json(text)
    if value is not None:
        return calls_of_json(value, parameters)
    return _from_python(text, parameters) if len(text) <= _LONGEST else None


def calls_of_json(value: Any, parameters: Parameters | None = None) -> list[Call] | None:
    """Calls from a parsed message, a list of calls, or one call."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    return _all(_call_of(item, parameters) for item in items) if items else None


def _call_of(item: Any, parameters: Parameters | None) -> list[Call] | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = item.get("name")
    if isinstance(name, str):
        given = item.get("arguments", item.get("parameters", {}))
        given = as_json(given or "{}") if isinstance(given, str) else given
        return [Call(name, given)] if isinstance(given, dict) else None
    if len(item) != 1:
        return None
    ((name, given),) = item.items()
    known = parameters is None or name in parameters or name.replace(".", "_") in parameters
    return [Call(name, given)] if known and isinstance(given, dict) else None


def _from_python(text: str, parameters: Parameters | None) -> list[Call] | None:
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    return _all(_call_of_node(node, parameters) for node in nodes) if nodes else None


def _call_of_node(node: ast.expr, parameters: Parameters | None) -> list[Call] | None:
    if not isinstance(node, ast.Call):
        return None
    name = _name_of(node.func)
    if name is None:
        return None
    schema = (parameters or {}).get(name) or {}
    order = list(schema.get("properties") or {})
    if len(node.args) > len(order) or any(k.arg is None for k in node.keywords):
        return None
    try:
        given = {key: ast.literal_eval(value) for key, value in zip(order, node.args, strict=False)}
        given |= {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (ValueError, TypeError, RecursionError):
        return None
    return [Call(name, given)]


def _name_of(node: ast.expr) -> str | None:
    """`math.add`; None for what is no name: a model that loops writes `f()()()` to its last token."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
