"""What a valid answer of a task looks like, inferred from its answers, and the check of an answer against it.

The check covers what `infer` writes and the common rest of JSON Schema (type, enum, const, required, properties,
additionalProperties, items, length and number bounds, anyOf); it ignores keywords it does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slmfleet.curation.calls import Call
from slmfleet.curation.shapes import COPIED_CALLS, LabelField, Shape, copied_fields, label_text, parse_json
from slmfleet.wire.routes import OutputFormat

MAX_LABELS = 500
REQUIRED_SHARE = 0.98
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def infer(calls: Sequence[Call], shapes: Sequence[Shape], labels: LabelField | None) -> OutputFormat:
    """The format that the group's commonest answers have. A value seen once is no member of a closed set."""
    kind = Counter(s.kind for s in shapes).most_common(1)[0][0]
    if kind == "label" and labels is not None and len(labels.support) <= MAX_LABELS:
        return OutputFormat(type="label", labels=sorted(labels.support))
    if kind == "tool":
        return OutputFormat(type="tool")
    if kind != "json":
        return OutputFormat(type="text")
    values = []
    for call, shape in zip(calls, shapes, strict=True):
        if shape.kind == "json":
            values.append(parse_json(call.answer.strip()))
    if not all(isinstance(v, dict) for v in values):
        return OutputFormat(type="text")
    read = [c.frame.user for c in calls[:COPIED_CALLS]]
    fields = Fields(labels, copied_fields(read, shapes))
    return OutputFormat(type="json", json_schema=_object_schema(values, fields, ""))


@dataclass(frozen=True)
class Fields:
    """What is known of a format's fields: the label, and those copied out of the input, which no list closes."""

    labels: LabelField | None
    copied: frozenset[str]


def _object_schema(values: Sequence[dict[str, Any]], fields: Fields, path: str) -> dict[str, Any]:
    count = Counter(k for v in values for k in v)
    common = [k for k in sorted(count) if count[k] >= max(2, 0.005 * len(values))]
    properties = {}
    for key in common:
        inner = f"{path}.{key}" if path else key
        properties[key] = _schema([v[key] for v in values if key in v], fields, inner)
    return {
        "type": "object",
        "properties": properties,
        "required": [k for k in common if count[k] >= REQUIRED_SHARE * len(values)],
        "additionalProperties": False,
    }


def _schema(values: Sequence[Any], fields: Fields, path: str) -> dict[str, Any]:
    types = {_type_of(v) for v in values}
    if types == {"integer", "number"}:
        types = {"number"}
    if len(types) != 1:
        return {"type": sorted(types)}
    kind = types.pop()
    if kind == "object":
        return _object_schema(values, fields, path)
    if kind == "array":
        items = [x for v in values for x in v]
        return {"type": "array", "items": _schema(items, fields, f"{path}[]")} if items else {"type": "array"}
    if kind == "string":
        if fields.labels is not None and fields.labels.path == path:
            closed = fields.labels.support
        else:
            closed = {} if path in fields.copied else _closed(values)
        if closed and len(closed) <= MAX_LABELS:
            return {"type": "string", "enum": sorted(closed)}
    return {"type": kind}


def _closed(values: Sequence[str]) -> dict[str, int]:
    """Values of a field that is a closed set beside the label: few, and nearly all of them often."""
    count = Counter(values)
    kept = {v: n for v, n in count.items() if n >= 2 and label_text(v) is not None}
    return kept if kept and sum(kept.values()) >= 0.97 * len(values) and len(kept) <= len(values) / 10 else {}


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return next(name for name, kind in _TYPES.items() if isinstance(value, kind))


def fault(answer: str, expected: OutputFormat) -> str | None:
    """What about an answer breaks the format, or None."""
    text = answer.strip()
    if expected.type == "text":
        return None if text else "empty"
    if expected.type == "tool":
        return "no tool call"  # one would not be a text
    if expected.type == "label":
        return None if text in (expected.labels or []) else "not one of the labels"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    return _broken(value, expected.json_schema or {"type": "object"}, "$")


def _broken(value: Any, schema: dict[str, Any], path: str) -> str | None:
    options = schema.get("anyOf")
    if isinstance(options, list) and options and all(_broken(value, o, path) for o in options):
        return f"{path} fits none of anyOf"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, k) for k in kinds):
        return f"{path} is no {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is not one of the values"
    if "const" in schema and value != schema["const"]:
        return f"{path} is not the constant"
    if isinstance(value, dict):
        return _broken_object(value, schema, path)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return next((f for i, x in enumerate(value) if (f := _broken(x, schema["items"], f"{path}[{i}]"))), None)
    return _out_of_bounds(value, schema, path)


def _broken_object(value: dict[str, Any], schema: dict[str, Any], path: str) -> str | None:
    missing = [k for k in schema.get("required", []) if k not in value]
    if missing:
        return f"{path} lacks {missing[0]}"
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        extra = sorted(set(value) - set(properties))
        if extra:
            return f"{path} has another key"
    return next(
        (f for k in sorted(properties) if k in value and (f := _broken(value[k], properties[k], f"{path}.{k}"))), None
    )


def _out_of_bounds(value: Any, schema: dict[str, Any], path: str) -> str | None:
    if isinstance(value, str):
        low, high = schema.get("minLength", 0), schema.get("maxLength", len(value))
        return None if low <= len(value) <= high else f"{path} has another length"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return None if low <= value <= high else f"{path} is out of bounds"
    return None


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES.get(kind, object))
