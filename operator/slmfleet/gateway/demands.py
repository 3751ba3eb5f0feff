"""What a call demands of an answer beyond its specialist's own format: the caller's schema, the caller's tools.

`unmet` is asked before a specialist is tried, `problem_of_…` of its answer. Together they make sure that what a caller
gets fits what it sent; otherwise the next tier answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from slmfleet.gateway.schemas import Fits, fits
from slmfleet.wire.routes import OutputFormat
from slmfleet.wire.toolcalls import ToolCall

CHOICES = (None, "auto", "required")


def unmet(request: dict[str, Any], output: OutputFormat) -> str | None:
    """The field that asks for what a specialist with this output cannot give, or None."""
    wanted = request.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in (None, "text") and (output.type != "json" or not _applicable(wanted, output)):
        return "response_format"
    if output.type == "tool":
        return _unmet_by_calls(request)
    return "tools" if request.get("tools") else None


def problem_of_object(text: str, request: dict[str, Any], output: OutputFormat) -> str | None:
    """What is wrong for this caller with a JSON object that is right for its specialist, or None."""
    schema = _foreign_schema(request.get("response_format"), output)
    return None if schema is None or fits(schema)(orjson.loads(text)) else "does not fit the caller's schema"


def _foreign_schema(wanted: Any, output: OutputFormat) -> Any:
    """The caller's own schema, where it has one that is not the specialist's."""
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    declared = wanted.get("json_schema")
    schema = declared.get("schema") if isinstance(declared, dict) else None
    return None if schema == output.json_schema else schema


def _applicable(wanted: Any, output: OutputFormat) -> bool:
    schema = _foreign_schema(wanted, output)
    try:
        return schema is None or bool(fits(schema))
    except ValueError:
        return False


# --- tools ---


def _unmet_by_calls(request: dict[str, Any]) -> str | None:
    known = _tools_of(request)
    if not known:
        return "tools"
    choice = request.get("tool_choice")
    if isinstance(choice, dict):
        return None if _forced(choice) in known else "tool_choice"
    return None if choice in CHOICES else "tool_choice"


def problem_of_calls(calls: Sequence[ToolCall], request: dict[str, Any]) -> str | None:
    """What is wrong with calls of this request's tools, or None."""
    if len(calls) > 1 and request.get("parallel_tool_calls") is False:
        return "several tool calls where the caller takes one"
    known, forced = _tools_of(request) or {}, _forced(request.get("tool_choice"))
    for call in calls:
        if call.name not in known:
            return "calls a tool that the request does not have"
        if forced is not None and call.name != forced:
            return "calls another tool than the caller demands"
        if not known[call.name](call.arguments):
            return "arguments do not fit the tool's parameters"
    return None


def _tools_of(request: dict[str, Any]) -> dict[str, Fits] | None:
    """The functions of a call and the checks of their arguments; None where a tool is of another kind or unreadable."""
    tools = request.get("tools")
    if not isinstance(tools, list):
        return None
    known: dict[str, Fits] = {}
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            return None
        try:
            known[name] = fits(function.get("parameters") or {"type": "object"})
        except ValueError:
            return None
    return known


def _forced(choice: Any) -> str | None:
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
