"""Whether an answer has its declared format. Compiled once per route table, then one call per answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from slmfleet.gateway.schemas import validator_of
from slmfleet.wire.routes import OutputFormat
from slmfleet.wire.toolcalls import calls_of

Check = Callable[[str], str | None]
"""Answer's text to None, or to the reason why it is not valid."""


def compile_check(output: OutputFormat) -> Check:
    """The check of a declared format. Raises ValueError for a schema that is none."""
    if output.type == "json":
        return _json_check(output.json_schema)
    if output.type == "label":
        return _label_check(frozenset(output.labels or ()))
    return _tool_check if output.type == "tool" else _text_check


def canonical(output: OutputFormat, text: str) -> Any:
    """What two answers are compared by: the parsed object or calls, the bare label, or the text with its white space
    folded.

    Raises ValueError for an answer that is not in the format.
    """
    if output.type == "json":
        return orjson.loads(text)
    if output.type == "label":
        return text.strip()
    if output.type == "tool":
        return [[call.name, json.dumps(call.arguments, sort_keys=True)] for call in calls_of(text)]
    return " ".join(text.split()).casefold()


def _json_check(schema: dict[str, Any] | None) -> Check:
    validator = None if schema is None else validator_of(schema)

    def check(text: str) -> str | None:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return "not JSON"
        if not isinstance(value, dict):
            return "not a JSON object"
        try:
            return None if validator is None or validator.is_valid(value) else "does not fit its schema"
        except Exception as error:
            return f"its schema cannot be applied ({type(error).__name__})"

    return check


def _label_check(labels: frozenset[str]) -> Check:
    def check(text: str) -> str | None:
        label = text.strip()
        if not label:
            return "empty"
        return None if not labels or label in labels else "not one of the labels"

    return check


def _tool_check(text: str) -> str | None:
    try:
        return None if calls_of(text) else "no tool call"
    except ValueError as error:
        return f"no tool call: {error}"


def _text_check(text: str) -> str | None:
    return None if text.strip() else "empty"
