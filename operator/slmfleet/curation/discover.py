"""S3: from a log to task clusters, their members, and the classifier that recognises them.

`discover` is pure (records in, findings out); `write` puts the files down, result.json last, so that its presence says
the run is whole. No text of the log is written that is not redacted; members are ids in assignments.jsonl.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slmfleet.curation import formats, naming, router
from slmfleet.curation.calls import Call, answered_by_llm, call_of
from slmfleet.curation.naming import Likeness
from slmfleet.curation.redact import Redactor
from slmfleet.curation.shapes import LabelField, shape_of
from slmfleet.curation.sources import Log
from slmfleet.curation.tasks import Group, find_tasks
from slmfleet.recognise.classifier import Classifier
from slmfleet.recognise.features import BUCKETS, features
from slmfleet.store.files import atomic_write
from slmfleet.wire.discovery import (
    ClassifierRates,
    ClassifierResult,
    ClustersFile,
    DiscoveryResult,
    Example,
    FoundCluster,
    Signature,
)

EXAMPLE_CHARACTERS = 600
PROMPT_CHARACTERS = 2_000
FINGERPRINTS = 64
OWN_FRAME = 0.99

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """`min_share` is of all records; `foreign_rate` is the most that the classifier may take of foreign calls.

    `in_use` is measured on the same held-out calls as the new classifier."""

    min_size: int = 50
    min_share: float = 0.01
    foreign_rate: float = 0.01
    seed: int = 0
    in_use: Classifier | None = None


@dataclass
class Findings:
    """What a run found. `assigned` has every record's id, null where no task is its."""

    clusters: ClustersFile
    assigned: dict[str, str | None]
    likeness: list[Likeness]
    trained: router.Trained | None = None
    left: list[str] = field(default_factory=list)


@dataclass
class _Cluster:
    group: Group
    members: list[Call]
    like: Likeness
    name: str = ""


def discover(log: Log, settings: Settings, previous: Sequence[Likeness] = (), say: Say = lambda line: None) -> Findings:
    """Find the tasks of a log."""
    calls = [call_of(r) for r in log.records]
    usable = [c for c in calls if c.set_aside is None]
    aside = Counter(c.set_aside for c in calls if c.set_aside is not None)
    say(
        f"{len(calls)} records, {len(usable)} with an answer"
        + "".join(f", {n} {why}" for why, n in sorted(aside.items()))
    )
    groups = find_tasks(usable, min_size=settings.min_size, seed=settings.seed, say=say)
    floor = max(settings.min_size, settings.min_share * max(1, len(calls)))
    kept = [g for g in groups if g.narrow and len(g.members) >= floor]
    left = [f"{len(g.members)} calls: {g.reason if not g.narrow else 'too few'}" for g in groups if g not in kept]
    clusters = _named(usable, kept, previous)
    say(f"{len(clusters)} tasks: " + ", ".join(f"{c.name} ({len(c.members)})" for c in clusters))
    assigned: dict[str, str | None] = {c.id: None for c in calls}
    for cluster in clusters:
        assigned.update((m.id, cluster.name) for m in cluster.members)
    trained = _train(usable, calls, clusters, assigned, settings, say) if clusters else None
    found = [_found(c, usable, calls, assigned) for c in clusters]
    file = ClustersFile(
        records=len(calls),
        skipped=sum(aside.values()) + sum(log.set_aside.values()),
        unassigned=sum(1 for name in assigned.values() if name is None),
        records_digest=log.digest,
        clusters=found,
    )
    return Findings(file, assigned, [c.like for c in clusters], trained, left)


def _named(calls: Sequence[Call], groups: Sequence[Group], previous: Sequence[Likeness]) -> list[_Cluster]:
    clusters = []
    for group in groups:
        members = [calls[i] for i in group.members]
        clusters.append(_Cluster(group, members, _likeness(members, group.labels)))
    old = naming.matched([c.like for c in clusters], previous)
    taken = {p.name for p in previous} | set(old.values())
    inside = {c.id for cluster in clusters for c in cluster.members}
    for number, cluster in enumerate(clusters):
        if number in old:
            cluster.name = old[number]
        else:
            mine = {c.id for c in cluster.members}
            others = [c for c in calls if c.id in inside - mine] or [c for c in calls if c.id not in mine]
            shapes = [shape_of(c) for c in cluster.members[:500]]
            parts = [*naming.field_word(shapes, cluster.group.labels), *naming.top_terms(cluster.members, others)]
            cluster.name = naming.unique(naming.slug(parts), taken)
        taken.add(cluster.name)
        like = cluster.like
        cluster.like = Likeness(cluster.name, like.labels, like.fingerprints, like.centroid)
    return clusters


def _likeness(members: Sequence[Call], labels: LabelField | None) -> Likeness:
    """What the next run compares: labels, frames, and words that at least five calls share."""
    count = Counter(w for c in members for w in set(naming.words_of(c.frame.user[:600])))
    words = {w: round(n / len(members), 5) for w, n in count.most_common(400) if n >= 5 and not w.isdigit()}
    frames = frozenset(c.fingerprint for c in members if not c.frame.is_empty)
    return Likeness("", frozenset(labels.support if labels else ()), frames, words)


def _train(
    usable: Sequence[Call],
    calls: Sequence[Call],
    clusters: Sequence[_Cluster],
    assigned: dict[str, str | None],
    settings: Settings,
    say: Say,
) -> router.Trained:
    """Train the classifier, then give it the calls whose answers say nothing sure: broken, failed, a rare label."""
    say("training the classifier")
    own = _own_frames(usable, assigned)
    keys = {c.name: (c.group.kind, frozenset(k for m in c.members for k in shape_of(m).keys)) for c in clusters}
    number = {c.name: k for k, c in enumerate(clusters)}
    rows, task, unsure = [], [], []
    for call in usable:
        name = assigned[call.id]
        if name is None and call.fingerprint in own:
            assigned[call.id] = own[call.fingerprint]
        elif name is None and _could_be(call, keys):
            unsure.append(call)
        else:
            rows.append(call)
            task.append(-1 if name is None else number[name])
    trained = router.train(
        rows, task, [c.name for c in clusters], foreign_rate=settings.foreign_rate, seed=settings.seed,
        in_use=settings.in_use,
    )
    known = {c.id for c in usable}
    for call in [*unsure, *(c for c in calls if c.id not in known)]:
        assigned[call.id] = trained.classifier.classify_frame(call.frame).label
    m = trained.measured
    say(
        f"classifier: {m.foreign_rate:.2%} of {m.foreign_calls} foreign calls taken (95 % limit "
        f"{m.foreign_rate_upper:.2%}), {m.missed_rate:.2%} of {m.members} own calls missed"
    )
    if trained.in_use is not None:
        say(f"the one in use: {trained.in_use.foreign_rate:.2%} taken, {trained.in_use.missed_rate:.2%} missed")
    return trained


def _own_frames(usable: Sequence[Call], assigned: dict[str, str | None]) -> dict[str, str]:
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


def _could_be(call: Call, keys: dict[str, tuple[str, frozenset[str]]]) -> bool:
    """An unassigned call whose answer has a task's form may be the task's; it must not teach that it is foreign."""
    shape = shape_of(call)
    return any(
        shape.kind == kind and kind != "label" and bool(shape.keys) and set(shape.keys) <= known
        for kind, known in keys.values()
    )


def _found(
    cluster: _Cluster, usable: Sequence[Call], calls: Sequence[Call], assigned: dict[str, str | None]
) -> FoundCluster:
    members = [c for c in calls if assigned[c.id] == cluster.name]
    answered = [c for c in members if c.set_aside is None]
    shapes = [shape_of(c) for c in cluster.members]
    tokens = [c.tokens for c in answered]
    whole = sum(sum(c.tokens) for c in usable)
    signature = _signature(cluster, usable, assigned)
    ids = hashlib.sha256("\n".join(sorted(c.id for c in members)).encode())
    ids.update(signature.model_dump_json().encode())
    return FoundCluster(
        name=cluster.name,
        version="sha256:" + ids.hexdigest(),
        description=_description(cluster, answered),
        size=len(members),
        teachable=sum(answered_by_llm(c.record) for c in answered),
        share=round(len(members) / len(calls), 6),
        token_share=round(sum(map(sum, tokens)) / whole, 6) if whole else 0.0,
        cohesion=round(_cohesion(cluster.members), 4),
        input_tokens_p95=_p95([t[0] for t in tokens]),
        output_tokens_p95=_p95([t[1] for t in tokens]),
        signature=signature,
        output_format=formats.infer(cluster.members, shapes, cluster.group.labels),
        examples=_examples(cluster),
    )


def _signature(cluster: _Cluster, usable: Sequence[Call], assigned: dict[str, str | None]) -> Signature:
    own = _own_frames(usable, assigned)
    count = Counter(c.fingerprint for c in cluster.members)
    mine = sorted((f for f in count if own.get(f) == cluster.name), key=lambda f: (-count[f], f))[:FINGERPRINTS]
    systems = Counter(c.frame.system for c in cluster.members if c.frame.system.strip())
    tools = Counter(t for c in cluster.members for t in c.frame.tools)
    forms = Counter(c.frame.response_format for c in cluster.members if c.frame.response_format)
    prompt = _redacted(systems.most_common(1)[0][0])[:PROMPT_CHARACTERS] if systems else None
    return Signature(
        fingerprints=mine,
        api=Counter(c.record.api for c in cluster.members).most_common(1)[0][0],
        tools=sorted(t for t, n in tools.items() if n >= 0.05 * len(cluster.members)),
        response_format=forms.most_common(1)[0][0] if forms else None,
        system_prompt=prompt,
    )


def _description(cluster: _Cluster, members: Sequence[Call]) -> str:
    sizes = sorted(len(c.frame.user) for c in members)
    reads = f"a text of about {sizes[len(sizes) // 2]} characters" if sizes else "a text"
    labels = cluster.group.labels
    if labels is not None:
        common = sorted(labels.support, key=lambda v: (-labels.support[v], v))
        where = f" in `{labels.path}`" if labels.path else ""
        shown = ", ".join(common[:6]) + (", …" if len(common) > 6 else "")
        return _redacted(f"Reads {reads}, answers with one of {len(common)} values{where}: {shown}.")
    kind = {"json": "a JSON object", "tool": "a tool call"}.get(cluster.group.kind, "a short text")
    keys = sorted({k for c in cluster.members[:200] for k in shape_of(c).keys})[:8]
    return f"Reads {reads}, answers with {kind}" + (f" ({', '.join(keys)})." if any(keys) else ".")


def _examples(cluster: _Cluster) -> list[Example]:
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
        redactor = Redactor()
        for text in (call.frame.user, answer):
            redactor.learn("example", text)
        prompt, response = (redactor.redact("example", t)[:EXAMPLE_CHARACTERS] for t in (call.frame.user, answer))
        found.append(Example(prompt=prompt, response=response))
    return found


def _redacted(text: str) -> str:
    redactor = Redactor()
    redactor.learn("prompt", text)
    return redactor.redact("prompt", text)


def _cohesion(members: Sequence[Call]) -> float:
    """Mean cosine of the members' features with their mean: 1 where all are the same."""
    rows = [features(c.frame).user for c in members[:: max(1, len(members) // 2_000)]]
    mean = np.zeros(BUCKETS)
    for row in rows:
        if len(row):
            mean[row] += 1 / np.sqrt(len(row))
    norm = float(np.linalg.norm(mean))
    return float(np.mean([mean[r].sum() / np.sqrt(len(r)) / norm if len(r) else 0.0 for r in rows])) if norm else 0.0


def _p95(values: Sequence[int]) -> int:
    return int(np.quantile(values, 0.95)) if values else 0


def read_previous(folder: Path) -> list[Likeness]:
    """What an earlier run's tasks are compared by; none where the folder has none."""
    path = folder / "centroids.json"
    if not path.is_file():
        return []
    return [
        Likeness(t["name"], frozenset(t["labels"]), frozenset(t["fingerprints"]), t["centroid"])
        for t in json.loads(path.read_text("utf-8"))["tasks"]
    ]


def _rates(measured: router.Measured | None) -> ClassifierRates | None:
    if measured is None:
        return None
    return ClassifierRates(
        foreign_rate=measured.foreign_rate,
        missed_rate=measured.missed_rate,
        foreign_calls=measured.foreign_calls,
        members=measured.members,
    )


def write(found: Findings, out: Path, publish: Path | None = None) -> DiscoveryResult:
    """Write a run's files, result.json last. With `publish` the classifier also goes where gateways read it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").unlink(missing_ok=True)
    classifier = None
    if found.trained is not None:
        data = found.trained.classifier.to_bytes()
        name = hashlib.sha256(data).hexdigest()
        atomic_write(out / "classifier.npz", data)
        path = "classifier.npz"
        if publish is not None:
            atomic_write(publish / name / "classifier.npz", data)
            path = f"router/{name}/classifier.npz"
        measured = found.trained.measured
        classifier = ClassifierResult(
            digest=f"sha256:{name}",
            path=path,
            classes=list(found.trained.classifier.labels),
            foreign_rate=measured.foreign_rate,
            foreign_rate_upper=measured.foreign_rate_upper,
            missed_rate=measured.missed_rate,
            foreign_calls=measured.foreign_calls,
            members=measured.members,
            in_use=_rates(found.trained.in_use),
        )
    lines = "".join(json.dumps({"id": i, "cluster": name}) + "\n" for i, name in found.assigned.items())
    atomic_write(out / "assignments.jsonl", lines.encode())
    tasks = [
        {"name": x.name, "labels": sorted(x.labels), "fingerprints": sorted(x.fingerprints), "centroid": x.centroid}
        for x in found.likeness
    ]
    atomic_write(out / "centroids.json", json.dumps({"schema": "slmfleet/centroids/v1", "tasks": tasks}).encode())
    atomic_write(out / "clusters.json", found.clusters.model_dump_json(by_alias=True, indent=1).encode())
    result = DiscoveryResult(clusters=found.clusters, classifier=classifier)
    atomic_write(out / "result.json", result.model_dump_json(by_alias=True).encode())
    return result
