"""Whether a chat answer of a model nobody proved is good enough to be shown; if not, the next tier answers.

Pure, and cheap beside the call it judges. It covers the form: an object with choices, JSON where JSON was asked for
(and its schema), tool calls that name a tool of the request with arguments that fit it. It does not cover whether the
answer is right.
"""

from __future__ import annotations

from typing import Any

import orjson
from jsonschema import validators
from referencing import Registry

JSON_FORMATS = ("json_object", "json_schema")


def must_be_whole(request: dict[str, Any]) -> bool:
    """Whether an answer can be judged only when it is whole, streamed or not."""
    return bool(request.get("tools")) or _format(request) in JSON_FORMATS


def problem_of(answer: Any, request: dict[str, Any]) -> str | None:
    """What is wrong with a whole `chat.completion`, or None."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        return "no choices"
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            return "no message"
        problem = _message(message, choice.get("finish_reason"), request)
        if problem is not None:
            return problem
    return None


def _message(message: dict[str, Any], finish_reason: Any, request: dict[str, Any]) -> str | None:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        return next((problem for call in calls if (problem := _tool_call(call, request))), None)
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        return "empty"
    if _format(request) not in JSON_FORMATS:
        return None
    if finish_reason == "length":
        return "cut at its token limit"
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "not JSON"
    declared = request["response_format"].get("json_schema")
    return _misfit(value, declared.get("schema") if isinstance(declared, dict) else None)


def _tool_call(call: Any, request: dict[str, Any]) -> str | None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return "no function in a tool call"
    tools = request.get("tools")
    known = {tool["function"].get("name"): tool["function"] for tool in tools or () if _is_function(tool)}
    if function.get("name") not in known:
        return "calls a tool that the request does not have"
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        return "arguments are not JSON"
    return _misfit(arguments, known[function["name"]].get("parameters"))


def _misfit(value: Any, schema: Any) -> str | None:
    if not isinstance(schema, dict):
        return None
    try:  # the schema is the caller's: one that cannot be applied judges nobody
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        return None if kind(schema, registry=Registry()).is_valid(value) else "does not fit its schema"
    except Exception:
        return None


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function"), dict)


def _format(request: dict[str, Any]) -> Any:
    wanted = request.get("response_format")
    return wanted.get("type") if isinstance(wanted, dict) else None
