"""What is written of a found task: how it is recognised, what it reads and answers, a few redacted calls of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slmfleet.curation import formats, judge, naming
from slmfleet.curation.calls import Call, answered_by_llm
from slmfleet.curation.detect import Detector
from slmfleet.curation.naming import Likeness
from slmfleet.curation.redact import Redactor
from slmfleet.curation.shapes import shape_of
from slmfleet.curation.tasks import Group
from slmfleet.recognise.features import BUCKETS, features
from slmfleet.wire.declared import DeclaredTask
from slmfleet.wire.discovery import Example, FoundCluster, Part, Signature

EXAMPLE_CHARACTERS = 600
PROMPT_CHARACTERS = 2_000
FINGERPRINTS = 64
COHESION_CALLS = 2_000
COHESION_CALLS_FREE = 200
OWN_FRAME = 0.99


@dataclass
class Cluster:
    """A task on its way: its calls, what the next run knows it by, its words where its answers have no form. `task`: as
    a person declared it; None where discovery found it."""

    group: Group
    members: list[Call]
    like: Likeness
    name: str = ""
    terms: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    task: DeclaredTask | None = None


@dataclass(frozen=True)
class Whole:
    """What of the whole log each task is measured against. `own`: frames that are always one task. `learned`: tasks of
    the run that a task's specialist learned from, by its name. `denied`: words that tasks are not compared by."""

    records: int
    tokens: int
    own: Mapping[str, str]
    of_cluster: Mapping[str, Sequence[Call]]
    before: Sequence[Likeness]
    detector: Detector
    learned: Mapping[str, Sequence[Likeness]]
    denied: Container[str] = frozenset()


def whole_of(
    calls: Sequence[Call],
    usable: Sequence[Call],
    assigned: Mapping[str, str | None],
    before: Sequence[Likeness],
    detector: Detector,
    learned: Mapping[str, Sequence[Likeness]],
    denied: Container[str] = frozenset(),
) -> Whole:
    of_cluster: dict[str, list[Call]] = {}
    for call in calls:
        name = assigned[call.id]
        if name is not None:
            of_cluster.setdefault(name, []).append(call)
    tokens = sum(sum(c.tokens) for c in usable)
    return Whole(len(calls), tokens, own_frames(usable, assigned), of_cluster, before, detector, learned, denied)


def own_frames(usable: Sequence[Call], assigned: Mapping[str, str | None]) -> dict[str, str]:
    """Frames that are always one task."""
    count: dict[str, Counter[str | None]] = {}
    for call in usable:
        if not call.frame.is_empty:
            count.setdefault(call.fingerprint, Counter())[assigned[call.id]] += 1
    own = {}
    for frame, names in count.items():
        name, most = names.most_common(1)[0]
        if name is not None and most >= 3 and most >= OWN_FRAME * sum(names.values()):
            own[frame] = name
    return own


def describe(cluster: Cluster, whole: Whole) -> FoundCluster:
    """The task as clusters.json has it."""
    members = whole.of_cluster.get(cluster.name, [])
    answered = [c for c in members if c.set_aside is None]
    shapes = [shape_of(c) for c in cluster.members]
    tokens = [c.tokens for c in answered]
    task = cluster.task
    signature = _signature(cluster, whole) if task is None else _as_declared(cluster, task)
    trained = naming.without(whole.denied, whole.learned.get(cluster.name, ()))
    patterns = replace(whole.detector, model=None)
    ids = hashlib.sha256("\n".join(sorted(c.id for c in members)).encode())
    ids.update(signature.model_dump_json().encode())
    narrow = cluster.group.narrow
    expected = task.output_format if task else formats.infer(cluster.members, shapes, cluster.group.labels)
    share = round(len(members) / whole.records, 6)
    token_share = round(sum(map(sum, tokens)) / whole.tokens, 6) if whole.tokens else 0.0
    cohesion = round(_cohesion(cluster.members, COHESION_CALLS if narrow else COHESION_CALLS_FREE), 4)
    return FoundCluster(
        name=cluster.name,
        version="sha256:" + ids.hexdigest(),
        description=task.description if task else " ".join(
            part for part in (_sentence(cluster.like.about), _description(cluster, members, patterns)) if part
        ),
        title=cluster.like.title,
        size=len(members),
        teachable=sum(answered_by_llm(c.record) for c in answered),
        share=share,
        token_share=token_share,
        cohesion=cohesion,
        input_tokens_p95=_quantile([t[0] for t in tokens], 0.95),
        input_tokens_p99=_quantile([t[0] for t in tokens], 0.99),
        output_tokens_p95=_quantile([t[1] for t in tokens], 0.95),
        signature=signature,
        output_format=expected,
        examples=examples_of(cluster, whole.detector),
        narrow=narrow or task is not None,
        declared=task is not None,
        parts=list(cluster.parts),
        drift=judge.drift(members, cluster.like, share, whole.before, whole.denied),
        drift_trained=judge.drift(members, cluster.like, share, trained, whole.denied),
        suitability=judge.suitability(
            members, expected, cohesion=cohesion, left=None if narrow else cluster.group.reason, token_share=token_share
        ),
    )


def _signature(cluster: Cluster, whole: Whole) -> Signature:
    count = Counter(c.fingerprint for c in cluster.members)
    mine = sorted((f for f in count if whole.own.get(f) == cluster.name), key=lambda f: (-count[f], f))[:FINGERPRINTS]
    systems = Counter(c.frame.system for c in cluster.members if c.frame.system.strip())
    tools = Counter(t for c in cluster.members for t in c.frame.tools)
    forms = Counter(c.frame.response_format for c in cluster.members if c.frame.response_format)
    prompt = systems.most_common(1)[0][0] if systems else None
    return Signature(
        fingerprints=mine,
        api=Counter(c.record.api for c in cluster.members).most_common(1)[0][0],
        tools=sorted(t for t, n in tools.items() if n >= 0.05 * len(cluster.members)),
        response_format=forms.most_common(1)[0][0] if forms else None,
        system_prompt=redacted(whole.detector, prompt)[:PROMPT_CHARACTERS] if prompt else None,
    )


def _as_declared(cluster: Cluster, task: DeclaredTask) -> Signature:
    api = Counter(c.record.api for c in cluster.members).most_common(1)
    return Signature(**task.signature.model_dump(), **({"api": api[0][0]} if api else {}))


def _sentence(text: str) -> str:
    return f"{text}." if text and text[-1] not in ".!?…" else text


def _description(cluster: Cluster, members: Sequence[Call], patterns: Detector) -> str:
    """`patterns`: without a model, which would take labels for names, and then it says nothing."""
    sizes = sorted(len(c.frame.user) for c in members)
    reads = f"a text of about {sizes[len(sizes) // 2]} characters" if sizes else "a text"
    labels = cluster.group.labels
    if cluster.terms:
        answers = "" if any(c.set_aside is None for c in members) else ", without an answer in the log"
        return redacted(patterns, f"About {', '.join(cluster.terms)}. Reads {reads}{answers}.")
    if labels is not None:
        common = sorted(labels.support, key=lambda v: (-labels.support[v], v))
        where = f" in `{labels.path}`" if labels.path else ""
        shown = ", ".join(common[:6]) + (", …" if len(common) > 6 else "")
        return redacted(patterns, f"Reads {reads}, answers with one of {len(common)} values{where}: {shown}.")
    kind = {"json": "a JSON object", "tool": "a tool call"}.get(cluster.group.kind, "a short text")
    keys = sorted({k for c in cluster.members[:200] for k in shape_of(c).keys})[:8]
    return f"Reads {reads}, answers with {kind}" + (f" ({', '.join(keys)})." if any(keys) else ".")


def examples_of(cluster: Cluster, detector: Detector) -> list[Example]:
    """Three calls of three labels, redacted and cut. The longest inputs are left out."""
    sizes = sorted(len(c.frame.user) for c in cluster.members)
    chosen: dict[str, Call] = {}
    labels = cluster.group.labels
    for call in cluster.members:
        shape = shape_of(call)
        key = (labels.of(shape) if labels else None) or call.answer[:40]
        if key not in chosen and len(call.frame.user) <= max(80, sizes[int(0.8 * (len(sizes) - 1))]):
            chosen[key] = call
        if len(chosen) == 3:
            break
    found = []
    for call in chosen.values():
        answer = call.answer or "; ".join(f"{n}({a})" for n, a in call.tool_calls)
        redactor = Redactor(detector=replace(detector, keep=frozenset(map(str.casefold, chosen))))
        for text in (call.frame.user, answer):
            redactor.learn("example", text)
        prompt, response = (redactor.redact("example", t)[:EXAMPLE_CHARACTERS] for t in (call.frame.user, answer))
        found.append(Example(prompt=prompt, response=response))
    return found


def redacted(detector: Detector, text: str) -> str:
    """One text by itself."""
    redactor = Redactor(detector=detector)
    redactor.learn("prompt", text)
    return redactor.redact("prompt", text)


def _cohesion(members: Sequence[Call], most: int) -> float:
    """Mean cosine of the members' features with their mean: 1 where all are the same."""
    rows = [features(c.frame).user for c in members[:: max(1, len(members) // most)]]
    mean = np.zeros(BUCKETS)
    for row in rows:
        if len(row):
            mean[row] += 1 / np.sqrt(len(row))
    norm = float(np.linalg.norm(mean))
    return float(np.mean([mean[r].sum() / np.sqrt(len(r)) / norm if len(r) else 0.0 for r in rows])) if norm else 0.0


def _quantile(values: Sequence[int], share: float) -> int:
    return int(np.quantile(values, share)) if values else 0
