"""The application's own words, which are no personal data: labels, names of tools, and what schemas fix.

A find within one of them is none: "visa" in the label `visa_or_mastercard`. Not covered: a schema that is made for one
call and lists a customer's values in an `enum`; those stay, unless a form vouches for them or the deny list names them.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from slmfleet.curation.seeker import folded
from slmfleet.wire.discovery import FoundCluster

_VALUES = ("enum", "required", "const", "default")


def of_task(cluster: FoundCluster) -> frozenset[str]:
    """Labels, the values and properties of the task's schema, the names of its tools; in lower case."""
    expected = cluster.output_format
    return in_lower_case([*(expected.labels or ()), *_fixed(expected.json_schema), *(cluster.signature.tools or ())])


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
