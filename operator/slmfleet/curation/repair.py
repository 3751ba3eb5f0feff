"""Mends an answer that breaks its task's format by its wrapping only: what it says is never changed.

A fence around it, prose around one JSON object, a comma too many; quotes, a full stop or another case on a label. The
mended answer must pass the format, else it stays broken.
"""

from __future__ import annotations

import json
import re

from slmfleet.curation.formats import fault
from slmfleet.wire.routes import OutputFormat

_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)\n?\s*```", re.S)
_COMMA = re.compile(r",(\s*[}\]])")


def repaired(answer: str, expected: OutputFormat) -> tuple[str, str] | None:
    """(answer in its format, what was mended), or None where nothing of the kind helps."""
    for made, how in _options(answer.strip(), expected):
        if made is not None and fault(made, expected) is None:
            return made, how
    return None


def _options(text: str, expected: OutputFormat) -> list[tuple[str | None, str]]:
    if expected.type == "label":
        known = {label.lower(): label for label in expected.labels or []}
        bare = text.strip(" \t\n\"'`*.!:").removeprefix("Label: ").removeprefix("label: ")
        return [(known.get(bare.lower()), "label: quotes, case or full stop")]
    if expected.type != "json":
        return []
    fenced = _FENCE.search(text)
    inner = fenced.group(1).strip() if fenced else None
    first = _first_object(text)
    return [
        (inner, "JSON: fence"),
        (first, "JSON: text around it"),
        (_COMMA.sub(r"\1", inner or text), "JSON: comma too many"),
    ]


def _first_object(text: str) -> str | None:
    """The only JSON object in a text; with two of them nobody can say which was meant."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end] if isinstance(value, dict) and "{" not in text[end:] else None
