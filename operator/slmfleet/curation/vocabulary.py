"""The application's own words, which are no personal data: labels, names of tools, and what schemas fix.

A find within one of them is none: "visa" in the label `visa_or_mastercard`. Not covered: a schema that is made for one
call and lists a customer's values in an `enum`; those stay, unless a form vouches for them or the deny list names them.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from slmfleet.curation.seeker import folded
from slmfleet.wire.discovery import FoundCluster

_VALUES = ("enum", "required", "const", "default")


def of_task(cluster: FoundCluster) -> frozenset[str]:
    """Labels, the values and properties of the task's schema, the names of its tools; in lower case."""
    expected = cluster.output_format
    return in_lower_case([*(expected.labels or ()), *_fixed(expected.json_schema), *(cluster.signature.tools or ())])


def of_request(request: Any) -> frozenset[str]:
    """The names of the tools that a call offered, and what their schemas and its response format fix."""
    if not isinstance(request, dict):
        return frozenset()
    form = request.get("text")
    listed = [
        request.get("tools") or request.get("functions"),
        request.get("response_format") or (form if isinstance(form, dict) else None),
    ]
    return _of_tools(json.dumps(listed)) if any(listed) else frozenset()


@lru_cache(maxsize=1_024)
def _of_tools(listed: str) -> frozenset[str]:
    """Of the same tools, which a task sends with every call, once."""
    tools, form = json.loads(listed)
    given = [t for t in tools if isinstance(t, dict)] if isinstance(tools, list) else []
    functions = [f for t in given for f in (t, t.get("function")) if isinstance(f, dict)]
    names = [f["name"] for f in functions if isinstance(f.get("name"), str)]
    return in_lower_case([*names, *_fixed(tools), *_fixed(form)])


def in_lower_case(words: Iterable[Any]) -> frozenset[str]:
    """As a `Seeker` and as a `Detector` compare them."""
    return frozenset(low for word in map(str, words) for low in (folded(word), word.casefold()))


def _fixed(schema: Any) -> Iterator[Any]:
    """Of a JSON schema the names of properties and the values that it lists."""
    if isinstance(schema, list):
        for inner in schema:
            yield from _fixed(inner)
    if not isinstance(schema, dict):
        return
    for key, inner in schema.items():
        if key in _VALUES:
            yield from _plain(inner)
        elif key == "properties" and isinstance(inner, dict):
            yield from inner
            yield from _fixed(list(inner.values()))
        else:
            yield from _fixed(inner)


def _plain(value: Any) -> Iterator[Any]:
    """Texts and numbers of a value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _plain(inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value
