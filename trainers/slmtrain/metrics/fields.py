"""Field-wise F1 of JSON answers.

Every scalar is one field; an empty object or list is one too. Objects compare key by key, at any depth. Lists are
multisets: their order does not matter, how often a value occurs does; items that are objects or lists are paired best
pair first, so that the fields of one item are never credited to another. Values compare as JSON: 1 is 1.0, not "1".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Reference, as_json, same_scalar


def score(answer: str, reference: Reference) -> float:
    """F1 of the answer's fields, 0 to 1; an answer that is no JSON has none right."""
    want = as_json(reference.text)
    if not isinstance(want, dict | list):
        return float(answer.strip() == reference.text.strip())
    return max(field_f1(as_json(answer), other) for other in (want, *map(as_json, reference.accepted)))


def valid(answer: str, reference: Reference, form: Form) -> bool:
    """JSON of the recorded answer's kind; of an object, with the keys of the task."""
    want, got = as_json(reference.text), as_json(answer)
    if isinstance(want, dict):
        return isinstance(got, dict) and form.holds_keys(list(got))
    return type(got) is type(want)


def field_f1(got: Any, want: Any) -> float:
    """F1 over the fields of two JSON values.

    >>> round(field_f1({"a": 1, "b": [2, 3]}, {"b": [3, 2], "a": 0}), 2)
    0.67
    """
    if not isinstance(got, type(want)):
        return 0.0
    return 2 * shared(got, want) / (count(got) + count(want))


def count(value: Any) -> int:
    """How many fields a value has, at least 1."""
    if isinstance(value, dict) and value:
        return sum(map(count, value.values()))
    if isinstance(value, list) and value:
        return sum(map(count, value))
    return 1


def shared(got: Any, want: Any) -> int:
    """How many fields both have."""
    if isinstance(got, dict) and isinstance(want, dict):
        both = sum(shared(got[key], want[key]) for key in got.keys() & want.keys())
        return both if got and want else int(got == want)
    if isinstance(got, list) and isinstance(want, list):
        return _shared_items(got, want) if got and want else int(got == want)
    if isinstance(got, dict | list) or isinstance(want, dict | list):
        return 0
    return int(same_scalar(got, want))


def _shared_items(got: list[Any], want: list[Any]) -> int:
    """Scalars as often as both have them; objects and lists paired, the best pair first."""
    both = (_scalars(got) & _scalars(want)).total()
    mine = [item for item in got if isinstance(item, dict | list)]
    theirs = [item for item in want if isinstance(item, dict | list)]
    pairs = [(shared(a, b), i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs)]
    taken_mine: set[int] = set()
    taken_theirs: set[int] = set()
    for fields, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if fields and i not in taken_mine and j not in taken_theirs:
            taken_mine.add(i)
            taken_theirs.add(j)
            both += fields
    return both


def _scalars(items: list[Any]) -> Counter[tuple[bool, Any]]:
    """Told apart as JSON does: 1 is 1.0, and is not true."""
    return Counter((isinstance(item, bool), item) for item in items if not isinstance(item, dict | list))
