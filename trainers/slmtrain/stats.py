"""The arithmetic of the gate, pure: intervals, the verdict, and what counts as a right answer."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

METRICS = ("label", "exact", "fields")
BOOTSTRAP_ROUNDS = 2000


def wilson(right: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 1927): honest for small n and near 0 and 1.

    >>> [round(x, 3) for x in wilson(95, 100, 0.95)]
    [0.888, 0.978]
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if right == 0 else max(0.0, centre - half)), (1.0 if right == n else min(1.0, centre + half))


def bootstrap(groups: Sequence[Sequence[float]], confidence: float, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean, conversations drawn whole: calls of one conversation are not independent."""
    draw = random.Random(seed)
    sums = [(sum(group), len(group)) for group in groups]
    means = []
    for _ in range(BOOTSTRAP_ROUNDS):
        drawn = draw.choices(sums, k=len(sums))
        means.append(sum(s for s, _ in drawn) / sum(n for _, n in drawn))
    means.sort()
    tail = (1 - confidence) / 2
    return means[int(tail * BOOTSTRAP_ROUNDS)], means[min(BOOTSTRAP_ROUNDS - 1, int((1 - tail) * BOOTSTRAP_ROUNDS))]


def interval(
    scores: Sequence[float], conversations: Sequence[str], confidence: float, seed: int
) -> tuple[float, float]:
    """Wilson where every call is its own conversation and right or wrong; else the bootstrap by conversation.

    The bootstrap of scores that are all the same has no width, which claims too much: Wilson over conversations then.
    """
    groups: dict[str, list[float]] = {}
    for score, conversation in zip(scores, conversations, strict=True):
        groups.setdefault(conversation, []).append(score)
    means = [fmean(group) for group in groups.values()]
    if len(set(means)) <= 1 or (len(groups) == len(scores) and set(scores) <= {0.0, 1.0}):
        return wilson(sum(means), len(groups), confidence)
    return bootstrap(list(groups.values()), confidence, seed)


@dataclass(frozen=True)
class Verdict:
    """`passed`, or `refused` with every reason."""

    passed: bool
    reasons: tuple[str, ...]


def judge(estimate: float, lower: float, n: int, floor: float, margin: float, confidence: float) -> Verdict:
    """Passed when the estimate reaches the floor and is, at the confidence, not below it by the margin or more.

    | estimate | lower | floor | margin | |
    |---|---|---|---|---|
    | 0.95 | 0.93 | 0.90 | 0.03 | passed |
    | 0.91 | 0.88 | 0.90 | 0.03 | passed: 0.88 is within the margin |
    | 0.91 | 0.85 | 0.90 | 0.03 | refused: too few examples to know |
    | 0.89 | 0.88 | 0.90 | 0.03 | refused: below the floor |
    """
    if n == 0:
        return Verdict(False, ("no held-out example was left to judge",))
    reasons = []
    if estimate < floor:
        reasons.append(f"estimate {estimate:.4f} is below the floor {floor:.4f}")
    if lower < floor - margin:
        reasons.append(
            f"lower bound {lower:.4f} at {confidence:.0%} is below floor less margin {floor - margin:.4f} ({n} calls)"
        )
    return Verdict(not reasons, tuple(reasons))


def as_json(text: str) -> Any:
    """The value of strict JSON, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def choose_metric(answers: Sequence[str]) -> str:
    """`fields` for objects of several keys, `label` for objects of one and for few bare values, else `exact`."""
    values = [as_json(answer) for answer in answers]
    objects = [value for value in values if isinstance(value, dict)]
    if objects and len(objects) == len(values):
        return "fields" if fmean(len(o) for o in objects) > 1 else "label"
    if len(set(answers)) <= max(2, len(answers) // 4) and all(len(answer) <= 64 for answer in answers):
        return "label"
    return "exact"


def score(metric: str, answer: str, recorded: str) -> float:
    """How right an answer is, 0 to 1, against the recorded one."""
    if metric == "exact":
        return float(answer == recorded)
    got, want = as_json(answer), as_json(recorded)
    if metric == "label":
        return float(answer.strip() == recorded.strip() if want is None else got == want and type(got) is type(want))
    return field_f1(got, want) if isinstance(want, dict) else float(answer == recorded)


def field_f1(got: Any, want: Mapping[str, Any]) -> float:
    """F1 over (path, value) pairs of two objects; lists compare whole.

    >>> round(field_f1({"a": 1, "b": 2}, {"a": 1, "b": 3}), 2)
    0.5
    """
    if not isinstance(got, dict):
        return 0.0
    mine, theirs = flatten(got), flatten(want)
    if not mine and not theirs:
        return 1.0
    right = sum(1 for path, value in mine.items() if path in theirs and theirs[path] == value)
    return 2 * right / (len(mine) + len(theirs))


def flatten(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            flat |= flatten(inner, f"{path}/{key}")
        else:
            flat[f"{path}/{key}"] = inner
    return flat


def well_formed(answer: str, recorded: str) -> bool:
    """Of the same form as the recorded answer: JSON with the same keys, or any text where that was text."""
    want = as_json(recorded)
    if want is None:
        return bool(answer.strip())
    got = as_json(answer)
    if isinstance(want, dict):
        return isinstance(got, dict) and got.keys() == want.keys()
    return type(got) is type(want)


def label_of(recorded: str) -> str:
    """What per-label figures group by: the one value of a one-key object, else the answer itself, cut."""
    value = as_json(recorded)
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return (value if isinstance(value, str) else recorded)[:80]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))] if ordered else 0.0
