"""From answers to the facts of the gate: scores, intervals, slices, the LLM's agreement with itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import fmean
from typing import Any

from slmtrain import metrics, stats
from slmtrain.facts import Baseline, Figure, Reports, Slice
from slmtrain.heldout import Question
from slmtrain.metrics import label
from slmtrain.metrics.form import form_of

SECRETIVE = re.compile(r"[\w.+-]+@[\w.-]+|\d{4,}")
LONGEST_SHARE = 0.25  # of the calls make the slice of long inputs
MOST_KINDS = 500  # distinct labels; beyond it they are no slices
PAIRS_OF_A_PROMPT = 10
RIGHT_OR_WRONG = ("label", "tool_call", "code", "exact")


@dataclass(frozen=True)
class Answered:
    """One held-out call with the model's answer."""

    question: Question
    text: str

    @property
    def conversation(self) -> str:
        return self.question.example.conversation


def scores_of(metric: str, answers: Sequence[Answered]) -> list[float]:
    return [metrics.SCORES[metric](a.text, a.question.reference) for a in answers]


def figure(metric: str, answers: Sequence[Answered], confidence: float) -> Figure:
    """One metric over all calls, with its interval by conversation."""
    conversations = [a.conversation for a in answers]
    if metric == "macro_f1":
        judged = [label.judged(a.text, a.question.reference) for a in answers]
        low, high = stats.bootstrap(judged, conversations, label.macro_f1, confidence, seed=0)
        return _figure(metric, label.macro_f1(judged), low, high, len(judged))
    scores = scores_of(metric, answers)
    return _figure(metric, fmean(scores), *stats.interval(scores, conversations, confidence), len(scores))


def _figure(metric: str, estimate: float, low: float, high: float, n: int) -> Figure:
    return Figure(metric, round(estimate, 6), (round(low, 6), round(high, 6)), n)


def valid_figure(metric: str, answers: Sequence[Answered], recorded: Iterable[Question], confidence: float) -> Figure:
    """Share of answers in a valid form, which is what all recorded answers of the dataset show."""
    form = form_of([question.reference for question in recorded])
    valid = [float(metrics.well_formed(metric, a.text, a.question.reference, form)) for a in answers]
    low, high = stats.interval(valid, [a.conversation for a in answers], confidence)
    return _figure("valid_format", fmean(valid), low, high, len(valid))


def slices(metric: str, answers: Sequence[Answered], confidence: float) -> list[Slice]:
    """By label or tool, by length of the prompt, by language. A kind with one member is left out."""
    scores = scores_of(metric, answers)
    lengths = [sum(len(m["content"]) for m in a.question.example.prompt) for a in answers]
    long = stats.percentile(lengths, 1 - LONGEST_SHARE)
    kinds = {
        "tool" if metric == "tool_call" else "label": [kind_of(metric, a.question) for a in answers],
        "length": ["long" if length > long else "rest" for length in lengths],
        "language": [a.question.language for a in answers],
    }
    found = []
    for kind, names in kinds.items():
        if 2 <= len(set(names)) <= MOST_KINDS:
            found += _slices(kind, names, scores, answers, confidence)
    return found


def kind_of(metric: str, question: Question) -> str:
    """What a call's recorded answer is of: its label, the tools it calls, or nothing that can be told."""
    if metric == "tool_call":
        return " + ".join(sorted({call.name for call in question.reference.calls})) or "no call"
    return label.label_of(question.reference.text) if metric in ("label", "macro_f1", "exact") else ""


def _slices(
    kind: str, names: Sequence[str], scores: Sequence[float], answers: Sequence[Answered], confidence: float
) -> Iterable[Slice]:
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    for name, indices in sorted(members.items()):
        mine = [scores[i] for i in indices]
        conversations = [answers[i].conversation for i in indices]
        effective = stats.effective_calls(mine, conversations, confidence)
        yield Slice(kind, name, len(mine), len(set(conversations)), round(fmean(mine), 6), round(effective, 3))


def baseline(metric: str, questions: Iterable[Question], confidence: float) -> tuple[Baseline | None, int]:
    """The LLM's agreement with itself on prompts that are equal but for case, spaces and punctuation.

    Every such prompt counts once, with at most ten pairs of answers from different conversations. Also: how many such
    prompts there are. Curated datasets keep one call of a group of copies, so this is for logs that were not thinned.
    """
    groups: dict[str, list[Question]] = {}
    for question in questions:
        asked = "\x00".join(plain(m["content"]) for m in question.example.prompt)
        groups.setdefault(asked, []).append(question)
    score = metrics.SCORES[metric]
    means = []
    for group in groups.values():
        pairs = ((a, b) for a, b in combinations(group, 2) if a.example.conversation != b.example.conversation)
        agreed = [score(b.reference.text, a.reference) for a, b in islice(pairs, PAIRS_OF_A_PROMPT)]
        if agreed:
            means.append(fmean(agreed))
    if not means:
        return None, 0
    low, high = stats.interval(means, range(len(means)), confidence)
    return Baseline(metric, round(fmean(means), 6), (round(low, 6), round(high, 6)), len(means)), len(means)


def reported_baseline(metric: str, reports: Reports, confidence: float) -> Baseline | None:
    """The LLM's agreement with itself as curation counted it in the whole log, before it left out the copies.

    It counts answers that were the same, so it is a yardstick for metrics that say right or wrong only.
    """
    if reports.agreement is None or metric not in RIGHT_OR_WRONG:
        return None
    low, high = stats.wilson(reports.agreement * reports.agreement_pairs, reports.agreement_pairs, confidence)
    return Baseline(metric, reports.agreement, (round(low, 6), round(high, 6)), reports.agreement_pairs)


def plain(text: str) -> str:
    """A prompt without case, punctuation and spaces."""
    return "".join(c for c in text.casefold() if c.isalnum())


def worst_labels(metric: str, answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """The ten labels with the lowest scores, the most frequent first among equals."""
    groups: dict[str, list[float]] = {}
    for answer, score in zip(answers, scores_of(metric, answers), strict=True):
        name = kind_of(metric, answer.question) or label.label_of(answer.question.reference.text)
        groups.setdefault(name, []).append(score)
    rows = [{"label": name, "n": len(s), "score": round(fmean(s), 4)} for name, s in groups.items()]
    return sorted(rows, key=lambda row: (row["score"], -row["n"], row["label"]))[:10]


def errors(metric: str, answers: Sequence[Answered]) -> list[dict[str, str]]:
    """The first five answers that are not right, cut and masked."""
    wrong = [a for a, score in zip(answers, scores_of(metric, answers), strict=True) if score < 1]
    return [
        {"id": a.question.example.id, "expected": redacted(a.question.reference.text), "answered": redacted(a.text)}
        for a in wrong[:5]
    ]


def redacted(text: str) -> str:
    """Enough of an answer to see what went wrong: cut, addresses and long numbers masked."""
    return SECRETIVE.sub("…", text[:1000])[:160]
