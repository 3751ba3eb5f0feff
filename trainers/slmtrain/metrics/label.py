"""Labels: accuracy by call, and macro-F1 over all calls.

A label is a bare text, or a JSON value (`{"intent": "Refund"}`); JSON compares as JSON, text without outer spaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from slmtrain.metrics.reference import Reference, as_json

Judged = tuple[bool, str, str]  # whether it is right, the answered label, the recorded one


def score(answer: str, reference: Reference) -> float:
    """1 for the recorded label or one as right, else 0."""
    return float(any(_same(answer, text) for text in (reference.text, *reference.accepted)))


def _same(answer: str, recorded: str) -> bool:
    got, want = as_json(answer), as_json(recorded)
    if want is None:
        return answer.strip() == recorded.strip()
    return bool(got == want) and type(got) is type(want)


def label_of(text: str) -> str:
    """What figures by label group by: the one value of a one-key object, else the text itself, cut at 80."""
    value = as_json(text)
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return (value if isinstance(value, str) else text.strip())[:80]


def judged(answer: str, reference: Reference) -> Judged:
    """One answer as `macro_f1` takes it. An accepted label counts as the recorded one."""
    recorded = label_of(reference.text)
    right = bool(score(answer, reference))
    return right, recorded if right else label_of(answer), recorded


def macro_f1(answers: Iterable[Judged]) -> float:
    """Mean over the recorded labels of each one's F1: a rare label weighs as much as a common one.

    An answered label that was never recorded counts against the recorded one only.

    >>> round(macro_f1([(True, "a", "a"), (False, "b", "a"), (True, "b", "b")]), 4)
    0.6667
    """
    right: Counter[str] = Counter()
    recorded: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for is_right, got, want in answers:
        recorded[want] += 1
        answered[got] += 1
        right[want] += is_right
    return sum(2 * right[k] / (recorded[k] + answered[k]) for k in recorded) / len(recorded) if recorded else 0.0


def looks_like_labels(texts: Sequence[str]) -> bool:
    """Few and short: at most one distinct answer in four, and none of more than 64 characters."""
    return len(set(texts)) <= max(2, len(texts) // 4) and all(len(text) <= 64 for text in texts)
