"""Whether what an answer copied from its prompt is still a copy after redaction.

A specialist learns to copy from rows in which the answer's "1mo" stands in the prompt; from a row in which redaction
changed one of the two it learns to invent. Compared are the answer's values: its JSON's, its tool calls', or all of it.

Pure. Not covered: what an answer copies inside a longer text of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from slmfleet.curation.escapes import plain_of
from slmfleet.curation.redact import strings_in
from slmfleet.curation.spans import UNSPACED

Row = dict[str, Any]
_UNSPACED = re.compile(f"[{UNSPACED}]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A copied word so short, or a number, is no value that tells a person.
SHORT_CHARACTERS = 4
SHORT_NUMBER = 5


def broken(before: Sequence[Row], after: Sequence[Row]) -> list[tuple[str, bool]]:
    """Values of the last message that stood in those before it and stand there no more; each with whether it may stay:
    it stands there as it was, or is too short to be anybody's."""
    asked, now = prompt_of(before), prompt_of(after)
    values, made = list(values_of(before[-1])), list(values_of(after[-1]))
    if len(values) != len(made):
        return [(json.dumps(before[-1]), False)]
    if asked == now and values == made:
        return []
    lost = dict.fromkeys(
        old for old, new in zip(values, made, strict=True) if stands(old, asked) and not stands(new, now)
    )
    return [(old, stands(old, now) or _is_short(old)) for old in lost]


def prompt_of(messages: Sequence[Row]) -> str:
    """All that was asked, as a reader of its JSON sees it."""
    return plain_of("\n".join(strings_in(list(messages[:-1])))).text


def values_of(answer: Row) -> Iterator[str]:
    """Texts and numbers that an answer gives."""
    content = answer.get("content")
    if isinstance(content, str) and content.strip():
        yield from _leaves(_json(content.strip()))
    for call in answer.get("tool_calls") or ():
        yield from _leaves(call["function"]["arguments"])


def _json(text: str) -> Any:
    if text[:1] not in "{[":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def stands(value: str, text: str) -> bool:
    """Whether a value stands in a text, verbatim and not within a longer word."""
    if not any(c.isalnum() for c in value):
        return False
    at = text.find(value)
    while at >= 0:
        end = at + len(value)
        if not _joins(text[max(0, at - 1) : at + 1]) and not _joins(text[end - 1 : end + 1]):
            return True
        at = text.find(value, at + 1)
    return False


def _joins(two: str) -> bool:
    """Whether two characters are of one word."""
    return len(two) == 2 and two.isalnum() and not _UNSPACED.search(two)


def _is_short(value: str) -> bool:
    return len(value) < SHORT_CHARACTERS or (bool(_NUMBER.fullmatch(value)) and len(value) <= SHORT_NUMBER)
