"""S3: from a log to task clusters, their members, and the classifier that recognises them.

`discover` is pure (records in, findings out); `write` puts the files down, result.json last, so that its presence says
the run is whole. No text of the log is written that is not redacted; members are ids in assignments.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slmfleet.curation import declared, embed, judge, naming, router
from slmfleet.curation.asking import Namer
from slmfleet.curation.called import Names, names_of, own_words
from slmfleet.curation.calls import Call, call_of
from slmfleet.curation.describe import Cluster, describe, own_frames, whole_of
from slmfleet.curation.detect import Detector
from slmfleet.curation.embed import Embedder
from slmfleet.curation.failures import CurationError
from slmfleet.curation.free import find_free, is_broad, meanings_within
from slmfleet.curation.models import default_detector
from slmfleet.curation.naming import Likeness
from slmfleet.curation.rest import Rest
from slmfleet.curation.shapes import LabelField, narrowness, shape_of
from slmfleet.curation.sources import Log
from slmfleet.curation.tasks import Group, find_tasks
from slmfleet.curation.words import words_of
from slmfleet.recognise.classifier import Classifier
from slmfleet.recognise.signature import Signatures
from slmfleet.store.files import atomic_write
from slmfleet.wire.declared import DeclaredTask
from slmfleet.wire.discovery import ClassifierRates, ClassifierResult, ClustersFile, DiscoveryResult, Part
from slmfleet.wire.records import UsageRecord

NARROW_SIZE, NARROW_SHARE = 50, 0.01
FREE_SIZE, FREE_SHARE = 5, 0.0005
PART_CALLS = 400
PART_SIZE = 5
SAME_FREE = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """`min_share` is of all records; `foreign_rate` is the most that the classifier may take of foreign calls.

    Where neither is given, a narrow task has at least 50 calls and 1 %, a group of free calls 5 and 0.05 %. `in_use` is
    measured on the same held-out calls as the new classifier. `embedder`: see `embed.chosen`. `detector`: what is
    redacted; by default what the default model and the patterns find. `namer`: asked what tasks are called. `declared`:
    tasks whose calls are nobody else's."""

    min_size: int | None = None
    min_share: float | None = None
    foreign_rate: float = 0.01
    seed: int = 0
    in_use: Classifier | None = None
    embedder: str | None = None
    detector: Detector | None = None
    namer: Namer | None = None
    declared: Sequence[DeclaredTask] = ()

    def floor(self, records: int, size: int, share: float) -> int:
        """The fewest calls of a task, with what is meant where nothing was given."""
        least = share if self.min_share is None else self.min_share
        return max(size if self.min_size is None else self.min_size, math.ceil(least * records))


@dataclass
class Findings:
    """What a run found. `assigned` has every record's id, null where no task is its. `own`: frames of one task.
    `declared`: tasks that have their calls before all of it."""

    clusters: ClustersFile
    assigned: dict[str, str | None]
    likeness: list[Likeness]
    trained: router.Trained | None = None
    left: list[str] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    declared: Sequence[DeclaredTask] = ()


def discover(
    log: Log,
    settings: Settings,
    previous: Sequence[Likeness] = (),
    say: Say = lambda line: None,
    learned: Mapping[str, Sequence[Likeness]] = MappingProxyType({}),
) -> Findings:
    """Find the tasks of a log. `previous`: the run before; `learned`: the run that a task's specialist learned from, by
    the task's name. Raises CurationError where the embedder is not to be had."""
    embedder = embed.Remembering(embed.chosen(settings.embedder))
    calls = [call_of(r) for r in log.records]
    aside = Counter(c.set_aside for c in calls if c.set_aside is not None)
    say(
        f"{len(calls)} records, {len(calls) - aside.total()} with an answer"
        + "".join(f", {n} {why}" for why, n in sorted(aside.items()))
    )
    claimed = declared.claims(settings.declared, calls)
    others = [c for c in calls if c.id not in claimed]
    usable = [c for c in others if c.set_aside is None]
    size = NARROW_SIZE if settings.min_size is None else settings.min_size
    groups = find_tasks(usable, min_size=size, seed=settings.seed, say=say)
    floor = settings.floor(len(calls), NARROW_SIZE, NARROW_SHARE)
    kept = [g for g in groups if g.narrow and len(g.members) >= floor]
    few = [g for g in groups if g.narrow and g not in kept]
    by_hand = frozenset(task.name for task in settings.declared)
    before = [p for p in previous if p.name not in by_hand]
    detector = settings.detector or default_detector()
    names = names_of(calls, own_words(usable, kept), before, detector, settings.namer, by_hand)
    previous = naming.without(names.denied, previous)
    clusters = _named(usable, kept, names)
    say(f"{len(clusters)} tasks: " + ", ".join(f"{c.name} ({len(c.members)})" for c in clusters))
    assigned: dict[str, str | None] = {c.id: claimed.get(c.id) for c in calls}
    for cluster in clusters:
        assigned.update((m.id, cluster.name) for m in cluster.members)
        cluster.parts = _parts(cluster, embedder, settings.seed, names)
    trained = _train(usable, others, clusters, assigned, settings, say) if clusters else None
    tabu = {usable[i].id for g in few for i in g.members}
    loose = [c for c in others if assigned[c.id] is None and c.id not in tabu and _is_loose(c, bool(clusters))]
    free = _free(loose, clusters, names, embedder, settings, len(calls), say)
    for cluster in free:
        assigned.update((m.id, cluster.name) for m in cluster.members)
    answered = [c for c in calls if c.set_aside is None]
    whole = whole_of(calls, answered, assigned, previous, names.detector, learned, names.denied)
    clusters += [*free, *_declared(calls, claimed, names, settings.declared, say)]
    found = [describe(c, whole) for c in clusters]
    words = {w for c in clusters for w in c.like.centroid}
    known = [
        replace(c.like, share=f.share, narrow=f.narrow, strange=judge.strange_share(c.members, words, names.denied))
        for c, f in zip(clusters, found, strict=True)
    ]
    silent = sum(1 for c in calls if c.set_aside == "no answer" and assigned[c.id] is not None)
    file = ClustersFile(
        records=len(calls),
        skipped=sum(aside.values()) - silent + sum(log.set_aside.values()),
        unassigned=sum(1 for name in assigned.values() if name is None),
        records_digest=log.digest,
        clusters=found,
        embedder=embedder.name,
        naming=settings.namer.report() if settings.namer is not None else None,
        changes=judge.changes(known, previous, by_hand),
    )
    return Findings(file, assigned, known, trained, _left(groups, kept, assigned, usable), dict(whole.own),
                    settings.declared)  # fmt: skip


def _declared(
    calls: Sequence[Call], claimed: dict[str, str], names: Names, tasks: Sequence[DeclaredTask], say: Say
) -> list[Cluster]:
    """The declared tasks that the log has calls of."""
    clusters = []
    for task, group, members in declared.groups(tasks, calls, claimed):
        like = replace(_likeness(members, group.labels, names.denied), name=task.name)
        clusters.append(Cluster(group, members, like, task.name, task=task))
        say(f"{len(members)} answered calls of {task.name}, which is declared")
    return clusters


def _is_loose(call: Call, tasks: bool) -> bool:
    """Whether a call without a task may be sorted by meaning. Where a log has narrow tasks, its broad calls are none
    of anybody's business but the LLM's; in a log of nothing else they are still told apart."""
    if call.set_aside not in (None, "no answer") or not call.frame.user.strip():
        return False
    return not (tasks and is_broad(call))


def _left(
    groups: Sequence[Group], kept: Sequence[Group], assigned: dict[str, str | None], usable: Sequence[Call]
) -> list[str]:
    """Lines on groups that are nobody's, with the reason."""
    lines = []
    for group in groups:
        count = sum(1 for i in group.members if assigned[usable[i].id] is None)
        if group not in kept and count:
            lines.append(f"{count} calls: {group.reason if not group.narrow else 'too few'}")
    return lines


def _free(
    loose: Sequence[Call],
    tasks: Sequence[Cluster],
    names: Names,
    embedder: Embedder,
    settings: Settings,
    records: int,
    say: Say,
) -> list[Cluster]:
    """Groups of free calls, under the names that the run before gave them or their own words."""
    if loose:
        say(f"sorting {len(loose):,} free calls by their meaning")
    least = settings.floor(records, FREE_SIZE, FREE_SHARE)
    clusters = []
    for members in find_free(loose, embedder, min_size=least, seed=settings.seed, say=say, asked=names.asked):
        mine = [loose[i] for i in members]
        shapes = [shape_of(c) for c in mine]
        verdict = narrowness(mine, shapes)
        reason = "answers are free" if verdict.narrow else verdict.reason
        kind = Counter(s.kind for s in shapes).most_common(1)[0][0]
        like = _likeness(mine, None, names.denied, common=3)
        clusters.append(Cluster(Group(members, None, kind, False, reason), mine, like))
    taken = {p.name for p in names.previous} | {t.name for t in tasks} | names.reserved
    free_before = [p for p in names.previous if p.name not in {t.name for t in tasks}]
    old = naming.matched([c.like for c in clusters], free_before, SAME_FREE)
    words = naming.own_terms([c.members for c in clusters], denied=names.denied)
    for number, (cluster, terms) in enumerate(zip(clusters, words, strict=True)):
        cluster.terms = tuple(terms)
        names.give(cluster, old.get(number), taken, terms=terms)
    say(f"{len(clusters)} groups of free calls" + (f", meaning by {embedder.name}" if clusters else ""))
    return clusters


def _parts(cluster: Cluster, embedder: Embedder, seed: int, names: Names) -> tuple[Part, ...]:
    """A task's meanings, from a sample of its calls; none where it shows no structure."""
    step = max(1, len(cluster.members) // PART_CALLS)
    sample = cluster.members[::step][:PART_CALLS]
    groups = meanings_within(sample, embedder, min_size=PART_SIZE, seed=seed, asked=names.asked)
    if len(groups) < 2:
        return ()
    taken: set[str] = set()
    parts = []
    calls = [[sample[i] for i in group] for group in groups]
    for group, terms in zip(calls, naming.own_terms(calls, 5, names.denied), strict=True):
        name = naming.unique(naming.slug(terms[:3]), taken)
        taken.add(name)
        parts.append(Part(name=name, size=round(len(group) * len(cluster.members) / len(sample)), terms=terms))
    return tuple(parts[:200])


def _named(calls: Sequence[Call], groups: Sequence[Group], names: Names) -> list[Cluster]:
    clusters = []
    for group in groups:
        members = [calls[i] for i in group.members]
        clusters.append(Cluster(group, members, _likeness(members, group.labels, names.denied)))
    old = naming.matched([c.like for c in clusters], names.previous)
    taken = {p.name for p in names.previous} | set(old.values()) | names.reserved
    inside = {c.id for cluster in clusters for c in cluster.members}
    for number, cluster in enumerate(clusters):
        form: list[str] = []
        terms: list[str] = []
        if number not in old:
            mine = {c.id for c in cluster.members}
            theirs = inside - mine
            others = [c for c in calls if c.id in theirs] or [c for c in calls if c.id not in mine]
            shapes = [shape_of(c) for c in cluster.members[:500]]
            terms = naming.top_terms(cluster.members, others, denied=names.denied)
            form = naming.field_word(shapes, cluster.group.labels)
        names.give(cluster, old.get(number), taken, form, terms)
    return clusters


def _likeness(
    members: Sequence[Call], labels: LabelField | None, denied: Container[str] = frozenset(), common: int = 5
) -> Likeness:
    """What the next run compares: labels, frames, and words that at least `common` calls share."""
    count = Counter(w for c in members for w in set(words_of(c.frame.user[:naming.READ_CHARACTERS])))
    kept = ((w, n) for w, n in count.most_common(400) if n >= common and w not in denied and not w.isdigit())
    words = {w: round(n / len(members), 5) for w, n in kept}
    frames = frozenset(c.fingerprint for c in members if not c.frame.is_empty)
    return Likeness("", frozenset(labels.support if labels else ()), frames, words)


def _train(
    usable: Sequence[Call],
    calls: Sequence[Call],
    clusters: Sequence[Cluster],
    assigned: dict[str, str | None],
    settings: Settings,
    say: Say,
) -> router.Trained:
    """Train the classifier, then give it the calls whose answers say nothing sure: broken, failed, a rare label."""
    say("training the classifier")
    own = own_frames(usable, assigned)
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
        rows,
        task,
        [c.name for c in clusters],
        foreign_rate=settings.foreign_rate,
        seed=settings.seed,
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


def _could_be(call: Call, keys: dict[str, tuple[str, frozenset[str]]]) -> bool:
    """An unassigned call whose answer has a task's form may be the task's; it must not teach that it is foreign."""
    shape = shape_of(call)
    return any(
        shape.kind == kind and kind != "label" and bool(shape.keys) and set(shape.keys) <= known
        for kind, known in keys.values()
    )


def read_previous(folder: Path, option: str = "--previous") -> list[Likeness]:
    """What an earlier run's tasks are compared by; none where the folder has none. `option`: that named it."""
    path = folder / "centroids.json"
    if not path.is_file():
        return []
    try:
        return [_likeness_of(t) for t in json.loads(path.read_text("utf-8"))["tasks"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CurationError(
            "ClustersNotReadable", f"{option} {path}: {error!r}; name a folder that `slmfleet discover` wrote"
        ) from error


def _likeness_of(task: dict[str, Any]) -> Likeness:
    return Likeness(
        str(task["name"]),
        frozenset(task["labels"]),
        frozenset(task["fingerprints"]),
        dict(task["centroid"]),
        task.get("share"),
        task.get("narrow", True),
        task.get("strange"),
        str(task.get("title", "")),
        str(task.get("about", "")),
    )


def read_in_use(path: Path) -> Classifier:
    """The classifier that gateways use. Raises CurationError where it is none."""
    try:
        return Classifier.load(path, None)
    except ValueError as error:
        raise CurationError("ClustersNotReadable", f"--in-use {error}; name a classifier.npz") from error


def _rates(measured: router.Measured | None) -> ClassifierRates | None:
    if measured is None:
        return None
    return ClassifierRates(
        foreign_rate=measured.foreign_rate,
        missed_rate=measured.missed_rate,
        foreign_calls=measured.foreign_calls,
        members=measured.members,
    )


def write(
    found: Findings,
    out: Path,
    publish: Path | None = None,
    rest: Iterable[UsageRecord] = (),
    sample_share: float = 1.0,
) -> DiscoveryResult:
    """Write a run's files, result.json last. With `publish` the classifier also goes where gateways read it. `rest`:
    records that the findings are not of, because they are of a sample with `sample_share` of the conversations."""
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
    others = Rest(
        found.own, found.trained.classifier if found.trained is not None else None,
        Signatures((task.name, task.signature) for task in found.declared),
    )  # fmt: skip
    assigned = chain(found.assigned.items(), others.sort(rest))
    lines = (json.dumps({"id": i, "cluster": name}).encode() + b"\n" for i, name in assigned)
    atomic_write(out / "assignments.jsonl", lines)
    clusters = others.counted_in(found.clusters, sample_share)
    tasks = [
        {
            "name": x.name,
            "labels": sorted(x.labels),
            "fingerprints": sorted(x.fingerprints),
            "centroid": x.centroid,
            "share": x.share,
            "narrow": x.narrow,
            "strange": x.strange,
            **({"title": x.title, "about": x.about} if x.title else {}),
        }
        for x in found.likeness
    ]
    atomic_write(out / "centroids.json", json.dumps({"schema": "slmfleet/centroids/v1", "tasks": tasks}).encode())
    atomic_write(out / "clusters.json", clusters.model_dump_json(by_alias=True, indent=1).encode())
    result = DiscoveryResult(clusters=clusters, classifier=classifier)
    atomic_write(out / "result.json", result.model_dump_json(by_alias=True).encode())
    return result
