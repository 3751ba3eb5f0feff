"""The shape of an answer: what kind of thing it is, its fields, and which field holds a label.

Pure. A shape is the first cut of discovery: answers that differ in kind or in their keys are no one task.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slmfleet.curation.calls import Call

LABEL_CHARACTERS = 64
COPIED_CALLS = 2_000
COPIED = 0.8
PLAIN_LABELS = 50
LABEL_WORDS = 8
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n?(.*?)\n?```\s*$", re.S)

Leaf = str | float | int | bool | None


@dataclass(frozen=True)
class Shape:
    """`kind`: json, tool, label, text or code. `keys`: top-level keys, or tool names. `leaves`: path to value."""

    kind: str
    keys: tuple[str, ...] = ()
    leaves: tuple[tuple[str, Leaf], ...] = ()


def parse_json(text: str) -> Any:
    """The JSON value that an answer is, fenced or not; raises ValueError where it is none."""
    fenced = _FENCE.match(text)
    return json.loads(fenced.group(1) if fenced else text)


def shape_of(call: Call) -> Shape:
    """The shape of a call's answer."""
    if call.tool_calls:
        leaves: list[tuple[str, Leaf]] = []
        for name, arguments in call.tool_calls:
            leaves.append(("tool", name))
            try:
                leaves.extend(_leaves(json.loads(arguments), f"{name}()"))
            except ValueError:
                leaves.append((f"{name}()", arguments))
        return Shape("tool", tuple(sorted({n for n, _ in call.tool_calls})), tuple(leaves))
    return shape_of_text(call.answer)


def shape_of_text(answer: str) -> Shape:
    """The same, of a plain answer."""
    text = answer.strip()
    if text[:1] in "{[`":
        try:
            value = parse_json(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and value:
            return Shape("json", tuple(sorted(map(str, value))), tuple(_leaves(value)))
        if isinstance(value, list):
            return Shape("json", ("[]",), tuple(_leaves(value)))
    if text.startswith("```"):
        return Shape("code")
    if len(text) <= LABEL_CHARACTERS and "\n" not in text and len(text.split()) <= LABEL_WORDS:
        return Shape("label", (), (("", text),))
    return Shape("text", (), (("", text),))


def _leaves(value: Any, path: str = "", depth: int = 0) -> list[tuple[str, Leaf]]:
    if depth > 6:
        return [(path, "…")]
    if isinstance(value, dict):
        return [leaf for k in value for leaf in _leaves(value[k], f"{path}.{k}" if path else str(k), depth + 1)]
    if isinstance(value, list):
        return [leaf for v in value[:50] for leaf in _leaves(v, f"{path}[]", depth + 1)]
    return [(path, value)]


@dataclass(frozen=True)
class LabelField:
    """The field of a group's answers whose values are few and come again: a closed set."""

    path: str
    support: dict[str, int]

    def of(self, shape: Shape) -> str | None:
        """The label of one answer, where it is in the set."""
        for path, value in shape.leaves:
            if path == self.path:
                text = label_text(value)
                return text if text in self.support else None
        return None


def label_text(value: Leaf) -> str | None:
    """A value that could be a label, as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and 0 < len(value.strip()) <= LABEL_CHARACTERS:
        return value.strip()
    return None


def copied_fields(read: Sequence[str], shapes: Sequence[Shape]) -> frozenset[str]:
    """Fields whose values stand in their own inputs and not in others': names and dates that were taken out of a text.
    However few there are, they are no labels. `read`: each answer's input; a list of labels in it is in all of them.
    A few plain words ("refund") may stand in the text that they are the label of: those stay labels."""
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for text, shape in zip(read[:COPIED_CALLS], shapes, strict=False):
        for path, value in shape.leaves:
            label = label_text(value)
            if label is not None:
                pairs[path].append((text, label))
    return frozenset(path for path, found in pairs.items() if _are_entities(found) and _own(found) >= COPIED)


def _are_entities(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a field's values are many, or most of them written as names, numbers and addresses are."""
    marked = sum(any(c.isupper() or c.isdigit() or c == "@" for c in value) for _, value in pairs)
    return 2 * marked >= len(pairs) or len({value for _, value in pairs}) > PLAIN_LABELS


def _own(pairs: Sequence[tuple[str, str]]) -> float:
    """How much oftener a value stands in its own input than another call's value does."""
    shifted = [*pairs[1:], *pairs[:1]]
    others = [(text, value) for (text, own), (_, value) in zip(pairs, shifted, strict=True) if own != value]
    if not others:
        return 0.0
    return sum(v in t for t, v in pairs) / len(pairs) - sum(v in t for t, v in others) / len(others)


def label_field(
    shapes: Sequence[Shape], min_support: int = 2, coverage: float = 0.7, copied: frozenset[str] = frozenset()
) -> LabelField | None:
    """The most telling closed field of a group, or None. Values seen `min_support` times must cover most answers,
    and there must be far fewer of them than answers. `copied`: fields that are none."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for shape in shapes:
        seen = set()
        for path, value in shape.leaves:
            text = label_text(value)
            if text is not None and path not in seen:
                seen.add(path)
                values[path][text] += 1
    best: tuple[float, str] | None = None
    for path in sorted(values.keys() - copied):
        kept = {v: n for v, n in values[path].items() if n >= min_support}
        total = sum(kept.values())
        if len(kept) < 2 or total < coverage * len(shapes) or len(kept) > total / 4:
            continue
        entropy = -sum(n / total * math.log2(n / total) for n in kept.values())
        if best is None or entropy > best[0]:
            best = (entropy, path)
    if best is None:
        return None
    return LabelField(best[1], {v: n for v, n in values[best[1]].items() if n >= min_support})


@dataclass(frozen=True)
class Narrowness:
    """Why a group of calls could be a specialist's task, or could not."""

    narrow: bool
    reason: str


def narrowness(calls: Sequence[Call], shapes: Sequence[Shape]) -> Narrowness:
    """Narrow: short strict answers, made of closed, copied, numeric or very short values, to bounded input."""
    written = sorted(len(c.answer) + sum(len(a) for _, a in c.tool_calls) for c in calls)
    read = sorted(c.frame.input_characters for c in calls)
    turns = sorted(c.frame.messages for c in calls)
    if _at(written, 0.95) > 1_500:
        return Narrowness(False, "answers are long")
    if _at(read, 0.9) > 12_000:
        return Narrowness(False, "input is long")
    if _at(turns, 0.75) > 8:
        return Narrowness(False, "many steps")
    kinds = Counter(s.kind for s in shapes)
    kind, count = kinds.most_common(1)[0]
    if count < 0.8 * len(shapes):
        return Narrowness(False, "answers have no one form")
    if kind in ("text", "code"):
        return Narrowness(False, "answers are free")
    if kind == "label" and label_field(shapes) is None:
        return Narrowness(False, "short answers, but no closed set")
    free = _free_share(calls, shapes)
    if free > 0.25:
        return Narrowness(False, f"{free:.0%} of the answers' text is free")
    if kind == "json" and _templates(shapes) > 0.5:
        return Narrowness(False, "answers have no one structure")
    return Narrowness(True, "short, strict answers")


def _free_share(calls: Sequence[Call], shapes: Sequence[Shape]) -> float:
    """Share of the answers' characters in values that are neither closed, nor copied from the input, nor short."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for shape in shapes:
        for path, value in shape.leaves:
            if isinstance(value, str):
                counts[path][value] += 1
    free = total = 0
    for call, shape in zip(calls, shapes, strict=True):
        read = call.frame.user.lower()
        for path, value in shape.leaves:
            size = len(str(value))
            total += size
            if not isinstance(value, str) or counts[path][value] >= max(3, 0.002 * len(calls)):
                continue
            if size > 24 and value.lower() not in read:
                free += size
    return free / total if total else 0.0


def _templates(shapes: Sequence[Shape]) -> float:
    """Share of answers whose set of paths is seen in fewer than three answers."""
    seen = Counter(tuple(sorted({p for p, _ in s.leaves})) for s in shapes)
    return sum(n for n in seen.values() if n < 3) / len(shapes)


def _at(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
