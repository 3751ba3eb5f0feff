"""Trains and calibrates the routing classifier on the clusters that discovery found.

Split by conversation and by time: learn on the oldest, calibrate on later, measure on the latest conversations. What is
measured is what the gateway will run, thresholds and all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.background import background_texts
from slmfleet.curation.calls import Call
from slmfleet.curation.report import upper_limit
from slmfleet.recognise.classifier import SYSTEM_WEIGHT, Classifier, Task, likeness
from slmfleet.recognise.features import BUCKETS, SYSTEM_BUCKETS, Features, Indices, features
from slmfleet.recognise.frame import Frame

MEMBERS_LOST = 0.03
UNFAMILIAR_LOST = 0.005
TRAIN_LIMIT = 20_000
PROMPTS = 32
PROMPT_LIKENESS = 0.5  # asked of a prompt's wording where a task has always had the same one
PROMPT_LIKENESS_LEAST = 0.1


@dataclass(frozen=True)
class Measured:
    """Rates on the latest conversations, which neither learning nor calibration has seen."""

    foreign_rate: float
    foreign_rate_upper: float
    foreign_calls: int
    missed_rate: float
    members: int
    confused_rate: float


@dataclass(frozen=True)
class Trained:
    """`in_use`: another classifier on the same held-out calls."""

    classifier: Classifier
    measured: Measured
    in_use: Measured | None = None


@dataclass(frozen=True)
class _Row:
    frame: Frame
    features: Features
    task: int


def conversation_parts(calls: Sequence[Call], task: Sequence[int], shares: Sequence[float]) -> NDArray[np.int64]:
    """The part of each call: the conversations of each task (that of their first call) in the order of their first
    call, cut at the cumulative `shares`. By task, so that one which is new at the end of the log is in every part."""
    first: dict[str, tuple[Any, int]] = {}
    size: dict[str, int] = {}
    for call, number in zip(calls, task, strict=True):
        before = first.get(call.conversation)
        if before is None or call.record.time < before[0]:
            first[call.conversation] = call.record.time, number
        size[call.conversation] = size.get(call.conversation, 0) + 1
    whole: dict[int, int] = {}
    for name, (_, number) in first.items():
        whole[number] = whole.get(number, 0) + size[name]
    part: dict[str, int] = {}
    done = dict.fromkeys(whole, 0)
    for name in sorted(first, key=lambda c: (first[c][0], c)):
        number = first[name][1]
        part[name] = min(int(np.searchsorted(shares, done[number] / whole[number], side="right")), len(shares))
        done[number] += size[name]
    return np.array([part[c.conversation] for c in calls], dtype=np.int64)


def train(
    calls: Sequence[Call],
    task: Sequence[int],
    labels: Sequence[str],
    *,
    foreign_rate: float,
    seed: int,
    in_use: Classifier | None = None,
) -> Trained:
    """`task` numbers each call's label, -1 for a foreign call. `in_use` is measured beside the new one."""
    rows = [_Row(c.frame, features(c.frame), t) for c, t in zip(calls, task, strict=True)]
    part = conversation_parts(calls, task, (0.65, 0.82))
    learn = [r for r, p in zip(rows, part, strict=True) if p == 0]
    calibrate = [r for r, p in zip(rows, part, strict=True) if p == 1]
    judge = [r for r, p in zip(rows, part, strict=True) if p == 2]
    rng = np.random.default_rng(seed)
    learn = [learn[i] for i in sorted(rng.permutation(len(learn))[:TRAIN_LIMIT])]
    scorer = _learn(learn, labels, rng)
    tasks = [
        _calibrated(scorer, k, label, learn, calibrate, foreign_rate / len(labels)) for k, label in enumerate(labels)
    ]
    classifier = Classifier(
        tasks, idf=scorer.idf, user=scorer.user, system=scorer.system, bias=scorer.bias, familiar=scorer.familiar
    )
    return Trained(classifier, measure(classifier, judge, labels), measure(in_use, judge, labels) if in_use else None)


def _learn(rows: Sequence[_Row], labels: Sequence[str], rng: np.random.Generator) -> Classifier:
    """A classifier before its thresholds are known."""
    from sklearn.linear_model import LogisticRegression

    idf = _inverse_frequencies(rows)
    pool = _augmented(rows, rng)
    matrix = _matrix(pool, idf)
    truth = np.array([r.task for r in pool])
    user = np.zeros((BUCKETS, len(labels)), dtype=np.float32)
    system = np.zeros((SYSTEM_BUCKETS, len(labels)), dtype=np.float32)
    bias = np.zeros(len(labels), dtype=np.float32)
    for k in range(len(labels)):
        model = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear", max_iter=200, random_state=0)
        model.fit(matrix, truth == k)
        user[:, k] = model.coef_[0, :BUCKETS]
        system[:, k] = model.coef_[0, BUCKETS:]
        bias[k] = model.intercept_[0]
    familiar = _familiarity(rows, len(labels))
    return Classifier.of(
        [Task(x) for x in labels], idf=idf, user=user, system=system, bias=bias, familiar=familiar
    )


def _inverse_frequencies(rows: Sequence[_Row]) -> NDArray[np.float32]:
    count = np.zeros(BUCKETS)
    for row in rows:
        count[row.features.user] += 1
    return np.asarray(np.log((len(rows) + 1) / (count + 1)) + 1, dtype=np.float32)


def _augmented(rows: Sequence[_Row], rng: np.random.Generator) -> list[_Row]:
    """The rows, and copies that teach what a log cannot: members without their system prompt (the text must be able
    to decide alone), and foreign texts under the tasks' own prompts (the prompt alone must not)."""
    bare = Frame()
    pool = list(rows)
    members = [r for r in rows if r.task >= 0]
    nothing = features(bare).system
    pool += [_Row(r.frame, Features(r.features.user, nothing), r.task) for r in members if len(r.features.system)]
    foreign = [r.features for r in rows if r.task < 0]
    foreign += [features(Frame(user=t)) for t in background_texts(members, rng)]
    pool += [_Row(bare, Features(f.user, nothing), -1) for f in foreign]
    systems = [m.features.system for m in members if len(m.features.system)]
    if systems:
        pool += [_Row(bare, Features(f.user, systems[int(rng.integers(len(systems)))]), -1) for f in foreign]
    return pool


def _matrix(rows: Sequence[_Row], idf: NDArray[np.float32]) -> Any:
    import scipy.sparse as sparse  # type: ignore[import-untyped]

    columns, values, starts = [], [], [0]
    for row in rows:
        weight = idf[row.features.user].astype(np.float64)
        norm = math.sqrt(float(weight @ weight)) or 1.0
        prompt = row.features.system
        columns += [row.features.user, prompt + BUCKETS]
        values += [weight / norm, np.full(len(prompt), SYSTEM_WEIGHT / math.sqrt(max(1, len(prompt))))]
        starts.append(starts[-1] + len(row.features.user) + len(prompt))
    return sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(starts)),
        shape=(len(rows), BUCKETS + SYSTEM_BUCKETS),
    )


def _familiarity(rows: Sequence[_Row], count: int) -> NDArray[np.float32]:
    """Log of how often each feature is in a task's calls: its mean over a call says how usual the call's pieces are."""
    seen = np.zeros((BUCKETS, count))
    total = np.zeros(count)
    for row in rows:
        if row.task >= 0:
            seen[row.features.user, row.task] += 1
            total[row.task] += 1
    return np.asarray(np.log((seen + 0.3) / np.maximum(total, 1)), dtype=np.float32)


def _calibrated(
    scorer: Classifier, k: int, label: str, learn: Sequence[_Row], held: Sequence[_Row], rate: float
) -> Task:
    """Split-conformal: the smallest threshold under which at most `rate` of held-out foreign calls (one more than was
    seen, as the method asks) would be taken; never so low that fewer than MEMBERS_LOST of the members fall under it,
    half of them judged without their system prompt, since the next wording of it is unknown."""
    members = [r for r in held if r.task == k] or [r for r in learn if r.task == k]
    bare = [Features(r.features.user, r.features.system[:0]) for r in members if len(r.features.system)]
    own = [*(r.features for r in members), *bare]
    scores = np.sort([float(scorer.logits(f)[k]) for f in own])
    usual = np.sort([scorer.familiarity(f, k) for f in own])
    foreign = np.sort([float(scorer.logits(r.features)[k]) for r in held if r.task != k])[::-1]
    allowed = math.floor(rate * (len(foreign) + 1)) - 1
    bound = -math.inf if not len(foreign) else float(foreign[max(0, min(allowed, len(foreign) - 1))]) + 1e-6
    forms = [r for r in learn if r.task == k] + members
    characters = sorted(len(r.frame.user) for r in forms)
    tools = {r.frame.tools for r in forms}
    prompts = _prompts(r.features.system for r in forms)
    return Task(
        label=label,
        min_logit=max(bound, float(scores[int(MEMBERS_LOST * len(scores))])),
        min_familiarity=float(usual[int(UNFAMILIAR_LOST * len(usual))]) - 0.05,
        max_user_characters=int(1.3 * characters[-1]) + 40,
        max_messages=max(r.frame.messages for r in forms),
        tools=tuple(sorted(tools)) if len(tools) <= 16 else None,
        with_tools=True if len(tools) > 16 and all(tools) else None,
        response_formats=tuple(sorted({r.frame.response_format for r in forms})),
        prompts=prompts,
        min_prompt=_likeness_asked(prompts, [r.features.system.tolist() for r in members]),
    )


def _prompts(systems: Iterable[Indices]) -> tuple[tuple[int, ...], ...]:
    """The most frequent system prompts of a task, as sets of words; not those of a few stray calls."""
    counted = Counter(tuple(int(word) for word in system) for system in systems)
    least = 0.002 * counted.total()
    frequent = sorted((p for p, n in counted.items() if n > least), key=lambda p: (-counted[p], p))
    return tuple(frequent[:PROMPTS]) or tuple(p for p, _ in counted.most_common(PROMPTS))


def _likeness_asked(prompts: Sequence[Sequence[int]], held: Sequence[Sequence[int]]) -> float:
    """How like the known prompts another one must be. A task that came with several wordings is expected to come with
    more: then as like as each of them is to the others. Held-out members must pass, but for a few."""
    found = {tuple(p): likeness(p, prompts) for p in {tuple(p) for p in held}}
    of_held = sorted(found[tuple(p)] for p in held)
    asked = [PROMPT_LIKENESS, 0.8 * of_held[int(UNFAMILIAR_LOST * len(of_held))]]
    worded = [p for p in prompts if p]
    if len(worded) > 2:
        asked.append(0.8 * min(likeness(p, [q for q in worded if q is not p]) for p in worded))
    return max(PROMPT_LIKENESS_LEAST, min(asked))


def measure(classifier: Classifier, rows: Sequence[_Row], labels: Sequence[str]) -> Measured:
    """What the classifier does on calls that taught it nothing. `labels` names the rows' tasks."""
    taken = missed = confused = members = foreign = 0
    for row in rows:
        label = classifier.classify_frame(row.frame).label
        if row.task < 0:
            foreign += 1
            taken += label is not None
            continue
        members += 1
        right = labels[row.task]
        missed += label is None
        confused += label is not None and label != right
    return Measured(
        foreign_rate=taken / foreign if foreign else 0.0,
        foreign_rate_upper=upper_limit(taken, foreign),
        foreign_calls=foreign,
        missed_rate=missed / members if members else 0.0,
        members=members,
        confused_rate=confused / members if members else 0.0,
    )
